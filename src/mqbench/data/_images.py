"""A stored dataset of images -> the splits that training reads."""

from dataclasses import dataclass

from mqbench.data._base import Preprocessing, Splits
from mqbench.data._columns import stored_splits
from mqbench.data._decoded import Decoded, decode, decoded_key, known
from mqbench.data._guess import guess
from mqbench.data._memory import MemorySplit
from mqbench.data._name import Augmentation, Keep
from mqbench.data._storage import Source, check_libraries
from mqbench.data._stored import StoredSplits
from mqbench.data._stream import StreamSplit
from mqbench.data._transform import Transform
from mqbench.errors import RequestError

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded images that are kept unasked


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is known of a dataset before it is opened; None is found out.

    Args:
        source: where it lies.
        transform: from a stored image to an input.
        classes: that it must have.
        image, label: names of the columns.
        augmentation: in place of the transform's.
        keep: all images decoded in memory, or read when they are used.
    """

    source: Source
    transform: Transform | None = None
    classes: int | None = None
    image: str | None = None
    label: str | None = None
    augmentation: Augmentation | None = None
    keep: Keep | None = None

    def open(self, preprocessing: Preprocessing) -> Splits:
        """The splits.

        Raises:
            RequestError: there is no such data, or it cannot be used as asked.
            DataError: it is damaged.
        """
        check_libraries()
        self.source.check()
        fingerprint = self.source.fingerprint()
        own = (self.transform, self.classes, self.image, self.label, self.augmentation, self.keep)
        key = decoded_key(fingerprint, *own, preprocessing)
        if self.keep != "stream" and (decoded := known(key)):
            return _in_memory(decoded, fingerprint)
        stored = self._stored()
        transform = self._transform(stored, preprocessing)
        if self._in_memory(stored, transform):
            unknown = () if self.transform else ("mean", "std")
            measured = tuple(field for field in unknown if getattr(preprocessing, field) is None)
            return _in_memory(decode(key, stored, transform, measured), fingerprint)
        return Splits(
            StreamSplit(stored.train, transform),
            StreamSplit(stored.test, transform),
            classes=stored.classes,
            image_shape=(transform.channels, transform.size, transform.size),
            fingerprint=fingerprint,
        )

    def check(self) -> int | None:
        """Raise as `open` does, before an image is read; gives the number of training images.

        What would have to be fetched first is not looked at, and its number of images is None.
        """
        check_libraries()
        self.source.check()
        return len(self._stored().train) if self.source.local else None

    def _stored(self) -> StoredSplits:
        stored = stored_splits(self.source, image=self.image, label=self.label)
        if self.classes not in (None, stored.classes):
            raise RequestError(
                f"{self.source.name} must have {self.classes} classes, it has {stored.classes}; "
                "as a dataset of its own it is folder:PATH"
            )
        return stored

    def _transform(self, stored: StoredSplits, preprocessing: Preprocessing) -> Transform:
        own = self.transform or guess(stored.train)
        return own.changed(preprocessing, self.augmentation)

    def _in_memory(self, stored: StoredSplits, transform: Transform) -> bool:
        if self.keep == "stream":
            return False
        if transform.augmentation == "resized_crop":  # cut from the stored image, which is not kept
            if self.keep == "memory":
                raise RequestError("keep=memory needs augment=padded_crop or augment=none, got resized_crop")
            return False
        size = (len(stored.train) + len(stored.test)) * transform.channels * transform.size**2
        return self.keep == "memory" or size <= MEMORY_LIMIT


def _in_memory(decoded: Decoded, fingerprint: str) -> Splits:
    transform = decoded.transform
    return Splits(
        MemorySplit(*decoded.train, transform),
        MemorySplit(*decoded.test, transform),
        classes=decoded.classes,
        image_shape=(transform.channels, transform.size, transform.size),
        fingerprint=fingerprint,
    )
