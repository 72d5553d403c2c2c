"""The encoder and decoder for large networks: a network is a sequence of chunks with one latent for each chunk.

The weights of each layer are cut into chunks of one size. The last chunk of a layer is padded with zeros. All chunks
share one linear embedder and have learned positions. Attention stays within a window of neighbouring chunks, so that
time and memory grow linearly with the network.

A whole network is coded in overlapping windows. The outer chunks of a window, its halos, are only context. Their
outputs are discarded, and those of the neighbouring window are used instead.

Letters: N networks, D weights per network, T chunks per network, C weights per chunk, W chunks per window, L latent
size of a whole network: T times that of a chunk.

Source: Schürholt, Mahoney and Borth 2024 (SANE), arXiv:2406.09997, sections 3.1 (chunks, windows) and 3.3 (haloing).
There a chunk belongs to one neuron. Here it may hold several short neurons, so that each channel of a norm does not
take a chunk of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from hyperinit.layout import Layout


@dataclass(frozen=True)
class Cut:
    """The chunks of a network: which places of the weight vector each of them holds.

    Only the layers are stored. The place of every weight would take 8 bytes, and so would that of all padding.

    Args:
        layers: number of weights of each layer, in the order of the vector.
        size: weights of one chunk, C.
    """

    layers: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, layout: Layout, size: int) -> Cut:
        """Cut each layer of a layout into chunks of `size` weights.

        >>> Cut.of(Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))), 3)
        Cut(layers=(4, 3), size=3)
        """
        return cls(tuple(layer.size for layer in layout.layers), size)

    def __len__(self) -> int:
        """Return the number of chunks, T."""
        return sum(self.counts)

    @property
    def counts(self) -> list[int]:
        """Number of chunks of each layer."""
        return [math.ceil(layer / self.size) for layer in self.layers]

    def index(self, places: Tensor) -> Tensor:
        """Return the places in the vector of the weights of some chunks; D marks padding.

        Args:
            places: numbers of chunks, int64 (...), on the CPU.

        Returns:
            int64 (..., C).

        >>> Cut((4, 3), 3).index(torch.arange(3))
        tensor([[0, 1, 2],
                [3, 7, 7],
                [4, 5, 6]])
        """
        ends = torch.tensor([0, *accumulate(self.layers)], device="cpu")  # in weights, (layers + 1,)
        firsts = torch.tensor([0, *accumulate(self.counts)], device="cpu")  # in chunks, (layers + 1,)
        layer = torch.searchsorted(firsts, places.contiguous(), right=True) - 1  # (...)
        start = ends[layer] + (places - firsts[layer]) * self.size  # (...)
        found = start[..., None] + torch.arange(self.size, device="cpu")  # (..., C)
        return torch.where(found < ends[layer + 1][..., None], found, ends[-1])

    def chunks(self, weights: Tensor) -> Tensor:
        """Cut weight vectors (N, D) into chunks (N, T, C), padded with zeros."""
        layers = zip(weights.split(list(self.layers), dim=1), self.counts, strict=True)
        padded = [functional.pad(layer, (0, count * self.size - layer.shape[1])) for layer, count in layers]
        found: Tensor = torch.cat(padded, dim=1).unflatten(1, (-1, self.size))
        return found

    def join(self, chunks: Tensor) -> Tensor:
        """Join chunks (N, T, C) to weight vectors (N, D), without the padding."""
        layers = zip(chunks.split(self.counts, dim=1), self.layers, strict=True)
        return torch.cat([layer.flatten(1)[:, :size] for layer, size in layers], dim=1)


def chunk_count(layout: Layout, size: int) -> int:
    """Return the number of chunks of a network, T.

    >>> chunk_count(Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))), 3)
    3
    """
    return len(Cut.of(layout, size))


def windows(total: int, window: int, halo: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cover a sequence with overlapping windows, and say from which window each chunk is taken.

    A chunk is taken from the window that has it between its halos. At both ends of the sequence, where there is no
    neighbouring window, chunks in a halo are taken too.

    Args:
        total: chunks of the sequence, T.
        window: chunks of a window, W. A sequence of at most W chunks is one window.
        halo: chunks at each side of a window that are only context, less than half of the window.

    Returns:
        The first chunk of each of the n windows, int64 (n,). For each chunk, the window it is taken from, int64 (T,).
        For each chunk, its place in that window, int64 (T,).

    >>> windows(6, 4, 1)
    (tensor([0, 1, 2]), tensor([0, 0, 1, 1, 2, 2]), tensor([0, 1, 1, 2, 2, 3]))
    """
    core = window - 2 * halo  # chunks between the halos; windows start `core` chunks apart
    places = torch.arange(total, device="cpu")
    if total <= window:
        return places[:1], torch.zeros_like(places), places
    # window i has the chunks [i * core, (i + 1) * core) between its halos; the outer windows are moved inside
    first = (torch.arange(0, total, core, device="cpu") - halo).clamp(0, total - window)  # (n,)
    owner = places // core  # (T,)
    return first, owner, places - first[owner]


class ChunkCoder(nn.Module):
    """The transformer of the encoder or the decoder: one vector for each chunk to another vector for each chunk.

    Args:
        inputs: size of an input vector.
        outputs: size of an output vector.
        positions: learned positions of all chunks (T, width).
        blocks: the transformer blocks, (B, W, width) to (B, W, width).
        window: chunks of a window, W.
        halo: chunks at each side of a window that are only context.
    """

    def __init__(  # noqa: PLR0913
        self, inputs: int, outputs: int, *, positions: nn.Parameter, blocks: nn.Module, window: int, halo: int
    ) -> None:
        super().__init__()
        self.window, self.halo = window, halo
        self.enter = nn.Linear(inputs, positions.shape[1], dtype=torch.float32)
        self.positions = positions
        self.blocks = blocks
        self.leave = nn.Linear(positions.shape[1], outputs, dtype=torch.float32)

    def pieces(self, values: Tensor, places: Tensor) -> Tensor:
        """Map windows of chunks (B, W, inputs) at the places (B, W) in their networks to (B, W, outputs)."""
        tokens = self.enter(values) + self.positions[places]  # (B, W, width)
        coded: Tensor = self.leave(self.blocks(tokens))
        return coded

    def forward(self, values: Tensor) -> Tensor:
        """Map whole sequences (N, T, inputs) to (N, T, outputs), window by window."""
        first, owner, place = windows(values.shape[1], self.window, self.halo)
        size = min(self.window, values.shape[1])  # W, or T if the network is smaller than a window
        spans = first[:, None] + torch.arange(size, device="cpu")  # (n, W)
        seen = values[:, spans].flatten(0, 1)  # (N * n, W, inputs)
        coded: Tensor = self.pieces(seen, spans.repeat(len(values), 1)).unflatten(0, (len(values), len(first)))
        return coded[:, owner, place]  # (N, n, W, outputs) to (N, T, outputs)


class ChunkEncoder(nn.Module):
    """Weight vectors (N, D) to latents (N, L) before any tanh."""

    def __init__(self, cut: Cut, coder: ChunkCoder) -> None:
        super().__init__()
        self.cut, self.coder = cut, coder

    def forward(self, weights: Tensor) -> Tensor:
        """Encode (N, D) to (N, L)."""
        coded: Tensor = self.coder(self.cut.chunks(weights))  # (N, T, L / T)
        return coded.flatten(1)


class ChunkDecoder(nn.Module):
    """Latents (N, L) to weight vectors (N, D)."""

    def __init__(self, cut: Cut, coder: ChunkCoder) -> None:
        super().__init__()
        self.cut, self.coder = cut, coder

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, L) to (N, D)."""
        parts = latents.unflatten(1, (len(self.cut), -1))  # (N, T, L / T)
        return self.cut.join(self.coder(parts).float())
