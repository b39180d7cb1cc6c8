"""Where the time of a finished study went, from its records."""

import argparse
import json
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, nargs="?", default=Path("runs"))
    store = parser.parse_args().store
    by_algorithm: dict[str, list[float]] = defaultdict(list)
    by_backend: dict[str, list[float]] = defaultdict(list)
    ends: list[datetime] = []
    starts: list[datetime] = []
    for folder in store.iterdir():
        if not (folder / "provenance.json").exists():
            continue
        setting = json.loads((folder / "record.json").read_text())["setting"]
        about = json.loads((folder / "provenance.json").read_text())
        by_algorithm[setting.get("algorithm", "float")].append(about["seconds"])
        by_backend[str(setting.get("backend"))].append(about["seconds"])
        starts.append(datetime.fromisoformat(about["started"]))
        ends.append(starts[-1] + timedelta(seconds=about["seconds"]))
    total = sum(map(sum, by_algorithm.values()))
    print(
        f"first start to last end {(max(ends) - min(starts)).total_seconds():.0f} s, sum of runs {total:.0f} s"
    )
    for title, groups in (("algorithm", by_algorithm), ("backend", by_backend)):
        for name, values in sorted(groups.items()):
            print(f"{title:10} {name:10} {len(values):3} runs, mean {sum(values) / len(values):.2f} s")


if __name__ == "__main__":
    main()
