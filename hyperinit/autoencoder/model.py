"""The transformer autoencoder: it encodes weight vectors to latents and decodes latents to weight vectors.

Every neuron of a network is one token: its incoming weights and its bias. One linear embedder for each layer maps the
tokens to a common width, learned positions are added, and self-attention mixes them. The encoder compresses all tokens
to one latent in (-1, 1). The decoder mirrors the encoder. The blocks are PyTorch's fused layers (`compact`) or those of
the authors' released code (`reference`). Large networks are cut into chunks instead of neurons (`chunked`).

Letters: N networks, D weights per network, T tokens per network, L latent size.

Source: Schürholt et al. 2022, arXiv:2209.14733, section 2, Figure 8, Appendix B with Table 8, Appendix E.1.
"""

from __future__ import annotations

from dataclasses import fields

from torch import Tensor, nn

from hyperinit.autoencoder.chunked import ChunkCoder, ChunkDecoder, ChunkEncoder, Cut
from hyperinit.autoencoder.compact import Decoder, Encoder, learnt_table, transformer
from hyperinit.autoencoder.config import AutoencoderConfig
from hyperinit.autoencoder.reference import ReferenceDecoder, ReferenceEncoder, Sizes
from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout


class Autoencoder(nn.Module):
    """An encoder and a decoder, with the standardisation of the weights.

    Args:
        config: sizes and options.
        layout: layout of the networks.
        mean: for each weight, the mean of its layer over the zoo, (D,), in weight units. Stored but unused if the
            config does not standardise.
        std: for each weight, the standard deviation of its layer over the zoo, (D,), above 0, in weight units.

    Raises:
        ArgumentError: if `mean` or `std` has a wrong shape, or `std` is not above 0.

    >>> import torch
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
                f"mean and std must have shape ({layout.size},) and std must be above 0, got {tuple(mean.shape)}, "
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
        """Encode weight vectors (N, D) to latents (N, L), or to the means of latents if variational."""
        return self.bound(self.encode_unbounded(self.standardise(weights)))

    def standardise(self, weights: Tensor) -> Tensor:
        """Standardise weight vectors (N, D) by layer, if the config says so."""
        return (weights - self.mean) / self.std if self.config.standardise else weights

    def encode_unbounded(self, standardised: Tensor) -> Tensor:
        """Encode the result of `standardise`, (N, D), to latents (N, L) before any tanh."""
        found: Tensor = self.encoder(standardised)
        return (found[:, : self.config.latent] if self.config.variational else found).float()

    def bound(self, latents: Tensor) -> Tensor:
        """Apply the tanh to latents, if the config says so. It gives finite numbers for infinite ones."""
        return latents.tanh() if self.config.bounded and not self.config.variational else latents

    def posterior(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Encode weight vectors (N, D) to the means and the log-variances of their latents, both (N, L).

        Raises:
            ArgumentError: if the autoencoder is not variational.
        """
        if not self.config.variational:
            raise ArgumentError("posterior needs an autoencoder with variational=True, got False. Use encode.")
        mean, log_variance = self.encoder(self.standardise(weights)).float().chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (N, L) to weight vectors (N, D)."""
        weights: Tensor = self.decoder(latents)
        return weights * self.std + self.mean if self.config.standardise else weights


def _coder(config: AutoencoderConfig, chunks: int, inputs: int, outputs: int) -> ChunkCoder:
    return ChunkCoder(
        inputs, outputs, positions=learnt_table(chunks, config.width), blocks=transformer(config),
        window=config.window, halo=config.halo,
    )  # fmt: skip
