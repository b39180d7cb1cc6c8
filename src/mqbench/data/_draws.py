"""Random numbers that are a function of (augmentation number, image index) and of nothing else.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): the n-th
output of the stream with state h is mix(h + n gamma). Each image has a stream of its own, whose state is a
hash of the two numbers, so that a batch needs no generator that would have to be saved, shared or skipped.
"""

import numpy as np
from numpy.typing import NDArray

Uniforms = NDArray[np.float64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_WORD = 2**64


def uniforms(augment: int, indices: NDArray[np.int64], count: int) -> Uniforms:
    """``count`` numbers in [0, 1) for each image, ``[n, count]``, 53 bits each.

    Args:
        augment: any integer (an epoch, say): other numbers, other augmentation.
        indices: of the images, ``[n]``.
        count: numbers an image; the first are the same whatever ``count`` is.
    """
    epoch = _mix(np.array([augment % _WORD], dtype=np.uint64) + _GAMMA)
    states = _mix(_mix(indices.astype(np.uint64) + _GAMMA) ^ epoch)
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    words = _mix(states[:, None] + steps[None, :])
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits; a bijection."""
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))
