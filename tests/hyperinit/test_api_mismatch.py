"""A network that computes something else than the source's, and an unusable source, give one warning a call."""

import dataclasses
import warnings

import pytest
import torch
from module_states import same, state
from seeds import gen
from torch import nn

import hyperinit
from hyperinit import MismatchWarning, UnusableWarning
from hyperinit.batches import expected
from hyperinit.fitting import computation
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation

RELU = r"'tiny' computes, got ReLU in place of Tanh after 0, 3, 6 and 9\. .*27 % .* Change the module"


@pytest.fixture
def unusable(tiny):
    """A source whose card says so."""
    zoo = tiny.card.zoo | {"verdict": ["Not usable as it is: samples by kde score 0.2.", "Try more networks."]}
    header = dataclasses.replace(tiny.header, card=dataclasses.replace(tiny.card, zoo=zoo))
    return HyperRepresentation(header, tiny.autoencoder, tiny.anchors, tiny.states)


def relu():
    return cnn(activation="relu")


def normed():
    return nn.Sequential(nn.Conv2d(1, 8, 5), nn.BatchNorm2d(8), *cnn()[1:])


def test_each_call_warns_once_at_the_line_of_the_caller(artifact):
    plan = hyperinit.plan(cnn(), artifact)
    for call in (
        lambda: hyperinit.init_(relu(), artifact),
        lambda: hyperinit.init_(relu(), plan=plan),  # a plan for other activations
        lambda: hyperinit.plan(relu(), artifact),
        lambda: hyperinit.ensemble(3, artifact, model=relu),
    ):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
        assert [each.category for each in found] == [MismatchWarning]
        assert found[0].filename == __file__
        with pytest.warns(MismatchWarning, match=RELU):
            call()


def test_the_same_computation_gives_no_warning(artifact):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hyperinit.init_(cnn(), artifact)
        hyperinit.plan(nn.DataParallel(cnn()), artifact)
        hyperinit.ensemble(2, artifact, model=cnn)
        hyperinit.ensemble(2, artifact, strength=0.5)


def test_a_warning_that_is_made_an_error_leaves_module_and_generator_as_they_were(artifact):
    net, generator = relu(), gen()
    before, moved = state(net), generator.get_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MismatchWarning):
            hyperinit.init_(net, artifact, generator=generator)
    assert same(net, before)
    assert torch.equal(generator.get_state(), moved)


def test_a_plan_prints_what_it_compared_and_what_inputs_the_source_expects(artifact):
    lines = str(hyperinit.plan(cnn(), artifact)).splitlines()[-2:]
    assert lines == [
        "computation: activations, pooling, norms and order of layers as in the source",
        "inputs: 1 x 28 x 28, normalised with mean [0.5] and std [0.25]; hyperinit.transforms makes them",
    ]
    lines = str(hyperinit.plan(relu(), artifact)).splitlines()[-3:-1]
    assert lines == ["computation: differs from the source's", "- ReLU in place of Tanh after 0, 3, 6 and 9"]


def test_norms_that_are_calibrated_are_no_reason_to_warn(artifact):
    with pytest.warns(MismatchWarning, match="got BatchNorm2d, which the source does not have, after 0"):
        hyperinit.init_(normed(), artifact)
    images = [torch.randn(64, 1, 28, 28, generator=gen()).clamp(-2, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", MismatchWarning)
        hyperinit.init_(normed(), artifact, calibrate=images)


def test_a_source_without_a_description_of_its_network_is_said_not_to_be_compared(tiny):
    header = dataclasses.replace(tiny.header, architecture=None)
    source = HyperRepresentation(header, tiny.autoencoder, tiny.anchors, tiny.states)
    plan = hyperinit.plan(relu(), source)
    assert "not compared with the source's, because the source does not describe its network" in str(plan)


def test_a_source_that_is_not_usable_warns_when_it_is_used(unusable):
    message = "'?tiny'? must be usable, but its card says: Not usable as it is: samples by kde score 0.2. Train"
    for call in (
        lambda: hyperinit.init_(cnn(), unusable),
        lambda: hyperinit.ensemble(2, unusable),
        lambda: hyperinit.ensemble(2, unusable, model=cnn),
        lambda: hyperinit.load(unusable).sample(2),
    ):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
        assert [each.category for each in found] == [UnusableWarning]
        assert found[0].filename == __file__
        with pytest.warns(UnusableWarning, match=message):
            call()
    assert "Not usable as it is" in str(hyperinit.plan(cnn(), unusable))


def test_a_usable_source_gives_no_warning(tiny):
    zoo = tiny.card.zoo | {"verdict": ["Usable: samples by kde score 0.9."]}
    header = dataclasses.replace(tiny.header, card=dataclasses.replace(tiny.card, zoo=zoo))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HyperRepresentation(header, tiny.autoencoder, tiny.anchors, tiny.states).sample(2)


def test_the_transform_of_a_source_makes_its_inputs(artifact):
    transform = hyperinit.transforms(artifact)
    white = torch.full((2, 3, 40, 30), 255, dtype=torch.uint8)
    assert torch.equal(transform(white), torch.full((2, 1, 28, 28), 2.0))


def test_the_figures_that_the_warnings_state_are_those_that_are_measured():
    """On the 400 test images of digits, the mean of ten draws."""
    from hyperinit_training.images.dataset import load_images

    digits = load_images("digits")
    images, labels = map(torch.from_numpy, digits.normalised("test"))

    def right(activation, inputs):
        nets = [hyperinit.init_(cnn(1, activation), "digits", generator=gen(seed)) for seed in range(10)]
        with torch.no_grad():
            return torch.stack([(net(inputs).argmax(1) == labels).float().mean() for net in nets]).mean().item()

    found = {
        "as trained": right("tanh", images),
        "ReLU": right("relu", images),
        "0..1": right("tanh", torch.from_numpy(digits.x_test).float() / 255),
    }
    stated = {"as trained": 0.95, "ReLU": 0.27, "0..1": 0.60}
    assert found == pytest.approx(stated, abs=0.01)
    assert "27 % of test images right in place of 95 %" in computation.COST
    assert "60 % of test images right in place of 95 %" in expected.COST
