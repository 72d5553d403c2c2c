"""An autoencoder for large networks: a sequence of fixed-size chunks of neuron tokens, one latent for each.

The neuron tokens of a layer lie side by side in the weight vector; they are cut into chunks of one size, the last one
of a layer padded with zeros. One linear embedder serves all chunks, learned positions tell them apart, and attention
looks at a window of neighbouring chunks only, so that time and memory grow linearly with the network. Whole networks
are encoded and decoded in windows that overlap: the chunks of a halo at each side are context, and what comes out at
their places is taken from the next window.

Letters: N networks, D weights per network, T chunks per network, C weights per chunk, W chunks per window, L latent
size of a whole network: T times that of a chunk.

Source: Schürholt, Mahoney and Borth 2024 (SANE), arXiv:2406.09997, sections 3.1 (chunks, windows) and 3.3 (haloing).
There a chunk belongs to one neuron; here it may hold several short ones, so that a norm's channels do not take a chunk
each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperinit.layout import Layout


@dataclass(frozen=True)
class Cut:
    """Where the weights of each chunk lie in the vector.

    Args:
        index: place in the vector of every weight of every chunk, int64 (T, C); D where there is none.
        total: D.
    """

    index: Tensor
    total: int

    @classmethod
    def of(cls, layout: Layout, size: int) -> Cut:
        """Cut each layer of a layout into chunks of `size` weights.

        >>> Cut.of(Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))), 3).index
        tensor([[0, 1, 2],
                [3, 7, 7],
                [4, 5, 6]])
        """
        rows, end = [], 0
        for layer in layout.layers:
            places = torch.full((math.ceil(layer.size / size) * size,), layout.size, device="cpu")
            places[: layer.size] = torch.arange(end, end + layer.size, device="cpu")
            rows.append(places.view(-1, size))
            end += layer.size
        return cls(torch.cat(rows), layout.size)

    def __len__(self) -> int:
        """Return T."""
        return len(self.index)

    def chunks(self, weights: Tensor) -> Tensor:
        """Cut weight vectors (N, D) into chunks (N, T, C), zeros where there is no weight."""
        return torch.cat([weights, weights.new_zeros(len(weights), 1)], dim=1)[:, self.index]

    def join(self, chunks: Tensor) -> Tensor:
        """Join chunks (N, T, C) to weight vectors (N, D)."""
        return chunks.flatten(1)[:, self.index.flatten() < self.total]


def chunk_count(layout: Layout, size: int) -> int:
    """Return T, the chunks that a network is cut into.

    >>> chunk_count(Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))), 3)
    3
    """
    return sum(math.ceil(layer.size / size) for layer in layout.layers)


def windows(total: int, window: int, halo: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cover a sequence with windows of which only the middle counts.

    Args:
        total: chunks of the sequence.
        window: chunks seen at once; all of them if there are not more.
        halo: chunks at each side of a window that are context, less than half of the window.

    Returns:
        First chunk of each window, int64 (n,); for each chunk the window it is taken from, and its place there, (T,).

    >>> windows(6, 4, 1)
    (tensor([0, 1, 2]), tensor([0, 0, 1, 1, 2, 2]), tensor([0, 1, 1, 2, 2, 3]))
    """
    core = window - 2 * halo
    places = torch.arange(total, device="cpu")
    if total <= window:
        return places[:1], torch.zeros_like(places), places
    first = (torch.arange(0, total, core, device="cpu") - halo).clamp(0, total - window)
    owner = places // core
    return first, owner, places - first[owner]


class ChunkCoder(nn.Module):
    """One side of the autoencoder: vectors at each chunk in, vectors at each chunk out, attention within windows.

    Args:
        inputs: size of a vector that comes in.
        outputs: size of a vector that goes out.
        positions: learned table (T, width).
        blocks: the transformer, (B, W, width) to the same.
        window: W.
        halo: chunks of context at each side.
    """

    def __init__(  # noqa: PLR0913
        self, inputs: int, outputs: int, *, positions: nn.Parameter, blocks: nn.Module, window: int, halo: int
    ) -> None:
        super().__init__()
        self.window, self.halo = window, halo
        self.enter = nn.Linear(inputs, positions.shape[1])
        self.positions = positions
        self.blocks = blocks
        self.leave = nn.Linear(positions.shape[1], outputs)

    def pieces(self, values: Tensor, places: Tensor) -> Tensor:
        """Code windows on their own: values (B, W, inputs) at places (B, W) to (B, W, outputs)."""
        tokens = self.enter(values) + self.positions[places]
        coded: Tensor = self.leave(self.blocks(tokens))
        return coded

    def forward(self, values: Tensor) -> Tensor:
        """Code whole sequences (N, T, inputs) to (N, T, outputs), window by window."""
        first, owner, place = windows(values.shape[1], self.window, self.halo)
        size = min(self.window, values.shape[1])
        spans = first[:, None] + torch.arange(size, device="cpu")  # (n, W)
        seen = values[:, spans].flatten(0, 1)  # (N * n, W, inputs)
        coded: Tensor = self.pieces(seen, spans.repeat(len(values), 1)).unflatten(0, (len(values), len(first)))
        return coded[:, owner, place]


class ChunkEncoder(nn.Module):
    """Weight vectors (N, D) to latents (N, L) before any tanh."""

    def __init__(self, cut: Cut, coder: ChunkCoder) -> None:
        super().__init__()
        self.cut, self.coder = cut, coder

    def forward(self, weights: Tensor) -> Tensor:
        """Encode (N, D) to (N, L)."""
        coded: Tensor = self.coder(self.cut.chunks(weights))
        return coded.flatten(1)


class ChunkDecoder(nn.Module):
    """Latents (N, L) to weight vectors (N, D)."""

    def __init__(self, cut: Cut, coder: ChunkCoder) -> None:
        super().__init__()
        self.cut, self.coder = cut, coder

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, L) to (N, D)."""
        return self.cut.join(self.coder(latents.unflatten(1, (len(self.cut), -1))).float())
