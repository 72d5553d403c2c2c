"""Trains one network at a time with PyTorch: any module, with batch norm, dropout, augmentation and mixed precision.

A network of real size fills a core alone, so several networks in one call would gain nothing. After every epoch the
state is written, and a killed training continues from it with the same result.

Letters: D weights per network, B images per step, S kept snapshots, n images.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hyperinit.errors import ArgumentError, ZooError
from hyperinit.layout import Layout
from hyperinit_training.machine import precision, processes
from hyperinit_training.machine.run_files import (
    load_optimizer,
    optimizer_tensors,
    prefixed,
    read_tensors,
    write_tensors,
)
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo.schedules import Schedule

PADDING = 4  # pixels at each border of an image that is cropped at random, as in He et al. 2015, section 4.2
LOOKED_AT = 500  # images in one evaluation
TIMED = 3  # steps of each format that are timed, after one that is not
COUNTER = "num_batches_tracked"  # of batches that a norm has seen
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
Data = tuple[Tensor, Tensor]  # normalised images, float32 (n, C, H, W), and labels, int64 (n,)


class Format(NamedTuple):
    """The number format of the products and the memory format of the feature maps.

    >>> str(Format(torch.bfloat16, torch.channels_last))
    'bfloat16 channels_last'
    """

    dtype: torch.dtype
    memory: torch.memory_format

    def __str__(self) -> str:
        """Return the names of both formats."""
        return f"{self.dtype} {self.memory}".replace("torch.", "")

    @classmethod
    def read(cls, text: str) -> Format:
        """Return the format whose `str` is `text`.

        Raises:
            ZooError: if there is none.

        >>> Format.read("float32 contiguous_format").dtype
        torch.float32
        """
        for form in FORMATS:
            if text == str(form):
                return form
        raise ZooError(f"a format must be float32 or bfloat16 and a memory format, got {text!r}")


MEMORIES = (torch.contiguous_format, torch.channels_last)
FORMATS = [Format(dtype, memory) for dtype in (torch.float32, torch.bfloat16) for memory in MEMORIES]


@dataclass(frozen=True)
class Task:
    """One network to train.

    Args:
        recipe: how it is trained.
        weights: starting weights, float32 (D,).
        schedule: data order and learning rates of all steps.
        epochs: number of epochs in the schedule.
        seed: of augmentation and dropout, any text.
    """

    recipe: ZooRecipe
    weights: Tensor
    schedule: Schedule
    epochs: int
    seed: str


class Trainee:
    """A copy of a module in one format, which trains and evaluates weight vectors. One thread uses it at a time.

    Args:
        module: the network. It is copied and not modified.
        layout: of the network.
        form: number and memory format.
        device: to train on.

    Raises:
        LayoutError: if the module holds parameters outside of the layout.
    """

    def __init__(self, module: nn.Module, layout: Layout, form: Format, device: torch.device) -> None:
        self.layout, self.form, self.device = layout, form, device
        self.module = copy.deepcopy(module).to(device)
        self.module.to(memory_format=form.memory)  # type: ignore[call-overload] # PyTorch's stubs lack this overload
        # Threads share PyTorch's generator, so that dropout draws from one of its own instead.
        self.generator = torch.Generator(device)
        _own_dropout(self.module, self.generator)
        names = {tensor.name for tensor in layout.tensors}
        others = {key: value.clone() for key, value in self.module.state_dict().items() if key not in names}
        # counters of norms begin at 0, and the user's own buffers as the network makes them
        self.others = {k: torch.zeros_like(v) if k.endswith(COUNTER) else v for k, v in others.items()}

    def load(self, weights: Tensor) -> None:
        """Load a weight vector (D,). All other buffers get the values that they begin with."""
        self.module.load_state_dict(self.layout.state(weights) | self.others)

    @property
    def weights(self) -> Tensor:
        """The weight vector (D,) on the CPU."""
        return self.layout.flatten(self.module.state_dict())

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (B, classes) of images (B, C, H, W), in float32."""
        with precision.mixed(self.form.dtype, self.device):
            found: Tensor = self.module(images.to(memory_format=self.form.memory))
        return found.float()

    def loss(self, images: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the cross entropy of a batch, in nats."""
        return functional.cross_entropy(self.logits(images), labels, label_smoothing=smoothing)

    def accuracy(self, weights: Tensor, data: Data) -> float:
        """Return the share of images that a weight vector (D,) classifies correctly."""
        self.load(weights)
        self.module.eval()
        right = 0
        with torch.no_grad():
            for start in range(0, len(data[1]), LOOKED_AT):
                images, labels = (part[start : start + LOOKED_AT].to(self.device) for part in data)
                right += int((self.logits(images).argmax(1) == labels).sum())
        return right / len(data[1])

    def train(self, task: Task, data: Data, file: Path, done: Callable[[], object]) -> Tensor:
        """Train one network, or continue from the state in `file`.

        Args:
            task: the network and its schedule.
            data: training images and labels.
            file: receives the state after each epoch.
            done: is called after each epoch, and once for each epoch that the file holds already.

        Returns:
            The snapshots (S, D).

        Raises:
            ArgumentError: if the network does not take the images, or the labels are not its classes.
            ZooError: if the file is damaged.
        """
        self.load(task.weights)
        optimizer = _optimizer(task.recipe, self.module)
        begun, snapshots = self._resume(file, optimizer) if file.exists() else (0, [])
        for _ in range(begun):
            done()
        steps = len(task.schedule.order) // task.epochs
        for epoch in range(begun, task.epochs):
            snapshots += self._epoch(task, range(epoch * steps, (epoch + 1) * steps), data, optimizer)
            self._save(file, epoch + 1, optimizer, snapshots)
            done()
        return torch.stack(snapshots)

    def _epoch(self, task: Task, steps: range, data: Data, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """Train for one epoch; returns the weights (D,) at the steps to keep."""
        plan, kept = task.schedule, task.schedule.keep or (len(task.schedule.order),)
        generator = seeded(f"{task.seed}/{steps.start}")  # of the augmentation
        self.generator.manual_seed(generator.initial_seed())
        self.module.train()
        snapshots = []
        for step in steps:
            for group in optimizer.param_groups:
                group["lr"] = float(plan.rates[step])
            chosen = torch.from_numpy(plan.order[step])
            images, labels = (part[chosen].to(self.device) for part in data)
            images = augmented(images, task.recipe.augment, generator)
            optimizer.zero_grad()
            self.loss(images, labels, task.recipe.smoothing).backward()
            optimizer.step()
            if step + 1 in kept:
                snapshots.append(self.weights)
        return snapshots

    def _save(self, file: Path, epoch: int, optimizer: torch.optim.Optimizer, snapshots: Sequence[Tensor]) -> None:
        state = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        state |= {f"optimizer.{key}": value for key, value in optimizer_tensors(optimizer).items()}
        state["snapshots"] = torch.stack([*snapshots, self.weights])  # the last row is not a snapshot
        write_tensors(
            file, {key: value.cpu() for key, value in state.items()}, {"epoch": str(epoch), "format": str(self.form)}
        )

    def _resume(self, file: Path, optimizer: torch.optim.Optimizer) -> tuple[int, list[Tensor]]:
        """Load the state that `_save` wrote; returns the finished epochs and the snapshots so far."""
        try:
            state, metadata = read_tensors(file)
            if metadata["format"] != str(self.form):
                raise ValueError(f"trained in {metadata['format']} and not in {self.form}")
            self.module.load_state_dict(prefixed(state, "module."))
            load_optimizer(optimizer, prefixed(state, "optimizer."))
            return int(metadata["epoch"]), list(state["snapshots"][:-1])
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise ZooError(f"{file} is damaged ({error}); delete it to train its network again") from None


def fastest_format(module: nn.Module, layout: Layout, data: Data, recipe: ZooRecipe, device: torch.device) -> Format:
    """Return the format in which a training step takes the least time. The module is not modified.

    A CPU without instructions for bfloat16 emulates it, which is many times slower, so that format is not tried there.
    All processes that train together get the format of the first one.

    Raises:
        ArgumentError: if the network does not take the images, or the labels are not its classes.
    """
    dtypes = {torch.float32, precision.fastest_on(device)}
    candidates = [form for form in FORMATS if form.dtype in dtypes]
    images, labels = (part[: recipe.batch].to(device) for part in data)
    _check(module, images[:2], data[1], device)
    took = [_seconds(Trainee(module, layout, form, device), images, labels) for form in candidates]
    best = candidates[took.index(min(took))]
    return FORMATS[int(processes.agreed(FORMATS.index(best)))]


def seeded(text: str) -> torch.Generator:
    """Return a generator whose seed is a digest of a text.

    >>> torch.rand(1, generator=seeded("a")) == torch.rand(1, generator=seeded("a"))
    tensor([True])
    """
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))


def augmented(images: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Crop and mirror images at random.

    Args:
        images: (B, C, H, W), normalised.
        how: "" for no change, "crop" for a crop of the image with 4 more pixels of zeros at each border, "crop-flip"
            for a crop and a mirror image of every other image on average.
        generator: the only source of randomness.

    Returns:
        New images of the same shape.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    if not how:
        return images
    count, height, width = len(images), *images.shape[2:]
    padded = functional.pad(images, (PADDING,) * 4)  # (B, C, H + 8, W + 8)
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 9, 9, H, W), a view
    rows, columns = torch.randint(2 * PADDING + 1, (2, count), generator=generator).to(images.device)
    found = crops[torch.arange(count, device=images.device), :, rows, columns]  # (B, C, H, W)
    if how == "crop":
        return found
    mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], found.flip(3), found)


def _optimizer(recipe: ZooRecipe, module: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of a recipe. Each step sets its learning rate."""
    weights = list(module.parameters())
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            weights, recipe.rate, recipe.momentum, nesterov=recipe.momentum > 0, weight_decay=recipe.decay, fused=True
        )
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, recipe.rate, weight_decay=recipe.decay, fused=True)


def _seconds(trainee: Trainee, images: Tensor, labels: Tensor) -> float:
    """Return the least time of a training step, without the update."""
    times = []
    for _ in range(TIMED + 1):
        began = time.perf_counter()
        trainee.loss(images, labels, 0.0).backward()
        if trainee.device.type == "cuda":
            torch.cuda.synchronize(trainee.device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _check(module: nn.Module, images: Tensor, labels: Tensor, device: torch.device) -> None:
    """Run the network once on a few images, which reports an unsuitable one before hours of training."""
    try:
        with torch.no_grad():
            logits = copy.deepcopy(module).to(device).eval()(images)
    except RuntimeError as error:
        raise ArgumentError(f"the network must take images of shape {tuple(images.shape)}, got: {error}") from None
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ArgumentError(f"the network must return logits (B, classes), got {got} for {len(images)} images")
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        got = f"{int(labels.min())} to {int(labels.max())}"
        raise ArgumentError(f"labels must lie in 0 to {logits.shape[1] - 1}, got {got}")


class _Dropout(nn.Module):
    """Dropout that draws from a given generator. It drops values, or whole channels of (B, channels, ...)."""

    def __init__(self, share: float, channels: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.share, self.channels, self.generator = share, channels, generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if self.channels else x.shape
        kept = torch.rand(shape, device=x.device, generator=self.generator) >= self.share
        return x * kept / (1 - self.share) if self.share < 1 else torch.zeros_like(x)


def _own_dropout(module: nn.Module, generator: torch.Generator) -> None:
    """Replace the dropout modules inside a module."""
    for name, part in list(module._modules.items()):  # not `named_children`, which names a shared part once
        if isinstance(part, DROPOUTS) and type(part) in DROPOUTS:
            setattr(module, name, _Dropout(float(part.p), type(part) is not nn.Dropout, generator))
        elif part is not None:
            _own_dropout(part, generator)
