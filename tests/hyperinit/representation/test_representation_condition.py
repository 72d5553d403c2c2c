"""`condition` replaces the anchors, keeps the autoencoder, and refuses wrong networks."""

import pytest
import torch
from seeds import gen

from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS, gan

SCORES = torch.linspace(0, 1, 9)


@pytest.fixture
def others(tiny):
    return (tiny.anchors.weights[:9] + 0.01 * torch.randn(9, 2464, generator=gen())).half().float()


def test_the_other_networks_become_the_anchors(tiny, others):
    hr = tiny.condition(others, SCORES)
    assert torch.equal(hr.anchors.weights, others)
    assert torch.equal(hr.anchors.z, tiny.encode(others))
    assert torch.equal(hr.anchors.score, SCORES)
    assert hr.anchors.epoch.tolist() == [0.0] * 9
    assert hr.autoencoder is tiny.autoencoder
    assert len(tiny.anchors) == 20
    assert tiny.condition(others, SCORES, epochs=torch.arange(9)).anchors.epoch.tolist() == list(range(9))


def test_the_card_says_so_and_claims_no_figures(tiny, others):
    card = tiny.condition(others, SCORES).card
    assert card.title == f"{tiny.card.title}, conditioned on 9 other networks"
    assert (card.measured, card.recommended) == ({}, tiny.card.recommended)
    assert "conditioned  on 9 other networks, which are the anchors" in str(card).splitlines()
    assert "conditioned" not in str(tiny.card)
    card.check()


def test_it_saves_loads_and_samples_like_any_other(tiny, others, tmp_path):
    hr = tiny.condition(others, SCORES)
    hr.save(tmp_path / "other.safetensors")
    again = HyperRepresentation.read(tmp_path / "other.safetensors")
    assert again.card == hr.card
    for method in ("kde30", "average"):
        draws = [each.sample(3, method=method, generator=gen()) for each in (hr, again)]
        torch.testing.assert_close(*draws, rtol=0, atol=1e-2)
    assert again.methods().keys() == METHODS.keys() - {"gan", "gan30", "neigh30"}


def test_gans_are_trained_only_when_asked_for(tiny, others, monkeypatch):
    monkeypatch.setattr(gan, "EPOCHS", 1)
    with pytest.raises(ArtifactError, match="holds no trained sampler for the method 'gan'"):
        tiny.condition(others, SCORES).sample(method="gan")
    hr = tiny.condition(others, SCORES, gan=True)
    assert hr.states.keys() == {"gan", "gan30"}
    assert hr.sample(2, method="gan30", generator=gen()).isfinite().all()


def test_the_tensors_are_copied(tiny, others):
    hr = tiny.condition(others, SCORES)
    others.zero_()
    assert hr.anchors.weights.any()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w, s: (w[:7], s[:7]), "^weights must hold at least 8 networks to condition on, got 7$"),
        (lambda w, s: (w[:, 1:], s), r"^weights must have shape \(N, 2464\) with N >= 1, got \(9, 2463\)$"),
        (lambda w, s: (w.int(), s), "^weights must hold floating point numbers"),
        (
            lambda w, s: (w * float("nan"), s),
            r"^weights must be finite, got NaN or infinity\. Remove the",
        ),
        (lambda w, s: (w, s[:8]), r"^scores must have shape \(9,\), one for each network, got \(8,\)$"),
        (lambda w, s: (w, s * 100), r"^scores must be finite and in \[0, 1\], got 0 to 100$"),
        (lambda w, s: (w, s - 1), r"^scores must be finite and in \[0, 1\], got -1 to 0$"),
        (lambda w, s: (w, s * float("nan")), "^scores must be finite"),
    ],
)
def test_bad_networks_are_refused(tiny, others, edit, message):
    with pytest.raises(ArgumentError, match=message):
        tiny.condition(*edit(others, SCORES))


def test_bad_epochs_are_refused(tiny, others):
    with pytest.raises(ArgumentError, match=r"^epochs must be finite and in \[0, inf\], got -1 to -1$"):
        tiny.condition(others, SCORES, epochs=-torch.ones(9))
