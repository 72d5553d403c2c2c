"""Trains and evaluates the zoo CNN (paper, Table 6) with the compiled kernels, all steps in one call.

The result equals that of a plain PyTorch loop with Adam and cross entropy up to rounding. The tests compare weights
after 100 steps. A call shares no array with others and releases the interpreter lock, so threads train in parallel.

Letters: C input channels (1 or 3), D = 2264 + 200 C weights in the order of `Layout.of(cnn(C))`, B images per step, N
networks, S snapshots, n images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyperinit.errors import ArgumentError
from hyperinit_training.train_zoo import kernels as k
from hyperinit_training.train_zoo.kernels import ACTIVATIONS, Side, side_by_side
from hyperinit_training.train_zoo.schedules import Floats, Schedule

DROPPED = 8 * 144 + 6 * 16 + 20  # values per image that pass through dropout: (8, 12, 12), (6, 4, 4) and (20,)
WIDE = side_by_side(16)  # the lanes of predictions
BETA1, BETA2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)  # Adam's defaults in PyTorch


class Work(NamedTuple):
    """Feature maps of the images in all lanes, as flat arrays (planes, rows, columns, lanes).

    `s` are slopes of the activation, `w` winners of a pool, and `d_` gradients. Shapes are given without lanes.
    """

    side: Side
    x: Floats  # (C, 28, 28)
    a1: Floats  # (8, 24, 24), first convolution
    p1: Floats  # (8, 12, 12), pooled and then activated, as are s1 and w1
    s1: Floats
    w1: Floats
    a2: Floats  # (6, 8, 8), second convolution
    p2: Floats  # (6, 4, 4), pooled and then activated, as are s2 and w2
    s2: Floats
    w2: Floats
    columns: Floats  # (24, 9), the 2x2 patches of p2
    a3: Floats  # (4, 9), third convolution, which the dense layer reads as (36,)
    s3: Floats
    a4: Floats  # (20,)
    s4: Floats
    logits: Floats  # (10,)
    d_a1: Floats  # (8, 24, 28), four zero columns at the end for the weights' gradient
    d_p1: Floats  # (8, 12, 12)
    d_a2: Floats  # (6, 8, 12), four zero columns at the end for the weights' gradient
    d_a2_wide: Floats  # (6, 8, 16), four zero columns on both sides for the input's gradient
    d_p2: Floats  # (6, 4, 4)
    d_columns: Floats  # (24, 9)
    d_a3: Floats  # (4, 9)
    d_a4: Floats  # (20,)
    d_logits: Floats  # (10,)


def workspace(channels: int, side: Side) -> Work:
    """Allocate the feature maps of one image per lane. No kernel writes the padding columns, so they stay zero."""
    p1, p2 = 8 * 144, 6 * 16
    sizes = (channels * 784, 8 * 576, p1, p1, p1, 6 * 64, p2, p2, p2, 24 * 9, 36, 36, 20, 20, 10)
    grads = (8 * 24 * 28, p1, 6 * 8 * 12, 6 * 8 * 16, p2, 24 * 9, 36, 20, 10)
    return Work(side, *(np.zeros(size * len(side), np.float32) for size in (*sizes, *grads)))


def train(weights: Floats, images: Floats, labels: NDArray[np.int64], schedule: Schedule) -> tuple[Floats, Floats]:
    """Train one network with a new Adam. The arguments are not modified.

    Args:
        weights: starting weights, float32 (D,).
        images: normalised images, float32 (n, C, 28, 28).
        labels: classes 0..9, int64 (n,).
        schedule: batches and learning rates.

    Returns:
        The snapshots (S, D), one for each entry of `schedule.keep`, and the loss of every step (steps,), in nats.

    Raises:
        ArgumentError: if a shape, a type, a label or an index is wrong.
    """
    channels = _check(weights, images)
    if labels.shape != images.shape[:1] or labels.dtype != np.int64:
        raise ArgumentError(f"labels must be int64 ({len(images)},), got {labels.dtype} {labels.shape}")
    if labels.min(initial=0) < 0 or labels.max(initial=0) > 9:
        # Kernels do not check indices: they would write outside of their arrays.
        raise ArgumentError(f"labels must lie in 0 to 9, got {labels.min()} to {labels.max()}")
    order = schedule.order
    if not (order.min() >= 0 and order.max() < len(images)):
        raise ArgumentError(f"order must index {len(images)} images, got {order.min()} to {order.max()}")
    state = np.zeros((4, weights.size), np.float32)  # weights, gradient, first and second moment of Adam
    state[0] = weights
    losses = np.zeros(len(order), np.float32)
    keep = np.array(schedule.keep or (len(order),), np.int64)
    snapshots = np.zeros((len(keep), weights.size), np.float32)
    kind, decay, seed = ACTIVATIONS[schedule.activation], np.float32(schedule.decay), np.uint32(schedule.seed)
    flat = np.ascontiguousarray(images.reshape(len(images), -1))
    order, rates = np.ascontiguousarray(order), schedule.rates.astype(np.float32)
    work, share = workspace(channels, side_by_side(order.shape[1])), float(schedule.dropout)
    _train(state, flat, labels, order, rates, decay, kind, share, seed, channels, work, losses, keep, snapshots)
    return snapshots, losses


def predict(weights: Floats, images: Floats, *, activation: str = "tanh") -> Floats:
    """Return the logits, float32 (N, n, 10), of networks (N, D) on normalised images (n, C, 28, 28).

    Raises:
        ArgumentError: if a shape or a type is wrong, or the activation is unknown.
    """
    if weights.ndim != 2 or not len(weights):
        raise ArgumentError(f"weights must have shape (N, D) with N >= 1, got {weights.shape}")
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    channels = _check(weights[0], images)
    logits = np.empty((len(weights), len(images), 10), np.float32)
    flat = np.ascontiguousarray(images.reshape(len(images), -1))
    for network, out in zip(np.ascontiguousarray(weights, np.float32), logits, strict=True):
        _predict(network, flat, ACTIVATIONS[activation], channels, workspace(channels, WIDE), out)
    return logits


def _check(weights: Floats, images: Floats) -> int:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2:] != (28, 28):
        raise ArgumentError(f"images must have shape (n, 1 or 3, 28, 28), got {images.shape}")
    channels = int(images.shape[1])
    if weights.shape != (2264 + 200 * channels,):
        raise ArgumentError(f"weights must have shape ({2264 + 200 * channels},), got {weights.shape}")
    if images.dtype != np.float32:
        raise ArgumentError(f"images must be float32, got {images.dtype}")
    return channels


@k.jit
def _parts(vector, channels):  # type: ignore[no-untyped-def]
    """Cut a vector (D,) into weights and biases of the five layers, as views."""
    a = 200 * channels  # weights of the first layer, (8, C, 5, 5)
    b = a + 8  # the next ones are (6, 8, 5, 5), (4, 6, 2, 2), (20, 36) and (10, 20)
    return (
        vector[:a], vector[a:b], vector[b : b + 1200], vector[b + 1200 : b + 1206],
        vector[b + 1206 : b + 1302], vector[b + 1302 : b + 1306], vector[b + 1306 : b + 2026],
        vector[b + 2026 : b + 2046], vector[b + 2046 : b + 2246], vector[b + 2246 : b + 2256],
    )  # fmt: skip


@k.jit
def _load(images, indices, out, side):  # type: ignore[no-untyped-def]
    """Copy images (n, C * 784) to `out` (C * 784, lanes). Lanes without an image repeat the first one."""
    lanes = len(side)
    for pixel in range(images.shape[1]):
        for b in range(lanes):
            out[pixel * lanes + b] = images[indices[b if b < indices.size else 0], pixel]


@k.jit
def _forward(parameters, kind, channels, work, share, key, part):  # type: ignore[no-untyped-def]
    """Compute the logits of the images in all lanes.

    `share` and `key` are those of `drop`. `part` is the number of these images within the batch of a step, in units of
    lanes: it numbers the values of dropout, so no two values of a step have the same number.
    """
    lanes = len(work.side)
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = _parts(parameters, channels)
    k.conv5(work.x, 28, 28, channels, w1, b1, work.a1, 8, work.side)
    k.pool(work.a1, 8, 24, 24, work.p1, work.w1, work.side)
    k.activate(work.p1, work.s1, kind)
    if share > 0:
        k.drop(work.p1, work.s1, share, key, part * lanes * DROPPED)
    k.conv5(work.p1, 12, 12, 8, w2, b2, work.a2, 6, work.side)
    k.pool(work.a2, 6, 8, 8, work.p2, work.w2, work.side)
    k.activate(work.p2, work.s2, kind)
    if share > 0:
        k.drop(work.p2, work.s2, share, key, part * lanes * DROPPED + work.p1.size)
    k.patches2(work.p2, 6, 4, work.columns, work.side)
    k.linear(work.columns, w3, b3, work.a3, 9 * lanes)  # the third convolution: nine positions per image
    k.activate(work.a3, work.s3, kind)
    k.linear(work.a3, w4, b4, work.a4, lanes)
    k.activate(work.a4, work.s4, kind)
    if share > 0:
        k.drop(work.a4, work.s4, share, key, part * lanes * DROPPED + work.p1.size + work.p2.size)
    k.linear(work.a4, w5, b5, work.logits, lanes)


@k.jit
def _backward(parameters, gradient, channels, work):  # type: ignore[no-untyped-def]
    """Add the gradient of the loss to `gradient` (D,), given `work.d_logits`."""
    lanes = len(work.side)
    _, _, w2, _, w3, _, w4, _, w5, _ = _parts(parameters, channels)
    g1, h1, g2, h2, g3, h3, g4, h4, g5, h5 = _parts(gradient, channels)
    k.linear_grad(work.a4, w5, work.d_logits, g5, h5, work.d_a4, lanes)
    work.d_a4[:] *= work.s4
    k.linear_grad(work.a3, w4, work.d_a4, g4, h4, work.d_a3, lanes)
    work.d_a3[:] *= work.s3
    k.linear_grad(work.columns, w3, work.d_a3, g3, h3, work.d_columns, 9 * lanes)
    k.patches2_grad(work.d_columns, 6, 4, work.d_p2, work.side)
    work.d_p2[:] *= work.s2
    # The two gradients of a convolution need different padding, so the pool is undone twice.
    k.unpool(work.d_p2, work.w2, 6, 8, 8, work.d_a2, 12 * lanes, 0, work.side)
    k.unpool(work.d_p2, work.w2, 6, 8, 8, work.d_a2_wide, 16 * lanes, 4 * lanes, work.side)
    k.conv5_weight_grad(work.p1, 12, 12, 8, work.d_a2, g2, h2, 6, work.side)
    k.conv5_input_grad(work.d_a2_wide, 12, 12, 8, w2, work.d_p1, 6, work.side)
    work.d_p1[:] *= work.s1
    k.unpool(work.d_p1, work.w1, 8, 24, 24, work.d_a1, 28 * lanes, 0, work.side)
    k.conv5_weight_grad(work.x, 28, 28, channels, work.d_a1, g1, h1, 8, work.side)


@k.jit
def _loss(logits, labels, indices, scale, d_logits, side):  # type: ignore[no-untyped-def]
    """Return the cross entropy summed over images, times `scale`, and write its gradient, (softmax - one-hot) * scale.

    Lanes without an image get no gradient. The largest logit is subtracted, so that no exponential overflows.
    """
    lanes, total = len(side), np.float32(0)
    d_logits[:] = 0
    for b in range(indices.size):
        top = logits[b]
        for o in range(1, 10):
            top = max(top, logits[o * lanes + b])
        norm = np.float32(0)
        for o in range(10):
            d_logits[o * lanes + b] = np.exp(logits[o * lanes + b] - top)
            norm += d_logits[o * lanes + b]
        label = labels[indices[b]]
        total += np.float32(math.log(norm)) + top - logits[label * lanes + b]
        for o in range(10):
            d_logits[o * lanes + b] *= scale / norm
        d_logits[label * lanes + b] -= scale
    return total * scale


@k.jit
def _train(state, images, labels, order, rates, decay, kind, share, seed, channels, work, losses, keep, snapshots):  # type: ignore[no-untyped-def]
    parameters, gradient, first, second = state[0], state[1], state[2], state[3]
    steps, batch = order.shape  # steps, B
    lanes = len(work.side)
    scale = np.float32(1 / batch)
    for step in range(steps):
        key = k.mixed(k.mixed(np.uint32(step)) ^ seed)  # of the dropout in this step
        for i in range(gradient.size):
            gradient[i] = decay * parameters[i]  # the L2 penalty; images are added to it
        for start in range(0, batch, lanes):
            indices = order[step, start : min(start + lanes, batch)]
            _load(images, indices, work.x, work.side)
            _forward(parameters, kind, channels, work, share, key, start // lanes)
            losses[step] += _loss(work.logits, labels, indices, scale, work.d_logits, work.side)
            _backward(parameters, gradient, channels, work)
        # Adam's bias corrections, in double precision because 1 - 0.999 is small.
        rate = np.float32(rates[step] / (1 - 0.9 ** (step + 1)))
        root = np.float32(1 / math.sqrt(1 - 0.999 ** (step + 1)))
        for i in range(gradient.size):
            g = gradient[i]
            first[i] = BETA1 * first[i] + (1 - BETA1) * g
            second[i] = BETA2 * second[i] + (1 - BETA2) * g * g
            parameters[i] -= rate * first[i] / (math.sqrt(second[i]) * root + EPSILON)
        for row in range(keep.size):
            if keep[row] == step + 1:
                snapshots[row] = parameters


@k.jit
def _predict(parameters, images, kind, channels, work, logits):  # type: ignore[no-untyped-def]
    count, lanes = len(images), len(work.side)
    for start in range(0, count, lanes):
        indices = np.arange(start, min(start + lanes, count))
        _load(images, indices, work.x, work.side)
        _forward(parameters, kind, channels, work, 0.0, np.uint32(0), 0)
        for b in range(indices.size):
            for o in range(10):
                logits[start + b, o] = work.logits[o * lanes + b]
