"""The records of a store as a polars frame."""

import os
from typing import TYPE_CHECKING

from mqbench.store import Store

if TYPE_CHECKING:
    import polars


def records(store: Store | str | os.PathLike[str] = "runs") -> "polars.DataFrame":
    """One row per record, one flat column per field of its setting.

    Accuracies are top-1 in percent; ``seconds`` is the wall time of the run. A large store is read through an
    index beside the records, which is checked against them; see `mqbench.index`.

    Raises:
        StoreError: the folder or one of its records cannot be read.

    >>> import tempfile
    >>> records(tempfile.mkdtemp()).height
    0
    """
    from mqbench import index  # not at the top: polars takes longer to import than a table takes to print

    return index.load(store if isinstance(store, Store) else Store(store))
