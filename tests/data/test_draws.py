"""Random numbers by hashing: reproducible, independent of the batch, uniform."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mqbench.data._draws import uniforms


def test_it_is_splitmix64() -> None:
    """The first outputs of the published generator with seed 0, through its own constants."""
    from mqbench.data._draws import _GAMMA, _mix

    words = _mix(np.arange(1, 4, dtype=np.uint64) * _GAMMA)
    assert [hex(int(w)) for w in words] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


@given(augment=st.integers(-(2**63), 2**63), start=st.integers(0, 2**40), count=st.integers(1, 6))
def test_a_row_depends_on_its_index_alone(augment: int, start: int, count: int) -> None:
    indices = np.arange(start, start + 5)
    whole = uniforms(augment, indices, 6)
    for row in (4, 0, 2):
        assert np.array_equal(uniforms(augment, indices[row : row + 1], count)[0], whole[row, :count])


def test_uniform_and_uncorrelated() -> None:
    """Moments of 200,000 numbers, and correlations with the next number, image and epoch: within 5 sigma."""
    n = 50_000
    a, b = uniforms(7, np.arange(n), 4), uniforms(8, np.arange(n), 4)
    assert a.min() >= 0
    assert a.max() < 1
    sigma = 1 / np.sqrt(12 * a.size)
    assert abs(a.mean() - 0.5) < 5 * sigma
    assert abs((a**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / a.size)
    for x, y in ((a[:, 0], a[:, 1]), (a[:-1, 0], a[1:, 0]), (a[:, 0], b[:, 0]), (a[:, 3], b[:, 0])):
        assert abs(np.corrcoef(x, y)[0, 1]) < 5 / np.sqrt(n - 1)
    counts = np.histogram(a[:, 2], bins=100, range=(0, 1))[0]
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 170  # chi-squared, 99 degrees: p = 1e-5
