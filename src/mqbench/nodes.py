"""What single nodes of a captured graph are: their tensors, the stored ones among them, their names."""

import torch
from torch import Tensor, fx


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The tensor arguments of a node, in order, those inside a list included (constants are not nodes)."""
    return [
        n for n in node.all_input_nodes if not isinstance(n.meta.get("val"), (torch.SymInt, torch.SymFloat))
    ]


def is_float(node: fx.Node) -> bool:
    """The node's value is a tensor of real numbers, as far as is known."""
    value = node.meta.get("val")
    return not isinstance(value, Tensor) or value.is_floating_point()


def is_vector(node: fx.Node) -> bool:
    """A tensor with at most one axis longer than 1: one number, or one a channel."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and sum(bool(size != 1) for size in value.shape) <= 1


def module_of(node: fx.Node) -> tuple[str, str]:
    """Path and type of the module in which a call was made; ``("", "")`` if it is not known."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return (str(stack[-1][0]), str(stack[-1][1])) if stack else ("", "")


def function_of(node: fx.Node) -> str:
    """``hardtanh`` of ``aten.hardtanh.default``; what has no such name has the node's."""
    return str(node.target).split(".")[1] if "." in str(node.target) else node.name


def label(node: fx.Node) -> str:
    """A name for what a function call gives: where in the model it stands, and what it does."""
    path, kind = module_of(node)
    if path and kind.startswith("torch.nn.modules"):
        return path
    return f"{path}.{function_of(node)}" if path else function_of(node)


def flat_name(node: fx.Node) -> str:
    """A name that can be a module's: of the module that computes the node, with the operation if it needs one."""
    if node.op in ("call_module", "get_attr"):
        return str(node.target).replace(".", "_")
    if node.op == "placeholder" or module_of(node) == ("", ""):
        return node.name
    return label(node).replace(".", "_")
