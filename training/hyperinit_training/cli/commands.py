"""The commands of `hyperinit` that need images or a zoo: demo, data, verify, pretrain, zoo, train, import-reference."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

import hyperinit
from hyperinit.cli.factories import load_factory
from hyperinit.cli.program import show
from hyperinit.errors import ArgumentError
from hyperinit.representation import HyperRepresentation
from hyperinit_training.machine import processes
from hyperinit_training.machine.devices import device_of
from hyperinit_training.recipes.load import Recipe, load_recipe, recipes
from hyperinit_training.recipes.zoo import scaled
from hyperinit_training.sources import from_recipe
from hyperinit_training.zoo.zoo import LEAST_MODELS, Zoo, split_models

RUNS = Path("runs")


def pretrain(argv: Sequence[str]) -> int:
    """Run `hyperinit pretrain`: train a zoo and its hyper-representation. Both steps can be resumed."""
    parser = _parser(
        "pretrain",
        "Train a zoo and its hyper-representation, and write one artifact. Repeat the command to resume a killed run.",
        "pretrain --recipe mnist-tuned --data DIR --out mine.safetensors",
    )
    _add_recipe(parser)
    _add_scale(parser)
    parser.add_argument("--out", type=Path, required=True, help="the artifact to write, a .safetensors file")
    parser.add_argument("--run", type=Path, help="folder for work in progress; default runs/RECIPE")
    parser.add_argument("--steps", type=int, help="gradient steps of the autoencoder")
    _add_device(parser)
    arguments = parser.parse_args(argv)
    _check_out(arguments.out)
    device_of(arguments.device)
    recipe = _recipe(arguments)
    from_recipe.check_one_network(recipe)
    train = split_models(recipe.zoo.models, torch.Generator()).count("train") * max(1, len(recipe.zoo.snapshots))
    if train < LEAST_MODELS:
        raise ArgumentError(
            f"a zoo must have at least {LEAST_MODELS} networks to train on, got {train}; raise --models"
        )
    run = arguments.run or RUNS / recipe.name
    found = from_recipe.zoo_of(recipe, arguments.data, run / "zoo", device=arguments.device)
    if processes.is_first():
        print(from_recipe.summary(found, run / "zoo"), file=sys.stderr)
    made = from_recipe.representation_of(
        recipe, run / "zoo", arguments.data, run / "autoencoder", arguments.out, device=arguments.device
    )
    return _wrote(made, arguments.out, as_json=arguments.json)


def zoo(argv: Sequence[str]) -> int:
    """Run `hyperinit zoo`, which trains a zoo, or `hyperinit zoo inspect`, which describes a folder of checkpoints."""
    if argv and argv[0] == "inspect":
        return _inspect(argv[1:])
    parser = _parser(
        "zoo",
        "Train the zoo of a recipe. Repeat the command to resume a killed run.\n"
        "`hyperinit zoo inspect` describes a folder of your own checkpoints.",
        "zoo --recipe svhn-paper --models 100 --data DIR --out zoo/\n  hyperinit zoo inspect --help",
    )
    _add_recipe(parser)
    _add_scale(parser)
    parser.add_argument("--out", type=Path, required=True, help="the zoo folder to write")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    _add_device(parser)
    parser.add_argument(
        "--network", metavar="MODULE:FACTORY", help="callable that makes the network; default: the paper's CNN"
    )
    parser.add_argument(
        "--workers", type=int, help="threads; with --network or on a GPU: networks trained side by side"
    )
    arguments = parser.parse_args(argv)
    network = load_factory(arguments.network) if arguments.network else None
    how = {"device": arguments.device, "network": network, "workers": arguments.workers}
    found = from_recipe.zoo_of(_recipe(arguments), arguments.data, arguments.out, half=arguments.half, **how)
    data = {"folder": str(arguments.out), "snapshots": len(found), "provenance": found.provenance}
    show(from_recipe.summary(found, arguments.out), data, as_json=arguments.json)
    return 0


def _inspect(argv: Sequence[str]) -> int:
    from hyperinit_training.cli.inspect import add_arguments, answer

    parser = _parser(
        "zoo inspect",
        "Describe checkpoints of one architecture: layout, NaN, duplicates, families, and scores of averages.",
        "zoo inspect runs/ --model mypackage.models:make_net --evaluate mypackage.data:accuracy",
    )
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    show(*answer(arguments), as_json=arguments.json)
    return 0


def train(argv: Sequence[str]) -> int:
    """Run `hyperinit train`: your own checkpoints (--model) or the zoo of a recipe (--recipe) become an artifact."""
    from hyperinit_training.cli import checkpoints

    parser = _parser(
        "train",
        "Train a hyper-representation on a zoo and write one artifact. Repeat the command to resume a killed run.",
        "train --zoo checkpoints/ --model mypackage.models:make_net --out mine.safetensors\n"
        "  hyperinit train --zoo training/zoos/mnist --recipe mnist-tuned --data DIR --out mine.safetensors",
    )
    parser.add_argument(
        "--zoo",
        required=True,
        help="folder, glob pattern or .txt list of checkpoints, or a folder that `hyperinit zoo` wrote",
    )
    parser.add_argument("--out", type=Path, required=True, help="the artifact to write, a .safetensors file")
    parser.add_argument("--run", type=Path, help="folder for work in progress; default in runs/")
    checkpoints.add_arguments(parser)
    _add_device(parser)
    recipes_group = parser.add_argument_group("a zoo of a recipe")
    _add_recipe(recipes_group, required=False)
    recipes_group.add_argument("--steps", type=int, help="gradient steps of the autoencoder")
    arguments = parser.parse_args(argv)
    if bool(arguments.recipe) is bool(arguments.model):
        raise ArgumentError(
            "train needs --model for your own checkpoints, or --recipe for a zoo of a recipe; pass one of them"
        )
    _check_out(arguments.out)
    device_of(arguments.device)
    if arguments.model:
        show(*checkpoints.answer(arguments), as_json=arguments.json)
        return 0
    recipe = _recipe(arguments)
    from_recipe.check_one_network(recipe)
    run = arguments.run or RUNS / recipe.name / "autoencoder"
    zoo_folder, device = Path(arguments.zoo), arguments.device
    made = from_recipe.representation_of(recipe, zoo_folder, arguments.data, run, arguments.out, device=device)
    return _wrote(made, arguments.out, as_json=arguments.json)


def data(argv: Sequence[str]) -> int:
    """Run `hyperinit data`: download the official files of a data set. Files that are present are only checked."""
    from hyperinit_training.images.download import FILES, fetch

    parser = _parser(
        "data",
        "Download the official image files and compare them with their published digests.",
        "data mnist --data DIR",
    )
    parser.add_argument("name", help=f"data set: {', '.join(FILES)}")
    parser.add_argument("--data", type=Path, required=True, help="folder for image data; files are stored in DATA/NAME")
    arguments = parser.parse_args(argv)
    paths = fetch(arguments.name, arguments.data)
    text = "\n".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB, digest as published)" for path in paths)
    show(text, {"files": list(map(str, paths))}, as_json=arguments.json)
    return 0


def verify(argv: Sequence[str]) -> int:
    """Run `hyperinit verify`: measure a source again and compare with its card. The exit code is 1 if they differ."""
    from hyperinit_training.measure.verify import agreement

    parser = _parser(
        "verify", "Measure a source again on its test images and compare with its card.", "verify svhn --data DIR"
    )
    parser.add_argument("source", help="a name that `hyperinit sources` lists, or the path of an artifact")
    parser.add_argument("--data", type=Path, help="folder of the images, or an .npz file")
    parser.add_argument("--draws", type=int, default=50, help="networks to sample for each method, at least 2")
    arguments = parser.parse_args(argv)
    if arguments.draws < 2:
        raise ArgumentError(f"--draws must be at least 2, got {arguments.draws}: one network has no spread")
    text, found = agreement(hyperinit.load(arguments.source), arguments.data, arguments.draws)
    show(text, found, as_json=arguments.json)
    return 1 if found["disagree"] else 0


def import_reference(argv: Sequence[str]) -> int:
    """Run `hyperinit import-reference`: the authors' released autoencoder and a zoo become an artifact."""
    from hyperinit_training.sources.from_release import import_reference as imported

    parser = _parser(
        "import-reference",
        "Make an artifact of an autoencoder that the authors released. It is stored in half precision.",
        "import-reference RELEASED mine.safetensors --anchors ZOO",
    )
    parser.add_argument("folder", type=Path, help="folder with config_ae.json and checkpoint_ae.pt")
    parser.add_argument("out", type=Path, help="the artifact to write, a .safetensors file")
    parser.add_argument(
        "--anchors", type=Path, help="required: a folder that `hyperinit zoo` wrote for the same images"
    )
    parser.add_argument("--licence", default="not stated", help="licence of the released weights and of the images")
    arguments = parser.parse_args(argv)
    if arguments.out.suffix != ".safetensors":
        raise ArgumentError(f"OUT must end in .safetensors, got {arguments.out}")
    if arguments.anchors is None:
        raise ArgumentError(
            "an artifact needs anchors, and the released ones are in a pickled file, which is never opened; make a zoo "
            "with `hyperinit zoo` for the images of this autoencoder and pass its folder with --anchors"
        )
    found = imported(
        arguments.folder, Zoo.load(arguments.anchors), source=arguments.out.stem, licence=arguments.licence
    )
    found.save(arguments.out)
    return _wrote(found, arguments.out, as_json=arguments.json)


def demo(argv: Sequence[str]) -> int:
    """Run `hyperinit demo`, in under a minute and without network access."""
    from hyperinit_training.measure.demo import run

    title = "Compare sampled starting weights with PyTorch's default initialisation on handwritten digits."
    arguments = _parser("demo", title, "demo").parse_args(argv)
    show(*run(), as_json=arguments.json)
    return 0


def _parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"hyperinit {name}", description=description, epilog=f"examples:\n  hyperinit {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_recipe(parser: argparse._ActionsContainer, *, required: bool = True) -> None:
    parser.add_argument(
        "--recipe", required=required, help=f"name of a recipe ({', '.join(recipes())}) or a .toml file"
    )
    parser.add_argument("--data", type=Path, help="folder of the images, or an .npz file; digits need none")


def _add_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="number of networks to train; default: as in the recipe")
    parser.add_argument(
        "--epochs", type=int, help="epochs of seeds or ancestors; members of a family keep their own number"
    )
    parser.add_argument("--images", type=int, help="number of training images; default: as in the recipe")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="device to train on: cpu, cuda or cuda:N; default %(default)s")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    recipe = load_recipe(arguments.recipe)
    if hasattr(arguments, "models"):
        found = scaled(recipe.zoo, models=arguments.models, epochs=arguments.epochs, images=arguments.images)
        if arguments.models and found.models != arguments.models:
            print(
                f"trains {found.models} models: the number must be a multiple of the {found.families} families",
                file=sys.stderr,
            )
        recipe = replace(recipe, zoo=found)
    if getattr(arguments, "steps", None) is not None:
        recipe = replace(recipe, autoencoder=replace(recipe.autoencoder, steps=arguments.steps))
    return recipe


def _check_out(out: Path) -> None:
    """Check the name and the folder of the artifact before anything is trained."""
    if out.suffix != ".safetensors":
        raise ArgumentError(f"--out must end in .safetensors, got {out}")
    try:
        with tempfile.TemporaryFile(dir=_existing(out.absolute().parent)):
            pass
    except OSError as error:
        raise ArgumentError(f"--out must lie in a folder that can be written, got {out}: {error.strerror}") from None


def _existing(folder: Path) -> Path:
    """Return the nearest parent folder that exists."""
    return folder if folder.exists() else _existing(folder.parent)


def _wrote(representation: HyperRepresentation, out: Path, *, as_json: bool) -> int:
    """Print the card and the size of the written artifact, and return exit code 0."""
    size = out.stat().st_size
    text = f"{representation.card}\n\nwrote {out} ({size / 1e6:.1f} MB)"
    show(text, {"file": str(out), "bytes": size, "card": asdict(representation.card)}, as_json=as_json)
    return 0
