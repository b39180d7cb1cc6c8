"""Section 5.1: the academic setting (Table 4)."""

from collections.abc import Iterator
from statistics import fmean

from mqbench.metrics import architecture_means
from mqbench.paper import tables
from mqbench.paper.claims._base import Finding, accuracies, best, close, holds, joined, same, table
from mqbench.paper.transcription import ALGORITHMS, ARCHITECTURES, lines

_ROWS = tuple(ARCHITECTURES.values())
_ALGORITHMS = ("lsq", "apot", "qil", "dsq", "pact", "dorefa")


def claims() -> Iterator[Finding]:
    """The findings of this section."""
    found = accuracies(4, "architecture", "algorithm")
    by_architecture = {a: {m: found[a, m] for m in _ALGORITHMS} for a in _ROWS}
    reported = {
        (r.record.setting.architecture, r.record.setting.algorithm): r.more["reported_accuracy"]
        for r in tables.rows(4)
        if r.record is not None
    }
    yield _averages()
    yield from _differences(by_architecture, reported)
    yield from _winners(by_architecture)
    resnet = by_architecture["resnet18"]
    gains = [resnet["dorefa"] - resnet["lsq"], resnet["dorefa"] - resnet["pact"]]
    yield Finding(
        section="5.1",
        claim="DoReFa equals LSQ on ResNet-18 and surpasses PACT by 0.2",
        printed="0.0, 0.2",
        recomputed=joined(gains),
        verdict=same([0.0, 0.2], gains),
        table="4",
    )
    columns = accuracies(7, "architecture", "algorithm", "backend")
    apart = [p for p in found if (*p, "academic") in columns and columns[(*p, "academic")] != found[p]]
    yield Finding(
        section="5.1",
        claim="Table 4 and the academic column of Table 7 are the same runs",
        printed="20 equal",
        recomputed=f"{20 - len(apart)} equal",
        verdict=holds(not apart),
        table="4, 7",
    )


def _averages() -> Finding:
    means = {name: mean for (_, name), mean in architecture_means(table(4)).items()}
    printed = {ALGORITHMS[x["algorithm"]]: float(x["avg_arch_printed"]) for x in lines("table4_average")}
    off = [f"{name} is {means[name]:.2f}" for name, p in printed.items() if not close(p, means[name], 1)]
    return Finding(
        section="5.1",
        claim="Avg. Arch. row of Table 4; LSQ is the most robust over architectures",
        printed=joined(list(printed.values())),
        recomputed=joined([means[name] for name in printed], 2),
        verdict="reproduced" if not off and best(means) == ["lsq"] else "partly",
        table="4",
        note="; ".join(off) + (", printed 71.9" if off else ""),
    )


def _differences(
    by_architecture: dict[str, dict[str, float]], reported: dict[tuple[str, str], float | None]
) -> Iterator[Finding]:
    actual, said = [], []
    for name in ("resnet18", "resnet50"):
        values = by_architecture[name].values()
        actual.append(max(values) - min(values))
        printed = [v for (a, _), v in reported.items() if a == name and v is not None]
        said.append(max(printed) - min(printed))
    yield Finding(
        section="5.1",
        claim="algorithms differ by at most 0.8 and 1.1 on ResNet-18 and -50, against 3.0 and 5.3 as reported",
        printed="0.8, 1.1; 3.0, 5.3",
        recomputed=f"{joined(actual)}; {joined(said)}",
        verdict=same([0.8, 1.1, 3.0, 5.3], [*actual, *said]),
        table="4",
    )
    resnet = by_architecture["resnet50"]
    lead = resnet["lsq"] - resnet["dorefa"]
    shares = [100 * (said[1] - actual[1]) / said[1], 100 * (said[1] - lead) / said[1]]
    yield Finding(
        section="5.1",
        claim="80 % (4.2/5.3) of the improvement from DoReFa to LSQ on ResNet-50 is better training",
        printed="80 %",
        recomputed=f"{shares[0]:.1f} % as computed there, {shares[1]:.1f} % for DoReFa and LSQ",
        verdict="partly",
        table="4",
        note="1.1 is the lead over PACT; that over DoReFa is 1.0, so the share is 4.3/5.3",
    )
    pairs = [("pact", 61.4, 70.7), ("dsq", 64.8, 69.6)]
    yield Finding(
        section="5.1",
        claim="MobileNetV2: PACT and DSQ reported with 61.4 and 64.8, here 70.7 and 69.6",
        printed="61.4, 64.8; 70.7, 69.6",
        recomputed="; ".join(
            [
                joined([reported["mobilenetv2", name] or 0.0 for name, _, _ in pairs]),
                joined([by_architecture["mobilenetv2"][name] for name, _, _ in pairs]),
            ]
        ),
        verdict=holds(
            all(
                reported["mobilenetv2", name] == old and by_architecture["mobilenetv2"][name] == new
                for name, old, new in pairs
            )
        ),
        table="4",
    )


def _winners(by_architecture: dict[str, dict[str, float]]) -> Iterator[Finding]:
    winners = [name for values in by_architecture.values() for name in best(values)]
    losers = [
        name for values in by_architecture.values() for name in best({k: -v for k, v in values.items()})
    ]
    yield Finding(
        section="5.1",
        claim="no algorithm is best or worst on every architecture: 4 different winners, 4 different losers",
        printed="4, 4",
        recomputed=f"{len(set(winners))}, {len(set(losers))}",
        verdict=holds(len(set(winners)) == len(set(losers)) == 4),
        table="4",
        note=f"winners {', '.join(winners)}; losers {', '.join(losers)}",
    )
    means = {name: fmean(v[name] for v in by_architecture.values()) for name in _ALGORITHMS}
    without = {name: mean for name, mean in means.items() if name != "dorefa"}
    yield Finding(
        section="5.1",
        claim="algorithms have about the same academic performance (abstract)",
        printed="about the same",
        recomputed=f"averages {min(without.values()):.1f} to {max(without.values()):.1f}, "
        f"but DoReFa {means['dorefa']:.1f}",
        verdict="partly",
        table="4",
        note="DoReFa does not converge on the two networks with depthwise convolutions",
    )


CLAIMS = claims
