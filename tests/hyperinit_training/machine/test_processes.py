"""Shares and sums of several processes. Threads simulate them here; test_processes_torchrun.py starts real ones."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from hyperinit.errors import ArgumentError
from hyperinit_training.machine import precision, processes
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.train_autoencoder import train
from hyperinit_training.train_autoencoder.state import Training
from hyperinit_training.zoo.zoo import Snapshot, Zoo

TINY = AutoencoderRecipe(
    width=16, heads=2, feedforward=32, depth=1, latent=8, permutations=20, batch=5, warmup=5, rate=1e-3
)


@pytest.fixture(scope="module")
def networks(layout):
    """Fourteen networks for training and six for validation."""
    generator = torch.Generator().manual_seed(0)
    weights = 0.1 * torch.randn(20, layout.size, generator=generator)
    splits = ["train"] * 14 + ["val"] * 6
    return Zoo(layout, weights, tuple(Snapshot(i, i, 1.0, split, 0.5, 0.5) for i, split in enumerate(splits)), None, {})


class Threads:
    """Threads that act as processes: each has its own rank, and every sum waits for all of them."""

    def __init__(self, monkeypatch, count):
        self.count, self.own = count, threading.local()
        self.gate, self.parts = threading.Barrier(count, timeout=60), {}
        monkeypatch.setattr(processes, "rank", lambda: getattr(self.own, "rank", 0))
        monkeypatch.setattr(processes, "count", lambda: count)
        monkeypatch.setattr(processes, "barrier", lambda: self.gate.wait())
        monkeypatch.setattr(processes, "_sum", lambda tensor: tensor.copy_(sum(self.all_of(tensor))))
        monkeypatch.setattr(processes, "_broadcast", lambda tensor: tensor.copy_(self.all_of(tensor)[0]))

    def all_of(self, tensor):
        """Return the tensors of all threads; the second wait keeps the next call from overwriting them too early."""
        self.parts[self.own.rank] = tensor.clone()
        self.gate.wait()
        found = [self.parts[rank] for rank in range(self.count)]
        self.gate.wait()
        return found

    def run(self, function):
        """Call `function` with each rank in its own thread, and return the results in order."""

        def one(rank):
            self.own.rank = rank
            try:
                return function(rank)
            except BaseException:
                self.gate.abort()
                raise

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(one, range(self.count)))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_hold_every_row_once(monkeypatch, count):
    threads = Threads(monkeypatch, count)
    shares = threads.run(lambda rank: list(range(16))[processes.share()])
    assert sorted(row for rows in shares for row in rows) == list(range(16))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_gathered_rows_are_in_order_and_gradients_average_to_that_of_the_whole_batch(monkeypatch):
    whole = torch.arange(10.0).view(5, 2)
    weight = torch.tensor([[2.0, 1.0], [0.5, -1.0]])
    expected = weight.clone().requires_grad_()
    (whole @ expected).pow(3).sum().backward()

    def one(rank):
        parameter = torch.nn.Parameter(weight.clone())
        rows = processes.gather(whole[processes.share()] @ parameter, 5)
        rows.pow(3).sum().backward()
        processes.average_gradients([parameter, torch.nn.Parameter(torch.ones(1))])
        return rows.detach(), parameter.grad

    for rows, gradient in Threads(monkeypatch, 3).run(one):
        assert torch.equal(rows, whole @ weight)
        torch.testing.assert_close(gradient, expected.grad)


def test_every_process_gets_the_value_of_the_first(monkeypatch):
    threads = Threads(monkeypatch, 3)
    assert threads.run(lambda rank: processes.agreed(rank + 5)) == [5, 5, 5]
    assert threads.run(lambda rank: processes.same(7)) == [True] * 3
    assert threads.run(lambda rank: processes.same(rank // 2)) == [False] * 3
    assert threads.run(lambda rank: processes.once(lambda: "made", lambda: "read")) == ["made", "read", "read"]


VARIANTS = {
    "whole": {},
    "variational": {"variational": True, "kl_weight": 0.1},
    "chunked": {"chunk": 100, "window": 8, "halo": 2},
    "no contrast": {"beta": 1.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_three_processes_train_as_one_does(monkeypatch, networks, variant):
    """Uneven shares of 10 views, BatchNorm and contrast over the whole batch, windows with and without padding."""
    monkeypatch.setattr(precision, "fastest", lambda: torch.float32)
    short = replace(TINY, **VARIANTS[variant])

    def build():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Training(short, networks)

    def steps(training):
        """Return the losses of four steps, and the gradient of the first."""
        first = training.advance()
        gradient = torch.cat(
            [p.grad.flatten() for p in training.optimizer.param_groups[0]["params"] if p.grad is not None]
        )
        losses = [first, *(training.advance() for _ in range(3))]
        return torch.tensor([[v.item() for v in (x.total, x.reconstruction, x.contrast)] for x in losses]), gradient

    losses, gradient = steps(build())
    trainings = [build() for _ in range(3)]
    for training, (found, own) in zip(
        trainings, Threads(monkeypatch, 3).run(lambda r: steps(trainings[r])), strict=True
    ):
        assert (own - gradient).norm() < 1e-5 * gradient.norm()
        torch.testing.assert_close(found[:, :2], losses[:, :2], rtol=1e-3, atol=0)
        torch.testing.assert_close(found[0], losses[0], rtol=1e-5, atol=0)
        assert all(map(torch.equal, training.autoencoder.parameters(), trainings[0].autoencoder.parameters()))


def test_dropout_differs_from_process_to_process_and_repeats(monkeypatch, networks):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "average_gradients", lambda parameters: None)
    monkeypatch.setattr(processes, "_sum", lambda tensor: None)
    masks = []
    for rank in (0, 1, 0):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        with torch.random.fork_rng(devices=[]):
            Training(replace(TINY, dropout=0.1), networks).advance()
            masks.append(torch.rand(3))  # shows the state of the generator that dropout uses
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])


def test_more_processes_than_views_are_rejected(monkeypatch, networks, tmp_path):
    monkeypatch.setattr(processes, "count", lambda: 17)
    with pytest.raises(ArgumentError, match="at most 10 processes can share a batch, got 17"):
        train.train_autoencoder(TINY, networks, tmp_path)


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert processes.cores() == 8  # the process has not joined a group
    monkeypatch.setattr(processes.distributed, "is_initialized", lambda: True)
    assert processes.cores() == 2


@pytest.mark.parametrize("text", ["two", "0", "-1", "9" * 5000])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", text)
    monkeypatch.setattr(processes.distributed, "is_initialized", lambda: True)
    with pytest.raises(ArgumentError, match=r"LOCAL_WORLD_SIZE must be a whole number of at least 1, got "):
        processes.cores()
