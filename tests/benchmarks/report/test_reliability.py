"""The page on reliability says what the figures say, and names tests that exist."""

import json
from pathlib import Path

import figures

from benchmarks.report.reliability import KINDS, PAGE, RESULT, page

ROOT = Path(__file__).parents[3]
FIGURES = {
    "python": "3.11", "torch": "2.13", "system": "Linux", "dates": {"a": "2026-01-02", "b": "2026-01-01"},
    "commands": {
        "zoo": {
            "kills": {"moments": 20, "same": 26, "refused without --force": 1},
            "flips": {"block": {"refused": 6}, "weights": {"same": 4, "another": 2}},
            "full disk": {"limits": 8, "refused": 8, "same when given again": 7},
            "two processes": {"rounds": 4, "same": 5, "refused": 3},
        }
    },
    "fuzz": {
        "artifact": {"outcomes": {"refused": 90, "loaded": 8, "loaded, some uses refused": 2}, "failures": ["x"]},
        "costly": {"outcomes": {"one": "refused", "two": "loaded", "three": "crashed"}},
    },
    "servers": {"web": {"replies": 43, "failures": 2}},
}  # fmt: skip


def test_every_figure_is_in_its_row():
    found = page(FIGURES).splitlines()
    for row in [
        "| zoo | kills | 20 | 26 | 1 | 0 |",
        "| zoo | flips | 12 | 4 | 6 | 2 |",
        "| zoo | full disk | 8 | 7 | 8 | 0 |",
        "| zoo | two processes | 8 | 5 | 3 | 0 |",
        "| artifact | 100 | 90 | 8 | 2 | 1 |",
        "| costly | 3 | 1 | 1 | 0 | 1 |",
        "| web | 43 | 2 |",
    ]:
        assert row in found
    assert "(2026-01-01 to 2026-01-02, Python 3.11, torch 2.13, Linux)" in page(FIGURES)


def test_the_page_is_that_of_the_result_file():
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RESULT.read_text(encoding="utf-8")))


def test_each_kind_names_tests_that_exist():
    assert not [tests for _, _, tests in KINDS if not (ROOT / tests).exists()]


def test_figures_are_merged_with_their_dates(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    monkeypatch.setenv("HYPERINIT_RELIABILITY", str(path))
    figures.record("fuzz", "artifact", outcomes={"refused": 1})
    figures.record("servers", "web", replies=1, failures=0)
    figures.record("fuzz", "artifact", outcomes={"loaded": 2})
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["fuzz"] == {"artifact": {"outcomes": {"loaded": 2}}}
    assert found["dates"].keys() == {"fuzz/artifact", "servers/web"}
