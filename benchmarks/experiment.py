"""One data set at one scale: the zoo, the autoencoders and the trained populations that several tables share.

Each part is made when it is first needed and kept in FOLDER/NAME-SCALE. A part that exists is not made again, so a run
that was interrupted resumes.

    zoo/                   the networks, by the recipe NAME-paper scaled down; zoos in training/zoos/ are used as is
    lwln/ ...              checkpoints of the autoencoder, one folder for each variant of `scales.VARIANTS`
    lwln.safetensors ...   the hyper-representations
    rows/                  results of trained populations, one JSON file each
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.scales import PAPER, Scale
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation
from hyperinit_training.images.dataset import Images, load_images
from hyperinit_training.machine.run_files import write_json
from hyperinit_training.recipes.load import Recipe
from hyperinit_training.sources.from_recipe import assemble_recipe, zoo_of
from hyperinit_training.symmetry.align import align
from hyperinit_training.train_autoencoder import prepare, train_autoencoder
from hyperinit_training.train_zoo.schedules import initial_weights
from hyperinit_training.zoo.statistics import layer_std
from hyperinit_training.zoo.zoo import Zoo

ZOOS = Path(__file__).parent.parent / "training" / "zoos"
BANDWIDTH = 0.002  # of the KDE: from the released code, the paper states none


class Experiment:
    """One data set at one scale.

    Args:
        name: mnist, svhn, cifar10 or stl10, or svhn-zoo2 and svhn-zoo3.
        scale: its sizes.
        folder: parent folder of all experiments.
        data: folder of the images, see `data_of`.
    """

    def __init__(self, name: str, scale: Scale, folder: Path, data: Path | None) -> None:
        self.name, self.scale = name, scale
        self.folder = folder / f"{name}-{scale.name}"
        self.data = data_of(scale.recipe(name).zoo.images, data)

    def recipe(self, variant: str = "lwln") -> Recipe:
        """Return the recipe of a variant of the autoencoder; all variants have the same zoo."""
        return self.scale.recipe(self.name, variant)

    @cached_property
    def images(self) -> Images:
        """The data set, limited to as many training images as the recipe says."""
        recipe = self.recipe().zoo
        found = load_images(recipe.images, self.data)
        return found.subset(recipe.limit) if recipe.limit else found

    @cached_property
    def whole_zoo(self) -> Zoo:
        """The networks of train, val and test in half precision, with the early snapshots that Figure 3 needs."""
        kept, folder = ZOOS / self.folder.name, self.folder / "zoo"
        if (kept / "zoo.json").exists() and not (folder / "zoo.json").exists():
            return zoo_of(self.recipe(), self.data, kept)
        zoo_of(self.recipe(), self.data, folder, half=True)
        return Zoo.load(folder)  # the rounded weights: a zoo read from its file then gives the same results

    @cached_property
    def zoo(self) -> Zoo:
        """The zoo without the early snapshots; autoencoders are trained and tested on it."""
        first, zoo = self.recipe().zoo.snapshots[0], self.whole_zoo
        rows = [row for row, s in enumerate(zoo.snapshots) if s.epoch > first]
        return replace(zoo, weights=zoo.weights[rows], snapshots=tuple(zoo.snapshots[row] for row in rows))

    def prepared(self, variant: str = "lwln") -> Zoo:
        """Return the zoo as a variant's autoencoder is trained on it: aligned, or as it is."""
        return prepare(self.zoo, self.recipe(variant).autoencoder)

    def trajectories(self, part: str, variant: str = "lwln") -> Zoo:
        """Return all snapshots of a part's networks, early ones included, aligned if the variant is."""
        zoo = self.whole_zoo.part(part)
        if not self.recipe(variant).autoencoder.align:
            return zoo
        train = self.prepared(variant).part("train").weights
        generator, scale = torch.Generator().manual_seed(0), layer_std(train, zoo.layout)
        aligned = align(zoo.weights, zoo.layout, generator=generator, rounds=1, reference=train.mean(0), scale=scale)
        return replace(zoo, weights=aligned)

    def representation(self, variant: str = "lwln") -> HyperRepresentation:
        """Return a variant's hyper-representation; only `lwln` trains the samplers that need training."""
        path = self.folder / f"{variant}.safetensors"
        if not path.exists():
            recipe = self.recipe(variant)
            recipe = replace(recipe, samplers=replace(recipe.samplers, bandwidth=BANDWIDTH))
            zoo = self.prepared(variant)
            made = assemble_recipe(recipe, zoo, train_autoencoder(recipe.autoencoder, zoo, self.folder / variant))
            made = made.train_samplers() if variant == "lwln" else made
            made.save(path)
        return HyperRepresentation.read(path)

    def scratch(self, count: int, init: str = "", seed: int = 1_000_000) -> Tensor:
        """Draw untrained networks (count, D) by the zoo's initialisation or by `init`, from seeds outside the zoo."""
        init, generator = init or self.recipe().zoo.init, torch.Generator().manual_seed(seed)
        with torch.device("meta"):  # only its shapes are needed
            layout = Layout.of(cnn(self.images.x_train.shape[1]))
        return torch.stack([initial_weights(init, layout, generator) for _ in range(count)])

    def cached(self, name: str, key: dict[str, Any], make: Callable[[], Any]) -> Any:
        """Return the result of `make`, read from rows/NAME.json if that file was written for the same key."""
        path = self.folder / "rows" / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.json"
        key = json.loads(json.dumps(key))
        if path.exists():
            found = json.loads(path.read_text())
            if found["key"] == key:
                return found["value"]
        value = json.loads(json.dumps(make()))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "value": value})
        return value

    def config(self) -> dict[str, Any]:
        """Return the settings of the run beside the paper's sizes."""
        recipe = self.recipe()
        return {
            "scale": self.scale.name,
            "zoo": {"models": recipe.zoo.models, "epochs": recipe.zoo.epochs, "recipe": recipe.zoo.to_json()},
            "paper": PAPER,
            "images": {part: len(getattr(self.images, f"y_{part}")) for part in ("train", "val", "test")},
            "autoencoder": asdict(recipe.autoencoder),
            "bandwidth": BANDWIDTH,
            "population": self.scale.population,
            "draws": self.scale.draws,
        }


def data_of(images: str, data: Path | None) -> Path | None:
    """Return the path for `load_images`: FOLDER/NAME.npz if that exists, else FOLDER; None for the digits."""
    if data is None or images == "digits" or data.suffix == ".npz":
        return None if images == "digits" else data
    file = data / f"{images}.npz"
    return file if file.exists() else data
