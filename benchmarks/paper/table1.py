"""Table 1 and Figure 4: sampled networks in-dataset, before and after fine-tuning, compared with training from scratch.

python -m benchmarks table1 --images mnist --scale small --data DATA
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from benchmarks.experiment import Experiment
from benchmarks.populations import Progress, Task, shown
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser

TUNED = ("kde30", "kde30-marginal")  # S_KDE30 as in the released code, and as in the paper's text
OTHERS = ("kde", "neigh", "neigh30", "gan", "gan30")  # fine-tuned with --all only: Tables 10 to 13


def main(argv: list[str]) -> None:
    """Measure and write `table1-IMAGES-SCALE.json`."""
    made = parser("table1", __doc__)
    made.add_argument("--images", choices=("mnist", "svhn", "cifar10", "stl10"), default="mnist")
    made.add_argument("--all", action="store_true", default=None, help="fine-tune every method, for Tables 10 to 13")
    arguments = parse(made, argv)
    began = time.monotonic()
    scale = arguments.scale
    experiment = Experiment(arguments.images, scale, arguments.experiments, arguments.data)
    task = Task.of(experiment.images, experiment.recipe().zoo)
    rows = untrained(experiment, task)
    short, long = scale.tuned
    starts: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "scratch": (experiment.scratch(scale.population), shown(1, short, long)),
        "PyTorch's default": (experiment.scratch(scale.population, "default"), shown(1, short)),
    }
    for row in (*TUNED, *(OTHERS if arguments.all else ())):
        if row in experiment.representation().methods():
            starts[row] = (sample(experiment, "lwln", row, scale.population), shown(1, short))
    for variant, row in (("plain", "kde30 without LWLN"), ("aligned", "kde30, aligned")):
        starts[row] = (sample(experiment, variant, "kde30", scale.population), shown(1, short))
    if arguments.all:
        starts["fine-tuned"] = (held_out(experiment, scale.population), shown(1, short))
    for row, (weights, epochs) in starts.items():
        trained = populations(experiment, task, f"table1 {row}", weights, epochs)
        rows[row] = {**trained, **rows.get(row, {})}
        tell(arguments.images, row, rows[row], (0, 1, short, long))
    config = {"table": "table1", "key": arguments.images, "epochs": [1, short, long], **experiment.config()}
    name = f"table1-{arguments.images}-{scale.name}"
    print(save(name, command("table1", arguments), config, {"rows": rows}, began, arguments.out).name)


def untrained(experiment: Experiment, task: Task) -> dict[str, Progress]:
    """Return accuracies before training of every method, of all autoencoders and of the zoo: Figure 4."""
    count = experiment.scale.draws
    rows: dict[str, Progress] = {
        row: {"0": summary(task.test(sample(experiment, "lwln", row, count)))}
        for row in experiment.representation().methods()
    }
    for variant, suffix in (("plain", " without LWLN"), ("aligned", ", aligned")):
        for row in TUNED:
            rows[row + suffix] = {"0": summary(task.test(sample(experiment, variant, row, count)))}
    held = experiment.zoo.part("test")
    hr = experiment.representation()
    rows["zoo, held out"] = {"0": summary(task.test(held.weights))}
    rows["zoo, held out, decoded"] = {"0": summary(task.test(hr.decode(hr.encode(held.weights))))}
    rows["zoo, trained on, decoded"] = {"0": summary(task.test(hr.decode(hr.anchors.z[:count])))}
    return rows


def tell(where: str, row: str, found: Progress, epochs: tuple[int, ...]) -> None:
    """Print a population's mean accuracies at those of `epochs` that were measured."""
    words = {epoch: f"{found[str(epoch)]['mean']:.2%}" for epoch in epochs if str(epoch) in found}
    print(where, row, words, flush=True)


def sample(experiment: Experiment, variant: str, method: str, count: int) -> Tensor:
    """Draw networks (count, D) with a fixed seed, so that tables and figures show the same networks."""
    generator = torch.Generator().manual_seed(1)
    return experiment.representation(variant).sample(count, method=method, generator=generator)


def held_out(experiment: Experiment, count: int) -> Tensor:
    """Return last snapshots (count, D) for B_F: test networks first, then val and train networks."""
    zoo = experiment.zoo
    last = max(s.epoch for s in zoo.snapshots)
    order = sorted(range(len(zoo)), key=lambda row: ("test", "val", "train").index(zoo.snapshots[row].split))
    return zoo.weights[[row for row in order if zoo.snapshots[row].epoch == last][:count]]


def populations(experiment: Experiment, task: Task, name: str, starts: Tensor, epochs: tuple[int, ...]) -> Progress:
    """Train a population from `starts` (N, D), or return the stored result of the same training."""
    reported = list(dict.fromkeys(epochs))
    key = {
        "starts": starts.double().sum().item(), "count": len(starts), "recipe": task.recipe.to_json(),
        "epochs": reported, "images": len(task.data.train[1]),
    }  # fmt: skip
    found: Progress = experiment.cached(name, key, lambda: task.progress(starts, reported))
    return found
