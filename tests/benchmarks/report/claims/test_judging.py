"""Rules of verdicts: holds, fails, unclear, not measured, not comparable."""

import pytest
import torch
from result_files import population, write, write_table1

from benchmarks.record import save
from benchmarks.report.claims.judging import (
    Claim,
    Results,
    above_chance,
    better,
    mann_whitney,
    means,
    near_chance,
    told,
    without_lwln,
)


def test_mann_whitney_effect_is_the_share_of_pairs_won():
    first, second = torch.rand(2, 30, generator=torch.Generator().manual_seed(0)).tolist()
    won = sum((a > b) + (a == b) / 2 for a in first for b in second) / 900
    assert mann_whitney(first, second)[1] == pytest.approx(won)


@pytest.mark.parametrize(("high", "low", "holds"), [(0.7, 0.5, True), (0.5, 0.7, False), (0.5, 0.5, None)])
def test_a_comparison_holds_fails_or_is_unclear(high, low, holds):
    assert better("", "", population(high), population(low)).holds is holds


def test_what_is_missing_is_not_measured_and_not_failed():
    assert better("", "", population(0.7), None).verdict == "not measured"
    assert near_chance("", "", None).verdict == "not measured"


@pytest.mark.parametrize(("mean", "holds"), [(0.12, True), (0.3, False)])
def test_near_chance(mean, holds):
    assert near_chance("", "", population(mean)).holds is holds


@pytest.mark.parametrize(("mean", "holds"), [(0.11, True), (0.09, False), (0.101, None)])
def test_better_than_chance_by_two_standard_errors(mean, holds):
    assert above_chance("", "", population(mean)).holds is holds
    assert above_chance("", "", None).verdict == "not measured"


@pytest.mark.parametrize(("high", "holds"), [(0.25, False), (0.15, None)])
def test_populations_near_chance_give_no_verdict(high, holds):
    claim = told(Claim("", "", holds=False), *means(population(high), population(0.12), None))
    assert claim.holds is holds
    assert told(Claim("", "", "")).holds == ""


@pytest.mark.parametrize(("r2", "holds"), [(0.7, True), (0.0, "not comparable"), (None, True)])
def test_a_baseline_that_has_not_learnt_is_not_compared(tmp_path, r2, holds):
    if r2 is not None:
        write(tmp_path, "figures-weights", "mnist", {"plain": {"r2, trained on": {"weights": r2, "layers": -0.1}}})
    assert without_lwln(Results(tmp_path), "mnist", Claim("", "", holds=True)).holds == holds


def test_larger_scales_count(tmp_path):
    write_table1(tmp_path, "small", kde30=0.5)
    write_table1(tmp_path, "paper", kde30=0.6)
    write_table1(tmp_path, "smoke", kde30=0.1)
    assert Results(tmp_path).row("table1", "svhn", "kde30", 0)["mean"] == pytest.approx(0.6)


def test_a_source_and_an_experiment_of_one_name_stand_side_by_side(tmp_path):
    rows = {"rows": {"kde30": {"1": population(0.5), "15": population(0.7)}}}
    write(tmp_path, "figure5", "svhn", rows, zoo={})
    save("figure5-svhn", "python", {"table": "figure5", "key": "svhn", "scale": "small"}, rows, 0.0, tmp_path)
    assert Results(tmp_path).keys("figure5") == ["svhn", "svhn (embedded)"]
