"""Says whether PyTorch runs plainly, so that several calls of layers may be replaced by one.

It runs plainly if nothing traces, transforms, casts or counts single calls, and if no function that a layer calls was
replaced. The checks are an allow-list. What this module does not know counts as not plain.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules import module as hooks
from torch.utils._device import DeviceContext

CALLS = ("__call__", "_wrapped_call_impl", "_call_impl", "__getattr__", "forward")  # what runs when a layer is called
FUNCTIONS: dict[type[nn.Module], tuple[tuple[Any, str], ...]] = {  # what its forward calls
    nn.Sequential: ((nn.Sequential, "__iter__"),),
    nn.Conv2d: ((nn.Conv2d, "_conv_forward"), (functional, "conv2d")),
    nn.Linear: ((functional, "linear"),),
    nn.Flatten: ((Tensor, "flatten"),),
    nn.Dropout: ((functional, "dropout"),),
    nn.Identity: (),
    nn.Tanh: ((torch, "tanh"),),
    nn.Sigmoid: ((torch, "sigmoid"),),
    nn.ReLU: ((functional, "relu"),),
    nn.LeakyReLU: ((functional, "leaky_relu"),),
    nn.ELU: ((functional, "elu"),),
    nn.GELU: ((functional, "gelu"),),
    nn.SiLU: ((functional, "silu"),),
    nn.MaxPool2d: ((functional, "max_pool2d"),),
    nn.AvgPool2d: ((functional, "avg_pool2d"),),
    nn.AdaptiveAvgPool2d: ((functional, "adaptive_avg_pool2d"),),
}
HOOKS = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
TORCH = nn.Module.register_buffer.__code__.co_filename.removesuffix("nn/modules/module.py")  # folder of its source


def plain_tensor(value: object) -> bool:
    """Say whether a value is an ordinary dense tensor or parameter, and no subclass, stand-in or nested tensor.

    >>> plain_tensor(torch.zeros(2)), plain_tensor(torch.zeros(2).to_sparse()), plain_tensor([0.0])
    (True, False, False)
    """
    return type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_nested  # type: ignore[attr-defined]


def undisturbed(device: torch.device) -> bool:
    """Say whether each operator runs alone, at once and as written, on a device.

    That excludes torch.compile, torch.export, torch.jit.trace, the transforms of torch.func, forward-mode gradients,
    modes that see each operator, autocast, hooks on saved tensors, the search for anomalies, and hooks on all modules.

    >>> undisturbed(torch.device("cpu"))
    True
    >>> with torch.autocast("cpu"):
    ...     undisturbed(torch.device("cpu"))
    False
    """
    if torch.compiler.is_compiling():  # first, because torch.compile cannot trace the checks below
        return False
    return not (
        torch._C._get_tracing_state()
        or torch._C._len_torch_dispatch_stack()
        or (torch._C._len_torch_function_stack() and not _only_default_device())
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.is_autocast_enabled(device.type)
        or torch.is_anomaly_enabled()
        or (torch.is_grad_enabled() and _saved_tensors_hooks())
        or any(getattr(hooks, f"_global_{name}", True) for name in HOOKS)
    )


def original(kinds: Iterable[type[nn.Module]]) -> bool:
    """Say whether layers of these types still run PyTorch's own code.

    >>> original([nn.Linear, nn.Tanh]), original([nn.Linear, nn.PReLU])
    (True, False)
    """
    return all(kind in ORIGINAL and ORIGINAL[kind] == _code(kind) for kind in kinds)


def untouched(part: nn.Module) -> bool:
    """Say whether a module has no hooks and no method of its own, so that its class alone decides what it computes.

    >>> layer = nn.Tanh()
    >>> before, layer.forward = untouched(layer), torch.relu
    >>> before, untouched(layer)
    (True, False)
    """
    hooked = any(getattr(part, f"_{name}") for name in HOOKS)
    return not hooked and not any(callable(getattr(type(part), name, None)) for name in vars(part))


def _code(kind: type[nn.Module]) -> list[Any]:
    places = [*((kind, name) for name in CALLS), *FUNCTIONS[kind]]
    return [getattr(owner, name, None) for owner, name in places]


def _of_torch(function: Any) -> bool:
    """Say whether a function is compiled or lies in PyTorch's folder. A patch from before this import does not."""
    if isinstance(function, BuiltinFunctionType | MethodDescriptorType):
        return True
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(TORCH)


ORIGINAL = {kind: _code(kind) for kind in FUNCTIONS if all(map(_of_torch, _code(kind)))}


def _only_default_device() -> bool:
    """Say whether the only modes are default devices, which change the creation of tensors and no layer."""
    count = torch._C._len_torch_function_stack()
    return all(type(torch._C._get_function_stack_at(place)) is DeviceContext for place in range(count))


def _saved_tensors_hooks() -> bool:
    """Say whether tensors that autograd saves may pass through hooks, as in checkpointing or offloading."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # absent in early versions
    return top is None or top(True) is not None
