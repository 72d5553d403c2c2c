"""Recipes of an autoencoder: fields, checks, learning rates and Table 8."""

from dataclasses import asdict, replace

import pytest

from hyperinit.autoencoder import AutoencoderConfig
from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe, table8

FIELDS = (
    "width heads feedforward depth latent compression dropout block standardise bounded variational chunk window halo "
    "steps batch rate warmup decay beta centre lwln align permutations permuted target erase latent_noise "
    "kl_weight seed"
)


def test_fields_have_the_order_that_checkpoints_store():
    """A checkpoint stores the recipe as text, and resuming compares that text: another order would refuse old runs."""
    assert list(asdict(AutoencoderRecipe())) == FIELDS.split()


def test_defaults_are_those_of_the_autoencoder():
    assert AutoencoderRecipe().config() == AutoencoderConfig()


def test_config_has_the_fields_of_the_autoencoder_alone():
    config = AutoencoderRecipe(width=16, heads=2, variational=True, steps=7).config()
    assert type(config) is AutoencoderConfig
    assert config == AutoencoderConfig(width=16, heads=2, variational=True)


def test_learning_rate_rises_linearly_and_falls_as_a_cosine():
    recipe = AutoencoderRecipe(steps=10, warmup=2, rate=0.5)
    assert [recipe.rate_at(step) for step in (0, 1, 2, 6, 10)] == pytest.approx([0.25, 0.5, 0.5, 0.25, 0.0])
    assert replace(recipe, warmup=0).rate_at(0) == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "blurred"}, r"target must be one of view, clean, aligned, got 'blurred'$"),
        ({"steps": 0}, r"steps and batch must be at least 1 and 2, got 0 and 64$"),
        ({"batch": 1}, r"steps and batch must be at least 1 and 2, got 2000 and 1$"),
        ({"beta": 1.1}, r"beta must lie in \[0, 1\], got 1.1$"),
        ({"kl_weight": -1.0}, r"kl_weight must be at least 0, got -1.0$"),
        ({"centre": "zoo"}, r"centre must be layer or network, got 'zoo'$"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0$"),
        ({"width": 10, "heads": 4}, r"heads must divide width, got \(10, 4, 512, 2, 256\)$"),
        ({"chunk": 64, "variational": True}, r"chunk needs block='compact' and variational=False, got"),
        ({"permuted": -0.5}, r"permuted must lie in \[0, 1\], got -0.5$"),
    ],
)
def test_bad_values_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        AutoencoderRecipe(**changes)


def test_table_8_gives_sizes_and_training():
    recipe = table8("mnist", 3500)
    assert (recipe.width, recipe.heads, recipe.feedforward, recipe.depth, recipe.latent) == (972, 12, 1140, 2, 700)
    assert (recipe.compression, recipe.block, recipe.standardise) == ("flatten", "reference", False)
    assert (recipe.batch, recipe.beta, recipe.rate, recipe.decay, recipe.dropout) == (500, 0.977, 1e-4, 1e-9, 0.1)
    assert recipe.steps == 1750 * 7
    assert table8("stl10", 10).steps == 2000
    with pytest.raises(UnknownNameError, match=r"^unknown images of Table 8 'digits'; choose from mnist, svhn"):
        table8("digits", 3500)
