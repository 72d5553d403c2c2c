"""A copy of a module to run the user's code on: a reset in it writes the copy's tensors, whatever way it takes to them.

`copy.deepcopy` would also copy objects that cannot or must not be copied, such as process groups.
"""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import BuiltinMethodType, CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hyperinit.modules.state import is_dense
from hyperinit.modules.write import whole

# Packages whose own objects are shared, such as locks and process groups, and the classes that are copied nevertheless
FOREIGN = {"torch", *sys.stdlib_module_names} - {"__main__"}
PLAIN = (SimpleNamespace, UserDict, UserList)
CONTAINERS = (list, tuple, set, frozenset, dict, deque)
EXACT = (*CONTAINERS, OrderedDict, defaultdict)  # containers without code of the user's
REFERENCES = (MethodType, BuiltinMethodType, partial, weakref.ref)
ATOMS = (str, bytes, int, float, complex, type(None), type)  # lead nowhere


def detached_copy(module: nn.Module, known: Mapping[int, tuple[Any, Any]] | None = None) -> nn.Module:
    """Copy a module with all tensors in it to the CPU; parameters become float32.

    Lists, dictionaries and other containers in modules are copied. Bound methods, partials, closures, weak references
    and objects of the user's classes are copied where they lead to a tensor or a module. Every other object is shared.
    Ties stay ties.

    Args:
        module: only read.
        known: objects that have a copy already, by id, each with its copy. None means none.

    >>> net = nn.Linear(2, 1)
    >>> copy = detached_copy(net)
    >>> _ = nn.init.zeros_(copy.weight)
    >>> bool(net.weight.eq(0).all())
    False
    """
    leading = _leading(module)
    return _copy(module, dict(known or {}), leading)  # type: ignore[no-any-return]


def _leading(root: object) -> set[int]:
    """Find the ids of all objects that lead to a tensor or a module: from those, go back to what refers to them."""
    seen: dict[int, Any] = {}
    referrers: dict[int, list[int]] = {}
    ends: list[int] = []
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # keeps temporary objects alive, so that no id comes twice
        if isinstance(value, Tensor | nn.Module):
            ends.append(id(value))
        for child in _children(value):
            if not isinstance(child, ATOMS):
                referrers.setdefault(id(child), []).append(id(value))
                waiting.append(child)
    found: set[int] = set()
    while ends:
        place = ends.pop()
        if place not in found:
            found.add(place)
            ends += referrers.get(place, [])
    return found | _own_containers(value for value in seen.values() if isinstance(value, nn.Module))


def _own_containers(modules: Iterable[nn.Module]) -> set[int]:
    """Find the ids of all containers in modules, and in such containers, whatever they hold."""
    found: set[int] = set()
    waiting = [item for module in modules for item in vars(module).values()]
    while waiting:
        value = waiting.pop()
        if type(value) in EXACT and id(value) not in found:
            found.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return found


def _children(value: Any) -> Iterator[Any]:
    """Yield the objects that a value refers to, if it can be copied."""
    if isinstance(value, Tensor):
        return
    if isinstance(value, dict):
        yield from (*dict.keys(value), *dict.values(value), getattr(value, "default_factory", None))
    elif isinstance(value, CONTAINERS):
        yield from value
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, BuiltinMethodType):
        yield value.__self__
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell))
        yield from (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    elif isinstance(value, weakref.ref):
        yield value()
    if _is_own(value):
        yield from _attributes(value).values()


def _is_own(value: object) -> bool:
    """Return whether the attributes of an object can be copied: it is a module, or of a class of the user's."""
    kind = type(value)
    if isinstance(value, nn.Module) or kind in PLAIN:
        return True
    foreign = str(getattr(kind, "__module__", "")).partition(".")[0] in FOREIGN
    # a copy of an object that cleans up would clean up for the original when it is deleted
    return not foreign and not hasattr(kind, "__del__") and not isinstance(value, type | Tensor)


def _attributes(value: object) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in _slot_names(kind)]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def _slot_names(kind: type) -> list[str]:
    names = vars(kind).get("__slots__", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    private = f"_{kind.__name__.lstrip('_')}"
    names = (f"{private}{name}" if name[:2] == "__" and name[-2:] != "__" else name for name in names)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _is_empty(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def _copy(value: Any, memo: dict[Any, tuple[Any, Any]], leading: set[int]) -> Any:
    """Copy a value if it leads to a tensor or a module. `memo` keeps ties: what is found twice is copied once.

    It holds the values, too, so that no id is used again, and dense tensors by their places in memory.
    """
    if id(value) not in leading:
        return value
    if id(value) in memo:
        return memo[id(value)][1]

    def again(item: Any) -> Any:
        return _copy(item, memo, leading)

    def keep(fresh: Any) -> Any:
        memo[id(value)] = (value, fresh)
        return fresh

    if isinstance(value, Tensor):
        return keep(_copy_tensor(value, memo))
    if isinstance(value, REFERENCES):
        return keep(_copy_reference(value, again))
    if isinstance(value, FunctionType):
        return _copy_function(value, memo, again, keep)
    if isinstance(value, tuple | frozenset):
        items = [again(item) for item in value]
        return keep(_frozen(value, items))
    return _copy_changeable(value, again, keep)


def _frozen(value: Any, items: list[Any]) -> Any:
    """Make a tuple or a frozen set of the same class without calling the class's own code, if that is possible."""
    base = tuple if isinstance(value, tuple) else frozenset
    try:
        return base.__new__(type(value), items)
    except TypeError:  # a tuple of compiled code, such as torch's return types
        return type(value)(items)


def _copy_changeable(value: Any, again: Callable[[Any], Any], keep: Callable[[Any], Any]) -> Any:
    """Copy an object that may refer to itself: make it empty, remember it, and then fill it."""
    fresh = keep(_empty(value, again))
    if isinstance(value, dict):
        put = OrderedDict.__setitem__ if isinstance(value, OrderedDict) else dict.__setitem__
        for key, item in list(value.items()):
            put(fresh, again(key), again(item))
    elif isinstance(value, list):
        list.extend(fresh, [again(item) for item in value])
    elif isinstance(value, set):
        set.update(fresh, [again(item) for item in value])
    elif isinstance(value, deque):
        deque.extend(fresh, [again(item) for item in value])
    own = getattr(value, "__dict__", {})
    for name, item in _attributes(value).items() if fresh is not value else ():
        if name in own:
            fresh.__dict__[name] = again(item)
        else:
            object.__setattr__(fresh, name, again(item))
    return fresh


def _empty(value: Any, again: Callable[[Any], Any]) -> Any:
    """Make an object of the same class without calling the class's own code."""
    kind = type(value)
    if isinstance(value, deque):
        return deque(maxlen=value.maxlen)
    if isinstance(value, defaultdict):
        return defaultdict(again(value.default_factory))
    if kind is SimpleNamespace:
        return SimpleNamespace()
    base = next((base for base in (OrderedDict, dict, list, set) if isinstance(value, base)), object)
    try:
        return base.__new__(kind)
    except TypeError:  # a class of compiled code
        return value


def _copy_reference(value: Any, again: Callable[[Any], Any]) -> Any:
    """Copy a method, a partial or a weak reference, so that it leads to the copies."""
    if isinstance(value, weakref.WeakMethod):
        method: Any = value()  # made at each call, so it is not among the objects that were found
        return weakref.WeakMethod(MethodType(again(method.__func__), again(method.__self__)))
    if isinstance(value, weakref.ref):
        return weakref.ref(again(value()))
    if isinstance(value, MethodType):
        return MethodType(again(value.__func__), again(value.__self__))
    if isinstance(value, BuiltinMethodType):
        return getattr(again(value.__self__), value.__name__)
    return partial(again(value.func), *map(again, value.args), **{k: again(v) for k, v in value.keywords.items()})


def _copy_function(
    value: FunctionType,
    memo: dict[Any, tuple[Any, Any]],
    again: Callable[[Any], Any],
    keep: Callable[[Any], Any],
) -> Any:
    """Copy a function with the variables that it closes over; functions that share a variable still do."""
    cells = value.__closure__ or ()
    fresh_cells = tuple(memo.setdefault(id(cell), (cell, CellType()))[1] for cell in cells)
    fresh = keep(FunctionType(value.__code__, value.__globals__, value.__name__, None, fresh_cells or None))
    for cell, fresh_cell in zip(cells, fresh_cells, strict=True):
        if not _is_empty(cell) and _is_empty(fresh_cell):
            fresh_cell.cell_contents = again(cell.cell_contents)
    fresh.__defaults__ = tuple(map(again, value.__defaults__)) if value.__defaults__ else None
    fresh.__kwdefaults__ = {key: again(item) for key, item in (value.__kwdefaults__ or {}).items()} or None
    fresh.__dict__.update(value.__dict__)
    return fresh


def _copy_tensor(value: Tensor, memo: dict[Any, tuple[Any, Any]]) -> Tensor:
    if is_lazy(value):  # holds nothing that could be written
        return value
    if value.is_meta:
        fresh = torch.empty_like(value, device="cpu")
        return nn.Parameter(fresh, requires_grad=False) if isinstance(value, nn.Parameter) else fresh
    if not is_dense(value):
        fresh = value.detach().clone()
        return nn.Parameter(fresh, requires_grad=False) if isinstance(value, nn.Parameter) else fresh
    if not isinstance(value, nn.Parameter):
        return _shared(value, value.dtype, memo)
    dtype = value.dtype if value.is_complex() else torch.float32  # no reset can draw packed integers
    return nn.Parameter(_shared(value, dtype, memo), requires_grad=False)


def _shared(value: Tensor, dtype: torch.dtype, memo: dict[Any, tuple[Any, Any]]) -> Tensor:
    """Copy a dense tensor. Two tensors in one place of memory, such as `weight` and `weight.data`, stay in one."""
    values = whole(value.detach())
    if type(value) not in (Tensor, nn.Parameter):
        return values.to("cpu", dtype, copy=True)
    place = (value.data_ptr(), value.device, value.shape, value.stride(), value.dtype)
    known = memo.get(place) if value.numel() else None
    if known is not None and known[1].dtype == dtype:
        return known[1]  # type: ignore[no-any-return]
    fresh = values.to("cpu", dtype, copy=True)
    memo[place] = (value, fresh)
    return fresh
