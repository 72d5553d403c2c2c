"""Several networks as one module.

Letters used for tensor shapes: n members, B inputs in a batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hyperinit import nets
from hyperinit.errors import ArgumentError, ArtifactError, LayoutError, UnknownNameError
from hyperinit.evaluating import count_right
from hyperinit.files import replacing
from hyperinit.stacked import SideBySide, stacked_forward

COMBINE = ("probabilities", "logits")
FORMAT = 1


@dataclass(frozen=True)
class Accuracies:
    """Shares of right answers, 0 to 1: of the ensemble and of each member."""

    joint: float
    members: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the members'."""
        return sum(self.members) / len(self.members)


class Ensemble(nn.Module):
    """Members that see the same input and answer together.

    `forward` returns logits like a single network's, (B, classes): they go into `cross_entropy` and `argmax` as they
    are. With "probabilities" they are the logarithm of the mean of the members' softmax, with "logits" the mean of
    the members' logits.

    Args:
        members: one or more modules that return logits of the same shape, (B, classes) or (B, classes, ...).
        combine: "probabilities" or "logits".

    Raises:
        ArgumentError: if there are no members, or one is no module.
        UnknownNameError: for another `combine`.

    Source: mean of the softmax: Lakshminarayanan et al. 2017, arXiv:1612.01474.

    >>> ensemble = Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)])
    >>> probabilities = ensemble(torch.ones(5, 4)).exp()
    >>> torch.allclose(probabilities.sum(1), torch.ones(5))
    True
    """

    def __init__(self, members: Sequence[nn.Module], *, combine: str = "probabilities") -> None:
        super().__init__()
        if combine not in COMBINE:
            close = get_close_matches(combine, COMBINE, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(COMBINE)}"
            raise UnknownNameError(f"unknown combine {combine!r}; {hint}")
        if not members:
            raise ArgumentError("members must hold at least one module, got none")
        for member in members:
            if not isinstance(member, nn.Module):
                raise ArgumentError(f"members must be modules, got {type(member).__name__}")
        if len({id(parameter) for member in members for parameter in member.parameters()}) != sum(
            len(list(member.parameters())) for member in members
        ):
            raise ArgumentError("members must not share parameters, got some that do; make each one anew")
        self.members = nn.ModuleList(members)
        self.combine = combine
        self._side_by_side = SideBySide(self.members)

    def member_outputs(self, x: Tensor) -> Tensor:
        """Return each member's logits, (n, B, classes).

        Raises:
            ArgumentError: if the members' outputs differ in shape, or are no logits of a batch.
        """
        if x.ndim == 4 and len(x) and not torch.compiler.is_compiling() and self._side_by_side.allowed():
            return stacked_forward(list(self.members), x)
        outputs = [member(x) for member in self.members]
        shapes = list(dict.fromkeys(tuple(output.shape) for output in outputs))
        if len(shapes) > 1:
            raise ArgumentError(f"members must return tensors of one shape, got {', '.join(map(str, shapes))}")
        if len(shapes[0]) < 2:
            raise ArgumentError(f"members must return logits (B, classes), got {shapes[0]}")
        return torch.stack(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the combined logits, (B, classes)."""
        return self._combined(self.member_outputs(x))

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor, *, batch: int = 1024) -> Accuracies:
        """Return the accuracy of the ensemble and of every member on inputs (B, ...) with labels (B,), int64.

        The mode (training or evaluation) is the one the ensemble is in.
        """
        if len(x) != len(y) or not len(y):
            raise ArgumentError(f"x and y must be of one length of at least 1, got {len(x)} and {len(y)}")
        right = torch.zeros(len(self.members) + 1)
        for inputs, labels in zip(x.split(batch), y.split(batch), strict=True):
            outputs = self.member_outputs(inputs)
            right += count_right(torch.cat([self._combined(outputs)[None], outputs]), labels).cpu()
        joint, *members = (right / len(y)).tolist()
        return Accuracies(joint, tuple(members))

    def member_states(self) -> list[dict[str, Tensor]]:
        """Return the members' state dicts, one each, as `load_state_dict` takes them."""
        return [member.state_dict() for member in self.members]

    def save(self, path: str | Path) -> None:
        """Write all members into one safetensors file, whole or not at all.

        The file describes the members' network if that is a plain `nn.Sequential` (see `hyperinit.nets`); otherwise
        `load` needs a factory.
        """
        first = self.members[0]
        try:
            architecture = nets.describe(first) if type(first) is nn.Sequential else None
        except LayoutError:
            architecture = None
        header = {"format": FORMAT, "n": len(self.members), "combine": self.combine, "architecture": architecture}
        tensors = {
            f"{index}.{name}": value.contiguous().clone()
            for index, state in enumerate(self.member_states())
            for name, value in state.items()
        }
        with replacing(Path(path)) as temporary:
            save_file(tensors, temporary, {"hyperinit-ensemble": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path, *, model: Callable[[], nn.Module] | None = None) -> Ensemble:
        """Read what `save` wrote.

        Args:
            path: the file.
            model: makes one member; needed if the file does not describe the members' network.

        Raises:
            ArtifactError: if the file is missing, damaged, or holds other tensors than the members have.
        """
        try:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["hyperinit-ensemble"])
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            count, combine, architecture = header["n"], header["combine"], header["architecture"]
            if header["format"] != FORMAT or not 1 <= count <= len(tensors):
                raise ValueError(f"format {header['format']!r} with {count!r} members")
            if model is None and architecture is None:
                raise ArgumentError(f"model must be given: {path} does not describe the members' network")
            members = [nets.build(architecture) if model is None else model() for _ in range(count)]
            for index, member in enumerate(members):
                prefix = f"{index}."
                found = {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
                member.load_state_dict(found)
            return cls(members, combine=combine)
        except ArgumentError:
            raise
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ArtifactError(f"{path} must be an ensemble that was saved whole, got: {error}") from None

    def _combined(self, outputs: Tensor) -> Tensor:
        if self.combine == "logits":
            return outputs.mean(0)
        return outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))

    def extra_repr(self) -> str:
        """Show how members are combined when the module is printed."""
        return f"combine={self.combine!r}"
