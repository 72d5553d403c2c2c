"""Runs of training: resuming, learning, devices, and preparing a zoo."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call

from hyperinit.errors import ArgumentError, ZooError
from hyperinit.nets import build
from hyperinit_training.machine import precision, processes
from hyperinit_training.machine.run_files import read_record
from hyperinit_training.train_autoencoder import prepare, train
from hyperinit_training.train_autoencoder.explained import r2
from hyperinit_training.train_autoencoder.state import Training
from hyperinit_training.zoo.statistics import layer_std


@pytest.fixture(scope="module")
def short(recipe):
    """Twelve steps with everything random switched on, dropout included."""
    return replace(recipe.autoencoder, steps=12, dropout=0.1, batch=4, width=16, latent=8)


@pytest.fixture(autouse=True)
def _every_step(monkeypatch):
    """Log and save after every step."""
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)


def run(recipe, zoo, folder, *, die_at=None, monkeypatch=None):
    """Train; with `die_at`, be killed after that step was logged and before it was saved."""
    if die_at is None:
        return train.train_autoencoder(recipe, zoo, folder)
    with monkeypatch.context() as patch:
        save = Training.save

        def dying(training, path):
            if training.step == die_at:
                raise KeyboardInterrupt
            save(training, path)

        patch.setattr(Training, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            train.train_autoencoder(recipe, zoo, folder)
    return None


def same(one, other):
    return all(torch.equal(one[name], value) for name, value in other.items())


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


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
    monkeypatch.setattr(precision, "fastest", lambda: torch.float32)
    whole = run(short, prepared, tmp_path / "whole").state_dict()
    run(short, prepared, tmp_path / "killed", die_at=6, monkeypatch=monkeypatch)
    monkeypatch.setattr(precision, "fastest", lambda: torch.bfloat16)  # as on another machine
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
    """Negative control of the tests that compare weights."""
    a, b = (run(replace(short, seed=seed), prepared, tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(a.encoder.positions, b.encoder.positions)


def test_a_checkpoint_of_another_zoo_is_refused(prepared, short, tmp_path):
    """Its standardisation and the moments of its optimiser belong to other networks."""
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


def test_a_run_writes_its_recipe(prepared, short, tmp_path):
    run(short, prepared, tmp_path)
    assert read_record(tmp_path / "recipe.json") == asdict(short)
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


def test_a_variational_run_of_reference_blocks_resumes(prepared, short, tmp_path, monkeypatch):
    recipe = replace(short, steps=4, variational=True, block="reference", standardise=False)
    whole = run(recipe, prepared, tmp_path / "whole").state_dict()
    run(recipe, prepared, tmp_path / "killed", die_at=2, monkeypatch=monkeypatch)
    resumed = run(recipe, prepared, tmp_path / "killed").state_dict()
    assert same(resumed, whole)
    assert log(tmp_path / "whole")[-1]["kl"] > 0


# Devices


def test_the_cpu_is_the_default(prepared, short, tmp_path):
    default, named = run(short, prepared, tmp_path / "default"), None
    named = train.train_autoencoder(short, prepared, tmp_path / "named", device=torch.device("cpu"))
    assert same(named.state_dict(), default.state_dict())
    assert log(tmp_path / "named") == log(tmp_path / "default")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("meta", "device must be cpu, cuda or cuda:N, got 'meta'$"),
        ("cuda", "device cuda needs a GPU and a PyTorch buil"),
    ],
)
def test_a_missing_device_is_refused(prepared, short, tmp_path, monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArgumentError, match=message):
        train.train_autoencoder(short, prepared, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_several_processes_on_a_gpu_are_refused(prepared, short, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(train, "device_of", lambda _: torch.device("cuda:0"))
    with pytest.raises(
        ArgumentError, match=r"device must be cpu if several processes train an autoencoder, got cuda:0$"
    ):
        train.train_autoencoder(short, prepared, tmp_path / "run", device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("variant", [{}, {"variational": True}, {"chunk": 64, "window": 8, "halo": 2}])
def test_a_gpu_run_resumes_and_comes_back_to_the_cpu(prepared, short, tmp_path, monkeypatch, variant):
    recipe, words = replace(short, **variant), {"device": "cuda"}
    before = torch.cuda.get_rng_state()
    whole = train.train_autoencoder(recipe, prepared, tmp_path / "whole", **words)
    assert {value.device.type for value in whole.state_dict().values()} == {"cpu"}
    assert torch.equal(torch.cuda.get_rng_state(), before)
    advance = Training.advance

    def dying(training):
        if training.step == 6:
            raise KeyboardInterrupt
        return advance(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", dying)
        with pytest.raises(KeyboardInterrupt):
            train.train_autoencoder(recipe, prepared, tmp_path / "killed", **words)
    resumed = train.train_autoencoder(recipe, prepared, tmp_path / "killed", **words)
    for name, value in whole.state_dict().items():  # a GPU's sums need not repeat bit for bit
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=1e-2)
    assert [record["step"] for record in log(tmp_path / "killed")] == list(range(1, 13))


# Preparation


def outputs(zoo):
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    network = build(zoo.architecture)
    return torch.stack([functional_call(network, zoo.layout.raw_tensors(w), images).detach() for w in zoo.weights])


def test_prepare_moves_families_closer_and_keeps_the_functions(zoo, prepared):
    def spread(weights):
        return ((weights - weights.mean(0)) / layer_std(weights, zoo.layout)).square().sum(1).mean().item()

    assert spread(prepared.weights) < 0.95 * spread(zoo.weights)
    torch.testing.assert_close(outputs(prepared), outputs(zoo), rtol=0, atol=1e-4)
    assert prepared.snapshots == zoo.snapshots
    for family in range(3):
        rows = zoo.families == family
        within = torch.cdist(prepared.weights[rows], prepared.weights[rows])
        torch.testing.assert_close(within, torch.cdist(zoo.weights[rows], zoo.weights[rows]), rtol=1e-4, atol=1e-4)


def test_prepare_without_alignment_returns_the_zoo(zoo, recipe):
    assert prepare(zoo, replace(recipe.autoencoder, align=False)) is zoo


def test_too_small_a_zoo_is_refused(zoo, recipe):
    few = replace(zoo, weights=zoo.part("train").weights[:7], snapshots=zoo.part("train").snapshots[:7])
    with pytest.raises(ZooError, match=r"a zoo must have at least 8 snapshots to train on, got 7$"):
        prepare(few, recipe.autoencoder)
