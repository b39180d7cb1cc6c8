"""An interpreter of a tool's own, for toolkits whose requirements contradict those of this environment."""

import os
import subprocess
from functools import cache

from mqbench.errors import RequestError

_PREFIX = "MQBENCH_PYTHON_"


def variable(tool: str) -> str:
    """The environment variable that names the interpreter of a tool."""
    return _PREFIX + tool.upper()


def python_of(tool: str) -> str | None:
    """The interpreter that makes a tool's runs, None for this one."""
    return os.environ.get(variable(tool)) or None


def environment(tool: str) -> dict[str, str]:
    """That of the interpreter's process: it does not look for another one."""
    return {name: value for name, value in os.environ.items() if name != variable(tool)}


@cache
def check(tool: str, python: str, package: str) -> None:
    """Raise `RequestError` unless an interpreter can import the package and mqbench."""
    command = [python, "-c", f"import mqbench, {package}"]
    where = f"{variable(tool)}={python}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tool))
    except OSError as error:
        raise RequestError(f"{where} cannot be run: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RequestError(f"{where} must be a Python with mqbench and {package}: {said}")
