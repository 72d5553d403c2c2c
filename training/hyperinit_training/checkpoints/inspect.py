"""Report on a zoo of checkpoints before training on it: `hyperinit zoo inspect`.

Letters: N networks, D values per network.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError, counted, listed, one_line
from hyperinit_training.checkpoints.families import Families, distances, families, spread
from hyperinit_training.checkpoints.read import Checkpoints, Evaluation, Factory, build, own_copy, score_of

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
        "files": [
            {"name": name, "key": origin.key, "prefix": origin.prefix, "left_out": list(origin.left_out)}
            for name, origin in zip(checkpoints.names, checkpoints.origins, strict=False)
        ],
        "other_files": dict(checkpoints.other_files),
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
        average = torch.zeros(checkpoints.layout.size, dtype=torch.float32)
        for member in members:  # one by one: indexing with a list would copy the networks
            average += checkpoints.weights[member] / len(members)
        probe = checkpoints.layout.write_(own_copy(module, model), average)
        score = score_of(evaluate, probe, f"the average of {name}")
        mean = float(checkpoints.scores[members].mean())
        kept = score >= mean - (1 - KEPT) * abs(mean)
        rows.append({"of": name, "models": len(members), "members_score": mean, "score": score, "kept": kept})
    return rows


def _text(data: dict[str, Any]) -> str:
    names = [one_line(row["name"]) for row in data["layout"]]
    width = max(len("tensor"), *map(len, names))
    shapes = [" x ".join(map(str, row["shape"])) or "scalar" for row in data["layout"]]
    wide = max(len("shape"), *map(len, shapes))
    lines = [
        f"{counted(data['models'], 'model')} of {counted(data['parameters'], 'parameter')} and "
        f"{counted(data['buffers'], 'buffer value')}",
        "",
        f"{'tensor':{width}}  {'shape':{wide}}  kind",
        *[
            f"{name:{width}}  {shape:{wide}}  {row['kind']}"
            for name, row, shape in zip(names, data["layout"], shapes, strict=True)
        ],
        "",
    ]
    facts = _origins(data["files"], data["other_files"]) | {
        "left out": listed(data["left_out"]) or "no tensor",
        "NaN, inf": f"{counted(len(data['not_finite']), 'model')}, left out: {listed(data['not_finite'])}"
        if data["not_finite"]
        else "no model",
        "duplicates": listed((" = ".join(group) for group in data["duplicates"]), 10) or "none",
        "distances": _figures(data["distances"], ".4g") + " (Euclidean, between parameters)",
        "families": _families(data["families"]),
    }
    if "scores" in data:
        facts["scores"] = _figures(data["scores"], ".4f")
    lines += [f"{key:10}  {value}" for key, value in facts.items()]
    return "\n".join([*lines, *_verdict(data.get("averages", []), data["buffers"])])


def _origins(files: list[dict[str, Any]], others: dict[str, str]) -> dict[str, str]:
    """Say under which key and prefix the networks were found, and which other files were not read."""
    places = Counter(map(_place, files))
    examples = {_place(row): row["name"] for row in reversed(files)}
    lines = [
        f"{counted(count, 'file')} such as {one_line(examples[place])}: {_described(*place)}"
        for place, count in places.most_common(5)
    ]
    facts = {"taken from": "; ".join(lines)} if lines else {}
    if others:
        reasons = Counter(others.values()).most_common()
        first = {why: name for name, why in reversed(others.items())}
        facts["not read"] = "; ".join(
            f"{counted(count, 'file')} such as {one_line(first[why])}: {why}" for why, count in reasons[:5]
        )
    return facts


def _place(row: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    return row["key"], row["prefix"], tuple(row["left_out"])


def _described(key: str, prefix: str, left_out: tuple[str, ...]) -> str:
    where = f"key {one_line(key)}" if key else "the whole file"
    names = f"prefix {one_line(prefix)}" if prefix else "no prefix"
    return f"{where}, {names}{f', without {listed(left_out, 3)}' if left_out else ''}"


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
    related = [size for size in sizes if size > 1]
    alone = len(sizes) - len(related)
    beside = f", and {counted(alone, 'model')} related to no other" if alone else ""
    return f"{len(related)} of {listed(related)} models{beside} ({why})"


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
