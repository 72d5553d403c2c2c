"""Cutting into chunks, windows with halos, and the autoencoder over chunks."""

import pytest
import torch
from torch import nn

import hyperinit
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.autoencoder.chunked import Cut, windows
from hyperinit.layout import Layout


@pytest.fixture
def layout():
    return Layout.of(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3), nn.Linear(3, 2)))  # 40, 18 and 8 weights


def small(layout, **changes):
    torch.manual_seed(0)
    options = {"width": 8, "heads": 2, "feedforward": 16, "depth": 1, "latent": 3, "chunk": 4, "window": 6, "halo": 1}
    ones = torch.ones(layout.size)
    return Autoencoder(AutoencoderConfig(**options | changes), layout, 0 * ones, ones).eval()


@pytest.mark.parametrize("size", [1, 4, 7, 40, 100])
def test_cutting_and_joining_gives_the_network_back(layout, size):
    weights, cut = torch.randn(3, layout.size), Cut.of(layout, size)
    chunks = cut.chunks(weights)
    assert chunks.shape == (3, sum(-(-layer.size // size) for layer in layout.layers), size)
    assert torch.equal(cut.join(chunks), weights)
    assert (chunks != 0).sum() == weights.numel(), "padding is zero"


def test_no_chunk_holds_two_layers(layout):
    layer = torch.tensor([0] * 40 + [1] * 18 + [2] * 8 + [-1])
    cut = Cut.of(layout, 7)
    for row in layer[cut.index(torch.arange(len(cut)))]:
        assert len(set(row.tolist()) - {-1}) == 1


@pytest.mark.parametrize("size", [1, 4, 7, 40, 100])
def test_the_index_of_a_chunk_has_the_places_of_its_weights(layout, size):
    weights, cut = torch.randn(1, layout.size), Cut.of(layout, size)
    padded = torch.cat([weights, torch.zeros(1, 1)], dim=1)  # padding has the place D
    assert torch.equal(padded[:, cut.index(torch.arange(len(cut)))], cut.chunks(weights))
    some = torch.tensor([[len(cut) - 1, 0], [len(cut) // 2, 0]])
    assert torch.equal(padded[0, cut.index(some)], cut.chunks(weights)[0, some])


def test_padding_takes_no_memory():
    """A chunk of 65,536 for each of many layers of one weight: the places of the padding would take 64 MiB each."""
    cut = Cut((1,) * 128, 65536)
    assert len(cut) == 128
    assert sum(len(repr(value)) for value in vars(cut).values()) < 1000


@pytest.mark.parametrize(
    ("total", "window", "halo"), [(17, 6, 1), (18, 6, 2), (6, 6, 2), (7, 6, 2), (3, 6, 2), (40, 8, 0)]
)
def test_windows_cover_everything_once_with_context_on_both_sides(total, window, halo):
    first, owner, place = windows(total, window, halo)
    seen = first[owner] + place
    assert torch.equal(seen, torch.arange(total))
    assert (place < min(window, total)).all()
    inner = (seen >= halo) & (seen < total - halo)
    if total > window:
        assert (place[inner] >= halo).all()
        assert (place[inner] < window - halo).all()
        assert (first + window <= total).all()


def test_a_latent_for_each_chunk(layout):
    autoencoder = small(layout)
    chunks = 10 + 5 + 2
    assert autoencoder.config.latent_size(layout) == 3 * chunks
    latents = autoencoder.encode(torch.randn(2, layout.size))
    assert latents.shape == (2, 3 * chunks)
    assert latents.abs().max() <= 1
    assert autoencoder.decode(latents).shape == (2, layout.size)


def test_a_chunk_is_seen_within_its_windows_only(layout):
    """A change of the first chunk reaches the latents of the window it lies in, and no farther."""
    autoencoder = small(layout)
    one = torch.randn(1, layout.size)
    other = one.clone()
    other[:, 0] += 1
    changed = (autoencoder.encode(one) != autoencoder.encode(other)).view(-1, 3).any(1).nonzero().flatten()
    assert set(changed.tolist()) == {0, 1, 2, 3}  # windows start at 0 and 3; of the first, chunks 0 to 3 are taken
    far = one.clone()
    far[:, -1] += 1
    changed = (autoencoder.encode(one) != autoencoder.encode(far)).view(-1, 3).any(1).nonzero().flatten()
    assert changed.min() > 5


def test_one_window_for_a_small_network_is_plain_attention(layout):
    torch.testing.assert_close(
        small(layout, window=17, halo=3).encode(torch.ones(1, layout.size)),
        small(layout, window=40, halo=3).encode(torch.ones(1, layout.size)),
    )


def test_standardised_on_the_way_in_and_back_on_the_way_out(layout):
    autoencoder, weights = small(layout), torch.randn(2, layout.size)
    scaled = Autoencoder(autoencoder.config, layout, torch.full((layout.size,), 5.0), torch.full((layout.size,), 2.0))
    scaled.load_state_dict({**autoencoder.state_dict(), "mean": scaled.mean, "std": scaled.std})
    torch.testing.assert_close(scaled.encode(weights * 2 + 5), autoencoder.encode(weights))
    latents = autoencoder.encode(weights)
    torch.testing.assert_close(scaled.decode(latents), autoencoder.decode(latents) * 2 + 5)


def test_an_artifact_of_chunks_is_written_read_and_drawn_from(tiny, tmp_path):
    from dataclasses import replace

    from hyperinit.representation import HyperRepresentation
    from hyperinit.samplers import Anchors

    autoencoder = small(tiny.layout, chunk=100, window=8, halo=2)
    anchors = Anchors(
        autoencoder.encode(tiny.anchors.weights).detach(), tiny.anchors.score, tiny.anchors.epoch, tiny.anchors.weights
    )
    header = replace(tiny.header, autoencoder=autoencoder.config)
    HyperRepresentation(header, autoencoder, anchors).save(tmp_path / "chunks.safetensors")
    found = hyperinit.load(tmp_path / "chunks.safetensors")
    assert found.latent_size == anchors.z.shape[1] == 3 * len(autoencoder.encoder.cut)
    drawn = found.sample(3, method="kde", generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (3, tiny.layout.size)
    torch.testing.assert_close(
        found.decode(found.encode(drawn)), autoencoder.decode(autoencoder.encode(drawn)), atol=1e-2, rtol=0
    )
    assert "gan" not in found.methods()
