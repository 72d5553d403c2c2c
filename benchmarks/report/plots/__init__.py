"""Draw the figures of a result file, as PNG files small enough for a repository."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import Record
from benchmarks.report.plots import latents, populations, sources, weights
from hyperinit.files.atomic import replacing

DPI, COLOURS = 100, 256


@dataclass(frozen=True)
class Picture:
    """One figure of a measurement.

    Args:
        file: name of the PNG file, with {key} for the data set or source.
        caption: its caption, also with {key}.
        size: width and height in inches.
        plot: draws a record into an empty matplotlib figure.
        wanted: whether a record has the values that are drawn.
    """

    file: str
    caption: str
    size: tuple[float, float]
    plot: Callable[[Any, Record], None]
    wanted: Callable[[Record], bool] = lambda record: True


PICTURES: dict[str, tuple[Picture, ...]] = {
    "table1": (
        Picture("table1-{key}.png", "Figure 4 for {key}: before training", (8, 6), populations.boxes),
        Picture(
            "table1-{key}-epochs.png",
            "Figures 14, 16, 18, 20 for {key}: accuracy over epochs",
            (9, 5),
            populations.in_dataset,
            populations.is_trained,
        ),
    ),
    "table2": (
        Picture(
            "table2-{key}.png",
            "Figures 7, 15, 17, 19, 21 for {key}: transfer",
            (9, 5),
            populations.transfer,
            populations.is_trained,
        ),
    ),
    "figure3": (Picture("figure3-{key}.png", "Figure 3 for {key}: noise, and paths", (10, 4.6), latents.paths),),
    "figure5": (Picture("figure5-{key}.png", "Figure 5 for {key}: ensembles", (9, 4.6), populations.ensembles),),
    "figure6": (
        Picture("figure6-{key}.png", "Figure 6 for {key}: originals and reconstructions", (10, 4.2), weights.pairs),
    ),
    "figures-weights": (
        Picture("figure9-{key}.png", "Figures 2, 9, 10 for {key}: weights by layer", (11, 5.6), weights.layers),
        Picture(
            "figure11-{key}.png", "Figures 11, 12, 13 for {key}: latents", (9, 5.2), latents.geometry, latents.is_shown
        ),
    ),
    "initializer": (
        Picture("initializer-{key}.png", "Starts of the source's own network, {key}", (9, 5), sources.starts),
    ),
    "initializer-other": (
        Picture("initializer-other-{key}.png", "Starts of other networks, {key}", (9.5, 4.8), sources.networks),
    ),
    "novelty": (Picture("novelty-{key}.png", "Accuracy against likeness, {key}", (9, 5.2), sources.likeness),),
}  # fmt: skip


def draw(table: str, key: str, record: Record, folder: Path) -> list[tuple[str, str]]:
    """Write a record's figures to `folder` and return their file names and captions, if its table has any."""
    written = []
    for picture in PICTURES.get(table, ()):
        if picture.wanted(record):
            file = picture.file.format(key=re.sub("[^a-z0-9]+", "-", key.lower()).strip("-"))
            _write(picture, record, folder / file)
            written.append((file, picture.caption.format(key=key)))
    return written


def _write(picture: Picture, record: Record, path: Path) -> None:
    """Draw and save a figure with 256 colours, which makes the file a third as large."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure, raw = Figure(figsize=picture.size, layout="constrained"), io.BytesIO()
    picture.plot(figure, record)
    figure.savefig(raw, format="png", dpi=DPI)
    reduced = Image.open(raw).convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    with replacing(path) as temporary:
        reduced.save(temporary, format="png", optimize=True)
