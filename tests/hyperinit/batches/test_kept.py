"""What the caller left out keeps its buffers during calibration, not only its parameters."""

import pytest
import torch
from torch import nn

import hyperinit
from hyperinit.batches.calibration import calibrate_

pytestmark = pytest.mark.filterwarnings("ignore:the module must compute")  # the norms under test

X = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A frozen encoder with norms with and without parameters, and a head with a norm."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 5), nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False))
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 10)
        self.encoder.requires_grad_(False)
        for part in self.encoder[1:]:
            part.running_mean.fill_(1)
            part.num_batches_tracked.fill_(5)

    def forward(self, x):
        return self.head(self.norm(self.encoder(x)).mean((2, 3)))


def buffers(net):
    return {name: value.clone() for name, value in net.named_buffers()}


def changed(net, before):
    return {name.rpartition(".")[0] for name, value in net.named_buffers() if not torch.equal(value, before[name])}


WAYS = {
    "excluded": {"exclude": "encoder.*"},
    "frozen": {"skip_frozen": True},
    "not included": {"include": ["norm.*", "head.*"]},
    "excluded one by one": {"exclude": ["encoder.1.weight", "encoder.1.bias", "encoder.2*"], "skip_frozen": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_norms_that_are_left_out_keep_statistics_and_counts(way):
    if way == "excluded one by one":
        WAYS[way]["exclude"] = WAYS[way]["exclude"][:2]  # a pattern must match a parameter
    net = Net()
    before = buffers(net)
    hyperinit.init_(net, "digits", min_share=0, calibrate=[X], **WAYS[way])
    assert changed(net, before) == {"norm"}
    assert net.norm.num_batches_tracked == 1


def test_other_norms_see_those_left_out_as_they_are():
    """They run in evaluation mode, with the statistics that they keep."""
    net = Net()
    hyperinit.init_(net, "digits", min_share=0, calibrate=[X], exclude="encoder.*")
    with torch.no_grad():
        features = net.encoder.eval()(X)
    torch.testing.assert_close(net.norm.running_mean, features.mean((0, 2, 3)))


def test_without_a_choice_every_norm_is_calibrated():
    for options in ({}, {"include": "*"}, {"exclude": "head.bias"}, {"exclude": "encoder.1.bias"}):
        net = Net()
        before = buffers(net)
        hyperinit.init_(net, "digits", min_share=0, calibrate=[X], **options)
        assert changed(net, before) == {"norm", "encoder.1", "encoder.2"}
    before = buffers(net)
    calibrate_(net, [2 * X])
    assert changed(net, before) == {"norm", "encoder.1", "encoder.2"}


def test_wrappers_do_not_take_the_protection_away():
    net = Net()
    before = buffers(net)
    hyperinit.init_(nn.DataParallel(net), "digits", min_share=0, calibrate=[X], exclude="encoder.*")
    assert changed(net, before) == {"norm"}


def test_a_norm_with_a_tied_weight_is_left_out_under_the_first_name():
    net = Net()
    net.more = nn.BatchNorm2d(8)
    net.more.weight, net.more.bias = net.encoder[1].weight, net.encoder[1].bias
    net.forward = lambda x: net.head(net.norm(net.more(net.encoder(x))).mean((2, 3)))
    before = buffers(net)
    hyperinit.init_(net, "digits", min_share=0, calibrate=[X], exclude="encoder.*")
    assert changed(net, before) == {"norm"}


def test_members_of_an_ensemble_are_protected_too():
    before = buffers(Net())
    for member in hyperinit.ensemble(2, "digits", model=Net, min_share=0, calibrate=[X], skip_frozen=True).members:
        assert changed(member, before) == {"norm"}


def test_selection_keeps_the_buffers_of_what_is_left_out():
    net = Net()
    before = buffers(net)
    batches = [(X, torch.arange(16) % 10)]
    hyperinit.init_(net, "digits", min_share=0, calibrate=batches, select=batches, oversample=2, exclude="encoder.*")
    assert changed(net, before) == {"norm"}
