"""Make one part of an experiment, its zoo or one of its autoencoders, unless it exists.

python -m benchmarks prepare --images mnist --part zoo --scale small --data DATA
"""

from __future__ import annotations

from benchmarks.experiment import Experiment
from benchmarks.scales import VARIANTS, parse, parser


def main(argv: list[str]) -> None:
    """Make the part; an interrupted run resumes."""
    made = parser("prepare", __doc__)
    made.add_argument("--images", default="mnist", help="mnist, svhn, cifar10, stl10, svhn-zoo2 or svhn-zoo3")
    made.add_argument(
        "--part", choices=("zoo", *VARIANTS), default="zoo", help="the zoo, or a variant of the autoencoder"
    )
    arguments = parse(made, argv)
    experiment = Experiment(arguments.images, arguments.scale, arguments.experiments, arguments.data)
    if arguments.part == "zoo":
        print(f"{experiment.folder}: {len(experiment.zoo)} snapshots")
    else:
        print(f"{experiment.folder}: {len(experiment.representation(arguments.part).anchors)} anchors")
