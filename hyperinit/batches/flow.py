"""The flow of data through a module: which norms read only what decoded layers computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from hyperinit.modules.wrappers import parametrisation, parts

F = nn.functional
LAYERS = (F.linear, F.conv1d, F.conv2d, F.conv3d)
Origin = frozenset[str | None]  # names of layers that a tensor was computed from; None stands for anything else
OTHER: Origin = frozenset([None])


class Flow(TorchFunctionMode):
    """Follow tensors through forward passes within a block, by the operations and not by the order of execution.

    Args:
        model: the module. What an operation computes with one of its parameters or buffers does not come from the
            layers alone, unless it is the operation of such a layer.
        layers: names of the layers to follow, without wrappers.
        norms: the norms to judge.
    """

    def __init__(self, model: nn.Module, layers: Collection[str], norms: Iterable[_BatchNorm]) -> None:
        super().__init__()
        self._layers: dict[int, str] = {}  # by the ids of weights
        self._raw: dict[int, str] = {}  # by the ids of the tensors that parametrised weights are computed from
        for name, part in parts(model):
            if name in layers and "weight" in part._parameters:
                self._layers[id(part._parameters["weight"])] = name
            elif name in layers:
                made_of = parametrisation(part, "weight")
                self._raw |= {id(value): name for value in (*made_of.parameters(), *made_of.buffers())}
        self._norms = {id(norm.running_mean): norm for norm in norms}
        self._owned = {id(value) for value in (*model.parameters(), *model.buffers())}
        self._origins = WeakTensorKeyDictionary()  # of what was computed; other tensors are data
        self._memory: dict[int, Origin] = {}  # of all that was written to a place, by its address
        self._made = WeakTensorKeyDictionary()  # parametrised weights: the name of the layer
        self._verdicts: dict[_BatchNorm, bool] = {}

    @property
    def behind(self) -> list[_BatchNorm]:
        """Norms whose every call normalised, as a BatchNorm does, nothing but what the layers computed."""
        return [norm for norm, good in self._verdicts.items() if good]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and note the origin of what it returns or changes."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        origin = self._origin(func, args, kwargs)
        self._judge(func, args, kwargs)
        makers = {self._raw.get(id(value)) or self._made.get(value) for value in _tensors((args, kwargs))}
        changed = args[:1] if output is None else output  # x[...] = y returns nothing
        places = {_place(value) for value in _tensors((args, kwargs))}
        for value in _tensors(changed):
            self._note(value, origin, fresh=_place(value) not in places)
            if len(makers) == 1 and None not in makers:
                self._made[value] = makers.copy().pop()
        return output

    def _note(self, value: Tensor, origin: Origin, *, fresh: bool) -> None:
        if id(value) not in self._owned:
            self._origins[value] = origin
            place = _place(value)
            # a view may have been written in place; a new tensor may lie where another one was freed
            self._memory[place] = origin if fresh else origin | self._memory.get(place, frozenset())

    def _origin(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Origin:
        if func in LAYERS:
            weight = args[1] if len(args) > 1 else kwargs.get("weight")
            name = self._layers.get(id(weight)) or (None if weight is None else self._made.get(weight))
            return OTHER if name is None else frozenset([name])
        return self._of(_tensors((args, kwargs)))

    def _of(self, tensors: Iterable[Tensor]) -> Origin:
        found: Origin = frozenset()
        for value in tensors:
            known = id(value) not in self._owned and value in self._origins
            found |= self._origins[value] | self._memory.get(_place(value), frozenset()) if known else OTHER
        return found

    def _judge(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = norm_call(func, args, kwargs)
        norm = None if call is None else self._norms.get(id(call["running_mean"]))
        if call is not None and norm is not None:
            origin = self._of([call["input"]])
            good = bool(origin) and None not in origin and call["training"] and call["eps"] == norm.eps
            good = good and all(call[name] is getattr(norm, name) for name in ("running_var", "weight", "bias"))
            self._verdicts[norm] = self._verdicts.get(norm, True) and bool(good)


class Passing(TorchFunctionMode):
    """Let norms pass on their inputs within a block. They still update their statistics, and all else runs as usual."""

    def __init__(self, norms: Iterable[_BatchNorm]) -> None:
        super().__init__()
        self._means = {id(norm.running_mean) for norm in norms}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation. Of the norms, return the input in place of the output."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        call = norm_call(func, args, kwargs)
        if call is not None and id(call["running_mean"]) in self._means:
            return call["input"].clone()  # a copy, because what follows may write in place
        return output


def norm_call(func: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a call of `torch.nn.functional.batch_norm` by name, or None for any other function.

    >>> norm_call(F.batch_norm, (1, 2, 3), {"eps": 1})["running_var"], norm_call(print, (), {})
    (3, None)
    """
    if func is not F.batch_norm:
        return None
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    defaults = {"weight": None, "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5}
    return defaults | dict(zip(names, args, strict=False)) | dict(kwargs)


def _place(value: Tensor) -> int:
    """Return the address of a tensor's memory, or a number of its own for one without."""
    try:
        return value.untyped_storage().data_ptr() or -id(value)
    except (NotImplementedError, RuntimeError):  # sparse, or a wrapper
        return -id(value)


def _tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))
