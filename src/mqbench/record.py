"""A run as a value: what was asked for (`Setting`) and what came of it (`Record`)."""

import hashlib
import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mqbench.scheme import MAX_BITS, MIN_BITS

SCHEMA_VERSION = 2  # 2: the tool, and its version
_KEY_VERSION = (
    1  # apart from the schema's: a new field of `Record` must not orphan the records that there are
)
FLOAT = "float"
MQBENCH = "mqbench"
# Fields of a backend that a setting may replace one by one.
OVERRIDES = (
    "granularity",
    "symmetric_weights",
    "symmetric_activations",
    "power_of_two",
    "adaptive_sign",
    "shared_concat",
)
_WEIGHTS = re.compile(r"(ordered:)?(timm|(file|package):.+)")

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Bits = Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setting(_Value):
    """One run of the benchmark: names and numbers only.

    ``algorithm="float"`` is the unquantized network that every quantized run starts from. A field left
    ``None`` takes the value of the backend (``bn_folding``, ``graph``, the overrides), of the algorithm
    (calibration) or of the architecture's recipe (the training fields).

    Args:
        architecture, dataset, algorithm, backend: names from the catalogs.
        bits: (weight, activation) bits of all but the first and last layer; one integer means both.
        bn_folding: strategy -1 to 4 (paper section 3.2).
        graph: 1, 2 or 3 (paper Fig. 4).
        first_last_bits: weight and input-activation bits of the first and last layer.
        granularity, symmetric_weights, symmetric_activations, power_of_two, adaptive_sign, shared_concat:
            in place of the backend's; see `mqbench.backends._base.Overrides`.
        sync_bn: batch statistics are those of all processes that train together; False is the paper's
            asynchronous "4*". One process knows no difference.
        weight_calibration, activation_calibration: observer names.
        calibration_images: training images that set the quantizers' parameters (override of the recipe).
        bn_calibration: training images for batch-norm calibration before training (paper appendix C.3 takes
            4096); 0 leaves it out.
        bias_correction: training images for bias correction before training; 0 leaves it out.
        quantizer_weight_decay: L2 on scales and clipping thresholds; None is that of the weights (Table 8).
        epochs, steps, learning_rate, weight_decay, batch_size, global_batch: overrides of the recipe.
            ``steps`` is the number of optimizer steps in all, in place of epochs; ``global_batch`` the
            number of images in each.
        weights: where the float network comes from: None trains it here; "timm" takes timm's hub,
            "file:PATH" a checkpoint, "package:NAME" one that a Python package holds, each with "ordered:"
            before it if its tensors are to be matched by order and shape instead of by name.
        tool: who quantizes: ``mqbench``, or another toolkit (a name of ``mqbench.tools``) that computes the cell
            from the same float network and images. What is left ``None`` is as that toolkit has it.
        seed: of everything random in this run.
        float_seed, float_epochs, float_batch: seed, epochs and images of an optimizer step (in one batch of one
            device) of the float network that a quantized run starts from.

    Raises:
        pydantic.ValidationError: a value of the wrong type or outside its range.
    """

    architecture: str
    dataset: str
    algorithm: str = FLOAT
    backend: str | None = None
    bits: tuple[Bits, Bits] | None = None
    bn_folding: Annotated[int, Field(ge=-1, le=4)] | None = None
    graph: Literal[1, 2, 3] | None = None
    sync_bn: bool = True
    first_last_bits: Bits = 8
    granularity: Literal["per_tensor", "per_channel"] | None = None
    symmetric_weights: bool | None = None
    symmetric_activations: bool | None = None
    power_of_two: bool | None = None
    adaptive_sign: bool | None = None
    shared_concat: bool | None = None
    weight_calibration: str | None = None
    activation_calibration: str | None = None
    calibration_images: Annotated[int, Field(ge=1)] | None = None
    bn_calibration: Annotated[int, Field(ge=0)] = 0
    bias_correction: Annotated[int, Field(ge=0)] = 0
    quantizer_weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    epochs: Annotated[int, Field(ge=0)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    global_batch: Annotated[int, Field(ge=1)] | None = None
    weights: str | None = None
    tool: Annotated[str, Field(min_length=1)] = MQBENCH
    seed: Seed = 0
    float_seed: Seed = 0
    float_epochs: Annotated[int, Field(ge=1)] | None = None
    float_batch: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if isinstance(data.get("bits"), int):
            data["bits"] = (data["bits"], data["bits"])
        if data.get("algorithm", FLOAT) != FLOAT:
            for name, default in (("backend", "academic"), ("bits", (4, 4))):
                if data.get(name) is None:
                    data[name] = default
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.algorithm == FLOAT:
            quantized = (
                "backend",
                "bits",
                "bn_folding",
                "graph",
                "first_last_bits",
                *OVERRIDES,
                "weight_calibration",
                "activation_calibration",
                "calibration_images",
                "bn_calibration",
                "bias_correction",
                "quantizer_weight_decay",
                "tool",
                "float_seed",
                "float_epochs",
                "float_batch",
            )
            given = [
                name for name in quantized if getattr(self, name) != type(self).model_fields[name].default
            ]
            if given:
                raise ValueError(f"the float network takes no {', '.join(given)}; give an algorithm")
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give epochs or steps, not both: each says how long the training is")
        if self.bn_calibration and self.bias_correction:
            raise ValueError(
                "give bn_calibration or bias_correction, not both: each takes out the same shift of the means"
            )
        if self.weights is not None and not _WEIGHTS.fullmatch(self.weights):
            raise ValueError(
                f"weights must be timm, file:PATH or package:NAME, with or without ordered: before it, "
                f"got {self.weights!r}"
            )
        return self

    @property
    def key(self) -> str:
        """Stable name of this setting: 16 hexadecimal digits of a hash of its non-default fields.

        A field that is added later with a default leaves the keys of older settings as they are.
        """
        fields = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps([_KEY_VERSION, fields], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def float_setting(self) -> "Setting":
        """The float run that this one starts from (itself for a float run)."""
        if self.algorithm == FLOAT:
            return self
        return Setting(
            architecture=self.architecture,
            dataset=self.dataset,
            epochs=self.float_epochs,
            batch_size=self.float_batch,
            global_batch=self.float_batch,
            seed=self.float_seed,
            weights=self.weights,
        )

    @property
    def contestant(self) -> str:
        """What is compared with what: the algorithm, and in parentheses another tool that computes it."""
        return self.algorithm if self.tool == MQBENCH else f"{self.algorithm} ({self.tool})"

    @property
    def overrides(self) -> dict[str, Any]:
        """The fields of the backend that are replaced, and their values."""
        return {name: value for name in OVERRIDES if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        if self.algorithm == FLOAT:
            return f"{self.architecture} {self.dataset} float s{self.seed}"
        assert self.bits is not None
        bits = "w{}a{}".format(*self.bits)
        return f"{self.architecture} {self.dataset} {self.contestant} {self.backend} {bits} s{self.seed}"


class CurvePoint(_Value):
    """Training state after one epoch.

    Accuracies are top-1 in percent, the loss is the epoch's mean, the learning rate that of its last step.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_accuracy: float


class Provenance(_Value):
    """Where, when and with what a record was made; not part of its identity.

    ``seconds`` is the wall time of the run, ``data`` the fingerprint of the dataset, ``weights`` that of the
    float network's, ``device`` the processor's name.
    """

    started: str
    seconds: float
    hostname: str
    machine: str
    threads: int
    python: str
    versions: dict[str, str]
    git_revision: str | None = None
    compute: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    device: str | None = None
    data: str | None = None
    weights: str | None = None


Outcome = Literal["ok", "not_converged", "failed"]


class Record(_Value):
    """What came of one `Setting`. Accuracies are top-1 on the test set, in percent.

    ``outcome``: ``ok``; ``not_converged`` (NC of the paper; ``nc_kind`` tells exploding scale, fold blow-up,
    dead activations, chance accuracy and loss blow-up apart, ``reason`` says where and when); ``failed``
    (the run raised; the traceback is in ``error``). ``calibrated_accuracy`` is the quantized network's before
    training (after batch-norm calibration or bias correction, if any), ``agreement`` the share of test
    images, in percent, that it then classifies as the float network does, ``float_accuracy`` that of the
    float network it starts from. ``tool_version`` is that of another toolkit, where the setting names one.
    All but ``provenance`` is the same, bit for bit, whenever the same setting is run on the same machine.
    """

    schema_version: int = SCHEMA_VERSION
    setting: Setting
    outcome: Outcome
    accuracy: float | None = None
    float_accuracy: float | None = None
    calibrated_accuracy: float | None = None
    agreement: float | None = None
    deployable: bool = True
    tool_version: str | None = None
    nc_kind: str | None = None
    reason: str | None = None
    error: str | None = None
    curve: tuple[CurvePoint, ...] = ()
    provenance: Provenance | None = None
