"""The compact encoder and decoder: sizes, positions and the shapes they map between."""

import dataclasses

import pytest
import torch
from seeds import gen
from tiny_source import CONFIG

from hyperinit.autoencoder import Decoder, Encoder
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


def make(layout, kind=Encoder, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(dataclasses.replace(CONFIG, **options), layout).eval()


@pytest.mark.parametrize("variational", [False, True])
@torch.no_grad()
def test_an_encoder_gives_latents_or_their_mean_and_log_variance(layout, variational):
    weights = torch.randn(3, layout.size, generator=gen())
    assert make(layout, variational=variational)(weights).shape == (3, 16 if variational else 8)


@torch.no_grad()
def test_a_decoder_gives_weights_that_depend_on_the_latent(layout):
    weights = make(layout, Decoder)(torch.randn(3, 8, generator=gen()))
    assert weights.shape == (3, layout.size)
    assert (weights[0] != weights[1]).float().mean() > 0.99


@pytest.mark.parametrize("compression", ["cls", "flatten"])
@torch.no_grad()
def test_the_order_of_neurons_matters_because_of_their_positions(layout, compression):
    encoder, weights = make(layout, compression=compression), torch.randn(2, layout.size, generator=gen())
    tokens = layout.tokens(weights)
    tokens[0] = tokens[0].flip(1)  # the first layer's neurons, without their outgoing weights
    reordered = layout.from_tokens(tokens)
    assert not torch.allclose(encoder(reordered), encoder(weights), atol=1e-3)


@torch.no_grad()
def test_without_positions_the_order_of_neurons_is_lost(layout):
    """The negative control: nothing but the positions tells the neurons of a layer apart."""
    encoder, weights = make(layout), torch.randn(2, layout.size, generator=gen())
    encoder.positions.zero_()
    tokens = layout.tokens(weights)
    tokens[0] = tokens[0].flip(1)
    torch.testing.assert_close(encoder(layout.from_tokens(tokens)), encoder(weights))


def test_compression_decides_the_size_of_the_bottleneck(layout):
    def sizes(compression):
        encoder = make(layout, compression=compression)
        return {name: tuple(value.shape) for name, value in encoder.named_parameters()}

    cls, flatten = sizes("cls"), sizes("flatten")
    assert (cls["bottleneck.weight"], flatten["bottleneck.weight"]) == ((8, 16), (8, 48 * 16))
    assert (cls["positions"], flatten["positions"]) == ((49, 16), (48, 16))
    assert cls.keys() - flatten.keys() == {"cls"}
    counts = [sum(map(torch.Size.numel, map(torch.Size, found.values()))) for found in (cls, flatten)]
    assert counts[1] - counts[0] == 8 * 47 * 16 - 2 * 16  # a wider bottleneck; no extra token and no position for it
