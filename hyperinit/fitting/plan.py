"""A plan: what is written into every parameter of a module."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hyperinit.errors import ArgumentError, PlanError
from hyperinit.fitting.options import Options
from hyperinit.fitting.resize import Block
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
            weight vector, whatever its shape), "filled" (no decoded weight), or a reason why the parameter does not
            change: "untouched", "excluded" by a pattern, "frozen".
        source: names of the source tensors, or None.
        overlap: number of weights of this parameter that decoded weights reach.
        rest: what its other weights get; None if there are no others.
        block: the part of the weight vector that is written, and where; None if nothing decoded is written.
        zeros: number of weights that decode to zero, so that inputs which the source lacks do not disturb decoded
            outputs; at strength s they get (1 - s) times what `rest` gives.
    """

    name: str
    shape: tuple[int, ...]
    origin: str
    source: str | None
    overlap: int
    rest: Rest | None
    block: Block | None = field(default=None, repr=False)
    zeros: int = 0

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """What `init_` or `apply_` writes into a module, parameter by parameter; prints as a table.

    Args:
        fit: "exact", "flat" or "layerwise"; never "auto".
        rows: one per parameter, in the order of `module.named_parameters()`.
        layout: of the source's network.
        options: the options that it was made with. One from `hyperinit.plan` names its method, and a strength only
            if the caller fixed one.
        source: the hyper-representation, if it comes from `hyperinit.plan`; `init_(model, plan=...)` needs it.
    """

    fit: str
    rows: tuple[Row, ...]
    layout: Layout = field(default=Layout(()), repr=False)
    options: Options = field(default=Options())
    source: object | None = field(default=None, repr=False, compare=False)

    @property
    def fill(self) -> str:
        """What the parameters get that no decoded weight reaches: "default", "keep" or "zoo"."""
        return self.options.fill

    @property
    def decoded_share(self) -> float:
        """Share of the weights that decoded weights reach, 0 to 1; a repeated weight counts each time.

        Parameters that the caller left out do not count.
        """
        return sum(row.overlap for row in self.rows) / self.size

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
            min_share: the least `decoded_share` that is accepted, 0 to 1.

        Raises:
            ArgumentError: if `min_share` is not in [0, 1].
            PlanError: if `decoded_share` is below `min_share`; the message shows the table.
        """
        if not 0 <= min_share <= 1:
            raise ArgumentError(f"min_share must be in [0, 1], got {min_share}")
        if self.decoded_share < min_share:
            lower = math.floor(self.decoded_share * 1000) / 1000  # rounded down, so that it is accepted
            raise PlanError(
                f"decoded weights must reach at least {min_share:.1%} of the module's parameters, "
                f"got {self.decoded_share:.2%}:\n\n{self}\n\n"
                f"pass min_share={lower} to proceed anyway, or take a source whose network is more like this module"
            )

    def __str__(self) -> str:
        """Return the table, the shares, and the method and the strength, or which strength suits which task."""
        cells = [HEADINGS, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", self._shares(), self._choices()])

    def _shares(self) -> str:
        total = self.size
        filled, untouched = (
            sum(row.size - row.overlap - row.zeros for row in self._asked if (row.rest == KEPT) is kept) / total
            for kept in (False, True)
        )
        zeros = sum(row.zeros for row in self.rows) / total
        beside = f"zero beside them {zeros:.1%}, " if zeros else ""
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
        return f"fit: {self.fit}; {method}strength: {advice if strength is None else strength}"


def _cells(row: Row) -> tuple[str, ...]:
    """Return one line of the table: a text for each of `HEADINGS`."""
    shape = "x".join(map(str, row.shape)) or "scalar"
    share = f"{row.overlap / row.size:.0%}" if row.overlap else "-"
    rest = [f"{row.zeros / row.size:.0%} zero"] if row.zeros else []
    if row.rest is not None and row.overlap + row.zeros < row.size:
        words = {"keep": "kept", "default": "default draw", "zoo": f"normal of {row.rest.layer}"}
        rest.append(words[row.rest.kind])
    return row.name, shape, row.origin, row.source or "-", share, ", ".join(rest) or "-"
