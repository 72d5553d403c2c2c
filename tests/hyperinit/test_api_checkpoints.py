"""Trained networks of the caller's own as a source: side by side, larger, smaller, and one in each member."""

import pytest
import torch
from seeds import gen
from torch import nn

import hyperinit
from hyperinit.errors import ArgumentError, HyperinitError, LayoutError, PlanError
from hyperinit.nets import resnet

IMAGES = torch.randn(4, 3, 16, 16, generator=gen())


def chain(width, norms=False, activation=nn.ReLU):
    def norm(channels):
        return [nn.BatchNorm2d(channels)] * norms

    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), *norm(width), activation(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), *norm(2 * width), activation(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(8 * width, 10),
    ).eval()  # fmt: skip


KINDS = {"cnn": chain, "batch norms": lambda width: chain(width, True), "resnet": lambda width: resnet(8, width).eval()}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


@torch.no_grad()
def trained(make, width, count=4, seed=0):
    """Networks with statistics of norms as if they were trained, some of them tiny."""
    nets = [make(width) for _ in range(count)]
    g = gen(seed)
    for part in (part for net in nets for part in net.modules()):
        if isinstance(part, nn.BatchNorm2d):
            for value, low, high in ((part.running_mean, -1, 1), (part.running_var, 1e-7, 2), (part.weight, -1, 1)):
                value.uniform_(low, high, generator=g)
    return nets


def mean(nets):
    return torch.stack([net(IMAGES) for net in nets]).mean(0)


def close(ours, theirs):
    return (ours - theirs).abs().max() <= 1e-5 * max(1, theirs.abs().max())


@each_kind
@torch.no_grad()
def test_several_networks_become_one_that_computes_their_mean(make):
    nets = trained(make, 4)
    wide = hyperinit.init_(make(16), source=nets)
    assert close(wide(IMAGES), mean(nets))
    states = hyperinit.init_(make(16), source=[net.state_dict() for net in nets])
    assert torch.equal(states(IMAGES), wide(IMAGES))
    three = hyperinit.init_(make(14), source=nets, members=3)
    assert close(three(IMAGES), mean(nets[:3]))


def test_the_wide_network_can_be_trained_on():
    wide = hyperinit.init_(chain(16), source=trained(chain, 4))
    wide(IMAGES).square().mean().backward()
    assert all(value.requires_grad and value.grad.abs().sum() > 0 for value in wide.parameters())


@each_kind
@torch.no_grad()
def test_a_smaller_network_starts_a_larger_one(make):
    net = trained(make, 4)[0]
    for larger in (make(16), make(9)):
        assert close(hyperinit.init_(larger, source=net)(IMAGES), net(IMAGES))
    assert hyperinit.plan(make(16), source=net).members == 1, "copies of one network would stay copies"


@torch.no_grad()
def test_a_shallower_network_starts_a_deeper_one():
    net = trained(KINDS["resnet"], 4)[0]
    assert close(hyperinit.init_(resnet(14, 8).eval(), source=net)(IMAGES), net(IMAGES))


@each_kind
def test_a_larger_network_starts_a_smaller_one(make):
    large, small = trained(make, 16)[0], make(4)
    plan = hyperinit.plan(small, source=large, example_input=IMAGES)
    assert plan.decided_share == 1
    assert plan.notes[-1].startswith("approximates 1 network of the source (difference ")
    hyperinit.init_(small, plan=plan)
    first = small[0] if isinstance(small, nn.Sequential) else small.conv1
    held = (large[0] if isinstance(large, nn.Sequential) else large.conv1).weight.flatten(1)
    assert torch.isclose(torch.cdist(first.weight.flatten(1), held).min(1).values, torch.tensor(0.0)).all()


def test_layers_of_a_shallower_module_are_paired_by_name():
    plan = hyperinit.plan(resnet(8, 4), source=resnet(14, 16))
    rows = [row for row in plan.rows if row.source is not None]
    assert len(rows) == len(plan.rows)
    assert all(row.name == row.source for row in rows)


def test_a_plan_proves_the_mean_and_is_what_init_does():
    nets, wide = trained(chain, 4), chain(16)
    plan = hyperinit.plan(wide, source=nets, example_input=IMAGES)
    assert plan.members == 4
    assert plan.notes[-1].startswith("computes the mean of 4 networks (difference ")
    taken = [net.state_dict() for net in trained(chain, 4)]
    with pytest.raises(ArgumentError, match=r"plan= fixes its source .*, got another source"):
        hyperinit.init_(wide, source=taken, plan=plan)
    hyperinit.init_(wide, source=nets, plan=plan)
    expected = mean(nets)
    for net in nets:
        nn.init.zeros_(net[0].weight)
    again = hyperinit.init_(chain(16), plan=plan)
    assert close(again(IMAGES), expected), "a plan holds the weights that the networks had"


def test_nothing_is_drawn_and_the_networks_do_not_change():
    nets, wide = trained(chain, 4), chain(16)
    before = [{name: value.clone() for name, value in net.state_dict().items()} for net in nets]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    hyperinit.init_(wide, source=nets, spread=False)
    assert torch.equal(torch.get_rng_state(), state)
    for net, old in zip(nets, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in net.state_dict().items())


@torch.no_grad()
def test_an_ensemble_has_one_network_in_each_member():
    nets = trained(chain, 4)
    for made in (
        hyperinit.ensemble(4, source=nets, model=lambda: chain(4), combine="logits"),
        hyperinit.ensemble(4, source=nets, model=lambda: chain(9), combine="logits"),
        hyperinit.ensemble(4, source=nets, combine="logits"),
    ):
        assert close(made(IMAGES), mean(nets))
    two = hyperinit.ensemble(2, source=nets, model=lambda: chain(8), members=2, combine="logits")
    assert close(two.members[1](IMAGES), mean(nets[2:]))


@torch.no_grad()
def test_an_ensemble_is_a_list_of_its_members():
    nets = trained(chain, 4)
    assert close(hyperinit.init_(chain(16), source=hyperinit.Ensemble(nets))(IMAGES), mean(nets))


@torch.no_grad()
def test_the_best_of_the_given_networks_can_be_selected():
    nets = trained(chain, 4, seed=1)
    target = nets[2](IMAGES).argmax(1)
    chosen = hyperinit.init_(chain(4), source=nets, members=1, select=[(IMAGES, target)], oversample=4)
    assert (chosen(IMAGES).argmax(1) == target).all()
    calibrated = hyperinit.init_(chain(4, norms=True), source=nets[0], calibrate=[IMAGES])
    assert calibrated(IMAGES).isfinite().all()


def test_networks_that_differ_in_other_parameters_are_not_compared():
    nets = trained(lambda width: chain(width, activation=nn.PReLU), 4, count=2)
    with torch.no_grad():
        nets[1][1].weight.fill_(0.7)
    plan = hyperinit.plan(chain(8, activation=nn.PReLU), source=nets, example_input=IMAGES)
    assert plan.notes[-1].startswith("outputs were not compared, because the networks of the source also differ in 1.w")


def test_a_state_dict_alone_is_planned_by_its_shapes():
    plan = hyperinit.plan(chain(16), source=chain(4).state_dict(), example_input=IMAGES)
    assert plan.decided_share > 0.1
    assert "the source does not describe its network" in str(plan)


def test_another_activation_is_warned_of():
    with pytest.warns(hyperinit.MismatchWarning, match="Tanh in place of ReLU"):
        hyperinit.plan(chain(8, activation=nn.Tanh), source=chain(4))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda n: {"source": n}, PlanError, "all 4 networks of source must fit side by side, got a module with room"),
        (lambda n: {"source": n, "members": 4}, PlanError, "room for 3; widen it, or pass members=3 to take the first"),
        (lambda n: {"source": n[:2], "members": 3}, ArgumentError, "members must be at most 2, the number of networks"),
        (lambda n: {"source": n[:2], "method": "kde30"}, ArgumentError, "method must be None for networks of your own"),
        (lambda n: {"source": [*n[:2], chain(5)]}, LayoutError, r"must be of one kind, got source\[2\] with"),
        (lambda n: {"source": []}, ArgumentError, "at least one network"),
        (lambda n: {"source": nn.ReLU()}, LayoutError, "must hold a conv or linear layer to be a source"),
        (lambda n: {"source": [n[0], "gone.pt"]}, ArgumentError, r"source\[1\] must be .* got 'gone.pt'"),
    ],
)
def test_bad_input_leaves_the_module_as_it_was(ask, error, message):
    module = chain(12)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(error, match=message):
        hyperinit.init_(module, **ask(trained(chain, 4)))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_example_inputs_of_another_shape_are_refused():
    with pytest.raises(HyperinitError, match=r"example_input must be a batch that the module takes, got \(2, 5\)"):
        hyperinit.plan(chain(8), source=chain(4), example_input=torch.ones(2, 5))


class Attending(nn.Module):
    """Layers that are part of a source, and others that are not."""

    def __init__(self, width=8):
        super().__init__()
        self.table, self.attention = nn.Embedding(5, width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, words):
        x = self.table(words)
        return self.head(self.norm(self.attention(x, x, x)[0]).mean(1))


def test_other_parameters_get_their_fill():
    source, module = Attending(), Attending()
    table = module.table.weight.clone()
    plan = hyperinit.plan(module, source=source, fill="keep")
    assert {row.name for row in plan.rows if row.overlap} == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    hyperinit.init_(module, plan=plan)
    assert torch.equal(module.head.weight, source.head.weight)
    assert torch.equal(module.table.weight, table)


@torch.no_grad()
def test_a_network_may_be_its_own_source():
    net = trained(chain, 4, count=1)[0]
    before = net(IMAGES)
    assert torch.equal(hyperinit.init_(net, source=net)(IMAGES), before)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    assert torch.equal(hyperinit.init_(chain(4), source=averaged)(IMAGES), before)
