"""What counts as PyTorch running plainly."""

import contextlib
import functools

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from hyperinit.ensembles.plain import FUNCTIONS, ORIGINAL, _of_torch, original, plain_tensor, undisturbed

CPU = torch.device("cpu")


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2, 2).as_subclass(Subclass), nn.Parameter(torch.zeros(2).as_subclass(Subclass)),
        torch.zeros(2, 2).to_sparse(), torch.zeros(2, 2).to_mkldnn(), None, [0.0],
        torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged), nn.UninitializedParameter(),
    ],
)  # fmt: skip
def test_only_dense_tensors_of_no_subclass_are_plain(value):
    assert not plain_tensor(value)
    assert plain_tensor(nn.Parameter(torch.zeros(2, 2)))
    assert plain_tensor(torch.zeros(2, 3).T)


@contextlib.contextmanager
def hook_on_all_modules(name):
    hook = getattr(module_hooks, f"register_module_{name}")(lambda *_: None)
    try:
        yield
    finally:
        hook.remove()


DISTURBING = {
    "autocast": lambda: torch.autocast("cpu"),
    "function mode": TorchFunctionMode,
    "dispatch mode": TorchDispatchMode,
    "counter of operations": lambda: FlopCounterMode(display=False),
    "forward-mode gradients": forward_ad.dual_level,
    "hooks on saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x),
    "search for anomalies": torch.autograd.detect_anomaly,
    **{
        name: functools.partial(hook_on_all_modules, name)
        for name in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook")
    },
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("name", DISTURBING)
def test_each_disturbance_is_seen_and_its_end_too(name):
    assert undisturbed(CPU)
    with DISTURBING[name]():
        assert not undisturbed(CPU)
    assert undisturbed(CPU)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap, torch.func.functionalize])
def test_each_transform_is_seen(transform):
    seen = []
    transform(lambda x: seen.append(undisturbed(CPU)) or x.sum())(torch.ones(1))
    assert seen == [False]


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated")
def test_tracing_is_seen():
    seen = []
    torch.jit.trace(lambda x: seen.append(undisturbed(CPU)) or x + 1, torch.ones(1), check_trace=False)
    assert seen == [False]


def test_autocast_on_another_device_and_a_default_device_disturb_nothing():
    with torch.device("cpu"), torch.no_grad():
        assert undisturbed(CPU)
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        assert undisturbed(CPU)  # autograd saves nothing
    with torch.autocast("cpu"):
        assert undisturbed(torch.device("cuda"))


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_layers_of_pytorch_run_its_own_code(kind):
    assert original([kind])


@pytest.mark.parametrize(
    ("owner", "name", "kind"),
    [
        (nn.Module, "__call__", nn.Tanh), (nn.Linear, "forward", nn.Linear), (nn.functional, "linear", nn.Linear),
        (nn.Conv2d, "_conv_forward", nn.Conv2d), (nn.Sequential, "forward", nn.Sequential), (torch, "tanh", nn.Tanh),
        (nn.functional, "max_pool2d", nn.MaxPool2d), (nn.Module, "__getattr__", nn.Linear),
    ],
)  # fmt: skip
def test_a_replaced_function_is_seen(monkeypatch, owner, name, kind):
    replaced = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **options: replaced(*args, **options))
    assert not original([kind])
    monkeypatch.undo()
    assert original([kind])


def test_a_function_that_was_replaced_before_the_import_is_seen():
    @functools.wraps(nn.Linear.forward)
    def forward(self, x):
        return x

    assert not _of_torch(forward)
    assert set(ORIGINAL) == set(FUNCTIONS)
