"""Find out what each quantizer costs a network, and what could be done."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mqbench import catalog
from mqbench.commands._network import NetworkOptions
from mqbench.commands._options import ONE_THREAD, ComputeOptions, Count, Files, Flag, Json, Whole
from mqbench.commands._print import console_of, print_json
from mqbench.files import check_new_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 10


def diagnose(
    model: str,
    /,
    *,
    network: NetworkOptions,
    output: Annotated[str | None, Parameter(alias="-o")] = None,
    images: Count = 256,
    sensitivity_images: Whole = 64,
    compute: ComputeOptions = ONE_THREAD,
    load: Files = (),
    quiet: Flag = False,
    as_json: Json = False,
) -> int:
    """Quantize a network and find out what each layer and each quantizer costs it, worst first.

    A network of your own is module:factory: a function or class of a Python file,
    here or on PYTHONPATH, that makes it; it may take num_classes and in_chans.

    Args:
        model: A name of `mqbench list architectures`, timm/NAME, torchvision/NAME or module:factory.
        network: How it is quantized.
        output: Folder of the page and of the tables as parquet; it must not exist, or be empty.
        images: Test images that statistics are of.
        sensitivity_images: Test images for accuracy with only one layer quantized, or all but it; 0: none.
        compute: Of the training.
        load: Python files that add algorithms, architectures and so on; may be given several times.
        quiet: Print nothing but what is asked for.
        as_json: Print everything as JSON.

    Examples:
        mqbench diagnose my_nets:net --weights file:net.pt --data IMAGES --backend fbgemm --bits 4 -o diagnosis
        mqbench diagnose timm/resnet18 --weights timm --data IMAGES --backend snpe --sensitivity-images 0
    """
    for path in load:
        catalog.load(path)
    setting, layer_bits = network.setting(model), network.bits_of_layers()
    from mqbench.report.diagnosis import plain, write

    if output is not None:
        check_new_folder(output)
    from mqbench.diagnosis.of_setting import examine_setting

    found = asdict(
        examine_setting(
            setting,
            data=network.data,
            store=network.store,
            compute=compute.compute(),
            skip=network.skip,
            layer_bits=layer_bits,
            images=images,
            sensitivity_images=sensitivity_images,
            progress=(lambda phase: None) if quiet or as_json else lambda phase: print(f"{phase} ..."),
        )
    )
    about = {"network": str(setting), "skip": list(network.skip), "layer_bits": layer_bits}
    if output is not None:
        write(output, about, found)
    if as_json:
        print_json(plain({**about, **found}))
    else:
        _show(found, output)
    return 0


def _show(found: "Mapping[str, Any]", output: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from mqbench.report.advice import advice
    from mqbench.report.diagnosis_page import COLUMNS, cell, summary

    console = console_of(sys.stdout)
    console.print(summary(found), markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in COLUMNS:
        table.add_column(title, justify="left" if title == "layer" else "right")
    rows = found["layers"][:SHOWN]
    for row in rows:
        table.add_row(*(Text(cell(row, names)) for names in COLUMNS.values()))
    console.print("")
    console.print(table)
    if len(found["layers"]) > len(rows):
        where = f"{output}/ has all" if output else "-o FOLDER or --json gives all"
        console.print(f"The {len(rows)} worst of {len(found['layers'])} layers; {where}.")
    console.print("")
    for sentence in advice(found):
        console.print(f"- {sentence}", markup=False, soft_wrap=True)


COMMAND = diagnose
