"""Every integer of the paper's five networks on an engine, each layer on the engine's own inputs.

``PYTHONPATH=src:tests python benchmarks/engines.py [ENGINE ...]``: random weights, four images of 96 x 96, 8 bits; each
engine in the settings that it takes in integers, without its known faults (`mqbench.cure`).
"""

import sys

import timm
import torch

import mqbench
from networks import trained

NETWORKS = ["resnet18", "resnet50", "mobilenetv2_100", "tf_efficientnet_lite0", "regnetx_006"]
CASES = {
    "torch_fbgemm": ["fbgemm", "snpe"],
    "torch_x86": ["fbgemm", "tensorrt"],
    "torch_onednn": ["tensorrt", "acl", "tvm"],
    "litert": ["tvm", "tensorrt", "acl", "snpe", "fbgemm"],
    "litert_reference": ["tvm", "tensorrt", "acl", "snpe", "fbgemm"],
    "openvino": ["tensorrt", "acl", "tvm", "fbgemm"],
}


def main() -> None:
    torch.set_num_threads(1)
    print("| network | setting | engine | integers | differ | most steps | worst layer |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for network in NETWORKS:
        for runtime in sys.argv[1:] or CASES:
            for backend in CASES[runtime]:
                print(row(network, backend, runtime), flush=True)


def row(network: str, backend: str, runtime: str) -> str:
    torch.manual_seed(0)
    model, x = trained(timm.create_model(network, pretrained=False)), torch.randn(4, 3, 96, 96)
    q = mqbench.prepare(model, x, backend=backend, algorithm="ptq", bits=8)
    mqbench.calibrate(q, [x])
    cured = mqbench.cure(mqbench.convert(q), runtime=runtime)
    found = mqbench.verify(cured.program, [torch.randn(4, 3, 96, 96)], runtime=runtime, options=cured.options)
    local = [layer.local for layer in found.layers]
    count, equal = sum(match.count for match in local), sum(match.equal for match in local)
    worst = min(match.exact_fraction for match in local)
    return (
        f"| {network} | {backend} | {runtime}{', cured' if cured.applied else ''} | {count} | {count - equal} | "
        f"{max(match.max_steps for match in local)} | {worst:.5f} |"
    )


if __name__ == "__main__":
    main()
