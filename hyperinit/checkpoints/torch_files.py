"""Load a file of `torch.save` with torch's restricted unpickler, which only makes tensors and plain containers.

Training loops store more than tensors: arguments, paths, NumPy numbers. Such objects are replaced by empty stand-ins,
so the tensors beside them can be read. Their classes are never imported, and none of their code runs.
"""

from __future__ import annotations

import pickle
import re
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from hyperinit.errors import ZooError, one_line

MOST_PICKLE = 64 << 20  # bytes of the pickled part of a file, which holds everything but the numbers of tensors
MOST_FOREIGN = 200  # classes that are replaced in one file

_lock = threading.Lock()  # of torch's list of safe classes, which all threads share


class Foreign:
    """An object of a class that is not read. It takes the object's contents and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Make a stand-in from any arguments."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None:
        """Ignore the contents."""


def load(path: Path) -> Any:
    """Load a file to the CPU. A zipped file is memory-mapped, so tensors that are not used are not read.

    Returns:
        The stored object. Objects of other classes than tensors and plain containers are instances of `Foreign`.

    Raises:
        ZooError: if a record of the file is compressed or too large, the file is a TorchScript program, or an object in
            it cannot be replaced.
        Exception: nearly any, if the file is damaged.
    """
    zipped = is_zipped(path)
    if zipped:
        check_records(path)
    foreign: dict[str, type] = {}
    while True:
        try:
            return _loaded(path, foreign, mmap=zipped)
        except pickle.UnpicklingError as error:
            if len(foreign) < MOST_FOREIGN and _replace(foreign, str(error)):
                continue
            named = re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", str(error))
            if named or foreign:
                raise refusal(path, next(iter(foreign), named[1] if named else "")) from None
            raise


def refusal(path: Path | str, kind: type | str) -> ZooError:
    """Return the error for a file that holds an object of a class that cannot be read."""
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return ZooError(
        f"{one_line(path)} must hold tensors only, got a pickled {name}, which would run code when read; write it "
        "again with torch.save(model.state_dict(), path), or allow the class with "
        "torch.serialization.add_safe_globals"
    )


def is_zipped(path: Path) -> bool:
    """Return whether a file has the zip format of torch >= 1.6. The older format cannot be memory-mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def check_records(path: Path) -> None:
    """Check the sizes that the directory of a zipped file states, before any record is read.

    `torch.save` does not compress. A compressed record may take a thousand times its size in memory, and in a
    memory-mapped file the compressed bytes would be taken for the numbers.

    Raises:
        ZooError: if a record is compressed or too large, or the file is a TorchScript program.
        BadZipFile: if the directory is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if archive.comment or len(records) != len(set(archive.namelist())):
            raise ZooError(f"{one_line(path)} must be a file of torch.save, got an archive that another program wrote")
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise ZooError(
            f"{one_line(path)} must hold a state dict, got a TorchScript program; write it again with "
            "torch.save(torch.jit.load(path).state_dict(), path)"
        )
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise ZooError(
                f"{one_line(path)} must hold uncompressed records, as torch.save writes them, got "
                f"{one_line(record.filename)} of {record.file_size:,} bytes packed into {record.compress_size:,}; "
                "write the file again with torch.save"
            )
        if record.filename.endswith(".pkl") and record.file_size > MOST_PICKLE:
            raise ZooError(
                f"{one_line(path)} must hold at most {MOST_PICKLE:,} bytes beside its tensors, got "
                f"{record.file_size:,}; write the state dict alone with torch.save(model.state_dict(), path)"
            )
    if (total := sum(record.file_size for record in records)) > path.stat().st_size:
        raise ZooError(f"{one_line(path)} must hold all its records, it states {total:,} bytes and is shorter")


def _loaded(path: Path, foreign: dict[str, type], *, mmap: bool) -> Any:
    if not foreign:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    with _lock, torch.serialization.safe_globals(list(foreign.values())):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _replace(foreign: dict[str, type], message: str) -> bool:
    """Add a stand-in for the class that torch refuses in `message`. Return False if there is none to add."""
    if not hasattr(torch.serialization, "safe_globals"):  # torch < 2.5
        return False
    if found := re.search(r"Unsupported global: GLOBAL (\S+) was not an allowed global", message):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        if name in foreign:
            return False
        foreign[name] = _stand_in(name, Foreign)
        return True
    # Objects that are filled like a dict or a list must be one: the restricted unpickler fills no others.
    found = re.search(r"Can only (SETITEM|append|extend)\w* .*but got <class '(\S+)'>", message)
    if found and foreign.get(found[2]) and issubclass(foreign[found[2]], Foreign):
        foreign[found[2]] = _stand_in(found[2], OrderedDict if found[1] == "SETITEM" else list)
        return True
    return False


def _stand_in(name: str, kind: type) -> type:
    """Make a class with a dotted name, whose instances are stand-ins, or empty containers of type `kind`."""
    module, _, own = name.rpartition(".")
    words: dict[str, Any] = {"__module__": module, "__qualname__": own}
    if kind is Foreign:
        return type(own, (Foreign,), words)
    return type(own, (), words | {"__new__": lambda _, *__, **___: kind()})
