"""Refit: correct the layers of a narrower module, or one with smaller kernels, on the user's batches.

A layer with fewer inputs or a smaller kernel cannot compute what the source's layer computes. Its weights and bias are
changed so that its outputs are as near as possible to those of the same neurons of the source's network, on the same
inputs: by least squares with a penalty on the change (ridge regression). So neurons that were left out are merged into
those that were kept. The layers are corrected one after the other in the order of execution, and each sees the inputs
that the corrected layers before it compute. No labels are needed.

docs/decisions/0004-resizing-and-strength.md says what this gains.

Letters: B inputs, P places at which a layer computes its outputs, O outputs, I inputs of one place.
"""

from __future__ import annotations

import copy
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.batches.loaders import Loader, inputs_of, outputs_of, read
from hyperinit.errors import one_line
from hyperinit.fitting import Plan, apply_
from hyperinit.fitting.fill import LayerStats
from hyperinit.fitting.match import targets
from hyperinit.fitting.narrow import best_first
from hyperinit.fitting.resize import Block
from hyperinit.generators import settled, undrawn
from hyperinit.layout import KINDS
from hyperinit.modules.wrappers import parametrised, parts, wrapped
from hyperinit.modules.write import write

MOST_VALUES = 1 << 20  # of the inputs together, and at least LEAST_INPUTS of them
MOST_INPUTS, LEAST_INPUTS = 1024, 64  # more than 1024 gain little
MOST_PLACES = 20_000
MOST_FEATURES = 4096  # I: a larger system of equations takes too long
PENALTY = 6.0  # on the change, divided by B, in units of the mean square of the inputs
EXACT = 1e-5  # a larger error, as a share of the largest output, is no rounding
LOG = logging.getLogger("hyperinit")
SKIPPED = "calibrate= left the layers of a narrower module as they are, because %s"
Hook = Callable[..., None]


@dataclass(frozen=True)
class Refit:
    """What a correction needs besides the module, its weights and the batches.

    Args:
        plan: that the module was written with.
        network: the source's, on any device; only read.
        strength: that the module was written with. The change of the weights is multiplied by it.
        layer_stats: as for `apply_`.
    """

    plan: Plan
    network: nn.Module
    strength: float = 1.0
    layer_stats: LayerStats | None = None

    @property
    def needed(self) -> bool:
        """Whether the module lacks outputs, inputs or places of kernels of the source.

        >>> from hyperinit.fitting import make_plan
        >>> from hyperinit.layout import Layout
        >>> net = nn.Linear(2, 2)
        >>> [Refit(make_plan(nn.Linear(n, 2), Layout.of(net)), net).needed for n in (1, 3)]
        [True, False]
        """
        blocks = [(row.shape, row.block.shape) for row in self.plan.rows if isinstance(row.block, Block)]
        cut = any(size < of for shape, source in blocks for size, of in zip(shape, source, strict=False))
        return cut and self.plan.fit == "layerwise" and self.plan.members == 1 and self.strength > 0

    @settled()
    def correct_(self, module: nn.Module, weights: Tensor, inputs: Tensor) -> None:
        """Correct a module that was written with weights, in place.

        Nothing changes in a module with wrappers or parametrisations, in one with BatchNorms that the source does not
        have, or if the module cannot be copied or the source's network does not take the inputs. The logger "hyperinit"
        then says so at the level WARNING, which Python prints unless the caller sets it otherwise.

        Args:
            module: written by `apply_` with the plan, the weights and the strength.
            weights: the decoded weights, (D,).
            inputs: a batch, (B, ...).

        Raises:
            BatchError: if the module does not take the inputs.
        """
        if not self.needed or not len(inputs):
            return
        if not self._takes(module):
            LOG.warning(SKIPPED, "the module has wrappers, parametrisations, or BatchNorms that the source lacks")
            return
        inputs = inputs.detach().cpu()
        inputs = inputs.float() if inputs.is_floating_point() else inputs
        with undrawn():
            wanted = self._outputs_of_source(weights, inputs)
            if not wanted:
                LOG.warning(SKIPPED, "the source's network does not take the inputs")
                return
            try:
                written = copy.deepcopy(module).to("cpu", torch.float32).eval()
            except Exception as error:  # code of the user's
                LOG.warning(SKIPPED, f"the module cannot be copied: {one_line(str(error))}")
                return
            if self.strength < 1:
                apply_(written, self.plan, weights, generator=torch.Generator(), layer_stats=self.layer_stats)
            tensors = targets(written, self.plan.layout)
            before = {name: value.clone() for name, value in tensors.items()}
            _watched(written, self._corrections(written, wanted), inputs, before=True)
        present = targets(module, self.plan.layout)
        new = {}
        for name, value in tensors.items():
            if not torch.equal(value, before[name]) and value.isfinite().all():
                change = self.strength * (value - before[name])
                new[name] = (present[name].detach().cpu().float() + change).to(present[name].dtype)
        write(module, new)

    def _takes(self, module: nn.Module) -> bool:
        """Say whether a module is bare, and has no BatchNorms but those of the source."""
        if wrapped(module) or parametrised(module):
            return False
        held = {row.name.rpartition(".")[0] for row in self.plan.rows if isinstance(row.block, Block)}
        norms = [name for name, part in parts(module) if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        return all(name in held for name in norms)

    def _outputs_of_source(self, weights: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        """Return what the layers of the source's network compute, by name; nothing if it does not take the inputs."""
        layout = self.plan.layout
        state = best_first(layout.state(weights.detach().cpu().float()), layout, self.plan.narrowed)
        network = copy.deepcopy(self.network)
        network = network.to_empty(device="cpu") if any(v.is_meta for v in network.parameters()) else network.cpu()
        network.load_state_dict(state, strict=False)
        first = next((tensor.shape for tensor in layout.tensors if len(tensor.shape) > 1), ())
        if first[1:2] == (1,) and inputs.ndim == 4:
            inputs = inputs.mean(1, keepdim=True)  # the module's first layer has the weights spread over its channels
        found: dict[str, Tensor] = {}

        def note(name: str, part: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            found.setdefault(name, output.clone())  # an activation behind it may write in place

        hooks: dict[nn.Module, Hook] = {
            part: partial(note, name) for name, part in parts(network) if isinstance(part, tuple(KINDS))
        }
        try:
            _watched(network.float().eval(), hooks, inputs)
        except Exception:  # a network of the user's may be a source
            return {}
        return found

    def _corrections(self, module: nn.Module, wanted: dict[str, Tensor]) -> dict[nn.Module, Hook]:
        """Return for each layer that holds weights of the source what corrects it before it runs."""
        blocks = {row.name: row.source for row in self.plan.rows if isinstance(row.block, Block)}
        uses = Counter(id(part._parameters.get("weight")) for _, part in parts(module))
        found: dict[nn.Module, Hook] = {}
        for name, part in parts(module):
            source = blocks.get(f"{name}.weight" if name else "weight")
            of = (source or "").rpartition(".")[0]
            if isinstance(part, tuple(KINDS)) and of in wanted and uses[id(part._parameters["weight"])] == 1:
                bias = (f"{name}.bias" if name else "bias") in blocks
                found[part] = partial(_correct_once, set(), wanted[of], bias)
        return found


def _watched(module: nn.Module, hooks: Mapping[nn.Module, Hook], inputs: Tensor, *, before: bool = False) -> None:
    """Run a module with a hook on each of some parts, which is called before or after the part."""
    handles = [
        part.register_forward_pre_hook(hook) if before else part.register_forward_hook(hook)
        for part, hook in hooks.items()
    ]
    try:
        outputs_of(module, inputs, 1)
    finally:
        for handle in handles:
            handle.remove()


def _correct_once(done: set[nn.Module], wanted: Tensor, bias: bool, part: nn.Module, args: tuple[Any, ...]) -> None:
    """Change the weight and bias of a layer so that its outputs are near those wanted; only at its first call."""
    if part in done or not args or not isinstance(args[0], Tensor):
        return
    done.add(part)
    pairs = _equations(part, args[0], wanted)
    if pairs is None or pairs[0].shape[1] > MOST_FEATURES:
        return
    weight, count = part._parameters["weight"], len(wanted)
    assert weight is not None
    inputs, outputs = pairs  # (P, I), (P, O)
    rows = min(outputs.shape[1], len(weight))
    got = inputs @ weight[:rows].flatten(1).T
    shift = part._parameters.get("bias")
    error = outputs[:, :rows] - (got if shift is None else got + shift[:rows])  # (P, O)
    if not error.isfinite().all() or error.abs().max() <= EXACT * outputs.abs().max():
        return
    means = (inputs.mean(0), error.mean(0)) if bias else (torch.zeros(()), torch.zeros(()))
    centred = inputs - means[0]
    system = (centred.T @ centred).double()  # (I, I)
    system.diagonal().add_(min(1.0, PENALTY / count) * system.diagonal().mean() + 1e-12)
    change = torch.linalg.solve(system, (centred.T @ (error - means[1])).double()).float()  # (I, O)
    weight[:rows] += change.T.reshape(rows, *weight.shape[1:])
    if bias and shift is not None:
        shift[:rows] += means[1] - means[0] @ change


def _equations(part: nn.Module, inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the inputs (P, I) and the wanted outputs (P, O) of places of a layer; None if the two do not fit.

    Feature maps of different sizes, as behind a smaller kernel, are laid on each other at their centres.
    """
    if isinstance(part, nn.Linear):
        same = inputs.shape[:-1] == wanted.shape[:-1]
        return _some(inputs.flatten(0, -2), wanted.flatten(0, -2)) if same else None
    assert isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    if inputs.ndim != wanted.ndim or wanted.ndim != len(part.kernel_size) + 2:
        return None
    mode = "constant" if part.padding_mode == "zeros" else part.padding_mode
    seen = nn.functional.pad(inputs, part._reversed_padding_repeated_twice, mode=mode)
    for axis, size in enumerate(part.kernel_size, 2):
        reach = (size - 1) * part.dilation[axis - 2] + 1
        seen = seen.unfold(axis, reach, part.stride[axis - 2])[..., :: part.dilation[axis - 2]]
    for axis in range(2, wanted.ndim):  # seen: (B, channels, *places, *kernel)
        ours, theirs = seen.shape[axis], wanted.shape[axis]
        if 2 * min(ours, theirs) <= max(ours, theirs) and ours != theirs:
            return None
        if (ours - theirs) % 2:  # between two places of theirs lies one of ours
            wanted = (wanted.narrow(axis, 0, theirs - 1) + wanted.narrow(axis, 1, theirs - 1)) / 2
            theirs -= 1
        common = min(ours, theirs)
        seen, wanted = (one.narrow(axis, (n - common) // 2, common) for one, n in ((seen, ours), (wanted, theirs)))
    places = wanted.shape[2:]
    chosen = _chosen(len(wanted) * math.prod(places))
    index: Any = torch.unravel_index(chosen, (len(wanted), *places))
    where: Any = (index[0], slice(None), *index[1:])
    return seen[where].flatten(1), wanted[where]


def _some(inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    chosen = _chosen(len(inputs))
    return inputs[chosen], wanted[chosen]


def _chosen(count: int) -> Tensor:
    """Return the indices of at most `MOST_PLACES` of a number of places, spread evenly."""
    return torch.arange(min(count, MOST_PLACES), device="cpu") * count // max(1, min(count, MOST_PLACES))


def first_inputs(loader: Loader) -> tuple[Tensor, Loader]:
    """Return the first inputs of a loader, as many as a correction uses, and a loader of all its batches.

    Of inputs in several shapes, only those before the first change of the shape are taken.

    Raises:
        ArgumentError: if the loader yields nothing or no tensors.

    >>> inputs, loader = first_inputs(iter([torch.zeros(700, 784), torch.zeros(700, 784), torch.zeros(9, 784)]))
    >>> inputs.shape, [len(batch) for batch in loader]
    (torch.Size([1024, 784]), [700, 700, 9])
    """
    batches, taken = iter(read(loader)), []
    parts: list[Tensor] = []
    for batch in batches:
        taken.append(batch)
        inputs = inputs_of(batch)
        if not inputs.numel() or (parts and inputs.shape[1:] != parts[0].shape[1:]):
            break
        parts.append(inputs.detach())
        size = math.prod(inputs.shape[1:])
        most = min(MOST_INPUTS, max(LEAST_INPUTS, MOST_VALUES // size))
        if sum(map(len, parts)) >= most:
            parts = [torch.cat(parts)[:most]]
            break
    return torch.cat(parts) if parts else torch.zeros(0), chain(taken, batches)
