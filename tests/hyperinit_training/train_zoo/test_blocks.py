"""The files of blocks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from flips import flipped
from safetensors.torch import save_file

from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training.machine.run_files import write_record, write_tensors
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import blocks
from hyperinit_training.train_zoo.blocks import Trained, blocks_of, claim, packed, read_block


def test_families_and_some_seeds_are_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "SEEDS_PER_BLOCK", 4)
    seeds = blocks_of(ZooRecipe(images="digits", models=10), Path("b"))
    assert seeds == {
        range(4): Path("b/000000.safetensors"),
        range(4, 8): Path("b/000004.safetensors"),
        range(8, 10): Path("b/000008.safetensors"),
    }
    families = blocks_of(ZooRecipe(images="digits", models=10, families=2), Path("b"))
    assert list(families) == [range(5), range(5, 10)]


RECIPE = ZooRecipe(images="digits", models=4, epochs=3, snapshots=(1, 3))
FOUND = [Trained(np.full((2, 5), m, np.float32), np.array([0.1, 0.2]), np.array([0.3, 0.4])) for m in (2, 3)]


def test_a_block_is_read_as_it_was_written(tmp_path):
    write_tensors(tmp_path / "block", packed(RECIPE, range(2, 4), FOUND))
    block = read_block(tmp_path / "block", RECIPE, range(2, 4), 5)
    assert block["weights"].tolist() == [[2.0] * 5] * 2 + [[3.0] * 5] * 2
    expected = [[2, 2, 1, 0.1, 0.3], [2, 2, 3, 0.2, 0.4], [3, 3, 1, 0.1, 0.3], [3, 3, 3, 0.2, 0.4]]
    torch.testing.assert_close(block["rows"], torch.tensor(expected, dtype=torch.float64))


def test_a_flipped_bit_of_a_block_is_refused(tmp_path):
    path = tmp_path / "000002.safetensors"
    write_tensors(path, packed(RECIPE, range(2, 4), FOUND))
    whole = read_block(path, RECIPE, range(2, 4), 5)
    for _ in flipped(path, 100):
        try:
            found = read_block(path, RECIPE, range(2, 4), 5)
        except ZooError as error:
            assert "delete it to train its networks again" in str(error)  # noqa: PT017 - a blank may change nothing
        else:
            assert all(torch.equal(found[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda block: {"weights": block["weights"]}, "its tensors must have the shapes"),
        (lambda block: block | {"weights": block["weights"][:, :4]}, "its tensors must have the shapes"),
        (lambda block: block | {"rows": block["rows"] * 1.5}, "its first model must be 2 of the recipe"),
        (lambda block: block | {"rows": torch.cat([block["rows"][:, :4], torch.full((4, 1), torch.nan)], 1)}, "lie in"),
    ],
)
def test_a_block_of_other_networks_is_refused(tmp_path, change, message):
    block = {key: value.contiguous() for key, value in change(packed(RECIPE, range(2, 4), FOUND)).items()}
    write_tensors(tmp_path / "block", block)
    with pytest.raises(ZooError, match=message):
        read_block(tmp_path / "block", RECIPE, range(2, 4), 5)


def test_a_block_without_a_digest_is_refused(tmp_path):
    save_file(packed(RECIPE, range(2, 4), FOUND), tmp_path / "block")
    with pytest.raises(
        ZooError, match="it holds no digest of its contents; it is damaged, or an earlier version wrote"
    ):
        read_block(tmp_path / "block", RECIPE, range(2, 4), 5)


def test_diverged_networks_are_kept_for_the_list_of_them(tmp_path):
    found = [Trained(np.full((2, 5), np.nan, np.float32), *([np.array([0.1, 0.1])] * 2))] * 2
    write_tensors(tmp_path / "block", packed(RECIPE, range(2, 4), found))
    assert read_block(tmp_path / "block", RECIPE, range(2, 4), 5)["weights"].isnan().all()


def test_members_of_a_family_carry_its_number_and_all_epochs():
    recipe = ZooRecipe(images="digits", models=4, families=2, epochs=3, branch_epochs=2)
    found = [Trained(np.zeros((1, 5), np.float32), np.zeros(1), np.zeros(1))] * 2
    assert packed(recipe, range(2, 4), found)["rows"][:, :3].tolist() == [[2, 1, 5], [3, 1, 5]]


def test_a_damaged_block_is_named(tmp_path):
    (tmp_path / "000000.safetensors").write_bytes(b"half")
    with pytest.raises(ZooError, match=r"000000.safetensors is damaged \(.*\); delete it to train its networks again$"):
        read_block(tmp_path / "000000.safetensors", RECIPE, range(4), 5)


def test_a_folder_of_blocks_belongs_to_one_recipe(tmp_path):
    for _ in range(2):
        claim(tmp_path, {"models": 4})
    with pytest.raises(ArgumentError, match="holds unfinished work of another recipe; delete it or name another folde"):
        claim(tmp_path, {"models": 4, "network": "Linear"})


def test_blocks_that_recorded_the_printed_network_are_refused_with_the_reason(tmp_path):
    (tmp_path / "recipe.json").write_text('{"models": 4, "network": "Sequential(\\n  (0): Flatten()\\n)"}')
    message = (
        "holds unfinished work of an earlier version, which recorded its network in another form; delete it or name"
    )
    with pytest.raises(ArgumentError, match=message):
        claim(tmp_path, {"models": 4, "network": "0" * 64, "architecture": None})
    with pytest.raises(ArgumentError, match="holds unfinished work of another recipe"):
        claim(tmp_path, {"models": 4})


def test_a_claim_is_compared_as_json(tmp_path):
    for _ in range(2):
        claim(tmp_path, {"architecture": [["conv2d", {"stride": (1, 2)}]]})


def test_blocks_without_a_record_are_refused(tmp_path):
    """Otherwise those of another recipe would be mixed in."""
    claim(tmp_path, {"models": 4})
    (tmp_path / "recipe.json").rename(tmp_path / "gone")
    write_tensors(tmp_path / "000000.safetensors", packed(RECIPE, range(4), FOUND * 2))
    with pytest.raises(ZooError, match=r"must say in recipe\.json what its networks are, got no such file"):
        claim(tmp_path, {"models": 4})


def test_blocks_on_other_images_are_refused(tmp_path):
    claim(tmp_path, {"models": 4, blocks.IMAGES: "0" * 64})
    with pytest.raises(ArgumentError, match="holds unfinished work on other images; delete it or name another folder"):
        claim(tmp_path, {"models": 4, blocks.IMAGES: "1" * 64})
    with pytest.raises(ArgumentError, match="holds unfinished work of another recipe"):
        claim(tmp_path, {"models": 5, blocks.IMAGES: "1" * 64})


def test_a_damaged_record_is_named(tmp_path):
    note = RECIPE.to_json()
    write_record(tmp_path / "recipe.json", note)
    refused = 0
    for _ in flipped(tmp_path / "recipe.json", 50):
        try:
            claim(tmp_path, note)
        except ZooError as error:
            refused += "recipe.json is damaged (" in str(error)
    assert refused > 30
    claim(tmp_path, note)
