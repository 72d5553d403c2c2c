"""Shapes, range and standardisation of the autoencoder."""

import dataclasses

import pytest
import torch
from seeds import gen
from tiny_source import CONFIG as SMALL

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


def make(layout, mean=0.0, std=1.0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scale = (torch.full((layout.size,), mean), torch.full((layout.size,), std))
        return Autoencoder(dataclasses.replace(SMALL, **options), layout, *scale).eval()


@pytest.mark.parametrize("compression", ["cls", "flatten"])
def test_encoding_and_decoding_give_the_right_shapes(layout, compression):
    autoencoder = make(layout, compression=compression)
    latents = autoencoder.encode(torch.randn(3, layout.size, generator=gen()))
    assert latents.shape == (3, 8)
    assert autoencoder.decode(latents).shape == (3, layout.size)


@torch.no_grad()
def test_latents_lie_between_minus_one_and_one(layout):
    autoencoder = make(layout)
    autoencoder.encoder.bottleneck.weight.mul_(3)  # large enough that the tanh matters
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
def test_the_latent_of_a_network_does_not_depend_on_its_batch(layout):
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


def test_an_autoencoder_that_is_not_variational_has_no_posterior(layout):
    with pytest.raises(ArgumentError, match=r"^posterior needs an autoencoder with variational=True, got False"):
        make(layout).posterior(torch.zeros(1, layout.size))


@pytest.mark.parametrize("block", ["compact", "reference"])
def test_making_one_on_the_meta_device_draws_nothing(layout, block):
    before, scale = torch.get_rng_state(), torch.ones(layout.size)
    with torch.device("meta"):
        found = Autoencoder(dataclasses.replace(SMALL, block=block), layout, scale, scale)
    assert torch.equal(torch.get_rng_state(), before)
    expected = {name: value.shape for name, value in make(layout, block=block).state_dict().items()}
    assert {name: value.shape for name, value in found.state_dict().items()} == expected


def test_bad_standardisation(layout):
    good = torch.ones(layout.size)
    with pytest.raises(ArgumentError, match=r"must have shape \(2464,\) .* got \(2463,\), \(2464,\)"):
        Autoencoder(SMALL, layout, good[1:], good)
    bad = good.clone()
    bad[7] = 0
    with pytest.raises(ArgumentError, match=r"std must be above 0, got .* a least std of 0$"):
        Autoencoder(SMALL, layout, good, bad)
