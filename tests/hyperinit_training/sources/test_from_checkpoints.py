"""`make` and `train`: a folder of checkpoints becomes an artifact that works."""

import json
import re
import subprocess
import sys
from pathlib import Path

import own_zoo as mine
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import hyperinit
import hyperinit_training
from hyperinit.errors import ArgumentError, LayoutError, ZooError
from hyperinit_training.recipes import presets
from hyperinit_training.sources import from_checkpoints
from hyperinit_training.train_autoencoder import state as train_autoencoder_state
from hyperinit_training.train_autoencoder import train

DOC = (Path(__file__).parents[3] / "docs" / "own-zoo.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def _short():
    """Presets of a few steps, for everything here."""
    few = {"width": 16, "feedforward": 32, "latent": 16, "steps": 60}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "WHOLE", {name: sizes | few for name, sizes in presets.WHOLE.items() if name != "paper"})
        yield


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return mine.write(tmp_path_factory.mktemp("own") / "nets")


@pytest.fixture(scope="module")
def made(checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    found = from_checkpoints.make(
        checkpoints, model=mine.make_net, evaluate=mine.accuracy, preset="tiny", run=folder / "run",
        out=folder / "mine.safetensors",
    )  # fmt: skip
    return found, folder


def test_samples_work_before_any_training(made):
    _, folder = made
    scores = [mine.accuracy(hyperinit.init_(mine.make_net(), folder / "mine.safetensors")) for _ in range(5)]
    zoo = made[0].usability.figures["zoo"]["score"]
    assert zoo > 0.9
    assert sum(scores) / 5 > zoo - 0.03


def test_the_card_says_in_words_what_it_is_worth(made):
    found, folder = made
    text = str(hyperinit.load(folder / "mine.safetensors").card)
    assert "12 checkpoints in families of 12; 10 are anchors, 2 were held out" in text
    assert "\n\nUsable: samples by " in text
    assert "Held-out networks are reconstructed with R2 " in text
    assert found.usability.usable
    assert found.representation.card.recommended in ("kde", "kde30", "local", "local30")


def test_the_run_holds_plots_and_the_result(made):
    found, folder = made
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"losses.png", "reconstruction.png", "scores.png", "log.jsonl", "result.json"} <= names
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["usability"]["figures"] == found.usability.figures


def test_running_statistics_are_part_of_what_is_decoded(made):
    representation = made[0].representation
    assert {t.name for t in representation.layout.tensors if t.buffer} == {"1.running_mean", "1.running_var"}
    net = hyperinit.init_(mine.make_net(), representation)
    assert (net[1].running_mean != 0).all()


def test_a_killed_run_ends_the_same(checkpoints, made, tmp_path, monkeypatch):
    advance = train.Training.advance

    def dying(training):
        if training.step == 35:
            raise KeyboardInterrupt
        return advance(training)

    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(train, "LOG_EVERY", 10)
    monkeypatch.setattr(train.Training, "advance", dying)
    words = {"model": mine.make_net, "evaluate": mine.accuracy, "preset": "tiny", "run": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        from_checkpoints.make(checkpoints, out=tmp_path / "mine.safetensors", **words)
    assert not (tmp_path / "mine.safetensors").exists()
    monkeypatch.setattr(train.Training, "advance", advance)
    from_checkpoints.make(checkpoints, out=tmp_path / "mine.safetensors", **words)
    one, two = (load_file(folder / "mine.safetensors") for folder in (tmp_path, made[1]))
    assert all(torch.equal(one[name], value) for name, value in two.items())


def test_a_run_inside_the_zoos_own_folder_goes_on_and_may_be_repeated(tmp_path, monkeypatch):
    """The run's checkpoint and the artifact are no networks: not after a kill, and not after a success."""
    folder = mine.write(tmp_path / "nets", count=9)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    advance = train.Training.advance

    def dying(training):
        if training.step == 35:
            raise KeyboardInterrupt
        return advance(training)

    words = {"model": mine.make_net, "preset": "tiny", "out": "mine.safetensors"}
    monkeypatch.setattr(train.Training, "advance", dying)
    with pytest.raises(KeyboardInterrupt):
        from_checkpoints.make(".", **words)
    assert (folder / "runs" / "mine" / "checkpoint.safetensors").exists()
    monkeypatch.setattr(train.Training, "advance", advance)
    for _ in range(2):
        assert from_checkpoints.make(".", **words).representation.card.zoo["models"] == 9
    assert from_checkpoints.make(".", **words, run="again").representation.card.title == "9 checkpoints of nets"


def test_checkpoints_of_lightning_are_trained_on_and_the_card_says_what_was_left_out(checkpoints, tmp_path):
    (tmp_path / "nets").mkdir()
    for path in checkpoints.iterdir():
        state = {f"model.{name}": value for name, value in load_file(path).items()} | {"loss.weight": torch.ones(3)}
        whole = {
            "state_dict": state,
            "pytorch-lightning_version": "2.5.0",
            "hyper_parameters": {"folder": Path("data")},
        }
        torch.save(whole, tmp_path / "nets" / f"{path.stem}.ckpt")
    told = []
    words = {"model": mine.make_net, "preset": "tiny", "run": tmp_path / "run"}
    found = from_checkpoints.make(tmp_path / "nets", report=told.append, **words)
    note = "12 files also held loss.weight, which was left out"
    assert note in told
    assert note in found.notes
    assert note in str(found.representation.card)


def test_a_network_on_the_meta_device_has_unknown_symmetries(checkpoints, tmp_path):
    def on_meta():
        with torch.device("meta"):
            return mine.make_net()

    words = {"model": on_meta, "preset": "tiny", "run": tmp_path / "run"}
    found = from_checkpoints.make(checkpoints, **words)
    assert found.notes == (
        "model makes a network on the meta device, so its symmetries cannot be checked; make it on the CPU",
    )
    with pytest.raises(ArgumentError, match=r"^model makes a network on the meta device"):
        from_checkpoints.make(checkpoints, example_input=torch.zeros(2, 1, 8, 8), **words)
    with pytest.raises(LayoutError, match=r"must hold values, got 0.weight on the meta device"):
        from_checkpoints.make(checkpoints, evaluate=mine.accuracy, **words)


def test_an_evaluation_that_changes_its_network_gives_the_same_figures(checkpoints, made, tmp_path):
    def changing(net):
        score = mine.accuracy(net)
        net.half()
        net[1] = nn.Identity()
        return score

    found = from_checkpoints.make(
        checkpoints, model=mine.make_net, evaluate=changing, preset="tiny", run=tmp_path / "run"
    )
    assert found.usability.figures == made[0].usability.figures


def test_without_an_evaluation_the_verdict_is_unknown(checkpoints, tmp_path):
    found = from_checkpoints.make(checkpoints, model=mine.make_net, preset="tiny", run=tmp_path / "run")
    assert found.usability.usable is None
    assert found.usability.words[0].startswith("No evaluation was given, so it is unknown whether samples work. Pass ")
    assert "kde30" not in found.usability.figures
    assert found.representation.card.recommended == "kde"


def test_scores_of_any_scale_rank_the_anchors(checkpoints, tmp_path):
    found = from_checkpoints.make(
        checkpoints, model=mine.make_net, evaluate=lambda net: -200 - net[0].weight.norm().item(), preset="tiny",
        run=tmp_path / "run", out=tmp_path / "mine.safetensors",
    )  # fmt: skip
    scores = hyperinit.load(tmp_path / "mine.safetensors").anchors.score
    assert (scores.min(), scores.max()) == (0, 1)
    assert found.usability.figures["zoo"]["score"] < -190
    assert "kde30" in found.usability.figures


def test_seeds_are_permuted_and_their_signs_are_flipped(tmp_path, monkeypatch):
    def odd(seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))

    (tmp_path / "nets").mkdir()
    for seed in range(12):
        save_file(odd(seed).state_dict(), tmp_path / "nets" / f"{seed:02}.safetensors")
    views = []
    made = train_autoencoder_state.PermutationAugmentation

    def spy(*arguments, **words):
        views.append(words["signs"])
        return made(*arguments, **words)

    monkeypatch.setattr(train_autoencoder_state, "PermutationAugmentation", spy)
    found = from_checkpoints.make(tmp_path / "nets", model=odd, preset="tiny", run=tmp_path / "run")
    assert found.representation.layout.group_sizes == {"0": 5, "2": 16}
    [signs] = views
    assert signs["0.weight"] == ("0", None)
    assert signs["2.weight"] == (None, "0"), "behind the ReLU no sign may flip"
    assert len(found.representation.card.zoo["families"]) == 12


def test_minutes_choose_the_steps_once(checkpoints, tmp_path):
    words = {"model": mine.make_net, "preset": "tiny", "run": tmp_path / "run"}
    from_checkpoints.make(checkpoints, minutes=0.01, **words)
    plan = json.loads((tmp_path / "run" / "steps.json").read_text())
    from_checkpoints.make(checkpoints, minutes=0.01, **words)
    assert json.loads((tmp_path / "run" / "steps.json").read_text()) == plan
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == plan["steps"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"minutes": 0}, ArgumentError, "minutes must be above 0 and at most 525,600, a year, got 0"),
        ({"holdout": 1.0}, ArgumentError, r"holdout must lie in \[0, 1\), got 1.0"),
        ({"out": "mine.pt"}, ArgumentError, "out must end in .safetensors, got mine.pt"),
        ({"seed": 2**64}, ArgumentError, "seed must be an integer of at most 64 bits, got 18446744073709551616"),
        ({"seed": 0.5}, ArgumentError, "seed must be an integer of at most 64 bits, got 0.5"),
        ({"preset": "huge"}, hyperinit.HyperinitError, "unknown preset 'huge'"),
        ({"model": "nowhere:make"}, ArgumentError, "nowhere must be importable"),
        ({"model": lambda: mine.make_net(5)}, LayoutError, "must hold the network's tensors"),
        ({"evaluate": lambda net: float("nan")}, ZooError, "must give a finite number for every network"),
        ({"groups": {"0.weight": ("a", None)}}, LayoutError, "one entry for each axis"),
    ],
)
def test_bad_input_is_explained_and_nothing_is_written(checkpoints, tmp_path, changes, error, message):
    words = {"model": mine.make_net, "preset": "tiny", "run": tmp_path / "run", **changes}
    with pytest.raises(error, match=message):
        hyperinit_training.train(checkpoints, **words)
    assert not list(tmp_path.iterdir())


def test_other_layers_with_weights_are_refused(tmp_path):
    def embedded():
        return nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(3, 2))

    for seed in range(9):
        save_file(embedded().state_dict(), tmp_path / f"{seed}.safetensors")
    with pytest.raises(LayoutError, match=r"must hold conv, linear and norm layers only, also found 0\.weight"):
        from_checkpoints.make(tmp_path, model=embedded, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_explained(checkpoints, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train, "write_record", full)
    with pytest.raises(ZooError, match=r"run must be a folder that can be written, got: .*No space left.*to resume$"):
        from_checkpoints.make(checkpoints, model=mine.make_net, preset="tiny", run=tmp_path / "run")


@pytest.mark.parametrize("good_calls", [0, 12])  # while checkpoints are scored, and while samples are
def test_an_os_error_of_the_users_evaluation_passes_through(checkpoints, tmp_path, good_calls):
    calls = []

    def evaluate(net):
        calls.append(net)
        if len(calls) > good_calls:
            raise FileNotFoundError("data.npz")
        return 0.5

    with pytest.raises(FileNotFoundError, match=r"^data.npz$"):
        from_checkpoints.make(checkpoints, model=mine.make_net, evaluate=evaluate, preset="tiny", run=tmp_path / "run")
    assert len(calls) == good_calls + 1


@pytest.mark.parametrize("good_calls", range(3))  # reading, symmetries, and the order of weights
def test_an_os_error_of_the_users_model_passes_through(checkpoints, tmp_path, good_calls):
    calls = []

    def make_net():
        calls.append(1)
        if len(calls) > good_calls:
            raise FileNotFoundError("architecture.json")
        return mine.make_net()

    with pytest.raises(FileNotFoundError, match=r"^architecture.json$"):
        from_checkpoints.make(checkpoints, model=make_net, preset="tiny", run=tmp_path / "run")


def test_the_worked_example_of_the_docs_runs(tmp_path):
    [program] = [block for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL) if "PRESET" in block]
    small = program.replace('COUNT, EPOCHS, PRESET = 60, 12, "small"', 'COUNT, EPOCHS, PRESET = 10, 6, "tiny"')
    assert small != program
    small = (
        "from hyperinit_training.recipes import presets\npresets.WHOLE['tiny'] |= {'width': 16, 'steps': 30}\n" + small
    )
    done = subprocess.run([sys.executable, "-c", small], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    zoo, samples, wide = map(float, re.findall(r"([\d.]+)%", done.stdout.splitlines()[-1]))
    assert samples > zoo - 3
    assert wide > zoo - 10
