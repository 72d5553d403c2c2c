"""Figure 3: accuracy and reconstruction under noise on latents, and accuracy of interpolated latents.

python -m benchmarks figure3 --images svhn --scale small --data DATA
python -m benchmarks figure3 --images svhn --part train --scale small --data DATA

Noise is relative to the standard deviation of each latent coordinate. Latents are interpolated linearly from epoch 5
(which no autoencoder was trained on) to epoch 25 of one network, and between two networks. The paper uses held-out
networks; `--part train` uses the networks that the autoencoder was trained on.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.experiment import Experiment
from benchmarks.populations import Progress, Task
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.representation import HyperRepresentation
from hyperinit_training.train_autoencoder.explained import r2
from hyperinit_training.zoo.statistics import layer_std
from hyperinit_training.zoo.zoo import Zoo

NOISES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
STEPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MOST = 50  # networks whose latents get noise
PAIRS = 250  # pairs of different networks, at most the scale's draws


def main(argv: list[str]) -> None:
    """Measure and write `figure3-IMAGES-SCALE.json`."""
    made = parser("figure3", __doc__)
    made.add_argument("--images", default="svhn")
    made.add_argument(
        "--part", choices=("test", "train"), default="test", help="part of the zoo whose latents are used"
    )
    arguments = parse(made, argv)
    began = time.monotonic()
    scale = arguments.scale
    experiment = Experiment(arguments.images, scale, arguments.experiments, arguments.data)
    task, results = Task.of(experiment.images, experiment.recipe().zoo), {}
    pairs = min(PAIRS, scale.draws)
    for variant in ("lwln", "plain", "aligned"):
        hr, zoo = experiment.representation(variant), experiment.prepared(variant)
        own, whole = zoo.part(arguments.part), experiment.trajectories(arguments.part, variant)
        results[variant] = {"noise": noisy(hr, own.weights[:MOST], task), **paths(hr, whole, task, pairs)}
        clean, noised = (results[variant]["noise"][str(noise)]["accuracy"]["mean"] for noise in (0.0, 0.1))
        print(arguments.images, variant, f"no noise {clean:.2%}, a tenth {noised:.2%}", flush=True)
    key = arguments.images if arguments.part == "test" else f"{arguments.images}-train"
    config = {"table": "figure3", "key": key, "pairs": pairs, **experiment.config()}
    name = f"figure3-{key}-{scale.name}"
    print(save(name, command("figure3", arguments), config, results, began, arguments.out).name)


def noisy(hr: HyperRepresentation, networks: Tensor, task: Task) -> dict[str, Any]:
    """Return accuracy and R2 of networks (N, D) decoded from their latents plus noise, by size of the noise."""
    z, generator = hr.encode(networks), torch.Generator().manual_seed(0)
    std, mean = layer_std(hr.anchors.weights, hr.layout), hr.anchors.weights.mean(0)
    spread = hr.anchors.z.std(0)  # (L,)
    found = {}
    for noise in NOISES:
        weights = hr.decode(z + noise * spread * torch.randn(z.shape, generator=generator))
        explained = r2(weights, networks, std, mean).item()
        found[str(noise)] = {"accuracy": summary(task.test(weights)), "r2": round(explained, 5)}
    return found


def paths(hr: HyperRepresentation, held: Zoo, task: Task, pairs: int) -> dict[str, Any]:
    """Return accuracies along interpolations from a network's first to its last snapshot, and between two networks."""
    z, models = hr.encode(held.weights), torch.tensor([s.model for s in held.snapshots])
    epochs = torch.tensor([s.epoch for s in held.snapshots])
    ends = [  # rows of the first and the last snapshot of each network
        (rows[epochs[rows].argmin()], rows[epochs[rows].argmax()])
        for rows in ((models == model).nonzero()[:, 0] for model in models.unique())
    ]
    generator = torch.Generator().manual_seed(0)
    # Drawn pairs may be of one network, and such pairs are dropped: 8 times as many leave enough.
    drawn = torch.randint(len(z), (8 * pairs, 2), generator=generator)
    between = drawn[models[drawn[:, 0]] != models[drawn[:, 1]]][:pairs]
    return {
        "along one network's training": _path(hr, z, torch.tensor(ends), task),
        "between two networks": _path(hr, z, between, task),
    }


def _path(hr: HyperRepresentation, z: Tensor, ends: Tensor, task: Task) -> Progress:
    first, last = z[ends[:, 0]], z[ends[:, 1]]
    return {str(step): summary(task.test(hr.decode(first + step * (last - first)))) for step in STEPS}
