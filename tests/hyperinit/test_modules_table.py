"""The table of docs/modules.md is what happens: each kind of module is made, planned, initialised and looked at.

`HYPERINIT_WRITE_DOCS=1 python -m pytest tests/hyperinit/test_modules_table.py` writes it anew.
"""

import importlib.util
import os
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

import hyperinit
from hyperinit.errors import HyperinitError
from hyperinit.views import plain, unwrapped

SPEC = importlib.util.spec_from_file_location("module_cases", Path(__file__).with_name("module_cases.py"))
cases = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cases)

DOC = Path(__file__).parents[2] / "docs" / "modules.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
WAYS = ("decoded", "zero", "filled", "untouched")
FOUND: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lazy modules and old hooks, about themselves
        yield


def parameters(model):
    return dict(plain(unwrapped(model)).named_parameters())


@pytest.mark.parametrize("title", cases.CASES)
def test_a_module_is_what_it_was_but_for_its_weights(title):
    """Identity, dtype, device, grad flags, ties and buffers stay; what the plan leaves alone stays; the rest is new."""
    torch.manual_seed(0)
    make, inputs = cases.CASES[title]
    model = make()
    raw = dict(model.named_parameters(remove_duplicate=False))
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    try:
        plan = hyperinit.plan(model, "digits")
    except HyperinitError as error:
        FOUND[title] = f"refused: {error}"
        return
    before = {name: value.detach().clone() for name, value in parameters(model).items()}
    facts = [(id(value), value.dtype, value.device, value.requires_grad) for value in raw.values()]
    try:
        hyperinit.init_(model, "digits", min_share=0, generator=torch.Generator().manual_seed(0))
    except HyperinitError as error:
        FOUND[title] = f"refused: {error}"
        assert all(torch.equal(value, before[name]) for name, value in parameters(model).items())
        return
    after = dict(model.named_parameters(remove_duplicate=False))
    assert [(id(value), value.dtype, value.device, value.requires_grad) for value in after.values()] == facts
    for row in plan.rows:
        same = torch.equal(parameters(model)[row.name], before[row.name])
        assert same == (row.origin == "untouched") or (row.rest == "default draw" and not row.overlap), row.name
    if "to_empty" not in title:
        assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert model(inputs).isfinite().all()
    FOUND[title] = summary(plan)


def summary(plan):
    parts = Counter()
    for row in plan.rows:
        parts["decoded"] += row.overlap
        parts["zero"] += row.zeros
        parts["untouched" if row.rest == "kept" else "filled"] += row.size - row.overlap - row.zeros
    text = ", ".join(f"{way} {parts[way] / plan.size:.0%}" for way in WAYS if parts[way])
    others = [f"{row.name} {row.origin}" for row in plan.rows if row.origin in ("filled", "untouched")]
    return f"{text}" + (f" ({', '.join(others)})" if others else "")


def test_the_table_in_the_docs_is_this_one():
    if FOUND.keys() != cases.CASES.keys():
        pytest.skip("needs the cases above in the same process")
    rows = [f"| {title} | {FOUND[title]} |" for title in cases.CASES]
    table = "\n".join(["| module | what `init_` does from `digits` |", "|---|---|", *rows, ""])
    text = DOC.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    if os.environ.get("HYPERINIT_WRITE_DOCS"):
        DOC.write_text(head + BEGIN + table + END + rest.split(END)[1], encoding="utf-8")
    else:
        assert rest.split(END)[0] == table
