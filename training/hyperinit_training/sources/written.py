"""Writes the artifact of a run, and remembers it, so that the command can be given again without losing other files."""

from __future__ import annotations

from pathlib import Path

from hyperinit.errors import HyperinitError, one_line
from hyperinit.files.atomic import digest
from hyperinit.files.texts import read_json
from hyperinit.representation import HyperRepresentation
from hyperinit_training.machine.run_files import write_json

RECORD = "written.json"  # the SHA-256 of every artifact that the run wrote or was about to write
TRIAL = "artifact.part"


def write(representation: HyperRepresentation, out: Path, run: Path) -> None:
    """Write an artifact, after its digest is recorded in the folder of the run.

    A kill at any moment leaves the artifact as it was, or one that `wrote` recognises.

    Raises:
        ArtifactError: as `HyperRepresentation.save`. Then `out` is unchanged.
    """
    trial = run / TRIAL
    try:
        representation.save(trial)  # equal contents give equal bytes
        _add(run, out, digest(trial))
    finally:
        trial.unlink(missing_ok=True)
    representation.save(out)


def wrote(out: Path, run: Path) -> bool:
    """Tell whether a file is, unaltered, an artifact that a run wrote."""
    return out.is_file() and digest(out) in _recorded(run)


def _add(run: Path, out: Path, found: str) -> None:
    known = [other for other in _recorded(run) if other != found]
    write_json(run / RECORD, {"file": one_line(out.name), "digest": [*known, found]})


def _recorded(run: Path) -> list[str]:
    if not (run / RECORD).is_file():
        return []
    try:
        data = read_json(run / RECORD)
    except HyperinitError:
        return []
    found = data.get("digest") if isinstance(data, dict) else None
    return [str(item) for item in found] if isinstance(found, list) else []
