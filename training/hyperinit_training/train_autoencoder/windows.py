"""Training steps of a chunked autoencoder: a random window of each network instead of the whole of it.

Letters: B networks, D weights per network, T chunks per network, C weights per chunk, W chunks in a window.

Source: Schürholt, Mahoney and Borth 2024 (SANE), arXiv:2406.09997, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperinit.autoencoder import Autoencoder
from hyperinit.autoencoder.chunked import ChunkDecoder, ChunkEncoder, Cut


def window_size(autoencoder: Autoencoder) -> int:
    """Return W: the configured window, or all chunks of a network that has fewer."""
    return min(autoencoder.config.window, len(_cut(autoencoder)))


def draw_places(autoencoder: Autoencoder, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` windows, uniform over their first chunk; returns the chunks of each, int64 (count, W)."""
    size = window_size(autoencoder)
    first = torch.randint(len(_cut(autoencoder)) - size + 1, (count, 1), generator=generator)
    return first + torch.arange(size)


def code_windows(  # noqa: PLR0913
    autoencoder: Autoencoder, views: Tensor, targets: Tensor, places: Tensor, noise: Tensor, *, lwln: bool
) -> tuple[Tensor, Tensor]:
    """Encode and decode one window of each network and compare.

    Args:
        autoencoder: with a chunk size.
        views: what is encoded, (B, D).
        targets: what is to come out, (B, D).
        places: chunks of each window, (B, W), on the CPU.
        noise: added to the latents before decoding, (B, W, latent).
        lwln: compare in units of each layer's standard deviation (paper, eq. 2), not in weight units.

    Returns:
        The windows' latents (B, W * latent) and the mean squared error over their weights; padding does not count.
    """
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    assert isinstance(encoder, ChunkEncoder)
    assert isinstance(decoder, ChunkDecoder)
    chunks = encoder.cut.index[places]  # (B, W, C), on the CPU as `places` are
    real = (chunks < views.shape[1]).flatten().nonzero()[:, 0].to(views.device)
    index, places = chunks.to(views.device), places.to(views.device)
    latents = encoder.coder.pieces(_seen(autoencoder, views, index), places).float()
    if autoencoder.config.bounded:
        latents = latents.tanh()
    output = decoder.coder.pieces(latents + noise, places).float()
    error = output - _seen(autoencoder, targets, index)
    if not lwln:
        error = error * autoencoder.std[index.clamp(max=views.shape[1] - 1)]
    return latents.flatten(1), error.flatten()[real].square().mean()


def count_weights(autoencoder: Autoencoder, places: Tensor, size: int) -> int:
    """Count the weights of networks of `size` weights in windows (B, W), without the padding of the last chunk."""
    return int((_cut(autoencoder).index[places] < size).sum())


def _seen(autoencoder: Autoencoder, weights: Tensor, index: Tensor) -> Tensor:
    """Gather chunks (B, W, C) of networks (B, D), standardised if the config says so; zeros where none lie."""
    if autoencoder.config.standardise:
        weights = (weights - autoencoder.mean) / autoencoder.std
    padded = torch.cat([weights, weights.new_zeros(len(weights), 1)], dim=1)
    return padded.gather(1, index.flatten(1)).view(index.shape)


def _cut(autoencoder: Autoencoder) -> Cut:
    assert isinstance(autoencoder.encoder, ChunkEncoder)
    return autoencoder.encoder.cut
