"""A stored dataset of images -> the splits that training reads."""

from dataclasses import dataclass

from mqbench.data._base import Preprocessing, Splits
from mqbench.data._columns import stored_splits
from mqbench.data._decoded import Decoded, decode, decoded_key, known
from mqbench.data._memory import MemorySplit
from mqbench.data._source import Source
from mqbench.data._stored import StoredSplits
from mqbench.data._transform import Transform
from mqbench.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is known of a dataset before it is opened.

    Args:
        source: where it lies.
        transform: its own.
        classes: that it must have.
        image, label: names of the columns; None finds them by their types.
    """

    source: Source
    transform: Transform
    classes: int | None = None
    image: str | None = None
    label: str | None = None

    def open(self, preprocessing: Preprocessing) -> Splits:
        """The splits.

        Raises:
            RequestError: there is no such data, or it cannot be used as asked.
            DataError: it is damaged.
        """
        self.source.check()
        transform = self.transform.changed(preprocessing)
        fingerprint = self.source.fingerprint()
        key = decoded_key(fingerprint, transform, self.image, self.label)
        decoded = known(key) or decode(key, lambda: (self._stored(), transform))
        return _in_memory(decoded, fingerprint)

    def _stored(self) -> StoredSplits:
        stored = stored_splits(self.source, image=self.image, label=self.label)
        if self.classes not in (None, stored.classes):
            raise RequestError(
                f"{self.source.name} must have {self.classes} classes, it has {stored.classes}; "
                "as a dataset of its own it is folder:PATH"
            )
        return stored


def _in_memory(decoded: Decoded, fingerprint: str) -> Splits:
    transform = decoded.transform
    return Splits(
        MemorySplit(*decoded.train, transform),
        MemorySplit(*decoded.test, transform),
        classes=decoded.classes,
        image_shape=(transform.channels, transform.size, transform.size),
        fingerprint=fingerprint,
    )
