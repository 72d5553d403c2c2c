"""The rule of plain words that a program can check. CONTRIBUTING.md, under Words, has the whole rule."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AVOIDED = re.compile(
    r"\b(somebody|nobody|whoever|anybody|go(es)? on where|all the same|look before you leap|without a word)\b",
    re.IGNORECASE,
)
FOLDERS = ("hyperinit", "training", "benchmarks", "docs")
FILES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".toml")]
FILES += [ROOT / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "hubconf.py")]


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(FILES)])
def test_words_that_a_reader_must_decode_are_avoided(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"{path.name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if AVOIDED.search(line)]
    assert not found, "name the reader, the code or the data instead"


@pytest.mark.parametrize(
    ("text", "found"),
    [("a zoo that somebody trained", True), ("A run goes on where it was", True), ("a body of all the weights", False)],
)
def test_avoided_words_are_found(text, found):
    assert bool(AVOIDED.search(text)) == found
