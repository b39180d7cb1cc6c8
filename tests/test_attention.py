"""Attention: both matrix products read quantized tensors, and the float network stays as it was to the bit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mqbench
from graph_rules import counts, violations
from mqbench.attention import QuantizedAttention

TOKENS, WIDTH = 5, 8
MASKS = {
    "none": None,
    "bias": torch.linspace(-1, 1, TOKENS * TOKENS).reshape(TOKENS, TOKENS),
    "keep": torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(),
}


class Attend(nn.Module):
    """Self-attention of one head over what a linear layer gives, and a classifier."""

    mask: Tensor | None

    def __init__(self, mask: Tensor | None = None, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 4)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, is_causal=self.causal))


def tokens() -> Tensor:
    return torch.randn(3, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("graph", [2, 3])
def test_written_out_where_the_backend_quantizes_everything(mask: str, graph: int) -> None:
    torch.manual_seed(0)
    net, x = Attend(MASKS[mask]), tokens()
    q = mqbench.prepare(net, x, backend="fbgemm", algorithm="ptq", bits=8, graph=graph)
    assert violations(q, graph) == []
    assert counts(q)["attention"] == 1
    mqbench.calibrate(q, [x])
    with torch.no_grad():
        with mqbench.quantization_off(q):
            assert torch.equal(q(x), net(x))
        quantized = q.eval()(x)
        assert 0 < (quantized - net(x)).abs().max() < 0.05 * net(x).abs().max()
        assert torch.equal(mqbench.convert(q)(x), quantized)


def test_every_quantizer_of_it_learns() -> None:
    net, x = Attend(MASKS["bias"]), tokens()
    q = mqbench.prepare(net, x, backend="snpe", algorithm="lsq", bits=4)
    mqbench.calibrate(q, [x])
    q.train()(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in q.parameters())
    steps = {name: p.grad for name, p in q.named_parameters() if name.endswith("step_size")}
    assert {f"activation_quantizers.attention.{part}.step_size" for part in ("scores", "probabilities")} < {
        *steps
    }
    assert all(grad is not None and grad.abs().max() > 0 for grad in steps.values())


def test_converted_it_is_single_operations() -> None:
    net, x = Attend(MASKS["bias"]), tokens()
    q = mqbench.prepare(net, x, backend="snpe", algorithm="ptq", bits=8)
    mqbench.calibrate(q, [x])
    d = mqbench.convert(q)
    assert not any(isinstance(m, QuantizedAttention) for m in calls(d))
    kinds = counts(d)
    assert (kinds["matmul"], kinds["softmax"], kinds["add"]) == (2, 1, 1)
    for node in d.graph.nodes:  # shapes go with the nodes, for who lowers the network
        assert node.op == "output" or "val" in node.meta


def calls(network: torch.fx.GraphModule) -> list[nn.Module]:
    return [network.get_submodule(str(node.target)) for node in network.graph.find_nodes(op="call_module")]


def test_probabilities_are_on_their_grid() -> None:
    net, x = Attend(), tokens()
    q = mqbench.prepare(net, x, backend="tensorrt", algorithm="lsq", bits=4)
    mqbench.calibrate(q, [x])
    (attention,) = (m for m in q.modules() if isinstance(m, QuantizedAttention))
    seen: list[Tensor] = []
    attention.probabilities.register_forward_hook(lambda module, inputs, output: seen.append(output))
    q(x)
    levels = seen[0] / attention.probabilities.scale
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert 2 <= len(levels.round().unique()) <= 16


def test_graph_1_leaves_it_as_it_is() -> None:
    q = mqbench.prepare(Attend(), tokens(), backend="academic", algorithm="lsq")
    assert not any(isinstance(m, QuantizedAttention) for m in q.modules())
    assert violations(q, 1) == []


def test_what_cannot_be_written_out_is_named() -> None:
    with pytest.warns(UserWarning, match="stay in float.*scaled_dot_product_attention"):
        q = mqbench.prepare(Attend(causal=True), tokens(), backend="fbgemm", algorithm="lsq")
    assert violations(q, 3) == ["scaled_dot_product_attention: the attention probabilities are not quantized"]
