"""Train and evaluate networks of one architecture side by side with PyTorch: any network, on a GPU or the CPU.

All weights are one tensor (N, D); a step is one forward and backward pass of all networks (`torch.func.vmap`) and one
Adam on that tensor. What a step reads and writes stays where it is, its own number included, so that on a GPU the step
is captured once as a CUDA graph and replayed: the host launches one thing a step.

Networks do not see each other, and no random number is drawn here: with one schedule and start, a network becomes what
`compiled_cnn.train` makes of it, up to rounding.

Letters: N networks, D weights of each, B images a step, S kept snapshots, n images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout
from hyperinit_training.train_zoo.schedules import Schedule

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's defaults in PyTorch
CHUNK = 512  # steps whose data order and rates lie on the device at once
LOOKED_AT = 16384  # images times networks that are evaluated at once
WARM_UP = 3  # steps before a capture, in which PyTorch chooses its kernels and allocates
Data = tuple[Tensor, Tensor]  # normalised images, float32 (n, C, H, W), and labels, int64 (n,)


class Network:
    """One architecture, run with many weight vectors at once.

    Args:
        make: makes the network; the weights it comes with are not used, and the global generator is left alone.

    Raises:
        LayoutError: if the network holds buffers, or parameters outside of conv, linear and norm layers.

    >>> network = Network(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    >>> network.logits(torch.zeros(5, 15), torch.zeros(5, 2, 1, 2, 2), apart=True).shape
    torch.Size([5, 2, 3])
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        with torch.random.fork_rng(devices=[]):
            self.module = make().train()
        self.layout = Layout.of(self.module)
        buffers = [name for name, _ in self.module.named_buffers()]
        if buffers:
            raise LayoutError(
                f"networks that are trained side by side must hold no buffers, got {', '.join(buffers[:5])}; "
                "take a norm without running statistics, such as GroupNorm"
            )

    def logits(self, weights: Tensor, images: Tensor, *, apart: bool) -> Tensor:
        """Run networks (N, D) on images (N, B, C, H, W), or all on the same (B, C, H, W); returns (N, B, classes)."""
        run = vmap(self._one, in_dims=(0, 0 if apart else None))
        found: Tensor = run(self.layout.unflatten(weights), images)
        return found

    def _one(self, state: dict[str, Tensor], images: Tensor) -> Tensor:
        found: Tensor = functional_call(self.module, state, (images,))
        return found


def train(network: Network, weights: Tensor, data: Data, schedules: Sequence[Schedule]) -> tuple[Tensor, Tensor]:
    """Train networks from `weights` (N, D), each by its own schedule and with a fresh Adam, where the data lie.

    Args:
        network: what the weights belong to; its activation is the network's own, whatever the schedules say.
        weights: starting points, float32 (N, D); not modified.
        data: training images and labels, on the device that is to train.
        schedules: one for each network, with equal numbers of steps, of images a step, and equal `keep`.

    Returns:
        The snapshots (N, S, D) and the loss of every step (N, steps), in nats, both on the CPU.

    Raises:
        ArgumentError: if something does not fit, or a schedule or the network has dropout.
    """
    _check(network, weights, data, schedules)
    device = data[0].device
    with exact(device):
        stack = _Stack(network, weights.to(device), data, schedules[0].order.shape[1])
        advance = stack.step if device.type == "cpu" else _captured(stack)
        return _run(stack, schedules, advance)


@torch.no_grad()
def accuracy(network: Network, weights: Tensor, data: Data) -> NDArray[np.float64]:
    """Share of right answers of networks (N, D) on images (n, C, H, W) with labels (n,), float64 (N,)."""
    images, labels = data
    right = []
    with exact(images.device):
        for some in weights.to(images.device).split(256):
            parts = zip(images.split(LOOKED_AT // len(some)), labels.split(LOOKED_AT // len(some)), strict=True)
            counts = [(network.logits(some, x, apart=False).argmax(2) == y).sum(1) for x, y in parts]
            right.append(torch.stack(counts).sum(0))
    return torch.cat(right).cpu().double().numpy() / len(labels)


def exact(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which a GPU's convolutions are float32 and repeat bit for bit; of no effect on a CPU."""
    if device.type == "cpu":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


class _Stack:
    """What changes while networks train, and one step of all of them; nothing in a step waits for the host."""

    def __init__(self, network: Network, weights: Tensor, data: Data, batch: int) -> None:
        count, device = len(weights), weights.device
        self.network, (self.images, self.labels) = network, data
        self.weights, self.first, self.second = weights.clone(), torch.zeros_like(weights), torch.zeros_like(weights)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)  # number of the step within the tables below
        self.order = torch.zeros(CHUNK, count, batch, dtype=torch.int32, device=device)
        self.rates = torch.zeros(CHUNK, count, 1, device=device)
        self.roots = torch.zeros(CHUNK, 1, 1, device=device)
        self.losses = torch.zeros(CHUNK, count, device=device)
        self.decay = torch.zeros(count, 1, device=device)

    @property
    def state(self) -> tuple[Tensor, ...]:
        """All that a step changes, but the losses."""
        return self.weights, self.first, self.second, self.at

    def load(self, schedules: Sequence[Schedule], start: int) -> int:
        """Fill the tables for the steps from `start` on, at most CHUNK; returns for how many."""
        part = slice(start, start + CHUNK)
        order = np.stack([plan.order[part] for plan in schedules], axis=1)  # (steps, N, B)
        rates = np.stack([plan.rates[part] for plan in schedules], axis=1)
        steps = np.arange(start + 1, start + 1 + len(order), dtype=np.float64)[:, None]
        sizes = rates / (1 - BETA1**steps)
        self.order[: len(order)] = torch.from_numpy(order.astype(np.int32))
        self.rates[: len(order), :, 0] = torch.from_numpy(sizes.astype(np.float32))
        self.roots[: len(order), :, 0] = torch.from_numpy(((1 - BETA2**steps) ** -0.5).astype(np.float32))
        self.decay[:, 0] = torch.tensor([plan.decay for plan in schedules])
        self.at.zero_()
        return len(order)

    def step(self) -> None:
        """Take one step of `torch.optim.Adam` with each network."""
        rows = self.order.index_select(0, self.at)[0].long()  # (N, B)
        weights = self.weights.detach().requires_grad_()
        logits = self.network.logits(weights, self.images[rows], apart=True)  # (N, B, classes)
        losses = functional.cross_entropy(logits.flatten(0, 1), self.labels[rows].flatten(), reduction="none")
        losses = losses.view(rows.shape).mean(1)
        (gradient,) = torch.autograd.grad(losses.sum(), weights)
        gradient = torch.addcmul(gradient, self.decay, self.weights)
        self.first.lerp_(gradient, 1 - BETA1)
        self.second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        rate, root = self.rates.index_select(0, self.at)[0], self.roots.index_select(0, self.at)[0]
        self.weights.sub_(rate * self.first / (self.second.sqrt() * root + EPSILON))
        self.losses.index_copy_(0, self.at, losses.detach()[None])
        self.at.add_(1)


def _run(stack: _Stack, schedules: Sequence[Schedule], advance: Callable[[], object]) -> tuple[Tensor, Tensor]:
    steps = len(schedules[0].order)
    keep = schedules[0].keep or (steps,)
    snapshots, losses = [], []
    for start in range(0, steps, CHUNK):
        count = stack.load(schedules, start)
        for step in range(start + 1, start + count + 1):
            advance()
            if step in keep:
                snapshots.append(stack.weights.to("cpu", copy=True))
        losses.append(stack.losses[:count].T.to("cpu", copy=True))
    return torch.stack(snapshots, dim=1), torch.cat(losses, dim=1)


def _captured(stack: _Stack) -> Callable[[], object]:
    """Capture the step as a CUDA graph; the state is left as it was."""
    with torch.cuda.device(stack.weights.device):
        before = [tensor.clone() for tensor in stack.state]

        def undo() -> None:
            for tensor, value in zip(stack.state, before, strict=True):
                tensor.copy_(value)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                stack.step()
                undo()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            stack.step()
        return graph.replay


def _check(network: Network, weights: Tensor, data: Data, schedules: Sequence[Schedule]) -> None:
    images, labels = data
    size = network.layout.size
    if weights.ndim != 2 or weights.shape != (len(schedules), size) or not len(weights):
        raise ArgumentError(
            f"weights must have shape (N, {size}) with a schedule for each, got {tuple(weights.shape)} "
            f"and {len(schedules)} schedules"
        )
    if any(plan.dropout for plan in schedules):
        raise ArgumentError("the PyTorch path has no dropout, whose masks it would draw on the device; got some")
    shapes = {(plan.order.shape, plan.keep) for plan in schedules}
    if len(shapes) > 1:
        raise ArgumentError(f"schedules must have equal steps, batches and snapshots, got {sorted(shapes)}")
    least, most = min(int(p.order.min()) for p in schedules), max(int(p.order.max()) for p in schedules)
    if labels.shape != images.shape[:1] or least < 0 or most >= len(images):
        got = f"{len(images)} images, {tuple(labels.shape)} labels, and {least} to {most}"
        raise ArgumentError(f"labels must have shape (n,) and orders index the n images, got {got}")
    classes = _classes(network, weights[:1].to(images.device), images[:1])
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        # On a GPU the whole process would be lost.
        raise ArgumentError(f"labels must lie in 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}")


def _classes(network: Network, weights: Tensor, image: Tensor) -> int:
    """Run the network once, so that one that cannot be run is refused here and not within a capture."""
    try:
        with torch.no_grad():
            logits = network.logits(weights, image[None], apart=True)
    except RuntimeError as error:
        raise ArgumentError(
            f"the network must take images of shape {tuple(image.shape)}, draw no random numbers (no dropout) and let "
            f"torch.func.vmap through, got: {error}"
        ) from None
    if logits.ndim != 3 or logits.shape[1] != 1:
        raise ArgumentError(f"the network must give logits (B, classes), got {tuple(logits.shape[1:])} for one image")
    return logits.shape[2]
