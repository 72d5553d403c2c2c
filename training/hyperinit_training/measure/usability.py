"""Whether a hyper-representation of somebody's own zoo can be used: what was measured of it, and in plain words.

Letters: N networks, D weights per network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit_training.train_autoencoder.explained import r2, r2_per_layer
from hyperinit_training.zoo.zoo import Zoo

METHODS = ("kde", "kde30", "local", "local30", "average", "noise")
CANDIDATES = METHODS[:4]  # of the recommendation; the others are baselines
DRAWS, SEED = 20, 20_000
LOST = 0.05  # of the zoo's mean score, that samples may lose and be called usable
NEAR = 0.3  # of the held-out networks' distance, below which samples are called near copies
Score = Callable[[Tensor], float]


@dataclass(frozen=True)
class Usability:
    """What was found.

    Args:
        figures: for each method and for the zoo, "score" and "std" (if networks can be evaluated), "distance" to the
            nearest training network in weight units, and "n".
        held_out_r2: explained variance of held-out networks' reconstructions; None if none were held out.
        layer_r2: the same by layer.
        recommended: method to take when none is named.
        usable: whether samples keep the zoo's score; None if networks cannot be evaluated.
        words: the same for people, a sentence each.
    """

    figures: dict[str, dict[str, float]]
    held_out_r2: float | None
    layer_r2: dict[str, float]
    recommended: str
    usable: bool | None
    words: tuple[str, ...]


@torch.no_grad()
def usability(representation: HyperRepresentation, zoo: Zoo, score: Score | None, *, ranked: bool) -> Usability:
    """Measure samples of each method against the zoo's networks.

    Args:
        representation: assembled, without a card.
        zoo: prepared; its "val" part was held out of training.
        score: gives the score of a weight vector (D,), higher is better; None if networks cannot be evaluated.
        ranked: whether the anchors have scores, which the methods in "30" need.
    """
    train, held = representation.anchors.weights, zoo.part("val").weights
    figures = {"zoo": _figures(train, train, score)}
    overall, layers = None, {}
    if len(held):
        decoded = representation.decode(representation.encode(held))
        mean = train.mean(0)
        overall = r2(decoded, held, representation.autoencoder.std, mean).item()
        layers = r2_per_layer(decoded, held, representation.layout, mean)
        figures |= {
            "zoo-held-out": _figures(held, train, score),
            "zoo-held-out-decoded": _figures(decoded, train, score),
        }
    for name in METHODS:
        if ranked or not name.endswith("30"):
            drawn = representation.sample(DRAWS, method=name, generator=torch.Generator().manual_seed(SEED))
            figures[name] = _figures(drawn, train, score)
    recommended = _recommended(figures, scored=score is not None, ranked=ranked)
    usable = None if score is None else _keeps(figures, recommended)
    words = tuple(_words(figures, overall, recommended, usable))
    return Usability(figures, overall, layers, recommended, usable, words)


def scorer(make: Callable[[], nn.Module], layout: Layout, evaluate: Callable[[nn.Module], float]) -> Score:
    """Turn an evaluation of modules into one of weight vectors (D,); all use one module in evaluation mode."""
    module = make()

    def score(weights: Tensor) -> float:
        module.load_state_dict(layout.state(weights), strict=False)  # all but counts of batches
        return float(evaluate(module.eval()))

    return score


def _figures(weights: Tensor, train: Tensor, score: Score | None) -> dict[str, float]:
    distances = torch.cdist(weights, train)
    if weights is train:
        distances.fill_diagonal_(float("inf"))
    found = {"distance": distances.min(1).values.mean().item(), "n": float(len(weights))}
    if score is not None:
        scores = torch.tensor([score(row) for row in weights], dtype=torch.float64)
        found |= {"score": scores.mean().item(), "std": scores.std(correction=0).item()}
    return found


def _recommended(figures: dict[str, dict[str, float]], *, scored: bool, ranked: bool) -> str:
    """The farthest from the training networks among those about as good as the best."""
    if not scored:
        return "kde30" if ranked else "kde"
    there = [name for name in CANDIDATES if name in figures]
    best = max(figures[name]["score"] for name in there)
    good = [name for name in there if figures[name]["score"] >= best - LOST / 5 * abs(best)]
    return max(good, key=lambda name: figures[name]["distance"])


def _keeps(figures: dict[str, dict[str, float]], name: str) -> bool:
    zoo = figures["zoo"]
    return figures[name]["score"] >= zoo["score"] - max(LOST * abs(zoo["score"]), 2 * zoo["std"])


def _words(figures: dict[str, Any], overall: float | None, name: str, usable: bool | None) -> list[str]:
    zoo, drawn = figures["zoo"], figures[name]
    if usable is None:
        words = ["Nobody knows yet whether samples work: give an evaluation (evaluate=, --evaluate) to find out."]
    else:
        kept = f"samples by {name} score {drawn['score']:.4g} +- {drawn['std']:.2g}, the zoo {zoo['score']:.4g}"
        words = [f"{'Usable' if usable else 'Not usable as it is'}: {kept} +- {zoo['std']:.2g}."]
    if overall is None:
        words.append("No network was held out: with more than 8 checkpoints some are, and novelty can be told.")
        return words
    words.append(f"Held-out networks are reconstructed with R2 {overall:.2f} (1 perfect, 0 as good as the zoo's mean).")
    ratio = drawn["distance"] / max(figures["zoo-held-out"]["distance"], 1e-12)
    near = "; they are near copies" if ratio < NEAR else ""
    words.append(f"Samples lie {ratio:.2f} times as far from the nearest training network as held-out ones do{near}.")
    if usable is False:
        words += _advice(figures, overall)
    return words


def _advice(figures: dict[str, Any], overall: float) -> list[str]:
    zoo = figures["zoo"]["score"]
    words = []
    if figures["average"]["score"] < zoo - 2 * LOST * abs(zoo):
        words.append("Try: checkpoints of one base or family; even averages of neighbours lose accuracy here.")
    if overall < 0.5:
        words.append(
            "Try: more checkpoints, longer training (--minutes) or a larger preset; held-out ones come back poorly."
        )
    words.append("Try: calibrate= in init_ if the network has BatchNorm, or strength=0.5 and some training.")
    return words
