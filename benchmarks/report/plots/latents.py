"""Figures of latents: noise, interpolation, norms, cosines and single coordinates."""

from __future__ import annotations

from typing import Any

from benchmarks.record import Record
from benchmarks.report.plots.style import finish, legend, title

# variant -> colour and label
VARIANTS = {"plain": ("#e69f00", "without LWLN"), "lwln": ("#0050c8", "with LWLN"), "aligned": ("#009e9e", "aligned")}


def paths(figure: Any, record: Record) -> None:
    """Figure 3: accuracy and R2 under noise, and accuracy of interpolated latents."""
    accuracy, explained, path = figure.subplots(1, 3)
    for variant, found in record["results"].items():
        colour, label = VARIANTS[variant]
        x = [100 * float(key) for key in found["noise"]]
        accuracy.plot(
            x, [100 * n["accuracy"]["mean"] for n in found["noise"].values()], ".-", color=colour, label=label
        )
        explained.plot(x, [n["r2"] for n in found["noise"].values()], ".-", color=colour, label=label)
        for name, style, short in (
            ("along one network's training", "-", "along one network's training"),
            ("between two networks", "--", "between two networks"),
        ):
            steps = found[name]
            y = [100 * step["mean"] for step in steps.values()]
            path.plot([float(x) for x in steps], y, style, color=colour, label=f"{label}: path {short}")
    for axes in (accuracy, explained):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        axes.axvline(10, color="#999999", linewidth=0.8, linestyle=":")
    explained.set_ylim(max(explained.get_ylim()[0], -1), 1)
    finish(accuracy, "relative noise on latents, %", "test accuracy, %", "noise (dotted: 10 %)")
    finish(explained, "relative noise on latents, %", "R² of reconstruction", "noise (R² below -1 not shown)")
    finish(path, "place on the path", "test accuracy, %", "straight paths between latents")
    path.set_ylim(0, max(100 * s["mean"] for f in record["results"].values() for k in f if k != "noise"
                         for s in f[k].values()) * 1.1)  # fmt: skip
    legend(figure, accuracy, path)
    figure.suptitle(title(record, "Figure 3"), fontsize=11)


def is_shown(record: Record) -> bool:
    """Whether the histograms were recorded."""
    return "dimensions" in record["results"]["lwln"]["latents"]


def geometry(figure: Any, record: Record) -> None:
    """Figures 11 to 13: norms, pairwise cosines, and single coordinates of all anchors and of the top 30 %."""
    found = record["results"]["lwln"]["latents"]
    panels = figure.subplot_mosaic([["norms", "norms", "cosines", "cosines"], list(found["dimensions"])[:4]])
    for kind, label in (("norms", "l2 norm of a latent"), ("cosines", "cosine of two latents")):
        for part, colour in (("train", "#0050c8"), ("test", "#e69f00")):
            _steps(panels[kind], found[kind], part, colour)
        finish(panels[kind], label, "share" if kind == "norms" else "")
        panels[kind].legend(fontsize=8, frameon=False)
    panels["norms"].set_title(f"largest possible norm {found['largest possible norm']:.1f}", fontsize=9)
    for place, dimension in enumerate(list(found["dimensions"])[:4]):
        axes = panels[dimension]
        for part, colour in (("all", "#0050c8"), ("top 30 %", "#e69f00")):
            _steps(axes, found["dimensions"][dimension], part, colour)
        finish(axes, f"dimension {dimension}", "" if place else "share")
        axes.set_xticks([-1, 0, 1])
    legend(figure, panels[next(iter(found["dimensions"]))], columns=2)
    figure.suptitle(title(record, "Figures 11 to 13, latents of the autoencoder with LWLN"), fontsize=11)


def _steps(axes: Any, histogram: dict[str, Any], part: str, colour: str) -> None:
    """Draw the histogram of one part as shares of its values."""
    low, high = histogram["range"]
    counts, total = histogram["counts"][part], max(sum(histogram["counts"][part]), 1)
    edges = [low + (high - low) * place / len(counts) for place in range(len(counts) + 1)]
    axes.stairs([count / total for count in counts], edges, color=colour, fill=True, alpha=0.35, label=part)
    axes.stairs([count / total for count in counts], edges, color=colour, linewidth=1)
