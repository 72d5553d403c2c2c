"""Claims of the paper's Figures 2, 3, 5, 6, 9 and 10.

Figure 11 (latents lie on a shell) is drawn but not judged. In some hundred dimensions, any latents with independent
coordinates do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.report import published
from benchmarks.report.claims.judging import Claim, Results, better, means, near_chance, percent, told, without_lwln

POINT = 0.01  # of accuracy; smaller changes of means count as none
CLOSE = 0.02  # of accuracy; populations within it count as equal
WORDS = {"lwln": "with LWLN", "plain": "without LWLN"}


def robustness(r: Results) -> Iterator[Claim]:
    """Figure 3: noise on latents, and interpolation between latents."""
    for key in sorted({"svhn", *r.keys("figure3")}):
        record, where = r.records.get(("figure3", key)), f"Figure 3, {key}"
        for variant, words in WORDS.items():
            found = record["results"][variant] if record else None
            noise = {float(x): row["accuracy"] for x, row in found["noise"].items()} if found else {}
            text = f"{words}: relative noise of 10 % costs less than 1 point of accuracy"
            cost = noise[0.0]["mean"] - noise[0.1]["mean"] if noise else 0.0
            shown = f"{100 * cost:.1f} points"
            yield told(Claim(where, text, cost < POINT, shown), noise[0.0]["mean"]) if noise else Claim(where, text, "")
        lwln, plain = (record["results"][variant] if record else None for variant in ("lwln", "plain"))
        text = "with LWLN: larger noise lowers accuracy (100 % against none)"
        pair = (lwln["noise"][x]["accuracy"] if lwln else None for x in ("0.0", "1.0"))
        yield better(where, text, *pair)
        for path in ("along one network's training", "between two networks"):
            yield _smooth(where, path, lwln[path] if lwln else None)
        text = "without LWLN decoded networks are all near chance"
        found = near_chance(where, text, plain["noise"]["0.0"]["accuracy"] if plain else None)
        yield without_lwln(r, key.removesuffix("-train"), found)


def _smooth(where: str, path: str, steps: dict[str, Any] | None) -> Claim:
    text = f"with LWLN: accuracy on the path {path} is nowhere more than 2 points below both ends"
    if steps is None:
        return Claim(where, text, "")
    path_means = [step["mean"] for step in steps.values()]
    lowest, end = min(path_means), min(path_means[0], path_means[-1])
    found = Claim(where, text, lowest >= end - CLOSE, f"lowest {100 * lowest:.1f}, lower end {100 * end:.1f}")
    return told(found, end)  # networks at chance cannot become worse


def ensembles(r: Results) -> Iterator[Claim]:
    """Figure 5: ensembles by size. The paper shows SVHN."""
    for key in sorted({"svhn", *r.keys("figure5")}):
        rows = r.rows("figure5", key)
        made, real = rows.get("kde30", {}), rows.get("scratch") or rows.get("training networks", {})
        last, where = (list(made) or ["15"])[-1], f"Figure 5, {key}"
        yield better(where, "generated ensembles improve with size", made.get(last), made.get("1"))
        text = "a generated ensemble of 15 is better than one trained network"
        yield better(where, text, made.get(last), real.get("1"))
        if key == "svhn":  # the paper's claims about SVHN
            plain = rows.get("kde30 without LWLN", {})
            text = "ensembles without LWLN stay below 20 %"
            most = max((found["mean"] for found in plain.values()), default=None)
            below = "" if most is None else most < published.FIGURE5["kde30 without LWLN, largest"] / 100
            found = Claim(where, text, below, "" if most is None else f"at most {100 * most:.1f}")
            yield without_lwln(r, key, found)
            text = "a generated ensemble of 15 is better than networks trained for 50 epochs from scratch"
            yield better(where, text, made.get(last), r.row("table1", key, "scratch", 50))
            text = "ensembles of 15 networks of the zoo are at most 2 points better than generated ones"
            pair = made.get(last), real.get(last)
            near = "" if None in pair else pair[1]["mean"] - pair[0]["mean"] < CLOSE
            yield Claim(where, text, near, "" if near == "" else f"{percent(pair[0])} against {percent(pair[1])}")


def pairs(r: Results) -> Iterator[Claim]:
    """Figure 6: reconstructions and originals while both are fine-tuned."""
    for key in sorted({"svhn", *r.keys("figure6")}):
        record, where = r.records.get(("figure6", key)), f"Figure 6, {key}"
        found = record["results"]["lwln"] if record else {}
        end = str(record["config"]["epochs"][1]) if record else "25"
        first, again, apart, angle = (
            found.get(kind, {}) for kind in ("original", "reconstructed", "distance", "cosine")
        )
        text = "after one epoch of fine-tuning the reconstruction is within 2 points of its original"
        near = abs(first["1"]["mean"] - again["1"]["mean"]) < CLOSE if found else ""
        yield Claim(where, text, near, f"{percent(again['1'])} against {percent(first['1'])}" if found else "")
        text = "at the end of fine-tuning the reconstruction is better than its original"
        yield better(where, text, again.get(end), first.get(end))
        text = "fine-tuning moves the two apart (distance at the end against the beginning, in hundredths)"
        yield better(where, text, apart.get(end), apart.get("0"))
        text = "fine-tuning makes the two less aligned (cosine at the beginning against the end, in hundredths)"
        yield better(where, text, angle.get("0"), angle.get(end))


def reconstruction(r: Results) -> Iterator[Claim]:
    """Figures 2, 9 and 10: weights and accuracies of reconstructions with and without LWLN."""
    for key in sorted({"svhn", *r.keys("figures-weights")}):
        record, where = r.records.get(("figures-weights", key)), f"Figures 2, 9, 10, {key}"
        plain, lwln = (record["results"][variant] if record else None for variant in ("plain", "lwln"))
        decoded = [found["accuracy"]["decoded"] if found else None for found in (lwln, plain)]
        found = better(where, "reconstructions with LWLN are better than without", *decoded)
        yield without_lwln(r, key, told(found, *means(*decoded)))
        yield without_lwln(r, key, near_chance(where, "reconstructions without LWLN are near chance", decoded[1]))
        text = "without LWLN layers 3 and 4 are reconstructed worst (R²)"
        layers = [layer["r2"] for layer in plain["layers"].values()] if plain else []
        worst = max(layers[2:4]) < min(layers[:2] + layers[4:]) if layers else ""
        yield without_lwln(r, key, Claim(where, text, worst, ", ".join(f"{value:.2f}" for value in layers)))


PARTS = (robustness, ensembles, pairs, reconstruction)
