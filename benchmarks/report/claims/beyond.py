"""Claims of this library alone: accuracy compared with later work, use as an initialiser, novelty."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, stdev
from typing import Any

from benchmarks.record import BARE, SOURCES
from benchmarks.report import published
from benchmarks.report.claims.judging import CHANCE, NEAR, Claim, Results, after, better


def headlines(r: Results) -> Iterator[Claim]:
    """Compare the embedded sources before training with the best published generated weights of this CNN."""
    for key, figures in published.SANE.items():
        theirs, where = max(figures), f"headline, {key}"
        text = f"before training, generated networks are better than the best published ones of this CNN ({theirs} %)"
        record = r.records.get(("in-dataset", key))
        if record is None:
            yield Claim(where, text, "")
            continue
        method = record["results"]["recommended"]
        found = record["results"]["methods"][method]
        ours = f"{100 * found['accuracy']:.1f} ± {100 * found['std']:.1f} by {method}, {found['images']} images"
        above = 100 * (found["accuracy"] - 2 * found["std"] / found["n"] ** 0.5) > theirs
        yield Claim(where, text, "not comparable" if key in published.SUBSETS else above, ours)


def initializers(r: Results) -> Iterator[Claim]:
    """Compare `init_` with PyTorch's default, a checkpoint and an average, up to the end of the schedule."""
    for key in SOURCES:
        found = r.results("full-schedule", key)
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


def others(r: Results) -> Iterator[Claim]:
    """Compare initialisations of other architectures after the first epoch and the last."""
    for key in r.keys("initializer-other"):
        record = r.records["initializer-other", key]
        last = str(record["config"]["epochs"][-1])
        for network, rows in record["results"]["rows"].items():
            for start in ("init_", "init_ at strength 0.5"):
                for epoch in ("1", last):
                    text = f"{network}: {start} is better than PyTorch's default {after(int(epoch))}"
                    pair = rows[start][epoch], rows["PyTorch's default"][epoch]
                    yield better(f"initializer elsewhere, {key}", text, *pair)
            if BARE in rows:
                text = f"{network}: init_ is better than without calibrate after 1 epoch"
                yield better(f"initializer elsewhere, {key}", text, rows["init_"]["1"], rows[BARE]["1"])


def novelty(r: Results) -> Iterator[Claim]:
    """Compare generated networks with held-out ones, and with training networks plus noise of the same accuracy."""
    for key in r.keys("novelty"):
        found = r.records["novelty", key]["results"]
        made = found["methods"][found["recommended"]]
        where, name = f"novelty, {key}", found["recommended"]
        held = found.get("real, held out")
        if held:
            text = f"{name} is at least as new as held-out real networks (overlap of wrong answers not larger)"
            worse = better(where, text, made["overlap"], held["overlap"])
            holds = worse.holds is not True and (True if worse.holds is False else None)
            yield Claim(where, text, holds, worse.ours)
        curve = sorted((row["accuracy"]["mean"], row["overlap"]["mean"]) for row in found["noise"].values())
        for method, row in found["methods"].items():
            if row["accuracy"]["mean"] > CHANCE + 2 * NEAR:
                yield _newer(where, method, row, curve)


def _newer(where: str, method: str, row: dict[str, Any], curve: list[tuple[float, float]]) -> Claim:
    """Compare each network with noise of its own accuracy, because means would mix good networks with bad ones."""
    text = f"{method} is newer than training networks plus noise of the same accuracy, network by network"
    pairs = zip(row["accuracy"]["values"], row["overlap"]["values"], strict=True)
    found = [(ours, at) for accuracy, ours in pairs if (at := likeness_at(curve, accuracy)) is not None]
    if len(found) < row["overlap"]["n"] / 2:
        return Claim(where, text, None, "no noise is as accurate as most of its networks")
    apart = [ours - at for ours, at in found]
    error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("inf")
    ours, at = (fmean(values) for values in zip(*found, strict=True))
    words = f"overlap {ours:.2f} against {at:.2f}, {len(found)} networks"
    return Claim(where, text, None if abs(fmean(apart)) <= 2 * error else ours < at, words)


def likeness_at(curve: list[tuple[float, float]], accuracy: float) -> float | None:
    """Interpolate the overlap at an accuracy on a sorted curve of (accuracy, overlap); None above its end.

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


PARTS = (headlines, initializers, others, novelty)
