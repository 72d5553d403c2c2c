"""What a call of a public function asks for: the source, the options, and the plan for a module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, MismatchWarning, warn
from hyperinit.fitting import Options, Plan, apply_, make_plan
from hyperinit.fitting.apply import check_module
from hyperinit.fitting.computation import Computation, compare, network_of
from hyperinit.fitting.options import Default, passed
from hyperinit.fitting.proof import Proof, prove
from hyperinit.hub import address
from hyperinit.hub.load import Source, load
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import methods as sampling


@dataclass(frozen=True)
class Request:
    """What a call of `init_`, `ensemble` or `plan` asks for. All three make it by `_request`, so they cannot differ.

    Args:
        source: loaded.
        options: checked; the method is named.
        plan: the one that the caller passed, or None.
    """

    source: HyperRepresentation
    options: Options
    plan: Plan | None

    @property
    def strength(self) -> float:
        """The share of the decoded weights, 0 to 1."""
        return 1.0 if self.options.strength is None else self.options.strength

    @cached_property
    def stats(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each source layer's weights, for fill="zoo"; empty for other fills."""
        return self.source.layer_stats() if self.options.fill == "zoo" else {}

    @property
    def whole(self) -> bool:
        """Whether the source's own network holds the decoded weights alone, so that no plan is needed."""
        return self.strength == 1 and replace(self.options, method=None, strength=None, spread=True) == Options()

    def plan_for(self, module: nn.Module, *, compared: bool = True) -> Plan:
        """Make the plan for a module, or check that the caller's plan is one for it; compare what the two compute."""
        if self.plan is None:
            steps = replace(make_plan(module, self.source.layout, self.options), source=self.source)
        else:
            check_module(module, self.plan)
            steps = self.plan
        if not compared:
            return steps
        card = self.source.card
        notes = (f"inputs: {card.inputs}; hyperinit.transforms makes them" if card.inputs else "", card.unusable)
        return replace(steps, computation=compare(module, steps, self.network), notes=tuple(filter(None, notes)))

    @cached_property
    def network(self) -> nn.Module | None:
        """The source's own network without values, or None if the source does not describe it."""
        return network_of(self.source.header.architecture)

    def proof(self, module: nn.Module, steps: Plan, inputs: Tensor) -> Proof:
        """Run a planned copy of a module and the source's networks on the same inputs.

        Args:
            module: only read.
            steps: from `plan_for`.
            inputs: a batch for the module.

        Raises:
            ArgumentError: if the module does not take the inputs.
        """
        weights = self.sample(1, steps, torch.Generator().manual_seed(0))[0]
        return prove(module, steps, self.network, weights, inputs)

    def warn_of(self, steps: Plan, *, calibrated: bool = False) -> None:
        """Warn if the module computes something else than the source's network.

        Args:
            steps: from `plan_for`.
            calibrated: whether norms that the source lacks will be calibrated, so that they disturb nothing.
        """
        found = steps.computation
        assert isinstance(found, Computation)
        message = (found.without_norms() if calibrated else found).warning(self.source.card.source)
        if message:
            warn(message, MismatchWarning)

    def sample(
        self, count: int, steps: Plan | None, generator: torch.Generator | None, *, ensemble: bool = False
    ) -> Tensor:
        """Sample weight vectors for modules, (count, D), or (count, k, D) for plans of k networks side by side."""
        beside = 1 if steps is None else steps.members
        spread = self.options.spread and (beside > 1 or ensemble)
        method = self.options.method
        weights = self.source.sample(count * beside, method=method, generator=generator, spread=spread)
        return weights if beside == 1 else weights.unflatten(0, (count, beside))

    def write(self, module: nn.Module, steps: Plan, weights: Tensor, *, generator: torch.Generator | None) -> nn.Module:
        """Write weights, (D,) or (k, D), into a module as a plan says."""
        return apply_(module, steps, weights, strength=self.strength, generator=generator, layer_stats=self.stats)


def request(plan: Plan | None, source: Source | Default, **options: Any) -> Request:
    """Take source and options from the caller's plan, or from the arguments; refuse arguments that contradict the plan.

    Arguments that were not passed are a `Default`.
    """
    given = passed(**options)
    if plan is None:
        chosen = Options(**given)  # before the source is loaded, which may download it
        loaded = load(source.value if isinstance(source, Default) else source)
    else:
        loaded = _source_of(plan)
        if not isinstance(source, Default) and load(source) is not loaded:
            got = f"source={address.shown(str(source))!r}" if isinstance(source, str | Path) else "another source"
            raise ArgumentError(
                f"plan= fixes its source ({loaded.card.source!r}), got {got}; leave it out or make a new plan"
            )
        if given.get("method", "") is None:
            given["method"] = loaded.card.recommended
        chosen = plan.options.agreeing(given)
    if chosen.method is None:
        return Request(loaded, replace(chosen, method=loaded.card.recommended), plan)
    sampling.find(chosen.method)  # raises if there is no such method
    return Request(loaded, chosen, plan)


def _source_of(plan: Plan) -> HyperRepresentation:
    if not isinstance(plan, Plan):
        raise ArgumentError(f"plan must be a Plan from hyperinit.plan, got {type(plan).__name__}")
    if not isinstance(plan.source, HyperRepresentation):
        raise ArgumentError("plan must be a Plan from hyperinit.plan, got one without a source")
    return plan.source
