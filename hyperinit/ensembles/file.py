"""The file of an ensemble: writing and reading it, with the same checks of its header and tensors both times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from hyperinit import nets
from hyperinit.ensembles.plain import untouched
from hyperinit.errors import LONGEST, ArgumentError, ArtifactError, HyperinitError, LayoutError, shown
from hyperinit.files import headers
from hyperinit.files.atomic import replacing

KEY = "hyperinit-ensemble"
COMBINE = ("probabilities", "logits")
FORMAT = 1
NEEDS = "0.1.0"  # the first hyperinit that reads this format
FIELDS = {"format", "n", "combine", "architecture"}
DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip # those of headers.DTYPES
MOST_MODULES = 1 << 13  # in all members together, if the file describes them; bounds the cost of a small file


def write(path: Path, members: Sequence[nn.Module], combine: str) -> None:
    """Write members into one file, and read it back with all checks before it takes its place.

    Raises:
        ArtifactError: if `read` would refuse the file; `path` is as it was.
        WriteError: if the file cannot be written.
    """
    tensors = _tensors(members)
    check_finite(members)
    architecture = _described(members)
    header = {
        "format": FORMAT, "needs": NEEDS, "n": len(members), "combine": combine, "architecture": architecture,
    }  # fmt: skip
    with replacing(path) as temporary:
        try:
            headers.check_plain(header)
            header["digest"] = headers.digest(header, tensors)
            text = json.dumps(header)
            check_header(header, len(tensors))
            save_file(tensors, temporary, {KEY: text})
            _contents(temporary, described=architecture is not None)
        except (ArtifactError, UnicodeError) as error:
            raise ArtifactError(
                f"{path} must get an ensemble that can be loaded again, got: {str(error)[:LONGEST]}"
            ) from None


def read(path: Path, model: Callable[[], nn.Module] | None) -> tuple[list[nn.Module], str]:
    """Read the members of a file, and how they are combined.

    Args:
        path: the file.
        model: makes one member; None makes the network that the file describes, in the dtypes of the file.

    Raises:
        ArgumentError: if a factory is needed, or if it makes no module with values.
        ArtifactError: if the file is missing, damaged or altered, or its tensors do not match the members.
    """
    try:
        header, tensors = _contents(path, described=model is None)
        members = [_member(model, header["architecture"]) for _ in range(header["n"])]
        fill_members(members, tensors, convert=model is None)
        check_finite(members)
    except ArgumentError:
        raise
    except FileNotFoundError:
        raise ArtifactError(f"{path} must be an ensemble that was saved whole, got: no such file") from None
    except (OSError, SafetensorError, HyperinitError, UnicodeError) as error:  # a path that cannot be encoded, too
        raise ArtifactError(f"{path} must be an ensemble that was saved whole, got: {str(error)[:LONGEST]}") from None
    return members, header["combine"]


def _contents(path: Path, *, described: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return header and tensors of a file after all checks that need no members.

    Args:
        path: the file.
        described: whether the file must describe the members' network.

    Raises:
        ArgumentError: if it must and does not.
        ArtifactError, SafetensorError, OSError: if the file is not an ensemble's.
    """
    with headers.opened(path, KEY) as (header, file):
        found = headers.shapes(file, headers.DTYPES)
        check_header(header, len(found))
        if described and header["architecture"] is None:
            raise ArgumentError(f"model must be given: {path} does not describe the members' network")
        if described:
            check_members(header["n"], header["architecture"], found)
        tensors = {name: file.get_tensor(name) for name in found}
    if header.pop("digest", None) not in (None, headers.digest(header, tensors)):
        raise ArtifactError("its contents do not match the digest in its header")
    return header, tensors


def _member(model: Callable[[], nn.Module] | None, architecture: nets.Architecture) -> nn.Module:
    if model is None:
        return nets.build(architecture)
    member = model()
    if not isinstance(member, nn.Module):
        raise ArgumentError(f"model must return a module, got {type(member).__name__}")
    if any(value.is_meta for value in (*member.parameters(), *member.buffers())):
        raise ArgumentError("model must return a module with values, got one on the meta device; use its to_empty")
    return member


def _described(members: Sequence[nn.Module]) -> nets.Architecture | None:
    """Describe the network of all members, or return None if `load` could not make it from a description."""
    try:
        first, *others = map(nets.describe, members)
        shapes = {name: value.shape for name, value in nets.build(first, device="meta").state_dict().items()}
    except LayoutError:
        return None
    plain = all(untouched(part) for member in members for part in member.modules())
    states = [{name: value.shape for name, value in member.state_dict().items()} for member in members]
    return first if plain and all(other == first for other in others) and states == [shapes] * len(states) else None


def _tensors(members: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return copies of the members' tensors, on the CPU, by their names in the file.

    Raises:
        ArtifactError: naming the first value that a file cannot hold.
    """
    found = {}
    for index, member in enumerate(members):
        for name, value in member.state_dict().items():
            where = f"{shown(name)} of member {index}"
            if type(value) not in (Tensor, nn.Parameter):
                raise ArtifactError(f"{where} must be a tensor to be saved, got {type(value).__name__}")
            value = value.detach()
            if value.layout is not torch.strided or value.is_nested or value.device.type == "meta":
                kind = "nested" if value.is_nested else f"{value.layout} on {value.device}"
                raise ArtifactError(f"{where} must be a dense tensor with values to be saved, got {kind}")
            if value.dtype not in DTYPES:
                dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
                raise ArtifactError(f"{where} must be of {dtypes} to be saved, got {value.dtype}")
            value = value.cpu().resolve_conj().resolve_neg()
            found[f"{index}.{name}"] = value.clone(memory_format=torch.contiguous_format)
    return found


def check_header(header: Mapping[str, Any], tensors: int) -> None:
    """Check every field except the network's description, which `nets.build` checks.

    Raises:
        ArtifactError: naming the first field that is wrong.
    """
    headers.check_format(header, FORMAT)
    headers.check_keys(header, FIELDS, FIELDS | {"needs", "digest"}, "header")
    if type(header["n"]) is not int or not 1 <= header["n"] <= tensors:
        raise ArtifactError(f"n must be from 1 to the number of tensors, {tensors}, got {shown(header['n'])}")
    if header["combine"] not in COMBINE:
        raise ArtifactError(f"combine must be {' or '.join(COMBINE)}, got {shown(header['combine'])}")


def check_members(count: int, architecture: nets.Architecture, found: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the file's tensors with those of the described network, before any member is made.

    Args:
        count: number of members.
        architecture: description of one member, for `nets.build`.
        found: shapes in the file by name, "<member>.<name in its state dict>".

    Raises:
        ArtifactError: if there are too many modules, or names or shapes differ.
    """
    network = nets.build(architecture, device="meta")
    modules = sum(1 for _ in network.modules()) - 1
    if count * (1 + modules) > MOST_MODULES:
        raise ArtifactError(
            f"{count} members of {modules} modules, and this hyperinit makes at most {MOST_MODULES} together"
        )
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {f"{index}.{name}": shape for index in range(count) for name, shape in shapes.items()}
    wrong = [
        f"{name} {found.get(name)}, expected {shape}" for name, shape in expected.items() if found.get(name) != shape
    ]
    wrong += [f"unexpected {name}" for name in found if name not in expected]
    if wrong:
        raise ArtifactError(f"tensors that do not fit the header: {'; '.join(wrong[:5])}")


def fill_members(members: Sequence[nn.Module], tensors: Mapping[str, Tensor], *, convert: bool = False) -> None:
    """Load each member's tensors.

    Args:
        members: modules to fill.
        tensors: by name, "<member>.<name in its state dict>".
        convert: give the members' parameters the dtypes of the tensors; otherwise they keep their own.

    Raises:
        ArtifactError: if a tensor belongs to no member, or a member's tensors do not fit it.
    """
    parts: list[dict[str, Tensor]] = [{} for _ in members]
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        if not index.isascii() or not index.isdigit() or len(index) > 9 or int(index) >= len(parts):
            raise ArtifactError(f"tensor {shown(name)} must begin with the number of a member, below {len(parts)}")
        parts[int(index)][key] = value
    for member, part in zip(members, parts, strict=True):
        if convert:
            _convert(member, part)
        try:
            member.load_state_dict(part)
        except RuntimeError as error:  # torch's list of all that does not fit
            raise ArtifactError(str(error)) from None


def _convert(member: nn.Module, part: Mapping[str, Tensor]) -> None:
    """Give a member's parameters the dtypes of the tensors with their names.

    Raises:
        ArtifactError: if one of these cannot hold a gradient.
    """
    for name, parameter in member.named_parameters():
        dtype = part[name].dtype
        if not (dtype.is_floating_point or dtype.is_complex):
            raise ArtifactError(f"parameter {shown(name)} must be of a floating point dtype, got {dtype}")
        parameter.data = torch.empty_like(parameter, dtype=dtype)


def check_finite(members: Iterable[nn.Module]) -> None:
    """Refuse parameters that are not finite. Buffers may hold infinities, as attention masks do.

    Raises:
        ArtifactError: naming the first such parameter.
    """
    for index, member in enumerate(members):
        for name, value in member.named_parameters():
            if not (value.is_floating_point() or value.is_complex()):
                continue
            found = value.detach().float() if value.dtype.itemsize == 1 else value.detach()  # floats of 8 bits
            if not headers.is_finite(found):
                raise ArtifactError(f"parameter {name} of member {index} must be finite, got NaN or infinity")
