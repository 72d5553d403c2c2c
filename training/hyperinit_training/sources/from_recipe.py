"""What `hyperinit pretrain`, `zoo` and `train --recipe` do: the steps of a recipe, each left alone if it is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.hub import publish, sources
from hyperinit.representation import HyperRepresentation
from hyperinit_training.images.dataset import load_images
from hyperinit_training.machine import processes
from hyperinit_training.recipes.load import Recipe
from hyperinit_training.zoo.zoo import Zoo


def check_one_network(recipe: Recipe) -> None:
    """Refuse networks that differ in more than their weights: what is decoded would have no activation of its own."""
    if "activation" in recipe.zoo.vary:
        raise ArgumentError(
            f"an artifact's networks must have one activation, those of {recipe.name} have "
            f"{', '.join(map(str, recipe.zoo.vary['activation']))}; make the zoo with `hyperinit zoo`, and train its "
            "autoencoder with hyperinit_training.train_autoencoder, which needs none"
        )


def zoo_of(  # noqa: PLR0913
    recipe: Recipe,
    data: Path | None,
    folder: Path,
    *,
    half: bool = False,
    device: str = "cpu",
    network: Callable[[], nn.Module] | None = None,
    workers: int | None = None,
) -> Zoo:
    """Train the zoo unless `folder` holds it already; device, network and workers are those of `train_zoo`."""
    from hyperinit_training.train_zoo import train_zoo
    from hyperinit_training.train_zoo.train import network_name

    if processes.agreed((folder / "zoo.json").exists()):
        found = Zoo.load(folder)
        wanted = (recipe.zoo.to_json(), network_name(network))
        if (found.provenance.get("recipe"), found.provenance.get("network")) != wanted:
            raise ArgumentError(f"{folder} holds the zoo of another recipe; name another folder or delete it")
    else:
        images = load_images(recipe.zoo.images, data)
        found = train_zoo(recipe.zoo, images, folder, device=device, network=network, workers=workers)
    if half and processes.is_first():
        found.save(folder, half=True)
    return found


def summary(found: Zoo, folder: Path) -> str:
    """Say in one line what a zoo holds."""
    test = [s.test for s in found.snapshots]
    return f"{folder}: {len(found)} snapshots, test accuracy {min(test):.2%} to {max(test):.2%}"


def representation_of(  # noqa: PLR0913
    recipe: Recipe, folder: Path, data: Path | None, run: Path, out: Path, *, device: str = "cpu"
) -> HyperRepresentation:
    """Train the autoencoder on the zoo in `folder`, measure it, write the artifact and register an embedded one."""
    from hyperinit_training.sources.assemble import assemble
    from hyperinit_training.sources.choose import finish
    from hyperinit_training.train_autoencoder import prepare, train_autoencoder

    found = Zoo.load(folder)
    name = found.provenance["images"]["name"]
    if name != recipe.zoo.images:
        raise ArgumentError(f"{folder} must hold a zoo trained on {recipe.zoo.images}, got one trained on {name}")
    if "network" in found.provenance:
        raise ArgumentError(
            f"an artifact is measured with the paper's CNN, and {folder} holds networks of another kind"
        )
    images = load_images(recipe.zoo.images, data)
    found = prepare(found, recipe.autoencoder)
    autoencoder = train_autoencoder(recipe.autoencoder, found, run, device=device)

    def written() -> HyperRepresentation:
        representation = finish(assemble(recipe, found, autoencoder), found, images)
        out.parent.mkdir(parents=True, exist_ok=True)
        representation.save(out)
        if out.resolve().parent == sources.FOLDER.resolve():
            publish.register_embedded(out, out.stem, recipe.title)
        return representation

    return processes.once(written, lambda: HyperRepresentation.read(out))
