"""Entries of state dicts: bare names, extra states, and tensors without dense values."""

import pytest
import torch
from torch import nn

from hyperinit.checkpoints.entries import bare_name, tensors_of, why_unusable


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("module.module.w", "w"),
        ("module._orig_mod.module.w", "w"),
        ("a._orig_mod.b._orig_mod.w", "a.b.w"),
        ("a.module.w", "a.module.w"),
        ("module_list.w", "module_list.w"),
        ("my_orig_mod.w", "my_orig_mod.w"),
    ],
)
def test_only_prefixes_of_wrappers_are_removed(name, bare):
    assert bare_name(name) == bare


def test_extra_states_are_no_tensors():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"scale": 3}

    assert list(tensors_of(Extra(2, 1))) == ["weight", "bias"]
    assert not any(value.requires_grad for value in tensors_of(Extra(2, 1)).values())


def test_lazy_tensors_are_named():
    assert "no shape" in why_unusable(tensors_of(nn.LazyLinear(2))["weight"])


def test_integers_may_be_sparse_because_they_are_left_out():
    assert why_unusable(torch.eye(3).long().to_sparse()) == ""
    assert why_unusable(torch.eye(3).to_sparse()) == "a torch.sparse_coo tensor"
