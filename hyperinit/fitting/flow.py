"""The flow of data through a network: which steps and which layers follow each layer.

The user's `forward` runs once on a copy of the module, with `torch.fx` stand-ins for tensors. The parameters of the
copy have shapes and no memory. `fx.symbolic_trace` would exchange methods of all modules of the process meanwhile,
which would disturb other threads. Here the classes of the copy's modules record their calls instead.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict, defaultdict, deque
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.parameter import is_lazy

from hyperinit.fitting.steps import Step, step_of_call, step_of_module
from hyperinit.generators import settled, undrawn
from hyperinit.layout import KINDS
from hyperinit.modules.copies import detached_copy
from hyperinit.modules.wrappers import join

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
FLAGS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")
CHANGEABLE = (list, dict, set, OrderedDict, defaultdict, deque)
RECORD = "_hyperinit_record"
LAYERS = {"linear", "conv1d", "conv2d", "conv3d"}  # functions that compute with a weight


@dataclass(frozen=True)
class Flow:
    """What follows each layer of a network.

    Args:
        steps: by the name of a conv or linear layer, the steps between it and the next layers; "" for the input.
        following: by the name of a layer, the names of the next layers; "" for the input.
    """

    steps: dict[str, tuple[Step, ...]]
    following: dict[str, tuple[str, ...]]


@settled()
def flow_of(module: nn.Module) -> Flow | None:
    """Trace a module, or return None if its `forward` depends on values or cannot run on stand-ins.

    The module and the global generator do not change.

    Args:
        module: without wrappers and parametrisations, see `hyperinit.modules.wrappers.plain`.

    >>> flow = flow_of(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> flow.steps["0"], flow.following["0"]
    ((Step(kind='activation', text='Tanh'),), ('2',))
    """
    if type(module) is nn.Sequential and not _has_any_global_hook() and (parts := _chain("", module)) is not None:
        return _flow_of_chain(parts)
    traced = graph_of(module)
    try:
        return None if traced is None else _flow(*traced)
    except Exception:  # such as a layer whose weight is computed
        return None


@settled()
def graph_of(module: nn.Module) -> tuple[nn.Module, fx.Graph] | None:
    """Return a copy of a module and the graph of its operations, or None where `flow_of` finds no flow.

    Args:
        module: as for `flow_of`.

    >>> [node.op for node in graph_of(nn.Sequential(nn.Linear(3, 2)))[1].nodes]
    ['placeholder', 'call_module', 'output']
    """
    if _has_any_global_hook() or any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return None  # hooks would run on stand-ins, and compiled code cannot
    try:
        with undrawn():
            root = _recording(module)
            return root, _traced(root)
    except Exception:  # code of the user's, which may fail on stand-ins in any way
        return None


def _chain(path: str, part: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """Return the names and modules of a chain of PyTorch's own modules in order, or None if it is no such chain."""
    if type(part) is nn.Sequential:
        found = [_chain(join(path, name), child) for name, child in part.named_children()]
        parts = [one for each in found if each is not None for one in each]
        whole = len(found) == len(part) and None not in found and len({id(one) for _, one in parts}) == len(parts)
        return parts if whole else None  # a module that comes twice is traced
    own = type(part).__module__.startswith("torch.nn.modules.") and not [*part.children()]
    return [(path, part)] if own and not isinstance(part, CONTAINERS) else None


def _flow_of_chain(parts: list[tuple[str, nn.Module]]) -> Flow:
    steps: dict[str, tuple[Step, ...]] = {"": ()}
    following: dict[str, tuple[str, ...]] = {"": ()}
    last = ""
    for name, part in parts:
        if isinstance(part, tuple(KINDS)):
            following |= {last: (name,), name: ()}
            steps[name], last = (), name
        elif (step := step_of_module(part)) is not None:
            steps[last] += (step,)
    return Flow(steps, following)


def _recording(module: nn.Module) -> nn.Module:
    """Copy a module, so that its layers add a node to a graph in place of computing."""
    held = [value for value in (*module.parameters(), *module.buffers()) if not is_lazy(value)]
    root = detached_copy(module, {id(value): (value, _bare(value)) for value in held})
    for name, part in root.named_modules():
        for key, value in vars(part).items():  # also lists that lead to no tensor: `forward` may append to them
            if type(value) in CHANGEABLE:
                part.__dict__[key] = copy(value)
        for key in HOOKS + FLAGS:
            part.__dict__[key] = OrderedDict()
        part.__dict__["_compiled_call_impl"] = None
        part.__dict__["training"] = False
        own: type[nn.Module] = type(part)
        base = next((kind for kind in own.__mro__ if kind.__module__.startswith("torch.nn.modules.")), nn.Module)
        if issubclass(base, nn.Module) and base is not nn.Module and not issubclass(base, CONTAINERS):
            part.__dict__[RECORD] = name
            part.__class__ = _recorder(own, base)
    return root


def _bare(value: Tensor) -> Tensor:
    empty = torch.empty(value.shape, dtype=value.dtype, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _recorder(kind: type[nn.Module], base: type[nn.Module]) -> type[nn.Module]:
    """Make a subclass of a module's class whose `forward` of PyTorch's class `base` records the call.

    A `forward` of the user's that calls `super().forward` still runs.
    """

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        record = self.__dict__[RECORD]
        tracer: fx.Tracer = record[0]
        return tracer.create_proxy("call_module", record[1], args, kwargs)

    recording = type(base.__name__, (base,), {"forward": forward})
    return recording if kind is base else type(kind.__name__, (kind, recording), {})


def _traced(root: nn.Module) -> fx.Graph:
    tracer = fx.Tracer()
    tracer.root, tracer.graph = root, fx.Graph()
    tracer.tensor_attrs = {}
    for part in root.modules():
        if RECORD in part.__dict__:
            part.__dict__[RECORD] = (tracer, part.__dict__[RECORD])
    needed = [each for each in inspect.signature(root.forward).parameters.values() if each.default is each.empty]
    inputs = {
        each: tracer.create_proxy("placeholder", each.name, (), {})
        for each in needed
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    outputs = root.forward(
        *(value for each, value in inputs.items() if each.kind is not each.KEYWORD_ONLY),
        **{each.name: value for each, value in inputs.items() if each.kind is each.KEYWORD_ONLY},
    )
    tracer.create_node("output", "output", (tracer.create_arg(outputs),), {}, None)
    return tracer.graph


def _flow(root: nn.Module, graph: fx.Graph) -> Flow:
    layers = {node: name for node in graph.nodes if (name := _layer(root, node)) is not None}
    places = {node: place for place, node in enumerate(graph.nodes)}
    steps: dict[str, tuple[Step, ...]] = {}
    following: dict[str, tuple[str, ...]] = {}
    starts = [(node, "") for node in graph.nodes if node.op == "placeholder"]
    for node, name in [*starts, *layers.items()]:
        behind, ends = _behind(node, layers)
        found = [_step(root, other) for other in sorted(behind, key=places.__getitem__)]
        # a layer that is used twice has the steps and followers of both places
        steps[name] = (*steps.get(name, ()), *(step for step in found if step is not None))
        following[name] = tuple(dict.fromkeys((*following.get(name, ()), *(layers[end] for end in ends))))
    return Flow(steps, following)


def _behind(node: fx.Node, layers: dict[fx.Node, str]) -> tuple[set[fx.Node], list[fx.Node]]:
    """Return the nodes that a node's values reach before the next layers, and those layers."""
    behind: set[fx.Node] = set()
    ends: dict[fx.Node, None] = {}
    waiting = [node]
    while waiting:
        for user in waiting.pop().users:
            if user in layers:
                ends[user] = None
            elif user not in behind and user.op != "output":
                behind.add(user)
                waiting.append(user)
    return behind, list(ends)


def _layer(root: nn.Module, node: fx.Node) -> str | None:
    """Return the name of the conv or linear layer that a node computes, or None for another node."""
    if node.op == "call_module":
        return str(node.target) if isinstance(root.get_submodule(str(node.target)), tuple(KINDS)) else None
    name = getattr(node.target, "__name__", "")
    if node.op != "call_function" or name not in LAYERS:
        return None
    weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
    if not isinstance(weight, fx.Node) or weight.op != "get_attr":
        raise ValueError(f"{name} must have a parameter as its weight, got a computed one")
    return str(weight.target).rpartition(".")[0]


def _step(root: nn.Module, node: fx.Node) -> Step | None:
    if node.op == "call_module":
        return step_of_module(root.get_submodule(str(node.target)))
    if node.op not in ("call_function", "call_method"):
        return None
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    inputs = len([each for each in node.all_input_nodes if each.op != "get_attr"])
    return step_of_call(name, node.args, node.kwargs, inputs)


def steps_of_types(module: nn.Module) -> set[Step]:
    """Return the steps that a module's parts are by their types, for a module that cannot be traced.

    >>> steps_of_types(nn.Sequential(nn.Linear(2, 1), nn.Tanh()))
    {Step(kind='activation', text='Tanh')}
    """
    own = [part for part in module.modules() if type(part).__module__.startswith("torch.nn.modules.")]
    plain = [part for part in own if not [*part.children()] and not isinstance(part, (*KINDS, *CONTAINERS))]
    return {step for part in plain if (step := step_of_module(part)) is not None}
