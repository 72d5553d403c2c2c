"""A narrower module keeps the neurons of the source that matter most, the same ones in every tensor."""

import pytest
import torch
from fitting_cases import put
from seeds import gen
from torch import nn

from hyperinit.fitting import apply_, make_plan
from hyperinit.fitting.narrow import Narrowed, best_first
from hyperinit.layout import Layout
from hyperinit.nets import cnn


def drawn(layout, seed=0):
    return torch.randn(layout.size, generator=gen(seed)) * 0.3


def narrow(a=4, b=3, c=2, d=10):
    return nn.Sequential(
        nn.Conv2d(1, a, 5), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(a, b, 5), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(b, c, 2), nn.Tanh(), nn.Flatten(), nn.Linear(c * 9, d), nn.Tanh(), nn.Linear(d, 10),
    )  # fmt: skip


def normed(norm, width):
    return nn.Sequential(nn.Conv2d(1, width, 3), norm(width), nn.ReLU(), nn.Conv2d(width, 2, 3), nn.Flatten()).eval()


def grouped(network):
    """The layout of a network with norms, whose groups are given by hand."""
    layout = Layout.of(network)
    axes = {tensor.name: ("0", *[None] * (len(tensor.shape) - 1)) for tensor in layout.tensors}
    return layout.with_groups(axes | {"3.weight": (None, "0", None, None), "3.bias": (None,)})


@pytest.mark.parametrize(("make", "layout_of"), [(cnn, Layout.of), (lambda: normed(nn.BatchNorm2d, 6), grouped)])
def test_neurons_are_reordered_without_a_change_of_the_function(make, layout_of):
    network = make().eval()
    layout = layout_of(network)
    groups = [Narrowed(name, size // 2, size) for name, size in layout.group_sizes.items()]
    assert groups
    state = layout.state(drawn(layout).abs())
    images = torch.randn(2, 1, 28, 28, generator=gen())
    outputs = []
    for tensors in (state, best_first(state, layout, groups)):
        network.load_state_dict(tensors, strict=False)
        outputs.append(network(images))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)


def test_neurons_without_outgoing_weights_are_left_out_everywhere():
    layout = Layout.of(cnn())
    state = layout.state(drawn(layout))
    state["3.weight"][:, [0, 1, 4, 7]] = 0
    state["9.weight"].view(20, 4, 9)[:, [0, 2]] = 0
    module = put(narrow(), layout, layout.flatten(state))
    assert torch.equal(module[0].weight, state["0.weight"][[2, 3, 5, 6]])
    assert torch.equal(module[0].bias, state["0.bias"][[2, 3, 5, 6]])
    kept = [row.tolist() for row in state["3.bias"][:, None]]
    rows = [kept.index(row.tolist()) for row in module[3].bias[:, None]]
    assert torch.allclose(module[3].weight, state["3.weight"][rows][:, [2, 3, 5, 6]] * 2**0.5)  # half of the inputs
    assert torch.equal(module[6].bias, state["6.bias"][[1, 3]])


def test_the_scale_of_a_norm_counts_in_place_of_the_weights_before_it():
    layout = grouped(normed(nn.BatchNorm2d, 4))
    state = {name: torch.ones_like(value) for name, value in layout.state(drawn(layout)).items()}
    state["0.weight"][0] *= 9
    state["1.weight"][:] = torch.tensor([0.1, -3.0, 0.2, 2.0])
    state["1.bias"][:] = torch.arange(4.0)
    module = put(normed(nn.BatchNorm2d, 2), layout, layout.flatten(state))
    assert module[1].bias.tolist() == [1, 3]


def test_of_equal_neurons_the_first_are_kept():
    layout = Layout.of(nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)))
    state = {name: torch.ones_like(value) for name, value in layout.state(drawn(layout)).items()}
    state["0.bias"] = torch.arange(4.0)
    module = put(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)), layout, layout.flatten(state))
    assert module[0].bias.tolist() == [0, 1]


def test_groups_that_lose_nothing_keep_their_order():
    layout = Layout.of(cnn())
    weights = drawn(layout)
    state, module = layout.state(weights), put(narrow(8, 3, 4, 20), layout, weights)
    assert torch.equal(module[0].weight, state["0.weight"])
    assert torch.equal(module[9].weight, state["9.weight"])
    assert make_plan(narrow(8, 3, 4, 20), layout).narrowed == (Narrowed("3", 3, 6),)
    assert make_plan(narrow(16, 12, 8, 40), layout).narrowed == ()
    assert make_plan(cnn(), layout).narrowed == ()


def test_a_source_whose_groups_are_unknown_keeps_its_first_neurons():
    layout = Layout.of(cnn()).with_groups({})
    weights = drawn(layout)
    assert make_plan(narrow(), layout).narrowed == ()
    assert torch.equal(put(narrow(), layout, weights)[0].weight, layout.state(weights)["0.weight"][:4])


def test_a_flat_fit_takes_the_vector_as_it_is():
    layout = Layout.of(cnn())
    weights = drawn(layout)
    module = narrow()
    apply_(module, make_plan(module, layout, fit="flat"), weights)
    assert torch.equal(module[0].weight.flatten(), weights[:100])


def test_the_table_says_how_many_neurons_are_kept():
    table = str(make_plan(narrow(), Layout.of(cnn())))
    assert "\nbest neurons of the source: 4 of 8 in 0, 3 of 6 in 3, 2 of 4 in 6, 10 of 20 in 9" in table
    assert "best neurons" not in str(make_plan(cnn(3), Layout.of(cnn())))
