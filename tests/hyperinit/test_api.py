"""The public functions: what decides the weights, what is kept, and that a failure changes nothing."""

import inspect
import os
import shutil

import pytest
import torch
from module_states import same, state
from seeds import gen
from torch import nn

import hyperinit
from hyperinit import api
from hyperinit.errors import ArgumentError, ArtifactError, LayoutError, PlanError, UnknownNameError
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS

pytestmark = pytest.mark.usefixtures("embedded", "_global_generator_is_put_back")


def init_(model, source="tiny", **options):
    return hyperinit.init_(model, source, **options)


def ensemble(n=3, source="tiny", **options):
    return hyperinit.ensemble(n, source, **options)


def vector(module):
    return torch.cat([value.detach().flatten() for value in module.parameters()])


class Other(nn.Module):
    """Wider than the source, with a norm and a layer that nothing is decoded for."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 16, 5), nn.BatchNorm2d(16)
        self.two, self.skip = nn.Conv2d(16, 6, 5), nn.ConvTranspose2d(6, 6, 2)
        self.head = nn.Linear(36, 10)


def test_public_names():
    """Changing this list is a decision: it needs a line in CHANGELOG.md."""
    assert sorted(hyperinit.__all__) == [
        "Ensemble", "HyperRepresentation", "HyperinitError", "MismatchWarning", "Plan", "UnusableWarning",
        "calibrate_", "ensemble", "init_", "load", "methods", "nets", "plan", "register_sampler", "sources",
        "transforms",
    ]  # fmt: skip
    assert all(hasattr(hyperinit, name) for name in hyperinit.__all__)


# What init_ writes


def test_the_weights_are_the_sampled_ones():
    model = cnn()
    assert init_(model, generator=gen()) is model
    assert torch.equal(vector(model), hyperinit.load("tiny").sample(1, generator=gen())[0])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_initialises(method):
    model, twin = cnn(), cnn()
    before = vector(model)
    init_(model, method=method, generator=gen())
    assert not torch.equal(vector(model), before)
    assert torch.equal(vector(init_(twin, method=method, generator=gen())), vector(model))


def test_a_path_is_a_source(artifact):
    expected = vector(init_(cnn(), generator=gen()))
    for source in (artifact, str(artifact)):
        assert torch.equal(vector(init_(cnn(), source, generator=gen())), expected)


@pytest.mark.parametrize("make", [cnn, Other])
@pytest.mark.parametrize("options", [{}, {"strength": 0.5}, {"fill": "zoo"}, {"fit": "flat"}, {"method": "average"}])
def test_a_generator_decides_everything_and_the_global_one_stays(make, options):
    one, two = make(), make()
    before = torch.get_rng_state()
    init_(one, generator=gen(), **options)
    init_(two, generator=gen(), **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(vector(one), vector(two))
    assert not torch.equal(vector(init_(two, generator=gen(1), **options)), vector(one))


@pytest.mark.parametrize("make", [cnn, Other])
def test_without_a_generator_the_global_seed_decides(make):
    model = make()
    torch.manual_seed(7)
    first = vector(init_(model, strength=0.5))
    assert not torch.equal(vector(init_(model, strength=0.5)), first)
    torch.manual_seed(7)
    assert torch.equal(vector(init_(make_like(model), strength=0.5)), first)


def make_like(model):
    """Make another module of this type without moving the global generator."""
    with torch.random.fork_rng(devices=[]):
        return cnn() if isinstance(model, nn.Sequential) else type(model)()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_parameters_keep_identity_dtype_device_and_gradient_flag(dtype):
    model = Other().to(dtype)
    model.head.weight.requires_grad_(False)
    model.norm.running_mean.fill_(3)
    old = dict(model.named_parameters())
    flags = {name: value.requires_grad for name, value in old.items()}
    init_(model, strength=0.5, generator=gen())
    for name, value in model.named_parameters():
        assert value is old[name]
        assert (value.dtype, value.device.type, value.requires_grad) == (dtype, "cpu", flags[name])
        assert value.grad_fn is None
    assert model.norm.running_mean.eq(3).all()


def test_an_optimizer_made_before_trains_the_new_weights():
    model = cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    init_(model, generator=gen())
    before = vector(model)
    model(torch.zeros(2, 1, 28, 28)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(vector(model), before)


def test_strength_mixes_decoded_weights_with_the_default_draw():
    full = vector(init_(cnn(), generator=gen()))
    none, half, most = (vector(init_(cnn(), strength=s, generator=gen())) for s in (0.0, 0.5, 0.75))
    torch.testing.assert_close(half, 0.5 * full + 0.5 * none)
    torch.testing.assert_close(most, 0.75 * full + 0.25 * none)
    assert none.abs().max() <= 20**-0.5  # PyTorch's bound for the last layer, the widest
    assert not torch.allclose(none, full, atol=1e-2)


# All or nothing


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "kde3"}, UnknownNameError, r"^unknown method 'kde3'; did you mean 'kde30' or "),
        ({"source": "tinny"}, UnknownNameError, r"^unknown source 'tinny'; did you mean 'tiny'\?"),
        ({"source": "no.safetensors"}, ArtifactError, r"got 'no.safetensors'$"),
        ({"fit": "layer"}, UnknownNameError, r"^unknown fit 'layer'; did you mean 'layerwise'\?$"),
        ({"fill": "zoos"}, UnknownNameError, r"^unknown fill 'zoos'; did you mean 'zoo'\?$"),
        ({"fit": "exact"}, LayoutError, r"^fit='exact' needs the source's 10 tensors in order"),
        (
            {"min_share": 0.9},
            PlanError,
            r"^the source must decide at least 90\.0%(.|\n)*one\.weight(.|\n)*min_share",
        ),
        ({"strength": 1.5}, ArgumentError, r"^strength must be in \[0, 1\], got 1\.5$"),
        ({"strength": -0.1}, ArgumentError, r"^strength must be in \[0, 1\], got -0\.1$"),
        ({"strength": float("nan")}, ArgumentError, r"^strength must be in \[0, 1\], got nan$"),
    ],
)
def test_a_failure_leaves_the_model_as_it_was(options, error, message):
    model = Other()
    before = state(model)
    with pytest.raises(error, match=message):
        init_(model, **options)
    assert same(model, before)
    assert issubclass(error, hyperinit.HyperinitError)


def test_a_damaged_artifact_leaves_the_model_as_it_was(artifact):
    raw = bytearray(artifact.read_bytes())
    raw[-1] ^= 1
    artifact.write_bytes(raw)
    model = cnn()
    before = state(model)
    with pytest.raises(ArtifactError, match=r"tiny\.safetensors must be a whole .*the file was altered"):
        init_(model, artifact)
    assert same(model, before)


def test_an_altered_embedded_source_is_refused(embedded):
    path = embedded / "tiny.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(
        ArtifactError, match=r"^source 'tiny' of .*registry.json: .* has SHA-256 .*; reinstall hyperinit$"
    ):
        init_(cnn())


def test_a_lower_share_must_be_asked_for():
    model = nn.Sequential(nn.Linear(1000, 100), nn.Linear(100, 4))
    with pytest.raises(PlanError, match=r"at least 10\.0% "):
        init_(model)
    assert init_(model, min_share=0.0) is model


# Ensembles


def test_an_ensemble_has_the_sources_architecture_and_sampled_weights():
    members = ensemble(4, generator=gen()).members
    expected = hyperinit.load("tiny").sample(4, generator=gen(), spread=True)
    assert torch.equal(torch.stack([vector(member) for member in members]), expected)


def test_by_default_it_has_fifteen_members_and_averages_probabilities():
    found = hyperinit.ensemble(source="tiny", generator=gen())
    assert (len(found.members), found.combine) == (15, "probabilities")
    assert ensemble(combine="logits").combine == "logits"
    images = torch.randn(2, 1, 28, 28)
    mean = torch.stack([member(images).softmax(1) for member in found.members]).mean(0)
    torch.testing.assert_close(found(images).exp(), mean)


@pytest.mark.parametrize("model", [None, cnn, Other])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_an_ensemble_is_decided_by_its_generator(model, strength):
    before = torch.get_rng_state()
    one, two = (ensemble(model=model, strength=strength, generator=gen()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(vector(one), vector(two))
    first, second, third = (vector(member) for member in one.members)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_without_a_generator_the_global_seed_decides_an_ensemble():
    torch.manual_seed(1)
    first = vector(ensemble(model=Other))
    assert not torch.equal(vector(ensemble(model=Other)), first)
    torch.manual_seed(1)
    assert torch.equal(vector(ensemble(model=Other)), first)


def test_a_factory_gets_the_same_draws_as_the_sources_architecture():
    calls = []

    def make():
        calls.append(1)
        return cnn()

    assert torch.equal(vector(ensemble(model=make, generator=gen())), vector(ensemble(generator=gen())))
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n": 0}, ArgumentError),
        ({"n": 2.0}, ArgumentError),
        ({"method": "no"}, UnknownNameError),
        ({"combine": "votes"}, UnknownNameError),
        ({"model": Other, "min_share": 0.9}, PlanError),
        ({"model": Other, "fit": "exact"}, LayoutError),
        ({"model": Other, "strength": 2}, ArgumentError),
    ],
)
def test_bad_ensembles_are_refused(options, error):
    with pytest.raises(error):
        ensemble(**options)


# plan, load, sources, methods


def test_a_plan_says_what_init_does_and_does_nothing():
    model = Other()
    before, generator_state = state(model), torch.get_rng_state()
    plan = hyperinit.plan(model, "tiny")
    assert same(model, before)
    assert torch.equal(torch.get_rng_state(), generator_state)
    text = str(plan)
    for word in ("one.weight", "16x3x5x5", "resized", "filled", "fit: layerwise", f"decoded {plan.decoded_share:.1%}"):
        assert word in text
    assert hyperinit.plan(model, "tiny", fit="flat", fill="keep").fit == "flat"
    assert hyperinit.plan(cnn(), "tiny").fit == "exact"


def test_a_source_is_read_once(artifact, monkeypatch):
    reads = []
    read = HyperRepresentation.read
    monkeypatch.setattr(HyperRepresentation, "read", lambda path: (reads.append(path), read(path))[1])
    assert hyperinit.load(artifact) is hyperinit.load(str(artifact))
    init_(cnn(), artifact)
    assert [found.path for found in reads] == [artifact]


def test_a_replaced_file_is_noticed(artifact, tiny):
    first = hyperinit.load(artifact)
    tiny.anchors.weights.add_(1)
    tiny.save(artifact)
    os.utime(artifact, ns=(0, artifact.stat().st_mtime_ns + 1_000_000))
    second = hyperinit.load(artifact)
    assert second is not first
    assert not torch.equal(second.anchors.weights, first.anchors.weights)


def test_the_cache_knows_files_apart(artifact, tmp_path):
    copy = tmp_path / "copy.safetensors"
    shutil.copy2(artifact, copy)  # the same time of change
    assert hyperinit.load(copy) is not hyperinit.load(artifact)


def test_loading_moves_no_generator(artifact):
    before = torch.get_rng_state()
    hyperinit.load(artifact)
    assert torch.equal(torch.get_rng_state(), before)


def test_sources_and_methods_have_one_line_each():
    assert hyperinit.sources() == {"tiny": "an untrained source for tests"}
    lines = hyperinit.methods("tiny")
    assert list(lines) == list(METHODS)
    assert lines["kde"] == "an anchor plus Gaussian noise in the latent space; 95.0% before any training"
    assert lines["kde30"].endswith("; 94.0% before any training; recommended")
    assert not any("\n" in line for line in lines.values())


def test_the_default_source_is_one_constant():
    for function in (hyperinit.init_, hyperinit.ensemble, hyperinit.plan, hyperinit.load, hyperinit.methods):
        assert repr(inspect.signature(function).parameters["source"].default) == repr(api.DEFAULT_SOURCE)
