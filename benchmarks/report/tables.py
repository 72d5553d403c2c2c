"""The tables of the report: the paper's numbers beside ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.record import Summary
from benchmarks.report import published
from benchmarks.report.claims.judging import Results, mann_whitney, percent

Row = tuple[str, ...]
OMITTED = ("noise", "average")  # rows of Table 1 that the table of novelty shows instead


@dataclass(frozen=True)
class Table:
    """Rows under a head, and `missing`, the number of the paper's entries that were not measured."""

    head: Row
    rows: Sequence[Row]
    missing: int = 0

    def __str__(self) -> str:
        """Return Markdown: the table if it has rows, and the number of missing entries."""
        note = f"{self.missing} of the paper's entries are not measured." if self.missing else ""
        return "\n\n".join(part for part in (markdown(self.head, self.rows) if self.rows else "", note) if part)


def markdown(head: Row, rows: Iterable[Row]) -> str:
    """Return rows under a head as a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def cells(results: Results, table: str, key: str) -> Table:
    """Tables 1 and 2 for one data set or pair: first the paper's rows, then rows that only we have."""
    epochs = (0, 1, 25, 50)
    theirs = {(published.ROWS[c.row], c.epoch): c for c in published.cells() if (c.table, c.key) == (table, key)}
    own = results.rows(table, key)
    rows, missing = [], 0
    for row in dict.fromkeys([*(name for name, _ in theirs), *own]):
        for epoch in epochs:
            cell, found = theirs.get((row, epoch)), results.row(table, key, row, epoch)
            if found is None or (table == "table2" and epoch == 25):
                missing += cell is not None
                continue
            if cell is None and row in OMITTED:
                continue
            name = f"{cell.row} ({row})" if cell else row
            word = agrees(cell.mean, cell.std, found) if cell else ""
            rows.append((name, str(epoch), f"{cell.mean} ± {cell.std}" if cell else "-", percent(found), word))
    return Table(("row", "epoch", "paper", "ours", "agree"), rows, missing)


def agrees(mean: float, std: float, found: Summary) -> str:
    """Say whether a population agrees with the paper's mean and standard deviation (both in percent).

    >>> agrees(50.0, 1.0, {"mean": 0.51, "std": 0.0}), agrees(50.0, 1.0, {"mean": 0.6, "std": 0.01})
    ('yes', '**no**')
    """
    return "yes" if abs(mean - 100 * found["mean"]) <= 2 * (std**2 + (100 * found["std"]) ** 2) ** 0.5 else "**no**"


def medians(results: Results) -> Table:
    """Tables 10 and 12: medians with bootstrapped 95 % intervals."""
    rows, missing = [], 0
    for (key, row), (median, low, high) in published.medians().items():
        found = at_end(results, key, row)
        if found is None:
            missing += 1
            continue
        theirs = f"{median} [{low}, {high}]" if low is not None else f"{median} N/A"
        own, lower, upper = (100 * value for value in interval(found["values"]))
        a, b = (median, median) if low is None or high is None else (low, high)
        meet = "yes" if lower <= b and a <= upper else "**no**"
        rows.append((key, row, theirs, f"{own:.1f} [{lower:.1f}, {upper:.1f}]", meet))
    return Table(("images", "row", "paper", "ours", "intervals overlap"), rows, missing)


def at_end(results: Results, key: str, row: str) -> Summary | None:
    """Return a population at the end of training: B_T and transfer after 50 epochs, in-dataset after 25."""
    if "-" in key:
        return results.row("table2", key, published.ROWS[row], 50)
    return results.row("table1", key, published.ROWS[row], 50 if row == "B_T" else 25)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and its bootstrapped 95 % interval by `scipy.stats.bootstrap`, with BCa or else percentiles.

    BCa is undefined if all values are equal, or all medians that leave one value out. The paper writes N/A there.

    >>> interval([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    import numpy as np
    from scipy.stats import bootstrap

    middle, low, high = float(np.median(values)), float("nan"), float("nan")
    if len(set(values)) == 1:
        return middle, middle, middle
    for method in ("BCa", "percentile"):
        if np.isnan([low, high]).any():
            with warnings.catch_warnings(action="ignore"):  # degenerate for BCa: percentiles follow
                found = bootstrap(
                    (values,), np.median, n_resamples=2000, method=method, random_state=np.random.default_rng(42)
                ).confidence_interval
            low, high = float(found.low), float(found.high)
    return middle, low, high


def effects(results: Results) -> Table:
    """Tables 11 and 13: p and CLES of every population compared with both baselines."""
    rows, missing = [], 0
    for effect in published.effects():
        pair = at_end(results, effect.key, effect.row), at_end(results, effect.key, effect.baseline)
        if pair[0] is None or pair[1] is None:
            missing += 1
            continue
        p, cles = mann_whitney(pair[0]["values"], pair[1]["values"])
        same = "yes" if (cles - 0.5) * (effect.cles - 0.5) >= 0 else "**no**"
        theirs = f"{effect.p:.1e}, {effect.cles:.2f}"
        rows.append((effect.key, effect.row, effect.baseline, theirs, f"{p:.1e}, {cles:.2f}", same))
    return Table(("images", "row", "against", "paper p, CLES", "ours p, CLES", "same side of 0.5"), rows, missing)


def table3(results: Results) -> Table:
    """Table 3: mean and best accuracies of single models and of ensembles, by both variants of S_KDE30."""
    rows, missing = [], 0
    for key, row in published.TABLE3.items():
        record = results.records.get(("table3", key))
        for column, theirs in zip(published.TABLE3_COLUMNS, row, strict=True):
            if record is None:
                missing += 1
                continue
            kind, which = column.split(", ")
            found = [record["results"]["rows"][method][kind] for method in ("kde30", "kde30-marginal")]
            ours = [100 * (f["mean"] if which == "mean" else max(f["values"])) for f in found]
            agree = agrees(theirs, 0.0, found[0]) if which == "mean" else ""
            rows.append((key, column, str(theirs), *(f"{value:.1f}" for value in ours), agree))
    return Table(("zoo-conditioned on", "", "paper", "ours, kde30", "ours, kde30-marginal", "agree"), rows, missing)


def table4(results: Results) -> Table:
    """Table 4: all rows; of the paper, only those of one network after 50 epochs are known."""
    record = results.records.get(("table4", "mnist-svhn"))
    epochs = [str(epoch) for epoch in record["config"]["epochs"]] if record else []
    rows = []
    for name, row in record["results"]["rows"].items() if record else ():
        network, start = name.split(", ")
        theirs = published.TABLE4.get(network, {}).get("generated" if start == "generated" else "random")
        words = (
            (f"{theirs[0]} ± {theirs[1]}", agrees(*theirs, row[epochs[-1]]) if epochs[-1] == "50" else "-")
            if theirs
            else ("", "")
        )
        rows.append((name, *(percent(row[epoch]) for epoch in epochs), *words))
    head = ("network, start", *(f"epoch {epoch}" for epoch in epochs), "paper, epoch 50", "agree")
    return Table(head, rows, 0 if record else 2)


def figure5(results: Results) -> Table:
    """The numbers of Figure 5 that the paper's text gives."""
    rows = results.rows("figure5", "svhn")
    wanted = {"kde30, ensembles of 15": ("kde30", -1), "kde30 without LWLN, largest": ("kde30 without LWLN", -1)}
    found = []
    for text, (row, place) in wanted.items():
        if row in rows:
            ours = list(rows[row].values())[place]
            found.append(
                (text, str(published.FIGURE5[text]), percent(ours), agrees(published.FIGURE5[text], 0.0, ours))
            )
    return Table(("svhn", "paper", "ours", "agree"), found, len(wanted) - len(found))


def table9(results: Results) -> Table:
    """Table 9: R2 in percent by training and test zoo; the paper gives no spread, so 10 points count as agreement."""
    record, rows, missing = results.records.get(("table9", "svhn")), [], 0
    for trained, row in published.TABLE9.items():
        for zoo, theirs in row.items():
            if record is None:
                missing += 1
                continue
            ours = 100 * record["results"]["rows"][trained][zoo]
            rows.append((trained, zoo, str(theirs), f"{ours:.1f}", "yes" if abs(ours - theirs) <= 10 else "**no**"))
    return Table(("trained on", "test zoo", "paper", "ours", "within 10 points"), rows, missing)


def headlines(results: Results) -> Table:
    """Accuracies of the embedded sources before training, beside published ones."""
    own, rows = {c.key: c for c in published.cells() if (c.table, c.row, c.epoch) == ("table1", "S_KDE30", 0)}, []
    for key in results.keys("in-dataset"):
        found = results.records["in-dataset", key]["results"]
        method, sane = found["recommended"], published.SANE.get(key)
        row = found["methods"][method]
        note = (
            "a subset of SVHN: not comparable" if key in published.SUBSETS else "" if key in own else "no paper has it"
        )
        rows.append((
            key, f"{own[key].mean} ± {own[key].std}" if key in own else "-",
            " / ".join(map(str, sane)) if sane else "-",
            f"{100 * row['accuracy']:.1f} ± {100 * row['std']:.1f} ({method})", percent(found["zoo"]), note,
        ))  # fmt: skip
    return Table(("source", "S_KDE30, 2022", "SANE, 2024: no labels / labels", "ours", "our zoo", ""), rows)


def initializers(results: Results) -> Table:
    """Epochs and seconds that each initialisation saves, compared with PyTorch's default."""
    rows = []
    for key in results.keys("initializer"):
        record = results.records["initializer", key]
        end = record["config"]["epochs"]
        seconds = min(found["seconds of an epoch"] for found in record["results"]["to the goal"].values())
        for start, row in record["results"]["rows"].items():
            shown = [percent(row[str(epoch)]) if str(epoch) in row else "-" for epoch in (0, 1, 5, end)]
            needed = epochs_to(row, record["config"]["goal"])
            words = ("never", "-") if needed is None else (f"{needed} of {end}", f"{(end - needed) * seconds:.1f}")
            rows.append((key, start, *shown, *words))
    head = ("source", "start", "epoch 0", "epoch 1", "epoch 5", "end", "epochs to the default's end", "seconds saved")
    return Table(head, rows)


def others(results: Results) -> Table:
    """Initialisations of other architectures; the best mean of each column is bold."""
    rows = []
    for key in results.keys("initializer-other"):
        record = results.records["initializer-other", key]
        epochs = [str(epoch) for epoch in (0, 1, 5, record["config"]["epochs"][-1])]
        for network, starts in record["results"]["rows"].items():
            share = f"{100 * record['config']['decoded share'][network]:.0f} %"
            kept = [epoch for epoch in epochs if epoch in next(iter(starts.values()))]
            best = {epoch: max(row[epoch]["mean"] for row in starts.values()) for epoch in kept}
            for start, row in starts.items():
                shown = [percent(row[e]) if e in kept else "-" for e in epochs]
                bold = [e in kept and row[e]["mean"] == best[e] for e in epochs]
                words = [f"**{text}**" if strong else text for text, strong in zip(shown, bold, strict=True)]
                rows.append((key, network, share, start, *words))
    head = ("source", "network", "decoded", "start", "epoch 0", "epoch 1", "epoch 5", "end")
    return Table(head, rows)


def novelty(results: Results) -> Table:
    """Accuracy, overlap of wrong answers and distance of the recommended method and of the baselines."""
    rows = []
    for key in results.keys("novelty"):
        found = results.records["novelty", key]["results"]
        best = found["recommended"]
        shown = {f"{best} (the default)": found["methods"][best]}
        shown |= {name: found["methods"][name] for name in ("kde30", "kde30-marginal") if name in found["methods"]}
        shown |= {f"noise {size}": row for size, row in found["noise"].items() if size in ("0.1", "0.3")}
        shown |= {
            name: found[name] for name in ("real, held out", "training networks among themselves") if name in found
        }
        for name, row in shown.items():
            values = (f"{row['overlap']['mean']:.2f}", f"{row['distance']['mean']:.2f}")
            rows.append((key, name, percent(row["accuracy"]), *values))
    return Table(("source", "networks", "accuracy", "overlap of wrong answers", "distance to the nearest"), rows)


def epochs_to(progress: Mapping[str, Mapping[str, Any]], goal: float) -> int | None:
    """Return the first epoch from which the mean accuracy stays at `goal` or above, or None.

    >>> means = (0.9, 0.8, 0.9, 0.95)
    >>> epochs_to({str(epoch): {"mean": mean} for epoch, mean in enumerate(means)}, 0.85)
    2
    """
    below = [int(epoch) for epoch, found in progress.items() if found["mean"] < goal]
    later = [int(epoch) for epoch in progress if int(epoch) > max(below, default=-1)]
    return min(later, default=None)
