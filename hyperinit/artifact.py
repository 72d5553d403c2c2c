"""One safetensors file in, one out: every field and tensor is checked before anything is built from it.

The file's metadata holds a JSON header under "hyperinit". Its field "digest" is the SHA-256 of the rest of the header
and of all tensors, so that a file that was cut off or altered is refused wherever it came from.

A trained sampler's state is in the tensors `samplers.<method>.<key>`; a file may hold none.

Letters: N anchors, D weights per network, L latent size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hyperinit import nets
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.card import Card
from hyperinit.errors import ArtifactError, HyperinitError
from hyperinit.files import replacing
from hyperinit.layout import Layout
from hyperinit.samplers import METHODS, SamplerOptions, trained

FORMAT = 1
SAMPLERS = "samplers."  # how the names of trained samplers' tensors begin
ANCHORS = ("anchors.z", "anchors.score", "anchors.epoch", "anchors.weights")


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
            "card": asdict(self.card),
            "layout": self.layout.to_json(),
            "architecture": self.architecture,
            "autoencoder": asdict(self.autoencoder),
            "samplers": asdict(self.samplers),
        }


def write(path: Path, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write an artifact with its digest, whole or not at all; the caller decides the precision of each tensor.

    Raises:
        ArtifactError: if a value is not finite in that precision; nothing is written.
    """
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    _check_values(ordered)
    data = header.to_json()
    text = json.dumps(data | {"digest": _digest(data, ordered)}, sort_keys=True)
    with replacing(path) as temporary:
        save_file(ordered, temporary, {"hyperinit": text})


def read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read an artifact and return its header and float32 tensors.

    Raises:
        ArtifactError: if the file is missing, cut off, altered, of another format, or holds what its header denies.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            names = sorted(file.keys())
            data = _parsed(metadata.get("hyperinit"))
            digest = data.pop("digest", None)
            header = _header(data)
            _check_shapes(header, {name: tuple(file.get_slice(name).get_shape()) for name in names})
            tensors = {name: file.get_tensor(name) for name in names}
        if digest != _digest(data, tensors):
            raise ArtifactError("its contents do not have the digest that was written with them; it was altered")
        _check_values(tensors)
    except FileNotFoundError:
        raise ArtifactError(f"{path} must be a hyper-representation, got no such file") from None
    except (OSError, SafetensorError, HyperinitError) as error:
        raise ArtifactError(
            f"{path} must be a whole hyper-representation file, got: {error}. Copy or build it again."
        ) from None
    return header, {name: value.float() for name, value in tensors.items()}


def _parsed(text: str | None) -> dict[str, Any]:
    """Read the header's JSON and check its format, before any other field is believed."""
    if text is None:
        raise ArtifactError("a safetensors file without a hyperinit header")
    try:
        data = json.loads(text)
        found = data["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"a damaged header: {type(error).__name__}: {error}") from None
    if type(found) is not int or found != FORMAT:
        raise ArtifactError(
            f"format {found!r}, and this hyperinit reads format {FORMAT}; install the one that wrote it"
        )
    return dict(data)


def _header(data: dict[str, Any]) -> Header:
    try:
        header = Header(
            Card(**data["card"]),
            Layout.from_json(data["layout"]),
            data["architecture"],
            AutoencoderConfig(**data["autoencoder"]),
            SamplerOptions(**data["samplers"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, HyperinitError):
            raise
        raise ArtifactError(f"a damaged header: {type(error).__name__}: {error}") from None
    header.card.check()
    return header


def _check_shapes(header: Header, found: dict[str, tuple[int, ...]]) -> None:
    """Compare all tensors with what layout and config call for, before any of them is read."""
    layout, config = header.layout, header.autoencoder
    if header.architecture is not None and Layout.of(nets.build(header.architecture, device="meta")) != layout:
        raise ArtifactError("the architecture does not have the layout beside it")
    if config.depth > len(found):  # every block holds tensors
        raise ArtifactError(f"{len(found)} tensors, too few for a depth of {config.depth}")
    if found.get("mean") != (layout.size,):  # nothing of this size is made unless the file holds one
        raise ArtifactError(f"mean must have shape ({layout.size},) as the layout says, it has {found.get('mean')}")
    with torch.device("meta"):
        scale = torch.ones(layout.size, device="cpu")
        model = Autoencoder(config, layout, scale, scale)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    count = found.get("anchors.z", (0,))[0]
    latent = config.latent_size(layout)
    shapes = ((count, latent), (count,), (count,), (count, layout.size))
    expected |= dict(zip(ANCHORS, shapes, strict=True))
    expected |= _expected_of_samplers(found, latent)
    wrong = [
        f"{name} {found.get(name)}, expected {shape}" for name, shape in expected.items() if found.get(name) != shape
    ]
    wrong += [f"unexpected {name}" for name in found if name not in expected]
    if wrong or not count:
        raise ArtifactError(f"tensors that do not fit the header: {'; '.join(wrong[:5]) or 'no anchors'}")


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
        if not value.is_floating_point() or not value.float().isfinite().all():
            raise ArtifactError(f"tensor {name} must hold finite numbers, it does not")
    if not (tensors["std"] > 0).all():
        raise ArtifactError("tensor std must be above 0 everywhere, it is not")


def _digest(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
