"""What the paper and this library say, checked against the results: each claim holds, fails, is unclear or unmeasured.

A comparison of two populations holds if the mean is higher and a two-sided Mann-Whitney test finds p < 0.05, fails if
it is lower and p < 0.05, and is unclear otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import paper

CHANCE, NEAR = 0.1, 0.05  # ten classes; what counts as near
ORDER = {"paper": 0, "small": 1, "smoke": 2}
SOURCES = ("digits", "mnist", "svhn", "cifar10", "stl10")


@dataclass(frozen=True)
class Claim:
    """One statement with its verdict: True, False, None if unclear, or "" if nothing was measured."""

    where: str
    text: str
    holds: bool | str | None
    ours: str = ""

    @property
    def verdict(self) -> str:
        """Say the verdict in a word."""
        return {True: "holds", False: "**fails**", None: "unclear", "": "not measured"}[self.holds]  # type: ignore[index]


class Results:
    """All result files of a folder; of several scales the largest counts."""

    def __init__(self, folder: Path) -> None:
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        for record in sorted(found, key=lambda r: -ORDER.get(r["config"].get("scale", ""), 0)):
            key = record["config"].get("table"), record["config"].get("key")
            if all(key):
                self.records[key] = record  # type: ignore[index]
            elif record["name"].startswith("full-schedule-"):
                self.records["full-schedule", record["config"]["source"]] = record

    def keys(self, table: str) -> list[str]:
        """Data sets or sources that a table was measured on."""
        return sorted(key for name, key in self.records if name == table)

    def row(self, table: str, key: str, row: str, epoch: int) -> dict[str, Any] | None:
        """Summary of a population at an epoch of the paper's (0, 1, 25 or 50), None if it was not measured."""
        record = self.records.get((table, key))
        if record is None:
            return None
        last = record["config"]["epochs"]
        own = {25: last[1] if table == "table1" else -1, 50: last[-1]}.get(epoch, epoch)
        found: dict[str, Any] | None = record["results"]["rows"].get(row, {}).get(str(own))
        return found


def mann_whitney(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return p (two-sided) and CLES: how often one of `first` exceeds one of `second`, ties counting half.

    >>> mann_whitney([2.0, 3.0], [1.0, 1.0])[1]
    1.0
    """
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(first, second, alternative="two-sided")
    return float(found.pvalue), float(found.statistic) / (len(first) * len(second))


def percent(found: dict[str, Any]) -> str:
    """Write a population as "68.6 ± 6.7"."""
    return f"{100 * found['mean']:.1f} ± {100 * found['std']:.1f}"


def better(where: str, text: str, high: dict[str, Any] | None, low: dict[str, Any] | None) -> Claim:
    """Compare two populations."""
    if high is None or low is None:
        return Claim(where, text, "")
    p = mann_whitney(high["values"], low["values"])[0]
    holds = None if not p < 0.05 else high["mean"] > low["mean"]
    return Claim(where, text, holds, f"{percent(high)} against {percent(low)}, p = {p:.1g}")


def near_chance(where: str, text: str, found: dict[str, Any] | None, *, wanted: bool) -> Claim:
    """Check that a population's mean is, or is not, within 5 points of chance."""
    if found is None:
        return Claim(where, text, "")
    return Claim(where, text, (found["mean"] < CHANCE + NEAR) is wanted, percent(found))


def claims(results: Results) -> list[Claim]:
    """Check all claims."""
    parts = (_in_dataset, _samplers, _transfer, _unseen, _architectures, _ensembles, _initializer, _novelty)
    return [claim for part in parts for claim in part(results)]


def _in_dataset(r: Results) -> Iterator[Claim]:
    for key in paper.IMAGES:
        rows = {
            (name, epoch): r.row("table1", key, name, epoch)
            for name in ("scratch", "kde30", "kde30 without LWLN", "PyTorch's default", "kde30-marginal")
            for epoch in (0, 1, 25, 50)
        }
        kde30 = {epoch: rows["kde30", epoch] for epoch in (0, 1, 25)}
        where = f"Table 1, {key}"
        text = "S_KDE30 is better than without LWLN, before training"
        yield better(where, text, kde30[0], rows["kde30 without LWLN", 0])
        for epoch in (1, 25):
            text = f"S_KDE30 is better than B_T after {epoch} epochs"
            yield better(where, text, kde30[epoch], rows["scratch", epoch])
        if key in ("mnist", "svhn"):
            yield better(where, "S_KDE30 after 25 epochs is better than B_T after 50", kde30[25], rows["scratch", 50])
        for epoch in (1, 25):
            text = f"beyond the paper: S_KDE30 is better than PyTorch's default start after {epoch} epochs"
            yield better(where, text, kde30[epoch], rows["PyTorch's default", epoch])
        text = "S_KDE30 as the text says it (dimensions independent) is better than chance"
        yield near_chance(where, text, rows["kde30-marginal", 0], wanted=False)


def _samplers(r: Results) -> Iterator[Claim]:
    for key in ("mnist", *(key for key in r.keys("table1") if key != "mnist")):
        where = f"Figure 4, {key}"
        row = {name: r.row("table1", key, name, 0) for name in (*paper.ROWS.values(), "uniform", "counterfactual")}
        for name in ("kde", "neigh", "gan"):
            text = f"the top 30 % are better than all: {name}30 against {name}"
            yield better(where, text, row[f"{name}30"], row[name])
        for name in ("kde", "gan"):
            yield better(where, f"{name} is better than neigh", row[name], row["neigh"])
        yield better(where, "kde30 is better than gan30", row["kde30"], row["gan30"])
        for name in ("uniform", "counterfactual"):
            yield near_chance(where, f"{name} is near chance", row[name], wanted=True)


def _transfer(r: Results) -> Iterator[Claim]:
    for key in paper.TABLE2_PAIRS:
        for epoch in (1, 50):
            pair = (r.row("table2", key, name, epoch) for name in ("kde30", "scratch"))
            yield better(f"Table 2, {key}", f"S_KDE30 is better than B_T after {epoch} epochs", *pair)
    tuned = (r.row("table2", "svhn-mnist", name, 50) for name in ("kde30", "fine-tuned"))
    yield better("Table 2, svhn-mnist", "S_KDE30 is better than B_F after 50 epochs", *tuned)


def _unseen(r: Results) -> Iterator[Claim]:
    for key in paper.TABLE3:
        record = r.records.get(("table3", key))
        row = record["results"]["rows"]["kde30"] if record else {}
        for kind in ("one model", "ensemble"):
            text = f"networks conditioned on an unseen zoo are better than chance: {kind}"
            found = row.get(kind)
            above = "" if found is None else found["mean"] - 2 * found["std"] / found["n"] ** 0.5 > CHANCE
            yield Claim(f"Table 3, {key}", text, above, percent(found) if found else "")


def _architectures(r: Results) -> Iterator[Claim]:
    record = r.records.get(("table4", "mnist-svhn"))
    for name in ("ResCNN", "FourConv", "FourConvSkip"):
        for start in ("uniform", "default"):
            text = f"{name}: generated weights after 5 epochs are better than a start by {start} after 50"
            rows = record["results"]["rows"] if record else {}
            middle, end = [str(epoch) for epoch in record["config"]["epochs"][-2:]] if record else ("5", "50")
            generated, other = rows.get(f"{name}, generated", {}), rows.get(f"{name}, {start}", {})
            yield better("Table 4, mnist-svhn", text, generated.get(middle), other.get(end))


def _ensembles(r: Results) -> Iterator[Claim]:
    for key in sorted({"svhn", *r.keys("figure5")}):
        rows = r.records.get(("figure5", key), {"results": {"rows": {}}})["results"]["rows"]
        made = rows.get("kde30", {})
        sizes = list(made) or ["1", "15"]
        where = f"Figure 5, {key}"
        yield better(where, "generated ensembles improve with size", made.get(sizes[-1]), made.get("1"))
        real = rows.get("scratch") or rows.get("training networks", {})
        text = "a generated ensemble is better than one trained network"
        yield better(where, text, made.get(sizes[-1]), real.get("1"))


def _initializer(r: Results) -> Iterator[Claim]:
    for key in SOURCES:
        found = r.records.get(("full-schedule", key), {"results": {}})["results"]
        for start in ("init_", "init_ at strength 0.5"):
            text = f"{start} ends better than PyTorch's default, after the same full schedule"
            yield better(f"initializer, {key}", text, found.get(start), found.get("default"))
        record = r.records.get(("initializer", key))
        if record:
            rows, end = record["results"]["rows"], str(record["config"]["epochs"])
            for other in ("a checkpoint of the zoo", "average of neighbouring checkpoints"):
                for epoch, when in (("0", "before training"), (end, "at the end of the schedule")):
                    text = f"init_ is better than {other}, {when}"
                    yield better(f"initializer, {key}", text, rows["init_"][epoch], rows[other][epoch])


def _novelty(r: Results) -> Iterator[Claim]:
    for key in r.keys("novelty"):
        found = r.records["novelty", key]["results"]
        made = found["methods"][found["recommended"]]
        where, name = f"novelty, {key}", found["recommended"]
        held = found.get("real, held out")
        if held:
            text = f"{name} is at least as new as real networks held out (overlap of wrong answers not larger)"
            worse = better(where, text, made["overlap"], held["overlap"])
            holds = worse.holds is not True and (True if worse.holds is False else None)
            yield Claim(where, text, holds, worse.ours)
        curve = sorted((row["accuracy"]["mean"], row["overlap"]["mean"]) for row in found["noise"].values())
        for method, row in found["methods"].items():
            if row["accuracy"]["mean"] > CHANCE + 2 * NEAR:
                at, ours = likeness_at(curve, row["accuracy"]["mean"]), row["overlap"]["mean"]
                error = row["overlap"]["std"] / row["overlap"]["n"] ** 0.5
                text = f"{method} is newer than training networks plus noise of the same accuracy"
                shown = "no noise is as accurate" if at is None else f"overlap {ours:.2f} against {at:.2f}"
                yield Claim(where, text, None if at is None or abs(ours - at) < 2 * error else ours < at, shown)


def likeness_at(curve: list[tuple[float, float]], accuracy: float) -> float | None:
    """Overlap on a curve of (accuracy, overlap), in order, at an accuracy; None above its end.

    >>> likeness_at([(0.5, 0.2), (0.7, 0.4)], 0.6)
    0.3
    """
    if accuracy > curve[-1][0]:
        return None
    if accuracy <= curve[0][0]:
        return curve[0][1]
    upper = next(place for place, (x, _) in enumerate(curve) if x >= accuracy)
    (x0, y0), (x1, y1) = curve[upper - 1], curve[upper]
    return round(y0 + (y1 - y0) * (accuracy - x0) / max(x1 - x0, 1e-9), 5)
