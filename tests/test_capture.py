"""Capture: what real models do, and what a refusal says."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from mqbench.capture import capture
from mqbench.errors import CaptureError


def conv_bn(channels: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))


class Inplace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.stem(x))
        y = F.hardtanh_(self.conv(x), 0, 6)
        y += x
        return F.relu(y, inplace=True) * x


class NormActivation(nn.BatchNorm2d):
    """A batch norm with its activation inside, as timm has it."""

    def forward(self, x: Tensor) -> Tensor:
        norm = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
        )
        return F.silu(norm)


class SamePadding(nn.Module):
    """TensorFlow's SAME padding, computed from the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = NormActivation(4)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        pad_h = max((-(height // -2) - 1) * 2 + 3 - height, 0)
        pad_w = max((-(width // -2) - 1) * 2 + 3 - width, 0)
        x = F.pad(x, [pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2])
        return self.norm(self.conv(x))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn()
        self.conv = nn.Conv2d(4, 4, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.drop(self.conv(self.drop(self.conv(x))) + x)


class OneWeightTwoUses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + F.conv2d(x, self.conv.weight, self.conv.bias, padding=2, dilation=2)


class FunctionalWeight(nn.Module):
    """Parameters that are not called weight and bias, and a weight that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(6, 4))
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        standard = self.kernel - self.kernel.mean((1, 2, 3), keepdim=True)
        return F.linear(F.conv2d(x, standard).mean((2, 3)), self.projection)


class ThroughView(nn.Module):
    """Writes into a slice; the base must see it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, :2].mul_(2).relu_()
        return y


class ThroughOtherViews(nn.Module):
    """Writes through views that reorder or reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.transpose(1, 2).relu_()
        y.view(x.shape[0], 2, -1).mul_(3)
        y.permute(0, 3, 1, 2)[:, 0].add_(1)
        y.flatten(2).unsqueeze(1).sub_(0.5)
        return y


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.stem(x).flatten(2).transpose(1, 2))
        return y.mean(1)


MODELS = [
    ThroughOtherViews,
    Attention,
    Inplace,
    SamePadding,
    CalledTwice,
    OneWeightTwoUses,
    FunctionalWeight,
    ThroughView,
]


def modules(graph_module: fx.GraphModule, kind: Any) -> list[str]:
    return [name for name, module in graph_module.named_modules() if isinstance(module, kind)]


@pytest.mark.parametrize("factory", MODELS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_equal_to_the_bit_at_any_batch_size(factory: type[nn.Module], batch: int) -> None:
    model = factory().eval()
    captured = capture(model, torch.randn(batch, 3, 8, 8))
    for size in (1, 3):
        x = torch.randn(size, 3, 8, 8)
        assert torch.equal(captured(x.clone()), model(x.clone()))


@pytest.mark.parametrize("factory", MODELS)
def test_checkpoints_load_by_name_both_ways(factory: type[nn.Module]) -> None:
    model, other = factory(), factory()
    captured = capture(model, torch.randn(2, 3, 8, 8))
    loaded = captured.load_state_dict(other.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(captured.eval()(x.clone()), other.eval()(x.clone()))
    back = model.load_state_dict(captured.state_dict(), strict=False)
    assert not back.missing_keys
    assert torch.equal(model.eval()(x.clone()), other(x.clone()))


def test_layers_stand_under_their_names() -> None:
    captured = capture(CalledTwice(), torch.randn(2, 3, 8, 8))
    assert modules(captured, nn.Conv2d) == ["stem.0", "conv"]
    assert modules(captured, nn.BatchNorm2d) == ["stem.1"]
    assert modules(captured, nn.Dropout) == ["drop"]
    assert [n.target for n in captured.graph.nodes if n.op == "call_module"].count("conv") == 2


def test_inplace_operations_become_functional() -> None:
    captured = capture(Inplace(), torch.randn(2, 3, 8, 8))
    names = [str(n.target) for n in captured.graph.nodes if n.op == "call_function"]
    assert not any("_." in name for name in names), names
    assert {"aten.relu.default", "aten.hardtanh.default", "aten.add.Tensor"} <= set(names)


def test_training_mode_works_after_capture() -> None:
    torch.manual_seed(0)
    model = CalledTwice().train()
    captured = capture(model, torch.randn(2, 3, 8, 8))
    assert captured.training
    x = torch.randn(4, 3, 8, 8)
    before = captured.get_buffer("stem.1.running_mean").clone()
    assert not torch.equal(captured(x), captured(x)), "dropout must be active"
    assert not torch.equal(before, captured.get_buffer("stem.1.running_mean"))
    captured.eval()
    assert torch.equal(captured(x), captured(x))


def test_the_model_is_not_changed() -> None:
    model = Inplace().train()
    before = copy.deepcopy(model.state_dict())
    captured = capture(model, torch.randn(2, 3, 8, 8))
    captured(torch.randn(2, 3, 8, 8)).sum().backward()
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


class KeptBias(nn.Module):
    """As timm's LeViT: in eval mode it computes a bias once, and forgets it when it trains again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bias = nn.Conv2d(3, 4, 1), nn.Parameter(torch.randn(4, 1, 1))
        self.kept: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "KeptBias":
        if mode:
            self.kept = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        bias = 2 * self.bias if self.training else self.kept.setdefault("cpu", 2 * self.bias)
        y: Tensor = self.conv(x) + bias
        return y


def test_what_a_model_has_computed_before_is_no_constant() -> None:
    """A tensor with a history cannot be copied, and as a constant it would take the parameter out of training."""
    model = KeptBias().eval()
    x = torch.randn(2, 3, 8, 8)
    model(x)
    captured = capture(model, x)
    captured(x).sum().backward()
    assert captured.get_parameter("bias").grad is not None
    assert model.kept["cpu"].grad_fn is not None


def test_momentum_of_the_batch_norm_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.03))
    norm: Any = capture(model, torch.randn(2, 3, 8, 8)).get_submodule("1")
    assert norm.momentum == 0.03


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if y.sum() > 0:  # the line at fault
            return y
        return -y


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(4, 64)


def test_data_dependent_control_flow_names_the_line() -> None:
    with pytest.raises(CaptureError, match=r"Branch at .*test_capture\.py:\d+: if y\.sum\(\) > 0"):
        capture(Branch(), torch.randn(2, 3, 4, 4))


def test_fixed_batch_size_is_refused() -> None:
    with pytest.raises(CaptureError, match="batch size"):
        capture(FixedBatch(), torch.randn(4, 3, 4, 4))


class RandomInEval(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x))


def test_randomness_in_eval_is_named() -> None:
    with pytest.raises(CaptureError, match=r"F\.dropout without training"):
        capture(RandomInEval(), torch.randn(4, 3, 4, 4))


class Unrolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.conv(image[None])[0] for image in x])


def test_a_loop_over_the_batch_names_the_line() -> None:
    with pytest.raises(CaptureError, match=r"test_capture\.py:\d+: .*fixes the batch size"):
        capture(Unrolled(), torch.randn(4, 3, 4, 4))


def test_pickles() -> None:
    captured = capture(CalledTwice(), torch.randn(2, 3, 8, 8)).eval()
    again = pickle.loads(pickle.dumps(captured))
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(again(x), captured(x))


def test_an_error_of_the_model_names_the_line() -> None:
    with pytest.raises(CaptureError, match=r"test_capture\.py"):
        capture(FixedBatch(), torch.randn(2, 5, 4, 4))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (torch.tensor(1.0), "batch dimension"),
        ((), "none"),
        (torch.zeros(0, 3, 4, 4), "non-empty"),
        ("x", "str"),
    ],
)
def test_bad_example_inputs(inputs: Any, said: str) -> None:
    with pytest.raises(CaptureError, match=said):
        capture(conv_bn(), inputs)
