"""What an algorithm does to one number: its forward map and its gradient, sampled."""

from dataclasses import dataclass

import torch

from mqbench import algorithms as algorithm_catalog
from mqbench.algorithm import Algorithm, fake_quantizer
from mqbench.errors import IncompatibleError
from mqbench.quantizer import Role
from mqbench.scheme import QuantScheme

POINTS = 601
RANGES: dict[Role, tuple[float, float]] = {"weight": (-2.2, 2.2), "activation": (-1.0, 7.0)}
DATA: dict[Role, tuple[float, float]] = {"weight": (0.0, 0.5), "activation": (0.0, 2.0)}


@dataclass(frozen=True)
class Response:
    """Samples of y(x) and dy/dx of one quantizer."""

    algorithm: str
    role: Role
    scheme: QuantScheme
    x: list[float]
    y: list[float]
    slope: list[float]


def response(algorithm: str, role: Role, bits: int = 3) -> Response:
    """Sample a quantizer over its role's range, with its parameters set from Gaussian data (seed 0).

    Weights are symmetric and signed, activations unsigned (a rectified Gaussian); an algorithm that needs
    power-of-two scales gets them. Weight quantizers see each sample among the data, because their range
    follows the whole tensor, and the slope is that of a sample alone.

    Raises:
        UnknownNameError: no such algorithm.
        IncompatibleError: the algorithm takes no such grid.
    """
    scheme = _scheme(algorithm, role, bits)
    generator = torch.Generator().manual_seed(0)
    mean, deviation = DATA[role]
    data = mean + deviation * torch.randn(64, 128, generator=generator)
    data = data.relu() if role == "activation" else data
    quantizer = fake_quantizer(algorithm, role, scheme=scheme).initialize(data).eval()
    x = torch.linspace(*RANGES[role], POINTS)
    joined = torch.cat([x, data.flatten()]).requires_grad_()
    y = quantizer(joined)
    (slope,) = torch.autograd.grad(y[:POINTS].sum(), joined)
    return Response(
        algorithm, role, scheme, x.tolist(), y[:POINTS].detach().tolist(), slope[:POINTS].tolist()
    )


def _scheme(algorithm: str, role: Role, bits: int) -> QuantScheme:
    method: Algorithm = algorithm_catalog[algorithm]
    signed = role == "weight"
    plain = QuantScheme(bits=bits, signed=signed)
    try:
        method.quantizer_class(role).check_scheme(role, plain)
    except IncompatibleError:
        return QuantScheme(bits=bits, signed=signed, power_of_two=True)
    return plain
