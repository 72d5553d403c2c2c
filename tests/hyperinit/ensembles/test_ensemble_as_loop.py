"""Whatever observes or changes single calls, an ensemble does what a plain loop over its members does.

Each situation runs once with an ensemble that has run before, so that it remembers its members, and once with a loop.
"""

import contextlib

import pytest
import torch
from ensemble_loop import changed, check_as_loop, each, gradients, second
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jvp, vmap
from torch.nn.modules import module as module_hooks
from torch.nn.utils import parametrizations, prune
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode


def hooked(register):
    """A situation in which hooks count, and double what they see."""

    def situation(module, x):
        calls = []

        def hook(part, *values):
            calls.append(type(part).__name__)
            seen = values[0] if isinstance(values[0], tuple) and isinstance(values[-1], tuple) else values[-1]
            if not isinstance(seen, tuple):
                return 2 * seen
            return tuple(None if value is None else 2 * value for value in seen)

        handle = register(module, hook)
        try:
            return gradients(module, x), [name for name in calls if name not in ("Ensemble", "Loop", "ModuleList")]
        finally:
            handle.remove()

    return situation


def within(context):
    def situation(module, x):
        with context():
            return gradients(module, x)

    return situation


def class_of(layer, forward):
    layer.__class__ = type("Mine", (type(layer),), {"forward": forward})


class Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Doubling(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return 2 * result if getattr(func, "__name__", "") in ("linear", "tanh") else result


class Logged(torch.Tensor):
    names: list[str] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.names.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})


def counted(module, x):
    with Counting() as mode:
        module(x)
    return sorted(name for name in mode.names if "convolution" in name or "tanh" in name or "mm" in name)


def flops(module, x):
    with FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops(), len(counter.get_flop_counts())


def subclass(module, x):
    Logged.names.clear()
    output = module(x.as_subclass(Logged))
    return type(output).__name__, output.as_subclass(torch.Tensor), Logged.names.count("conv2d")


def saved(module, x):
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: packed.append(value.shape) or value, lambda value: value
    ):
        module(x)
    return sorted(packed)


def checkpointed(module, x):
    x = x.requires_grad_()
    checkpoint(module, x, use_reentrant=False).sum().backward()
    return x.grad


def dual(module, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(module(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


def per_sample(module, x):
    values = {name: value.detach() for name, value in module.named_parameters()}

    def loss(values, image):
        return functional_call(module, values, (image[None],)).square().sum()

    return vmap(grad(loss), (None, 0))(values, x)


def patched(owner, name, replacement):
    @contextlib.contextmanager
    def context():
        original = getattr(owner, name)
        setattr(owner, name, replacement(original))
        try:
            yield
        finally:
            setattr(owner, name, original)

    return within(context)


def twice(original):
    return lambda *args, **options: 2 * original(*args, **options)


def on(part, name):
    return getattr(part, f"register_{name}")


def on_all_modules(name):
    return getattr(module_hooks, f"register_module_{name}")


def second_order(module, x):
    x = x.requires_grad_()
    values = list(module.parameters())
    first = torch.autograd.grad(module(x).square().sum(), values, create_graph=True)
    return torch.autograd.grad(sum(value.square().sum() for value in first), [x, *values], allow_unused=True)


def batched_gradients(module, x):
    output = module(x)
    many = torch.eye(output.numel()).reshape(-1, *output.shape)
    found = torch.autograd.grad(output, list(module.parameters()), many, is_grads_batched=True)
    return [value.contiguous() for value in found]


GLOBAL = ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook")
SITUATIONS = {
    "nothing": gradients,
    **{f"global {name}": hooked(lambda _, hook, name=name: on_all_modules(name)(hook)) for name in GLOBAL},
    **{f"{name} of a layer": hooked(lambda net, hook, name=name: on(net.members[1][8], name)(hook)) for name in GLOBAL},
    "hook of a member": hooked(lambda net, hook: net.members[2].register_forward_hook(hook)),
    "hook of a silent layer": hooked(lambda net, hook: net.members[2][7].register_forward_hook(hook)),
    "hook of a parameter": changed(lambda net, x: net.members[0][0].weight.register_hook(lambda value: 3 * value)),
    "forward of a layer": second(lambda net: setattr(net[4], "forward", torch.relu)),
    "forward of a member": second(lambda net: setattr(net, "forward", lambda x: x.flatten(1)[:, :5])),
    "a subclass": second(lambda net: net.__setitem__(4, type("Mine", (nn.Tanh,), {"forward": lambda _, x: 2 * x})())),
    "a class changed": each(lambda net: class_of(net[4], lambda _, x: 2 * x)),
    "a chain changed": second(lambda net: class_of(net, lambda self, x: 2 * nn.Sequential.forward(self, x))),
    "compiled layer": second(lambda net: net[4].compile(backend="eager")),
    "weight norm": second(lambda net: parametrizations.weight_norm(net[0])),
    "spectral norm": second(lambda net: parametrizations.spectral_norm(net[8]).train()),
    "pruned": each(lambda net: prune.random_unstructured(net[8], "weight", 0.5)),
    "autocast": within(lambda: torch.autocast("cpu", torch.bfloat16)),
    "function mode": within(Doubling),
    "default device": within(lambda: torch.device("cpu")),
    "anomalies": within(torch.autograd.detect_anomaly),
    "inference": lambda module, x: torch.inference_mode()(module)(x).clone(),
    "operators": counted,
    "flops": flops,
    "saved tensors": saved,
    "checkpoint": checkpointed,
    "dual": dual,
    "jvp": lambda module, x: jvp(module, (x,), (torch.ones_like(x),)),
    "grad": lambda module, x: grad(lambda x: module(x).square().sum())(x),
    "vmap": lambda module, x: vmap(module)(x[:, None]),
    "vmap in forward mode": lambda module, x: jacfwd(module)(x[:1]),
    "per sample": per_sample,
    "second order": second_order,
    "gradients in batches": batched_gradients,
    "tensor subclass": subclass,
    "patched linear": patched(nn.functional, "linear", twice),
    "patched convolution": patched(nn.Conv2d, "forward", twice),
    "patched call": patched(nn.Module, "__call__", twice),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled", "ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("name", SITUATIONS)
def test_an_ensemble_does_what_a_loop_does(name):
    check_as_loop(SITUATIONS[name])
