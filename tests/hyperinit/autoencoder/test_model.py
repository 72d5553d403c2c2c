"""Shapes, range, standardisation and positions of the autoencoder; bad configurations."""

import dataclasses

import pytest
import torch
from seeds import gen

from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn

SMALL = AutoencoderConfig(width=16, heads=2, feedforward=32, depth=1, latent=8)


@pytest.fixture
def layout():
    return Layout.of(cnn())


def make(layout, mean=0.0, std=1.0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scale = (torch.full((layout.size,), mean), torch.full((layout.size,), std))
        return Autoencoder(dataclasses.replace(SMALL, **options), layout, *scale).eval()


@pytest.mark.parametrize("compression", ["cls", "flatten"])
def test_shapes_there_and_back(layout, compression):
    autoencoder = make(layout, compression=compression)
    latents = autoencoder.encode(torch.randn(3, layout.size, generator=gen()))
    assert latents.shape == (3, 8)
    assert autoencoder.decode(latents).shape == (3, layout.size)


@torch.no_grad()
def test_latents_lie_between_minus_one_and_one(layout):
    autoencoder = make(layout)
    autoencoder.encoder.bottleneck.weight.mul_(3)  # outputs of some size, as after training
    outputs = []
    autoencoder.encoder.bottleneck.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    latents = autoencoder.encode(torch.randn(50, layout.size, generator=gen()))
    assert outputs[0].abs().max() > 1
    assert latents.abs().max() < 1
    assert torch.equal(latents, outputs[0].tanh())


@pytest.mark.parametrize("compression", ["cls", "flatten"])
def test_every_weight_reaches_the_latent(layout, compression):
    weights = torch.randn(1, layout.size, generator=gen(), requires_grad=True)
    make(layout, compression=compression).encode(weights).square().sum().backward()
    assert weights.grad.ne(0).float().mean() > 0.99


@torch.no_grad()
def test_networks_are_coded_one_by_one(layout):
    """A batch is no context: each network gets the latent that it would get alone."""
    autoencoder, weights = make(layout), torch.randn(4, layout.size, generator=gen())
    alone = torch.cat([autoencoder.encode(row[None]) for row in weights])
    torch.testing.assert_close(autoencoder.encode(weights), alone)
    torch.testing.assert_close(autoencoder.encode(weights.flip(0)), alone.flip(0))


@torch.no_grad()
def test_standardisation_is_undone(layout):
    """Weights in other units have the same latents, and decode to those units."""
    plain, scaled = make(layout), make(layout, mean=3.0, std=0.5)
    scaled.load_state_dict({k: v for k, v in plain.state_dict().items() if k not in ("mean", "std")}, strict=False)
    weights = torch.randn(2, layout.size, generator=gen())
    latents = plain.encode(weights)
    torch.testing.assert_close(scaled.encode(0.5 * weights + 3), latents, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scaled.decode(latents), 0.5 * plain.decode(latents) + 3)
    assert not torch.allclose(scaled.encode(weights), latents, atol=1e-2)


@pytest.mark.parametrize("compression", ["cls", "flatten"])
@torch.no_grad()
def test_the_order_of_neurons_matters_because_of_their_positions(layout, compression):
    autoencoder, weights = make(layout, compression=compression), torch.randn(2, layout.size, generator=gen())
    tokens = layout.tokens(weights)
    tokens[0] = tokens[0].flip(1)  # the first layer's neurons, without their outgoing weights
    reordered = layout.from_tokens(tokens)
    assert not torch.allclose(autoencoder.encode(reordered), autoencoder.encode(weights), atol=1e-3)


@torch.no_grad()
def test_without_positions_the_order_of_neurons_is_lost(layout):
    """The negative control: nothing but the positions tells the neurons of a layer apart."""
    autoencoder, weights = make(layout), torch.randn(2, layout.size, generator=gen())
    autoencoder.encoder.positions.zero_()
    tokens = layout.tokens(weights)
    tokens[0] = tokens[0].flip(1)
    torch.testing.assert_close(autoencoder.encode(layout.from_tokens(tokens)), autoencoder.encode(weights))


def test_compression_decides_the_size_of_the_bottleneck(layout):
    def sizes(compression):
        encoder = make(layout, compression=compression).encoder
        return {name: tuple(value.shape) for name, value in encoder.named_parameters()}

    cls, flatten = sizes("cls"), sizes("flatten")
    assert (cls["bottleneck.weight"], flatten["bottleneck.weight"]) == ((8, 16), (8, 48 * 16))
    assert (cls["positions"], flatten["positions"]) == ((49, 16), (48, 16))
    assert cls.keys() - flatten.keys() == {"cls"}
    counts = [sum(map(torch.Size.numel, map(torch.Size, found.values()))) for found in (cls, flatten)]
    assert counts[1] - counts[0] == 8 * 47 * 16 - 2 * 16  # a wider bottleneck; no extra token and no position for it


def test_dropout_acts_in_training_only(layout):
    autoencoder, weights = make(layout, dropout=0.5), torch.randn(2, layout.size, generator=gen())
    assert torch.equal(autoencoder.encode(weights), autoencoder.encode(weights))
    autoencoder.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(autoencoder.encode(weights), autoencoder.encode(weights))


def test_standardisation_is_saved_and_not_trained(layout):
    autoencoder = make(layout, mean=2.0)
    assert {"mean", "std"} <= autoencoder.state_dict().keys()
    assert not {"mean", "std"} & dict(autoencoder.named_parameters()).keys()


@pytest.mark.parametrize("block", ["compact", "reference"])
@torch.no_grad()
def test_a_variational_encoder_gives_a_mean_without_bounds_and_a_log_variance(layout, block):
    autoencoder = make(layout, block=block, variational=True)
    weights = 50 * torch.randn(3, layout.size, generator=gen())
    autoencoder.encoder.log_variance.bias.fill_(-40)
    last = autoencoder.encoder.bottleneck if block == "compact" else autoencoder.encoder.vec2neck[0]
    last.bias.fill_(5)
    mean, log_variance = autoencoder.posterior(weights)
    assert torch.equal(autoencoder.encode(weights), mean)
    assert mean.shape == log_variance.shape == (3, 8)
    assert mean.min() > 1
    assert log_variance.max() < -30
    assert autoencoder.decode(mean).shape == (3, layout.size)


def test_other_autoencoders_have_no_posterior(layout):
    with pytest.raises(ArgumentError, match=r"^a posterior needs an autoencoder with variational=True, got False"):
        make(layout).posterior(torch.zeros(1, layout.size))


@pytest.mark.parametrize("block", ["compact", "reference"])
def test_making_one_on_the_meta_device_draws_nothing(layout, block):
    before, scale = torch.get_rng_state(), torch.ones(layout.size)
    with torch.device("meta"):
        found = Autoencoder(dataclasses.replace(SMALL, block=block), layout, scale, scale)
    assert torch.equal(torch.get_rng_state(), before)
    expected = {name: value.shape for name, value in make(layout, block=block).state_dict().items()}
    assert {name: value.shape for name, value in found.state_dict().items()} == expected


def test_a_config_from_before_there_were_blocks_means_the_same():
    old = {"width": 16, "heads": 2, "feedforward": 32, "depth": 1, "latent": 8, "compression": "cls", "dropout": 0.0}
    assert AutoencoderConfig(**old) == SMALL
    now = (SMALL.block, SMALL.standardise, SMALL.bounded, SMALL.variational)
    assert now == ("compact", True, True, False)


def test_configs_are_keyword_only_and_frozen():
    with pytest.raises(TypeError):
        AutoencoderConfig(64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.width = 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, r"must be positive and heads divide width, got \(0, 4, 512, 2, 256\)"),
        ({"width": 130}, r"heads divide width, got \(130, 4"),
        ({"latent": -1}, "must be positive"),
        ({"latent": 65537}, "must be positive .* got .*65537"),
        ({"depth": 2.0}, "must be positive"),
        ({"depth": True}, "must be positive"),
        ({"heads": "4"}, "must be positive"),
        ({"feedforward": None}, "must be positive"),
        ({"compression": "mean"}, "^compression must be 'cls' or 'flatten', got 'mean'$"),
        ({"dropout": 1}, r"^dropout must lie in \[0, 1\), got 1$"),
        ({"dropout": float("nan")}, r"^dropout must lie in \[0, 1\), got nan$"),
        ({"dropout": None}, r"^dropout must lie in \[0, 1\), got None$"),
        ({"block": "torch"}, "^block must be 'compact' or 'reference', got 'torch'$"),
        ({"block": "reference", "width": 1, "heads": 1}, "^width must be at least 2 for block 'reference', got 1$"),
        ({"standardise": 1}, r"^standardise, bounded and variational must be true or false, got \(1, True, False\)$"),
        ({"variational": None}, r"must be true or false, got \(True, True, None\)$"),
    ],
)
def test_bad_configurations(options, message):
    with pytest.raises(ArgumentError, match=message):
        AutoencoderConfig(**options)


def test_bad_standardisation(layout):
    good = torch.ones(layout.size)
    with pytest.raises(ArgumentError, match=r"must have shape \(2464,\) .* got \(2463,\), \(2464,\)"):
        Autoencoder(SMALL, layout, good[1:], good)
    bad = good.clone()
    bad[7] = 0
    with pytest.raises(ArgumentError, match=r"std be above 0, got .* a least std of 0$"):
        Autoencoder(SMALL, layout, good, bad)
