"""Names of datasets that have no file."""

import subprocess
import sys
from typing import Any

import pytest

from mqbench import data
from mqbench.data._name import OpenName
from mqbench.errors import RequestError, UnknownNameError

catalog: Any = data


def test_parts() -> None:
    assert OpenName.parse("hub:me/mine:large") == OpenName("hub", "me/mine:large", {})
    assert OpenName.parse("folder:a/b c?image=img&keep=stream") == OpenName(
        "folder", "a/b c", {"image": "img", "keep": "stream"}
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder:", "names nothing behind 'folder:'"),
        ("hub:?label=y", "names nothing behind 'hub:'"),
        ("hub:mine", "must be hub:OWNER/NAME or hub:OWNER/NAME:CONFIG"),
        (
            "folder:set?lable=y",
            r"option 'lable' \(did you mean 'label'\?\); allowed: image, label, config, augment",
        ),
        ("folder:set?label", "label must be one of a name, got ''"),
        ("folder:set?augment=mixup", "augment must be one of padded_crop, resized_crop, none, got 'mixup'"),
        ("folder:set?keep=disk", "keep must be one of memory, stream, got 'disk'"),
    ],
)
def test_what_is_refused_at_the_door(name: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        catalog.check(name)


def test_other_names_are_files() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10'"):
        catalog.check("cifar")
    with pytest.raises(UnknownNameError):
        catalog.check("ftp:somewhere")
    assert {"cifar10", "digits", "imagenet", "imagenet_sample"} <= set(catalog)


def test_names_are_checked_without_torch() -> None:
    code = "import sys; from mqbench import data; data.check('folder:x?label=y'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
