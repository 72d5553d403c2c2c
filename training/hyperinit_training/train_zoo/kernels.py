"""The zoo CNN (paper, Table 6) as one compiled training loop: no Python between steps, one model per thread.

How it is laid out, and why it is fast on a CPU. Some images lie side by side in the innermost dimension, so a
row of a feature map is one long vector: pixel x of image b stands at `x * lanes + b`. A 5x5 convolution then is a
sweep over whole rows, five taps at a time and two channels at once: every inner loop is a run of multiply-adds
on contiguous memory that stays in the cache. (Rows are cut out as views: an index that the compiler cannot prove
to be positive would keep it from vectorising.) Pooling is the maximum of four strided elements. Nothing is
allocated between steps. A batch that is no multiple of the lanes is padded with images of weight zero, hence there
are two numbers of them: 16 fill a vector register, 10 waste nothing of the paper's batch.

`side` is a tuple with one entry for each lane. Its length is part of its type, so that each number of lanes is
compiled on its own, with constant strides.

Letters: C input channels (1 or 3), D = 2264 + 200 C weights, in the order of `Layout.of(cnn(C))`.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LANES = {16: 1.0, 10: 1.15}  # how many images lie side by side, and what one costs beside the others, measured
ACTIVATIONS = {"tanh": 0, "relu": 1, "sigmoid": 2, "gelu": 3}
Floats = NDArray[np.float32]

Side = tuple[int, ...]


def side_by_side(batch: int) -> Side:
    """Lanes for steps of `batch` images: the number that costs least, padding included, as a tuple of that length.

    >>> [len(side_by_side(batch)) for batch in (8, 10, 16, 20, 30, 64)]
    [10, 10, 16, 10, 16, 16]
    """
    return (0,) * min(LANES, key=lambda lanes: math.ceil(batch / lanes) * lanes * LANES[lanes])


jit: Any = numba.njit(fastmath=True, nogil=True, error_model="numpy")


@jit
def conv5(image, in_rows, in_cols, channels, weights, bias, out, outputs, side):  # type: ignore[no-untyped-def]
    """Valid 5x5 convolution of `channels` planes into an even number of `outputs` planes."""
    lanes = len(side)
    rows, width, stride = in_rows - 4, (in_cols - 4) * lanes, in_cols * lanes
    for o in range(0, outputs, 2):
        for y in range(rows):
            first = out[(o * rows + y) * width :][:width]
            second = out[((o + 1) * rows + y) * width :][:width]
            first[:] = bias[o]
            second[:] = bias[o + 1]
            for c in range(channels):
                for ky in range(5):
                    k = ((o * channels + c) * 5 + ky) * 5
                    n = k + channels * 25
                    a0, a1, a2, a3, a4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3], weights[k + 4]
                    b0, b1, b2, b3, b4 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3], weights[n + 4]
                    row = image[(c * in_rows + y + ky) * stride :][:stride]
                    for j in range(width):
                        x0, x1, x2 = row[j], row[j + lanes], row[j + 2 * lanes]
                        x3, x4 = row[j + 3 * lanes], row[j + 4 * lanes]
                        first[j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4
                        second[j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4


@jit
def conv5_weight_grad(image, in_rows, in_cols, channels, grad, grad_weights, grad_bias, outputs, side):  # type: ignore[no-untyped-def]
    """Gradient of the weights; `grad` has rows as long as the input's, its last four columns zero.

    Equal strides make all rows one loop, so that there is one horizontal sum per weight and not one per row.
    """
    lanes = len(side)
    stride = in_cols * lanes
    length = (in_rows - 4) * stride - 4 * lanes
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
                k = ((o * channels + c) * 5 + ky) * 5
                for at, (p, q) in enumerate(((a0, b0), (a1, b1), (a2, b2), (a3, b3), (a4, b4))):
                    grad_weights[k + at] += p
                    grad_weights[k + channels * 25 + at] += q


@jit
def conv5_input_grad(grad, in_rows, in_cols, channels, weights, out, outputs, side):  # type: ignore[no-untyped-def]
    """Gradient of the input of `conv5`; the rows of `grad` have four zero columns on both sides."""
    lanes = len(side)
    rows, width = in_rows - 4, in_cols * lanes
    stride = (in_cols + 4) * lanes
    for c in range(0, channels, 2):
        for y in range(in_rows):
            first = out[(c * in_rows + y) * width :][:width]
            second = out[((c + 1) * in_rows + y) * width :][:width]
            first[:] = 0
            second[:] = 0
            for o in range(outputs):
                for ky in range(max(0, y - rows + 1), min(5, y + 1)):
                    k = ((o * channels + c) * 5 + ky) * 5
                    n = k + 25
                    a0, a1, a2, a3, a4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3], weights[k + 4]
                    b0, b1, b2, b3, b4 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3], weights[n + 4]
                    row = grad[(o * rows + y - ky) * stride :][:stride]
                    for j in range(width):
                        x4, x3, x2 = row[j], row[j + lanes], row[j + 2 * lanes]
                        x1, x0 = row[j + 3 * lanes], row[j + 4 * lanes]
                        first[j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4
                        second[j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4


@jit
def pool(image, planes, rows, cols, out, winner, side):  # type: ignore[no-untyped-def]
    """2x2 maximum; `winner` says which of the four it was, the first of equals as in PyTorch."""
    lanes = len(side)
    width = cols * lanes
    for r in range(planes * rows // 2):
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
    """Send each gradient to the pixel that had won; rows of `out` are `stride` long and start at `offset`."""
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
    """Apply the activation in place and keep its derivative."""
    if kind == 0:
        _tanh(values)
        for i in range(values.size):
            slope[i] = 1 - values[i] * values[i]
    elif kind == 1:
        for i in range(values.size):
            slope[i] = np.float32(1) if values[i] > 0 else np.float32(0)
            values[i] *= slope[i]
    elif kind == 2:
        for i in range(values.size):
            values[i] *= np.float32(0.5)
        _tanh(values)
        for i in range(values.size):
            values[i] = np.float32(0.5) + np.float32(0.5) * values[i]
            slope[i] = values[i] * (1 - values[i])
    else:
        for i in range(values.size):
            x = values[i]
            cdf = np.float32(0.5) * (1 + np.float32(math.erf(x * np.float32(0.7071067811865476))))
            slope[i] = cdf + x * np.float32(0.3989422804014327) * np.exp(np.float32(-0.5) * x * x)
            values[i] = x * cdf


@jit
def _tanh(values):  # type: ignore[no-untyped-def]
    """Rational approximation of degree 13 over 6, within 4e-7 of tanh; unlike the exact one it vectorises."""
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
    """Turn a 32-bit number into one that looks random; a bijection (Wellons 2018, "lowbias32")."""
    number = np.uint32(number)
    number = np.uint32((number ^ (number >> np.uint32(16))) * np.uint32(0x7FEB352D))
    number = np.uint32((number ^ (number >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(number ^ (number >> np.uint32(16)))


@jit
def drop(values, slope, share, key, first):  # type: ignore[no-untyped-def]
    """Dropout in place: value i stays, divided by 1 - `share`, if the mix of `key` and `first + i` is large enough.

    The slope is treated alike, so that the gradient needs no mask of its own.
    """
    threshold, scale = np.uint32(share * np.float64(4294967295)), np.float32(1 / (1 - share))
    for i in range(values.size):
        factor = scale if mixed(np.uint32(first + i) ^ key) >= threshold else np.float32(0)
        values[i] *= factor
        slope[i] *= factor


@jit
def linear(inputs, weights, bias, out, width):  # type: ignore[no-untyped-def]
    """Dense layer on `width` columns: `inputs` (I * width), `out` (O * width)."""
    size = inputs.size // width
    for o in range(out.size // width):
        for j in range(width):
            out[o * width + j] = bias[o]
        for i in range(size):
            w = weights[o * size + i]
            for j in range(width):
                out[o * width + j] += w * inputs[i * width + j]


@jit
def linear_grad(inputs, weights, grad, grad_weights, grad_bias, grad_inputs, width):  # type: ignore[no-untyped-def]
    """Gradients of `linear`: those of weights and bias are added up, the inputs' is written."""
    size = inputs.size // width
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
    """The 2x2 patches of square planes as columns, so that a small convolution is a dense layer."""
    lanes = len(side)
    side = rows - 1
    for i in range(planes * 4):
        c, ky, kx = i // 4, i // 2 % 2, i % 2
        for y in range(side):
            source, to = ((c * rows + y + ky) * rows + kx) * lanes, (i * side + y) * side * lanes
            for j in range(side * lanes):
                out[to + j] = image[source + j]


@jit
def patches2_grad(grad, planes, rows, out, side):  # type: ignore[no-untyped-def]
    """Adjoint of `patches2`: every patch adds its gradient to the pixels it was cut from."""
    lanes = len(side)
    side = rows - 1
    out[:] = 0
    for i in range(planes * 4):
        c, ky, kx = i // 4, i // 2 % 2, i % 2
        for y in range(side):
            to, source = ((c * rows + y + ky) * rows + kx) * lanes, (i * side + y) * side * lanes
            for j in range(side * lanes):
                out[to + j] += grad[source + j]
