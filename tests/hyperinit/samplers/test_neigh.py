"""Draws from the UMAP map of the anchors. UMAP takes long to compile, so most tests share one fitted sampler."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from anchor_sets import anchors
from scipy.spatial import ConvexHull
from seeds import gen

from hyperinit.errors import ArgumentError
from hyperinit.samplers import SamplerOptions, enough, fitted, neigh


def random_anchors(count):
    return anchors(torch.randn(count, 6, generator=gen(1)).tanh())


@pytest.fixture(scope="module")
def sampler():
    """Make a fitted sampler, with warnings as errors, because users must see none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fitted("neigh", random_anchors(20), SamplerOptions())


def test_draws_are_float32_latents_determined_by_the_generator(sampler):
    before = torch.get_rng_state()
    drawn = sampler.sample(6, gen())
    assert (drawn.shape, drawn.dtype) == ((6, 6), torch.float32)
    assert drawn.isfinite().all()
    assert torch.equal(drawn, sampler.sample(6, gen()))
    assert torch.equal(drawn, fitted("neigh", random_anchors(20), SamplerOptions()).sample(6, gen()))
    assert not torch.equal(drawn, sampler.sample(6, gen(1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_seed_determines_the_points(sampler):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = sampler._points(6, None)
        torch.manual_seed(3)
        assert torch.equal(sampler._points(6, None), first)


def test_points_lie_in_the_hull_and_fill_it(sampler):
    """Oracle: the half-spaces of scipy's convex hull. Points of the box outside the hull are the negative control."""
    embedding = sampler.map.embedding_.astype(float)
    planes = ConvexHull(embedding).equations
    points = sampler._points(5000, gen()).double().numpy()
    assert points.shape == (5000, 3)
    assert (points @ planes[:, :3].T + planes[:, 3]).max() < 1e-4
    box = np.random.default_rng(0).uniform(embedding.min(0), embedding.max(0), (20_000, 3))
    inside = (box @ planes[:, :3].T + planes[:, 3] < 0).all(1)
    assert inside.mean() < 0.9
    np.testing.assert_allclose(points.mean(0), box[inside].mean(0), atol=0.1 * np.ptp(embedding, 0).max())
    np.testing.assert_allclose(points.std(0), box[inside].std(0), rtol=0.1)


def test_the_points_from_the_hull_are_inverted(sampler, monkeypatch):
    seen = []
    monkeypatch.setattr(sampler.map, "inverse_transform", lambda points: (seen.append(points), points)[1])
    assert torch.equal(sampler.sample(300, gen()), torch.from_numpy(seen[0]))
    assert np.array_equal(seen[0], sampler._points(300, gen()).numpy())


@pytest.mark.parametrize(("count", "neighbours"), [(5, 4), (16, 15), (20, 15)])
def test_neighbours_adapt_to_few_anchors(count, neighbours):
    found = fitted("neigh", random_anchors(count), SamplerOptions())
    assert found.map.n_neighbors == neighbours
    options = (found.map.min_dist, found.map.n_components, found.map.random_state)
    assert options == (0.01, 3, 42)


def test_neigh30_maps_the_best_30_percent(sampler):
    assert len(fitted("neigh30", random_anchors(20), SamplerOptions()).map.embedding_) == 6
    assert len(sampler.map.embedding_) == 20


def test_fewer_than_five_anchors_are_refused():
    message = r"^method neigh must have at least 5 anchors, got 4; choose another method$"
    with pytest.raises(ArgumentError, match=message):
        fitted("neigh", random_anchors(4), SamplerOptions())
    assert not enough("neigh", random_anchors(4))
    assert enough("neigh", random_anchors(5))
    assert not enough("neigh30", random_anchors(12))


def test_a_flat_embedding_is_refused_after_a_limited_number_of_blocks(sampler, monkeypatch):
    monkeypatch.setattr(neigh, "BLOCKS", 2)
    monkeypatch.setattr(sampler.hull, "find_simplex", lambda points: np.full(len(points), -1), raising=False)
    with pytest.raises(ArgumentError, match="must not be flat, got an almost flat one"):
        sampler.sample(1, gen())


def test_nothing_heavy_is_loaded_before_the_first_use():
    code = "import sys, hyperinit.samplers.neigh; print({'umap', 'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_filters_of_warnings_survive_draws_in_several_threads(sampler):
    """The filters belong to the process: blocks that overlap would restore each other's."""
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: sampler.sample(2, gen(seed % 2)), range(16)))
    assert warnings.filters == before
    assert all(torch.equal(found[place], found[place % 2]) for place in range(16))


def test_of_many_anchors_some_are_mapped(monkeypatch):
    monkeypatch.setattr(neigh, "MOST", 4)
    assert neigh._thinned(torch.arange(10)[:, None]).flatten().tolist() == [0, 2, 5, 7]
    assert neigh._thinned(torch.arange(4)[:, None]).flatten().tolist() == [0, 1, 2, 3]
