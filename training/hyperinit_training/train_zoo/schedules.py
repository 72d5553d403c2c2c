"""Starting weights, data order and learning rates of one network of a zoo, drawn from a generator of its own.

Both engines draw here, so a recipe and a seed give the same networks with either engine.

Letters: D weights per network, B images per step.
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
from hyperinit_training.recipes.zoo import ACTIVATIONS, ZooRecipe

Floats = NDArray[np.float32]
RISING, FIRST = 0.3, 25  # of "one-cycle": share of steps with a rising rate, divisor of its first rate; as in PyTorch


def generator_of(seed: int, model: int) -> torch.Generator:
    """Return the generator of one model. The ancestor of family f counts as model -1 - f."""
    return torch.Generator().manual_seed((seed * 1_000_003 + model) % 2**63)


def initial_weights(init: str, layout: Layout, generator: torch.Generator) -> Tensor:
    """Draw the starting weights (D,) of one network.

    Args:
        init: "default" draws as PyTorch does. "uniform" is U(0, 1), "normal" is N(0, 1), and the Kaiming methods are
            those of `torch.nn.init`. These four are the methods of the paper's zoos, with biases of 0.01. Norms always
            start with a scale of 1 and a shift of 0.
        layout: of the network.
        generator: the only source of randomness.

    >>> from hyperinit.nets import cnn
    >>> initial_weights("uniform", Layout.of(cnn()), torch.Generator().manual_seed(0)).min() >= 0
    tensor(True)
    """
    parts = []
    for layer in layout.layers:
        fan_in = layer.tensors[0].size // layer.neurons
        for tensor in layer.tensors:
            value = torch.empty(tensor.shape, dtype=torch.float32)
            if layer.kind == NORM:
                value.fill_(float(tensor.name.rpartition(".")[2] in ("weight", "running_var")))
            elif init == "default":
                value.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            elif len(tensor.shape) == 1:
                value.fill_(0.01)
            else:
                getattr(torch.nn.init, f"{init}_")(value, generator=generator)
            parts.append(value.reshape(-1))
    return torch.cat(parts)


def start(
    recipe: ZooRecipe, layout: Layout, count: int, generator: torch.Generator, ancestor: Tensor | None
) -> tuple[Tensor, Schedule]:
    """Return the starting weights (D,) and the schedule of one network.

    Args:
        recipe: of the network.
        layout: of the network.
        count: number of training images.
        generator: of the network, see `generator_of`.
        ancestor: weights (D,) from which a member of a family branches off. None draws the starting weights.

    Raises:
        ArgumentError: if there are too few images for one batch.
    """
    weights = initial_weights(recipe.init, layout, generator) if ancestor is None else ancestor
    return weights, schedule(recipe, count, generator, branch=ancestor is not None)


def schedule(recipe: ZooRecipe, count: int, generator: torch.Generator, *, branch: bool = False) -> Schedule:
    """Draw the data order of one model over `count` images, and set its learning rates.

    Every epoch drops the last batch if it is incomplete. A branch uses the epochs and the rate of a family's members.

    Raises:
        ArgumentError: if there are too few images for one batch.
    """
    epochs = recipe.branch_epochs if branch else recipe.epochs
    steps = count // recipe.batch
    if not steps:
        raise ArgumentError(f"an epoch needs at least one batch of {recipe.batch} images, got {count} images")
    orders = [torch.randperm(count, generator=generator)[: steps * recipe.batch] for _ in range(epochs)]
    order = torch.cat(orders).view(-1, recipe.batch).numpy()  # (epochs * steps, B)
    rate = recipe.branch_rate if branch else recipe.rate
    rates = learning_rates("linear" if branch else recipe.schedule, rate, len(order))
    keep = () if branch else tuple(epoch * steps for epoch in recipe.snapshots)
    seed = int(torch.randint(2**32, (), generator=generator)) if recipe.dropout else 0
    return Schedule(
        order=order, rates=rates, keep=keep, seed=seed,
        decay=recipe.decay, activation=recipe.activation, dropout=recipe.dropout,
    )  # fmt: skip


def learning_rates(schedule: str, rate: float, steps: int) -> Floats:
    """Return the learning rate of every step, float32 (steps,).

    Args:
        schedule: "constant", "linear", "cosine" or "one-cycle", see `ZooRecipe`.
        rate: the largest one.
        steps: number of steps.

    >>> learning_rates("linear", 1.0, 4)
    array([1.  , 0.75, 0.5 , 0.25], dtype=float32)
    """
    if schedule in ("constant", "linear"):
        return np.linspace(rate, rate if schedule == "constant" else 0, steps, endpoint=False, dtype=np.float32)
    rising = round(RISING * steps) if schedule == "one-cycle" else 0
    up = rate / FIRST + (rate - rate / FIRST) * (1 - np.cos(np.pi * np.arange(rising) / max(1, rising))) / 2
    down = rate * (1 + np.cos(np.pi * np.arange(steps - rising) / max(1, steps - rising))) / 2
    return np.concatenate([up, down]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The training of one model: the images and the learning rate of every step, and the regularisation.

    Args:
        order: indices of training images, int64 (steps, B).
        rates: learning rate of every step, float32 (steps,).
        decay: L2 penalty added to the gradient, as in `torch.optim.Adam(weight_decay=...)`.
        keep: numbers of steps after which a snapshot is kept, ascending. Empty keeps the last step only.
        activation: "tanh", "relu", "sigmoid" or "gelu".
        dropout: probability, in [0, 1), of zeroing a value after the activations of both 5x5 convolutions and of the
            first dense layer.
        seed: of the dropout, 0 to 2**32 - 1.

    Raises:
        ArgumentError: if a shape or a value is not allowed.
    """

    order: NDArray[np.int64]
    rates: Floats
    decay: float = 0.0
    keep: tuple[int, ...] = ()
    activation: str = "tanh"
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values, because the kernels do not."""
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
