"""The training commands of `hyperinit`."""

from hyperinit_training.cli.commands import data, demo, import_reference, pretrain, train, verify, zoo

__all__ = ["data", "demo", "import_reference", "pretrain", "train", "verify", "zoo"]
