"""The hyper-representation: autoencoder, anchors and samplers, its card, and the artifact that holds them."""

from hyperinit.representation.representation import HyperRepresentation

__all__ = ["HyperRepresentation"]
