"""The commands that read a source: `sources`, `methods`, `info`, `plan` and `sample`.

The answer of each command is text, and the same as plain data for `--json`.
"""

from __future__ import annotations

import argparse
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import hyperinit
from hyperinit.cli.factories import load_factory
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import ArgumentError
from hyperinit.files.atomic import digest, replacing
from hyperinit.fitting import FILLS, FITS

Answer = tuple[str, Any]
SOURCE = "a name that `hyperinit sources` lists, the path of an artifact, or an address (docs/hub.md)"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    for reader in (methods, info, sample):
        reader.add_argument("source", help=SOURCE)
    plan.add_argument("model", metavar="MODULE:FACTORY", help="importable callable that returns the network")
    plan.add_argument("--source", default=hyperinit.api.DEFAULT_SOURCE, help=f"{SOURCE}; default %(default)s")
    plan.add_argument("--fit", default="auto", help=f"{', '.join(FITS)}; default %(default)s")
    plan.add_argument("--fill", default="default", help=f"{', '.join(FILLS)}; default %(default)s")
    sample.add_argument("--n", type=int, default=1, help="number of networks; default %(default)s")
    sample.add_argument("--method", help="a name that `hyperinit methods SOURCE` lists; default: the recommended one")
    sample.add_argument("--seed", type=int, help="seed of the samples; default: a random one")
    sample.add_argument("--out", type=Path, required=True, help="a folder, or one .safetensors file for all networks")


def command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Any, title: str, examples: str
) -> argparse.ArgumentParser:
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
    return "\n".join(f"{name:{width}}  {title}" for name, title in found.items())


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
    size = (
        f"size         {facts['bytes'] / 1e6:.1f} MB; networks of {facts['weights']:,} weights, latents of "
        f"{facts['latent']}, an autoencoder of {facts['parameters'] / 1e6:.1f} M parameters\n"
        f"sha256       {facts['sha256']}"
    )
    return f"{representation.card}\n\n{size}", {**asdict(representation.card), **facts}


def _plan(arguments: argparse.Namespace) -> Answer:
    model = load_factory(arguments.model)()
    found = hyperinit.plan(model, arguments.source, fit=arguments.fit, fill=arguments.fill)
    rows = [
        {"name": row.name, "shape": list(row.shape), "origin": row.origin, "source": row.source,
         "overlap": row.overlap, "zeros": row.zeros, "rest": None if row.rest is None else asdict(row.rest)}
        for row in found.rows
    ]  # fmt: skip
    return str(found), {"fit": found.fit, "fill": found.fill, "decoded_share": found.decoded_share, "rows": rows}


def _sample(arguments: argparse.Namespace) -> Answer:
    out: Path = arguments.out
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    representation = hyperinit.load(arguments.source)
    one_file = out.suffix == ".safetensors"
    if not one_file and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArgumentError(f"--out must be a new or empty folder, or end in .safetensors, got {out}")
    weights = representation.sample(arguments.n, method=arguments.method, generator=torch.Generator().manual_seed(seed))
    if one_file:
        Ensemble([representation.build_model(row) for row in weights]).save(out)
        files = [out]
    else:
        files = [out / f"{index:0{len(str(len(weights) - 1))}}.safetensors" for index in range(len(weights))]
        for path, row in zip(files, weights, strict=True):
            state = {name: value.contiguous() for name, value in representation.layout.unflatten(row).items()}
            with replacing(path) as temporary:
                save_file(state, temporary, {"source": arguments.source, "seed": str(seed)})
    method = arguments.method or representation.card.recommended
    data = {"files": list(map(str, files)), "n": len(weights), "method": method, "seed": seed}
    return f"{len(weights)} networks by {method}, seed {seed}: {files[0]}{' ...' if files[1:] else ''}", data
