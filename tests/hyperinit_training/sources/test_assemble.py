"""Anchors and the header of an assembled hyper-representation."""

from dataclasses import replace

import pytest
import torch

from hyperinit.samplers import SamplerOptions
from hyperinit_training.sources.assemble import assemble, unit_scores, zoo_facts


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
    ],
)
def test_scores_of_any_scale_are_mapped_to_0_to_1(scores, expected):
    assert unit_scores(torch.tensor(scores)).tolist() == expected
