"""Batches in another range than the source's images bring a warning, once, with what to do."""

import warnings
from dataclasses import replace

import pytest
import torch

import hyperinit
from hyperinit import MismatchWarning
from hyperinit.batches.expected import expected_range, watched
from hyperinit.nets import cnn

PIXELS = torch.randint(256, (16, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CARD = hyperinit.load("digits").card
DIGITS = CARD.preprocessing
LABELS = torch.arange(16) % 10


def normalised(images, preprocessing):
    return (images / 255 - preprocessing["mean"][0]) / preprocessing["std"][0]


WRONG = {
    "uint8": PIXELS,
    "0..255": PIXELS.float(),
    "0..1": PIXELS / 255,
    "-1..1": PIXELS / 127.5 - 1,
}


def read(images, preprocessing=DIGITS, name="calibrate"):
    card = replace(CARD, preprocessing=preprocessing)
    return list(watched([images], None, card)[0] if name == "calibrate" else watched(None, [images], card)[1])


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", ["calibrate", "select"])
def test_images_that_are_not_normalised_bring_a_warning(kind, name):
    with pytest.warns(
        MismatchWarning, match=rf"(?s)^{name} must hold images .* Normalise .* hyperinit\.transforms\('digits'\)$"
    ) as found:
        [images] = read(WRONG[kind], name=name)
    assert images is WRONG[kind]
    assert len(found) == 1


@pytest.mark.parametrize(
    "images",
    [
        normalised(PIXELS, DIGITS),
        torch.randn(16, 1, 28, 28),
        torch.zeros(16, 1, 28, 28),
        torch.rand(16, 784),  # no images
        torch.randint(9, (16, 20)),  # tokens
        torch.rand(2, 1, 8, 8)[:, :, :2],  # too few values
        {"x": 1},
    ],
)
def test_other_batches_bring_none(images):
    assert len(read(images)) == 1


@pytest.mark.parametrize("preprocessing", [{}, {"mean": [], "std": []}, {"mean": [0.1], "std": [0.0]}, {"mean": 5}])
def test_without_a_known_normalisation_nothing_is_compared(preprocessing):
    assert expected_range(preprocessing) is None
    read(PIXELS, preprocessing)


def test_one_loader_for_both_purposes_stays_one_loader():
    batches = [(PIXELS, LABELS)]
    first, second = watched(batches, batches, CARD)
    assert first is second


@pytest.mark.parametrize("source", ["digits", "mnist", "svhn", "cifar10", "stl10"])
def test_the_embedded_sources_know_their_normalisation(source):
    card = hyperinit.load(source).card.preprocessing
    with pytest.warns(MismatchWarning):
        read(PIXELS / 255, card)
    read(normalised(PIXELS, card), card)


def test_init_and_ensemble_warn_and_go_on():
    batches = [(PIXELS / 255, LABELS)]
    calls = (
        lambda **loaders: hyperinit.init_(cnn(), "digits", **loaders),
        lambda **loaders: hyperinit.ensemble(2, "digits", **loaders),
    )
    for call in calls:
        with pytest.warns(MismatchWarning, match=r"^select must hold images") as found:
            call(select=batches, oversample=2)
        assert len(found) == 1


def test_a_warning_that_is_an_error_leaves_the_model_as_it_was():
    net = cnn()
    before = [value.clone() for value in net.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MismatchWarning):
            hyperinit.init_(net, "digits", select=[(PIXELS / 255, LABELS)], oversample=2)
    assert all(map(torch.equal, net.parameters(), before))
