"""Draws and fits depend on the seed alone: not on the caller's settings, and not on other threads."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from fitting_cases import wide
from seeds import gen
from torch import nn

import hyperinit
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS

DTYPES = [torch.float64, torch.bfloat16, torch.float16]
CASTS = {"plain": contextlib.nullcontext, "autocast": lambda: torch.autocast("cpu"), "inference": torch.inference_mode}
FITS = {"exact": hyperinit.nets.cnn, "resized": lambda: wide(3, kernel=7), "smaller": lambda: wide(3, kernel=3)}


def vector(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()])


@pytest.fixture(scope="module")
def blank():
    """One network for each fit; tests write into copies."""
    return {name: make() for name, make in FITS.items()}


def written(path, models, method, fill):
    """Read the source anew, so that its sampler is fitted here, and write it into copies of the models."""
    source = HyperRepresentation.read(path)
    choice = {"method": method, "strength": 0.5, "min_share": 0, "fill": fill}
    found = [hyperinit.init_(model, source, generator=gen(), **choice) for model in models]
    return [*map(vector, found), source.sample(3, method=method, generator=gen())]


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("neigh")])
def test_equal_seeds_draw_equal_weights_whatever_the_settings(artifact, blank, default_dtype, method, dtype, cast):
    copies = [[deepcopy(model) for model in blank.values()] for _ in range(2)]
    expected = written(artifact, copies[0], method, "zoo" if dtype is DTYPES[0] else "default")
    default_dtype(dtype)
    with CASTS[cast]():
        got = written(artifact, copies[1], method, "zoo" if dtype is DTYPES[0] else "default")
    assert all(map(torch.equal, got, expected))


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name.startswith("neigh")])
def test_so_do_the_methods_that_need_umap(artifact, blank, default_dtype, method):
    copies = [[deepcopy(model) for model in blank.values()] for _ in range(2)]
    expected = written(artifact, copies[0], method, "default")
    default_dtype(torch.float64)
    with torch.autocast("cpu"):
        assert all(map(torch.equal, written(artifact, copies[1], method, "default"), expected))


@pytest.mark.parametrize("dtype", DTYPES)
def test_latents_and_weights_are_coded_alike(artifact, default_dtype, dtype):
    source = HyperRepresentation.read(artifact)
    z, weights = source.encode(source.anchors.weights), source.decode(source.anchors.z)
    default_dtype(dtype)
    again = HyperRepresentation.read(artifact)
    with torch.autocast("cpu"):
        assert torch.equal(again.encode(source.anchors.weights), z)
        assert torch.equal(again.decode(source.anchors.z), weights)
    assert {value.dtype for value in again.autoencoder.state_dict().values()} == {torch.float32}


def test_a_source_that_is_first_used_in_inference_mode_can_be_used_later(artifact):
    with torch.inference_mode():
        source = HyperRepresentation.read(artifact)
        source.sample(2, method="local")
    z = source.anchors.z[:2].clone().requires_grad_()
    source.autoencoder.decode(z).sum().backward()  # inference tensors would refuse
    assert z.grad is not None


class Drawing(nn.Module):
    """A head whose reset draws with the default dtype."""

    def __init__(self):
        super().__init__()
        self.body, self.scale = nn.Linear(36, 20), nn.Parameter(torch.zeros(5, dtype=torch.float32))

    def reset_parameters(self):
        with torch.no_grad():
            self.scale.copy_(torch.randn(5))


def test_a_default_draw_of_the_users_module_is_the_same_in_any_default_dtype(artifact, default_dtype):
    models = [Drawing() for _ in range(2)]
    hyperinit.init_(models[0], artifact, min_share=0, generator=gen())
    default_dtype(torch.bfloat16)
    hyperinit.init_(models[1], artifact, min_share=0, generator=gen())
    assert torch.equal(models[0].scale, models[1].scale)


def test_calls_in_eight_threads_give_what_each_gives_alone(artifact):
    source = HyperRepresentation.read(artifact)

    def call(seed):
        return vector(hyperinit.init_(wide(3), source, strength=0.5, min_share=0, generator=gen(seed)))

    alone = [call(seed) for seed in range(24)]
    torch.manual_seed(5)
    expected = [torch.rand(3) for _ in range(200)]
    torch.manual_seed(5)
    models = [wide(3) for _ in alone]  # constructors draw from the global generator
    torch.manual_seed(5)
    stop, others = threading.Event(), []

    def rest():  # another thread's own draws
        while len(others) < 200:
            others.append(torch.rand(3))
            stop.wait(0.001)

    def into(pair):
        seed, model = pair
        hyperinit.init_(model, source, strength=0.5, min_share=0, generator=gen(seed))
        ensemble = hyperinit.ensemble(1, source, model=hyperinit.nets.cnn, strength=0.5, generator=gen(seed))
        return vector(model), vector(ensemble.members[0])

    one = [vector(hyperinit.ensemble(1, source, strength=0.5, generator=gen(seed)).members[0]) for seed in range(24)]
    thread = threading.Thread(target=rest)
    thread.start()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(into, enumerate(models)))
    thread.join()
    assert all(torch.equal(got, wanted) for (got, _), wanted in zip(found, alone, strict=True))
    assert all(torch.equal(got, wanted) for (_, got), wanted in zip(found, one, strict=True))
    assert all(map(torch.equal, others, expected))
