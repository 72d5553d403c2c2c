"""Trains and evaluates many networks of one architecture side by side with PyTorch, on a GPU or the CPU.

All weights are one tensor (N, D). A step is one forward and backward pass of all networks (`torch.func.vmap`) and one
Adam update of that tensor. All tensors of a step, with the number of the step, keep their places in memory. So a GPU
captures the step once as a CUDA graph, and then the host launches only one graph per step.

Networks are independent of each other, and no random number is drawn here. With equal schedules and starting weights a
network equals that of `compiled_cnn.train` up to rounding.

Letters: N networks, D weights of each, B images per step, S kept snapshots, n images.
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
CHUNK = 512  # steps whose data order and rates are on the device at the same time
LOOKED_AT = 16384  # images times networks in one evaluation
WARM_UP = 3  # steps before a capture, in which PyTorch chooses kernels and allocates memory
Data = tuple[Tensor, Tensor]  # normalised images, float32 (n, C, H, W), and labels, int64 (n,)


class Network:
    """One architecture that runs with many weight vectors in one call.

    Args:
        make: makes the network. Its weights are not used, and the global generator is not changed.

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
                "use a norm without running statistics, such as GroupNorm"
            )

    def logits(self, weights: Tensor, images: Tensor, *, apart: bool) -> Tensor:
        """Return the logits (N, B, classes) of networks (N, D).

        The images are (N, B, C, H, W) if `apart`. Otherwise all networks run on the same (B, C, H, W).
        """
        run = vmap(self._one, in_dims=(0, 0 if apart else None))
        found: Tensor = run(self.layout.state(weights), images)
        return found

    def _one(self, state: dict[str, Tensor], images: Tensor) -> Tensor:
        found: Tensor = functional_call(self.module, state, (images,))
        return found


def train(network: Network, weights: Tensor, data: Data, schedules: Sequence[Schedule]) -> tuple[Tensor, Tensor]:
    """Train networks, each with its own schedule and a new Adam, on the device of the data.

    Args:
        network: the architecture. It has its own activation, so those of the schedules are ignored.
        weights: starting weights, float32 (N, D), which are not modified.
        data: training images and labels, on the device to train on.
        schedules: one per network, with equal steps, equal numbers of images per step, and equal `keep`.

    Returns:
        The snapshots (N, S, D) and the loss of every step (N, steps), in nats, both on the CPU.

    Raises:
        ArgumentError: if a shape, a label or an index is wrong, or a schedule or the network has dropout.
    """
    _check(network, weights, data, schedules)
    device = data[0].device
    with exact(device):
        stack = _Stack(network, weights.to(device), data, schedules[0].order.shape[1])
        advance = stack.step if device.type == "cpu" else _captured(stack)
        return _run(stack, schedules, advance)


@torch.no_grad()
def accuracy(network: Network, weights: Tensor, data: Data) -> NDArray[np.float64]:
    """Return the accuracies, float64 (N,), of networks (N, D) on images (n, C, H, W) with labels (n,)."""
    images, labels = data
    right = []
    with exact(images.device):
        for some in weights.to(images.device).split(256):
            parts = zip(images.split(LOOKED_AT // len(some)), labels.split(LOOKED_AT // len(some)), strict=True)
            counts = [(network.logits(some, x, apart=False).argmax(2) == y).sum(1) for x, y in parts]
            right.append(torch.stack(counts).sum(0))
    return torch.cat(right).cpu().double().numpy() / len(labels)


def exact(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which a GPU's convolutions are float32 and deterministic. It has no effect on a CPU."""
    if device.type == "cpu":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


class _Stack:
    """The state of networks in training, and one step of all of them.

    A step never synchronises with the host, and it changes its tensors in place. A CUDA graph needs both: it repeats
    the captured kernels on the same memory.
    """

    def __init__(self, network: Network, weights: Tensor, data: Data, batch: int) -> None:
        count, device = len(weights), weights.device
        self.network, (self.images, self.labels) = network, data
        self.weights, self.first, self.second = weights.clone(), torch.zeros_like(weights), torch.zeros_like(weights)
        # The number of the step within the tables is on the device, because a graph takes no arguments.
        self.at = torch.zeros(1, dtype=torch.int64, device=device)
        self.order = torch.zeros(CHUNK, count, batch, dtype=torch.int32, device=device)
        self.rates = torch.zeros(CHUNK, count, 1, device=device)
        self.roots = torch.zeros(CHUNK, 1, 1, device=device)
        self.losses = torch.zeros(CHUNK, count, device=device)
        self.decay = torch.zeros(count, 1, device=device)

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The tensors that a step changes and the next one reads."""
        return self.weights, self.first, self.second, self.at

    def load(self, schedules: Sequence[Schedule], start: int) -> int:
        """Fill the tables for at most CHUNK steps from `start` on; returns their number."""
        part = slice(start, start + CHUNK)
        order = np.stack([plan.order[part] for plan in schedules], axis=1)  # (steps, N, B)
        rates = np.stack([plan.rates[part] for plan in schedules], axis=1)
        steps = np.arange(start + 1, start + 1 + len(order), dtype=np.float64)[:, None]
        sizes = rates / (1 - BETA1**steps)  # Adam's bias corrections, (steps, N) and (steps, 1), in double precision
        self.order[: len(order)] = torch.from_numpy(order.astype(np.int32))
        self.rates[: len(order), :, 0] = torch.from_numpy(sizes.astype(np.float32))
        self.roots[: len(order), :, 0] = torch.from_numpy(((1 - BETA2**steps) ** -0.5).astype(np.float32))
        self.decay[:, 0] = torch.tensor([plan.decay for plan in schedules])
        self.at.zero_()
        return len(order)

    def step(self) -> None:
        """Train all networks for one step, with the update of `torch.optim.Adam`."""
        rows = self.order.index_select(0, self.at)[0].long()  # (N, B)
        weights = self.weights.detach().requires_grad_()
        logits = self.network.logits(weights, self.images[rows], apart=True)  # (N, B, classes)
        losses = functional.cross_entropy(logits.flatten(0, 1), self.labels[rows].flatten(), reduction="none")
        losses = losses.view(rows.shape).mean(1)
        # Each loss depends on one row of the weights, so the gradient of the sum holds the gradient of each network.
        (gradient,) = torch.autograd.grad(losses.sum(), weights)  # (N, D)
        # Adam works weight by weight, so one update of (N, D) is that of N optimizers. Rates and decay are (N, 1).
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
    """Capture the step as a CUDA graph, and return what replays it. The state is the same before and after."""
    with torch.cuda.device(stack.weights.device):
        before = [tensor.clone() for tensor in stack.state]

        def undo() -> None:
            for tensor, value in zip(stack.state, before, strict=True):
                tensor.copy_(value)

        # PyTorch requires warm-up on a side stream: a capture must not choose kernels or allocate their workspaces.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                stack.step()
                undo()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # records the step and does not run it, so there is nothing to undo
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
        raise ArgumentError("schedules must have no dropout, whose masks would depend on the device, got some")
    shapes = {(plan.order.shape, plan.keep) for plan in schedules}
    if len(shapes) > 1:
        got = ", ".join(map(str, sorted(shapes)))
        raise ArgumentError(f"schedules must have equal steps, batches and snapshots, got {got}")
    least, most = min(int(p.order.min()) for p in schedules), max(int(p.order.max()) for p in schedules)
    if labels.shape != images.shape[:1] or least < 0 or most >= len(images):
        got = f"{len(images)} images, {tuple(labels.shape)} labels, and {least} to {most}"
        raise ArgumentError(f"labels must have shape (n,) and orders index the n images, got {got}")
    classes = _classes(network, weights[:1].to(images.device), images[:1])
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        # On a GPU a wrong label is an assertion that makes CUDA unusable for the rest of the process.
        raise ArgumentError(f"labels must lie in 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}")


def _classes(network: Network, weights: Tensor, image: Tensor) -> int:
    """Return the number of classes by running the network once, which reports an unsuitable one before a capture.

    Raises:
        ArgumentError: if the network cannot run, or returns no logits.
    """
    try:
        with torch.no_grad():
            logits = network.logits(weights, image[None], apart=True)
    except RuntimeError as error:
        raise ArgumentError(
            f"the network must take images of shape {tuple(image.shape)}, draw no random numbers (no dropout) and "
            f"support torch.func.vmap, got: {error}"
        ) from None
    if logits.ndim != 3 or logits.shape[1] != 1:
        raise ArgumentError(f"the network must return logits (B, classes), got {tuple(logits.shape[1:])} for one image")
    return logits.shape[2]
