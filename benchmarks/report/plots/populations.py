"""Figures of populations: accuracy before training, by epoch in-dataset and in transfer, and of ensembles."""

from __future__ import annotations

from typing import Any

from benchmarks.record import Record
from benchmarks.report.plots.style import band, finish, legend, look, name, quartiles, title

ACCURACY = "test accuracy, %"
UNSHIFTED = ("scratch", "PyTorch's default")  # rows that no zoo was trained for


def is_trained(record: Record) -> bool:
    """Whether a population was measured at more than two epochs."""
    return any(len(row) > 2 for row in record["results"]["rows"].values())


def boxes(figure: Any, record: Record) -> None:
    """Figure 4: every population before training, and those from scratch after the zoo's epochs."""
    axes, rows = figure.subplots(), record["results"]["rows"]
    found = {name(row): (rows[row]["0"]["values"], look(row)["color"]) for row in rows if "0" in rows[row]}
    end = str(record["config"]["epochs"][1])
    if end in rows.get("scratch", {}):
        found[f"from scratch, {end} epochs (B_T)"] = (rows["scratch"][end]["values"], look("scratch")["color"])
    kept = sorted(found.items(), key=lambda item: sum(item[1][0]) / len(item[1][0]))
    drawn = axes.boxplot(
        [[100 * v for v in values] for _, (values, _) in kept],
        orientation="horizontal", widths=0.6, patch_artist=True, medianprops={"color": "white"},
        flierprops={"markersize": 2.5},
    )  # fmt: skip
    for box, (_, (_, colour)) in zip(drawn["boxes"], kept, strict=True):
        box.set(facecolor=colour, edgecolor=colour)
    axes.set_yticks(range(1, len(kept) + 1), [label for label, _ in kept])
    axes.axvline(10, color="#999999", linewidth=0.8, linestyle=":")
    finish(axes, f"{ACCURACY} (boxes: quartiles; dotted: chance)")
    figure.suptitle(title(record, "Figure 4, no training"), fontsize=11)


def in_dataset(figure: Any, record: Record) -> None:
    """Figures 14, 16, 18, 20: epochs of fine-tuning, and epochs with the zoo's added as in the paper."""
    left, right = figure.subplots(1, 2, sharey=True)
    rows, config = _trained(record), record["config"]
    before, short = config["zoo"]["epochs"], config["epochs"][1]
    for row, found in rows.items():
        band(left, quartiles(found, last=short), row)
        band(right, quartiles(found), row, shift=0 if row in UNSHIFTED else before)
    finish(left, "epochs of fine-tuning", ACCURACY, "counted from each population's start")
    finish(right, "epochs", "", f"with the {before} epochs of the zoo's networks added")
    legend(figure, left, columns=4)
    figure.suptitle(title(record, "In-dataset (median, quartiles)"), fontsize=11)


def transfer(figure: Any, record: Record) -> None:
    """Figures 7, 15, 17, 19, 21: all epochs, and epochs 3 to 9 enlarged (from scratch may lie below)."""
    left, right = figure.subplots(1, 2)
    near: list[float] = []
    for row, found in _trained(record).items():
        band(left, quartiles(found), row)
        early = quartiles({epoch: value for epoch, value in found.items() if 3 <= int(epoch) <= 9})
        if early[0]:
            band(right, early, row)
            near += [*early[2], *early[3]] if row != "scratch" else []
    if near:
        margin = 0.1 * (max(near) - min(near)) + 0.5
        right.set(xlim=(2.8, 9.2), ylim=(min(near) - margin, max(near) + margin))
    finish(left, "epochs of fine-tuning", ACCURACY, "all epochs")
    finish(right, "epochs of fine-tuning", "", "epochs 3 to 9 (from scratch may lie below)")
    legend(figure, left, columns=4)
    figure.suptitle(title(record, "Transfer (median, quartiles)"), fontsize=11)


def ensembles(figure: Any, record: Record) -> None:
    """Figure 5: accuracy of ensembles by size, and the best rows enlarged."""
    left, right = figure.subplots(1, 2)
    lines = {row: quartiles(found) for row, found in record["results"]["rows"].items()}
    top = max(max(line[1]) for line in lines.values())
    for row, line in lines.items():
        band(left, line, row)
        if max(line[1]) > top - 10:
            band(right, line, row)
    finish(left, "networks in the ensemble", ACCURACY, "all")
    finish(right, "networks in the ensemble", "", "those that come within 10 points of the best")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    legend(figure, left)
    figure.suptitle(title(record, "Figure 5, ensembles (median, quartiles of 15)"), fontsize=11)


def _trained(record: Record) -> dict[str, Any]:
    return {row: found for row, found in record["results"]["rows"].items() if len(found) > 1}
