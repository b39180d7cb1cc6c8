"""A reproducible and deployable benchmark for neural-network quantization.

Names are imported when they are first used, so that reading records never waits for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mqbench import paper as paper
    from mqbench.algorithm import fake_quantizer as fake_quantizer
    from mqbench.bias_correction import correct_bias as correct_bias
    from mqbench.calibration import calibrate as calibrate
    from mqbench.calibration import calibrate_bn as calibrate_bn
    from mqbench.catalog import Catalog
    from mqbench.conversion import convert as convert
    from mqbench.deploy.agreement import Agreement as Agreement
    from mqbench.deploy.bisection import bisect as bisect
    from mqbench.deploy.cures import cure as cure
    from mqbench.deploy.export import export as export
    from mqbench.deploy.latency import latency as latency
    from mqbench.deploy.network import to_integer as to_integer
    from mqbench.deploy.verification import verify as verify
    from mqbench.diagnosis.diagnose import diagnose as diagnose
    from mqbench.frame import records as records
    from mqbench.preparation import prepare as prepare
    from mqbench.preparation import quantization_off as quantization_off
    from mqbench.record import Record as Record
    from mqbench.record import Setting as Setting
    from mqbench.runner import run as run
    from mqbench.scheme import QParams as QParams
    from mqbench.scheme import QuantScheme as QuantScheme
    from mqbench.store import Store as Store

    algorithms: Catalog[Any]
    architectures: Catalog[Any]
    backends: Catalog[Any]
    observers: Catalog[Any]

# Catalogs are folders of this package, and are themselves the mappings.
_CATALOGS = ("algorithms", "architectures", "backends", "observers")
_PACKAGES = (*_CATALOGS, "paper")
_HOME = {
    "Agreement": "deploy.agreement",
    "QParams": "scheme",
    "QuantScheme": "scheme",
    "Record": "record",
    "Setting": "record",
    "Store": "store",
    "calibrate": "calibration",
    "calibrate_bn": "calibration",
    "convert": "conversion",
    "correct_bias": "bias_correction",
    "diagnose": "diagnosis.diagnose",
    "export": "deploy.export",
    "cure": "deploy.cures",
    "fake_quantizer": "algorithm",
    "latency": "deploy.latency",
    "prepare": "preparation",
    "quantization_off": "preparation",
    "records": "frame",
    "run": "runner",
    "to_integer": "deploy.network",
    "verify": "deploy.verification",
    "bisect": "deploy.bisection",
}

__all__ = ["__version__", *_HOME, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
