"""Zoos of checkpoints: rows equal the saved networks, and errors name the file and the tensor."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hyperinit.cli.factories import load_factory
from hyperinit.errors import ArgumentError, LayoutError, ZooError
from hyperinit_training.checkpoints.read import read_checkpoints, score_of


def make(out=2):
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, out))


def save(path, state):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


@pytest.fixture
def states():
    """Random state dicts of eight networks by file, in all formats, nests and prefixes."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name in ("0.pt", "1.safetensors", "2.pth", "3.pt", "4.pt", "5.pt", "6.safetensors", "7.pt"):
        state = make().state_dict()
        found[name] = {
            key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 7
            for key, value in state.items()
        }
    return found


@pytest.fixture
def folder(states, tmp_path):
    for place, (name, state) in enumerate(states.items()):
        prefix = "module." if place == 3 else ""
        state = {prefix + key: value for key, value in state.items()}
        save(tmp_path / "zoo" / name, {"state_dict": state, "epoch": 1} if place == 4 else state)
    return tmp_path / "zoo"


def row_of(state):
    """Return the expected row of a state dict."""
    return torch.cat([value.flatten().float() for value in state.values() if value.is_floating_point()])


def write_scores(path, names):
    path.write_text("file,score,epoch\n" + "".join(f"{name},0.{i},{i}\n" for i, name in enumerate(names)))


def test_rows_are_the_saved_networks_whatever_their_format(folder, states):
    for found in (read_checkpoints(folder), read_checkpoints(f"{folder}/*", model=make)):
        assert found.names == tuple(states)
        assert (found.weights.dtype, found.weights.shape) == (torch.float32, (8, 35))
        assert torch.equal(found.weights, torch.stack([row_of(state) for state in states.values()]))
        assert found.layout.left_out == ("1.num_batches_tracked",)
        assert found.layout.is_buffer.sum() == 6
        assert (found.scores, found.epochs, found.skipped, found.duplicates) == (None, None, (), ())


def test_digests_are_those_of_the_rows(folder):
    found = read_checkpoints(folder)
    assert found.digests == tuple(hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in found.weights)


def test_the_network_decides_the_order_and_leaves_the_global_generator_alone(folder, states):
    for name, state in states.items():
        save(folder / name, dict(reversed(state.items())))
    assert read_checkpoints(folder).layout.tensors[0].name == "3.bias"
    before = torch.get_rng_state()
    found = read_checkpoints(folder, model=make)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(found.weights[7], row_of(states["7.pt"]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(folder, states, dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in states["7.pt"].items()}
    save(folder / "7.pt", state)
    assert torch.equal(read_checkpoints(folder).weights[7], row_of(state))


def test_copies_are_listed_whatever_their_file(folder, states):
    save(folder / "sub" / "8.safetensors", states["2.pth"])
    save(folder / "sub" / "9.pt", {"model": states["2.pth"]})
    save(folder / "sub" / "a.pt", states["0.pt"])
    assert read_checkpoints(folder).duplicates == (("0.pt", "sub/a.pt"), ("2.pth", "sub/8.safetensors", "sub/9.pt"))


# Scores


def test_scores_of_a_folder_are_found(folder, states):
    write_scores(folder / "scores.csv", reversed(states))
    found = read_checkpoints(folder)
    assert found.scores.tolist() == pytest.approx([0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    assert found.epochs.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_scores_may_lie_elsewhere(folder, states, tmp_path):
    write_scores(folder / "scores.csv", ["other.pt"])
    write_scores(tmp_path / "mine.csv", states)
    assert read_checkpoints(folder, scores=str(tmp_path / "mine.csv")).scores[7] == pytest.approx(0.7)
    with pytest.raises(ZooError, match=r"scores.csv must name checkpoints of the zoo, got other.pt$"):
        read_checkpoints(folder)
    write_scores(tmp_path / "mine.csv", list(states)[:6])
    with pytest.raises(
        ZooError, match=r"mine.csv must give a score for every checkpoint, it lacks 6.safetensors, 7.pt$"
    ):
        read_checkpoints(folder, scores=tmp_path / "mine.csv")


def test_an_evaluation_gets_every_network_in_evaluation_mode_without_gradients(folder, states):
    def bias(module):
        assert not module.training
        assert not torch.is_grad_enabled()
        return module[3].bias[0]

    (folder / "scores.csv").write_text("not read")
    found = read_checkpoints(folder, model=make, evaluate=bias)
    assert found.scores.tolist() == [state["3.bias"][0].item() for state in states.values()]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: float("nan"), "evaluate must give a finite number for every network, got nan for a.pt$"),
        (lambda _: None, "evaluate must give a number for every network, got TypeError for a.pt: "),
        (lambda _: 1 / 0, "evaluate must give a number for every network, got ZeroDivisionError for a.pt: "),
    ],
)
def test_an_evaluation_that_fails_names_the_file(answer, message):
    with pytest.raises(ZooError, match=message):
        score_of(answer, nn.Identity(), "a.pt")


@pytest.mark.parametrize(("given", "got"), [({}, "no model"), ({"model": make, "scores": "s.csv"}, "both")])
def test_an_evaluation_needs_a_network_and_no_scores(folder, given, got):
    with pytest.raises(ArgumentError, match=rf"^evaluate needs a model and no scores, got {got}$"):
        read_checkpoints(folder, evaluate=float, **given)


# Bad zoos


def test_the_file_that_differs_from_most_is_named_even_if_it_is_the_first(folder):
    save(folder / "0.pt", make(out=5).state_dict())
    message = (
        r"zoo/0.pt must hold the tensors that 7 of the 8 files have, got 3.weight has shape \(5, 3\), "
        r"expected \(2, 3\); 3.bias has shape \(5,\), expected \(2,\)$"
    )
    with pytest.raises(LayoutError, match=message):
        read_checkpoints(folder)


def test_missing_and_unexpected_tensors_are_named_with_other_files_that_differ(folder, states):
    for name in ("2.pth", "5.pt"):
        state = {key: value for key, value in states[name].items() if key != "1.running_mean"}
        save(folder / name, state | {"head": torch.ones(1)})
    message = (
        r"zoo/2.pth must hold .* 6 of the 8 .*missing 1.running_mean \(3,\); unexpected head \(1,\); .* too: .*5.pt$"
    )
    with pytest.raises(LayoutError, match=message):
        read_checkpoints(folder)


def test_files_that_are_not_the_networks_are_named(folder):
    with pytest.raises(
        LayoutError, match=r"zoo/0.pt must hold the network's tensors, got 3.weight has shape \(2, 3\), e"
    ):
        read_checkpoints(folder, model=lambda: make(out=4))


def test_a_factory_that_cannot_be_imported_is_reported_before_files_are_read(folder):
    (folder / "0.pt").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"^gone_module must be importable"):
        read_checkpoints(folder, model=load_factory("gone_module:make"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_networks_that_are_not_finite_are_named_and_skipped_with_skip_bad(folder, states, value):
    for name in ("8.pt", "9.pt"):
        save(folder / name, {key: -tensor for key, tensor in states["0.pt"].items()})
    states["0.pt"]["3.weight"][1, 2] = value
    states["4.pt"]["1.running_var"][0] = value
    for name in ("0.pt", "4.pt"):
        save(folder / name, states[name])
    message = (
        r"in 2 of 10 networks: .*zoo/0.pt \(3.weight\), .*zoo/4.pt \(1.running_var\); pass skip_bad=True to skip them$"
    )
    with pytest.raises(ZooError, match=message):
        read_checkpoints(folder)
    found = read_checkpoints(folder, skip_bad=True)
    assert found.skipped == ("0.pt", "4.pt")
    assert found.names == (*(name for name in states if name not in found.skipped), "8.pt", "9.pt")
    assert torch.equal(found.weights[:6], torch.stack([row_of(states[name]) for name in found.names[:6]]))
    assert found.duplicates == (("8.pt", "9.pt"),)
    assert len(found.digests) == len(found) == 8


def test_values_beyond_float32_are_not_finite(folder, states):
    save(folder / "7.pt", states["7.pt"] | {"0.weight": torch.full((3, 1, 2, 2), 1e300, dtype=torch.float64)})
    with pytest.raises(ZooError, match=r"in 1 of 8 networks: .*7.pt \(0.weight\)"):
        read_checkpoints(folder)


def test_fewer_than_eight_networks_are_refused(folder, states):
    states["7.pt"]["3.bias"][0] = float("nan")
    save(folder / "7.pt", states["7.pt"])
    with pytest.raises(ZooError, match=r"^a zoo must have at least 8 networks, got 7 in .*zoo$"):
        read_checkpoints(folder, skip_bad=True)
    (folder / "7.pt").unlink()
    with pytest.raises(ZooError, match=r"^a zoo must have at least 8 networks, got 7 in .*zoo$"):
        read_checkpoints(folder)


def test_a_half_written_file_is_named(folder):
    path = folder / "5.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ZooError, match=r"5.pt cannot be read because it is truncated or damaged: BadZipFile: "):
        read_checkpoints(folder)


def test_complex_tensors_are_refused(folder, states):
    save(folder / "7.pt", states["7.pt"] | {"3.bias": torch.ones(2, dtype=torch.complex64)})
    with pytest.raises(ZooError, match=r"7.pt must hold real tensors, got torch.complex64 in 3.bias$"):
        read_checkpoints(folder)


def test_too_few_networks_name_the_files_that_were_not_read(tmp_path):
    torch.save({}, tmp_path / "optimizer.pt")
    torch.save(make().state_dict(), tmp_path / "a.pt")
    message = r"at least 8 networks, got 1 in .*; other files were not read: optimizer.pt$"
    with pytest.raises(ZooError, match=message):
        read_checkpoints(tmp_path)


# Checkpoints as training loops write them


def test_files_of_different_training_loops_are_one_zoo(folder, states):
    """Lightning, timm and DistributedDataParallel, beside plain files: with and without the network."""
    wraps = {
        "2.pth": lambda state: state,
        "4.pt": lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 1},
        "5.pt": lambda state: {"model_ema": {f"module.{key}": value for key, value in state.items()}},
        "7.pt": lambda state: {key: nn.Parameter(value, value.is_floating_point()) for key, value in state.items()},
    }
    for name, wrap in wraps.items():
        save(folder / name, wrap(states[name]))
    save(folder / "optimizer.pt", {"state": {}})
    for found in (read_checkpoints(folder), read_checkpoints(folder, model=make)):
        assert torch.equal(found.weights, torch.stack([row_of(state) for state in states.values()]))
        assert not found.weights.requires_grad
        origins = dict(zip(found.names, found.origins, strict=True))
        assert (origins["4.pt"].key, origins["4.pt"].prefix) == ("state_dict", "model.")
        assert (origins["5.pt"].key, origins["5.pt"].prefix) == ("model_ema", "module.")
        assert found.other_files == {"optimizer.pt": "state of a training"}


def test_a_zoo_whose_files_all_hold_the_network_as_model_needs_no_network(folder, states):
    for name, state in states.items():
        save(folder / name, {f"model.{key}": value for key, value in state.items()})
    assert list(read_checkpoints(folder).layout.shapes) == list(read_checkpoints(folder, model=make).layout.shapes)
    assert read_checkpoints(folder).layout.tensors[0].name == "0.weight"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_read_and_the_callers_default_dtype_does_not_matter(folder, states, dtype):
    for name, state in states.items():
        save(
            folder / name,
            {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()},
        )
    write_scores(folder / "scores.csv", states)
    wanted = read_checkpoints(folder)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        found = read_checkpoints(folder)
        measured = read_checkpoints(folder, model=make, evaluate=lambda net: float(net[0].weight.mean()))
    finally:
        torch.set_default_dtype(before)
    assert found.weights.dtype == found.scores.dtype == found.epochs.dtype == measured.scores.dtype == torch.float32
    assert torch.equal(found.weights, wanted.weights)
    assert found.digests == wanted.digests


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make_tensor", [lambda: torch.eye(2).to_sparse(), lambda: torch.ones(2, device="meta")])
def test_tensors_without_dense_values_are_named_with_and_without_the_network(folder, states, make_tensor):
    for name in ("0.pt", "7.pt"):
        save(folder / name, states[name] | {"adj": make_tensor()})
        for model in (None, make):
            with pytest.raises(ZooError, match=rf"{name} must hold dense tensors, got a .* in adj; leave it out$"):
                read_checkpoints(folder, model=model)
        save(folder / name, states[name])


def test_a_part_of_a_network_without_its_index_is_explained(folder, states):
    half = dict(list(states["0.pt"].items())[:3])
    save_file(half, folder / "model-00001-of-00002.safetensors")
    with pytest.raises(LayoutError, match=r"00001-of-00002.safetensors must hold .*whose index is missing$"):
        read_checkpoints(folder)


# Evaluations


def test_an_evaluation_that_changes_its_network_does_not_spoil_the_next(folder, states):
    def halved(module):
        assert isinstance(module[1], nn.BatchNorm2d)
        assert module[0].weight.dtype == torch.float32
        score = float(module[3].bias[0])
        module[1] = nn.Identity()
        module.half()
        module.scale = nn.Parameter(torch.ones(1))
        return score

    shared = make()
    before = row_of(shared.state_dict())
    for model in (make, lambda: shared):
        found = read_checkpoints(folder, model=model, evaluate=halved)
        assert found.scores.tolist() == [state["3.bias"][0].item() for state in states.values()]
    assert torch.equal(row_of(shared.state_dict()), before), "the user's own module is not written"


def test_a_network_on_the_meta_device_gives_the_layout_but_cannot_be_evaluated(folder):
    def on_meta():
        with torch.device("meta"):
            return make()

    found = read_checkpoints(folder, model=on_meta)
    assert torch.equal(found.weights, read_checkpoints(folder, model=make).weights)
    with pytest.raises(
        LayoutError, match=r"must hold values, got 0.weight on the meta device; let the factory make it"
    ):
        read_checkpoints(folder, model=on_meta, evaluate=lambda _: 1.0)


@pytest.mark.parametrize("answer", [1e300, -1e39])
def test_a_score_beyond_single_precision_is_refused(answer):
    with pytest.raises(ZooError, match=r"^evaluate must give a number of at most 3.4e\+38 for every network, got "):
        score_of(lambda _: answer, nn.Identity(), "a.pt")


def test_a_zoo_beyond_memory_is_refused(folder):
    huge = nn.ParameterDict({"w": nn.Parameter(torch.empty(10**15, device="meta"))})
    with pytest.raises(ZooError, match=r"^a zoo must fit into memory, it takes 32000000.0 GB in single precision$"):
        read_checkpoints(folder, model=lambda: huge)
