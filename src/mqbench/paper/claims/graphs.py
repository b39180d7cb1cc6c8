"""Section 5.3: graph implementations (Table 6)."""

from collections.abc import Iterator

from mqbench.paper.claims._base import Finding, accuracies, holds, joined, same


def claims() -> Iterator[Finding]:
    """The findings of this section."""
    found = accuracies(6, "architecture", "algorithm", "graph")
    drops = {
        (algorithm, architecture): found[architecture, algorithm, 1] - found[architecture, algorithm, 3]
        for algorithm in ("pact", "lsq")
        for architecture in ("resnet18", "mobilenetv2")
    }
    printed = {"pact": [1.1, 2.9], "lsq": [0.4, 3.6]}
    for algorithm, said in printed.items():
        got = [drops[algorithm, a] for a in ("resnet18", "mobilenetv2")]
        yield Finding(
            section="5.3",
            claim=f"{algorithm.upper()} loses {said[0]} on ResNet-18 and {said[1]} on MobileNetV2 from graph 1 to 3",
            printed=joined(said),
            recomputed=joined(got),
            verdict=same(said, got),
            table="6",
        )
    yield Finding(
        section="5.3",
        claim="the graph matters more for MobileNetV2 than for ResNet-18, whatever the algorithm",
        printed="more",
        recomputed=", ".join(
            f"{algorithm} {drops[algorithm, 'resnet18']:.1f} < {drops[algorithm, 'mobilenetv2']:.1f}"
            for algorithm in printed
        ),
        verdict=holds(all(drops[a, "mobilenetv2"] > drops[a, "resnet18"] for a in printed)),
        table="6",
    )


CLAIMS = claims
