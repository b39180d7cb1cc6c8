"""A process that has ended counts as ended, also before anybody has waited for it."""

import os
import subprocess
import sys

import pytest

from mqbench.liveness import lives
from processes import until


def test_this_process_lives() -> None:
    assert lives(os.getpid())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_an_ended_process_that_nobody_waited_for_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    until(lambda: not lives(child.pid))
    os.kill(child.pid, 0)  # it is in the table of processes still
    child.wait()
    assert not lives(child.pid)
