"""Make a source from a folder of the user's own checkpoints, in one call.

Letters: N networks, D weights per network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.cli.factories import load_factory
from hyperinit.errors import ArgumentError, LayoutError, ZooError, counted, listed, one_line, printable, shown, unknown
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.card import Card
from hyperinit.samplers import SamplerOptions
from hyperinit_training.checkpoints import families as checkpoints_families
from hyperinit_training.checkpoints.as_zoo import as_zoo
from hyperinit_training.checkpoints.read import Checkpoints, Evaluation, read_checkpoints
from hyperinit_training.machine import processes
from hyperinit_training.machine.devices import device_of
from hyperinit_training.machine.lock import locked
from hyperinit_training.machine.run_files import write_json
from hyperinit_training.measure.plots import draw
from hyperinit_training.measure.usability import Usability, scorer, usability
from hyperinit_training.recipes.presets import PRESETS
from hyperinit_training.recipes.presets import preset as preset_of
from hyperinit_training.sources.assemble import assemble, rehearse, unit_scores
from hyperinit_training.sources.written import write
from hyperinit_training.symmetry import permutation_groups, sign_groups
from hyperinit_training.symmetry.example import guess_input
from hyperinit_training.symmetry.positions import Groups
from hyperinit_training.train_autoencoder import prepare, train_autoencoder
from hyperinit_training.train_autoencoder.train import timed

ONE_FAMILY = 0.8  # share of the networks in the largest family from which on all count as one family
MOST_MINUTES = 525_600
BANDWIDTH = 0.05  # of the sampling methods, in latent units


@dataclass(frozen=True)
class Made:
    """A hyper-representation of the user's own zoo, and the result of measuring it.

    Args:
        representation: with its card.
        usability: figures, and a verdict in words.
        notes: limits met on the way, such as symmetries that could not be found.
    """

    representation: HyperRepresentation
    usability: Usability
    notes: tuple[str, ...]


def train(zoo: str | Path, *, model: Callable[[], nn.Module] | str, **options: Any) -> HyperRepresentation:
    """Train a hyper-representation on a folder of checkpoints. Arguments and errors are those of `make`.

    `make` returns the measured figures as well.

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
    report: Callable[[str], object] | None = None,
) -> Made:
    """Read checkpoints, train an autoencoder on them, measure it, and write an artifact.

    Call it again with the same arguments to resume a run that was killed. The result is the same.

    Args:
        zoo: folder, glob pattern or `.txt` file of checkpoints, see `checkpoints.read_checkpoints`.
        model: callable that makes the network, or "module:factory".
        out: artifact to write, a `.safetensors` file; None writes none.
        run: folder for work in progress and plots; None is `runs/NAME` by the name of `out` or `zoo`.
        scores: file of scores; by default a folder's `scores.csv`.
        evaluate: returns the score of a network, higher is better. It chooses the recommended method, so it must
            not use test images.
        example_input: input of the network, used to find neurons that may be reordered. None tries common sizes.
        groups: permutation groups for a network that torch.fx cannot trace, see `symmetry.permutation_groups`.
        preset: "tiny", "small" or "paper".
        minutes: train the autoencoder for about this long, in place of the preset's number of steps.
        holdout: share of the networks that are held out to judge samples by. At least 8 are kept for training.
        skip_bad: leave networks with NaN out.
        seed: of every random choice.
        device: where the autoencoder trains, "cpu", "cuda" or "cuda:N".
        report: is given each note before the training begins, such as symmetries that could not be found.

    Raises:
        ArgumentError, LayoutError, ZooError, UnknownNameError: for bad input; nothing is written then.
        ZooError: if a file cannot be written.
        OSError: only if `model` or `evaluate` raises one.
    """
    _check(minutes, holdout, out, preset, seed)
    device = device_of(device)
    factory = load_factory(model) if isinstance(model, str) else model
    layout, signs, notes = _symmetries(factory, example_input, groups)
    _tell(report, notes)
    found = read_checkpoints(zoo, model=factory, scores=scores, evaluate=evaluate, skip_bad=skip_bad)
    _tell(report, others := _origins(found))
    notes += others
    folder = Path(run) if run is not None else Path("runs") / Path(out or zoo).stem

    families = checkpoints_families.families(checkpoints_families.distances(found), checkpoints_families.spread(found))
    raw = as_zoo(found, layout, families.labels, factory, holdout, seed)
    one_family = families.sizes[0] >= ONE_FAMILY * len(found)
    recipe = preset_of(preset, layout, len(raw.part("train")), one_family=one_family, seed=seed)
    prepared = prepare(raw, recipe)
    card = Card(
        source=one_line(Path(out or zoo).stem), licence="not stated",
        title=f"{counted(len(found), 'checkpoint')} of {one_line(Path(zoo).absolute().name)}",
        citation="", preprocessing={}, zoo={}, recommended="kde", measured={},
    )  # fmt: skip
    options, ranks = SamplerOptions(bandwidth=BANDWIDTH), unit_scores(prepared.part("train").scores)
    rehearse(prepared, recipe, card, options, scores=ranks)
    with _writing(folder), locked(folder):
        recipe = timed(recipe, prepared, minutes, folder, device)
        signs = signs if recipe.permutations else None
        autoencoder = train_autoencoder(recipe, prepared, folder, signs=signs, device=device)

    bare = assemble(prepared, autoencoder, card, options, scores=ranks)
    score = None if evaluate is None else scorer(factory, layout, evaluate)
    measured = usability(bare, prepared, score, ranked=found.scores is not None)
    facts = {
        "models": len(found), "anchors": len(bare.anchors), "held out": len(prepared.part("val")),
        "families": families.sizes, "duplicates": len(found.duplicates), "skipped": list(map(one_line, found.skipped)),
        "preset": preset, "autoencoder": {key: value for key, value in asdict(recipe).items() if value},
        "date": date.today().isoformat(), "notes": list(map(printable, notes)), "verdict": list(measured.words),
        "figures": measured.figures, "held-out R2": measured.held_out_r2,
    }  # fmt: skip
    card = replace(card, recommended=measured.recommended, zoo=facts)
    made = Made(bare.with_header(replace(bare.header, card=card)), measured, tuple(notes))
    _write(made, folder, out)
    return made


def _write(made: Made, folder: Path, out: str | Path | None) -> None:
    """Write the result and the plots into the run's folder, and the artifact. The first process writes."""
    if processes.is_first():
        with _writing(folder):
            write_json(folder / "result.json", {"usability": asdict(made.usability), "notes": list(made.notes)})
            draw(folder, made.usability)
        if out is not None:
            with _writing(Path(out).parent):
                write(made.representation, Path(out), folder)
    processes.barrier()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of our own files into a ZooError. No callable of the user may run inside."""
    try:
        yield
    except OSError as error:
        raise ZooError(
            f"{folder} must be a folder that can be written, got: {error}; free space or fix the permissions, then run "
            "the same command again to resume"
        ) from error


def _symmetries(
    factory: Callable[[], nn.Module], example_input: Any, groups: Any
) -> tuple[Layout, Groups | None, list[str]]:
    """Return the layout with its permutation groups, the groups of signs that may flip, and notes on missing ones."""
    module = factory()
    layout = Layout.of(module)
    if any(value.is_meta for value in (*module.parameters(), *module.buffers())):
        why = "model makes a network on the meta device, so its symmetries cannot be checked; make it on the CPU"
        if groups is not None or example_input is not None:
            raise ArgumentError(why)
        return layout.with_groups({}), None, [why]
    example = guess_input(module) if example_input is None else example_input
    if example is None:
        why = "no input of a common size fits the network, so its symmetries are unknown: pass example_input"
        return layout.with_groups({}), None, [why]
    try:
        symmetry = permutation_groups(module, example, groups)
        signs = None if groups is not None else sign_groups(module, example).groups
    except LayoutError as error:
        if groups is not None:
            raise
        return layout.with_groups({}), None, [f"symmetries are unknown: {error}; pass groups to name them"]
    found = signs if signs and any(any(axes) for axes in signs.values()) else None
    return layout.with_groups(symmetry.groups), found, list(symmetry.notes)


def _tell(report: Callable[[str], object] | None, notes: list[str]) -> None:
    if report is not None and processes.is_first():
        for note in notes:
            report(note)


def _origins(found: Checkpoints) -> list[str]:
    """Return notes on files of which only a part was read, such as the network in a larger module."""
    names = [name for name, origin in zip(found.names, found.origins, strict=True) if origin.left_out]
    parts = dict.fromkeys(part for origin in found.origins for part in origin.left_out)
    return [f"{counted(len(names), 'file')} also held {listed(parts, 5)}, which was left out"] if names else []


def _check(minutes: float | None, holdout: float, out: str | Path | None, preset: str, seed: int) -> None:
    if type(seed) is not int or not -(2**63) <= seed < 2**64:
        raise ArgumentError(f"seed must be an integer of at most 64 bits, got {shown(seed)}")
    if minutes is not None and not 0 < minutes <= MOST_MINUTES:
        raise ArgumentError(f"minutes must be above 0 and at most {MOST_MINUTES:,}, a year, got {minutes}")
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if not 0 <= holdout < 1:
        raise ArgumentError(f"holdout must lie in [0, 1), got {holdout}")
    if out is not None and one_line(Path(out).name) != Path(out).name:  # the card names it
        raise ArgumentError(f"out must be a name without control characters, got {one_line(Path(out).name)}")
    if out is not None and Path(out).suffix != ".safetensors":
        raise ArgumentError(f"out must end in .safetensors, got {out}")
