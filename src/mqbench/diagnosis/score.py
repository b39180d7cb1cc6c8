"""How good an output is: like the float network's, choosing the same class, choosing the right one."""

from torch import Tensor

from mqbench.deploy.agreement import top1
from mqbench.diagnosis.tally import Likeness


class Score:
    """Of the output of a network over many batches."""

    def __init__(self) -> None:
        self._likeness = Likeness()
        self._same = self._right = self._float_right = 0
        self._classified = self._labelled = 0

    def add(self, expected: Tensor, found: Tensor, labels: Tensor | None) -> None:
        """Take one more batch: what the float network gives, what this one gives, and the labels if known."""
        self._likeness.add(expected, found)
        if expected.dim() != 2:
            return  # not a classifier
        self._classified += len(expected)
        self._same += int((expected.argmax(1) == found.argmax(1)).sum())
        if labels is not None and labels.dim() == 1:
            self._labelled += len(labels)
            self._right += top1(found, labels)
            self._float_right += top1(expected, labels)

    @property
    def float_accuracy(self) -> float | None:
        """Top-1 of the float network in percent."""
        return 100 * self._float_right / self._labelled if self._labelled else None

    def row(self) -> dict[str, float | None]:
        """SQNR in dB, and top-1 agreement and accuracy in percent; None where it is not known."""
        return {
            "sqnr_db": self._likeness.sqnr_db,
            "agreement": 100 * self._same / self._classified if self._classified else None,
            "accuracy": 100 * self._right / self._labelled if self._labelled else None,
        }
