"""A trained sampler in an artifact has all of its tensors in the right shapes, or none."""

import pytest
import torch
from seeds import gen

from hyperinit.errors import ArtifactError
from hyperinit.representation import HyperRepresentation
from hyperinit.representation import artifact as artifacts


def drop_all(header, tensors):
    for name in [name for name in tensors if name.startswith("samplers.")]:
        del tensors[name]


def test_a_saved_gan_draws_the_same(tiny, artifact):
    again = HyperRepresentation.read(artifact)
    for method in ("gan", "gan30"):
        draws = [hr.sample(5, method=method, generator=gen()) for hr in (tiny, again)]
        assert torch.equal(*draws)
    assert not torch.equal(*(tiny.sample(5, method=method, generator=gen()) for method in ("gan", "gan30")))


def test_a_file_without_gans_loads_and_trains_nothing_in_silence(forge):
    hr = HyperRepresentation.read(forge(drop_all))
    assert not {"gan", "gan30"} & hr.methods().keys()
    message = r"^tiny holds no trained sampler for the method 'gan'\. Choose one of its methods\(\), or call"
    with pytest.raises(ArtifactError, match=message):
        hr.sample(method="gan")
    assert hr.sample(2, method="kde").shape == (2, 2464)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("gan.3.bias", 9, r"samplers\.gan\.3\.bias \(9,\), expected \(8,\)"),
        ("gan.4.bias", 9, r"unexpected samplers\.gan\.4\.bias"),
        ("kde.bias", 9, r"unexpected samplers\.kde\.bias"),
        ("mine.bias", 9, r"unexpected samplers\.mine\.bias"),
        ("gan", 9, r"unexpected samplers\.gan\. "),
        ("gan.0.bias", None, r"samplers\.gan\.0\.bias None, expected \(128,\)"),
    ],
)
def test_states_that_do_not_fit_are_refused(forge, name, size, message):
    def edit(header, tensors):
        tensors.pop(f"samplers.{name}", None)
        if size is not None:
            tensors[f"samplers.{name}"] = torch.ones(size)

    path = forge(edit)
    with pytest.raises(ArtifactError, match=f"tensors that do not fit the header: {message}"):
        artifacts.read(path)


def test_states_that_are_not_finite_are_refused(forge):
    path = forge(lambda h, t: t["samplers.gan.0.bias"].fill_(float("nan")))
    with pytest.raises(ArtifactError, match=r"tensor samplers\.gan\.0\.bias must hold finite numbers"):
        artifacts.read(path)
