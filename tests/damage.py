"""What may happen to a file: bits flip, ends are cut, pieces are lost, doubled or put in from elsewhere."""

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]

# what readers of text trip over: brackets, numbers at the edge, other encodings
TOKENS = (
    "[", "]", "{", "}", "=", ",", '"', "'''", "\n", "\x00", "#", "[[include]]", "[axes]", "{}", "[]", "null", "true",
    "nan", "NaN", "inf", "-1", "0", "1e999", "-0.0", "9" * 30, "9" * 5000, "2020-01-01", "\\u0000", "\\ud800", "é",
    "\ufeff", "[" * 3000, '{"a":' * 3000, "schema_version", '"x": 1,', ".",
)  # fmt: skip


def damages(tokens: Sequence[str] = TOKENS) -> st.SearchStrategy[Damage]:
    """One to four faults, each at a place of its own."""
    place = st.floats(0, 1)
    flip = st.tuples(place, st.integers(0, 7)).map(lambda a: lambda data: _flipped(data, *a))
    cut = place.map(lambda a: lambda data: data[: _at(data, a)])
    grow = st.binary(max_size=64).map(lambda more: lambda data: data + more)
    lose = st.tuples(place, st.integers(1, 200)).map(
        lambda a: lambda data: data[: _at(data, a[0])] + data[_at(data, a[0]) + a[1] :]
    )
    double = st.tuples(place, st.integers(1, 200)).map(
        lambda a: lambda data: data[: _at(data, a[0]) + a[1]] + data[_at(data, a[0]) :]
    )
    put = st.tuples(place, st.sampled_from([t.encode("utf-8", "surrogatepass") for t in tokens])).map(
        lambda a: lambda data: data[: _at(data, a[0])] + a[1] + data[_at(data, a[0]) :]
    )
    swap = st.tuples(place, st.sampled_from([t.encode("utf-8", "surrogatepass") for t in tokens])).map(
        lambda a: lambda data: data[: _at(data, a[0])] + a[1] + data[_at(data, a[0]) + len(a[1]) :]
    )
    one: st.SearchStrategy[Damage] = st.one_of(flip, cut, grow, lose, double, put, swap)
    return st.lists(one, min_size=1, max_size=4).map(_all)


def _all(faults: Sequence[Damage]) -> Damage:
    def damage(data: bytes) -> bytes:
        for fault in faults:
            data = fault(data)
        return data

    return damage


def _at(data: bytes, place: float) -> int:
    return int(place * len(data))


def _flipped(data: bytes, place: float, bit: int) -> bytes:
    if not data:
        return data
    at = min(_at(data, place), len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
