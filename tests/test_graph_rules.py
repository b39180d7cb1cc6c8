"""The rules of the three graphs hold for real networks, and the check of them sees every broken one."""

import copy

import pytest
import torch
from torch import fx, nn

from captures import Captures
from graph_rules import Rules, counts, violations
from mqbench.capture import capture
from mqbench.plan import Plan
from mqbench.preparation import insert_quantizers
from networks import Basic, Concat, Inverted, Net, SqueezeExcite, conv_bn, images
from real_models import CUT, make

# what a network must be seen to have, so that no rule holds for want of a node
HAS = {
    "resnet18": {"add", "adaptive_avg_pool2d", "max_pool2d"},
    "resnet50": {"add", "adaptive_avg_pool2d", "max_pool2d"},
    "densenet121": {"cat", "avg_pool2d", "adaptive_avg_pool2d", "max_pool2d", "norm"},
    "mobilenetv3_small_050": {"add", "mul", "mean", "adaptive_avg_pool2d"},
    "convnext_atto": {"add", "layer_norm", "gelu"},
    "vit_tiny_patch16_224": {"add", "cat", "attention", "layer_norm"},
    "swin_tiny_patch4_window7_224": {"add", "matmul", "softmax", "layer_norm", "mean"},
    "torchvision/shufflenet_v2_x1_0": {"cat", "chunk", "transpose", "max_pool2d", "mean"},
}

REPEATS = ("resnet50", "convnext_atto")  # they have what resnet18 has, and what the vision transformer has
recalling = Captures()


def quantized(captured: fx.GraphModule, graph: int) -> fx.GraphModule:
    plan = Plan.make(backend="tensorrt", algorithm="ptq", graph=graph, bn_folding=-1)
    return insert_quantizers(copy.deepcopy(captured), plan)


def prepared(model: nn.Module, x: torch.Tensor, graph: int) -> fx.GraphModule:
    return quantized(recalling(model, x), graph)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in REPEATS)) for name in CUT]
)
def test_rules_hold(name: str) -> None:
    captured = capture(*make(name, cut=True))
    for graph in (1, 2, 3):
        network = quantized(captured, graph)
        assert violations(network, graph) == []
        every = {"attention": "scaled_dot_product_attention"} if graph == 1 else {}
        assert {every.get(kind, kind) for kind in HAS[name]} <= set(counts(network))


@pytest.mark.parametrize("graph", [1, 2, 3])
def test_every_quantizer_is_needed(graph: int) -> None:
    network = prepared(
        Net(Basic(4, 8, 2), Inverted(8, 8), conv_bn(8, 4, 1), Concat(), SqueezeExcite()), images(), graph
    )
    assert violations(network, graph) == []
    names = [n.name for n in network.graph.nodes if Rules(network).kind(n) == "quantizer"]
    assert len(names) > 10
    for name in names:
        broken = copy.deepcopy(network)
        (node,) = (n for n in broken.graph.nodes if n.name == name)
        node.replace_all_uses_with(node.all_input_nodes[0])
        broken.graph.erase_node(node)
        assert violations(broken, graph), f"nobody misses {name}"


def test_a_quantizer_too_many_is_seen() -> None:
    network = prepared(Net(Basic()), images(), 2)
    rules = Rules(network)
    spare = next(str(n.target) for n in rules.nodes if rules.kind(n) == "quantizer")
    places = [n for n in rules.nodes if rules.kind(n) in ("norm", "max_pool2d", "relu") or n.name == "fc"]
    assert len(places) >= 5
    for place in places:
        broken = copy.deepcopy(network)
        (node,) = (n for n in broken.graph.nodes if n.name == place.name)
        readers = list(node.users)
        with broken.graph.inserting_after(node):
            extra = broken.graph.call_module(spare, (node,))
        for reader in readers:
            reader.replace_input_with(node, extra)
        assert violations(broken, 2), f"nobody minds one behind {place.name}"


def test_a_concat_of_two_grids_is_seen() -> None:
    network = prepared(Net(Concat()), images(), 3)
    rules = Rules(network)
    (concat,) = (n for n in rules.nodes if rules.kind(n) == "cat")
    other = next(str(n.target) for n in rules.nodes if rules.kind(n) == "quantizer")
    node = rules.inputs(concat)[0]
    assert rules.kind(node) == "quantizer"
    node.target = other
    assert "inputs do not share one quantizer" in violations(network, 3)[0]
