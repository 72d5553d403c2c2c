"""An ensemble can be compiled, exported and traced like a loop over its members, for every batch size at once."""

import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from hyperinit.ensembles.ensemble import Ensemble


def images():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3))


def vectors():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture(params=[(images, "probabilities"), (images, "logits"), (vectors, "probabilities")])
def ensemble(request):
    make, combine = request.param
    torch.manual_seed(0)
    found = Ensemble([make() for _ in range(3)], combine=combine).eval()
    found(batch(2))
    return found


def batch(size):
    return torch.randn(size, 1, 8, 8)


def agree(traced, ensemble, sizes=(2, 3, 70)):
    for size in sizes:
        x = batch(size)
        torch.testing.assert_close(traced(x), ensemble(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strict", [True, False])
def test_export_takes_a_dynamic_batch(ensemble, strict):
    dynamic = {"x": {0: torch.export.Dim("batch", min=2, max=1000)}}
    agree(torch.export.export(ensemble, (batch(4),), dynamic_shapes=dynamic, strict=strict).module(), ensemble)


def test_a_dynamic_compilation_serves_all_batch_sizes(ensemble):
    made = []
    compiled = torch.compile(
        ensemble, dynamic=True, fullgraph=True, backend=lambda graph, _: made.append(graph) or graph.forward
    )
    agree(compiled, ensemble, (16, 17, 70))  # below 16, the operator for convolutions differs
    assert len(made) == 1


def test_fx_traces_the_members(ensemble):
    traced = fx.symbolic_trace(ensemble)
    agree(traced, ensemble)
    assert sum(node.op == "call_module" for node in traced.graph.nodes) == sum(map(len, ensemble.members))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_a_trace_serves_all_batch_sizes(ensemble):
    agree(torch.jit.trace(ensemble, batch(2)), ensemble)


def test_the_operators_of_a_trace_are_those_of_the_members(ensemble):
    x = batch(2)
    graph = make_fx(ensemble)(x)
    assert sum(node.target is torch.ops.aten.addmm.default for node in graph.graph.nodes) == 3
    torch.testing.assert_close(graph(x), ensemble(x), rtol=1e-4, atol=1e-5)
