"""Every algorithm x role x scheme that it accepts, and data to feed them."""

import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import mqbench
from mqbench.algorithm import Algorithm
from mqbench.errors import IncompatibleError
from mqbench.quantizer import FakeQuantize, Role

SHAPE = (4, 6, 3)
FLAGS = (True, False)


@dataclass(frozen=True)
class Case:
    """One quantizer to be."""

    algorithm: str
    role: Role
    scheme: mqbench.QuantScheme
    adaptive_sign: bool = False

    def make(self, **options: Any) -> FakeQuantize:
        return mqbench.fake_quantizer(
            self.algorithm, self.role, scheme=self.scheme, adaptive_sign=self.adaptive_sign, **options
        )

    def ready(self, x: Tensor, *, training: bool = False) -> FakeQuantize:
        return self.make().initialize(x).train(training)

    @property
    def entry(self) -> Algorithm:
        entry: Algorithm = mqbench.algorithms[self.algorithm]
        return entry

    def __str__(self) -> str:
        s = self.scheme
        traits = ["sym" if s.symmetric else "asym", "i" if s.signed else "u"]
        traits += ["pc"] * s.per_channel + ["pot"] * s.power_of_two + ["adaptive"] * self.adaptive_sign
        return "-".join([self.algorithm, self.role, f"b{s.bits}", *traits])


def accepted(algorithm: str, role: Role, scheme: mqbench.QuantScheme) -> bool:
    try:
        mqbench.fake_quantizer(algorithm, role, scheme=scheme)
    except IncompatibleError:
        return False
    return True


def schemes() -> list[mqbench.QuantScheme]:
    grids = [
        mqbench.QuantScheme(
            bits=4, symmetric=symmetric, signed=signed, per_channel=per_channel, power_of_two=power_of_two
        )
        for symmetric, signed, per_channel, power_of_two in itertools.product(FLAGS, FLAGS, FLAGS, FLAGS)
    ]
    widths = [
        mqbench.QuantScheme(bits=bits, symmetric=symmetric, power_of_two=symmetric and bits != 3)
        for bits, symmetric in itertools.product((2, 3, 8, 16), FLAGS)
    ]
    return grids + widths


def all_cases() -> list[Case]:
    seen: dict[tuple[type[FakeQuantize], Role], str] = {}  # PACT's weights are DoReFa's
    cases = [
        Case(algorithm, role, scheme)
        for algorithm in mqbench.algorithms
        for role in get_args(Role)
        for scheme in schemes()
        if seen.setdefault((mqbench.algorithms[algorithm].quantizer_class(role), role), algorithm)
        == algorithm
        and accepted(algorithm, role, scheme)
    ]
    adaptive = [
        Case(case.algorithm, case.role, case.scheme, adaptive_sign=True)
        for case in cases
        if case.role == "activation"
        and case.scheme.bits == 4
        and case.scheme.symmetric
        and case.scheme.signed
    ]
    return cases + adaptive


CASES = all_cases()
UNIFORM = [case for case in CASES if case.entry.uniform]
NON_UNIFORM = [case for case in CASES if not case.entry.uniform]


def one_per_kind(cases: list[Case]) -> list[Case]:
    """The 4-bit cases without power-of-two scales, unless the algorithm has no other."""
    narrow = [case for case in cases if case.scheme.bits == 4]
    plain = {(c.algorithm, c.role) for c in narrow if not c.scheme.power_of_two}
    return [c for c in narrow if not c.scheme.power_of_two or (c.algorithm, c.role) not in plain]


def few_per_kind(cases: list[Case]) -> list[Case]:
    """Of those the signed ones, and not both per channel and asymmetric."""
    kinds = one_per_kind(cases)
    return [c for c in kinds if c.scheme.signed and (c.scheme.symmetric or not c.scheme.per_channel)]


def covering(cases: list[Case], features: Callable[[Case], set[Hashable]]) -> list[Any]:
    """The cases as parameters: a few that have every feature which any has, and the others marked slow."""
    found = {case: features(case) for case in cases}
    missing, chosen = set[Hashable]().union(*found.values()), set()
    while missing:
        best = max(cases, key=lambda case: len(found[case] & missing))
        chosen.add(best)
        missing -= found[best]
    return [pytest.param(case, marks=[pytest.mark.slow] * (case not in chosen)) for case in cases]


def traits(case: Case) -> list[tuple[str, Hashable]]:
    return [*sorted(vars(case.scheme).items()), ("adaptive_sign", case.adaptive_sign)]


def pairs(case: Case) -> set[Hashable]:
    """Every two traits, of every algorithm in every role."""
    return {(case.algorithm, case.role, *two) for two in itertools.combinations(traits(case), 2)}


def kinds(case: Case) -> set[Hashable]:
    """Every algorithm in every role, and every trait of each algorithm."""
    return {(case.algorithm, case.role), *((case.algorithm, trait) for trait in traits(case))}


def data(seed: int = 0, *, size: float = 1.0, shift: float = 0.0, nonnegative: bool = False) -> Tensor:
    """Values of mixed size with exact zeros among them, ``SHAPE``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SHAPE, generator=generator) * size + shift
    x[torch.rand(SHAPE, generator=generator) < 0.1] = 0.0
    return x.abs() if nonnegative else x


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Random tensors: size over six decades, off-centre or not, with and without negative values."""
    size = 10.0 ** draw(st.floats(-3, 3))
    return data(
        draw(st.integers(0, 2**31)),
        size=size,
        shift=size * draw(st.sampled_from([0.0, 0.0, 0.5, -2.0])),
        nonnegative=draw(st.booleans()),
    )


def channels_of(case: Case, x: Tensor) -> Tensor:
    """``x`` as [channels, values], one row if per tensor."""
    return x.flatten(1) if case.scheme.per_channel else x.reshape(1, -1)
