"""Permutation and sign symmetries of networks, and the alignment of zoos by permutations."""

from hyperinit_training.symmetry.groups import Symmetry, flip, permutation_groups, sign_groups

__all__ = ["Symmetry", "flip", "permutation_groups", "sign_groups"]
