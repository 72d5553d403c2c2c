"""The steps of a recipe. The commands that run them are tested in cli/test_commands.py."""

import shutil
from dataclasses import replace

import pytest

from hyperinit.errors import ArgumentError
from hyperinit_training.recipes.load import load_recipe
from hyperinit_training.sources.from_recipe import check_one_network, representation_of, summary, zoo_of
from hyperinit_training.zoo.zoo import Zoo


def test_a_summary_has_the_range_of_test_accuracies(zoo, zoo_folder):
    test = [snapshot.test for snapshot in zoo.snapshots]
    expected = f"here: {len(zoo)} snapshots, test accuracy {min(test):.2%} to {max(test):.2%}"
    assert summary(Zoo.load(zoo_folder), "here") == expected


def test_networks_of_several_activations_are_refused():
    check_one_network(load_recipe("svhn-paper"))
    with pytest.raises(ArgumentError, match="must have one activation, those of svhn-zoo2 have tanh, relu, gelu, sig"):
        check_one_network(load_recipe("svhn-zoo2"))


def test_another_zoo_is_neither_overwritten_nor_trained_on(recipe, zoo_folder, tmp_path):
    other = replace(recipe, zoo=replace(recipe.zoo, seed=99))
    before = (zoo_folder / "zoo.json").read_text()
    with pytest.raises(ArgumentError, match="holds the zoo of another recipe"):
        zoo_of(other, None, zoo_folder)
    foreign = replace(recipe, zoo=replace(recipe.zoo, images="mnist"))
    with pytest.raises(ArgumentError, match="must hold a zoo trained on mnist, got one trained on digits"):
        representation_of(foreign, zoo_folder, None, tmp_path / "run", tmp_path / "out.safetensors")
    assert (zoo_folder / "zoo.json").read_text() == before
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_beside_its_finished_zoo_is_deleted(recipe, zoo_folder, tmp_path):
    folder = shutil.copytree(zoo_folder, tmp_path / "zoo")
    (folder / "blocks").mkdir()
    (folder / "blocks" / "000006.safetensors").touch()
    (folder / ".lock").touch()
    assert len(zoo_of(recipe, None, folder)) == 18
    assert {path.name for path in folder.iterdir()} == {"zoo.json", "weights.safetensors"}


def test_a_zoo_of_another_network_makes_no_artifact(recipe, zoo, tmp_path):
    replace(zoo, provenance={**zoo.provenance, "network": "Linear()"}).save(tmp_path / "zoo")
    with pytest.raises(
        ArgumentError, match=r"zoo must hold networks of the paper's CNN, which .*, got other networks$"
    ):
        representation_of(recipe, tmp_path / "zoo", None, tmp_path / "run", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_the_card_says_where_everything_came_from(assembled, recipe, zoo):
    card = assembled.card
    assert (card.source, card.title, card.licence, card.citation) == ("tiny", "Tiny", "MIT", "none")
    assert card.preprocessing == zoo.provenance["preprocessing"]
    assert card.zoo["recipe"] == recipe.zoo.to_json()
    assert (card.zoo["models"], card.zoo["anchors"]) == (18, 12)
    assert card.measured == {}


def test_a_finished_zoo_is_rounded_only_if_asked(recipe, zoo_folder, tmp_path):
    folder = shutil.copytree(zoo_folder, tmp_path / "zoo")
    before = (folder / "weights.safetensors").read_bytes()
    with pytest.raises(
        ArgumentError, match=r"^half must round no finished zoo, got .* pass force=True to replace them$"
    ):
        zoo_of(recipe, None, folder, half=True)
    assert (folder / "weights.safetensors").read_bytes() == before
    zoo_of(recipe, None, folder, half=True, force=True)
    assert len((folder / "weights.safetensors").read_bytes()) < 0.6 * len(before)
    zoo_of(recipe, None, folder, half=True)  # again: there is nothing to round
