"""The recipe of an autoencoder, and the paper's Table 8."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from hyperinit.autoencoder import TABLE8, AutoencoderConfig
from hyperinit.errors import UnknownNameError
from hyperinit_training.recipes.zoo import require

TABLE8_TRAINING = {  # batch, beta and epochs of the paper's Table 8
    "mnist": (500, 0.977, 1750),
    "svhn": (250, 0.92, 1750),
    "cifar10": (200, 0.95, 500),
    "stl10": (200, 0.95, 2000),
}


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """How the hyper-representation is built and trained.

    Args:
        width, heads, feedforward, depth, latent, compression, block, standardise, bounded, variational: see
            `hyperinit.autoencoder.AutoencoderConfig`.
        chunk, window, halo: likewise, for large networks; a training step then sees a window of each network.
        dropout: inside the transformer blocks, while training.
        steps: gradient steps.
        batch: snapshots a step; each gives two views.
        rate: peak learning rate of AdamW, reached after `warmup` steps and falling to zero as a cosine.
        warmup: steps until the peak rate.
        decay: weight decay.
        beta: weight of the reconstruction; 1 - beta is that of the contrast (paper, eq. 1).
        centre: what standardised weights are relative to: "layer", the mean and the deviation of each layer's weights,
            or "network", the zoo's mean network and each tensor's deviation from it. The latter suits fine-tunes of
            one base, which differ little: what is common to all need not be learnt.
        lwln: layer-wise loss normalisation (paper, eq. 2); false is the baseline without.
        align: reorder the neurons of every network to match a common reference before training.
        permutations: how many are precomputed, 0 for no such augmentation.
        permuted: share of the views that are permuted.
        target: what a view reconstructs: "view" (itself, the reference), "clean" (the view without erasing) or
            "aligned" (the network before permutation and erasing).
        erase: probability that a view is erased.
        latent_noise: standard deviation of the noise on the latents while training; a variational autoencoder draws
            with its own deviations instead.
        kl_weight: weight of the divergence from N(0, 1) per latent coordinate, KL / L, if variational. The paper found
            no reconstruction unless it is next to nothing (Appendix E.1), hence the small default.
        seed: decides everything.
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
    steps: int = 2000
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 1e-2
    beta: float = 0.98
    centre: str = "layer"
    lwln: bool = True
    align: bool = True
    permutations: int = 5000
    permuted: float = 0.5
    target: str = "aligned"
    erase: float = 0.5
    latent_noise: float = 0.05
    kl_weight: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values that no other code checks."""
        require(self.centre in ("layer", "network"), f"centre must be layer or network, got {self.centre!r}")
        targets = ("view", "clean", "aligned")
        require(self.target in targets, f"target must be one of {', '.join(targets)}, got {self.target!r}")
        require(
            self.steps >= 1 and self.batch >= 2,
            f"steps and batch must be at least 1 and 2, got {self.steps} and {self.batch}",
        )
        require(0 <= self.beta <= 1, f"beta must lie in [0, 1], got {self.beta}")
        require(0 <= self.permuted <= 1, f"permuted must lie in [0, 1], got {self.permuted}")
        require(0 <= self.kl_weight < 1e6, f"kl_weight must be at least 0, got {self.kl_weight}")
        self.config()

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: it rises linearly for `warmup` steps, then falls to zero as a cosine."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        return self.rate * (0.5 + 0.5 * math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))

    def config(self) -> AutoencoderConfig:
        """Return the part that the autoencoder is built from."""
        return AutoencoderConfig(**{key.name: getattr(self, key.name) for key in fields(AutoencoderConfig)})


def table8(images: str, snapshots: int) -> AutoencoderRecipe:
    """Return the autoencoder of the paper's Table 8, trained on a number of snapshots for the epochs it states.

    What the table does not give is the reference's where it is known (no alignment, a view reconstructs itself); the
    schedule of the rate is ours.

    Raises:
        UnknownNameError: if the table has no such images.

    >>> table8("svhn", 3500).steps
    24500
    """
    if images not in TABLE8_TRAINING:
        raise UnknownNameError(f"Table 8 has {', '.join(TABLE8_TRAINING)}, got {images!r}")
    batch, beta, epochs = TABLE8_TRAINING[images]
    return AutoencoderRecipe(
        **asdict(TABLE8[images]),
        batch=batch, beta=beta, steps=epochs * max(1, snapshots // batch), rate=1e-4, decay=1e-9,
        align=False, target="view", latent_noise=0.0,
    )  # fmt: skip
