"""What the tables of one data set share: its zoo, which is kept in the repository, and the parts of it."""

import pytest

from benchmarks.experiment import Experiment
from benchmarks.scales import EARLY, SCALES


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10", "stl10"])
def test_zoos_of_the_small_scale_are_kept_and_not_trained_again(name, tmp_path, monkeypatch):
    monkeypatch.setattr("hyperinit_training.train_zoo.train.train_zoo", None)
    experiment = Experiment(name, SCALES["small"], tmp_path, None)
    assert {s.epoch for s in experiment.whole_zoo.snapshots} == {EARLY, 21, 22, 23, 24, 25}
    assert {s.epoch for s in experiment.zoo.snapshots} == {21, 22, 23, 24, 25}
    assert len({s.model for s in experiment.zoo.part("train").snapshots}) == 42
    assert not list(tmp_path.iterdir())


def test_networks_held_out_keep_their_early_snapshots_and_what_they_compute(tmp_path):
    """Alignment reorders neurons: the largest weights of a layer stay the same ones."""
    experiment = Experiment("svhn", SCALES["small"], tmp_path, None)
    plain, aligned = (experiment.trajectories("test", variant) for variant in ("lwln", "aligned"))
    assert {s.epoch for s in plain.snapshots} == {EARLY, 21, 22, 23, 24, 25}
    assert not plain.weights.equal(aligned.weights)
    bias = plain.layout.layer_slices["3"]
    assert plain.weights[:, bias].sort(1).values.allclose(aligned.weights[:, bias].sort(1).values)
