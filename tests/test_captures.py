"""What is remembered of captures is that of an equal network and input, and every caller has it for himself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from captures import Captures, content
from mqbench.capture import capture
from networks import Inverted, Net, images, trained


def network() -> Any:
    return trained(Net(Inverted()))


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight": lambda net: net.fc.weight.data[0, 0].add_(1e-6),
    "a buffer": lambda net: net.stem[1].running_var[0].mul_(2),
    "the mode": lambda net: net.blocks.train(),
    "what learns": lambda net: net.fc.weight.requires_grad_(False),
    "an attribute": lambda net: setattr(net.blocks[0], "shortcut", False),
    "a module": lambda net: setattr(net, "fc", nn.Linear(4, 10, bias=False)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_difference_is_one(change: str) -> None:
    net = network()
    assert content(net, images()) == content(network(), images())
    CHANGES[change](net)
    assert content(net, images()) != content(network(), images())
    assert content(network(), images(2)) != content(network(), images())


def test_a_class_without_a_name_is_not_remembered() -> None:
    class Local(nn.Linear):
        pass

    assert content(Local(2, 2)) is None


def test_what_is_remembered_computes_the_same_and_is_not_shared() -> None:
    recalling, net = Captures(), network()
    first, second = recalling(net, images()), recalling(network(), images())
    assert len(recalling.known) == 1
    first.get_parameter("fc.weight").data.zero_()
    assert torch.equal(second(images()), capture(net, images())(images()))
    assert torch.equal(recalling(net, images())(images()), net(images()))
