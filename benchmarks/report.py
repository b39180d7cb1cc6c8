"""Time and weight of a report of many records: python benchmarks/report.py [records [store to copy from]].

The records are those of the store with other networks, algorithms, bits and seeds, so that the grid has as many
as asked for; beside each lie a curve and ranges of sixty looks, and the histograms of the run it was copied from.
Where Chromium and playwright are installed, the pages are opened too.
"""

import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice, product
from pathlib import Path
from statistics import median

import polars

from mqbench import record_file
from mqbench.record import Record, Setting
from mqbench.store import Store

ARCHITECTURES = ("resnet18", "resnet50", "mobilenetv2", "efficientnet_lite0", "regnetx_600mf")
BACKENDS = ("academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm")
ALGORITHMS = ("lsq", "pact", "dorefa", "dsq")
LOOKS, SEEDS = 60, 4
CHROMIUM = "/usr/bin/chromium"


def settings() -> list[Setting]:
    grid = product(range(100), ARCHITECTURES, ALGORITHMS, BACKENDS, (2, 3, 4, 8), range(SEEDS))
    return [
        Setting(architecture=a, dataset="imagenet", algorithm=m, backend=b, bits=n, seed=s + SEEDS * block)
        for block, a, m, b, n, s in islice(grid, COUNT)
    ]


def beside(store: Store, record: Record) -> dict[str, bytes]:
    """What a run of sixty looks leaves, from one of a few."""
    files = store.attachments(record.setting)
    curve = polars.read_parquet(io.BytesIO(files["curve.parquet"])).row(-1, named=True)
    points = []
    for look in range(LOOKS):
        share = 1 - 0.5 ** (1 + look / 6)
        point = {n: (v * share if "accuracy" in n else v) for n, v in curve.items()}
        points.append({**point, "step": 1000 * (look + 1), "epoch": look + 1})
    ranges = polars.read_parquet(io.BytesIO(files["quantizers.parquet"]))
    last = ranges.filter(polars.col("step") == ranges["step"].max())
    looks = [
        last.with_columns(
            polars.lit(1000 * (look + 1)).alias("step"),
            polars.col("clip_min") * (1 + look / 50),
            polars.col("clip_max") * (1 + look / 50),
        )
        for look in range(LOOKS)
    ]
    return {
        "histograms.safetensors": files["histograms.safetensors"],
        "curve.parquet": _parquet(polars.DataFrame(points)),
        "quantizers.parquet": _parquet(polars.concat(looks)),
    }


def fill(root: Path, source: Store) -> None:
    """Records as a store leaves them, without waiting for the disk."""
    root.mkdir()
    templates = [r for r in source if r.outcome == "ok" and r.setting.bits is not None]
    files = [beside(source, record) for record in templates]
    draw = random.Random(0)
    for index, setting in enumerate(settings()):
        which = index % len(templates)
        record = templates[which].model_copy(
            update={"setting": setting, "accuracy": templates[which].accuracy + draw.gauss(0, 0.5)}  # type: ignore[operator]
        )
        folder = root / setting.key
        folder.mkdir()
        (folder / record_file.RECORD).write_text(record_file.text(record))
        (folder / record_file.PROVENANCE).write_text(record.provenance.model_dump_json())  # type: ignore[union-attr]
        for name, content in files[which].items():
            (folder / name).write_bytes(content)


def build(root: Path, site: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "mqbench", "report", str(root), "-o", str(site), "--json"]
    started = time.perf_counter()
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {**json.loads(said), "whole process": time.perf_counter() - started}


def weigh(site: Path) -> None:
    for page in sorted(site.glob("*.html")):
        print(f"  {page.name}: {page.stat().st_size / 1e3:.0f} kB")
    runs = [page.stat().st_size for page in (site / "runs").glob("*.html")]
    print(f"  runs/*.html: {median(runs) / 1e3:.0f} kB in the median, {sum(runs) / 1e6:.0f} MB in all")


def open_pages(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        run = next((site / "runs").glob("*.html"))
        for page in (*sorted(site.glob("*.html")), run):
            times = []
            for _ in range(3):
                tab = browser.new_page()
                started = time.perf_counter()
                tab.goto(page.as_uri())
                # two frames later what was parsed has been painted
                tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
                times.append(time.perf_counter() - started)
                tab.close()
            print(f"  {page.name}: opens in {median(times):.2f} s")
        browser.close()


def _parquet(frame: polars.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def main(source: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, site = Path(folder) / "runs", Path(folder) / "site"
        fill(root, Store(source))
        for what in ("all", "nothing changed", "one record less"):
            if what == "one record less":
                shutil.rmtree(next(path for path in root.iterdir() if path.is_dir()))
            print(f"{what}: {build(root, site)}", flush=True)
        weigh(site)
        if Path(CHROMIUM).exists():
            open_pages(site)


if __name__ == "__main__":
    COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    main(Path(sys.argv[2] if len(sys.argv) > 2 else "results/cifar10-resnet20"))
