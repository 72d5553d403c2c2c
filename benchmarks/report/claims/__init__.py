"""Claims of the paper and of this library, judged by the results."""

from __future__ import annotations

from benchmarks.report.claims import beyond, figures, tables
from benchmarks.report.claims.judging import Claim, Results, better, mann_whitney, percent

__all__ = ["Claim", "Results", "better", "claims", "mann_whitney", "percent"]


def claims(results: Results) -> list[Claim]:
    """Judge all claims: of the paper's tables, of its figures, and of this library alone."""
    return [claim for part in (*tables.PARTS, *figures.PARTS, *beyond.PARTS) for claim in part(results)]
