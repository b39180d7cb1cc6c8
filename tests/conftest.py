"""Settings of all tests."""

import os

# two workers on two cores: threads of one would wait for those of the other
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# a time limit would test the machine; CI draws the same examples each time, people draw new ones
settings.register_profile("people", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "people")
