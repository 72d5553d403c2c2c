"""Compiled kernels of the zoo CNN (paper, Table 6): convolutions, pooling, activations, dropout and dense layers.

Memory. Several images lie side by side in the innermost dimension, one per lane. A flat array stands for (planes, rows,
columns, lanes): pixel (y, x) of plane c of image b has the index ((c * rows + y) * columns + x) * lanes + b. `stride`
is the length of one row in memory, columns * lanes, with its padding columns if it has any.

Speed. A row is one contiguous vector of columns * lanes numbers. A 5x5 convolution sweeps over whole rows, with five
taps and two planes at a time, so that each inner loop is a series of multiply-adds on memory in the cache. Rows are cut
out as views, because an index that the compiler cannot prove to be positive would prevent vectorisation. No kernel
allocates memory.

Lanes. A batch that is no multiple of the lanes is padded with images of weight zero. There are two numbers of lanes: 16
fill a vector register, and 10 waste nothing of the paper's batch. `side` is a tuple with one entry per lane. Its length
is part of its type, so each number of lanes is compiled separately, with constant strides.

Letters: C input channels (1 or 3), I inputs and O outputs of a dense layer.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

LANES = {16: 1.0, 10: 1.15}  # lanes, and the measured cost of one image relative to 16 lanes
ACTIVATIONS = {"tanh": 0, "relu": 1, "sigmoid": 2, "gelu": 3}
Side = tuple[int, ...]


def side_by_side(batch: int) -> Side:
    """Return the number of lanes with the least cost for a batch, padding included, as a tuple of that length.

    >>> [len(side_by_side(batch)) for batch in (8, 10, 16, 20, 30, 64)]
    [10, 10, 16, 10, 16, 16]
    """
    return (0,) * min(LANES, key=lambda lanes: math.ceil(batch / lanes) * lanes * LANES[lanes])


jit: Any = numba.njit(fastmath=True, nogil=True, error_model="numpy")


@jit
def conv5(image, in_rows, in_cols, channels, weights, bias, out, outputs, side):  # type: ignore[no-untyped-def]
    """Convolve `channels` planes with 5x5 weights, without padding, into an even number of `outputs` planes.

    Shapes: `image` (channels, in_rows, in_cols, lanes), `weights` (outputs, channels, 5, 5), `out` (outputs,
    in_rows - 4, in_cols - 4, lanes).
    """
    lanes = len(side)
    rows, width, stride = in_rows - 4, (in_cols - 4) * lanes, in_cols * lanes  # width and stride: rows of out and image
    for o in range(0, outputs, 2):  # two planes at a time use each loaded row twice
        for y in range(rows):
            first = out[(o * rows + y) * width :][:width]
            second = out[((o + 1) * rows + y) * width :][:width]
            first[:] = bias[o]
            second[:] = bias[o + 1]
            for c in range(channels):
                for ky in range(5):
                    k = ((o * channels + c) * 5 + ky) * 5  # weights[o, c, ky, 0]
                    n = k + channels * 25  # weights[o + 1, c, ky, 0]
                    a0, a1, a2, a3, a4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3], weights[k + 4]
                    b0, b1, b2, b3, b4 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3], weights[n + 4]
                    row = image[(c * in_rows + y + ky) * stride :][:stride]
                    for j in range(width):  # column and lane in one index: the next column is `lanes` further
                        x0, x1, x2 = row[j], row[j + lanes], row[j + 2 * lanes]
                        x3, x4 = row[j + 3 * lanes], row[j + 4 * lanes]
                        first[j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4
                        second[j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4


@jit
def conv5_weight_grad(image, in_rows, in_cols, channels, grad, grad_weights, grad_bias, outputs, side):  # type: ignore[no-untyped-def]
    """Add the gradients of the weights and biases of `conv5` to `grad_weights` and `grad_bias`.

    Shapes: `image` as in `conv5`, `grad` (outputs, in_rows - 4, in_cols, lanes) with four zero columns at the end of
    each row. With them the rows of `grad` and `image` have equal strides, so a weight needs one sum over the whole
    plane and not one per row. Where a tap reads beyond its row, it reads the next one, and the zeros cancel it.
    """
    lanes = len(side)
    stride = in_cols * lanes
    length = (in_rows - 4) * stride - 4 * lanes  # without the zeros of the last row, whose taps would leave the image
    plane = (in_rows - 4) * stride
    for o in range(0, outputs, 2):
        first, second = grad[o * plane :][:length], grad[(o + 1) * plane :][:length]
        s = t = np.float32(0)
        for j in range(length):
            s += first[j]
            t += second[j]
        grad_bias[o] += s
        grad_bias[o + 1] += t
        for c in range(channels):
            for ky in range(5):
                rows = image[(c * in_rows + ky) * stride :][: length + 4 * lanes]
                a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = b3 = b4 = np.float32(0)
                for j in range(length):
                    x0, x1, x2 = rows[j], rows[j + lanes], rows[j + 2 * lanes]
                    x3, x4 = rows[j + 3 * lanes], rows[j + 4 * lanes]
                    g, h = first[j], second[j]
                    a0 += g * x0
                    a1 += g * x1
                    a2 += g * x2
                    a3 += g * x3
                    a4 += g * x4
                    b0 += h * x0
                    b1 += h * x1
                    b2 += h * x2
                    b3 += h * x3
                    b4 += h * x4
                k = ((o * channels + c) * 5 + ky) * 5  # weights[o, c, ky, 0]
                for at, (p, q) in enumerate(((a0, b0), (a1, b1), (a2, b2), (a3, b3), (a4, b4))):
                    grad_weights[k + at] += p
                    grad_weights[k + channels * 25 + at] += q


@jit
def conv5_input_grad(grad, in_rows, in_cols, channels, weights, out, outputs, side):  # type: ignore[no-untyped-def]
    """Write the gradient of the input of `conv5`, (channels, in_rows, in_cols, lanes), for an even number of channels.

    `grad` (outputs, in_rows - 4, in_cols + 4, lanes) has four zero columns on both sides of each row. Pixel x collects
    weight kx times the gradient of output column x - kx, and the zeros stand for the columns -4 to -1 and beyond the
    last, so the inner loop needs no case for the borders.
    """
    lanes = len(side)
    rows, width = in_rows - 4, in_cols * lanes
    stride = (in_cols + 4) * lanes  # in_cols - 4 outputs and 8 zero columns
    for c in range(0, channels, 2):
        for y in range(in_rows):
            first = out[(c * in_rows + y) * width :][:width]
            second = out[((c + 1) * in_rows + y) * width :][:width]
            first[:] = 0
            second[:] = 0
            for o in range(outputs):
                for ky in range(max(0, y - rows + 1), min(5, y + 1)):  # those with an output row y - ky
                    k = ((o * channels + c) * 5 + ky) * 5  # weights[o, c, ky, 0]
                    n = k + 25  # weights[o, c + 1, ky, 0]
                    a0, a1, a2, a3, a4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3], weights[k + 4]
                    b0, b1, b2, b3, b4 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3], weights[n + 4]
                    row = grad[(o * rows + y - ky) * stride :][:stride]
                    for j in range(width):  # row[j] is output column x - 4, because of the four zeros on the left
                        x4, x3, x2 = row[j], row[j + lanes], row[j + 2 * lanes]
                        x1, x0 = row[j + 3 * lanes], row[j + 4 * lanes]
                        first[j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4
                        second[j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4


@jit
def pool(image, planes, rows, cols, out, winner, side):  # type: ignore[no-untyped-def]
    """Take the maximum of 2x2 pixels.

    Shapes: `image` (planes, rows, cols, lanes), `out` and `winner` (planes, rows / 2, cols / 2, lanes). `winner` is the
    number of the largest pixel, 0 to 3, and the first among equals, as in PyTorch.
    """
    lanes = len(side)
    width = cols * lanes
    for r in range(planes * rows // 2):  # pairs of rows of all planes
        top, below, to = 2 * r * width, (2 * r + 1) * width, r * width // 2
        for x in range(cols // 2):
            for b in range(lanes):
                left, right = 2 * x * lanes + b, (2 * x + 1) * lanes + b
                best, which = image[top + left], np.float32(0)
                if image[top + right] > best:
                    best, which = image[top + right], np.float32(1)
                if image[below + left] > best:
                    best, which = image[below + left], np.float32(2)
                if image[below + right] > best:
                    best, which = image[below + right], np.float32(3)
                out[to + x * lanes + b] = best
                winner[to + x * lanes + b] = which


@jit
def unpool(grad, winner, planes, rows, cols, out, stride, offset, side):  # type: ignore[no-untyped-def]
    """Write the gradient of `pool`: each goes to its largest pixel, and the other three get zero.

    Rows of `out` are `stride` long and their first column is at `offset`. The padding outside of it is not written, so
    it must be zero already.
    """
    lanes = len(side)
    for r in range(planes * rows // 2):
        top, below, source = 2 * r * stride + offset, (2 * r + 1) * stride + offset, r * cols * lanes // 2
        for x in range(cols // 2):
            for b in range(lanes):
                g, which = grad[source + x * lanes + b], winner[source + x * lanes + b]
                left, right = 2 * x * lanes + b, (2 * x + 1) * lanes + b
                out[top + left] = g if which == 0 else np.float32(0)
                out[top + right] = g if which == 1 else np.float32(0)
                out[below + left] = g if which == 2 else np.float32(0)
                out[below + right] = g if which == 3 else np.float32(0)


@jit
def activate(values, slope, kind):  # type: ignore[no-untyped-def]
    """Apply the activation in place, and write its derivative to `slope`."""
    if kind == 0:
        _tanh(values)
        for i in range(values.size):
            slope[i] = 1 - values[i] * values[i]
    elif kind == 1:
        for i in range(values.size):
            slope[i] = np.float32(1) if values[i] > 0 else np.float32(0)
            values[i] *= slope[i]
    elif kind == 2:  # sigmoid(x) = 1/2 + tanh(x/2) / 2, which vectorises
        for i in range(values.size):
            values[i] *= np.float32(0.5)
        _tanh(values)
        for i in range(values.size):
            values[i] = np.float32(0.5) + np.float32(0.5) * values[i]
            slope[i] = values[i] * (1 - values[i])
    else:
        for i in range(values.size):
            x = values[i]
            # gelu(x) = x * cdf(x) with the normal distribution, and its slope is cdf(x) + x * pdf(x).
            cdf = np.float32(0.5) * (1 + np.float32(math.erf(x * np.float32(0.7071067811865476))))
            slope[i] = cdf + x * np.float32(0.3989422804014327) * np.exp(np.float32(-0.5) * x * x)
            values[i] = x * cdf


@jit
def _tanh(values):  # type: ignore[no-untyped-def]
    """Replace values by their tanh, up to 4e-7: a rational function of degrees 13 and 6, which vectorises."""
    for i in range(values.size):
        x = min(max(values[i], np.float32(-7.9)), np.float32(7.9))
        s = x * x
        p = np.float32(-2.76076847742355e-16)
        p = p * s + np.float32(2.00018790482477e-13)
        p = p * s + np.float32(-8.60467152213735e-11)
        p = p * s + np.float32(5.12229709037114e-08)
        p = p * s + np.float32(1.48572235717979e-05)
        p = p * s + np.float32(6.37261928875436e-04)
        p = p * s + np.float32(4.89352455891786e-03)
        q = np.float32(1.19825839466702e-06)
        q = q * s + np.float32(1.18534705686654e-04)
        q = q * s + np.float32(2.26843463243900e-03)
        q = q * s + np.float32(4.89352518554385e-03)
        values[i] = x * p / q


@numba.njit(nogil=True, error_model="numpy")
def mixed(number):  # type: ignore[no-untyped-def]
    """Hash a 32-bit number to another by a bijection (Wellons 2018, "lowbias32")."""
    number = np.uint32(number)
    number = np.uint32((number ^ (number >> np.uint32(16))) * np.uint32(0x7FEB352D))
    number = np.uint32((number ^ (number >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(number ^ (number >> np.uint32(16)))


@jit
def drop(values, slope, share, key, first):  # type: ignore[no-untyped-def]
    """Apply dropout in place: a value is zero with probability `share`, or else divided by 1 - `share`.

    Value i is kept if the hash of `first + i` and `key` reaches a threshold, so the mask does not depend on the order
    of evaluation. The slope gets the same factor, so the backward pass needs no mask.
    """
    threshold, scale = np.uint32(share * np.float64(4294967295)), np.float32(1 / (1 - share))
    for i in range(values.size):
        factor = scale if mixed(np.uint32(first + i) ^ key) >= threshold else np.float32(0)
        values[i] *= factor
        slope[i] *= factor


@jit
def linear(inputs, weights, bias, out, width):  # type: ignore[no-untyped-def]
    """Apply a dense layer with `weights` (O, I) to each column of `inputs` (I, width), into `out` (O, width)."""
    size = inputs.size // width  # I
    for o in range(out.size // width):
        for j in range(width):
            out[o * width + j] = bias[o]
        for i in range(size):
            w = weights[o * size + i]
            for j in range(width):
                out[o * width + j] += w * inputs[i * width + j]


@jit
def linear_grad(inputs, weights, grad, grad_weights, grad_bias, grad_inputs, width):  # type: ignore[no-untyped-def]
    """Add the gradients of the weights and bias of `linear` to theirs, and write that of the inputs, (I, width)."""
    size = inputs.size // width  # I
    grad_inputs[:] = 0
    for o in range(grad.size // width):
        for j in range(width):
            grad_bias[o] += grad[o * width + j]
        for i in range(size):
            total, w = np.float32(0), weights[o * size + i]
            for j in range(width):
                total += grad[o * width + j] * inputs[i * width + j]
                grad_inputs[i * width + j] += w * grad[o * width + j]
            grad_weights[o * size + i] += total


@jit
def patches2(image, planes, rows, out, side):  # type: ignore[no-untyped-def]
    """Write the 2x2 patches of square planes as columns, so that a 2x2 convolution is a dense layer.

    Shapes: `image` (planes, rows, rows, lanes), `out` (planes * 4, (rows - 1)^2, lanes).
    """
    lanes = len(side)
    edge = rows - 1  # positions of a patch along each axis
    for i in range(planes * 4):
        c, ky, kx = i // 4, i // 2 % 2, i % 2
        for y in range(edge):
            source, to = ((c * rows + y + ky) * rows + kx) * lanes, (i * edge + y) * edge * lanes
            for j in range(edge * lanes):
                out[to + j] = image[source + j]


@jit
def patches2_grad(grad, planes, rows, out, side):  # type: ignore[no-untyped-def]
    """Write the gradient of the image of `patches2`: each pixel sums the gradients of the patches that contain it."""
    lanes = len(side)
    edge = rows - 1
    out[:] = 0
    for i in range(planes * 4):
        c, ky, kx = i // 4, i // 2 % 2, i % 2
        for y in range(edge):
            to, source = ((c * rows + y + ky) * rows + kx) * lanes, (i * edge + y) * edge * lanes
            for j in range(edge * lanes):
                out[to + j] += grad[source + j]
