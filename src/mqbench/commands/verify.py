"""Verify an artifact again, from its files alone."""

from pathlib import Path

from mqbench.commands._options import Json, Threads
from mqbench.commands._print import print_json


def verify(
    folder: str,
    /,
    *,
    runtime: str | None = None,
    require: str = "auto",
    threads: Threads | None = None,
    as_json: Json = False,
) -> int:
    """Check the files of an artifact, and run its sample through simulation, integer reference and engine.

    Exits with 1, saying where, if the bar is missed.

    Args:
        folder: Of `mqbench quantize`.
        runtime: Another engine than the certificate's.
        require: The bar: auto, exact, one-step, none, or exact=0.999,steps=1,free=0.9,flips=0,drop=0.5.
        threads: Of the engine; the certificate's if not given.
        as_json: Print JSON.

    Examples:
        mqbench verify out
        mqbench verify out --runtime openvino --require one-step
    """
    from mqbench.deploy.artifact import verify_again

    agreement, missed = verify_again(Path(folder), runtime=runtime, require=require, threads=threads)
    first = agreement.first_difference
    found = {
        "folder": folder,
        "runtime": agreement.runtime,
        "version": agreement.version,
        "images": agreement.images,
        "exact_fraction": agreement.exact_fraction,
        "max_steps": agreement.max_steps,
        "top1_flips": agreement.top1_flips,
        "first_difference": None if first is None else {"name": first.name, "kind": first.kind},
        "notes": list(agreement.notes),
        "missed": missed,
    }
    if as_json:
        print_json(found)
        return 1 if missed else 0
    print(f"{folder}: files unchanged; {agreement.images} images on {agreement.runtime} {agreement.version}")
    print(
        f"{100 * agreement.exact_fraction:.4f} % of the integers equal, at most {agreement.max_steps} steps apart, "
        f"{agreement.top1_flips} top-1 flips"
    )
    for note in agreement.notes:
        print(f"note: {note}")
    for sentence in missed:
        print(f"missed: {sentence}")
    return 1 if missed else 0


COMMAND = verify
