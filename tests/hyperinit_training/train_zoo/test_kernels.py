"""Each compiled kernel against PyTorch, on LANES images with values drawn at random."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from hyperinit_training.train_zoo import kernels
from hyperinit_training.train_zoo.kernels import ACTIVATIONS, side_by_side

SIDE = side_by_side(16)  # 10 lanes run the same code, and test_compiled_cnn.py trains with both numbers
LANES = len(SIDE)

CONVS = [(28, 1, 8), (28, 3, 8), (12, 8, 6)]  # rows, channels, outputs of the zoo CNN's 5x5 convolutions
POOLS = [(8, 24), (6, 8)]  # planes, rows


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def to_lanes(images):
    """(LANES, C, H, W) or (LANES, I) to the kernels' flat order, images innermost."""
    return images.movedim(0, -1).contiguous().view(-1).numpy().copy()


def from_lanes(flat, *shape):
    return torch.from_numpy(flat).view(*shape, LANES).movedim(-1, 0)


def zeros(size):
    return np.zeros(size, np.float32)


def close(got, expected, atol=2e-5):
    torch.testing.assert_close(torch.as_tensor(got), expected, rtol=1e-5, atol=atol)


def conv_case(rows, channels, outputs):
    image = randn(LANES, channels, rows, rows).requires_grad_()
    weight = randn(outputs, channels, 5, 5, seed=1).requires_grad_()
    bias = randn(outputs, seed=2).requires_grad_()
    return image, weight, bias, functional.conv2d(image, weight, bias)


def flat(tensor):
    return tensor.detach().reshape(-1).numpy()


@pytest.mark.parametrize(("rows", "channels", "outputs"), CONVS)
def test_conv5_is_a_valid_convolution(rows, channels, outputs):
    image, weight, bias, expected = conv_case(rows, channels, outputs)
    out, side = zeros(expected.numel()), rows - 4
    kernels.conv5(to_lanes(image.detach()), rows, rows, channels, flat(weight), flat(bias), out, outputs, SIDE)
    close(from_lanes(out, outputs, side, side), expected.detach(), atol=1e-4)


def test_conv5_does_not_flip_its_kernel():
    """Negative control: a true convolution, with both axes flipped, is another function."""
    image, weight, bias, _ = conv_case(12, 8, 6)
    flipped = functional.conv2d(image, weight.flip(2, 3), bias).detach()
    out = zeros(flipped.numel())
    kernels.conv5(to_lanes(image.detach()), 12, 12, 8, flat(weight), flat(bias), out, 6, SIDE)
    assert (from_lanes(out, 6, 8, 8) - flipped).abs().mean() > 1


@pytest.mark.parametrize(("rows", "channels", "outputs"), CONVS)
def test_conv5_weight_grad_equals_autograd_and_adds_up(rows, channels, outputs):
    image, weight, bias, out = conv_case(rows, channels, outputs)
    grad = randn(*out.shape, seed=3)
    out.backward(grad)
    padded = to_lanes(functional.pad(grad, (0, 4)))
    grad_weight, grad_bias = np.ones(weight.numel(), np.float32), np.ones(outputs, np.float32)
    arguments = (to_lanes(image.detach()), rows, rows, channels, padded, grad_weight, grad_bias, outputs, SIDE)
    kernels.conv5_weight_grad(*arguments)
    close(grad_weight - 1, weight.grad.view(-1), atol=2e-3)  # sums of up to 9,216 terms
    close(grad_bias - 1, bias.grad, atol=2e-3)


def test_conv5_input_grad_equals_autograd():
    """Only the second convolution needs it."""
    image, weight, _, out = conv_case(12, 8, 6)
    grad = randn(*out.shape, seed=3)
    out.backward(grad)
    found = np.full(image.numel(), 7, np.float32)
    kernels.conv5_input_grad(to_lanes(functional.pad(grad, (4, 4))), 12, 12, 8, flat(weight), found, 6, SIDE)
    close(from_lanes(found, 8, 12, 12), image.grad, atol=1e-4)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("planes", "rows"), POOLS)
def test_pool_and_unpool_equal_pytorch_also_where_pixels_tie(planes, rows, ties):
    image = randn(LANES, planes, rows, rows)
    image = image.sign() if ties else image
    image.requires_grad_()
    expected = functional.max_pool2d(image, 2)
    grad = randn(*expected.shape, seed=1)
    expected.backward(grad)
    out, winner = zeros(expected.numel()), zeros(expected.numel())
    kernels.pool(to_lanes(image.detach()), planes, rows, rows, out, winner, SIDE)
    close(from_lanes(out, planes, rows // 2, rows // 2), expected.detach(), atol=0)
    back = np.full(image.numel(), 7, np.float32)
    kernels.unpool(to_lanes(grad), winner, planes, rows, rows, back, rows * LANES, 0, SIDE)
    close(from_lanes(back, planes, rows, rows), image.grad, atol=0)


def test_unpool_leaves_the_padding_as_it_is():
    grad, winner, out = np.ones(96 * LANES, np.float32), zeros(96 * LANES), zeros(6 * 8 * 16 * LANES)
    kernels.unpool(grad, winner, 6, 8, 8, out, 16 * LANES, 4 * LANES, SIDE)
    rows = out.reshape(6, 8, 16, LANES)
    assert not rows[:, :, :4].any()
    assert not rows[:, :, 12:].any()
    assert rows.sum() == 96 * LANES


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_slopes_equal_autograd(name):
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, 50.0, -50.0])]).requires_grad_()
    function = {"gelu": functional.gelu}.get(name) or getattr(torch, name)
    expected = function(x)
    expected.sum().backward()
    values, slope = x.detach().numpy().copy(), zeros(x.numel())
    kernels.activate(values, slope, ACTIVATIONS[name])
    close(values, expected.detach(), atol=1e-6)
    close(slope, x.grad, atol=2e-6)


def test_tanh_is_exact_up_to_4e_7():
    x = torch.linspace(-12, 12, 100_001)
    values, slope = x.numpy().copy(), zeros(x.numel())
    kernels.activate(values, slope, ACTIVATIONS["tanh"])
    assert np.abs(values - np.tanh(x.double().numpy())).max() < 4e-7
    assert np.abs(values).max() <= 1


@pytest.mark.parametrize(("inputs", "outputs", "width"), [(36, 20, 1), (20, 10, 1), (24, 4, 9)])
def test_linear_and_its_gradients_equal_autograd(inputs, outputs, width):
    """The middle convolution is a dense layer on nine columns an image."""
    x = randn(LANES, inputs, width).requires_grad_()
    weight, bias = randn(outputs, inputs, seed=1).requires_grad_(), randn(outputs, seed=2).requires_grad_()
    expected = weight @ x + bias[:, None]
    grad = randn(*expected.shape, seed=3)
    expected.backward(grad)
    images, columns = to_lanes(x.detach()), width * LANES
    out = zeros(outputs * columns)
    kernels.linear(images, flat(weight), flat(bias), out, columns)
    close(from_lanes(out, outputs, width), expected.detach())
    sums, grad_inputs = (np.ones(weight.numel(), np.float32), np.ones(outputs, np.float32)), zeros(images.size)
    kernels.linear_grad(images, flat(weight), to_lanes(grad), *sums, grad_inputs, columns)
    close(sums[0] - 1, weight.grad.view(-1), atol=2e-4)
    close(sums[1] - 1, bias.grad, atol=2e-4)
    close(from_lanes(grad_inputs, inputs, width), x.grad)


def test_patches2_equals_unfold_and_its_gradient_is_the_adjoint():
    image = randn(LANES, 6, 4, 4)
    columns, back = zeros(24 * 9 * LANES), zeros(image.numel())
    kernels.patches2(to_lanes(image), 6, 4, columns, SIDE)
    close(from_lanes(columns, 24, 9), functional.unfold(image, 2), atol=0)
    grad = randn(LANES, 24, 9, seed=1)
    kernels.patches2_grad(to_lanes(grad), 6, 4, back, SIDE)
    close(from_lanes(back, 6, 4, 4), functional.fold(grad, (4, 4), 2))


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_drop_zeroes_its_share_and_keeps_the_mean(share):
    count = 200_000
    values, slope = np.ones(count, np.float32), np.full(count, 2, np.float32)
    kernels.drop(values, slope, share, np.uint32(7), 0)
    spread = (share * (1 - share) / count) ** 0.5
    assert abs((values == 0).mean() - share) < 4 * spread
    assert values.max() == pytest.approx(1 / (1 - share))
    np.testing.assert_array_equal(slope, 2 * values)
    lagged = np.corrcoef(values[:-16], values[16:])[0, 1]  # neighbours of one image
    assert abs(lagged) < 4 / count**0.5
    moved, other = np.ones(99, np.float32), np.ones(100, np.float32)
    kernels.drop(moved, moved.copy(), share, np.uint32(7), 1)
    np.testing.assert_array_equal(moved, values[1:100])
    kernels.drop(other, other.copy(), share, np.uint32(8), 0)
    assert (other != values[:100]).any()


def test_mixed_is_a_bijection_on_what_dropout_counts():
    assert len({int(kernels.mixed(np.uint32(number))) for number in range(20_000)}) == 20_000
