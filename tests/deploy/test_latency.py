"""Timing: turns, warm-up, medians, and what an engine that cannot take the network gets."""

import pytest

import mqbench
from deployed import converted
from mqbench.deploy.latency import Latency, compare, take_turns
from mqbench.errors import IncompatibleError, RequestError


class Clock:
    """Time that passes only when a call spends it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def call(self, name: str, seconds: list[float]) -> object:
        self.order.append(name)
        self.now += seconds.pop(0) if len(seconds) > 1 else seconds[0]
        return None

    def __call__(self) -> float:
        return self.now


def test_runs_take_turns_and_count_as_medians() -> None:
    clock = Clock()
    slow, fast = [9.0, 1.0, 3.0, 1.0, 2.0], [0.1, 0.1]  # the first two of each are warm-up
    found = take_turns(
        {"slow": lambda: clock.call("slow", slow), "fast": lambda: clock.call("fast", fast)},
        runs=3,
        warmup=2,
        clock=clock,
        cpu=lambda: clock.now / 2,
    )
    assert found["slow"].passes == 1
    assert found["slow"].milliseconds == pytest.approx((3000, 1000, 2000))
    assert found["slow"].cpu_milliseconds == pytest.approx((1500, 500, 1000))
    assert found["slow"].median == pytest.approx(2000)
    assert found["slow"].spread == pytest.approx(2000)
    assert found["fast"].passes == 2
    assert found["fast"].milliseconds == pytest.approx((100, 100, 100))
    assert clock.order[4:] == ["slow", "fast", "fast"] * 3


def test_latency_of_both_precisions() -> None:
    found = mqbench.latency(converted("basic", "fbgemm"), runtime="torch_fbgemm", batch_size=2, runs=2)
    assert len(found.float_timing.milliseconds) == len(found.int8_timing.milliseconds) == 2
    assert found.median_ms > 0
    assert found.speedup == found.float_timing.median / found.int8_timing.median
    assert found.integer_layers == found.layers == 7
    assert (found.batch_size, found.threads) == (2, 1)


def test_an_engine_that_refuses_does_not_stop_the_others() -> None:
    found = compare(converted("basic", "snpe"), ["torch_onednn", "torch_fbgemm"], runs=1)
    assert isinstance(found["torch_onednn"], IncompatibleError)
    assert isinstance(found["torch_fbgemm"], Latency)
    with pytest.raises(IncompatibleError, match="symmetric weights"):
        mqbench.latency(converted("basic", "snpe"), runtime="torch_onednn")


@pytest.mark.parametrize("name", ["batch_size", "threads", "runs"])
def test_numbers_below_one(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} must be at least 1, got 0"):
        compare(converted("basic", "fbgemm"), ["torch_fbgemm"], **{name: 0})
