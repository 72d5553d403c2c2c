"""Verdicts on this library's own claims: accuracy before training, and novelty."""

import pytest
from result_files import population, verdicts, write

from benchmarks.record import save
from benchmarks.report import claims, tables
from benchmarks.report.claims.judging import Results


def test_headlines_stand_against_the_best_published_figure_and_a_subset_is_not_compared(tmp_path):
    for key, accuracy in (("mnist", 0.87), ("svhn", 0.9)):
        method = {"accuracy": accuracy, "std": 0.001, "n": 50, "images": 10000}
        results = {"recommended": "local30", "methods": {"local30": method}, "zoo": population(0.9)}
        save(f"in-dataset-{key}", "python", {"source": key}, results, 0.0, tmp_path)
    assert list(verdicts(tmp_path, "headline, mnist").values()) == [True]
    assert list(verdicts(tmp_path, "headline, svhn").values()) == ["not comparable"]
    assert tables.headlines(Results(tmp_path)).rows[0][2] == "84.8 / 86.7"


@pytest.mark.parametrize(("overlap", "holds"), [(0.3, True), (0.7, False), (0.5, None)])
def test_novelty_is_judged_at_the_accuracy_of_the_method(tmp_path, overlap, holds):
    """Noise of accuracies 0.6 and 0.8 has overlaps 0.4 and 0.6: at 0.7 a method must have less than 0.5."""
    rows = {
        name: {"accuracy": population(accuracy), "overlap": population(likeness)}
        for name, accuracy, likeness in (("kde30", 0.7, overlap), ("0.1", 0.8, 0.6), ("0.5", 0.6, 0.4))
    }
    found = {"methods": {"kde30": rows.pop("kde30")}, "noise": rows, "recommended": "kde30"}
    write(tmp_path, "novelty", "digits", found)
    (claim,) = [claim for claim in claims.claims(Results(tmp_path)) if "plus noise" in claim.text]
    assert claim.holds is holds
