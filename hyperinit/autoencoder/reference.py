"""The reference encoder and decoder, with the modules and parameter names of the authors' released code.

A released state dict loads without renaming. Compared with the compact blocks, there is another normalisation and none
after the last block, ReLU in place of GELU, `nn.Embedding` for positions, and one linear layer for each of the query,
the key and the value.

Letters: N networks, D weights per network, T tokens per network, L latent size.

Source: released code of Schürholt et al. 2022, arXiv:2209.14733 (transformer type "pol").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hyperinit.autoencoder.compact import linear
from hyperinit.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The fields of an `AutoencoderConfig` that the modules below use, with the same meaning."""

    width: int
    heads: int
    feedforward: int
    depth: int
    latent: int
    compression: str
    dropout: float
    variational: bool


class Norm(nn.Module):
    """Normalise over the width: alpha * (x - mean) / (std + 1e-6) + bias, with the unbiased std.

    >>> Norm(3)(torch.tensor([1.0, 2.0, 3.0])).round(decimals=3).tolist()
    [-1.0, 0.0, 1.0]
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(width, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(width, dtype=torch.float32))

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise tokens (..., width)."""
        std, mean = torch.std_mean(tokens, dim=-1, keepdim=True)
        return self.alpha * (tokens - mean) / (std + 1e-6) + self.bias


class Attention(nn.Module):
    """Self-attention with scale 1 / sqrt(width / heads) and dropout on the attention weights."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_linear = linear(width, width)
        self.v_linear = linear(width, width)
        self.k_linear = linear(width, width)
        self.out = linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, T, width) to tokens of the same shape that depend on each other."""
        query, key, value = (
            linear(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, T, width / heads)
            for linear in (self.q_linear, self.k_linear, self.v_linear)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)  # as query
        found: Tensor = self.out(mixed.transpose(1, 2).flatten(2))  # (N, T, width)
        return found


class FeedForward(nn.Module):
    """A linear layer, ReLU, dropout and a second linear layer, for each token on its own."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear_1 = linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.linear_2 = linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, T, width) to (N, T, width)."""
        found: Tensor = self.linear_2(self.dropout(self.linear_1(tokens).relu()))
        return found


class Block(nn.Module):
    """Attention and feed-forward, each applied to normalised tokens and added to the tokens after dropout."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm_1 = Norm(sizes.width)
        self.norm_2 = Norm(sizes.width)
        self.attn = Attention(sizes.width, sizes.heads, sizes.dropout)
        self.ff = FeedForward(sizes.width, sizes.feedforward, sizes.dropout)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, T, width) to (N, T, width)."""
        tokens = tokens + self.dropout(self.attn(self.norm_1(tokens)))
        changed: Tensor = tokens + self.dropout(self.ff(self.norm_2(tokens)))
        return changed


class PerLayer(nn.Module):
    """One linear layer for each layer of the networks, from token length to width or from width to token length."""

    def __init__(self, linears: list[nn.Linear]) -> None:
        super().__init__()
        self.layer_lst = nn.ModuleList(linears)

    def forward(self, parts: list[Tensor]) -> list[Tensor]:
        """Map a tensor (N, neurons, inputs) for each layer to (N, neurons, outputs)."""
        return [linear(part) for linear, part in zip(self.layer_lst, parts, strict=True)]


class ReferenceEncoder(nn.Module):
    """Map weight vectors (N, D) to latents (N, L) without the tanh, or to means and log-variances (N, 2 L)."""

    def __init__(self, sizes: Sizes, layout: Layout) -> None:
        super().__init__()
        tokens, cls = sum(layer.neurons for layer in layout.layers), sizes.compression == "cls"
        self.layout = layout
        self.comp_token = nn.Parameter(_drawn(1, 1, sizes.width)) if cls else None
        self.token_embeddings = PerLayer([linear(layer.token_length, sizes.width) for layer in layout.layers])
        self.position_embeddings = nn.Embedding.from_pretrained(_drawn(tokens + cls, sizes.width), freeze=False)
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        read = sizes.width * (1 if cls else tokens)
        self.vec2neck = nn.Sequential(
            linear(read, sizes.latent)
        )  # the released code may have a tanh here; Autoencoder.encode applies it
        self.log_variance = linear(read, sizes.latent) if sizes.variational else None

    def forward(self, weights: Tensor) -> Tensor:
        """Encode (N, D) to (N, L) or (N, 2 L)."""
        parts = self.token_embeddings(self.layout.tokens(weights))
        if self.comp_token is not None:
            parts.insert(0, self.comp_token.to(parts[0].dtype).expand(len(weights), 1, -1))
        tokens = torch.cat(parts, dim=1) + self.position_embeddings.weight  # (N, T or T + 1, width)
        for block in self.layers:
            tokens = block(tokens)
        summary = tokens[:, 0] if self.comp_token is not None else tokens.flatten(1)  # (N, width) or (N, T * width)
        latents: Tensor = self.vec2neck(summary)
        return latents if self.log_variance is None else torch.cat([latents, self.log_variance(summary)], dim=1)


class ReferenceDecoder(nn.Module):
    """Map latents (N, L) to weight vectors (N, D)."""

    def __init__(self, sizes: Sizes, layout: Layout) -> None:
        super().__init__()
        self.neurons = [layer.neurons for layer in layout.layers]
        self.layout = layout
        self.nec2vec = linear(sizes.latent, sum(self.neurons) * sizes.width)
        self.position_embeddings = nn.Embedding.from_pretrained(_drawn(sum(self.neurons), sizes.width), freeze=False)
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.token_debeddings = PerLayer([linear(sizes.width, layer.token_length) for layer in layout.layers])

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, L) to (N, D)."""
        positions = self.position_embeddings.weight
        tokens = self.nec2vec(latents).unflatten(1, positions.shape) + positions  # (N, T, width)
        for block in self.layers:
            tokens = block(tokens)
        parts = self.token_debeddings(list(tokens.split(self.neurons, dim=1)))
        return self.layout.from_tokens([part.float() for part in parts])


def _drawn(*shape: int) -> Tensor:
    """Draw from N(0, 1), in float32 whatever the caller's default dtype is.

    On the meta device nothing is drawn, because that would import torch's compiler, which takes a second.
    """
    table = torch.empty(shape, dtype=torch.float32)
    return table if table.is_meta else table.normal_()
