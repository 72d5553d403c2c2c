"""What a folder of checkpoints holds, before anything is trained on it: `hyperinit zoo inspect`.

Letters: N networks, D values per network.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.factories import load_callable, load_factory
from hyperinit_training.checkpoints import Checkpoints, Evaluation, Factory, build, read_checkpoints, score_of

CHUNK = 1 << 22  # values in float64 at a time: 32 MB
ROUNDING = 1e-13  # squared distances below this share of the squared lengths are rounding: the networks are equal
GAP = 1.3  # how much longer the distances between families must at least be than those within
KEPT = 0.98  # share of its members' mean score that an average must reach


def distances(checkpoints: Checkpoints) -> Tensor:
    """Euclidean distances between the networks' parameters, without buffers; float64 (N, N).

    Columns are taken in chunks, so that no second copy of the zoo is made.
    """
    count = len(checkpoints)
    products = torch.zeros(count, count, dtype=torch.float64)
    for part in _parameters(checkpoints):
        for chunk in part.split(max(1, CHUNK // count), dim=1):
            centred = chunk.double() - chunk[0].double()  # what all have in common would cost digits below
            products += centred @ centred.T
    own = products.diagonal()
    both = own[:, None] + own
    squares = both - products - products.T
    return torch.where(squares > ROUNDING * both, squares, 0).sqrt()


def _parameters(checkpoints: Checkpoints) -> Iterator[Tensor]:
    """Columns of each parameter, (N, size)."""
    slices = checkpoints.layout.slices
    return (checkpoints.weights[:, slices[t.name]] for t in checkpoints.layout.tensors if t.size and not t.buffer)


def spread(checkpoints: Checkpoints) -> float:
    """Root mean square length of a network whose tensors are each centred by their own mean.

    Independent networks are sqrt(2) spreads apart; a network's mean scale and shift say nothing of its origin.
    """
    squares = [part.var(dim=1, correction=0).double().mean() * part.shape[1] for part in _parameters(checkpoints)]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


@dataclass(frozen=True)
class Families:
    """Groups of networks that lie nearer to each other than to the rest.

    Args:
        labels: number of each network's family, int64 (N,); from the largest on.
        cut: distance below which networks are joined.
        gap: the distances below and above `cut` at which groups join, if there is a gap between them.
    """

    labels: Tensor
    cut: float
    gap: tuple[float, float] | None

    @property
    def sizes(self) -> list[int]:
        """Number of networks in each family, falling."""
        return self.labels.bincount().tolist()


def families(matrix: Tensor, unit: float) -> Families:
    """Find families by joining the nearest groups, by mean distance, up to the widest gap.

    The gap must be a factor of 1.3, and at least a quarter of the joins must lie below it, so that a few copies are no
    families. Without such a gap, networks nearer than `unit` are joined: all of one family, or none of many seeds.

    Args:
        matrix: distances, (N, N), N >= 2.
        unit: see `spread`.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(matrix.numpy(), checks=False), "average")
    heights = torch.from_numpy(tree[:, 2].copy())
    below, above = heights[:-1], heights[1:]
    joined = torch.arange(1, len(heights))  # how many joins lie below each gap
    allowed = (above > GAP * below) & (joined >= (len(heights) + 1) / 4)
    gap, cut = None, unit
    if allowed.any():
        place = torch.where(allowed, above - below, 0).argmax()
        gap = (float(below[place]), float(above[place]))
        cut = sum(gap) / 2
    found = fcluster(tree, cut, "distance").tolist()
    counts = Counter(found)
    order = sorted(counts, key=lambda family: -counts[family])  # of equal ones, the first network's comes first
    return Families(torch.tensor([order.index(family) for family in found]), cut, gap)


def inspect_zoo(
    checkpoints: Checkpoints, *, model: Factory | None = None, evaluate: Evaluation | None = None
) -> tuple[str, dict[str, Any]]:
    """Describe a zoo: layout, networks left out, copies, distances, families, and what their averages are worth.

    Args:
        checkpoints: the zoo.
        model: makes the network; needed to evaluate.
        evaluate: gives a network's score, higher is better; if given, all networks and averages of them are scored.

    Returns:
        The text for people, and the same as plain data.

    Raises:
        ArgumentError: if `evaluate` comes without `model`.
        ZooError: if an evaluation fails.
    """
    if evaluate is not None and model is None:
        raise ArgumentError("evaluate needs a model, got none")
    matrix = distances(checkpoints)
    found = families(matrix, spread(checkpoints))
    pairs = matrix[tuple(torch.triu_indices(len(matrix), len(matrix), offset=1))]
    layout = checkpoints.layout
    rows = [
        {"name": t.name, "shape": list(t.shape), "kind": "buffer" if t.buffer else "parameter"} for t in layout.tensors
    ]
    data: dict[str, Any] = {
        "models": len(checkpoints),
        "parameters": int((~layout.is_buffer).sum()),
        "buffers": int(layout.is_buffer.sum()),
        "layout": rows,
        "left_out": list(layout.left_out),
        "not_finite": list(checkpoints.skipped),
        "duplicates": [list(group) for group in checkpoints.duplicates],
        "distances": _summary(pairs),
        "families": {
            "count": len(found.sizes), "sizes": found.sizes, "cut": found.cut,
            "gap": found.gap and list(found.gap),
            "members": [[checkpoints.names[i] for i in _members(found, f)] for f in range(len(found.sizes))],
        },
    }  # fmt: skip
    if model is not None and evaluate is not None:
        measured = checkpoints.evaluated(model, evaluate)  # scores of a file may come from other data
        data["averages"] = _averages(measured, found, model, evaluate)
        checkpoints = measured if checkpoints.scores is None else checkpoints
    if checkpoints.scores is not None:
        data["scores"] = _summary(checkpoints.scores)
    return _text(data), data


def _members(found: Families, family: int) -> list[int]:
    members: list[int] = (found.labels == family).nonzero()[:, 0].tolist()
    return members


def _summary(values: Tensor) -> dict[str, float]:
    return {"min": float(values.min()), "median": float(values.median()), "max": float(values.max())}


def _averages(checkpoints: Checkpoints, found: Families, model: Factory, evaluate: Evaluation) -> list[dict[str, Any]]:
    """Score the average of every family of at least two, and that of all networks, which comes last."""
    assert checkpoints.scores is not None
    groups = [(f"family {f}", _members(found, f)) for f, size in enumerate(found.sizes) if size > 1]
    if len(found.sizes) > 1 or not groups:
        groups.append(("all", list(range(len(checkpoints)))))
    module, rows = build(model), []
    for name, members in groups:
        average = torch.zeros(checkpoints.layout.size)
        for member in members:  # a slice by a list would copy the networks
            average += checkpoints.weights[member] / len(members)
        score = score_of(evaluate, checkpoints.layout.write_(module, average), f"the average of {name}")
        mean = float(checkpoints.scores[members].mean())
        kept = score >= mean - (1 - KEPT) * abs(mean)
        rows.append({"of": name, "models": len(members), "members_score": mean, "score": score, "kept": kept})
    return rows


def _text(data: dict[str, Any]) -> str:
    width = max(len("tensor"), *(len(row["name"]) for row in data["layout"]))
    shapes = [" x ".join(map(str, row["shape"])) or "scalar" for row in data["layout"]]
    wide = max(len("shape"), *map(len, shapes))
    lines = [
        f"{data['models']} models of {data['parameters']:,} parameters and {data['buffers']:,} values of buffers",
        "",
        f"{'tensor':{width}}  {'shape':{wide}}  kind",
        *[
            f"{row['name']:{width}}  {shape:{wide}}  {row['kind']}"
            for row, shape in zip(data["layout"], shapes, strict=True)
        ],
        "",
    ]
    facts = {
        "left out": ", ".join(data["left_out"]) or "no tensor",
        "NaN, inf": f"{len(data['not_finite'])} models, left out: {', '.join(data['not_finite'])}"
        if data["not_finite"]
        else "no model",
        "duplicates": "; ".join(" = ".join(group) for group in data["duplicates"]) or "none",
        "distances": _figures(data["distances"], ".4g") + " (Euclidean, between parameters)",
        "families": _families(data["families"]),
    }
    if "scores" in data:
        facts["scores"] = _figures(data["scores"], ".4f")
    lines += [f"{key:10}  {value}" for key, value in facts.items()]
    return "\n".join([*lines, *_verdict(data.get("averages", []), data["buffers"])])


def _figures(row: dict[str, float], style: str) -> str:
    return ", ".join(f"{key} {value:{style}}" for key, value in row.items())


def _families(found: dict[str, Any]) -> str:
    """Say how many there are, how large, and why."""
    sizes = found["sizes"]
    if found["gap"]:
        why = f"joined below {found['gap'][0]:.4g}, apart above {found['gap'][1]:.4g}"
    else:
        why = f"no gap in the distances; joined below {found['cut']:.4g}, the spread of one network"
    if max(sizes) == 1:
        return f"none, every model is alone ({why})"
    listed = ", ".join(map(str, sizes[:20])) + (", ..." if sizes[20:] else "")
    return f"{len(sizes)} of {listed} models ({why})"


def _verdict(rows: list[dict[str, Any]], buffers: int) -> list[str]:
    if not rows:
        return []
    lines = ["", "average of    models  members' mean  average"]
    lines += [
        f"{row['of']:12}  {row['models']:6}  {row['members_score']:13.4f}  {row['score']:7.4f}  "
        f"{'keeps the score' if row['kept'] else 'loses it'}"
        for row in rows
    ]
    if buffers:
        lines.append("Running statistics are averaged as they are; estimated again, they may give a higher score.")
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `hyperinit zoo inspect` takes."""
    parser.add_argument("source", metavar="DIR", help="folder, glob pattern in quotes, or .txt file of paths")
    parser.add_argument("--model", metavar="MODULE:FACTORY", help="importable callable that makes the network")
    parser.add_argument("--evaluate", metavar="MODULE:FUNCTION", help="gives a network's score; needs --model")
    parser.add_argument("--scores", metavar="FILE", help=".csv or .json of file, score, epoch; default DIR/scores.csv")


def answer(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Read and describe the zoo that the arguments name; models with NaN are named and left out."""
    model = load_factory(arguments.model) if arguments.model else None
    evaluate = load_callable(arguments.evaluate) if arguments.evaluate else None
    if evaluate is not None and model is None:
        raise ArgumentError("--evaluate needs --model, got none")
    found = read_checkpoints(arguments.source, model=model, scores=arguments.scores, skip_bad=True)
    return inspect_zoo(found, model=model, evaluate=evaluate)
