"""`python -m benchmarks NAME --help`: each measurement is one module, its result one JSON in benchmarks/results/."""

from __future__ import annotations

import importlib
import sys

NAMES = {
    "in-dataset": "accuracy of a source on its own task before and after an epoch of training, and of ensembles",
    "full-schedule": "a source's own task to the end, from PyTorch's default, from init_, and at strength 0.5",
    "resnet20": "a hyper-representation of fine-tuned ResNet-20s, from nothing to samples",
    "transfer": "a source as the start of training on another data set, against PyTorch's default",
    "resize-rules": "how tensors are resized, against the plain leading block",
    "select": "test accuracy of init_ when the best of several draws on a few training images is kept",
    "reading": "reading a folder of checkpoints into one matrix",
    "latency": "what init_, ensemble and the import cost",
}


def main(argv: list[str]) -> int:
    """Run one measurement."""
    if not argv or argv[0] not in NAMES:
        print("python -m benchmarks NAME\n" + "\n".join(f"  {name:13} {title}" for name, title in NAMES.items()))
        return 0 if argv[:1] in ([], ["--help"], ["-h"]) else 2
    module = importlib.import_module(f"benchmarks.{argv[0].replace('-', '_')}")
    module.main(argv[1:])
    return 0


sys.exit(main(sys.argv[1:]))
