"""Histograms of latents."""

import torch

from benchmarks.paper import figures_weights


def test_histograms_count_every_value_and_angles_are_those_of_the_latents():
    train = torch.eye(10) * torch.arange(1, 11)[:, None]
    found = figures_weights.histograms(train / 10, train[:4] / 10, torch.arange(10) / 10)
    assert sum(found["norms"]["counts"]["train"]) == 10
    assert sum(found["cosines"]["counts"]["train"]) == 45
    assert sum(found["cosines"]["counts"]["test"]) == 6
    assert found["cosines"]["range"][0] == 0.0  # orthogonal
    assert len(found["dimensions"]) == figures_weights.DIMENSIONS
    assert {sum(part["counts"]["top 30 %"]) for part in found["dimensions"].values()} == {3}
    assert {*list(found["dimensions"])[:2]} < {"7", "8", "9"}  # those that only the top 30 % have
