"""Networks side by side against one plain PyTorch loop for each, and against the compiled kernel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from seeds import gen
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.nets import cnn, resnet20
from hyperinit_training.train_zoo import compiled_cnn, stacked
from hyperinit_training.train_zoo.schedules import Schedule, initial_weights
from hyperinit_training.train_zoo.stacked import Network, accuracy, train

RATE = 5e-4  # at the zoos' own rates Adam makes visible steps out of rounding errors in gradients near zero
pytestmark = pytest.mark.usefixtures("_global_generator_unmoved")


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 10, bias=False))


class Residual(nn.Module):
    """No chain, strided, a norm without statistics."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, stride=4), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4, 10)

    def forward(self, x):
        x = self.first(x).relu()
        return self.head((x + self.norm(self.second(x))).mean((2, 3)))


MAKES = {"cnn": cnn, "relu": lambda: cnn(activation="relu"), "mlp": mlp, "residual": Residual}


def data(count=300, seed=1, device="cpu"):
    images = torch.randn(count, 1, 28, 28, generator=gen(seed))
    return images.to(device), torch.randint(10, (count,), generator=gen(seed + 1)).to(device)


def starts(network, count):
    return torch.stack([initial_weights("default", network.layout, gen(seed)) for seed in range(count)])


def schedules(count, steps=100, batch=10, rate=RATE, **options):
    """A falling rate, and another order, rate and decay for each network."""
    return [
        Schedule(
            order=torch.randint(300, (steps, batch), generator=gen(10 + n)).numpy(),
            rates=np.linspace(rate * (1 + n), 0, steps, endpoint=False, dtype=np.float32),
            decay=0.01 * n,
            **options,
        )
        for n in range(count)
    ]


def plain(make, weights, data, plan):
    """A plain training loop: snapshots (S, D) and losses (steps,) of one network."""
    with torch.random.fork_rng(devices=[]):
        network = make()
    layout = Network(make).layout
    network.load_state_dict(layout.raw_tensors(weights))
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=plan.decay)
    snapshots, losses = [], []
    for step, (rows, rate) in enumerate(zip(torch.from_numpy(plan.order), plan.rates, strict=True), 1):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(data[0][rows]), data[1][rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step in (plan.keep or (len(plan.order),)):
            snapshots.append(layout.flatten(network.state_dict()))
    return torch.stack(snapshots), torch.tensor(losses)


@pytest.mark.parametrize("name", MAKES)
def test_100_steps_equal_a_plain_loop_for_each_network(name):
    network = Network(MAKES[name])
    first, plans = starts(network, 3), schedules(3, keep=(1, 40, 100))
    before = first.clone()
    snapshots, losses = train(network, first, data(), plans)
    assert snapshots.shape == (3, 3, network.layout.size)
    assert torch.equal(first, before)
    for n, plan in enumerate(plans):
        expected, expected_losses = plain(MAKES[name], first[n], data(), plan)
        assert (snapshots[n, -1] - first[n]).abs().max() > 0.01
        # Adam divides by small second moments, which enlarges the roundings of 100 steps to some 1e-4.
        torch.testing.assert_close(snapshots[n], expected, rtol=0, atol=1e-3)
        torch.testing.assert_close(losses[n], expected_losses, rtol=0, atol=1e-3)


def test_another_order_rate_or_decay_gives_other_weights():
    """Negative control of the comparison above."""
    network = Network(cnn)
    [plan] = schedules(1, steps=30)
    others = [replace(plan, order=plan.order[::-1]), replace(plan, rates=plan.rates * 2), replace(plan, decay=0.05)]
    snapshots, _ = train(network, starts(network, 1).expand(4, -1), data(), [plan, *others])
    assert (snapshots[1:, 0] - snapshots[0, 0]).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "gelu"])
def test_100_steps_equal_the_compiled_kernel(activation):
    network = Network(lambda: cnn(activation=activation))
    # A slope that jumps at 0 lets a rounding grow; a quarter of the rate keeps what grows below the bound.
    rate = RATE / 4 if activation == "relu" else RATE
    first, plans = starts(network, 2), schedules(2, rate=rate, keep=(50, 100), activation=activation)
    images, labels = data()
    snapshots, losses = train(network, first, (images, labels), plans)
    for n, plan in enumerate(plans):
        found, found_losses = compiled_cnn.train(first[n].numpy(), images.numpy(), labels.numpy(), plan)
        np.testing.assert_allclose(snapshots[n], found, rtol=0, atol=1e-4)
        np.testing.assert_allclose(losses[n], found_losses, rtol=0, atol=1e-4)


def test_tables_of_another_length_change_nothing(monkeypatch):
    network = Network(mlp)
    first, plans = starts(network, 2), schedules(2, steps=25, keep=(3, 11, 25))
    whole = train(network, first, data(), plans)
    monkeypatch.setattr(stacked, "CHUNK", 10)
    assert all(map(torch.equal, train(network, first, data(), plans), whole))


def test_neighbours_do_not_matter_even_if_they_diverge():
    network = Network(cnn)
    first, plans = starts(network, 3), schedules(3, steps=20)
    plans[1] = replace(plans[1], rates=np.full(20, 1e30, np.float32))
    snapshots, losses = train(network, first, data(), plans)
    assert not snapshots[1].isfinite().all()
    for n in (0, 2):
        alone, own = train(network, first[n : n + 1], data(), plans[n : n + 1])
        torch.testing.assert_close(snapshots[n], alone[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(losses[n], own[0], rtol=0, atol=1e-5)


def test_training_repeats_bit_for_bit():
    network = Network(cnn)
    runs = [train(network, starts(network, 2), data(), schedules(2, steps=10)) for _ in range(2)]
    assert all(map(torch.equal, *runs))


def test_accuracy_is_the_share_of_right_answers(monkeypatch):
    monkeypatch.setattr(stacked, "LOOKED_AT", 70)
    network = Network(cnn)
    weights, (images, labels) = starts(network, 3), data(101)
    found = accuracy(network, weights, (images, labels))
    for row, share in zip(weights, found, strict=True):
        logits = functional_call(network.module, network.layout.raw_tensors(row), images)
        assert share == pytest.approx((logits.argmax(1) == labels).double().mean().item(), abs=1e-12)
    assert found.dtype == np.float64


# What is refused


def test_buffers_are_refused():
    message = r"must hold no buffers, got bn1\.running_mean, bn1\.running_var.*use a norm without running statistics"
    with pytest.raises(LayoutError, match=message):
        Network(resnet20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)), r"draw no random numbers \(no drop"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, 10)), r"take images of shape \(1, 1, 28, 28\), .* got: "),
        (lambda: nn.Conv2d(1, 2, 28), r"must return logits \(B, classes\), got \(1, 2, 1, 1\) for one image$"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), r"labels must lie in 0 to 8, got 0 to 9$"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(make, message):
    network = Network(make)
    with pytest.raises(ArgumentError, match=message):
        train(network, starts(network, 1), data(), schedules(1, steps=2))


def second(plans, **changes):
    return [plans[0], replace(plans[1], **changes)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w, d, p: (w[:, 1:], d, p),
            r"weights must have shape \(N, 2464\) with a schedule for each, got \(2, 24",
        ),
        (lambda w, d, p: (w, d, p[:1]), r"with a schedule for each, got \(2, 2464\) and 1 schedules$"),
        (lambda w, d, p: (w[:0], d, []), r"with a schedule for each, got \(0, 2464\) and 0 schedules$"),
        (lambda w, d, p: (w, d, second(p, dropout=0.5)), r"schedules must have no dropout, .*, got some$"),
        (lambda w, d, p: (w, d, second(p, keep=(2,))), r"equal steps, batches and snapshots, got \(\(4, 10\), \(\)"),
        (lambda w, d, p: (w, d, second(p, order=p[1].order + 290)), r"index the n images, got 300 images, \(300,\) la"),
        (lambda w, d, p: (w, d, second(p, order=p[1].order - 300)), r"index the n images, got 300 images, \(300,\) la"),
        (lambda w, d, p: (w, (d[0], d[1][1:]), p), r"labels must have shape \(n,\) .* got 300 images, \(299,\) labels"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    network = Network(cnn)
    with pytest.raises(ArgumentError, match=message):
        train(network, *change(starts(network, 2), data(), schedules(2, steps=4)))


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("name", MAKES)
def test_a_captured_step_trains_as_the_cpu_does(name, monkeypatch):
    monkeypatch.setattr(stacked, "CHUNK", 30)
    network = Network(MAKES[name])
    first, plans = starts(network, 3), schedules(3, keep=(1, 40, 100))
    expected = train(network, first, data(), plans)
    runs = [train(network, first, data(device="cuda"), plans) for _ in range(2)]
    assert all(map(torch.equal, *runs))
    for found, wanted in zip(runs[0], expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)
    scores = [accuracy(network, expected[0][:, -1], data(device=device)) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(*scores, rtol=0, atol=0.01)
