"""Reads and writes the file of a hyper-representation: its header, its tensors' names, and all checks.

A file is a safetensors file. The text under "hyperinit" in its metadata is a JSON header. The field "digest" of the
header is the SHA-256 of all other fields and all tensors, so that damage is found. docs/artifact.md describes every
field.

Files are not trusted. Every header and every shape is checked before a tensor of that size is allocated.

Letters: N anchors, D weights per network, L latent size, T tokens or chunks per network.
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
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig, Cost
from hyperinit.errors import ArtifactError, HyperinitError
from hyperinit.files import headers
from hyperinit.files.atomic import replacing
from hyperinit.layout import Layout
from hyperinit.representation.card import Card
from hyperinit.samplers import METHODS, Anchors, SamplerOptions, trained

FORMAT = 1
NEEDS = "0.1.0"  # the first hyperinit that reads this format
SAMPLERS = "samplers."  # prefix of a trained sampler's tensors: samplers.<method>.<key>
ANCHORS = {f"anchors.{key}": key for key in ("z", "score", "epoch", "weights")}  # tensor -> field
FAMILY = "anchors.family"  # optional; whole numbers as float32
EXACT = ("mean", "std", "anchors.score", "anchors.epoch", FAMILY)  # saved as float32, all others as float16
MOST_ANCHORS = 1 << 14
MOST_TOKENS = 1 << 14  # in one attention
MOST_NEIGHBOURS = 1 << 24  # of all anchors together: their row numbers take 128 MiB
SMALL_CUT = 1 << 20  # chunks with this many weights in all are allowed for any file
# The most that coding one network may cost: a fixed part for any file, and one for each number that the file holds.
MOST_NUMBERS = (1 << 28, 8)  # in one tensor: 1 GiB of float32
MOST_PRODUCTS = (1 << 35, 1 << 15)  # about 5 seconds of one core, and as long for each million numbers

States = Mapping[str, Mapping[str, Tensor]]  # of trained samplers: method -> key -> tensor


@dataclass(frozen=True)
class Header:
    """The part of an artifact that is not tensors.

    Args:
        card: description, origin and measured figures.
        layout: order of the weights in a vector.
        architecture: description of the zoo's network, see `hyperinit.nets`; None if there is none.
        autoencoder: its sizes and options.
        samplers: options of the sampling methods.
    """

    card: Card
    layout: Layout
    architecture: nets.Architecture | None
    autoencoder: AutoencoderConfig
    samplers: SamplerOptions

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON data, without the digest."""
        return {
            "format": FORMAT,
            "needs": NEEDS,
            "card": asdict(self.card),
            "layout": self.layout.to_json(),
            "architecture": self.architecture,
            "autoencoder": asdict(self.autoencoder),
            "samplers": asdict(self.samplers),
        }


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything that an artifact holds.

    Args:
        header: the part that is not tensors.
        autoencoder: its parameters and standardisation.
        anchors: of the training snapshots.
        states: of trained samplers, by method; may be empty.
    """

    header: Header
    autoencoder: Autoencoder
    anchors: Anchors
    states: States

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under their names in the file."""
        found: dict[str, Tensor] = dict(self.autoencoder.state_dict())
        found |= {name: getattr(self.anchors, field) for name, field in ANCHORS.items()}
        if self.anchors.family is not None:
            found[FAMILY] = self.anchors.family.float()
        for method, state in self.states.items():
            found |= {f"{SAMPLERS}{method}.{key}": value for key, value in state.items()}
        return found


def write(path: Path, contents: Contents) -> None:
    """Write an artifact in half precision; the standardisation, scores and epochs are float32.

    The file is read back with every check before it takes its place. It is replaced as a whole, or not at all if an
    error is raised. Equal contents give equal bytes.

    Raises:
        ArtifactError: if `read` would refuse the file, for example because a value is not finite in half precision.
        WriteError: if the file cannot be written.
    """
    text, tensors = _encoded(contents)
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"hyperinit": text})
        try:
            _whole(temporary)
        except (HyperinitError, SafetensorError) as error:
            raise _unreadable(error) from None


def check(contents: Contents) -> None:
    """Run the checks of `read` on contents in memory, for example before time is spent on measuring them.

    Raises:
        ArtifactError: if `read` would refuse the file that `write` makes.
    """
    text, tensors = _encoded(contents)
    try:
        header, _ = _built(headers.parsed(text), {name: tuple(value.shape) for name, value in tensors.items()})
        _check_anchors(header, tensors)
    except HyperinitError as error:
        raise _unreadable(error) from None


def _encoded(contents: Contents) -> tuple[str, dict[str, Tensor]]:
    """Return the header's text and the tensors in the precision of the file, in the order of names."""
    tensors = {
        name: value.to(torch.float32 if name in EXACT else torch.float16).detach().cpu().contiguous()
        for name, value in sorted(contents.tensors().items())
    }
    try:
        _check_values(tensors)
        data = contents.header.to_json()
        headers.check_plain(data)
    except RecursionError:
        raise _unreadable("a header that is nested too deep or refers to itself") from None
    except HyperinitError as error:
        raise _unreadable(error) from None
    return json.dumps(data | {"digest": headers.digest(data, tensors)}, sort_keys=True), tensors


def _unreadable(why: object) -> ArtifactError:
    return ArtifactError(f"a hyper-representation must be one that can be loaded, got: {str(why)[: errors.LONGEST]}")


def read(path: Path) -> Contents:
    """Read an artifact; all tensors become float32 and share no memory with the file.

    Raises:
        ArtifactError: if the file is missing, cut off, altered or of another format, or its tensors do not fit its
            header.
    """
    try:
        return _whole(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} must be a hyper-representation, got no such file") from None
    except (OSError, SafetensorError, HyperinitError) as error:
        why = str(error)[: errors.LONGEST]
        raise ArtifactError(
            f"{path} must be a whole hyper-representation file, got: {why}. Copy or build it again."
        ) from None


def _whole(path: Path) -> Contents:
    """Read an artifact with every check. `write` uses it too, so that nothing is written that cannot be read."""
    with headers.opened(path, "hyperinit") as (data, file):
        headers.check_format(data, FORMAT)
        found = headers.shapes(file, headers.FLOATS)
        header, autoencoder = _built(data, found)
        stored = {name: file.get_tensor(name) for name in found}
        if data.pop("digest") != headers.digest(data, stored):
            raise ArtifactError("its contents do not match the digest in its header; the file was altered")
        tensors = {name: value.to(torch.float32, copy=True) for name, value in stored.items()}
    _check_values(tensors)
    _check_anchors(header, tensors)
    return _contents(header, autoencoder, tensors)


def _built(data: dict[str, Any], found: Mapping[str, tuple[int, ...]]) -> tuple[Header, Autoencoder]:
    """Return the header and an autoencoder without memory, after all checks that need names and shapes alone."""
    header = _header(data)
    _check_room(header, found)
    autoencoder = _without_memory(header)
    _check_shapes(header, autoencoder, found)
    return header, autoencoder


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
    """Refuse a header whose autoencoder needs more tensors or numbers than the file holds.

    This comes before the autoencoder is built, because a small file can state any sizes. Only lower bounds of the
    needed sizes are computed here. `_check_shapes` compares every shape.
    """
    layout, config = header.layout, header.autoencoder
    if found.get("mean") != (layout.size,):  # also bounds D, and all that is of size D, by the file
        raise ArtifactError(f"mean must have shape ({layout.size},) to fit the layout, got {found.get('mean')}")
    held = sum(math.prod(shape) for shape in found.values())  # numbers in the file, of at least 1 byte each
    tokens = sum(layer.neurons for layer in layout.layers)
    # attention (width, width), feed-forward (feedforward, width), from or to the latent (latent, width)
    largest = max(config.width * size for size in (config.width, config.feedforward, config.latent))
    if config.chunk:
        chunks = config.latent_size(layout) // config.latent  # T
        largest = max(largest, config.width * config.chunk, config.width * chunks)  # enter (width, C), positions
        if chunks * config.chunk > max(held, SMALL_CUT):  # mostly padding
            raise ArtifactError(f"{chunks} chunks of {config.chunk} weights, but the file holds only {held} numbers")
        tokens = min(config.window, chunks)  # attention stays within a window
    else:
        largest = max(largest, config.width * tokens * config.latent)  # the decoder's expand (T * width, L)
        if 4 * len(layout.layers) > len(found):  # weight and bias of an embedder and a debedder for each layer
            raise ArtifactError(f"{len(found)} tensors, too few for {len(layout.layers)} layers")
    if 24 * config.depth > len(found):  # encoder and decoder have `depth` blocks each, a block has 12 or more tensors
        raise ArtifactError(f"{len(found)} tensors, too few for a depth of {config.depth}")
    if largest > held:
        raise ArtifactError(f"a config that needs a tensor of {largest} numbers, but the file holds only {held}")
    if tokens > MOST_TOKENS:
        raise ArtifactError(f"{tokens} tokens in one attention, but this hyperinit allows at most {MOST_TOKENS}")
    cost = Cost.of(config, layout)
    for name, value, (fixed, share) in (
        ("numbers in one tensor", cost.numbers, MOST_NUMBERS),
        ("multiplications", cost.products, MOST_PRODUCTS),
    ):
        if value > fixed + share * held:
            raise ArtifactError(
                f"a config that needs up to {value:,} {name} to code one network, but this hyperinit allows at most "
                f"{fixed + share * held:,} for a file of {held:,} numbers"
            )


def _without_memory(header: Header) -> Autoencoder:
    """Build the autoencoder with parameters on the meta device, which have shapes and no memory."""
    with torch.device("meta"):
        scale = torch.ones(header.layout.size, device="cpu")  # (D,); Autoencoder checks its values
        return Autoencoder(header.autoencoder, header.layout, scale, scale)


def _check_shapes(header: Header, autoencoder: Autoencoder, found: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the names and shapes of all tensors with those the header asks for, before any is read."""
    layout = header.layout
    if header.architecture is not None and not _describes(header.architecture, layout):
        raise ArtifactError("an architecture that does not have the layout in the header")
    expected = {name: tuple(value.shape) for name, value in autoencoder.state_dict().items()}
    count = (*found.get("anchors.z", ()), 0)[0]  # N; 0 if the tensor is missing or has no axis
    latent = header.autoencoder.latent_size(layout)
    expected |= {
        "anchors.z": (count, latent),
        "anchors.score": (count,),
        "anchors.epoch": (count,),
        "anchors.weights": (count, layout.size),
    }
    if FAMILY in found:
        expected[FAMILY] = (count,)
    expected |= _expected_of_samplers(found, latent)
    wrong = [
        f"{name} {found.get(name)}, expected {shape}" for name, shape in expected.items() if found.get(name) != shape
    ]
    wrong += [f"unexpected {name}" for name in found if name not in expected]
    if wrong or not count:
        raise ArtifactError(f"tensors that do not fit the header: {'; '.join(wrong[:5]) or 'no anchors'}")
    if count > MOST_ANCHORS:
        raise ArtifactError(f"{count} anchors, but this hyperinit allows at most {MOST_ANCHORS}")
    near = count * min(header.samplers.neighbours, count)
    if near > MOST_NEIGHBOURS:
        raise ArtifactError(
            f"{near} neighbours of {count} anchors, but this hyperinit allows at most {MOST_NEIGHBOURS}"
        )


def _describes(architecture: nets.Architecture, layout: Layout) -> bool:
    """Return whether a network has a layout. Only of a chain does the description decide the permutation groups."""
    found = Layout.of(nets.build(architecture, device="meta"))
    if found.group_sizes or {t.name for t in found.tensors} != {t.name for t in layout.tensors}:
        return found == layout
    return found.with_groups({tensor.name: tensor.groups for tensor in layout.tensors}) == layout


def _expected_of_samplers(found: Iterable[str], latent: int) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of all tensors of each trained sampler that has at least one in the file."""
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
    """Refuse latents outside of the encoder's range, accuracies outside of [0, 1] and negative epochs."""
    config = header.autoencoder
    ranges = {"anchors.score": (0.0, 1.0), "anchors.epoch": (0.0, math.inf)}
    if config.bounded and not config.variational:
        ranges["anchors.z"] = (-1.0, 1.0)  # closed: half precision rounds a tanh close to 1 up to 1
    for name, (least, most) in ranges.items():
        low, high = map(float, tensors[name].aminmax())
        if low < least or high > most:
            raise ArtifactError(
                f"tensor {name} must lie in [{least:g}, {most:g}], it goes from {low:.3g} to {high:.3g}"
            )
    family = tensors.get(FAMILY)
    if family is not None and not (family.float() == family.float().clamp(0, MOST_ANCHORS).round()).all():
        raise ArtifactError(f"tensor {FAMILY} must hold whole numbers from 0 to {MOST_ANCHORS}, it does not")


def _contents(header: Header, autoencoder: Autoencoder, tensors: dict[str, Tensor]) -> Contents:
    """Sort checked tensors by name into anchors, trained samplers and the autoencoder, without a copy."""
    family = tensors.pop(FAMILY, None)
    own = {field: tensors.pop(name) for name, field in ANCHORS.items()}
    anchors = Anchors(**own, family=None if family is None else family.long())
    states: dict[str, dict[str, Tensor]] = {}
    for name in [name for name in tensors if name.startswith(SAMPLERS)]:
        method, _, key = name.removeprefix(SAMPLERS).partition(".")
        states.setdefault(method, {})[key] = tensors.pop(name)
    autoencoder.load_state_dict(tensors, assign=True)  # replaces the parameters on the meta device
    return Contents(header, autoencoder, anchors, states)
