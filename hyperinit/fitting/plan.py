"""A plan: what is written into every parameter of a module."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hyperinit.errors import PlanError, listed, one_line
from hyperinit.fitting.narrow import Narrowed
from hyperinit.fitting.options import Options, check_min_share
from hyperinit.fitting.resize import Piece
from hyperinit.layout import Layout

LEFT_OUT = ("excluded", "frozen")
HEADINGS = ("parameter", "shape", "origin", "source tensor", "overlap", "rest gets")


@dataclass(frozen=True)
class Rest:
    """The values of those weights of a parameter that no decoded weight reaches.

    Args:
        kind: "keep" (the present values), "default" (the default draw of the parameter's module) or "zoo" (a normal
            draw).
        layer: for the kind "zoo", the source layer whose mean and standard deviation the normal draw has; else None.
    """

    kind: str
    layer: str | None = None


KEPT, DRAWN = Rest("keep"), Rest("default")


@dataclass(frozen=True)
class Row:
    """One line of a plan: one parameter of the module.

    Args:
        name: as `module.named_parameters()` gives it.
        shape: of the parameter.
        origin: "exact" (a whole tensor of this shape), "resized" (a tensor of another shape), "flat" (a run of the
            weight vector, whatever its shape), "passes on" (no decoded weight, but values with which a layer that the
            source lacks changes nothing, see `hyperinit.fitting.depth`), "filled" (no decoded weight), or a reason why
            the parameter does not change: "untouched", "excluded" by a pattern, "frozen".
        source: names of the source tensors, or None.
        overlap: number of weights of this parameter that decoded weights reach.
        rest: what its other weights get; None if there are no others.
        block: the part of the weight vector that is written, and where; None if nothing decoded is written.
        passing: number of weights with which the layer changes nothing.
        zeros: number of weights that decode to zero, so that inputs which the source lacks do not disturb decoded
            outputs; at strength s they get (1 - s) times what `rest` gives.
    """

    name: str
    shape: tuple[int, ...]
    origin: str
    source: str | None
    overlap: int
    rest: Rest | None
    block: Piece | None = field(default=None, repr=False)
    zeros: int = 0
    passing: int = 0

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def decided(self) -> int:
        """Number of weights that the source decides."""
        return self.overlap + self.zeros + self.passing


@dataclass(frozen=True)
class Plan:
    """What `init_` or `apply_` writes into a module, parameter by parameter; prints as a table.

    Args:
        fit: "exact", "flat" or "layerwise"; never "auto".
        rows: one per parameter, in the order of `module.named_parameters()`.
        layout: of the source's network.
        options: the options that it was made with. One from `hyperinit.plan` names its method, and a strength only
            if the caller fixed one.
        members: number of networks that lie side by side in the module.
        narrowed: groups of the source's neurons of which the module holds only the best.
        source: the hyper-representation, if it comes from `hyperinit.plan`; `init_(model, plan=...)` needs it.
        computation: how the module's computation differs from the source's, see `hyperinit.fitting.computation`.
        notes: further lines below the table.
    """

    fit: str
    rows: tuple[Row, ...]
    layout: Layout = field(default=Layout(()), repr=False)
    options: Options = field(default=Options())
    members: int = 1
    narrowed: tuple[Narrowed, ...] = field(default=(), repr=False)
    source: object | None = field(default=None, repr=False, compare=False)
    computation: object | None = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def fill(self) -> str:
        """What the parameters get that no decoded weight reaches: "default", "keep" or "zoo"."""
        return self.options.fill

    @property
    def decoded_share(self) -> float:
        """Share of the weights that decoded weights reach, 0 to 1; a repeated weight counts each time.

        Parameters that the caller left out do not count. Without any weights the share is 0.
        """
        return sum(row.overlap for row in self.rows) / max(1, self.size)

    @property
    def decided_share(self) -> float:
        """Share of the weights that the source decides, 0 to 1.

        These are decoded ones, zeros beside them, and those of layers that the source lacks and that pass on.
        """
        return sum(row.decided for row in self.rows) / max(1, self.size)

    @property
    def size(self) -> int:
        """Number of weights, without the parameters that the caller left out."""
        return sum(row.size for row in self._asked)

    @property
    def _asked(self) -> list[Row]:
        return [row for row in self.rows if row.origin not in LEFT_OUT]

    def check(self, min_share: float) -> None:
        """Refuse a plan that decodes too little.

        Args:
            min_share: the least `decided_share` that is accepted, 0 to 1.

        Raises:
            ArgumentError: if `min_share` is not a number in [0, 1].
            PlanError: if `decided_share` is below `min_share`; the message shows the table.
        """
        check_min_share(min_share)
        if self.decided_share < min_share:
            lower = math.floor(self.decided_share * 1000) / 1000  # rounded down, so that it is accepted
            raise PlanError(
                f"the source must decide at least {min_share:.1%} of the module's parameters, "
                f"got {self.decided_share:.2%}:\n\n{self}\n\n"
                f"pass min_share={lower} to proceed anyway, or take a source whose network is more like this module"
            )

    def __str__(self) -> str:
        """Return the table, the shares, and the method and the strength, or which strength suits which task."""
        cells = [HEADINGS, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join(
            [lines[0], "-" * len(lines[0]), *lines[1:], "", self._shares(), self._choices(), *self._below()]
        )

    @property
    def summary(self) -> str:
        """The lines below the table as one: shares, choices, and what is known of the computation."""
        return "; ".join(" ".join(line.split()) for line in (self._shares(), self._choices(), *self._below()))

    def _below(self) -> list[str]:
        kept = listed([f"{each.kept} of {each.count} in {each.group}" for each in self.narrowed], most=6)
        lines = [f"best neurons of the source: {kept}"] if kept else []
        return [*lines, *([] if self.computation is None else [str(self.computation)]), *self.notes]

    def _shares(self) -> str:
        total = self.size
        filled, untouched = (
            sum(row.size - row.decided for row in self._asked if (row.rest == KEPT) is kept) / max(1, total)
            for kept in (False, True)
        )
        zeros = sum(row.zeros for row in self.rows) / max(1, total)
        beside = f"zero beside them {zeros:.1%}, " if zeros else ""
        passing = sum(row.passing for row in self.rows) / max(1, total)
        beside += f"passing on {passing:.1%}, " if passing else ""
        out = sum(row.size for row in self.rows) - total
        beyond = f"; {out:,} others stay as they are" if out else ""
        return (
            f"decoded {self.decoded_share:.1%}, {beside}filled {filled:.1%}, untouched {untouched:.1%} "
            f"of {total:,} weights{beyond}"
        )

    def _choices(self) -> str:
        method = f"method: {self.options.method}; " if self.options.method else ""
        strength = self.options.strength
        advice = "1 for the source's own task, 0.5 for another task"
        beside = f"{self.members} networks side by side; " if self.members > 1 else ""
        return f"fit: {self.fit}; {beside}{method}strength: {advice if strength is None else strength}"


def _cells(row: Row) -> tuple[str, ...]:
    """Return one line of the table: a text for each of `HEADINGS`."""
    shape = "x".join(map(str, row.shape)) or "scalar"
    share = f"{row.overlap / row.size:.0%}" if row.overlap else "-"
    rest = [f"{row.zeros / row.size:.0%} zero"] if row.zeros else []
    if row.rest is not None and row.decided < row.size:
        words = {"keep": "kept", "default": "default draw", "zoo": f"normal of {one_line(row.rest.layer)}"}
        rest.append(words[row.rest.kind])
    return one_line(row.name), shape, row.origin, one_line(row.source or "-"), share, ", ".join(rest) or "-"
