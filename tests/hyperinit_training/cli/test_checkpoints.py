"""`hyperinit train --model` as it is typed."""

import json
from pathlib import Path

import pytest

import hyperinit
from hyperinit.errors import ArgumentError
from hyperinit_training.cli import checkpoints, commands
from hyperinit_training.cli.checkpoints import _example, _groups


@pytest.fixture
def asked(monkeypatch, tiny):
    """What `make` was asked for; it makes the untrained source."""
    seen = {}

    def make(zoo, **words):
        from hyperinit_training.measure.usability import Usability
        from hyperinit_training.sources.from_checkpoints import Made

        seen.update(words, zoo=zoo)
        tiny.save(Path(words["out"]))
        return Made(tiny, Usability({}, None, {}, "kde", True, ("Usable: it works.",)), ("a note",))

    monkeypatch.setattr(checkpoints, "make", make)
    return seen


def test_everything_typed_arrives(asked, tmp_path, capsys):
    groups = tmp_path / "groups.json"
    groups.write_text('{"0.weight": ["a", null]}')
    out = tmp_path / "mine.safetensors"
    command = ["--zoo", "nets/*.pt", "--model", "hyperinit.nets:cnn", "--evaluate", "builtins:len", "--out", str(out)]
    extra = ["--input", "1x28x28", "--groups", str(groups), "--preset", "tiny", "--minutes", "3", "--skip-bad"]
    assert commands.train([*command, *extra, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["file"], data["usable"], data["notes"]) == (str(out), True, ["a note"])
    assert asked["zoo"] == "nets/*.pt"
    assert asked["example_input"].shape == (2, 1, 28, 28)
    assert asked["groups"] == {"0.weight": ("a", None)}
    assert (asked["evaluate"], asked["minutes"], asked["skip_bad"], asked["holdout"]) == (len, 3.0, True, 0.15)
    assert hyperinit.load(out).card.source == "tiny"


@pytest.mark.parametrize("words", [[], ["--model", "a:b", "--recipe", "digits-tuned"]])
def test_a_model_or_a_recipe_must_be_given(words):
    with pytest.raises(ArgumentError, match="train needs --model for your own checkpoints, or --recipe"):
        commands.train(["--zoo", "nets", "--out", "mine.safetensors", *words])


@pytest.mark.parametrize("shape", ["3x", "axb", "3,32,32", "-1x2"])
def test_a_bad_shape_is_explained(shape):
    with pytest.raises(ArgumentError, match=r"^--input must be a shape such as 3x32x32, got"):
        _example(shape)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}', None])
def test_bad_groups_are_explained(tmp_path, text):
    path = tmp_path / "groups.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ArgumentError, match=r"^--groups must be JSON of tensor names"):
        _groups(path)
