"""Views of a module without wrappers and parametrisations: plain tensors under the names its author gave them.

Plans are made from such a view. `hyperinit.modules.write` writes values back into the module itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hyperinit.errors import PlanError
from hyperinit.modules.state import Backup, evaluating

WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module")  # child of torch.compile and of checkpoint_wrapper
OLD_HOOKS = ("WeightNorm", "SpectralNorm")  # set by torch.nn.utils.weight_norm and spectral_norm


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside `torch.compile`, `DataParallel`, `DistributedDataParallel` and `checkpoint_wrapper`.

    >>> net = nn.Linear(2, 1)
    >>> unwrapped(nn.DataParallel(nn.DataParallel(net))) is net
    True
    """
    while (inside := _inside(model)) is not None:
        model = inside
    return model


def wrapped(model: nn.Module) -> bool:
    """Say whether any part of a module is compiled, data parallel, checkpointed or sharded.

    >>> wrapped(nn.Linear(2, 1)), wrapped(nn.Sequential(nn.DataParallel(nn.Linear(2, 1))))
    (False, True)
    """
    inside = any(_inside(part) or getattr(part, "_compiled_call_impl", None) for part in model.modules())
    return inside or any(hasattr(value, "to_local") for value in model.parameters())


def _inside(model: nn.Module) -> nn.Module | None:
    parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    return next((model._modules[key] for key in (("module",) if parallel else WRAPPED) if key in model._modules), None)


def parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield each part once, as `named_modules` does, but leave out wrappers and their part of the names.

    >>> [name for name, _ in parts(nn.Sequential(nn.DataParallel(nn.Sequential(nn.ReLU()))))]
    ['', '0', '0.0']
    """
    yield from _parts(model, "", set())


def _parts(model: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    module = unwrapped(model)
    if id(module) not in seen:
        seen.add(id(module))
        yield path, module
        for name, child in module._modules.items():
            if child is not None:
                yield from _parts(child, join(path, name), seen)


def join(path: str, name: str) -> str:
    """Join the path of a module and the name of one of its parts or parameters.

    >>> join("0", "weight"), join("", "weight")
    ('0.weight', 'weight')
    """
    return f"{path}.{name}" if path else name


def plain(module: nn.Module) -> nn.Module:
    """Return the module itself or, if parts are wrapped or parametrised, a stand-in with plain parts in their place.

    The stand-in shares everything else with the module, tensors included. The module does not change, nor do the
    running estimates of a spectral norm.

    Raises:
        PlanError: if a part has no plain weights: it has hooks of `torch.nn.utils.weight_norm`, `spectral_norm` or
            `prune`, is wrapped by the first version of FSDP, or has a parametrisation with sharded parameters.

    >>> net = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))
    >>> [name for name, _ in net.named_parameters()]
    ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
    >>> [name for name, _ in plain(net).named_parameters()]
    ['weight', 'bias']
    """
    for name, part in parts(module):
        _check(name, part)
    if not any(parametrize.is_parametrized(part) or _inside(part) for part in module.modules()):
        return module
    return _stand_in(module, {})


def parametrised(module: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Map the full plain name of each parametrised tensor to the part that holds it and its name in that part.

    >>> net = nn.Sequential(torch.nn.utils.parametrizations.orthogonal(nn.Linear(2, 2)))
    >>> list(parametrised(net))
    ['0.weight']
    """
    found: dict[str, tuple[nn.Module, str]] = {}
    for path, part in parts(module):
        if parametrize.is_parametrized(part):
            found |= {join(path, name): (part, name) for name in _names(part)}
    return found


def parametrisation(part: nn.Module, name: str) -> parametrize.ParametrizationList:
    """Return the parametrisations that compute a tensor of a part."""
    return cast(parametrize.ParametrizationList, cast(nn.ModuleDict, part.parametrizations)[name])


@torch.no_grad()
def effective(part: nn.Module, name: str) -> Tensor:
    """Return the weight that a parametrised part computes with.

    Evaluation mode keeps a spectral norm from updating its estimates. Other buffers that it changes are restored.
    """
    made_of = parametrisation(part, name)
    before = Backup(made_of.buffers(), [made_of])
    try:
        with evaluating(made_of):
            return getattr(part, name).detach()  # type: ignore[no-any-return]
    finally:
        before.restore()


def _check(name: str, part: nn.Module) -> None:
    place = name or "the module"
    if type(part).__name__ == "FullyShardedDataParallel":
        raise PlanError(
            f"{place} is wrapped by FullyShardedDataParallel, whose parameters are flat pieces; call init_ before "
            f"wrapping, or use torch.distributed.fsdp.fully_shard"
        )
    if parametrize.is_parametrized(part) and any(hasattr(value, "to_local") for value in part.parameters()):
        raise PlanError(f"{place} is parametrised and sharded; call init_ before fully_shard")
    if _is_packed(part):
        raise PlanError(
            f"{place} is quantised, and packed integers are no weights; call init_ before quantisation, or pass the "
            f"part of your network that is not quantised"
        )
    for hook in part._forward_pre_hooks.values():
        if any(kind.__name__ == "BasePruningMethod" for kind in type(hook).__mro__):
            raise PlanError(
                f"{place} computes its {getattr(hook, '_tensor_name', 'weight')} anew by a hook of "
                f"torch.nn.utils.prune; call init_ before pruning, or make it permanent with prune.remove"
            )
        if type(hook).__name__ in OLD_HOOKS and hasattr(hook, "name"):
            way = f"torch.nn.utils.parametrizations.{_new_name(hook)}"
            raise PlanError(
                f"{place} computes its {hook.name} anew by a hook of torch.nn.utils.{_new_name(hook)}; call init_ "
                f"before that, or use {way}"
            )


def _is_packed(part: nn.Module) -> bool:
    """Return whether a part is one of torch's quantised layers, which return their weights from a method."""
    kind = type(part)
    ours = kind.__module__.startswith("torch.") and "quantized" in kind.__module__.split(".")
    return ours and any(callable(getattr(kind, name, None)) for name in ("weight", "get_weight"))


def _new_name(hook: object) -> str:
    return {"WeightNorm": "weight_norm", "SpectralNorm": "spectral_norm"}[type(hook).__name__]


def _stand_in(module: nn.Module, memo: dict[int, nn.Module]) -> nn.Module:
    """Copy the tree of modules, not its tensors. `memo` keeps a module that is used twice one module."""
    if id(module) in memo:
        return memo[id(module)]
    kind = type(module)
    names: list[str] = []
    if parametrize.is_parametrized(module):
        names, kind = _names(module), kind.__bases__[0]  # parametrize replaced the class by a subclass with properties
    fresh = memo[id(module)] = object.__new__(kind)  # without __init__, which would allocate and draw weights
    fresh.__dict__.update(vars(module))
    weights = {name: nn.Parameter(effective(module, name), requires_grad=_trains(module, name)) for name in names}
    fresh._parameters = {**weights, **module._parameters}
    fresh._modules = {
        name: None if child is None else _stand_in(unwrapped(child), memo)
        for name, child in module._modules.items()
        if not (names and name == "parametrizations")
    }
    return fresh


def _trains(module: nn.Module, name: str) -> bool:
    return any(value.requires_grad for value in parametrisation(module, name).parameters())


def _names(part: nn.Module) -> list[str]:
    return list(cast(nn.ModuleDict, part.parametrizations))
