"""What a call of a public function asks for: the source, the options, and the plan for a module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.batches.kept import Kept
from hyperinit.batches.refit import Refit
from hyperinit.checkpoints.networks import Networks
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import ArgumentError, MismatchWarning, PlanError, warn
from hyperinit.fitting import Options, Plan, apply_, make_plan
from hyperinit.fitting.apply import check_module
from hyperinit.fitting.computation import Computation, compare, network_of
from hyperinit.fitting.options import Default, passed
from hyperinit.fitting.proof import Proof, prove
from hyperinit.hub import address
from hyperinit.hub.given import AnySource, given
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

    source: HyperRepresentation | Networks
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
            steps = replace(self._made(module), source=self.source)
        else:
            check_module(module, self.plan)
            steps = self.plan
        if not compared:
            return steps
        card = self.source.card
        notes = (f"inputs: {card.inputs}; hyperinit.transforms makes them" if card.inputs else "", card.unusable)
        return replace(steps, computation=compare(module, steps, self.network), notes=tuple(filter(None, notes)))

    def _made(self, module: nn.Module) -> Plan:
        """Make the plan. Given networks all lie side by side, unless a number is asked for."""
        options = self.options
        if not isinstance(self.source, Networks):
            return make_plan(module, self.source.layout, options)
        wanted = self.source.beside(options.members)
        steps = make_plan(module, self.source.layout, replace(options, members=1 if wanted == 1 else None))
        if wanted > steps.members:
            raise PlanError(
                f"all {wanted} networks of source must fit side by side, got a module with room for {steps.members}; "
                f"widen it, or pass members={steps.members} to take the first"
            )
        if wanted < steps.members:
            steps = make_plan(module, self.source.layout, replace(options, members=wanted))
        return replace(steps, options=options)

    def one_by_one(self) -> Request:
        """Return a request that lays one given network into each module, unless a number is asked for."""
        if self.plan is not None or self.options.members is not None or not isinstance(self.source, Networks):
            return self
        return replace(self, options=replace(self.options, members=1))

    @cached_property
    def network(self) -> nn.Module | None:
        """The source's own network, perhaps without values, or None if the source does not describe it."""
        if isinstance(self.source, Networks):
            return self.source.network
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
        if isinstance(self.source, Networks) and self.source.apart:
            return Proof(steps.members, reason=self.source.unproven)
        weights = self.sample(1, steps, torch.Generator().manual_seed(0))[0]
        return prove(module, steps, self.network, weights, inputs, layer_stats=self.stats)

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
        """Sample weight vectors for modules, (count, D), or (count, k, D) for plans of k networks side by side.

        Given networks come in their order, and again from the first.
        """
        beside = 1 if steps is None else steps.members
        spread = self.options.spread and (beside > 1 or ensemble)
        method = self.options.method
        if isinstance(self.source, Networks):
            weights = self.source.sample(count * beside)
        else:
            weights = self.source.sample(count * beside, method=method, generator=generator, spread=spread)
        return weights if beside == 1 else weights.unflatten(0, (count, beside))

    def kept(self, steps: Plan, weights: Tensor | None = None) -> Kept:
        """Return what calibration must know of a plan, and of the weights (D,) that a module was written with."""
        apart = isinstance(self.source, Networks) and self.source.apart  # one network's outputs need all that it holds
        network = None if apart else self.network
        refit = None if network is None else Refit(steps, network, self.strength, self.stats)
        return replace(Kept.of(steps), refit=refit, weights=weights)

    def write(self, module: nn.Module, steps: Plan, weights: Tensor, *, generator: torch.Generator | None) -> nn.Module:
        """Write weights, (D,) or (k, D), into a module as a plan says."""
        return apply_(module, steps, weights, strength=self.strength, generator=generator, layer_stats=self.stats)


def request(plan: Plan | None, source: AnySource | Default, **options: Any) -> Request:
    """Take source and options from the caller's plan, or from the arguments; refuse arguments that contradict the plan.

    Arguments that were not passed are a `Default`.
    """
    asked = passed(**options)
    if plan is None:
        chosen = Options(**asked)  # before the source is loaded, which may download it
        loaded = _loaded(source.value if isinstance(source, Default) else source)
    else:
        loaded = _source_of(plan)
        if not isinstance(source, Default) and not _same(loaded, _loaded(source)):
            got = f"source={address.shown(str(source))!r}" if isinstance(source, str | Path) else "another source"
            raise ArgumentError(
                f"plan= fixes its source ({loaded.card.source!r}), got {got}; leave it out or make a new plan"
            )
        if asked.get("method", "") is None and not isinstance(loaded, Networks):
            asked["method"] = loaded.card.recommended
        chosen = plan.options.agreeing(asked)
    if isinstance(loaded, Networks):
        if chosen.method is not None:
            raise ArgumentError(
                f"method must be None for networks of your own, which are taken as they are, got {chosen.method!r}"
            )
        return Request(loaded, chosen, plan)
    if chosen.method is None:
        return Request(loaded, replace(chosen, method=loaded.card.recommended), plan)
    sampling.find(chosen.method)  # raises if there is no such method
    return Request(loaded, chosen, plan)


def _loaded(source: AnySource) -> HyperRepresentation | Networks:
    return given(list(source.members) if isinstance(source, Ensemble) else source)


def _same(one: HyperRepresentation | Networks, other: HyperRepresentation | Networks) -> bool:
    return one.same(other) if isinstance(one, Networks) else one is other


def _source_of(plan: Plan) -> HyperRepresentation | Networks:
    if not isinstance(plan, Plan):
        raise ArgumentError(f"plan must be a Plan from hyperinit.plan, got {type(plan).__name__}")
    if not isinstance(plan.source, HyperRepresentation | Networks):
        raise ArgumentError("plan must be a Plan from hyperinit.plan, got one without a source")
    return plan.source
