"""Layouts of networks with norms: tokens, running statistics, and JSON."""

import ast
import json
from pathlib import Path

import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit.errors import LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import cnn


def network():
    """Make a network of batch norms with running statistics and of norms with few or no tensors."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4, affine=False),
        nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(16, 5), nn.LayerNorm(5, bias=False),
    )  # fmt: skip


@pytest.fixture
def layout():
    return Layout.of(network())


def test_a_token_of_a_norm_is_one_channel(layout):
    vectors = torch.randn(2, layout.size, generator=gen())
    tensors, token = layout.raw_tensors(vectors), layout.tokens(vectors)[1]
    names = ["1.weight", "1.bias", "1.running_mean", "1.running_var"]
    assert torch.equal(token, torch.stack([tensors[name] for name in names], dim=2))
    assert torch.equal(layout.from_tokens(layout.tokens(vectors)), vectors)


def test_unflatten_inverts_flatten_except_for_the_count_of_batches(layout):
    net = network()
    net(torch.randn(2, 3, 4, 4, generator=gen()))
    state = net.state_dict()
    back = layout.raw_tensors(layout.flatten(state))
    assert state.keys() - back.keys() == {"1.num_batches_tracked", "4.num_batches_tracked"}
    assert all(torch.equal(value, state[name]) for name, value in back.items())
    assert not torch.equal(back["1.running_var"], torch.ones(4))


def test_unknown_float_tensors_are_refused(layout):
    with pytest.raises(LayoutError, match=r"layout: unexpected extra$"):
        layout.flatten(network().state_dict() | {"extra": torch.zeros(1)})


def test_running_variances_are_positive_where_a_module_loads_them(layout):
    """Negative variances would give NaN. All other tensors keep their values."""
    weights = torch.full((layout.size,), -2.0)
    state = layout.state(weights)
    low = {name for name, value in state.items() if not (value == -2).all()}
    assert low == {"1.running_var", "4.running_var"}
    assert all((state[name] == 1e-5).all() for name in low)
    net = network().eval()
    net.load_state_dict(state, strict=False)
    assert net(torch.randn(2, 3, 4, 4, generator=gen())).isfinite().all()
    net.load_state_dict(layout.raw_tensors(weights), strict=False)
    assert net(torch.randn(2, 3, 4, 4, generator=gen())).isnan().any()


def test_json_restores_buffers_and_has_no_such_field_without_them(layout):
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    [weight, *_, variance] = layout.to_json()["layers"][1]["tensors"]
    assert weight == {"name": "1.weight", "shape": (4,), "groups": (None,)}
    assert variance == {"name": "1.running_var", "shape": (4,), "groups": (None,), "buffer": True}
    assert "buffer" not in json.dumps(Layout.of(cnn()).to_json())


@pytest.mark.parametrize("buffer", [1, "true", None])
def test_a_buffer_is_true_or_false(layout, buffer):
    data = layout.to_json()
    data["layers"][1]["tensors"][3]["buffer"] = buffer
    with pytest.raises(LayoutError, match=r"^tensor '1\.running_var' must have a buffer that is true or false"):
        Layout.from_json(data)


def test_no_product_code_besides_the_layout_room_takes_raw_tensors():
    """A vector becomes tensors by `Layout.state`, which keeps running variances above zero."""
    root = Path(__file__).parents[3]
    folders = [root / "hyperinit", root / "training" / "hyperinit_training", root / "benchmarks"]
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    takers = {path for path in paths if any(_takes_raw(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))}
    assert {path.parent for path in takers} == {root / "hyperinit" / "layout"}


def _takes_raw(node):
    return isinstance(node, ast.Attribute) and node.attr == "raw_tensors"


def test_places_are_those_of_the_values_in_the_vector(layout):
    vector = torch.randn(layout.size, generator=gen())
    tensors, places = layout.raw_tensors(vector), layout.places()
    assert list(tensors) == list(places)
    assert all(torch.equal(vector[places[name]], value) for name, value in tensors.items())
