"""A plan: what happens to every parameter of a module when decoded weights are written into it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypedDict

from hyperinit.errors import ArgumentError, PlanError
from hyperinit.fitting.resize import Block
from hyperinit.layout import Layout

LEFT_OUT = ("excluded", "frozen")
Patterns = str | Iterable[str] | None


class Choice(TypedDict):
    """What decides which parameters are written, and how."""

    fit: str
    fill: str
    include: Patterns
    exclude: Patterns
    skip_frozen: bool


AS_DECODED: Choice = {"fit": "auto", "fill": "default", "include": None, "exclude": None, "skip_frozen": False}


@dataclass(frozen=True)
class Row:
    """One line of a plan: one parameter of the module.

    Args:
        name: as `module.named_parameters()` calls it.
        shape: of the parameter.
        origin: "exact" (a whole tensor of this shape), "resized" (a tensor of another shape), "flat" (a run of the
            vector, whatever its shape), "filled" (no decoded weight), or stays as it is: "untouched", "excluded" by a
            pattern, "frozen".
        source: names of the source tensors, or None.
        overlap: number of weights of this parameter that decoded weights reach.
        rest: what its other weights get: "default draw", "kept", "normal of NAME", or "" if there are none.
        block: what is written; None if nothing decoded is.
        zeros: number of weights that decode to zero, so that inputs which the source lacks do not disturb decoded
            outputs; at strength s they get (1 - s) of what `rest` says.
    """

    name: str
    shape: tuple[int, ...]
    origin: str
    source: str | None
    overlap: int
    rest: str
    block: Block | None = field(default=None, repr=False)
    zeros: int = 0

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def stats(self) -> str | None:
        """Source layer whose mean and standard deviation the rest is drawn with, or None."""
        return self.rest.removeprefix("normal of ") if self.rest.startswith("normal of ") else None


@dataclass(frozen=True)
class Plan:
    """What `apply_` will do to a module, parameter by parameter; prints as a table.

    Args:
        fit: "exact", "flat" or "layerwise"; never "auto".
        rows: one per parameter, in the order of `module.named_parameters()`.
        fill: what the parameters get that no decoded weight reaches.
        layout: of the source.
    """

    fit: str
    rows: tuple[Row, ...]
    fill: str = "default"
    layout: Layout = field(default=Layout(()), repr=False)

    @property
    def decoded_share(self) -> float:
        """Share of the weights that decoded weights reach, 0 to 1; a repeated weight counts each time.

        Parameters that the caller left out do not count.
        """
        return sum(row.overlap for row in self.rows) / self.size

    @property
    def size(self) -> int:
        """Number of weights but those that the caller left out."""
        return sum(row.size for row in self.rows if row.origin not in LEFT_OUT)

    def check(self, min_share: float) -> None:
        """Refuse to decode too little.

        Raises:
            PlanError: if `decoded_share` is below `min_share`; the message shows the table.
        """
        if not 0 <= min_share <= 1:
            raise ArgumentError(f"min_share must be in [0, 1], got {min_share}")
        if self.decoded_share < min_share:
            raise PlanError(
                f"decoded weights must reach at least {min_share:.1%} of the module's parameters, "
                f"got {self.decoded_share:.2%}:\n\n{self}\n\n"
                f"pass min_share={math.floor(self.decoded_share * 1000) / 1000} to go on all the same, "
                f"or take a source whose network is more like this module"
            )

    def __str__(self) -> str:
        """Return the table, the shares, and which strength to take when."""
        cells = [("parameter", "shape", "origin", "source tensor", "overlap", "rest gets")]
        for row in self.rows:
            shape = "x".join(map(str, row.shape)) or "scalar"
            share = f"{row.overlap / row.size:.0%}" if row.overlap else "-"
            rest = [f"{row.zeros / row.size:.0%} zero"] * bool(row.zeros)
            rest += [row.rest] * bool(row.rest and row.overlap + row.zeros < row.size)
            cells.append((row.name, shape, row.origin, row.source or "-", share, ", ".join(rest) or "-"))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        total, asked = self.size, [row for row in self.rows if row.origin not in LEFT_OUT]
        filled, untouched = (
            sum(row.size - row.overlap - row.zeros for row in asked if (row.rest == KEPT) is kept) / total
            for kept in (False, True)
        )
        zeros = sum(row.zeros for row in self.rows) / total
        out = sum(row.size for row in self.rows) - total
        beyond = f"; {out:,} others stay as they are" if out else ""
        beside = f"zero beside them {zeros:.1%}, " if zeros else ""
        foot = (
            f"\ndecoded {self.decoded_share:.1%}, {beside}filled {filled:.1%}, untouched {untouched:.1%} "
            f"of {total:,} weights{beyond}\n"
            f"fit: {self.fit}; strength: 1 for the source's own task, 0.5 for another task"
        )
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], foot])


KEPT, DRAWN = "kept", "default draw"  # what a plan says of the weights that no decoded one reaches
