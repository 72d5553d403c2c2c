"""Networks: the CNN of the zoos, residual networks, the paper's Table 4, and descriptions of networks as data."""

from hyperinit.nets.description import LARGEST, MODULES, MOST_STEPS, Architecture, build, describe
from hyperinit.nets.residual import ResNet, resnet, resnet20
from hyperinit.nets.zoo_cnn import cnn

__all__ = [
    "LARGEST", "MODULES", "MOST_STEPS", "Architecture", "ResNet", "build", "cnn", "describe", "resnet", "resnet20",
]  # fmt: skip
