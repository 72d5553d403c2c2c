import json
from dataclasses import replace

import pytest
import torch

from hyperinit.representation import HyperRepresentation
from hyperinit.representation.card import ROWS
from hyperinit.samplers import METHODS, SamplerOptions, gan
from hyperinit_training.measure import yardstick
from hyperinit_training.measure.yardstick import Yardstick, figures, mistakes
from hyperinit_training.sources.choose import CANDIDATES, MARGIN, finish
from hyperinit_training.sources.from_recipe import assemble_recipe

MEASURED = METHODS.keys() - {"neigh30"}  # a map needs five anchors, and the best 30 % of twelve are four


@pytest.fixture(autouse=True)
def _gans_are_trained_for_one_epoch(monkeypatch):
    monkeypatch.setattr(gan, "EPOCHS", 1)


def test_a_finished_card_has_figures_of_every_method_and_of_the_zoo(finished):
    card = finished.card
    assert set(card.measured) == {*MEASURED, *ROWS}
    assert finished.methods().keys() == MEASURED
    assert card.recommended in CANDIDATES
    assert {name: card.measured[name]["n"] for name in ("kde", "zoo", "zoo-held-out")} == {
        "kde": 12, "zoo": 12, "zoo-held-out": 3,
    }  # fmt: skip
    assert {row["images"] for row in card.measured.values()} == {120}
    card.check()


def test_generated_networks_work_and_chance_does_not(finished):
    """Negative control: `uniform` is measured by the same code."""
    measured = finished.card.measured
    assert measured["kde30"]["accuracy"] > measured["zoo"]["accuracy"] - 0.1
    assert measured["uniform"]["accuracy"] < measured["kde30"]["accuracy"] - 0.2
    assert (measured["zoo"]["distance"], measured["zoo"]["overlap"]) == (0, 1)


def test_the_figures_are_those_of_networks_drawn_with_the_stated_seed(finished, prepared, digits):
    data, train = digits.normalised("test"), prepared.part("train").weights
    drawn = finished.sample(12, method="local", generator=torch.Generator().manual_seed(0))
    expected = figures(drawn, mistakes(drawn, data), train, mistakes(train, data))
    assert finished.card.measured["local"] == expected


def test_a_finished_representation_survives_its_file(finished, tmp_path):
    finished.save(tmp_path / "tiny.safetensors")
    loaded = HyperRepresentation.read(tmp_path / "tiny.safetensors")
    assert loaded.card == finished.card
    assert loaded.states.keys() == {"gan", "gan30"}
    drawn = [hr.sample(3, method="gan", generator=torch.Generator().manual_seed(0)) for hr in (finished, loaded)]
    torch.testing.assert_close(*drawn, rtol=0, atol=0.02)
    assert json.loads(json.dumps(loaded.card.measured)) == finished.card.measured
    torch.testing.assert_close(loaded.anchors.z, finished.anchors.z, rtol=0, atol=1e-3)


@pytest.mark.usefixtures("_global_generator_unmoved")
def test_test_images_decide_nothing(assembled, finished, prepared, poisoned, capsys):
    """With noise for test images all figures change, and no choice does."""
    other = finish(assembled, prepared, poisoned, draws=12)
    assert "neigh30 is not measured: it needs more than 12 training snapshots" in capsys.readouterr().err
    assert other.card.recommended == finished.card.recommended
    assert other.header.samplers == finished.header.samplers
    assert other.card.measured["kde"]["accuracy"] < 0.3 < finished.card.measured["kde"]["accuracy"]


# The rules of choice, on figures made up for them


ORDER = {name: float(index) for index, name in enumerate(METHODS)}


@pytest.fixture
def made_up(assembled, prepared, digits, monkeypatch):
    """`finish` on validation figures given as {method: (accuracy, overlap)}; 0.5 and 0.5 for other methods."""

    def recommended(table, test_table=None):
        stages = []

        def measure(yardstick, weights):
            name = list(METHODS)[int(weights[0, 0])] if len(weights) == 1 else "other"
            is_val = len(yardstick.data[1]) == len(digits.y_val)
            stages.append(is_val)
            accuracy, overlap = (table if is_val else test_table or table).get(name, (0.5, 0.5))
            zero = {"std": 0.0, "n": 1, "images": 1, "distance": 0.0, "diversity": 0.0}
            return {"accuracy": accuracy, "overlap": overlap, **zero}

        def sample(self, count, *, method=None, generator=None):
            return torch.full((1, self.layout.size), ORDER[method])

        monkeypatch.setattr(Yardstick, "measure", measure)
        monkeypatch.setattr(HyperRepresentation, "sample", sample)
        fixed = replace(assembled.header, samplers=SamplerOptions(bandwidth=0.05))
        representation = HyperRepresentation(fixed, assembled.autoencoder, assembled.anchors)
        return finish(representation, prepared, digits).card.recommended

    return recommended


def test_the_most_novel_of_the_accurate_is_recommended(made_up):
    novel = {"kde": (0.9, 0.8), "kde30": (0.902, 0.9), "local": (0.902 - 0.9 * MARGIN, 0.3), "local30": (0.89, 0.1)}
    assert made_up(novel) == "local"


def test_novelty_may_not_cost_more_than_the_margin(made_up):
    costly = {"kde": (0.9, 0.8), "kde30": (0.902, 0.9), "local": (0.902 - 1.1 * MARGIN, 0.3), "local30": (0.89, 0.1)}
    assert made_up(costly) == "kde"


def test_a_baseline_is_never_recommended(made_up):
    assert made_up({"noise": (1.0, 0.0), "average": (1.0, 0.0), "kde30": (0.6, 0.5)}) == "kde30"


def test_figures_on_test_images_do_not_recommend(made_up):
    val = {"kde": (0.9, 0.5), "local": (0.8, 0.1)}
    assert made_up(val, {"kde": (0.1, 0.9), "local": (0.99, 0.0)}) == "kde"


# The bandwidth


def with_accuracy(monkeypatch, accuracy_of):
    """Let `kde` have the given accuracy at each bandwidth; validation networks themselves have 0.9."""

    def wrong(share, rows=1000):
        found = torch.zeros(1, rows, dtype=torch.bool)
        found[:, round(share * rows) :] = True
        return found

    def measure(yardstick, weights):
        zero = dict.fromkeys(("std", "n", "images", "distance", "overlap", "diversity"), 0.0)
        return {"accuracy": accuracy_of(weights[0, 0].item()), **zero}

    def sample(self, count, *, method=None, generator=None):
        return torch.full((1, self.layout.size), self.header.samplers.bandwidth)

    monkeypatch.setattr(yardstick, "mistakes", lambda weights, data, activation: wrong(0.9))
    monkeypatch.setattr(Yardstick, "measure", measure)
    monkeypatch.setattr(HyperRepresentation, "sample", sample)


def test_the_widest_bandwidth_that_costs_no_accuracy_is_chosen(assembled, prepared, digits, monkeypatch):
    for limit, chosen in [(0.01, 0.02), (0.12, 0.1), (9, 0.4)]:
        with_accuracy(monkeypatch, lambda bandwidth, limit=limit: 0.897 if bandwidth < limit else 0.89)
        assert finish(assembled, prepared, digits).header.samplers.bandwidth == chosen


def test_a_bandwidth_that_the_recipe_sets_is_kept(recipe, prepared, autoencoder, digits, monkeypatch):
    with_accuracy(monkeypatch, lambda bandwidth: 0.9)
    fixed = replace(recipe, samplers=SamplerOptions(bandwidth=0.07))
    found = finish(assemble_recipe(fixed, prepared, autoencoder), prepared, digits)
    assert found.header.samplers.bandwidth == 0.07


@pytest.mark.parametrize("part", ["val", "test"])
def test_anchors_are_ranked_by_what_the_recipe_says(recipe, prepared, autoencoder, part):
    hr = assemble_recipe(replace(recipe, rank_by=part), prepared, autoencoder)
    train = prepared.part("train")
    assert hr.anchors.score.tolist() == pytest.approx([getattr(s, part) for s in train.snapshots])
    assert hr.card.zoo.get("ranked by") == (None if part == "val" else "test")
