"""Rows of speed: each runs at small sizes, is stored, and is on the page. No time is judged here."""

import json
import os

import pytest
import torch

from benchmarks.speed import autoencoders, command, report, zoos
from benchmarks.speed.timing import Case, Effort, spread

LONG = {"import", "umap", "scale", "zoo", "resnet", "autoencoder", "init"}  # fresh processes or compilers


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in command.ROWS]
)
def test_every_row_runs_and_is_on_its_page(name):
    cases = [case.to_json() for case in command.ROWS[name](Effort(runs=1, small=True))]
    assert cases
    for case in cases:
        assert case["ours"]["n"] >= 1
        assert case["ours"]["least"] <= case["ours"]["median"] <= case["ours"]["largest"]
        assert case["target"] or "compact" in case["case"]
        assert (case["peer"] is None) == (case["ratio"] is None)
        assert (case["floor"] is None) == (not case["reckoned"])
    page = report.section(name, {"cases": cases, **dict.fromkeys(("device", "threads", "torch", "date", "commit"), 1)})
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in rows[1:]] == [f"| {case['case']}" for case in cases]


@pytest.mark.parametrize(
    "call",
    [
        lambda *words: zoos.on_device("mnist-tuned", *words),
        lambda *words: autoencoders.on_device("compact", 4, *words),
    ],
    ids=["zoo", "autoencoder"],
)
def test_gpu_cases_run_on_a_device(call):
    case = call(Effort(runs=1, small=True), torch.device("cpu")).to_json()
    assert case["floor"] > 0
    assert 0 <= case["share_of_floor"] < 1  # rounded: on a busy machine to 0
    assert case["reckoned"].endswith("of cpu")


def test_a_row_replaces_only_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "JSON", tmp_path / "speed.json")
    monkeypatch.setattr(command, "ROWS", {"init": lambda effort: [Case("a", "s", spread([float(effort.runs)]))]})
    kept = {"commit": "old"}
    command.JSON.write_text(json.dumps({"rows": {"decode": kept, "init": kept}}))
    command.measure("init", Effort(runs=3))
    assert command.rows()["decode"] == kept
    assert command.rows()["init"]["cases"][0]["ours"]["median"] == 3
    assert "| a | s | 3.00 |" in capsys.readouterr().out


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
