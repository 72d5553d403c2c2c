"""Seeded mutants of small artifacts and of a small ensemble; `fuzz_run.py` loads and uses them."""

import copy
import json
import math
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from hyperinit import nets
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.files import headers
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.artifact import Header
from hyperinit.representation.card import FIGURES, Card
from hyperinit.samplers import METHODS, Anchors, SamplerOptions, gan

CONFIG = AutoencoderConfig(width=8, heads=2, feedforward=8, depth=1, latent=4)
NASTY = [
    None, -1, 0, 1, 2, 7, 3.5, 1e308, -1e308, 1e-320, 2**31, 2**53, 2**63, -(2**63) - 1, 10**400, "", "0",
    "a" * 100_000,
    "\x1b[2J\n", "\ud800", "\u202e", [], {}, [[]], [{}], {"a": {"b": []}}, True, False, float("nan"), float("inf"),
    [0] * 10_000, [[None]] * 5_000, "kde", "gan", "noise", "uniform", "average", "local30", 65536, 10**6, 10**9,
]  # fmt: skip
NUMBERS = [math.nan, math.inf, -math.inf, 3e38, -3e38, 65504.0, 1e30, 1e-45, 1e-38, 0.0, -1.0]
DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8,
    torch.int64, torch.bool, torch.complex64,
]  # fmt: skip
LENGTHS = [0, 1, 2, 7, 2**20, 2**20 + 1, 10**8, 10**8 + 1, 2**31, 2**63, 2**64 - 1]


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3))


def normed():
    """A network with norms, which no description can rebuild."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(18, 3), nn.LayerNorm(3),
        )  # fmt: skip


VARIANTS = {  # of the artifact: its network and the fields of its config that differ
    "artifact": (network, {}),
    "chunked": (normed, {"chunk": 5, "window": 6, "halo": 2}),
    "reference": (normed, {"block": "reference", "compression": "flatten", "variational": True, "standardise": False}),
}


def small(kind="artifact"):
    """A hyper-representation of some kilobytes with anchors, figures and every trained sampler."""
    draw = torch.Generator().manual_seed(0)
    make, changes = VARIANTS[kind]
    net, config = make(), replace(CONFIG, **changes)
    layout = Layout.of(net)
    weights = torch.randn(10, layout.size, generator=draw)
    autoencoder = Autoencoder(config, layout, weights.mean(0), weights.std(0))
    for value in autoencoder.parameters():
        value.data.normal_(std=0.2, generator=draw)
    z = autoencoder.eval().encode(weights).detach()
    figures = dict(zip(FIGURES, (0.9, 0.01, 50, 1000, 5.0, 0.5, 0.1), strict=True))
    card = Card(
        "small", "a source to damage", "MIT", "nobody",
        {"size": 8, "channels": 1, "mean": [0.5], "std": [0.25]},
        {"images": {"name": "noise", "train": 100}, "models": 12, "anchors": 10, "date": "2024-01-01"},
        "kde30", {"kde30": figures, "zoo": dict(figures)},
    )  # fmt: skip
    described = nets.describe(net) if make is network else None
    header = Header(card, layout, described, config, SamplerOptions(neighbours=4))
    shapes = gan.LatentGAN.shapes(config.latent_size(layout))
    states = {
        name: {key: torch.randn(shape, generator=draw) * 0.1 for key, shape in shapes.items()}
        for name in METHODS
        if METHODS[name].sampler is gan.LatentGAN
    }
    return HyperRepresentation(
        header, autoencoder, Anchors(z, torch.linspace(0.9, 0.5, 10), torch.ones(10), weights), states
    )


# Mutants. Each function takes a random number generator and a file's bytes and returns other bytes.


def cut(raw):
    """Header text and the rest of a safetensors file."""
    end = 8 + int.from_bytes(raw[:8], "little")
    return raw[8:end].decode(), raw[end:]


def glue(text, body):
    head = text.encode("utf-8", "surrogatepass")
    return len(head).to_bytes(8, "little") + head + body


def opened(raw):
    """Metadata key, JSON header and tensors of a whole file."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        Path(file.name).write_bytes(raw)
        with safe_open(file.name, "pt") as found:
            [(key, text)] = found.metadata().items()
            tensors = {name: found.get_tensor(name).clone() for name in sorted(found.keys())}
    return key, json.loads(text), tensors


def sealed(key, header, tensors, *, seal=True):
    """Bytes of a file. With `seal`, its digest is renewed, so that only the other checks can find the damage."""
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    if seal:
        header.pop("digest", None)
        header = header | {"digest": headers.digest(header, tensors)}
    return save(tensors, {key: json.dumps(header)})


def flip(rng, raw):
    changed = bytearray(raw)
    end = rng.choice([8, 8 + int.from_bytes(raw[:8], "little"), len(raw)])
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def shorten(rng, raw):
    end = rng.choice([rng.randrange(len(raw)), rng.randrange(16), len(raw) - rng.randrange(1, 9)])
    return raw[:end] if rng.random() < 0.7 else raw + raw[: rng.randrange(1, 4000)]


def lie(rng, raw):
    """A false length of the header."""
    return rng.choice([*LENGTHS, rng.randrange(len(raw)), len(raw) - 8]).to_bytes(8, "little") + raw[8:]


def readdress(rng, raw):
    """Offsets, dtypes, shapes, keys and nesting of the safetensors header itself."""
    text, body = cut(raw)
    head = json.loads(text)
    name = rng.choice([key for key in head if key != "__metadata__"])
    entry, kind = head[name], rng.randrange(7)
    if kind == 0:
        entry["dtype"] = rng.choice(
            ["F64", "F32", "F16", "BF16", "F8_E4M3", "F4", "F8_E8M0", "I64", "BOOL", "C64", "X", 1]
        )
    elif kind == 1:
        entry["shape"] = rng.choice([[], [0], [2**40], [2**32, 2**32], [1] * 1000, [-1], [1.5], [2**64], 0, None, "a"])
    elif kind == 2:
        entry["data_offsets"] = rng.choice([[0, 0], [0, 2**63], [10, 2], [-1, 4], [0, len(body)], [0], [], None, 2**64])
    elif kind == 3:
        other = rng.choice([key for key in head if key != "__metadata__"])
        head[name], head[other] = head[other], head[name]
    elif kind == 4:
        extra = json.dumps(rng.choice([name, "__metadata__", "more"])) + ":" + json.dumps(rng.choice([entry, {}, None]))
        return glue(rng.choice(["{" + extra + "," + text[1:], text[:-1] + "," + extra + "}"]), body)
    elif kind == 5:
        depth = rng.choice([10, 200, 100_000])
        return glue(text[:-1] + ',"deep":' + "[" * depth + "]" * depth + "}", body)
    else:
        head["__metadata__"] = rng.choice([None, {}, [], {"hyperinit": 1}, {"hyperinit": "{}"}, {"": ""}])
    return glue(json.dumps(head), body)


def retensor(rng, raw):
    """Swapped, renamed, removed, doubled, transposed, cut and converted tensors."""
    key, header, tensors = opened(raw)
    for _ in range(rng.choice([1, 1, 2])):
        one, two = rng.choice(sorted(tensors)), rng.choice(sorted(tensors))
        kind, value = rng.randrange(8), tensors[one]
        if kind == 0:
            tensors[one], tensors[two] = tensors[two], tensors[one]
        elif kind == 1:
            tensors[rng.choice([one + "x", "", "a" * 5000, "samplers.gan.9.weight", "\x1b", two])] = tensors.pop(one)
        elif kind == 2 and len(tensors) > 2:
            del tensors[one]
        elif kind == 3:
            tensors[rng.choice([two, "more", "samplers.kde.bias", "00.weight"])] = value
        elif kind == 4:
            tensors[one] = rng.choice([value.mT if value.ndim > 1 else value[:, None], value.flatten(), value[None]])
        elif kind == 5:
            tensors[one] = rng.choice([value[:0], value[:1], torch.cat([value, value])] if value.ndim else [value])
        elif kind == 6:
            tensors[one] = value.to(rng.choice(DTYPES))
        else:
            same = [name for name in tensors if tensors[name].shape == value.shape]
            tensors[one] = tensors[rng.choice(sorted(same))].clone()
    return sealed(key, header, tensors, seal=rng.random() < 0.8)


def revalue(rng, raw):
    """Numbers that are not finite, huge or tiny."""
    key, header, tensors = opened(raw)
    name, number = rng.choice(sorted(tensors)), rng.choice(NUMBERS)
    value = tensors[name].to(rng.choice([tensors[name].dtype, torch.float32]))
    number = torch.tensor(number, dtype=torch.float64).to(value.dtype)
    if rng.random() < 0.5:
        value.view(-1)[rng.randrange(value.numel())] = number
    else:
        value = value * number if rng.random() < 0.5 else number.expand_as(value)
    return sealed(key, header, tensors | {name: value}, seal=rng.random() < 0.9)


def places(value):
    """Every object and list inside a JSON value, with each of its keys."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def rewrite(rng, raw):
    """Leaves, objects and lists of the JSON header: replaced, removed, added, swapped."""
    key, header, tensors = opened(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        inside, where = rng.choice([place for place in places(header) if place[1] != "digest"])
        kind = rng.randrange(10)
        if kind < 6:
            inside[where] = copy.deepcopy(rng.choice(NASTY))
        elif kind == 6:
            del inside[where]
        elif kind == 7 and isinstance(inside, dict):
            inside[rng.choice(["more", "", "\x00", "a" * 5000])] = copy.deepcopy(rng.choice(NASTY))
        elif kind == 8 and type(inside[where]) in (int, float) and abs(inside[where]) < 2**63:
            inside[where] += rng.choice([1, -1, 0.5, 8, 100])
        else:
            other, there = rng.choice(list(places(header)))
            inside[where] = copy.deepcopy(other[there])
    return sealed(key, header, tensors, seal=rng.random() < 0.9)


def rescale(rng, raw):
    """Several tensors made huge or tiny together, so that their products overflow."""
    key, header, tensors = opened(raw)
    for name in rng.sample(sorted(tensors), rng.choice([2, 5, len(tensors)])):
        if tensors[name].is_floating_point() and name not in ("anchors.score", "anchors.epoch"):
            tensors[name] = (tensors[name].float() * rng.choice([1e4, 1e18, 1e30, 1e36, 1e-30])).clamp(-3.4e38, 3.4e38)
    return sealed(key, header, tensors)


def relayout(rng, raw):
    """Layouts that lie about a network: kinds, axes, names, their order, groups and buffers."""
    key, header, tensors = opened(raw)
    if "layout" not in header:  # an ensemble has none
        return rewrite(rng, raw)
    if rng.random() < 0.8:
        header["architecture"] = None  # otherwise the layout is compared with the architecture's
    layers = header["layout"]["layers"]
    for _ in range(rng.choice([1, 1, 2, 3])):
        one, two = rng.choice(layers), rng.choice(layers)
        first, second = rng.choice(one["tensors"]), rng.choice(two["tensors"])
        rng.choice(LIES)(rng, layers, one, two, first, second)
    return sealed(key, header, tensors)


def _reshape(rng, layers, one, two, first, second):
    size = math.prod(first["shape"][1:])
    tails = [[size], [size, 1], [1, size], [size, 1, 1], [1, 1, size, 1], [size] if size > 1 else []]
    first["shape"] = first["shape"][:1] + rng.choice(tails)
    first["groups"] = [None] * len(first["shape"])


def _swap(rng, layers, one, two, first, second):
    left, right = rng.choice([(one, two), (first, second)])
    left["name"], right["name"] = right["name"], left["name"]


def _set(rng, layers, one, two, first, second):
    endings = [".weight", ".bias", ".running_var", ".running_mean", ".x", ""]
    changes = [
        (one, "kind", rng.choice(["conv1d", "conv2d", "conv3d", "linear", "norm"])),
        (first, "groups", [rng.choice([None, "0", "1", "x"]) for _ in first["shape"]]),
        (first, "buffer", rng.random() < 0.5),
        (first, "name", one["name"] + rng.choice(endings)),
    ]
    inside, key, value = rng.choice(changes)
    inside[key] = value


def _shuffle(rng, layers, one, two, first, second):
    rng.shuffle(rng.choice([layers, one["tensors"]]))


LIES = [_reshape, _swap, _set, _set, _set, _shuffle]
MUTATORS = [flip, shorten, lie, readdress, retensor, revalue, rewrite, rewrite, rewrite, rescale, relayout]


def mutant(raw, place):
    """Mutant number `place`: the mutator's name and the bytes."""
    rng = random.Random(place)
    mutate = rng.choice(MUTATORS)
    return mutate.__name__, mutate(rng, raw)


def seed_file(kind, path):
    """Write the whole file of which mutants are made."""
    if kind in VARIANTS:
        small(kind).save(path)
    else:
        Ensemble([network(seed) for seed in range(3)]).save(path)
