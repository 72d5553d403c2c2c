"""A module's modes, its device, and copies of its tensors that are put back in place."""

import pytest
import torch
from torch import nn

from hyperinit.modules.state import Backup, device_of, evaluating, restoring


def test_a_backup_restores_parameters_and_buffers_in_place():
    net = nn.BatchNorm1d(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    memory = {name: value.data_ptr() for name, value in net.state_dict().items()}
    backup = Backup.of(net)
    with torch.no_grad():
        for value in (*net.parameters(), *net.buffers()):
            value.add_(1)
    backup.restore()
    assert {name: value.data_ptr() for name, value in net.state_dict().items()} == memory
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_backup_can_restore_more_than_once():
    value = torch.zeros(2)
    backup = Backup([value])
    for _ in range(2):
        value += 1
        backup.restore()
        assert value.tolist() == [0, 0]


def test_restore_leaves_out_the_tensors_it_is_told_to():
    kept, changed = torch.zeros(2), torch.zeros(2)
    backup = Backup([kept, changed])
    kept += 1
    changed += 1
    backup.restore(without={id(kept)})
    assert (kept.tolist(), changed.tolist()) == ([1, 1], [0, 0])


def test_an_expanded_tensor_that_has_not_changed_is_not_written():
    expanded = torch.zeros(1).expand(3)
    with pytest.raises(RuntimeError, match="single memory location"):
        expanded.copy_(torch.zeros(3))
    Backup([expanded]).restore()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_restoring_undoes_a_block_that_raises(error):
    value = torch.zeros(2)
    with pytest.raises(error), restoring(Backup([value])):  # noqa: PT012 - the block is under test
        value += 1
        raise error
    assert value.tolist() == [0, 0]


def test_restoring_keeps_the_changes_of_a_block_that_succeeds():
    value = torch.zeros(2)
    with restoring(Backup([value])):
        value += 1
    assert value.tolist() == [1, 1]


def test_every_part_gets_its_own_mode_back_after_an_error_too():
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    with pytest.raises(ZeroDivisionError), evaluating(net):
        1 / 0  # noqa: B018
    assert [part.training for part in net.modules()] == [True, True, False]


@pytest.mark.parametrize(
    ("module", "device"),
    [
        (nn.Linear(1, 1, device="meta"), "meta"),
        (nn.BatchNorm1d(1, affine=False, device="meta"), "meta"),  # buffers only
        (nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, device="meta")), "cpu"),
        (nn.ReLU(), "cpu"),
    ],
)
def test_the_device_is_that_of_the_first_parameter_or_buffer(module, device):
    assert device_of(module) == torch.device(device)
