"""Verdicts on the paper's tables and Figure 4."""

from result_files import population, verdicts, write

from benchmarks.report import claims
from benchmarks.report.claims.judging import Results, explains


def test_diverse_zoos_are_compared_by_explained_variance(tmp_path):
    rows = {
        "svhn": {"svhn": 0.8, "svhn-zoo2": 0.4, "svhn-zoo3": 0.9},
        "svhn-zoo3": {"svhn": 0.2, "svhn-zoo2": 0.9, "svhn-zoo3": 0.7},
    }
    write(tmp_path, "table9", "svhn", {"rows": rows})
    assert list(verdicts(tmp_path, "Table 9, svhn").values()) == [True, True, False, False, True]
    assert explains("", "", None, 0.5).holds == ""
    assert explains("", "", 0.19, 0.1).holds is None  # little is reconstructed by either


def test_networks_that_stay_at_the_most_frequent_class_have_not_learnt(tmp_path):
    for key, mean in (("mnist", 0.8), ("svhn", 0.2)):
        rows = {"uniform": {"180": population(mean)}}
        write(tmp_path, "uniform-start", key, {"rows": rows}, epochs=180, **{"steps of an epoch": 819})
    found = {claim.where: claim for claim in claims.claims(Results(tmp_path)) if "U(0, 1)" in claim.text}
    assert {where: claim.holds for where, claim in found.items()} == {"Table 7, mnist": True, "Table 7, svhn": False}
    assert "within 147,420 steps" in found["Table 7, svhn"].text


def test_generated_weights_halfway_are_compared_with_random_starts_at_the_end(tmp_path):
    rows = {
        "ResCNN, generated": {"5": population(0.6), "50": population(0.9)},
        "ResCNN, uniform": {"5": population(0.1), "50": population(0.5)},
        "ResCNN, default": {"5": population(0.1), "50": population(0.8)},
    }
    write(tmp_path, "table4", "mnist-svhn", {"rows": rows}, epochs=[0, 1, 5, 50])
    found = verdicts(tmp_path, "Table 4, mnist-svhn", "ResCNN")
    assert found == {
        "ResCNN: generated weights after 5 epochs are better than a uniform start after 50": True,
        "ResCNN: generated weights after 5 epochs are better than a default start after 50": False,
    }


def test_the_best_of_two_samplers_near_chance_is_unclear(tmp_path):
    for key, mean in (("mnist", 0.15), ("svhn", 0.5)):
        rows = {"kde30": {"0": population(mean + 0.03)}, "kde": {"0": population(mean)}}
        write(tmp_path, "table1", key, {"rows": rows}, epochs=[1, 25, 50])
    words = "sampling from the top 30 % is better than from all networks: kde30 against kde"
    assert verdicts(tmp_path, "Figure 4, mnist", words) == {words: None}
    assert verdicts(tmp_path, "Figure 4's claims elsewhere, svhn", words) == {words: True}
