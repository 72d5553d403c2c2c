"""Figures 2 and 9 to 13: weights and accuracies before and after reconstruction, and the geometry of latents.

python -m benchmarks figures-weights --images svhn --scale small --data DATA

R2 is measured twice: over all weights as in the paper (Appendix C), and with each layer scaled to unit variance.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.experiment import Experiment
from benchmarks.populations import Task
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.representation import HyperRepresentation
from hyperinit_training.train_autoencoder.explained import r2, r2_per_layer
from hyperinit_training.zoo.statistics import layer_std

BINS = 40
DIMENSIONS = 4  # latent coordinates with a histogram: half differ most between all and the top 30 %, half least


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
        z = hr.encode(held)
        decoded, anchors = hr.decode(z), hr.anchors.weights
        pairs = {"r2": (decoded, held), "r2, trained on": (hr.decode(hr.anchors.z), anchors)}
        units = {"weights": None, "layers": layer_std(anchors, hr.layout)}
        results[variant] = found = {
            **{
                part: {name: round(r2(*pair, unit, anchors.mean(0)).item(), 5) for name, unit in units.items()}
                for part, pair in pairs.items()
            },
            "layers": layers(hr, held, decoded),
            "accuracy": {"real": summary(task.test(held)), "decoded": summary(task.test(decoded))},
            "latents": {**latents(hr.anchors.z), **histograms(hr.anchors.z, z, hr.anchors.score)},
        }
        real, again = (found["accuracy"][kind]["mean"] for kind in ("real", "decoded"))
        print(arguments.images, variant, f"real {real:.2%}, decoded {again:.2%}, R2 {found['r2']}", flush=True)
    config = {"table": "figures-weights", "key": arguments.images, **experiment.config()}
    name = f"figures-weights-{arguments.images}-{arguments.scale.name}"
    print(save(name, command("figures-weights", arguments), config, results, began, arguments.out).name)


def layers(hr: HyperRepresentation, real: Tensor, decoded: Tensor) -> dict[str, Any]:
    """Return R2, standard deviations and histograms of each layer's real and decoded weights, both (N, D)."""
    explained, found = r2_per_layer(decoded, real, hr.layout), {}
    for name, where in hr.layout.layer_slices.items():
        ends = real[:, where].min().item(), real[:, where].max().item()
        counted = histogram({"real": real[:, where], "decoded": decoded[:, where]}, ends)
        spread = {kind: round(part[:, where].std().item(), 5) for kind, part in (("real", real), ("decoded", decoded))}
        found[name] = {**counted, "std": spread, "r2": round(explained[name], 5)}
    return found


def latents(z: Tensor) -> dict[str, Any]:
    """Return quantiles (0, 5, 25, 50, 75, 95, 100 %) of the norms and of the pairwise cosines of latents (N, L)."""
    levels = torch.tensor([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    return {
        "norm": [round(value, 4) for value in z.norm(dim=1).quantile(levels).tolist()],
        "cosine": [round(value, 4) for value in cosines(z).quantile(levels).tolist()],
        "largest possible norm": round(z.shape[1] ** 0.5, 4),
    }


def cosines(z: Tensor) -> Tensor:
    """Return the cosines between different latents (N, L), of at most 100,000 random pairs."""
    directions = functional.normalize(z, dim=1)
    found = (directions @ directions.T)[tuple(torch.triu_indices(len(z), len(z), 1))]
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:100_000]]


def histograms(train: Tensor, test: Tensor, scores: Tensor) -> dict[str, Any]:
    """Return histograms of norms and cosines of both parts' latents (N, L), and of single coordinates of `train`."""
    top = train[scores.argsort(descending=True)[: max(1, round(0.3 * len(train)))]]
    # How many standard deviations the mean of the top 30 % lies from the mean of all, (L,).
    shift = (top.mean(0) - train.mean(0)).abs() / train.std(0).clamp_min(1e-6)
    order = shift.argsort(descending=True)
    half = DIMENSIONS // 2
    return {
        "norms": histogram({"train": train.norm(dim=1), "test": test.norm(dim=1)}),
        "cosines": histogram({"train": cosines(train), "test": cosines(test)}),
        "dimensions": {
            str(place): histogram({"all": train[:, place], "top 30 %": top[:, place]}, (-1.0, 1.0))
            for place in [*order[:half].tolist(), *order[-half:].tolist()]
        },
    }


def histogram(parts: dict[str, Tensor], ends: tuple[float, float] | None = None) -> dict[str, Any]:
    """Count the values of each part on common bins, by default from the smallest to the largest value of all parts.

    >>> histogram({"a": torch.tensor([0.0, 1.0])})["range"]
    [0.0, 1.0]
    """
    values = torch.cat(list(parts.values()))
    low, high = ends or (values.min().item(), values.max().item())
    high = max(high, low + 1e-6)
    counts = {name: torch.histc(part.float(), BINS, low, high).int().tolist() for name, part in parts.items()}
    return {"range": [low, high], "counts": counts}
