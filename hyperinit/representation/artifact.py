"""One safetensors file in, one out: every field and tensor is checked before anything is built from it.

The file's metadata holds a JSON header under "hyperinit". Its field "digest" is the SHA-256 of the rest of the header
and of all tensors, so that a file that was cut off or altered is refused wherever it came from.

docs/artifact.md describes the format field by field. A trained sampler's state is in the tensors
`samplers.<method>.<key>`; a file may hold none.

Letters: N anchors, D weights per network, L latent size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hyperinit import errors, nets
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.errors import ArtifactError, HyperinitError
from hyperinit.files import headers
from hyperinit.files.atomic import replacing
from hyperinit.layout import Layout
from hyperinit.representation.card import Card
from hyperinit.samplers import METHODS, SamplerOptions, trained

FORMAT = 1
NEEDS = "0.1.0"  # the first hyperinit that reads this format
SAMPLERS = "samplers."  # how the names of trained samplers' tensors begin
ANCHORS = ("anchors.z", "anchors.score", "anchors.epoch", "anchors.weights")
MOST_ANCHORS = 1 << 14
MOST_TOKENS = 1 << 14  # that attention compares with each other


@dataclass(frozen=True)
class Header:
    """All of an artifact but its tensors."""

    card: Card
    layout: Layout
    architecture: nets.Architecture | None
    autoencoder: AutoencoderConfig
    samplers: SamplerOptions

    def to_json(self) -> dict[str, Any]:
        """Return the header as plain data."""
        return {
            "format": FORMAT,
            "needs": NEEDS,
            "card": asdict(self.card),
            "layout": self.layout.to_json(),
            "architecture": self.architecture,
            "autoencoder": asdict(self.autoencoder),
            "samplers": asdict(self.samplers),
        }


def write(path: Path, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write an artifact with its digest, whole or not at all; the caller decides the precision of each tensor.

    Raises:
        ArtifactError: if a value is not finite in that precision, or the header could not be read again; nothing is
            written.
    """
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    _check_values(ordered)
    data = header.to_json()
    text = json.dumps(data | {"digest": headers.digest(data, ordered)}, sort_keys=True)
    _header(headers.parsed(text))
    with replacing(path) as temporary:
        save_file(ordered, temporary, {"hyperinit": text})


def read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read an artifact and return its header and float32 tensors.

    Raises:
        ArtifactError: if the file is missing, cut off, altered, of another format, or holds what its header denies.
    """
    try:
        with headers.opened(path, "hyperinit") as (data, file):
            headers.check_format(data, FORMAT)
            header = _header(data)
            found = headers.shapes(file, headers.FLOATS)
            _check_room(header, found)
            _check_shapes(header, found)
            stored = {name: file.get_tensor(name) for name in found}
            if data.pop("digest") != headers.digest(data, stored):
                raise ArtifactError("its contents do not have the digest that was written with them; it was altered")
            tensors = {name: value.to(torch.float32, copy=True) for name, value in stored.items()}
        _check_values(tensors)
        _check_anchors(header, tensors)
    except FileNotFoundError:
        raise ArtifactError(f"{path} must be a hyper-representation, got no such file") from None
    except (OSError, SafetensorError, HyperinitError) as error:
        why = str(error)[: errors.LONGEST]
        raise ArtifactError(
            f"{path} must be a whole hyper-representation file, got: {why}. Copy or build it again."
        ) from None
    return header, tensors


def _header(data: dict[str, Any]) -> Header:
    known = {"format", "needs", "card", "layout", "architecture", "autoencoder", "samplers", "digest"}
    headers.check_keys(data, known - {"needs"}, known, "header")
    header = Header(
        headers.built(Card, data["card"], "card"),
        Layout.from_json(data["layout"]),
        data["architecture"],
        headers.built(AutoencoderConfig, data["autoencoder"], "autoencoder"),
        headers.built(SamplerOptions, data["samplers"], "samplers"),
    )
    header.card.check()
    return header


def _check_room(header: Header, found: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a header that calls for more than the file holds, before anything is built from it."""
    layout, config = header.layout, header.autoencoder
    if found.get("mean") != (layout.size,):
        raise ArtifactError(f"mean must have shape ({layout.size},) as the layout says, it has {found.get('mean')}")
    held = sum(math.prod(shape) for shape in found.values())
    tokens = sum(layer.neurons for layer in layout.layers)
    largest = max(config.width * size for size in (config.width, config.feedforward, config.latent))
    if config.chunk:
        chunks = config.latent_size(layout) // config.latent
        largest = max(largest, config.width * config.chunk, config.width * chunks)
        if chunks * config.chunk > max(held, 1 << 20):
            raise ArtifactError(f"{chunks} chunks of {config.chunk} weights, and the file holds {held} numbers")
        tokens = min(config.window, chunks)
    else:
        largest = max(largest, config.width * tokens * config.latent)
        if 4 * len(layout.layers) > len(found):  # each has a linear layer on both sides
            raise ArtifactError(f"{len(found)} tensors, too few for {len(layout.layers)} layers")
    if 24 * config.depth > len(found):  # both sides have that many blocks of 12 tensors and more
        raise ArtifactError(f"{len(found)} tensors, too few for a depth of {config.depth}")
    if largest > held:
        raise ArtifactError(f"a config that calls for a tensor of {largest} numbers, and the file holds {held}")
    if tokens > MOST_TOKENS:
        raise ArtifactError(f"{tokens} tokens, and this hyperinit takes at most {MOST_TOKENS} at once")


def _check_shapes(header: Header, found: Mapping[str, tuple[int, ...]]) -> None:
    """Compare all tensors with what layout and config call for, before any of them is read."""
    layout, config = header.layout, header.autoencoder
    if header.architecture is not None and Layout.of(nets.build(header.architecture, device="meta")) != layout:
        raise ArtifactError("the architecture does not have the layout beside it")
    with torch.device("meta"):
        scale = torch.ones(layout.size, device="cpu")
        model = Autoencoder(config, layout, scale, scale)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    count = (*found.get("anchors.z", ()), 0)[0]
    latent = config.latent_size(layout)
    sizes = ((count, latent), (count,), (count,), (count, layout.size))
    expected |= dict(zip(ANCHORS, sizes, strict=True))
    expected |= _expected_of_samplers(found, latent)
    wrong = [
        f"{name} {found.get(name)}, expected {shape}" for name, shape in expected.items() if found.get(name) != shape
    ]
    wrong += [f"unexpected {name}" for name in found if name not in expected]
    if wrong or not count:
        raise ArtifactError(f"tensors that do not fit the header: {'; '.join(wrong[:5]) or 'no anchors'}")
    if count > MOST_ANCHORS:
        raise ArtifactError(f"{count} anchors, and this hyperinit takes at most {MOST_ANCHORS}")


def _expected_of_samplers(found: Iterable[str], latent: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of those trained samplers of which the file holds any."""
    held = {name.removeprefix(SAMPLERS).partition(".")[0] for name in found if name.startswith(SAMPLERS)}
    expected: dict[str, tuple[int, ...]] = {}
    for method in held & METHODS.keys():
        kind = trained(method)
        shapes = kind.shapes(latent) if kind else {}
        expected |= {f"{SAMPLERS}{method}.{key}": shape for key, shape in shapes.items()}
    return expected


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if not value.is_floating_point() or not headers.is_finite(value):
            raise ArtifactError(f"tensor {name} must hold finite numbers, it does not")
    if not (tensors["std"] > 0).all():
        raise ArtifactError("tensor std must be above 0 everywhere, it is not")


def _check_anchors(header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Refuse anchors that no encoder and no validation can have given."""
    config = header.autoencoder
    ranges = {"anchors.score": (0.0, 1.0), "anchors.epoch": (0.0, math.inf)}
    if config.bounded and not config.variational:
        ranges["anchors.z"] = (-1.0, 1.0)
    for name, (least, most) in ranges.items():
        low, high = map(float, tensors[name].aminmax())
        if low < least or high > most:
            raise ArtifactError(
                f"tensor {name} must lie in [{least:g}, {most:g}], it goes from {low:.3g} to {high:.3g}"
            )
