"""Tables of the report: intervals of medians, and tables without rows."""

import pytest

from benchmarks.report.tables import Table, interval


def test_the_interval_of_a_median_covers_it_and_shrinks():
    few, many = ([0.5 + 0.001 * (place * 37 % 101) for place in range(count)] for count in (10, 100))
    for values in (few, many):
        middle, low, high = interval(values)
        assert low < middle < high
    assert interval(many)[2] - interval(many)[1] < interval(few)[2] - interval(few)[1]


def test_where_bca_has_no_interval_percentiles_do():
    """Leaving out any one of these values leaves the median as it is, so that BCa divides by zero."""
    assert interval([0.5] * 8 + [0.6] * 2) == pytest.approx((0.5, 0.5, 0.55))


def test_a_table_without_rows_prints_no_head():
    assert str(Table(("a", "b"), [])) == ""
    assert str(Table(("a", "b"), [], 3)) == "3 of the paper's entries are not measured."
