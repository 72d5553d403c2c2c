"""From a folder of somebody's checkpoints to a hyper-representation, in one call.

Letters: N networks, D weights per network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.cli.factories import load_factory
from hyperinit.errors import ArgumentError, LayoutError, ZooError
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit_training.checkpoints import families as checkpoints_families
from hyperinit_training.checkpoints.as_zoo import as_zoo
from hyperinit_training.checkpoints.read import Checkpoints, Evaluation, read_checkpoints
from hyperinit_training.machine import processes
from hyperinit_training.machine.devices import device_of
from hyperinit_training.machine.run_files import write_json
from hyperinit_training.measure.plots import draw
from hyperinit_training.measure.usability import Usability, scorer, usability
from hyperinit_training.recipes.presets import preset as preset_of
from hyperinit_training.sources.assemble import assembled
from hyperinit_training.symmetry import permutation_groups, sign_groups
from hyperinit_training.symmetry.example import guess_input
from hyperinit_training.symmetry.positions import Groups
from hyperinit_training.train_autoencoder import prepare, train_autoencoder
from hyperinit_training.train_autoencoder.train import timed

ONE_FAMILY = 0.8  # share of the networks in the largest family, above which all count as one


@dataclass(frozen=True)
class Made:
    """A hyper-representation of somebody's own zoo, and what was found of it.

    Args:
        representation: with its card.
        usability: figures, and in words whether it can be used.
        notes: what was done otherwise than one might expect.
    """

    representation: HyperRepresentation
    usability: Usability
    notes: tuple[str, ...]


def train(zoo: str | Path, *, model: Callable[[], nn.Module] | str, **options: Any) -> HyperRepresentation:
    """Train a hyper-representation on a folder of checkpoints; `make` with the same arguments also says what was found.

    >>> train("checkpoints/", model="mypackage.models:make_net", out="mine.safetensors")  # doctest: +SKIP
    """
    return make(zoo, model=model, **options).representation


def make(  # noqa: PLR0913 - all but the first two have defaults
    zoo: str | Path,
    *,
    model: Callable[[], nn.Module] | str,
    out: str | Path | None = None,
    run: str | Path | None = None,
    scores: str | Path | None = None,
    evaluate: Evaluation | None = None,
    example_input: Tensor | tuple[Tensor, ...] | None = None,
    groups: Groups | None = None,
    preset: str = "small",
    minutes: float | None = None,
    holdout: float = 0.15,
    skip_bad: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Made:
    """Read checkpoints, train an autoencoder on them, measure it, and write an artifact.

    A run that was killed goes on where it was when it is started again with the same arguments, and ends the same.

    Args:
        zoo: folder, glob pattern or `.txt` file of checkpoints, see `checkpoints.read_checkpoints`.
        model: makes the network, or "module:factory".
        out: artifact to write; None writes none.
        run: folder for work in progress and plots; None is `runs/NAME` by the name of `out` or `zoo`.
        scores: file of scores; by default a folder's `scores.csv`.
        evaluate: gives a network's score, higher is better. It decides the recommended method, so it must not use
            test images.
        example_input: what the network is called with, to find neurons that may be reordered. None tries some sizes.
        groups: written down by hand, for a network that torch.fx cannot trace, see `symmetry.permutation_groups`.
        preset: "tiny", "small" or "paper".
        minutes: train the autoencoder about that long instead of for the preset's steps.
        holdout: share of the networks that are held out of training, to judge by; at least 8 are trained on.
        skip_bad: leave networks with NaN out.
        seed: decides everything.
        device: where the autoencoder trains, "cpu", "cuda" or "cuda:N".

    Raises:
        ArgumentError, LayoutError, ZooError, UnknownNameError: for bad input; nothing is written then.
    """
    _check(minutes, holdout, out)
    device = device_of(device)
    factory = load_factory(model) if isinstance(model, str) else model
    found = read_checkpoints(zoo, model=factory, scores=scores, evaluate=evaluate, skip_bad=skip_bad)
    folder = Path(run) if run is not None else Path("runs") / Path(out or zoo).stem
    try:
        return _make(
            found,
            factory,
            Path(zoo).name,
            folder,
            out,
            evaluate,
            example_input,
            groups,
            preset,
            minutes,
            holdout,
            seed,
            device,
        )
    except OSError as error:
        raise ZooError(
            f"{folder} must be a folder that can be written, got: {error}; make room, then the same command goes on"
        ) from error


def _make(  # noqa: PLR0913
    found: Checkpoints, factory: Callable[[], nn.Module], name: str, folder: Path, out: str | Path | None,
    evaluate: Evaluation | None, example_input: Any, groups: Any, preset: str, minutes: float | None,
    holdout: float, seed: int, device: torch.device,
) -> Made:  # fmt: skip
    layout, signs, notes = _symmetries(factory, example_input, groups)
    families = checkpoints_families.families(checkpoints_families.distances(found), checkpoints_families.spread(found))
    raw = as_zoo(found, layout, families.labels, factory, holdout, seed)
    one_family = families.sizes[0] >= ONE_FAMILY * len(found)
    recipe = preset_of(preset, layout, len(raw.part("train")), one_family=one_family, seed=seed)
    prepared = prepare(raw, recipe)
    recipe = timed(recipe, prepared, minutes, folder, device)
    signs = signs if recipe.permutations else None
    autoencoder = train_autoencoder(recipe, prepared, folder, signs=signs, device=device)
    title = f"{len(found)} checkpoints of {name}"
    bare = assembled(autoencoder, prepared, Path(out or name).stem, title)
    score = None if evaluate is None else scorer(factory, layout, evaluate)
    measured = usability(bare, prepared, score, ranked=found.scores is not None)
    facts = {
        "models": len(found), "anchors": len(bare.anchors), "held out": len(prepared.part("val")),
        "families": families.sizes, "duplicates": len(found.duplicates), "skipped": list(found.skipped),
        "preset": preset, "autoencoder": {key: value for key, value in asdict(recipe).items() if value},
        "date": date.today().isoformat(), "notes": list(notes), "verdict": list(measured.words),
        "figures": measured.figures, "held-out R2": measured.held_out_r2,
    }  # fmt: skip
    card = replace(bare.card, recommended=measured.recommended, zoo=facts)
    representation = bare.with_header(replace(bare.header, card=card))
    if processes.is_first():
        write_json(folder / "result.json", {"usability": asdict(measured), "notes": notes})
        draw(folder, measured)
        if out is not None:
            representation.save(Path(out))
    processes.barrier()
    return Made(representation, measured, tuple(notes))


def _symmetries(
    factory: Callable[[], nn.Module], example_input: Any, groups: Any
) -> tuple[Layout, Groups | None, list[str]]:
    """Read the layout with its permutation groups, and the signs that may flip; notes say why there are not more."""
    module = factory()
    layout = Layout.of(module)
    example = guess_input(module) if example_input is None else example_input
    if example is None:
        why = "no input of a usual size fits the network, so its symmetries were not looked for: give example_input"
        return layout.with_groups({}), None, [why]
    try:
        symmetry = permutation_groups(module, example, groups)
        signs = None if groups is not None else sign_groups(module, example).groups
    except LayoutError as error:
        if groups is not None:
            raise
        return layout.with_groups({}), None, [f"no symmetries: {error}; groups can be written down by hand"]
    found = signs if signs and any(any(axes) for axes in signs.values()) else None
    return layout.with_groups(symmetry.groups), found, list(symmetry.notes)


def _check(minutes: float | None, holdout: float, out: str | Path | None) -> None:
    if minutes is not None and not minutes > 0:
        raise ArgumentError(f"minutes must be above 0, got {minutes}")
    if not 0 <= holdout < 1:
        raise ArgumentError(f"holdout must lie in [0, 1), got {holdout}")
    if out is not None and Path(out).suffix != ".safetensors":
        raise ArgumentError(f"out must end in .safetensors, got {out}")
