"""Figures of embedded sources: initialisations by epoch, and accuracy beside similarity to the training networks."""

from __future__ import annotations

from typing import Any

from benchmarks.record import Record, Summary
from benchmarks.report.plots.style import band, finish, legend, look, quartiles, title

ACCURACY = "test accuracy, %"
REAL = {
    "real, held out": "real networks, held out",
    "training networks among themselves": "training networks, each other",
}

BASELINES = {"noise": "a training network + growing noise", "average": "average of more and more neighbours"}


def starts(figure: Any, record: Record) -> None:
    """Accuracy by epoch from every initialisation, and the upper end enlarged."""
    left, right = figure.subplots(1, 2)
    tops: list[float] = []
    for row, found in record["results"]["rows"].items():
        line = quartiles(found)
        for axes in (left, right):
            band(axes, line, row, marker=None)
        tops += line[3]
    goal = 100 * record["config"]["goal"]
    for axes in (left, right):
        axes.axhline(goal, color="#222222", linewidth=0.8, linestyle=":", label="final accuracy of PyTorch's default")
    right.set_ylim(goal - 3 * max(max(tops) - goal, 0.5), max(tops) + 0.3)
    finish(left, "epochs", ACCURACY, "all")
    finish(right, "epochs", "", "around the default's final accuracy")
    legend(figure, left)
    figure.suptitle(title(record, "Starts (median, quartiles)"), fontsize=11)


def networks(figure: Any, record: Record) -> None:
    """Accuracy by epoch from every initialisation, one panel for each architecture."""
    results = record["results"]["rows"]
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for place, (axes, (network, rows)) in enumerate(zip(panels, results.items(), strict=True)):
        for row, found in rows.items():
            band(axes, quartiles(found), row)
        finish(axes, "epochs", "" if place else ACCURACY, network)
        axes.xaxis.get_major_locator().set_params(integer=True)
    legend(figure, *panels)
    figure.suptitle(title(record, "Starts of networks outside the zoo (median, quartiles)"), fontsize=11)


def likeness(figure: Any, record: Record) -> None:
    """Accuracy beside overlap of wrong answers and distance, one colour for each family of methods."""
    found, panels = record["results"], figure.subplots(1, 2, sharey=True)
    for axes, kind, label in zip(
        panels, ("overlap", "distance"),
        ("largest overlap of wrong answers, 0 to 1", "distance to the nearest, weight units"), strict=True,
    ):  # fmt: skip
        for key, words in BASELINES.items():
            x, y = ([row[k]["mean"] for row in found[key].values()] for k in (kind, "accuracy"))
            axes.plot(x, [100 * v for v in y], color=look(key)["color"], label=words, linewidth=1.2, marker=".")
        for method, row in found["methods"].items():
            top, colour = method.removesuffix("-marginal").endswith("30"), look(method)["color"]
            mark = "s" if method == "counterfactual" else "o"
            family = method.replace("30", "")
            _point(axes, row, kind, mark, colour=colour, fill=colour if top else "white", label=family)
        for key, words in REAL.items():
            if key in found:
                fill = look("")["color"] if key == "real, held out" else "white"
                _point(axes, found[key], kind, "*", colour=look("")["color"], fill=fill, label=words)
        finish(axes, label)
    finish(panels[0], "largest overlap of wrong answers, 0 to 1", ACCURACY, "left is newer")
    panels[1].set_title("right is newer; filled: from the top 30 %, hollow: from all", fontsize=9)
    best = found["methods"][found["recommended"]]
    panels[0].annotate(
        f"{found['recommended']}: what init_ draws", (best["overlap"]["mean"], 100 * best["accuracy"]["mean"]),
        xytext=(0.97, 0.5), textcoords="axes fraction", fontsize=8, ha="right",
        arrowprops={"arrowstyle": "-", "color": "0.5"},
    )  # fmt: skip
    legend(figure, panels[0], columns=4)
    figure.suptitle(title(record, "Novelty of generated networks"), fontsize=11)


def _point(axes: Any, row: dict[str, Summary], kind: str, mark: str, *, colour: str, fill: str, label: str) -> None:  # noqa: PLR0913
    axes.plot(
        row[kind]["mean"], 100 * row["accuracy"]["mean"], mark, label=label, markeredgecolor=colour,
        markerfacecolor=fill, markersize=11 if mark == "*" else 6.5, linestyle="",
    )  # fmt: skip
