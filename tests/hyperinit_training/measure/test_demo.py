import re

import pytest
import torch

import hyperinit
from hyperinit_training.measure import demo


@pytest.fixture(scope="module")
def report():
    if demo.SOURCE not in hyperinit.sources():
        pytest.fail(
            f"the embedded source {demo.SOURCE!r} is missing: `hyperinit pretrain --recipe digits-tuned` makes it"
        )
    before = torch.get_rng_state()
    text, data = demo.run()
    assert torch.equal(before, torch.get_rng_state())
    assert row(text, "hyperinit.init_(") == pytest.approx(data["init_"], abs=1e-3)
    assert data["images"] == 400
    return text


def row(report, start):
    """The percentages of the row that starts with these words, 0 to 1."""
    [line] = [line for line in report.splitlines() if line.startswith(start)]
    return [float(number) / 100 for number in re.findall(r"([\d.]+)%", line)]


def test_a_generated_network_works_right_away_and_pytorchs_does_not(report):
    default, generated = row(report, "PyTorch's default"), row(report, "hyperinit.init_(")
    assert generated[0] >= 0.9
    assert default[0] <= 0.35
    assert generated[1] > default[1]


def test_the_ensemble_and_the_plan_are_shown(report):
    assert row(report, "hyperinit.ensemble(15")[0] >= 0.9
    assert f"accuracy on 400 held-out {demo.SOURCE}" in report
    assert "0.weight" in report
    assert re.search(r"^\d+\.\d seconds$", report, re.MULTILINE)
