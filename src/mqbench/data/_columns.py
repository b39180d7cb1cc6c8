"""Which splits and columns of a stored dataset are meant, and how many classes it has."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from mqbench.data._storage import Source, Tables, datasets_library
from mqbench.data._stored import Stored, StoredSplits
from mqbench.errors import RequestError

TRAIN = "train"
TESTS = ("test", "validation", "valid", "val")
_MOST_CLASSES = 10_000_000  # a larger number is no class


def stored_splits(source: Source, *, image: str | None = None, label: str | None = None) -> StoredSplits:
    """The training and test images of a source.

    Args:
        source: where they lie.
        image, label: names of the columns; None finds the one that has the type.

    Raises:
        RequestError: a split or column is missing or could be one of several, or the classes differ.
        DataError: the source or its labels cannot be read.
    """
    tables = source.tables()
    features: Mapping[str, Any] = _split(source, tables, (TRAIN,), None)[1].features
    with datasets_library() as library:
        image = _column(source, "image", features, image, lambda f: _is_image(f, library))
        named = label is not None
        label = _column(
            source,
            "label",
            features,
            label,
            lambda f: _is_label(f, library) or (named and _is_text(f)),
            _is_text,
        )
        classes: list[str] | None = None  # of a column of names, in the order of names
        parts = []
        for names in ((TRAIN,), TESTS):
            name, table = _split(source, tables, names, label)
            missing = [column for column in (image, label) if column not in table.features]
            if missing:
                raise RequestError(f"split {name!r} of {source.name} has no column {missing[0]!r}")
            rows = table.select_columns([image, label]).cast_column(image, library.Image(decode=False))
            if classes is None and _is_text(features[label]):
                classes = sorted(value for value in rows.unique(label) if value is not None)
            arrow = rows.with_format("arrow")
            parts.append(Stored(f"{name} of {source.name}", arrow, image, label, classes))
    return StoredSplits(parts[0], parts[1], _classes(source, parts[0], parts[1]))


def _split(source: Source, tables: Tables, names: tuple[str, ...], label: str | None) -> tuple[str, Any]:
    """The first of the splits that has images, and whose labels are not hidden."""
    for name in names:
        table = tables.get(name)
        if table is not None and len(table) and not (name in TESTS and _hidden(table, label)):
            return name, table
    wanted = " or ".join(map(repr, names))
    has = ", ".join(f"{name!r} of {len(table)} images" for name, table in tables.items())
    raise RequestError(f"{source.name} needs a split {wanted} with images and labels, got {has or 'none'}")


def _hidden(table: Any, label: str | None) -> bool:
    """Whether all labels are negative, as those of ImageNet's test split are on the hub."""
    if label is None or label not in table.features:
        return False
    compute: Any = import_module("pyarrow.compute")
    if _is_text(table.features[label]):
        return False
    largest = compute.max(table.select_columns([label]).with_format("arrow")[:][label]).as_py()
    return largest is not None and largest < 0


def _column(
    source: Source,
    kind: str,
    features: Mapping[str, Any],
    given: str | None,
    fits: Callable[[Any], bool],
    by_name: Callable[[Any], bool] = lambda feature: False,
) -> str:
    """The column that was given, the only one that fits, or the one among several that is named ``kind``.

    Where none fits, the column named ``kind`` will do if ``by_name`` says so of it.
    """
    columns = ", ".join(features)
    if given is not None:
        if given not in features:
            raise RequestError(f"{source.name} has no column {given!r}; its columns: {columns}")
        if not fits(features[given]):
            raise RequestError(f"column {given!r} of {source.name} holds no {kind}s: {features[given]}")
        return given
    fitting = [name for name, feature in features.items() if fits(feature)]
    if len(fitting) == 1 or kind in fitting:
        return kind if kind in fitting else fitting[0]
    if not fitting and kind in features and by_name(features[kind]):
        return kind
    if not fitting:
        raise RequestError(f"{source.name} has no {kind} column; its columns: {columns}")
    raise RequestError(
        f"{source.name} has several columns that may be the {kind}: {', '.join(fitting)}; "
        f"say which, as in {kind}={fitting[0]}"
    )


def _is_image(feature: Any, library: Any) -> bool:
    """Images by declaration, or as files without one have them: bytes, or bytes with a path."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return isinstance(feature, library.Image) or getattr(feature, "dtype", None) in ("binary", "large_binary")


def _is_label(feature: Any, library: Any) -> bool:
    if isinstance(feature, library.ClassLabel):
        return True
    return isinstance(feature, library.Value) and feature.dtype.startswith(("int", "uint", "bool"))


def _is_text(feature: Any) -> bool:
    """Names of classes, if the column holds labels: many other columns are of text."""
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _classes(source: Source, train: Stored, test: Stored) -> int:
    """Number of classes; those of both splits must be the same."""
    named = [part.classes or getattr(part.rows.features[part.label], "names", None) for part in (train, test)]
    if named[0] and named[1] and named[0] != named[1]:
        only = sorted(set(named[0]) ^ set(named[1])) or ["their order"]
        raise RequestError(
            f"{source.name} has {len(named[0])} classes in training and {len(named[1])} in test; "
            f"they differ in {', '.join(only[:3])}{' ...' if len(only) > 3 else ''}"
        )
    largest = [int(part.labels().max()) for part in (train, test)]
    classes = len(named[0]) if named[0] else largest[0] + 1
    if classes > _MOST_CLASSES:
        raise RequestError(
            f"{source.name} has labels up to {largest[0]} in column {train.label!r}, and classes are numbered from 0; "
            "say which column holds them, as in label=NAME"
        )
    if max(largest) >= classes:
        raise RequestError(
            f"{source.name} has {classes} classes in training, but labels up to {max(largest)}"
            f" in {'test' if largest[1] >= classes else 'training'}"
        )
    return classes
