"""Anchors and the header of an assembled hyper-representation."""

from dataclasses import replace

import pytest
import torch

from hyperinit.errors import ZooError
from hyperinit.samplers import SamplerOptions
from hyperinit_training.sources import assemble as module
from hyperinit_training.sources.assemble import assemble, rehearse, unit_scores, zoo_facts


def test_anchors_are_the_training_snapshots(assembled, prepared):
    train, anchors = prepared.part("train"), assembled.anchors
    assert torch.equal(anchors.weights, train.weights)
    assert torch.equal(anchors.score, train.scores)
    assert anchors.epoch.tolist() == [24.0] * 12
    torch.testing.assert_close(anchors.z, assembled.encode(train.weights))


def test_the_network_of_the_zoo_can_be_built(assembled, prepared):
    model = assembled.build_model(prepared.weights[0])
    assert torch.equal(assembled.layout.flatten(model.state_dict()), prepared.weights[0])


def test_scores_card_and_options_are_those_given(assembled, prepared, autoencoder):
    scores = torch.linspace(0, 1, 12)
    card = replace(assembled.card, title="another")
    found = assemble(prepared, autoencoder, card, SamplerOptions(bandwidth=0.07), scores=scores)
    assert torch.equal(found.anchors.score, scores)
    assert found.card == card
    assert found.header.samplers.bandwidth == 0.07


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_the_caller_changes_nothing(assembled, prepared, autoencoder, dtype):
    torch.set_default_dtype(dtype)
    try:
        found = assemble(prepared, autoencoder, assembled.card, SamplerOptions(), scores=prepared.part("train").scores)
    finally:
        torch.set_default_dtype(torch.float32)
    for name in ("z", "score", "epoch", "weights"):
        value = getattr(assembled.anchors, name)
        assert getattr(found.anchors, name).dtype == value.dtype
        torch.testing.assert_close(getattr(found.anchors, name), value)


def test_facts_count_models_and_anchors_and_leave_the_preprocessing_out(zoo):
    facts = zoo_facts(zoo)
    assert (facts["models"], facts["anchors"]) == (18, 12)
    assert facts.keys() == (zoo.provenance.keys() - {"preprocessing"}) | {"models", "anchors"}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0, 1.0, 0.25], [0.0, 1.0, 0.25]),
        ([50.0, 90.0, 70.0], [0.0, 1.0, 0.5]),
        ([-3.0, -1.0, -2.0], [0.0, 1.0, 0.5]),
        ([7.0, 7.0], [0.0, 0.0]),
        ([-3e38, 3e38, 0.0], [0.0, 1.0, 0.5]),
    ],
)
def test_scores_of_any_scale_are_mapped_to_0_to_1(scores, expected):
    assert unit_scores(torch.tensor(scores)).tolist() == expected


# What an artifact could not hold is found before the training


@pytest.fixture
def rehearsed(prepared, recipe, assembled):
    """Return a function that rehearses the artifact of the small zoo, with changes."""

    def run(zoo=prepared, card=assembled.card, scores=None, **changes):
        ranks = zoo.part("train").scores if scores is None else scores
        rehearse(zoo, replace(recipe.autoencoder, **changes), card, SamplerOptions(), scores=ranks)

    return run


@pytest.mark.usefixtures("_global_generator_unmoved")
def test_a_zoo_that_an_artifact_can_hold_passes(rehearsed):
    rehearsed()
    rehearsed(chunk=64, window=8, halo=2)
    rehearsed(variational=True, block="reference", standardise=False)


def test_weights_beyond_half_precision_are_named(rehearsed, prepared):
    """Running variances may be that large. Without the check the artifact is refused after the training."""
    weights = prepared.weights.clone()
    row = next(index for index, s in enumerate(prepared.snapshots) if s.split == "train")
    weights[row, -1] = 1e5
    message = rf"must lie within 65504, .* got 1e\+05 in 11.bias of model {prepared.snapshots[row].model}$"
    with pytest.raises(ZooError, match=message):
        rehearsed(zoo=replace(prepared, weights=weights))


def test_more_snapshots_than_an_artifact_holds_are_refused(rehearsed, monkeypatch):
    monkeypatch.setattr(module, "MOST_ANCHORS", 11)
    with pytest.raises(ZooError, match="an artifact holds at most 11 training snapshots, got 12; leave some out"):
        rehearsed()


@pytest.mark.parametrize("score", [-0.5, 1.5, float("nan")])
def test_scores_outside_of_0_to_1_are_refused(rehearsed, score):
    with pytest.raises(ZooError, match=r"an artifact must be able to hold the zoo, it cannot: .*score"):
        rehearsed(scores=torch.full((12,), score))


def test_a_card_that_cannot_be_read_is_refused(rehearsed, assembled):
    with pytest.raises(ZooError, match=r"an artifact must be able to hold the zoo, it cannot: .*control characters"):
        rehearsed(card=replace(assembled.card, source="a\x1b[31mb"))


def test_an_architecture_of_another_layout_is_refused(rehearsed, prepared):
    with pytest.raises(ZooError, match=r"an artifact must be able to hold the zoo, it cannot: .*must hold conv"):
        rehearsed(zoo=replace(prepared, architecture=[["tanh", {}]]))
