"""Registering custom samplers: their draws, and the names and classes that are refused."""

import pytest
import torch

import hyperinit
from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit.samplers import METHODS


class Centre:
    """The mean of the anchors."""

    space = "latent"

    def __init__(self, options):
        pass

    def fit(self, anchors):
        self.mean = anchors.z.mean(0)

    def sample(self, count, generator):
        return self.mean.expand(count, -1)


class Weights(Centre):
    space = "weight"

    def fit(self, anchors):
        self.mean = anchors.weights.mean(0)


@pytest.fixture(autouse=True)
def _methods_are_put_back():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.parametrize("kind", [Centre, Weights])
def test_a_registered_sampler_is_a_method_of_sources_loaded_before(tiny, kind):
    hyperinit.register_sampler("mine", kind, title="mine")
    drawn = tiny.sample(2, method="mine")
    full, best = tiny.anchors, tiny.anchors.best()
    for name, anchors in (("mine", full), ("mine30", best)):
        centre = anchors.weights.mean(0) if kind is Weights else tiny.decode(anchors.z.mean(0, keepdim=True))[0]
        torch.testing.assert_close(tiny.sample(2, method=name)[0], centre)
    assert drawn.shape == (2, 2464)
    assert tiny.methods()["mine"] == "mine"
    assert "30 %" in tiny.methods()["mine30"]


def test_a_replaced_sampler_is_used_at_once(tiny):
    hyperinit.register_sampler("mine", Centre, title="one")
    first = tiny.sample(method="mine")
    hyperinit.register_sampler("mine", Weights, title="two", replace=True)
    assert not torch.equal(tiny.sample(method="mine"), first)


@pytest.mark.parametrize(
    ("drawn", "got"),
    [
        (torch.zeros(4, 7), r"torch\.float32 \(4, 7\)"),
        (torch.zeros(3, 8), r"torch\.float32 \(3, 8\)"),
        (torch.zeros(4, 8).int(), r"torch\.int32 \(4, 8\)"),
        (torch.full((4, 8), float("nan")), "NaN or infinity"),
        ([0.0], "list"),
    ],
)
def test_draws_of_a_custom_sampler_are_checked(tiny, drawn, got):
    class Bad(Centre):
        def sample(self, count, generator):
            return drawn

    hyperinit.register_sampler("bad", Bad, title="bad")
    message = rf"^method 'bad' must draw finite floating point numbers of shape \(4, 8\), got {got}$"
    with pytest.raises(ArgumentError, match=message):
        tiny.sample(4, method="bad")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("kde", Centre, "^name must be new, got 'kde', but 'kde' exists; pass replace=True to replace it$"),
        ("Mine", Centre, "^name must consist of a-z, 0-9 and - and not end in 30, got 'Mine'$"),
        ("mine30", Centre, "not end in 30"),
        ("a.b", Centre, "^name must consist"),
        ("", Centre, "^name must consist"),
        ("mine\n", Centre, "^name must consist"),
        (3, Centre, "^name must consist"),
        (
            "mine",
            object,
            "^sampler_class must be a class with fit and sample, got <class 'object'> without fit and sample$",
        ),
        ("mine", Centre(None), "^sampler_class must be a class"),
        (
            "mine",
            type("S", (Centre,), {"space": "z"}),
            "^sampler_class\\.space must be 'latent' or 'weight', got 'z'$",
        ),
    ],
)
def test_bad_registrations_change_nothing(name, kind, message):
    before = dict(METHODS)
    with pytest.raises(ArgumentError, match=message):
        hyperinit.register_sampler(name, kind, title="mine")
    assert before == METHODS


def test_before_it_is_registered_a_method_is_unknown(tiny):
    with pytest.raises(UnknownNameError, match="unknown method 'mine'"):
        tiny.sample(method="mine")
