"""Options that say which network is quantized and how, for the commands that make one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

from mqbench.commands._options import Count, Pairs, Whole, pairs
from mqbench.errors import RequestError, explain
from mqbench.record import Setting
from mqbench.study import Study


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which network is quantized, and how.

    Args:
        backend: The inference library; see `mqbench list backends`.
        dataset: See `mqbench list datasets`; folder:PATH; hub:OWNER/NAME. Without it --data is a folder of images.
        data: Folder of the datasets; MQBENCH_DATA if not given.
        weights: Of the float network: timm, file:PATH or package:NAME, or ordered: and one of the last two.
        algorithm: See `mqbench list algorithms`; if not given, ptq without training, else lsq.
        bits: Of weights and activations, 2 to 8; w4a8 for a pair.
        epochs: Of quantization-aware training; 0, which is the default, is post-training quantization.
        steps: Of training in all, in place of epochs.
        learning_rate: Of training, with the next three in place of the recipe's.
        weight_decay: L2.
        batch_size: Images of one device and step.
        global_batch: Images of an optimizer step.
        first_last_bits: Bits of the first and last layer.
        layer_bits: Bits of a single layer's weight and input, such as layer4.0.conv1=8; may be given several times.
        skip: Name of a layer that stays float; may be given several times.
        bn_folding: Strategy, -1 to 4; the backend's if not given.
        graph: Placement of the quantizers, 1 to 3; the backend's if not given.
        weight_calibration: Observer of weights; the algorithm's own if not given. See `mqbench list observers`.
        activation_calibration: Observer of activations, likewise.
        calibration_images: Training images that set the quantizers' parameters; the recipe's 1024 if not given.
        bn_calibration: Training images that renew the batch norms' statistics afterwards; 0 for none.
        bias_correction: Training images that take out the channels' mean errors instead; 0 for none.
        seed: Of the run.
        float_epochs: Epochs of the float network, where it is trained here.
        float_batch: Images of its optimizer step.
        store: Folder of the records, where the float network is or will be.
    """

    backend: str
    dataset: str | None = None
    data: str | None = None
    weights: str | None = None
    algorithm: str | None = None
    bits: str = "8"
    epochs: Whole | None = None
    steps: Count | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    batch_size: Count | None = None
    global_batch: Count | None = None
    first_last_bits: Whole = 8
    layer_bits: Pairs = ()
    skip: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
    bn_folding: Whole | None = None
    graph: Whole | None = None
    weight_calibration: str | None = None
    activation_calibration: str | None = None
    calibration_images: Count | None = None
    bn_calibration: Whole = 0
    bias_correction: Whole = 0
    seed: Whole = 0
    float_epochs: Count | None = None
    float_batch: Count | None = None
    store: str = "runs"

    def setting(self, model: str) -> Setting:
        """The checked setting of one network.

        Raises:
            RequestError: a value that is not allowed, or neither a dataset nor a folder of images.
        """
        axes = {
            "architecture": model,
            "dataset": self._dataset(),
            "algorithm": self.algorithm or ("lsq" if self.epochs or self.steps else "ptq"),
            "epochs": 0 if self.epochs is None and self.steps is None else self.epochs,
            "seeds": self.seed,
        }
        for name in (
            "backend",
            "bits",
            "steps",
            "learning_rate",
            "weight_decay",
            "batch_size",
            "global_batch",
            "first_last_bits",
            "bn_folding",
            "graph",
            "weight_calibration",
            "activation_calibration",
            "calibration_images",
            "bn_calibration",
            "bias_correction",
            "weights",
            "float_epochs",
            "float_batch",
        ):
            axes[name] = getattr(self, name)
        given = {name: (value,) for name, value in axes.items() if value is not None}
        try:
            (setting,) = Study(name="quantize", axes=given).settings()
        except ValidationError as error:
            raise RequestError(explain(error)) from None
        return setting

    def bits_of_layers(self) -> dict[str, int]:
        """The single layers' bits.

        Raises:
            RequestError: not written as LAYER=BITS.
        """
        found = {}
        for layer, text in pairs(self.layer_bits).items():
            if not text.isdecimal():
                raise RequestError(f"layer_bits takes LAYER=BITS with a whole number, got {layer}={text}")
            found[layer] = int(text)
        return found

    def _dataset(self) -> str:
        if self.dataset is not None:
            return self.dataset
        if self.data is None:
            raise RequestError("no images: give --dataset NAME, or --data FOLDER with images")
        return f"folder:{Path(self.data).resolve()}"
