"""`docs/speed.md` and the table on the terminal, both from the rows of `benchmarks/results/speed.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("what", "unit", "ours", "peer", "ratio", "floor", "of it", "target")
INTRODUCTION = """# Speed

Written by `python -m benchmarks speed --report` from `benchmarks/results/speed.json`; do not edit. Measure with
`make bench`, or one row with `make bench ROW=name`.

Each figure is the median of the runs, with the least and the largest in brackets. Ours and the peer take turns in one
process on the same cores. The ratio says how many times better ours is than the peer. The floor is what arithmetic or
memory would allow on the same machine, as measured by a large matrix product and a large copy; "of it" is how much of
that is reached. Where there is no floor or no peer the cell is empty.
"""
TITLES = {
    "import": "`import hyperinit` after torch, in fresh processes",
    "init": "`init_` on the zoo's CNN; peers: `torch.nn.init` on the same module, `load_state_dict` of a file",
    "decode": "Decoding; peer: one network at a time",
    "ensemble": "An ensemble's forward pass; peer: a loop over its members",
    "zoo": "Training a zoo; peer: one plain PyTorch loop for each model, a process for each core",
    "autoencoder": "A training step of the autoencoder; peer: the same step as the authors' released code takes it",
    "augment": "Permuted and erased views; peer: item by item with Python lists of indices",
    "umap": "Draws by a map of the anchors; peer: fitting the map at each call",
    "scale": "Growth; peer: the same at the smallest size",
}


def document(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page."""
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
    """Return one line for each remark, with all cases that it is of."""
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
    """Write a number with three digits.

    >>> number(0.0012345), number(12345.6)
    ('0.00123', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def _span(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    middle = number(found["median"])
    return middle if found["n"] == 1 else f"{middle} ({number(found['least'])} to {number(found['largest'])})"
