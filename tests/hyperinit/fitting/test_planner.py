"""Which parameter gets which tensor of the source, and which modules are refused."""

import pytest
import torch
from fitting_cases import Residual
from torch import nn

from hyperinit.errors import LayoutError, PlanError
from hyperinit.fitting import Options, apply_, make_plan
from hyperinit.fitting.plan import DRAWN, KEPT, Plan, Rest, Row
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


def test_exact_names_what_differs_and_auto_resizes(layout):
    with pytest.raises(LayoutError, match=r"0\.weight \(8, 3, 5, 5\) for 0\.weight \(8, 1, 5, 5\)"):
        make_plan(cnn(channels=3), layout, fit="exact")
    with pytest.raises(LayoutError, match=r"nothing for 11\.bias \(10,\)"):
        make_plan(cnn()[:-1], layout, fit="exact")
    assert make_plan(cnn(channels=3), layout).fit == "layerwise"


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


def test_zoo_fill_of_an_unmatched_layer_takes_the_nearest_of_its_kind(layout):
    rest = {row.name: row.rest for row in make_plan(Residual(), layout, fill="zoo").rows}
    assert rest["skip.weight"] == Rest("zoo", "0")  # between the partners of layers 0 and 3: the first of equally near
    assert rest["depthwise.weight"] == DRAWN
    assert rest["scale"] == KEPT


@pytest.mark.parametrize("fit", ["flat", "layerwise", "auto"])
def test_no_fit_writes_into_a_module_without_layers(layout, fit):
    with pytest.raises(PlanError, match="must hold a conv or linear layer to decode into, got BatchNorm2d with none"):
        make_plan(nn.BatchNorm2d(3), layout, fit=fit)


def test_attention_is_filled_and_not_decoded(layout):
    plan = make_plan(nn.Sequential(nn.Conv2d(1, 8, 5), nn.MultiheadAttention(20, 2)), layout)
    assert {row.origin for row in plan.rows if row.name.startswith("1.")} == {"filled"}


def test_the_fill_zoo_counts_layers_without_the_sources_norms():
    source = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(24, 2))
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 12, 3), nn.Flatten(), nn.Linear(48, 3))
    rest = {row.name: row.rest for row in make_plan(module, Layout.of(source), fill="zoo", members=1).rows}
    assert [rest[f"{name}.weight"] for name in (0, 1, 3)] == [Rest("zoo", "0"), Rest("zoo", "2"), Rest("zoo", "4")]


def test_norms_of_any_number_of_axes_are_paired_with_those_of_the_same_number(layout):
    source = Layout.of(nn.Sequential(nn.Linear(2, 6), nn.LayerNorm(6), nn.Linear(6, 2)))
    module = nn.Sequential(nn.Linear(2, 12), nn.LayerNorm([3, 4]), nn.LayerNorm(12), nn.Linear(12, 2))
    found = {row.name: row.source for row in make_plan(module, source).rows}
    assert (found["1.weight"], found["2.weight"]) == (None, "1.weight")


def test_options_come_as_one_object_or_by_name(layout):
    options = Options(fit="flat", fill="keep", exclude="0.*")
    plan = make_plan(cnn(), layout, options)
    assert plan == make_plan(cnn(), layout, fit="flat", fill="keep", exclude=["0.*"])
    assert plan.options == options
    assert make_plan(cnn(), layout, options, fit="exact").options == Options(fit="exact", fill="keep", exclude="0.*")
    with pytest.raises(TypeError, match="fits"):
        make_plan(cnn(), layout, fits="flat")


EMPTY = {
    "no outputs": lambda: nn.Sequential(nn.Conv2d(1, 8, 5), nn.Flatten(), nn.Linear(4608, 0)),
    "no inputs": lambda: nn.Sequential(nn.Conv2d(1, 8, 5), nn.Flatten(), nn.Linear(0, 10)),
    "no channels in": lambda: nn.Sequential(nn.Conv2d(0, 8, 5), nn.Linear(5, 10)),
    "no channels out": lambda: nn.Sequential(nn.Conv2d(1, 0, 5), nn.Conv2d(0, 6, 5), nn.Linear(36, 10)),
    "neither": lambda: nn.Sequential(nn.Conv2d(1, 8, 5), nn.Linear(0, 0)),
    "no norm": lambda: nn.Sequential(nn.Conv2d(1, 8, 5), nn.BatchNorm2d(0), nn.Embedding(0, 3)),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("fit", ["auto", "flat", "layerwise"])
@pytest.mark.parametrize("name", EMPTY)
def test_layers_without_weights_are_planned_and_written_like_others(layout, name, fit):
    module = EMPTY[name]()
    plan = make_plan(module, layout, fit=fit)
    assert 0 <= plan.decoded_share <= 1
    assert "weights" in str(plan)
    apply_(module, plan, torch.ones(layout.size), strength=0.5)


def test_a_plan_of_no_weights_at_all_has_a_share_of_0():
    plan = Plan("layerwise", (Row("head.weight", (0, 3), "filled", None, 0, DRAWN),))
    assert plan.decoded_share == plan.size == 0
    assert "of 0 weights" in str(plan)
    plan.check(0)
    with pytest.raises(PlanError, match=r"at least 10\.0%"):
        plan.check(0.1)


NORMS = {
    "batch": lambda: nn.BatchNorm2d(8), "layer": lambda: nn.LayerNorm([8, 8, 8]), "rows": lambda: nn.LayerNorm([8, 8]),
    "last": lambda: nn.LayerNorm(8), "group": lambda: nn.GroupNorm(2, 8), "wide": lambda: nn.LayerNorm([16, 8, 8]),
}  # fmt: skip


@pytest.mark.parametrize("fit", ["auto", "flat", "layerwise"])
@pytest.mark.parametrize("source", NORMS)
@pytest.mark.parametrize("name", NORMS)
def test_norms_of_any_number_of_axes_meet_in_a_plan(name, source, fit):
    def net(norm):
        return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), norm(), nn.Flatten(), nn.Linear(512, 10))

    layout, module = Layout.of(net(NORMS[source])), net(NORMS[name])
    before = module[1].weight.detach().clone()
    apply_(module, make_plan(module, layout, fit=fit), torch.full((layout.size,), 2.0))
    assert module[1].weight.shape == before.shape
