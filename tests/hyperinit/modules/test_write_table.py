"""The table of docs/modules.md matches what `init_` does to each kind of module.

`HYPERINIT_WRITE_DOCS=1 python -m pytest tests/hyperinit/modules/test_write_table.py` writes it anew.
"""

import os
import warnings
from collections import Counter
from pathlib import Path

import module_cases as cases
import pytest
import torch
from seeds import gen

import hyperinit
from hyperinit.errors import HyperinitError
from hyperinit.fitting import apply_
from hyperinit.fitting.plan import KEPT
from hyperinit.modules.wrappers import plain, unwrapped

DOC = Path(__file__).parents[3] / "docs" / "modules.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
WAYS = ("decoded", "zero", "filled", "untouched")
FOUND: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lazy modules and old hooks, about themselves
        yield


def parameters(model):
    return {name: value.detach().clone() for name, value in plain(unwrapped(model)).named_parameters()}


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
    facts = [fact(value) for value in raw.values()]
    with torch.no_grad():
        for value in set(raw.values()):  # so that no default draw is what was there before
            value.add_(torch.rand(value.shape) / 2 + 0.25)
    before = parameters(model)
    try:
        hyperinit.init_(model, "digits", min_share=0, generator=gen())
    except HyperinitError as error:
        FOUND[title] = f"refused: {error}"
        assert all(torch.equal(value, before[name]) for name, value in parameters(model).items())
        return
    after = dict(model.named_parameters(remove_duplicate=False))
    assert [fact(value) for value in after.values()] == facts
    if "to_empty" not in title:
        assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert model(inputs).isfinite().all()
    found = observed(model, plan, before)
    assert found == {row.name: planned(row) for row in plan.rows}
    FOUND[title] = summary(found)


def fact(value):
    return id(value), value.data_ptr(), value.stride(), value.dtype, value.device, value.requires_grad


def observed(model, plan, before):
    """Count what happens to the weights of each parameter when two opposite weight vectors are written."""
    weights = hyperinit.load("digits").sample(generator=gen())[0]
    one, other = (parameters(apply_(model, plan, vector, generator=gen())) for vector in (weights, -weights))
    found = {}
    for name, value in one.items():
        rest = value == other[name]
        beside = value[rest]
        decoded = int((~rest).sum())
        zero = int((beside == 0).sum()) if decoded else 0
        way = "untouched" if torch.equal(beside, before[name][rest]) else "filled"
        found[name] = +Counter({"decoded": decoded, "zero": zero, way: len(beside) - zero})
    return found


def planned(row):
    way = "untouched" if row.rest == KEPT else "filled"
    return +Counter({"decoded": row.overlap, "zero": row.zeros, way: row.size - row.overlap - row.zeros})


def summary(found):
    total = sum(found.values(), Counter())
    text = ", ".join(f"{way} {total[way] / total.total():.0%}" for way in WAYS if total[way])
    others = [f"{name} {way}" for name, ways in found.items() for way in WAYS[2:] if ways.keys() == {way}]
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
