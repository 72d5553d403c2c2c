"""The transformer autoencoder over neuron tokens: weight vectors to latents and back.

Every neuron of a network is one token: its incoming weights and its bias. One linear embedder per layer brings the
tokens to a common width, learned positions tell them apart, and self-attention mixes them. The encoder compresses
them to one latent in (-1, 1); the decoder is its mirror image.

Letters: N networks, D weights per network, T tokens per network, L latent size.

Source: Schürholt et al. 2022, arXiv:2209.14733, section 2, Figure 8 and Appendix B.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Size and shape of the autoencoder.

    Args:
        width: size of a token inside the transformer (the paper's d_token).
        heads: attention heads; they share the width.
        feedforward: hidden size of the blocks' feed-forward part (the paper's d_hidden).
        depth: blocks on each side.
        latent: L, size of the latent.
        compression: "cls" reads the latent off a learned extra token, "flatten" off all tokens side by side.
        dropout: probability of dropping an activation while training.
    """

    width: int = 128
    heads: int = 4
    feedforward: int = 512
    depth: int = 2
    latent: int = 256
    compression: str = "cls"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the values, so that nothing is built from a bad file."""
        sizes = (self.width, self.heads, self.feedforward, self.depth, self.latent)
        if not all(type(size) is int and 0 < size <= 65536 for size in sizes) or self.width % self.heads:
            raise ArgumentError(
                f"width, heads, feedforward, depth and latent must be positive and heads divide width, got {sizes}"
            )
        if self.compression not in ("cls", "flatten"):
            raise ArgumentError(f"compression must be 'cls' or 'flatten', got {self.compression!r}")
        if not (type(self.dropout) in (int, float) and 0 <= self.dropout < 1):
            raise ArgumentError(f"dropout must lie in [0, 1), got {self.dropout!r}")


class Encoder(nn.Module):
    """Weight vectors (N, D), standardised by layer, to latents (N, L) in (-1, 1)."""

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        tokens = sum(layer.neurons for layer in layout.layers)
        cls = config.compression == "cls"
        self.layout = layout
        self.embedders = nn.ModuleList(nn.Linear(layer.token_length, config.width) for layer in layout.layers)
        self.cls = _table(1, 1, config.width, std=1.0) if cls else None
        self.positions = _table(tokens + cls, config.width)
        self.blocks = _blocks(config)
        self.bottleneck = nn.Linear(config.width * (1 if cls else tokens), config.latent)

    def forward(self, weights: Tensor) -> Tensor:
        """Encode (N, D) to (N, L)."""
        parts = [embed(part) for embed, part in zip(self.embedders, self.layout.tokens(weights), strict=True)]
        if self.cls is not None:
            parts.insert(0, self.cls.to(parts[0].dtype).expand(len(weights), 1, -1))
        tokens = self.blocks(torch.cat(parts, dim=1) + self.positions)  # (N, T or T + 1, width)
        summary = tokens[:, 0] if self.cls is not None else tokens.flatten(1)
        latent: Tensor = self.bottleneck(summary)
        return latent.float().tanh()


class Decoder(nn.Module):
    """Latents (N, L) to weight vectors (N, D), standardised by layer."""

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        tokens = sum(layer.neurons for layer in layout.layers)
        self.layout = layout
        self.expand = nn.Linear(config.latent, tokens * config.width)
        self.positions = _table(tokens, config.width)
        self.blocks = _blocks(config)
        self.debedders = nn.ModuleList(nn.Linear(config.width, layer.token_length) for layer in layout.layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, L) to (N, D)."""
        tokens = self.expand(latents).unflatten(1, self.positions.shape) + self.positions
        tokens = self.blocks(tokens)
        parts = tokens.split([layer.neurons for layer in self.layout.layers], dim=1)
        return self.layout.from_tokens([
            debed(part).float() for debed, part in zip(self.debedders, parts, strict=True)
        ])  # fmt: skip


class Autoencoder(nn.Module):
    """Encoder and decoder with the standardisation by layer between them and the weights.

    Args:
        config: size and shape.
        layout: of the networks.
        mean: mean of each weight's layer over the zoo, (D,), in weight units.
        std: standard deviation likewise, (D,), above 0.

    >>> layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)))
    >>> config = AutoencoderConfig(width=8, heads=2, feedforward=16, depth=1, latent=4)
    >>> autoencoder = Autoencoder(config, layout, torch.zeros(11), torch.ones(11))
    >>> autoencoder.decode(autoencoder.encode(torch.randn(5, 11))).shape
    torch.Size([5, 11])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: AutoencoderConfig, layout: Layout, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.shape != (layout.size,) or std.shape != (layout.size,) or not (std > 0).all():
            raise ArgumentError(
                f"mean and std must have shape ({layout.size},) and std be above 0, got {tuple(mean.shape)}, "
                f"{tuple(std.shape)} and a least std of {std.min().item() if std.numel() else float('nan'):.3g}"
            )
        self.config = config
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self.encoder = Encoder(config, layout)
        self.decoder = Decoder(config, layout)

    def encode(self, weights: Tensor) -> Tensor:
        """Encode weight vectors (N, D) to latents (N, L)."""
        latents: Tensor = self.encoder((weights - self.mean) / self.std)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (N, L) to weight vectors (N, D)."""
        weights: Tensor = self.decoder(latents) * self.std + self.mean
        return weights


def _table(*shape: int, std: float = 0.1) -> nn.Parameter:
    """A learned table; on the meta device without a draw, which would import torch's compiler for a second."""
    table = torch.empty(shape)
    return nn.Parameter(table if table.is_meta else table.normal_(std=std))


def _blocks(config: AutoencoderConfig) -> nn.TransformerEncoder:
    """Pre-norm transformer blocks with a final norm; none of them knows the order of the tokens."""
    block = nn.TransformerEncoderLayer(
        config.width, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(block, config.depth, nn.LayerNorm(config.width), enable_nested_tensor=False)
