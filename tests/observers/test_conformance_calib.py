"""The calibration cases of SPEC section 13, through `mqbench.observers`."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mqbench import observers
from mqbench.scheme import QuantScheme

FOLDER = Path(os.environ.get("MQBENCH_CONFORMANCE") or Path(__file__).parents[1] / "conformance")
MANIFEST: dict[str, dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text())
CASES = {name: case for name, case in MANIFEST.items() if case["kind"] == "calib"}
METHODS = sorted({array[:-2] for case in CASES.values() for array in case["arrays"] if array.endswith("_s")})
CATALOG: Any = observers


@pytest.fixture(scope="module")
def vectors() -> dict[str, NDArray[Any]]:
    wanted = tuple(f"{name}/" for name in CASES)
    with np.load(FOLDER / "vectors.npz") as file:
        return {name: file[name] for name in file.files if name.startswith(wanted)}


def test_every_method_of_the_vectors_is_an_observer() -> None:
    assert set(METHODS) <= set(CATALOG)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_case(
    vectors: dict[str, NDArray[Any]], name: str, method: str, parts: int, dtype: torch.dtype
) -> None:
    case, axis = CASES[name], CASES[name]["axis"]
    scheme = QuantScheme(
        bits=case["bits"],
        symmetric=case["symmetric"],
        signed=case["signed"],
        per_channel=axis is not None,
        power_of_two=case.get("pot", False),
    )
    observer = CATALOG[method](scheme, channel_axis=axis)
    for part in torch.from_numpy(vectors[f"{name}/x"]).to(dtype).chunk(parts, dim=0 if axis is None else 1):
        observer.observe(part)
    found = observer.qparams()

    assert found.scale.dtype == dtype
    assert found.zero_point.dtype == torch.int32
    np.testing.assert_array_equal(found.zero_point.numpy(), vectors[f"{name}/{method}_z"])
    losses = vectors.get(f"{name}/{method}_loss")
    if losses is None:
        np.testing.assert_allclose(found.scale.numpy(), vectors[f"{name}/{method}_s"], rtol=1e-5)
        return
    # any candidate whose recorded loss is within 0.1 % of the least
    ratio = found.scale.double().numpy() / vectors[f"{name}/minmax_s"]
    index = np.rint((1 - ratio) * 100).astype(int)
    np.testing.assert_allclose(ratio, 1 - 0.01 * index, rtol=1e-5)
    loss = np.take_along_axis(losses, index[None], axis=0)[0] if axis is not None else losses[index]
    assert (loss <= 1.001 * losses.min(axis=0)).all()
