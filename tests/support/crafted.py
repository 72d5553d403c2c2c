"""Small files that would take much memory or time to load; `fuzz_run.py crafted` loads them."""

import json

import torch
from fuzzing import CONFIG, cut, glue, opened, sealed, small
from torch import nn

from hyperinit.autoencoder import Autoencoder
from hyperinit.files.headers import MOST_HEADER, MOST_VALUES
from hyperinit.layout import MOST_LAYERS, Layout

ROOM = MOST_HEADER - 20_000  # bytes of a header that are left beside the header of the small artifact


def filled(item):
    """Lists that repeat a piece of JSON: as often as fits into the header's bytes, and as often as its values allow."""
    most = ROOM // (len(json.dumps(item, ensure_ascii=False).encode()) - 1)
    values = sum(map(item.count, "[{,")) + 1
    for count in (most, min(most, (MOST_VALUES - 1000) // values)):
        yield count, "[" + ",".join([item] * count) + "]"


def with_metadata(raw, text):
    """The file with another JSON text in its metadata, byte by byte as given."""
    header, body = cut(raw)
    head = json.loads(header) | {"__metadata__": {"hyperinit": text}}
    return glue(json.dumps(head, ensure_ascii=False), body)


def many_objects(raw):
    """JSON whose Python objects are far larger than its text, in a field without further checks."""
    for item in ("[]", "{}", "0.5", '{"":0}', '"\U0001f40d"', "[[[[[]]]]]"):
        for count, items in filled(item):
            text = json.dumps(opened(raw)[1]).replace('"models": 12', '"models": 12, "more": ' + items)
            yield f"a header with {item!a} {count} times", with_metadata(raw, text)
    yield "a header of nested lists", with_metadata(raw, "[" * ROOM)
    yield "a number of a million digits", with_metadata(raw, '{"format": ' + "1" * ROOM + "}")
    yield "a name of a million characters", with_metadata(raw, '{"' + "a" * ROOM + '": 1}')


def many_tensors(raw):
    text, body = cut(raw)
    end = len(body)
    entry = {"dtype": "F16", "shape": [0], "data_offsets": [end, end]}
    head = json.loads(text) | {f"{place:x}": entry for place in range(ROOM // 70)}
    yield "as many tensors as a header can name", glue(json.dumps(head, separators=(",", ":")), body)
    head = json.loads(text)
    head["mean"]["shape"] = [1] * (ROOM // 3)
    yield "a tensor of a million axes", glue(json.dumps(head), body)


def long_headers(raw):
    for length in (MOST_HEADER + 1, 10**8, 10**9, 2**63, 2**64 - 1):
        yield f"a header of {length} bytes as its length states", length.to_bytes(8, "little") + raw[8:]
    yield "a header of 8 MiB", glue(" " * (8 << 20), b"")


def layered(sizes):
    """The JSON of a layout of linear layers, for pairs of inputs and outputs."""
    layers = [(f"{place}", inputs, outputs) for place, (inputs, outputs) in enumerate(sizes)]
    return {
        "layers": [
            {
                "name": name,
                "kind": "linear",
                "tensors": [{"name": f"{name}.weight", "shape": [b, a], "groups": [None, None]}],
            }
            for name, a, b in layers
        ]
    }


def headers(raw):
    """Configs, layouts and architectures that do not fit the tensors in the file."""
    sizes = {"width": 65536, "feedforward": 65536, "latent": 65536}
    tanh = ["tanh", {}]
    for name, edit in {
        "a huge autoencoder": {"autoencoder": sizes},
        "a deep autoencoder": {"autoencoder": {"depth": 10**6}},
        "a deep autoencoder within the limit": {"autoencoder": {"depth": 64}},
        "a huge autoencoder of chunks": {"autoencoder": sizes | {"chunk": 65536}},
        "a window that is all halo": {"autoencoder": {"chunk": 1, "window": 65535, "halo": 32767}},
        "a huge layout": {"layout": layered([(2**40, 2**40)])},
        "a layout of many layers": {"layout": layered([(1, 1)] * MOST_LAYERS)},
        "a layout of too many layers": {"layout": layered([(1, 1)] * (MOST_LAYERS + 1))},
        "an architecture of many steps": {"architecture": [tanh] * 1024},
        "an architecture of too many steps": {"architecture": [tanh] * 50_000},
        "a huge architecture": {"architecture": [["linear", {"in_features": 2**30, "out_features": 2**30}]]},
        "a huge residual network": {
            "architecture": [["resnet", {"channels": 2**26, "classes": 2**26, "blocks": 64, "width": 2**26}]]
        },
        "a residual network of many blocks": {
            "architecture": [["resnet", {"channels": 1, "classes": 3, "blocks": 64, "width": 1}]]
        },
        "a huge kernel": {
            "architecture": [["conv2d", {"in_channels": 2**30, "out_channels": 2**30, "kernel_size": [2**30, 2**30]}]]
        },
    }.items():
        key, header, tensors = opened(raw)
        for field, value in edit.items():
            header[field] = header[field] | value if field == "autoencoder" else value
        yield name, sealed(key, header, tensors)


def whole(raw, config, layout, count, dtype):
    """A valid file with another config and layout, `count` anchors, and all tensors of one dtype."""
    key, header, tensors = opened(raw)
    ones = torch.ones(layout.size)
    tensors = {name: value for name, value in tensors.items() if name.startswith("samplers.")}
    header["autoencoder"] |= config
    header |= {"layout": layout.to_json(), "architecture": None}
    model = Autoencoder(type(CONFIG)(**header["autoencoder"]), layout, ones, ones)
    latent = model.config.latent_size(layout)
    if latent != CONFIG.latent:
        tensors = {}
    tensors |= model.state_dict()
    tensors |= {"anchors.z": torch.zeros(count, latent), "anchors.weights": torch.zeros(count, layout.size)}
    tensors |= {"anchors.score": torch.ones(count), "anchors.epoch": torch.ones(count)}
    return sealed(key, header, {name: value.to(dtype) for name, value in tensors.items()})


def large(raw):
    """Large valid files: they load within the bound, or exceed a limit and are refused."""
    narrow = Layout.of(nn.Linear(199, 10))
    for dtype in (torch.float8_e5m2, torch.float16, torch.float32):
        yield f"many anchors in {dtype}", whole(raw, {}, narrow, 4000, dtype)
    yield "too many anchors", whole(raw, {}, Layout.of(nn.Linear(1, 1)), (1 << 14) + 1, torch.float16)
    wide = Layout.of(nn.Linear(999, 1000))
    yield "one large network in chunks", whole(raw, {"chunk": 4000}, wide, 2, torch.float8_e5m2)
    layers = Layout.from_json(layered([(1, 1)] * MOST_LAYERS))
    yield "many layers, and all that they call for", whole(raw, {}, layers, 10, torch.float16)
    yield "small layers in large chunks", whole(raw, {"chunk": 2000}, layers, 10, torch.float16)
    yield "smaller layers in larger chunks", _enlarged(whole(raw, {"chunk": 2000}, layers, 10, torch.float16))
    yield "all the depth that is allowed", whole(raw, {"depth": 64}, narrow, 10, torch.float16)


def padded(raw):
    """Chunks that are nearly all padding: as many weights as the file has numbers, in every dtype."""
    layers = Layout.from_json(layered([(1, 1)] * 16))
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float32, torch.float64):
        yield f"padded chunks in {dtype}", whole(raw, {"chunk": 65536}, layers, 2, dtype)


def slow(raw):
    """Files of some hundred kilobytes whose networks cost much memory or time to code, to draw or to compare."""
    eighth = torch.float8_e5m2
    narrow = {"width": 2, "heads": 1, "feedforward": 4, "latent": 1}
    wide = Layout.of(nn.Linear(1, 16_000, bias=False))
    yield "one attention over 16,000 tokens", whole(raw, narrow, wide, 2, eighth)
    yield (
        "many heads over 4,000 tokens",
        whole(raw, {"width": 64, "heads": 64, "latent": 1}, Layout.of(nn.Linear(1, 4000, bias=False)), 2, eighth),
    )
    yield "a deep attention over 16,000 tokens", whole(raw, narrow | {"depth": 64}, wide, 2, eighth)
    long = Layout.of(nn.Linear(200_000, 1, bias=False))
    chunks = narrow | {"chunk": 1, "window": 64, "halo": 28}
    yield "many chunks in overlapping windows", whole(raw, chunks | {"depth": 4}, long, 2, eighth)
    yield "many deep chunks in overlapping windows", whole(raw, chunks | {"depth": 64}, long, 2, eighth)
    yield "huge windows", whole(raw, chunks | {"window": 16_384, "halo": 7000}, long, 2, eighth)
    one = Layout.of(nn.Linear(2, 1))
    key, header, tensors = opened(whole(raw, {}, one, 1 << 14, eighth))
    yield "as many anchors as are allowed", sealed(key, header, dict(tensors))
    header["samplers"]["neighbours"] = 10**9
    yield "all anchors are neighbours of each other", sealed(key, header, tensors)


def _enlarged(raw):
    """Each layer of one weight takes a chunk of 65536."""
    key, header, tensors = opened(raw)
    header["autoencoder"]["chunk"] = 65536
    tensors["encoder.coder.enter.weight"] = torch.zeros(8, 65536).half()
    tensors["decoder.coder.leave.weight"] = torch.zeros(65536, 8).half()
    tensors["decoder.coder.leave.bias"] = torch.zeros(65536).half()
    return sealed(key, header, tensors)


def artifacts(path):
    """Yield the name and bytes of every crafted artifact."""
    small().save(path)
    raw = path.read_bytes()
    for make in (many_objects, many_tensors, long_headers, headers, large, padded):
        yield from make(raw)


def costly(path):
    """Yield the name and bytes of every artifact that costs much to use."""
    small().save(path)
    yield from slow(path.read_bytes())


def ensembles():
    """Yield the name and bytes of every crafted ensemble."""
    linear = ["linear", {"in_features": 1, "out_features": 1, "bias": False}]
    key, base = "hyperinit-ensemble", {"format": 1, "combine": "logits"}
    ones = {f"{index}.0.weight": torch.ones(1, 1) for index in range(5000)}
    for name, count, architecture in (
        ("many members", 5000, [linear]),
        ("many members of many modules", 5000, [linear] + [["tanh", {}]] * 1000),
        ("huge members", 5000, [["linear", {"in_features": 2**30, "out_features": 2**30}]]),
        ("more members than tensors", 2**62, [linear]),
    ):
        yield name, sealed(key, base | {"n": count, "architecture": architecture}, ones)
