"""Joint, marginal and local draws, against the statistics of the anchors that they come from."""

import pytest
import torch
from anchor_sets import WITHOUT_NOISE, anchors, rows_of
from seeds import gen

from hyperinit.samplers import SamplerOptions, fitted, kde
from hyperinit.samplers.kde import nearest


def test_without_bandwidth_a_joint_draw_is_an_anchor(zoo):
    drawn = fitted("kde", zoo, WITHOUT_NOISE).sample(500, gen())
    rows = rows_of(drawn, zoo.z)
    assert set(rows.tolist()) == set(range(40))  # every anchor, and nothing else
    assert (rows_of(fitted("kde", zoo, SamplerOptions()).sample(500, gen()), zoo.z) == -1).all()


@pytest.mark.parametrize("name", ["kde", "kde-marginal", "local"])
def test_the_bandwidth_is_the_standard_deviation_of_the_noise(name):
    z = torch.full((4, 2), 0.3)
    drawn = fitted(name, anchors(z), SamplerOptions(bandwidth=0.2)).sample(20_000, gen())
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.005)
    assert drawn.std().item() == pytest.approx(0.2, rel=0.02)
    assert torch.corrcoef(drawn.T)[0, 1].abs() < 0.03


@pytest.mark.parametrize(("name", "correlation"), [("kde", 1), ("kde-marginal", 0)])
def test_joint_draws_keep_correlation_and_marginal_ones_break_it(name, correlation):
    column = torch.linspace(-1, 1, 100)
    z = torch.stack([column, column], dim=1)
    drawn = fitted(name, anchors(z), SamplerOptions(bandwidth=0.01)).sample(10_000, gen())
    assert torch.corrcoef(drawn.T)[0, 1].item() == pytest.approx(correlation, abs=0.05)


def test_marginal_draws_have_the_anchors_marginals(zoo):
    drawn = fitted("kde-marginal", zoo, WITHOUT_NOISE).sample(20_000, gen())
    for column, original in zip(drawn.T, zoo.z.T, strict=True):
        assert torch.equal(column.unique(), original.unique())
    torch.testing.assert_close(drawn.mean(0), zoo.z.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.std(0), zoo.z.std(0, correction=0), rtol=0, atol=0.02)


def test_local_draws_mix_the_coordinates_of_neighbours_only(clusters):
    drawn = fitted("local", clusters, WITHOUT_NOISE).sample(400, gen())
    group = (drawn / 10).floor()
    assert (group == group[:, :1]).all()
    assert set(group[:, 0].int().tolist()) == {0, 1, 2, 3}
    for column, original in zip(drawn.T, clusters.z.T, strict=True):
        assert set(column.tolist()) <= set(original.tolist())
    assert (rows_of(drawn, clusters.z) == -1).float().mean() > 0.9  # not equal to an anchor


def test_marginal_draws_mix_all_groups(clusters):
    """Negative control of the test of local draws."""
    group = (fitted("kde-marginal", clusters, WITHOUT_NOISE).sample(400, gen()) / 10).floor()
    assert (group != group[:, :1]).any(1).float().mean() > 0.9


def test_with_one_neighbour_a_local_draw_is_an_anchor(clusters):
    drawn = fitted("local", clusters, SamplerOptions(bandwidth=0.0, neighbours=1)).sample(50, gen())
    assert (rows_of(drawn, clusters.z) >= 0).all()


def test_neighbours_are_the_nearest_and_begin_with_the_point_itself():
    points = torch.randn(20, 3, generator=gen())
    points[7] = points[3]  # a copy must not take the point's own place
    near = nearest(points, 5)
    distances = (points[:, None] - points).square().sum(2).sqrt()
    for row in range(20):
        assert near[row, 0] == row
        torch.testing.assert_close(distances[row, near[row]], distances[row].sort().values[:5], atol=1e-3, rtol=0)
    assert nearest(points, 99).shape == (20, 20)


def test_an_outlier_has_no_neighbours():
    """Anchors beyond twice the usual distance belong to other basins, and mixing basins gives networks at chance."""
    z = torch.cat([torch.rand(9, 6, generator=gen(4)), torch.full((1, 6), 50.0)])
    drawn = fitted("local", anchors(z), WITHOUT_NOISE).sample(400, gen())
    far = (drawn > 25).sum(1)
    assert set(far.tolist()) == {0, 6}
    assert (rows_of(drawn[far == 6], z) == 9).all()
    near = nearest(z, 3, reach=2.0)
    assert near[9].tolist() == [9, 9, 9]
    assert not (near[:9] == 9).any()
    assert len(set(nearest(z, 3)[9].tolist())) == 3  # without a reach it has some


@pytest.mark.parametrize("reach", [float("inf"), 1.5])
def test_many_points_are_compared_block_by_block_with_the_same_result(monkeypatch, reach):
    """All distances of 16,384 anchors at once would take 1 GiB, and a file of 0.2 MB can hold so many."""
    points = torch.randn(50, 4, generator=gen())
    points[7] = points[40]
    whole = nearest(points, 6, reach=reach)
    monkeypatch.setattr(kde, "BLOCK", 8)
    assert torch.equal(nearest(points, 6, reach=reach), whole)
    assert nearest(points, 1).tolist() == [[row] for row in range(50)]
