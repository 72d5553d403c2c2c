"""Recipes read from TOML files: defaults, errors and the shipped recipes."""

import pytest

from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit.nets import cnn
from hyperinit.samplers import SamplerOptions
from hyperinit_training.images.dataset import RULES
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.recipes.load import Recipe, load_recipe, recipes
from hyperinit_training.recipes.zoo import ZooRecipe

ZOO = '[zoo]\nimages = "digits"\nmodels = 4\n'


def written(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", recipes())
def test_every_shipped_recipe_can_be_used(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert all((recipe.title, recipe.licence, recipe.citation))
    assert recipe.zoo.images in RULES
    cnn(activation=recipe.zoo.activation)


def test_missing_keys_get_defaults(tmp_path):
    path = written(
        tmp_path,
        'title = "T"\n'
        + ZOO
        + "snapshots = [1, 3]\n[autoencoder]\nsteps = 7\nlwln = false\n[samplers]\nneighbours = 5\n",
    )
    expected = Recipe(
        name="mine",
        title="T",
        licence="",
        citation="",
        zoo=ZooRecipe(images="digits", models=4, snapshots=(1, 3)),
        autoencoder=AutoencoderRecipe(steps=7, lwln=False),
        samplers=SamplerOptions(bandwidth=0.0, neighbours=5),
    )
    assert load_recipe(path) == expected


def test_an_unknown_name_suggests_similar_names(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'digit-tuned'; did you mean 'digits-tuned'"):
        load_recipe("digit-tuned")
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'zzz'; choose from .*digits-tuned, "):
        load_recipe("zzz")
    with pytest.raises(UnknownNameError, match=r"unknown recipe '.*none.toml'"):
        load_recipe(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[zoo", r"mine.toml is not TOML: "),
        (ZOO + "speed = 3\n", r"mine.toml has unknown keys speed; known are images, models, network, families"),
        (ZOO + "[autoencoder]\nsize = 3\n", r"mine.toml has unknown keys size; known are width, heads"),
        (ZOO + "[samplers]\nwidth = 3\n", r"mine.toml has unknown keys width; known are bandwidth, neighbours, noise"),
        (ZOO + "[samplers]\nneighbours = 0\n", r"neighbours must be an integer of at least 1, got 0$"),
        ('author = "me"\n' + ZOO, r"mine.toml has unknown keys author$"),
        ("[zoo]\nmodels = 4\n", r"mine.toml: .*missing 1 required keyword-only argument: 'images'$"),
        ('[zoo]\nimages = "digits"\nmodels = "many"\n', r"mine.toml: .*'str' and 'int'$"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    with pytest.raises(ArgumentError, match=message):
        load_recipe(written(tmp_path, text))


def test_rank_by_is_validation_images_by_default(tmp_path):
    assert load_recipe(written(tmp_path, ZOO)).rank_by == "val"
    assert load_recipe(written(tmp_path, 'rank_by = "test"\n' + ZOO)).rank_by == "test"
    with pytest.raises(ArgumentError, match=r"rank_by must be val or test, got 'train'$"):
        load_recipe(written(tmp_path, 'rank_by = "train"\n' + ZOO))


@pytest.mark.parametrize(("name", "count"), [("svhn-zoo2", 36), ("svhn-zoo3", 432)])
def test_the_diverse_zoos_vary_the_hyperparameters_of_appendix_d(name, count):
    zoo = load_recipe(name).zoo
    assert len({(o.activation, o.decay, o.dropout, o.init, o.rate) for o in zoo.varied}) == count
    same = load_recipe("svhn-paper").zoo
    shared = ("images", "models", "families", "batch", "epochs", "snapshots", "schedule")
    assert [getattr(zoo, key) for key in shared] == [getattr(same, key) for key in shared]
