"""Plot a training run: losses, reconstruction by layer, and scores of real, reconstructed and sampled networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyperinit.files.atomic import replacing
from hyperinit_training.measure.usability import Usability

LAYERS = 40  # bars that stay readable in one plot


def draw(folder: Path, found: Usability) -> list[Path]:
    """Write the plots of a run into its folder and return their paths.

    They are `losses.png`, `reconstruction.png` if networks were held out, and `scores.png` if networks were scored.

    Args:
        folder: of the run; holds `log.jsonl`.
        found: the measured figures.
    """
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    made = [_save(folder / "losses.png", _losses(records))]
    if found.layer_r2:
        made.append(_save(folder / "reconstruction.png", _reconstruction(found)))
    if "score" in found.figures["zoo"]:
        made.append(_save(folder / "scores.png", _scores(found)))
    return made


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _losses(records: list[dict[str, float]]) -> Any:
    figure, axes = _figure(7, 4)
    steps = [record["step"] for record in records]
    axes.plot(steps, [record["reconstruction"] for record in records], label="reconstruction loss")
    for key, label in (("train_r2", "R2, training networks"), ("val_r2", "R2, held-out networks")):
        if all(key in record for record in records):
            axes.plot(steps, [record[key] for record in records], label=label)
    axes.set(
        xlabel="gradient step", ylabel="loss (layer units), R2", ylim=(-0.5, 1.5), title="Training of the autoencoder"
    )
    axes.legend()
    return figure


def _reconstruction(found: Usability) -> Any:
    names = list(found.layer_r2)[:LAYERS]
    figure, axes = _figure(7, 1 + 0.22 * len(names))
    axes.barh(names[::-1], [max(-1.0, found.layer_r2[name]) for name in names[::-1]])
    axes.set(xlabel="R2 of held-out networks (1 perfect, 0 the zoo's mean, cut at -1)", title="Reconstruction by layer")
    axes.tick_params(axis="y", labelsize=7)
    return figure


def _scores(found: Usability) -> Any:
    figure, axes = _figure(7, 4)
    names = list(found.figures)
    rows = [found.figures[name] for name in names]
    axes.errorbar([row["score"] for row in rows], names, xerr=[row["std"] for row in rows], fmt="o", capsize=3)
    axes.set(xlabel="score, mean and spread", title="Real, reconstructed and sampled networks")
    axes.invert_yaxis()
    return figure


def _save(path: Path, figure: Any) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path
