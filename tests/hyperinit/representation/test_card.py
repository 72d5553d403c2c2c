"""The card prints its fields and refuses damaged ones."""

import dataclasses
import json
import re

import pytest

from hyperinit.errors import ArtifactError
from hyperinit.representation.card import FIGURES, LEGEND, ROWS, Card, table
from hyperinit.samplers import METHODS


@pytest.fixture
def card(tiny):
    return tiny.card


def test_a_whole_card_is_accepted_also_through_json(card):
    card.check()
    again = Card(**json.loads(json.dumps(dataclasses.asdict(card))))
    again.check()
    assert again == card


def test_the_text_names_every_fact(card):
    text = str(card)
    for line in (
        "source       tiny - an untrained source for tests",
        "licence      MIT",
        "citation     nobody",
        "images       1 x 28 x 28, normalised with mean [0.5] and std [0.25]",
        "zoo          25 networks on 100 images of noise, 20 of them anchors; made 2024-01-01",
        "recommended  kde30; strength 1 for this task, 0.5 for another",
    ):
        assert line in text.splitlines()
    assert text.endswith(LEGEND)
    assert table(card.measured) in text


def test_the_table_has_every_row_best_first(card):
    lines = table(card.measured).splitlines()[1:]
    assert {line.split()[0] for line in lines} == {*METHODS, *ROWS}
    accuracies = [float(re.search(r"([\d.]+)% \+-", line)[1]) for line in lines]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(set(accuracies)) > 1


def test_rows_that_are_no_method_are_explained(card):
    text = table(card.measured)
    for name, meaning in ROWS.items():
        assert re.search(rf"^{name} .*\({re.escape(meaning)}\)$", text, re.MULTILINE)
    assert re.search(r"^kde30 .*\d$", text, re.MULTILINE)


def test_a_card_without_figures_still_prints(card):
    text = str(dataclasses.replace(card, measured={}, zoo={}, preprocessing={}))
    assert text.startswith("source       tiny")
    assert text.endswith("recommended  kde30; strength 1 for this task, 0.5 for another")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": None}, "^card fields of a wrong type: title$"),
        ({"source": 1, "zoo": [], "measured": "a"}, "^card fields of a wrong type: source, zoo, measured$"),
        ({"recommended": "kde31"}, "^the recommended method 'kde31' is unknown to this version of hyperinit$"),
        ({"measured": {"kde": 0.9}}, f"^the figures of 'kde' must be the numbers {', '.join(FIGURES)}$"),
        ({"measured": {"kde": {"accuracy": 0.9}}}, "^the figures of 'kde'"),
        ({"measured": {"kde": dict.fromkeys([*FIGURES, "more"], 1)}}, "^the figures of 'kde'"),
        ({"measured": {"kde": dict.fromkeys(FIGURES, "1")}}, "^the figures of 'kde'"),
        ({"measured": {"kde": dict.fromkeys(FIGURES, True)}}, "^the figures of 'kde'"),
        ({"measured": {"kde": dict.fromkeys(FIGURES)}}, "^the figures of 'kde'"),
        ({"measured": {"kde": dict.fromkeys(FIGURES, 2)}}, r"^the accuracy of 'kde' must lie in \[0, 1\], got 2$"),
        (
            {"measured": {"kde": dict.fromkeys(FIGURES, 0) | {"distance": 1e13}}},
            r"^the distance .* \[0, 1e\+12\], got 1",
        ),
        ({"measured": {"kde": dict.fromkeys(FIGURES, 0) | {"n": -1}}}, r"^the n of 'kde' must lie in .*, got -1$"),
        ({"preprocessing": {"size": "28"}}, "^card field preprocessing.size must be an integer .*, got '28'$"),
        ({"preprocessing": {"std": [0.5, "a"]}}, "^card field preprocessing.std must be a list of numbers, got"),
        ({"zoo": {"models": -1}}, "^card field zoo.models must be an integer of at least 0, got -1$"),
        ({"zoo": {"date": "2024\nlicence"}}, r"^card field zoo.date must be text, got '2024\\nlicence'$"),
        ({"zoo": {"images": {"name": "a\tb"}}}, r"^card field zoo.images.name must be text, got 'a\\tb'$"),
        ({"source": "a\nb"}, "^card field source must be one line without control characters, got 'a"),
        ({"licence": "a\x1bb"}, "^card field licence must be one line without control characters, got 'a"),
        ({"zoo": {"date": 2024}}, "^card field zoo.date must be text, got 2024$"),
        ({"zoo": {"images": {"name": []}}}, r"^card field zoo.images.name must be text, got \[\]$"),
    ],
)
def test_damaged_cards_are_refused(card, changes, message):
    with pytest.raises(ArtifactError, match=message):
        dataclasses.replace(card, **changes).check()


def test_a_card_that_passes_the_check_prints(card):
    damaged = dataclasses.replace(card, zoo={"images": None})
    try:
        damaged.check()
    except ArtifactError:
        return
    assert "zoo" in str(damaged)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([30], "30 checkpoints in families of 30;"),
        ([10, 5, 1, 1], "30 checkpoints in families of 10, 5 and 2 alone;"),
        ([1] * 30, "30 checkpoints of which no two are related;"),
        ([2] * 40, f"30 checkpoints in families of {', '.join(['2'] * 20)} and 20 more;"),
    ],
)
def test_families_are_summed_up(card, sizes, words):
    zoo = {"models": 30, "families": sizes, "notes": [f"note {number}" for number in range(30)]}
    text = str(dataclasses.replace(card, zoo=zoo))
    assert words in text
    assert "note 8; note 9; and 20 other notes" in text


def test_a_verdict_that_the_source_is_not_usable_is_found(card):
    assert card.unusable == ""
    verdict = ["Not usable as it is: samples by kde score 0.2.", "Try more networks."]
    assert dataclasses.replace(card, zoo=card.zoo | {"verdict": verdict}).unusable == verdict[0]
    assert dataclasses.replace(card, zoo=card.zoo | {"verdict": ["Usable: samples score 0.9."]}).unusable == ""
    assert dataclasses.replace(card, zoo=card.zoo | {"verdict": "no list"}).unusable == ""


def test_the_inputs_are_told_in_one_line_if_all_of_them_are_known(card):
    assert card.inputs == "1 x 28 x 28, normalised with mean [0.5] and std [0.25]"
    assert dataclasses.replace(card, preprocessing={}).inputs == ""
    assert dataclasses.replace(card, preprocessing=card.preprocessing | {"mean": None}).inputs == ""
