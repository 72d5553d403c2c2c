"""How claims are judged: a claim holds, fails, is unclear, not measured, or not comparable.

A comparison of two populations holds if the mean is higher and a two-sided Mann-Whitney test finds p < 0.05, fails if
it is lower and p < 0.05, and is unclear otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.record import Record, Summary

CHANCE, NEAR = 0.1, 0.05  # accuracy by chance with ten classes, and how far from it still counts as near
LEARNT = 0.5  # least R² of an autoencoder that has learnt
EXPLAINED = 0.2  # R² below which two autoencoders are not compared
SCALES = {"paper": 0, "small": 1, "smoke": 2}  # the largest first


@dataclass(frozen=True)
class Claim:
    """One statement and its verdict.

    Args:
        where: table or figure, and data set.
        text: the statement.
        holds: True, False, None if unclear, "" if not measured, or the words of another verdict.
        ours: the numbers that decide it.
    """

    where: str
    text: str
    holds: bool | str | None
    ours: str = ""

    @property
    def verdict(self) -> str:
        """Return the verdict as the report writes it."""
        if isinstance(self.holds, str):
            return self.holds or "not measured"
        return {True: "holds", False: "**fails**", None: "unclear"}[self.holds]


class Results:
    """The result files of a folder, by table and key (data set, pair or source); the largest scale counts."""

    def __init__(self, folder: Path) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        read = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        found: list[Record] = [record for record in read if "config" in record]  # speed.json has another form
        for record in sorted(found, key=lambda r: -SCALES.get(r["config"].get("scale", ""), 0)):
            table, key = record["config"].get("table"), record["config"].get("key")
            if table and key:
                # Figure 5 is measured on experiments and on embedded sources of the same name.
                embedded = table == "figure5" and "zoo" not in record["config"]
                self.records[table, f"{key} (embedded)" if embedded else key] = record
            for table in ("full-schedule", "in-dataset"):  # written before results had a table and a key
                if record["name"].startswith(f"{table}-"):
                    self.records[table, record["config"]["source"]] = record

    def keys(self, table: str) -> list[str]:
        """Return the data sets, pairs or sources that a table was measured on."""
        return sorted(key for name, key in self.records if name == table)

    def results(self, table: str, key: str) -> dict[str, Any]:
        """Return the results of a record, empty if it was not measured."""
        record = self.records.get((table, key))
        return record["results"] if record else {}

    def rows(self, table: str, key: str) -> dict[str, Any]:
        """Return the rows of a record, empty if it was not measured; most hold a `Summary` for each epoch."""
        found: dict[str, Any] = self.results(table, key).get("rows", {})
        return found

    def row(self, table: str, key: str, row: str, epoch: int) -> Summary | None:
        """Return a population at one of the paper's epochs (0, 1, 25 or 50), or None if it was not measured.

        Epochs 25 and 50 stand for the last epochs of a smaller scale.
        """
        record = self.records.get((table, key))
        if record is None:
            return None
        last = record["config"]["epochs"]
        own = {25: last[1] if table == "table1" else -1, 50: last[-1]}.get(epoch, epoch)
        found: Summary | None = record["results"]["rows"].get(row, {}).get(str(own))
        return found


def mann_whitney(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return the two-sided p and CLES, the share of pairs in which `first` exceeds `second`; ties count half.

    >>> mann_whitney([2.0, 3.0], [1.0, 1.0])[1]
    1.0
    """
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(first, second, alternative="two-sided")
    return float(found.pvalue), float(found.statistic) / (len(first) * len(second))


def percent(found: Summary) -> str:
    """Write a population as "68.6 ± 6.7"."""
    return f"{100 * found['mean']:.1f} ± {100 * found['std']:.1f}"


def better(where: str, text: str, high: Summary | None, low: Summary | None) -> Claim:
    """Judge whether population `high` is better than population `low`."""
    if high is None or low is None:
        return Claim(where, text, "")
    p = mann_whitney(high["values"], low["values"])[0]
    holds = None if not p < 0.05 else high["mean"] > low["mean"]
    return Claim(where, text, holds, f"{percent(high)} against {percent(low)}, p = {p:.2g}")


def near_chance(where: str, text: str, found: Summary | None) -> Claim:
    """Judge that a population's mean is at most 5 points above chance."""
    if found is None:
        return Claim(where, text, "")
    return Claim(where, text, found["mean"] < CHANCE + NEAR, percent(found))


def above_chance(where: str, text: str, found: Summary | None) -> Claim:
    """Judge that a population's mean is more than two standard errors above chance; unclear if within two."""
    if found is None:
        return Claim(where, text, "")
    apart, error = found["mean"] - CHANCE, found["std"] / found["n"] ** 0.5
    return Claim(where, text, None if abs(apart) <= 2 * error else apart > 0, f"{percent(found)}, n = {found['n']}")


def means(*found: Summary | None) -> list[float]:
    """Return the means of the populations that were measured."""
    return [row["mean"] for row in found if row is not None]


def told(claim: Claim, *accuracies: float) -> Claim:
    """Make a comparison unclear if no mean accuracy reaches 20 %, because populations near chance hardly differ."""
    if claim.holds == "" or any(mean >= CHANCE + 2 * NEAR for mean in accuracies):
        return claim
    return replace(claim, holds=None, ours=f"{claim.ours}; no verdict, near chance")


def without_lwln(r: Results, key: str, claim: Claim) -> Claim:
    """Make a comparison with the autoencoder without LWLN "not comparable" if that one has learnt nothing."""
    record = r.records.get(("figures-weights", key))
    learnt = max(record["results"]["plain"]["r2, trained on"].values()) if record else None
    if claim.holds == "" or learnt is None or learnt >= LEARNT:
        return claim
    words = f"without LWLN R² is {learnt:.2f} on its training networks, 0.70 in the paper"
    return replace(claim, holds="not comparable", ours=f"{claim.ours}; {words}")


def after(epochs: int) -> str:
    """Write "after 1 epoch" or "after 25 epochs".

    >>> after(1), after(25)
    ('after 1 epoch', 'after 25 epochs')
    """
    return f"after {epochs} epoch{'s' * (epochs != 1)}"


def explains(where: str, text: str, high: float | None, low: float | None) -> Claim:
    """Judge whether R² `high` is above `low`; no spread is known. Unclear if neither reaches 0.2."""
    if high is None or low is None:
        return Claim(where, text, "")
    words = f"R² {high:.2f} against {low:.2f}"
    if max(high, low) < EXPLAINED:
        return Claim(where, text, None, f"{words}; no verdict, little is reconstructed")
    return Claim(where, text, high > low, words)
