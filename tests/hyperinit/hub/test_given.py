"""What `source=` takes: names and artifacts first, then checkpoints, modules, state dicts and lists."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hyperinit.checkpoints.networks import Networks
from hyperinit.errors import ArgumentError, ArtifactError, UnknownNameError
from hyperinit.hub.given import given
from hyperinit.hub.load import load
from hyperinit.representation import HyperRepresentation


@pytest.fixture
def net():
    return nn.Linear(3, 2)


@pytest.fixture
def state(net):
    return net.state_dict()


def is_of(source, net):
    return isinstance(source, Networks) and torch.equal(
        source.weights[-1], torch.cat([value.detach().flatten() for value in net.parameters()])
    )


def test_artifacts_come_first(artifact, embedded, tmp_path, monkeypatch, state):
    assert given(artifact) is given(str(artifact)) is load(artifact)
    assert given(load(artifact)) is load(artifact)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    save_file(state, tmp_path / "tiny" / "model.safetensors")
    assert isinstance(given("tiny"), HyperRepresentation)
    assert isinstance(given("./tiny"), Networks)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt", ".bin", ".tar", ".pth.tar", ".safetensors"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_files_of_every_kind_are_read(tmp_path, net, state, ending, kind):
    path = tmp_path / f"net{ending}"
    if ending == ".safetensors":
        save_file(state, path, {"format": "pt"})
    else:
        torch.save({"state_dict": net.state_dict(prefix="module."), "epoch": 2}, path)
    assert is_of(given(kind(path)), net)
    assert is_of(given([kind(path), net, state, str(path)]), net)


def test_a_file_in_the_working_folder_needs_no_slash(tmp_path, net, state, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(state, "net.pt")
    save_file(state, "net.safetensors")
    assert is_of(given("net.pt"), net)
    assert is_of(given("net.safetensors"), net)


def test_folders_of_transformers_are_read(tmp_path, net, state):
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert is_of(given(tmp_path), net)
    other = nn.Linear(3, 2)
    save_file(other.state_dict(), tmp_path / "model.safetensors")
    assert is_of(given(str(tmp_path)), other)


def test_networks_in_several_files_are_read(tmp_path, net, state):
    for name, value in state.items():
        save_file({name: value}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in state}}))
    assert is_of(given(tmp_path), net)
    assert is_of(given(index), net)


def test_a_list_of_modules_is_several_networks(net):
    assert len(given([net, net])) == len(given((net, net))) == len(given(nn.ModuleList([net, net]))) == 2
    assert (given(net).name, given([net]).name, given([net, net]).name) == ("Linear", "Linear", "2 given networks")
    assert given(given(net)).name == "Linear"


@pytest.mark.parametrize("source", [None, 5, b"net.pt", 1j, torch.ones(2), {1, 2}, iter([])])
def test_other_types_are_refused(source):
    with pytest.raises(
        ArgumentError, match=r"^source must be a name, a path, .* a list of modules, state dicts and pa"
    ):
        given(source)


@pytest.mark.parametrize("item", ["tiny", "gone.pt", None, 3, ["a"], torch.ones(1)])
def test_lists_hold_trained_networks_alone(embedded, net, item):
    with pytest.raises(ArgumentError, match=r"^source\[1\] must be a module, a state dict or the path of a checkpoint"):
        given([net, item])


def test_an_artifact_in_a_list_is_refused(artifact, net):
    with pytest.raises(ArgumentError, match=r"^source\[0\] must be .* a list holds trained networks alone$"):
        given([artifact, net])


def test_a_path_without_a_checkpoint_is_refused_as_before(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    for path in (tmp_path / "gone.pt", tmp_path / "notes.txt", tmp_path):
        with pytest.raises(ArtifactError, match=r"^source must be a name or an existing .safetensors file, got '"):
            given(path)
    with pytest.raises(UnknownNameError, match=r"unknown source 'gone.pt'"):
        given("gone.pt")


def test_load_takes_artifacts_alone_and_says_who_takes_more(tmp_path, net, state, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(state, "net.pt")
    save_file(state, "net.safetensors")
    for source in (net, [net], state, "net.pt", "./net.pt", "net.safetensors"):
        with pytest.raises((ArgumentError, ArtifactError, UnknownNameError), match="source= of init_, ensemble and pl"):
            load(source)
