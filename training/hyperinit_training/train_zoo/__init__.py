"""Training zoos: blocks of networks, by compiled kernels or by PyTorch."""

from hyperinit_training.train_zoo.train import train_zoo

__all__ = ["train_zoo"]
