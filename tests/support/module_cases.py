"""Networks of every kind that users have, each around the digits CNN's own layers, for the table in docs/modules.md."""

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, prune

from hyperinit.nets import cnn


def small(*first, inputs=1):
    """Layers of one's own in front of a convolution and a dense layer like the source's first and last."""
    return nn.Sequential(*first, nn.Conv2d(inputs, 8, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


class Tied(nn.Module):
    """A decoder that shares its weight with the encoder, as language models do."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(36, 20), nn.Linear(36, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.embed(x) + self.head(x)


class Attention(nn.Module):
    """Tokens, attention, a dense head."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, 36), nn.LayerNorm(36)
        self.attention, self.head = nn.MultiheadAttention(36, 4, batch_first=True), nn.Linear(36, 10)

    def forward(self, x):
        x = self.norm(self.embed(x))
        return self.head(self.attention(x, x, x)[0].mean(1))


class Scaled(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self):
        super().__init__()
        self.scale, self.body = nn.Parameter(torch.full((10,), 2.0)), cnn()

    def forward(self, x):
        return self.scale * self.body(x)


class Recurrent(nn.Module):
    """Rows of an image, one after the other."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(28, 20, batch_first=True), nn.Linear(20, 10)

    def forward(self, x):
        return self.head(self.rnn(x.squeeze(1))[0][:, -1])


class Everything(nn.Module):
    """Many kinds of layers in one network."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 5),
            nn.Conv2d(8, 8, 3, groups=2),
            nn.Conv2d(8, 8, 3, groups=8, dilation=2, bias=False),
            nn.ConvTranspose2d(8, 6, 2),
            nn.AdaptiveAvgPool2d(4),
        )
        self.volume, self.line, self.places = nn.Conv3d(1, 2, 1), nn.Conv1d(6, 6, 3), nn.Embedding(14, 6)
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 10, bias=False)

    def forward(self, x):
        x = self.volume(self.features(x)[:, None]).sum(1)
        x = self.line(x.flatten(2)).mT + self.places.weight
        return self.head(self.attention(x, x, x)[0].mean(1))


def on(part, name, **options):
    """Parametrise one part of the CNN."""
    net = cnn()
    getattr(parametrizations, name)(net[part], **options)
    return net


def old(name):
    net = cnn()
    getattr(torch.nn.utils, name)(net[0])
    return net


def frozen():
    net = cnn()
    net[0].requires_grad_(False)
    return net


def meta(*, empty):
    with torch.device("meta"):
        net = cnn()
    return net.to_empty(device="cpu") if empty else net


def compiled(*, called):
    net = torch.compile(cnn(), backend="eager")
    if called:
        net(IMAGES)
    return net


def compiled_in_place():
    net = cnn()
    net.compile(backend="eager")
    net(IMAGES)
    return net


def parts_wrapped():
    first, second, third = cnn()[:3], cnn()[3:6], cnn()[6:]
    return nn.Sequential(torch.compile(first, backend="eager"), nn.DataParallel(second), checkpoint_wrapper(third))


def pruned():
    net = cnn()
    prune.l1_unstructured(net[3], "weight", 0.5)
    return net


def overlapping():
    net = nn.Sequential(nn.Linear(36, 20), nn.Linear(20, 36))
    net[1].weight = nn.Parameter(net[0].weight.detach().T)
    return net


def lazy():
    return nn.Sequential(nn.LazyConv2d(8, 5), nn.Flatten(), nn.LazyLinear(10))


def reused():
    part = nn.Conv2d(8, 8, 5, padding=2)
    return nn.Sequential(nn.Conv2d(1, 8, 5), part, nn.Tanh(), part, nn.Flatten(), nn.Linear(8 * 24 * 24, 10))


def expanded():
    net = cnn()
    net[0].bias = nn.Parameter(torch.zeros(1).expand(8))
    return net


IMAGES = torch.zeros(2, 1, 28, 28)
TOKENS = torch.zeros(2, 5, dtype=torch.long)
CASES = {  # title: how it is made, an input
    "the source's own network": (cnn, IMAGES),
    "the same in float64": (lambda: cnn().double(), IMAGES.double()),
    "the same in bfloat16": (lambda: cnn().bfloat16(), IMAGES.bfloat16()),
    "the same in float16": (lambda: cnn().half(), IMAGES.half()),
    "nested `nn.Sequential`": (lambda: nn.Sequential(nn.Sequential(cnn()[:6]), cnn()[6:]), IMAGES),
    "layers without bias": (lambda: small(nn.Conv2d(1, 8, 5, bias=False), inputs=8), IMAGES),
    "images with three channels": (lambda: cnn(channels=3), torch.zeros(2, 3, 28, 28)),
    "a part that is used twice": (reused, IMAGES),
    "tied weights": (Tied, torch.zeros(2, 36)),
    "a frozen layer": (frozen, IMAGES),
    "a parameter of no layer": (Scaled, IMAGES),
    "BatchNorm, GroupNorm": (lambda: small(nn.BatchNorm2d(1), nn.GroupNorm(1, 1)), IMAGES),
    "LayerNorm, attention, embedding": (Attention, TOKENS),
    "grouped convolution": (lambda: small(nn.Conv2d(1, 8, 5), nn.Conv2d(8, 8, 3, groups=2), inputs=8), IMAGES),
    "depthwise convolution": (lambda: small(nn.Conv2d(1, 8, 5), nn.Conv2d(8, 8, 3, groups=8), inputs=8), IMAGES),
    "dilated convolution": (lambda: small(nn.Conv2d(1, 8, 5, dilation=2), inputs=8), IMAGES),
    "transposed convolution": (lambda: small(nn.ConvTranspose2d(1, 8, 5), inputs=8), IMAGES),
    "1-d convolution": (
        lambda: nn.Sequential(nn.Conv1d(1, 8, 5), nn.Flatten(), nn.Linear(8 * 24, 10)),
        torch.zeros(2, 1, 28),
    ),
    "3-d convolution": (
        lambda: nn.Sequential(nn.Conv3d(1, 8, 5), nn.Flatten(), nn.Linear(8 * 4**3, 10)),
        torch.zeros(2, 1, 8, 8, 8),
    ),
    "recurrent layers": (Recurrent, IMAGES),
    "many kinds in one": (Everything, IMAGES),
    "`channels_last`": (lambda: cnn().to(memory_format=torch.channels_last), IMAGES),
    "`torch.compile`, before its first call": (lambda: compiled(called=False), IMAGES),
    "`torch.compile`, after it": (lambda: compiled(called=True), IMAGES),
    "`model.compile()`": (compiled_in_place, IMAGES),
    "parts that are compiled, data parallel, checkpointed": (parts_wrapped, IMAGES),
    "`nn.DataParallel`": (lambda: nn.DataParallel(cnn()), IMAGES),
    "`parametrizations.weight_norm`": (lambda: on(0, "weight_norm"), IMAGES),
    "`parametrizations.spectral_norm`": (lambda: on(0, "spectral_norm"), IMAGES),
    "`parametrizations.orthogonal`": (lambda: on(9, "orthogonal"), IMAGES),
    "hooks of `torch.nn.utils.weight_norm`": (lambda: old("weight_norm"), IMAGES),
    "hooks of `torch.nn.utils.spectral_norm`": (lambda: old("spectral_norm"), IMAGES),
    "hooks of `torch.nn.utils.prune`": (pruned, IMAGES),
    "lazy modules": (lazy, IMAGES),
    "meta device": (lambda: meta(empty=False), None),
    "meta device, after `to_empty`": (lambda: meta(empty=True), IMAGES),
    "expanded parameters": (expanded, IMAGES),
    "tied by memory, not by parameter": (overlapping, torch.zeros(2, 36)),
}
