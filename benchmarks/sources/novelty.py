"""Are generated networks new? Measure accuracy and similarity to the training networks for every sampling method.

python -m benchmarks novelty --source mnist --data DATA                 # an embedded source
python -m benchmarks novelty --images mnist --scale small --data DATA   # the paper's recipe

Similarity is measured twice: the largest overlap of wrong answers (intersection over union) with any training network,
and the distance to the nearest training network. The distance is the smallest of three: between the networks as they
are, with both aligned to the mean training network, and with one aligned to the other. Baselines are the zoo's held-out
networks, `noise` of growing size, and averages of more and more neighbours. Nothing is trained.

Source: Zeng et al. 2025, arXiv:2506.07998.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hyperinit
from benchmarks.experiment import ZOOS, Experiment, data_of
from benchmarks.record import Summary, save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.samplers import fitted
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.yardstick import Data, mistakes, overlap
from hyperinit_training.symmetry.align import align
from hyperinit_training.zoo.statistics import layer_std
from hyperinit_training.zoo.zoo import Zoo

NOISES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5)  # in standard deviations of each weight over the zoo
NEIGHBOURS = (2, 4, 8, 16, 32)


class Likeness:
    """Similarity of networks to the training networks (M, D).

    Args:
        hr: the hyper-representation; its anchors are the training networks.
        data: normalised test images and labels.
        activation: name of the networks' activation function.
    """

    def __init__(self, hr: hyperinit.HyperRepresentation, data: Data, activation: str) -> None:
        self.data, self.activation, self.layout = data, activation, hr.layout
        weights = hr.anchors.weights
        self.mean, self.scale = weights.mean(0), layer_std(weights, hr.layout)
        self.raw, self.weights = weights, self.aligned(weights)
        self.wrong = mistakes(weights, data, activation)

    def aligned(self, weights: Tensor) -> Tensor:
        """Reorder the neurons of networks (N, D) to match the mean training network."""
        return self._to(weights, self.mean)

    def _to(self, weights: Tensor, reference: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return align(weights, self.layout, generator=generator, rounds=1, reference=reference, scale=self.scale)

    def of(self, weights: Tensor) -> dict[str, Summary]:
        """Return accuracy, overlap and distance of networks (N, D)."""
        wrong = mistakes(weights, self.data, self.activation)
        return self._found(wrong, overlap(wrong, self.wrong), self._nearest(weights, self._distances(weights)))

    def of_training(self) -> dict[str, Summary]:
        """Return accuracy, overlap and distance of each training network, compared with the other training networks."""
        others = ~torch.eye(len(self.weights), dtype=torch.bool)
        likeness = [overlap(row[None], self.wrong[keep]) for row, keep in zip(self.wrong, others, strict=True)]
        distances = self._distances(self.raw).masked_fill(~others, torch.inf)
        return self._found(self.wrong, torch.cat(likeness), self._nearest(self.raw, distances))

    def _distances(self, weights: Tensor) -> Tensor:
        """Return the distances (N, M) of all pairs: the smaller of as they are and with both aligned to the mean.

        Alignment brings most pairs closer and moves some apart.
        """
        pairs = ((weights, self.raw), (self.aligned(weights), self.weights))
        return torch.minimum(*(torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist") for pair in pairs))

    def _nearest(self, weights: Tensor, distances: Tensor) -> Tensor:
        """Return the distance (N,) of each network to its nearest in `distances` (N, M), also after alignment to it."""
        least, places = distances.min(1)
        aligned = [self._to(row[None], self.raw[place])[0] for row, place in zip(weights, places, strict=True)]
        return torch.minimum(least, (torch.stack(aligned) - self.raw[places]).norm(dim=1))

    def _found(self, wrong: Tensor, likeness: Tensor, distances: Tensor) -> dict[str, Summary]:
        accuracy = 1 - wrong.float().mean(1)
        columns = {"accuracy": accuracy, "overlap": likeness, "distance": distances}
        return {key: summary(values.tolist()) for key, values in columns.items()}


def main(argv: list[str]) -> None:
    """Measure and write `novelty-SOURCE.json`, or `novelty-IMAGES-paper-SCALE.json` of an experiment."""
    made = parser("novelty", __doc__)
    made.add_argument("--source", help="measure this embedded source; default digits")
    made.add_argument("--images", help="measure the experiment on this data set: the paper's recipe with LWLN")
    made.add_argument(
        "--zoo", type=Path, help="folder of the source's zoo, for held-out networks; default training/zoos/SOURCE"
    )
    made.add_argument("--draws", type=int, help="networks sampled by each method; by default the scale's draws")
    arguments = parse(made, argv)
    if arguments.source and arguments.images:
        made.error("give --source or --images, not both")
    began = time.monotonic()
    hr, held, key = _of_experiment(arguments) if arguments.images else _of_source(arguments)
    name = hr.card.zoo["images"]["name"]
    images = load_images(name, data_of(name, arguments.data))
    draws = arguments.draws or arguments.scale.draws
    likeness = Likeness(hr, images.normalised("test"), hr.card.zoo["recipe"]["activation"])
    results = measure(hr, likeness, key, draws, smoke=arguments.scale.name == "smoke")
    if held is not None:
        results["real, held out"] = likeness.of(held)
        _tell(key, "real, held out", results["real, held out"])
    config = {"table": "novelty", "key": key, "scale": arguments.scale.name, "draws": draws, "seed": 1}
    config |= {"training networks": len(hr.anchors), "test images": len(images.y_test)}
    name = f"novelty-{key}-{arguments.scale.name}" if arguments.images else f"novelty-{key}"
    print(save(name, command("novelty", arguments), config, results, began, arguments.out).name)


def measure(
    hr: hyperinit.HyperRepresentation, likeness: Likeness, key: str, draws: int, *, smoke: bool
) -> dict[str, Any]:
    """Return the similarity of every method's networks, of both baselines' and of the training networks."""
    methods = [m for m in hr.methods() if m not in ("noise", "average") and not (smoke and m.startswith("neigh"))]
    results: dict[str, Any] = {"methods": {}, "noise": {}, "average": {}, "recommended": hr.card.recommended}
    for method in methods:
        generator = torch.Generator().manual_seed(1)
        results["methods"][method] = likeness.of(hr.sample(draws, method=method, generator=generator))
        _tell(key, method, results["methods"][method])
    for baseline, option, values in (("noise", "noise", NOISES), ("average", "neighbours", NEIGHBOURS)):
        for value in values[:2] if smoke else values:
            results[baseline][str(value)] = found = likeness.of(_baseline(hr, baseline, {option: value}, draws))
            _tell(key, f"{baseline} {value}", found)
    results["training networks among themselves"] = likeness.of_training()
    return results


def _of_source(arguments: argparse.Namespace) -> tuple[hyperinit.HyperRepresentation, Tensor | None, str]:
    source = arguments.source or "digits"
    return hyperinit.load(source), _held_out(arguments.zoo or ZOOS / source), Path(source).stem


def _of_experiment(arguments: argparse.Namespace) -> tuple[hyperinit.HyperRepresentation, Tensor | None, str]:
    experiment = Experiment(arguments.images, arguments.scale, arguments.experiments, arguments.data)
    held = torch.cat([experiment.zoo.part(part).weights for part in ("val", "test")])
    return experiment.representation(), held, f"{arguments.images}-paper"


def _baseline(hr: hyperinit.HyperRepresentation, method: str, options: dict[str, Any], draws: int) -> Tensor:
    sampler = fitted(method, hr.anchors, replace(hr.header.samplers, **options))
    return sampler.sample(draws, torch.Generator().manual_seed(1))


def _held_out(folder: Path) -> Tensor | None:
    """Return the networks (N, D) of a zoo's val and test parts, or None without a zoo; none was trained on."""
    if not (folder / "zoo.json").exists():
        return None
    zoo = Zoo.load(folder)
    return torch.cat([zoo.part("val").weights, zoo.part("test").weights])


def _tell(source: str, name: str, found: dict[str, Summary]) -> None:
    row = "  ".join(f"{key} {value['mean']:.4g}" for key, value in found.items())
    print(f"{source} {name:20} {row}", flush=True)
