"""Seconds from the start of a process to its end, median of rounds: what waits before anything is computed."""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python alone": ["-c", "pass"],
    "import mqbench": ["-c", "import mqbench"],
    "mqbench --help": ["-m", "mqbench", "--help"],
    "mqbench list": ["-m", "mqbench", "list"],
    "mqbench table (default study)": ["-m", "mqbench", "table"],
    "mqbench run (default study, finished)": ["-m", "mqbench", "run"],
    "import torch, for comparison": ["-c", "import torch"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):  # interleaved: noise of the machine falls on all alike
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name:40} {statistics.median(values):.2f} s  ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
