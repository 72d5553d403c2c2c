"""NaN and infinity that a source makes of finite numbers are refused, and settings of the caller reach no number."""

import dataclasses

import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS, Anchors

DTYPES = (torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture
def vectors(tiny):
    return tiny.anchors.weights[:3]


def huge(tiny, *names):
    """Multiply parameters of the autoencoder by 1e30; all stay finite."""
    state = tiny.autoencoder.state_dict()
    state |= {name: (value * 1e30).clamp(-3e38, 3e38) for name, value in state.items() if name.startswith(names)}
    tiny.autoencoder.load_state_dict(state)
    return tiny


def test_huge_weights_of_the_encoder_are_refused_when_they_encode(tiny, vectors):
    with pytest.raises(ArtifactError, match=r"^'tiny' must encode to finite latents, got NaN or infinity\. .* another"):
        huge(tiny, "encoder.embedders", "encoder.positions").encode(vectors)


def test_an_infinite_latent_is_refused_before_the_tanh_hides_it(tiny, vectors):
    tiny.autoencoder.encoder.bottleneck.bias.fill_(3e38)
    tiny.autoencoder.encoder.bottleneck.weight.fill_(0)
    assert bool((tiny.encode(vectors) == 1).all())
    tiny.autoencoder.encoder.bottleneck.weight.copy_(3e38 * torch.ones(8, 16))
    tiny.autoencoder.encoder.blocks.norm.bias.fill_(3e38)
    assert tiny.autoencoder.encode(vectors).isfinite().all(), "the tanh of infinity is 1"
    with pytest.raises(ArtifactError, match="must encode to finite latents"):
        tiny.encode(vectors)


def test_a_standardisation_that_overflows_is_refused(tiny, vectors):
    tiny.autoencoder.std = torch.full_like(tiny.autoencoder.std, 1e-45)
    with pytest.raises(ArtifactError, match=r"^'tiny' must standardise to finite weights, got NaN or infinity\. "):
        tiny.encode(vectors)
    with pytest.raises(ArtifactError, match="must standardise to finite weights"):
        tiny.condition(tiny.anchors.weights, tiny.anchors.score)


def test_huge_weights_of_the_decoder_are_refused_when_they_decode(tiny):
    huge(tiny, "decoder.debedders").autoencoder.std = torch.full_like(tiny.autoencoder.std, 3e38)
    latents = tiny.anchors.z[:3]
    with pytest.raises(ArtifactError, match=r"^'tiny' must decode to finite weights, got NaN or infinity\. .* another"):
        tiny.decode(latents)
    for method in ("kde", "uniform", "gan", "counterfactual"):
        with pytest.raises(ArtifactError, match=f"must decode to finite weights, .* with the method '{method}'"):
            tiny.sample(method=method, generator=gen())


def test_anchors_that_overflow_are_refused_by_every_method_that_uses_their_weights(tiny):
    signs = torch.tensor([1.0, -1.0] * 10)[:, None]
    anchors = dataclasses.replace(tiny.anchors, weights=3e38 * signs.expand(-1, tiny.layout.size))
    hr = HyperRepresentation(tiny.header, tiny.autoencoder, anchors)
    with pytest.raises(ArtifactError, match="method 'noise' must draw finite floating point numbers"):
        hr.sample(method="noise", generator=gen())
    with pytest.raises(ArtifactError, match="must have anchors with a finite mean and spread"):
        hr.layer_stats()


def test_a_layer_of_one_weight_has_no_spread(tiny):
    config = AutoencoderConfig(width=8, heads=2, feedforward=8, depth=1, latent=2)
    layout = Layout.of(nn.Linear(1, 1, bias=False))
    model = Autoencoder(config, layout, torch.zeros(1), torch.ones(1))
    header = dataclasses.replace(tiny.header, layout=layout, architecture=None, autoencoder=config)
    hr = HyperRepresentation(
        header, model, Anchors(torch.zeros(1, 2), torch.ones(1), torch.ones(1), torch.full((1, 1), 0.5))
    )
    assert hr.layer_stats() == {"": (0.5, 0.0)}


@pytest.mark.parametrize("what", ["encode", "decode"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda size: [[0.0] * size], r"must be a tensor of shape \(N, \d+\), got list"),
        (lambda size: torch.zeros(1, size).numpy(), "must be a tensor of shape .*, got ndarray"),
        (
            lambda size: torch.zeros(1, size, dtype=torch.complex64),
            "must hold floating point numbers, got torch.complex64",
        ),
        (lambda size: torch.zeros(1, size).to_sparse(), "must be a dense tensor with values, got torch.sparse_coo"),
        (lambda size: torch.zeros(1, size, device="meta"), "must be a dense tensor with values, got .* on meta"),
        (lambda size: torch.full((1, size), 1e300, dtype=torch.float64), "must be finite, got NaN or infinity"),
    ],
)
def test_anything_but_finite_vectors_is_the_callers_mistake(tiny, what, make, message):
    size = {"encode": 2464, "decode": 8}[what]
    with pytest.raises(ArgumentError, match=message):
        getattr(tiny, what)(make(size))


# Settings of the caller


def everything(path):
    """Load an artifact, and compute with it in every way."""
    hr = HyperRepresentation.read(path)
    weights = hr.anchors.weights[:3]
    methods = [name for name in METHODS if not name.startswith("neigh")]
    draws = [hr.sample(2, method=name, generator=gen()) for name in methods]
    other = hr.condition(hr.anchors.weights, hr.anchors.score)
    model = hr.build_model(weights[0])
    stats = [torch.tensor(value, dtype=torch.float64, device="cpu") for value in hr.layer_stats().values()]
    latents = hr.encode(weights)
    found = {"latents": latents, "decoded": hr.decode(latents), "conditioned": other.anchors.z}
    found |= {"epochs": other.anchors.epoch} | dict(zip(methods, draws, strict=True))
    found |= {f"stats {place}": value for place, value in enumerate(stats)}
    found |= {f"built {name}": value for name, value in model.state_dict().items()}
    return found | hr.autoencoder.state_dict()


def different(found, expected):
    assert found.keys() == expected.keys()
    return [
        name
        for name, value in expected.items()
        if (value.dtype, value.device) != (found[name].dtype, found[name].device) or not torch.equal(value, found[name])
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_default_dtype_of_the_caller_changes_no_number(artifact, dtype):
    expected = everything(artifact)
    try:
        torch.set_default_dtype(dtype)
        assert different(everything(artifact), expected) == []
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "setting",
    [
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        torch.inference_mode,
        torch.enable_grad,
    ],
    ids=["meta device", "autocast", "inference mode", "gradients"],
)
def test_other_settings_of_the_caller_change_no_number(artifact, setting):
    expected = everything(artifact)
    with setting():
        found = everything(artifact)
    assert different(found, expected) == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("changes", [{}, {"chunk": 4}, {"block": "reference", "compression": "flatten"}])
def test_an_autoencoder_is_made_in_float32(dtype, changes):
    layout = Layout.of(nn.Linear(5, 3))
    config = AutoencoderConfig(width=8, heads=2, feedforward=8, depth=1, latent=2, **changes)
    try:
        torch.set_default_dtype(dtype)
        model = Autoencoder(config, layout, torch.zeros(layout.size), torch.ones(layout.size))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
