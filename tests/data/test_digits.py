"""The digits are scikit-learn's, whether it is imported or its file is read."""

import pytest

from mqbench.data import digits


def test_the_file_is_what_scikit_learn_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    read = digits._read.__wrapped__
    by_file = read()
    monkeypatch.setattr(digits, "find_spec", lambda _: None)
    imported = read()
    for ours, theirs in zip(by_file, imported, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()
