"""Appendix B.2: weight decay on the scale (Table 8)."""

from collections.abc import Iterator

from mqbench.paper.claims._base import Finding, best, close, holds, same, table, value


def claims() -> Iterator[Finding]:
    """The findings of this section."""
    found = {f"{record.setting.quantizer_weight_decay:g}": value(record) for record in table(8)}
    gain = max(found.values()) - found["1e-05"]
    yield Finding(
        section="B.2.3",
        claim="weight decay 8e-5 on the scale is best, 2.3 above the baseline (LSQ, MobileNetV2, TensorRT)",
        printed="8e-5, 2.3",
        recomputed=f"{', '.join(best(found))}, {gain:.2f}",
        verdict=holds(best(found) == ["8e-05"] and close(2.3, gain, 1)),
        table="8",
    )
    baseline = next(
        value(r)
        for r in table(7)
        if (r.setting.architecture, r.setting.algorithm, r.setting.backend)
        == ("mobilenetv2", "lsq", "tensorrt")
    )
    yield Finding(
        section="B.2.3",
        claim="its baseline, 1e-5, is the run of Table 7",
        printed=f"{baseline}",
        recomputed=f"{found['1e-05']:.2f}",
        verdict=same([baseline], [found["1e-05"]]),
        table="7, 8",
        note="so Table 7 decays the scale like any weight",
    )


CLAIMS = claims
