"""The exact integer network over the float network: forward passes in turn, processor time, one thread.

python benchmarks/integer_reference.py --batch 8 --rounds 3
"""

import argparse
import statistics
import time
import warnings

import timm
import torch

import mqbench


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", default="resnet18,resnet50,mobilenetv2_100,efficientnet_lite0,regnetx_006"
    )
    parser.add_argument("--backend", default="fbgemm")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in options.models.split(","):
        model, x = timm.create_model(name).eval(), torch.randn(options.batch, 3, 224, 224)
        q = mqbench.prepare(model, x[:2], backend=options.backend, algorithm="ptq", bits=8)
        mqbench.calibrate(q, [x])
        integer = mqbench.to_integer(mqbench.convert(q))
        ratios = []
        with torch.no_grad():
            model(x), integer(x)
            for _ in range(options.rounds):
                start = time.process_time()
                model(x)
                middle = time.process_time()
                integer(x)
                ratios.append((time.process_time() - middle) / (middle - start))
        print(f"{name:20} {statistics.median(ratios):.2f} x float", flush=True)


if __name__ == "__main__":
    main()
