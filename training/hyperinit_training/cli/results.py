"""Checks of the results of long commands before they begin: where they are written, and what they may replace."""

from __future__ import annotations

from pathlib import Path

from hyperinit.cli.places import check_file, check_folder
from hyperinit.errors import ArgumentError, one_line
from hyperinit.hub import index, sources
from hyperinit_training.sources.written import wrote


def check_artifact(out: Path, run: Path, *, force: bool, title: str = "") -> None:
    """Check before hours of training that the artifact and the run's files can be written.

    An existing file may be replaced if `force` is set, or if the same run wrote it: a finished command can be repeated.

    Args:
        out: the artifact.
        run: folder for work in progress.
        force: whether any file may be replaced.
        title: of a source that is made in the folder of embedded sources.

    Raises:
        ArgumentError: if it cannot be written, must not be replaced, or has a name that no source may have.
    """
    check_file(out, force=force or wrote(out, run))
    check_folder(run, option="--run")
    if out.resolve().parent == sources.FOLDER.resolve():
        if not index.NAME.fullmatch(out.stem):
            raise ArgumentError(f"--out must be lower case letters, digits and hyphens, got {one_line(out.name)}")
        if title and not title.isprintable():
            raise ArgumentError(f"the title of the recipe must be one line of text, got {one_line(title)!r}")


def check_zoo(out: Path, *, force: bool) -> None:
    """Check before hours of training that the folder of a zoo can be written, and that no foreign weights are lost.

    Raises:
        ArgumentError: if it cannot be written, or holds weights that belong to no zoo and `force` is not set.
    """
    check_folder(out)
    ours = any((out / name).exists() for name in ("zoo.json", "blocks"))
    if (out / "weights.safetensors").exists() and not ours and not force:
        raise ArgumentError(
            f"--out must be a new folder or one of a zoo, got {one_line(out)}, which holds other weights; pass --force "
            "to replace them"
        )
