"""What calibration must know of a plan: layers whose outputs it keeps, norms left out, and layers to correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import Tensor, nn

from hyperinit.batches.loaders import Loader
from hyperinit.batches.refit import Refit, first_inputs
from hyperinit.fitting import Options, Plan
from hyperinit.fitting.depth import Constant, Passing
from hyperinit.fitting.plan import DRAWN, LEFT_OUT
from hyperinit.layout.layers import NORM, PARAMETERS, STATISTICS
from hyperinit.modules.wrappers import join, parametrised, parts


@dataclass(frozen=True)
class Kept:
    """Layers whose outputs calibration must not change, the norms that may be set for that, and those left out.

    Args:
        layers: names of layers that hold a whole tensor of the source, so that they compute the source's features.
        norms: names of norms without a counterpart in the source, whose weight and bias got their default draw.
        left: names of parameters that the caller left out, each with whether the plan leaves it out.
        options: of the plan. They decide for norms without parameters.
        refit: what corrects the layers of a narrower module, or None.
        weights: that the module was written with, (D,), for the correction; or None.
    """

    layers: frozenset[str] = frozenset()
    norms: frozenset[str] = frozenset()
    left: frozenset[tuple[str, bool]] = frozenset()
    options: Options = field(default=Options())
    refit: Refit | None = field(default=None, repr=False, compare=False)
    weights: Tensor | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, plan: Plan) -> Kept:
        """Read layers and norms from a plan.

        If the source has norms, only layers and norms that pass their input on are kept, because others need theirs.

        >>> from hyperinit.layout import Layout
        >>> from hyperinit.fitting import make_plan
        >>> wide = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
        >>> source = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)))
        >>> kept = Kept.of(make_plan(wide, source))
        >>> sorted(kept.layers), sorted(kept.norms)
        (['0', '3'], ['1'])
        """
        left = frozenset((row.name, row.origin in LEFT_OUT) for row in plan.rows)
        if not any(out for _, out in left) and not _leaves_out(plan.options):
            left = frozenset()  # nothing is protected
        if any(layer.kind == NORM for layer in plan.layout.layers):
            return cls(*_passing(plan), left, plan.options)
        shapes = {tensor.name: tensor.shape for layer in plan.layout.layers for tensor in layer.tensors}
        layers = {
            row.name.removesuffix(".weight")
            for row in plan.rows
            if row.name.endswith(".weight")
            and row.origin in ("exact", "resized")
            and row.source in shapes
            and _holds(row.shape, shapes[row.source])
        }
        drawn = {row.name for row in plan.rows if row.origin == "filled" and row.rest == DRAWN}
        norms = {name.removesuffix(".weight") for name in drawn if name.endswith(".weight")}
        norms = {name for name in norms if f"{name}.bias" in drawn}
        passing, passing_norms = _passing(plan)
        return cls(passing.union(layers), passing_norms.union(norms), left, plan.options)

    def correct_(self, model: nn.Module, loader: Loader) -> Loader:
        """Correct the layers of a narrower module on the first batches; return a loader of the same batches."""
        if self.refit is None or self.weights is None or not self.refit.needed:
            return loader
        inputs, loader = first_inputs(loader)
        self.refit.correct_(model, self.weights, inputs)
        return loader

    def protected(self, model: nn.Module) -> set[str]:
        """Name the parts of a module whose buffers must stay as they are, without wrappers in the names.

        A part is protected if all of its parameters were left out, or if a pattern excludes its running statistics.
        A part without parameters is protected if patterns leave out its statistics, or if frozen parameters are left
        out and the smallest part around it that has parameters is frozen.
        """
        if not _leaves_out(self.options):
            return set()
        names = _first_names(model)
        return {path for path, part in parts(model) if self._protects(model, path, names.get(id(part), []))}

    def _protects(self, model: nn.Module, path: str, names: Sequence[str]) -> bool:
        statistics = [join(path, key) for key in STATISTICS]
        if any(_matches(name, self.options.exclude) for name in statistics):
            return True
        left = dict(self.left)
        own = [left[name] for name in names if name in left]
        if own:
            return all(own)
        outside = self.options.include is not None and not any(_matches(n, self.options.include) for n in statistics)
        return outside or (self.options.skip_frozen and _frozen_around(model, path))


def _passing(plan: Plan) -> tuple[frozenset[str], frozenset[str]]:
    """Name the layers and the norms with which a deeper module passes on what the source's layers compute."""
    weights = [row for row in plan.rows if row.passing and row.name.endswith(".weight")]
    layers = {row.name for row in weights if isinstance(row.block, Passing)}
    norms = {row.name for row in weights if isinstance(row.block, Constant) and row.block.value}
    kept, identities = (frozenset(name.removesuffix(".weight") for name in names) for names in (layers, norms))
    return kept, identities


def _leaves_out(options: Options) -> bool:
    return options.include is not None or options.exclude is not None or options.skip_frozen


def _matches(name: str, patterns: object) -> bool:
    return isinstance(patterns, tuple) and any(fnmatchcase(name, pattern) for pattern in patterns)


def _first_names(model: nn.Module) -> dict[int, list[str]]:
    """Return the names of the weights and biases of each part, by its id, as a plan gives them: of ties, the first."""
    first: dict[int, str] = {}
    names: dict[int, list[str]] = {}
    for path, part in parts(model):
        for key in PARAMETERS:
            value = part._parameters.get(key)
            if value is not None:
                names.setdefault(id(part), []).append(first.setdefault(id(value), join(path, key)))
    for name, (part, _) in parametrised(model).items():
        names.setdefault(id(part), []).append(name)
    return names


def _frozen_around(model: nn.Module, path: str) -> bool:
    """Return whether the smallest part around a path that has parameters has only frozen ones."""
    found = dict(parts(model))
    while True:
        values = list(found[path].parameters())
        if values or not path:
            return bool(values) and not any(value.requires_grad for value in values)
        path = path.rpartition(".")[0]


def _holds(shape: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return len(shape) == len(part) and all(size >= least for size, least in zip(shape, part, strict=True))
