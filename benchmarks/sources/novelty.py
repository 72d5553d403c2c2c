"""Are generated networks new? Accuracy against likeness to the training networks, for every method of a source.

python -m benchmarks novelty --source mnist --data DATA                 # an embedded source
python -m benchmarks novelty --images mnist --scale small --data DATA   # the paper's recipe

Likeness is the largest overlap of wrong answers (intersection over union) with any training network, and the distance
to the nearest training network: as they are, both aligned to the training networks' mean, or one to the other.
Yardsticks: the zoo's held-out networks, `noise` of growing size, and averages of more and more neighbours. Needs no
training.

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
from benchmarks.experiment import Experiment, data_of
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.samplers import fitted
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.yardstick import Data, mistakes, overlap
from hyperinit_training.symmetry.align import align
from hyperinit_training.zoo.statistics import layer_std
from hyperinit_training.zoo.zoo import Zoo

NOISES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5)  # in units of each weight's spread over the zoo
NEIGHBOURS = (2, 4, 8, 16, 32)
ZOOS = Path(__file__).parents[2] / "training" / "zoos"


class Likeness:
    """Training networks (M, D) that others are compared with.

    Args:
        hr: the hyper-representation; its anchors are the training networks.
        data: normalised test images and labels.
        activation: of the networks.
    """

    def __init__(self, hr: hyperinit.HyperRepresentation, data: Data, activation: str) -> None:
        self.data, self.activation, self.layout = data, activation, hr.layout
        weights = hr.anchors.weights
        self.mean, self.scale = weights.mean(0), layer_std(weights, hr.layout)
        self.raw, self.weights = weights, self.aligned(weights)
        self.wrong = mistakes(weights, data, activation)

    def aligned(self, weights: Tensor) -> Tensor:
        """Reorder the neurons of networks (N, D) to match the training networks' mean."""
        return self._to(weights, self.mean)

    def _to(self, weights: Tensor, reference: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return align(weights, self.layout, generator=generator, rounds=1, reference=reference, scale=self.scale)

    def of(self, weights: Tensor) -> dict[str, Any]:
        """Accuracy, overlap and distance of every network (N, D), with their means."""
        wrong = mistakes(weights, self.data, self.activation)
        return self._found(wrong, overlap(wrong, self.wrong), self._nearest(weights, self._distances(weights)))

    def of_training(self) -> dict[str, Any]:
        """The same of each training network among the others: a zoo's own likeness."""
        others = ~torch.eye(len(self.weights), dtype=torch.bool)
        likeness = [overlap(row[None], self.wrong[keep]) for row, keep in zip(self.wrong, others, strict=True)]
        distances = self._distances(self.raw).masked_fill(~others, torch.inf)
        return self._found(self.wrong, torch.cat(likeness), self._nearest(self.raw, distances))

    def _distances(self, weights: Tensor) -> Tensor:
        """All pairs, as they are or both aligned to the mean: that brings most together and moves some apart."""
        pairs = ((weights, self.raw), (self.aligned(weights), self.weights))
        return torch.minimum(*(torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist") for pair in pairs))

    def _nearest(self, weights: Tensor, distances: Tensor) -> Tensor:
        """Distance of each network to its nearest, once it is aligned to that one, too."""
        least, places = distances.min(1)
        aligned = [self._to(row[None], self.raw[place])[0] for row, place in zip(weights, places, strict=True)]
        return torch.minimum(least, (torch.stack(aligned) - self.raw[places]).norm(dim=1))

    def _found(self, wrong: Tensor, likeness: Tensor, distances: Tensor) -> dict[str, Any]:
        accuracy = 1 - wrong.float().mean(1)
        columns = {"accuracy": accuracy, "overlap": likeness, "distance": distances}
        return {key: summary(values.tolist()) for key, values in columns.items()}


def main(argv: list[str]) -> None:
    """Measure and write `novelty-SOURCE.json`, or `novelty-IMAGES-paper-SCALE.json` of an experiment."""
    made = parser("novelty", __doc__)
    made.add_argument("--source", help="a source; default digits")
    made.add_argument("--images", help="an experiment: the paper's recipe, with LWLN")
    made.add_argument("--zoo", type=Path, help="folder of its zoo, for the held-out networks; embedded ones are known")
    made.add_argument("--draws", type=int, help="networks of each kind; default 50, and 4 at smoke scale")
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
    """Likeness of every method's networks, of both baselines' and of the training networks."""
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
    """Networks (N, D) of a zoo's val and test parts, which no autoencoder was trained on."""
    if not (folder / "zoo.json").exists():
        return None
    zoo = Zoo.load(folder)
    return torch.cat([zoo.part("val").weights, zoo.part("test").weights])


def _tell(source: str, name: str, found: dict[str, Any]) -> None:
    row = "  ".join(f"{key} {value['mean']:.4g}" for key, value in found.items())
    print(f"{source} {name:20} {row}", flush=True)
