"""Faults during a run of training: damaged files, a full disk, a second process, and settings of the caller."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from flips import flipped
from safetensors.torch import load_file, save_file

from hyperinit.errors import ArgumentError, WriteError, ZooError
from hyperinit_training.machine import run_files
from hyperinit_training.machine.lock import locked
from hyperinit_training.train_autoencoder import prepare, train
from hyperinit_training.train_autoencoder.state import Training


@pytest.fixture(scope="module")
def short(recipe):
    """Four steps with everything random switched on, dropout included."""
    return replace(recipe.autoencoder, steps=4, dropout=0.1, batch=4, width=16, latent=8)


@pytest.fixture(autouse=True)
def _every_step(monkeypatch):
    """Log and save after every step."""
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return all(torch.equal(one[name], value) for name, value in other.items())


def stop_at(step, monkeypatch, recipe, zoo, folder):
    """Train, and be killed before the given step."""
    advance = Training.advance

    def dying(training):
        if training.step == step:
            raise KeyboardInterrupt
        return advance(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", dying)
        with pytest.raises(KeyboardInterrupt):
            train.train_autoencoder(recipe, zoo, folder)


# Damage


def test_a_flipped_bit_of_a_checkpoint_is_refused(prepared, short, tmp_path, monkeypatch):
    whole = train.train_autoencoder(short, prepared, tmp_path / "whole")
    stop_at(2, monkeypatch, short, prepared, tmp_path / "run")
    checkpoint, refused = tmp_path / "run" / "checkpoint.safetensors", 0
    for _ in flipped(checkpoint, 40):
        before = checkpoint.read_bytes()
        try:
            found = train.train_autoencoder(short, prepared, tmp_path / "run")
        except ZooError as error:
            refused += "delete it to start again" in str(error)
            assert checkpoint.read_bytes() == before
        else:  # a blank of the header
            assert same(found, whole)
    assert refused > 35
    assert same(train.train_autoencoder(short, prepared, tmp_path / "run"), whole)


def forged(path, change):
    """Rewrite a checkpoint with a digest of its own, so that only the checks of its contents can refuse it."""
    tensors, metadata = run_files.read_tensors(path)
    change(tensors, metadata)
    run_files.write_tensors(path, tensors, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(step="-5"), r"its step must lie in 0 to 4, got -5"),
        (lambda t, m: m.update(step="9"), r"its step must lie in 0 to 4, got 9"),
        (lambda t, m: m.update(step="1"), r"its optimizer states are not those of step 1"),
        (lambda t, m: m.update(step="x"), r"invalid literal"),
        (lambda t, m: m.update(dtype="torch.int8"), "torch.int8"),
        (lambda t, m: m.update(layout="0" * 64), "it was written for another layout"),
        (lambda t, m: m.pop("zoo"), "'zoo'"),
        (lambda t, m: [t.pop(k) for k in list(t) if k.startswith("opt")], "states are not those of the parameters"),
        (lambda t, m: t.pop("optimizer.3.exp_avg"), "its optimizer states are not those of the parameters"),
        (lambda t, m: t.update({"optimizer.0.exp_avg": torch.zeros(3)}), "states are not those of the parameters"),
        (lambda t, m: t.pop("head.layers.0.weight"), "it lacks head.layers.0.weight; delete it"),
        (lambda t, m: t.pop("random.global"), "it lacks random.global; delete it"),
        (lambda t, m: t.update({"random.generator": torch.zeros(8, dtype=torch.uint8)}), "RNG state"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_lacks_a_part_is_refused(prepared, short, tmp_path, monkeypatch, change, message):
    stop_at(2, monkeypatch, short, prepared, tmp_path)
    forged(tmp_path / "checkpoint.safetensors", change)
    with pytest.raises(ZooError, match=rf"cannot resume from .*{message}"):
        train.train_autoencoder(short, prepared, tmp_path)


def test_a_checkpoint_without_a_digest_is_refused(prepared, short, tmp_path, monkeypatch):
    stop_at(2, monkeypatch, short, prepared, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    metadata = run_files.read_tensors(path)[1]
    save_file(load_file(path), path, metadata)
    with pytest.raises(
        ZooError, match="it holds no digest of its contents; it is damaged, or an earlier version wrote"
    ):
        train.train_autoencoder(short, prepared, tmp_path)


@pytest.mark.parametrize("change", [{"beta": 1.0}, {"variational": True}, {"chunk": 64, "window": 8, "halo": 2}])
def test_every_kind_of_training_resumes(prepared, short, tmp_path, monkeypatch, change):
    """A training without contrast has no optimizer states of the projection head."""
    recipe = replace(short, **change)
    whole = train.train_autoencoder(recipe, prepared, tmp_path / "whole")
    stop_at(2, monkeypatch, recipe, prepared, tmp_path / "run")
    assert same(train.train_autoencoder(recipe, prepared, tmp_path / "run"), whole)


def test_a_checkpoint_of_other_symmetries_is_refused(prepared, short, tmp_path, monkeypatch):
    """Its views were permuted in another way, so the rest of the training would not be that of one run."""
    stop_at(2, monkeypatch, short, prepared, tmp_path)
    plain = replace(prepared, layout=prepared.layout.with_groups({}))
    with pytest.raises(
        ZooError, match=r"checkpoint.safetensors: it was written for another layout; delete it to start"
    ):
        train.train_autoencoder(short, plain, tmp_path)


# What ends a run


def test_a_full_disk_leaves_the_last_checkpoint(prepared, short, tmp_path, monkeypatch):
    whole = train.train_autoencoder(short, prepared, tmp_path / "whole")
    stop_at(2, monkeypatch, short, prepared, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "save_file", full)
        with pytest.raises(WriteError, match=r"checkpoint.safetensors cannot be written, got: No space left on device"):
            train.train_autoencoder(short, prepared, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"recipe.json", "log.jsonl", "checkpoint.safetensors"}
    assert same(train.train_autoencoder(short, prepared, tmp_path / "run"), whole)


def test_a_training_that_diverges_ends_at_once_and_keeps_its_last_good_checkpoint(
    prepared, short, tmp_path, monkeypatch
):
    stop_at(2, monkeypatch, short, prepared, tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    advance = Training.advance

    def diverging(training):
        losses = advance(training)
        with torch.no_grad():
            next(training.autoencoder.parameters()).fill_(torch.nan)
        return losses

    monkeypatch.setattr(Training, "advance", diverging)
    message = (
        r"the autoencoder must keep finite weights, got NaN or infinity at step 3 of 4; lower its rate of 0.01, or"
    )
    with pytest.raises(ZooError, match=message):
        train.train_autoencoder(short, prepared, tmp_path)
    monkeypatch.setattr(train, "LOG_EVERY", 100)
    with pytest.raises(ZooError, match=message):
        train.train_autoencoder(short, prepared, tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_second_training_in_a_folder_is_refused(prepared, short, tmp_path, monkeypatch):
    """Two that write one checkpoint would mix their states."""
    from concurrent.futures import ThreadPoolExecutor

    with locked(tmp_path), ThreadPoolExecutor(1) as pool:
        for call in (
            lambda: train.train_autoencoder(short, prepared, tmp_path),
            lambda: train.timed(short, prepared, 1.0, tmp_path, torch.device("cpu")),
        ):
            with pytest.raises(ArgumentError, match="must be used by one training at a time, got a second; wait until"):
                pool.submit(call).result()
    assert not list(tmp_path.iterdir())


# Settings of the caller

SETTINGS = {
    "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16), "no gradients": torch.no_grad,
    "inference": torch.inference_mode, "meta device": lambda: torch.device("meta"),
}  # fmt: skip


def trained(zoo, recipe, folder):
    found = train.train_autoencoder(recipe, prepare(zoo, recipe), folder)
    return found, json.loads((folder / "log.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize(
    "variant", [{}, {"variational": True, "block": "reference"}, {"chunk": 64, "window": 8, "halo": 2}]
)
def test_settings_of_the_caller_change_nothing(zoo, short, tmp_path, variant):
    recipe = replace(short, steps=2, **variant)
    whole, expected = trained(zoo, recipe, tmp_path / "whole")
    for name, value in SETTINGS.items():
        dtype = value if isinstance(value, torch.dtype) else torch.float32
        torch.set_default_dtype(dtype)
        try:
            with nullcontext() if value is dtype else value():
                found, record = trained(zoo, recipe, tmp_path / name)
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(torch.float32)
        assert {value.dtype for value in found.parameters()} == {torch.float32}
        assert same(found, whole), name
        assert record == pytest.approx(expected, rel=1e-3)  # PyTorch's fused attention, and so its rounding, may differ
