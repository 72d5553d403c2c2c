"""The recipe of a zoo: how its networks are trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import torch

from hyperinit.errors import ArgumentError

ACTIVATIONS = ("tanh", "relu", "sigmoid", "gelu")
INITS = ("default", "uniform", "normal", "kaiming_uniform", "kaiming_normal")
VARIED = ("activation", "decay", "dropout", "init", "rate")


@dataclass(frozen=True, kw_only=True)
class ZooRecipe:
    """How the networks of a zoo are trained.

    With `families` = 0 every model starts from its own seed. With families, that many ancestors are trained and the
    models branch off from them in equal numbers, each with its own data order and a rate falling to zero.

    Args:
        images: name of the data set.
        models: number of networks.
        families: number of ancestors, 0 for none.
        init: "default" (PyTorch's), "uniform" (U(0, 1), the paper's), "normal" (N(0, 1)), "kaiming_uniform" or
            "kaiming_normal".
        activation: of the CNN.
        batch: images a step.
        rate: learning rate of Adam, of seeds or ancestors.
        schedule: "constant", or "linear" for a rate that falls to zero.
        decay: weight decay of Adam.
        dropout: behind the activations of both 5x5 convolutions and of the first dense layer.
        vary: hyperparameters in which seeds differ, each with its values: activation, decay, dropout, init, rate. The
            models go through all combinations, in an order of the seed's.
        epochs: epochs of training, of seeds or ancestors.
        snapshots: epochs at which seeds are kept; empty means the last.
        branch_rate: first learning rate of a family's members.
        branch_epochs: epochs of a family's members.
        limit: number of training images, 0 for all.
        seed: decides everything.
    """

    images: str
    models: int
    families: int = 0
    init: str = "default"
    activation: str = "tanh"
    batch: int = 64
    rate: float = 4e-3
    schedule: str = "constant"
    decay: float = 0.0
    dropout: float = 0.0
    vary: Mapping[str, Sequence[str | float]] = field(default_factory=dict)
    epochs: int = 3
    snapshots: tuple[int, ...] = ()
    branch_rate: float = 2e-3
    branch_epochs: int = 1
    limit: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values that no other code checks."""
        require(self.models >= 1, f"models must be at least 1, got {self.models}")
        per = self.models / max(1, self.families)
        require(per == int(per), f"models must be a multiple of families, got {self.models} and {self.families}")
        require(self.schedule in ("constant", "linear"), f"schedule must be constant or linear, got {self.schedule!r}")
        require(self.init in INITS, f"init must be one of {', '.join(INITS)}, got {self.init!r}")
        require(self.activation in ACTIVATIONS, f"unknown activation {self.activation!r}, not {', '.join(ACTIVATIONS)}")
        require(0 <= self.dropout < 1, f"dropout must lie in [0, 1), got {self.dropout}")
        require(self.families >= 0, f"families must be at least 0, got {self.families}")
        least = (self.epochs, self.branch_epochs, self.batch)
        require(min(least) >= 1, f"epochs, branch_epochs and batch must be at least 1, got {least}")
        ok = all(0 < epoch <= self.epochs for epoch in self.snapshots) and not (self.snapshots and self.families)
        require(ok, f"snapshots must lie within {self.epochs} epochs of seeds, got {self.snapshots}")
        self._check_varied()

    def _check_varied(self) -> None:
        """Check every value that a model will get, so that none fails after hours."""
        ok = set(self.vary) <= set(VARIED) and all(self.vary.values()) and not (self.vary and self.families)
        require(ok, f"vary must list values of {', '.join(VARIED)} for a zoo of seeds, got {dict(self.vary)}")
        for key, values in self.vary.items():
            for value in values:
                self._with({key: value})

    @property
    def varied(self) -> tuple[ZooRecipe, ...]:
        """Return the recipe of every model, without `vary`.

        >>> [r.rate for r in ZooRecipe(images="svhn", models=3, vary={"rate": [0.1, 0.2]}).varied]
        [0.1, 0.2, 0.1]
        """
        combinations = [dict(zip(self.vary, values, strict=True)) for values in product(*self.vary.values())]
        order = torch.randperm(len(combinations), generator=torch.Generator().manual_seed(self.seed)).tolist()
        chosen = (combinations[order[model % len(order)]] for model in range(self.models))
        return tuple(self._with(values) for values in chosen)

    def _with(self, values: Mapping[str, Any]) -> ZooRecipe:
        return replace(self, vary={}, **values)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON gives back: lists for tuples; `dropout` and `vary` only where used, as in older zoos."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {key: value for key, value in plain.items() if key not in ("dropout", "vary") or value}


def scaled(recipe: ZooRecipe, *, models: int | None, epochs: int | None, images: int | None) -> ZooRecipe:
    """Return the recipe with fewer models, epochs or images; None keeps what it says.

    Snapshots later than the last epoch go; if none is left, the last epoch is kept and the recipe says so.
    """
    models = recipe.models if models is None else models
    epochs = recipe.epochs if epochs is None else epochs
    families = min(recipe.families, models)
    return replace(
        recipe,
        models=models - models % max(1, families),
        families=families,
        epochs=epochs,
        snapshots=tuple(epoch for epoch in recipe.snapshots if epoch <= epochs) or (epochs,) * bool(recipe.snapshots),
        limit=recipe.limit if images is None else images,
    )


def require(holds: bool, message: str) -> None:
    """Raise an ArgumentError with the message unless the condition holds."""
    if not holds:
        raise ArgumentError(message)
