import pytest

from hyperinit.autoencoder import AutoencoderConfig
from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit.nets import cnn
from hyperinit.samplers import SamplerOptions
from hyperinit_training.images.download import FILES
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe, table8
from hyperinit_training.recipes.load import Recipe, load_recipe, recipes
from hyperinit_training.recipes.zoo import ZooRecipe

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


def test_the_rank_is_by_validation_images_unless_a_recipe_says_test(tmp_path):
    assert load_recipe(written(tmp_path, ZOO)).rank_by == "val"
    assert load_recipe(written(tmp_path, 'rank_by = "test"\n' + ZOO)).rank_by == "test"
    with pytest.raises(ArgumentError, match=r"rank_by must be val or test, got 'train'$"):
        load_recipe(written(tmp_path, 'rank_by = "train"\n' + ZOO))


@pytest.mark.parametrize(("name", "count"), [("svhn-zoo2", 36), ("svhn-zoo3", 432)])
def test_the_diverse_zoos_vary_what_appendix_d_says(name, count):
    zoo = load_recipe(name).zoo
    assert len({(o.activation, o.decay, o.dropout, o.init, o.rate) for o in zoo.varied}) == count
    same = load_recipe("svhn-paper").zoo
    shared = ("images", "models", "families", "batch", "epochs", "snapshots", "schedule")
    assert [getattr(zoo, key) for key in shared] == [getattr(same, key) for key in shared]
