"""Networks that artifacts describe as data: the zoo's CNN, residual networks, and the paper's Table 4."""

from hyperinit.nets.description import LARGEST, MODULES, MOST_STEPS, Architecture, build, describe
from hyperinit.nets.residual import ResNet, resnet20
from hyperinit.nets.zoo_cnn import cnn

__all__ = ["LARGEST", "MODULES", "MOST_STEPS", "Architecture", "ResNet", "build", "cnn", "describe", "resnet20"]
