"""What one network of a zoo is trained with, drawn from its own generator: start, data order and rates.

Every path that trains draws here, so that a recipe and a seed mean the same networks whichever path ran.

Letters: D weights per network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.layout.layers import NORM
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo.kernels import ACTIVATIONS, Floats


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


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How one model is trained: the images of every step, its learning rates and the weight decay.

    Args:
        order: indices of training images, int64 (steps, B).
        rates: learning rate of every step, float32 (steps,).
        decay: L2 penalty added to the gradient, as in `torch.optim.Adam(weight_decay=...)`.
        activation: "tanh", "relu", "sigmoid" or "gelu".
        dropout: share of the values that are zeroed behind the activations of both 5x5 convolutions and of the first
            dense layer, in [0, 1).
        seed: of the dropout, 0 to 2**32 - 1.
        keep: after how many steps to keep a snapshot, ascending; empty means after the last.
    """

    order: NDArray[np.int64]
    rates: Floats
    decay: float = 0.0
    keep: tuple[int, ...] = ()
    activation: str = "tanh"
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what the kernels would not."""
        if self.order.ndim != 2 or not self.order.size or self.rates.shape != self.order.shape[:1]:
            got = f"{self.order.shape} and {self.rates.shape}"
            raise ArgumentError(f"order must have shape (steps, B), not empty, and rates (steps,), got {got}")
        if self.keep and not (
            list(self.keep) == sorted(self.keep) and 0 < self.keep[0] <= self.keep[-1] <= len(self.order)
        ):
            raise ArgumentError(f"keep must ascend within 1 to {len(self.order)} steps, got {self.keep}")
        if self.activation not in ACTIVATIONS:
            raise ArgumentError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if not 0 <= self.dropout < 1 or not 0 <= self.seed < 2**32:
            got = f"{self.dropout} and {self.seed}"
            raise ArgumentError(f"dropout must lie in [0, 1) and its seed be a 32-bit number, got {got}")
