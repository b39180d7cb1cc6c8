"""A pass that writes over its inputs computes the same numbers, and only there where nobody looks."""

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.errors import CalibrationError
from mqbench.overwriting import overwriting


class Net(nn.Module):
    """What may be written over and what may not: forks, shortcuts, an addition that broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv3, self.conv4 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(x))
        x = torch.relu(y + x)
        z = self.conv3(x)
        x = nn.functional.relu6(z) + z
        x = self.conv4(x) + x  # [N, 1, H, W] + [N, 4, H, W]
        return self.fc(nn.functional.hardtanh(x).mean((2, 3)))


def prepared(backend: str) -> torch.fx.GraphModule:
    torch.manual_seed(0)
    found = mqbench.prepare(Net(), torch.randn(2, 3, 8, 8), backend=backend, algorithm="ptq", bits=4)
    assert isinstance(found, torch.fx.GraphModule)
    return found


@pytest.mark.parametrize("backend", list(mqbench.backends))
def test_the_numbers_are_the_same_and_the_graph_comes_back(backend: str) -> None:
    q = prepared(backend).eval()
    x = torch.randn(2, 3, 8, 8)
    mqbench.calibrate(q, [x])
    code = q.code
    with torch.no_grad(), mqbench.quantization_off(q):
        kept = x.clone()
        expected = q(x)
        with overwriting(q):
            assert "relu_" in q.code
            found = q(x)
        again = q(x)
    assert torch.equal(found, expected)
    assert torch.equal(again, expected)
    assert torch.equal(x, kept)
    assert q.code == code


@pytest.mark.parametrize("backend", ["academic", "snpe"])
def test_what_a_hook_sees_stays(backend: str) -> None:
    q = prepared(backend)
    x = torch.randn(2, 3, 8, 8)
    outputs: list[Tensor] = []
    plain: list[Tensor] = []
    with torch.no_grad(), mqbench.quantization_off(q):
        watched = [
            m for m in q.modules() if isinstance(m, nn.BatchNorm2d | nn.Linear) or hasattr(m, "folding")
        ]
        for module in watched:
            module.register_forward_hook(lambda _, __, output: outputs.append(output))
        q.eval()(x)
        plain, outputs[:] = [o.clone() for o in outputs], []
        with overwriting(q):
            q(x)
    assert len(plain) == len(outputs) > 4
    assert all(torch.equal(a, b) for a, b in zip(plain, outputs, strict=True))


def test_the_graph_comes_back_after_an_error() -> None:
    q = prepared("academic")
    code = q.code
    with pytest.raises(CalibrationError):
        mqbench.calibrate(q, [torch.full((2, 3, 8, 8), torch.nan)])
    assert q.code == code
