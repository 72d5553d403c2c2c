from dataclasses import replace

import pytest

from hyperinit.errors import ArtifactError, LayoutError
from hyperinit.representation import HyperRepresentation
from hyperinit_training.measure.verify import agreement


def with_card(representation, **changes):
    header = replace(representation.header, card=replace(representation.card, **changes))
    return representation.with_header(header)


def tampered(representation, name, points):
    measured = {key: dict(row) for key, row in representation.card.measured.items()}
    measured[name]["accuracy"] += points / 100
    return with_card(representation, measured=measured)


def verdicts(text):
    """Method to "agrees" or "DIFFERS"."""
    lines = [line.split() for line in text.splitlines() if " measured " in line]
    return {words[0]: words[-1] for words in lines}


@pytest.mark.parametrize("saved", [False, True])
def test_a_card_just_measured_agrees(finished, digits_file, tmp_path, saved):
    """Also after the file's half precision, and although the draws are others."""
    if saved:
        finished.save(tmp_path / "tiny.safetensors")
        finished = HyperRepresentation.read(tmp_path / "tiny.safetensors")
    text, data = agreement(finished, digits_file, 12)
    assert not data["disagree"], text
    assert set(verdicts(text).values()) == {"agrees"}
    assert {"zoo", "kde30", "uniform"} <= set(verdicts(text))


@pytest.mark.parametrize(("name", "points"), [("zoo", 0.3), ("zoo", -0.3), ("noise", 5), ("noise", -5)])
def test_a_figure_that_was_changed_differs(finished, digits_file, name, points):
    """The zoo's own figure involves no chance, so little is enough."""
    text, data = agreement(tampered(finished, name, points), digits_file, 12)
    assert data["disagree"] == [name]
    assert {key for key, word in verdicts(text).items() if word == "DIFFERS"} == {name}


def test_figures_of_other_images_differ(finished, digits_file, tmp_path):
    """Negative control: the images that `data` names are those that are measured on."""
    text, _ = agreement(finished, None, 2)  # scikit-learn's own 400 test digits
    assert verdicts(text)["zoo"] == "DIFFERS"


def test_a_method_that_an_older_card_lacks_is_left_out(finished, digits_file):
    older = {key: row for key, row in finished.card.measured.items() if key != "local"}
    text, data = agreement(with_card(finished, measured=older), digits_file, 12)
    assert not data["disagree"]
    assert "local" not in verdicts(text)


def test_a_card_without_figures_does_not_agree_by_silence(assembled, digits_file):
    message = r"the card of tiny must hold measured figures to be verified, got none for the zoo$"
    with pytest.raises(ArtifactError, match=message):
        agreement(assembled, digits_file, 2)


def test_an_artifact_of_another_origin_is_refused(finished, digits_file):
    foreign = with_card(finished, zoo={"images": {"name": "digits"}})
    with pytest.raises(
        LayoutError, match=r"the zoo of tiny must come from a recipe of this package to be verified, got"
    ):
        agreement(foreign, digits_file, 2)
