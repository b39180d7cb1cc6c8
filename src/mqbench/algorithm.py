"""What an algorithm is, and the fake quantizer that it makes of a weight or an activation."""

from dataclasses import dataclass, field
from typing import get_args

from mqbench import algorithms as algorithm_catalog
from mqbench.errors import RequestError
from mqbench.quantizer import FakeQuantize, Role
from mqbench.scheme import QuantScheme


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One quantization algorithm: a fake quantizer for weights and one for activations.

    Args:
        weight, activation: the `FakeQuantize` classes.
        uniform: levels are equally spaced, so that integers with a scale describe them (Eq. 1).
        deployable: an integer inference library can run the result.
        plain_at_first_last: roles that the 8-bit first and last layer quantize by plain min-max instead
            (SPEC section 7).
    """

    weight: type[FakeQuantize]
    activation: type[FakeQuantize]
    uniform: bool = True
    deployable: bool = True
    plain_at_first_last: frozenset[Role] = field(default=frozenset())

    def quantizer_class(self, role: Role) -> type[FakeQuantize]:
        """The fake quantizer class of a role."""
        if role not in get_args(Role):
            raise RequestError(f"role must be 'weight' or 'activation', got {role!r}")
        return self.weight if role == "weight" else self.activation


def fake_quantizer(
    algorithm: str,
    role: Role,
    *,
    scheme: QuantScheme,
    channel_axis: int | None = None,
    channels: int | None = None,
    adaptive_sign: bool = False,
) -> FakeQuantize:
    """Make the fake quantizer of an algorithm for a weight or an activation.

    Args:
        algorithm: a name from ``mqbench.algorithms``.
        role: ``"weight"`` or ``"activation"``.
        scheme: the integer grid.
        channel_axis: axis of the output channels; used only if ``scheme.per_channel``.
        channels: their number, if known already.
        adaptive_sign: use the unsigned range if the calibration data has no negative value.

    Raises:
        UnknownNameError: no such algorithm.
        IncompatibleError: the algorithm cannot use the scheme.

    >>> import torch, mqbench
    >>> fq = mqbench.fake_quantizer("lsq", "weight", scheme=mqbench.QuantScheme(bits=4))
    >>> w = torch.linspace(-1, 1, 64)
    >>> y = fq.initialize(w)(w)
    >>> bool(torch.equal(y, (fq.quantize(w) - fq.zero_point) * fq.scale))
    True
    """
    method: Algorithm = algorithm_catalog[algorithm]
    quantizer = method.quantizer_class(role)
    return quantizer(role, scheme, channel_axis=channel_axis, channels=channels, adaptive_sign=adaptive_sign)
