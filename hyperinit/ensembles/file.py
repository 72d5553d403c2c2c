"""The file of an ensemble: checks of its header and tensors, and loading them into members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hyperinit import nets
from hyperinit.errors import ArtifactError, shown
from hyperinit.files import headers

COMBINE = ("probabilities", "logits")
FORMAT = 1
NEEDS = "0.1.0"  # the first hyperinit that reads this format
FIELDS = {"format", "n", "combine", "architecture"}
MOST_MODULES = 1 << 13  # in all members together, if the file describes them; bounds the cost of a small file


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
    if count * (1 + len(network)) > MOST_MODULES:
        raise ArtifactError(
            f"{count} members of {len(network)} modules, and this hyperinit makes at most {MOST_MODULES} together"
        )
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {f"{index}.{name}": shape for index in range(count) for name, shape in shapes.items()}
    wrong = [
        f"{name} {found.get(name)}, expected {shape}" for name, shape in expected.items() if found.get(name) != shape
    ]
    wrong += [f"unexpected {name}" for name in found if name not in expected]
    if wrong:
        raise ArtifactError(f"tensors that do not fit the header: {'; '.join(wrong[:5])}")


def fill_members(members: Sequence[nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Load each member's tensors.

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
        try:
            member.load_state_dict(part)
        except RuntimeError as error:  # torch's list of all that does not fit
            raise ArtifactError(str(error)) from None


def check_finite(members: Iterable[nn.Module]) -> None:
    """Refuse parameters that are not finite. Buffers may hold infinities, as attention masks do.

    Raises:
        ArtifactError: naming the first such parameter.
    """
    for index, member in enumerate(members):
        for name, value in member.named_parameters():
            if (value.is_floating_point() or value.is_complex()) and not headers.is_finite(value.detach()):
                raise ArtifactError(f"parameter {name} of member {index} must be finite, got NaN or infinity")
