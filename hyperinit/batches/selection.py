"""Selection: more networks are drawn than needed, and those best on a user's labelled batches are kept.

Source: "subsampling" of SANE, Schürholt et al. 2024, arXiv:2406.09997.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hyperinit.batches.calibration import Kept, calibrate_
from hyperinit.batches.loaders import Loader, accuracy, check_loader, labelled, read
from hyperinit.errors import ArgumentError
from hyperinit.generators import cpu_random
from hyperinit.modules.state import Backup, restoring

OVERSAMPLE = 10  # candidates for each network that is kept
T = TypeVar("T")


def candidates(calibrate: object, select: object, oversample: int | None) -> int:
    """Check the arguments and return how many candidates to draw for each network that is kept.

    Raises:
        ArgumentError: if a loader is none, or `oversample` is no positive integer or comes without `select`.

    >>> candidates(None, None, None), candidates(None, [], None), candidates(None, [], 3)
    (1, 10, 3)
    """
    for name, loader in (("calibrate", calibrate), ("select", select)):
        if loader is not None:
            check_loader(name, loader)
    if oversample is None:
        return 1 if select is None else OVERSAMPLE
    if type(oversample) is not int or oversample < 1:
        raise ArgumentError(f"oversample must be an integer of at least 1, got {oversample!r}")
    if select is None:
        raise ArgumentError(
            f"oversample={oversample} needs select=, the labelled batches that decide between candidates"
        )
    return oversample


def write_best_(  # noqa: PLR0913 - two loaders beside what is written
    model: nn.Module,
    write: Callable[[Tensor], object],
    weights: Tensor,
    *,
    calibrate: Loader | None,
    kept: Kept,
    select: Loader | None,
    generator: torch.Generator | None,
) -> nn.Module:
    """Write each weight vector into a module in turn and leave the most accurate one there.

    If anything is raised, the module's parameters and buffers are as they were before.

    Args:
        model: the module.
        write: writes a weight vector (D,) into it.
        weights: candidates, (k, D); one if `select` is None.
        calibrate: batches for `calibrate_`, or None.
        kept: as for `calibrate_`.
        select: labelled batches, or None. Of equally accurate candidates the first stays.
        generator: decides what a loader draws, and is not moved by it; None is torch's global generator.

    Raises:
        ArgumentError: as `calibrate_` and `accuracy`.
    """
    before = Backup.of(model)
    with restoring(before):
        if select is None:
            write(weights[0])
            if calibrate is not None:
                with _loaders_draw_from(generator):
                    calibrate_(model, calibrate, kept=kept)
            return model
        batches, labels = _stored(calibrate, select, generator)
        assert labels is not None  # since select is not

        def written() -> Iterator[tuple[float, Backup]]:
            for row in weights:
                before.restore()  # a fill may keep what is there
                write(row)
                if batches is not None:
                    calibrate_(model, batches, kept=kept)
                done = Backup.of(model)
                yield accuracy(model, labels), done

        [winner] = best(written(), 1)
        winner.restore()
    return model


def choose(
    members: Iterable[tuple[nn.Module, Kept]],
    count: int,
    *,
    calibrate: Loader | None,
    select: Loader | None,
    generator: torch.Generator | None,
) -> list[nn.Module]:
    """Calibrate modules and keep the `count` most accurate, in their order; without `select` all are kept.

    Args:
        members: candidates, made one by one as they are asked for, each anew; each with what its calibration keeps.
        count: how many to keep.
        calibrate: as for `write_best_`; read once for all members.
        select: as for `write_best_`.
        generator: as for `write_best_`.

    Raises:
        ArgumentError: as `write_best_`, or if one module comes twice.
    """
    batches, labels = _stored(calibrate, select, generator)

    def judged() -> Iterator[tuple[float, nn.Module]]:
        previous = None
        for member, kept in members:
            if member is previous:
                raise ArgumentError("members must not share parameters, got one module twice; make each one anew")
            previous = member
            if batches is not None:
                calibrate_(member, batches, kept=kept)
            yield (0.0 if labels is None else accuracy(member, labels)), member

    return best(judged(), count)


def best(scored: Iterable[tuple[float, T]], count: int) -> list[T]:
    """Keep the `count` things of the highest score, in their order; of equals the first.

    >>> best([(0.1, "a"), (0.3, "b"), (0.2, "c"), (0.2, "d")], 2)
    ['b', 'c']
    """
    kept: list[tuple[float, T]] = []
    for pair in scored:
        kept.append(pair)
        if len(kept) > count:
            del kept[min(reversed(range(len(kept))), key=lambda place: kept[place][0])]
    return [thing for _, thing in kept]


def _stored(
    calibrate: Loader | None, select: Loader | None, generator: torch.Generator | None
) -> tuple[Sequence[Any] | None, list[tuple[Tensor, Tensor]] | None]:
    """Read each loader once, so that all candidates see the same batches; one generator may be both."""
    with _loaders_draw_from(generator):
        labels = None if select is None else [labelled(batch) for batch in read(select)]
        if calibrate is None or calibrate is select:
            return (None if calibrate is None else labels), labels
        return list(read(calibrate)), labels


@contextmanager
def _loaders_draw_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let a copy of the generator decide the order of a shuffling loader, so that the weights stay the same."""
    copy = None
    if generator is not None:
        copy = torch.Generator(generator.device)
        copy.set_state(generator.get_state())
    with cpu_random(copy):
        yield
