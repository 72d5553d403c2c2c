"""Default draws are what PyTorch itself would draw and never touch the module; mixing with them; other fills."""

import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.fitting import apply_, make_plan
from hyperinit.fitting.apply import zoo_draw
from hyperinit.fitting.fill import default_draws, has_default
from hyperinit.generators import cpu_random
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


@pytest.fixture
def weights(layout):
    return layout.flatten(cnn().state_dict())


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def wide():
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(16, 12, 5), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(12, 8, 2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 40), nn.Tanh(), nn.Linear(40, 10),
    )  # fmt: skip


def state(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def put(module, layout, weights, *, fit="auto", fill="default", **options):
    return apply_(module, make_plan(module, layout, fit=fit, fill=fill), weights, **options)


@pytest.mark.parametrize(
    "make",
    [
        cnn,
        lambda: nn.LSTM(3, 4, num_layers=2),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0),
        lambda: nn.Sequential(
            nn.Embedding(4, 3, padding_idx=0), nn.LayerNorm(3), nn.Conv1d(3, 2, 1), nn.BatchNorm1d(2)
        ),
        lambda: nn.Bilinear(2, 3, 4),
    ],
    ids=["cnn", "lstm", "attention", "encoder layer", "mixed", "bilinear"],
)
def test_draws_equal_a_new_module_of_the_same_seed(make):
    module = make()
    with torch.no_grad():
        for value in module.parameters():
            value.fill_(9)
    torch.manual_seed(4)
    expected = dict(make().named_parameters())
    torch.manual_seed(4)
    draws = default_draws(module, set(expected))
    assert draws.keys() == expected.keys()
    for name, value in draws.items():
        assert torch.equal(value, expected[name]), name
    assert all(value.eq(9).all() for value in module.parameters())


class Own(nn.Module):
    """A user's module with a reset of its own, a plain list of layers, a buffer and a bare parameter."""

    def __init__(self):
        super().__init__()
        self.inner, self.token = nn.Linear(2, 2), nn.Parameter(torch.full((3,), 4.0))
        self.register_buffer("count", torch.zeros(1))
        self.listed = [self.inner]
        self.named = {"token": self.token}

    def reset_parameters(self):
        self.count += 1
        nn.init.constant_(self.listed[0].weight, 5.0)
        nn.init.constant_(self.named["token"], 6.0)


def test_a_reset_that_reaches_around_cannot_touch_the_module():
    module = nn.Sequential(Own())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    draws = default_draws(module, {"0.token", "0.inner.weight"})
    assert draws["0.token"].eq(6).all()
    assert draws["0.inner.weight"].eq(5).all()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module[0].listed[0] is module[0].inner


def test_modules_may_refer_to_each_other_in_circles():
    parent = nn.Sequential(nn.Linear(2, 2))
    parent[0].owners = [parent]
    assert default_draws(parent, {"0.bias"})["0.bias"].shape == (2,)


def test_only_what_is_named_is_drawn():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    torch.manual_seed(0)
    expected = nn.Linear(2, 2).weight
    torch.manual_seed(0)
    draws = default_draws(module, {"1.weight"})
    assert list(draws) == ["1.weight"]
    assert torch.equal(draws["1.weight"], expected)


def test_a_reset_that_needs_arguments_is_none():
    module = nn.Linear(2, 2)
    module.reset_parameters = lambda std: None
    assert not has_default(module)
    module.reset_parameters = lambda std=1.0, *rest, **options: None
    assert has_default(module)


def test_what_no_reset_writes_comes_back_as_it_is():
    module = nn.Sequential(nn.ParameterList([torch.full((2,), 3.0)]))
    assert default_draws(module, {"0.0"})["0.0"].eq(3).all()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_weight_norm_does_not_share_its_weight():
    module = nn.utils.weight_norm(nn.Linear(3, 3))
    before = module.weight.detach().clone()
    default_draws(module, {"bias"})
    assert torch.equal(module.weight, before)


def test_parametrised_modules_keep_their_values():
    module = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    default_draws(module, {"bias", "parametrizations.weight.original0"})
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_global_generator_is_put_back_after_an_error():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with pytest.raises(RuntimeError, match="shape"), cpu_random(torch.Generator()):
        torch.rand(5).reshape(2)
    assert torch.equal(torch.rand(1), expected)


def test_zoo_draw_has_the_layers_moments():
    torch.manual_seed(0)
    draw = zoo_draw((1000, 10), "a", {"a": (torch.tensor(2.0), 0.5)})
    assert draw.mean().item() == pytest.approx(2, abs=0.03)
    assert draw.std().item() == pytest.approx(0.5, rel=0.03)


def test_new_neurons_of_a_wider_network_are_drawn(layout, weights):
    module = put(wide(), layout, weights, generator=gen())
    assert module[3].weight[6:].std().item() == pytest.approx((16 * 25 * 3) ** -0.5, rel=0.1)
    assert not module[3].weight[:6, 8:].any()


def test_strength_mixes_with_the_default_draw(layout, weights):
    decoded, drawn = put(cnn(), layout, weights), put(cnn(), layout, weights, strength=0, generator=gen(3))
    mixed = put(cnn(), layout, weights, strength=0.25, generator=gen(3))
    for name, value in mixed.state_dict().items():
        expected = 0.25 * decoded.state_dict()[name] + 0.75 * drawn.state_dict()[name]
        torch.testing.assert_close(value, expected)
    assert not torch.equal(drawn[0].weight, decoded[0].weight)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_is_refused(layout, weights, strength):
    with pytest.raises(ArgumentError, match=r"in \[0, 1\], got"):
        put(cnn(), layout, weights, strength=strength)


def test_a_resized_layer_is_mixed_row_by_row(layout, weights):
    drawn = put(wide(), layout, weights, strength=0, generator=gen(1))[3].weight
    mixed = put(wide(), layout, weights, strength=0.5, generator=gen(1))[3].weight
    block = layout.unflatten(weights)["3.weight"]
    torch.testing.assert_close(mixed[:6, :8], 0.5 * drawn[:6, :8] + 0.5 * block)
    torch.testing.assert_close(mixed[:6, 8:], 0.5 * drawn[:6, 8:])  # these inputs decode to zero
    assert torch.equal(mixed[6:], drawn[6:])


def test_zoo_fill_draws_with_the_sources_mean_and_std(layout, weights):
    stats = {layer.name: (torch.tensor(3.0), 0.5) for layer in layout.layers} | {"3": (-8.0, 0.1)}
    module = nn.Sequential(*wide(), nn.BatchNorm1d(10))
    plan = make_plan(module, layout, fill="zoo")
    assert {row.name: row.rest for row in plan.rows}["3.weight"] == "normal of 3"
    apply_(module, plan, weights, layer_stats=stats, generator=gen())
    assert module[3].weight[6:].mean().item() == pytest.approx(-8, abs=0.02)
    assert module[3].weight[6:].std().item() == pytest.approx(0.1, rel=0.1)
    assert module[0].weight[8:].mean().item() == pytest.approx(3, abs=0.2)
    assert module[12].weight.eq(1).all()
    before = state(module)
    with pytest.raises(ArgumentError, match=r"layer_stats.*layer '0', got None"):
        apply_(module, plan, weights)
    assert same(module, before)


def test_the_generator_decides_and_the_global_one_is_left_alone(layout, weights):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (put(wide(), layout, weights, strength=0.5, generator=gen(1)) for _ in range(2))
    other = put(wide(), layout, weights, strength=0.5, generator=gen(2))
    assert same(first, second.state_dict())
    assert not same(first, other.state_dict())
    networks = [wide() for _ in range(3)]
    torch.manual_seed(5)
    for network in networks:
        put(network, layout, weights, strength=0.5, generator=gen(1))
    assert torch.equal(torch.rand(1), expected)


def test_without_a_generator_manual_seed_decides(layout, weights):
    networks = [wide() for _ in range(3)]
    torch.manual_seed(1)
    put(networks[0], layout, weights)
    put(networks[1], layout, weights)
    torch.manual_seed(1)
    put(networks[2], layout, weights)
    assert same(networks[0], networks[2].state_dict())
    assert not same(networks[0], networks[1].state_dict())
