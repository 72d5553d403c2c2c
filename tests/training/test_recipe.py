import json

import pytest

from hyperinit.autoencoder import AutoencoderConfig
from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit.nets import cnn
from hyperinit.samplers import SamplerOptions
from hyperinit_training.download import FILES
from hyperinit_training.recipe import AutoencoderRecipe, Recipe, ZooRecipe, load_recipe, recipes, scaled, table8

ZOO = '[zoo]\nimages = "digits"\nmodels = 4\n'


def written(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_table_8_gives_sizes_and_training():
    recipe = table8("mnist", 3500)
    assert (recipe.width, recipe.heads, recipe.feedforward, recipe.depth, recipe.latent) == (972, 12, 1140, 2, 700)
    assert (recipe.compression, recipe.block, recipe.standardise) == ("flatten", "reference", False)
    assert (recipe.batch, recipe.beta, recipe.rate, recipe.decay, recipe.dropout) == (500, 0.977, 1e-4, 1e-9, 0.1)
    assert recipe.steps == 1750 * 7
    assert table8("stl10", 10).steps == 2000
    with pytest.raises(UnknownNameError, match=r"^Table 8 has mnist, svhn, cifar10, stl10, got 'digits'$"):
        table8("digits", 3500)


@pytest.mark.parametrize("name", recipes())
def test_every_shipped_recipe_can_be_used(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert all((recipe.title, recipe.licence, recipe.citation))
    assert recipe.zoo.images in {"digits", *FILES}
    cnn(activation=recipe.zoo.activation)
    numbers = vars(recipe.autoencoder)
    AutoencoderConfig(**{key: numbers[key] for key in AutoencoderConfig.__annotations__})


def test_a_file_is_read_with_defaults_for_what_it_leaves_out(tmp_path):
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


def test_to_json_is_what_json_gives_back():
    plain = ZooRecipe(images="digits", models=4, snapshots=(1, 3)).to_json()
    assert plain["snapshots"] == [1, 3]
    assert json.loads(json.dumps(plain)) == plain
    assert ZooRecipe(**plain | {"snapshots": (1, 3)}).to_json() == plain


def test_an_unknown_name_is_told_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'digit-tuned'; did you mean \['digits-tuned'"):
        load_recipe("digit-tuned")
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'zzz'; did you mean \[.*'digits-tuned', .*\]\?"):
        load_recipe("zzz")
    with pytest.raises(UnknownNameError, match=r"unknown recipe '.*none.toml'"):
        load_recipe(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[zoo", r"mine.toml is not TOML: "),
        (ZOO + "speed = 3\n", r"mine.toml has unknown keys speed; known are images, models, families"),
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": 0}, r"models must be at least 1, got 0$"),
        ({"families": 3}, r"models must be a multiple of families, got 4 and 3$"),
        ({"families": -2}, r"families must be at least 0, got -2$"),
        ({"schedule": "cosine"}, r"schedule must be constant or linear, got 'cosine'$"),
        ({"init": "zeros"}, r"unknown init 'zeros'$"),
        ({"epochs": 0}, r"epochs, branch_epochs and batch must be at least 1, got \(0, 1, 64\)$"),
        ({"branch_epochs": 0}, r"must be at least 1, got \(3, 0, 64\)$"),
        ({"batch": 0}, r"must be at least 1, got \(3, 1, 0\)$"),
        ({"snapshots": (1, 4)}, r"snapshots must lie within 3 epochs of seeds, got \(1, 4\)$"),
        ({"snapshots": (0,)}, r"snapshots must lie within 3 epochs of seeds, got \(0,\)$"),
        ({"snapshots": (1,), "families": 2}, r"snapshots must lie within 3 epochs of seeds, got \(1,\)$"),
    ],
)
def test_bad_values_of_a_zoo_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        ZooRecipe(**{"images": "digits", "models": 4} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "blurred"}, r"target must be one of view, clean, aligned, got 'blurred'$"),
        ({"steps": 0}, r"steps and batch must be at least 1 and 2, got 0 and 64$"),
        ({"batch": 1}, r"steps and batch must be at least 1 and 2, got 2000 and 1$"),
        ({"beta": 1.1}, r"beta must lie in \[0, 1\], got 1.1$"),
        ({"kl_weight": -1.0}, r"kl_weight must be at least 0, got -1.0$"),
        ({"permuted": -0.5}, r"permuted must lie in \[0, 1\], got -0.5$"),
    ],
)
def test_bad_values_of_an_autoencoder_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        AutoencoderRecipe(**changes)


FAMILIES = ZooRecipe(images="digits", models=160, families=10, epochs=40)
SEEDS = ZooRecipe(images="digits", models=160, epochs=40, snapshots=(5, 20, 40))


@pytest.mark.parametrize(
    ("recipe", "given", "expected"),
    [
        (FAMILIES, {}, {}),
        (FAMILIES, {"models": 25}, {"models": 20}),
        (FAMILIES, {"models": 4}, {"models": 4, "families": 4}),
        (FAMILIES, {"epochs": 3, "images": 100}, {"epochs": 3, "limit": 100}),
        (SEEDS, {"models": 7}, {"models": 7}),
        (SEEDS, {"epochs": 20}, {"epochs": 20, "snapshots": (5, 20)}),
        (SEEDS, {"epochs": 3}, {"epochs": 3, "snapshots": (3,)}),
    ],
)
def test_scaled_keeps_what_is_not_given(recipe, given, expected):
    asked = {"models": None, "epochs": None, "images": None} | given
    assert scaled(recipe, **asked) == ZooRecipe(**{**vars(recipe), **expected})


@pytest.mark.parametrize(("given", "message"), [({"models": 0}, r"got 0$"), ({"epochs": 0}, r"got \(0, 1, 64\)$")])
def test_scaling_to_nothing_is_refused_and_not_taken_for_the_whole(given, message):
    with pytest.raises(ArgumentError, match=message):
        scaled(FAMILIES, **{"models": None, "epochs": None, "images": None} | given)
