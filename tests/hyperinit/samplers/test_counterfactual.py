"""The counterfactual baseline draws latents of low density."""

import torch
from anchor_sets import anchors
from seeds import gen

from hyperinit.samplers import SamplerOptions, counterfactual, fitted
from hyperinit.samplers.counterfactual import CANDIDATES, log_density


def test_the_density_is_that_of_a_mixture_of_gaussians():
    points, centres = torch.randn(30, 3, generator=gen(1)).double(), torch.randn(9, 3, generator=gen(2)).double()
    parts = torch.distributions.MultivariateNormal(centres, 0.7**2 * torch.eye(3).double())
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(9).double()), parts)
    difference = log_density(points, centres, 0.7) - mixture.log_prob(points)
    assert difference.std() < 1e-6


def test_each_draw_is_the_least_dense_of_ten_uniform_candidates():
    z = torch.rand(20, 4, generator=gen(3))
    drawn = fitted("counterfactual", anchors(z), SamplerOptions(bandwidth=0.3)).sample(50, gen())
    candidates = 2 * torch.rand(50, CANDIDATES, 4, generator=gen()) - 1
    for row, ten in zip(drawn, candidates, strict=True):
        assert torch.equal(row, ten[log_density(ten, z, 0.3).argmin()])


def test_draws_are_less_dense_than_uniform_ones_and_stay_in_the_cube():
    zoo = anchors(torch.rand(20, 4, generator=gen(3)))
    found = {name: fitted(name, zoo, SamplerOptions()).sample(500, gen()) for name in ("counterfactual", "uniform")}
    density = {name: log_density(z, zoo.z, 0.05).median() for name, z in found.items()}
    assert density["counterfactual"] < density["uniform"]
    assert found["counterfactual"].abs().max() <= 1


def test_chunks_do_not_change_draws_and_zero_bandwidth_is_allowed(monkeypatch):
    zoo = anchors(torch.rand(20, 4, generator=gen(3)))
    sampler = fitted("counterfactual", zoo, SamplerOptions(bandwidth=0.0))
    whole = sampler.sample(50, gen())
    assert whole.isfinite().all()
    monkeypatch.setattr(counterfactual, "CHUNK", 70)
    torch.testing.assert_close(sampler.sample(50, gen()), whole)
