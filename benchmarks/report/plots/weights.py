"""Figures of weights: by layer before and after reconstruction, and pairs during fine-tuning."""

from __future__ import annotations

from typing import Any

from benchmarks.record import Record
from benchmarks.report.plots.latents import VARIANTS
from benchmarks.report.plots.style import finish, legend, quartiles, title

REAL, DECODED = "#777777", "#e8590c"


def layers(figure: Any, record: Record) -> None:
    """Figures 2, 9, 10: histograms of each layer's weights and of accuracies, one row for each autoencoder."""
    results = record["results"]
    grid = figure.subplots(len(results), 6, squeeze=False)
    for line, (variant, found) in enumerate(results.items()):
        for place, layer in enumerate(found["layers"].values()):
            axes, (low, high) = grid[line][place], layer["range"]
            for kind, colour in (("real", REAL), ("decoded", DECODED)):
                counts = layer["counts"][kind]
                edges = [low + (high - low) * step / len(counts) for step in range(len(counts) + 1)]
                share = [count / max(sum(counts), 1) for count in counts]
                axes.stairs(share, edges, color=colour, fill=True, alpha=0.35)
                axes.stairs(share, edges, color=colour, linewidth=1, label=_label(kind))
            finish(axes, "weight" if line == len(results) - 1 else "", "", f"layer {place + 1}, R² {layer['r2']:.2f}")
        axes = grid[line][5]
        for kind, colour in (("real", REAL), ("decoded", DECODED)):
            values = [100 * value for value in found["accuracy"][kind]["values"]]
            axes.hist(values, bins=20, range=(0, 100), color=colour, alpha=0.5, histtype="stepfilled")
        finish(axes, "test accuracy, %" if line == len(results) - 1 else "", "", "networks by accuracy")
        explained = f"\nR² {found['r2']['weights']:.2f}" if "r2" in found else ""
        grid[line][0].set_ylabel(f"{VARIANTS[variant][1]}{explained}", fontsize=9)
        for axes in grid[line]:
            axes.set_yticks([])
            axes.locator_params(axis="x", nbins=3)
    legend(figure, grid[0][0], columns=2)
    figure.suptitle(title(record, "Figures 2, 9 and 10, held-out networks"), fontsize=11)


def pairs(figure: Any, record: Record) -> None:
    """Figure 6: accuracies during fine-tuning, and distance and cosine within a pair."""
    accuracy, distance, cosine = figure.subplots(1, 3)
    for variant, found in record["results"].items():
        colour, label = VARIANTS[variant]
        for kind, style, shade in (("original", "--", "#222222"), ("reconstructed", "-", colour)):
            x, middle, low, high = quartiles(found[kind])
            words = f"reconstructed, {label}" if kind == "reconstructed" else "original"
            if kind == "reconstructed" or variant == "lwln":
                accuracy.plot(x, middle, style, color=shade, label=words, marker="o", markersize=2.5)
                accuracy.fill_between(x, low, high, color=shade, alpha=0.15, linewidth=0)
        for axes, kind in ((distance, "distance"), (cosine, "cosine")):
            x, middle, low, high = quartiles(found[kind])
            middle, low, high = ([value / 100 for value in values] for values in (middle, low, high))
            axes.plot(x, middle, color=colour, marker="o", markersize=2.5)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for axes in (accuracy, distance, cosine):
        axes.xaxis.get_major_locator().set_params(integer=True)
    finish(accuracy, "epochs of fine-tuning", "test accuracy, %")
    finish(distance, "epochs of fine-tuning", "l2 distance within a pair, weight units")
    finish(cosine, "epochs of fine-tuning", "cosine within a pair")
    legend(figure, accuracy)
    figure.suptitle(title(record, "Figure 6, pairs of networks (median, quartiles)"), fontsize=11)


def _label(kind: str) -> str:
    return {"real": "original weights", "decoded": "reconstructed weights"}[kind]
