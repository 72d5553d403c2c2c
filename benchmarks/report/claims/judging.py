"""How a claim is judged: it holds, fails, is unclear, was not measured, or cannot be compared.

A comparison of two populations holds if the mean is higher and a two-sided Mann-Whitney test finds p < 0.05, fails if
it is lower and p < 0.05, and is unclear otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CHANCE, NEAR = 0.1, 0.05  # ten classes; what counts as near
LEARNT, EXPLAINED = 0.5, 0.2  # R² of an autoencoder that has learnt, and below which nothing can be said
ORDER = {"paper": 0, "small": 1, "smoke": 2}


@dataclass(frozen=True)
class Claim:
    """One statement with its verdict: True, False, None if unclear, "" if nothing was measured, or other words."""

    where: str
    text: str
    holds: bool | str | None
    ours: str = ""

    @property
    def verdict(self) -> str:
        """Say the verdict in a word."""
        words = {True: "holds", False: "**fails**", None: "unclear", "": "not measured"}
        return words.get(self.holds, str(self.holds))  # type: ignore[call-overload,no-any-return]


class Results:
    """All result files of a folder; of several scales the largest counts."""

    def __init__(self, folder: Path) -> None:
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        found = [record for record in found if "config" in record]  # the others are of speed
        for record in sorted(found, key=lambda r: -ORDER.get(r["config"].get("scale", ""), 0)):
            table, key = record["config"].get("table"), record["config"].get("key")
            if table and key:
                both = table == "figure5" and "zoo" not in record["config"]  # of experiments and of embedded sources
                self.records[table, f"{key} (embedded)" if both else key] = record
            for table in ("full-schedule", "in-dataset"):  # written before results had a table and a key
                if record["name"].startswith(f"{table}-"):
                    self.records[table, record["config"]["source"]] = record

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
    return Claim(where, text, holds, f"{percent(high)} against {percent(low)}, p = {p:.2g}")


def near_chance(where: str, text: str, found: dict[str, Any] | None) -> Claim:
    """Check that a population's mean is at most 5 points above chance."""
    if found is None:
        return Claim(where, text, "")
    return Claim(where, text, found["mean"] < CHANCE + NEAR, percent(found))


def above_chance(where: str, text: str, found: dict[str, Any] | None) -> Claim:
    """Check that a population's mean is above chance by two standard errors; unclear within two of it."""
    if found is None:
        return Claim(where, text, "")
    apart, error = found["mean"] - CHANCE, found["std"] / found["n"] ** 0.5
    return Claim(where, text, None if abs(apart) <= 2 * error else apart > 0, f"{percent(found)}, n = {found['n']}")


def told(claim: Claim, *found: dict[str, Any] | None) -> Claim:
    """Call a comparison unclear where no population has 20 %: what is near chance cannot be told apart from it."""
    if claim.holds == "" or any(row is not None and row["mean"] >= CHANCE + 2 * NEAR for row in found):
        return claim
    return replace(claim, holds=None, ours=f"{claim.ours}; says nothing, near chance")


def without_lwln(r: Results, key: str, claim: Claim) -> Claim:
    """Call a comparison with the autoencoder without LWLN what it is where that one has learnt nothing."""
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
    """Compare two R², of which no spread is known; unclear if neither reaches 0.2."""
    if high is None or low is None:
        return Claim(where, text, "")
    words = f"R² {high:.2f} against {low:.2f}"
    if max(high, low) < EXPLAINED:
        return Claim(where, text, None, f"{words}; says nothing, little is reconstructed")
    return Claim(where, text, high > low, words)
