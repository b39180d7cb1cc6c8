"""Studies that are too large to be shown as a whole."""

from itertools import islice

from mqbench.errors import RequestError
from mqbench.study import Study

MOST = 20_000  # settings of which a table is of use to anybody


def is_large(study: Study) -> bool:
    """Whether a study has more settings than a table shows; no more of them are made than it takes to tell."""
    return sum(1 for _ in islice(study.settings(), MOST + 1)) > MOST


def check_size(study: Study, what: str) -> None:
    """Raise ``RequestError`` for a study of which no table or plan (``what``) is made."""
    if is_large(study):
        raise RequestError(
            f"{study.name} has more than {MOST} settings, and {what} shows no more; name fewer, such as --seeds 0 "
            "(mqbench run makes any number, mqbench records shows those that are made)"
        )
