"""The axes of a study as options of the command line."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import cyclopts
from cyclopts import CoercionError, Parameter, Token
from pydantic import ValidationError

from mqbench.errors import RequestError, explain
from mqbench.study import DEFAULT, Study, load_study


def whole(type_: Any, tokens: Sequence[Token]) -> Any:
    """An integer or several; the default conversion would round 1.5."""
    for token in tokens:
        if not _WHOLE.fullmatch(token.value):
            raise CoercionError(token=token, target_type=int)
    return cyclopts.convert(type_, tokens)


def commas(type_: Any, tokens: Sequence[Token]) -> Any:
    """Several values, separated by commas."""
    parts = [(token, part) for token in tokens for part in token.value.split(",")]
    split = [Token(keyword=token.keyword, value=part, source=token.source) for token, part in parts]
    return whole(type_, split) if type_ == tuple[int, ...] else cyclopts.convert(type_, split)


_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_AXIS = Parameter(converter=commas, negative=(), show_default=False, allow_leading_hyphen=True)
_SEEDS = Parameter(name=("--seeds", "--seed"))
Names = Annotated[tuple[str, ...], _AXIS]
Integers = Annotated[tuple[int, ...], _AXIS]
Reals = Annotated[tuple[float, ...], _AXIS]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Axes:
    """Every option takes several values: ``--seeds 0,1`` or ``--seeds 0 --seeds 1``.

    Args:
        architecture: Names of `mqbench list architectures`, timm/NAME, torchvision/NAME or module:factory.
        dataset: Names of `mqbench list datasets`, folder:PATH or hub:OWNER/NAME.
        algorithm: Names of `mqbench list algorithms`; float is the network without quantization.
        backend: Names of `mqbench list backends`: inference libraries, or academic.
        bits: Bits of weights and activations, 2 to 16; w4a8 for a pair; 4 if not given.
        seeds: Seeds, one run each; 0 if not given.
        first_last_bits: Bits of the first and last layer; 8 if not given.
        bn_folding: Strategies of folding batch norms, -1 (none) to 4; the backend's if not given.
        graph: Placements of the quantizers, 1 to 3; the backend's if not given.
        granularity: Of the weights, per_tensor or per_channel; this and the next five replace the backend's.
        symmetric_weights: Whether weights have no zero point; true or false.
        symmetric_activations: Whether activations have none.
        power_of_two: Whether scales are powers of two.
        adaptive_sign: Whether activations are unsigned where the data has no negative value.
        shared_concat: Whether the inputs of a concat share one quantizer.
        weight_calibration: Observers of weights, of `mqbench list observers`; the algorithm's own if not given.
        activation_calibration: Observers of activations, likewise.
        calibration_images: Training images that set the quantizers' parameters; the recipe's 1024 if not given.
        bn_calibration: Training images for batch-norm calibration; 0, which is the default, for none.
        bias_correction: Training images for bias correction; 0, which is the default, for none.
        sync_bn: Batch statistics over all processes; false is the paper's 4*.
        quantizer_weight_decay: L2 on scales and clipping thresholds, instead of that of the weights.
        epochs: Passes over the training images, in place of the recipe's, as are the next five; 0 is calibration alone.
        steps: Optimizer steps in all, in place of epochs.
        learning_rate: Its peak.
        weight_decay: L2.
        batch_size: Images of one device and step.
        global_batch: Images of an optimizer step.
        weights: Of the float network: timm, file:PATH or package:NAME, or ordered: and one of the last two.
        tool: Who quantizes: mqbench, or other toolkits; see `mqbench list tools`.
        float_seed: Seeds of the float network.
        float_epochs: Epochs of the float network, where it is trained.
        float_batch: Images of its optimizer step.
    """

    architecture: Names = ()
    dataset: Names = ()
    algorithm: Names = ()
    backend: Names = ()
    bits: Names = ()
    seeds: Annotated[Integers, _SEEDS] = ()
    first_last_bits: Integers = ()
    bn_folding: Integers = ()
    graph: Integers = ()
    granularity: Names = ()
    symmetric_weights: Names = ()
    symmetric_activations: Names = ()
    power_of_two: Names = ()
    adaptive_sign: Names = ()
    shared_concat: Names = ()
    weight_calibration: Names = ()
    activation_calibration: Names = ()
    calibration_images: Integers = ()
    bn_calibration: Integers = ()
    bias_correction: Integers = ()
    sync_bn: Names = ()
    quantizer_weight_decay: Reals = ()
    epochs: Integers = ()
    steps: Integers = ()
    learning_rate: Reals = ()
    weight_decay: Reals = ()
    batch_size: Integers = ()
    global_batch: Integers = ()
    weights: Names = ()
    tool: Names = ()
    float_seed: Integers = ()
    float_epochs: Integers = ()
    float_batch: Integers = ()

    def study(self, name: str | None) -> Study:
        """The study of that name or path, with these axes in place of its own; without a name, theirs.

        Raises:
            RequestError: no such study, or a value that its axis does not take.
        """
        axes = {axis: values for axis, values in asdict(self).items() if values}
        if name is not None or not axes:
            return load_study(name or DEFAULT).replaced(axes)
        if "algorithm" not in axes:
            example = next(iter(axes))
            raise RequestError(
                f"--{example.replace('_', '-')} needs --algorithm (or float for the network without "
                f"quantization), or a study to change, such as: mqbench run {DEFAULT}"
            )
        network = load_study(DEFAULT).axes
        usual = {axis: network[axis] for axis in ("architecture", "dataset")}
        try:
            return Study(name="command line", axes=usual | axes)
        except ValidationError as error:
            raise RequestError(explain(error)) from None
