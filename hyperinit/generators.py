"""Context managers of draws: which generator they take, and that no setting of the caller reaches their arithmetic.

Each manager acts on its own thread only, so that calls in several threads at once neither see nor disturb each other.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode
from torch.utils._pytree import tree_map_only

from hyperinit.errors import ArgumentError

aten = torch.ops.aten
FACTORIES = {  # operators without a generator, and the same ones with a generator
    aten.rand.default: aten.rand.generator,
    aten.randn.default: aten.randn.generator,
    aten.randint.default: aten.randint.generator,
    aten.randint.low: aten.randint.low_generator,
    aten.randperm.default: aten.randperm.generator,
    aten.rand.out: aten.rand.generator_out,
    aten.randn.out: aten.randn.generator_out,
    aten.randint.out: aten.randint.generator_out,
    aten.randint.low_out: aten.randint.low_generator_out,
    aten.randperm.out: aten.randperm.generator_out,
}
ALIKE: dict[Any, tuple[str, tuple[float, ...]]] = {  # `*_like` operators: the draw in place, and its first arguments
    aten.rand_like.default: ("uniform_", ()),
    aten.randn_like.default: ("normal_", ()),
    aten.randint_like.default: ("random_", (0,)),
    aten.randint_like.low_dtype: ("random_", ()),
}
PRODUCTS = {  # operators whose float32 products torch may round, see `torch.set_float32_matmul_precision`
    "mm", "mv", "addmm", "addmv", "bmm", "baddbmm", "linear", "convolution", "_cdist_forward", "_euclidean_dist",
    "_transformer_encoder_layer_fwd", "_native_multi_head_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_attention_math",
}  # fmt: skip
CREATING = {  # functions that make tensors of the default dtype
    "empty", "empty_strided", "eye", "linspace", "logspace", "normal", "ones", "rand", "randn", "zeros",
    "arange", "full", "scalar_tensor", "tensor",
}  # fmt: skip
INFERRING = {"arange", "full", "scalar_tensor", "tensor"}  # those that do so only for Python floats
EXPLICIT = {  # conversions, whose dtype is asked for
    "asarray", "bfloat16", "double", "float", "from_numpy", "half", "to", "type", "type_as", "view",
}  # fmt: skip


def check_generator(generator: object) -> None:
    """Refuse anything but None and a generator on the CPU, where all draws happen.

    Raises:
        ArgumentError: with the type or the device.

    >>> check_generator(torch.Generator())
    """
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise ArgumentError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ArgumentError(
            f"generator must be on the CPU, where all draws happen, got one on {generator.device}. Pass "
            f"torch.Generator().manual_seed(...); parameters on any device are written from it"
        )


@contextmanager
def cpu_random(generator: torch.Generator | None) -> Iterator[None]:
    """Let code that takes no generator, such as `reset_parameters`, draw from a new one seeded from `generator`.

    This holds for draws on the CPU in this thread. Torch's global generators do not move.

    Args:
        generator: one number is drawn from it. None leaves the global generator alone: `torch.manual_seed` decides,
            and it moves on.

    >>> with cpu_random(torch.Generator().manual_seed(0)):
    ...     first = torch.rand(1)
    >>> with cpu_random(torch.Generator().manual_seed(0)):
    ...     bool(torch.rand(1) == first)
    True
    """
    if generator is None:
        yield
        return
    # A generator on another device has a state of another format, so pass on a seed and not the state.
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))
    with _drawing_from(torch.Generator().manual_seed(seed)):
        yield


@contextmanager
def global_unmoved(generator: torch.Generator | None) -> Iterator[None]:
    """Keep torch's global CPU generator where it is if a generator was passed.

    Wrap this around code of the user's that draws weights which are overwritten later, such as a constructor. Its draws
    are those that the global generator would give.

    Args:
        generator: of the caller. None means that the global generator is in use, so that it moves on.

    >>> before = torch.get_rng_state()
    >>> with global_unmoved(torch.Generator()):
    ...     draw = torch.rand(1)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    if generator is None:
        yield
        return
    copy = torch.Generator()
    copy.set_state(torch.default_generator.get_state())
    with _drawing_from(copy):
        yield


@contextmanager
def undrawn() -> Iterator[None]:
    """Keep torch's global CPU generator where it is while code of the user's runs whose draws are of no interest.

    >>> before = torch.get_rng_state()
    >>> with undrawn():
    ...     draw = torch.rand(1)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    with _drawing_from(torch.Generator()):
        yield


@contextmanager
def settled(*, bare: bool = False) -> Iterator[None]:
    """Compute as in a fresh process: float32 on the CPU, without autocast, gradients and inference mode.

    Products are exact in float32, also where the caller allows lower precision. The caller's settings stay in force
    after the block and in other threads. Use it as a decorator too.

    Args:
        bare: whether all of the caller's function modes, such as a default device, are off. Then torch takes the same
            kernels whatever the modes. The code in the block must name dtypes and devices itself.

    >>> with torch.device("meta"), torch.autocast("cpu"), settled():
    ...     torch.rand(2, generator=torch.Generator()).device
    device(type='cpu')
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():  # what is made here, such as a fitted sampler, outlives the caller's mode
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        if torch.is_autocast_enabled("cpu"):
            stack.enter_context(torch.autocast("cpu", enabled=False))
        if _products_are_rounded():
            stack.enter_context(_Products())
        if bare:
            stack.enter_context(torch._C.DisableTorchFunction())
        elif torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if not bare and torch.get_default_dtype() != torch.float32:
            stack.enter_context(_Float32())
        yield


@contextmanager
def _drawing_from(own: torch.Generator) -> Iterator[None]:
    """Let all draws on the CPU in this thread come from `own`.

    Torch has one global CPU generator for all threads. Exchanging its state would disturb the draws of other threads.
    """
    seed, before = torch.default_generator.initial_seed(), torch.default_generator.get_state()
    try:
        with _Draws(own):
            yield
    finally:
        if torch.default_generator.initial_seed() != seed and _only_seeded():
            torch.default_generator.set_state(before)


def _only_seeded() -> bool:
    """Say whether the global generator was seeded and nothing was drawn from it since.

    Code in a block of `_drawing_from` may call `torch.manual_seed`, but its draws come from elsewhere. Another thread
    that seeds the global generator draws from it soon.
    """
    seeded = torch.default_generator.initial_seed()
    for pause in (0, 0.001) if threading.active_count() > 1 else (0,):
        time.sleep(pause)
        fresh = torch.Generator().manual_seed(seeded).get_state()
        if not torch.equal(torch.default_generator.get_state(), fresh):
            return False
    return True


class _Operators(TorchDispatchMode):
    """Call `run` in place of each operator of this thread.

    The base class also sets flags of the whole process, which calls in several threads would leave wrong. It makes
    each subclass import torch's compiler, too, which takes seconds; so `__torch_dispatch__` is set after that.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def run(self, func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Compute an operator's result; operators in here are run as they are."""
        return func(*args, **options)

    def __enter__(self) -> Self:
        _push_mode(self)
        return self

    def __exit__(self, *error: object) -> None:
        _pop_mode()


def _run(
    self: _Operators, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    return self.run(func, args, dict(kwargs or {}))


_Operators.__torch_dispatch__ = _run  # type: ignore[assignment, method-assign]


class _Draws(_Operators):
    """Pass a generator to every operator that draws on the CPU and has none."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator
        self.process = os.getpid()

    def run(self, func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Compute an operator's result, with the generator if it draws."""
        if torch.Tag.nondeterministic_seeded not in func.tags or not self._ours(args, options):
            return func(*args, **options)
        if func in ALIKE:
            name, first = ALIKE[func]
            count = 0 if name != "random_" else 2 - len(first)  # the bounds among the arguments after the tensor
            like = torch.empty_like(args[0], **options)
            return getattr(like, name)(*first, *args[1 : 1 + count], generator=self.generator)
        with_generator = FACTORIES.get(func, func)
        if any(argument.name == "generator" for argument in with_generator._schema.arguments):
            options["generator"] = self.generator
        return with_generator(*args, **options)

    def _ours(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
        """Say whether a draw is on the CPU, has no generator, and is in the process that entered the block.

        A worker of a data loader, forked inside the block, seeds its own process. Tensors of a compiler only have
        shapes.
        """
        values = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
        devices = {value.device.type for value in values} | {torch.device(options.get("device") or "cpu").type}
        plain = all(type(value) in (Tensor, torch.nn.Parameter) for value in values)
        return plain and devices == {"cpu"} and options.get("generator") is None and self.process == os.getpid()


def _products_are_rounded() -> bool:
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return True
    except RuntimeError:  # newer versions have a setting for each backend, and refuse to mix it with this one
        pass
    operators = [getattr(torch.backends.mkldnn, name, None) for name in ("matmul", "conv")]
    return any(getattr(operator, "fp32_precision", "none") in ("tf32", "bf16") for operator in operators)


class _Products(_Operators):
    """Compute the products of float32 tensors in float64, and round the results to float32.

    The setting that allows lower precision holds for all threads, so it must not be set and reset here.
    """

    def run(self, func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Compute an operator's result, that of a product in float64."""
        if func.overloadpacket.__name__ not in PRODUCTS:
            return func(*args, **options)
        args, options = tree_map_only(Tensor, _double, (args, options))
        return tree_map_only(Tensor, _rounded, func(*args, **options))


def _double(value: Tensor) -> Tensor:
    return value.double() if value.dtype == torch.float32 else value


def _rounded(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float64 else value


class _Float32(TorchFunctionMode):
    """Make float32 the dtype of what would get the default dtype: new tensors, and integers that become fractions.

    `torch.set_default_dtype` holds for all threads, so it must not be set and reset here.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        values = [*args, *options.values()]
        tensors = [value for value in values if isinstance(value, Tensor)]
        if name in CREATING and options.get("dtype") is None and not tensors:
            if name not in INFERRING or _holds_float(values):
                options["dtype"] = torch.float32
            return func(*args, **options)
        found = func(*args, **options)
        whole = tensors and not any(value.is_floating_point() or value.is_complex() for value in tensors)
        if not whole or name in EXPLICIT or options.get("dtype") is not None:
            return found
        if isinstance(found, Tensor) and found.dtype == torch.get_default_dtype():  # integers became fractions
            singles = {key: _single(value) for key, value in options.items()}
            return func(*map(_single, args), **singles)
        return found


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


def _holds_float(value: Any) -> bool:
    """Say whether nested lists hold a Python float, whose dtype torch does not know, or nothing at all."""
    if isinstance(value, list | tuple):
        return value == [] or any(map(_holds_float, value))
    return type(value) is float
