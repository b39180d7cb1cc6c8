"""The certificates of deployed networks that belong to a report."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mqbench import sealed
from mqbench.errors import RequestError

NAME = "certificate.json"
Certificate = Mapping[str, Any]


def certificates(folders: Iterable[str]) -> dict[str, list[Certificate]]:
    """Key of the setting to the certificates of its artifacts.

    Args:
        folders: of artifacts, or of folders with artifacts in them.

    Raises:
        RequestError: a folder has no certificate, or one is damaged.
    """
    found: dict[str, list[Certificate]] = {}
    for folder in map(Path, folders):
        paths = [folder / NAME] if (folder / NAME).exists() else sorted(folder.glob(f"*/{NAME}"))
        if not paths:
            raise RequestError(
                f"there is no {NAME} in {folder}; give a folder from mqbench quantize --export"
            )
        for path in paths:
            certificate = {**sealed.read(path, "mqbench quantize"), "folder": path.parent.name}
            found.setdefault(certificate["network"]["setting"], []).append(certificate)
    return found


def words(certificate: Certificate) -> str:
    """What was proved, in a sentence."""
    engine = certificate["engine"]
    integers = certificate["agreement"]["integer_and_engine"]["integers"]
    missing = integers["count"] - integers["equal"]
    equal = "all integers equal" if not missing else f"{missing} of {integers['count']} integers differ"
    verdict = "missed: " + "; ".join(certificate["missed"]) if certificate["missed"] else "bar passed"
    return f"{engine['runtime']} {engine['version']}: {equal} to the integer reference, {verdict}"


def passed(given: Sequence[Certificate]) -> bool:
    """Whether one of them passed its bar."""
    return any(not certificate["missed"] for certificate in given)
