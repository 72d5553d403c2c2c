"""A calibration restores buffers of every kind, after an error and after success."""

import pytest
import torch
from torch import nn

from hyperinit.batches.calibration import calibrate_
from hyperinit.errors import BatchError


class Odd(nn.Module):
    """A norm, and a buffer of any kind that `forward` changes in its own way."""

    def __init__(self, buffer, change):
        super().__init__()
        self.norm, self.change = nn.BatchNorm1d(2), change
        self.register_buffer("odd", buffer)

    def forward(self, x):
        self.change(self)
        return self.norm(x)


def replace(net):
    net.odd = net.odd + 1


def add(net):
    net.register_buffer("more", torch.ones(1))


def delete(net):
    if "odd" in net._buffers:
        del net.odd


BUFFERS = {
    "sparse": (lambda: torch.eye(3).to_sparse(), lambda net: net.odd.mul_(2)),
    "sparse, other places": (lambda: torch.eye(3).to_sparse(), lambda net: net.odd.add_(torch.ones(3, 3).to_sparse())),
    "meta": (lambda: torch.ones(3, device="meta"), lambda net: net.odd.mul_(2)),
    "lazy": (lambda: nn.UninitializedBuffer(), lambda net: None),
    "expanded": (lambda: torch.full((1,), torch.nan).expand(3), lambda net: net.odd[:1].fill_(3)),
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda net: net.odd.copy_(torch.zeros(3)),
    ),
    "float8": (lambda: torch.ones(3).to(torch.float8_e4m3fn), lambda net: net.odd.copy_(torch.zeros(3))),
    "replaced": (lambda: torch.ones(3), replace),
    "resized": (lambda: torch.ones(3), lambda net: net.odd.resize_(9).fill_(3)),
    "exchanged": (lambda: torch.ones(3), lambda net: setattr(net.odd, "data", torch.zeros(5, dtype=torch.float64))),
    "added": (lambda: torch.ones(3), add),
    "deleted": (lambda: torch.ones(3), delete),
}


def values(net):
    """Return all buffers as strings: comparable whatever their layout."""
    return {name: (id(value), repr(value)) for name, value in net.named_buffers()}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of quantised and sparse tensors, about themselves
@pytest.mark.parametrize("kind", BUFFERS)
def test_buffers_of_every_kind_are_restored(kind):
    make, change = BUFFERS[kind]
    net = Odd(make(), change)
    before = values(net)
    with pytest.raises(BatchError):
        calibrate_(net, [torch.randn(4, 2), torch.randn(4, 7)])
    assert values(net) == before
    calibrate_(net, [torch.randn(4, 2)])
    now = values(net)
    assert {name for name in before.keys() | now.keys() if now.get(name) != before.get(name)} == {
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"
    }  # fmt: skip
