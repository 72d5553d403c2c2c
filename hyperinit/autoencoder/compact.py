"""The encoder and decoder that turn all neuron tokens of a network into one latent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyperinit.autoencoder.config import AutoencoderConfig
from hyperinit.layout import Layout


class Encoder(nn.Module):
    """Weight vectors (N, D) to latents (N, L) before any tanh; (N, 2 L), mean and log-variance, if variational."""

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        tokens = sum(layer.neurons for layer in layout.layers)
        cls = config.compression == "cls"
        self.layout = layout
        self.embedders = nn.ModuleList(nn.Linear(layer.token_length, config.width) for layer in layout.layers)
        self.cls = learnt_table(1, 1, config.width, std=1.0) if cls else None
        self.positions = learnt_table(tokens + cls, config.width)
        self.blocks = transformer(config)
        read = config.width * (1 if cls else tokens)
        self.bottleneck = nn.Linear(read, config.latent)
        self.log_variance = nn.Linear(read, config.latent) if config.variational else None

    def forward(self, weights: Tensor) -> Tensor:
        """Encode (N, D) to (N, L) or (N, 2 L)."""
        parts = [embed(part) for embed, part in zip(self.embedders, self.layout.tokens(weights), strict=True)]
        if self.cls is not None:
            parts.insert(0, self.cls.to(parts[0].dtype).expand(len(weights), 1, -1))
        tokens = self.blocks(torch.cat(parts, dim=1) + self.positions)  # (N, T or T + 1, width)
        summary = tokens[:, 0] if self.cls is not None else tokens.flatten(1)
        latents: Tensor = self.bottleneck(summary)
        return latents if self.log_variance is None else torch.cat([latents, self.log_variance(summary)], dim=1)


class Decoder(nn.Module):
    """Latents (N, L) to weight vectors (N, D)."""

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        tokens = sum(layer.neurons for layer in layout.layers)
        self.layout = layout
        self.expand = nn.Linear(config.latent, tokens * config.width)
        self.positions = learnt_table(tokens, config.width)
        self.blocks = transformer(config)
        self.debedders = nn.ModuleList(nn.Linear(config.width, layer.token_length) for layer in layout.layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, L) to (N, D)."""
        tokens = self.expand(latents).unflatten(1, self.positions.shape) + self.positions
        tokens = self.blocks(tokens)
        parts = tokens.split([layer.neurons for layer in self.layout.layers], dim=1)
        return self.layout.from_tokens([
            debed(part).float() for debed, part in zip(self.debedders, parts, strict=True)
        ])  # fmt: skip


def learnt_table(*shape: int, std: float = 0.1) -> nn.Parameter:
    """A learned table; on the meta device without a draw, which would import torch's compiler for a second."""
    table = torch.empty(shape)
    return nn.Parameter(table if table.is_meta else table.normal_(std=std))


def transformer(config: AutoencoderConfig) -> nn.TransformerEncoder:
    """Pre-norm transformer blocks with a final norm; none of them knows the order of the tokens."""
    block = nn.TransformerEncoderLayer(
        config.width, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(block, config.depth, nn.LayerNorm(config.width), enable_nested_tensor=False)
