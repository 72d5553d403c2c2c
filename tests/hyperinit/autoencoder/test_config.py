"""Values that a config accepts and refuses, and the sizes of the paper's Table 8."""

import dataclasses

import pytest
import torch
from tiny_source import CONFIG as SMALL
from torch import nn

from hyperinit.autoencoder import TABLE8, Autoencoder, AutoencoderConfig
from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn

COUNTS = {  # measured on the released code: flatten, CLS
    "mnist": (90_087_614, 58_110_758),
    "svhn": (301_409_390, 222_452_750),
    "cifar10": (150_628_516, 101_676_292),
    "stl10": (240_318_340, 186_628_804),
}


def test_a_config_of_an_old_file_has_the_defaults_of_later_fields():
    old = {"width": 16, "heads": 2, "feedforward": 32, "depth": 1, "latent": 8, "compression": "cls", "dropout": 0.0}
    assert AutoencoderConfig(**old) == SMALL
    now = (SMALL.block, SMALL.standardise, SMALL.bounded, SMALL.variational)
    assert now == ("compact", True, True, False)


def test_configs_are_keyword_only_and_frozen():
    with pytest.raises(TypeError):
        AutoencoderConfig(64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.width = 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, r"heads must divide width, got \(0, 4, 512, 2, 256\)"),
        ({"width": 130}, r"heads must divide width, got \(130, 4"),
        ({"latent": -1}, "must be integers from 1"),
        ({"latent": 65537}, "must be integers from 1 to 65536.* got .*65537"),
        ({"depth": 2.0}, "must be integers from 1"),
        ({"depth": True}, "must be integers from 1"),
        ({"heads": "4"}, "must be integers from 1"),
        ({"feedforward": None}, "must be integers from 1"),
        ({"compression": "mean"}, "^compression must be 'cls' or 'flatten', got 'mean'$"),
        ({"dropout": 1}, r"^dropout must lie in \[0, 1\), got 1$"),
        ({"dropout": float("nan")}, r"^dropout must lie in \[0, 1\), got nan$"),
        ({"dropout": None}, r"^dropout must lie in \[0, 1\), got None$"),
        ({"block": "torch"}, "^block must be 'compact' or 'reference', got 'torch'$"),
        ({"block": "reference", "width": 1, "heads": 1}, "^width must be at least 2 for block 'reference', got 1$"),
        ({"standardise": 1}, r"^standardise, bounded and variational must be true or false, got \(1, True, False\)$"),
        ({"variational": None}, r"must be true or false, got \(True, True, None\)$"),
    ],
)
def test_bad_values_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        AutoencoderConfig(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": -1}, "chunk, window and halo must be integers"),
        ({"chunk": 4, "window": 4, "halo": 2}, r"with window > 2 \* halo, got \(4, 4, 2\)"),
        (
            {"chunk": 4, "window": 17, "halo": 8},
            "^halo must leave at least an eighth of .*, got window 17 and halo 8$",
        ),
        ({"chunk": 4, "block": "reference"}, "^chunk needs block='compact'"),
        ({"chunk": 4, "variational": True}, "variational=False, got 'compact' and True$"),
    ],
)
def test_bad_chunks_windows_and_halos_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        AutoencoderConfig(**changes)


def test_the_latent_of_a_network_in_chunks_holds_one_part_for_each_chunk():
    layout = Layout.of(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3), nn.Linear(3, 2)))  # 40, 18 and 8 weights
    assert AutoencoderConfig(latent=3).latent_size(layout) == 3
    assert AutoencoderConfig(latent=3, chunk=4).latent_size(layout) == 3 * (10 + 5 + 2)


@pytest.mark.parametrize("name", TABLE8)
def test_table_8_has_the_parameters_of_the_released_code(name):
    layout = Layout.of(cnn(channels=1 if name in ("mnist", "svhn") else 3))
    scale, found = torch.ones(layout.size), []
    for compression in ("flatten", "cls"):
        with torch.device("meta"):
            autoencoder = Autoencoder(dataclasses.replace(TABLE8[name], compression=compression), layout, scale, scale)
        found.append(sum(parameter.numel() for parameter in autoencoder.parameters()))
    assert tuple(found) == COUNTS[name]
    assert TABLE8[name].width // TABLE8[name].heads == {"mnist": 81, "svhn": 140, "cifar10": 124, "stl10": 68}[name]
    assert TABLE8[name].dropout == 0.1
