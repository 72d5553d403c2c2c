"""Writing new values into a module: all of them or, after any exception, none."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hyperinit.errors import PlanError
from hyperinit.modules.state import Backup, has_values, is_dense, local, restoring
from hyperinit.modules.wrappers import effective, join, parametrisation, parametrised, parts

TOLERANCE = 1e-3  # largest error of a parametrised weight, as a share of the largest weight
ROUNDINGS = 4  # the error allowed in low precision, in units of its dtype's epsilon


@torch.no_grad()
def write(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters of a module, in place.

    Parameters keep their identity, dtype, device, `requires_grad`, tying and sharding. A parametrised tensor is
    written through its parametrisation's right inverse. Any exception, KeyboardInterrupt included, restores all old
    values before it is raised again. A second interrupt during the restoring may leave some values new.
    Needs memory for a copy of the parameters that are written.

    Args:
        module: without wrappers, see `hyperinit.modules.wrappers.unwrapped`.
        values: by plain name (see `hyperinit.modules.wrappers.plain`), in each parameter's dtype, whole tensors on
            the CPU.

    Raises:
        PlanError: if a parametrisation cannot represent its value.

    >>> net = nn.Linear(1, 1)
    >>> write(net, {"bias": torch.tensor([3.0])})
    >>> net.bias.item()
    3.0
    """
    through = parametrised(module)
    named = {join(path, key): value for path, part in parts(module) for key, value in _held(part)}
    parameters = {name: value for name, value in named.items() if value is not None and name not in through}
    touched = [parameters[name] for name in values if name in parameters]
    steps = [step for name in values.keys() & through.keys() for step in _steps(*through[name])]
    held = [value for step in steps for value in (*step.parameters(), *step.buffers())]
    # A right inverse may assign other tensors to a parametrisation, so the backup notes which tensors it holds now.
    backup = Backup([*touched, *held], steps)
    with restoring(backup):
        for name, value in values.items():
            if name in parameters:
                local(parameters[name]).copy_(piece(value, parameters[name]))
            else:
                _write_through(name, *through[name], value)
        backup.keep_memory()  # other processes may read the old memory


def _held(part: nn.Module) -> list[tuple[str, Tensor | None]]:
    return [*part._parameters.items(), *part._buffers.items()]


def shape_of(value: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor; () if it is lazy and has none yet.

    >>> shape_of(torch.zeros(2, 3)), shape_of(nn.LazyLinear(2).weight)
    ((2, 3), ())
    """
    return () if is_lazy(value) else tuple(value.shape)


def check_writable(parameters: Mapping[str, Tensor], left: Collection[str] = ()) -> None:
    """Refuse parameters that cannot be written.

    Args:
        parameters: all of a module, by name.
        left: names of those that are not written. They may be of any kind, but must not share memory with others.

    Raises:
        PlanError: if a parameter is not materialised, is expanded, or overlaps another, or none is floating-point.
    """
    written = {name: value for name, value in parameters.items() if name not in left}
    bare = [name for name, value in written.items() if is_lazy(value) or value.is_meta or value.is_inference()]
    if bare:
        raise PlanError(
            f"parameters must be materialised, got lazy, meta or inference-mode ones: {', '.join(bare[:8])}. Run one "
            f"batch through a lazy module, call to_empty(device=...) on a meta one, or build it outside inference_mode"
        )
    shared = [name for name, value in written.items() if is_dense(value) and not _own_memory(value)]
    if shared:
        raise PlanError(
            f"every weight must have memory of its own, got expanded ones: {', '.join(shared[:8])}; clone them, "
            f"or leave them out with exclude="
        )
    overlapping = _overlapping(parameters, left)
    if overlapping:
        raise PlanError(
            f"parameters must not lie in each other's memory, got {'; '.join(overlapping[:4])}. Tie them by using one "
            f"nn.Parameter in both places, or clone one"
        )
    if not any(value.numel() for value in written.values() if value.is_floating_point()):
        raise PlanError(f"the module must have floating-point parameters, got {len(written)} parameters and none")


def check_dense(parameters: Mapping[str, Tensor]) -> None:
    """Refuse parameters that are to be written although they are sparse or of another layout without strides.

    Raises:
        PlanError: with their names.
    """
    sparse = [name for name, value in parameters.items() if not is_dense(value)]
    if sparse:
        raise PlanError(
            f"parameters must be dense to be written, got sparse ones: {', '.join(sparse[:8])}; leave them out with "
            f"exclude="
        )


def _own_memory(value: Tensor) -> bool:
    return all(step or size < 2 for step, size in zip(value.stride(), value.shape, strict=True))


def _overlapping(parameters: Mapping[str, Tensor], left: Collection[str]) -> list[str]:
    """Find pairs of parameters of which one begins inside the memory of the other, and at least one is written."""
    spans = []
    for name, value in parameters.items():
        if not has_values(value) or not is_dense(value):
            continue
        memory = local(value)
        if type(memory) is Tensor and memory.numel():  # subclasses need not have a data pointer
            last = sum((size - 1) * step for size, step in zip(memory.shape, memory.stride(), strict=True))
            start = memory.data_ptr()
            spans.append((str(memory.device), start, start + (last + 1) * memory.element_size(), name))
    # Sorted by device and start, a span overlaps an earlier one if it begins before the furthest end so far.
    found, furthest = [], ("", 0, 0, "")
    for span in sorted(spans):
        if span[0] == furthest[0] and span[1] < furthest[2] and not (span[3] in left and furthest[3] in left):
            found.append(f"{span[3]} in {furthest[3]}")
        furthest = max(furthest, span, key=lambda each: (each[0], each[2]))
    return found


def whole(value: Tensor) -> Tensor:
    """Gather a distributed tensor from all processes, which must all call this. Return any other tensor as it is."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def piece(value: Tensor, parameter: Tensor) -> Tensor:
    """Return this process's shard of a whole tensor, cut as the parameter is, or all of it if that is not distributed.

    Nothing is communicated: every process must pass the same whole tensor.
    """
    if not hasattr(parameter, "to_local"):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None).to_local()


def _steps(part: nn.Module, key: str) -> list[nn.Module]:
    return list(parametrisation(part, key).modules())


def _write_through(name: str, part: nn.Module, key: str, value: Tensor) -> None:
    kinds = ", ".join(type(step).__name__.strip("_") for step in parametrisation(part, key))
    advice = f"call init_ before registering the parametrisation, or pass exclude={name!r}"
    try:
        setattr(part, key, value.to(effective(part, key).device))
    except (NotImplementedError, ValueError, RuntimeError) as error:
        raise PlanError(f"{name} cannot be set through its parametrisation {kinds}: {error}; {advice}") from error
    off = (effective(part, key).float().cpu() - value.float()).abs().max() / value.float().abs().max().clamp(min=1e-12)
    if not off <= max(TOLERANCE, ROUNDINGS * torch.finfo(value.dtype).eps):
        raise PlanError(
            f"{name} must hold the new weights, but its parametrisation {kinds} changes them by {off:.2g} times "
            f"the largest; {advice}"
        )
