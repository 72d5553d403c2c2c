import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ZooError
from hyperinit.nets import build
from hyperinit_training import train_autoencoder
from hyperinit_training.losses import ReconstructionLoss, layer_std, r2
from hyperinit_training.train_autoencoder import Training, kl_divergence, prepare


@pytest.fixture(scope="module")
def short(recipe):
    """Twelve steps with everything random switched on, dropout included."""
    return replace(recipe.autoencoder, steps=12, dropout=0.1, batch=4, width=16, latent=8)


@pytest.fixture(autouse=True)
def _every_step(monkeypatch):
    """Log and save after every step."""
    monkeypatch.setattr(train_autoencoder, "LOG_EVERY", 1)
    monkeypatch.setattr(train_autoencoder, "CHECKPOINT_SECONDS", 0)


def run(recipe, zoo, folder, *, die_at=None, monkeypatch=None):
    """Train; with `die_at`, be killed after that step was logged and before it was saved."""
    if die_at is None:
        return train_autoencoder.train_autoencoder(recipe, zoo, folder)
    with monkeypatch.context() as patch:
        save = Training.save

        def dying(training, path):
            if training.step == die_at:
                raise KeyboardInterrupt
            save(training, path)

        patch.setattr(Training, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            train_autoencoder.train_autoencoder(recipe, zoo, folder)
    return None


def same(one, other):
    return all(torch.equal(one[name], value) for name, value in other.items())


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def build_training(recipe, zoo):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Training(recipe, zoo)


# Resuming


@pytest.mark.parametrize("die_at", [1, 6, 12])
def test_a_run_killed_at_any_step_ends_the_same(prepared, short, tmp_path, monkeypatch, die_at):
    whole = run(short, prepared, tmp_path / "whole").state_dict()
    run(short, prepared, tmp_path / "killed", die_at=die_at, monkeypatch=monkeypatch)
    assert len(log(tmp_path / "killed")) == die_at
    torch.rand(3)  # a new process has its global generator elsewhere
    before = torch.get_rng_state()
    resumed = run(short, prepared, tmp_path / "killed").state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert same(resumed, whole)
    assert log(tmp_path / "killed") == log(tmp_path / "whole")
    files = [load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "killed")]
    assert same(*files)


def test_a_resumed_run_keeps_its_precision(prepared, short, tmp_path, monkeypatch):
    monkeypatch.setattr(train_autoencoder, "fastest", lambda: torch.float32)
    whole = run(short, prepared, tmp_path / "whole").state_dict()
    run(short, prepared, tmp_path / "killed", die_at=6, monkeypatch=monkeypatch)
    monkeypatch.setattr(train_autoencoder, "fastest", lambda: torch.bfloat16)  # as on another machine
    resumed, other = (run(short, prepared, tmp_path / name).state_dict() for name in ("killed", "other"))
    assert same(resumed, whole)
    assert not same(other, whole)


def test_a_finished_run_is_not_trained_again(prepared, short, tmp_path, monkeypatch):
    first = run(short, prepared, tmp_path)
    monkeypatch.setattr(Training, "advance", None)
    again = run(short, prepared, tmp_path)
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert [record["step"] for record in log(tmp_path)] == list(range(1, 13))


def test_another_seed_gives_other_weights(prepared, short, tmp_path):
    """Negative control of the equalities above."""
    a, b = (run(replace(short, seed=seed), prepared, tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(a.encoder.positions, b.encoder.positions)


def test_a_checkpoint_of_another_zoo_is_refused(prepared, short, tmp_path):
    """Its standardisation and its memory would be those of networks that are not there."""
    run(short, prepared, tmp_path)
    message = r"checkpoint.safetensors: it was written for another zoo; delete it to start again$"
    with pytest.raises(ZooError, match=message):
        run(short, replace(prepared, weights=prepared.weights * 3), tmp_path)


def test_a_checkpoint_of_another_recipe_is_refused(prepared, short, tmp_path):
    run(short, prepared, tmp_path)
    message = r"cannot resume from .*checkpoint.safetensors: it was written for another recipe; delete it to start"
    with pytest.raises(ZooError, match=message):
        run(replace(short, rate=1e-4), prepared, tmp_path)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_truncated_checkpoint_is_refused(prepared, short, tmp_path, keep):
    run(replace(short, steps=1), prepared, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ZooError, match=r"cannot resume from .*checkpoint.safetensors: .*; delete it to start again$"):
        run(replace(short, steps=1), prepared, tmp_path)


def test_a_run_notes_its_recipe(prepared, short, tmp_path):
    run(short, prepared, tmp_path)
    assert json.loads((tmp_path / "recipe.json").read_text()) == asdict(short)
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.json", "log.jsonl", "checkpoint.safetensors"}


# Learning


def test_the_loss_falls_and_held_out_networks_are_reconstructed(autoencoder, autoencoder_folder, prepared):
    records = log(autoencoder_folder)
    assert [record["step"] for record in records] == [50, 100, 120]
    assert set(records[0]) == {"step", "total", "reconstruction", "contrast", "kl", "train_r2", "val_r2"}
    assert records[-1]["reconstruction"] < 0.5 * records[0]["reconstruction"]
    assert records[-1]["train_r2"] > 0.8
    weights = prepared.part("test").weights  # never looked at while training
    std, mean = autoencoder.std, prepared.part("train").weights.mean(0)
    with torch.no_grad():
        assert r2(autoencoder.decode(autoencoder.encode(weights)), weights, std, mean) > 0.7


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


def test_the_draw_of_a_variational_training_has_the_encoders_own_spread(prepared, short, monkeypatch):
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


def test_the_divergence_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, generator=generator)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


def test_a_variational_run_of_reference_blocks_resumes(prepared, short, tmp_path, monkeypatch):
    recipe = replace(short, steps=4, variational=True, block="reference", standardise=False)
    whole = run(recipe, prepared, tmp_path / "whole").state_dict()
    run(recipe, prepared, tmp_path / "killed", die_at=2, monkeypatch=monkeypatch)
    resumed = run(recipe, prepared, tmp_path / "killed").state_dict()
    assert same(resumed, whole)
    assert log(tmp_path / "whole")[-1]["kl"] > 0


# Views


def test_the_target_of_a_view(prepared, short):
    """Permuted and erased, permuted only, or neither: what a view has to reconstruct."""
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


# Preparation


def outputs(zoo):
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    network = build(zoo.architecture)
    return torch.stack([functional_call(network, zoo.layout.unflatten(w), images).detach() for w in zoo.weights])


def test_prepare_brings_families_near_and_keeps_what_networks_compute(zoo, prepared):
    def spread(weights):
        return ((weights - weights.mean(0)) / layer_std(weights, zoo.layout)).square().sum(1).mean().item()

    assert spread(prepared.weights) < 0.95 * spread(zoo.weights)
    torch.testing.assert_close(outputs(prepared), outputs(zoo), rtol=0, atol=1e-4)
    assert prepared.snapshots == zoo.snapshots
    for family in range(3):
        rows = zoo.families == family
        within = torch.cdist(prepared.weights[rows], prepared.weights[rows])
        torch.testing.assert_close(within, torch.cdist(zoo.weights[rows], zoo.weights[rows]), rtol=1e-4, atol=1e-4)


def test_prepare_leaves_the_zoo_alone_if_the_recipe_says_so(zoo, recipe):
    assert prepare(zoo, replace(recipe.autoencoder, align=False)) is zoo


def test_too_small_a_zoo_is_refused(zoo, recipe):
    few = replace(zoo, weights=zoo.part("train").weights[:7], snapshots=zoo.part("train").snapshots[:7])
    with pytest.raises(ZooError, match=r"a zoo must have at least 8 snapshots to train on, got 7$"):
        prepare(few, recipe.autoencoder)
