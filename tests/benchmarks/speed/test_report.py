"""The page docs/speed.md."""

from benchmarks.speed import command, report
from benchmarks.speed.timing import Case, spread


def test_every_row_has_a_title():
    assert list(report.TITLES) == list(command.ROWS)


def test_the_committed_page_is_that_of_the_stored_rows():
    rows = command.rows()
    assert rows.keys() <= command.ROWS.keys()
    assert command.PAGE.read_text() == report.document(rows)


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
