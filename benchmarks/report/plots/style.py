"""Colours, names, titles and legends that all figures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.record import Record, Summary

Line = tuple[list[float], list[float], list[float], list[float]]  # x, median, and the quartiles around it

KINDS = (  # (word, colour, line): the first word that a row's name contains decides. Blue is generated, grey random
    ("counterfactual", "#999999", "--"), ("Kaiming", "#777777", ":"),
    ("average", "#b59a00", "-"), ("noise", "#8c564b", "-"),
    ("without LWLN", "#e69f00", "-"), ("aligned", "#009e9e", "-"), ("marginal", "#56b4e9", "--"),
    ("kde", "#0050c8", "-"), ("local", "#7a3fbf", "-"), ("neigh", "#2e8b3d", "-"), ("gan", "#c8102e", "-"),
    ("strength 0.5", "#56b4e9", "--"), ("init_ without", "#0050c8", ":"), ("init_", "#0050c8", "-"),
    ("default", "#222222", "--"), ("orthogonal", "#aaaaaa", "-."), ("scratch", "#222222", "-"),
    ("uniform", "#999999", ":"), ("decoded", "#56b4e9", "-"),
    ("", "#d6479a", "-"),  # real networks: of the zoo, held out, fine-tuned
)  # fmt: skip
NAMES = {
    "scratch": "from scratch (B_T)",
    "fine-tuned": "the zoo's networks (B_F)",
    "kde": "kde (S_KDE)",
    "kde30": "kde30 (S_KDE30)",
    "neigh": "neigh (S_Neigh)",
    "neigh30": "neigh30 (S_Neigh30)",
    "gan": "gan (S_GAN)",
    "gan30": "gan30 (S_GAN30)",
    "uniform": "uniform (S_U)",
    "counterfactual": "counterfactual (S_C)",
    "kde30 without LWLN": "kde30 without LWLN (B_KDE30)",
}


def look(row: str) -> dict[str, Any]:
    """Return colour and line style of a row.

    >>> look("kde30"), look("a checkpoint plus noise")["color"]
    ({'color': '#0050c8', 'linestyle': '-'}, '#8c564b')
    """
    _, colour, line = next(kind for kind in KINDS if kind[0] in row)
    return {"color": colour, "linestyle": ":" if row in ("kde", "neigh", "gan", "local") else line}


def name(row: str) -> str:
    """Return a row's name with the paper's name of it, if it has one."""
    return NAMES.get(row, row)


def title(record: Record, what: str) -> str:
    """Return a title: `what`, the data set or source, and the scale."""
    config = record["config"]
    kind = "zoo" if "zoo" in config else "source"
    scale = config.get("scale", "")
    key, own = config["key"].removesuffix("-train"), config["key"].endswith("-train")
    where = f"{kind} {key.replace('-', ' to ')}" if kind == "zoo" else f"source {key}"
    where += ", networks that were trained on" if own else ""
    return f"{what}: {where}" + (f", scale {scale}" if kind == "zoo" or scale == "smoke" else "")


def legend(figure: Any, *panels: Any, columns: int = 3) -> None:
    """Put one legend below all panels, with each name once."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def quartiles(row: Mapping[str, Summary], *, last: float = float("inf")) -> Line:
    """Return epochs (or sizes) up to `last`, with median and quartiles of the values in percent."""
    import numpy as np

    kept = sorted((int(key), found["values"]) for key, found in row.items() if int(key) <= last)
    low, middle, high = ([100 * float(np.quantile(values, level)) for _, values in kept] for level in (0.25, 0.5, 0.75))
    return [float(x) for x, _ in kept], middle, low, high


def band(axes: Any, line: Line, row: str, *, shift: float = 0, **other: Any) -> None:
    """Draw a median, and the band between the quartiles."""
    x = [value + shift for value in line[0]]
    style = look(row) | {"label": name(row), "linewidth": 1.6, "marker": "o", "markersize": 2.5} | other
    axes.plot(x, line[1], **style)
    axes.fill_between(x, line[2], line[3], color=style["color"], alpha=0.12, linewidth=0)


def finish(axes: Any, xlabel: str, ylabel: str = "", heading: str = "") -> None:
    """Label the axes; add a light grid and remove the upper and right frame."""
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.set_title(heading, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
