"""Loss and hits, counted over images and processes."""

from dataclasses import dataclass

from mqbench.training._processes import summed


@dataclass
class Tally:
    """Sums of loss and hits over images; accuracy in percent."""

    loss: float = 0.0
    correct: float = 0.0
    images: float = 0.0

    def add(self, loss: float, correct: float, images: float) -> None:
        """Count a batch with its mean loss."""
        self.loss += loss * images
        self.correct += correct
        self.images += images

    def of_all(self) -> "Tally":
        """Summed over processes."""
        return Tally(*summed(self.loss, self.correct, self.images))

    @property
    def accuracy(self) -> float:
        """Top-1 in percent."""
        return 100 * self.correct / max(self.images, 1)

    @property
    def mean_loss(self) -> float:
        """Over images."""
        return self.loss / max(self.images, 1)
