"""The fake quantizer: one object owns the integers, the scale and the zero point of one tensor."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from mqbench import functional as F
from mqbench import observers as observer_catalog
from mqbench.errors import CalibrationError, IncompatibleError, RequestError
from mqbench.fused import opaque
from mqbench.fused.activation import Activation, clip_of
from mqbench.fused.incoming import Incoming, incoming, recipe_of
from mqbench.fused.norm import Deferred
from mqbench.fused.recompute import Recipe
from mqbench.observation import Observation, at_least_float
from mqbench.observers._base import Observer
from mqbench.scheme import QParams, QuantScheme

Role = Literal["weight", "activation"]


class FakeQuantize(nn.Module, ABC):
    """Base of every quantization algorithm: quantizes and dequantizes one weight or activation.

    A subclass holds the mathematics: `fake_quantize` (differentiable), `qparams` (scale and zero point as
    deployed), `apply_qparams` (how calibrated parameters become its own), and, where its integers are
    not plain Eq. 1 of the input, `transform` or `integer_range`.

    Args:
        role: ``"weight"`` or ``"activation"``.
        scheme: the integer grid. Per-channel is for weights only.
        channel_axis: axis of the output channels, used if the scheme is per-channel (default 0).
        channels: their number, if known already; otherwise taken from the data.
        adaptive_sign: switch to the unsigned range if the calibration data has no negative value.

    Raises:
        RequestError: a role that does not exist, or a channel axis that cannot be one.
        IncompatibleError: a scheme that this algorithm cannot use.

    Attributes:
        scheme: the grid in use (after the adaptive sign was decided).
        nonnegative: whether the calibration data had no negative value.
        enabled: with False the input passes through unchanged.
        feeds_layers: only quantized layers read the output, of data: in a model that is compiled they quantize it.
        batches_per_step: batches (of other processes, or accumulated) that share an optimizer step with
            each that passes; a gradient scale that counts elements counts theirs.
        calibrated_with: the observer of the last calibration, None for the algorithm's own.
        observer: the algorithm's own choice of calibration.
        needs_calibration: refuses to work before it has seen data.
        uses_observer: a calibration that the user chooses makes a difference.
        no_decay: names of parameters that weight decay leaves alone.
    """

    observer: ClassVar[str] = "minmax"
    needs_calibration: ClassVar[bool] = True
    uses_observer: ClassVar[bool] = True
    no_decay: ClassVar[tuple[str, ...]] = ()

    nonnegative: Tensor
    initialized: Tensor

    def __init__(
        self,
        role: Role,
        scheme: QuantScheme,
        *,
        channel_axis: int | None = None,
        channels: int | None = None,
        adaptive_sign: bool = False,
    ) -> None:
        super().__init__()
        if role not in get_args(Role):
            raise RequestError(f"role must be 'weight' or 'activation', got {role!r}")
        if role == "activation" and scheme.per_channel:
            raise IncompatibleError("activations are quantized per tensor; per-channel is for weights only")
        if channel_axis is not None and (isinstance(channel_axis, bool) or not isinstance(channel_axis, int)):
            raise RequestError(f"a channel axis must be an integer, got {channel_axis!r}")
        self.check_scheme(role, scheme)
        self.role: Role = role
        self._signed_scheme = scheme
        self.adaptive_sign = adaptive_sign
        self.channel_axis = (channel_axis or 0) if scheme.per_channel else None
        self.channels = channels if scheme.per_channel else None
        self.enabled = True
        self.feeds_layers = False
        self.batches_per_step = 1
        self.calibrated_with: str | None = None
        self._observation: Observation | None = None
        self._ready = not self.needs_calibration
        self._nonnegative = False
        self.register_buffer("nonnegative", torch.tensor(False))
        self.register_buffer("initialized", torch.tensor(self._ready))

    # -- what a subclass defines ------------------------------------------------------------------

    @classmethod
    def check_scheme(cls, role: Role, scheme: QuantScheme) -> None:
        """Raise `IncompatibleError` with the reason if this algorithm cannot use the scheme."""

    @abstractmethod
    def fake_quantize(self, x: Tensor) -> Tensor:
        """Quantize and dequantize ``x``, with the algorithm's gradients."""

    @abstractmethod
    def qparams(self) -> QParams:
        """Scale and zero point as deployed (after power-of-two rounding, if any)."""

    @abstractmethod
    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:
        """Set the algorithm's parameters from calibration.

        ``own`` tells that the observer is the algorithm's own choice (`observer`), so that an
        initialisation that the paper fixes applies; otherwise the user chose the calibration.
        """

    def fake_quantize_incoming(self, x: Incoming) -> Tensor:
        """`fake_quantize` of a tensor with a batch norm or an activation function still to be computed.

        A subclass that ends in `functional.apply` gets all of it in one pass.
        """
        return self.fake_quantize(x.whole())

    def transform(self, x: Tensor) -> Tensor:
        """What Eq. 1 is applied to (DoReFa: the normalised tanh of the weight)."""
        return x

    def refresh(self, x: Tensor) -> None:
        """Recompute what follows the transformed tensor at every step (a weight's own range)."""

    def integer_range(self) -> tuple[int, int]:
        """Smallest and largest integer that `quantize` gives."""
        return self.scheme.quant_min, self.scheme.quant_max

    @property
    def joint_batches(self) -> int:
        """Batches whose elements share an optimizer step: for weights always one."""
        return self.batches_per_step if self.role == "activation" else 1

    # -- the public face --------------------------------------------------------------------------

    @property
    def scheme(self) -> QuantScheme:
        """The grid in use."""
        if self.adaptive_sign and self._nonnegative:
            return replace(self._signed_scheme, signed=False)
        return self._signed_scheme

    @property
    def scale(self) -> Tensor:
        """Scale as deployed: 0-d, or ``[channels]``."""
        return self.qparams().scale

    @property
    def zero_point(self) -> Tensor:
        """Zero point as deployed, int32: 0-d, or ``[channels]``."""
        return self.qparams().zero_point

    def forward(
        self, x: Tensor | Deferred, activation: Activation | None = None, gain: Tensor | None = None
    ) -> Tensor | Recipe:
        """Fake-quantize ``x`` (any shape, floating point); unchanged while disabled or observing.

        Within a prepared network the batch norm and the ``activation`` function before it may be left to
        the quantizer, or the product of a weight with ``gain`` ``[channels]``: what is quantized, observed or
        passed through is then their result.
        """
        clip = None if activation is None else clip_of(activation)
        arrived = incoming(x, clip, gain)
        if self._observation is not None or not self.enabled:
            tensor = arrived.whole()
            if self._observation is not None and self._observation.active:
                self.observe(tensor)
            return tensor
        self._check_ready()
        dtype = arrived.tensor.dtype
        if not dtype.is_floating_point:
            raise RequestError(f"a fake quantizer takes floating-point tensors, got {dtype}")
        if dtype.itemsize == 2:
            arrived = Incoming(arrived.with_norm().tensor.float(), None, clip)
        if self.feeds_layers and opaque.sees(arrived.tensor) and not self._forward_hooks:
            return recipe_of(self.fake_quantize_incoming, arrived)
        plain = arrived.norm is None and clip is None and arrived.gain is None
        y = self.fake_quantize(arrived.tensor) if plain else self.fake_quantize_incoming(arrived)
        return y if dtype is y.dtype else y.to(dtype)

    @torch.no_grad()
    def quantize(self, x: Tensor) -> Tensor:
        """Integers of ``x``: int32, same shape, within [quant_min, quant_max]."""
        self._check_ready()
        transformed = self.transform(at_least_float(x))
        self.refresh(transformed)
        scale, zero_point = self._broadcast_qparams(transformed)
        return F.quantize(transformed, scale, zero_point, *self.integer_range())

    @torch.no_grad()
    def dequantize(self, q: Tensor) -> Tensor:
        """Real values of the integers of `quantize`: (q - zero_point) scale."""
        qparams = self.qparams()
        scale, zero_point = (
            F.broadcast(p, q, self.channel_axis) for p in (qparams.scale, qparams.zero_point)
        )
        return F.dequantize(q, scale, zero_point)

    def initialize(self, x: Tensor) -> Self:
        """Set every parameter from one tensor of data, by the algorithm's own initialisation.

        Raises:
            CalibrationError: ``x`` is empty or not finite.
        """
        self.begin_calibration()
        self.observe(x)
        self.end_calibration()
        return self

    # -- calibration over many batches ------------------------------------------------------------

    def begin_calibration(self, observer: str | None = None, name: str = "this quantizer") -> None:
        """Start observing: from now on `forward` passes its input through and learns from it.

        ``name`` is what errors call the quantizer.
        """
        chosen = observer_catalog[observer or self.observer]
        made = chosen(self._signed_scheme, channel_axis=self.channel_axis)
        self._observation = Observation(made, observer, name)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take one more batch of calibration data."""
        assert self._observation is not None
        self._observation.take(x, self.transform)

    def pause_calibration(self) -> None:
        """Observe no more, but pass inputs through until `end_calibration`."""
        assert self._observation is not None
        self._observation.active = False

    def cancel_calibration(self) -> None:
        """Forget what was observed; the parameters stay as they were."""
        self._observation = None

    @torch.no_grad()
    def end_calibration(self) -> None:
        """Turn what was observed into parameters, and quantize from now on."""
        observation, self._observation = self._observation, None
        assert observation is not None
        if (observer := observation.observer).count == 0:
            raise CalibrationError(f"no calibration data reached {observation.name}")
        self._set_sign(bool((observer.minimum >= 0).all()))
        observer.scheme = self.scheme
        self.apply_qparams(observer.qparams(), observer, own=observation.own)
        self.calibrated_with = observation.chosen
        self._ready = True
        self.initialized.fill_(True)

    # -- state --------------------------------------------------------------------------------------

    def _set_sign(self, nonnegative: bool) -> None:
        self._nonnegative = nonnegative
        self.nonnegative.fill_(nonnegative)

    def _check_ready(self) -> None:
        if not self._ready:
            raise CalibrationError(
                "this quantizer has no parameters yet: call mqbench.calibrate(model, batches), "
                "or initialize(x) on the quantizer itself, first"
            )

    def _broadcast_qparams(self, x: Tensor) -> tuple[Tensor, Tensor]:
        qparams = self.qparams()
        return tuple(
            F.broadcast(p, x, self.channel_axis).to(x.dtype) for p in (qparams.scale, qparams.zero_point)
        )  # type: ignore[return-value]

    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of a per-tensor or per-channel parameter: ``()`` or ``(channels,)``."""
        return () if self.channel_axis is None else (self.channels or 1,)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # a per-channel quantizer built without data takes its number of channels from the checkpoint
        for name, own in [*self._parameters.items(), *self._buffers.items()]:
            loaded = state_dict.get(prefix + name)
            if own is None or loaded is None or self.channel_axis is None or loaded.dim() == 0:
                continue
            fits = own.dim() > 0 and own.shape[1:] == loaded.shape[1:]
            if fits and own.shape != loaded.shape and self.channels in (None, len(loaded)):
                own.data = own.data.new_empty(loaded.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._ready = bool(self.initialized)
        self._nonnegative = bool(self.nonnegative)
        self.loaded()

    def loaded(self) -> None:
        """Called after a checkpoint was loaded, for what is derived from buffers."""

    def extra_repr(self) -> str:
        """Role and grid, for printing."""
        return f"{self.role}, {self.scheme.description}"
