"""What stands below a table: how far its ranking is to be trusted, and the paper beside it."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from mqbench import metrics
from mqbench.metrics import Stability
from mqbench.paper import beside, proxies
from mqbench.paper.beside import Proxy
from mqbench.record import Record

_SHOWN = 6
_RESAMPLES = 300


def facts(records: Iterable[Record]) -> dict[str, Any]:
    """Rank stability over seeds, cells that the paper has too, rank agreement with its Table 7; JSON values."""
    records = list(records)
    stability = metrics.rank_stability(records, resamples=_RESAMPLES)
    return {
        "rank_stability": None if stability is None else asdict(stability),
        "beside_the_paper": [
            {**asdict(cell), "setting": cell.setting.model_dump(mode="json", exclude_defaults=True)}
            for cell in beside(records)
        ],
        "agreement_with_table_7": [asdict(proxy) for proxy in proxies(records)],
    }


def lines(records: Iterable[Record]) -> Iterator[str]:
    """The same in sentences; none where there is nothing to say."""
    records = list(records)
    stability = metrics.rank_stability(records, resamples=_RESAMPLES)
    if stability is not None:
        yield _stable(stability)
    found = beside(records)
    if found:
        shown = "; ".join(
            f"{c.setting.architecture} {c.setting.contestant} {c.setting.backend} {c.ours:.1f} / {c.papers:.1f} "
            f"({c.difference:+.1f})"
            for c in found[:_SHOWN]
        )
        more = f"; and {len(found) - _SHOWN} more in --json" if len(found) > _SHOWN else ""
        unlike = dict.fromkeys(name for c in found for name in c.unlike)
        but = f" The training differs in {', '.join(unlike)}." if unlike else ""
        yield f"Ours / the paper's (difference): {shown}{more}.{but}"
    for proxy in proxies(records):
        yield proxy_line(proxy)


def _stable(found: Stability) -> str:
    return (
        f"Ranking by the mean of {found.cells} common cells: {', '.join(found.ranking)}. Drawn again from the "
        f"{found.seeds} seeds, the first is first in {100 * found.first_again:.0f} %, and Kendall's tau is "
        f"{found.tau:.2f}. {found.caution}"
    ).rstrip()


def proxy_line(proxy: Proxy) -> str:
    """Rank agreement with the paper in a sentence."""
    taus = [one.tau for one in proxy.each.values() if one.tau is not None]
    over = f", {min(taus):.2f} to {max(taus):.2f} with each" if taus else ""
    return (
        f"{proxy.architecture} on {proxy.dataset} against the paper's ImageNet Table 7, {proxy.mean.cells} cells: "
        f"Kendall's tau {_number(proxy.mean.tau)} with the mean of its networks{over}; of algorithms on one backend "
        f"{_number(proxy.mean.within_backends)}. By chance |tau| is over {proxy.mean.chance:.2f} in 5 %: "
        "it is no more of a proxy than that."
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
