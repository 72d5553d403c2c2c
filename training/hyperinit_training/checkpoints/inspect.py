"""Report on a zoo of checkpoints before training on it: `hyperinit zoo inspect`.

Letters: N networks, D values per network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit_training.checkpoints.families import Families, distances, families, spread
from hyperinit_training.checkpoints.read import Checkpoints, Evaluation, Factory, build, score_of

KEPT = 0.98  # an average keeps the score if it reaches this share of its members' mean score


def inspect_zoo(
    checkpoints: Checkpoints, *, model: Factory | None = None, evaluate: Evaluation | None = None
) -> tuple[str, dict[str, Any]]:
    """Report the layout, skipped networks, copies, distances and families of a zoo, and the scores of averages.

    Args:
        checkpoints: the zoo.
        model: makes the network; required with `evaluate`.
        evaluate: returns the score of a network, higher is better. If given, it scores all networks, the average of
            each family and the average of all networks.

    Returns:
        The report as text, and the same figures as data for JSON.

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
        measured = checkpoints.evaluated(model, evaluate)  # scores in a file may come from another data set
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
    """Score the average of every family of at least 2 networks, and last the average of all networks."""
    assert checkpoints.scores is not None
    groups = [(f"family {f}", _members(found, f)) for f, size in enumerate(found.sizes) if size > 1]
    if len(found.sizes) > 1 or not groups:
        groups.append(("all", list(range(len(checkpoints)))))
    module, rows = build(model), []
    for name, members in groups:
        average = torch.zeros(checkpoints.layout.size)
        for member in members:  # one by one: indexing with a list would copy the networks
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
        f"{data['models']} models of {data['parameters']:,} parameters and {data['buffers']:,} buffer values",
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
    """Return the number and sizes of families, and how they were found."""
    sizes = found["sizes"]
    if found["gap"]:
        why = f"joined below {found['gap'][0]:.4g}, apart above {found['gap'][1]:.4g}"
    else:
        why = f"no gap in the distances; joined below {found['cut']:.4g}, the spread of one network"
    if max(sizes) == 1:
        return f"none, no two models are related ({why})"
    listed = ", ".join(map(str, sizes[:20])) + (", ..." if sizes[20:] else "")
    return f"{len(sizes)} of {listed} models ({why})"


def _verdict(rows: list[dict[str, Any]], buffers: int) -> list[str]:
    if not rows:
        return []
    lines = ["", "average of    models  members' mean  average"]
    lines += [
        f"{row['of']:12}  {row['models']:6}  {row['members_score']:13.4f}  {row['score']:7.4f}  "
        f"{'keeps the score' if row['kept'] else 'loses score'}"
        for row in rows
    ]
    if buffers:
        lines.append("Running statistics are averaged, too. Estimating them again on data may raise the score.")
    return lines
