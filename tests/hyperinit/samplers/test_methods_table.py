"""Every method of the table: shapes, random numbers, the best 30 %, and unknown names.

`neigh` takes long to compile, so `test_neigh.py` tests it.
"""

import inspect

import pytest
import torch
from anchor_sets import WITHOUT_NOISE, anchors
from seeds import gen

from hyperinit.errors import UnknownNameError
from hyperinit.samplers import METHODS, SamplerOptions, fitted, gan

LIGHT = [name for name in METHODS if not name.startswith("neigh")]


@pytest.fixture(autouse=True)
def _gans_are_trained_for_one_epoch(monkeypatch):
    monkeypatch.setattr(gan, "EPOCHS", 1)


@pytest.mark.parametrize("name", LIGHT)
def test_shape_dtype_and_space(zoo, name):
    sampler = fitted(name, zoo, SamplerOptions())
    drawn = sampler.sample(6, gen())
    assert drawn.shape == (6, {"latent": 5, "weight": 7}[sampler.space])
    assert drawn.dtype == torch.float32
    assert drawn.isfinite().all()
    assert sampler.space == ("weight" if name in ("noise", "average") else "latent")


@pytest.mark.parametrize("name", LIGHT)
def test_the_generator_alone_determines_the_draws(zoo, name):
    sampler = fitted(name, zoo, SamplerOptions())
    before = torch.get_rng_state()
    first = sampler.sample(6, gen())
    assert torch.equal(first, sampler.sample(6, gen()))
    assert torch.equal(first, fitted(name, zoo, SamplerOptions()).sample(6, gen()))
    assert not torch.equal(first, sampler.sample(6, gen(1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", LIGHT)
def test_without_a_generator_the_global_seed_determines_the_draws(zoo, name):
    sampler = fitted(name, zoo, SamplerOptions())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = sampler.sample(6, None)
        second = sampler.sample(6, None)
        torch.manual_seed(3)
        assert torch.equal(sampler.sample(6, None), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", LIGHT)
def test_samplers_do_not_change_their_anchors(zoo, name):
    z, weights = zoo.z.clone(), zoo.weights.clone()
    fitted(name, zoo, SamplerOptions()).sample(6, gen()).add_(1)
    assert torch.equal(zoo.z, z)
    assert torch.equal(zoo.weights, weights)


@pytest.mark.parametrize("name", LIGHT)
def test_one_anchor_is_enough(name):
    drawn = fitted(name, anchors(torch.full((1, 4), 0.5)), SamplerOptions()).sample(3, gen())
    assert drawn.shape == (3, 4)
    assert drawn.isfinite().all()


@pytest.mark.parametrize("name", ["kde30", "kde30-marginal", "local30"])
def test_methods_in_30_draw_from_the_best_30_percent_only(zoo, name):
    def used(method):
        drawn = fitted(method, zoo, WITHOUT_NOISE).sample(500, gen())
        return {(drawn[:, :1] == zoo.z[:, 0]).int().argmax(1)[row].item() for row in range(500)}

    assert used(name) == set(range(28, 40))  # of 40, the last are the best
    assert used(name.replace("30", "")) == set(range(40))


def test_local30_takes_neighbours_among_the_best_anchors(clusters):
    drawn = fitted("local30", clusters, SamplerOptions(bandwidth=0.0, neighbours=3)).sample(50, gen())
    assert (drawn > 20).all()  # the last four of twelve: three of group 3 and one of group 2


def test_unknown_names_are_refused_with_suggestions(zoo):
    with pytest.raises(UnknownNameError, match=r"^unknown method 'kde3'; did you mean 'kde30' or 'kde'\?$"):
        fitted("kde3", zoo, WITHOUT_NOISE)
    with pytest.raises(UnknownNameError, match=rf"^unknown method '%'; choose from {', '.join(METHODS)}$"):
        fitted("%", zoo, WITHOUT_NOISE)
    with pytest.raises(UnknownNameError, match=r"^unknown method 3;"):
        fitted(3, zoo, WITHOUT_NOISE)


def test_titles_and_shares_agree_with_the_names_of_methods():
    for name, method in METHODS.items():
        assert method.title
        assert method.share == (0.3 if "30" in name else 1.0)
        assert ("30 %" in method.title) == ("30" in name)
        assert inspect.getdoc(method.sampler)
