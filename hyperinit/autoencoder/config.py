"""Sizes and options of an autoencoder, and the paper's Table 8."""

from __future__ import annotations

from dataclasses import dataclass

from hyperinit.autoencoder.chunked import chunk_count
from hyperinit.errors import ArgumentError, shown
from hyperinit.layout import Layout

MOST_DEPTH = 64


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes and options of an autoencoder.

    Args:
        width: size of a token inside the transformer (the paper's d_token), a multiple of `heads`.
        heads: attention heads.
        feedforward: hidden size of the feed-forward part of a block (the paper's d_hidden).
        depth: transformer blocks of the encoder, and of the decoder.
        latent: size of the latent, L. With chunks, the size of the latent of one chunk.
        compression: "cls" computes the latent from a learned extra token, "flatten" from all tokens. Unused with
            chunks.
        dropout: probability of dropping an activation in training.
        block: "compact", or "reference" for the modules and parameter names of the authors' released code.
        standardise: whether weights are standardised by layer before encoding and scaled back after decoding. The
            released code does not standardise.
        bounded: whether a tanh keeps latents in (-1, 1). Latents of a variational autoencoder are never bounded.
        variational: whether the encoder gives a mean and a log-variance, for a prior N(0, 1) (paper, Appendix E.1).
        chunk: weights of one chunk, see `hyperinit.autoencoder.chunked`. 0 does not cut networks into chunks.
        window: chunks that attend to each other. Unused without chunks.
        halo: chunks at each side of a window that are only context. Unused without chunks.

    Raises:
        ArgumentError: if a value has a wrong type or is out of range.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Appendix B with Table 8.
    """

    width: int = 128
    heads: int = 4
    feedforward: int = 512
    depth: int = 2
    latent: int = 256
    compression: str = "cls"
    dropout: float = 0.0
    block: str = "compact"
    standardise: bool = True
    bounded: bool = True
    variational: bool = False
    chunk: int = 0
    window: int = 64
    halo: int = 16

    def __post_init__(self) -> None:
        """Validate all values, also those of a file that is not trusted."""
        if type(self.depth) is int and self.depth > MOST_DEPTH:
            raise ArgumentError(f"depth must be at most {MOST_DEPTH}, got {shown(self.depth)}")
        sizes = (self.width, self.heads, self.feedforward, self.depth, self.latent)
        if not all(type(size) is int and 0 < size <= 65536 for size in sizes) or self.width % self.heads:
            raise ArgumentError(
                "width, heads, feedforward, depth and latent must be integers from 1 to 65536, and heads must divide "
                f"width, got {shown(sizes)}"
            )
        if self.compression not in ("cls", "flatten"):
            raise ArgumentError(f"compression must be 'cls' or 'flatten', got {shown(self.compression)}")
        if not (type(self.dropout) in (int, float) and 0 <= self.dropout < 1):
            raise ArgumentError(f"dropout must lie in [0, 1), got {shown(self.dropout)}")
        if self.block not in ("compact", "reference"):
            raise ArgumentError(f"block must be 'compact' or 'reference', got {shown(self.block)}")
        if self.block == "reference" and self.width < 2:  # one number has no standard deviation
            raise ArgumentError(f"width must be at least 2 for block 'reference', got {self.width}")
        flags = (self.standardise, self.bounded, self.variational)
        if not all(type(flag) is bool for flag in flags):
            raise ArgumentError(f"standardise, bounded and variational must be true or false, got {shown(flags)}")
        self._check_chunks()

    def _check_chunks(self) -> None:
        sizes = (self.chunk, self.window, self.halo)
        if not all(type(size) is int and 0 <= size <= 65536 for size in sizes) or self.window <= 2 * self.halo:
            raise ArgumentError(
                f"chunk, window and halo must be integers from 0 to 65536 with window > 2 * halo, got {shown(sizes)}"
            )
        if 8 * (self.window - 2 * self.halo) < self.window:  # every chunk is coded window / (window - 2 halo) times
            raise ArgumentError(
                f"halo must leave at least an eighth of the window between two halos, got window {self.window} and "
                f"halo {self.halo}"
            )
        if self.chunk and (self.block, self.variational) != ("compact", False):
            raise ArgumentError(
                f"chunk needs block='compact' and variational=False, got {self.block!r} and {self.variational}"
            )

    def latent_size(self, layout: Layout) -> int:
        """Return the size of the latent of a whole network, L.

        >>> from torch import nn
        >>> AutoencoderConfig(chunk=2, latent=16).latent_size(Layout.of(nn.Linear(2, 1)))
        32
        """
        return self.latent * (chunk_count(layout, self.chunk) if self.chunk else 1)


def _published(width: int, feedforward: int, depth: int, heads: int, latent: int) -> AutoencoderConfig:
    return AutoencoderConfig(
        width=width, heads=heads, feedforward=feedforward, depth=depth, latent=latent, dropout=0.1,
        compression="flatten", block="reference", standardise=False,
    )  # fmt: skip


# The paper's Table 8. Its text names a CLS token. The table says "linear", which the released code calls flatten.
TABLE8: dict[str, AutoencoderConfig] = {
    "mnist": _published(972, 1140, depth=2, heads=12, latent=700),
    "svhn": _published(1680, 1800, depth=4, heads=12, latent=1000),
    "cifar10": _published(1488, 1164, depth=2, heads=12, latent=700),
    "stl10": _published(1632, 1680, depth=4, heads=24, latent=700),
}
