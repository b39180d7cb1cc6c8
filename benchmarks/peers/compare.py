"""A quantization-aware training step over the float step: ours and each peer's, side by side.

A peer lives in an environment of its own and is named with the interpreter of that; it may borrow the torch of
another environment by a ``.pth`` file. In each process float and quantized steps alternate, so that their ratio does
not depend on what else the machine does; the processes of all peers take turns case by case.

    python -m venv peer && peer/bin/pip install torchao timm      # or nncf, brevitas
    python benchmarks/peers/compare.py --peer torchao_pt2e=peer/bin/python --peer nncf_qat=other/bin/python
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(peer: str, python: str, case: str, rounds: int, backend: str | None = None) -> dict[str, object]:
    """One case of one peer, in a process of its own."""
    environment = {**os.environ, **({} if backend is None else {"MQBENCH_BACKEND": backend})}
    command = [python, str(HERE / f"{peer}.py"), "--cases", case, "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return {"error": (done.stderr.strip().splitlines() or ["nothing printed"])[-1][:120]}
    found: dict[str, object] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="append", default=[], metavar="FILE=PYTHON")
    parser.add_argument("--backends", default="academic,tensorrt", help="of ours")
    parser.add_argument("--cases", default="resnet20,resnet18,mobilenetv2")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    contenders = [(f"ours, {b}", "ours", sys.executable, b) for b in options.backends.split(",") if b]
    for named in options.peer:
        peer, _, python = named.partition("=")
        contenders.append((peer, peer, python, None))
    print("| who | case | x float step | over the rounds | ms | prepare, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in options.cases.split(","):
        for name, peer, python, backend in contenders:
            r = run(peer, python, case, options.rounds, backend)
            if "error" in r:
                print(f"| {name} | {case} | {r['error']} | | | |", flush=True)
            else:
                print(
                    f"| {name} | {case} | {r['ratio']:.2f} | {r['low']:.2f} to {r['high']:.2f} | "
                    f"{r['milliseconds']:.0f} | {r['prepare_seconds']:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
