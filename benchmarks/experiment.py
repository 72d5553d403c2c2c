"""What many tables share for one data set and scale: a zoo of seeds, autoencoders trained on it, the anchors.

Everything lies in FOLDER/NAME-SCALE and is made when it is first asked for; what is there is used, so that a killed
run goes on where it was.

    zoo/          the networks, by the recipe NAME-paper scaled down; those in training/zoos/ are not trained again
    lwln/ ...     training of the autoencoder, one folder for each variant of `scales.VARIANTS`
    lwln.safetensors ...   the hyper-representations
    rows/         populations that were trained, one JSON for each
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

from benchmarks.scales import Scale
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation
from hyperinit_training.images.dataset import Images, load_images
from hyperinit_training.machine.run_files import write_json
from hyperinit_training.recipes.load import Recipe
from hyperinit_training.sources.assemble import assemble
from hyperinit_training.sources.from_recipe import zoo_of
from hyperinit_training.symmetry.align import align
from hyperinit_training.train_autoencoder import prepare, train_autoencoder
from hyperinit_training.train_zoo.schedules import initial_weights
from hyperinit_training.zoo.statistics import layer_std
from hyperinit_training.zoo.zoo import Zoo

ZOOS = Path(__file__).parent.parent / "training" / "zoos"
BANDWIDTH = 0.002  # the released code's; the paper states none


class Experiment:
    """One data set at one scale.

    Args:
        name: mnist, svhn, cifar10 or stl10, or svhn-zoo2 and svhn-zoo3.
        scale: how large.
        folder: where experiments lie.
        data: folder of the images, see `data_of`.
    """

    def __init__(self, name: str, scale: Scale, folder: Path, data: Path | None) -> None:
        self.name, self.scale = name, scale
        self.folder = folder / f"{name}-{scale.name}"
        self.data = data_of(scale.recipe(name).zoo.images, data)

    def recipe(self, variant: str = "lwln") -> Recipe:
        """Return the recipe of a variant of the autoencoder; the zoo's part is the same for all."""
        return self.scale.recipe(self.name, variant)

    @cached_property
    def images(self) -> Images:
        """The data set."""
        recipe = self.recipe().zoo
        found = load_images(recipe.images, self.data)
        return found.subset(recipe.limit) if recipe.limit else found

    @cached_property
    def whole_zoo(self) -> Zoo:
        """The networks of all three parts in half precision, each with an early snapshot that Figure 3 needs."""
        kept, folder = ZOOS / self.folder.name, self.folder / "zoo"
        if (kept / "zoo.json").exists() and not (folder / "zoo.json").exists():
            return zoo_of(self.recipe(), self.data, kept)
        zoo_of(self.recipe(), self.data, folder, half=True)
        return Zoo.load(folder)  # so that all that follows can be had again from the small file

    @cached_property
    def zoo(self) -> Zoo:
        """What autoencoders are trained and tested on: all snapshots but the early ones."""
        first, zoo = self.recipe().zoo.snapshots[0], self.whole_zoo
        rows = [row for row, s in enumerate(zoo.snapshots) if s.epoch > first]
        return replace(zoo, weights=zoo.weights[rows], snapshots=tuple(zoo.snapshots[row] for row in rows))

    def prepared(self, variant: str = "lwln") -> Zoo:
        """Return the zoo as a variant's autoencoder sees it: aligned or not."""
        return prepare(self.zoo, self.recipe(variant).autoencoder)

    def trajectories(self, part: str, variant: str = "lwln") -> Zoo:
        """Return the networks of a part with all their snapshots, the early ones too, as a variant sees them."""
        zoo = self.whole_zoo.part(part)
        if not self.recipe(variant).autoencoder.align:
            return zoo
        train = self.prepared(variant).part("train").weights
        generator, scale = torch.Generator().manual_seed(0), layer_std(train, zoo.layout)
        aligned = align(zoo.weights, zoo.layout, generator=generator, rounds=1, reference=train.mean(0), scale=scale)
        return replace(zoo, weights=aligned)

    def representation(self, variant: str = "lwln") -> HyperRepresentation:
        """Return the hyper-representation; samplers that need training are trained for `lwln` only."""
        path = self.folder / f"{variant}.safetensors"
        if not path.exists():
            recipe = self.recipe(variant)
            recipe = replace(recipe, samplers=replace(recipe.samplers, bandwidth=BANDWIDTH))
            zoo = self.prepared(variant)
            made = assemble(recipe, zoo, train_autoencoder(recipe.autoencoder, zoo, self.folder / variant))
            made = made.train_samplers() if variant == "lwln" else made
            made.save(path)
        return HyperRepresentation.read(path)

    def scratch(self, count: int, init: str = "", seed: int = 1_000_000) -> Tensor:
        """Draw untrained networks (count, D) as the zoo's were drawn, from other seeds, or by another `init`."""
        init, generator = init or self.recipe().zoo.init, torch.Generator().manual_seed(seed)
        with torch.device("meta"):  # only its shapes are needed
            layout = Layout.of(cnn(self.images.x_train.shape[1]))
        return torch.stack([initial_weights(init, layout, generator) for _ in range(count)])

    def cached(self, name: str, key: dict[str, Any], make: Callable[[], Any]) -> Any:
        """Return what `make` gives, from rows/NAME.json if that was made for the same key."""
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
        """Say what was run, and by how much it is smaller than the paper's."""
        recipe = self.recipe()
        return {
            "scale": self.scale.name,
            "zoo": {"models": recipe.zoo.models, "epochs": recipe.zoo.epochs, "recipe": recipe.zoo.to_json()},
            "paper": {"models": 1000, "epochs": 25, "population": 50},
            "images": {part: len(getattr(self.images, f"y_{part}")) for part in ("train", "val", "test")},
            "autoencoder": asdict(recipe.autoencoder),
            "bandwidth": BANDWIDTH,
            "population": self.scale.population,
            "draws": self.scale.draws,
        }


def data_of(images: str, data: Path | None) -> Path | None:
    """Return what `load_images` takes: FOLDER/NAME.npz if there is one, else the folder; the digits need none."""
    if data is None or images == "digits" or data.suffix == ".npz":
        return None if images == "digits" else data
    file = data / f"{images}.npz"
    return file if file.exists() else data
