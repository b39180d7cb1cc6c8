"""Names of datasets that have no file."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mqbench import data
from mqbench.catalog import load
from mqbench.data._base import Preprocessing
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


def test_the_dataset_of_the_page(tmp_path: Path) -> None:
    """The example of docs/data.md, loaded as a user's file."""
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n# (my_set\.py)\n(.*?)```", page, re.DOTALL)
    assert found is not None
    (tmp_path / found[1]).write_text(found[2], encoding="utf-8")
    try:
        assert load(tmp_path / "my_set.py") == ["mqbench.data"]
        assert catalog.describe("my_set") == "Two classes of stripes: horizontal and vertical."
        splits = catalog["my_set"].open(None, Preprocessing())
        images, labels = next(splits.train.batches([torch.tensor([0, 3])]))
        assert images.shape == (2, *splits.image_shape)
        assert labels.tolist() == [0, 1]
    finally:
        catalog._added.pop("my_set", None)
