"""A hyper-representation of 24 fine-tuned ResNet-20s on CIFAR-10: make the zoo, train, and measure samples.

python -m benchmarks resnet20 --data FILE.npz --zoo runs/resnet20 --only-zoo    # only make the checkpoints
python -m benchmarks resnet20 --data FILE.npz --zoo runs/resnet20
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import hyperinit
from benchmarks.record import parser, save, summary
from hyperinit.nets import resnet20
from hyperinit_training.images.dataset import load_images
from hyperinit_training.machine.precision import fastest

BASE_IMAGES, BASE_EPOCHS = 10_000, 8
IMAGES, EPOCHS, MEMBERS = 4_000, 1, 24
HELD = slice(40_000, 41_000)  # training images that no network is trained on; they score checkpoints and samples
DRAWS, TEST = 5, 2_000  # networks sampled by each method, and test images


def main(argv: list[str]) -> None:
    """Make the zoo, train on it, measure samples, and write `benchmarks/results/resnet20.json`."""
    made = parser("resnet20", __doc__)
    made.add_argument("--data", type=Path, required=True, help="folder or .npz file of CIFAR-10")
    made.add_argument("--zoo", type=Path, default=Path("runs/resnet20"), help="folder of the checkpoints")
    made.add_argument("--only-zoo", action="store_true", help="make the checkpoints and stop")
    made.add_argument("--preset", default="small", help="preset of the autoencoder's training")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    images = load_images("cifar10", arguments.data)
    x, y = (torch.from_numpy(part) for part in images.normalised("train"))
    x_test, y_test = (torch.from_numpy(part[:TEST]) for part in images.normalised("test"))
    test = (x_test, y_test)
    held = (x[HELD], y[HELD])
    making = make_zoo(arguments.zoo, x, y, held)
    if arguments.only_zoo:
        return
    from hyperinit_training import train

    run = arguments.zoo.with_suffix(".run")
    resumed, start = (run / "checkpoint.safetensors").exists(), time.monotonic()
    found = train(
        arguments.zoo, model=resnet20, example_input=x[:2], run=run,
        out=arguments.zoo.with_suffix(".safetensors"), preset=arguments.preset,
        evaluate=lambda net: accuracy(net, *held),
    )  # fmt: skip
    training = time.monotonic() - start
    loader = [x[:512], x[512:1024]]
    zoo = [accuracy(_net(path), *test) for path in sorted(arguments.zoo.glob("*.safetensors"))]
    rows = {"zoo": summary(zoo)}
    for method in ("kde", "kde30", "local", "average", "noise"):
        for calibrate in (None, loader):
            scores = []
            for seed in range(DRAWS):
                generator = torch.Generator().manual_seed(seed)
                net = hyperinit.init_(resnet20(), found, method=method, calibrate=calibrate, generator=generator)
                scores.append(accuracy(net, *test))
            key = f"{method}{', calibrated' if calibrate else ''}"
            rows[key] = summary(scores)
            print(f"{key:20} {rows[key]['mean']:.2%} +- {rows[key]['std']:.2%}")
    results: dict[str, Any] = {**rows}
    results["seconds"] = {"zoo": making, "training": round(training, 1), "training was resumed": resumed}
    results["peak GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    results["recommended"] = found.card.recommended
    config = {"members": MEMBERS, "images": IMAGES, "base": [BASE_IMAGES, BASE_EPOCHS], "preset": arguments.preset}
    print(save("resnet20", "python -m benchmarks resnet20 --data FILE.npz", config, results, began, arguments.out).name)


def make_zoo(folder: Path, x: Tensor, y: Tensor, held: tuple[Tensor, Tensor]) -> float:
    """Train a base and its fine-tunes, except those whose file exists, and return the seconds of all."""
    folder.mkdir(parents=True, exist_ok=True)
    times_file = folder.with_suffix(".seconds.json")
    times: dict[str, float] = json.loads(times_file.read_text()) if times_file.exists() else {}
    base_file = folder.with_suffix(".base")
    for member in range(-1, MEMBERS):  # -1 is the base
        path = base_file if member < 0 else folder / f"{member:02}.safetensors"
        if path.exists():
            continue
        began = time.monotonic()
        generator = torch.Generator().manual_seed(member + 1)
        if member < 0:
            torch.manual_seed(0)
            net: nn.Module = resnet20()
            fit(net, x[:BASE_IMAGES], y[:BASE_IMAGES], BASE_EPOCHS, 4e-3, generator)
        else:
            net = _net(base_file)
            rows = torch.randperm(40_000, generator=generator)[:IMAGES]
            fit(net, x[rows], y[rows], EPOCHS, 1e-3, generator)
        save_file(net.state_dict(), path)
        times[path.name] = round(time.monotonic() - began, 1)
        times_file.write_text(json.dumps(times))
        print(f"{path.name} {times[path.name]} s, {accuracy(net, *held):.2%}", flush=True)
    return round(sum(times.values()), 1)


def fit(  # noqa: PLR0913
    net: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float, generator: torch.Generator
) -> None:
    """Train in place with Adam; the rate falls to zero, and images are flipped at random."""
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, weight_decay=1e-4)
    steps = epochs * (len(x) // 128)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    layout(net.train(), torch.channels_last)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(128)[: len(x) // 128]:
            images = x[rows].contiguous(memory_format=torch.channels_last)
            flipped = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
            images = torch.where(flipped, images.flip(3), images)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fastest() == torch.bfloat16):
                loss = functional.cross_entropy(net(images), y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
    layout(net.eval(), torch.contiguous_format)


def layout(net: nn.Module, order: torch.memory_format) -> None:
    """Lay the weights of convolutions out in memory in `order`, in place."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=order)


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of correct answers in evaluation mode."""
    net.eval()
    right = sum(
        int((net(part).argmax(1) == labels).sum()) for part, labels in zip(x.split(500), y.split(500), strict=True)
    )
    return right / len(x)


def _net(path: Path) -> nn.Module:
    net = resnet20()
    net.load_state_dict(load_file(path))
    return net.eval()
