"""The checkpoint that an installed Python package holds; no code of the package is run."""

from importlib import metadata
from pathlib import Path

from mqbench.errors import RequestError
from mqbench.weights._file import SUFFIXES


def package_file(name: str) -> Path:
    """The file of ``NAME`` (the package's only checkpoint) or ``NAME/file`` (the one whose path ends so).

    Args:
        name: as it is installed or as it is imported.

    Raises:
        RequestError: no such package, or none or several such files in it.
    """
    package, _, wanted = name.partition("/")
    files = [path for path in _files(package) if path.suffix in SUFFIXES]
    found = [path for path in files if f"/{path.as_posix()}".endswith(f"/{wanted}" if wanted else "")]
    if len(found) != 1:
        have = ", ".join(path.as_posix() for path in files) or "none"
        raise RequestError(
            f"package:{name} must name one checkpoint, got {len(found)}; package {package} holds: {have}"
        )
    path = Path(str(found[0].locate()))
    if not path.is_file():
        raise RequestError(f"package:{name}: {path} is missing; install {package} again")
    return path


def _files(package: str) -> list[metadata.PackagePath]:
    try:
        return list(metadata.files(package) or [])
    except metadata.PackageNotFoundError:
        imported = metadata.packages_distributions().get(package)
        if not imported:
            raise RequestError(f"no package {package} is installed; pip install {package}") from None
        return list(metadata.files(imported[0]) or [])
