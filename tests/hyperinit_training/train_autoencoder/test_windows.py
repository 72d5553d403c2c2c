"""Training on windows: drawn places, loss without padding, noise, learning and resuming."""

from dataclasses import replace

import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.layout import Layout
from hyperinit_training.train_autoencoder import train
from hyperinit_training.train_autoencoder.windows import code_windows, draw_places, window_size


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    layout = Layout.of(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)))  # 40 and 18 weights: 6 and 3 chunks of 7
    config = AutoencoderConfig(width=8, heads=2, feedforward=16, depth=1, latent=3, chunk=7, window=4, halo=1)
    mean, std = torch.randn(layout.size), torch.rand(layout.size) + 0.5
    return Autoencoder(config, layout, mean, std).eval()


def test_windows_begin_everywhere_and_lie_within_the_network(autoencoder):
    places = draw_places(autoencoder, 500, gen())
    assert places.shape == (500, 4)
    assert set(places[:, 0].tolist()) == set(range(6))
    assert (places.diff(dim=1) == 1).all()
    big = replace(autoencoder.config, window=100)
    other = Autoencoder(big, autoencoder.encoder.cut and Layout.of(nn.Linear(7, 5)), torch.zeros(40), torch.ones(40))
    assert window_size(other) == 6
    assert set(draw_places(other, 9, gen())[:, 0].tolist()) == {0}


@pytest.mark.parametrize("lwln", [True, False])
def test_a_window_over_all_chunks_gives_the_loss_of_the_whole_network(autoencoder, lwln):
    """With one window over all chunks, the result equals that of `encode` and `decode`."""
    config = replace(autoencoder.config, window=9)
    layout = Layout.of(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)))
    whole = Autoencoder(config, layout, autoencoder.mean, autoencoder.std).eval()
    views, targets = torch.randn(2, 3, 58, generator=gen())
    places = draw_places(whole, 3, gen())
    latents, loss = code_windows(whole, views, targets, places, torch.zeros(3, 9, 3), lwln=lwln)
    torch.testing.assert_close(latents, whole.encode(views))
    error = whole.decode(whole.encode(views)) - targets
    torch.testing.assert_close(loss, ((error / whole.std) if lwln else error).square().mean())


def test_padding_does_not_count(autoencoder):
    views = torch.randn(1, 58, generator=gen())
    places = torch.tensor([[5, 6, 7, 8]])  # both chunks with padding
    with torch.no_grad():
        autoencoder.decoder.coder.leave.weight.zero_()
        autoencoder.decoder.coder.leave.bias.fill_(1e6)
    _, loss = code_windows(autoencoder, views, views, places, torch.zeros(1, 4, 3), lwln=True)
    real = (1e6 - (views - autoencoder.mean) / autoencoder.std)[:, 35:].square().mean()
    torch.testing.assert_close(loss, real)


def test_noise_is_added_before_decoding(autoencoder):
    views = torch.randn(1, 58, generator=gen())
    places = draw_places(autoencoder, 1, gen())
    clean, one = code_windows(autoencoder, views, views, places, torch.zeros(1, 4, 3), lwln=True)
    noisy, two = code_windows(autoencoder, views, views, places, torch.ones(1, 4, 3), lwln=True)
    assert torch.equal(clean, noisy)
    assert one != two


@pytest.fixture(scope="module")
def chunked(recipe):
    return replace(
        recipe.autoencoder, steps=60, batch=8, width=32, latent=16, chunk=100, window=8, halo=2, permutations=0
    )


def test_a_chunked_autoencoder_learns_and_a_killed_run_ends_the_same(prepared, chunked, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "LOG_EVERY", 10)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    whole = train.train_autoencoder(chunked, prepared, tmp_path / "whole")
    advance = train.Training.advance

    def dying(training):
        if training.step == 33:
            raise KeyboardInterrupt
        return advance(training)

    monkeypatch.setattr(train.Training, "advance", dying)
    with pytest.raises(KeyboardInterrupt):
        train.train_autoencoder(chunked, prepared, tmp_path / "killed")
    monkeypatch.setattr(train.Training, "advance", advance)
    resumed = train.train_autoencoder(chunked, prepared, tmp_path / "killed").state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.state_dict().items())
    weights = prepared.part("train").weights
    error = (whole.decode(whole.encode(weights)) - weights) / whole.std
    assert error.square().mean() < 0.7 * ((weights - whole.mean) / whole.std).square().mean()
