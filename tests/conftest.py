"""A hyper-representation that is made in milliseconds: the zoo's CNN, an untrained autoencoder, random anchors."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hyperinit import checking, hub, nets
from hyperinit.artifact import Header
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.card import FIGURES, ROWS, Card
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS, Anchors, SamplerOptions
from hyperinit.samplers.gan import LatentGAN

ANCHORS = 20
CONFIG = AutoencoderConfig(width=16, heads=2, feedforward=32, depth=1, latent=8)


def rounded(value):
    """Round to half precision, so that an artifact gives back the very same numbers."""
    return value.detach().half().float()


def card():
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
    """State of a generator that was never trained; small, so that it draws latents in the cube."""
    generator = torch.Generator().manual_seed(seed)
    shapes = LatentGAN.shapes(CONFIG.latent)
    return {key: rounded(torch.randn(shape, generator=generator) * shape[-1] ** -0.5) for key, shape in shapes.items()}


@pytest.fixture(scope="session")
def _parts():
    """Header, autoencoder state and anchor weights: the slow part of `tiny`, made once."""
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


@pytest.fixture
def tiny(_parts):
    """A hyper-representation of the zoo's CNN with 20 anchors, worth nothing but whole."""
    header, state, weights = _parts
    autoencoder = Autoencoder(CONFIG, header.layout, state["mean"], state["std"])
    autoencoder.load_state_dict(state)
    with torch.no_grad():
        z = rounded(autoencoder.eval().encode(weights))
    anchors = Anchors(z, torch.linspace(0.97, 0.5, ANCHORS), torch.full((ANCHORS,), 3.0), weights.clone())
    return HyperRepresentation(header, autoencoder, anchors, {"gan": gan_state(1), "gan30": gan_state(2)})


@pytest.fixture
def artifact(tiny, tmp_path):
    """Path of the saved `tiny`."""
    path = tmp_path / "tiny.safetensors"
    tiny.save(path)
    return path


@pytest.fixture
def forge(artifact):
    """Change header and tensors of the artifact and give it the right digest: damage that only checks can find."""

    def change(edit):
        with safe_open(artifact, "pt") as file:
            header, tensors = (
                json.loads(file.metadata()["hyperinit"]),
                {key: file.get_tensor(key) for key in sorted(file.keys())},
            )
        edit(header, tensors)
        header.pop("digest", None)
        text = json.dumps(header | {"digest": checking.digest(header, tensors)})
        save_file(tensors, artifact, {"hyperinit": text})
        return artifact

    return change


@pytest.fixture
def embedded(tiny, tmp_path, monkeypatch):
    """An installation whose only source is `tiny`; gives its folder."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(hub, "FOLDER", folder)
    tiny.save(folder / "tiny.safetensors")
    hub.register_embedded(folder / "tiny.safetensors", "tiny", "an untrained source for tests")
    return folder
