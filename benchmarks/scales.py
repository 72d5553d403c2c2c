"""How large the paper's tables are run, and the command line that their scripts share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import record
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe, table8
from hyperinit_training.recipes.load import Recipe, load_recipe
from hyperinit_training.recipes.zoo import scaled

ZOO_EPOCHS = 25  # the last snapshot of the paper's zoos; what they train on after it enters no autoencoder
EARLY = 5  # epoch of a snapshot that no autoencoder sees: where the paths of Figure 3 begin
DIGITS = {"images": "digits", "init": "default", "rate": 4e-3, "batch": 20}  # learns something within seconds
# From U(0, 1) no network leaves chance on the SVHN subset (`python -m benchmarks uniform-start`), so that the small
# scale starts it as the paper starts its zoos of CIFAR-10 and STL-10.
LEARNABLE = {"svhn": "kaiming_uniform"}
COMPACT: dict[str, Any] = {"width": 128, "heads": 4, "feedforward": 512, "depth": 2, "latent": 256, "batch": 32}
# With every view permuted and the paper's beta of 0.92 to 0.977 reconstruction does not begin within so few steps: the
# contrast teaches the latents to forget the order of neurons, which the reconstruction of a permuted view wants.
COMPACT |= {"steps": 500, "permuted": 0.25, "beta": 0.995, "dropout": 0.0}
TINY = {"width": 24, "heads": 2, "feedforward": 32, "depth": 1, "latent": 12, "batch": 8, "steps": 60, "warmup": 5}
AS_PAPER = {"compression": "flatten", "block": "compact", "standardise": False, "rate": 1e-3}
VARIANTS: dict[str, dict[str, Any]] = {
    "lwln": {},
    "plain": {"lwln": False},
    "aligned": {"align": True, "target": "aligned", "permuted": 0.5, "latent_noise": 0.05, "standardise": True},
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of the paper's experiment is run.

    Args:
        name: smoke, small or paper.
        models: networks of a zoo; the paper has 1,000.
        epochs: of a zoo's networks.
        autoencoder: what replaces the paper's Table 8; empty for Table 8 itself.
        population: networks fine-tuned for each row; the paper has at least 50.
        draws: networks sampled for each row without training.
        tuned: epochs of fine-tuning in-dataset (the paper's 25) and in transfer and from scratch (50).
        drawn: ensembles of each size; the paper has 15.
        limits: training images of a data set, where not all are used.
        inits: first weights of a data set's networks, where they are not the recipe's.
    """

    name: str
    models: int
    epochs: int = ZOO_EPOCHS
    autoencoder: dict[str, Any] = field(default_factory=dict)
    population: int
    draws: int
    tuned: tuple[int, int] = (25, 50)
    drawn: int = 15
    limits: dict[str, int] = field(default_factory=dict)
    inits: dict[str, str] = field(default_factory=dict)

    def recipe(self, images: str, variant: str = "lwln") -> Recipe:
        """Return the `IMAGES-paper` recipe at this scale; at smoke scale every data set is the digits.

        `images` may also name one of the recipes svhn-zoo2 and svhn-zoo3.
        """
        base = load_recipe(images if "zoo" in images else f"{images}-paper")
        zoo = scaled(base.zoo, models=self.models, epochs=self.epochs, images=self.limits.get(images))
        zoo = replace(zoo, snapshots=(min(EARLY, zoo.epochs - 1), *zoo.snapshots))
        zoo = replace(zoo, init=self.inits.get(zoo.images, zoo.init))
        if self.name == "smoke":
            zoo = replace(zoo, **DIGITS, seed=sum(map(ord, images)))
        autoencoder = self._autoencoder(base, zoo.images, variant)
        return replace(base, name=f"{images}-{self.name}", zoo=zoo, autoencoder=autoencoder)

    def _autoencoder(self, base: Recipe, images: str, variant: str) -> AutoencoderRecipe:
        if self.autoencoder:
            made = replace(base.autoencoder, **AS_PAPER, **self.autoencoder)
        else:
            made = table8(images, snapshots=round(0.7 * self.models) * 5)
        return replace(made, **VARIANTS[variant])


SCALES = {
    "smoke": Scale(
        name="smoke", models=12, epochs=4, autoencoder=TINY, population=2, draws=4, tuned=(2, 3), drawn=3
    ),
    "small": Scale(
        name="small", models=60, autoencoder=COMPACT, population=5, draws=50, limits={"cifar10": 10_000},
        inits=LEARNABLE,
    ),
    "paper": Scale(name="paper", models=1000, population=50, draws=50),
}  # fmt: skip


def parser(name: str, about: str | None, *, default: str = "small") -> argparse.ArgumentParser:
    """Return a parser with the options that all tables have."""
    made = record.parser(name, about)
    made.add_argument("--scale", choices=SCALES, default=default)
    made.add_argument("--data", type=Path, help="folder with NAME.npz or the official files of each data set")
    made.add_argument("--experiments", type=Path, default=Path("runs/experiments"), help="folder of zoos and so on")
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse, and replace the name of the scale by what it means."""
    arguments = made.parse_args(argv)
    arguments.scale = SCALES[arguments.scale]
    return arguments


def command(name: str, arguments: argparse.Namespace) -> str:
    """Write the command that gives a result again."""
    own = ("scale", "data", "out", "experiments")
    words = [f"--{key} {value}" for key, value in vars(arguments).items() if key not in own and value is not None]
    data = ["--data DATA"] if arguments.data else []
    return " ".join(["python -m benchmarks", name, *words, f"--scale {arguments.scale.name}", *data])
