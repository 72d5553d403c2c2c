"""Outputs of networks on example inputs."""

import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit_training.symmetry.functions import arguments, in_float64, outputs, placed


class Pairs(nn.Module):
    """Return outputs in containers, with an integer tensor among them, and change the input in place."""

    def forward(self, x, y):
        return {"sum": x.add_(1) + y, "rest": [x, torch.ones(2, dtype=torch.int64)]}


def test_all_float_outputs_are_found_and_inputs_stay():
    x, y = torch.zeros(2), torch.ones(2)
    found = outputs(Pairs(), (x, y))
    assert [value.tolist() for value in found] == [[2, 2], [1, 1]]
    assert x.tolist() == [0, 0]


def test_a_vector_in_float64_from_inputs_of_any_float_dtype():
    vector = in_float64(Pairs(), (torch.zeros(2).bfloat16(), torch.ones(2)))
    assert vector.dtype == torch.float64
    assert vector.tolist() == [2, 2, 1, 1]


def test_float_inputs_take_the_dtype_of_the_network():
    found = placed(nn.Linear(2, 1).bfloat16(), [torch.ones(2), torch.ones(2, dtype=torch.int64)])
    assert [value.dtype for value in found] == [torch.bfloat16, torch.int64]
    assert placed(nn.ReLU(), [torch.ones(2).double()])[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arguments([torch.ones(2)]), "example_input must be a tensor or a tuple of tensors, got list"),
        (lambda: arguments(()), "got an empty tuple"),
        (lambda: arguments((torch.ones(1), 3)), "got int"),
        (lambda: outputs(nn.Linear(2, 1), [torch.ones(3)]), "valid input of Linear with float outputs, got RuntimeErr"),
        (lambda: outputs(nn.Identity(), [torch.ones(3).long()]), "input of Identity with float outputs, got none"),
        (lambda: in_float64(nn.Linear(2, 1).double(), torch.ones(3)), "valid input of Linear in float64 with float"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
