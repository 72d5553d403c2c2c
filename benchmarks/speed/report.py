"""Write the rows of `benchmarks/results/speed.json` as Markdown, for `docs/speed.md` and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("what", "unit", "ours", "peer", "ratio", "floor", "of it", "target")
INTRODUCTION = """# Speed

Written by `python -m benchmarks speed --report` from `benchmarks/results/speed.json`; do not edit. Measure with
`make bench`, or one row with `make bench ROW=name`.

Each figure is the median of the runs, with the smallest and the largest value in brackets. This library ("ours") and
the alternative ("peer") are timed in turn, in one process on the same cores. "Ratio" is how many times better ours is
than the peer. "Floor" is the best that arithmetic or memory allows on the same machine, computed from the measured
speed of a large matrix product and of a large copy. "Of it" is the share of the floor that is reached. A cell without a
peer or a floor is empty.
"""
TITLES = {
    "import": "`import hyperinit` after torch, in fresh processes",
    "init": "`init_` on the zoo's CNN; peers: `torch.nn.init` on the same module, `load_state_dict` of a file",
    "decode": "Decoding many networks at once; peer: one network at a time",
    "ensemble": "The forward pass of an ensemble; peer: a loop over its members",
    "zoo": "Training a zoo; peer: a plain PyTorch loop for each network, one process for each core",
    "resnet": "Training a residual network with random crops and flips on one core; peer: a plain float32 loop",
    "autoencoder": "A training step of the autoencoder; peer: the same step as in the authors' released code",
    "augment": "Permuted and erased views for training; peer: one network at a time with Python lists of indices",
    "umap": "Sampling by a UMAP map of the anchors; peer: fitting the map at each call",
    "scale": "Larger zoos and larger samples; peer: the smallest size",
}


def document(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *(section(name, rows[name]) for name in TITLES if name in rows)])


def section(name: str, row: Mapping[str, Any]) -> str:
    """Return one row's heading, table and notes as Markdown."""
    lines = [f"## {name}", "", TITLES[name] + ".", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [f"| {' | '.join(cells(case))} |" for case in row["cases"]]
    remarks = [*_merged("Floor of ", "reckoned", row["cases"]), *_merged("", "note", row["cases"])]
    lines += ["", *remarks, ""] if remarks else [""]
    where = f"{row['device']}, {row['threads']} threads of PyTorch {row['torch']}"
    return "\n".join([*lines, f"Measured on {row['date']} at commit `{row['commit']}`: {where}.", ""])


def _merged(before: str, field: str, cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line for each different remark, which names all its cases."""
    texts = dict.fromkeys(case[field] for case in cases if case[field])
    named = {text: [case["case"] for case in cases if case[field] == text] for text in texts}
    every = {text: "all" if 1 < len(names) == len(cases) else "; ".join(names) for text, names in named.items()}
    return [f"- {before}{names}: {text}." for text, names in every.items()]


def cells(case: Mapping[str, Any]) -> list[str]:
    """Return the cells of one figure in the order of `COLUMNS`."""
    share = "" if case["share_of_floor"] is None else f"{case['share_of_floor']:.0%}"
    return [
        case["case"], case["unit"], _span(case["ours"]), _span(case["peer"]),
        "" if case["ratio"] is None else f"{case['ratio']:.3g}",
        "" if case["floor"] is None else number(case["floor"]), share, case["target"],
    ]  # fmt: skip


def number(value: float) -> str:
    """Write a number with three significant digits.

    >>> number(0.0012345), number(12345.6)
    ('0.00123', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def _span(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    middle = number(found["median"])
    return middle if found["n"] == 1 else f"{middle} ({number(found['least'])} to {number(found['largest'])})"
