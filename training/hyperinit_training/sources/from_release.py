"""Make a source from an autoencoder that the authors released: `config_ae.json` and `checkpoint_ae.pt` in one folder.

The parameters keep their names and values, see `hyperinit.autoencoder.reference`. The authors' anchors are stored in a
pickled data set, which is never opened. The training snapshots of a zoo folder of this project are the anchors.

Letters: D weights per network.

Source: released code and files of Schürholt et al. 2022, arXiv:2209.14733.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.checkpoints.entries import why_unusable
from hyperinit.checkpoints.torch_files import check_records, is_zipped
from hyperinit.errors import ArgumentError, ArtifactError, ZooError
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.card import Card
from hyperinit.samplers import SamplerOptions
from hyperinit_training.sources.assemble import assemble, zoo_facts
from hyperinit_training.zoo.statistics import layer_mean, layer_std
from hyperinit_training.zoo.zoo import Zoo

CONFIG, CHECKPOINT = "config_ae.json", "checkpoint_ae.pt"
BANDWIDTH = 0.002  # of the released sampler
COMPRESSIONS = {"linear": "flatten", "token": "cls"}
BOTTLENECKS = {"linear": False, "linear_bounded": True}  # whether a tanh follows
FIXED = {  # keys with one supported value: (default of the released code, supported value)
    "model::type": ("transformer", "transformer"),
    "model::encoding": ("weight", "neuron"),
    "model::decompression": ("linear", "linear"),
}
SIZES = {
    "width": "model::dim_attention_embedding",
    "heads": "model::N_attention_heads",
    "feedforward": "model::attention_hidden_dim",
    "depth": "model::N_attention_blocks",
    "latent": "model::latent_dim",
    "dropout": "model::dropout",
}


def import_reference(
    folder: Path, zoo: Zoo, *, source: str, licence: str = "not stated", citation: str = "arXiv:2209.14733"
) -> HyperRepresentation:
    """Make a hyper-representation of a released autoencoder. The training snapshots of `zoo` become its anchors.

    Args:
        folder: holds `config_ae.json` and `checkpoint_ae.pt`.
        zoo: networks of the layout that the autoencoder was trained on. They are encoded without alignment.
        source: name of the result.
        licence: of the released weights, and the terms of the images behind them.
        citation: of the released weights.

    Returns:
        A hyper-representation that recommends `kde30` with the released bandwidth. Its card has no measured figures.

    Raises:
        ArtifactError: if the released files are missing, damaged, hold code, or describe another autoencoder.
        ZooError: if the zoo's networks have another layout, or fewer than two are training snapshots.
    """
    layout, config = _read_config(folder / CONFIG)
    train = zoo.part("train")
    if zoo.layout != layout or len(train) < 2:
        raise ZooError(
            f"anchors must be 2 or more training snapshots of the CNN with D = {layout.size} weights, got {len(train)} "
            f"with D = {zoo.layout.size}; pass a zoo that `hyperinit zoo` wrote for the images of this autoencoder"
        )
    statistics = layer_mean(train.weights, layout), layer_std(train.weights, layout)
    autoencoder = _read_autoencoder(folder / CHECKPOINT, layout, config, statistics)
    card = Card(
        source=source,
        title="an autoencoder released by the authors of the method, with anchors from another zoo",
        licence=licence,
        citation=citation,
        preprocessing=dict(zoo.provenance.get("preprocessing", {})),
        zoo=zoo_facts(zoo),
        recommended="kde30",
        measured={},
    )
    return assemble(zoo, autoencoder, card, SamplerOptions(bandwidth=BANDWIDTH), scores=train.scores)


def _read_config(path: Path) -> tuple[Layout, AutoencoderConfig]:
    """Read `config_ae.json`. An error lists all problems at once."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} must be the released JSON file, got {error}; copy it again") from None
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} must hold one JSON object, got {type(data).__name__}; copy it again")
    problems = [f"missing {key}" for key in SIZES.values() if key not in data]
    for key, (default, wanted) in FIXED.items():
        if data.get(key, default) != wanted:
            problems.append(f"{key} {data.get(key, default)!r} is unsupported, only {wanted!r} is")
    chosen = []
    for key, known in (("model::compression", COMPRESSIONS), ("model::bottleneck", BOTTLENECKS)):
        chosen.append(value := data.get(key, "linear"))
        if not isinstance(value, str) or value not in known:
            problems.append(f"{key} {value!r} is unsupported, only {' and '.join(map(repr, known))} are")
    layout, wrong = _layout(data)
    if problems := problems + wrong:
        raise ArtifactError(f"{path} must describe an autoencoder that can be imported, got: {'; '.join(problems)}")
    try:
        config = AutoencoderConfig(
            **{name: data[key] for name, key in SIZES.items()},
            compression=COMPRESSIONS[chosen[0]],
            bounded=BOTTLENECKS[chosen[1]],
            block="reference",
            standardise=False,
        )
    except ArgumentError as error:
        raise ArtifactError(f"{path} has values that no autoencoder can have: {error}") from None
    return layout, config


def _layout(data: dict[str, Any]) -> tuple[Layout, list[str]]:
    """Return the layout of the zoo CNN that the config describes, and a list of the differences from it."""
    index, total = data.get("model::index_dict"), data.get("model::i_dim")
    layouts = {layout.size: layout for layout in (Layout.of(cnn(channels)) for channels in (1, 3))}
    if type(total) is not int or total not in layouts:
        return layouts[2464], [f"model::i_dim is {total!r}, expected the size of the zoos' CNN, 2464 or 2864"]
    layout = layouts[total]
    if not isinstance(index, dict):
        return layout, [f"model::index_dict is {type(index).__name__}, expected an object of lists"]
    wanted = _index(layout)
    found = {key: index.get(key) for key in wanted}
    if isinstance(found["layer"], list):  # an entry is a number, or a pair such as [0, "conv2d"]
        found["layer"] = [entry[0] if isinstance(entry, list) and entry else entry for entry in found["layer"]]
    # Releases count a kernel's inputs differently (a linear layer behind a 3x3 map has 9 * 4, or 1 * 36). Both describe
    # the same weights if kernel size times input channels agree.
    if _product(found) == _product(wanted):
        found |= {key: wanted[key] for key in ("kernel_size", "channels_in")}
    return layout, [
        f"model::index_dict {key} is {found[key]}, expected {value}"
        for key, value in wanted.items()
        if found[key] != value
    ]


def _index(layout: Layout) -> dict[str, list[int]]:
    """Describe a layout as the released code does, layer by layer. A linear layer has as many channels as inputs."""
    layers = layout.layers
    weights = [layer.tensors[0] for layer in layers]
    return {
        "layer": [int(layer.name) for layer in layers],
        "idx_start": [layout.layer_slices[layer.name].start for layer in layers],
        "idx_length": [layer.size for layer in layers],
        "kernel_no": [layer.neurons for layer in layers],
        "kernel_size": [weight.size // weight.shape[0] // weight.shape[1] for weight in weights],
        "channels_in": [weight.shape[1] for weight in weights],
    }


def _product(index: dict[str, Any]) -> list[int] | None:
    """Return the inputs of a kernel, layer by layer; None if the index is malformed."""
    try:
        return [
            int(size) * int(channels) for size, channels in zip(index["kernel_size"], index["channels_in"], strict=True)
        ]
    except (TypeError, ValueError):
        return None


def _read_autoencoder(
    path: Path, layout: Layout, config: AutoencoderConfig, statistics: tuple[Tensor, Tensor]
) -> Autoencoder:
    """Read `checkpoint_ae.pt` into an autoencoder of the given config.

    Our modules in `hyperinit.autoencoder.reference` carry the released names, so no name is translated. Only the
    layer statistics `mean` and `std`, (D,), are not in the file.
    """
    state = _read_state(path)
    with torch.device("meta"):  # shapes only, so that a wrong config allocates no memory
        autoencoder = Autoencoder(config, layout, *statistics)
    expected = {
        name: tuple(value.shape) for name, value in autoencoder.state_dict().items() if name not in ("mean", "std")
    }
    wrong = [f"missing {name} {shape}" for name, shape in expected.items() if name not in state]
    wrong += [f"unexpected {name} {tuple(value.shape)}" for name, value in state.items() if name not in expected]
    wrong += [
        f"{name} has shape {tuple(state[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    # Only if the shapes are right: a tensor of another shape may repeat one value a billion times.
    wrong += [f"{name} holds NaN or infinity" for name in (() if wrong else state) if not state[name].isfinite().all()]
    if wrong:
        more = f"; and {len(wrong) - 8} more" if wrong[8:] else ""
        raise ArtifactError(f"{path} must hold the tensors that {CONFIG} describes, got: {'; '.join(wrong[:8])}{more}")
    mean, std = statistics
    state = {name: value.float().contiguous() for name, value in state.items()}
    autoencoder.load_state_dict(state | {"mean": mean, "std": std}, assign=True)  # replaces the meta tensors
    return autoencoder.eval().requires_grad_(False)


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict of plain tensors without running code from the file."""
    try:
        if is_zipped(path):
            check_records(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ZooError as error:
        raise ArtifactError(str(error)) from None
    except FileNotFoundError:
        raise ArtifactError(f"{path} must be the released checkpoint, got no such file") from None
    except pickle.UnpicklingError:
        raise ArtifactError(
            f"{path} must hold tensors only, got a damaged file or pickled code, which was not run. Copy it again. "
            "If that does not help, ask its publisher for the state dict alone"
        ) from None
    except (
        OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, BadZipFile,
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ArtifactError(f"{path} must be a complete checkpoint, got {reason}; copy it again") from None
    plain = isinstance(state, dict) and all(
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.is_floating_point()
        and not why_unusable(value)
        and not value.is_meta
        for key, value in state.items()
    )
    if not plain or not state:
        raise ArtifactError(f"{path} must hold one state dict of floating point tensors, got another object")
    return {key: value.detach() for key, value in state.items()}
