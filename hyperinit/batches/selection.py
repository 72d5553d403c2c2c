"""Selection: sample more networks than needed and keep the most accurate on the user's labelled batches.

Source: "subsampling" of SANE, Schürholt et al. 2024, arXiv:2406.09997.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hyperinit.batches.calibration import calibrate_
from hyperinit.batches.kept import Kept
from hyperinit.batches.loaders import Loader, accuracy, check_loader, labelled, read
from hyperinit.errors import ArgumentError
from hyperinit.generators import cpu_random
from hyperinit.modules.state import Backup, restoring

OVERSAMPLE = 10  # candidates for each network that is kept
T = TypeVar("T")


def candidates(calibrate: object, select: object, oversample: int | None) -> int:
    """Check the arguments and return how many candidates to draw for each network that is kept.

    Raises:
        ArgumentError: if a loader is not iterable, or `oversample` is not a positive integer or lacks `select`.

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


def write_best_(  # noqa: PLR0913 - both loaders, and how to write
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
        write: writes a weight vector (D,) into the module.
        weights: candidates, (k, D); without `select` only the first is written.
        calibrate: batches for `calibrate_`, or None.
        kept: as for `calibrate_`.
        select: labelled batches, or None. Among equally accurate candidates the first is kept.
        generator: a copy of it seeds the loaders' shuffling, so it does not advance. None uses torch's global one.

    Raises:
        ArgumentError: as for `calibrate_` and `accuracy`.
    """
    before = Backup.of(model)
    with restoring(before):
        if select is None:
            write(weights[0])
            if calibrate is not None:
                with _loaders_draw_from(generator):
                    calibrate_(model, calibrate, kept=replace(kept, weights=weights[0]))
            return model
        batches, labels = _stored(calibrate, select, generator)
        assert labels is not None  # since select is not

        def written() -> Iterator[tuple[float, Backup]]:
            for row in weights:
                before.restore()  # a fill may keep old values, so every candidate must start from the same ones
                write(row)
                if batches is not None:
                    calibrate_(model, batches, kept=replace(kept, weights=row))
                done = Backup.of(model)  # before judging: a forward pass may change buffers
                yield accuracy(model, labels), done

        [winner] = best(written(), 1)  # keeps a copy of the best so far only, so memory does not grow with k
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
    """Calibrate modules and return the `count` most accurate, in the order in which they were made.

    Args:
        members: an iterator that makes a new candidate at each step, with the `kept` for its calibration.
            Rejected ones are freed on the way, so memory grows with `count` and not with the number of candidates.
        count: number of modules to return. Without `select` these are the first.
        calibrate: as for `write_best_`. It is read once for all candidates.
        select: as for `write_best_`.
        generator: as for `write_best_`.

    Raises:
        ArgumentError: as for `write_best_`, or if one module comes twice.
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
            done = Backup(member.buffers(), [member])  # before judging: a forward pass may change buffers
            score = 0.0 if labels is None else accuracy(member, labels)
            done.restore()
            yield score, member

    return best(judged(), count)


def best(scored: Iterable[tuple[float, T]], count: int) -> list[T]:
    """Return the `count` items of the highest scores, in their order. Among equals, prefer the first.

    >>> best([(0.1, "a"), (0.3, "b"), (0.2, "c"), (0.2, "d")], 2)
    ['b', 'c']
    """
    kept: list[tuple[float, T]] = []
    for pair in scored:
        kept.append(pair)
        if len(kept) > count:  # drop the worst at once, so that its memory is free; reversed: the last of equals
            del kept[min(reversed(range(len(kept))), key=lambda place: kept[place][0])]
    return [thing for _, thing in kept]


def _stored(
    calibrate: Loader | None, select: Loader | None, generator: torch.Generator | None
) -> tuple[Sequence[Any] | None, list[tuple[Tensor, Tensor]] | None]:
    """Read each loader once, so that all candidates see the same batches. One generator may serve as both loaders."""
    with _loaders_draw_from(generator):
        labels = None if select is None else [labelled(batch) for batch in read(select)]
        if calibrate is None or calibrate is select:
            return (None if calibrate is None else labels), labels
        return list(read(calibrate)), labels


@contextmanager
def _loaders_draw_from(generator: torch.Generator | None) -> Iterator[None]:
    """Seed shuffling loaders from a copy of the generator, so that weights do not depend on the loaders."""
    copy = None
    if generator is not None:
        copy = torch.Generator(generator.device)
        copy.set_state(generator.get_state())
    with cpu_random(copy):
        yield
