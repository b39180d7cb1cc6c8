"""What a study of ImageNet runs costs on clusters of GPUs: a simulation of the sweep's scheduler. Nothing is trained.

The scheduler gives out runs in the order of the study to whatever node has room for one (`mqbench run --executor ray
--devices D`); a run holds D devices of one node to its end. Assumed, and to be replaced by one's own numbers:

* images/s of a float training step on one GPU, by architecture (``RATES``; mixed precision, of the order of an A100);
* a quantized step costs ``--step`` times the float step;
* D devices of a node train at D x ``--efficiency`` of the speed of one;
* a core decodes and augments 216 images/s (`benchmarks/input_pipeline.py`), and each device has ``--cores``;
* an evaluation of 50,000 images each epoch at three times the speed of training;
* a run takes ``--start`` seconds to begin; a device fails once in ``--failure`` hours, and its run repeats half an
  epoch (checkpoints are written at the end of each).

    python benchmarks/study_on_gpus.py
    python benchmarks/study_on_gpus.py --order longest --cores 16
"""

import argparse
import heapq
import random
from collections.abc import Iterator
from itertools import count

TRAIN, TEST, DECODED, NODE = 1_281_167, 50_000, 216, 8
RATES = {
    "resnet18": 3000,
    "resnet50": 1200,
    "mobilenetv2": 2200,
    "efficientnet_lite0": 1900,
    "regnetx_600mf": 2300,
}


def hours(architecture: str, devices: int, options: argparse.Namespace, chance: random.Random) -> float:
    """Duration of one run."""
    rate = RATES[architecture] / options.step * (1 if devices == 1 else options.efficiency)
    rate = devices * min(rate, options.cores * DECODED)
    epoch = TRAIN / rate + TEST / min(3 * rate, devices * options.cores * DECODED)
    whole = options.epochs * epoch
    failures = sum(chance.expovariate(1 / options.failure) < whole / 3600 for _ in range(devices))
    return (options.start + whole + failures * (epoch / 2 + options.start)) / 3600


def simulate(gpus: int, devices: int, options: argparse.Namespace) -> tuple[float, float]:
    """Hours to the last record, and hours that devices were held."""
    chance = random.Random(options.seed)
    names = list(RATES)
    runs = [hours(names[i % len(names)], devices, options, chance) for i in range(options.cells)]
    if options.order == "longest":
        runs.sort(reverse=True)
    room = [min(NODE, gpus - start) for start in range(0, gpus, NODE)]
    waiting: Iterator[float] = iter(runs)
    upcoming = next(waiting, None)
    ends: list[tuple[float, int, int]] = []
    now, serial = 0.0, count()
    while upcoming is not None or ends:
        place = next((n for n, free in enumerate(room) if free >= devices), None)
        if upcoming is not None and place is not None:
            room[place] -= devices
            heapq.heappush(ends, (now + upcoming, next(serial), place))
            upcoming = next(waiting, None)
        else:
            now, _, place = heapq.heappop(ends)
            room[place] += devices
    return now, sum(runs) * devices


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--gpus", default="1,8,64,256")
    parser.add_argument("--devices", default="1,2,4,8")
    parser.add_argument("--step", type=float, default=1.15)
    parser.add_argument("--efficiency", type=float, default=0.92)
    parser.add_argument("--cores", type=int, default=8, help="of each device")
    parser.add_argument("--start", type=float, default=60.0, help="seconds")
    parser.add_argument("--failure", type=float, default=2000.0, help="hours")
    parser.add_argument("--order", choices=["study", "longest"], default="study")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| GPUs | of each run | days | GPU-hours | GPUs in use |")
    print("| --- | --- | --- | --- | --- |")
    for gpus in map(int, options.gpus.split(",")):
        for devices in map(int, options.devices.split(",")):
            if devices <= min(gpus, NODE):
                end, held = simulate(gpus, devices, options)
                print(f"| {gpus} | {devices} | {end / 24:.1f} | {held:.0f} | {held / end / gpus:.0%} |")


if __name__ == "__main__":
    main()
