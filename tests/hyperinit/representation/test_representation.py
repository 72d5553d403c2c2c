"""Encoding, decoding, sampling and building networks with a hyper-representation."""

import dataclasses

import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArgumentError, LayoutError, UnknownNameError
from hyperinit.representation import HyperRepresentation, representation
from hyperinit.samplers import METHODS, fitted


@pytest.fixture
def vectors():
    return torch.randn(7, 2464, generator=gen())


def test_shapes_and_types(tiny, vectors):
    latents = tiny.encode(vectors)
    assert latents.shape == (7, 8)
    assert latents.abs().max() < 1
    weights = tiny.decode(latents)
    assert weights.shape == (7, 2464)
    assert latents.dtype == weights.dtype == torch.float32
    assert not latents.requires_grad
    assert not weights.requires_grad


def test_it_is_the_autoencoder_that_codes(tiny, vectors):
    latents = tiny.autoencoder.encode(vectors)
    assert torch.equal(tiny.encode(vectors), latents)
    assert torch.equal(tiny.decode(latents), tiny.autoencoder.decode(latents))


def test_other_floating_point_types_come_back_as_float32(tiny, vectors):
    torch.testing.assert_close(tiny.encode(vectors.double()), tiny.encode(vectors))
    assert tiny.encode(vectors.half()).dtype == tiny.decode(torch.zeros(1, 8).half()).dtype == torch.float32


def test_encoding_in_several_batches_gives_the_same_latents(tiny, vectors, monkeypatch):
    whole = tiny.encode(vectors)
    decoded = tiny.decode(whole)
    monkeypatch.setattr(representation, "MOST_ROWS", 3)  # 3 + 3 + 1
    sizes = []
    encode = tiny.autoencoder.encode_unbounded
    monkeypatch.setattr(tiny.autoencoder, "encode_unbounded", lambda part: (sizes.append(len(part)), encode(part))[1])
    torch.testing.assert_close(tiny.encode(vectors), whole)
    torch.testing.assert_close(tiny.decode(whole), decoded)
    assert sizes == [3, 3, 1]


def test_the_autoencoder_is_evaluated_and_frozen(tiny, vectors):
    config = dataclasses.replace(tiny.header.autoencoder, dropout=0.9)
    autoencoder = Autoencoder(config, tiny.layout, tiny.autoencoder.mean, tiny.autoencoder.std).train()
    hr = HyperRepresentation(tiny.header, autoencoder, tiny.anchors)
    assert torch.equal(hr.encode(vectors), hr.encode(vectors))
    assert not any(value.requires_grad for value in autoencoder.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda hr: hr.encode(torch.zeros(2464)), r"^weights must have shape \(N, 2464\) with N >= 1, got \(2464,\)$"),
        (lambda hr: hr.encode(torch.zeros(2, 2463)), r"^weights must have shape .* got \(2, 2463\)$"),
        (lambda hr: hr.encode(torch.zeros(0, 2464)), r"^weights must have shape .* got \(0, 2464\)$"),
        (lambda hr: hr.decode(torch.zeros(2, 9)), r"^latents must have shape \(N, 8\) with N >= 1, got \(2, 9\)$"),
        (lambda hr: hr.decode(torch.zeros(1, 2, 8)), r"^latents must have shape .* got \(1, 2, 8\)$"),
        (lambda hr: hr.decode(torch.zeros(2, 8).int()), r"^latents must hold floating point numbers, got torch.int32$"),
        (lambda hr: hr.sample(0), r"^count must be an integer of at least 1, got 0$"),
        (lambda hr: hr.sample(-1), r"^count must be an integer of at least 1, got -1$"),
        (lambda hr: hr.sample(2.0), r"^count must be an integer of at least 1, got 2.0$"),
        (lambda hr: hr.sample(True), r"^count must be an integer of at least 1, got True$"),
        (lambda hr: hr.sample("kde"), r"^count must be an integer of at least 1, got 'kde'$"),
    ],
)
def test_bad_arguments(tiny, call, message):
    with pytest.raises(ArgumentError, match=message):
        call(tiny)


# Sampling


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_whole_networks(tiny, method):
    weights = tiny.sample(4, method=method, generator=gen())
    assert weights.shape == (4, 2464)
    assert weights.dtype == torch.float32
    assert weights.isfinite().all()
    assert not weights.requires_grad
    assert len(weights.unique(dim=0)) > 1
    assert torch.equal(weights, tiny.sample(4, method=method, generator=gen()))


@pytest.mark.parametrize("method", ["kde30", "noise"])
def test_latents_are_decoded_and_weights_are_not(tiny, method):
    drawn = fitted(method, tiny.anchors, tiny.header.samplers).sample(3, gen())
    expected = tiny.decode(drawn) if method == "kde30" else drawn
    assert torch.equal(tiny.sample(3, method=method, generator=gen()), expected)


def test_without_a_method_the_card_decides(tiny):
    assert torch.equal(tiny.sample(3, generator=gen()), tiny.sample(3, method="kde30", generator=gen()))
    card = dataclasses.replace(tiny.card, recommended="average")
    other = HyperRepresentation(dataclasses.replace(tiny.header, card=card), tiny.autoencoder, tiny.anchors)
    assert torch.equal(other.sample(3, generator=gen()), tiny.sample(3, method="average", generator=gen()))


def test_the_options_of_the_artifact_reach_the_samplers(tiny):
    samplers = dataclasses.replace(tiny.header.samplers, bandwidth=0.0)
    exact = HyperRepresentation(dataclasses.replace(tiny.header, samplers=samplers), tiny.autoencoder, tiny.anchors)
    [weights] = exact.sample(1, method="kde", generator=gen())
    nearest = (tiny.decode(tiny.anchors.z) - weights).abs().amax(1).min()
    assert nearest < 1e-5
    assert (tiny.decode(tiny.anchors.z) - tiny.sample(1, method="kde", generator=gen())).abs().amax(1).min() > 1e-4


def test_one_draw_is_the_default(tiny):
    assert tiny.sample(generator=gen()).shape == (1, 2464)


def test_drawing_does_not_move_the_global_generator_and_without_one_it_does(tiny):
    before = torch.get_rng_state()
    tiny.sample(2, generator=gen())
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first = tiny.sample(2)
        assert not torch.equal(tiny.sample(2), first)
        torch.manual_seed(5)
        assert torch.equal(tiny.sample(2), first)


def test_a_sampler_is_fitted_once(tiny, monkeypatch):
    calls = []
    monkeypatch.setattr(
        representation, "fitted", lambda name, *rest, **how: (calls.append(name), fitted(name, *rest, **how))[1]
    )
    for method in ("kde", "local", "kde", "local"):
        tiny.sample(1, method=method, generator=gen())
    assert calls == ["kde", "local"]


def test_unknown_methods_help(tiny):
    with pytest.raises(UnknownNameError, match=r"^unknown method 'locale'; did you mean 'local' or 'local30'"):
        tiny.sample(method="locale")


# Building


def test_a_built_model_has_the_weights(tiny):
    [weights] = tiny.sample(generator=gen())
    model = tiny.build_model(weights)
    assert isinstance(model, nn.Sequential)
    for name, value in tiny.layout.raw_tensors(weights).items():
        assert torch.equal(model.get_parameter(name), value)
    assert torch.equal(tiny.layout.flatten(model.state_dict()), weights)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert all(value.requires_grad for value in model.parameters())


def test_built_models_share_no_memory(tiny):
    [weights] = tiny.sample(generator=gen())
    one, two = tiny.build_model(weights), tiny.build_model(weights)
    with torch.no_grad():
        one[0].weight.zero_()
    assert two[0].weight.any()
    assert torch.equal(tiny.layout.flatten(two.state_dict()), weights)


def test_vectors_of_another_size_are_not_built(tiny):
    with pytest.raises(ArgumentError, match=r"weights must have shape \(2464,\), got \(2463,\)"):
        tiny.build_model(torch.zeros(2463))


def test_several_vectors_are_not_one_model(tiny):
    with pytest.raises(ArgumentError, match=r"2464.*got \(2, 2464\)"):
        tiny.build_model(tiny.sample(2, generator=gen()))


def test_without_an_architecture_nothing_is_built(tiny):
    header = dataclasses.replace(tiny.header, architecture=None)
    hr = HyperRepresentation(header, tiny.autoencoder, tiny.anchors)
    message = r"^tiny does not describe its architecture\. Create the module and call init_ on it\.$"
    with pytest.raises(LayoutError, match=message):
        hr.build_model(hr.sample(generator=gen())[0])


def test_layer_stats_are_the_zoos(tiny):
    stats = tiny.layer_stats()
    assert list(stats) == ["0", "3", "6", "9", "11"]
    for name, place in tiny.layout.layer_slices.items():
        part = tiny.anchors.weights[:, place]
        assert stats[name] == pytest.approx((part.mean().item(), part.std().item()), abs=1e-6)
    assert len({std for _, std in stats.values()}) == 5


@pytest.mark.parametrize("what", ["encode", "decode"])
def test_nan_is_refused(tiny, what):
    size = {"encode": 2464, "decode": 8}[what]
    with pytest.raises(ArgumentError, match="must be finite, got NaN or infinity"):
        getattr(tiny, what)(torch.full((1, size), float("nan")))


@pytest.mark.parametrize("method", [["kde"], {}, 5, torch.ones(2)])
def test_a_method_that_is_no_name_is_refused(tiny, method):
    with pytest.raises(UnknownNameError, match=r"^unknown method "):
        tiny.sample(1, method=method)


def test_spread_is_true_or_false(tiny):
    with pytest.raises(ArgumentError, match=r"^spread must be True or False, got \[\]$"):
        tiny.sample(1, spread=[])


def test_more_networks_than_the_memory_holds_are_refused_before_a_draw(tiny, monkeypatch):
    monkeypatch.setattr(representation, "memory", lambda: 4 * tiny.layout.size * 2)
    assert len(tiny.sample(2, method="kde", generator=gen())) == 2
    with pytest.raises(
        ArgumentError, match=r"^count must be at most 2 networks, which fill the memory, got 1000000000$"
    ):
        tiny.sample(10**9)
