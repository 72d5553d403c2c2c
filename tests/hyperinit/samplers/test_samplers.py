"""What every sampler draws, against oracles and against what it must not do.

`neigh`, which is slow to compile, has a file of its own, and so has `gan`, which is slow to train.
"""

import inspect

import pytest
import torch
from seeds import gen

from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit.samplers import METHODS, Anchors, SamplerOptions, fitted, gan
from hyperinit.samplers.kde import nearest

NONE = SamplerOptions(bandwidth=0.0, neighbours=3, noise=0.0)


def anchors(z, weights=None):
    """Later anchors are better."""
    count = len(z)
    return Anchors(z, torch.arange(count) / count, torch.full((count,), 2.0), z if weights is None else weights)


@pytest.fixture
def zoo():
    """40 anchors with 5 latent numbers and 7 weights."""
    return anchors(torch.rand(40, 5, generator=gen(1)), torch.randn(40, 7, generator=gen(2)))


def rows_of(drawn, originals):
    """For each drawn row the place of the equal original, or -1."""
    same = (drawn[:, None] == originals).all(2)
    return torch.where(same.any(1), same.int().argmax(1), -1)


# All


LIGHT = [name for name in METHODS if not name.startswith("neigh")]


@pytest.fixture(autouse=True)
def _gans_are_trained_for_one_epoch(monkeypatch):
    monkeypatch.setattr(gan, "EPOCHS", 1)


@pytest.mark.parametrize("name", LIGHT)
def test_shape_dtype_and_space(zoo, name):
    sampler = fitted(name, zoo, SamplerOptions())
    drawn = sampler.sample(6, gen())
    assert drawn.shape == (6, {"latent": 5, "weight": 7}[sampler.space])
    assert drawn.dtype == torch.float32
    assert drawn.isfinite().all()
    assert sampler.space == ("weight" if name in ("noise", "average") else "latent")


@pytest.mark.parametrize("name", LIGHT)
def test_the_generator_decides_everything(zoo, name):
    sampler = fitted(name, zoo, SamplerOptions())
    before = torch.get_rng_state()
    first = sampler.sample(6, gen())
    assert torch.equal(first, sampler.sample(6, gen()))
    assert torch.equal(first, fitted(name, zoo, SamplerOptions()).sample(6, gen()))
    assert not torch.equal(first, sampler.sample(6, gen(1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", LIGHT)
def test_without_a_generator_the_global_seed_decides(zoo, name):
    sampler = fitted(name, zoo, SamplerOptions())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = sampler.sample(6, None)
        second = sampler.sample(6, None)
        torch.manual_seed(3)
        assert torch.equal(sampler.sample(6, None), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", LIGHT)
def test_anchors_are_only_read(zoo, name):
    z, weights = zoo.z.clone(), zoo.weights.clone()
    fitted(name, zoo, SamplerOptions()).sample(6, gen()).add_(1)
    assert torch.equal(zoo.z, z)
    assert torch.equal(zoo.weights, weights)


@pytest.mark.parametrize("name", LIGHT)
def test_one_anchor_is_enough(name):
    drawn = fitted(name, anchors(torch.full((1, 4), 0.5)), SamplerOptions()).sample(3, gen())
    assert drawn.shape == (3, 4)
    assert drawn.isfinite().all()


# KDE


def test_without_bandwidth_a_joint_draw_is_an_anchor(zoo):
    drawn = fitted("kde", zoo, NONE).sample(500, gen())
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
    drawn = fitted("kde-marginal", zoo, NONE).sample(20_000, gen())
    for column, original in zip(drawn.T, zoo.z.T, strict=True):
        assert torch.equal(column.unique(), original.unique())
    torch.testing.assert_close(drawn.mean(0), zoo.z.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.std(0), zoo.z.std(0, correction=0), rtol=0, atol=0.02)


@pytest.fixture
def clusters():
    """Four far groups of three anchors each."""
    centres = torch.arange(4.0).repeat_interleave(3)[:, None] * 10
    return anchors(centres + torch.rand(12, 6, generator=gen(4)))


def test_local_draws_mix_the_coordinates_of_neighbours_only(clusters):
    drawn = fitted("local", clusters, NONE).sample(400, gen())
    group = (drawn / 10).floor()
    assert (group == group[:, :1]).all()
    assert set(group[:, 0].int().tolist()) == {0, 1, 2, 3}
    for column, original in zip(drawn.T, clusters.z.T, strict=True):
        assert set(column.tolist()) <= set(original.tolist())
    assert (rows_of(drawn, clusters.z) == -1).float().mean() > 0.9  # new as a whole


def test_marginal_draws_mix_all_groups(clusters):
    """The negative control of the one above."""
    group = (fitted("kde-marginal", clusters, NONE).sample(400, gen()) / 10).floor()
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


def test_a_lonely_anchor_has_no_neighbours():
    """Beyond twice the usual distance lie other basins: mixing them gives networks at chance."""
    z = torch.cat([torch.rand(9, 6, generator=gen(4)), torch.full((1, 6), 50.0)])
    drawn = fitted("local", anchors(z), NONE).sample(400, gen())
    far = (drawn > 25).sum(1)
    assert set(far.tolist()) == {0, 6}
    assert (rows_of(drawn[far == 6], z) == 9).all()
    near = nearest(z, 3, reach=2.0)
    assert near[9].tolist() == [9, 9, 9]
    assert not (near[:9] == 9).any()
    assert len(set(nearest(z, 3)[9].tolist())) == 3  # without a reach it has some


# The best 30 %


@pytest.mark.parametrize("name", ["kde30", "kde30-marginal", "local30"])
def test_thirty_draws_from_the_best_thirty_percent_only(zoo, name):
    def used(method):
        drawn = fitted(method, zoo, NONE).sample(500, gen())
        return {(drawn[:, :1] == zoo.z[:, 0]).int().argmax(1)[row].item() for row in range(500)}

    assert used(name) == set(range(28, 40))  # of 40, the last are the best
    assert used(name.replace("30", "")) == set(range(40))


def test_neighbours_of_the_best_are_sought_among_the_best(clusters):
    drawn = fitted("local30", clusters, SamplerOptions(bandwidth=0.0, neighbours=3)).sample(50, gen())
    assert (drawn > 20).all()  # the last four of twelve: three of group 3 and one of group 2


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (2, 1), (10, 3), (11, 3), (20, 6)])
def test_the_best_share_is_rounded_and_never_empty(count, kept):
    z = torch.rand(count, 2, generator=gen())
    shuffled = torch.randperm(count, generator=gen())
    best = Anchors(z, shuffled / count, shuffled.float(), -z).best()
    assert len(best) == kept
    assert sorted(best.epoch.tolist()) == list(range(count - kept, count))
    assert torch.equal(best.z, -best.weights)  # rows stay together


# Baselines


def test_uniform_fills_the_cube_and_is_blind_to_the_anchors(zoo):
    drawn = fitted("uniform", zoo, NONE).sample(20_000, gen())
    assert drawn.abs().max() <= 1
    assert drawn.mean(0).abs().max() < 0.02
    assert drawn.std(0) == pytest.approx([3**-0.5] * 5, rel=0.02)
    other = anchors(zoo.z * 9, zoo.weights)
    assert torch.equal(fitted("uniform", other, NONE).sample(20_000, gen()), drawn)


def test_noise_is_a_snapshot_plus_scaled_noise(zoo):
    assert (rows_of(fitted("noise", zoo, NONE).sample(99, gen()), zoo.weights) >= 0).all()
    scale = torch.tensor([0.0, 1.0, 5.0])
    weights = torch.tensor([[-1.0], [1.0]]) * scale  # spread over the zoo: 0, 1 and 5
    drawn = fitted("noise", anchors(torch.zeros(2, 2), weights), SamplerOptions(noise=0.1)).sample(20_000, gen())
    residual = drawn - drawn.sign() * scale
    assert torch.equal(residual[:, 0], torch.zeros(20_000))
    assert residual[:, 1].std().item() == pytest.approx(0.1, rel=0.03)
    assert residual[:, 2].std().item() == pytest.approx(0.5, rel=0.03)


def test_average_is_the_mean_of_a_snapshot_and_its_neighbours_in_weight_space(zoo):
    drawn = fitted("average", zoo, NONE).sample(200, gen())
    order = torch.cdist(zoo.weights, zoo.weights, compute_mode="donot_use_mm_for_euclid_dist").argsort(1)[:, :3]
    means = torch.stack([zoo.weights[near].mean(0) for near in order])
    assert torch.cdist(drawn, means).min(1).values.max() < 1e-3
    latent_order = torch.cdist(zoo.z, zoo.z).argsort(1)[:, :3]
    others = torch.stack([zoo.weights[near].mean(0) for near in latent_order])
    assert torch.cdist(drawn, others).min(1).values.max() > 0.1


def test_the_average_of_all_is_the_mean(zoo):
    drawn = fitted("average", zoo, SamplerOptions(neighbours=40)).sample(3, gen())
    torch.testing.assert_close(drawn, zoo.weights.mean(0).expand(3, 7))


# What is refused


def test_unknown_names_help(zoo):
    with pytest.raises(
        UnknownNameError, match=r"^unknown method 'kde3'; did you mean kde30 or kde or kde30-marginal\?$"
    ):
        fitted("kde3", zoo, NONE)
    with pytest.raises(UnknownNameError, match=rf"^unknown method '%'; did you mean {' or '.join(METHODS)}\?$"):
        fitted("%", zoo, NONE)
    with pytest.raises(UnknownNameError, match=r"^unknown method 3;"):
        fitted(3, zoo, NONE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": -0.1}, r"^bandwidth and noise must be numbers from 0 to a million, got \(-0\.1, 0\.1\)$"),
        ({"bandwidth": float("nan")}, "bandwidth and noise"),
        ({"noise": float("inf")}, "bandwidth and noise"),
        ({"noise": "0.1"}, "bandwidth and noise"),
        ({"noise": True}, "bandwidth and noise"),
        ({"neighbours": 0}, "^neighbours must be an integer of at least 1, got 0$"),
        ({"neighbours": 2.0}, "^neighbours must be an integer of at least 1, got 2.0$"),
        ({"neighbours": None}, "^neighbours must be an integer of at least 1, got None$"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ArgumentError, match=message):
        SamplerOptions(**options)


Z, ROW = torch.zeros(3, 2), torch.zeros(3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            (Z[:0], ROW[:0], ROW[:0], Z[:0]),
            r"^anchors need z \(N, L\) and weights \(N, D\), got \(0, 2\) and \(0, 2\)$",
        ),
        ((ROW, ROW, ROW, Z), r"got \(3,\) and \(3, 2\)$"),
        ((Z, ROW, ROW, ROW), r"got \(3, 2\) and \(3,\)$"),
        ((Z, ROW[:2], ROW, Z), "^anchors need one score, epoch and weight vector for each of the 3 latents$"),
        ((Z, ROW, Z, Z), "each of the 3 latents"),
        ((Z, ROW, ROW, Z[:2]), "each of the 3 latents"),
    ],
)
def test_anchors_that_do_not_belong_together(fields, message):
    with pytest.raises(ArgumentError, match=message):
        Anchors(*fields)


def test_methods_are_documented():
    for name, method in METHODS.items():
        assert method.title
        assert method.share == (0.3 if "30" in name else 1.0)
        assert ("30 %" in method.title) == ("30" in name)
        assert inspect.getdoc(method.sampler)
