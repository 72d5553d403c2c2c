"""Average networks or checkpoints, and measure whether the average still works.

Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482; Ainsworth et al. 2022, "Git Re-Basin", arXiv:2209.04836.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit.batches.calibration import calibrate_
from hyperinit.checkpoints.entries import tensors_of
from hyperinit.checkpoints.layout import StateLayout, differences
from hyperinit.checkpoints.state_dicts import take
from hyperinit.errors import ArgumentError, LayoutError, ZooError, listed, one_line
from hyperinit.modules.state import evaluating
from hyperinit_training.checkpoints.files import find_files
from hyperinit_training.checkpoints.read import Evaluation, Factory, build, score_of
from hyperinit_training.symmetry.functions import arguments, outputs, placed
from hyperinit_training.symmetry.groups import BATCH_NORMS
from hyperinit_training.symmetry.networks import align_with_notes, check_networks
from hyperinit_training.symmetry.positions import Groups

Given = nn.Module | str | Path
LOST_SCORE = 0.05  # greatest drop of the score, as a share of the mean score of the networks
LOST_OUTPUTS = 0.4  # greatest divergence of the outputs


@dataclass(frozen=True)
class Soup:
    """The average of networks, with the barrier between them.

    Args:
        network: has the mean of all weights. Its mode and its other settings are those of the first network.
        barrier: with an evaluation, the mean score of the networks less the score of `network`. Without one, the
            divergence of `network`.
        limit: greatest barrier with which the average counts as a working network.
        scores: score of each network; empty without an evaluation.
        divergences: for each network, the root mean square difference between its outputs and the mean outputs of all
            networks, in units of the standard deviation of the mean outputs over the inputs. An average that is no
            better than a constant has about 1. Empty with an evaluation.
        notes: one sentence for each operation that keeps the order of its neurons.
    """

    network: nn.Module = field(repr=False)
    barrier: float
    limit: float
    scores: tuple[float, ...] = ()
    divergences: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether the barrier is at most the limit."""
        return self.barrier <= self.limit

    def __str__(self) -> str:
        """Return one sentence with the figures."""
        values = self.scores or self.divergences
        mean = sum(values) / len(values)
        span = f"{mean:.4g} on average ({min(values):.4g} to {max(values):.4g})"
        if self.scores:
            return (
                f"the average scores {mean - self.barrier:.4g}, the {len(values)} networks score {span}, a drop of "
                f"{self.barrier:.4g} with a limit of {self.limit:.4g}"
            )
        return (
            f"the outputs of the average are {self.barrier:.4g} standard deviations from the mean outputs with a limit "
            f"of {self.limit:.4g}, those of the {len(values)} networks {span}"
        )


def soup(  # noqa: PLR0913 - what to average, how to prepare it and how to judge it are independent choices
    networks: Iterable[Given] | str | Path,
    *,
    example_input: Tensor | tuple[Tensor, ...],
    model: Factory | None = None,
    evaluate: Evaluation | None = None,
    calibrate: Iterable[object] | None = None,
    align: bool = True,
    by: str = "activations",
    signs: bool = False,
    groups: Groups | None = None,
    limit: float | None = None,
    force: bool = False,
) -> Soup:
    """Average networks of one architecture, and measure the barrier between them.

    Args:
        networks: at least two modules or paths of checkpoints; or a folder, a glob pattern or a `.txt` file of paths.
            Modules are not modified.
        example_input: positional arguments of a network, for the alignment. Without `evaluate` the average is measured
            on it, so pass a batch of at least 16 real inputs. The first axis of outputs is the batch.
        model: makes the network; required with paths.
        evaluate: returns the score of a network, higher is better. It gets a copy each time.
        calibrate: batches on which the BatchNorms of the average estimate their statistics, see `hyperinit.calibrate_`.
            Without them the statistics are averaged, which is wrong for networks that are far apart.
        align: permute the neurons of the networks first, see `hyperinit_training.align`.
        by, signs, groups: as in `align`.
        limit: greatest barrier. Default: 5 % of the networks' mean score with `evaluate`, 0.4 without.
        force: return the average also if the barrier is beyond the limit.

    Returns:
        The average and its barrier.

    Raises:
        ZooError: if the barrier is beyond the limit, a file cannot be read, or the evaluation fails.
        ArgumentError: if an argument does not fit, or the networks differ in architecture.
        LayoutError: if the neurons cannot be aligned, or a file holds another network.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> found = soup([net, copy.deepcopy(net)], example_input=torch.randn(16, 2))
    >>> torch.equal(found.network[0].weight, net[0].weight), round(found.barrier, 4)
    (True, 0.0)
    """
    if limit is not None and not (isinstance(limit, int | float) and limit >= 0):
        raise ArgumentError(f"limit must be None or a number of at least 0, got {limit!r}")
    given, names = _networks(networks, model)
    inputs = arguments(example_input)
    moved, notes = _aligned(given, inputs, by, groups, signs=signs) if align else (given, ())
    mean = _mean(given[0], moved)
    if calibrate is not None:
        calibrate_(mean, calibrate)
    if evaluate is not None:
        found = _scored(mean, given, names, evaluate, limit)
    else:
        found = _compared(mean, given, inputs, LOST_OUTPUTS if limit is None else limit)
    found = replace(found, notes=notes)
    if not found.works and not force:
        raise ZooError(_refusal(found, mean, calibrated=calibrate is not None, aligned=align))
    return found


def _aligned(
    networks: list[nn.Module], inputs: tuple[Tensor, ...], by: str, groups: Groups | None, *, signs: bool
) -> tuple[list[nn.Module], tuple[str, ...]]:
    try:
        return align_with_notes(networks, inputs, by=by, rounds=3, signs=signs, groups=groups)
    except LayoutError as error:
        raise LayoutError(f"{error}; or pass align=False if the networks have one ancestor") from error


def _networks(networks: Iterable[Given] | str | Path, model: Factory | None) -> tuple[list[nn.Module], list[str]]:
    """Return the networks as modules, and their names for messages."""
    if isinstance(networks, nn.Module):
        raise ArgumentError(f"networks must be a list of networks or of paths, got one {type(networks).__name__}")
    if isinstance(networks, str | Path):
        items: list[Given] = [*find_files(networks).paths.values()]
    else:
        items = list(networks)
    if len(items) < 2:
        raise ArgumentError(f"networks must be at least two, got {len(items)}")
    wrong = [type(item).__name__ for item in items if not isinstance(item, nn.Module | str | Path)]
    if wrong:
        raise ArgumentError(f"networks must be modules or paths of checkpoints, got {listed(wrong, 3)}")
    names = [f"network {n}" if isinstance(item, nn.Module) else str(item) for n, item in enumerate(items)]
    modules = [item if isinstance(item, nn.Module) else _read(Path(item), model) for item in items]
    check_networks(modules)
    return modules, names


@torch.no_grad()
def _read(path: Path, model: Factory | None) -> nn.Module:
    """Read one checkpoint into a new network."""
    if model is None:
        raise ArgumentError(f"model must be given with paths of checkpoints, got none for {one_line(path)}")
    module = build(model)
    layout = StateLayout.of_module(module)
    state = layout.select(take(path).fitted(layout, path).tensors)
    found = {name: tuple(value.shape) for name, value in state.items()}
    if problems := differences(found, layout.shapes):
        raise LayoutError(f"{one_line(path)} must hold the network's tensors, got {problems}")
    own = tensors_of(module)
    for name, value in state.items():
        own[name].copy_(value)
    return module


@torch.no_grad()
def _mean(first: nn.Module, networks: Sequence[nn.Module]) -> nn.Module:
    """Return a copy of the first network with the mean of all float tensors, taken in float64."""
    states = [network.state_dict() for network in networks]
    found = dict(states[0])
    for name, value in states[0].items():
        if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
            continue
        if value.is_complex():
            raise ArgumentError(f"networks must hold real tensors, got {value.dtype} in {one_line(name)}")
        total = torch.zeros(value.shape, dtype=torch.float64)
        for state in states:
            total += state[name].cpu()
        found[name] = (total / len(states)).to(value.dtype)
    mean = copy.deepcopy(first)
    mean.load_state_dict(found)
    return mean


def _scored(
    mean: nn.Module, networks: Sequence[nn.Module], names: Sequence[str], evaluate: Evaluation, limit: float | None
) -> Soup:
    """Measure the drop of the score."""
    scores = tuple(
        score_of(evaluate, copy.deepcopy(network), name) for network, name in zip(networks, names, strict=True)
    )
    usual = sum(scores) / len(scores)
    barrier = usual - score_of(evaluate, copy.deepcopy(mean), "the average")
    return Soup(mean, barrier, LOST_SCORE * abs(usual) if limit is None else limit, scores)


def _compared(mean: nn.Module, networks: Sequence[nn.Module], inputs: Sequence[Tensor], limit: float) -> Soup:
    """Measure the divergence of the outputs."""
    found = torch.stack([_outputs(network, inputs) for network in networks])  # (N, B, F)
    together = found.mean(0)  # (B, F)
    unit = (together - together.mean(0)).square().mean().sqrt()
    if not unit > 0:
        raise ArgumentError(
            "example_input must hold several inputs with different outputs, got one output for all; pass a batch of "
            "real inputs, or evaluate="
        )
    others = (found - together).square().mean((1, 2)).sqrt() / unit
    barrier = (_outputs(mean, inputs) - together).square().mean().sqrt() / unit
    return Soup(mean, barrier.item(), limit, divergences=tuple(others.tolist()))


def _outputs(network: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Return the outputs of a network in evaluation mode, float64 (B, F) on the CPU."""
    with evaluating(network):
        found = outputs(network, placed(network, inputs))
    if any(value.ndim < 1 or len(value) != len(found[0]) for value in found):
        raise ArgumentError("outputs must have the batch as their first axis to be compared, pass evaluate= instead")
    parts = torch.cat([value.double().cpu().reshape(len(value), -1) for value in found], dim=1)
    if not parts.isfinite().all():
        raise ArgumentError("example_input must give finite outputs, got NaN or infinity")
    return parts


def _refusal(found: Soup, mean: nn.Module, *, calibrated: bool, aligned: bool) -> str:
    """Say what the average loses, and what to do."""
    norms = any(isinstance(part, BATCH_NORMS) and part.running_mean is not None for part in mean.modules())
    lines = [f"networks must work after averaging: {found}"]
    if found.notes:
        lines.append(f"not all neurons were aligned, {listed(found.notes, 2)}")
    if norms and not calibrated:
        lines.append("pass calibrate= with batches of inputs, because averaged BatchNorm statistics do not fit")
    if not aligned:
        lines.append("pass align=True")
    lines.append(
        "average fine-tunes of one network, use the networks as an ensemble, raise limit=, or pass force=True to get "
        "the average anyway"
    )
    return "; ".join(lines)
