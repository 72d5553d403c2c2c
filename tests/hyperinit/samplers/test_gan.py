"""The latent GAN: its draws, its losses, its own random numbers, and its state."""

import pytest
import torch
from anchor_sets import anchors
from seeds import gen
from torch.nn import functional

from hyperinit.samplers import SamplerOptions, fitted, gan, restored
from hyperinit.samplers.gan import LatentGAN


@pytest.fixture(scope="module")
def clusters():
    """Sixteen anchors about one corner of the cube."""
    return anchors(torch.tensor([0.8, -0.6, 0.4]) + 0.02 * torch.randn(16, 3, generator=gen()))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(gan, "EPOCHS", 2)


@pytest.fixture
def small(monkeypatch):
    """Shrink the networks, so that they learn in a second."""
    for name, value in (("GENERATOR", (32, 32, 32)), ("DISCRIMINATOR", (64, 64, 64)), ("RATES", (1e-3, 2e-3))):
        monkeypatch.setattr(gan, name, value)
    return lambda epochs: monkeypatch.setattr(gan, "EPOCHS", epochs)


def test_training_moves_the_draws_towards_the_best_anchors(small):
    """Of two distant groups, the better one has 40 % of the anchors, so it contains the best 30 %."""
    corner = 0.7 * torch.randn(32, generator=gen()).sign()
    z = torch.cat([-corner.expand(96, 32), corner.expand(64, 32)]) + 0.1 * torch.randn(160, 32, generator=gen(1))

    def distance(epochs):
        small(epochs)
        return (fitted("gan30", anchors(z), SamplerOptions()).sample(200, gen()).mean(0) - corner).norm().item()

    assert distance(0) > 3.5
    assert distance(150) < 1.5


def test_training_is_repeatable_and_leaves_the_global_generator(clusters):
    before = torch.get_rng_state()
    one, two = (fitted("gan", clusters, SamplerOptions()).state() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_works_where_gradients_are_off(clusters):
    with torch.no_grad():
        state = fitted("gan", clusters, SamplerOptions()).state()
    assert not any(value.requires_grad for value in state.values())


def test_the_layers_of_the_generator_have_the_papers_sizes():
    assert [shape for name, shape in LatentGAN.shapes(7).items() if name.endswith("weight")] == [
        (128, 16), (256, 128), (512, 256), (7, 512),
    ]  # fmt: skip


def test_a_restored_sampler_draws_the_same(clusters):
    sampler = fitted("gan", clusters, SamplerOptions())
    state = sampler.state()
    assert {key: tuple(value.shape) for key, value in state.items()} == LatentGAN.shapes(3)
    again = restored("gan", state, SamplerOptions())
    assert torch.equal(again.sample(5, gen()), sampler.sample(5, gen()))


def test_norms_become_the_largest_singular_values():
    weight = torch.randn(30, 20, generator=gen())
    left = [torch.randn(30, generator=gen())]
    for _ in range(300):
        [norm] = gan._norms([(weight, weight[:, 0])], left)
    torch.testing.assert_close(norm, torch.linalg.matrix_norm(weight, 2))


def test_the_losses_are_those_of_a_plain_gan_and_reach_only_their_own_network():
    """Oracle: binary cross entropy, with weights divided by their norms beforehand."""
    real, noise = torch.randn(4, 3, generator=gen(1)), torch.randn(4, gan.NOISE, generator=gen(2))
    generator_layers, discriminator = gan._linear(gen(3), gan.NOISE, 8, 3), gan._linear(gen(4), 3, 8, 1)
    norms = [torch.tensor(1.5), torch.tensor(0.5)]
    gan._losses(real, noise, generator_layers, discriminator, norms).backward()

    divided = [(weight / norm, bias) for (weight, bias), norm in zip(discriminator, norms, strict=True)]
    fake = gan._forward(noise, generator_layers)
    one, zero = torch.ones(4, 1), torch.zeros(4, 1)
    entropy = functional.binary_cross_entropy_with_logits
    discriminator_loss = entropy(gan._forward(real, divided), one) + entropy(gan._forward(fake.detach(), divided), zero)
    generator_loss = entropy(gan._forward(fake, divided), one)
    for layers, loss in ((generator_layers, generator_loss), (discriminator, discriminator_loss)):
        values = [value for layer in layers for value in layer]
        for value, expected in zip(values, torch.autograd.grad(loss, values), strict=True):
            torch.testing.assert_close(value.grad, expected)
