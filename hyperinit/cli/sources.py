"""The commands that read a source: `sources`, `methods`, `info`, `plan` and `sample`.

The answer of each command is text, and the same as plain data for `--json`.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import hyperinit
from hyperinit import nets
from hyperinit.cli.arguments import COPIES, Parser, check_amount, check_seed
from hyperinit.cli.factories import load_factory
from hyperinit.cli.places import ENDING, check_file, check_folder, check_room
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.ensembles.file import MOST_MODULES
from hyperinit.errors import ArgumentError, counted, one_line
from hyperinit.files.atomic import digest, replacing
from hyperinit.fitting import FILLS, FITS
from hyperinit.fitting.computation import described, network_of
from hyperinit.hub import address
from hyperinit.hub.load import DEFAULT_SOURCE
from hyperinit.representation import HyperRepresentation

Answer = tuple[str, Any]
RUNS = "MODULE is imported, also from the working folder, and its code runs"  # of every MODULE:NAME
SOURCE = "a name that `hyperinit sources` lists, the path of an artifact, or an address (docs/hub.md)"


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the commands; `run` of each is the function that returns its answer."""
    command(commands, "sources", _sources, "list the available sources", "hyperinit sources --json")
    methods = command(
        commands, "methods", _methods, "list the ways to sample a source, with their measured accuracy",
        "hyperinit methods svhn",
    )  # fmt: skip
    info = command(
        commands, "info", _info, "print the card of a source: zoo, images, licence, measured figures",
        "hyperinit info svhn\n  hyperinit info ./mine.safetensors --json",
    )  # fmt: skip
    plan = command(
        commands, "plan", _plan, "show what init_ would do to a network, without writing",
        "hyperinit plan mypackage.models:make_net --source svhn\n"
        "  hyperinit plan torch.nn:Identity    # an error: it has no layer to decode into",
    )  # fmt: skip
    sample = command(
        commands, "sample", _sample, "sample networks and write their weights to files",
        "hyperinit sample svhn --n 15 --out ensemble.safetensors    # hyperinit.Ensemble.load reads it\n"
        "  hyperinit sample svhn --n 3 --method kde30 --seed 0 --out nets/    # one state dict in each file",
    )  # fmt: skip
    sample.also = {"count": "--n"}
    for reader in (methods, info, sample):
        reader.add_argument("source", help=SOURCE)
    plan.add_argument("model", metavar="MODULE:FACTORY", help=f"importable callable that returns the network; {RUNS}")
    plan.add_argument("--source", default=DEFAULT_SOURCE, help=f"{SOURCE}, or a checkpoint file; default %(default)s")
    plan.add_argument("--fit", default="auto", help=f"{', '.join(FITS)}; default %(default)s")
    plan.add_argument("--fill", default="default", help=f"{', '.join(FILLS)}; default %(default)s")
    plan.add_argument("--members", type=int, help="networks side by side in a wider module; default: as many as fit")
    sample.add_argument("--n", type=int, default=1, help="number of networks; default %(default)s")
    sample.add_argument("--method", help="a name that `hyperinit methods SOURCE` lists; default: the recommended one")
    sample.add_argument("--seed", type=int, help="seed of the samples; default: a random one")
    sample.add_argument(
        "--out", type=Path, required=True, help="a new folder, or one .safetensors file for all networks"
    )
    sample.add_argument("--force", action="store_true", help="replace the file of --out if it exists")


def command(commands: argparse._SubParsersAction[Parser], name: str, run: Any, title: str, examples: str) -> Parser:
    """Add one command with `--json`, examples in its help, and the function that returns its answer."""
    found = commands.add_parser(
        name, help=title, description=f"{title[0].upper()}{title[1:]}.", epilog=f"examples:\n  {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    found.add_argument("--json", action="store_true", help="print JSON for machines")
    found.set_defaults(run=run)
    return found


def _lines(found: dict[str, str]) -> str:
    width = max(map(len, found), default=0)
    return "\n".join(f"{name:{width}}  {one_line(title)}" for name, title in found.items())


def _sources(arguments: argparse.Namespace) -> Answer:
    found = hyperinit.sources()
    return _lines(found), found


def _methods(arguments: argparse.Namespace) -> Answer:
    found = hyperinit.methods(arguments.source)
    return _lines(found), found


def _info(arguments: argparse.Namespace) -> Answer:
    representation = hyperinit.load(arguments.source)
    assert representation.found is not None  # `load` always remembers the file
    path = representation.found.path
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": representation.found.digest or digest(path),
        "weights": representation.layout.size,
        "latent": representation.latent_size,
        "parameters": sum(value.numel() for value in representation.autoencoder.parameters()),
    }
    words = described(network_of(representation.header.architecture), representation.layout)
    size = (
        "\n".join(f"{key:12} {value}" for key, value in words.items())
        + f"\nsize         {facts['bytes'] / 1e6:.1f} MB; networks of {facts['weights']:,} weights, latents of "
        f"{facts['latent']}, an autoencoder of {facts['parameters'] / 1e6:.1f} M parameters\n"
        f"sha256       {facts['sha256']}"
    )
    return f"{representation.card}\n\n{size}", {**asdict(representation.card), **facts, **words}


def _plan(arguments: argparse.Namespace) -> Answer:
    model = load_factory(arguments.model)()
    how = {"fit": arguments.fit, "fill": arguments.fill, "members": arguments.members}
    found = hyperinit.plan(model, arguments.source, **how)
    rows = [
        {"name": row.name, "shape": list(row.shape), "origin": row.origin, "source": row.source,
         "overlap": row.overlap, "zeros": row.zeros, "passing": row.passing,
         "rest": None if row.rest is None else asdict(row.rest)}
        for row in found.rows
    ]  # fmt: skip
    return str(found), {
        "fit": found.fit, "fill": found.fill, "decoded_share": found.decoded_share,
        "decided_share": found.decided_share, "members": found.members, "rows": rows,
        "differences": list(getattr(found.computation, "differences", ())),
    }  # fmt: skip


def _sample(arguments: argparse.Namespace) -> Answer:
    out: Path = arguments.out
    one_file = out.suffix == ENDING
    _check_places(out, one_file=one_file, force=arguments.force)
    check_seed(arguments.seed)
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    representation = hyperinit.load(arguments.source)
    _check_count(arguments.n, representation, out, one_file=one_file)
    weights = representation.sample(arguments.n, method=arguments.method, generator=torch.Generator().manual_seed(seed))
    if one_file:
        Ensemble([representation.build_model(row) for row in weights]).save(out)
        files = [out]
    else:
        note = {"source": address.shown(arguments.source), "seed": str(seed)}
        files = _write_folder(out, [representation.layout.state(row) for row in weights], note)
    method = arguments.method or representation.card.recommended
    data = {"files": list(map(str, files)), "n": len(weights), "method": method, "seed": seed}
    text = f"{counted(len(weights), 'network')} by {method}, seed {seed}: {one_line(files[0])}"
    return f"{text}{' ...' if files[1:] else ''}", data


def _check_places(out: Path, *, one_file: bool, force: bool) -> None:
    """Refuse an output that cannot be written, or that exists."""
    if one_file:
        check_file(out, force=force)
        return
    check_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise ArgumentError(f"--out must be a new or empty folder, or end in {ENDING}, got {one_line(out)}")


def _check_count(count: int, representation: HyperRepresentation, out: Path, *, one_file: bool) -> None:
    """Refuse a number of networks that fits neither in memory, nor on the disk, nor into one ensemble."""
    size = 4 * representation.layout.size  # bytes of one network
    check_amount("--n", count, COPIES * size)
    check_room(out, count * size)
    if one_file and representation.header.architecture is not None:
        network = nets.build(representation.header.architecture, device="meta")
        most = MOST_MODULES // sum(1 for _ in network.modules())
        if count > most:
            raise ArgumentError(
                f"--n must be at most {most:,} for one file, which Ensemble.load reads, got {count:,}; choose a folder"
            )


def _write_folder(out: Path, states: list[dict[str, Tensor]], note: Mapping[str, str]) -> list[Path]:
    """Write one file for each state dict, or none: after an error the files that were written are deleted."""
    new = not out.exists()
    width = len(str(len(states) - 1))
    files = [out / f"{index:0{width}}{ENDING}" for index in range(len(states))]
    try:
        for path, state in zip(files, states, strict=True):
            with replacing(path) as temporary:
                save_file({name: value.contiguous() for name, value in state.items()}, temporary, dict(note))
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        if new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    return files
