"""Compare what a module computes with what the source's network computes: a layout holds shapes only.

Decoded weights work with the activations, poolings, norms and order of layers that they were trained with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import nn

from hyperinit.errors import counted, listed
from hyperinit.fitting.flow import Flow, flow_of, steps_of_types
from hyperinit.fitting.plan import Plan
from hyperinit.fitting.resize import Block
from hyperinit.fitting.steps import AFTER_LOGITS, Step, ordered
from hyperinit.layout import Layout, TensorSpec
from hyperinit.layout.layers import NORM
from hyperinit.modules.wrappers import plain, unwrapped
from hyperinit.nets.description import Architecture, build

COST = (  # tests/hyperinit/test_api_mismatch.py measures it
    "Decoded weights work only with the network that they were trained in: on digits, ReLU in place of Tanh leaves "
    "27 % of test images right in place of 95 % before any training."
)
INPUT = "the input"
SETTINGS = ("stride", "padding", "dilation", "padding_mode")  # of convolutions
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Computation:
    """How a module's computation differs from that of the source's network.

    Args:
        differences: phrases such as "ReLU in place of Tanh after 0 and 3".
        norms: those of the differences that are about norms.
        unknown: why nothing was compared, or "".
    """

    differences: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    unknown: str = ""

    def __str__(self) -> str:
        """Return the lines for the table of a plan."""
        if self.unknown:
            return f"computation: not compared with the source's, because {self.unknown}"
        if not self.differences:
            return "computation: activations, pooling, norms and order of layers as in the source"
        return "\n".join(["computation: differs from the source's", *(f"- {each}" for each in self.differences)])

    def without_norms(self) -> Computation:
        """Leave out differences of norms, for a module whose norms are calibrated."""
        return replace(self, differences=tuple(each for each in self.differences if each not in self.norms))

    def warning(self, source: str) -> str:
        """Return what a warning says, or "" if there are no differences.

        Args:
            source: name of the source.
        """
        if not self.differences:
            return ""
        shown = "; ".join(self.differences)
        return (
            f"the module must compute what the network of {source!r} computes, got {shown}. {COST} Change the module, "
            f"choose another source, or pass a lower strength and train."
        )


def network_of(architecture: Architecture | None) -> nn.Module | None:
    """Build the source's network on the meta device, or return None if the source does not describe it.

    Do not change it: calls with equal descriptions share one network.

    >>> network_of([["linear", {"in_features": 2, "out_features": 1}]])[0].weight.device
    device(type='meta')
    """
    return None if architecture is None else _network(json.dumps(architecture))


@lru_cache(maxsize=8)
def _network(architecture: str) -> nn.Module:
    return build(json.loads(architecture), device="meta")


def described(network: nn.Module | None, layout: Layout) -> dict[str, str]:
    """Describe the source's network in words: its layers, activations, poolings and norms.

    Args:
        network: the source's, on any device; None if the source does not describe it.
        layout: of the network.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    >>> described(net, Layout.of(net))
    {'network': '2 linear layers', 'activation': 'Tanh', 'pooling': 'none', 'normalisation': 'none'}
    """
    kinds = Counter(layer.kind for layer in layout.layers)
    counts = [counted(count, f"{kind} layer") for kind, count in kinds.items()]
    flow = None if network is None else flow_of(network)
    found = {"network": f"{', '.join(counts)}"}
    steps = [] if flow is None else [step for each in flow.steps.values() for step in each]
    for key, kind in (("activation", "activation"), ("pooling", "pooling"), ("normalisation", "norm")):
        texts = dict.fromkeys(step.text for step in steps if step.kind == kind)
        found[key] = ", ".join(texts) or ("none" if flow is not None else "not described")
    if flow is None and not kinds[NORM]:
        found["normalisation"] = "none"
    return found


def compare(module: nn.Module, plan: Plan, network: nn.Module | None) -> Computation:
    """Compare a module with the source's network around the layers that get decoded weights.

    Args:
        module: the one that the plan is for; only read.
        plan: says which layers get which of the source's tensors.
        network: the source's, on any device; None if the source does not describe it.

    >>> from hyperinit.fitting import make_plan
    >>> one, other = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)), nn.Sequential(
    ...     nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> compare(one, make_plan(one, Layout.of(other)), other).differences
    ('Tanh in place of ReLU after 0',)
    """
    pairs = _pairs(plan)
    if not pairs:
        return Computation(unknown="no layer gets a tensor of the source")
    theirs = None if network is None else flow_of(network)
    if network is None or theirs is None:
        return Computation(unknown="the source does not describe its network")
    view = plain(unwrapped(module))
    found = _settings(view, network, pairs)
    ours = flow_of(view)
    if ours is None:
        return _by_types(view, network, found)
    if any(row.passing for row in plan.rows):
        return _deeper(ours, theirs, found)
    for kind in ("activation", "pooling", "norm", "join", "operation"):
        found += _steps(kind, ours, theirs, pairs)
    norms = [each for each, about in found if about == "norm"]
    mixed = not found and _order_of_steps(ours, theirs, pairs)
    phrases = [*dict.fromkeys(each for each, _ in found), *(mixed or []), *_order_of_layers(ours, theirs, pairs)]
    return Computation(tuple(phrases), tuple(norms))


def _pairs(plan: Plan) -> Pairs:
    """Return (source layer, module layer) for each weight that holds a tensor of the source, "" for the inputs."""
    places: dict[int, TensorSpec] = {}
    start = 0
    for tensor in plan.layout.tensors:
        places[start] = tensor
        start += tensor.size
    found = []
    for row in plan.rows:
        held = places.get(row.block.start) if isinstance(row.block, Block) else None
        if held is None or len(held.shape) < 2 or len(row.shape) < 2:
            continue
        if plan.fit == "flat" and row.shape != held.shape:
            continue  # a run of the vector that is no tensor
        found.append((held.name.rpartition(".")[0], row.name.rpartition(".")[0]))
    return found


def _steps(kind: str, ours: Flow, theirs: Flow, pairs: Pairs) -> list[tuple[str, str]]:
    """Return phrases on steps of one kind that follow the paired layers, each with the kind."""
    places: dict[str, list[str]] = {}
    last = pairs[-1][0]
    for theirs_name, ours_name in [("", ""), *pairs]:
        got = [step.text for step in _after(ours, ours_name, theirs_name == last) if step.kind == kind]
        wanted = [step.text for step in _after(theirs, theirs_name, theirs_name == last) if step.kind == kind]
        if got != wanted:
            places.setdefault(_phrase(got, wanted), []).append(ours_name or INPUT)
    return [(f"{phrase} after {_names(names)}", kind) for phrase, names in places.items()]


def _after(flow: Flow, name: str, last: bool) -> tuple[Step, ...]:
    """Return the steps after a layer: without those that scale logits, and those that normalise images."""
    steps = ordered(flow.steps.get(name, ()))
    if last:
        return tuple(step for step in steps if step.kind == "join" or step.name not in AFTER_LOGITS)
    return steps if name else tuple(step for step in steps if step.kind != "operation")


def _phrase(got: Sequence[str], wanted: Sequence[str]) -> str:
    if got and wanted:
        return f"{', '.join(got)} in place of {', '.join(wanted)}"
    return f"{', '.join(got)}, which the source does not have," if got else f"no {', '.join(wanted)}"


def _names(names: Sequence[str]) -> str:
    if len(names) < 2 or len(names) > 6:
        return listed(names, most=6)
    return f"{listed(names[:-1])} and {listed(names[-1:])}"


def _order_of_steps(ours: Flow, theirs: Flow, pairs: Pairs) -> list[str]:
    """Return phrases on layers whose steps are the source's in another order."""
    found = []
    for theirs_name, ours_name in pairs:
        got, wanted = (
            [step.text for step in ordered(flow.steps.get(name, ()))]
            for flow, name in ((ours, ours_name), (theirs, theirs_name))
        )
        if got != wanted and sorted(got) == sorted(wanted):
            found.append(f"{', '.join(got)} in place of {', '.join(wanted)} after {_names([ours_name])}")
    return found


def _order_of_layers(ours: Flow, theirs: Flow, pairs: Pairs) -> list[str]:
    """Return phrases on layers that other layers follow than in the source, of those with decoded weights."""
    partner = dict(pairs)
    found = []
    for theirs_name, ours_name in [("", ""), *pairs]:
        got = [name for name in ours.following.get(ours_name, ()) if name in partner.values()]
        wanted = [partner[name] for name in theirs.following.get(theirs_name, ()) if name in partner]
        if got and wanted and {*got} != {*wanted}:
            found.append(f"layer {_names(got)} in place of layer {_names(wanted)} after {_names([ours_name or INPUT])}")
    return found


def _settings(module: nn.Module, network: nn.Module, pairs: Pairs) -> list[tuple[str, str]]:
    """Return phrases on convolutions whose strides or the like differ; paddings only where the kernels are equal."""
    places: dict[str, list[str]] = {}
    for theirs_name, ours_name in pairs:
        one, other = module.get_submodule(ours_name), network.get_submodule(theirs_name)
        for key in SETTINGS:
            got, wanted = (_setting(part, key) for part in (one, other))
            resized = key == "padding" and _setting(one, "kernel_size") != _setting(other, "kernel_size")
            if None not in (got, wanted) and got != wanted and not resized:
                places.setdefault(f"{key} {got} in place of {wanted}", []).append(ours_name)
    return [(f"{phrase} in {_names(names)}", "setting") for phrase, names in places.items()]


def _setting(part: nn.Module, key: str) -> str | None:
    value = getattr(part, key, None)
    if isinstance(value, tuple):
        return str(value[0]) if len({*value}) == 1 else "x".join(map(str, value))
    return None if value is None else str(value)


def _deeper(ours: Flow, theirs: Flow, found: list[tuple[str, str]]) -> Computation:
    """Compare the sets of steps alone: behind layers that pass their input on lie steps that the source lacks."""
    norms = []
    phrases = [phrase for phrase, _ in found]
    for kind in ("activation", "pooling", "norm", "join"):
        mine, wanted = (
            sorted({step.text for steps in flow.steps.values() for step in steps if step.kind == kind})
            for flow in (ours, theirs)
        )
        if mine != wanted:
            phrases.append(_phrase(mine, wanted).rstrip(","))
            norms += phrases[-1:] if kind == "norm" else []
    return Computation(tuple(phrases), tuple(norms))


def _by_types(module: nn.Module, network: nn.Module, found: list[tuple[str, str]]) -> Computation:
    """Compare the sets of types: functions that `forward` calls stay unknown, so a missing type says nothing."""
    got, wanted = steps_of_types(module), steps_of_types(network)
    phrases = [phrase for phrase, _ in found]
    norms = []
    for kind in ("activation", "pooling", "norm"):
        mine, theirs = (sorted(step.text for step in steps if step.kind == kind) for steps in (got, wanted))
        if mine and not {*mine} & {*theirs} and (theirs or kind == "norm"):
            phrases.append(f"{_phrase(mine, theirs).rstrip(',')}, by the types of its modules")
            norms += phrases[-1:] if kind == "norm" else []
    if phrases:
        return Computation(tuple(phrases), tuple(norms))
    return Computation(unknown="its forward cannot be traced")
