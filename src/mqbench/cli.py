"""The command line: find the commands, call one, say what went wrong."""

import errno
import inspect
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper, UnsupportedOperation
from typing import Any

from cyclopts import App, CycloptsError, UnusedCliTokensError

import mqbench
from mqbench.ending import Ended, told_to_end
from mqbench.errors import MQBenchError, RunFailedError

ABOUT_ALL = """\
Exit codes: 0 done; 1 a run failed, or an artifact missed its bar; 2 the request
cannot be carried out; 130 interrupted; 143 or 129 ended by SIGTERM or SIGHUP.
Environment: MQBENCH_DATA is the folder of the datasets, MQBENCH_CACHE that of
decoded images (~/.cache/mqbench without it)."""


def examples(command: object) -> str:
    """Calls of a command, a line each, as its docstring has them."""
    return (inspect.getdoc(command) or "").partition("Examples:\n")[2]


app = App(
    name="mqbench",
    help="A reproducible and deployable benchmark for neural-network quantization.",
    help_epilogue=ABOUT_ALL,
    help_format="plaintext",  # the default loads a markdown parser for every --help
    version=mqbench.__version__,
    suppress_keyboard_interrupt=False,
)
_commands: Any = import_module("mqbench.commands")
for _name in _commands:
    app.command(_commands[_name], name=_name, help_epilogue="Examples:\n" + examples(_commands[_name]))


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _help_of(error: CycloptsError) -> str:
    return " ".join(("mqbench", *(error.command_chain or ()), "--help"))


def _refuse(sentence: str, code: int = 2) -> int:
    print("mqbench:", " ".join(sentence.split()), file=sys.stderr)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done; 1: a run failed; 2: the request cannot be carried out; 130: interrupted, 143 or 129: told to end by
    SIGTERM or SIGHUP.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a table has signs that not every encoding has
    try:
        with told_to_end(), warnings.catch_warnings():
            warnings.showwarning = _Warnings().show
            code = app(argv, print_error=False, exit_on_error=False, result_action="return_value")
            sys.stdout.flush()
            return code or 0
    except UnusedCliTokensError as error:
        unused = " ".join(error.unused_tokens or ())
        return _refuse(f"unexpected argument {unused!r}; see {_help_of(error)}")
    except CycloptsError as error:
        return _refuse(f"{str(error).rstrip('.')}; see {_help_of(error)}")
    except RunFailedError as error:
        return _refuse(str(error), 1)
    except MQBenchError as error:
        return _refuse(str(error))
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT
        return _refuse("interrupted; finished runs are kept, the same command goes on", 128 + number)
    except BrokenPipeError:
        _abandon_output()  # the reader has left (`mqbench list | head`)
        return 1
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _abandon_output()
        where = error.filename or "standard output, or a temporary file"
        return _refuse(f"cannot write {where}: {error.strerror}")


class _Warnings:
    """What a command is warned of: a sentence, once, without the place in the code that says it."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def show(self, message: object, *place: object, **more: object) -> None:
        """In place of `warnings.showwarning`."""
        sentence = " ".join(str(message).split())
        if sentence not in self._said:
            self._said.add(sentence)
            print("mqbench: warning:", sentence, file=sys.stderr)


def _abandon_output() -> None:
    """Point stdout away, so that the exit does not fail too."""
    with suppress(UnsupportedOperation):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
