"""Plots of the results, one function for each kind of figure; small PNG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperinit.files import replacing

Record = dict[str, Any]


def draw(table: str, record: Record, path: Path) -> bool:
    """Write the figure of a record to `path`, if its table has one."""
    if table not in PLOTS:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    PLOTS[table](figure, record)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
    return True


def _figure4(figure: Any, record: Record) -> None:
    axes, rows = figure.subplots(), record["results"]["rows"]
    kept = sorted((name for name in rows if "0" in rows[name]), key=lambda name: rows[name]["0"]["mean"])
    axes.boxplot([[100 * v for v in rows[name]["0"]["values"]] for name in kept])
    axes.set_xticks(range(1, len(kept) + 1), kept, fontsize=7, rotation=90)
    axes.set(ylabel="test accuracy before training, %", title=f"Figure 4: {record['config']['key']}")


def _novelty(figure: Any, record: Record) -> None:
    found, panels = record["results"], figure.subplots(1, 2, sharey=True)
    for axes, kind, label in zip(
        panels, ("overlap", "distance"), ("largest overlap of wrong answers", "distance to nearest, weight units"),
        strict=True,
    ):  # fmt: skip
        for name, row in found["methods"].items():
            _point(axes, row, kind, name, "o")
        for name in ("real, held out", "training networks among themselves"):
            if name in found:
                _point(axes, found[name], kind, name, "*")
        for name in ("noise", "average"):
            rows = found[name].values()
            x, y = ([row[key]["mean"] for row in rows] for key in (kind, "accuracy"))
            axes.plot(x, [100 * value for value in y], ".-", label=f"{name}, growing", linewidth=1)
        axes.set(xlabel=label)
    panels[0].set(ylabel="test accuracy, %")
    panels[1].legend(fontsize=5, ncols=2)
    figure.suptitle(f"Novelty: {record['config']['key']}")


def _point(axes: Any, row: Record, kind: str, name: str, mark: str) -> None:
    axes.plot(row[kind]["mean"], 100 * row["accuracy"]["mean"], mark, label=name, markersize=7 if mark == "*" else 5)


def _curves(title: str, xlabel: str) -> Callable[[Any, Record], None]:
    def plot(figure: Any, record: Record) -> None:
        axes = figure.subplots()
        for name, row in record["results"]["rows"].items():
            axes.plot([int(x) for x in row], [100 * found["mean"] for found in row.values()], ".-", label=name)
        axes.set(xlabel=xlabel, ylabel="test accuracy, %", title=f"{title}: {record['config']['key']}")
        axes.legend(fontsize=7)

    return plot


def _figure3(figure: Any, record: Record) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for variant, found in record["results"].items():
        noise = found["noise"]
        left.plot([float(x) for x in noise], [100 * n["accuracy"]["mean"] for n in noise.values()], ".-", label=variant)
        for name, style in (("along one network's training", "-"), ("between two networks", "--")):
            steps = found[name]
            accuracies = [100 * step["mean"] for step in steps.values()]
            right.plot([float(x) for x in steps], accuracies, style, label=f"{variant}, {name}")
    left.set(xlabel="relative noise on latents", ylabel="test accuracy, %")
    right.set(xlabel="step of the path")
    left.legend(fontsize=7)
    right.legend(fontsize=5)
    figure.suptitle(f"Figure 3: {record['config']['key']}")


def _weights(figure: Any, record: Record) -> None:
    results = record["results"]
    grid = figure.subplots(len(results), 5, squeeze=False)
    for panels, (variant, found) in zip(grid, results.items(), strict=True):
        for place, (axes, layer) in enumerate(zip(panels, found["layers"].values(), strict=True)):
            low, high = layer["range"]
            for kind, counts in layer["counts"].items():
                step = (high - low) / len(counts)
                axes.plot([low + (i + 0.5) * step for i in range(len(counts))], counts, label=kind, linewidth=1)
            axes.set_title(f"layer {place + 1}, R2 {layer['r2']:.2f}", fontsize=6)
            axes.tick_params(labelsize=4)
        panels[0].set_ylabel(variant, fontsize=7)
    grid[0][0].legend(fontsize=5)
    figure.suptitle(f"Figures 9 and 10: {record['config']['key']}")


PLOTS: dict[str, Callable[[Any, Record], None]] = {
    "table1": _figure4,
    "novelty": _novelty,
    "figure5": _curves("Figure 5", "networks in the ensemble"),
    "initializer": _curves("Initialisers", "epochs"),
    "figure3": _figure3,
    "figures-weights": _weights,
}
