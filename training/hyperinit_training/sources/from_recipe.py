"""Make a source from a recipe: train its zoo, train its autoencoder, measure it. Finished steps are not repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArgumentError, WriteError, counted
from hyperinit.files import temporary
from hyperinit.hub import publish, sources
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.card import Card
from hyperinit_training.images.dataset import load_images
from hyperinit_training.machine import lock, processes
from hyperinit_training.recipes.load import Recipe
from hyperinit_training.sources.assemble import assemble, rehearse, zoo_facts
from hyperinit_training.sources.written import write
from hyperinit_training.zoo.zoo import Zoo


def check_one_network(recipe: Recipe) -> None:
    """Refuse a zoo of several activations: weights are decoded, an activation is not.

    Raises:
        ArgumentError: if the recipe varies the activation.
    """
    if "activation" in recipe.zoo.vary:
        raise ArgumentError(
            f"all networks of an artifact must have one activation, those of {recipe.name} have "
            f"{', '.join(map(str, recipe.zoo.vary['activation']))}; make the zoo with `hyperinit zoo`, and train its "
            "autoencoder with hyperinit_training.train_autoencoder, which writes no artifact"
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
    force: bool = False,
) -> Zoo:
    """Train the zoo of a recipe, or load it if `folder` holds it already.

    Args:
        recipe: its `zoo` part is used.
        data: folder of the images or an `.npz` file; None for embedded images.
        folder: of the zoo.
        half: store the weights in half precision.
        device: as for `train_zoo`.
        network: as for `train_zoo`.
        workers: as for `train_zoo`.
        force: whether `half` may round the weights of a zoo that `folder` holds already.

    Raises:
        ArgumentError: if `folder` holds the zoo of another recipe or network, or `half` would round one.
        DataError: if the images are missing.
    """
    from hyperinit_training.train_zoo import train_zoo
    from hyperinit_training.train_zoo.train import same_network

    if processes.agreed((folder / "zoo.json").exists()):
        found = Zoo.load(folder)
        if found.provenance.get("recipe") != recipe.zoo.to_json() or not same_network(found, network):
            raise ArgumentError(f"{folder} holds the zoo of another recipe; choose another folder or delete it")
        if half and not force and not torch.equal(found.weights, found.weights.half().float()):
            raise ArgumentError(
                f"half must round no finished zoo, got {folder}, whose weights are in full precision; pass force=True "
                "to replace them"
            )
        _clear(folder)
    else:
        images = load_images(recipe.zoo.images, data)
        found = train_zoo(recipe.zoo, images, folder, device=device, network=network, workers=workers)
    if half and processes.is_first():
        found.save(folder, half=True)
    return found


def _clear(folder: Path) -> None:
    """Delete what a process left that was killed after its zoo was written, unless another one still does so."""
    if processes.is_first():
        temporary.sweep(folder)
    if (folder / "blocks").exists() or (folder / lock.NAME).exists():
        with suppress(ArgumentError, WriteError), lock.locked(folder):
            if processes.is_first():
                shutil.rmtree(folder / "blocks", ignore_errors=True)


def summary(found: Zoo, folder: Path) -> str:
    """Return one line with the number of snapshots and the range of their test accuracies."""
    test = [s.test for s in found.snapshots]
    return f"{folder}: {counted(len(found), 'snapshot')}, test accuracy {min(test):.2%} to {max(test):.2%}"


def representation_of(  # noqa: PLR0913
    recipe: Recipe, folder: Path, data: Path | None, run: Path, out: Path, *, device: str = "cpu"
) -> HyperRepresentation:
    """Train an autoencoder on the zoo in `folder`, measure the hyper-representation, and write its artifact.

    An artifact in the folder of embedded sources is also registered.

    Raises:
        ArgumentError: if the zoo was trained on other images, or on other networks than the paper's CNN.
        DataError: if the images are missing.
        ZooError: if the zoo is too small, or `run` holds a checkpoint of another run.
    """
    from hyperinit_training.sources.choose import finish
    from hyperinit_training.train_autoencoder import prepare, train_autoencoder

    found = Zoo.load(folder)
    name = found.provenance["images"]["name"]
    if name != recipe.zoo.images:
        raise ArgumentError(f"{folder} must hold a zoo trained on {recipe.zoo.images}, got one trained on {name}")
    if "network" in found.provenance:
        raise ArgumentError(
            f"{folder} must hold networks of the paper's CNN, which an artifact is measured with, got other networks"
        )
    images = load_images(recipe.zoo.images, data)
    found = prepare(found, recipe.autoencoder)
    card, ranks = card_of(recipe, found), found.part("train").ranked_by(recipe.rank_by)
    rehearse(found, recipe.autoencoder, card, recipe.samplers, scores=ranks)
    autoencoder = train_autoencoder(recipe.autoencoder, found, run, device=device)

    def written() -> HyperRepresentation:
        representation = finish(assemble_recipe(recipe, found, autoencoder), found, images)
        out.parent.mkdir(parents=True, exist_ok=True)
        write(representation, out, run)
        if out.resolve().parent == sources.FOLDER.resolve():
            publish.register_embedded(out, out.stem, recipe.title)
        return representation

    return processes.once(written, lambda: HyperRepresentation.read(out))


def assemble_recipe(recipe: Recipe, zoo: Zoo, autoencoder: Autoencoder) -> HyperRepresentation:
    """Assemble the hyper-representation of a recipe, with a card that has no measured figures yet.

    Args:
        recipe: names, licence, sampler options, and the accuracy that ranks anchors.
        zoo: prepared.
        autoencoder: trained on it.
    """
    ranks = zoo.part("train").ranked_by(recipe.rank_by)
    return assemble(zoo, autoencoder, card_of(recipe, zoo), recipe.samplers, scores=ranks)


def card_of(recipe: Recipe, zoo: Zoo) -> Card:
    """Return the card of a recipe's source, without measured figures."""
    ranked = {} if recipe.rank_by == "val" else {"ranked by": recipe.rank_by}
    return Card(
        source=recipe.name.removesuffix("-tuned"),
        title=recipe.title,
        licence=recipe.licence,
        citation=recipe.citation,
        preprocessing=dict(zoo.provenance["preprocessing"]),
        zoo=zoo_facts(zoo) | ranked,
        recommended="kde30",
        measured={},
    )
