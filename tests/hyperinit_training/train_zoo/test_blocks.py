"""The files of blocks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training.machine.run_files import write_tensors
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


def test_a_block_is_read_as_it_was_written(tmp_path):
    recipe = ZooRecipe(images="digits", models=4, epochs=3, snapshots=(1, 3))
    found = [Trained(np.full((2, 5), m, np.float32), np.array([0.1, 0.2]) + m, np.array([0.3, 0.4])) for m in (2, 3)]
    write_tensors(tmp_path / "block", packed(recipe, range(2, 4), found))
    block = read_block(tmp_path / "block")
    assert block["weights"].tolist() == [[2.0] * 5] * 2 + [[3.0] * 5] * 2
    expected = [[2, 2, 1, 2.1, 0.3], [2, 2, 3, 2.2, 0.4], [3, 3, 1, 3.1, 0.3], [3, 3, 3, 3.2, 0.4]]
    torch.testing.assert_close(block["rows"], torch.tensor(expected, dtype=torch.float64))


def test_members_of_a_family_carry_its_number_and_all_epochs():
    recipe = ZooRecipe(images="digits", models=4, families=2, epochs=3, branch_epochs=2)
    found = [Trained(np.zeros((1, 5), np.float32), np.zeros(1), np.zeros(1))] * 2
    assert packed(recipe, range(2, 4), found)["rows"][:, :3].tolist() == [[2, 1, 5], [3, 1, 5]]


def test_a_damaged_block_is_named(tmp_path):
    (tmp_path / "000000.safetensors").write_bytes(b"half")
    with pytest.raises(ZooError, match=r"000000.safetensors is damaged \(.*\); delete it to train its networks again$"):
        read_block(tmp_path / "000000.safetensors")


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
