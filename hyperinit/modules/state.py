"""The state of a user's module: its modes, its device, and copies of its tensors to restore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hyperinit.errors import PlanError


class Backup:
    """Copies of tensors, from which `restore` writes the old values back in place.

    The tensors keep their identity and memory, so optimizers and views that refer to them stay valid. Any kind of
    tensor is accepted. Those without values, which are lazy or on the meta device, only keep their places.

    Args:
        tensors: those whose values are copied.
        modules: their parts get back the tensors that they hold now, if these were replaced, added or deleted. Parts
            of a class that is not torch's get back all of their attributes.
    """

    def __init__(self, tensors: Iterable[Tensor], modules: Iterable[nn.Module] = ()) -> None:
        different = {id(tensor): tensor for tensor in tensors}
        self._copies = [_Copy(tensor) for tensor in different.values() if has_values(tensor)]
        self._slots = [(slot, dict(slot)) for module in modules for part in module.modules() for slot in _slots(part)]

    @classmethod
    def of(cls, module: nn.Module) -> Backup:
        """Copy a module's parameters and buffers."""
        return cls([*module.parameters(), *module.buffers()], [module])

    @property
    def changed(self) -> bool:
        """Whether a value has changed, or a part holds another tensor."""
        return any(map(_replaced, self._slots)) or any(copy.changed for copy in self._copies)

    @torch.no_grad()
    def restore(self) -> None:
        """Write the old values back into every tensor that has changed. One that fails does not stop the others.

        >>> values = torch.zeros(2)
        >>> backup = Backup([values])
        >>> values += 1
        >>> backup.restore()
        >>> values
        tensor([0., 0.])
        """
        for slot, held in filter(_replaced, self._slots):
            slot.clear()
            slot.update(held)
        each(copy.restore for copy in self._copies)

    @torch.no_grad()
    def keep_memory(self) -> None:
        """Move present values back into the first memory of each tensor whose memory was exchanged.

        Views and other processes may share the first memory, so the tensor must not leave it.
        """
        for copy in self._copies:
            copy.keep_memory()


class _Copy:
    """The values of one tensor and, if it is dense, the memory that holds them."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._memory = local(tensor) if is_dense(tensor) else None  # a view, so that the memory stays reachable
        self._values = (tensor.detach() if self._memory is None else _once(self._memory)).clone()
        self._version = None if tensor.is_inference() else tensor._version

    @property
    def changed(self) -> bool:
        return not self._in_place or not self._is_equal

    @property
    def _in_place(self) -> bool:
        now = local(self._tensor)
        return self._memory is None or (is_dense(now) and _place(now) == _place(self._memory))

    @property
    def _is_equal(self) -> bool:
        if self._memory is not None:
            return same_values(_once(self._memory), self._values)
        return self._tensor._version == self._version and same_values(self._tensor.detach(), self._values)

    def restore(self) -> None:
        if not self._in_place:  # forward exchanged or resized the memory
            self._return_to_memory()
        if self._is_equal:
            return
        if self._memory is not None:
            with torch.inference_mode(self._memory.is_inference()):
                _once(self._memory).copy_(self._values)
            return
        try:
            self._tensor.copy_(self._values)
        except (RuntimeError, NotImplementedError):  # a sparse tensor that has another number of entries now
            self._tensor.data = self._values.clone()

    def keep_memory(self) -> None:
        if self._memory is not None and not self._in_place:
            self._memory.copy_(local(self._tensor))
            self._return_to_memory()

    def _return_to_memory(self) -> None:
        assert self._memory is not None
        if type(self._tensor) in (Tensor, nn.Parameter) and self._tensor.dtype != self._memory.dtype:
            self._tensor.data = self._memory
        else:
            self._tensor.set_(self._memory)  # type: ignore[call-overload]


def has_values(tensor: Tensor) -> bool:
    """Return whether a tensor has values: whether it is neither lazy nor on the meta device.

    >>> has_values(torch.zeros(2)), has_values(torch.zeros(2, device="meta"))
    (True, False)
    """
    return not is_lazy(tensor) and not tensor.is_meta


def same_values(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same bytes, in the same places if they are sparse. NaN equals itself.

    A tensor without a known layout, such as a nested one, is taken to be the same.

    >>> same_values(torch.tensor([torch.nan]), torch.tensor([torch.nan]))
    True
    """
    if one.is_nested:
        return True
    if one.layout != other.layout or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.is_quantized:
        return torch.equal(one.int_repr(), other.int_repr())
    if is_dense(one):
        return torch.equal(_bytes(one), _bytes(other))
    return all(map(same_values, _pieces(one), _pieces(other)))


def local(value: Tensor) -> Tensor:
    """Return this process's shard of a distributed tensor, and a detached view of any other tensor."""
    return value.to_local() if hasattr(value, "to_local") else value.detach()


def each(steps: Iterable[Callable[[], object]]) -> None:
    """Call every step, twice if it fails once, and raise the first exception only after the last step.

    An interrupt waits in this way, too, so that it cannot stop a repair half way.

    >>> done = []
    >>> each([lambda: done.append(1), lambda: done.append(2)])
    >>> done
    [1, 2]
    """
    waiting, failed, first = list(steps), None, None
    while waiting:
        try:
            while waiting:
                waiting[0]()
                del waiting[0]
        except BaseException as error:
            first = first or error
            if waiting and waiting[0] is failed:
                del waiting[0]
            failed = waiting[0] if waiting else None
    if first is not None:
        raise first


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor has strides and no packed values.

    >>> is_dense(torch.eye(2)), is_dense(torch.eye(2).to_sparse())
    (True, False)
    """
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized


def _place(memory: Tensor) -> tuple[Any, ...]:
    subclass = type(memory) not in (Tensor, nn.Parameter)  # those need not have a data pointer
    return None if subclass else memory.data_ptr(), memory.shape, memory.stride(), memory.dtype


def _once(memory: Tensor) -> Tensor:
    """Narrow an expanded tensor to the part that has memory of its own."""
    for axis, (step, size) in enumerate(zip(memory.stride(), memory.shape, strict=True)):
        if step == 0 and size > 1:
            memory = memory.narrow(axis, 0, 1)
    return memory


def _bytes(tensor: Tensor) -> Tensor:
    if type(tensor) not in (Tensor, nn.Parameter):
        return tensor
    whole = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return whole.as_strided((whole.numel(),), (1,)).view(torch.uint8)  # an axis of size 1 may have any stride


def _pieces(tensor: Tensor) -> list[Tensor]:
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def _slots(part: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield the dictionaries of a part that code of the user's may change."""
    held = vars(part)
    yield from (held[key] for key in ("_parameters", "_buffers") if isinstance(held.get(key), dict))
    if not type(part).__module__.startswith("torch."):  # torch's own parts may keep the state of a process group
        yield held


def _replaced(pair: tuple[dict[str, Any], dict[str, Any]]) -> bool:
    slot, held = pair
    return slot.keys() != held.keys() or any(slot[key] is not value for key, value in held.items())


@contextmanager
def restoring(backup: Backup) -> Iterator[None]:
    """Restore a backup if the block raises any exception, KeyboardInterrupt included."""
    try:
        yield
    except BaseException:
        backup.restore()
        raise


@contextmanager
def unchanged(module: nn.Module, message: str) -> Iterator[None]:
    """Refuse a block that changes a module. The module is restored then, and after any exception.

    Args:
        module: its parameters and buffers are copied before the block.
        message: of the error.

    Raises:
        PlanError: if the block changed a value, or which tensor a part holds.
    """
    backup = Backup.of(module)
    with restoring(backup):
        yield
        if backup.changed:
            raise PlanError(message)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's first parameter or buffer, or the CPU if it has none.

    >>> device_of(nn.Linear(1, 1))
    device(type='cpu')
    """
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


class Changed(AbstractContextManager[None]):
    """Give attributes of modules other values within a block. Afterwards each has its own value again.

    The old values are read when the object is made, and the new ones are set where any exception restores the old.

    Args:
        modules: those whose attributes change.
        **values: by the name of the attribute, one new value for each module.

    >>> parts = [nn.Dropout(0.1), nn.Dropout(0.2)]
    >>> with Changed(parts, p=[0.5, 0.6]):
    ...     print(parts[0].p)
    0.5
    >>> parts[0].p, parts[1].p
    (0.1, 0.2)
    """

    def __init__(self, modules: Iterable[nn.Module], **values: Iterable[Any]) -> None:
        parts = list(modules)
        self._after = [(p, name, value) for name, new in values.items() for p, value in zip(parts, new, strict=True)]
        self._before = [(part, name, getattr(part, name)) for part, name, _ in self._after]

    def __enter__(self) -> None:
        """Set the new values."""
        try:
            for new in self._after:
                setattr(*new)
        except BaseException:
            self._restore()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Set the old values again."""
        self._restore()

    def _restore(self) -> None:
        each(partial(setattr, *old) for old in self._before)


def evaluating(module: nn.Module) -> Changed:
    """Put a module and all its parts in evaluation mode within a block. Afterwards each part has its own mode again.

    >>> dropout = nn.Dropout()
    >>> with evaluating(nn.Sequential(dropout)):
    ...     print(dropout.training)
    False
    >>> dropout.training
    True
    """
    parts = list(module.modules())
    return Changed(parts, training=[False] * len(parts))
