"""Verdicts on the paper's figures, on Table 9, and on our own headline; statistics; a report without empty tables."""

import pytest

from benchmarks.record import save, summary
from benchmarks.report import claims, document, tables
from benchmarks.report.claims.judging import Claim, Results, above_chance, explains, told, without_lwln
from benchmarks.report.tables import Table, interval


def population(mean, spread=0.01, count=20):
    return summary([mean + spread * (place - (count - 1) / 2) / count for place in range(count)])


def write(folder, table, key, results, **config):
    config = {"table": table, "key": key, "scale": "small", "epochs": [1, 25], **config}
    save(f"{table}-{key}-small", "python", config, results, 0.0, folder)


def verdicts(folder, where, words=""):
    found = claims.claims(Results(folder))
    return {claim.text: claim.holds for claim in found if claim.where == where and words in claim.text}


def noise(first, tenth, whole, path):
    levels = {"0.0": first, "0.1": tenth, "1.0": whole}
    steps = {str(step): population(accuracy) for step, accuracy in enumerate(path)}
    return {
        "noise": {level: {"accuracy": population(mean), "r2": 0.5} for level, mean in levels.items()},
        "along one network's training": steps,
        "between two networks": steps,
    }


@pytest.mark.parametrize(("tenth", "whole", "holds"), [(0.595, 0.3, True), (0.5, 0.9, False)])
def test_latents_are_robust_if_a_tenth_costs_nothing_and_much_noise_does(tmp_path, tenth, whole, holds):
    found = {"lwln": noise(0.6, tenth, whole, [0.6, 0.6]), "plain": noise(0.1, 0.1, 0.1, [0.1, 0.1])}
    write(tmp_path, "figure3", "svhn", found)
    found = verdicts(tmp_path, "Figure 3, svhn", "with LWLN: ")
    assert [found[text] for text in found if "noise" in text] == [holds] * 2
    assert verdicts(tmp_path, "Figure 3, svhn", "near chance") == {
        "without LWLN decoded networks are all near chance": True
    }


def test_latents_of_networks_at_chance_are_not_called_robust(tmp_path):
    write(tmp_path, "figure3", "svhn", dict.fromkeys(("lwln", "plain"), noise(0.15, 0.15, 0.14, [0.15, 0.15])))
    found = verdicts(tmp_path, "Figure 3, svhn")
    assert {holds for text, holds in found.items() if "10 %" in text or "path" in text} == {None}


@pytest.mark.parametrize(
    ("path", "holds"), [([0.6, 0.59, 0.7], True), ([0.6, 0.3, 0.7], False), ([0.2, 0.4, 0.7], True)]
)
def test_a_path_is_smooth_if_it_does_not_dip_below_its_ends(tmp_path, path, holds):
    both = {"lwln": noise(0.6, 0.6, 0.3, path), "plain": noise(0.1, 0.1, 0.1, path)}
    write(tmp_path, "figure3", "svhn", both)
    assert set(verdicts(tmp_path, "Figure 3, svhn", "no place on the path").values()) == {holds}


@pytest.mark.parametrize(("again", "apart", "angle", "holds"), [(0.75, 9.0, 0.2, True), (0.7, 2.0, 0.9, False)])
def test_pairs_that_are_fine_tuned(tmp_path, again, apart, angle, holds):
    rows = {
        "original": {"0": population(0.7), "1": population(0.72), "25": population(0.73)},
        "reconstructed": {"0": population(0.4), "1": population(0.71 if holds else 0.6), "25": population(again)},
        "distance": {"0": population(5.0), "25": population(apart)},
        "cosine": {"0": population(0.8), "25": population(angle)},
    }
    write(tmp_path, "figure6", "svhn", {"lwln": rows, "aligned": rows})
    found = verdicts(tmp_path, "Figure 6, svhn")
    assert list(found.values()) == [holds] * 4


def test_diverse_zoos_are_compared_by_explained_variance(tmp_path):
    rows = {
        "svhn": {"svhn": 0.8, "svhn-zoo2": 0.4, "svhn-zoo3": 0.9},
        "svhn-zoo3": {"svhn": 0.2, "svhn-zoo2": 0.9, "svhn-zoo3": 0.7},
    }
    write(tmp_path, "table9", "svhn", {"rows": rows})
    assert list(verdicts(tmp_path, "Table 9, svhn").values()) == [True, True, False, False, True]
    assert explains("", "", None, 0.5).holds == ""
    assert explains("", "", 0.19, 0.1).holds is None  # little is reconstructed by either


@pytest.mark.parametrize(("mean", "holds"), [(0.11, True), (0.09, False), (0.101, None)])
def test_better_than_chance_by_two_standard_errors(mean, holds):
    assert above_chance("", "", population(mean)).holds is holds
    assert above_chance("", "", None).verdict == "not measured"


@pytest.mark.parametrize(("high", "holds"), [(0.25, False), (0.15, None)])
def test_nothing_is_told_of_populations_near_chance(high, holds):
    claim = told(Claim("", "", holds=False), population(high), population(0.12))
    assert claim.holds is holds
    assert told(Claim("", "", ""), None).holds == ""


@pytest.mark.parametrize(("r2", "holds"), [(0.7, True), (0.0, "not comparable"), (None, True)])
def test_a_baseline_that_has_not_learnt_is_not_compared(tmp_path, r2, holds):
    if r2 is not None:
        write(tmp_path, "figures-weights", "mnist", {"plain": {"r2, trained on": {"weights": r2, "layers": -0.1}}})
    assert without_lwln(Results(tmp_path), "mnist", Claim("", "", holds=True)).holds == holds


def test_headlines_stand_against_the_best_published_figure_and_a_subset_is_not_compared(tmp_path):
    for key, accuracy in (("mnist", 0.87), ("svhn", 0.9)):
        method = {"accuracy": accuracy, "std": 0.001, "n": 50, "images": 10000}
        results = {"recommended": "local30", "methods": {"local30": method}, "zoo": population(0.9)}
        save(f"in-dataset-{key}", "python", {"source": key}, results, 0.0, tmp_path)
    assert list(verdicts(tmp_path, "headline, mnist").values()) == [True]
    assert list(verdicts(tmp_path, "headline, svhn").values()) == ["not comparable"]
    assert tables.headlines(Results(tmp_path)).rows[0][2] == "84.8 / 86.7"


def test_a_source_and_an_experiment_of_one_name_stand_side_by_side(tmp_path):
    rows = {"rows": {"kde30": {"1": population(0.5), "15": population(0.7)}}}
    write(tmp_path, "figure5", "svhn", rows, zoo={})
    save("figure5-svhn", "python", {"table": "figure5", "key": "svhn", "scale": "small"}, rows, 0.0, tmp_path)
    assert Results(tmp_path).keys("figure5") == ["svhn", "svhn (embedded)"]


def test_the_interval_of_a_median_covers_it_and_shrinks():
    few, many = ([0.5 + 0.001 * (place * 37 % 101) for place in range(count)] for count in (10, 100))
    for values in (few, many):
        middle, low, high = interval(values)
        assert low < middle < high
    assert interval(many)[2] - interval(many)[1] < interval(few)[2] - interval(few)[1]


def test_where_bca_has_no_interval_percentiles_do():
    """Leaving out any one of these values leaves the median as it is, so that BCa divides by zero."""
    assert interval([0.5] * 8 + [0.6] * 2) == pytest.approx((0.5, 0.5, 0.55))


def test_a_table_without_rows_prints_no_head():
    assert str(Table(("a", "b"), [])) == ""
    assert str(Table(("a", "b"), [], 3)) == "3 of the paper's entries are not measured."


def test_a_report_prints_no_empty_table_and_no_empty_cell_of_ours(tmp_path):
    row = dict.fromkeys(("svhn", "svhn-zoo2", "svhn-zoo3"), 0.5)
    write(tmp_path, "table9", "svhn", {"rows": {"svhn": row, "svhn-zoo3": row}})
    text = "\n\n".join(document.sections(Results(tmp_path), tmp_path / "figures"))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert blocks
    assert all(len(block) > 2 for block in blocks)
    assert "## Table 3" not in text
    assert "Table 3 (16 entries)" in text
    assert "| svhn | svhn-zoo2 | 45.7 | 50.0 | yes |" in text
