"""Trained networks that a caller gives as a source. They are taken as they are: nothing is drawn.

Letters: n networks, D weights per network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError, counted, listed, one_line
from hyperinit.layout import Layout
from hyperinit.representation.card import Card


@dataclass(frozen=True, eq=False)
class Networks:
    """Trained networks of one kind.

    Args:
        layout: of their conv, linear and norm layers. Other parameters are not part of the source.
        weights: float32 (n, D), a copy.
        name: for messages: the path of a file, the class of a module, or the number of networks.
        network: one of them, float32 on the CPU; None if only state dicts are known. Do not change it.
        apart: names of parameters and buffers outside of the layout in which the networks differ.
    """

    layout: Layout
    weights: Tensor
    name: str
    network: nn.Module | None = field(default=None, repr=False)
    apart: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return n, the number of networks."""
        return len(self.weights)

    @property
    def card(self) -> Card:
        """A card without figures and without a method."""
        return Card(one_line(self.name), "networks of your own", "", "", {}, {}, "", {})

    @property
    def unproven(self) -> str:
        """Why outputs cannot be compared with those of the networks, beyond a network that is not known; or ""."""
        return f"the networks of the source also differ in {listed(self.apart, 3)}" if self.apart else ""

    def same(self, other: object) -> bool:
        """Return whether two sources hold the same networks, with the same weights."""
        return isinstance(other, Networks) and self.layout == other.layout and torch.equal(self.weights, other.weights)

    def beside(self, members: int | None) -> int:
        """Return the number of networks to lay side by side: as many as asked for, or all.

        Raises:
            ArgumentError: if more are asked for than there are.
        """
        if members is not None and members > len(self):
            raise ArgumentError(f"members must be at most {len(self)}, the number of networks given, got {members}")
        return len(self) if members is None else members

    def sample(self, count: int = 1) -> Tensor:
        """Return the weights of `count` networks, float32 (count, D): those given, in their order, and again.

        >>> Networks(Layout(()), torch.tensor([[1.0], [2.0]]), "two").sample(3)
        tensor([[1.],
                [2.],
                [1.]])
        """
        return self.weights[torch.arange(count, device="cpu") % len(self)]

    def layer_stats(self) -> dict[str, tuple[float, float]]:
        """Return the mean and standard deviation of the weights of each layer over all networks, in weight units."""
        found = {}
        for name, where in self.layout.layer_slices.items():
            part = self.weights[:, where]  # (n, weights of the layer)
            found[name] = (part.mean().item(), part.std().item() if part.numel() > 1 else 0.0)
        return found

    def build_model(self, weights: Tensor) -> nn.Module:
        """Build a network like the given ones with weights (D,).

        Raises:
            LayoutError: if only state dicts are known, or the networks differ in parameters outside of the layout.
        """
        if self.network is None:
            raise LayoutError(
                f"source={one_line(self.name)!r} holds weights without a network; pass model=, which makes one, or a "
                "module as the source"
            )
        if self.apart:
            raise LayoutError(
                f"source must hold {counted(len(self), 'network')} that differ in conv, linear and norm layers alone, "
                f"got others in {listed(self.apart, 3)}; pass model= to choose them"
            )
        model = copy.deepcopy(self.network)
        model.load_state_dict(self.layout.state(weights), strict=False)
        return model
