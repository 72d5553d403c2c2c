"""The compiled loops against PyTorch's operations."""

import pytest
import torch
from seeds import gen

from hyperinit_training.train_autoencoder import augment


@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
def test_gathered_equals_gather_of_pytorch(kind):
    weights = torch.randn(20, 37, generator=gen())
    index = torch.randint(37, (6, 37), generator=gen(1)).to(kind)
    rows = torch.randint(6, (20,), generator=gen(2))
    expected = weights.gather(1, index[rows].long())
    assert torch.equal(augment.gathered(weights, index, rows), expected)
    strided = torch.stack([weights, weights], dim=2)[:, :, 0]
    found = augment.gathered(strided, index, rows)
    assert torch.equal(found, expected)
    assert found.is_contiguous()


def test_an_expanded_row_is_not_modified():
    row = torch.arange(3.0)
    index = torch.tensor([[2, 1, 0]], dtype=torch.int16)
    assert augment.gathered(row.expand(2, 3), index, torch.tensor([0, 0])).tolist() == 2 * [[2.0, 1.0, 0.0]]
    assert row.tolist() == [0.0, 1.0, 2.0]


def test_compiled_loops_take_float32_on_the_cpu_without_gradients():
    zeros = torch.zeros(2, 3)
    assert augment.takes_loops(zeros)
    assert not any(map(augment.takes_loops, (zeros.half(), zeros.to("meta"), zeros.clone().requires_grad_())))
