"""Plans and the writing of decoded weights into all kinds of modules."""

import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError, LayoutError, PlanError, UnknownNameError
from hyperinit.fitting import apply_, make_plan
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def source():
    torch.manual_seed(0)
    return cnn()


@pytest.fixture
def layout(source):
    return Layout.of(source)


@pytest.fixture
def weights(source, layout):
    return layout.flatten(source.state_dict())


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def wide(channels=1, kernel=5, padding=0):
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel, padding=padding), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(16, 12, kernel, padding=padding), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(12, 8, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(72, 40), nn.Tanh(),
        nn.Linear(40, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """Other names, norms, a skip convolution, a bare parameter, and layers that the source does not have."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8)
        self.skip, self.body = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 5, bias=False)
        self.depthwise, self.last = nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 2)
        self.scale = nn.Parameter(torch.full((4,), 7.0))
        self.head = nn.Linear(4, 10)


def state(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def put(module, layout, weights, *, fit="auto", fill="default", **options):
    return apply_(module, make_plan(module, layout, fit=fit, fill=fill), weights, **options)


class Renamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = cnn()


def test_exact_copies_every_weight_whatever_the_names(layout, weights):
    module = Renamed()
    plan = make_plan(module, layout)
    assert plan.fit == "exact"
    assert plan.decoded_share == 1
    assert not torch.equal(Layout.of(module.layers).flatten(module.layers.state_dict()), weights)
    assert apply_(module, plan, weights) is module
    assert torch.equal(Layout.of(module.layers).flatten(module.layers.state_dict()), weights)


def test_exact_names_what_differs_and_auto_resizes(layout):
    with pytest.raises(LayoutError, match=r"0\.weight \(8, 3, 5, 5\) for 0\.weight \(8, 1, 5, 5\)"):
        make_plan(cnn(channels=3), layout, fit="exact")
    with pytest.raises(LayoutError, match=r"nothing for 11\.bias \(10,\)"):
        make_plan(cnn()[:-1], layout, fit="exact")
    assert make_plan(cnn(channels=3), layout).fit == "layerwise"


def test_flat_fills_in_order_and_cuts_off(layout, weights):
    large = nn.Sequential(nn.Linear(50, 40), nn.Linear(40, 30))
    plan = make_plan(large, layout, fit="flat", fill="keep")
    before = state(large)["1.weight"].flatten()
    apply_(large, plan, weights)
    got = torch.cat([value.flatten() for value in large.parameters()]).detach()
    assert torch.equal(got[:2464], weights)
    assert torch.equal(got[2464:3240], before[424:])
    assert plan.decoded_share == pytest.approx(2464 / 3270)
    assert plan.rows[0].source == "0.weight to 9.weight"
    assert [row.origin for row in plan.rows] == ["flat", "flat", "flat", "untouched"]


@pytest.mark.parametrize(
    ("target", "to_image"),
    [
        (wide, lambda x: x),
        (lambda: wide(channels=3), lambda x: x.expand(-1, 3, -1, -1)),
        (lambda: wide(kernel=7, padding=1), lambda x: x),
        (lambda: nn.Sequential(*cnn()[:-1], nn.Linear(20, 13)), lambda x: x),
    ],
    ids=["wider", "colour", "larger kernel", "more classes"],
)
def test_a_larger_network_at_full_strength_computes_what_the_source_computes(source, layout, weights, target, to_image):
    images = torch.randn(4, 1, 28, 28, generator=gen())
    module = put(target(), layout, weights)
    torch.testing.assert_close(module(to_image(images))[:, :10], source(images), rtol=0, atol=1e-5)


def test_missing_inputs_that_are_kept_change_the_outputs(source, layout, weights):
    images = torch.randn(4, 1, 28, 28, generator=gen())
    assert (put(wide(), layout, weights, fill="keep")(images) - source(images)).abs().max() > 1e-3


def test_grey_from_colour_sums_the_channels():
    torch.manual_seed(0)
    colour = cnn(channels=3)
    layout, image = Layout.of(colour), torch.randn(2, 1, 28, 28)
    module = put(cnn(), layout, layout.flatten(colour.state_dict()))
    torch.testing.assert_close(module(image), colour(image.expand(-1, 3, -1, -1)), rtol=0, atol=1e-5)


def test_narrow_networks_start_with_finite_outputs_of_the_sources_size(layout, weights, source):
    narrow = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 10))
    images = torch.randn(8, 1, 28, 28, generator=gen())
    plan = make_plan(narrow, layout)
    assert [(row.source, row.overlap) for row in plan.rows] == [
        ("0.weight", 36), ("0.bias", 4), ("11.weight", 200), ("11.bias", 10),
    ]  # fmt: skip
    ratio = apply_(narrow, plan, weights)(images).std() / source(images).std()
    assert 0.3 < ratio < 3


def test_residual_network_is_aligned_and_the_rest_is_filled(layout, weights):
    module = Residual()
    plan = make_plan(module, layout)
    got = {row.name: (row.origin, row.source) for row in plan.rows}
    assert got["stem.weight"] == ("resized", "0.weight")
    assert got["body.weight"] == ("exact", "3.weight")
    assert got["last.weight"] == ("exact", "6.weight")
    assert got["head.weight"] == ("resized", "11.weight")
    assert got["skip.weight"] == got["depthwise.weight"] == got["norm.weight"] == ("filled", None)
    assert got["scale"] == ("untouched", None)
    with torch.no_grad():
        module.norm.weight.fill_(5)
    apply_(module, plan, weights)
    assert torch.equal(module.norm.weight, torch.ones(8))
    assert torch.equal(module.scale, torch.full((4,), 7.0))
    assert torch.equal(module.body.weight, layout.unflatten(weights)["3.weight"])


def test_other_kinds_of_layer_are_filled(layout):
    module = nn.Sequential(nn.Conv1d(1, 8, 5), nn.Conv3d(1, 2, 2), nn.ConvTranspose2d(8, 6, 5), nn.Embedding(3, 2))
    plan = make_plan(module, layout)
    assert {row.origin for row in plan.rows} == {"filled"}
    with pytest.raises(PlanError, match=r"at least 1\.0%"):
        plan.check(0.01)


def test_a_module_without_layers_is_refused(layout):
    with pytest.raises(PlanError, match=r"conv or linear layer.*got GRU"):
        make_plan(nn.GRU(2, 2), layout)
    with pytest.raises(PlanError, match="floating-point parameters"):
        make_plan(nn.ReLU(), layout)


def test_unknown_names_get_a_hint(layout):
    with pytest.raises(UnknownNameError, match=r"unknown fit 'layerwize'; did you mean 'layerwise'\?"):
        make_plan(cnn(), layout, fit="layerwize")
    with pytest.raises(UnknownNameError, match="unknown fill 'xyz'; choose from default, keep, zoo"):
        make_plan(cnn(), layout, fill="xyz")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 20)
        self.body, self.head = nn.Linear(36, 20), nn.Linear(20, 10, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_parameters_are_written_once_and_stay_tied(layout, weights):
    module = Tied()
    plan = make_plan(module, layout)
    assert [row.name for row in plan.rows] == ["embedding.weight", "body.weight", "body.bias"]
    apply_(module, plan, weights)
    assert module.head.weight is module.embedding.weight
    assert torch.equal(module.head.weight, layout.unflatten(weights)["11.weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_identity_dtype_grad_flag_and_buffers_are_kept(layout, weights, dtype):
    module = nn.Sequential(*cnn(), nn.BatchNorm1d(10)).to(dtype)
    module[12].running_mean.fill_(3)
    module[0].weight.requires_grad_(False)
    before = list(module.parameters())
    put(module, layout, weights, strength=0.5)
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))
    assert module[12].running_mean.eq(3).all()
    assert not module[0].weight.requires_grad
    assert module[3].weight.requires_grad
    assert {value.dtype for value in module.parameters()} == {dtype}


def test_untouched_parameters_are_not_even_rounded(layout, weights):
    module = Residual().double()
    with torch.no_grad():
        module.scale.fill_(1 / 3)  # no float32 number
    assert put(module, layout, weights).scale.eq(1 / 3).all()


def test_decoding_is_float32_and_cast_once(layout, weights):
    module = put(cnn().to(torch.bfloat16), layout, weights)
    assert torch.equal(module[0].weight, layout.unflatten(weights)["0.weight"].to(torch.bfloat16))


@pytest.mark.parametrize("fit", ["flat", "layerwise"])
def test_parameters_that_are_not_floating_point_are_left_alone(layout, weights, fit):
    module = cnn()
    module[3].weight = nn.Parameter(torch.ones(6, 200, dtype=torch.int8), requires_grad=False)
    plan = make_plan(module, layout, fit=fit)
    assert {row.name: row.origin for row in plan.rows}["3.weight"] == "untouched"
    assert apply_(module, plan, weights)[3].weight.eq(1).all()


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_parameters_that_do_not_exist_yet_are_refused(layout):
    with pytest.raises(PlanError, match=r"0\.weight.*Run one batch"):
        make_plan(nn.Sequential(nn.LazyConv2d(8, 5), nn.Linear(2, 1)), layout)
    with pytest.raises(PlanError, match="to_empty"):
        make_plan(cnn().to("meta"), layout)
    with torch.inference_mode():
        frozen = cnn()
    with pytest.raises(PlanError, match="inference-mode"):
        make_plan(frozen, layout)
    expanded = nn.Linear(20, 10)
    expanded.bias = nn.Parameter(torch.zeros(1).expand(10))
    with pytest.raises(PlanError, match="expanded ones: bias; clone"):
        make_plan(expanded, layout)


def test_keep_leaves_what_is_not_decoded(layout, weights):
    module = Residual()
    before = state(module)
    plan = make_plan(module, layout, fill="keep")
    apply_(module, plan, weights)
    after = module.state_dict()
    block = layout.unflatten(weights)["11.weight"][:, :4]
    torch.testing.assert_close(after["head.weight"], block * 5**0.5)  # 4 of 20 inputs: the rest is scaled up
    assert all(torch.equal(after[row.name], before[row.name]) for row in plan.rows if row.origin == "untouched")
    wider = wide()
    before = state(wider)["3.weight"]
    put(wider, layout, weights, fill="keep", strength=0.5)
    assert torch.equal(wider[3].weight[:, 8:], before[:, 8:])
    assert not torch.equal(wider[3].weight[:6, :8], before[:6, :8])


def test_zoo_fill_of_an_unmatched_layer_takes_the_nearest_of_its_kind(layout):
    rest = {row.name: row.rest for row in make_plan(Residual(), layout, fill="zoo").rows}
    assert rest["skip.weight"] == "normal of 3" or rest["skip.weight"] == "normal of 0"
    assert rest["depthwise.weight"] == "default draw"
    assert rest["scale"] == "kept"


def test_nothing_is_written_when_a_value_is_not_finite(layout, weights):
    module = cnn().half()
    before = state(module)
    weights[-1] = 1e6  # too large for half precision, and the last to be written
    with pytest.raises(PlanError, match=r"11\.bias in torch\.float16"):
        put(module, layout, weights)
    assert same(module, before)
    weights[-1] = float("nan")
    with pytest.raises(PlanError, match="finite"):
        put(cnn(), layout, weights)


def test_arguments_that_do_not_belong_together_are_refused(layout, weights):
    module = cnn()
    plan, before = make_plan(module, layout), state(module)
    with pytest.raises(ArgumentError, match=r"shape \(2464,\), got \(2463,\)"):
        apply_(module, plan, weights[:-1])
    with pytest.raises(PlanError, match=r"0\.weight \(8, 3, 5, 5\).*new plan"):
        apply_(cnn(channels=3), plan, weights)
    assert same(module, before)
