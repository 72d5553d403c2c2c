"""A hyper-representation that is made in milliseconds: the zoo's CNN and an untrained autoencoder.

Its weights are useless as a start, but the file passes every check, so it stands in for a trained source.
"""

import torch

from hyperinit import nets
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.artifact import Header
from hyperinit.representation.card import FIGURES, ROWS, Card
from hyperinit.samplers import METHODS, Anchors, SamplerOptions
from hyperinit.samplers.gan import LatentGAN

ANCHORS = 20
CONFIG = AutoencoderConfig(width=16, heads=2, feedforward=32, depth=1, latent=8)


def rounded(value):
    """Round to half precision, so that saving to an artifact changes no number."""
    return value.detach().half().float()


def card():
    """Make a model card with invented figures, in falling order of accuracy."""
    rows = [*METHODS, *ROWS]
    figures = {name: dict(zip(FIGURES, (0.9, 0.01, 50, 1000, 5.0, 0.5, 0.1), strict=True)) for name in rows}
    for place, name in enumerate(rows):
        figures[name]["accuracy"] = 0.95 - place / 100
    return Card(
        source="tiny",
        title="an untrained source for tests",
        licence="MIT",
        citation="nobody",
        preprocessing={"size": 28, "channels": 1, "mean": [0.5], "std": [0.25]},
        zoo={"images": {"name": "noise", "train": 100}, "models": 25, "anchors": ANCHORS, "date": "2024-01-01"},
        recommended="kde30",
        measured=figures,
    )


def gan_state(seed):
    """Make the state of an untrained generator, scaled down so that its latents lie in the cube."""
    generator = torch.Generator().manual_seed(seed)
    shapes = LatentGAN.shapes(CONFIG.latent)
    return {key: rounded(torch.randn(shape, generator=generator) * shape[-1] ** -0.5) for key, shape in shapes.items()}


def make_parts():
    """Make header, autoencoder state and anchor weights (ANCHORS, D): the slow part of `make_tiny`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [nets.cnn() for _ in range(ANCHORS)]
        layout = Layout.of(networks[0])
        weights = rounded(torch.stack([layout.flatten(net.state_dict()) for net in networks]))
        mean, std = torch.empty(layout.size), torch.empty(layout.size)
        for place in layout.layer_slices.values():
            mean[place], std[place] = weights[:, place].mean(), weights[:, place].std()
        state = Autoencoder(CONFIG, layout, mean, std).state_dict()
    state = {name: value if name in ("mean", "std") else rounded(value) for name, value in state.items()}
    header = Header(card(), layout, nets.describe(networks[0]), CONFIG, SamplerOptions(neighbours=4))
    return header, state, weights


def make_tiny(header, state, weights):
    """Make a fresh hyper-representation of what `make_parts` returned."""
    autoencoder = Autoencoder(CONFIG, header.layout, state["mean"], state["std"])
    autoencoder.load_state_dict(state)
    with torch.no_grad():
        z = rounded(autoencoder.eval().encode(weights))
    anchors = Anchors(z, torch.linspace(0.97, 0.5, ANCHORS), torch.full((ANCHORS,), 3.0), weights.clone())
    return HyperRepresentation(header, autoencoder, anchors, {"gan": gan_state(1), "gan30": gan_state(2)})
