"""Claims: of two that want one, one gets it; the dead hold nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mqbench.claims import Claims


def write(folder: Path, name: str, **holder: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.claim"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, **holder}))
    return path


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_one_of_two_gets_it_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    with Claims(folder) as ours, Claims(folder) as theirs:
        assert ours.take("a")
        assert not theirs.take("a")
        assert not ours.take("a")
        assert theirs.is_held("a")
        assert theirs.take("b")
        theirs.release("a")  # not theirs to release
        assert theirs.is_held("a")
        ours.release("a")
        assert theirs.take("a")
    assert not folder.exists()


def test_many_processes_want_the_same(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mqbench.claims import Claims\n"
        "claims = Claims(Path(sys.argv[1]))\n"
        "while not Path(sys.argv[2]).exists(): time.sleep(0.001)\n"
        "print([n for n in range(200) if claims.take(str(n))])\n"
        "sys.stdin.read()\n"
    )
    go = tmp_path / "go"
    command = [sys.executable, "-c", code, str(tmp_path / "claims"), str(go)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    go.touch()
    taken = []
    for process in both:
        assert process.stdout is not None
        taken += json.loads(process.stdout.readline())
    for process in both:
        process.communicate()
    assert sorted(taken) == list(range(200))


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "a", host=socket.gethostname(), pid=dead_process())
    claims = Claims(tmp_path)
    assert not claims.is_held("a")
    assert claims.take("a")
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_the_silent_of_another_machine_hold_nothing_after_a_while(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    os.utime(path, (0, 0))  # its clock may be wrong: only changes count
    claims = Claims(tmp_path, patience=0.2)
    assert not claims.take("a")
    for number in range(1, 4):
        time.sleep(0.1)
        os.utime(path, (number, number))
        assert claims.is_held("a")
    time.sleep(0.3)
    assert claims.take("a")


def test_a_holder_shows_that_it_lives(tmp_path: Path) -> None:
    with Claims(tmp_path / "claims", beat=0.02) as claims:
        claims.take("a")
        path = tmp_path / "claims" / "a.claim"
        first = path.stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline


def test_what_the_dead_left_is_removed_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    write(folder, "dead", host=socket.gethostname(), pid=dead_process())
    os.utime(write(folder, "old"), (0, 0))
    write(folder, "alive")
    with Claims(folder):
        assert [path.name for path in folder.iterdir()] == ["alive.claim"]


@pytest.mark.parametrize("content", ["", "{"])
def test_a_claim_that_is_being_written_is_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.claim").write_text(content)
    assert not Claims(tmp_path).take("a")


def test_those_that_work_together_claim_nothing(tmp_path: Path) -> None:
    both = [Claims(tmp_path / "claims", alone=True) for _ in range(2)]
    assert all(claims.take("a") for claims in both)
    assert not (tmp_path / "claims").exists()
