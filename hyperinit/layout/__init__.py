"""The order of a network's weights inside a flat vector."""

from hyperinit.layout.layers import KINDS, MOST_LAYERS, LayerSpec, TensorSpec
from hyperinit.layout.layout import Layout

__all__ = ["KINDS", "MOST_LAYERS", "LayerSpec", "Layout", "TensorSpec"]
