"""Read the state dict of one network from the files that training loops write, wherever it lies in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from hyperinit.checkpoints import torch_files
from hyperinit.checkpoints.entries import bare_name, why_unusable
from hyperinit.checkpoints.layout import StateLayout
from hyperinit.checkpoints.parts import check_pointer, is_index, parts_of
from hyperinit.checkpoints.torch_files import Foreign, refusal
from hyperinit.errors import LONGEST, ZooError, listed, one_line, shown

NESTED = (  # keys under which training loops store the state dict; averages (EMA) come last
    "state_dict", "model_state_dict", "model", "model_state", "module", "net", "network", "weights", "params",
    "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema",
)  # fmt: skip
BESIDE = re.compile(r"optim|sched|scaler|callback|loop|hyper|param_groups|rng|args|config|metric", re.IGNORECASE)
DEEPEST = 8  # levels of keys
WRAPPED = "model."  # name under which LightningModules and trainers usually hold the network
SPARE = 1 << 24  # values that a state dict may hold beyond the bytes of its file, in tensors that repeat their values


@dataclass(frozen=True)
class Taken:
    """The state dict of one network, and its place in its file.

    Args:
        tensors: detached tensors by name, on the CPU.
        key: keys that lead to the state dict, with / between them; "" if it is the whole file.
        prefix: beginning of all names that was removed, such as `module.`; "" if none was.
        left_out: names of tensors that do not have the prefix, and keys of other state dicts.
    """

    tensors: dict[str, Tensor]
    key: str = ""
    prefix: str = ""
    left_out: tuple[str, ...] = ()

    def below(self, prefix: str) -> Taken:
        """Return the tensors whose names begin with `prefix`, and remove it from their names."""
        if not prefix:
            return self
        inside = {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}
        outside = tuple(name for name in self.tensors if not name.startswith(prefix))
        return Taken(inside, self.key, self.prefix + prefix, self.left_out + outside)

    def alone(self) -> Taken:
        """Remove the prefix `model.` if all names begin with it. This is for files of an unknown network."""
        inside = all(name.startswith(WRAPPED) for name in self.tensors)
        return self.below(WRAPPED) if inside else self

    def fitted(self, layout: StateLayout, path: Path | str) -> Taken:
        """Remove the prefix under which a larger module, such as a LightningModule, holds the network.

        Without a prefix that gives exactly the tensors of the layout, return the names that agree most with it.

        Raises:
            ZooError: if the tensors under several prefixes fit, and none of the prefixes is `model.`.
        """
        known = {tensor.name for tensor in layout.tensors} | set(layout.tied)
        counts = Counter(name.removesuffix(own) for name in self.tensors for own in _endings(name) if own in known)
        order = sorted(counts, key=lambda prefix: (-counts[prefix], prefix != "", prefix != WRAPPED))
        fitting = [prefix for prefix in order if layout.fits(self.below(prefix).tensors)]
        usual = next((prefix for prefix in ("", WRAPPED) if prefix in fitting), None)
        if usual is None and len(fitting) > 1:
            raise ZooError(
                f"{one_line(path)} must hold one network, got one under each prefix of {listed(fitting, 5)}; write the "
                "one to use with torch.save(model.state_dict(), path)"
            )
        return self.below(usual if usual is not None else [*fitting, *order, ""][0])


def _endings(name: str) -> Iterator[str]:
    """Yield a name, and what remains of it without its first part, its first two parts, and so on."""
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of `take`."""
    return take(path).tensors


def take(path: Path) -> Taken:
    """Read the state dict of one network to the CPU, with the tensor names of the unwrapped network.

    The file is a safetensors file, a file of `torch.save`, or the index of a network that is stored in several files.
    The state dict may be nested under one of `NESTED`, or be the only one in the file. The prefixes of
    wrappers such as `DistributedDataParallel` (`module.`) and `torch.compile` (`_orig_mod.`) are removed from names.
    Zipped torch files are memory-mapped, so the state of an optimizer in the same file is not read.

    Raises:
        ZooError: if the file is truncated or damaged, is a Git LFS pointer, holds no state dict, or holds tensors
            without dense values.
    """
    if not is_index(path):
        return _checked(_loaded(path), path)
    whole: dict[str, Tensor] = {}
    for part, names in parts_of(path).items():
        taken = _loaded(path.parent / part)
        if missing := names - taken.tensors.keys():
            raise ZooError(f"{one_line(path.parent / part)} must hold {listed(sorted(missing), 3)}, as its index says")
        if twice := whole.keys() & taken.tensors.keys():
            raise ZooError(f"{one_line(path)} must have every tensor in one part, got {listed(sorted(twice), 3)} twice")
        whole |= taken.tensors
    return _checked(Taken(whole), path)


def take_from(found: Mapping[Any, Any], name: str) -> Taken:
    """Take the state dict of one network out of a dict in memory, such as one that `torch.load` returned.

    Args:
        found: a state dict, or a dict that holds one, as the files do that `take` reads.
        name: for messages.

    Raises:
        ZooError: as `take`.

    >>> import torch
    >>> take_from({"epoch": 3, "model": {"module.weight": torch.ones(1)}}, "source").tensors
    {'weight': tensor([1.])}
    """
    taken = _search(found, set())
    if taken is None:
        raise _without_state(found, name)
    return _checked(taken, name)


def _loaded(path: Path) -> Taken:
    check_pointer(path)
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else torch_files.load(path)
    except ZooError:
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise ZooError(_unreadable(path, error)) from None
    taken = _search(found, set())
    if taken is None:
        raise _without_state(found, path)
    floats = sum(value.numel() for value in taken.tensors.values() if not why_unusable(value))
    if floats > path.stat().st_size + SPARE:
        raise ZooError(f"{one_line(path)} must hold all its values, it states {floats:,}, more than it has bytes")
    return taken


def _search(found: Any, seen: set[int], depth: int = 0) -> Taken | None:
    """Find a state dict: the object itself, one under a key of `NESTED`, or else the only one under another key.

    Each object is searched once, by its id in `seen`: dicts may hold themselves, or one dict under many keys.
    """
    if not isinstance(found, Mapping) or depth > DEEPEST or id(found) in seen:
        return None
    seen.add(id(found))
    if _is_state(found):
        # Modules may add an extra state of any type to their state dict. It holds no weights.
        return Taken({name: value for name, value in found.items() if isinstance(value, Tensor)})
    inner = {key: _search(found[key], seen, depth + 1) for key in NESTED if key in found}
    hits = {key: taken for key, taken in inner.items() if taken is not None}
    if not hits:
        others = {key: _search(value, seen, depth + 1) for key, value in found.items() if _may_hold(key)}
        hits = {key: taken for key, taken in others.items() if taken is not None}
        if len(hits) != 1:
            return None
    key, taken = next(iter(hits.items()))
    more = tuple(other for other in hits if other != key)
    return replace(taken, key=f"{key}/{taken.key}" if taken.key else key, left_out=taken.left_out + more)


def _is_state(found: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is a state dict: text to tensors, beside the extra states of modules."""
    texts = all(isinstance(key, str) for key in found)
    other = [key for key, value in found.items() if not isinstance(value, Tensor)]
    return texts and len(other) < len(found) and all(key.rpartition(".")[2] == "_extra_state" for key in other)


def _may_hold(key: object) -> bool:
    return isinstance(key, str) and not BESIDE.search(key)


def _without_state(found: Any, path: Path | str) -> ZooError:
    """Make the error for a file or a dict in which no state dict was found."""
    for _ in range(DEEPEST):
        if isinstance(found, Mapping):
            found = next((found[key] for key in NESTED if isinstance(found.get(key), Mapping | Foreign)), found)
    if isinstance(found, Foreign):
        return refusal(path, type(found))
    if not isinstance(found, Mapping):
        return ZooError(f"{one_line(path)} must hold a state dict, got a {type(found).__name__}")
    seen = {id(found)}
    several = [key for key, value in found.items() if _may_hold(key) and _search(value, seen)]
    other = {key: value for key, value in found.items() if not (isinstance(key, str) and isinstance(value, Tensor))}
    foreign = [type(value) for value in found.values() if isinstance(value, Foreign)]
    if foreign and not several:
        return refusal(path, foreign[0])
    key, value = next(iter(other.items()), ("nothing", None))
    got = f"a {type(value).__name__} under {shown(key)}" if other else "an empty one"
    if several:
        got = f"one under each of {listed(several, 5)}"
    return ZooError(
        f"{one_line(path)} must hold a state dict, at the top or under {', '.join(NESTED[:3])} or a like key, got {got}"
    )


def _unreadable(path: Path, error: Exception) -> str:
    """Make the message for a file that torch or safetensors failed to read."""
    first = "".join(str(error).strip().splitlines()[:1])[:LONGEST]
    return f"{one_line(path)} cannot be read because it is truncated or damaged: {type(error).__name__}: {first[:200]}"


def _checked(taken: Taken, path: Path | str) -> Taken:
    """Check and detach the tensors, and remove the prefixes of wrappers from their names."""
    bare: dict[str, Tensor] = {}
    prefix = ""
    for name, value in taken.tensors.items():
        kind = why_unusable(value) or ("a tensor on the meta device, without values" if value.is_meta else "")
        if kind:
            raise ZooError(f"{one_line(path)} must hold dense tensors, got {kind} in {one_line(name)}; leave it out")
        short = bare_name(name)
        if short in bare:
            raise ZooError(f"{one_line(path)} must hold every tensor once, got {short} with and without a prefix")
        bare[short] = value.detach()
        prefix = prefix or (name.removesuffix(short) if name.endswith(short) else "")
    return replace(taken, tensors=bare, prefix=prefix)
