"""What an artifact holds of trained samplers: all of it, in the right shapes, or nothing."""

import pytest
import torch
from seeds import gen

from hyperinit.errors import ArtifactError
from hyperinit.representation import HyperRepresentation
from hyperinit.representation import artifact as artifacts


@pytest.fixture
def forge(artifact, tiny):
    """Write the artifact with changed tensors and the right digest: damage that only checks can find."""

    def change(edit):
        tensors = artifacts.read(artifact)[1]
        edit(tensors)
        artifacts.write(artifact, tiny.header, tensors)
        return artifact

    return change


def drop_all(tensors):
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
    message = r"^tiny holds no trained sampler for the method 'gan'\. Take one of its methods\(\), or train one with"
    with pytest.raises(ArtifactError, match=message):
        hr.sample(method="gan")
    assert hr.sample(2, method="kde").shape == (2, 2464)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("samplers.gan.0.bias"), r"samplers\.gan\.0\.bias None, expected \(128,\)"),
        (lambda t: t.update({"samplers.gan.3.bias": torch.ones(9)}), r"samplers\.gan\.3\.bias \(9,\), expected \(8,\)"),
        (lambda t: t.update({"samplers.gan.4.bias": torch.ones(9)}), r"unexpected samplers\.gan\.4\.bias"),
        (lambda t: t.update({"samplers.kde.bias": torch.ones(9)}), r"unexpected samplers\.kde\.bias"),
        (lambda t: t.update({"samplers.mine.bias": torch.ones(9)}), r"unexpected samplers\.mine\.bias"),
        (lambda t: t.update({"samplers.gan": torch.ones(9)}), r"unexpected samplers\.gan$|unexpected samplers\.gan\. "),
    ],
)
def test_states_that_do_not_fit_are_refused(forge, edit, message):
    path = forge(edit)
    with pytest.raises(ArtifactError, match=f"tensors that do not fit the header: {message}"):
        artifacts.read(path)


def test_states_that_are_not_finite_are_refused(forge, monkeypatch):
    monkeypatch.setattr(artifacts, "_check_values", lambda tensors: None)
    path = forge(lambda t: t["samplers.gan.0.bias"].fill_(float("nan")))
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=r"tensor samplers\.gan\.0\.bias must hold finite numbers"):
        artifacts.read(path)
