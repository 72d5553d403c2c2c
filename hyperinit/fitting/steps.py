"""Steps of a network between its layers: activations, poolings, norms and joins, under one name for each.

A module, a function and a method of a tensor that compute the same have the same text: `nn.ReLU(inplace=True)`,
`functional.relu` and `x.relu()` are all "ReLU".
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

CLASSES: dict[str, type[nn.Module]] = {
    name.lower(): kind for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)
}
ACTIVATIONS = {
    "celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leakyrelu", "logsigmoid",
    "logsoftmax", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "sin", "softmax", "softmin",
    "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
}  # fmt: skip
MONOTONE = {  # rising functions: the largest input of a pooling is that of the largest output
    "celu", "elu", "hardsigmoid", "hardtanh", "logsigmoid", "relu", "relu6", "selu", "sigmoid", "softplus",
    "softsign", "tanh",
}  # fmt: skip
AFTER_LOGITS = {  # keep the order of logits
    "logsigmoid", "logsoftmax", "sigmoid", "softmax", "div", "mul", "truediv",
}  # fmt: skip
JOINS = {"add", "iadd", "radd", "sub", "isub", "mul", "imul", "matmul", "cat", "concat", "concatenate", "stack"}
WITHOUT_EFFECT = {  # on values, or on their order
    "alphadropout", "chunk", "clone", "contiguous", "cpu", "cuda", "detach", "dim", "dropout", "dropout1d",
    "dropout2d", "dropout3d", "expand", "featurealphadropout", "flatten", "float", "getattr", "getitem", "identity",
    "ndimension", "numel", "requiresgrad", "reshape", "size", "split", "squeeze", "to", "type", "typeas", "unflatten",
    "unsqueeze", "view",
}  # fmt: skip
DEFAULTS = {"padding=0", "dilation=1", "ceil_mode=False", "num_parameters=1"}


@dataclass(frozen=True)
class Step:
    """One operation between two layers.

    Args:
        kind: "activation", "pooling", "norm", "join" (of several inputs) or "operation".
        text: name, and arguments other than the default ones.
    """

    kind: str
    text: str

    @property
    def name(self) -> str:
        """The name in lower case, without arguments."""
        return self.text.partition("(")[0].lower()


def step_of_module(part: nn.Module) -> Step | None:
    """Return the step that a module without sub-modules is, or None if it has no effect on values.

    >>> step_of_module(nn.MaxPool2d((2, 2))), step_of_module(nn.Dropout())
    (Step(kind='pooling', text='MaxPool2d(kernel_size=2)'), None)
    """
    name = next((kind.__name__ for kind in type(part).__mro__ if kind.__name__.lower() in CLASSES), "")
    name = name if name not in ("", "Module") else type(part).__name__
    if _plain(name) in WITHOUT_EFFECT:
        return None
    kind = _kind(_plain(name))
    if kind in ("norm", "operation"):
        return Step(kind, name)
    extra = part.extra_repr() if _plain(name) != "prelu" else ""  # its slope is trained
    default = CLASSES[name.lower()]().extra_repr() if kind == "activation" and _needs_nothing(name) else ""
    return Step(kind, name + _arguments(extra, default))


def step_of_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], inputs: int) -> Step | None:
    """Return the step that a call of a function or of a method of a tensor is, or None if it has no effect on values.

    Args:
        name: of the function or method.
        args: all its arguments, the tensor first.
        kwargs: its arguments by name.
        inputs: number of its arguments that the network computes.

    >>> step_of_call("relu_", [None], {}, 1), step_of_call("mean", [None, (2, 3)], {}, 1)
    (Step(kind='activation', text='ReLU'), Step(kind='pooling', text='AdaptiveAvgPool2d(output_size=1)'))
    """
    plain = _plain(name)
    if plain == "mean":
        return _mean(args[1] if len(args) > 1 else kwargs.get("dim"))
    if plain in WITHOUT_EFFECT:
        return None
    kind = _kind(plain)
    if kind == "operation" and plain in JOINS:
        joined = inputs > 1 or plain in ("cat", "concat", "concatenate", "stack")
        return Step("join" if joined else "operation", {"iadd": "add", "radd": "add"}.get(plain, plain))
    if kind in ("norm", "operation"):
        return Step(kind, CLASSES[plain].__name__ if plain in CLASSES else name.strip("_"))
    try:  # functions take the arguments of the class of the same name
        return step_of_module(CLASSES[plain](*args[1:], **{k: v for k, v in kwargs.items() if k not in UNUSED}))
    except (KeyError, TypeError, ValueError):
        return Step(kind, CLASSES[plain].__name__ if plain in CLASSES else name.strip("_"))


UNUSED = ("inplace", "training", "dtype", "_stacklevel", "return_indices", "input")


def ordered(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return steps with each max pooling before rising activations; the order of these two makes no difference.

    >>> [step.text for step in ordered([Step("activation", "Tanh"), Step("pooling", "MaxPool2d(kernel_size=2)")])]
    ['MaxPool2d(kernel_size=2)', 'Tanh']
    """
    found = list(steps)
    for _ in found:
        for place in range(len(found) - 1):
            first, second = found[place : place + 2]
            if first.name in MONOTONE and "maxpool" in second.name:
                found[place : place + 2] = second, first
    return tuple(found)


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _kind(plain: str) -> str:
    if plain in ACTIVATIONS:
        return "activation"
    if re.search(r"pool(\d|$)|pool\dd", plain):
        return "pooling"
    return "norm" if re.search(r"(batch|layer|group|instance|rms|response)norm", plain) else "operation"


def _needs_nothing(name: str) -> bool:
    parameters = inspect.signature(CLASSES[name.lower()]).parameters.values()
    return all(each.default is not each.empty for each in parameters)


def _arguments(extra: str, default: str) -> str:
    """Return arguments in brackets, without those that have no effect or are the default; "" if none is left."""
    alike = re.sub(r"\((\d+)(?:, \1)+\)", r"\1", extra)  # (2, 2) is 2
    parts = re.findall(r"\w+=(?:\([^)]*\)|[^,]+)", alike)
    kernel = next((part.partition("=")[2] for part in parts if part.startswith("kernel_size=")), None)
    known = DEFAULTS | {f"stride={kernel}", *default.split(", ")}
    kept = [part for part in parts if part not in known and not part.startswith("inplace")]
    return f"({', '.join(kept)})" if kept else ""


def _mean(dims: Any) -> Step:
    """Return the mean over all places of an image as the pooling that it is."""
    axes = tuple(dims) if isinstance(dims, list | tuple) else (dims,)
    count = len(axes)
    if axes in (tuple(range(2, 2 + count)), tuple(range(-count, 0))):
        return Step("pooling", f"AdaptiveAvgPool{count}d(output_size=1)")
    return Step("pooling", "mean")
