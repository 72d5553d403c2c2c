"""An ensemble: several networks as one module that combines their outputs.

Letters used for tensor shapes: n members, B inputs in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit.batches.loaders import count_right
from hyperinit.ensembles import file
from hyperinit.ensembles.chains import Watch
from hyperinit.ensembles.file import COMBINE
from hyperinit.ensembles.side_by_side import stacked_forward
from hyperinit.errors import ArgumentError, shown, unknown


@dataclass(frozen=True)
class Accuracies:
    """Shares of right answers, 0 to 1, of the ensemble (`joint`) and of each member."""

    joint: float
    members: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy of the members."""
        return sum(self.members) / len(self.members)


class Ensemble(nn.Module):
    """Members that get the same input and whose outputs are combined.

    `forward` returns logits (B, classes), which `cross_entropy` and `argmax` take like those of a single network. With
    combine="probabilities" they are the logarithm of the mean of the members' softmax. With "logits" they are the mean
    of the members' logits.

    Args:
        members: one or more modules that return logits of the same shape, (B, classes) or (B, classes, ...).
        combine: "probabilities" or "logits".

    Raises:
        ArgumentError: if there are no members, if one is not a module, or if they share parameters.
        UnknownNameError: for another `combine`.

    Source: mean of the softmax: Lakshminarayanan et al. 2017, arXiv:1612.01474.

    >>> ensemble = Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)])
    >>> probabilities = ensemble(torch.ones(5, 4)).exp()
    >>> torch.allclose(probabilities.sum(1), torch.ones(5))
    True
    """

    def __init__(self, members: Iterable[nn.Module], *, combine: str = "probabilities") -> None:
        super().__init__()
        if not isinstance(combine, str) or combine not in COMBINE:  # an array compares with each name
            raise unknown("combine", combine, COMBINE)
        if not isinstance(members, Iterable) or isinstance(members, Tensor | str):
            raise ArgumentError(f"members must be a list of modules, got {type(members).__name__}")
        members = list(members)
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
        self._watch = Watch()

    def member_outputs(self, x: Tensor) -> Tensor:
        """Return each member's logits, (n, B, classes).

        Members that are plain chains of the same layers run side by side, with one call per layer, where that gives
        what they give one by one. Otherwise each member is called.

        Raises:
            ArgumentError: if there are no members, or if their outputs are no tensors, differ in shape, or have fewer
                than two dimensions.
        """
        members = list(self.members)
        steps = self._watch.steps(members, x)
        if steps is not None:
            try:
                return stacked_forward(steps, x)
            except RuntimeError:
                pass  # the members raise it again below, with a message about one member's layer
        outputs = [member(x) for member in members]
        _check_outputs(outputs)
        return torch.stack(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the combined logits, (B, classes)."""
        return self._combined(self.member_outputs(x))

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor, *, batch: int = 1024) -> Accuracies:
        """Return the accuracy of the ensemble and of every member on inputs (B, ...).

        The ensemble stays in its present mode, training or evaluation.

        Args:
            x: inputs, (B, ...).
            y: class indices, integers (B,), or (B, ...) if the members return (B, classes, ...).
            batch: number of inputs at once.

        Raises:
            ArgumentError: if x and y are no tensors, differ in length or are empty, if y does not have the shape of
                the outputs without their classes, or as for `member_outputs`.
        """
        if not isinstance(x, Tensor) or not isinstance(y, Tensor) or not x.ndim or not y.ndim:
            raise ArgumentError(f"x and y must be tensors (B, ...), got {type(x).__name__} and {type(y).__name__}")
        if len(x) != len(y) or not len(y):
            raise ArgumentError(f"x and y must be of one length of at least 1, got {len(x)} and {len(y)}")
        if type(batch) is not int or batch < 1:
            raise ArgumentError(f"batch must be a positive integer, got {shown(batch)}")
        right = torch.zeros(len(self.members) + 1, dtype=torch.int64, device="cpu")
        for inputs, labels in zip(x.split(min(batch, len(x))), y.split(min(batch, len(x))), strict=True):
            outputs = self.member_outputs(inputs)
            right += self._count_right(torch.cat([self._combined(outputs)[None], outputs]), labels).cpu()
        joint, *members = (right.double() / y.numel()).tolist()
        return Accuracies(joint, tuple(members))

    @staticmethod
    def _count_right(outputs: Tensor, labels: Tensor) -> Tensor:
        """Count the right answers of outputs (n, B, classes, ...) with labels (B, ...), int64 (n,)."""
        expected = (outputs.shape[1], *outputs.shape[3:])
        if labels.shape != expected:
            raise ArgumentError(f"y must hold labels of shape {expected} for these outputs, got {tuple(labels.shape)}")
        return count_right(outputs.movedim(2, -1).flatten(1, -2), labels.flatten())

    def member_states(self) -> list[dict[str, Tensor]]:
        """Return one state dict per member, as `load_state_dict` takes them."""
        return [member.state_dict() for member in self.members]

    def save(self, path: str | Path) -> None:
        """Write all members into one safetensors file. The file is complete or absent.

        It describes the members' network if that is one for all members and `hyperinit.nets` can describe it. Otherwise
        `load` needs a factory.

        Raises:
            ArtifactError: if `load` would refuse the file, as it does parameters that are not finite, values that are
                no dense tensors, and dtypes that docs/artifact.md does not list; nothing is written.
            ArgumentError: if `path` is no path.
            WriteError: if the file cannot be written.
        """
        file.write(_path(path), list(self.members), self.combine)

    @classmethod
    def load(cls, path: str | Path, *, model: Callable[[], nn.Module] | None = None) -> Ensemble:
        """Read a file that `save` wrote.

        Args:
            path: the file.
            model: makes one member; needed if the file does not describe the members' network.

        Raises:
            ArgumentError: if a factory is needed, or if it makes no module, or `path` is no path.
            ArtifactError: if the file is missing, damaged or altered, or its tensors do not match the members.
        """
        members, combine = file.read(_path(path), model)
        return cls(members, combine=combine)

    def _combined(self, outputs: Tensor) -> Tensor:
        if self.combine == "logits":
            return outputs.mean(0)
        return outputs.log_softmax(2).logsumexp(0) - math.log(len(self.members))

    def extra_repr(self) -> str:
        """Name the way of combining in the module's repr."""
        return f"combine={self.combine!r}"


def _path(path: str | Path) -> Path:
    if not isinstance(path, str | Path):
        raise ArgumentError(f"path must be the path of a file, got {shown(path)}")
    if "\0" in str(path):
        raise ArgumentError(f"path must be the path of a file, got {shown(str(path))} with a null character")
    return Path(path)


def _check_outputs(outputs: Sequence[Tensor]) -> None:
    """Compare the shapes of the members' outputs, without a step that ties a tracer to the shapes that it sees.

    Raises:
        ArgumentError: as for `Ensemble.member_outputs`.
    """
    if not outputs:
        raise ArgumentError("members must hold at least one module, got none")
    for output in outputs:
        if not hasattr(type(output), "__torch_function__"):  # tensors, and the stand-ins of torch.fx
            raise ArgumentError(f"members must return tensors, got {type(output).__name__}")
    if torch._C._get_tracing_state() or not all(isinstance(output, Tensor) for output in outputs):
        return
    if any(output.shape != outputs[0].shape for output in outputs):
        shapes = list(dict.fromkeys(str(tuple(output.shape)) for output in outputs))
        raise ArgumentError(f"members must return tensors of one shape, got {', '.join(shapes)}")
    if outputs[0].ndim < 2:
        raise ArgumentError(f"members must return logits (B, classes), got {tuple(outputs[0].shape)}")
