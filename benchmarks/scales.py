"""The scales at which the paper's experiments run (smoke, small, paper), and the options their scripts share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import record
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe, table8
from hyperinit_training.recipes.load import Recipe, load_recipe
from hyperinit_training.recipes.zoo import scaled

PAPER = {"models": 1000, "epochs": 25, "population": 50}  # the paper's sizes
ZOO_EPOCHS = PAPER["epochs"]  # epoch of the last snapshot that an autoencoder is trained on
EARLY = 5  # epoch of a snapshot that no autoencoder is trained on; the paths of Figure 3 begin there
# From U(0, 1) no network leaves chance on the SVHN subset (`python -m benchmarks uniform-start`). The small scale
# therefore initialises SVHN as the paper initialises CIFAR-10 and STL-10.
LEARNABLE = {"svhn": "kaiming_uniform"}
Change = Callable[[AutoencoderRecipe], AutoencoderRecipe]
VARIANTS: dict[str, Change] = {  # of the autoencoder
    "lwln": lambda recipe: recipe,
    "plain": lambda recipe: replace(recipe, lwln=False),
    "aligned": lambda recipe: replace(
        recipe, align=True, target="aligned", permuted=0.5, latent_noise=0.05, standardise=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The sizes of an experiment.

    Args:
        name: smoke, small or paper.
        models: networks in a zoo; the paper has 1,000.
        epochs: epochs that a zoo's networks are trained for.
        autoencoder: changes a recipe's autoencoder; None takes the paper's Table 8.
        population: networks fine-tuned for each row; the paper has at least 50.
        draws: networks sampled for each row without training.
        tuned: epochs of fine-tuning in-dataset (25 in the paper), and of transfer and training from scratch (50).
        drawn: ensembles of each size; the paper has 15.
        limits: data set -> number of training images, for data sets that are not used whole.
        inits: data set -> initialisation of the zoo, where it differs from the recipe's.
    """

    name: str
    models: int
    epochs: int = ZOO_EPOCHS
    autoencoder: Change | None = None
    population: int
    draws: int
    tuned: tuple[int, int] = (25, 50)
    drawn: int = 15
    limits: dict[str, int] = field(default_factory=dict)
    inits: dict[str, str] = field(default_factory=dict)

    def recipe(self, images: str, variant: str = "lwln") -> Recipe:
        """Return the recipe IMAGES-paper at this scale.

        `images` may also be svhn-zoo2 or svhn-zoo3. The smoke scale replaces every data set by the digits.
        """
        base = load_recipe(images if "zoo" in images else f"{images}-paper")
        zoo = scaled(base.zoo, models=self.models, epochs=self.epochs, images=self.limits.get(images))
        zoo = replace(zoo, snapshots=(min(EARLY, zoo.epochs - 1), *zoo.snapshots))
        zoo = replace(zoo, init=self.inits.get(zoo.images, zoo.init))
        if self.name == "smoke":
            # These digits learn within seconds. Each data set has a seed of its own, so that their zoos differ.
            seed = sum(map(ord, images))
            zoo = replace(zoo, images="digits", init="default", rate=4e-3, batch=20, seed=seed)
        autoencoder = self._autoencoder(base, zoo.images, variant)
        return replace(base, name=f"{images}-{self.name}", zoo=zoo, autoencoder=autoencoder)

    def _autoencoder(self, base: Recipe, images: str, variant: str) -> AutoencoderRecipe:
        if self.autoencoder:
            made = self.autoencoder(as_paper(base.autoencoder))
        else:
            made = table8(images, snapshots=round(0.7 * self.models) * 5)  # 5 snapshots of the training networks
        return VARIANTS[variant](made)


def as_paper(base: AutoencoderRecipe) -> AutoencoderRecipe:
    """Set what the paper's autoencoders have in common; sizes stay."""
    return replace(base, compression="flatten", block="compact", standardise=False, rate=1e-3)


def compact(base: AutoencoderRecipe) -> AutoencoderRecipe:
    """Shrink the autoencoder to what two cores can train.

    With every view permuted and the paper's beta of 0.92 to 0.977, reconstruction does not begin within 500 steps: the
    contrastive loss removes the order of neurons from the latents, and reconstructing a permuted view needs that order.
    """
    return replace(
        base, width=128, heads=4, feedforward=512, depth=2, latent=256, batch=32,
        steps=500, permuted=0.25, beta=0.995, dropout=0.0,
    )  # fmt: skip


def tiny(base: AutoencoderRecipe) -> AutoencoderRecipe:
    """Shrink the autoencoder to what a test can train."""
    return replace(base, width=24, heads=2, feedforward=32, depth=1, latent=12, batch=8, steps=60, warmup=5)


SCALES = {
    "smoke": Scale(
        name="smoke", models=12, epochs=4, autoencoder=tiny, population=2, draws=4, tuned=(2, 3), drawn=3
    ),
    "small": Scale(
        name="small", models=60, autoencoder=compact, population=5, draws=50, limits={"cifar10": 10_000},
        inits=LEARNABLE,
    ),
    "paper": Scale(name="paper", models=1000, population=50, draws=50),
}  # fmt: skip


def parser(name: str, about: str | None, *, default: str = "small") -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts of the paper's tables take."""
    made = record.parser(name, about)
    made.add_argument("--scale", choices=SCALES, default=default, help=f"size of the experiment; default {default}")
    made.add_argument("--data", type=Path, help="folder with NAME.npz, or with the official files of each data set")
    made.add_argument(
        "--experiments", type=Path, default=Path("runs/experiments"), help="folder of zoos and autoencoders"
    )
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments and replace the name of the scale by the `Scale`."""
    arguments = made.parse_args(argv)
    arguments.scale = SCALES[arguments.scale]
    return arguments


def command(name: str, arguments: argparse.Namespace) -> str:
    """Return the command line that repeats the measurement, with DATA for the folder of the images."""
    own = ("scale", "data", "out", "experiments")
    words = [f"--{key} {value}" for key, value in vars(arguments).items() if key not in own and value is not None]
    data = ["--data DATA"] if arguments.data else []
    return " ".join(["python -m benchmarks", name, *words, f"--scale {arguments.scale.name}", *data])
