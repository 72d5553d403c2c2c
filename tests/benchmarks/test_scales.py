"""Scales: the paper's sizes, and variants of the autoencoder."""

import pytest

from benchmarks.scales import SCALES
from hyperinit_training.recipes.load import load_recipe


def test_the_paper_scale_is_the_papers():
    recipe = SCALES["paper"].recipe("svhn")
    assert (recipe.zoo.models, recipe.zoo.epochs) == (1000, 25)
    assert recipe.zoo.snapshots == (5, 21, 22, 23, 24, 25)  # Figure 3 needs the first
    assert (recipe.autoencoder.width, recipe.autoencoder.latent, recipe.autoencoder.beta) == (1680, 1000, 0.92)
    assert recipe.zoo.init == load_recipe("svhn-paper").zoo.init == "uniform"


@pytest.mark.parametrize("scale", SCALES)
def test_the_baseline_differs_in_the_loss_only(scale):
    lwln, plain = (vars(SCALES[scale].recipe("mnist", variant).autoencoder) for variant in ("lwln", "plain"))
    assert {key for key in lwln if lwln[key] != plain[key]} == {"lwln"}
