"""The recipe of a zoo: how its networks are trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import torch

from hyperinit.errors import ArgumentError
from hyperinit.nets.residual import named

ACTIVATIONS = ("tanh", "relu", "sigmoid", "gelu")
INITS = ("default", "uniform", "normal", "kaiming_uniform", "kaiming_normal")
VARIED = ("activation", "decay", "dropout", "init", "rate")
SCHEDULES = ("constant", "linear", "cosine", "one-cycle")
OPTIMIZERS = ("adam", "adamw", "sgd")
AUGMENTS = ("", "crop", "crop-flip")
PAPER_CNN = "cnn"
PAPER_CNN_HAS: Mapping[str, tuple[Any, ...]] = {  # what its engines train, by field
    "optimizer": ("adam",), "schedule": ("constant", "linear"), "smoothing": (0,), "augment": ("",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ZooRecipe:
    """Train the networks of a zoo.

    With `families` = 0 every model starts from its own seed. Otherwise this many ancestors are trained, and each is
    the start of equally many models. Each model has its own data order and a learning rate that falls to zero.

    Args:
        images: name of the data set.
        network: "cnn" for the paper's CNN, or a residual network with its depth and width, such as "resnet14x16".
        models: number of networks.
        families: number of ancestors, 0 for none.
        init: "default" (PyTorch's), "uniform" (U(0, 1), the paper's), "normal" (N(0, 1)), "kaiming_uniform" or
            "kaiming_normal".
        activation: activation function of the CNN.
        batch: images per step.
        optimizer: "adam", "adamw" or "sgd". The latter two need a network other than the CNN.
        momentum: Nesterov momentum of "sgd".
        rate: learning rate for seeds or ancestors.
        schedule: "constant", "linear" or "cosine" for a rate that falls to zero, or "one-cycle" for one that rises in
            the first 30 % of the steps and then falls to zero (Smith and Topin 2017, arXiv:1708.07120).
        decay: weight decay. It is an L2 penalty but for "adamw".
        smoothing: label smoothing of the cross entropy, in [0, 1). It needs a network other than the CNN.
        augment: "" for none, "crop" for random crops, or "crop-flip" for random crops and mirror images. It needs a
            network other than the CNN.
        dropout: dropout probability after the activations of both 5x5 convolutions and of the first dense layer.
        vary: values of the hyperparameters in which seeds differ: activation, decay, dropout, init, rate. The models
            go through all combinations in an order that `seed` decides.
        epochs: training epochs of seeds or ancestors.
        snapshots: epochs after which seeds are saved. Empty means the last epoch alone.
        branch_rate: first learning rate of the members of a family.
        branch_epochs: training epochs of the members of a family.
        limit: number of training images, 0 for all.
        seed: seed of every random choice.

    Raises:
        ArgumentError: if a value is not allowed.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Table 7 and Appendix D.
    """

    images: str
    models: int
    network: str = PAPER_CNN
    families: int = 0
    init: str = "default"
    activation: str = "tanh"
    batch: int = 64
    optimizer: str = "adam"
    momentum: float = 0.9
    rate: float = 4e-3
    schedule: str = "constant"
    decay: float = 0.0
    smoothing: float = 0.0
    augment: str = ""
    dropout: float = 0.0
    vary: Mapping[str, Sequence[str | float]] = field(default_factory=dict)
    epochs: int = 3
    snapshots: tuple[int, ...] = ()
    branch_rate: float = 2e-3
    branch_epochs: int = 1
    limit: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        require(self.models >= 1, f"models must be at least 1, got {self.models}")
        per = self.models / max(1, self.families)
        require(per == int(per), f"models must be a multiple of families, got {self.models} and {self.families}")
        for key, allowed in (("schedule", SCHEDULES), ("optimizer", OPTIMIZERS), ("augment", AUGMENTS)):
            value = getattr(self, key)
            require(value in allowed, f"{key} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
        for key in ("momentum", "smoothing"):
            require(0 <= getattr(self, key) < 1, f"{key} must lie in [0, 1), got {getattr(self, key)}")
        require(self.init in INITS, f"init must be one of {', '.join(INITS)}, got {self.init!r}")
        require(
            self.activation in ACTIVATIONS,
            f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}",
        )
        require(0 <= self.dropout < 1, f"dropout must lie in [0, 1), got {self.dropout}")
        require(self.families >= 0, f"families must be at least 0, got {self.families}")
        least = (self.epochs, self.branch_epochs, self.batch)
        require(min(least) >= 1, f"epochs, branch_epochs and batch must be at least 1, got {least}")
        ok = all(0 < epoch <= self.epochs for epoch in self.snapshots) and not (self.snapshots and self.families)
        require(ok, f"snapshots must lie in 1 to {self.epochs} and need families = 0, got {self.snapshots}")
        self._check_network()
        self._check_varied()

    def _check_network(self) -> None:
        """Check the network, and that the CNN is trained by its own two engines, which know Adam alone."""
        if self.network != PAPER_CNN:
            with torch.device("meta"):  # draws no random numbers
                named(self.network, channels=1, classes=1)
            require(not self.dropout, f"dropout must be 0 for network {self.network}, got {self.dropout}")
            varied = "activation" in self.vary
            require(not varied, f"vary of activation needs network cnn, got {self.network}; remove activation from it")
            return
        for key, known in PAPER_CNN_HAS.items():
            got = getattr(self, key)
            require(
                got in known, f"{key} must be {' or '.join(map(str, known)) or repr('')} for network cnn, got {got!r}"
            )

    def _check_varied(self) -> None:
        """Check every value in `vary` now: otherwise a bad one fails after hours of training."""
        ok = set(self.vary) <= set(VARIED) and all(self.vary.values()) and not (self.vary and self.families)
        require(ok, f"vary must list values of {', '.join(VARIED)} and needs families = 0, got {dict(self.vary)}")
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
        """Return the fields as JSON gives them back, with lists for tuples.

        Fields in `LATER` are left out if they have their defaults: zoos from before they existed then compare equal.
        """
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {key: value for key, value in plain.items() if key not in LATER or value != LATER[key]}


# fields that the first version did not have, with their defaults
LATER: Mapping[str, Any] = {
    "dropout": 0.0, "vary": {}, "network": PAPER_CNN, "optimizer": "adam", "momentum": 0.9, "smoothing": 0.0,
    "augment": "",
}  # fmt: skip


def scaled(recipe: ZooRecipe, *, models: int | None, epochs: int | None, images: int | None) -> ZooRecipe:
    """Return the recipe with another number of models, epochs or images.

    Snapshots after the last epoch are dropped. If none is left, the snapshot is the last epoch.

    Args:
        recipe: recipe to change.
        models: number of models, rounded down to a multiple of the families. None keeps the recipe's number.
        epochs: epochs of seeds or ancestors. None keeps the recipe's number.
        images: number of training images. None keeps the recipe's limit.

    Raises:
        ArgumentError: if the result is not allowed, such as 0 models.

    >>> scaled(ZooRecipe(images="digits", models=160, families=10), models=25, epochs=None, images=None).models
    20
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
