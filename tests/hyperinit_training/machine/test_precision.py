"""The choice of the number format, and mixed precision."""

from types import SimpleNamespace

import pytest
import torch

from hyperinit_training.machine import precision


@pytest.fixture(autouse=True)
def _fresh():
    precision.fastest.cache_clear()
    yield
    precision.fastest.cache_clear()


@pytest.mark.parametrize(
    ("half", "full", "expected"),
    [(1.0, 7.0, torch.bfloat16), (1.0, 1.1, torch.float32), (50.0, 1.0, torch.float32)],
)
def test_bfloat16_must_be_clearly_faster(monkeypatch, half, full, expected):
    monkeypatch.setattr(precision, "seconds", {torch.bfloat16: half, torch.float32: full}.__getitem__)
    assert precision.fastest() is expected


def test_each_format_is_timed_once(monkeypatch):
    timed = []
    monkeypatch.setattr(precision, "seconds", lambda dtype: timed.append(dtype) or 1.0)
    assert precision.fastest() is precision.fastest()
    assert sorted(map(str, timed)) == ["torch.bfloat16", "torch.float32"]


def test_a_timing_is_the_best_of_three_after_a_warm_up(monkeypatch):
    clock = iter([0.0, 10.0, 14.0, 20.0, 22.0, 30.0, 33.0])  # warm-up without an end, then 4, 2 and 3 seconds
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=clock.__next__))
    assert precision.seconds(torch.float32) == 2.0
    assert not list(clock)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_mixed_precision_sets_the_dtype_of_products(dtype):
    with precision.mixed(dtype):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_cpu_is_timed_and_a_gpu_is_judged_by_its_compute_capability(monkeypatch):
    monkeypatch.setattr(precision, "fastest", lambda: torch.float32)
    assert precision.fastest_on(torch.device("cpu")) == torch.float32
    for capability, expected in {(7, 5): torch.float32, (8, 0): torch.bfloat16, (9, 0): torch.bfloat16}.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert precision.fastest_on(torch.device("cuda:0")) == expected


def test_attention_uses_the_math_kernel_on_a_cpu_only():
    before = torch.backends.cuda.flash_sdp_enabled()
    with precision.attention(torch.device("cuda:0")):
        assert torch.backends.cuda.flash_sdp_enabled() == before
    with precision.attention(torch.device("cpu")):
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert torch.backends.cuda.math_sdp_enabled()


@pytest.mark.gpu
def test_mixed_precision_sets_the_dtype_of_products_on_a_gpu():
    with precision.mixed(torch.bfloat16, torch.device("cuda:0")):
        assert (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).dtype == torch.bfloat16


def test_the_weights_of_every_block_are_those_of_now_inside_an_autocast_of_the_caller():
    """PyTorch keeps converted weights until the outermost autocast ends, and a training changes them in between."""
    layer = torch.nn.Linear(4, 4, bias=False)
    x = torch.ones(2, 4)
    with torch.autocast("cpu"):
        with precision.mixed(torch.bfloat16):
            layer(x)
        with torch.no_grad():
            layer.weight.fill_(3.0)
        with precision.mixed(torch.bfloat16):
            assert torch.equal(layer(x), torch.full((2, 4), 12.0, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_isolated_block_computes_as_in_a_fresh_process(dtype):
    torch.set_default_dtype(dtype)
    try:
        with torch.inference_mode(), torch.device("meta"), torch.autocast("cpu"), precision.isolated():
            layer = torch.nn.Linear(2, 2)
            made = layer(torch.tensor([[1.0, 2.0]]))
            made.sum().backward()
        assert (made.dtype, made.device.type, layer.weight.dtype) == (torch.float32, "cpu", torch.float32)
        assert layer.weight.grad.tolist() == [[1.0, 2.0]] * 2
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
