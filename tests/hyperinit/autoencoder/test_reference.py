"""The reference blocks compute what a second implementation computes from a released state dict."""

import math
from dataclasses import replace

import pytest
import torch
from released import DEPTH, HEADS, HIDDEN, LATENT, WIDTH, released
from seeds import gen

from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.autoencoder.reference import Attention, FeedForward, Norm
from hyperinit.layout import Layout
from hyperinit.nets import cnn

# kernels, inputs of a kernel without its bias, and where the layer starts in the vector of 2464
LAYERS = [(8, 25, 0), (6, 200, 208), (4, 24, 1414), (20, 36, 1514), (10, 20, 2254)]
CONFIG = AutoencoderConfig(
    width=WIDTH, heads=HEADS, feedforward=HIDDEN, depth=DEPTH, latent=LATENT, dropout=0.1,
    compression="flatten", block="reference", standardise=False,
)  # fmt: skip


# The oracle: the released structure as plain functions, one network at a time


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def normed(state, name, x):
    mean = x.sum(-1, keepdim=True) / WIDTH
    std = ((x - mean).square().sum(-1, keepdim=True) / (WIDTH - 1)).sqrt()
    return state[f"{name}.alpha"] * (x - mean) / (std + 1e-6) + state[f"{name}.bias"]


def attended(state, name, x):
    q, k, v = (linear(state, f"{name}.{letter}_linear", x) for letter in "qkv")
    size, mixed = WIDTH // HEADS, []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = (q[:, part] @ k[:, part].T / math.sqrt(size)).exp()
        mixed.append(scores / scores.sum(1, keepdim=True) @ v[:, part])
    return linear(state, f"{name}.out", torch.cat(mixed, 1))


def transformed(state, side, x):
    for number in range(DEPTH):
        block = f"{side}.layers.{number}"
        x = x + attended(state, f"{block}.attn", normed(state, f"{block}.norm_1", x))
        hidden = linear(state, f"{block}.ff.linear_1", normed(state, f"{block}.norm_2", x)).clamp(min=0)
        x = x + linear(state, f"{block}.ff.linear_2", hidden)
    return x


def oracle_encode(state, vector, *, bounded=True):
    tokens = []
    for number, (kernels, inputs, start) in enumerate(LAYERS):
        for kernel in range(kernels):
            weights = vector[start + kernel * inputs : start + (kernel + 1) * inputs]
            bias = vector[start + kernels * inputs + kernel]
            neuron = torch.cat([weights, bias[None]])
            tokens.append(linear(state, f"encoder.token_embeddings.layer_lst.{number}", neuron))
    token = "encoder.comp_token" in state
    x = torch.stack([state["encoder.comp_token"][0, 0], *tokens] if token else tokens)
    x = transformed(state, "encoder", x + state["encoder.position_embeddings.weight"])
    latent = linear(state, "encoder.vec2neck.0", x[0] if token else x.reshape(-1))
    return latent.tanh() if bounded else latent


def oracle_decode(state, latent):
    x = linear(state, "decoder.nec2vec", latent).reshape(48, WIDTH) + state["decoder.position_embeddings.weight"]
    rows, vector, first = transformed(state, "decoder", x), torch.empty(2464), 0
    for number, (kernels, inputs, start) in enumerate(LAYERS):
        for kernel in range(kernels):
            neuron = linear(state, f"decoder.token_debeddings.layer_lst.{number}", rows[first + kernel])
            vector[start + kernel * inputs : start + (kernel + 1) * inputs] = neuron[:-1]
            vector[start + kernels * inputs + kernel] = neuron[-1]
        first += kernels
    return vector


def loaded(state, **changes):
    """An autoencoder with a released state dict: every key and shape must fit."""
    layout = Layout.of(cnn())
    statistics = {"mean": torch.full((layout.size,), 3.0), "std": torch.full((layout.size,), 0.5)}
    autoencoder = Autoencoder(replace(CONFIG, **changes), layout, *statistics.values())
    autoencoder.load_state_dict(state | statistics)
    return autoencoder.eval()


VECTORS = 0.5 * torch.randn(3, 2464, generator=gen(1))
COMPRESSIONS = pytest.mark.parametrize(("compression", "name"), [("flatten", "linear"), ("cls", "token")])


@COMPRESSIONS
@pytest.mark.parametrize("bounded", [True, False])
@torch.no_grad()
def test_encoding_is_that_of_the_released_structure(compression, name, bounded):
    state = released(name)
    latents = torch.stack([oracle_encode(state, vector, bounded=bounded) for vector in VECTORS])
    assert latents.std() > 0.1
    autoencoder = loaded(state, compression=compression, bounded=bounded)
    torch.testing.assert_close(autoencoder.encode(VECTORS), latents, rtol=0, atol=1e-5)


@torch.no_grad()
def test_decoding_is_that_of_the_released_structure():
    state, latents = released(), torch.rand(3, LATENT, generator=gen()) * 2 - 1
    weights = torch.stack([oracle_decode(state, latent) for latent in latents])
    assert weights.std() > 0.1
    torch.testing.assert_close(loaded(state).decode(latents), weights, rtol=0, atol=1e-5)


@torch.no_grad()
def test_standardisation_may_be_added():
    """Negative control of the two above: with it, the layer statistics matter."""
    plain, standardised = loaded(released()), loaded(released(), standardise=True)
    torch.testing.assert_close(standardised.encode(0.5 * VECTORS + 3), plain.encode(VECTORS), rtol=0, atol=1e-4)
    latents = plain.encode(VECTORS)
    torch.testing.assert_close(standardised.decode(latents), 0.5 * plain.decode(latents) + 3)


@pytest.mark.parametrize("part", [Attention(8, 2, 0.5), FeedForward(8, 16, 0.5)])
def test_dropout_acts_inside_the_parts_in_training_only(part):
    tokens = torch.randn(2, 5, 8, generator=gen())
    part.eval()
    assert torch.equal(part(tokens), part(tokens))
    part.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(part(tokens), part(tokens))


def test_the_norm_keeps_a_constant_token_finite():
    torch.testing.assert_close(Norm(4)(torch.full((1, 4), 7.0)), torch.zeros(1, 4))
