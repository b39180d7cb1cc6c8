"""The choices of one preparation, checked against each other before anything is computed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import get_args

from mqbench import algorithms as algorithm_catalog
from mqbench import backends as backend_catalog
from mqbench.algorithm import Algorithm, fake_quantizer
from mqbench.backends._base import Backend, Overrides
from mqbench.errors import IncompatibleError, RequestError
from mqbench.folding._base import Folding, by_number
from mqbench.quantizer import FakeQuantize, Role
from mqbench.scheme import QuantScheme

PLAIN = "minmax"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The choices of one preparation, each checked against the others.

    Raises:
        UnknownNameError: no such backend or algorithm.
        IncompatibleError: choices that cannot work together.
    """

    backend: str
    algorithm: str
    bits: tuple[int, int]
    bn_folding: int
    graph: int
    first_last_bits: int = 8
    overrides: Overrides = Overrides()  # noqa: RUF009 (frozen)
    layer_bits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        *,
        backend: str,
        algorithm: str,
        bits: int | tuple[int, int] = 4,
        bn_folding: int | None = None,
        graph: int | None = None,
        first_last_bits: int = 8,
        overrides: Overrides = Overrides(),  # noqa: B008 (frozen)
        layer_bits: Mapping[str, int] = MappingProxyType({}),
    ) -> "Plan":
        """Fill what is None from the backend, and check everything."""
        for name in (backend, algorithm):
            if not isinstance(name, str):
                raise RequestError(f"backend and algorithm are names, got {name!r}")
        library: Backend = backend_catalog[backend]
        pair = bits if isinstance(bits, (tuple, list)) else (bits, bits)
        if len(pair) != 2:
            raise RequestError(f"bits must be one integer or (weight, activation), got {bits!r}")
        plan = cls(
            backend=backend,
            algorithm=algorithm,
            bits=(pair[0], pair[1]),
            bn_folding=library.bn_folding if bn_folding is None else bn_folding,
            graph=library.graph if graph is None else graph,
            first_last_bits=first_last_bits,
            overrides=overrides,
            layer_bits=dict(layer_bits),
        )
        plan.check()
        return plan

    @property
    def library(self) -> Backend:
        """The backend's values, with the overrides in their place."""
        library: Backend = backend_catalog[self.backend]
        return library.replaced(self.overrides)

    @property
    def method(self) -> Algorithm:
        """The algorithm's value."""
        method: Algorithm = algorithm_catalog[self.algorithm]
        return method

    @property
    def folding(self) -> Folding:
        """The BN-folding strategy."""
        return by_number(self.bn_folding)

    def check(self) -> None:
        """Raise unless algorithm, backend, bits, folding and graph go together."""
        by_number(self.bn_folding)
        QuantScheme(bits=self.first_last_bits)
        if self.graph not in (1, 2, 3):
            raise RequestError(f"graph must be 1, 2 or 3, got {self.graph!r}")
        if self.graph == 1 and self.overrides.shared_concat is not None:
            raise IncompatibleError(
                "graph 1 leaves concats in float, so shared_concat would change nothing; leave it out"
            )
        if not self.method.deployable:
            self._check_academic()
        for role in get_args(Role):
            self.quantizer_class(role, False).check_scheme(role, self.scheme(role, False))
            self.quantizer_class(role, True).check_scheme(role, self.scheme(role, True))
            for layer in self.layer_bits:
                chosen = self.quantizer_class(role, False, (layer,))
                chosen.check_scheme(role, self.scheme(role, False, (layer,)))

    def _check_academic(self) -> None:
        reason = f"{self.algorithm!r} has no integer form that an inference library runs"
        if self.library.integer:
            allowed = [name for name in backend_catalog if not backend_catalog[name].integer]
            raise IncompatibleError(
                f"{reason}, so backend {self.backend!r} cannot take it; allowed: {', '.join(allowed)}"
            )
        if self.graph != 1 or self.bn_folding != -1:
            raise IncompatibleError(
                f"{reason}, so it takes graph 1 and bn_folding -1 only, "
                f"got graph {self.graph} and bn_folding {self.bn_folding}"
            )

    def bits_of(self, role: Role, first_or_last: bool, layers: Iterable[str] = ()) -> int:
        """Bits of a weight, or of a tensor that enters some layers: the most that one of them asks for."""
        usual = self.first_last_bits if first_or_last else self.bits[role == "activation"]
        return max((self.layer_bits[layer] for layer in layers if layer in self.layer_bits), default=usual)

    def scheme(self, role: Role, first_or_last: bool, layers: Iterable[str] = ()) -> QuantScheme:
        """The integer grid of a role."""
        bits = self.bits_of(role, first_or_last, layers)
        return self.library.weight_scheme(bits) if role == "weight" else self.library.activation_scheme(bits)

    def algorithm_of(self, role: Role, first_or_last: bool, layers: Iterable[str] = ()) -> str:
        """The algorithm, or plain min-max where the paper's 8-bit first and last layer use it."""
        wide = first_or_last and self.bits_of(role, True, layers) >= 8
        return PLAIN if wide and role in self.method.plain_at_first_last else self.algorithm

    def quantizer_class(
        self, role: Role, first_or_last: bool, layers: Iterable[str] = ()
    ) -> type[FakeQuantize]:
        """The fake quantizer class of a role."""
        method: Algorithm = algorithm_catalog[self.algorithm_of(role, first_or_last, layers)]
        return method.quantizer_class(role)

    def quantizer(
        self, role: Role, first_or_last: bool, *, layers: Iterable[str] = (), channels: int | None = None
    ) -> FakeQuantize:
        """A new fake quantizer, for a layer's weight or for a tensor that enters some layers."""
        named = tuple(layers)
        return fake_quantizer(
            self.algorithm_of(role, first_or_last, named),
            role,
            scheme=self.scheme(role, first_or_last, named),
            channel_axis=0,
            channels=channels,
            adaptive_sign=role == "activation" and self.library.adaptive_sign,
        )
