"""What one network of a zoo is trained with, drawn from its own generator: start, data order and rates.

Every path that trains draws here, so that a recipe and a seed mean the same networks whichever path ran.

Letters: D weights per network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.specs import NORM
from hyperinit_training.compiled_cnn import Schedule
from hyperinit_training.zoo_recipe import ZooRecipe


def generator_of(seed: int, model: int) -> torch.Generator:
    """Return the generator of one model; that of family f's ancestor has the number -1 - f."""
    return torch.Generator().manual_seed((seed * 1_000_003 + model) % 2**63)


def initial_weights(init: str, layout: Layout, generator: torch.Generator) -> Tensor:
    """Draw a starting point (D,): "default" is PyTorch's, the others are those of the paper's zoos.

    The paper's zoos have biases of 0.01; "uniform" is U(0, 1) and "normal" N(0, 1), as `torch.nn.init` has them. Norms
    start as PyTorch's do, with scales of 1 and shifts of 0.

    >>> from hyperinit.nets import cnn
    >>> initial_weights("uniform", Layout.of(cnn()), torch.Generator().manual_seed(0)).min() >= 0
    tensor(True)
    """
    parts = []
    for layer in layout.layers:
        fan_in = layer.tensors[0].size // layer.neurons
        for tensor in layer.tensors:
            value = torch.empty(tensor.shape)
            if layer.kind == NORM:
                value.fill_(float(tensor.name.rpartition(".")[2] == "weight"))
            elif init == "default":
                value.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            elif len(tensor.shape) == 1:
                value.fill_(0.01)
            else:
                getattr(torch.nn.init, f"{init}_")(value, generator=generator)
            parts.append(value.reshape(-1))
    return torch.cat(parts)


def schedule(recipe: ZooRecipe, count: int, generator: torch.Generator, *, branch: bool = False) -> Schedule:
    """Draw the data order of one model over `count` images, a last smaller batch left out, and its rates."""
    epochs = recipe.branch_epochs if branch else recipe.epochs
    steps = count // recipe.batch
    if not steps:
        raise ArgumentError(f"an epoch needs at least one batch of {recipe.batch} images, got {count} images")
    orders = [torch.randperm(count, generator=generator)[: steps * recipe.batch] for _ in range(epochs)]
    order = torch.cat(orders).view(-1, recipe.batch).numpy()
    rate = recipe.branch_rate if branch else recipe.rate
    falling = branch or recipe.schedule == "linear"
    rates = np.linspace(rate, 0 if falling else rate, len(order), endpoint=False, dtype=np.float32)
    keep = () if branch else tuple(epoch * steps for epoch in recipe.snapshots)
    seed = int(torch.randint(2**32, (), generator=generator)) if recipe.dropout else 0
    return Schedule(
        order=order, rates=rates, keep=keep, seed=seed,
        decay=recipe.decay, activation=recipe.activation, dropout=recipe.dropout,
    )  # fmt: skip
