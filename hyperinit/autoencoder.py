"""The transformer autoencoder over neuron tokens: weight vectors to latents and back.

Every neuron of a network is one token: its incoming weights and its bias. One linear embedder per layer brings the
tokens to a common width, learned positions tell them apart, and self-attention mixes them. The encoder compresses
them to one latent in (-1, 1); the decoder is its mirror image. The blocks are PyTorch's fused layers ("compact") or
those of the authors' released code ("reference", see `hyperinit.reference`).

Letters: N networks, D weights per network, T tokens per network, L latent size.

Source: Schürholt et al. 2022, arXiv:2209.14733, section 2, Figure 8, Appendix B with Table 8, Appendix E.1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from hyperinit.checking import shown
from hyperinit.chunked import ChunkCoder, ChunkDecoder, ChunkEncoder, Cut, chunk_count
from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.reference import ReferenceDecoder, ReferenceEncoder, Sizes

MOST_DEPTH = 64


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
        block: "compact", or "reference" for the exact modules and parameter names of the authors' released code.
        standardise: whether weights are standardised by layer on their way in and back on their way out; the
            released code takes them as they are.
        bounded: whether a tanh keeps latents in (-1, 1). Those of a variational autoencoder are never bounded.
        variational: the encoder gives a mean and a log-variance, for a prior N(0, 1) (paper, Appendix E.1).
        chunk: 0, or the weights of one chunk of a large network: then there is a latent for each chunk and none for
            the whole, `latent` is the size of a chunk's, and `compression` means nothing; see `hyperinit.chunked`.
        window: chunks that see each other.
        halo: chunks at each side of a window that are context only.
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
        """Check the values, so that nothing is built from a bad file."""
        if type(self.depth) is int and self.depth > MOST_DEPTH:
            raise ArgumentError(f"depth must be at most {MOST_DEPTH}, got {shown(self.depth)}")
        sizes = (self.width, self.heads, self.feedforward, self.depth, self.latent)
        if not all(type(size) is int and 0 < size <= 65536 for size in sizes) or self.width % self.heads:
            raise ArgumentError(
                f"width, heads, feedforward, depth and latent must be positive and heads divide width, got "
                f"{shown(sizes)}"
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
                f"chunk, window and halo must be whole, and a window hold more than halos, got {shown(sizes)}"
            )
        if 8 * (self.window - 2 * self.halo) < self.window:  # every chunk is coded window / (window - 2 halo) times
            raise ArgumentError(f"an eighth of a window must lie between its halos, got {self.window} and {self.halo}")
        if self.chunk and (self.block, self.variational) != ("compact", False):
            raise ArgumentError(
                f"chunks need block 'compact' and no variational latents, got {self.block!r} and {self.variational}"
            )

    def latent_size(self, layout: Layout) -> int:
        """Return L, the size of a whole network's latent.

        >>> AutoencoderConfig(chunk=2, latent=16).latent_size(Layout.of(nn.Linear(2, 1)))
        32
        """
        return self.latent * (chunk_count(layout, self.chunk) if self.chunk else 1)


def _published(width: int, feedforward: int, depth: int, heads: int, latent: int) -> AutoencoderConfig:
    return AutoencoderConfig(
        width=width, heads=heads, feedforward=feedforward, depth=depth, latent=latent, dropout=0.1,
        compression="flatten", block="reference", standardise=False,
    )  # fmt: skip


# The paper's Table 8: its text reads latents off a CLS token, its table says "linear", the released code's "flatten".
TABLE8: dict[str, AutoencoderConfig] = {
    "mnist": _published(972, 1140, depth=2, heads=12, latent=700),
    "svhn": _published(1680, 1800, depth=4, heads=12, latent=1000),
    "cifar10": _published(1488, 1164, depth=2, heads=12, latent=700),
    "stl10": _published(1632, 1680, depth=4, heads=24, latent=700),
}


class Encoder(nn.Module):
    """Weight vectors (N, D) to latents (N, L) before any tanh; (N, 2 L), mean and log-variance, if variational."""

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        tokens = sum(layer.neurons for layer in layout.layers)
        cls = config.compression == "cls"
        self.layout = layout
        self.embedders = nn.ModuleList(nn.Linear(layer.token_length, config.width) for layer in layout.layers)
        self.cls = _table(1, 1, config.width, std=1.0) if cls else None
        self.positions = _table(tokens + cls, config.width)
        self.blocks = _blocks(config)
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
        mean: mean of each weight's layer over the zoo, (D,), in weight units. Kept but not used if the config does
            not standardise.
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
        self.encoder: Encoder | ReferenceEncoder | ChunkEncoder
        self.decoder: Decoder | ReferenceDecoder | ChunkDecoder
        if config.chunk:
            cut = Cut.of(layout, config.chunk)
            self.encoder = ChunkEncoder(cut, _coder(config, len(cut), config.chunk, config.latent))
            self.decoder = ChunkDecoder(cut, _coder(config, len(cut), config.latent, config.chunk))
        elif config.block == "reference":
            sizes = Sizes(**{field.name: getattr(config, field.name) for field in fields(Sizes)})
            self.encoder, self.decoder = ReferenceEncoder(sizes, layout), ReferenceDecoder(sizes, layout)
        else:
            self.encoder, self.decoder = Encoder(config, layout), Decoder(config, layout)

    def encode(self, weights: Tensor) -> Tensor:
        """Encode weight vectors (N, D) to latents (N, L); to their means, if variational."""
        latents = self._encoded(weights)
        if self.config.variational:
            latents = latents[:, : self.config.latent]
        return latents.tanh() if self.config.bounded and not self.config.variational else latents

    def posterior(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Encode weight vectors (N, D) to the mean and the log-variance of their latents, both (N, L).

        Raises:
            ArgumentError: if the autoencoder is not variational.
        """
        if not self.config.variational:
            raise ArgumentError("a posterior needs an autoencoder with variational=True, got False; use encode")
        mean, log_variance = self._encoded(weights).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (N, L) to weight vectors (N, D)."""
        weights: Tensor = self.decoder(latents)
        return weights * self.std + self.mean if self.config.standardise else weights

    def _encoded(self, weights: Tensor) -> Tensor:
        found: Tensor = self.encoder((weights - self.mean) / self.std if self.config.standardise else weights)
        return found.float()


def _coder(config: AutoencoderConfig, chunks: int, inputs: int, outputs: int) -> ChunkCoder:
    return ChunkCoder(
        inputs, outputs, positions=_table(chunks, config.width), blocks=_blocks(config),
        window=config.window, halo=config.halo,
    )  # fmt: skip


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
