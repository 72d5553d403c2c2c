"""The commands of `hyperinit` that need images or a zoo: demo, data, verify, pretrain, zoo, train, import-reference."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

import hyperinit
from hyperinit.cli.arguments import COPIES, Parser, as_typed, check_amount, sentence
from hyperinit.cli.factories import load_factory
from hyperinit.cli.places import check_file, check_folder
from hyperinit.cli.printing import show, tell
from hyperinit.cli.sources import RUNS as RUNS_CODE
from hyperinit.errors import ArgumentError, counted, one_line
from hyperinit.representation import HyperRepresentation
from hyperinit_training.cli.results import check_artifact, check_zoo
from hyperinit_training.machine import processes
from hyperinit_training.machine.devices import device_of
from hyperinit_training.recipes.load import Recipe, load_recipe, recipes
from hyperinit_training.recipes.zoo import scaled
from hyperinit_training.sources import from_recipe
from hyperinit_training.sources.written import wrote
from hyperinit_training.zoo.zoo import LEAST_MODELS, Zoo, split_models

RUNS = Path("runs")
OF_CHECKPOINTS = ("scores", "evaluate", "input", "groups", "preset", "minutes", "holdout", "skip_bad", "seed")
OF_RECIPES = ("data", "steps")
NETWORK = 4 * 2464  # bytes of the smallest network that a recipe trains
LINE = 64  # bytes of one step in a log
LEAST_IMAGES = 1000  # of a data set; each epoch has an order of them, 8 bytes for each image
FEWEST_DRAWS, MOST_DRAWS = 10, 10_000  # fewer have no spread to judge by, more do not fit in memory


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
    _add_force(parser)
    _add_device(parser)
    return _run(parser, argv, _pretrain)


def _pretrain(arguments: argparse.Namespace) -> int:
    recipe = _recipe(arguments)
    run = arguments.run or RUNS / recipe.name
    again = wrote(arguments.out, run / "autoencoder")  # the folder that remembers the artifact
    check_artifact(arguments.out, run, title=recipe.title, force=arguments.force or again)
    device_of(arguments.device)
    from_recipe.check_one_network(recipe)
    train = split_models(recipe.zoo.models, torch.Generator()).count("train") * max(1, len(recipe.zoo.snapshots))
    if train < LEAST_MODELS:
        raise ArgumentError(
            f"a zoo must have at least {LEAST_MODELS} networks to train on, got {train}; raise --models"
        )
    found = from_recipe.zoo_of(recipe, arguments.data, run / "zoo", device=arguments.device)
    if processes.is_first():
        tell(from_recipe.summary(found, run / "zoo"))
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
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace weights in the folder that are of no zoo, and let --half round a finished zoo",
    )
    _add_device(parser)
    parser.add_argument(
        "--network",
        metavar="MODULE:FACTORY",
        help=f"callable that makes the network; default: the paper's CNN; {RUNS_CODE}",
    )
    parser.add_argument(
        "--workers", type=int, help="threads; with --network or on a GPU: networks trained side by side"
    )
    return _run(parser, argv, _zoo)


def _zoo(arguments: argparse.Namespace) -> int:
    recipe = _recipe(arguments)
    check_zoo(arguments.out, force=arguments.force)
    network = load_factory(arguments.network) if arguments.network else None
    how = {"device": arguments.device, "network": network, "workers": arguments.workers}
    found = from_recipe.zoo_of(recipe, arguments.data, arguments.out, half=arguments.half, force=arguments.force, **how)
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

    def action(arguments: argparse.Namespace) -> int:
        show(*answer(arguments), as_json=arguments.json)
        return 0

    return _run(parser, argv, action)


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
    _add_force(parser)
    checkpoints.add_arguments(parser)
    _add_device(parser)
    recipes_group = parser.add_argument_group("a zoo of a recipe")
    _add_recipe(recipes_group, required=False)
    recipes_group.add_argument("--steps", type=int, help="gradient steps of the autoencoder")

    def action(arguments: argparse.Namespace) -> int:
        if bool(arguments.recipe) is bool(arguments.model):
            raise ArgumentError(
                "train needs --model for your own checkpoints, or --recipe for a zoo of a recipe; pass one of them"
            )
        unused = OF_CHECKPOINTS if arguments.recipe else OF_RECIPES
        given = [name for name in unused if getattr(arguments, name) != parser.get_default(name)]
        if given:
            options = sentence([arguments.options[name] for name in given])
            kind = "--recipe" if arguments.recipe else "--model"
            raise ArgumentError(f"{options} must be left out with {kind}, which does not use it")
        if arguments.recipe:
            return _train_recipe(arguments)
        run = arguments.run or RUNS / arguments.out.stem
        check_artifact(arguments.out, run, force=arguments.force)
        device_of(arguments.device)
        show(*checkpoints.answer(arguments, run), as_json=arguments.json)
        return 0

    return _run(parser, argv, action)


def _train_recipe(arguments: argparse.Namespace) -> int:
    recipe = _recipe(arguments)
    run = arguments.run or RUNS / recipe.name / "autoencoder"
    check_artifact(arguments.out, run, title=recipe.title, force=arguments.force)
    device_of(arguments.device)
    from_recipe.check_one_network(recipe)
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

    def action(arguments: argparse.Namespace) -> int:
        check_folder(arguments.data, option="--data")
        paths = fetch(arguments.name, arguments.data)
        text = "\n".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB, digest as published)" for path in paths)
        show(text, {"files": list(map(str, paths))}, as_json=arguments.json)
        return 0

    return _run(parser, argv, action)


def verify(argv: Sequence[str]) -> int:
    """Run `hyperinit verify`: measure a source again and compare with its card. The exit code is 1 if they differ."""
    from hyperinit_training.measure.verify import agreement

    parser = _parser(
        "verify", "Measure a source again on its test images and compare with its card.", "verify svhn --data DIR"
    )
    parser.add_argument("source", help="a name that `hyperinit sources` lists, or the path of an artifact")
    parser.add_argument("--data", type=Path, help="folder of the images, or an .npz file")
    parser.add_argument(
        "--draws", type=int, default=50, help=f"networks to sample for each method, {FEWEST_DRAWS} or more"
    )

    def action(arguments: argparse.Namespace) -> int:
        if arguments.draws < FEWEST_DRAWS:
            raise ArgumentError(
                f"--draws must be at least {FEWEST_DRAWS}, got {arguments.draws}: the spread of fewer networks says "
                "little, so that figures would differ by chance"
            )
        if arguments.draws > MOST_DRAWS:
            raise ArgumentError(f"--draws must be at most {MOST_DRAWS:,}, got {arguments.draws:,}")
        text, found = agreement(hyperinit.load(arguments.source), arguments.data, arguments.draws)
        show(text, found, as_json=arguments.json)
        return 1 if found["disagree"] else 0

    return _run(parser, argv, action)


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
    _add_force(parser)

    def action(arguments: argparse.Namespace) -> int:
        check_file(arguments.out, force=arguments.force, option="OUT")
        if arguments.anchors is None:
            raise ArgumentError(
                "an artifact needs anchors, and the released ones are in a pickled file, which is never opened; make a "
                "zoo with `hyperinit zoo` for the images of this autoencoder and pass its folder with --anchors"
            )
        anchors = Zoo.load(arguments.anchors)
        found = imported(arguments.folder, anchors, source=arguments.out.stem, licence=arguments.licence)
        found.save(arguments.out)
        return _wrote(found, arguments.out, as_json=arguments.json)

    return _run(parser, argv, action)


def demo(argv: Sequence[str]) -> int:
    """Run `hyperinit demo`, in under a minute and without network access."""
    from hyperinit_training.measure.demo import run

    title = "Compare sampled starting weights with PyTorch's default initialisation on handwritten digits."

    def action(arguments: argparse.Namespace) -> int:
        show(*run(), as_json=arguments.json)
        return 0

    return _run(_parser("demo", title, "demo"), argv, action)


def _run(parser: Parser, argv: Sequence[str], action: Callable[[argparse.Namespace], int]) -> int:
    """Parse the arguments and run the command. Its errors are in the words of the command line."""
    arguments = parser.parse_args(list(argv))
    with as_typed(arguments):
        return action(arguments)


def _parser(name: str, description: str, examples: str) -> Parser:
    parser = Parser(
        prog=f"hyperinit {name}", description=description, epilog=f"examples:\n  hyperinit {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter, also={"example_input": "--input", "count": "--images"},
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


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace the artifact if it exists")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="device to train on: cpu, cuda or cuda:N; default %(default)s")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """Load the recipe, change its numbers as the arguments say, and refuse numbers that no machine can meet."""
    recipe = load_recipe(arguments.recipe)
    if hasattr(arguments, "models"):
        snapshots = max(1, len(recipe.zoo.snapshots))
        _check_scale(arguments.models, arguments.epochs, snapshots, recipe.zoo.limit)
        check_amount("--images", arguments.images, 1)
        found = scaled(recipe.zoo, models=arguments.models, epochs=arguments.epochs, images=arguments.images)
        _check_scale(found.models, found.epochs, snapshots, found.limit)  # the recipe's own numbers, too
        if arguments.models and found.models != arguments.models and processes.is_first():
            families = counted(found.families, "family")
            tell(f"trains {counted(found.models, 'model')}: the number must be a multiple of the {families}")
        recipe = replace(recipe, zoo=found)
    if hasattr(arguments, "steps"):
        steps = recipe.autoencoder.steps if arguments.steps is None else arguments.steps
        check_amount("--steps", steps, LINE)
        recipe = replace(recipe, autoencoder=replace(recipe.autoencoder, steps=steps))
    return recipe


def _check_scale(models: int | None, epochs: int | None, snapshots: int, limit: int) -> None:
    """Refuse a zoo whose weights, or whose orders of the training images, do not fit into memory."""
    check_amount("--models", models, COPIES * NETWORK * snapshots)
    check_amount("--epochs", epochs, 8 * (limit or LEAST_IMAGES))


def _wrote(representation: HyperRepresentation, out: Path, *, as_json: bool) -> int:
    """Print the card and the size of the written artifact, and return exit code 0."""
    size = out.stat().st_size
    text = f"{representation.card}\n\nwrote {one_line(out)} ({size / 1e6:.1f} MB)"
    show(text, {"file": str(out), "bytes": size, "card": asdict(representation.card)}, as_json=as_json)
    return 0
