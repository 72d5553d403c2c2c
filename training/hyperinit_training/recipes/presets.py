"""Choose an autoencoder recipe by the size of the networks, their families and the available time."""

from __future__ import annotations

from dataclasses import asdict, replace

from hyperinit.autoencoder import TABLE8
from hyperinit.errors import unknown
from hyperinit.layout import Layout
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe

PRESETS = ("tiny", "small", "paper")
LARGE = 50_000  # weights per network above which the autoencoder works on chunks
INDICES = 25_000_000  # limit of permutations * weights, at 4 bytes each 100 MB
WHOLE = {  # one latent per network
    "tiny": {"width": 64, "feedforward": 256, "latent": 64, "batch": 32, "steps": 400},
    "small": {"width": 128, "feedforward": 512, "latent": 256, "batch": 64, "steps": 2000},
    "paper": {**asdict(TABLE8["mnist"]), "batch": 64, "rate": 1e-4, "steps": 10_000},
}
CHUNKED = {  # one latent per chunk, as in SANE, arXiv:2406.09997
    "tiny": {"chunk": 256, "width": 64, "feedforward": 256, "latent": 16, "window": 32, "halo": 8, "batch": 8,
             "steps": 300},
    "small": {"chunk": 256, "width": 128, "feedforward": 512, "latent": 32, "window": 64, "halo": 16, "batch": 16,
              "steps": 1500},
    "paper": {"chunk": 288, "width": 512, "heads": 8, "feedforward": 2048, "depth": 4, "latent": 128, "window": 256,
              "halo": 64, "batch": 32, "steps": 20_000},
}  # fmt: skip


def preset(name: str, layout: Layout, models: int, *, one_family: bool, seed: int = 0) -> AutoencoderRecipe:
    """Return the recipe of an autoencoder for a zoo.

    Networks of one family differ little and lie in one loss basin. Their weights are standardised by the zoo's mean
    network, and views are neither permuted nor erased. Other networks are permuted if the layout has permutation
    groups.

    Args:
        name: "tiny" (a quick check of the pipeline), "small" (two cores) or "paper" (a GPU, or days).
        layout: layout of the networks.
        models: number of training networks. The batch is at most this large.
        one_family: True if most networks come from one base.
        seed: seed of every random choice.

    Raises:
        UnknownNameError: if there is no such preset.

    >>> from torch import nn
    >>> preset("small", Layout.of(nn.Linear(300, 300)), 20, one_family=True).chunk
    256
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    recipe = AutoencoderRecipe(**(CHUNKED if layout.size > LARGE else WHOLE)[name], seed=seed)
    recipe = replace(recipe, batch=max(2, min(recipe.batch, models)))
    if one_family:
        return replace(recipe, centre="network", standardise=True, align=False, permutations=0, erase=0.0)
    count = min(recipe.permutations, INDICES // layout.size) if layout.group_sizes else 0
    return replace(
        recipe, standardise=True, align=bool(layout.group_sizes), permutations=count, erase=0.0 if recipe.chunk else 0.5
    )
