"""The commands, end to end, on 400 digits and networks that are trained for a few steps."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import hyperinit
from hyperinit import nets
from hyperinit.cli.program import TRAINING
from hyperinit.errors import ArgumentError, DataError, UnknownNameError
from hyperinit_training.cli import commands
from hyperinit_training.sources.written import write
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.zoo.zoo import Zoo

RECIPE = """
title = "Little digits"
[zoo]
images = "digits"
models = 500
families = 4
epochs = 90
branch_epochs = 2
[autoencoder]
width = 16
heads = 2
feedforward = 32
depth = 1
latent = 8
batch = 8
steps = 5000
permutations = 20
"""
SCALE = ["--models", "15", "--epochs", "3", "--images", "192"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with a recipe to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "little.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def common(digits_file):
    return ["--recipe", "little.toml", "--data", str(digits_file)]


@pytest.fixture
def no_training(monkeypatch):
    """Makes the training of any network an error."""

    def fail(*_):
        raise AssertionError("a network was trained")

    def forbid():
        monkeypatch.setattr(compiled_cnn, "train", fail)

    return forbid


def test_pretrain_makes_a_source_that_init_takes(workplace, common, no_training, capsys):
    command = [*common, *SCALE, "--steps", "4", "--out", "out/mine.safetensors"]
    assert commands.pretrain(command) == 0
    out, err = capsys.readouterr()
    assert "wrote out/mine.safetensors" in out
    assert "runs/little/zoo: 12 snapshots, test accuracy " in err
    found = hyperinit.load("out/mine.safetensors")
    assert (found.card.source, found.card.title) == ("little", "Little digits")
    assert found.card.zoo["recipe"]["limit"] == 192
    assert (found.card.zoo["models"], found.card.zoo["recipe"]["epochs"]) == (12, 3)
    assert set(found.methods()) <= set(found.card.measured)
    assert json.loads((workplace / "runs/little/autoencoder/recipe.json").read_text())["steps"] == 4

    model = hyperinit.init_(nets.cnn(), "out/mine.safetensors", generator=torch.Generator().manual_seed(0))
    expected = found.sample(1, generator=torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(found.layout.flatten(model.state_dict()), expected)

    no_training()
    first = load_file("out/mine.safetensors")
    capsys.readouterr()
    assert commands.pretrain([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"]["measured"] == found.card.measured
    second = load_file("out/mine.safetensors")
    assert all(torch.equal(second[name], value) for name, value in first.items())


def test_zoo_and_train_are_the_two_steps_of_pretrain(workplace, common, no_training, capsys):
    assert commands.zoo([*common, *SCALE, "--out", "myzoo", "--half"]) == 0
    assert "myzoo: 12 snapshots, test accuracy " in capsys.readouterr().out
    assert load_file("myzoo/weights.safetensors")["weights"].dtype == torch.float16
    no_training()
    assert commands.zoo([*common, *SCALE, "--out", "myzoo"]) == 0
    out = ["--out", "mine.safetensors", "--run", "work"]
    assert commands.train([*common, "--zoo", "myzoo", "--steps", "2", *out]) == 0
    anchors = hyperinit.load("./mine.safetensors").anchors
    assert len(anchors) == Zoo.load(workplace / "myzoo").part("train").weights.shape[0]
    assert {path.name for path in (workplace / "work").iterdir()} >= {"checkpoint.safetensors", "log.jsonl"}


def test_a_zoo_of_another_network(workplace, common, capsys):
    (workplace / "net.py").write_text(
        "from torch import nn\n\n\ndef mlp():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    command = [*common, *SCALE, "--out", "myzoo", "--network", "net:mlp"]
    assert commands.zoo([*command, "--workers", "8"]) == 0
    assert Zoo.load(workplace / "myzoo").layout.size == 7850
    assert commands.zoo(command) == 0  # it is there
    with pytest.raises(ArgumentError, match="myzoo holds the zoo of another recipe"):
        commands.zoo([*common, *SCALE, "--out", "myzoo"])
    with pytest.raises(ArgumentError, match="workers must be at least 1, got 0"):
        commands.zoo([*common, *SCALE, "--out", "other", "--workers", "0"])


@pytest.mark.parametrize("command", ["pretrain", "zoo", "train"])
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_trained(
    workplace, common, no_training, zoo_folder, monkeypatch, command
):
    no_training()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    zoo = ["--zoo", str(zoo_folder)] if command == "train" else []
    out = "zoo" if command == "zoo" else "mine.safetensors"
    with pytest.raises(ArgumentError, match=r"device cuda:1 needs a GPU .* finds no GPU"):
        getattr(commands, command)([*common, *zoo, "--device", "cuda:1", "--out", out])
    assert [path.name for path in workplace.iterdir()] == ["little.toml"]


def test_the_device_reaches_both_steps(workplace, common, monkeypatch):
    seen = []
    monkeypatch.setattr(commands, "device_of", lambda name: None)
    monkeypatch.setattr(commands.from_recipe, "zoo_of", lambda *_, **words: seen.append(words["device"]))
    monkeypatch.setattr(commands.from_recipe, "summary", lambda *_: "")
    monkeypatch.setattr(commands.from_recipe, "representation_of", lambda *_, **words: seen.append(words["device"]))
    monkeypatch.setattr(commands, "_wrote", lambda *_, **__: 0)
    assert commands.pretrain([*common, "--device", "cuda:3", "--out", "mine.safetensors"]) == 0
    assert commands.train([*common, "--zoo", "zoo", "--device", "cuda:2", "--out", "mine.safetensors"]) == 0
    assert seen == ["cuda:3", "cuda:3", "cuda:2"]


def test_the_zoo_of_another_recipe_is_refused(workplace, common, zoo_folder, no_training):
    no_training()
    run = workplace / "work"
    run.mkdir()
    (run / "zoo").symlink_to(zoo_folder)
    message = r"zoo holds the zoo of another recipe; choose another folder or delete it$"
    with pytest.raises(ArgumentError, match=message):
        commands.pretrain([*common, "--run", str(run), "--out", "mine.safetensors"])
    with pytest.raises(ArgumentError, match=message):
        commands.zoo([*common, "--out", str(run / "zoo")])


def test_a_zoo_of_other_images_is_refused(workplace, common, zoo_folder):
    """Its networks would be measured on images that they were not made for."""
    (workplace / "little.toml").write_text(RECIPE.replace('"digits"', '"mnist"'))
    with pytest.raises(ArgumentError, match=r"must hold a zoo trained on mnist, got one trained on digits$"):
        commands.train([*common, "--zoo", str(zoo_folder), "--out", "mine.safetensors"])


@pytest.mark.parametrize("out", ["mine", "mine.bin", "folder/"])
def test_a_wrong_name_is_refused_before_anything_is_trained(workplace, common, no_training, zoo_folder, out):
    no_training()
    message = rf"--out must end in .safetensors, got {out.rstrip('/')}$"
    with pytest.raises(ArgumentError, match=message):
        commands.pretrain([*common, *SCALE, "--out", out])
    with pytest.raises(ArgumentError, match=message):
        commands.train([*common, "--zoo", str(zoo_folder), "--out", out])
    assert [path.name for path in workplace.iterdir()] == ["little.toml"]


def test_an_unknown_recipe_is_refused_with_the_nearest(workplace):
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'digit'; did you mean"):
        commands.zoo(["--recipe", "digit", "--out", "zoo"])


def test_a_source_made_in_the_embedded_folder_is_registered(workplace, common, zoo_folder, embedded):
    out = embedded / "little.safetensors"
    assert commands.train([*common, "--zoo", str(zoo_folder), "--steps", "1", "--out", str(out)]) == 0
    assert hyperinit.sources()["little"] == "Little digits"
    assert hyperinit.load("little").card.source == "little"


def test_verify_tells_by_its_exit_code(finished, digits_file, tmp_path, capsys):
    command = [str(tmp_path / "tiny.safetensors"), "--data", str(digits_file), "--draws", "12"]
    finished.save(tmp_path / "tiny.safetensors")
    assert commands.verify(command) == 0
    assert "DIFFERS" not in capsys.readouterr().out
    measured = {name: dict(row) for name, row in finished.card.measured.items()}
    measured["zoo"]["accuracy"] -= 0.05
    header = replace(finished.header, card=replace(finished.card, measured=measured))
    finished.with_header(header).save(tmp_path / "tiny.safetensors")
    assert commands.verify([*command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["disagree"] == ["zoo"]


def test_demo_prints_its_report(monkeypatch, capsys):
    monkeypatch.setattr("hyperinit_training.measure.demo.run", lambda: ("the report", {"ensemble": 1.0}))
    assert commands.demo([]) == 0
    assert commands.demo(["--json"]) == 0
    assert capsys.readouterr().out == 'the report\n{\n  "ensemble": 1.0\n}\n'


@pytest.mark.parametrize("name", TRAINING)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        getattr(commands, name.replace("-", "_"))(["--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: hyperinit {name}")
    assert f"examples:\n  hyperinit {name}" in out


def test_too_few_networks_are_refused_before_any_is_trained(workplace, common, no_training):
    no_training()
    with pytest.raises(ArgumentError, match=r"at least 8 networks to train on, got \d; raise --models$"):
        commands.pretrain([*common, "--models", "3", "--out", "mine.safetensors"])


@pytest.mark.parametrize("draws", ["1", "2", "9", "-3"])
def test_few_draws_are_not_enough_to_verify(draws):
    """Their spread says little, so that a sound source would be reported to differ."""
    with pytest.raises(ArgumentError, match=f"^--draws must be at least 10, got {draws}"):
        commands.verify(["digits", "--draws", draws])
    with pytest.raises(ArgumentError, match=r"^--draws must be at most 10,000, got 1,000,000$"):
        commands.verify(["digits", "--draws", "1000000"])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--models", "1000000000000000"], r"^--models must be at most [\d,]+ to fit into the memory of this machine"),
        (["--models", "1" + "0" * 400], r"^--models must be at most .* got a number of over 30 digits$"),
        (["--models", "0"], r"^--models must be an integer of at least 1, got 0$"),
        (["--epochs", "1000000000000"], r"^--epochs must be at most "),
        (["--epochs", "-1"], r"^--epochs must be an integer of at least 1, got -1$"),
        (["--images", "0"], r"^--images must be an integer of at least 1, got 0$"),
        (["--steps", "1" + "0" * 20], r"^--steps must be at most "),
        (["--steps", "0"], r"^--steps must be an integer of at least 1, got 0$"),
        (["--run", "little.toml"], r"^--run must be a folder, got the file little.toml$"),
        (["--run", "runs.json"], r"^--run must be a folder, got runs.json, which has the ending of a file$"),
    ],
)
def test_numbers_and_places_are_checked_before_anything_is_trained(workplace, common, no_training, typed, message):
    no_training()
    with pytest.raises(ArgumentError, match=message):
        commands.pretrain([*common, *typed, "--out", "mine.safetensors"])
    assert [path.name for path in workplace.iterdir()] == ["little.toml"]


@pytest.mark.parametrize(
    ("line", "option"), [("models = 500", "--models"), ("epochs = 90", "--epochs"), ("steps = 5000", "--steps")]
)
def test_numbers_of_a_recipe_are_checked_like_typed_ones(workplace, common, no_training, line, option):
    no_training()
    (workplace / "little.toml").write_text(RECIPE.replace("families = 4", "").replace(line, f"{line}{'0' * 13}"))
    with pytest.raises(ArgumentError, match=rf"^{option} must be at most [\d,]+ to fit into the memory"):
        commands.pretrain([*common, "--out", "mine.safetensors"])
    (workplace / "little.toml").write_text(RECIPE.replace(line, f"{line}{'0' * 30}"))
    with pytest.raises(ArgumentError, match=r"little.toml must hold plain data, got: .* at most 64 bits"):
        commands.pretrain([*common, "--out", "mine.safetensors"])


@pytest.mark.parametrize("command", ["pretrain", "train", "import_reference"])
def test_an_artifact_that_exists_is_replaced_only_with_force(workplace, common, no_training, zoo_folder, command):
    no_training()
    (workplace / "mine.safetensors").write_text("mine")
    argv = {
        "pretrain": [*common, "--out", "mine.safetensors"],
        "train": [*common, "--zoo", str(zoo_folder), "--out", "mine.safetensors"],
        "import_reference": ["released", "mine.safetensors", "--anchors", str(zoo_folder)],
    }[command]
    with pytest.raises(ArgumentError, match=r"^(--out|OUT) must be a new file, got mine.safetensors, .* pass --force"):
        getattr(commands, command)(argv)
    assert (workplace / "mine.safetensors").read_text() == "mine"


def test_a_finished_training_can_be_repeated(workplace, common, tiny, monkeypatch):
    def representation_of(recipe, zoo, data, run, out, **_):
        run.mkdir(exist_ok=True)
        write(tiny, out, run)
        return tiny

    monkeypatch.setattr(commands.from_recipe, "representation_of", representation_of)
    command = [*common, "--zoo", "zoo", "--steps", "1", "--out", "mine.safetensors", "--run", "work"]
    assert commands.train(command) == 0
    assert commands.train(command) == 0
    (workplace / "mine.safetensors").write_text("mine")
    with pytest.raises(ArgumentError, match="pass --force to replace it"):
        commands.train(command)
    assert commands.train([*command, "--force"]) == 0
    assert hyperinit.load("./mine.safetensors").card.source == "tiny"


@pytest.mark.parametrize("out", ["nets.pt", "nets.safetensors"])
def test_a_zoo_is_a_folder(workplace, common, no_training, out):
    no_training()
    with pytest.raises(ArgumentError, match=r"^--out must be a folder, got .*, which has the ending of a file$"):
        commands.zoo([*common, "--out", out])
    with pytest.raises(ArgumentError, match=r"^--data must be a folder, got .*, which has the ending of a file$"):
        commands.data(["mnist", "--data", out])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--minutes", "3"], r"^--minutes must be left out with --recipe, which does not use it$"),
        (["--skip-bad", "--seed", "3"], r"^--skip-bad and --seed must be left out with --recipe"),
    ],
)
def test_options_that_a_recipe_does_not_use_are_refused(workplace, common, zoo_folder, typed, message):
    with pytest.raises(ArgumentError, match=message):
        commands.train([*common, "--zoo", str(zoo_folder), "--out", "mine.safetensors", *typed])


def test_missing_images_are_told_in_options(workplace, no_training):
    no_training()
    (workplace / "little.toml").write_text(RECIPE.replace('"digits"', '"mnist"'))
    with pytest.raises(DataError, match=r"Then pass --data FOLDER\.$"):
        commands.zoo(["--recipe", "little.toml", "--out", "zoo"])


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_trained(workplace, common, no_training):
    no_training()
    (workplace / "file").write_text("")
    with pytest.raises(ArgumentError, match="--out must lie in a folder that can be written, got"):
        commands.pretrain([*common, "--out", "file/mine.safetensors"])


@pytest.mark.parametrize("command", ["pretrain", "train"])
def test_networks_of_several_activations_make_no_artifact(tmp_path, command):
    out = ["--out", str(tmp_path / "mixed.safetensors")]
    zoo = ["--zoo", str(tmp_path)] if command == "train" else []
    with pytest.raises(ArgumentError, match=r"must have one activation, those of svhn-zoo2 have tanh, relu, gelu, sig"):
        getattr(commands, command)(["--recipe", "svhn-zoo2", *zoo, *out])
    assert not list(tmp_path.iterdir())
