"""What an inference library computes, as frozen values (paper Table 2 and appendix E, SPEC section 10)."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from mqbench.errors import RequestError
from mqbench.scheme import QuantScheme

Granularity = Literal["per_tensor", "per_channel"]


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Single properties in place of a backend's; None keeps the backend's.

    Args:
        granularity: of the weights' scales, ``per_tensor`` or ``per_channel``.
        symmetric_weights, symmetric_activations: whether the zero point is fixed at 0.
        power_of_two: whether all scales are powers of two.
        adaptive_sign: whether activations turn unsigned where calibration saw no negative value.
        shared_concat: whether the inputs of a concat share one quantizer (graphs 2 and 3).

    Raises:
        RequestError: a granularity that does not exist, or a switch that is not true or false.
    """

    granularity: Granularity | None = None
    symmetric_weights: bool | None = None
    symmetric_activations: bool | None = None
    power_of_two: bool | None = None
    adaptive_sign: bool | None = None
    shared_concat: bool | None = None

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            allowed = ("per_tensor", "per_channel") if name == "granularity" else (True, False)
            if value not in allowed or (name != "granularity" and not isinstance(value, bool)):
                options = " or ".join(str(option) for option in allowed)
                raise RequestError(f"{name} must be {options}, got {value!r}")

    @property
    def given(self) -> dict[str, Any]:
        """The properties that are replaced."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One inference library.

    Args:
        library, provider, hardware: as in the paper's Table 2.
        weight, activation: the grids; their bits are replaced by those of the run.
        graph: 1, 2 or 3: which tensors are quantized (paper Fig. 4).
        bn_folding: folding strategy, -1 to 4.
        adaptive_sign: activations turn unsigned where calibration saw no negative value.
        shared_concat: the inputs of a concat share one quantizer; without effect in graph 1, where
            concats are float.
        integer: runs on integers, so that only deployable algorithms make sense.
        form: of its ONNX file, a name from ``mqbench.deploy.forms``.

    Raises:
        RequestError: per-channel activations, a graph or a strategy that does not exist.
    """

    library: str
    provider: str
    hardware: str
    weight: QuantScheme
    activation: QuantScheme
    graph: Literal[1, 2, 3]
    bn_folding: int
    adaptive_sign: bool = False
    shared_concat: bool = True
    integer: bool = True
    form: str = "onnxruntime"

    def __post_init__(self) -> None:
        if self.activation.per_channel:
            raise RequestError(f"{self.library}: activations are quantized per tensor, got per-channel")
        if self.graph not in (1, 2, 3):
            raise RequestError(f"{self.library}: graph must be 1, 2 or 3, got {self.graph}")
        if self.bn_folding not in range(-1, 5):
            raise RequestError(f"{self.library}: bn_folding must be -1 to 4, got {self.bn_folding}")

    @property
    def properties(self) -> Overrides:
        """What `Overrides` may replace, as this backend has it."""
        return Overrides(
            granularity="per_channel" if self.weight.per_channel else "per_tensor",
            symmetric_weights=self.weight.symmetric,
            symmetric_activations=self.activation.symmetric,
            power_of_two=self.weight.power_of_two and self.activation.power_of_two,
            adaptive_sign=self.adaptive_sign,
            shared_concat=self.shared_concat,
        )

    def replaced(self, overrides: Overrides) -> "Backend":
        """This backend with single properties replaced."""
        given = overrides.given

        def grid(scheme: QuantScheme, symmetric: str) -> QuantScheme:
            return replace(
                scheme,
                symmetric=given.get(symmetric, scheme.symmetric),
                power_of_two=given.get("power_of_two", scheme.power_of_two),
            )

        weight = grid(self.weight, "symmetric_weights")
        if "granularity" in given:
            weight = replace(weight, per_channel=given["granularity"] == "per_channel")
        return replace(
            self,
            weight=weight,
            activation=grid(self.activation, "symmetric_activations"),
            adaptive_sign=given.get("adaptive_sign", self.adaptive_sign),
            shared_concat=given.get("shared_concat", self.shared_concat),
        )

    def weight_scheme(self, bits: int) -> QuantScheme:
        """The weight grid at a bit-width."""
        return replace(self.weight, bits=bits)

    def activation_scheme(self, bits: int) -> QuantScheme:
        """The activation grid at a bit-width."""
        return replace(self.activation, bits=bits)
