"""Members side by side compute what they compute one by one."""

import pytest
import torch
from torch import nn

from hyperinit.ensembles.side_by_side import BLOCK, stackable, stacked_forward
from hyperinit.nets import cnn


def mixed():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.ReLU(), nn.Dropout(0.5)),
        nn.Conv2d(6, 8, 3, groups=2, dilation=2), nn.GELU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 12, bias=False), nn.SiLU(), nn.Linear(12, 5),
    ).eval()  # fmt: skip


def one_by_one(members, x):
    return torch.stack([member(x) for member in members])


@pytest.mark.parametrize(("make", "shape"), [(cnn, (1, 28, 28)), (mixed, (3, 20, 20))])
@pytest.mark.parametrize("batch", [1, 5, BLOCK, 2 * BLOCK + 3])
def test_outputs_are_the_members(make, shape, batch):
    torch.manual_seed(0)
    members, x = [make() for _ in range(4)], torch.randn(batch, *shape)
    assert stackable(members)
    torch.testing.assert_close(stacked_forward(members, x), one_by_one(members, x), rtol=1e-5, atol=1e-6)


def test_gradients_are_the_members():
    torch.manual_seed(0)
    members, x = [cnn() for _ in range(3)], torch.randn(6, 1, 28, 28)
    parameters = [value for member in members for value in member.parameters()]
    found, expected = (
        torch.autograd.grad(run(members, x).square().sum(), parameters) for run in (stacked_forward, one_by_one)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def hooked():
    net = cnn()
    net[0].register_forward_hook(lambda *_: None)
    return net


def thin(*first):
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    "members",
    [
        [cnn()],
        [cnn(), cnn(activation="relu")],
        [cnn(), cnn(channels=3)],
        [cnn(), cnn().double()],
        [cnn(), hooked()],
        [thin(nn.MultiheadAttention(4, 2)) for _ in range(2)],
        [cnn(), nn.Sequential(*cnn(), nn.Tanh())],
        [nn.Linear(2, 2), nn.Linear(2, 2)],
        [mixed().train(), mixed().train()],
        [thin(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)) for _ in range(2)],
        [thin(nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1)) for _ in range(2)],
        [thin(nn.Linear(4, 2)) for _ in range(2)],
        [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2), nn.Linear(4, 3)) for _ in range(2)],
        [thin(nn.Conv2d(2, 2, 3, groups=2)) for _ in range(2)],
    ],
)
def test_what_cannot_stand_side_by_side_is_not_tried(members):
    assert not stackable(members)
