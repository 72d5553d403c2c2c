import copy

import pytest
import torch
from safetensors.torch import save_file
from seeds import gen
from torch import nn
from torch.nn import functional

from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import ArgumentError, ArtifactError, UnknownNameError, WriteError


class Constant(nn.Module):
    """Answers with the same logits whatever it is asked."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits, dtype=torch.float32))

    def forward(self, x):
        return self.logits.expand(len(x), *self.logits.shape)


@pytest.fixture
def members():
    nets = [nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)) for _ in range(5)]
    for seed, net in enumerate(nets):
        for parameter in net.parameters():
            nn.init.normal_(parameter, generator=gen(seed))
    return nets


@pytest.fixture
def x():
    return torch.randn(7, 4, generator=gen(9))


def test_default_is_the_log_of_the_mean_softmax(members, x):
    expected = torch.stack([net(x).double().softmax(1) for net in members]).mean(0).log()
    torch.testing.assert_close(Ensemble(members)(x).double(), expected, rtol=1e-5, atol=1e-6)


def test_logits_are_averaged_on_request(members, x):
    expected = torch.stack([net(x) for net in members]).mean(0)
    torch.testing.assert_close(Ensemble(members, combine="logits")(x), expected)


def test_the_two_ways_differ(members, x):
    """A mean of logits is not a mean of probabilities; even the decision may differ."""
    members = [Constant([9.0, 0, 0]), Constant([0, 2.0, 0]), Constant([0, 2.0, 0])]
    assert Ensemble(members)(x).argmax(1).unique().tolist() == [1]
    assert Ensemble(members, combine="logits")(x).argmax(1).unique().tolist() == [0]


def test_one_member_decides_as_alone(members, x):
    torch.testing.assert_close(Ensemble(members[:1])(x), members[0](x).log_softmax(1))


def test_cross_entropy_takes_the_output_unchanged(members, x):
    y = torch.arange(7) % 3
    output = Ensemble(members)(x)
    torch.testing.assert_close(functional.cross_entropy(output, y), functional.nll_loss(output, y))


def test_order_of_the_members_does_not_matter(members, x):
    torch.testing.assert_close(Ensemble(members)(x), Ensemble(members[::-1])(x))


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_logits_stay_finite(x, size):
    output = Ensemble([Constant([size, 0, -size]), Constant([size, 0, -size])])(x)
    assert not output.isnan().any()
    assert output[:, 0].tolist() == [0] * 7
    torch.testing.assert_close(output[:, 1], torch.full((7,), -size))


def test_member_outputs_are_stacked(members, x):
    outputs = Ensemble(members).member_outputs(x)
    assert outputs.shape == (5, 7, 3)
    torch.testing.assert_close(outputs[3], members[3](x), rtol=0, atol=0)


def test_logits_may_have_further_axes():
    x = torch.randn(2, 3, 4, 4, generator=gen())
    members = [nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)]
    output = Ensemble(members)(x)
    assert output.shape == (2, 5, 4, 4)
    torch.testing.assert_close(output.exp().sum(1), torch.ones(2, 4, 4))


def test_every_member_learns(members, x):
    ensemble = Ensemble(members)
    functional.cross_entropy(ensemble(x), torch.arange(7) % 3).backward()
    assert all((parameter.grad != 0).any() for parameter in ensemble.parameters())


def test_no_gradient_under_no_grad(members, x):
    with torch.no_grad():
        assert not Ensemble(members)(x).requires_grad


def test_training_and_evaluation_reach_the_members(x):
    ensemble = Ensemble([nn.Sequential(nn.Linear(4, 3), nn.Dropout()) for _ in range(2)])
    assert all(net.training for net in ensemble.members)
    assert not any(net.training for net in ensemble.eval().members)
    torch.testing.assert_close(ensemble(x), ensemble(x), rtol=0, atol=0)


def test_state_dict_round_trip(members, x):
    first, second = Ensemble(members), Ensemble([copy.deepcopy(net) for net in members[::-1]])
    assert not torch.equal(first.member_outputs(x), second.member_outputs(x))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.member_outputs(x), first.member_outputs(x), rtol=0, atol=0)


def test_to_moves_every_member(members, x):
    ensemble = Ensemble(members).to(torch.float64)
    assert ensemble(x.double()).dtype == torch.float64
    assert {parameter.dtype for parameter in ensemble.parameters()} == {torch.float64}


def test_members_are_the_given_modules(members):
    ensemble = Ensemble(members)
    assert isinstance(ensemble.members, nn.ModuleList)
    assert all(ours is given for ours, given in zip(ensemble.members, members, strict=True))
    assert "combine='probabilities'" in repr(ensemble)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([[0.0, 1.0], [0.0, 1.0, 2.0]], r"members must return tensors of one shape, got \(7, 2\), \(7, 3\)"),
        ([[0.0], 0.0], r"members must return tensors of one shape, got \(7, 1\), \(7,\)"),
        ([0.0, 0.0], r"members must return logits \(B, classes\), got \(7,\)"),
    ],
)
@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_outputs_must_agree(x, outputs, message, combine):
    with pytest.raises(ArgumentError, match=message):
        Ensemble([Constant(logits) for logits in outputs], combine=combine)(x)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], r"members must hold at least one module, got none"),
        (iter([]), r"members must hold at least one module, got none"),
        ([torch.tanh], r"members must be modules, got builtin"),
        (nn.Linear(2, 2), r"members must be a list of modules, got Linear"),
        (3, r"members must be a list of modules, got int"),
    ],
)
def test_members_must_be_modules(members, message):
    with pytest.raises(ArgumentError, match=message):
        Ensemble(members)


def test_members_may_come_from_a_generator(members, x):
    assert torch.equal(Ensemble(net for net in members)(x), Ensemble(members)(x))


def test_outputs_must_be_tensors(x):
    with pytest.raises(ArgumentError, match=r"^members must return tensors, got tuple$"):
        Ensemble([nn.MaxPool1d(2, return_indices=True)])(x)


def test_members_must_not_be_taken_away(members, x):
    ensemble = Ensemble(members)
    ensemble.members = nn.ModuleList()
    with pytest.raises(ArgumentError, match=r"^members must hold at least one module, got none$"):
        ensemble(x)


def test_unknown_combine_helps(members):
    with pytest.raises(UnknownNameError, match=r"^unknown combine 'probs'; choose from probabilities, logits$"):
        Ensemble(members, combine="probs")
    with pytest.raises(UnknownNameError, match=r"^unknown combine 'logit'; did you mean 'logits'\?$"):
        Ensemble(members, combine="logit")


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_accuracy_says_what_each_member_and_all_together_reach(members, x, combine):
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    ensemble = Ensemble(members, combine=combine)
    found = ensemble.accuracy(x, y, batch=3)
    expected = [(member(x).argmax(1) == y).float().mean().item() for member in members]
    assert found.members == pytest.approx(expected)
    assert found.joint == pytest.approx((ensemble(x).argmax(1) == y).float().mean().item())
    assert found.mean == pytest.approx(sum(expected) / 5)


def test_accuracy_needs_one_label_for_each_input(members, x):
    with pytest.raises(ArgumentError, match="x and y must be of one length of at least 1, got 7 and 6"):
        Ensemble(members).accuracy(x, torch.zeros(6).long())


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_accuracy_counts_the_labels_of_every_further_axis(combine):
    members = [nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)]
    x, y = torch.randn(6, 3, 4, 2, generator=gen()), torch.arange(48).reshape(6, 4, 2) % 5
    ensemble = Ensemble(members, combine=combine)
    found = ensemble.accuracy(x, y, batch=4)
    assert found.members == pytest.approx([(net(x).argmax(1) == y).float().mean().item() for net in members])
    assert found.joint == pytest.approx((ensemble(x).argmax(1) == y).float().mean().item())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(7, 1).long(), r"y must hold labels of shape \(7,\) for these outputs, got \(7, 1\)"),
        (torch.zeros(7, 3).long(), r"y must hold labels of shape \(7,\) for these outputs, got \(7, 3\)"),
        (torch.zeros(7), "labels must be class indices, integers"),
        (torch.full((7,), 3), r"labels must be in 0\.\.2, got 3\.\.3"),
        ([0] * 7, r"x and y must be tensors \(B, \.\.\.\), got Tensor and list"),
        (torch.tensor(0), "x and y must be tensors"),
    ],
)
def test_accuracy_needs_labels_of_the_outputs(members, x, y, message):
    with pytest.raises(ArgumentError, match=message):
        Ensemble(members).accuracy(x, y)


@pytest.mark.parametrize("batch", [0, -1, 1.5, None, True])
def test_accuracy_needs_a_positive_batch(members, x, batch):
    with pytest.raises(ArgumentError, match="batch must be a positive integer, got"):
        Ensemble(members).accuracy(x, torch.zeros(7).long(), batch=batch)


def test_member_states_load_into_single_networks(members, x):
    ensemble = Ensemble(members)
    for state, expected in zip(ensemble.member_states(), ensemble.member_outputs(x), strict=True):
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        net.load_state_dict(state)
        assert torch.equal(net(x), expected)


def test_one_file_holds_all_members(members, x, tmp_path):
    ensemble = Ensemble(members, combine="logits")
    ensemble.save(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["e.safetensors"]
    assert again.combine == "logits"
    assert torch.equal(again.member_outputs(x), ensemble.member_outputs(x))
    again.members[0][0].weight.requires_grad_()  # members are ordinary, trainable modules
    again(x).sum().backward()


def test_other_networks_are_loaded_by_a_factory(tmp_path):
    ensemble = Ensemble([Constant([0.0, 1.0]), Constant([2.0, 3.0])])
    ensemble.save(tmp_path / "e.safetensors")
    with pytest.raises(ArgumentError, match=r"model must be given: .* does not describe the members' network"):
        Ensemble.load(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors", model=lambda: Constant([9.0, 9.0]))
    assert torch.equal(again.members[1].logits, torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize("damage", ["missing", "truncated", "other network", "another file"])
def test_a_damaged_file_is_refused(members, tmp_path, damage):
    path = tmp_path / "e.safetensors"
    Ensemble(members).save(path)
    factory = None
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "other network":
        factory = lambda: nn.Linear(4, 3)  # noqa: E731
    else:
        save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ArtifactError, match=r"e\.safetensors must be an ensemble that was saved whole, got: "):
        Ensemble.load(path, model=factory)


@pytest.mark.parametrize("path", [None, 5, b"x", "a\0b.safetensors"])
def test_what_is_no_path_is_refused(path):
    for call in (Ensemble([nn.Linear(2, 2)]).save, Ensemble.load):
        with pytest.raises(ArgumentError, match=r"^path must be the path of a file, got "):
            call(path)


def test_a_path_that_cannot_be_encoded_is_refused(tmp_path):
    path = tmp_path / "\ud800.safetensors"
    with pytest.raises(ArtifactError, match="must be an ensemble that was saved whole"):
        Ensemble.load(path)
    with pytest.raises(WriteError, match="cannot be written"):
        Ensemble([nn.Linear(2, 2)]).save(path)


@pytest.mark.parametrize("combine", [[], torch.ones(2), None])
def test_a_way_of_combining_is_a_name(combine):
    with pytest.raises(UnknownNameError, match=r"^unknown combine "):
        Ensemble([nn.Linear(2, 2)], combine=combine)


def test_accuracy_takes_any_batch_size_and_no_default_device():
    ensemble, x, y = Ensemble([nn.Linear(2, 2)]), torch.eye(2), torch.tensor([0, 1])
    expected = ensemble.accuracy(x, y)
    with torch.device("meta"):
        assert ensemble.accuracy(x, y, batch=10**30) == expected
