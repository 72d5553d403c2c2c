"""Released checkpoints: nothing is changed on the way, and bad files are refused without running them.

That the modules compute what the released ones do is tested in tests/hyperinit/autoencoder/test_reference.py.
"""

import json
import os
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released import DEPTH, HEADS, HIDDEN, LATENT, WIDTH, released

import hyperinit
from hyperinit.autoencoder import AutoencoderConfig
from hyperinit.errors import ArgumentError, ArtifactError, ZooError
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation
from hyperinit_training.cli import commands
from hyperinit_training.sources.from_release import import_reference
from hyperinit_training.zoo.zoo import Snapshot, Zoo

INDEX = {
    "layer": [[0, "conv2d"], [3, "conv2d"], [6, "conv2d"], [9, "fc"], [11, "fc"]],
    "idx_start": [0, 208, 1414, 1514, 2254],
    "idx_length": [208, 1206, 100, 740, 210],
    "kernel_no": [8, 6, 4, 20, 10],
    "kernel_size": [25, 25, 4, 9, 1],
    "channels_in": [1, 8, 6, 4, 20],
}


def described(compression="linear", bottleneck="linear_bounded"):
    return {
        "model::type": "transformer",
        "model::N_attention_blocks": DEPTH,
        "model::i_dim": 2464,
        "model::dim_attention_embedding": WIDTH,
        "model::N_attention_heads": HEADS,
        "model::attention_hidden_dim": HIDDEN,
        "model::latent_dim": LATENT,
        "model::encoding": "neuron",
        "model::compression": compression,
        "model::bottleneck": bottleneck,
        "model::dropout": 0.1,
        "model::index_dict": INDEX,
        "optim::lr": 1e-4,
    }


@pytest.fixture
def publish(tmp_path):
    """Write a folder as it is released."""

    def write(config, state):
        folder = tmp_path / "released"
        folder.mkdir(exist_ok=True)
        (folder / "config_ae.json").write_text(json.dumps(config))
        torch.save(state, folder / "checkpoint_ae.pt")
        return folder

    return write


def imported(folder):
    """The autoencoder in a released folder, imported with two networks of noise as anchors."""
    layout = Layout.of(cnn())
    weights = torch.randn(2, layout.size, generator=torch.Generator().manual_seed(0))
    snapshots = tuple(Snapshot(number, 0, 1, "train", 0.5, 0.5) for number in range(2))
    return import_reference(folder, Zoo(layout, weights, snapshots, None, {}), source="noise").autoencoder


# Values


@pytest.mark.parametrize(("compression", "mapped"), [("linear", "flatten"), ("token", "cls")])
@pytest.mark.parametrize(("bottleneck", "bounded"), [("linear", False), ("linear_bounded", True)])
def test_no_tensor_is_renamed_or_changed(publish, compression, mapped, bottleneck, bounded):
    state = released(compression)
    autoencoder = imported(publish(described(compression, bottleneck), state))
    sizes = {"width": WIDTH, "heads": HEADS, "feedforward": HIDDEN, "depth": DEPTH, "latent": LATENT, "dropout": 0.1}
    modules = {"compression": mapped, "bounded": bounded, "block": "reference", "standardise": False}
    assert autoencoder.config == AutoencoderConfig(**sizes, **modules)
    assert not autoencoder.training
    found = autoencoder.state_dict()
    assert found.keys() == state.keys() | {"mean", "std"}
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_missing_keys_take_the_released_codes_defaults(publish):
    config = described()
    config["model::index_dict"] = INDEX | {"layer": [0, 3, 6, 9, 11]}
    for key in ("model::bottleneck", "model::compression", "model::type"):
        del config[key]
    found = imported(publish(config, released())).config
    assert (found.compression, found.bounded) == ("flatten", False)


# Artifacts


def test_the_command_writes_an_artifact_with_the_zoos_anchors(publish, zoo, zoo_folder, tmp_path, capsys):
    folder, out = publish(described(), released()), tmp_path / "out" / "mine.safetensors"
    assert commands.import_reference([str(folder), str(out), "--anchors", str(zoo_folder), "--licence", "MIT"]) == 0
    assert f"wrote {out} " in capsys.readouterr().out
    found, train = hyperinit.load(str(out)), zoo.part("train")
    assert (found.card.source, found.card.licence, found.card.recommended) == ("mine", "MIT", "kde30")
    assert found.header.samplers.bandwidth == 0.002
    assert found.header.autoencoder.block == "reference"
    torch.testing.assert_close(found.anchors.weights, train.weights, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.anchors.z, imported(folder).encode(train.weights), rtol=0, atol=1e-3)
    assert torch.equal(found.anchors.score, train.scores)
    assert found.autoencoder.std.unique().numel() == 5  # of the zoo's layers, for `layer_stats`
    assert hyperinit.init_(cnn(), str(out))[0].weight.isfinite().all()
    assert set(hyperinit.methods(str(out))) >= {"kde30"}


def test_without_anchors_nothing_is_written(publish, tmp_path):
    out = tmp_path / "mine.safetensors"
    with pytest.raises(ArgumentError, match=r"^an artifact needs anchors, .* pass its folder with --anchors$"):
        commands.import_reference([str(publish(described(), released())), str(out)])
    with pytest.raises(ArgumentError, match=r"^OUT must end in .safetensors, got mine.pt$"):
        commands.import_reference([str(tmp_path), "mine.pt"])
    assert not out.exists()


def test_a_refused_import_leaves_the_old_artifact(publish, zoo_folder, tmp_path):
    out = tmp_path / "out" / "mine.safetensors"
    out.parent.mkdir()
    out.write_bytes(b"old")
    arguments = [str(out), "--anchors", str(zoo_folder), "--force"]
    state = released()
    state["encoder.vec2neck.0.bias"][0] = torch.nan
    with pytest.raises(ArtifactError, match=r"encoder.vec2neck.0.bias holds NaN or infinity"):
        commands.import_reference([str(publish(described(), state)), *arguments])
    state["encoder.vec2neck.0.bias"][0] = 1e6  # finite, and too much for half precision
    with pytest.raises(ArtifactError, match=r"encoder.vec2neck.0.bias must hold finite numbers"):
        commands.import_reference([str(publish(described(), state)), *arguments])
    assert [path.name for path in out.parent.iterdir()] == ["mine.safetensors"]
    assert out.read_bytes() == b"old"


def test_a_zoo_of_other_networks_or_without_training_snapshots_is_refused(publish, zoo):
    folder = publish(described(), released())
    colour = Layout.of(cnn(channels=3))
    other = replace(zoo, layout=colour, weights=torch.zeros(len(zoo), colour.size))
    with pytest.raises(ZooError, match=r"CNN with D = 2464 weights, got 12 with D = 2864; pass a zoo that"):
        import_reference(folder, other, source="mine")
    with pytest.raises(ZooError, match=r"2 or more training snapshots .*, got 0 with D = 2464"):
        import_reference(folder, zoo.part("val"), source="mine")
    assert isinstance(import_reference(folder, zoo, source="mine"), HyperRepresentation)


# Files that are refused


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "hidden", [lambda code: code, lambda code: released() | {"extra": code}], ids=["bare", "inside"]
)
def test_code_in_a_checkpoint_is_not_run(publish, tmp_path, hidden):
    trap = tmp_path / "trap"
    folder = publish(described(), hidden(Code(trap)))
    with pytest.raises(
        ArtifactError,
        match=r"checkpoint_ae.pt must hold tensors only, got a damaged file or pickled code, which was not",
    ):
        imported(folder)
    assert not trap.exists()
    torch.load(folder / "checkpoint_ae.pt", weights_only=False)  # the trap is a real one
    assert trap.exists()


def test_all_wrong_tensors_are_listed_at_once(publish):
    state = released()
    del state["encoder.layers.1.norm_2.alpha"]
    state["decoder.latent_bias"] = torch.zeros(3)
    state["decoder.nec2vec.bias"] = torch.zeros(5)
    message = (
        r"checkpoint_ae.pt must hold the tensors that config_ae.json describes, got: "
        r"missing encoder.layers.1.norm_2.alpha \(12,\); unexpected decoder.latent_bias \(3,\); "
        r"decoder.nec2vec.bias has shape \(5,\), expected \(576,\)$"
    )
    with pytest.raises(ArtifactError, match=message):
        imported(publish(described(), state))


def test_the_compression_of_the_config_must_be_that_of_the_tensors(publish):
    with pytest.raises(ArtifactError, match=r"missing encoder.comp_token \(1, 1, 12\); encoder.position_embeddings"):
        imported(publish(described("token"), released("linear")))


@pytest.mark.parametrize("state", [[], {}, {"a": 1}, {"a": torch.zeros(2, dtype=torch.int64)}, torch.zeros(2)])
def test_another_object_than_a_state_dict_is_refused(publish, state):
    with pytest.raises(ArtifactError, match="must hold one state dict of floating point tensors, got another object"):
        imported(publish(described(), state))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_checkpoint_that_was_cut_off_is_refused(publish, share):
    folder = publish(described(), released())
    path = folder / "checkpoint_ae.pt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ArtifactError, match=rf"^{re.escape(str(path))} must "):
        imported(folder)


def test_missing_files_are_named(publish, tmp_path):
    folder = publish(described(), released())
    (folder / "checkpoint_ae.pt").unlink()
    with pytest.raises(ArtifactError, match=r"checkpoint_ae.pt must be the released checkpoint, got no such file$"):
        imported(folder)
    shutil.rmtree(folder)
    with pytest.raises(ArtifactError, match=r"config_ae.json must be the released JSON file, got .*; copy it again$"):
        imported(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be the released JSON file, got .*; copy it again$"),
        ("[" * 100_000, "must be the released JSON file"),
        ("[]", "must hold one JSON object, got list; copy it again$"),
        ("{}", "got: missing model::dim_attention_embedding; missing model::N_attention_heads; .*model::i_dim is None"),
    ],
)
def test_a_broken_config_is_refused(publish, text, message):
    folder = publish({}, released())
    Path(folder / "config_ae.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        imported(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model::compression": "average"}, "model::compression 'average' is unsupported, only 'linear' and 'token'"),
        (
            {"model::bottleneck": "mlp"},
            "model::bottleneck 'mlp' is unsupported, only 'linear' and 'linear_bounded' are",
        ),
        ({"model::encoding": "weight"}, "model::encoding 'weight' is unsupported, only 'neuron' is"),
        ({"model::decompression": "repeat"}, "model::decompression 'repeat' is unsupported, only 'linear' is"),
        ({"model::compression": []}, r"model::compression \[\] is unsupported"),
        ({"model::i_dim": 4970}, "model::i_dim is 4970, expected the size of the zoos' CNN, 2464 or 2864"),
        ({"model::i_dim": 2864}, r"index_dict idx_start is \[0, 208, .*, expected \[0, 608"),
        ({"model::index_dict": None}, "model::index_dict is NoneType, expected an object of lists"),
        ({"model::index_dict": INDEX | {"layer": [0, 2]}}, r"layer is \[0, 2\], expected \[0, 3, 6, 9, 11\]"),
        ({"model::index_dict": INDEX | {"kernel_size": [1]}}, r"kernel_size is \[1\], expected \[25, 25, 4, 1, 1\]"),
        ({"model::N_attention_heads": 5}, "has values that no autoencoder can have: .*heads must divide width"),
        ({"model::N_attention_blocks": 60}, r"describes, got: missing encoder.layers.2.norm_1.alpha .*; and \d+ more$"),
        ({"model::N_attention_blocks": 60000}, "depth must be at most 64, got 60000"),
    ],
)
def test_an_autoencoder_of_another_kind_is_refused(publish, changes, message):
    with pytest.raises(ArtifactError, match=message):
        imported(publish(described() | changes, released()))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "make_tensor",
    [
        lambda value: torch.empty_like(value, device="meta"),
        lambda value: value.to_sparse(),
        lambda value: torch.nested.nested_tensor([value]),
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    ],
)
def test_tensors_without_dense_values_are_refused(publish, make_tensor):
    state = released()
    state["decoder.latent_bias"] = make_tensor(torch.zeros(3))
    with pytest.raises(ArtifactError, match=r"must hold one state dict of floating point tensors, got another object$"):
        imported(publish(described(), state))


def test_tensors_that_require_gradients_are_read(publish, tmp_path):
    state = {name: torch.nn.Parameter(value.half()) for name, value in released().items()}
    assert not any(value.requires_grad for value in imported(publish(described(), state)).parameters())


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(publish):
    folder = publish(described(), released())
    with zipfile.ZipFile(folder / "checkpoint_ae.pt") as old:
        records = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(folder / "checkpoint_ae.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in records.items():
            new.writestr(name, data + b"}" * 10**8 if name.endswith("data.pkl") else data)
    with pytest.raises(ArtifactError, match=r"must hold uncompressed records, as torch.save writes them, got .*data"):
        imported(folder)
