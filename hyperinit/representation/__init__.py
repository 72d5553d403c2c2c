"""The hyper-representation in memory, its card, and its file, the artifact."""

from hyperinit.representation.representation import HyperRepresentation

__all__ = ["HyperRepresentation"]
