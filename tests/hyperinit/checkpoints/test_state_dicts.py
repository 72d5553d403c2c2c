"""State dicts in files: where they are found, whatever training loop wrote them, and the errors of bad files."""

import argparse
import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from trap import Trap

from hyperinit.checkpoints.layout import StateLayout
from hyperinit.checkpoints.state_dicts import NESTED, Taken, read_state, take, take_from
from hyperinit.errors import ZooError

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.tensor([7.0, 8.0])}


def equal(found, wanted):
    return list(found) == list(wanted) and all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("key", [None, *NESTED])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_are_found_where_training_loops_put_them(tmp_path, key, zipped):
    whole = {"epoch": 3, "optimizer": {"step": torch.tensor(1)}, key: STATE} if key else STATE
    torch.save(whole, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert equal(read_state(tmp_path / "a.pt"), STATE)


@pytest.mark.parametrize("found", [STATE, {"epoch": 3, "model": {f"module.{name}": v for name, v in STATE.items()}}])
def test_dicts_in_memory_are_read_as_files_are(found):
    assert equal(take_from(found, "source").tensors, STATE)


@pytest.mark.parametrize("found", [{}, {"model": 3}, {1: torch.ones(1)}, {"a": STATE, "b": dict(STATE)}])
def test_dicts_in_memory_without_one_state_dict_are_refused(found):
    with pytest.raises(ZooError, match=r"^source must hold a state dict, at the top or under"):
        take_from(found, "source")


def test_nests_within_nests_are_found(tmp_path):
    torch.save({"model": {"state_dict": STATE}}, tmp_path / "a.pth")
    assert equal(read_state(tmp_path / "a.pth"), STATE)


def test_safetensors_are_read(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    found = read_state(tmp_path / "a.safetensors")
    assert equal({name: found[name] for name in STATE}, STATE)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_wrappers_are_removed(tmp_path, prefix):
    torch.save({prefix + name: value for name, value in STATE.items()}, tmp_path / "a.pt")
    assert equal(read_state(tmp_path / "a.pt"), STATE)


def test_a_compiled_part_loses_its_prefix_and_other_names_stay(tmp_path):
    net = nn.ModuleDict({"module_list": nn.Linear(2, 1), "head": torch.compile(nn.Linear(2, 1), backend="eager")})
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert list(read_state(tmp_path / "a.pt")) == ["module_list.weight", "module_list.bias", "head.weight", "head.bias"]


def test_a_tensor_with_and_without_prefix_is_refused(tmp_path):
    torch.save({"w": torch.ones(1), "module.w": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ZooError, match=r"a.pt must hold every tensor once, got w with and without a prefix$"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (nn.Linear(2, 1), "torch.nn.modules.linear.Linear"),
        ({"model": nn.Linear(2, 1), "epoch": 3}, "torch.nn.modules.linear.Linear"),
        ({"args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        (Trap(), "posix.mkdir"),
        ({"state_dict": STATE, "other": Trap()}, "posix.mkdir"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_objects_are_named_and_not_run(tmp_path, monkeypatch, content, named, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    message = rf"a.pt must hold tensors only, got a pickled {named}, .* torch.save\(model.state_dict\(\), path\)"
    with pytest.raises(ZooError, match=message):
        read_state(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), r"a.pt must hold a state dict, got a Tensor$"),
        (
            {"best": STATE, "last": STATE | {"a": torch.ones(1)}},
            r"under state_dict, .*, got one under each of best, last$",
        ),
        ({"config": {"a": STATE}, "epoch": 3}, r"at the top or under state_dict, .*, got a dict under 'config'$"),
        ([STATE], r"a.pt must hold a state dict, got a list$"),
        ({**STATE, "lr": 0.1}, r"a.pt must hold a state dict.*got a float under 'lr'$"),
        ({3: torch.ones(1)}, r"got a Tensor under 3$"),
        ({}, r"got an empty one$"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ZooError, match=message):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize("kind", ["a.pt", "old.pt", "a.safetensors"])
def test_half_written_files_are_named(tmp_path, kind):
    path = tmp_path / kind
    if kind == "a.safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "a.pt")
    whole = path.read_bytes()
    for keep in (0, 1, 3, 8, *range(20, len(whole), len(whole) // 20), len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ZooError, match=rf"{kind} "):
            read_state(path)


def test_other_bytes_and_plain_pickles_are_refused(tmp_path):
    for content in (b"hello", b"<html>", bytes(1000), pickle.dumps({"a": 1}, 2), pickle.dumps(Trap(), 2)):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(ZooError, match=r"a.pt "):
            read_state(tmp_path / "a.pt")


# The files of training loops


def lightning(net, more=None):
    """What Lightning writes: the module holds the network as `model`."""
    state = {f"model.{name}": value for name, value in net.state_dict().items()}
    return {
        "epoch": 3, "global_step": 40, "pytorch-lightning_version": "2.5.0", "state_dict": state | (more or {}),
        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {"Checkpoint": {"best_model_score": torch.ones(1)}},
        "optimizer_states": [torch.optim.Adam(net.parameters()).state_dict()], "lr_schedulers": [{"last_epoch": 3}],
        "hyper_parameters": {"width": 8, "folder": Path("data"), "loss": functools.partial(print, end="")},
    }  # fmt: skip


def timm(net):
    return {
        "epoch": 3, "arch": "net", "state_dict": net.state_dict(), "version": 2, "args": argparse.Namespace(lr=0.1),
        "optimizer": torch.optim.SGD(net.parameters(), 0.1).state_dict(), "metric": np.float64(0.9),
        "state_dict_ema": {name: value + 1 for name, value in net.state_dict().items()},
    }  # fmt: skip


def make():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("name", "wrap", "key", "left_out"),
    [
        ("last.ckpt", lightning, "state_dict", ()),
        ("best.pth.tar", timm, "state_dict", ("state_dict_ema",)),
        ("a.pt", lambda net: {"net": net.state_dict(), "acc": 93.1, "epoch": 4}, "net", ()),
        ("a.pt", lambda net: {"my_net": net.state_dict(), "optimizer": {"step": torch.ones(1)}}, "my_net", ()),
        ("a.pt", lambda net: {"model": {"name": "cnn"}, "weights": net.state_dict()}, "weights", ()),
        ("a.pt", lambda net: {"model": {"state_dict": net.state_dict()}}, "model/state_dict", ()),
        ("a.pt", lambda net: torch.optim.swa_utils.AveragedModel(net).state_dict(), "", ()),
        *[("a.pth", lambda net, key=key: {key: net.state_dict(), "epoch": 3}, key, ())
          for key in ("state_dict_ema", "model_ema", "ema_state_dict", "ema")],
    ],
)  # fmt: skip
def test_the_state_dict_of_a_training_loop_is_found(tmp_path, name, wrap, key, left_out):
    net = make()
    torch.save(wrap(net), tmp_path / name)
    found = take(tmp_path / name).alone()
    wanted = StateLayout.of_module(net).select(net.state_dict())
    assert equal(StateLayout.of_module(net).select(found.tensors), wanted)
    assert (found.key, found.left_out) == (key, left_out)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_require_gradients_are_read_without(tmp_path, zipped):
    """`named_parameters`, or a state dict with keep_vars=True."""
    net = make()
    for content in (dict(net.named_parameters()), net.state_dict(keep_vars=True)):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        found = read_state(tmp_path / "a.pt")
        assert list(found) == list(content)
        assert not any(value.requires_grad for value in found.values())


def test_extra_states_of_modules_are_left_out(tmp_path):
    torch.save(STATE | {"head._extra_state": {"scale": 3}, "_extra_state": None}, tmp_path / "a.pt")
    assert equal(read_state(tmp_path / "a.pt"), STATE)


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("_fsdp_wrapped_module.a._fsdp_wrapped_module.w", "a.w"),
        ("a._checkpoint_wrapped_module.w", "a.w"),
        ("_forward_module.w", "w"),
        ("_orig_mod._orig_mod.w", "w"),
    ],
)
def test_prefixes_of_other_wrappers_are_removed(tmp_path, name, bare):
    torch.save({name: torch.ones(1)}, tmp_path / "a.pt")
    assert list(read_state(tmp_path / "a.pt")) == [bare]


def test_the_prefix_is_told(tmp_path):
    torch.save({f"module.{name}": value for name, value in STATE.items()}, tmp_path / "a.pt")
    assert take(tmp_path / "a.pt").prefix == "module."


# A network inside a larger module


def under(prefix, net):
    return {prefix + name: value for name, value in net.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "a.b."])
def test_the_prefix_that_gives_the_tensors_of_the_network_is_removed(prefix):
    net = make()
    state = under(prefix, net) | ({"loss.weight": torch.ones(2)} if prefix else {})
    found = Taken(state).fitted(StateLayout.of_module(net), Path("a.ckpt"))
    assert equal(found.tensors, net.state_dict())
    assert (found.prefix, found.left_out) == (prefix, ("loss.weight",) if prefix else ())


def test_of_several_copies_the_one_named_model_is_taken():
    net, average = make(), make()
    layout = StateLayout.of_module(net)
    state = under("model.", net) | under("ema_model.", average)
    assert equal(Taken(state).fitted(layout, Path("a.ckpt")).tensors, net.state_dict())
    with pytest.raises(ZooError, match=r"a.ckpt must hold one network, got one under each prefix of teacher., student"):
        Taken(under("teacher.", net) | under("student.", average)).fitted(layout, Path("a.ckpt"))


def test_names_of_the_network_itself_that_begin_with_model_stay():
    net = nn.ModuleDict({"model": make()})
    found = Taken(net.state_dict()).fitted(StateLayout.of_module(net), Path("a.pt"))
    assert (found.prefix, list(found.tensors)) == ("", list(net.state_dict()))


def test_a_network_that_does_not_fit_keeps_the_prefix_that_agrees_most():
    net = make()
    state = under("model.", net)
    del state["model.0.bias"]
    found = Taken(state).fitted(StateLayout.of_module(net), Path("a.pt"))
    assert "0.weight" in found.tensors


# Networks in several files


def test_the_parts_of_a_network_are_put_together(tmp_path):
    names = {"conv.weight": "model-00001-of-00002.safetensors", "conv.bias": "model-00002-of-00002.safetensors"}
    for tensor, name in names.items():
        save_file({tensor: STATE[tensor]}, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert equal(read_state(index), STATE)
    save_file(STATE, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(ZooError, match=r"index.json must have every tensor in one part, got conv.bias twice$"):
        take(index)
    save_file({"other": torch.ones(1)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(ZooError, match=r"00001-of-00002.safetensors must hold conv.weight, as its index says$"):
        take(index)


# Tensors that cannot be read, and crafted files


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make_tensor", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "a torch.sparse_coo tensor"),
        (lambda: torch.eye(3).to_sparse_csr(), "a torch.sparse_csr tensor"),
        (lambda: torch.eye(4).to_sparse_bsr((2, 2)), "a torch.sparse_bsr tensor"),
        (lambda: torch.ones(2, device="meta"), "a tensor on the meta device, without values"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "a nested tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "a quantized tensor of torch.qint8"),
    ],
)
def test_tensors_without_dense_values_are_refused(tmp_path, make_tensor, message):
    torch.save(STATE | {"adj": make_tensor()}, tmp_path / "a.pt")
    with pytest.raises(ZooError, match=rf"a.pt must hold dense tensors, got {message} in adj; leave it out$"):
        read_state(tmp_path / "a.pt")


def test_a_tensor_that_repeats_one_value_a_billion_times_is_refused(tmp_path):
    torch.save(STATE | {"scale": torch.ones(3).expand(10, 3)}, tmp_path / "a.pt")
    assert read_state(tmp_path / "a.pt")["scale"].shape == (10, 3)
    torch.save(STATE | {"scale": torch.ones(1).expand(10**9)}, tmp_path / "a.pt")
    with pytest.raises(ZooError, match=r"it states 1,000,000,008, more than it has bytes$"):
        read_state(tmp_path / "a.pt")


def test_dicts_that_hold_themselves_or_one_another_come_to_an_end(tmp_path):
    alone, pair = {}, {"a": {}}
    alone["state_dict"], pair["a"]["b"] = alone, pair
    wide = {"x": 1}
    for _ in range(12):
        wide = {f"k{place}": wide for place in range(50)}
    for content in (alone, pair, wide):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(ZooError, match=r"a.pt must hold a state dict, at the top or under"):
            take(tmp_path / "a.pt")


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        with pytest.raises(ZooError, match=r"must be the file itself, got a Git LFS pointer .*; run `git lfs pull`"):
            take(tmp_path / name)
