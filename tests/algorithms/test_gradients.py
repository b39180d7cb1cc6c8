"""Every gradient of every algorithm against its closed form in SPEC, in float64.

The references are numpy on purpose: they share no code with the implementation. Per-channel parameters
are checked channel by channel with the same per-tensor formula.
"""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import mqbench
from mqbench.quantizer import Role

Array = npt.NDArray[np.float64]
SHAPE = (3, 8, 5)


def normal(seed: int, size: float = 1.0, *, nonnegative: bool = False) -> Array:
    x: Array = np.random.default_rng(seed).normal(size=SHAPE) * size
    return np.abs(x) if nonnegative else x


def build(algorithm: str, role: Role, x: Array, **scheme: Any) -> Any:
    grid = mqbench.QuantScheme(**{"bits": 4, **scheme})
    fq = mqbench.fake_quantizer(algorithm, role, scheme=grid)
    return fq.initialize(torch.from_numpy(x)).double()


def assign(parameter: torch.nn.Parameter, value: Any) -> None:
    parameter.data = torch.as_tensor(value, dtype=torch.float64).expand(parameter.shape).clone()


def run(fq: Any, x: Array, dy: Array) -> tuple[Array, Array]:
    """Output and dx; parameters keep their gradients."""
    leaf = torch.from_numpy(x).clone().requires_grad_()
    y = fq(leaf)
    y.backward(torch.from_numpy(dy))
    assert leaf.grad is not None
    return y.detach().numpy(), leaf.grad.numpy()


def close(got: Any, want: Any) -> None:
    got = got.detach().numpy() if isinstance(got, torch.Tensor) else got
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def rows(per_channel: bool, *arrays: Array) -> list[tuple[Any, ...]]:
    if per_channel:
        return [tuple(a[channel].ravel() for a in arrays) for channel in range(SHAPE[0])]
    return [tuple(a.ravel() for a in arrays)]


def stacked(per_channel: bool, values: list[Any]) -> Any:
    return np.array(values) if per_channel else np.array(values[0])


def grid(signed: bool, bits: int = 4) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


# -- LSQ -----------------------------------------------------------------------------------------------


def lsq_reference(
    x: Array, dy: Array, s: float, z: float, signed: bool, power_of_two: bool, premask: bool
) -> tuple[Array, float, float]:
    lo, hi = grid(signed)
    s_e = max(abs(s), 2.0**-23)
    if power_of_two:
        s_e = 2.0 ** np.rint(np.log2(s_e))
    z_e = np.rint(np.clip(z, lo, hi))
    u = x / s_e
    where = u + z_e if premask else np.rint(u) + z_e
    below, above = (where <= lo, where >= hi) if premask else (where < lo, where > hi)
    inside = ~(below | above)
    ds = np.where(below, lo - z_e, np.where(above, hi - z_e, np.rint(u) - u))
    g = 1 / np.sqrt(x.size * hi)
    chain = s_e / s if power_of_two else np.sign(s)
    return dy * inside, (dy * ds).sum() * g * chain, (dy * -s_e * ~inside).sum() * g


@pytest.mark.parametrize("algorithm", ["lsq", "lsq_plus", "lsq_premask"])
@pytest.mark.parametrize(
    ("symmetric", "signed", "per_channel", "power_of_two", "negative"),
    [f for f in itertools.product((True, False), repeat=5) if not (f[3] and f[4])],
)
def test_lsq(
    algorithm: str, symmetric: bool, signed: bool, per_channel: bool, power_of_two: bool, negative: bool
) -> None:
    x, dy = normal(1, nonnegative=not signed and symmetric), normal(2)
    fq = build(
        algorithm, "weight", x, symmetric=symmetric, signed=signed,
        per_channel=per_channel, power_of_two=power_of_two,
    )  # fmt: skip
    s = np.array([0.11, 0.23, 0.07]) * (-1 if negative else 1)
    z = np.array([2.3, -30.0, 1.4]) if signed else np.array([6.3, 40.0, 4.4])
    assign(fq.step_size, s if per_channel else s[0])
    if not symmetric:
        assign(fq.offset, z if per_channel else z[0])
    _, dx = run(fq, x, dy)
    want = [
        lsq_reference(
            part[0], part[1], s[i], 0 if symmetric else z[i], signed, power_of_two, algorithm == "lsq_premask"
        )
        for i, part in enumerate(rows(per_channel, x, dy))
    ]
    close(dx.ravel(), np.concatenate([w[0] for w in want]))
    close(fq.step_size.grad, stacked(per_channel, [w[1] for w in want]))
    if symmetric:
        assert fq.offset is None
    else:
        close(fq.offset.grad, stacked(per_channel, [w[2] for w in want]))


# -- TQT -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["weight", "activation"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_tqt(role: Role, signed: bool, per_channel: bool) -> None:
    if role == "activation" and per_channel:
        return
    x, dy = normal(1, nonnegative=not signed), normal(2)
    fq = build("tqt", role, x, power_of_two=True, signed=signed, per_channel=per_channel)
    log_threshold = np.array([0.3, -1.6, 1.0])
    assign(fq.log_threshold, log_threshold if per_channel else log_threshold[0])
    y, dx = run(fq, x, dy)
    lo, hi = grid(signed)
    wanted = []
    for i, (values, gradient) in enumerate(rows(per_channel, x, dy)):
        s = 2.0 ** np.ceil(log_threshold[i]) / 2.0 ** (3 if signed else 4)
        n = np.rint(values / s)
        local = np.where(n < lo, lo, np.where(n > hi, hi, n - values / s))
        inside = (n >= lo) & (n <= hi)
        dl = (gradient * s * np.log(2) * local).sum()
        wanted.append((np.clip(n, lo, hi) * s, gradient * inside, dl))
    close(y.ravel(), np.concatenate([w[0] for w in wanted]))
    close(dx.ravel(), np.concatenate([w[1] for w in wanted]))
    close(fq.log_threshold.grad, stacked(per_channel, [w[2] for w in wanted]))


def test_tqt_is_lsq_in_the_log_domain() -> None:
    """With ds of LSQ without its gradient scale: dl = ds s ln 2."""
    x, dy = normal(1), normal(2)
    tqt = build("tqt", "weight", x, power_of_two=True)
    assign(tqt.log_threshold, 0.9)
    lsq = build("lsq", "weight", x)
    assign(lsq.step_size, tqt.scale)
    run(tqt, x, dy)
    run(lsq, x, dy)
    close(tqt.log_threshold.grad, lsq.step_size.grad * np.sqrt(x.size * 7) * tqt.scale * np.log(2))


@pytest.mark.parametrize("signed", [True, False])
def test_tqt_starts_where_the_paper_does(signed: bool) -> None:
    x = normal(1, 3.0)
    fq = build("tqt", "weight", x, power_of_two=True, signed=signed)
    reach = max(abs(x.mean() - 3 * x.std(ddof=1)), x.mean() + 3 * x.std(ddof=1))
    if not signed:
        reach = x.mean() + 3 * x.std(ddof=1)
    np.testing.assert_allclose(2.0 ** fq.log_threshold.item(), reach, rtol=1e-6)
    assert fq.scale.item() * 2 ** (3 if signed else 4) >= reach  # never cut


# -- PACT ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["symmetric", "unsigned", "asymmetric", "nonnegative", "unsigned asymmetric"]
)
@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_pact(mode: str, power_of_two: bool, sign: int) -> None:
    """A negative alpha or beta means its magnitude (a = |alpha|, b = -|beta|), so its gradient turns."""
    x, dy = normal(1, 2.0, nonnegative=mode in ("unsigned", "nonnegative")), normal(2)
    symmetric, signed = mode in ("symmetric", "unsigned"), "unsigned" not in mode
    fq = build("pact", "activation", x, power_of_two=power_of_two, symmetric=symmetric, signed=signed)
    a, b = 1.37, -0.85
    assign(fq.alpha, sign * a)
    if fq.beta is not None:
        assign(fq.beta, sign * b)
    _, dx = run(fq, x, dy)
    chain = 1.0
    if power_of_two and symmetric:
        n_max = grid(signed)[1]
        reach = n_max * 2.0 ** np.rint(np.log2(a / n_max))
        chain, a = reach / a, reach
    lo = {"symmetric": -a, "asymmetric": b, "unsigned asymmetric": b}.get(mode, 0.0)
    close(dx, dy * ((x >= lo) & (x <= a)))
    da = dy[x > a].sum() - (dy[x < -a].sum() if mode == "symmetric" else 0)
    close(fq.alpha.grad, sign * da * chain)
    if mode in ("asymmetric", "unsigned asymmetric"):
        close(fq.beta.grad, sign * dy[x < b].sum())
    elif fq.beta is not None:
        assert not fq.beta.requires_grad


# -- DoReFa --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["dorefa", "dorefa_scaled", "pact"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_dorefa_weights(algorithm: str, symmetric: bool, per_channel: bool) -> None:
    x, dy = normal(1, 0.8), normal(2)
    fq = build(algorithm, "weight", x, symmetric=symmetric, per_channel=per_channel)
    _, dx = run(fq, x, dy)
    t = np.tanh(x)
    m, k = np.abs(t).max() + 1e-5, np.unravel_index(np.abs(t).argmax(), t.shape)
    unit = np.abs(t).max() if algorithm == "dorefa_scaled" else 1.0
    w = fq.transform(torch.from_numpy(x)).numpy()  # its extremes are on a rounding tie, to the last bit
    close(w, t / m * unit)
    s, z = np.empty_like(x), np.zeros_like(x)
    for channel in range(SHAPE[0]):
        values = w[channel] if per_channel else w
        low, high = min(values.min(), 0), max(values.max(), 0)
        s[channel] = max(-low, high) / 7.5 if symmetric else (high - low) / 15
        if not symmetric:
            z[channel] = np.clip(-8 - np.rint(low / s[channel]), -8, 7)
    close(fq.scale, s[:, 0, 0] if per_channel else s[0, 0, 0])
    level = np.rint(w / s) + z
    gradient = dy * ((level >= -8) & (level <= 7))
    dt = gradient * unit / m
    if algorithm == "dorefa_scaled":
        dt[k] += np.sign(t[k]) * 1e-5 * (gradient * t).sum() / m**2
    else:
        dt[k] -= np.sign(t[k]) * (gradient * t).sum() / m**2
    close(dx, dt * (1 - t**2))


def test_dorefa_scaled_is_dorefa_in_the_units_of_the_weight() -> None:
    x = normal(1, 0.3)
    plain, scaled = build("dorefa", "weight", x), build("dorefa_scaled", "weight", x)
    unit = np.tanh(np.abs(x).max())
    close(scaled(torch.from_numpy(x)), plain(torch.from_numpy(x)) * unit)
    close(scaled.scale, plain.scale * unit)
    assert torch.equal(scaled.quantize(torch.from_numpy(x)), plain.quantize(torch.from_numpy(x)))


@pytest.mark.parametrize("mode", ["symmetric", "unsigned", "asymmetric", "nonnegative"])
def test_dorefa_activations(mode: str) -> None:
    x, dy = normal(1, nonnegative=mode in ("unsigned", "nonnegative")), normal(2)
    symmetric, signed = mode in ("symmetric", "unsigned"), mode != "unsigned"
    fq = build("dorefa", "activation", x, symmetric=symmetric, signed=signed)
    _, dx = run(fq, x, dy)
    close(dx, dy * ((x >= (-1 if mode in ("symmetric", "asymmetric") else 0)) & (x <= 1)))
    assert not [p for p in fq.parameters() if p.requires_grad]


# -- DSQ, MinMax, PTQ ----------------------------------------------------------------------------------


def dsq_slope(u: Array, lo: int, hi: int) -> Array:
    k = np.log(2 / 0.4 - 1)
    slope: Array = k / (2 * 0.6) * (1 - np.tanh(k * (u - np.floor(u) - 0.5)) ** 2)
    return slope * ((u >= lo) & (u <= hi))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_dsq_weights(symmetric: bool, per_channel: bool) -> None:
    x, dy = normal(1), normal(2)
    x[0, 0, :2] = -4.0, 5.0
    fq = build("dsq", "weight", x, symmetric=symmetric, per_channel=per_channel)
    _, dx = run(fq, x, dy)
    want = []
    for values, gradient in rows(per_channel, x, dy):
        reach = 2.6 * values.std(ddof=1)
        low, high = min(values.mean() - reach, 0), max(values.mean() + reach, 0)
        s = max(-low, high) / 7.5 if symmetric else (high - low) / 15
        z = 0.0 if symmetric else float(np.clip(-8 - np.rint(low / s), -8, 7))
        want.append(gradient * dsq_slope(values / s + z, -8, 7))
    np.testing.assert_allclose(
        dx.ravel(), np.concatenate(want), rtol=1e-5, atol=1e-6
    )  # range kept as float32


@pytest.mark.parametrize("symmetric", [True, False])
def test_dsq_activations(symmetric: bool) -> None:
    x, dy = normal(1), normal(2)
    fq = build("dsq", "activation", x, symmetric=symmetric).eval()
    _, dx = run(fq, x, dy)
    u = x / fq.scale.item() + fq.zero_point.item()
    close(dx, dy * dsq_slope(u, -8, 7))


@pytest.mark.parametrize("algorithm", ["minmax", "ptq"])
@pytest.mark.parametrize("role", ["weight", "activation"])
def test_straight_through(algorithm: str, role: Role) -> None:
    x, dy = normal(1), normal(2)
    fq = build(algorithm, role, x, symmetric=False).eval()
    _, dx = run(fq, x, dy)
    level = np.rint(x / fq.scale.item()) + fq.zero_point.item()
    close(dx, dy * ((level >= -8) & (level <= 7)))
    assert not list(fq.parameters())


# -- QIL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["weight", "activation"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("gamma", [1.0, 1.3, 0.7])
@pytest.mark.parametrize("pruning", [True, False])
def test_qil(role: Role, signed: bool, per_channel: bool, gamma: float, pruning: bool) -> None:
    if (role == "activation" and per_channel) or (role == "weight" and not signed):
        return
    x, dy = normal(1, nonnegative=not signed), normal(2)
    fq = build("qil", role, x, signed=signed, per_channel=per_channel)
    center, distance = np.array([0.71, 0.52, 0.83]), np.array([0.6, 0.5, 0.4])
    if not pruning:
        center, distance = distance, center  # D > C: the interval begins below 0
    assign(fq.center, center if per_channel else center[0])
    assign(fq.distance, distance if per_channel else distance[0])
    assign(fq.gamma, gamma)
    fq.gamma.requires_grad_()
    y, dx = run(fq, x, dy)
    q = 7 if signed else 15
    wanted, d_gamma = [], 0.0
    for i, (values, gradient) in enumerate(rows(per_channel, x, dy)):
        c, d = center[i], distance[i]
        sign = np.sign(values) if signed else np.ones_like(values)
        u = np.abs(values) / (2 * d) - c / (2 * d) + 0.5
        inside = (u > 0) & (u < 1)
        base = np.where(inside, u, 0.5)
        h = gamma * base ** (gamma - 1) * inside
        scale = 1 / np.sqrt(values.size * q)
        out = np.rint(q * np.clip(u, 0, 1) ** gamma) / q * sign
        dc = -(gradient * sign * h / (2 * d)).sum() * scale
        dd = -(gradient * sign * h * (np.abs(values) - c) / (2 * d**2)).sum() * scale
        wanted.append((out, gradient * h / (2 * d), dc, dd))
        d_gamma += (gradient * sign * base**gamma * np.log(base) * inside).sum()
    close(y.ravel(), np.concatenate([w[0] for w in wanted]))
    close(dx.ravel(), np.concatenate([w[1] for w in wanted]))
    close(fq.center.grad, stacked(per_channel, [w[2] for w in wanted]))
    close(fq.distance.grad, stacked(per_channel, [w[3] for w in wanted]))
    close(fq.gamma.grad, d_gamma)


def test_qil_projects_before_a_training_step() -> None:
    x = normal(1)
    fq = build("qil", "weight", x)
    fq.gamma.requires_grad_(False)
    assign(fq.center, 100.0)
    assign(fq.distance, -3.0)
    fq.eval()(torch.from_numpy(x))
    assert fq.center.item() == 100.0  # not in eval mode
    fq.train()(torch.from_numpy(2 * x))
    assert fq.center.item() == pytest.approx(np.abs(x).max())  # half of the weight's new maximum
    assert 0 < fq.distance.item() < 1e-6


# -- APoT ----------------------------------------------------------------------------------------------

APOT_LEVELS = {
    2: [0, 0.25, 0.5, 1],
    3: [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1],
    4: sorted((a + b) / 0.75 for a in (0, 1 / 2, 1 / 8, 1 / 32) for b in (0, 1 / 4, 1 / 16, 1 / 64)),
}


def apot_reference(x: Array, dy: Array, alpha: float, signed: bool, bits: int) -> tuple[Array, Array, float]:
    levels = np.array(APOT_LEVELS[bits - signed])
    a = max(abs(alpha), 1e-5)
    c = np.clip(x / a, -1 if signed else 0, 1)
    near = levels[np.abs(np.abs(c)[:, None] - levels).argmin(1)] * np.sign(c)  # the first of equals
    inside = (x / a >= (-1 if signed else 0)) & (x / a <= 1)
    return a * near, dy * inside, (dy * (near - inside * x / a)).sum() * np.sign(alpha)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("alpha", [1.3, -0.9])
def test_apot_activations(bits: int, signed: bool, alpha: float) -> None:
    x, dy = normal(1, nonnegative=not signed), normal(2)
    fq = build("apot", "activation", x, bits=bits, signed=signed)
    assign(fq.alpha, alpha)
    y, dx = run(fq, x, dy)
    want_y, want_dx, want_da = apot_reference(x.ravel(), dy.ravel(), alpha, signed, bits)
    close(y.ravel(), want_y)
    close(dx.ravel(), want_dx)
    close(fq.alpha.grad, want_da)
    assert 0.0 in fq.levels


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("per_channel", [True, False])
def test_apot_weights(bits: int, per_channel: bool) -> None:
    """The gradient goes on through (w - mean)/(std + 1e-5)."""
    x, dy = normal(1, 0.4) + 0.1, normal(2)
    fq = build("apot", "weight", x, bits=bits, per_channel=per_channel)
    alpha = np.array([1.4, 2.0, 1.1])
    assign(fq.alpha, alpha if per_channel else alpha[0])
    y, dx = run(fq, x, dy)
    wanted = []
    for i, (values, gradient) in enumerate(rows(per_channel, x, dy)):
        centred, std = values - values.mean(), values.std(ddof=1)
        normalised = centred / (std + 1e-5)
        out, d_normalised, da = apot_reference(normalised, gradient, alpha[i], True, bits)
        d_std = -(d_normalised * centred).sum() / (std + 1e-5) ** 2
        d_centred = d_normalised / (std + 1e-5) + d_std * centred / ((values.size - 1) * std)
        wanted.append((out, d_centred - d_centred.mean(), da))
    close(y.ravel(), np.concatenate([w[0] for w in wanted]))
    close(dx.ravel(), np.concatenate([w[1] for w in wanted]))
    close(fq.alpha.grad, stacked(per_channel, [w[2] for w in wanted]))


# -- LQ-Net --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [True, False])
def test_lqnet_activations(signed: bool) -> None:
    x, dy = normal(1, 2.0, nonnegative=not signed), normal(2)
    fq = build("lqnet", "activation", x, signed=signed, bits=3)
    top = fq.levels.max().item()
    _, dx = run(fq, x, dy)
    close(dx, dy * (np.abs(x) <= top))
    assert not list(fq.parameters())


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_lqnet_weights(per_channel: bool, bits: int) -> None:
    """Straight through, and the basis moves to the ridge solution with all codes enumerated."""
    x, dy = normal(1, 0.3), normal(2)
    fq = build("lqnet", "weight", x, per_channel=per_channel, bits=bits)
    basis = fq.basis.numpy().reshape(-1, bits).copy()
    _, dx = run(fq, x, dy)
    close(dx, dy)
    codes = np.array(list(itertools.product((-1.0, 1.0), repeat=bits)))
    moved = []
    for i, (values,) in enumerate(rows(per_channel, x)):
        v = basis[i]
        b = codes[np.abs(values[:, None] - codes @ v).argmin(1)]
        solution = np.linalg.solve(b.T @ b + 1e-4 * np.eye(bits), b.T @ values + 1e-4 * v)
        moved.append(0.9 * v + 0.1 * solution)
    close(fq.basis, stacked(per_channel, moved))
    fq.eval()(torch.from_numpy(x))
    close(fq.basis, stacked(per_channel, moved))


def test_lqnet_keeps_what_the_data_do_not_determine() -> None:
    """All activations in the lowest levels: the highest bit is used by none, and BB' cannot be inverted."""
    x = normal(1, 0.1, nonnegative=True)
    fq = build("lqnet", "activation", x, signed=False, bits=3)
    before = fq.basis.clone()
    for _ in range(200):
        fq(torch.from_numpy(x))
    assert fq.basis[2] == before[2]
    assert bool((fq.basis[:2] != before[:2]).any())
    assert bool((fq.basis > 0).all())
