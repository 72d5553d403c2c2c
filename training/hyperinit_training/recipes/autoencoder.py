"""The recipe of an autoencoder: its sizes and how it is trained. Also the paper's Table 8."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from hyperinit.autoencoder import TABLE8, AutoencoderConfig
from hyperinit.errors import unknown
from hyperinit_training.recipes.zoo import require

TABLE8_TRAINING = {  # batch size, beta and epochs of the paper's Table 8
    "mnist": (500, 0.977, 1750),
    "svhn": (250, 0.92, 1750),
    "cifar10": (200, 0.95, 500),
    "stl10": (200, 0.95, 2000),
}
TARGETS = ("view", "clean", "aligned")


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe(AutoencoderConfig):
    """Build and train the autoencoder of a hyper-representation.

    The sizes and options of the autoencoder are the fields of `hyperinit.autoencoder.AutoencoderConfig`, with its
    defaults and checks. If `chunk` is not 0, a training step uses one window of each network.

    Args:
        steps: number of gradient steps.
        batch: snapshots per step. Each snapshot gives two views.
        rate: peak learning rate of AdamW. It is reached after `warmup` steps and then falls to zero as a cosine.
        warmup: number of steps until the peak learning rate.
        decay: weight decay of AdamW.
        beta: weight of the reconstruction loss. The contrastive loss has the weight 1 - beta (paper, eq. 1).
        centre: origin and unit of standardised weights. "layer" uses the mean and standard deviation of each layer.
            "network" uses the mean network of the zoo and the spread of each tensor around it. It suits networks that
            are fine-tuned from one base, because the autoencoder need not learn what they share.
        lwln: use layer-wise loss normalisation (paper, eq. 2). False gives the unnormalised baseline.
        align: before training, permute the neurons of every network to match a common reference.
        permutations: number of precomputed permutations. 0 turns the permutation augmentation off.
        permuted: probability that a view is permuted.
        target: what the decoder reconstructs from a view. "view" is the view itself, as in the released code. "clean"
            is the view before erasing. "aligned" is the network before permutation and erasing.
        erase: probability that a block of a view is erased.
        latent_noise: standard deviation of the noise added to latents in training. A variational autoencoder ignores
            it and uses the standard deviations that its encoder predicts.
        kl_weight: weight of the divergence from N(0, 1) per latent coordinate, KL / L. Only variational autoencoders
            use it. The default is small because larger weights prevented reconstruction (paper, Appendix E.1).
        seed: seed of every random choice.

    Raises:
        ArgumentError: if a value is not allowed.
    """

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
        """Check the values of the training, then those of the autoencoder."""
        require(self.centre in ("layer", "network"), f"centre must be layer or network, got {self.centre!r}")
        require(self.target in TARGETS, f"target must be one of {', '.join(TARGETS)}, got {self.target!r}")
        require(
            self.steps >= 1 and self.batch >= 2,
            f"steps and batch must be at least 1 and 2, got {self.steps} and {self.batch}",
        )
        require(0 <= self.beta <= 1, f"beta must lie in [0, 1], got {self.beta}")
        require(0 <= self.permuted <= 1, f"permuted must lie in [0, 1], got {self.permuted}")
        require(0 <= self.kl_weight < 1e6, f"kl_weight must be at least 0, got {self.kl_weight}")
        super().__post_init__()

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: it rises linearly for `warmup` steps, then falls to zero as a cosine."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        return self.rate * (0.5 + 0.5 * math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))

    def config(self) -> AutoencoderConfig:
        """Return the fields of the autoencoder alone: an artifact stores these, without those of the training."""
        return AutoencoderConfig(**{key.name: getattr(self, key.name) for key in fields(AutoencoderConfig)})


def table8(images: str, snapshots: int) -> AutoencoderRecipe:
    """Return the recipe of the paper's Table 8.

    The released code gives the options that the table leaves out: no alignment, and a view reconstructs itself. The
    learning-rate schedule is this project's own.

    Args:
        images: name of the data set, a key of `TABLE8_TRAINING`.
        snapshots: number of training snapshots, from which the table's epochs become steps.

    Raises:
        UnknownNameError: if the table has no such data set.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Table 8.

    >>> table8("svhn", 3500).steps
    24500
    """
    if images not in TABLE8_TRAINING:
        raise unknown("images of Table 8", images, TABLE8_TRAINING)
    batch, beta, epochs = TABLE8_TRAINING[images]
    return AutoencoderRecipe(
        **asdict(TABLE8[images]),
        batch=batch, beta=beta, steps=epochs * max(1, snapshots // batch), rate=1e-4, decay=1e-9,
        align=False, target="view", latent_noise=0.0,
    )  # fmt: skip
