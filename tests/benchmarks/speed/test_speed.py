"""Every row runs at sizes that take a moment, and the page is what the figures say. No time is judged here."""

import json
import os

import pytest
import torch

from benchmarks.speed import autoencoders, command, peers, report, zoos
from benchmarks.speed.timing import Case, Effort, interleaved, spread
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.train_autoencoder.losses import nt_xent

LONG = {"import", "umap", "scale", "zoo", "autoencoder", "init"}  # fresh processes or compilers


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in command.ROWS]
)
def test_rows_give_figures(name):
    cases = [case.to_json() for case in command.ROWS[name](Effort(runs=1, small=True))]
    assert cases
    for case in cases:
        assert case["ours"]["median"] > 0
        assert case["target"] or "compact" in case["case"]
        assert case["ratio"] is None or case["ratio"] > 0
        assert (case["floor"] is None) == (not case["reckoned"])
    assert report.section(name, {"cases": cases, **dict.fromkeys(("device", "threads", "torch", "date", "commit"), 1)})


@pytest.mark.parametrize(
    "call",
    [
        lambda *words: zoos.on_device("mnist-tuned", *words),
        lambda *words: autoencoders.on_device("compact", 4, *words),
    ],
    ids=["zoo", "autoencoder"],
)
def test_what_is_measured_on_a_gpu_runs(call):
    case = call(Effort(runs=1, small=True), torch.device("cpu")).to_json()
    assert case["ours"]["median"] > 0
    assert 0 < case["share_of_floor"] < 1
    assert case["reckoned"].endswith("of cpu")


def test_every_row_has_a_title():
    assert list(report.TITLES) == list(command.ROWS)


def test_the_page_is_what_the_figures_say():
    rows = command.rows()
    assert rows.keys() <= command.ROWS.keys()
    assert command.PAGE.read_text() == report.document(rows)


def test_a_row_replaces_only_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "JSON", tmp_path / "speed.json")
    monkeypatch.setattr(command, "ROWS", {"init": lambda effort: [Case("a", "s", spread([float(effort.runs)]))]})
    kept = {"commit": "old"}
    command.JSON.write_text(json.dumps({"rows": {"decode": kept, "init": kept}}))
    command.measure("init", Effort(runs=3))
    assert command.rows()["decode"] == kept
    assert command.rows()["init"]["cases"][0]["ours"]["median"] == 3
    assert "| a | s | 3.00 |" in capsys.readouterr().out


def test_equal_notes_are_written_once():
    cases = [
        Case(name, "s", spread([1.0]), reckoned="r", note=note).to_json()
        for name, note in (("a", "n"), ("b", "m"), ("c", "n"))
    ]
    page = report.section("zoo", {"cases": cases, **dict.fromkeys(("device", "threads", "torch", "date", "commit"), 1)})
    assert [line for line in page.splitlines() if line.startswith("- ")] == [
        "- Floor of all: r.",
        "- a; c: n.",
        "- b: m.",
    ]


def test_all_threads_are_used_whatever_the_shell_says(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    monkeypatch.setattr(command, "PAGE", tmp_path / "speed.md")
    monkeypatch.setattr(command, "JSON", tmp_path / "speed.json")
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(
        command, "measure", lambda *_: seen.append((torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]))
    )
    try:
        command.main(["--row", "init"])
        command.main(["--row", "init", "--threads", "1"])
    finally:
        torch.set_num_threads(before)
    assert seen == [(os.cpu_count(), str(os.cpu_count())), (1, "1")]


def test_ratios_and_shares_are_better_when_larger():
    four, two = spread([4.0]), spread([2.0])
    slower, faster = Case("", "s", four, two, 1.0).to_json(), Case("", "1/s", four, two, 8.0).to_json()
    assert (slower["ratio"], slower["share_of_floor"]) == (0.5, 0.25)
    assert (faster["ratio"], faster["share_of_floor"]) == (2.0, 0.5)


def test_calls_take_turns_and_the_first_turn_is_not_counted():
    turns = []
    times = interleaved({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, runs=2)
    assert "".join(turns) == "ababab"
    assert [len(found) for found in times.values()] == [2, 2]


def test_the_peers_contrast_is_ours():
    first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(peers.nt_xent(first, second), nt_xent(first, second))


def test_the_peers_views_are_permuted_and_erased():
    layout = Layout.of(cnn())
    views = peers.ItemViews(layout, 5)
    whole = torch.arange(1.0, layout.size + 1)
    pairs = [view for _ in range(20) for view in views.item(whole)]
    erased = [(view == 0).sum().item() for view in pairs]
    assert 0 < sum(count > 0 for count in erased) < len(pairs)
    assert max(erased) <= 0.33 * layout.size
    full = next(view for view, count in zip(pairs, erased, strict=True) if not count)
    assert torch.equal(full.sort().values, whole)
    assert not torch.equal(full, whole)
