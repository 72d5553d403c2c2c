"""The layout of a state dict's floating-point tensors in a row of a matrix, for networks of any architecture.

`hyperinit.layout.Layout` also knows neurons and permutation groups, but supports only some kinds of layers.

Letters: D values per row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from hyperinit.checkpoints.entries import bare_name, tensors_of, why_unusable
from hyperinit.errors import LayoutError

Shapes = dict[str, tuple[int, ...]]
RUNNING = ("running_mean", "running_var")  # names of buffers where only the state dict is known


@dataclass(frozen=True)
class StateTensor:
    """One floating-point tensor of a state dict: a parameter, or a buffer such as a running mean."""

    name: str
    shape: tuple[int, ...]
    buffer: bool

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class StateLayout:
    """The ordered floating-point tensors of a network, parameters and buffers.

    Args:
        tensors: in the order of the state dict.
        tied: for each tensor that shares the memory of an earlier one, the name of the earlier one. A row holds tied
            tensors once.
        left_out: names of tensors that are not in a row: later names of tied tensors, and integer tensors such as
            `num_batches_tracked`.

    >>> layout = StateLayout.of_module(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    >>> layout.size, int(layout.is_buffer.sum()), layout.left_out
    (21, 6, ('1.num_batches_tracked',))
    """

    tensors: tuple[StateTensor, ...]
    tied: Mapping[str, str]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, state: Mapping[str, Tensor], buffers: Set[str] | None = None) -> StateLayout:
        """Read the layout of a state dict. Default of `buffers`: all running means and variances.

        Raises:
            LayoutError: if a tensor is complex or not dense, or if there is no floating-point tensor.
        """
        first: dict[object, str] = {}
        tied, tensors = {}, []
        for name, value in state.items():
            if kind := why_unusable(value):
                raise LayoutError(f"a network must hold dense tensors, got {kind} in {name}")
            if value.is_complex():
                raise LayoutError(f"a network must hold real tensors, got {value.dtype} in {name}")
            if not value.is_floating_point():
                continue
            # The storage and not its address, which is 0 for all tensors on the meta device.
            place = (value.untyped_storage()._cdata, value.storage_offset(), value.shape, value.stride())
            if value.numel() and first.setdefault(place, name) != name:
                tied[name] = first[place]
            else:
                buffer = name in buffers if buffers is not None else name.rsplit(".", 1)[-1] in RUNNING
                tensors.append(StateTensor(name, tuple(value.shape), buffer))
        if not any(tensor.size for tensor in tensors):
            raise LayoutError(f"a network must hold floating-point tensors, got none among {len(state)} tensors")
        known = {tensor.name for tensor in tensors}
        return cls(tuple(tensors), tied, tuple(name for name in state if name not in known))

    @classmethod
    def of_module(cls, module: nn.Module) -> StateLayout:
        """Read the layout of a network.

        Raises:
            LayoutError: as `of`.
        """
        buffers = {bare_name(name) for name, _ in module.named_buffers()}
        return cls.of(tensors_of(module), buffers)

    @property
    def size(self) -> int:
        """D, the length of a row."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def shapes(self) -> Shapes:
        """Shape of every tensor by name."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    @property
    def slices(self) -> dict[str, slice]:
        """Position of each tensor in a row."""
        ends = accumulate(tensor.size for tensor in self.tensors)
        return {tensor.name: slice(end - tensor.size, end) for tensor, end in zip(self.tensors, ends, strict=True)}

    @property
    def is_buffer(self) -> Tensor:
        """Which values of a row belong to buffers, bool (D,)."""
        sizes = torch.tensor([tensor.size for tensor in self.tensors])
        return torch.tensor([tensor.buffer for tensor in self.tensors]).repeat_interleave(sizes)

    def select(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the floating-point and complex tensors of a state dict. Tied tensors come once, by first name."""
        found = {self.tied.get(name, name): value for name, value in state.items() if name in self.tied}
        return found | {
            name: value
            for name, value in state.items()
            if name not in self.tied and (value.is_floating_point() or value.is_complex())
        }

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether a state dict holds exactly the tensors of the layout, beside integer tensors."""
        return {name: tuple(value.shape) for name, value in self.select(state).items()} == self.shapes

    def views(self, row: Tensor) -> dict[str, Tensor]:
        """Return the named tensors of a row (D,) as views."""
        pairs = zip(self.tensors, self.slices.values(), strict=True)
        return {tensor.name: row[place].view(tensor.shape) for tensor, place in pairs}

    @torch.no_grad()
    def write_(self, module: nn.Module, row: Tensor) -> nn.Module:
        """Write a row (D,) into a network in place, and return the network. Integer tensors are not changed.

        Raises:
            LayoutError: if the network's tensors differ from the layout, or are on the meta device. The network is not
                changed then.
            LayoutError: if a tensor of the network cannot be written.
        """
        whole = tensors_of(module)
        if meta := next((name for name, value in whole.items() if value.is_meta), None):
            raise LayoutError(
                f"the network must hold values, got {meta} on the meta device; let the factory make it on the CPU"
            )
        state = self.select(whole)
        if problems := differences({name: tuple(value.shape) for name, value in state.items()}, self.shapes):
            raise LayoutError(f"the network must hold the tensors of the checkpoints, got {problems}")
        for name, value in self.views(row).items():
            try:
                state[name].copy_(value)
            except RuntimeError as error:  # such as an expanded tensor, whose values share one place in memory
                raise LayoutError(f"the network must hold tensors that can be written, got {name}: {error}") from None
        return module


def differences(found: Shapes, wanted: Shapes) -> str:
    """Describe the tensors in which two layouts differ; empty if they are equal.

    >>> differences({"a": (2,), "c": (1,)}, {"a": (3,), "b": (1,)})
    'missing b (1,); unexpected c (1,); a has shape (2,), expected (3,)'
    """
    lines = [f"missing {name} {shape}" for name, shape in wanted.items() if name not in found]
    lines += [f"unexpected {name} {shape}" for name, shape in found.items() if name not in wanted]
    lines += [
        f"{name} has shape {shape}, expected {wanted[name]}"
        for name, shape in found.items()
        if name in wanted and shape != wanted[name]
    ]
    more = [f"and {len(lines) - 4} more"] if len(lines) > 4 else []
    return "; ".join(lines[:4] + more)
