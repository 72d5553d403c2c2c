"""Losses of the weight autoencoder."""

import math

import pytest
import torch
from layered_zoo import layered_zoo
from seeds import gen
from torch import nn
from torch.nn import functional

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.train_autoencoder.losses import ProjectionHead, ReconstructionLoss, combined, nt_xent
from hyperinit_training.zoo.statistics import layer_std


@pytest.fixture(scope="module")
def layout():
    return Layout.of(cnn())


@pytest.fixture(scope="module")
def zoo(layout):
    return layered_zoo(layout)


def naive_nt_xent(first, second, temperature):
    """Two loops over the rows, as the formula is written."""
    views, count = torch.cat([first, second]), len(first)
    total = 0.0
    for i in range(2 * count):
        terms = {
            k: math.exp(functional.cosine_similarity(views[i], views[k], dim=0).item() / temperature)
            for k in range(2 * count)
            if k != i
        }
        total -= math.log(terms[(i + count) % (2 * count)] / sum(terms.values()))
    return total / (2 * count)


def test_normalised_loss_equals_a_loop_over_layers(zoo, layout):
    """Equation 2 as the authors compute it: squared errors over std, layer by layer, over batch times D."""
    output = zoo + 0.1 * torch.randn(zoo.shape, generator=gen(1))
    total = 0.0
    for where in layout.layer_slices.values():
        unit = zoo[:, where].std()
        total += ((output[:, where] / unit - zoo[:, where] / unit) ** 2).sum().item()
    loss = ReconstructionLoss(layer_std(zoo, layout))(output, zoo)
    assert loss.item() == pytest.approx(total / zoo.numel(), rel=1e-5)


def test_normalised_loss_does_not_depend_on_a_layers_units(zoo, layout):
    output = zoo + 0.1 * torch.randn(zoo.shape, generator=gen(1))
    factor = torch.ones(layout.size)
    factor[layout.layer_slices["3"]] = 50.0
    losses = [
        [ReconstructionLoss(layer_std(w, layout) if lwln else None)(o, w).item() for lwln in (True, False)]
        for w, o in [(zoo, output), (zoo * factor, output * factor)]
    ]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[1][1] > 100 * losses[0][1], "the plain error does depend on them"


def test_without_std_the_loss_is_the_mean_squared_error(zoo):
    output = zoo.roll(1, 0)
    assert ReconstructionLoss(None)(output, zoo) == functional.mse_loss(output, zoo)


def test_layer_mean_gives_every_layer_the_same_weight(zoo, layout):
    output = zoo + torch.randn(zoo.shape, generator=gen(1))
    parts = [functional.mse_loss(output[:, w], zoo[:, w]).item() for w in layout.layer_slices.values()]
    loss = ReconstructionLoss(None, layout, reduction="layer_mean")(output, zoo)
    assert loss.item() == pytest.approx(sum(parts) / 5, rel=1e-5)
    assert abs(loss.item() - functional.mse_loss(output, zoo).item()) > 1e-3


def test_std_is_a_buffer():
    loss = ReconstructionLoss(torch.ones(3))
    assert list(loss.state_dict()) == ["std"]
    assert loss.double().std.dtype == torch.float64
    assert not list(loss.parameters())


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrast_equals_two_loops(temperature):
    first, second = torch.randn(2, 6, 5, generator=gen(), dtype=torch.float64).float()
    second = second + first
    found = nt_xent(first, second, temperature).item()
    assert found == pytest.approx(naive_nt_xent(first.double(), second.double(), temperature), rel=1e-6)


def test_contrast_is_small_for_equal_views_and_large_for_unrelated_ones():
    first = torch.randn(32, 50, generator=gen())
    stranger = torch.randn(32, 50, generator=gen(1))
    assert nt_xent(first, 3 * first) < 0.2 < math.log(63) < nt_xent(first, stranger)
    assert nt_xent(first, first.roll(1, 0)) > 5


def test_contrast_ignores_length_and_the_order_of_the_views():
    first, second = torch.randn(2, 8, 5, generator=gen())
    expected = nt_xent(first, second)
    torch.testing.assert_close(nt_xent(second, 7 * first), expected)


def test_contrast_pulls_partners_together():
    first, second = torch.randn(2, 8, 5, generator=gen())
    first.requires_grad_()
    nt_xent(first, second).backward()
    closer = nt_xent(first.detach() - 0.01 * first.grad, second)
    assert first.grad.isfinite().all()
    assert closer < nt_xent(first, second)


def test_contrast_keeps_float32_under_autocast():
    first, second = torch.randn(2, 8, 5, generator=gen())
    with torch.autocast("cpu", torch.bfloat16):
        found = nt_xent(first, second)
    assert torch.equal(found, nt_xent(first, second))


def test_contrast_needs_no_product_of_all_pairs(monkeypatch):
    """A (2B, 2B, P) tensor of the paper's batch would take 200 MB; the largest here is (2B, 2B)."""
    with torch.profiler.profile(profile_memory=True) as profile:
        nt_xent(torch.randn(500, 50, generator=gen()), torch.randn(500, 50, generator=gen(1)))
    assert max(event.cpu_memory_usage for event in profile.events()) <= 8 * 1000 * 1000 * 2


def test_projection_head_has_the_published_size_and_starting_values():
    head = ProjectionHead(700, generator=gen())
    assert sum(p.numel() for p in head.parameters()) == 784_950
    assert sum(p.numel() for p in ProjectionHead(1000).parameters()) == 904_950
    linears = [m for m in head.layers if isinstance(m, nn.Linear)]
    assert all((m.bias == 0.01).all() for m in linears)
    for linear in linears:
        assert linear.weight.std().item() == pytest.approx((2 / linear.in_features) ** 0.5, rel=0.03)
    assert [type(m).__name__ for m in head.layers] == ["Linear", "BatchNorm1d", "ReLU"] * 4 + ["Linear", "BatchNorm1d"]


def test_projection_is_normalised_over_the_batch():
    projected = ProjectionHead(12, generator=gen())(torch.randn(64, 12, generator=gen()))
    assert projected.shape == (64, 50)
    torch.testing.assert_close(projected.mean(0), torch.zeros(50), rtol=0, atol=1e-5)


def test_the_generator_decides_the_head_and_the_global_one_is_unchanged():
    state = torch.get_rng_state()
    first, again, other = (ProjectionHead(12, generator=gen(seed)).state_dict() for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])
    assert torch.equal(torch.get_rng_state(), state)


def test_combined_weighs_the_two_losses():
    two, six = torch.tensor(2.0), torch.tensor(6.0)
    assert [combined(two, six, beta).item() for beta in (0, 0.25, 1)] == [6, 5, 2]
    for beta in (-0.1, 1.1):
        with pytest.raises(ArgumentError, match=rf"beta must be in \[0, 1\], got {beta}"):
            combined(two, six, beta)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ReconstructionLoss(torch.zeros(2)), r"std must have shape \(D,\) and be > 0, got \(2,\), minimum 0"),
        (lambda: ReconstructionLoss(None, None, "sum"), "reduction must be mean or layer_mean, got 'sum'"),
        (lambda: ReconstructionLoss(None, None, "layer_mean"), "reduction layer_mean needs a layout, got None"),
        (lambda: ReconstructionLoss(None)(torch.zeros(2, 3), torch.zeros(1, 3)), r"got \(2, 3\) and \(1, 3\)"),
        (lambda: nt_xent(torch.zeros(1, 3), torch.zeros(1, 3)), "at least 2 networks in a batch, got 1"),
        (lambda: nt_xent(torch.zeros(2, 3), torch.zeros(2, 4)), r"got \(2, 3\) and \(2, 4\)"),
        (lambda: nt_xent(torch.zeros(2, 3), torch.zeros(2, 3), 0), "temperature must be > 0, got 0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
