"""What follows each layer is found without a change of the module, of other threads or of the global generator."""

import threading

import pytest
import torch
from module_states import same, state
from torch import nn
from torch.nn import functional

from hyperinit import nets
from hyperinit.fitting import flow
from hyperinit.fitting.flow import flow_of, steps_of_types

POOL = "MaxPool2d(kernel_size=2)"


class Functions(nn.Module):
    """The zoo's CNN with functions in place of modules."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 8, 5), nn.Conv2d(8, 6, 5), nn.Conv2d(6, 4, 2)])
        self.dense, self.head = nn.Linear(36, 20), nn.Linear(20, 10)

    def forward(self, x, mask=None):
        x = torch.tanh(functional.max_pool2d(self.convs[0](x), 2))
        x = functional.max_pool2d(self.convs[1](x), (2, 2), 2).tanh()
        x = self.convs[2](x).tanh_()
        x = x.view(x.size(0), -1)
        if mask is not None:
            x = x * mask
        return self.head(functional.dropout(self.dense(x).tanh(), 0.5, self.training))


class Leaving(nn.Module):
    """A forward that leaves traces in the module, in a list, in a buffer, and in the global generator."""

    def __init__(self):
        super().__init__()
        self.body, self.seen, self.last = nn.Linear(2, 2), [], None
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        self.last = self.body(x)
        self.seen.append(self.last)
        return self.last + torch.randn(2)


class NormAct(nn.BatchNorm2d):
    def forward(self, x):
        return torch.relu(super().forward(x))


class OwnConv(nn.Conv2d):
    def forward(self, x):
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), self.weight, self.bias).relu()


class Branching(Functions):
    def forward(self, x):
        return super().forward(x if x.mean() > 0 else -x)


def texts(flow):
    return {name: [step.text for step in steps] for name, steps in flow.steps.items() if name}


def test_modules_and_functions_have_the_same_flow():
    chain, functions = flow_of(nets.cnn()), flow_of(Functions())
    assert texts(chain) == {"0": [POOL, "Tanh"], "3": [POOL, "Tanh"], "6": ["Tanh"], "9": ["Tanh"], "11": []}
    assert list(texts(chain).values()) == list(texts(functions).values())
    assert chain.following == {"": ("0",), "0": ("3",), "3": ("6",), "6": ("9",), "9": ("11",), "11": ()}


def test_chains_need_no_trace_and_give_the_same_flow():
    chain = nn.Sequential(nn.BatchNorm2d(1), nn.Sequential(*nets.cnn()), nn.ReLU(), nn.Sequential())
    root = flow._recording(chain)
    assert flow.flow_of(chain) == flow._flow(root, flow._traced(root))
    tied = nn.Linear(2, 2)
    assert flow.flow_of(nn.Sequential(tied, nn.Tanh(), tied)).following == {"": ("0",), "0": ("0",)}


def test_subclasses_of_torchs_layers_are_looked_into():
    found = flow_of(nn.Sequential(nn.Conv2d(1, 8, 3), NormAct(8), OwnConv(8, 4, 3), nn.Tanh()))
    assert texts(found) == {"0": ["BatchNorm2d", "ReLU", "pad"], "2": ["ReLU", "Tanh"]}


def test_a_residual_network_is_followed_along_the_data():
    found = flow_of(nets.ResNet(1, 10, 1, 4))
    assert set(found.following["conv1"]) == {"layer1.0.conv1", "layer2.0.conv1", "layer2.0.downsample.0"}
    assert texts(found)["layer1.0.conv1"] == ["BatchNorm2d", "ReLU"]
    assert "add" in texts(found)["layer1.0.conv2"]


def test_nothing_of_the_module_or_the_generator_changes():
    net = nn.Sequential(Leaving(), nn.Linear(2, 1)).train()
    calls, before, random = [], state(net), torch.get_rng_state()
    net[0].body.register_forward_hook(lambda *_: calls.append(1))
    assert texts(flow_of(net)) == {"0.body": ["add"], "1": []}
    assert (net[0].seen, net[0].last, calls, float(net[0].count)) == ([], None, [], 0)
    assert all(part.training for part in net.modules())
    assert type(net[1]) is nn.Linear
    assert torch.equal(torch.get_rng_state(), random)
    assert same(net, before)


def test_another_threads_forward_runs_on_meanwhile():
    stop, errors, net = threading.Event(), [], nets.cnn()

    def run():
        while not stop.is_set():
            try:
                net(torch.zeros(1, 1, 28, 28))
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(30):
        assert flow_of(nets.cnn()) is not None
    stop.set()
    thread.join()
    assert not errors


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_settings_of_the_caller_have_no_influence(default_dtype, dtype):
    expected = flow_of(Functions())
    default_dtype(dtype)
    with torch.device("meta"), torch.autocast("cpu"):
        assert flow_of(Functions()) == expected


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_what_depends_on_values_or_cannot_run_is_not_traced(monkeypatch):
    assert flow_of(Branching()) is None
    assert flow_of(nn.ModuleList([nn.Linear(2, 1)])) is None
    assert flow_of(torch.jit.script(nn.Linear(2, 1))) is None
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert flow_of(nets.cnn()) is None  # the hook would see stand-ins
    finally:
        hook.remove()


def test_types_of_modules_are_all_that_is_known_then():
    assert {step.text for step in steps_of_types(nets.cnn())} == {POOL, "Tanh"}
    assert steps_of_types(Branching()) == set()
