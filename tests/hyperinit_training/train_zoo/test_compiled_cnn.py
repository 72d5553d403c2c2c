"""The compiled training loop against a plain PyTorch loop."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from seeds import gen
from torch.func import functional_call
from torch.nn import functional

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.compiled_cnn import predict, train
from hyperinit_training.train_zoo.kernels import ACTIVATIONS, side_by_side
from hyperinit_training.train_zoo.schedules import Schedule

SIDE = side_by_side(16)
LANES = len(SIDE)

RATE = 1e-3  # at the zoos' own rates Adam makes visible steps out of rounding errors in gradients near zero


def start(channels=1, activation="tanh", seed=0):
    """PyTorch's default starting point (D,), without the global generator."""
    layout = Layout.of(cnn_of(channels, activation))
    bounds = [torch.full((t.size,), (layer.tensors[0].size / layer.neurons) ** -0.5)
              for layer in layout.layers for t in layer.tensors]  # fmt: skip
    bound = torch.cat(bounds)
    return ((2 * torch.rand(layout.size, generator=gen(seed)) - 1) * bound).numpy()


def cnn_of(channels, activation):
    with torch.random.fork_rng(devices=[]):
        return cnn(channels, activation)


def data(channels=1, count=300):
    images = torch.randn(count, channels, 28, 28, generator=gen(1))
    return images.numpy(), torch.randint(10, (count,), generator=gen(2)).numpy()


def schedule(steps, batch, draw=3, **options):
    order = torch.randint(300, (steps, batch), generator=gen(draw)).numpy()
    return Schedule(order=order, rates=np.linspace(RATE, 0, steps, endpoint=False, dtype=np.float32), **options)


def mixed(numbers):
    """The same mix as the kernel's, on 32-bit numbers in larger ones."""
    numbers = (numbers ^ (numbers >> 16)) * 0x7FEB352D & 0xFFFFFFFF
    numbers = (numbers ^ (numbers >> 15)) * 0x846CA68B & 0xFFFFFFFF
    return numbers ^ (numbers >> 16)


class Dropped(torch.nn.Module):
    """An activation with a dropout behind it that draws as the kernels do: `first` is its place among the values."""

    def __init__(self, activation, share, first, side):
        super().__init__()
        self.activation, self.share, self.first, self.key, self.side = activation, share, first, 0, side

    def forward(self, x):
        features, side, image = x[0].numel(), self.side, np.arange(len(x), dtype=np.uint64)
        start = (image // side * compiled_cnn.DROPPED + self.first) * side + image % side  # (B,), then `side` further
        kept = mixed((start[:, None] + np.arange(features, dtype=np.uint64) * side) ^ self.key) >= int(
            self.share * 4294967295
        )
        return self.activation(x) * torch.from_numpy(kept).view_as(x) / (1 - self.share)


def with_dropout(network, share, side):
    """Put dropout where the reference has it: behind the activations 2, 5 and 10 of the CNN."""
    for index, first in ((2, 0), (5, 8 * 144), (10, 8 * 144 + 6 * 16)):
        network[index] = Dropped(network[index], share, first, side)
    return network


def pytorch(weights, images, labels, plan):
    """The PyTorch loop that the compiled one must equal: snapshots (S, D) and losses (steps,)."""
    network = cnn_of(images.shape[1], plan.activation)
    if plan.dropout:
        network = with_dropout(network, plan.dropout, len(side_by_side(plan.order.shape[1])))
    layout = Layout.of(network)
    network.load_state_dict(layout.raw_tensors(torch.from_numpy(weights)))
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=plan.decay)
    x, y, losses, snapshots = torch.from_numpy(images), torch.from_numpy(labels), [], []
    for step, (rows, rate) in enumerate(zip(torch.from_numpy(plan.order), plan.rates, strict=True), 1):
        optimizer.param_groups[0]["lr"] = float(rate)
        for part in network:
            part.key = mixed(mixed(step - 1) ^ plan.seed)
        loss = functional.cross_entropy(network(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step in (plan.keep or (len(plan.order),)):
            snapshots.append(layout.flatten(network.state_dict()).clone())
    return torch.stack(snapshots).numpy(), np.array(losses)


def gradient(weights, images, labels, activation):
    """Loss and its gradient on LANES images or fewer, from the kernels behind `train`: Adam hides its size."""
    channels, work, found = images.shape[1], compiled_cnn.workspace(images.shape[1], SIDE), np.zeros_like(weights)
    rows, flat = np.arange(len(images)), images.reshape(len(images), -1)
    compiled_cnn._load(flat, rows, work.x, SIDE)
    compiled_cnn._forward(weights, ACTIVATIONS[activation], channels, work, 0.0, np.uint32(0), 0)
    loss = compiled_cnn._loss(work.logits, labels, rows, np.float32(1 / len(rows)), work.d_logits, SIDE)
    compiled_cnn._backward(weights, found, channels, work)
    return loss, found


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("channels", "count"), [(1, LANES), (3, LANES - 5)])
def test_the_gradient_of_every_layer_equals_autograd(channels, count, activation):
    weights, (images, labels) = start(channels, activation), data(channels, count)
    network = cnn_of(channels, activation)
    layout = Layout.of(network)
    vector = torch.from_numpy(weights).requires_grad_()
    logits = functional_call(network, layout.raw_tensors(vector), torch.from_numpy(images))
    expected = functional.cross_entropy(logits, torch.from_numpy(labels))
    expected.backward()
    loss, found = gradient(weights, images, labels, activation)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for name, tensor in layout.raw_tensors(torch.from_numpy(found)).items():
        reference = layout.raw_tensors(vector.grad)[name]
        assert reference.abs().max() > 0, name
        worst = (tensor - reference).abs().max() / reference.abs().max()
        assert worst < 2e-5, f"{name} is off by {worst:.1e} of its largest gradient"


@pytest.mark.parametrize(
    ("channels", "batch", "decay", "activation"),
    [(1, 64, 0.0, "tanh"), (3, 10, 0.0, "tanh"), (1, 10, 1e-2, "gelu"), (1, 64, 1e-3, "sigmoid"), (1, 10, 0, "relu")],
)
def test_100_steps_equal_a_plain_pytorch_loop(channels, batch, decay, activation):
    """At a rate of 1e-3; weights move by up to 0.1."""
    weights, (images, labels) = start(channels, activation), data(channels)
    plan = schedule(100, batch, decay=decay, activation=activation, keep=(1, 40, 100))
    expected, expected_losses = pytorch(weights, images, labels, plan)
    found, losses = train(weights, images, labels, plan)
    assert np.abs(found[-1] - weights).max() > 0.02
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("batch", "share", "activation"), [(10, 0.3, "tanh"), (40, 0.5, "relu")])
def test_30_steps_with_dropout_equal_a_plain_pytorch_loop(batch, share, activation):
    weights, (images, labels) = start(1, activation), data()
    plan = schedule(30, batch, activation=activation, dropout=share, seed=0xDEADBEEF)
    expected, expected_losses = pytorch(weights, images, labels, plan)
    found, losses = train(weights, images, labels, plan)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=1e-4)
    for control in ({"dropout": share, "seed": 1}, {"dropout": 0.0}):
        other, _ = train(weights, images, labels, schedule(30, batch, activation=activation, **control))
        assert np.abs(other - found).max() > 1e-3, control


def test_another_order_or_decay_gives_other_weights():
    """Negative control of the comparison with PyTorch: the order and the decay have an effect."""
    weights, (images, labels) = start(), data()
    plan = schedule(100, 10)
    found = train(weights, images, labels, plan)[0]
    for other in (schedule(100, 10, draw=4), schedule(100, 10, decay=1e-2)):
        assert np.abs(train(weights, images, labels, other)[0] - found).max() > 1e-3


def test_the_order_within_a_batch_does_not_matter():
    weights, (images, labels) = start(), data()
    plan = schedule(20, 10)
    turned = Schedule(order=plan.order[:, ::-1], rates=plan.rates)
    found, expected = (train(weights, images, labels, p)[0] for p in (turned, plan))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_training_is_deterministic_in_any_thread_and_changes_no_argument():
    weights, (images, labels) = start(), data()
    copies = weights.copy(), images.copy()
    plan = schedule(20, 10)
    first = train(weights, images, labels, plan)
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: train(weights, images, labels, plan), range(3)))
    for run in runs:
        for got, expected in zip(run, first, strict=True):
            np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(weights, copies[0])
    np.testing.assert_array_equal(images, copies[1])


def test_snapshots_are_those_of_shorter_runs():
    weights, (images, labels) = start(), data()
    plan = schedule(12, 10)
    found = train(weights, images, labels, Schedule(order=plan.order, rates=plan.rates, keep=(5, 12)))[0]
    short = train(weights, images, labels, Schedule(order=plan.order[:5], rates=plan.rates[:5]))[0]
    np.testing.assert_array_equal(found[:1], short)
    np.testing.assert_array_equal(found[1:], train(weights, images, labels, plan)[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_predict_equals_the_pytorch_network(channels, activation):
    images, _ = data(channels, count=LANES + 5)
    weights = np.stack([start(channels, activation, seed) for seed in (0, 1)])
    network = cnn_of(channels, activation)
    layout = Layout.of(network)
    logits = predict(weights, images, activation=activation)
    for row, found in zip(torch.from_numpy(weights), logits, strict=True):
        expected = functional_call(network, layout.raw_tensors(row), torch.from_numpy(images)).detach()
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-5)


ORDER, RATES = np.zeros((2, 4), np.int64), np.full(2, 1e-3, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.zeros(2464, np.float32)[:-1]}, r"weights must have shape \(2464,\), got \(2463,\)$"),
        ({"images": np.zeros((9, 2, 28, 28), np.float32)}, r"shape \(n, 1 or 3, 28, 28\), got \(9, 2, 28, 28\)$"),
        ({"images": np.zeros((9, 3, 28, 28), np.float32)}, r"weights must have shape \(2864,\), got \(2464,\)$"),
        ({"images": np.zeros((9, 1, 28, 28))}, r"images must be float32, got float64$"),
        ({"labels": np.zeros(8, np.int64)}, r"labels must be int64 \(9,\), got int64 \(8,\)$"),
        ({"labels": np.zeros(9, np.int32)}, r"labels must be int64 \(9,\), got int32 \(9,\)$"),
        ({"labels": np.full(9, 10)}, r"labels must lie in 0 to 9, got 10 to 10$"),
        ({"labels": np.full(9, -1)}, r"labels must lie in 0 to 9, got -1 to -1$"),
        ({"schedule": Schedule(order=ORDER + 9, rates=RATES)}, r"order must index 9 images, got 9 to 9$"),
        ({"schedule": Schedule(order=ORDER - 1, rates=RATES)}, r"order must index 9 images, got -1 to -1$"),
    ],
)
def test_bad_arguments_of_train_are_refused(changes, message):
    good = {
        "weights": np.zeros(2464, np.float32),
        "images": np.zeros((9, 1, 28, 28), np.float32),
        "labels": np.zeros(9, np.int64),
        "schedule": Schedule(order=ORDER, rates=RATES),
    }
    with pytest.raises(ArgumentError, match=message):
        train(**good | changes)


@pytest.mark.parametrize(
    ("weights", "activation", "message"),
    [
        (np.zeros(2464, np.float32), "tanh", r"weights must have shape \(N, D\) with N >= 1, got \(2464,\)$"),
        (np.zeros((0, 2464), np.float32), "tanh", r"weights must have shape \(N, D\) with N >= 1, got \(0, 2464\)$"),
        (np.zeros((1, 5), np.float32), "tanh", r"weights must have shape \(2464,\), got \(5,\)$"),
        (np.zeros((1, 2464), np.float32), "elu", r"activation must be one of tanh, .*, got 'elu'$"),
    ],
)
def test_bad_arguments_of_predict_are_refused(weights, activation, message):
    with pytest.raises(ArgumentError, match=message):
        predict(weights, np.zeros((2, 1, 28, 28), np.float32), activation=activation)
