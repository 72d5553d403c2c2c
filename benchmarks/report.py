"""Build docs/results.md and its figures from the result files: the paper's number, ours, and whether they agree.

python -m benchmarks report
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import paper
from benchmarks.claims import Claim, Results, claims, mann_whitney, percent
from benchmarks.plots import draw
from benchmarks.results import FOLDER
from hyperinit_training.runs import write_text

HEAD = """# The paper's tables and figures, reproduced and audited

Built by `python -m benchmarks report` from the files in `benchmarks/results/`; do not edit. The paper is Schürholt et
al. 2022, arXiv:2209.14733; its numbers are in `benchmarks/paper.py`. Accuracies are test accuracies in percent, mean ±
standard deviation over a population. A comparison **holds** if the mean is higher and a Mann-Whitney test finds
p < 0.05, **fails** if it is lower with p < 0.05, and is *unclear* otherwise. "Agree" means that the means differ by
less than twice the root of the sum of both variances, which is lenient where populations spread.
"""
HONEST = """## What does not survive

The claims that fail or stay unclear, the paper's and this library's own. A claim that was not measured is neither."""
ALL = """## All claims"""
MISSING = "not measured"


def main(argv: list[str]) -> None:
    """Write `results.md` and `figures/*.png`."""
    made = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    made.add_argument("--results", type=Path, default=FOLDER)
    made.add_argument("--out", type=Path, default=FOLDER.parent.parent / "docs")
    arguments = made.parse_args(argv)
    results = Results(arguments.results)
    path = arguments.out / "results.md"
    write_text(path, "\n\n".join(sections(results, arguments.out / "figures")) + "\n")
    print(path)


def sections(results: Results, figures: Path) -> Iterator[str]:
    """Yield the parts of the report, the negatives first; figures are drawn on the way."""
    found = claims(results)
    yield HEAD.strip()
    lost = [claim for claim in found if claim.holds in (False, None)]
    yield f"{HONEST}\n\n{_claims(lost) if lost else 'None of what was measured.'}"
    counts = {word: sum(claim.verdict == word for claim in found) for word in ("holds", "**fails**", "unclear")}
    missing = Counter(claim.where for claim in found if claim.holds == "")
    yield (
        f"{ALL}\n\n{counts['holds']} hold, {counts['**fails**']} fail, {counts['unclear']} are unclear, "
        f"{missing.total()} are not measured.\n\n{_claims([claim for claim in found if claim.holds != ''])}"
    )
    if missing:
        yield "Not measured: " + "; ".join(f"{where} ({count})" for where, count in missing.items()) + "."
    yield _scales(results)
    for title, rows in (
        ("Tables 1 and 2", cells(results)),
        ("Tables 10 and 12: medians at the end", medians(results)),
        ("Tables 11 and 13: Mann-Whitney and CLES at the end", effects(results)),
        ("Table 3: conditioned on an unseen zoo", table3(results)),
        ("Table 4: other architectures", table4(results)),
        ("Table 9: R2 on other zoos", table9(results)),
        ("Initialisers: to the default's final accuracy", initializers(results)),
    ):
        kept = list(rows)
        measured = [row for row in kept if row[-1] != MISSING]
        note = f"\n\n{len(kept) - len(measured)} more of the paper's entries are not measured."
        yield f"## {title}\n\n{table(measured)}{note if len(measured) < len(kept) else ''}"
    yield "## Figures"
    for (name, key), record in sorted(results.records.items()):
        file = figures / f"{name}-{key}.png"
        if draw(name, record, file):
            yield f"![{name}, {key}](figures/{file.name})\n\n`{record['command']}`, commit {record['commit']}"


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Write rows as Markdown, the first as the head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *body))


def _claims(found: list[Claim]) -> str:
    return table([("where", "claim", "verdict", "ours"), *((c.where, c.text, c.verdict, c.ours) for c in found)])


def _scales(results: Results) -> str:
    rows = [
        ("result", "scale", "models (paper 1,000)", "training images", "networks a row (paper 50)", "seconds", "commit")
    ]
    for (name, key), record in sorted(results.records.items()):
        config = record["config"]
        if "zoo" in config:
            sizes = (str(config["zoo"]["models"]), str(config["images"]["train"]), str(config["population"]))
        else:
            sizes = ("embedded source", "", str(config.get("draws") or config.get("seeds") or config.get("pool", "")))
        rows.append((f"{name} {key}", config.get("scale", "-"), *sizes, str(record["seconds"]), record["commit"]))
    return f"## What was run\n\nAnd by how much it is smaller than the paper's.\n\n{table(rows)}"


def cells(results: Results) -> Iterator[tuple[str, ...]]:
    """Tables 1 and 2, cell by cell."""
    yield ("table", "images", "row", "epoch", "paper", "ours", "agree")
    for cell in paper.cells():
        found = results.row(cell.table, cell.key, paper.ROWS[cell.row], cell.epoch)
        theirs = f"{cell.mean} ± {cell.std}"
        ours, agree = ("", MISSING) if found is None else (percent(found), agrees(cell.mean, cell.std, found))
        yield (cell.table, cell.key, cell.row, str(cell.epoch), theirs, ours, agree)


def agrees(mean: float, std: float, found: dict[str, Any]) -> str:
    """Say whether a population agrees with the paper's mean and standard deviation, in percent.

    >>> agrees(50.0, 1.0, {"mean": 0.51, "std": 0.0}), agrees(50.0, 1.0, {"mean": 0.6, "std": 0.01})
    ('yes', '**no**')
    """
    return "yes" if abs(mean - 100 * found["mean"]) <= 2 * (std**2 + (100 * found["std"]) ** 2) ** 0.5 else "**no**"


def medians(results: Results) -> Iterator[tuple[str, ...]]:
    """Tables 10 and 12: medians with bootstrapped 95 % intervals."""
    yield ("images", "row", "paper", "ours", "intervals overlap")
    for (key, row), (median, low, high) in paper.medians().items():
        theirs = f"{median} [{low}, {high}]" if low is not None else f"{median} N/A"
        found = at_end(results, key, row)
        if found is None:
            yield (key, row, theirs, "", MISSING)
            continue
        own, lower, upper = (100 * value for value in interval(found["values"]))
        a, b = (median, median) if low is None or high is None else (low, high)
        meet = "yes" if lower <= b and a <= upper else "**no**"
        yield (key, row, theirs, f"{own:.1f} [{lower:.1f}, {upper:.1f}]", meet)


def at_end(results: Results, key: str, row: str) -> dict[str, Any] | None:
    """Return a population at the end of training: B_T and transfer after 50 epochs, in-dataset after 25."""
    if "-" in key:
        return results.row("table2", key, paper.ROWS[row], 50)
    return results.row("table1", key, paper.ROWS[row], 50 if row == "B_T" else 25)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median with its bootstrapped 95 % interval (percentiles of 2,000 draws).

    >>> interval([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    import numpy as np

    drawn = np.random.default_rng(42).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


def effects(results: Results) -> Iterator[tuple[str, ...]]:
    """Tables 11 and 13: p and CLES against both baselines."""
    yield ("images", "row", "against", "paper p, CLES", "ours p, CLES", "same side of 0.5")
    for effect in paper.effects():
        pair = at_end(results, effect.key, effect.row), at_end(results, effect.key, effect.baseline)
        theirs = f"{effect.p:.1e}, {effect.cles:.2f}"
        if pair[0] is None or pair[1] is None:
            yield (effect.key, effect.row, effect.baseline, theirs, "", MISSING)
            continue
        p, cles = mann_whitney(pair[0]["values"], pair[1]["values"])
        same = "yes" if (cles - 0.5) * (effect.cles - 0.5) >= 0 else "**no**"
        yield (effect.key, effect.row, effect.baseline, theirs, f"{p:.1e}, {cles:.2f}", same)


def table3(results: Results) -> Iterator[tuple[str, ...]]:
    """Mean and best accuracies of single models and of ensembles."""
    yield ("zoo-conditioned on", "", "paper", "ours, kde30", "ours, kde30-marginal")
    for key, row in paper.TABLE3.items():
        record = results.records.get(("table3", key))
        for column, theirs in zip(paper.TABLE3_COLUMNS, row, strict=True):
            kind, which = column.split(", ")
            found = [record["results"]["rows"][m][kind] if record else None for m in ("kde30", "kde30-marginal")]
            ours = (f"{100 * (f['mean'] if which == 'mean' else max(f['values'])):.1f}" if f else "" for f in found)
            yield (key, column, str(theirs), *ours)


def table4(results: Results) -> Iterator[tuple[str, ...]]:
    """All rows; the paper's are known for one network after 50 epochs only."""
    record = results.records.get(("table4", "mnist-svhn"))
    epochs = [str(epoch) for epoch in record["config"]["epochs"]] if record else []
    yield ("network, start", *(f"epoch {epoch}" for epoch in epochs), "paper, epoch 50")
    for name, row in record["results"]["rows"].items() if record else ():
        network, start = name.split(", ")
        theirs = paper.TABLE4.get(network, {}).get(start)
        yield (name, *(percent(row[epoch]) for epoch in epochs), f"{theirs[0]} ± {theirs[1]}" if theirs else "")


def table9(results: Results) -> Iterator[tuple[str, ...]]:
    """Explained variance by training and test zoo."""
    yield ("trained on", "test zoo", "paper", "ours")
    record = results.records.get(("table9", "svhn"))
    for trained, row in paper.TABLE9.items():
        for zoo, theirs in row.items():
            ours = f"{100 * record['results']['rows'][trained][zoo]:.1f}" if record else MISSING
            yield (trained, zoo, str(theirs), ours)


def initializers(results: Results) -> Iterator[tuple[str, ...]]:
    """What every start saves against PyTorch's default."""
    yield ("source", "start", "epoch 0", "epoch 1", "epoch 5", "end", "epochs to the default's end", "seconds saved")
    for key in results.keys("initializer"):
        record = results.records["initializer", key]
        end = record["config"]["epochs"]
        for start, row in record["results"]["rows"].items():
            goal = record["results"]["to the goal"][start]
            shown = [percent(row[str(epoch)]) if str(epoch) in row else "-" for epoch in (0, 1, 5, end)]
            needed, saved = goal["epochs to the default's end"], goal["seconds saved"]
            words = ("never", "-") if needed is None else (f"{needed} of {end}", str(saved))
            yield (key, start, *shown, *words)
