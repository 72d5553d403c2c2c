"""Write docs/reliability.md from the figures of the slow tests.

HYPERINIT_RELIABILITY=benchmarks/results/reliability.json make test-slow
python -m benchmarks reliability
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.record import FOLDER, parser

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
RESULT = FOLDER / "reliability.json"
KINDS = (  # kind of fault, the rule that prevents it, and the tests that hold the rule
    (
        "a second way from a vector to tensors skips the repair",
        "`Layout.state` is the one way outside of the layout room",
        "tests/hyperinit/layout/test_layout.py",
    ),
    (
        "a subclass is taken for its base class",
        "calibration replaces the output inside the norm, so all of a subclass runs",
        "tests/hyperinit/batches/test_flow.py",
    ),
    (
        "the order of execution is taken for the flow of data",
        "calibration follows tensors",
        "tests/hyperinit/batches/test_flow.py",
    ),
    (
        "a protection covers parameters and not buffers",
        "left-out norms keep statistics and counters",
        "tests/hyperinit/batches/test_kept.py",
    ),
    (
        "an undo fails half way",
        "one backup restores all tensors, and one failure does not stop the others",
        "tests/hyperinit/batches/test_calibration_undo.py",
    ),
    (
        "a fast path has an incomplete guard, or a stale cache",
        "an allow-list is checked at each call",
        "tests/hyperinit/ensembles/test_ensemble_as_loop.py",
    ),
    (
        "a stand-in leaks into the real module",
        "copies follow all that leads to a tensor; other writes are undone",
        "tests/hyperinit/modules/test_copies.py",
    ),
    (
        "process-wide state is exchanged",
        "a generator is passed to each operator, in its thread alone",
        "tests/hyperinit/test_generators.py",
    ),
    (
        "a type is believed over the shape",
        "a layer counts if its weight has the shape that it announces",
        "tests/hyperinit/fitting/test_planner_packed.py",
    ),
    (
        "a digest is not compared",
        "size and SHA-256 are compared behind links, too",
        "tests/hyperinit/hub/test_sources.py",
    ),
    (
        "files are trusted without a digest",
        "one writer and one reader of run files",
        "tests/hyperinit_training/machine/test_run_files.py",
    ),
    (
        "a writer checks less than the reader",
        "a file is read back before it takes its place",
        "tests/hyperinit/representation/test_artifact_saving.py",
    ),
    (
        "settings of the caller leak in",
        "one context around draws, fits and training",
        "tests/hyperinit/test_api_settings.py",
    ),
    (
        "a plan is silent about the network",
        "computations are compared, and outputs on request",
        "tests/hyperinit/fitting/test_computation.py",
    ),
    (
        "foreign text meets int, URLs, JSON and files unguarded",
        "one guarded place for each",
        "tests/hyperinit/files/test_values.py",
    ),
    (
        "a server decides how much is read",
        "one bounded reader and a total deadline",
        "tests/hyperinit/hub/test_wire.py",
    ),
    (
        "secrets appear in messages",
        "addresses are masked where they become text",
        "tests/hyperinit/hub/test_address.py",
    ),
    (
        "foreign text reaches the terminal",
        "control characters are escaped",
        "tests/hyperinit/cli/test_printing.py",
    ),
)


def main(argv: list[str]) -> None:
    """Write the page."""
    made = parser("reliability", __doc__)
    made.parse_args(argv)
    PAGE.write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8")
    print(PAGE.name)


def page(figures: dict[str, Any]) -> str:
    """Return the page as Markdown.

    Args:
        figures: as `tests/support/figures.py` writes them.
    """
    dates = sorted(set(figures["dates"].values()))
    parts = [
        "# Reliability\n",
        "This page is written by `python -m benchmarks reliability` from the figures of the slow tests "
        f"({' to '.join(dict.fromkeys((dates[0], dates[-1])))}, Python {figures['python']}, torch {figures['torch']}, "
        f"{figures['system']}):\n",
        "```sh\nHYPERINIT_RELIABILITY=benchmarks/results/reliability.json make test-slow\n"
        "python -m benchmarks reliability\n```\n",
        "## Commands under faults\n",
        "Each command runs on a tiny zoo. After a fault it is given again. It must end with the result of an "
        "undisturbed run, or with an error that names the file. The columns count faults and ends: a run is killed "
        "several times before it ends, and some runs are given twice.\n",
        _table(
            ("command", "fault", "how often", "same result", "refused by name", "another result"), _commands(figures)
        ),
        "## Damaged and crafted files\n",
        "A mutant must be refused, or load and work in every use. [artifact.md](artifact.md) describes the uses and "
        "the bound on memory.\n",
        _table(("files", "mutants", "refused", "used", "some uses refused", "failures"), _fuzz(figures))
        if figures.get("fuzz")
        else "This part has not been measured yet.\n",
        "## Hostile servers\n",
        "Each reply must end in an error of this package, within the deadline, with at most 32 MiB of memory above the "
        "size that the file states, and leave no file.\n",
        _table(("way", "replies", "failures"), _servers(figures)),
        "## Kinds of faults\n",
        f"{len(KINDS)} kinds of faults were found. A rule makes each impossible or visible, and tests hold the rule.\n",
        _table(("kind", "rule", "tests"), [(kind, rule, f"`{tests}`") for kind, rule, tests in KINDS]),
    ]
    return "\n".join(parts)


def _commands(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for command, faults in figures.get("commands", {}).items():
        for fault, found in faults.items():
            counts = Counter[str]()
            for value in found.values() if fault == "flips" else [found]:
                counts.update(value)
            same = counts["same"] + counts["same when given again"]
            often = counts["moments"] or counts["limits"] or 2 * counts["rounds"] or sum(counts.values())
            refused = counts["refused"] + counts["refused without --force"]
            rows.append((command, fault, str(often), str(same), str(refused), str(counts["another"])))
    return rows


def _fuzz(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for kind, found in figures.get("fuzz", {}).items():
        outcomes = found["outcomes"]
        if kind == "costly":  # by the name of each file; those of mutants are counts
            outcomes = Counter(outcomes.values())
        known = [outcomes.get(name, 0) for name in ("refused", "loaded", "loaded, some uses refused")]
        failures = len(found["failures"]) if "failures" in found else sum(outcomes.values()) - sum(known)
        rows.append((kind, *(f"{number:,}" for number in (sum(outcomes.values()), *known, failures))))
    return rows


def _servers(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(way, str(f["replies"]), str(f["failures"])) for way, f in figures.get("servers", {}).items()]


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
