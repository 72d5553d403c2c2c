"""Figures 2 and 9 to 12: weights by layer and accuracies before and after reconstruction; norms and angles of latents.

python -m benchmarks figures-weights --images svhn --scale small --data DATA
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.experiment import Experiment
from benchmarks.populations import Task
from benchmarks.results import save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.representation import HyperRepresentation
from hyperinit_training.losses import r2_per_layer

BINS = 40


def main(argv: list[str]) -> None:
    """Measure and write `figures-weights-IMAGES-SCALE.json`."""
    made = parser("figures-weights", __doc__)
    made.add_argument("--images", default="svhn")
    arguments = parse(made, argv)
    began = time.monotonic()
    experiment = Experiment(arguments.images, arguments.scale, arguments.experiments, arguments.data)
    task, results = Task.of(experiment.images, experiment.recipe().zoo), {}
    for variant in ("plain", "lwln", "aligned"):
        hr, held = experiment.representation(variant), experiment.prepared(variant).part("test").weights
        decoded = hr.decode(hr.encode(held))
        results[variant] = found = {
            "layers": layers(hr, held, decoded),
            "accuracy": {"real": summary(task.test(held)), "decoded": summary(task.test(decoded))},
            "latents": latents(hr.anchors.z),
        }
        real, again = (found["accuracy"][kind]["mean"] for kind in ("real", "decoded"))
        print(arguments.images, variant, f"real {real:.2%}, decoded {again:.2%}", flush=True)
    config = {"table": "figures-weights", "key": arguments.images, **experiment.config()}
    name = f"figures-weights-{arguments.images}-{arguments.scale.name}"
    print(save(name, command("figures-weights", arguments), config, results, began, arguments.out).name)


def layers(hr: HyperRepresentation, real: Tensor, decoded: Tensor) -> dict[str, Any]:
    """Histograms of each layer's weights on common bins, standard deviations and R2."""
    explained, found = r2_per_layer(decoded, real, hr.layout), {}
    for name, where in hr.layout.layer_slices.items():
        low, high = real[:, where].min().item(), real[:, where].max().item()
        low, high = low, max(high, low + 1e-6)
        histograms = {
            kind: torch.histc(part[:, where].float(), BINS, low, high).int().tolist()
            for kind, part in (("real", real), ("decoded", decoded))
        }
        spread = {kind: round(part[:, where].std().item(), 5) for kind, part in (("real", real), ("decoded", decoded))}
        found[name] = {"range": [low, high], "counts": histograms, "std": spread, "r2": round(explained[name], 5)}
    return found


def latents(z: Tensor) -> dict[str, Any]:
    """Quantiles (0, 5, 25, 50, 75, 95, 100 %) of the norms and of pairwise cosines of latents (N, L)."""
    directions = functional.normalize(z, dim=1)
    cosines = (directions @ directions.T)[tuple(torch.triu_indices(len(z), len(z), 1))]
    levels = torch.tensor([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    chosen = cosines[torch.randperm(len(cosines), generator=torch.Generator().manual_seed(0))[:100_000]]
    norms = z.norm(dim=1)
    return {
        "norm": [round(value, 4) for value in norms.quantile(levels).tolist()],
        "cosine": [round(value, 4) for value in chosen.quantile(levels).tolist()],
        "largest possible norm": round(z.shape[1] ** 0.5, 4),
    }
