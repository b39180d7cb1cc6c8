"""The command that makes a run again."""

import shlex
from typing import Any

from mqbench.record import FLOAT, Setting

_BASIC = ("architecture", "dataset", "algorithm", "backend", "bits", "seed")
_OPTIONS = {"seed": "seeds"}


def command(setting: Setting) -> str:
    """``mqbench run`` with the setting's fields that are not at their default.

    >>> command(Setting(architecture="resnet18", dataset="imagenet", algorithm="lsq", backend="tvm", bits=(4, 8)))
    'mqbench run --architecture resnet18 --dataset imagenet --algorithm lsq --backend tvm --bits w4a8 --seeds 0'
    """
    words = ["mqbench", "run"]
    for name, field in Setting.model_fields.items():
        value = getattr(setting, name)
        basic = name in _BASIC and (setting.algorithm != FLOAT or name not in ("backend", "bits"))
        if basic or value != field.default:
            option = _OPTIONS.get(name, name).replace("_", "-")
            words += [f"--{option}", shlex.quote(_written(name, value))]
    return " ".join(words)


def _written(name: str, value: Any) -> str:
    if name == "bits":
        return "w{}a{}".format(*value)
    return str(value).lower() if isinstance(value, bool) else str(value)
