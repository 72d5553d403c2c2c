"""Runs a situation with an ensemble and with a plain loop over its members, and compares what they do."""

import torch
from torch import nn

from hyperinit.ensembles.ensemble import Ensemble

SIDE = 8


class Loop(nn.Module):
    """What an ensemble with combine="logits" must do."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x):
        return torch.stack([member(x) for member in self.members]).mean(0)


def member():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.LeakyReLU(0.1), nn.Conv2d(3, 3, 2), nn.Tanh(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5),
    )  # fmt: skip


def outcome(make, situation):
    """Return what a situation gives with the module that `make` makes of three members, or its error."""
    torch.manual_seed(0)
    module = make([member() for _ in range(3)]).eval()
    x = torch.randn(4, 1, SIDE, SIDE)
    module(x)
    torch.manual_seed(1)
    try:
        return situation(module, x)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def gradients(module, x):
    x = x.detach().requires_grad_()
    output = module(x)
    output.square().sum().backward()
    values = {name: parameter.grad for name, parameter in module.named_parameters()}
    return output, x.grad, {name: value for name, value in values.items() if value is not None}


def changed(change):
    """A situation in which a change of the members decides outputs and gradients."""

    def situation(module, x):
        change(module, x)
        return gradients(module, x)

    return situation


def each(function):
    return changed(lambda module, x: [function(net) for net in module.members])


def second(function):
    return changed(lambda module, x: function(module.members[1]))


def ensemble(members):
    return Ensemble(members, combine="logits")


def check_as_loop(situation):
    """Fail unless a situation gives the same values and gradients with an ensemble as with a loop, and no error."""
    found, expected = outcome(ensemble, situation), outcome(Loop, situation)
    assert not isinstance(expected, str), expected
    assert not isinstance(found, str), found
    torch.testing.assert_close(_flat(found), _flat(expected), rtol=1e-4, atol=1e-5, equal_nan=True)


def _flat(value):
    """Return the tensors of nested results, and everything else as one text."""
    tensors, rest = [], []

    def visit(value):
        if isinstance(value, torch.Tensor):
            tensors.append(value.detach())
            rest.append((value.requires_grad, value.is_contiguous()))
        elif isinstance(value, dict):
            rest.append(sorted(value))
            for key in sorted(value):
                visit(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                visit(item)
        else:
            rest.append(value)

    visit(value)
    return [*tensors, torch.frombuffer(bytearray(repr(rest).encode()), dtype=torch.uint8)]
