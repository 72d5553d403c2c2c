"""The memory and the work of coding one network, computed from sizes alone, before anything of that size is made.

Letters: D weights per network, T tokens or chunks per network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hyperinit.autoencoder.chunked import chunk_count
from hyperinit.autoencoder.config import AutoencoderConfig
from hyperinit.layout import Layout

EXPONENTIALS = 16  # multiplications that take as long as one exponential of the attention
STEPS = 32  # passes over the tokens of a block beside its matrix products, such as norms and sums


@dataclass(frozen=True)
class Cost:
    """The cost of encoding or decoding one network, whichever is higher, as upper bounds.

    Args:
        numbers: of the largest tensor on the way.
        products: multiplications.
    """

    numbers: int
    products: int

    @classmethod
    def of(cls, config: AutoencoderConfig, layout: Layout) -> Cost:
        """Return the cost for networks of a layout.

        >>> from torch import nn
        >>> config = AutoencoderConfig(width=2, heads=1, feedforward=8, depth=1, latent=1)
        >>> Cost.of(config, Layout.of(nn.Linear(3, 4))).numbers
        40
        """
        width, ends = config.width, config.width * layout.size  # multiplications to enter and to leave the blocks
        if config.chunk:
            chunks = chunk_count(layout, config.chunk)
            span = min(config.window, chunks)
            core = config.window - 2 * config.halo  # windows start `core` chunks apart
            tokens = span * (math.ceil(chunks / core) if chunks > span else 1)
            outer = max(tokens, chunks) * max(config.chunk, config.latent)
            ends = width * tokens * (config.chunk + config.latent)
        else:
            span = tokens = sum(layer.neurons for layer in layout.layers) + (config.compression == "cls")
            outer = max(layout.size, config.latent)
            ends += width * tokens * config.latent
        pairs = tokens * span  # of tokens that attend to each other
        block = tokens * width * (4 * width + 2 * config.feedforward + STEPS)
        attention = pairs * (2 * width + EXPONENTIALS * config.heads)
        return cls(
            max(outer, tokens * max(3 * width, config.feedforward), pairs * config.heads),
            ends + config.depth * (block + attention),
        )
