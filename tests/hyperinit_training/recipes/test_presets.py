"""Recipes that presets choose for a zoo."""

import pytest
from torch import nn

from hyperinit.errors import UnknownNameError
from hyperinit.layout import Layout
from hyperinit_training.recipes.presets import INDICES, PRESETS, preset

SMALL = Layout.of(nn.Sequential(nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 5)))
LARGE = Layout.of(nn.Sequential(nn.Linear(400, 300), nn.Tanh(), nn.Linear(300, 5)))


@pytest.mark.parametrize("name", PRESETS)
def test_large_networks_are_cut_into_chunks_and_small_ones_are_not(name):
    assert not preset(name, SMALL, 40, one_family=True).chunk
    assert preset(name, LARGE, 40, one_family=True).chunk


def test_one_family_is_centred_on_its_mean_and_neither_permuted_nor_erased():
    recipe = preset("small", SMALL, 40, one_family=True)
    assert (recipe.centre, recipe.permutations, recipe.erase, recipe.align) == ("network", 0, 0.0, False)


def test_several_families_are_permuted_where_the_layout_has_groups():
    recipe = preset("small", SMALL, 40, one_family=False)
    assert (recipe.centre, recipe.permutations, recipe.align) == ("layer", 5000, True)
    assert preset("small", LARGE, 40, one_family=False).permutations == INDICES // LARGE.size
    without = preset("small", SMALL.with_groups({}), 40, one_family=False)
    assert (without.permutations, without.align) == (0, False)


def test_a_batch_is_no_larger_than_the_zoo():
    assert preset("small", SMALL, 9, one_family=True).batch == 9


def test_an_unknown_preset_is_refused():
    with pytest.raises(UnknownNameError, match="unknown preset 'huge'; choose from tiny, small, paper"):
        preset("huge", SMALL, 9, one_family=True)
