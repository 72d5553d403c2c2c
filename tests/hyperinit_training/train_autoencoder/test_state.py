"""Single steps of an autoencoder's training: views, losses, rates and devices."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from hyperinit.autoencoder import Autoencoder
from hyperinit_training.machine import devices, precision, processes
from hyperinit_training.train_autoencoder.losses import ReconstructionLoss, kl_divergence
from hyperinit_training.train_autoencoder.state import Training
from hyperinit_training.zoo.statistics import layer_std


@pytest.fixture(scope="module")
def short(recipe):
    """Twelve steps with everything random switched on, dropout included."""
    return replace(recipe.autoencoder, steps=12, dropout=0.1, batch=4, width=16, latent=8)


def build_training(recipe, zoo, device="cpu"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Training(recipe, zoo, device=torch.device(device))


def test_the_autoencoder_standardises_by_layer_of_the_train_split(prepared, short):
    training = build_training(short, prepared)
    assert isinstance(training.autoencoder, Autoencoder)
    assert torch.equal(training.autoencoder.std, layer_std(prepared.part("train").weights, prepared.layout))
    assert len(training.train) == 12
    assert len(training.val) == 3


@pytest.mark.parametrize("lwln", [True, False])
def test_without_lwln_the_loss_is_the_plain_squared_error(prepared, short, lwln):
    training = build_training(replace(short, lwln=lwln), prepared)
    target, output = prepared.weights[:4], prepared.weights[4:8]
    std = layer_std(training.train, prepared.layout)
    expected = ((output - target) / std if lwln else output - target).square().mean()
    assert training.loss(output, target).item() == pytest.approx(expected.item(), rel=1e-5)
    assert isinstance(training.loss, ReconstructionLoss)


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_the_total_weighs_reconstruction_and_contrast(prepared, short, beta):
    losses = build_training(replace(short, beta=beta), prepared).losses(prepared.weights[:4])
    expected = beta * losses.reconstruction + (1 - beta) * losses.contrast
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (losses.contrast.item() == 0) == (beta == 1)


@pytest.mark.parametrize("warmup", [4, 0])
def test_the_rate_warms_up_and_falls_to_zero(prepared, short, warmup):
    training = build_training(replace(short, warmup=warmup), prepared)
    rates = []
    for _ in range(12):
        training.advance()
        rates.append(training.optimizer.param_groups[0]["lr"] / short.rate)
    assert rates[: warmup + 1] == pytest.approx([*((i + 1) / 4 for i in range(warmup)), 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert 0 < rates[-1] < 0.1


# Variational


def trained(recipe, zoo, steps):
    """The training after some steps, and the losses of each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        training = Training(recipe, zoo)
        return training, [training.advance() for _ in range(steps)]


@pytest.mark.parametrize("block", ["compact", "reference"])
def test_a_large_kl_weight_pulls_latents_to_the_prior_and_none_does_not(prepared, short, block):
    recipe = replace(short, steps=60, warmup=5, rate=1e-2, variational=True, block=block)
    divergence = {}
    for weight in (0.0, 100.0):
        training, losses = trained(replace(recipe, kl_weight=weight), prepared, 60)
        with torch.no_grad():
            divergence[weight] = kl_divergence(*training.autoencoder.eval().posterior(training.val)).item()
        assert all(found.total.isfinite() for found in losses)
        rest = [found.total - weight * found.kl for found in losses[-3:]]
        expected = [recipe.beta * found.reconstruction + (1 - recipe.beta) * found.contrast for found in losses[-3:]]
        torch.testing.assert_close(torch.stack(rest), torch.stack(expected), rtol=1e-3, atol=1e-3)
        if weight:
            assert losses[-1].kl < 0.5 * losses[0].kl
    assert divergence[100.0] < 0.02
    assert divergence[0.0] > 10 * divergence[100.0]


def test_a_variational_training_draws_with_the_spread_of_its_encoder(prepared, short, monkeypatch):
    training = build_training(replace(short, variational=True, latent_noise=50.0, dropout=0.0), prepared)
    seen, decode = [], training.autoencoder.decode
    monkeypatch.setattr(training.autoencoder, "decode", lambda latents: seen.append(latents) or decode(latents))
    for log_variance in (-60.0, 4.0):
        with torch.no_grad():
            training.autoencoder.encoder.log_variance.weight.zero_()
            training.autoencoder.encoder.log_variance.bias.fill_(log_variance)
        state, weights = training.generator.get_state(), prepared.weights[:4]
        training.losses(weights)
        training.generator.set_state(state)
        training.losses(weights)
    assert torch.equal(seen[0], seen[1])  # the training's own generator decides the draw
    assert torch.equal(seen[2], seen[3])
    assert (seen[2] - seen[0]).std().item() > 1  # exp(4 / 2) = 7.4
    assert seen[0].abs().max() < 10  # latent_noise plays no part


def test_the_divergence_equals_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, generator=generator)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


# Views


def test_the_target_of_a_view(prepared, short):
    """The target of a view is permuted and erased, permuted only, or neither."""
    weights, found = prepared.weights[:12], {}
    for target in ("view", "clean", "aligned"):
        recipe = replace(short, target=target, permuted=1.0, erase=1.0)
        view, found[target] = build_training(recipe, prepared).view(weights)
        found["seen"] = view
    assert torch.equal(found["view"], found["seen"])
    assert torch.equal(found["aligned"], weights)
    erased = found["clean"] != found["seen"]
    assert erased.any(1).all()
    assert not found["seen"][erased].any()
    assert torch.equal(found["clean"].sort(1).values, weights.sort(1).values)
    assert (found["clean"] != weights).any(1).all()


@pytest.mark.parametrize("changes", [{"permuted": 0.0, "erase": 0.0}, {"permutations": 0, "erase": 0.0}])
def test_without_augmentation_a_view_is_the_network(prepared, short, changes):
    view, target = build_training(replace(short, **changes), prepared).view(prepared.weights)
    assert torch.equal(view, prepared.weights)
    assert torch.equal(target, prepared.weights)


# Devices

VARIANTS = {
    "plain": {},
    "reference": {"block": "reference", "target": "aligned"},
    "variational": {"variational": True},
    "chunked": {"chunk": 64, "window": 8, "halo": 2},
    "no contrast": {"beta": 1.0},
    "cls": {"compression": "flatten"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_of_a_step_is_left_on_the_cpu(prepared, short, monkeypatch, variant):
    """On the meta device nothing is computed, but a step that mixes it with the CPU fails as on a GPU."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    training = build_training(replace(short, dropout=0.0, **VARIANTS[variant]), prepared, "meta")
    losses = training.losses(training.train[torch.arange(4, device="meta")])
    losses.total.backward()
    assert {value.device.type for value in vars(losses).values()} == {"meta"}
    gradients = [parameter.grad for parameter in training.autoencoder.parameters() if parameter.grad is not None]
    assert {gradient.device.type for gradient in gradients} == {"meta"}


def test_dropout_on_a_gpu_is_seeded_at_every_step(prepared, short, monkeypatch):
    """Checkpoints then need no state of the GPU's generator."""
    drawn = []
    generator = torch.Generator()
    monkeypatch.setattr(devices, "global_generator", lambda device: drawn.append(device.type) or generator)
    training = build_training(short, prepared)
    training._seed_dropout()
    assert not drawn  # one process on a CPU: the generator's state is saved
    training.device, seeds = torch.device("cuda:0"), []
    for training.step in (3, 4, 3):
        training._seed_dropout()
        seeds.append(generator.initial_seed())
    assert drawn == ["cuda"] * 3
    assert seeds[0] == seeds[2] != seeds[1]
    training.recipe = replace(short, dropout=0.0)
    training._seed_dropout()
    assert len(drawn) == 3


def test_the_digest_of_a_zoo_is_of_its_training_networks(prepared, short):
    training = build_training(short, prepared)
    assert training.identity() == build_training(short, prepared).identity()
    training.train = training.train * 2
    assert training.identity()["zoo"] != build_training(short, prepared).identity()["zoo"]


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_takes_the_steps_of_the_cpu(prepared, short, monkeypatch, variant):
    monkeypatch.setattr(precision, "fastest_on", lambda device: torch.float32)
    recipe = replace(short, dropout=0.0, **VARIANTS[variant])
    found = {}
    for device in ("cpu", "cuda:0"):
        training = build_training(recipe, prepared, device)
        losses = [training.advance() for _ in range(4)]
        found[device] = torch.tensor([[loss.total.item(), loss.reconstruction.item()] for loss in losses])
    torch.testing.assert_close(found["cuda:0"], found["cpu"], rtol=1e-2, atol=0)


@pytest.mark.gpu
def test_a_gpu_takes_bfloat16_and_fused_attention(prepared, short, monkeypatch):
    """A step of the default sizes runs with fused attention kernels alone."""
    fused = sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION])
    monkeypatch.setattr(precision, "attention", lambda device: fused)
    training = build_training(replace(short, width=128, heads=4), prepared, "cuda:0")
    assert training.dtype == torch.bfloat16
    assert training.advance().total.isfinite()
    assert processes.count() == 1
