"""Saving: the bytes are reproducible, and nothing is written that could not be read."""

from dataclasses import replace

import pytest
import torch

from hyperinit.errors import ArtifactError
from hyperinit.representation import HyperRepresentation
from hyperinit.representation import artifact as artifacts
from hyperinit.samplers import SamplerOptions


def test_what_half_precision_cannot_hold_is_not_written(tiny, tmp_path):
    """A file that nothing can read would be found out when it is too late."""
    heavy = HyperRepresentation(tiny.header, tiny.autoencoder, tiny.anchors)
    object.__setattr__(heavy, "anchors", replace(tiny.anchors, weights=tiny.anchors.weights + 1e6))
    with pytest.raises(ArtifactError, match=r"tensor anchors\.weights must hold finite numbers"):
        heavy.save(tmp_path / "heavy.safetensors")
    assert not list(tmp_path.iterdir())


def test_equal_content_gives_equal_bytes(tiny, tmp_path):
    for name in "ab":
        tiny.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def anchored(tiny, **changes):
    return HyperRepresentation(tiny.header, tiny.autoencoder, replace(tiny.anchors, **changes), tiny.states)


def headed(tiny, **changes):
    return tiny.with_header(replace(tiny.header, **changes))


def carded(tiny, **changes):
    return headed(tiny, card=replace(tiny.card, **changes))


def looped():
    value = {"a": []}
    value["a"].append(value)
    return value


WRONG = {  # what no reader would take: how it is made of a correct one, and the message
    "negative epochs": (lambda hr: anchored(hr, epoch=-hr.anchors.epoch), r"anchors\.epoch must lie in \[0, inf\]"),
    "epochs that are NaN": (lambda hr: anchored(hr, epoch=hr.anchors.epoch * float("nan")), "must hold finite numbers"),
    "scores above 1": (lambda hr: anchored(hr, score=hr.anchors.score * 100), r"anchors\.score must lie in \[0, 1\]"),
    "a score of 1e300": (lambda hr: anchored(hr, score=hr.anchors.score.double() + 1e300), "must hold finite numbers"),
    "latents out of the cube": (lambda hr: anchored(hr, z=hr.anchors.z + 2), r"anchors\.z must lie in \[-1, 1\]"),
    "latents of another size": (lambda hr: anchored(hr, z=hr.anchors.z[:, :4]), r"anchors\.z \(20, 4\), expected"),
    "weights of other size": (lambda hr: anchored(hr, weights=hr.anchors.weights[:, :4]), r"anchors\.weights \(20, 4"),
    "another config": (
        lambda hr: headed(hr, autoencoder=replace(hr.header.autoencoder, depth=2)), "too few for a depth of|do not fit"
    ),
    "another architecture": (
        lambda hr: headed(hr, architecture=[["linear", {"in_features": 2, "out_features": 1}]]), "an architecture that"
    ),
    "an unknown architecture": (lambda hr: headed(hr, architecture=[["lstm", {}]]), "not a network description"),
    "half of a trained sampler": (
        lambda hr: HyperRepresentation(hr.header, hr.autoencoder, hr.anchors, {"gan": {"0.weight": torch.zeros(2, 2)}}),
        "tensors that do not fit the header",
    ),
    "a state of no sampler": (
        lambda hr: HyperRepresentation(hr.header, hr.autoencoder, hr.anchors, {"mine": {"0.weight": torch.zeros(2)}}),
        r"unexpected samplers\.mine\.0\.weight",
    ),
    "too many neighbours": (
        lambda hr: headed(hr, samplers=SamplerOptions(neighbours=10**6)), "neighbours of 20 anchors, but this"
    ),
    "an unknown recommended method": (lambda hr: carded(hr, recommended="best"), "method 'best' is unknown"),
    "a title of two lines": (lambda hr: carded(hr, title="a\nb"), "card field title must be one line"),
    "a source with a tab": (lambda hr: carded(hr, source="a\tb"), "card field source must be one line"),
    "a name of figures in two lines": (
        lambda hr: carded(hr, measured={"a\nb": next(iter(hr.card.measured.values()))}), "measured.* one line"
    ),
    "a control character": (lambda hr: carded(hr, citation="\x1b[2J"), "must hold no control characters"),
    "a lone surrogate": (lambda hr: carded(hr, citation="\ud800"), "must hold no control characters"),
    "a number of 400 digits": (lambda hr: carded(hr, zoo={"more": 10**400}), "a finite number of at most 64 bits"),
    "an object of no JSON type": (lambda hr: carded(hr, zoo={"more": {1, 2}}), "must be plain data, got set"),
    "a nesting of 100 levels": (lambda hr: carded(hr, zoo={"more": eval("[" * 90 + "]" * 90)}), "at most 16 levels"),
    "a card that holds itself": (lambda hr: carded(hr, zoo=looped()), "nested too deep or refers to itself"),
    "two keys that are one in JSON": (lambda hr: carded(hr, zoo={"1": 1, 1: 2}), "must have texts as keys, got 1"),
    "a header of 2 MB": (lambda hr: carded(hr, citation="a" * (2 << 20)), "reads at most 1,048,576"),
    "a standardisation by 0": (None, "std must be above 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_whatever_the_reader_refuses_is_not_written(tiny, tmp_path, monkeypatch, name):
    make, message = WRONG[name]
    if name == "too many neighbours":
        monkeypatch.setattr(artifacts, "MOST_NEIGHBOURS", 399)  # 20 anchors have at most 400
    if make is None:
        tiny.autoencoder.std = tiny.autoencoder.std * 0
    with pytest.raises(ArtifactError, match=message):
        (tiny if make is None else make(tiny)).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in WRONG if name not in ("a header of 2 MB", "too many neighbours")])
def test_the_same_is_refused_in_memory(tiny, name):
    make, message = WRONG[name]
    if make is None:
        tiny.autoencoder.std = tiny.autoencoder.std * 0
    with pytest.raises(ArtifactError, match=message):
        (tiny if make is None else make(tiny)).check()


def test_a_correct_representation_passes(tiny, tmp_path):
    tiny.check()
    tiny.autoencoder.double()  # a wider dtype is rounded as any other
    tiny.save(tmp_path / "double.safetensors")
    assert HyperRepresentation.read(tmp_path / "double.safetensors").header == tiny.header
