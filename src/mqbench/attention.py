"""Attention whose matrix products both run on integers: its probabilities, too, pass through a quantizer.

A captured graph holds attention as one call, softmax(q k' / sqrt(d) + mask) v, whose kernel leaves no place
for a quantizer between the softmax and the second product. Written out it rounds differently, so with the
quantizers off the call is made as it was: the float network stays equal to the bit.
"""

import math
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from mqbench.quantizer import FakeQuantize

aten = torch.ops.aten
ATTENTION = aten.scaled_dot_product_attention.default
_OPTIONS = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def options(node: fx.Node) -> dict[str, Any]:
    """The arguments of an attention call behind query, key and value, by name."""
    return dict(zip(_OPTIONS, node.args[3:], strict=False)) | dict(node.kwargs)


def can_write_out(node: fx.Node) -> bool:
    """An attention call without a causal mask, dropout or grouped heads, which no image network has."""
    given = options(node)
    return node.target is ATTENTION and not any(
        given.get(name) for name in ("dropout_p", "is_causal", "enable_gqa")
    )


def has_float_mask(node: fx.Node) -> bool:
    """Something is added to the scores (a relative position bias)."""
    mask = options(node).get("attn_mask")
    return isinstance(mask, fx.Node) and mask.meta["val"].is_floating_point()


class QuantizedAttention(nn.Module):
    """softmax(q k' scale + mask) v, with quantized probabilities.

    Args:
        scale: of the scores.
        probabilities: quantizer of what the softmax gives.
        scores: quantizer of the scaled scores, where a mask of real numbers is added to them.
    """

    def __init__(self, scale: float, probabilities: FakeQuantize, scores: FakeQuantize | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.probabilities = probabilities
        self.scores = scores

    @classmethod
    def of(
        cls, node: fx.Node, probabilities: FakeQuantize, scores: FakeQuantize | None
    ) -> "QuantizedAttention":
        """The module of an attention call."""
        query = node.args[0]
        assert isinstance(query, fx.Node)
        scale = options(node).get("scale")
        return cls(
            1 / math.sqrt(query.meta["val"].shape[-1]) if scale is None else scale, probabilities, scores
        )

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Query ``[.., L, d]``, key ``[.., S, d]``, value ``[.., S, v]`` -> ``[.., L, v]``."""
        if not self.probabilities.enabled:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scale)
        scores = torch.matmul(query, key.transpose(-2, -1)) * self.scale
        if self.scores is not None:
            assert mask is not None
            scores = self.scores(scores) + mask
        elif mask is not None:
            scores = scores.masked_fill(mask.logical_not(), -math.inf)
        return torch.matmul(self.probabilities(scores.softmax(-1)), value)

    def write_out(self, graph: fx.Graph, node: fx.Node) -> dict[str, FakeQuantize]:
        """Replace ``node``, a call of this module, by single operations; gives the quantizers by path."""
        path = str(node.target)
        query, key, value, *mask = node.args
        used = {f"{path}.probabilities": self.probabilities}

        def call(target: Any, *args: Any) -> fx.Node:
            make = graph.call_module if isinstance(target, str) else graph.call_function
            new = make(target, args)
            values = fx.map_arg(args, lambda n: n.meta["val"])
            new.meta.update(node.meta, val=values[0] if isinstance(target, str) else target(*values))
            return new

        with graph.inserting_before(node):
            scores = call(aten.matmul.default, query, call(aten.transpose.int, key, -2, -1))
            scores = call(aten.mul.Tensor, scores, self.scale)
            if self.scores is not None:
                used[f"{path}.scores"] = self.scores
                scores = call(aten.add.Tensor, call(f"{path}.scores", scores), *mask)
            elif mask:
                scores = call(
                    aten.masked_fill.Scalar, scores, call(aten.logical_not.default, *mask), -math.inf
                )
            probabilities = call(f"{path}.probabilities", call(aten.softmax.int, scores, -1))
            output = call(aten.matmul.default, probabilities, value)
        node.replace_all_uses_with(output)
        graph.erase_node(node)
        return used

    def extra_repr(self) -> str:
        """The scale of the scores."""
        return f"scale={self.scale:.4g}"
