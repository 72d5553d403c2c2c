"""Conversions between named tensors, flat vectors and neuron tokens, permutation groups, and JSON."""

import copy
import json

import pytest
import torch
from reordered import permutation_index
from seeds import gen
from torch import nn

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import cnn


def network():
    net = cnn()
    with torch.no_grad():
        for value in net.parameters():
            value.normal_(generator=gen(value.numel()))
    return net


@pytest.fixture
def layout():
    return Layout.of(cnn())


@pytest.fixture
def vectors(layout):
    return torch.randn(3, layout.size, generator=gen())


# Vectors


def test_unflatten_inverts_flatten(layout):
    state = network().state_dict()
    back = layout.raw_tensors(layout.flatten(state))
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_flatten_inverts_raw_tensors(layout, vectors):
    assert torch.equal(layout.flatten(layout.raw_tensors(vectors[0])), vectors[0])


def test_the_vector_goes_layer_by_layer_weights_before_biases():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2], [3, 4]]))
        net[0].bias.copy_(torch.tensor([5.0, 6]))
        net[1].weight.copy_(torch.tensor([[7.0, 8]]))
        net[1].bias.fill_(9)
    assert Layout.of(net).flatten(net.state_dict()).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_flatten_reads_by_name_and_gives_detached_float32(layout):
    state = network().double().state_dict()
    vector = layout.flatten(dict(reversed(state.items())))
    assert vector.dtype == torch.float32
    assert torch.equal(vector, layout.flatten(state))
    assert not layout.flatten(dict(network().named_parameters())).requires_grad


def test_unflatten_keeps_leading_axes(layout, vectors):
    stacked = layout.raw_tensors(vectors.reshape(1, 3, -1))
    assert stacked["3.weight"].shape == (1, 3, 6, 8, 5, 5)
    assert torch.equal(stacked["3.weight"][0, 2], layout.raw_tensors(vectors[2])["3.weight"])


def test_flatten_lists_every_problem_at_once(layout):
    state = network().state_dict()
    state |= {"0.bias": torch.zeros(7), "extra": torch.zeros(1)}
    del state["3.weight"]
    message = (
        r"^tensors do not match the layout: missing 3.weight \(6, 8, 5, 5\); "
        r"0.bias has shape \(7,\), expected \(8,\); unexpected extra$"
    )
    with pytest.raises(LayoutError, match=message):
        layout.flatten(state)


@pytest.mark.parametrize("shape", [(2463,), (2, 2465), ()])
def test_vectors_of_another_size_are_refused(layout, shape):
    with pytest.raises(ArgumentError, match=rf"weights must have shape \(\.\.\., 2464\), got \({str(shape)[1:-1]}\)"):
        layout.raw_tensors(torch.zeros(shape))


def test_slices_cover_the_vector_layer_by_layer(layout, vectors):
    slices = layout.layer_slices
    assert list(slices) == ["0", "3", "6", "9", "11"]
    assert torch.equal(torch.cat([vectors[0, s] for s in slices.values()]), vectors[0])
    assert torch.equal(vectors[0, slices["3"]][-6:], layout.raw_tensors(vectors[0])["3.bias"])


# Tokens


def test_from_tokens_inverts_tokens(layout, vectors):
    assert torch.equal(layout.from_tokens(layout.tokens(vectors)), vectors)


def test_a_token_is_a_neurons_incoming_weights_and_its_bias(layout, vectors):
    tokens = layout.tokens(vectors)
    assert [tuple(t.shape) for t in tokens] == [(3, 8, 26), (3, 6, 201), (3, 4, 25), (3, 20, 37), (3, 10, 21)]
    tensors = layout.raw_tensors(vectors)
    for layer, token in zip(layout.layers, tokens, strict=True):
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        for neuron in range(layer.neurons):
            assert torch.equal(token[1, neuron, :-1], weight[1, neuron].flatten())
            assert token[1, neuron, -1] == bias[1, neuron]


def test_layers_without_a_bias_have_shorter_tokens():
    layout = Layout.of(nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1)))
    vectors = torch.randn(2, layout.size, generator=gen())
    assert [layer.token_length for layer in layout.layers] == [3, 3]
    assert torch.equal(layout.from_tokens(layout.tokens(vectors)), vectors)


# Permutations


def permuted(net, layout, index):
    out = copy.deepcopy(net)
    out.load_state_dict(layout.raw_tensors(layout.flatten(net.state_dict())[index]))
    return out


def test_reordered_neurons_compute_the_same_function(layout):
    net, images = network(), torch.randn(4, 1, 28, 28, generator=gen())
    orders = {name: torch.randperm(size, generator=gen(size)) for name, size in layout.group_sizes.items()}
    index = permutation_index(layout, orders)
    assert not torch.equal(index, torch.arange(layout.size))
    torch.testing.assert_close(permuted(net, layout, index)(images), net(images), rtol=1e-4, atol=1e-3)


def test_shuffled_weights_compute_another_function(layout):
    net, images = network(), torch.randn(4, 1, 28, 28, generator=gen())
    index = torch.arange(layout.size)
    first = layout.layer_slices["0"]
    index[first] = index[first][torch.randperm(first.stop, generator=gen())]
    assert (permuted(net, layout, index)(images) - net(images)).abs().max() > 0.1


@pytest.mark.parametrize("name", ["0", "6"])
def test_a_reordered_layer_alone_computes_another_function(layout, name):
    """Negative control: the inputs of the next layer must be reordered too, also after a flatten."""
    net, images = network(), torch.randn(4, 1, 28, 28, generator=gen())
    orders = {name: torch.arange(layout.group_sizes[name]).flip(0)}
    index = permutation_index(layout, orders)
    following = layout.layer_slices[{"0": "3", "6": "9"}[name]]
    index[following] = torch.arange(following.start, following.stop)
    assert (permuted(net, layout, index)(images) - net(images)).abs().max() > 0.1


def test_the_groups_of_a_chain_are_its_hidden_layers(layout):
    assert layout.group_sizes == {"0": 8, "3": 6, "6": 4, "9": 20}
    groups = {tensor.name: tensor.groups for tensor in layout.tensors}
    assert groups["0.weight"] == ("0", None, None, None)
    assert groups["3.weight"] == ("3", "0", None, None)
    assert groups["9.weight"] == ("9", "6")
    assert groups["9.bias"] == ("9",)
    assert groups["11.weight"] == (None, "9")
    assert groups["11.bias"] == (None,)


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = cnn()


def test_other_modules_get_no_groups():
    assert Layout.of(Wrapped()).group_sizes == {}
    assert Layout.of(nn.Linear(2, 1)).tensors[0].name == "weight"


def test_with_groups_replaces_the_groups_of_the_chain(layout):
    other = layout.with_groups({"9.weight": ("a", None), "9.bias": ("a",), "11.weight": (None, "a")})
    assert other.group_sizes == {"a": 20}
    assert other.with_groups({t.name: t.groups for t in layout.tensors}) == layout


@pytest.mark.parametrize("groups", [{"9.bias": ("a", None)}, {"8.bias": ("a",)}])
def test_groups_of_other_tensors_are_refused(layout, groups):
    [name] = groups
    with pytest.raises(LayoutError, match=rf"^groups must give one entry for each axis .*, got {name} with groups"):
        layout.with_groups(groups)


# Refused modules


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),  # another shape
        nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Tanh()),  # other names
        nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3, bias=False)),  # a tensor less
        nn.Sequential(nn.Linear(3, 2), nn.Softmax(1), nn.Linear(2, 3)),  # no chain, so no groups
    ],
)
def test_the_digest_tells_layouts_apart(other):
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3))
    layout = Layout.of(net)
    assert layout.digest == Layout.of(copy.deepcopy(net)).digest
    assert layout.digest == Layout.from_json(json.loads(json.dumps(layout.to_json()))).digest
    assert layout.digest != Layout.of(other).digest


def test_the_digest_stays_the_same_between_versions():
    """Unfinished zoos and their networks are recognised by it."""
    expected = "7f0818af1b08272543891542ab147f9ce6894d5410aafd3494145b3c209cd3c0"
    assert Layout.of(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3))).digest == expected


@pytest.mark.parametrize(
    ("module", "got"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.ConvTranspose1d(2, 2, 1)), "also found 1.weight, 1.bias"),
        (nn.Sequential(nn.Linear(2, 2), nn.PReLU()), "also found 1.weight"),
        (nn.Sequential(nn.ReLU()), "found none"),
    ],
    ids=["transposed", "prelu", "nothing"],
)
def test_modules_with_other_parameters_are_refused(module, got):
    with pytest.raises(LayoutError, match=f"^a zoo's network must hold conv, linear and norm layers only, {got}$"):
        Layout.of(module)


# JSON


def test_json_gives_the_layout_back(layout):
    back = Layout.from_json(json.loads(json.dumps(layout.to_json())))
    assert back == layout
    assert back.group_sizes == layout.group_sizes
    assert back != Layout.of(cnn(channels=3))


def with_tensor(**fields):
    tensor = {"name": "0.weight", "shape": [2, 3], "groups": [None, None]} | fields
    return {"layers": [{"name": "0", "kind": "linear", "tensors": [tensor]}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "a layout must be an object with a list layers of at most 512, got None"),
        ([], r"a layout must be an object with a list layers of at most 512, got \[\]"),
        ({}, "a layout must be an object with a list layers of at most 512, got {}"),
        ({"layers": [{}] * 513}, "a layout must be an object with a list layers of at most 512"),
        ({"layers": [{"name": "0"}]}, "a layer must be an object with a list tensors"),
        ({"layers": [{"name": "0", "tensors": []}]}, "a layer's kind must be text, got None"),
        ({"layers": [{"name": "0", "kind": "x", "tensors": []}]}, "layer '0' must be of conv1d, .*, got 'x'"),
        ({"layers": ["0"]}, "a layer must be an object"),
        (with_tensor(name=3), "a tensor's name must be text, got 3"),
        (with_tensor(shape=[2, 0]), r"tensor '0\.weight' must have 1 to 8 positive sizes, got \(2, 0\)"),
        (with_tensor(shape=[2, 3.0]), r"tensor '0\.weight' must have 1 to 8 positive sizes, got \(2, 3\.0\)"),
        (with_tensor(shape=[True, 3]), r"tensor '0\.weight' must have 1 to 8 positive sizes"),
        (with_tensor(shape=[2, 10**30]), r"tensor '0\.weight' must have 1 to 8 positive sizes"),
        (with_tensor(shape=[2] * 9), r"tensor '0\.weight' must have 1 to 8 positive sizes"),
        (with_tensor(shape=[2**20, 2**20, 2]), r"tensor '0\.weight' must have one group or null for each axis"),
        (with_tensor(shape=[2**20, 2**21]), "a layout must have at most 1099511627776 weights, got more"),
        (with_tensor(shape="23"), "a tensor must be an object with a list shape"),
        (with_tensor(shape=[], groups=[]), r"tensor '0\.weight' must have 1 to 8 positive sizes"),
        (with_tensor(groups=[None]), r"tensor '0\.weight' must have one group or null for each axis, got \(None,\)"),
        (
            {"layers": with_tensor()["layers"] * 2},
            "names of layers and of tensors must be unique in a layout, got one twice",
        ),
        ({"layers": [{"name": "0", "kind": "linear", "tensors": []}]}, "layer '0' must hold tensors that share"),
    ],
)
def test_damaged_json_is_refused(data, message):
    with pytest.raises(LayoutError, match=f"^{message}"):
        Layout.from_json(data)


def test_tensors_of_a_layer_share_their_neurons(layout):
    data = json.loads(json.dumps(layout.to_json()))
    data["layers"][1]["tensors"][1]["shape"] = [7]
    with pytest.raises(LayoutError, match=r"^layer '3' must hold tensors that share their first axis, got"):
        Layout.from_json(data)


class _Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.inner(x)


@pytest.mark.parametrize("step", [_Skip(), nn.Conv1d(4, 4, 1, groups=2), nn.Sequential(nn.Linear(4, 4))])
def test_only_plain_steps_make_a_chain(step):
    """Reordering the neurons around a skip connection or inside groups would change the function."""
    assert not Layout.of(nn.Sequential(nn.Linear(4, 4), step, nn.Linear(4, 2))).group_sizes
    assert Layout.of(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))).group_sizes == {"0": 4}


def test_a_layout_without_layers_or_with_odd_groups_is_refused():
    with pytest.raises(LayoutError, match="a layout must have at least one layer, got none"):
        Layout.from_json({"layers": []})
    data = Layout.of(nn.Sequential(nn.Linear(2, 1))).to_json()
    data["layers"][0]["tensors"][0]["groups"] = [{}, None]
    with pytest.raises(
        LayoutError, match=r"tensor '0\.weight' must have one group or null for each axis, got \({}, None\)"
    ):
        Layout.from_json(data)


def test_the_default_device_of_the_caller_is_ignored(layout):
    places, slices = layout.places(), layout.layer_slices
    with torch.device("meta"):
        again = Layout(layout.layers)
        assert again.layer_slices == slices
        assert all(torch.equal(value, places[name]) for name, value in again.places().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.tolist(), r"^0\.bias must be a dense tensor of real numbers, got list$"),
        (lambda value: value.to_sparse(), "got torch.sparse_coo of torch.float32 on cpu$"),
        (lambda value: value.to("meta"), "got torch.strided of torch.float32 on meta$"),
        (lambda value: value.to(torch.complex64), "got torch.complex64$"),
        (lambda value: value.double() * 1e300, r"^0\.bias must hold numbers that fit float32, got larger ones$"),
    ],
)
def test_tensors_that_a_vector_cannot_hold_are_refused(layout, change, message):
    state = network().state_dict()
    state["0.bias"] = change(state["0.bias"])
    with pytest.raises(LayoutError, match=message):
        layout.flatten(state)


def test_nan_and_infinity_of_the_network_itself_stay(layout):
    state = network().state_dict()
    state["0.bias"][:2] = torch.tensor([float("nan"), float("inf")])
    assert layout.flatten(state).isfinite().logical_not().sum() == 2
