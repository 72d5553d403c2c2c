"""Figures of samples, the recommended method, and the verdict in words."""

import pytest
import torch

from hyperinit.layout import Layout
from hyperinit_training.measure import usability as u
from hyperinit_training.measure.usability import scorer, usability
from hyperinit_training.zoo.zoo import Snapshot, Zoo


@pytest.fixture
def zoo(tiny):
    """The anchors of the untrained source, and four networks beside them as held out."""
    anchors = tiny.anchors.weights
    held = anchors[:4] + 0.05 * torch.randn(4, anchors.shape[1], generator=torch.Generator().manual_seed(0))
    rows = [("train", len(anchors)), ("val", 4)]
    snapshots = [Snapshot(n, 0, 1, split, 0.5, 0.5) for split, count in rows for n in range(count)]
    return Zoo(tiny.layout, torch.cat([anchors, held]), tuple(snapshots), None, {})


def near(tiny, wanted):
    """A score that falls with the distance from a network."""
    return lambda row: 1 - (row - wanted).norm().item() / 100


def test_figures_are_means_over_networks_and_distances_to_the_nearest(tiny, zoo):
    found = usability(tiny, zoo, near(tiny, tiny.anchors.weights[0]), ranked=True)
    assert set(found.figures) == {"zoo", "zoo-held-out", "zoo-held-out-decoded", *u.METHODS}
    held = zoo.part("val").weights
    nearest = torch.cdist(held, tiny.anchors.weights).min(1).values.mean().item()
    assert found.figures["zoo-held-out"]["distance"] == pytest.approx(nearest, rel=1e-4)
    scores = torch.tensor([near(tiny, tiny.anchors.weights[0])(row) for row in held])
    assert found.figures["zoo-held-out"]["score"] == pytest.approx(scores.mean().item(), rel=1e-5)
    assert found.figures["zoo"]["distance"] > 0, "a training network is not its own neighbour"
    assert found.held_out_r2 < 0.5
    assert set(found.layer_r2) == {layer.name for layer in tiny.layout.layers}


def test_the_farthest_of_the_good_methods_is_recommended():
    figures = {
        "kde": {"score": 0.90, "distance": 1.0}, "kde30": {"score": 0.905, "distance": 2.0},
        "local": {"score": 0.899, "distance": 3.0}, "local30": {"score": 0.5, "distance": 9.0},
    }  # fmt: skip
    assert u._recommended(figures, scored=True, ranked=True) == "local"
    assert u._recommended({}, scored=False, ranked=True) == "kde30"
    assert u._recommended({}, scored=False, ranked=False) == "kde"


def figures(sample, *, average=0.9, held_distance=1.0):
    row = {"std": 0.01, "distance": 0.5, "n": 20}
    return {
        "zoo": {**row, "score": 0.9}, "zoo-held-out": {**row, "score": 0.9, "distance": held_distance},
        "kde": {**row, "score": sample}, "average": {**row, "score": average},
    }  # fmt: skip


@pytest.mark.parametrize(("sample", "usable"), [(0.9, True), (0.86, True), (0.5, False)])
def test_samples_that_keep_the_score_are_usable(sample, usable):
    found = figures(sample)
    assert u._keeps(found, "kde") is usable
    words = u._words(found, 0.8, "kde", usable)
    assert words[0].startswith("Usable: samples by kde score" if usable else "Not usable as it is: samples by kde")
    assert any(word.startswith("Try ") for word in words) is not usable


def test_advice_follows_from_what_was_found():
    words = " ".join(u._words(figures(0.2, average=0.3), 0.1, "kde", False))
    assert "even averages of neighbouring networks lose score" in words
    assert "held-out networks are reconstructed poorly" in words
    assert "near copies" not in words
    assert "near copies" in " ".join(u._words(figures(0.9, held_distance=5.0), 0.9, "kde", True))
    assert u._words(figures(0.9), None, "kde", True)[1].startswith("No network was held out, so novelty is unknown.")


def test_a_scorer_evaluates_the_network_of_the_weights():
    net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
    layout = Layout.of(net)
    seen = []
    score = scorer(lambda: net, layout, lambda module: seen.append(module.training) or module[0].bias.item())
    assert score(torch.arange(float(layout.size))) == 2.0
    assert seen == [False]
