"""Verdicts on the paper's Figures 3 and 6."""

import pytest
from result_files import population, verdicts, write


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
    assert set(verdicts(tmp_path, "Figure 3, svhn", "nowhere more than 2 points below").values()) == {holds}


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
