"""Devices that are available, and errors for those that are not."""

import pytest
import torch

from hyperinit.errors import ArgumentError
from hyperinit_training.machine import devices, processes


def test_the_cpu_is_always_available():
    assert devices.device_of("cpu") == devices.device_of(torch.device("cpu")) == torch.device("cpu")
    assert devices.described(torch.device("cpu")) == "cpu"


def test_the_global_generator_decides_dropout():
    with torch.random.fork_rng(devices=[]):
        generator = devices.global_generator(torch.device("cpu"))
        masks = []
        for seed in (5, 5, 6):
            generator.manual_seed(seed)
            masks.append(torch.dropout(torch.ones(64), 0.5, train=True))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("name", ["meta", "gpu", "mps", "cpu:x"])
def test_another_kind_of_device_is_rejected(name):
    with pytest.raises(ArgumentError, match=f"device must be cpu, cuda or cuda:N, got '{name}'$"):
        devices.device_of(name)


def test_an_unavailable_gpu_is_rejected(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ArgumentError, match=r"device cuda needs a GPU and a PyTorch built for it, .* finds no GPU; choose"
    ):
        devices.device_of("cuda")


@pytest.fixture
def _two_gpus(monkeypatch):
    for name, answer in {"is_available": True, "device_count": 2, "current_device": 0}.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)


@pytest.mark.usefixtures("_two_gpus")
def test_a_gpu_is_chosen_by_its_index():
    assert devices.device_of("cuda:1") == torch.device("cuda:1")
    assert devices.device_of("cuda") == torch.device("cuda:0")
    with pytest.raises(ArgumentError, match=r"device must be one of cuda:0 to cuda:1, got cuda:2$"):
        devices.device_of("cuda:2")


@pytest.mark.usefixtures("_two_gpus")
def test_each_process_of_a_machine_uses_the_gpu_of_its_local_rank(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 4)
    found = []
    for rank in range(4):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        found.append(devices.device_of("cuda").index)
    assert found == [0, 1, 0, 1]
    assert devices.device_of("cuda:1").index == 1
