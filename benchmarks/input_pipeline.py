"""Images/s of the input pipeline, of training without it, and of both: medians of interleaved rounds, one thread.

What one process does is counted by its CPU time, which other processes on the machine hardly change; what
workers do by the clock on the wall.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mqbench import architectures as _architectures
from mqbench import data as _data
from mqbench.data._base import Preprocessing, Split, Splits
from mqbench.data._stream import StreamSplit

architectures: Any = _architectures
datasets: Any = _data
BATCH = 128


def picks(split: Split, batches: int, size: int = BATCH) -> list[Tensor]:
    """Random indices, as many batches as asked for."""
    return list(torch.randint(len(split), (batches * size,)).split(size))


def rate(images: int, work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return images / (time.process_time() - start)


def show(title: str, rates: list[float]) -> None:
    print(f"{title:58} {statistics.median(rates):10.0f} /s  ({min(rates):.0f} to {max(rates):.0f})")


def cifar10(folder: str, rounds: int, steps: int) -> None:
    splits: Splits = datasets["cifar10"].open(folder, Preprocessing())
    train = splits.train
    model = architectures["resnet20"].build(splits.classes, 3).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def learn(batches: Iterator[tuple[Tensor, Tensor]] | list[tuple[Tensor, Tensor]]) -> None:
        for x, y in batches:
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def read(chosen: list[Tensor], augment: int | None) -> None:
        for _ in train.batches(chosen, augment=augment):
            pass

    few, many = picks(train, steps), picks(train, 100)
    ready = list(train.batches(few, augment=0))
    learn(ready[:2])
    works: dict[str, tuple[int, Callable[[], None]]] = {
        "CIFAR-10, no augmentation": (100, lambda: read(many, None)),
        "CIFAR-10, padded crop and flip": (100, lambda: read(many, 1)),
        "ResNet-20 training, batches ready": (steps, lambda: learn(ready)),
        "ResNet-20 training, batches from the pipeline": (
            steps,
            lambda: learn(train.batches(few, augment=1)),
        ),
    }
    rates: dict[str, list[float]] = {title: [] for title in works}
    for _ in range(rounds):
        for title, (count, work) in works.items():
            rates[title].append(rate(count * BATCH, work))
    for title, values in rates.items():
        show(title, values)


def imagenet_sample(folder: str, rounds: int) -> None:
    split = datasets["imagenet_sample"].open(folder, Preprocessing()).train
    assert isinstance(split, StreamSplit)
    titles = {None: "resize 256, crop 224", 0: "resized crop, flip, colour jitter"}
    rates: dict[tuple[int, int | None], list[float]] = {}
    for _ in range(rounds):
        for workers in (0, 1, 2):
            split.workers = workers
            for augment in titles:
                batches = split.batches(picks(split, 16, size=16), augment=augment)
                next(batches)  # the start of the processes is paid once an epoch
                clock = time.perf_counter if workers else time.process_time
                start = clock()
                images = sum(len(y) for _, y in batches)
                rates.setdefault((workers, augment), []).append(images / (clock() - start))
    for (workers, augment), values in rates.items():
        show(f"ImageNet sample, {workers} workers, {titles[augment]}", values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("MQBENCH_DATA"), help="folder of the datasets")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="training steps a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cifar10(options.data, options.rounds, options.steps)
    imagenet_sample(options.data, options.rounds)


if __name__ == "__main__":
    main()
