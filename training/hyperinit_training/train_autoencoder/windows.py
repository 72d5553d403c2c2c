"""Code random windows of networks, on which a chunked autoencoder trains in place of whole networks.

Letters: B networks, D weights per network, T chunks per network, C weights per chunk, W chunks in a window.

Source: Schürholt, Mahoney and Borth 2024 (SANE), arXiv:2406.09997, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperinit.autoencoder import Autoencoder
from hyperinit.autoencoder.chunked import ChunkDecoder, ChunkEncoder, Cut


def window_size(autoencoder: Autoencoder) -> int:
    """Return W: the window of the config, or T if a network has fewer chunks."""
    return min(autoencoder.config.window, len(_cut(autoencoder)))


def draw_places(autoencoder: Autoencoder, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` windows with a uniform first chunk. Return the numbers of their chunks, int64 (count, W)."""
    size = window_size(autoencoder)
    first = torch.randint(len(_cut(autoencoder)) - size + 1, (count, 1), generator=generator)  # 0 ... T - W
    return first + torch.arange(size)


def code_windows(  # noqa: PLR0913
    autoencoder: Autoencoder, views: Tensor, targets: Tensor, places: Tensor, noise: Tensor, *, lwln: bool
) -> tuple[Tensor, Tensor]:
    """Encode and decode one window of each network, and compare the result with the target.

    Args:
        autoencoder: autoencoder with `chunk` > 0.
        views: networks to encode, (B, D).
        targets: networks to reconstruct, (B, D).
        places: chunks of each window, int64 (B, W), on the CPU.
        noise: noise to add to the latents before decoding, (B, W, latent).
        lwln: compare in units of each layer's standard deviation (paper, eq. 2). False compares in weight units.

    Returns:
        The latents of the windows (B, W * latent), and the mean squared error over their weights without padding.
    """
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    assert isinstance(encoder, ChunkEncoder)
    assert isinstance(decoder, ChunkDecoder)
    chunks = encoder.cut.index(places)  # (B, W, C): columns of the weights; padding has the column D
    # On the CPU: `nonzero` on a GPU would wait for it, because its result has no size known in advance.
    real = (chunks < views.shape[1]).flatten().nonzero()[:, 0].to(views.device)
    index, places = chunks.to(views.device), places.to(views.device)
    latents = encoder.coder.pieces(_gather_chunks(autoencoder, views, index), places).float()  # (B, W, latent)
    if autoencoder.config.bounded:
        latents = latents.tanh()
    output = decoder.coder.pieces(latents + noise, places).float()  # (B, W, C), standardised
    error = output - _gather_chunks(autoencoder, targets, index)
    if not lwln:  # back to weight units; the clamp gives padding any std, as `real` leaves padding out
        error = error * autoencoder.std[index.clamp(max=views.shape[1] - 1)]
    return latents.flatten(1), error.flatten()[real].square().mean()


def count_weights(autoencoder: Autoencoder, places: Tensor, size: int) -> int:
    """Count the weights in windows (B, W) of networks of `size` weights, without padding."""
    return int((_cut(autoencoder).index(places) < size).sum())


def _gather_chunks(autoencoder: Autoencoder, weights: Tensor, index: Tensor) -> Tensor:
    """Gather chunks (B, W, C) of networks (B, D), standardised if the config says so. Padding gets zeros."""
    if autoencoder.config.standardise:
        weights = (weights - autoencoder.mean) / autoencoder.std
    padded = torch.cat([weights, weights.new_zeros(len(weights), 1)], dim=1)  # column D is the padding's zero
    return padded.gather(1, index.flatten(1)).view(index.shape)


def _cut(autoencoder: Autoencoder) -> Cut:
    assert isinstance(autoencoder.encoder, ChunkEncoder)
    return autoencoder.encoder.cut
