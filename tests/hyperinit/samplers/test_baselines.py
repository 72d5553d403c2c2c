"""Uniform latents, snapshots with noise, and means of neighbouring snapshots."""

import pytest
import torch
from anchor_sets import WITHOUT_NOISE, anchors, rows_of
from seeds import gen

from hyperinit.samplers import SamplerOptions, baselines, fitted


def test_uniform_fills_the_cube_whatever_the_anchors(zoo):
    drawn = fitted("uniform", zoo, WITHOUT_NOISE).sample(20_000, gen())
    assert drawn.abs().max() <= 1
    assert drawn.mean(0).abs().max() < 0.02
    assert drawn.std(0) == pytest.approx([3**-0.5] * 5, rel=0.02)
    other = anchors(zoo.z * 9, zoo.weights)
    assert torch.equal(fitted("uniform", other, WITHOUT_NOISE).sample(20_000, gen()), drawn)


def test_noise_is_a_snapshot_plus_scaled_noise(zoo):
    assert (rows_of(fitted("noise", zoo, WITHOUT_NOISE).sample(99, gen()), zoo.weights) >= 0).all()
    scale = torch.tensor([0.0, 1.0, 5.0])
    weights = torch.tensor([[-1.0], [1.0]]) * scale  # spread over the zoo: 0, 1 and 5
    drawn = fitted("noise", anchors(torch.zeros(2, 2), weights), SamplerOptions(noise=0.1)).sample(20_000, gen())
    residual = drawn - drawn.sign() * scale
    assert torch.equal(residual[:, 0], torch.zeros(20_000))
    assert residual[:, 1].std().item() == pytest.approx(0.1, rel=0.03)
    assert residual[:, 2].std().item() == pytest.approx(0.5, rel=0.03)


def test_average_is_the_mean_of_a_snapshot_and_its_neighbours_in_weight_space(zoo):
    drawn = fitted("average", zoo, WITHOUT_NOISE).sample(200, gen())
    order = torch.cdist(zoo.weights, zoo.weights, compute_mode="donot_use_mm_for_euclid_dist").argsort(1)[:, :3]
    means = torch.stack([zoo.weights[near].mean(0) for near in order])
    assert torch.cdist(drawn, means).min(1).values.max() < 1e-3
    latent_order = torch.cdist(zoo.z, zoo.z).argsort(1)[:, :3]
    others = torch.stack([zoo.weights[near].mean(0) for near in latent_order])
    assert torch.cdist(drawn, others).min(1).values.max() > 0.1


def test_the_average_over_all_anchors_is_their_mean(zoo):
    drawn = fitted("average", zoo, SamplerOptions(neighbours=40)).sample(3, gen())
    torch.testing.assert_close(drawn, zoo.weights.mean(0).expand(3, 7))


def test_averages_are_the_same_in_parts(zoo, monkeypatch):
    whole = fitted("average", zoo, WITHOUT_NOISE).sample(9, gen())
    monkeypatch.setattr(baselines, "MOST_GATHERED", 1)
    assert torch.equal(fitted("average", zoo, WITHOUT_NOISE).sample(9, gen()), whole)
