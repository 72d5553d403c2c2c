"""Symmetries of networks: which neurons may change places or signs, and aligning zoos by them."""

from hyperinit_training.symmetry.groups import Symmetry, flip, permutation_groups, sign_groups

__all__ = ["Symmetry", "flip", "permutation_groups", "sign_groups"]
