"""Ensembles of 15 networks from different families, from all anchors, and of the zoo's own networks.

python -m benchmarks spread --source svhn --data SVHN.npz

Nothing is chosen on the test images.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hyperinit
from benchmarks.populations import tensors
from benchmarks.record import parser, save, summary
from hyperinit.samplers import families
from hyperinit_training.images.dataset import load_images

MEMBERS = 15


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/spread-SOURCE.json`."""
    made = parser("spread", __doc__)
    made.add_argument("--source", default="svhn", help="source to measure")
    made.add_argument("--data", type=Path, help="folder or .npz file of the source's images; digits need none")
    made.add_argument("--methods", nargs="+", help="sampling methods; by default those that begin at anchors")
    made.add_argument("--ensembles", type=int, default=15, help="ensembles of each kind")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    hr = hyperinit.load(arguments.source)
    test = tensors(load_images(hr.card.zoo["images"]["name"], arguments.data), "test")
    methods = arguments.methods or ["kde", "kde30", "local", "local30"]
    kinds = [(name, spread) for name in methods for spread in (True, False)]
    results: dict[str, Any] = {"families": int(hr.anchors.families.max()) + 1, "recommended": hr.card.recommended}
    for name, spread in kinds:
        key = f"{name}, {'spread over families' if spread else 'from all anchors'}"
        results[key] = summary([_generated(hr, name, spread, seed, test) for seed in range(arguments.ensembles)])
        print(key, f"{results[key]['mean']:.2%}", flush=True)
    results["networks of the zoo, spread over families"] = summary(
        [_zoo(hr, seed, test) for seed in range(arguments.ensembles)]
    )
    config = {"source": arguments.source, "members": MEMBERS, "ensembles": arguments.ensembles, "test": len(test[0])}
    command = f"python -m benchmarks spread --source {arguments.source} --data DATA"
    print(save(f"spread-{arguments.source}", command, config, results, began, arguments.out).name)


def _generated(
    hr: hyperinit.HyperRepresentation, method: str, spread: bool, seed: int, test: tuple[Tensor, Tensor]
) -> float:
    generator = torch.Generator().manual_seed(seed)
    ensemble = hyperinit.ensemble(MEMBERS, hr, method=method, spread=spread, generator=generator)
    return ensemble.accuracy(*test).joint


def _zoo(hr: hyperinit.HyperRepresentation, seed: int, test: tuple[Tensor, Tensor]) -> float:
    rows = families.spread(hr.anchors.families, MEMBERS, torch.Generator().manual_seed(seed))
    ensemble = hyperinit.Ensemble([hr.build_model(row) for row in hr.anchors.weights[rows]])
    return ensemble.accuracy(*test).joint
