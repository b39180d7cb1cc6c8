"""A JSON object in a file that carries its own hash, so that a change or a cut is seen."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mqbench.errors import RequestError

_SEAL = "sha256"


def text(content: Mapping[str, Any]) -> str:
    """The object with its hash, as it lies in the file."""
    return json.dumps({**content, _SEAL: _digest(content)}, indent=1, allow_nan=False) + "\n"


def read(path: Path, made_by: str) -> dict[str, Any]:
    """The object without its hash.

    Args:
        path: of the file.
        made_by: the command that makes such files, for the message if there is none.

    Raises:
        RequestError: there is no file, or it is not what was written.
    """
    try:
        written = path.read_bytes()
        content = json.loads(written.decode())
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}; give a folder from {made_by}") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is damaged: {error}") from None
    if (
        not isinstance(content, dict)
        or content.pop(_SEAL, None) != _digest(content)
        or text(content).encode() != written  # spaces count too
    ):
        raise RequestError(f"{path} is damaged: it is not what was written")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
