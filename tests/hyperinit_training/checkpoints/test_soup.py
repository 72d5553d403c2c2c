"""Averages of networks, and the barrier that says whether they work."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from seeds import gen
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import hyperinit_training
from hyperinit.errors import ArgumentError, LayoutError, ZooError
from hyperinit_training.checkpoints.soup import soup


def make():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


DIGITS = load_digits()
ORDER = torch.randperm(len(DIGITS.target), generator=gen())
X = torch.from_numpy(DIGITS.images).float().unsqueeze(1)[ORDER] / 8 - 1
Y = torch.from_numpy(DIGITS.target)[ORDER]
BATCHES = X[:1000].split(100)


def accuracy(net):
    return (net(X[1200:]).argmax(1) == Y[1200:]).float().mean().item()


def fit(net, epochs, seed):
    optimizer, generator = torch.optim.Adam(net.train().parameters(), lr=4e-3), gen(seed)
    for _ in range(epochs):
        for batch in torch.randperm(1200, generator=generator).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(net(X[batch]), Y[batch]).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def seeds():
    """Two networks from different starts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [fit(make(), 4, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def tunes(seeds):
    """Two networks from one start."""
    return [fit(copy.deepcopy(seeds[0]), 1, seed) for seed in (5, 6)]


def test_networks_of_different_starts_are_refused_with_numbers(seeds):
    with pytest.raises(ZooError) as caught:
        soup(seeds, example_input=X[:64], evaluate=accuracy, align=False)
    message = str(caught.value)
    assert message.startswith("networks must work after averaging: the average scores 0.")
    for words in ("the 2 networks score 0.9", "a drop of 0.", "with a limit of 0.0", "pass calibrate=",
                  "pass align=True", "force=True"):  # fmt: skip
        assert words in message
    forced = soup(seeds, example_input=X[:64], evaluate=accuracy, align=False, force=True)
    assert not forced.works
    assert forced.barrier > 0.2
    assert forced.barrier == pytest.approx(sum(map(accuracy, seeds)) / 2 - accuracy(forced.network))


def test_alignment_and_calibration_lower_the_barrier(seeds):
    """The barrier is measured both ways, and both agree on which average is best."""
    settings = [{"align": False}, {"align": False, "calibrate": BATCHES}, {"calibrate": BATCHES}]
    by_score = [soup(seeds, example_input=X[:200], evaluate=accuracy, force=True, **s).barrier for s in settings]
    by_outputs = [soup(seeds, example_input=X[:200], force=True, **s).barrier for s in settings]
    assert by_score[0] > by_score[1] > by_score[2]
    assert by_outputs[0] > by_outputs[1] > by_outputs[2]
    assert by_score[2] < 0.5 * by_score[1]


def test_fine_tunes_of_one_network_average_well(tunes):
    found = soup(tunes, example_input=X[:64], evaluate=accuracy)
    assert found.works
    assert found.barrier < 0.01
    assert len(found.scores) == 2
    assert soup(tunes, example_input=X[:64]).barrier < 0.1
    assert accuracy(found.network) == pytest.approx(sum(found.scores) / 2 - found.barrier)


def test_the_divergence_without_labels_is_refused_beyond_its_limit(seeds, tunes):
    with pytest.raises(ZooError, match=r"outputs of the average are 0\.\d+ standard deviations .* limit of 0.4, those"):
        soup(seeds, example_input=X[:64], align=False)
    with pytest.raises(ZooError, match="with a limit of 0,"):
        soup(tunes, example_input=X[:64], limit=0)
    assert len(soup(seeds, example_input=X[:64], align=False, limit=2).divergences) == 2


def test_the_average_is_the_mean_of_all_float_tensors(tunes):
    before = [copy.deepcopy(net.state_dict()) for net in tunes]
    found = soup(tunes, example_input=X[:64], align=False).network
    for name, value in found.state_dict().items():
        mean = (before[0][name].double() + before[1][name].double()) / 2
        expected = mean.to(value.dtype) if value.is_floating_point() else before[0][name]
        assert torch.equal(value, expected)
    for net, state in zip(tunes, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
        assert not net.training


def test_checkpoints_are_averaged_as_modules_are(tunes, tmp_path):
    paths = [tmp_path / "a.pt", tmp_path / "b.safetensors"]
    torch.save({"state_dict": {f"model.{name}": value for name, value in tunes[0].state_dict().items()}}, paths[0])
    save_file(tunes[1].state_dict(), paths[1])
    expected = soup(tunes, example_input=X[:64]).network.state_dict()
    for given in (paths, [str(path) for path in paths], tmp_path, [tunes[0], paths[1]]):
        found = soup(given, model=make, example_input=X[:64]).network.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in found.items() if value.is_floating_point())


def test_the_report_is_a_sentence(tunes):
    found = soup(tunes, example_input=X[:64], evaluate=accuracy)
    assert str(found).startswith(
        f"the average scores {sum(found.scores) / 2 - found.barrier:.4g}, the 2 networks score"
    )


class Branching(nn.Linear):
    """Cannot be traced."""

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


def test_a_network_that_cannot_be_traced_is_averaged_without_alignment():
    nets = [Branching(3, 2), Branching(3, 2)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.randn(16, 3, generator=gen())
    with pytest.raises(LayoutError, match="pass align=False if the networks have one ancestor"):
        soup([nn.Sequential(net, nn.Linear(2, 2)) for net in nets], example_input=x)
    assert soup(nets, example_input=x, align=False).barrier < 1e-6


@pytest.mark.parametrize(
    ("networks", "arguments", "error", "message"),
    [
        ([nn.Linear(2, 1)], {}, ArgumentError, "networks must be at least two, got 1"),
        (nn.Linear(2, 1), {}, ArgumentError, "a list of networks or of paths, got one Linear"),
        ([nn.Linear(2, 1), 3], {}, ArgumentError, "modules or paths of checkpoints, got int"),
        (["a.pt", "b.pt"], {}, ArgumentError, "model must be given with paths of checkpoints, got none for a.pt"),
        ([nn.Linear(2, 1), nn.Linear(3, 1)], {}, ArgumentError, "networks must have one architecture"),
        ([nn.Linear(2, 1)] * 2, {"limit": -1}, ArgumentError, "limit must be None or a number of at least 0, got -1"),
        (
            [nn.Linear(2, 1)] * 2,
            {"align": False, "example_input": torch.ones(4, 2)},
            ArgumentError,
            "one output for all",
        ),
    ],
)
def test_soup_refuses(networks, arguments, error, message):
    with pytest.raises(error, match=message):
        soup(networks, **{"example_input": torch.randn(16, 2, generator=gen())} | arguments)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save(nn.Linear(3, 1).state_dict(), tmp_path / "a.pt")
    torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "b.pt")
    with pytest.raises(LayoutError, match=r"a.pt must hold the network's tensors, got weight has shape \(1, 3\)"):
        soup(tmp_path, model=lambda: nn.Linear(2, 1), example_input=torch.randn(16, 2), align=False)


def test_an_evaluation_may_change_its_copy(tunes):
    def careless(net):
        score = accuracy(net)
        with torch.no_grad():
            net[0].weight.zero_()
        return score

    found = soup(tunes, example_input=X[:64], evaluate=careless)
    assert found.network[0].weight.abs().sum() > 0
    assert found.barrier < 0.01


def test_the_public_name():
    assert hyperinit_training.soup is soup
