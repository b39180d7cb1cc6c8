"""Settings of all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# two workers on two cores: threads of one would wait for those of the other (read when torch is imported)
os.environ.setdefault("OMP_NUM_THREADS", "1")


# a time limit would test the machine; CI draws the same examples each time, people draw new ones
settings.register_profile("people", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "people")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, for decoded images and for arrow copies; and no data folder but what is given."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MQBENCH_CACHE", str(folder))
    monkeypatch.delenv("MQBENCH_DATA", raising=False)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _captures() -> None:
    """`prepare` captures equal networks once; `tests/test_capture.py` calls the exporter itself."""
    from captures import remember

    remember()
