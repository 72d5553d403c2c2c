"""`python -m benchmarks NAME --help`: each measurement is one module, its result one JSON in benchmarks/results/."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

COMMANDS = {  # name -> its module in benchmarks, and what it measures
    "in-dataset": (
        "sources.in_dataset",
        "accuracy of a source on its own task before and after an epoch of training, and of ensembles",
    ),
    "full-schedule": (
        "sources.full_schedule",
        "a source's own task to the end, from PyTorch's default, from init_, and at strength 0.5",
    ),
    "resnet20": ("sources.resnet20", "a hyper-representation of fine-tuned ResNet-20s, from nothing to samples"),
    "transfer": (
        "sources.transfer",
        "a source as the start of training on another data set, against PyTorch's default",
    ),
    "resize-rules": ("sources.resize_rules", "how tensors are resized, against the plain leading block"),
    "select": (
        "sources.select",
        "test accuracy of init_ when the best of several draws on a few training images is kept",
    ),
    "reading": ("speed.reading", "reading a folder of checkpoints into one matrix"),
    "speed": ("speed", "our code against what people would use instead, and against what the machine allows"),
    "latency": ("speed.latency", "what init_, ensemble and the import cost"),
    "pieces": ("paper.pieces", "the commands that measure everything that the report shows, in order"),
    "prepare": ("paper.prepare", "one piece of what the paper's tables share: a zoo, or an autoencoder of it"),
    "uniform-start": ("paper.uniform_start", "whether networks learn from the start of the paper's zoos, U(0, 1)"),
    "table1": (
        "paper.table1",
        "the paper's Table 1 and Figure 4: sampled networks on their own data set; with --all Tables 10 to 13",
    ),
    "table2": ("paper.table2", "the paper's Table 2: transfer to another data set"),
    "table3": ("paper.table3", "the paper's Table 3: networks of a zoo that the autoencoder has not seen"),
    "table4": ("paper.table4", "the paper's Table 4: other architectures"),
    "table9": ("paper.table9", "the paper's Table 9: reconstruction of more diverse zoos"),
    "figure3": ("paper.figure3", "the paper's Figure 3: noise on latents, and paths between them"),
    "figure5": ("paper.figure5", "the paper's Figure 5: ensembles of 1 to 15, of a source or of an experiment"),
    "figure6": ("paper.figure6", "the paper's Figure 6: networks and their reconstructions, fine-tuned side by side"),
    "figures-weights": (
        "paper.figures_weights",
        "the paper's Figures 2 and 9 to 13: weights by layer before and after reconstruction, latents",
    ),
    "novelty": (
        "sources.novelty",
        "accuracy against likeness to the training networks, with noise and averages as yardsticks",
    ),
    "initializer": (
        "sources.initializer",
        "init_ against what a user has today: epochs and seconds to the same accuracy",
    ),
    "initializer-other": (
        "sources.initializer_other",
        "the same on networks outside the zoo: wider with BatchNorm, residual, of linear layers only",
    ),
    "report": ("report.document", "docs/results.md with its figures, from all results"),
}


def module_of(name: str) -> ModuleType:
    """Import the module of a measurement; its `main` takes the arguments that follow the name."""
    return importlib.import_module(f"benchmarks.{COMMANDS[name][0]}")


def main(argv: list[str]) -> int:
    """Run one measurement."""
    if not argv or argv[0] not in COMMANDS:
        print(
            "python -m benchmarks NAME\n" + "\n".join(f"  {name:17} {title}" for name, (_, title) in COMMANDS.items())
        )
        return 0 if argv[:1] in ([], ["--help"], ["-h"]) else 2
    module_of(argv[0]).main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
