"""Run one measurement: `python -m benchmarks NAME`. Each is one module and writes JSON to benchmarks/results/."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

COMMANDS = {  # name -> module in benchmarks, and title
    "in-dataset": (
        "sources.in_dataset",
        "a source on its own task: accuracy before training, after one epoch, and of ensembles",
    ),
    "full-schedule": (
        "sources.full_schedule",
        "a source on its own task: the full training schedule from PyTorch's default and from init_",
    ),
    "resnet20": ("sources.resnet20", "a hyper-representation of fine-tuned ResNet-20s: zoo, training and samples"),
    "transfer": (
        "sources.transfer",
        "training on another data set from init_, compared with PyTorch's default",
    ),
    "spread": ("sources.spread", "ensembles of 15 networks from different families of the zoo, and from all anchors"),
    "wider": (
        "sources.wider",
        "networks several times as wide as the source's: starts and training, from init_, the default and the zoo",
    ),
    "resize-rules": ("sources.resize_rules", "resizing of tensors in init_, compared with copying the leading block"),
    "resize-narrow": (
        "sources.resize_narrow",
        "narrower networks and smaller kernels: which neurons are kept, and correction on batches",
    ),
    "select": (
        "sources.select",
        "accuracy of init_ with select=: the best of several draws on a few training images",
    ),
    "reading": ("speed.reading", "time and memory of reading a folder of checkpoints"),
    "speed": ("speed", "speed of this library, compared with alternatives and with the limits of the machine"),
    "latency": ("speed.latency", "seconds of the import, of init_ and of ensemble"),
    "reliability": ("report.reliability", "write docs/reliability.md from the figures of the slow tests"),
    "pieces": ("paper.pieces", "print the commands of all measurements that the report shows, in order"),
    "prepare": ("paper.prepare", "make one part that the paper's tables share: a zoo or an autoencoder"),
    "uniform-start": (
        "paper.uniform_start",
        "whether networks learn when they are initialised from U(0, 1), as the paper's zoos are",
    ),
    "table1": (
        "paper.table1",
        "the paper's Table 1 and Figure 4: sampled networks in-dataset; with --all also Tables 10 to 13",
    ),
    "table2": ("paper.table2", "the paper's Table 2: transfer to another data set"),
    "table3": ("paper.table3", "the paper's Table 3: sampling for a zoo that the autoencoder was not trained on"),
    "table4": ("paper.table4", "the paper's Table 4: other architectures"),
    "table9": ("paper.table9", "the paper's Table 9: reconstruction of more diverse zoos"),
    "figure3": ("paper.figure3", "the paper's Figure 3: noise on latents, and interpolation between latents"),
    "figure5": ("paper.figure5", "the paper's Figure 5: ensembles of 1 to 15 networks"),
    "figure6": ("paper.figure6", "the paper's Figure 6: fine-tuning of networks and of their reconstructions"),
    "figures-weights": (
        "paper.figures_weights",
        "the paper's Figures 2 and 9 to 13: reconstruction layer by layer, and the latents",
    ),
    "novelty": (
        "sources.novelty",
        "similarity of generated networks to the training networks, with noise and averages as baselines",
    ),
    "initializer": (
        "sources.initializer",
        "init_ compared with other initialisations: epochs and seconds to the same accuracy",
    ),
    "initializer-other": (
        "sources.initializer_other",
        "the same on other architectures: wider with BatchNorm, residual, linear layers only",
    ),
    "report": ("report.document", "write docs/results.md and its figures from the result files"),
}


def module_of(name: str) -> ModuleType:
    """Import the module of a measurement; its `main` takes the arguments after the name."""
    return importlib.import_module(f"benchmarks.{COMMANDS[name][0]}")


def main(argv: list[str]) -> int:
    """Run the measurement named first; without a known name, print all names. Returns the exit status."""
    if not argv or argv[0] not in COMMANDS:
        print(
            "python -m benchmarks NAME\n" + "\n".join(f"  {name:17} {title}" for name, (_, title) in COMMANDS.items())
        )
        return 0 if argv[:1] in ([], ["--help"], ["-h"]) else 2
    module_of(argv[0]).main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
