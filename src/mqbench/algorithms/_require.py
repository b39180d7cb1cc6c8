"""One form of refusal: what was got, what is allowed, and why."""

from mqbench.errors import IncompatibleError
from mqbench.scheme import QuantScheme


def require(met: bool, algorithm: str, *, got: str, allowed: str, reason: str) -> None:
    """Raise `IncompatibleError` unless ``met``."""
    if not met:
        raise IncompatibleError(f"{algorithm} cannot use {got}; allowed: {allowed}. {reason}")


def require_academic(algorithm: str, role: str, scheme: QuantScheme, *, scale: str) -> None:
    """Refuse what no academic-only algorithm has: a zero point, a power-of-two scale, unsigned weights.

    ``scale`` says what stands in place of Eq. 1's scale.
    """
    require(
        scheme.symmetric,
        algorithm,
        got="an asymmetric scheme",
        allowed="symmetric=True",
        reason="Its levels lie around zero and have no zero point",
    )
    require(
        not scheme.power_of_two,
        algorithm,
        got="a power-of-two scale",
        allowed="power_of_two=False",
        reason=scale,
    )
    require(
        scheme.signed or role == "activation",
        algorithm,
        got="an unsigned weight",
        allowed="signed=True for weights",
        reason="Weights have both signs, and an unsigned grid would clip half of them",
    )
