"""The compact encoder and decoder, which map all neuron tokens of a network to one latent and back.

Letters: N networks, D weights per network, T tokens per network, L latent size.

Source: Schürholt et al. 2022, arXiv:2209.14733, Figure 8 and Appendix B.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyperinit.autoencoder.config import AutoencoderConfig
from hyperinit.layout import Layout


class Encoder(nn.Module):
    """Map weight vectors (N, D) to latents (N, L) without the tanh, or to means and log-variances (N, 2 L)."""

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        tokens = sum(layer.neurons for layer in layout.layers)  # T
        cls = config.compression == "cls"
        self.layout = layout
        self.embedders = nn.ModuleList(linear(layer.token_length, config.width) for layer in layout.layers)
        self.cls = learnt_table(1, 1, config.width, std=1.0) if cls else None
        self.positions = learnt_table(tokens + cls, config.width)
        self.blocks = transformer(config)
        read = config.width * (1 if cls else tokens)  # size of the input of the bottleneck
        self.bottleneck = linear(read, config.latent)
        self.log_variance = linear(read, config.latent) if config.variational else None

    def forward(self, weights: Tensor) -> Tensor:
        """Encode (N, D) to (N, L) or (N, 2 L)."""
        # one part for each layer: (N, neurons, token length) to (N, neurons, width)
        parts = [embed(part) for embed, part in zip(self.embedders, self.layout.tokens(weights), strict=True)]
        if self.cls is not None:
            parts.insert(0, self.cls.to(parts[0].dtype).expand(len(weights), 1, -1))
        tokens = self.blocks(torch.cat(parts, dim=1) + self.positions)  # (N, T or T + 1, width)
        summary = tokens[:, 0] if self.cls is not None else tokens.flatten(1)  # (N, width) or (N, T * width)
        latents: Tensor = self.bottleneck(summary)
        return latents if self.log_variance is None else torch.cat([latents, self.log_variance(summary)], dim=1)


class Decoder(nn.Module):
    """Map latents (N, L) to standardised weight vectors (N, D)."""

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        tokens = sum(layer.neurons for layer in layout.layers)
        self.layout = layout
        self.expand = linear(config.latent, tokens * config.width)
        self.positions = learnt_table(tokens, config.width)
        self.blocks = transformer(config)
        self.debedders = nn.ModuleList(linear(config.width, layer.token_length) for layer in layout.layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, L) to (N, D)."""
        tokens = self.expand(latents).unflatten(1, self.positions.shape) + self.positions  # (N, T, width)
        tokens = self.blocks(tokens)
        parts = tokens.split([layer.neurons for layer in self.layout.layers], dim=1)
        return self.layout.from_tokens([
            debed(part).float() for debed, part in zip(self.debedders, parts, strict=True)
        ])  # fmt: skip


def learnt_table(*shape: int, std: float = 0.1) -> nn.Parameter:
    """Create a learned table drawn from N(0, std^2), in float32 whatever the caller's default dtype is.

    On the meta device nothing is drawn, because that would import torch's compiler, which takes a second.
    """
    table = torch.empty(shape, dtype=torch.float32)
    return nn.Parameter(table if table.is_meta else table.normal_(std=std))


def transformer(config: AutoencoderConfig) -> nn.TransformerEncoder:
    """Create pre-norm transformer blocks with a final norm. They do not depend on the order of the tokens."""
    block = nn.TransformerEncoderLayer(
        config.width, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True, norm_first=True,
        dtype=torch.float32,
    )  # fmt: skip
    norm = nn.LayerNorm(config.width, dtype=torch.float32)
    return nn.TransformerEncoder(block, config.depth, norm, enable_nested_tensor=False)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Create a linear layer in float32, whatever the caller's default dtype is."""
    return nn.Linear(inputs, outputs, dtype=torch.float32)
