"""Architectures: recipes are the paper's, every entry builds and prepares, open names resolve."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mqbench
from mqbench.errors import RequestError, UnknownNameError
from mqbench.preparation import quantizers

timm = pytest.importorskip("timm")

TABLE_3 = {
    "resnet18": (0.004, 1e-4, 64, 8, True),
    "resnet50": (0.004, 1e-4, 16, 16, True),
    "mobilenetv2": (0.01, 1e-5, 32, 16, False),
    "efficientnet_lite0": (0.01, 1e-5, 32, 16, False),
    "regnetx_600mf": (0.004, 4e-5, 32, 16, True),
}


@pytest.mark.parametrize("name", TABLE_3)
def test_recipes_are_table_3(name: str) -> None:
    recipe = mqbench.architectures[name].recipe
    got = (
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.batch_size,
        recipe.devices,
        recipe.decay_batch_norm,
    )
    assert got == TABLE_3[name]
    assert (recipe.epochs, recipe.warmup_epochs, recipe.momentum, recipe.label_smoothing) == (
        100,
        1,
        0.9,
        0.1,
    )


@pytest.mark.parametrize("name", list(mqbench.architectures))
def test_every_entry_builds(name: str) -> None:
    model = mqbench.architectures[name].build(7, 1).eval()
    size = 32 if name not in TABLE_3 else 64
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 7)


def test_parameter_counts() -> None:
    def millions(name: str, classes: int) -> float:
        return sum(p.numel() for p in mqbench.architectures[name].build(classes, 3).parameters()) / 1e6

    # torchvision's and timm's published counts, in millions
    assert millions("resnet18", 1000) == pytest.approx(11.69, abs=0.01)
    assert millions("mobilenetv2", 1000) == pytest.approx(3.50, abs=0.01)
    assert millions("resnet20", 10) == pytest.approx(0.27, abs=0.01)


def test_any_timm_model() -> None:
    model = mqbench.architectures["timm/mobilenetv3_small_050"].build(5, 3)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    with pytest.raises(RequestError, match="timm has no model 'resnet1'; near: resnet"):
        mqbench.architectures["timm/resnet1"]


def test_a_users_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def plain(): return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))\n"
        "def sized(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))\n"
        "def wrong(): return 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_nets", None)
    x = torch.zeros(2, 1, 2, 2)
    assert mqbench.architectures["my_nets:plain"].build(9, 1)(x).shape == (2, 3)
    assert mqbench.architectures["my_nets:sized"].build(9, 1)(x).shape == (2, 9)
    with pytest.raises(RequestError, match="gave a int"):
        mqbench.architectures["my_nets:wrong"].build(9, 1)
    for name in ("my_nets:none", "no_such_module:x"):
        with pytest.raises(RequestError, match="cannot use architecture"):
            mqbench.architectures[name]


def test_plain_names_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        mqbench.architectures.check("resnet8")
    mqbench.architectures.check("timm/anything")


MODELS = [
    "resnet18",
    "resnet50",
    "mobilenetv2_100",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "regnetx_006",
    "vgg11_bn",
    "inception_v3",
    "densenet121",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "repvgg_a0",
    "ghostnet_100",
    "mobilenetv4_conv_small",
    "hardcorenas_a",
    "dla34",
    "hrnet_w18_small",
    "resnext50_32x4d",
    "xception41",
    "torchvision/googlenet",
    "torchvision/shufflenet_v2_x1_0",
]
QUICK = {"mobilenetv3_small_050"}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("torchvision/"):
        models = pytest.importorskip("torchvision.models")
        options = {"init_weights": True} if "googlenet" in name else {}
        return getattr(models, name.partition("/")[2])(weights=None, **options).eval()
    return timm.create_model(name).eval()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in MODELS]
)
def test_real_models_prepare_under_every_setting(name: str) -> None:
    model = make(name)
    size = 224 if any(kind in name for kind in ("vit", "deit", "swin")) else 96
    x = torch.randn(2, 3, 128 if name == "inception_v3" else size, 128 if name == "inception_v3" else size)
    with torch.no_grad():
        want = model(x)
    for backend in ("academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm"):
        q = mqbench.prepare(model, x, backend=backend, algorithm="lsq")
        with torch.no_grad():
            mqbench.calibrate(q, [x])
            with mqbench.quantization_off(q):
                got = q(x)
        if backend == "academic":
            assert torch.equal(got, want)
        else:
            assert (got - want).abs().max() <= 1e-4 * want.abs().max()
        q.train()
        q(x).square().mean().backward()
        learned = {n: p for n, p in q.named_parameters() if p.requires_grad}
        assert not [n for n, p in learned.items() if p.grad is None or not p.grad.isfinite().all()]
        assert sum(fq.role == "activation" for _, fq in quantizers(q)) > 5
        d = mqbench.convert(q.eval())
        with torch.no_grad():
            assert torch.equal(d(x), q(x))
