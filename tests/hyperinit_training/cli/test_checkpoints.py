"""`hyperinit train --model` as it is typed."""

import json
from pathlib import Path

import pytest

import hyperinit
from hyperinit.errors import ArgumentError, HyperinitError
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


OWN = ["--zoo", "nets", "--model", "hyperinit.nets:cnn", "--out", "mine.safetensors"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--minutes", "inf"], r"^--minutes must be above 0 and at most 525,600, a year, got inf$"),
        (["--minutes", "nan"], r"^--minutes must be above 0"),
        (["--minutes", "-1"], r"^--minutes must be above 0"),
        (["--holdout", "nan"], r"^--holdout must lie in \[0, 1\), got nan$"),
        (["--seed", str(2**63)], r"^--seed must be from -9223372036854775808 to 9223372036854775807, got "),
        (["--preset", "smal"], r"^unknown preset 'smal'; did you mean 'small'\?$"),
        (["--steps", "3"], r"^--steps must be left out with --model, which does not use it$"),
        (["--out", "a/b\x1b.safetensors"], r"^--out must be a name without control characters, got b\\x1b.safeten"),
        (["--model", "leaves_of_test:make"], r"^leaves_of_test:make must return a network .*, got SystemExit: 3$"),
    ],
)
def test_mistakes_are_told_before_checkpoints_are_read(tmp_path, monkeypatch, typed, message):
    """There is no folder of checkpoints, so reading them would be another error."""
    (tmp_path / "leaves_of_test.py").write_text("def make():\n    raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HyperinitError, match=message):
        commands.train([*OWN, *typed])
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py" and path.name != "__pycache__"] == []


def test_unknown_symmetries_are_told_before_the_training_in_options(tmp_path, monkeypatch, capsys):
    (tmp_path / "eights_of_test.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HyperinitError, match="nets"):  # there are no checkpoints
        commands.train(["--zoo", "nets", "--model", "eights_of_test:make", "--out", "mine.safetensors"])
    assert capsys.readouterr().err == (
        "hyperinit: no input of a common size fits the network, so its symmetries are unknown: pass --input\n"
    )


@pytest.mark.parametrize("shape", ["3x", "axb", "3,32,32", "-1x2", "0x3", "99999999x99999999", "9" * 5000])
def test_a_bad_shape_is_explained(shape):
    with pytest.raises(ArgumentError, match=r"^--input must be a shape such as 3x32x32, got"):
        _example(shape)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}', '{"a": "ab"}', '{"a": [1]}', "[" * 10**5, None])
def test_bad_groups_are_explained(tmp_path, text):
    path = tmp_path / "groups.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ArgumentError, match=r"^--groups must be JSON of tensor names"):
        _groups(path)
