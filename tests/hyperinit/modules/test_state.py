"""A module's modes, its device, and copies of its tensors that are put back in place."""

import pytest
import torch
from torch import nn

from hyperinit.errors import PlanError
from hyperinit.modules.state import Backup, Changed, device_of, evaluating, restoring, unchanged


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


class Stubborn(torch.Tensor):
    """Refuses to be written."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.copy_:
            raise RuntimeError("no")
        return super().__torch_function__(func, types, args, kwargs)


def test_a_tensor_that_cannot_be_restored_does_not_stop_the_others():
    stubborn, plain = torch.zeros(2).as_subclass(Stubborn), torch.zeros(2)
    backup = Backup([stubborn, plain])
    stubborn += 1
    plain += 1
    with pytest.raises(RuntimeError, match="no"):
        backup.restore()
    assert plain.tolist() == [0, 0]


def test_a_backup_notices_every_change():
    net = nn.Sequential(nn.BatchNorm1d(2))
    backup = Backup.of(net)
    assert not backup.changed
    with torch.no_grad():
        net[0].weight.data.numpy()[0] = 5  # a way that no counter of torch's sees
    assert backup.changed
    backup.restore()
    assert not backup.changed
    net[0].bias = nn.Parameter(net[0].bias.detach().clone())
    assert backup.changed


def test_attributes_of_a_class_of_the_users_come_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.cached = 0, None

    net = Counting()
    backup = Backup.of(net)
    net.calls, net.cached, net.more = 1, torch.ones(2), 2
    backup.restore()
    assert (net.calls, net.cached) == (0, None)
    assert not hasattr(net, "more")


class Interrupted(nn.Module):
    """Interrupts the program while its mode is changed, once."""

    def __setattr__(self, name, value):
        if name == "training" and value is False and not self.__dict__.get("done"):
            self.__dict__["done"] = True
            raise KeyboardInterrupt
        super().__setattr__(name, value)


def test_an_interrupt_between_two_modules_leaves_every_mode_as_it_was():
    net = nn.Sequential(nn.Dropout(), Interrupted(), nn.Dropout())
    with pytest.raises(KeyboardInterrupt), evaluating(net):
        pass
    assert all(part.training for part in net.modules())


class InterruptedAtTheEnd(nn.Module):
    """Interrupts the program while its mode is given back, once."""

    def __setattr__(self, name, value):
        if name == "training" and value is True and "training" in self.__dict__ and not self.__dict__.get("done"):
            self.__dict__["done"] = True
            raise KeyboardInterrupt
        super().__setattr__(name, value)


def test_an_interrupt_while_modes_are_given_back_waits_until_all_have_theirs():
    net = nn.Sequential(nn.Dropout(), InterruptedAtTheEnd(), nn.Dropout())
    with pytest.raises(KeyboardInterrupt), evaluating(net):
        pass
    assert all(part.training for part in net.modules())


def test_an_interrupt_between_two_attributes_leaves_both_as_they_were():
    parts = [nn.Dropout(0.1), Interrupted()]
    with pytest.raises(KeyboardInterrupt), Changed(parts, training=[False, False]):
        pass
    assert [part.training for part in parts] == [True, True]


def test_a_change_that_the_module_must_not_have_is_undone_and_refused():
    net = nn.Linear(1, 1)
    before = net.weight.item()
    with pytest.raises(PlanError, match=r"^no change, please$"), unchanged(net, "no change, please"):
        nn.init.constant_(net.weight, 7.0)
    assert net.weight.item() == before


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
