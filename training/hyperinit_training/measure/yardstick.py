"""Measure the accuracy and the novelty of generated networks.

Published generators of weights mostly copy (Zeng et al. 2025, arXiv:2506.07998), so accuracy is always reported with
two figures of novelty: the distance to the nearest training snapshot, and the largest overlap of wrong answers with a
snapshot. The same figures of held-out real networks are the yardstick.

Letters: N networks, M training snapshots, D weights per network, I images, C channels.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.schedules import Floats
from hyperinit_training.zoo.zoo import Zoo

Data = tuple[Floats, NDArray[np.int64]]


def mistakes(weights: Tensor, data: Data, activation: str = "tanh") -> Tensor:
    """Return which images each zoo CNN classifies wrongly.

    Args:
        weights: (N, D).
        data: normalised images (I, C, 28, 28) and labels (I,).
        activation: of the networks, such as "tanh".

    Returns:
        True where an answer is wrong, bool (N, I).
    """
    images, labels = data

    def one(row: Floats) -> NDArray[np.bool_]:
        wrong: NDArray[np.bool_] = compiled_cnn.predict(row[None], images, activation=activation)[0].argmax(1) != labels
        return wrong

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return torch.from_numpy(np.stack(list(pool.map(one, weights.numpy()))))


def overlap(wrong: Tensor, others: Tensor) -> Tensor:
    """Return the largest overlap (intersection over union) of each network's wrong answers with those of any other.

    Args:
        wrong: wrong answers of the networks, bool (N, I).
        others: wrong answers of the networks to compare with, bool (M, I).

    Returns:
        float32 (N,), 0 to 1. A copy has 1. A network without wrong answers has 0.

    >>> wrong = torch.tensor([[True, True, False]])
    >>> overlap(wrong, torch.tensor([[False, True, True], [True, False, False]]))
    tensor([0.5000])
    """
    a, b = wrong.float(), others.float()
    both = a @ b.T  # (N, M): images that both get wrong, counted by a matrix product
    either = a.sum(1, keepdim=True) + b.sum(1) - both  # (N, M): |A or B| = |A| + |B| - |A and B|
    # Right answers are left out: two good networks agree on most images anyway, and only mistakes tell copies apart.
    return (both / either.clamp(min=1)).amax(1)


def figures(weights: Tensor, wrong: Tensor, snapshots: Tensor, snapshots_wrong: Tensor) -> dict[str, float]:
    """Summarise networks (N, D) and their mistakes (N, I) against the training snapshots (M, D) and theirs (M, I).

    Returns:
        `accuracy` and `std` over networks (0 to 1), `n`, `images`, `distance` (mean distance to the nearest
        snapshot, weight units), `overlap` (mean largest overlap of wrong answers with a snapshot, 0 to 1) and
        `diversity` (mean disagreement on which answers are wrong between two of the networks, 0 to 1).
    """
    accuracy = 1 - wrong.float().mean(1)
    pairs = wrong.float() @ (~wrong).float().T / wrong.shape[1]  # (N, N): wrong in one, right in the other
    count = len(weights)
    return {
        "accuracy": round(accuracy.mean().item(), 5),
        "std": round(accuracy.std(correction=0).item(), 5),
        "n": count,
        "images": wrong.shape[1],
        "distance": round(_distances(weights, snapshots).amin(1).mean().item(), 4),
        "overlap": round(overlap(wrong, snapshots_wrong).mean().item(), 4),
        "diversity": round((pairs + pairs.T).sum().item() / max(1, count * (count - 1)), 5),
    }


def _distances(weights: Tensor, snapshots: Tensor) -> Tensor:
    """Return distances (N, M) by subtraction. The default matrix product gives copies a distance above 0."""
    distances: Tensor = torch.cdist(weights, snapshots, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


@dataclass(frozen=True)
class Yardstick:
    """The real networks that generated ones are compared with, on one set of images.

    Args:
        data: normalised images and labels.
        activation: of the networks.
        train: training snapshots (M, D).
        train_wrong: their mistakes (M, I).
    """

    data: Data
    activation: str
    train: Tensor
    train_wrong: Tensor

    @classmethod
    def of(cls, zoo: Zoo, data: Data, activation: str) -> Yardstick:
        """Evaluate the training snapshots of a prepared zoo once."""
        return cls.on(zoo.part("train").weights, data, activation)

    @classmethod
    def on(cls, train: Tensor, data: Data, activation: str) -> Yardstick:
        """Evaluate training snapshots (M, D) once."""
        return cls(data, activation, train, mistakes(train, data, activation))

    def measure(self, weights: Tensor) -> dict[str, float]:
        """Return the figures of networks (N, D), see `figures`."""
        return figures(weights, mistakes(weights, self.data, self.activation), self.train, self.train_wrong)
