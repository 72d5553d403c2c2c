"""The compiled gather against PyTorch's."""

import pytest
import torch
from seeds import gen

from hyperinit_training.train_autoencoder import augment


@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
def test_gathers_as_pytorch_does(kind):
    weights = torch.randn(20, 37, generator=gen())
    index = torch.randint(37, (6, 37), generator=gen(1)).to(kind)
    rows = torch.randint(6, (20,), generator=gen(2))
    expected = weights.gather(1, index[rows].long())
    assert torch.equal(augment.gathered(weights, index, rows), expected)
    strided = torch.stack([weights, weights], dim=2)[:, :, 0]
    found = augment.gathered(strided, index, rows)
    assert torch.equal(found, expected)
    assert found.is_contiguous()


def test_a_row_that_is_shown_several_times_is_read_only():
    row = torch.arange(3.0)
    index = torch.tensor([[2, 1, 0]], dtype=torch.int16)
    assert augment.gathered(row.expand(2, 3), index, torch.tensor([0, 0])).tolist() == 2 * [[2.0, 1.0, 0.0]]
    assert row.tolist() == [0.0, 1.0, 2.0]


def test_other_tensors_are_left_to_pytorch():
    zeros = torch.zeros(2, 3)
    assert augment.takes(zeros)
    assert not any(map(augment.takes, (zeros.half(), zeros.to("meta"), zeros.clone().requires_grad_())))
