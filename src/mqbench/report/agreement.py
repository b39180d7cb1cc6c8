"""Tables of how often a quantized network classifies as its float network does, rather than of accuracy.

Where a dataset has few images, agreement says more: it counts changes, not how many of them were for the better.
"""

from mqbench.record import FLOAT, Record

AGREEMENT = "Images classified as by the float network, % of"


def in_place_of_accuracy(record: Record) -> Record:
    """A quantized network's record with its agreement, after calibration, where its accuracy stands."""
    if record.setting.algorithm == FLOAT or record.accuracy is None:
        return record
    return record.model_copy(update={"accuracy": record.agreement})
