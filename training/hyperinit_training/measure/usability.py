"""Measure samples of a hyper-representation against the networks of its zoo, and state a verdict in words.

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
from hyperinit_training.checkpoints.read import build, own_copy, score_of
from hyperinit_training.machine.progress import Progress
from hyperinit_training.train_autoencoder.explained import r2, r2_per_layer
from hyperinit_training.zoo.zoo import Zoo

METHODS = ("kde", "kde30", "local", "local30", "average", "noise")
CANDIDATES = METHODS[:4]  # of the recommendation; the others are baselines
DRAWS, SEED = 20, 20_000
LOST = 0.05  # share of the zoo's mean score that usable samples may lose
NEAR = 0.3  # share of the held-out networks' distance below which samples count as near copies
Score = Callable[[Tensor], float]


@dataclass(frozen=True)
class Usability:
    """Figures and verdict of `usability`.

    Args:
        figures: for each method and for the zoo, "score" and "std" (if networks can be evaluated), "distance" to the
            nearest training network in weight units, and "n".
        held_out_r2: explained variance of held-out networks' reconstructions; None if none were held out.
        layer_r2: the same by layer.
        recommended: default method of the source.
        usable: whether samples keep the zoo's score; None if networks cannot be evaluated.
        words: the verdict and advice, a sentence each.
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
        representation: assembled; its card is not read.
        zoo: prepared; its "val" part was held out of training.
        score: gives the score of a weight vector (D,), higher is better; None if networks cannot be evaluated.
        ranked: whether the anchors have scores. The methods in "30" need them.

    Returns:
        Figures, the recommended method, and the verdict. The same seed draws the samples every time.
    """
    names = [name for name in METHODS if ranked or not name.endswith("30")]
    total = len(representation.anchors) + 2 * len(zoo.part("val")) + DRAWS * len(names)
    with Progress("measuring", total if score else 0, "network") as progress:
        return _measured(representation, zoo, _counting(score, progress), names, ranked=ranked)


def _counting(score: Score | None, progress: Progress) -> Score | None:
    """Return a score that shows how many networks have got theirs."""
    if score is None:
        return None
    given = score

    def counting(weights: Tensor) -> float:
        found = given(weights)
        progress.advance()
        return found

    return counting


def _measured(
    representation: HyperRepresentation, zoo: Zoo, score: Score | None, names: list[str], *, ranked: bool
) -> Usability:
    """Measure samples of the named methods, as `usability`."""
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
    for name in names:
        drawn = representation.sample(DRAWS, method=name, generator=torch.Generator().manual_seed(SEED))
        figures[name] = _figures(drawn, train, score)
    recommended = _recommended(figures, scored=score is not None, ranked=ranked)
    usable = None if score is None else _keeps(figures, recommended)
    words = tuple(_words(figures, overall, recommended, usable))
    return Usability(figures, overall, layers, recommended, usable, words)


def scorer(make: Callable[[], nn.Module], layout: Layout, evaluate: Callable[[nn.Module], float]) -> Score:
    """Turn an evaluation of modules into one of weight vectors (D,).

    Each evaluation gets a module of its own, in evaluation mode, because it may fuse layers or halve weights.
    The score raises as `checkpoints.read.score_of`.
    """
    original = build(make)

    def score(weights: Tensor) -> float:
        module = own_copy(original, make)
        module.load_state_dict(
            layout.state(weights), strict=False
        )  # not strict: a layout leaves out num_batches_tracked
        return score_of(evaluate, module, "a network of the zoo or a sample")

    return score


def _figures(weights: Tensor, train: Tensor, score: Score | None) -> dict[str, float]:
    """Measure networks (N, D): distance to the nearest of `train` (M, D), and scores if there is a scorer."""
    distances = torch.cdist(weights, train)  # (N, M)
    if weights is train:
        distances.fill_diagonal_(float("inf"))  # a network is not its own neighbour
    found = {"distance": distances.min(1).values.mean().item(), "n": float(len(weights))}
    if score is not None:
        scores = torch.tensor([score(row) for row in weights], dtype=torch.float64)
        found |= {"score": scores.mean().item(), "std": scores.std(correction=0).item()}
    return found


def _recommended(figures: dict[str, dict[str, float]], *, scored: bool, ranked: bool) -> str:
    """Return the method that samples farthest from the training networks, of those about as good as the best."""
    if not scored:
        return "kde30" if ranked else "kde"
    measured = [name for name in CANDIDATES if name in figures]
    best = max(figures[name]["score"] for name in measured)
    # Within 1 % of the best score, copying less is worth more than the last bit of score. Scores may be negative.
    good = [name for name in measured if figures[name]["score"] >= best - LOST / 5 * abs(best)]
    return max(good, key=lambda name: figures[name]["distance"])


def _keeps(figures: dict[str, dict[str, float]], name: str) -> bool:
    """Tell whether the samples of a method keep the score of the zoo."""
    zoo = figures["zoo"]
    # Two standard deviations of the zoo, or 5 % of its mean where its networks hardly differ: fine-tunes of one base
    # have a spread near 0, which no sample could meet.
    return figures[name]["score"] >= zoo["score"] - max(LOST * abs(zoo["score"]), 2 * zoo["std"])


def _words(figures: dict[str, Any], overall: float | None, name: str, usable: bool | None) -> list[str]:
    """State the verdict on the samples of method `name`: score, reconstruction, novelty, advice."""
    zoo, drawn = figures["zoo"], figures[name]
    if usable is None:
        words = [
            "No evaluation was given, so it is unknown whether samples work. "
            "Pass evaluate= (on the command line: --evaluate)."
        ]
    else:
        kept = f"samples by {name} score {drawn['score']:.4g} +- {drawn['std']:.2g}, the zoo {zoo['score']:.4g}"
        words = [f"{'Usable' if usable else 'Not usable as it is'}: {kept} +- {zoo['std']:.2g}."]
    if overall is None:
        words.append(
            "No network was held out, so novelty is unknown. Use more than 8 checkpoints and a holdout above 0."
        )
        return words
    words.append(f"Held-out networks are reconstructed with R2 {overall:.2f} (1 perfect, 0 as good as the zoo's mean).")
    # Real networks that were not trained on are the measure of novelty: samples much nearer than those are copies.
    ratio = drawn["distance"] / max(figures["zoo-held-out"]["distance"], 1e-12)
    near = "; they are near copies" if ratio < NEAR else ""
    words.append(f"Samples lie {ratio:.2f} times as far from the nearest training network as held-out ones do{near}.")
    if usable is False:
        words += _advice(figures, overall)
    return words


def _advice(figures: dict[str, Any], overall: float) -> list[str]:
    """Suggest what to change when samples do not keep the score."""
    zoo = figures["zoo"]["score"]
    words = []
    if figures["average"]["score"] < zoo - 2 * LOST * abs(zoo):
        words.append("Try checkpoints of one base or family: even averages of neighbouring networks lose score here.")
    if overall < 0.5:
        words.append(
            "Try more checkpoints, longer training (--minutes) or a larger preset: held-out networks are reconstructed "
            "poorly."
        )
    words.append("Try calibrate= in init_ if the network has BatchNorm, or strength=0.5 followed by training.")
    return words
