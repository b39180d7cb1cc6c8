"""Quantizing for deployment trains as a run does, on any number of processes."""

import pytest
import torch

from mqbench.compute import Compute
from mqbench.quantization import quantized
from mqbench.record import Setting
from mqbench.task import RunTask


@pytest.mark.slow
def test_two_processes_train_the_network_of_one() -> None:
    setting = Setting(
        architecture="digits_resnet", dataset="digits", algorithm="lsq", backend="fbgemm", bits=(4, 4), steps=3,
        batch_size=32, global_batch=64,
    )  # fmt: skip
    task = RunTask.of(setting, None)
    torch.manual_seed(0)
    model = task.architecture.build(10, 1).eval()
    one, two = (
        quantized(model, setting, task, data=None, compute=Compute(accelerator="cpu", devices=n))
        for n in (1, 2)
    )
    assert one.not_converged == two.not_converged
    assert not any(module.training for module in two.network.modules())
    trained = dict(two.network.named_parameters())
    for name, value in one.network.named_parameters():  # running statistics move with each micro-batch
        assert torch.allclose(value, trained[name], rtol=0.02, atol=0.02), name
    changed = [
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, two.network.state_dict()[name])
    ]
    assert len(changed) > 10
