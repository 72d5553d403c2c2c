"""An ensemble: several networks as one module that combines their outputs.

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
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from hyperinit import nets
from hyperinit.batches.loaders import count_right
from hyperinit.ensembles.file import COMBINE, FORMAT, NEEDS, check_finite, check_header, check_members, fill_members
from hyperinit.ensembles.side_by_side import SideBySide, stacked_forward
from hyperinit.errors import LONGEST, ArgumentError, ArtifactError, HyperinitError, LayoutError, UnknownNameError
from hyperinit.files import headers
from hyperinit.files.atomic import replacing


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
            ArgumentError: if the members' outputs differ in shape, or have fewer than two dimensions.
        """
        # stacked_forward takes batches of images only; torch.compile does not trace the cache of `allowed`
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

        The ensemble stays in its present mode, training or evaluation.

        Raises:
            ArgumentError: if x and y differ in length or are empty, or as for `member_outputs`.
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
        """Return one state dict per member, as `load_state_dict` takes them."""
        return [member.state_dict() for member in self.members]

    def save(self, path: str | Path) -> None:
        """Write all members into one safetensors file. The file is complete or absent.

        It describes the members' network if that is a plain `nn.Sequential`, see `hyperinit.nets`. Otherwise `load`
        needs a factory.

        Raises:
            ArtifactError: if a parameter is not finite; nothing is written.
        """
        first = self.members[0]
        try:
            architecture = nets.describe(first) if type(first) is nn.Sequential else None
        except LayoutError:
            architecture = None
        header = {
            "format": FORMAT, "needs": NEEDS, "n": len(self.members), "combine": self.combine,
            "architecture": architecture,
        }  # fmt: skip
        tensors = {
            f"{index}.{name}": value.detach().cpu().contiguous().clone()
            for index, state in enumerate(self.member_states())
            for name, value in state.items()
        }
        check_finite(self.members)
        header["digest"] = headers.digest(header, tensors)
        with replacing(Path(path)) as temporary:
            save_file(tensors, temporary, {"hyperinit-ensemble": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path, *, model: Callable[[], nn.Module] | None = None) -> Ensemble:
        """Read a file that `save` wrote.

        Args:
            path: the file.
            model: makes one member; needed if the file does not describe the members' network.

        Raises:
            ArgumentError: if a factory is needed.
            ArtifactError: if the file is missing, damaged or altered, or its tensors do not match the members.
        """
        path = Path(path)
        try:
            with headers.opened(path, "hyperinit-ensemble") as (header, file):
                found = headers.shapes(file, headers.DTYPES)
                check_header(header, len(found))
                architecture = header["architecture"]
                if model is None and architecture is None:
                    raise ArgumentError(f"model must be given: {path} does not describe the members' network")
                if model is None:
                    check_members(header["n"], architecture, found)
                tensors = {name: file.get_tensor(name) for name in found}
                if header.pop("digest", None) not in (None, headers.digest(header, tensors)):
                    raise ArtifactError("its contents do not match the digest in its header")
                members = [nets.build(architecture) if model is None else model() for _ in range(header["n"])]
                fill_members(members, tensors)
            check_finite(members)
        except ArgumentError:
            raise
        except FileNotFoundError:
            raise ArtifactError(f"{path} must be an ensemble that was saved whole, got: no such file") from None
        except (OSError, SafetensorError, HyperinitError) as error:
            raise ArtifactError(
                f"{path} must be an ensemble that was saved whole, got: {str(error)[:LONGEST]}"
            ) from None
        return cls(members, combine=header["combine"])

    def _combined(self, outputs: Tensor) -> Tensor:
        if self.combine == "logits":
            return outputs.mean(0)
        return outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))

    def extra_repr(self) -> str:
        """Name the way of combining in the module's repr."""
        return f"combine={self.combine!r}"
