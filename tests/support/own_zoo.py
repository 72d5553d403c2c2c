"""A small zoo of fine-tuned checkpoints, and its network, for tests of training on a user's checkpoints."""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional


def make_net(width=4):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(4 * width, 3),
    )  # fmt: skip


def images(seed=0, count=96):
    """Three classes: where the bright spot is."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    x = 0.3 * torch.randn(count, 1, 8, 8, generator=generator)
    for row, label in zip(x, labels.tolist(), strict=True):
        row[0, 2 * label : 2 * label + 2, 2:6] += 1.5
    return x, labels


@torch.no_grad()
def accuracy(net):
    x, y = images(seed=1)
    return (net.eval()(x).argmax(1) == y).float().mean().item()


def fit(net, seed, steps, rate):
    x, y = images()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.train().parameters(), lr=rate)
    for _ in range(steps):
        rows = torch.randint(len(x), (24,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return net.eval()


def write(folder, count=12):
    """One base, and copies of it that are trained on in different orders."""
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = fit(make_net(), 0, 60, 2e-2)
        for seed in range(count):
            net = make_net()
            net.load_state_dict(base.state_dict())
            save_file(fit(net, seed, 15, 5e-3).state_dict(), folder / f"net{seed:02}.safetensors")
    return folder
