"""Members side by side compute what they compute one by one."""

import pytest
import torch
from torch import nn

from hyperinit.ensembles.chains import steps_of
from hyperinit.ensembles.side_by_side import BLOCK, stacked_forward
from hyperinit.nets import cnn


def mixed():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        nn.Conv2d(6, 8, 3, groups=2, dilation=2), nn.GELU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 12, bias=False), nn.SiLU(), nn.Linear(12, 5),
    ).eval()  # fmt: skip


def shared():
    act = nn.LeakyReLU(0.3)
    return nn.Sequential(
        nn.ELU(), nn.Conv2d(1, 3, 3, padding="same"), act, nn.MaxPool2d(2, ceil_mode=True), nn.Sequential(),
        nn.Identity(), nn.Conv2d(3, 2, 3, padding=1), act, nn.Flatten(), nn.Linear(50, 4), act,
    )  # fmt: skip


def one_by_one(members, x):
    return torch.stack([member(x) for member in members])


@pytest.mark.parametrize(("make", "shape"), [(cnn, (1, 28, 28)), (mixed, (3, 20, 20)), (shared, (1, 9, 9))])
@pytest.mark.parametrize("batch", [1, 5, BLOCK, 2 * BLOCK + 3])
def test_outputs_are_the_members(make, shape, batch):
    torch.manual_seed(0)
    members, x = [make() for _ in range(4)], torch.randn(batch, *shape)
    found = stacked_forward(steps_of(members), x)
    torch.testing.assert_close(found, one_by_one(members, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_outputs_are_the_members_in_each_dtype(dtype):
    torch.manual_seed(0)
    members, x = [cnn().to(dtype) for _ in range(4)], torch.randn(5, 1, 28, 28).to(dtype)
    found = stacked_forward(steps_of(members), x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, one_by_one(members, x))


def test_gradients_are_the_members():
    torch.manual_seed(0)
    members, x = [cnn() for _ in range(3)], torch.randn(6, 1, 28, 28, requires_grad=True)
    values = [x, *(value for member in members for value in member.parameters())]
    outputs = stacked_forward(steps_of(members), x), one_by_one(members, x)
    found, expected = (torch.autograd.grad(output.square().sum(), values) for output in outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_outputs_and_gradients_are_the_members_on_a_gpu(dtype):
    torch.manual_seed(0)
    members = [mixed().to("cuda", dtype) for _ in range(3)]
    x = torch.randn(BLOCK + 3, 3, 20, 20, device="cuda", dtype=dtype, requires_grad=True)
    values = [x, *(value for member in members for value in member.parameters())]
    outputs = stacked_forward(steps_of(members), x), one_by_one(members, x)
    loose = {"rtol": 1e-3, "atol": 1e-3} if dtype in (torch.float32, torch.float64) else {"rtol": 0.1, "atol": 0.1}
    torch.testing.assert_close(*outputs, **loose)
    found, expected = (torch.autograd.grad(output.float().mean(), values) for output in outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **loose)
