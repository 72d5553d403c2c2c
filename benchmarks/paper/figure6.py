"""Figure 6: fine-tune held-out networks and their reconstructions; compare accuracy and measure distance.

python -m benchmarks figure6 --images svhn --scale small --data DATA

Both networks of a pair see the same images in the same order.
"""

from __future__ import annotations

import time

import torch
from torch.nn import functional

from benchmarks.experiment import Experiment
from benchmarks.populations import Progress, Task, shown
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser


def main(argv: list[str]) -> None:
    """Measure and write `figure6-IMAGES-SCALE.json`."""
    made = parser("figure6", __doc__)
    made.add_argument("--images", default="svhn")
    arguments = parse(made, argv)
    began = time.monotonic()
    experiment = Experiment(arguments.images, arguments.scale, arguments.experiments, arguments.data)
    task = Task.of(experiment.images, experiment.recipe().zoo)
    results = {variant: pairs(experiment, task, variant) for variant in ("lwln", "aligned")}
    end = str(arguments.scale.tuned[0])
    for variant, found in results.items():
        ends = {kind: [found[kind][epoch]["mean"] for epoch in ("0", "1", end)] for kind in found}
        print(arguments.images, variant, ends, flush=True)
    config = {"table": "figure6", "key": arguments.images, "epochs": [1, int(end)], **experiment.config()}
    name = f"figure6-{arguments.images}-{arguments.scale.name}"
    print(save(name, command("figure6", arguments), config, results, began, arguments.out).name)


def pairs(experiment: Experiment, task: Task, variant: str) -> dict[str, Progress]:
    """Return accuracies of originals and reconstructions by epoch, and distance and cosine within each pair."""
    hr, held = experiment.representation(variant), experiment.prepared(variant).part("test")
    last = max(s.epoch for s in held.snapshots)
    rows = [row for row, s in enumerate(held.snapshots) if s.epoch == last][: experiment.scale.population]
    original = held.weights[rows]
    decoded, epochs = hr.decode(hr.encode(original)), shown(1, experiment.scale.tuned[0])

    def run() -> dict[str, Progress]:
        first, second = ({0: start, **task.tuned(start, epochs)} for start in (original, decoded))
        found: dict[str, Progress] = {"original": {}, "reconstructed": {}, "distance": {}, "cosine": {}}
        for epoch in first:
            key, one, other = str(epoch), first[epoch], second[epoch]
            found["original"][key], found["reconstructed"][key] = (summary(task.test(w)) for w in (one, other))
            found["distance"][key] = summary((one - other).norm(dim=1).tolist())
            found["cosine"][key] = summary(functional.cosine_similarity(one, other, dim=1).tolist())
        return found

    sums = [torch.sum(w.double()).item() for w in (original, decoded)]
    key = {
        "starts": sums, "count": len(rows), "recipe": task.recipe.to_json(),
        "epochs": list(epochs), "images": len(task.data.train[1]),
    }  # fmt: skip
    found: dict[str, Progress] = experiment.cached(f"figure6 {variant}", key, run)
    return found
