"""Which tensors each graph quantizes, block by block (SPEC section 10, paper Fig. 4, 13, 14)."""

import pytest
import torch
from torch import Tensor, nn

from mqbench.capture import capture
from mqbench.placement import Group, Placement
from networks import Basic, Concat, Inverted, Net, SqueezeExcite, images

HEAD = {"x", "stem_0", "mean"}


def groups(net: nn.Module, graph: int) -> dict[str, Group]:
    found = Placement(capture(net, images()), graph).groups()
    assert len({g.name for g in found}) == len(found)
    return {g.name: g for g in found}


def names(net: nn.Module, graph: int) -> set[str]:
    return set(groups(net, graph))


def test_graph_1_gives_every_layer_its_own() -> None:
    found = groups(Net(Basic(4, 8, 2), channels=8), 1)
    layers = {"stem_0", "blocks_0_a_0", "blocks_0_b_0", "blocks_0_down_0", "fc"}
    assert set(found) == {f"{name}_input" for name in layers}
    assert all(len(g.edges) == 1 and not g.sources for g in found.values())


def test_basic_block() -> None:
    main = {"blocks_0_a_0", "blocks_0_add"}
    assert names(Net(Basic()), 3) == HEAD | main | {"blocks_0_b_0"}
    assert names(Net(Basic()), 2) == HEAD | main


def test_basic_block_with_downsample_keeps_the_shortcut_quantized() -> None:
    net = Net(Basic(4, 8, 2), channels=8)
    main = {"blocks_0_a_0", "blocks_0_add", "blocks_0_down_0"}
    assert names(net, 3) == HEAD | main | {"blocks_0_b_0"}
    assert names(net, 2) == HEAD | main


def test_inverted_residual() -> None:
    inner = {"blocks_0_expand_0", "blocks_0_depthwise_0"}
    assert names(Net(Inverted()), 3) == HEAD | inner | {"blocks_0_project_0", "blocks_0_add"}
    assert names(Net(Inverted()), 2) == HEAD | inner | {"blocks_0_add"}
    # without a shortcut the linear projection is quantized in both
    wide = Net(Inverted(4, 6), channels=6)
    assert names(wide, 2) == names(wide, 3) == HEAD | inner | {"blocks_0_project_0"}


@pytest.mark.parametrize("graph", [2, 3])
def test_concat_shares_one_quantizer(graph: int) -> None:
    found = groups(Net(Concat()), graph)
    # the stem's output, pooled, is the concat's third input
    assert set(found) == {"x", "stem_0", "blocks_0_c_0", "mean"}
    assert len(found["stem_0"].sources) == 3


@pytest.mark.parametrize("graph", [2, 3])
def test_squeeze_excite(graph: int) -> None:
    net = Net(SqueezeExcite())
    inner = {"blocks_0_conv_0", "blocks_0_mean", "blocks_0_reduce", "blocks_0_expand", "blocks_0_mul"}
    assert names(net, graph) == HEAD | inner


def test_concat_inputs_with_quantizers_of_their_own() -> None:
    graph_module = capture(Net(Concat()), images())
    apart = Placement(graph_module, 3, shared_concat=False).groups()
    shared = Placement(graph_module, 3).groups()
    assert len(apart) == len(shared) + 2
    assert all(len(group.sources) == 1 for group in apart)
    assert {s for group in apart for s in group.sources} == {s for group in shared for s in group.sources}


def test_max_pool_has_none_and_the_output_has_none() -> None:
    for graph in (1, 2, 3):
        assert not any("pool" in name for name in names(Net(), graph))
        assert "fc" not in names(Net(), graph)


def test_one_quantizer_for_all_readers() -> None:
    found = groups(Net(Basic(), Basic()), 3)
    assert len(found["blocks_0_add"].sources) == 1
    (source,) = found["blocks_0_add"].sources
    assert len(source.users) == 2


def test_first_and_last() -> None:
    for graph in (1, 2, 3):
        special = {g.name for g in groups(Net(Basic()), graph).values() if g.first_or_last}
        assert special == ({"stem_0_input", "fc_input"} if graph == 1 else {"x", "mean"})


class AddTwice(nn.Module):
    """x + x, a constant added, and an integer input beside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.conv((y + y) * 2.0 + 1)


def test_a_module_called_twice_and_an_operand_used_twice() -> None:
    found = Placement(capture(AddTwice(), images()), 3).groups()
    assert [g.name for g in found] == ["x", "conv", "add"]
    found = Placement(capture(AddTwice(), images()), 1).groups()
    assert len(found) == 2


def test_skipped_layers_have_no_quantizer() -> None:
    captured = capture(Net(Basic()), images())
    found = {g.name for g in Placement(captured, 1, skip=["blocks.0.a.0"]).groups()}
    assert "blocks_0_a_0_input" not in found
    assert "blocks_0_b_0_input" in found


def test_pure() -> None:
    captured = capture(Net(Basic(4, 8, 2), channels=8), images())
    before = str(captured.graph)
    for graph in (1, 2, 3):
        Placement(captured, graph).groups()
    assert str(captured.graph) == before
    assert torch.is_tensor(captured(images()))
