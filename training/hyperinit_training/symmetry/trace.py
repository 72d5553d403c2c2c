"""Find axes of a network's weights that must be permuted or flipped together, from the graph that torch.fx traces.

Every axis of every weight and of every activation has a set of neurons. An operation that treats all neurons equally
joins the set of its input with the set of its output. Any other operation fixes the sets of its inputs. The sets that
remain free are candidates: `hyperinit_training.symmetry.groups` checks them by running the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, fx, nn

from hyperinit.errors import LayoutError
from hyperinit.layout import KINDS
from hyperinit.layout.layers import NORMS
from hyperinit_training.symmetry.neurons import Axes, Neurons, fix, join, kept, leading, reshaped, sliced, swapped

# Elementwise operations, by function name or by the module's class name in lower case. Those in ODD satisfy
# f(-x) = -f(x). Softmax is not elementwise, but permuting its inputs permutes its outputs.
ODD = {
    "tanh", "identity", "hardtanh", "softsign", "tanhshrink", "neg", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "alphadropout", "contiguous", "clone", "detach", "float", "double", "to",
}  # fmt: skip
ALIKE = ODD | {
    "relu", "relu_", "relu6", "leakyrelu", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid",
    "logsigmoid", "hardsigmoid", "hardswish", "softplus", "softshrink", "hardshrink", "threshold", "hardtanh_",
    "softmax", "logsoftmax", "log_softmax", "abs", "exp", "sqrt", "square",
}  # fmt: skip
SHAPES = {"flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze"}
SUMS, PRODUCTS = {"add", "iadd", "add_", "sub", "isub"}, {"mul", "imul", "mul_", "truediv", "div"}
MEANS = {"mean", "sum"}
PROJECTED = ("q_proj_weight", "k_proj_weight", "v_proj_weight")  # of attention, if its inputs have several widths
SWAPS = {"permute", "transpose"}
QUESTIONS = {"size", "dim", "getattr", "numel", "len"}  # their results are not activations


class Tracer(fx.Interpreter):
    """Run a traced network once, and join and fix sets of neurons at each operation.

    Args:
        module: traced by torch.fx.
        signs: look for sign flips instead of permutations. Fewer operations allow them.
    """

    def __init__(self, module: fx.GraphModule, *, signs: bool) -> None:
        super().__init__(module)
        self.signs = signs
        self.axes: dict[fx.Node, Axes] = {}
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.weights: dict[int, tuple[Neurons, ...]] = {}
        self.attended: dict[fx.Node, Neurons | None] = {}  # results of attention layers
        self.notes: list[str] = []

    def of(self, tensor: Tensor) -> tuple[Neurons, ...]:
        """Return the sets of a weight's axes. Tied weights share them, because they are one tensor."""
        return self.weights.setdefault(id(tensor), tuple(Neurons(length) for length in tensor.shape))

    def run_node(self, n: fx.Node) -> Any:
        """Run one operation, and record the sets of its result's axes."""
        result = super().run_node(n)
        if n.op == "output":
            self._fix_inputs(n)
        elif n.op == "call_module" and type(self.fetch_attr(str(n.target))) is nn.MultiheadAttention:
            self._attend(n)
        elif isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
            axes = self._axes(n, result)
            self.axes[n] = (None,) * result.ndim if axes is None else axes
            assert len(self.axes[n]) == result.ndim
        elif _name(n.target) not in QUESTIONS:
            self._refuse(n)
        return result

    def _axes(self, n: fx.Node, result: Tensor) -> Axes | None:
        """Return the sets of the result's axes, or None if they are fixed, after fixing those of the inputs."""
        if n.op == "placeholder":
            return None  # the network's inputs keep their order and signs
        if n.op == "get_attr":
            return self.of(result) if isinstance(result, nn.Parameter) else None
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        name = type(module).__name__.lower() if module is not None else _name(n.target)
        known = n.args and isinstance(n.args[0], fx.Node) and n.args[0] in self.axes
        axes: Axes | None = None
        whole = n.args[0] if name == "getitem" else None
        if isinstance(whole, fx.Node) and whole in self.attended:
            # The first result of an attention layer holds neurons on its last axis, the second one attention weights.
            axes = (*(None,) * (result.ndim - 1), self.attended[whole] if n.args[1] == 0 else None)
        elif name in SUMS | PRODUCTS:
            axes = self._combined(n, name)
        elif name == "cat":
            axes = self._concatenated(n)
        elif known:
            axes = self._layer(n, module) if type(module) in (*KINDS, *NORMS) else self._plain(n, name)
        if axes is None:
            self._refuse(n)
        return axes

    def _plain(self, n: fx.Node, name: str) -> Axes | None:
        """Apply the rule of an operation without weights. None means that it has no rule."""
        source = n.args[0]
        assert isinstance(source, fx.Node)
        x, shape = self.axes[source], self.shapes[n]
        if name in (ODD if self.signs else ALIKE) and self.shapes[source] == shape:
            module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
            # Hardtanh is odd only if its limits are symmetric; those of the function are not known here.
            even = isinstance(module, nn.Hardtanh) and module.min_val != -module.max_val
            return None if self.signs and (even or (name == "hardtanh" and module is None)) else x
        if name in SHAPES:
            return reshaped(self.shapes[source], x, shape)
        # Pooling in n dimensions mixes the last n axes. An average is odd, a maximum is not.
        if "pool" in name and name[-1] == "d" and (not self.signs or "avg" in name):
            return leading(x, len(x) - int(name[-2]))
        # Padding, resizing and broadcasting treat an axis equally if its length stays.
        if ("pad" in name or name in ("upsample", "interpolate", "expand")) and len(x) == len(shape):
            return kept(x, [old == new for old, new in zip(self.shapes[source], shape, strict=True)])
        if name in MEANS:
            return self._reduced(n, x)
        if name in SWAPS:
            return swapped(x, n.args[1] if len(n.args) == 2 else n.args[1:], two=name == "transpose")
        return sliced(x, n.args[1]) if name == "getitem" else None

    def _layer(self, n: fx.Node, module: nn.Module | None) -> Axes | None:
        """Apply the rule of a linear, convolution or norm layer. None means that it fixes its neurons."""
        source = n.args[0]
        assert isinstance(source, fx.Node)
        x = self.axes[source]
        if isinstance(module, nn.Linear):
            join(x[-1], self.of(module.weight)[1])  # weight: (out, in)
            return (*x[:-1], self._output(module))
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return self._convolved(module, x)
        return None if self.signs or module is None else self._normed(module, x)

    def _attend(self, n: fx.Node) -> None:
        """Join the inputs and outputs of an attention layer with its weights. Its heads keep their order."""
        module = self.fetch_attr(str(n.target))
        own = dict(module.named_parameters())
        given = dict(zip(("query", "key", "value"), n.args, strict=False)) | n.kwargs
        inputs = [given.get(name) for name in ("query", "key", "value")]
        known = [node for node in inputs if isinstance(node, fx.Node) and node in self.axes]
        if self.signs or len(known) < 3 or "bias_k" in own:
            self._refuse(n)
            return
        fix(*(neurons for node in n.all_input_nodes if node not in known for neurons in self.axes.get(node, ())))
        for node, key in zip(known, PROJECTED, strict=True):
            weight = self.of(own[key] if key in own else own["in_proj_weight"])  # weight: (out, in)
            fix(*self.axes[node][:-1], weight[0])
            join(self.axes[node][-1], weight[1])
        fix(self.of(own["out_proj.weight"])[1], *(self.of(own["in_proj_bias"]) if "in_proj_bias" in own else ()))
        self.attended[n] = self._output(module.out_proj)
        self.notes.append(f"{n.name} (MultiheadAttention) fixes the order of its heads")

    def _output(self, module: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Neurons | None:
        """Join a layer's bias with the output axis of its weight."""
        out = self.of(module.weight)[0]
        return out if module.bias is None else join(out, self.of(module.bias)[0])

    def _convolved(self, module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Axes) -> Axes | None:
        weight, spatial = self.of(module.weight), len(module.kernel_size)
        channel = len(x) - 1 - spatial  # x: (..., channel, *spatial)
        fix(*weight[2:])  # weight: (out, in / groups, *kernel)
        if module.groups == 1:
            join(x[channel], weight[1])
        elif module.groups == module.in_channels and not self.signs:  # depthwise: a block of outputs has its own input
            join(x[channel], weight[0])
        else:
            return None
        return (*leading(x, channel + 1)[:channel], self._output(module), *(None,) * spatial)

    def _normed(self, module: nn.Module, x: Axes) -> Axes | None:
        """Join the weights and statistics of a norm with the axes of its input that they belong to."""
        names = ("weight", "bias", "running_mean", "running_var")
        tensors = [value for value in (getattr(module, name, None) for name in names) if value is not None]
        first = 1  # first axis of x with its own weights: the channel axis
        if isinstance(module, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d):
            first = len(x) - 1 - int(type(module).__name__[-2])
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            first = len(x) - len(module.normalized_shape)
        # Groups of several channels would be mixed by a permutation of channels.
        if isinstance(module, nn.GroupNorm) and module.num_groups not in (1, module.num_channels):
            return None
        for tensor in tensors:
            for neurons, own in zip(x[first:], self.of(tensor), strict=False):
                join(neurons, own)
        return x

    def _combined(self, n: fx.Node, name: str) -> Axes | None:
        """Apply the rule of sums and products, which broadcast their inputs.

        The sets that meet along an axis are joined. An axis of length 1 is broadcast: it acts on all neurons equally.
        """
        inputs = [node for node in n.args[:2] if isinstance(node, fx.Node) and node in self.axes]
        if n.kwargs or not inputs or (self.signs and (len(inputs) == 2) != (name in SUMS)):
            # A sum keeps signs only if both inputs flip together. A product keeps them only if one factor is a number.
            return None
        # Broadcasting aligns shapes at the last axis: compare columns of the reversed shapes.
        rows = [[*zip(self.shapes[node], self.axes[node], strict=True)][::-1] for node in inputs]
        found: list[Neurons | None] = []
        for column in zip_longest(*rows, fillvalue=(1, None)):
            length = max(length for length, _ in column)
            met = [neurons for own, neurons in column if own == length]
            fix(*(neurons for own, neurons in column if own != length))
            if self.signs and len(met) < len(column):
                fix(*met)  # a broadcast summand does not flip with them
            found.append(met[0] if len(met) == 1 else join(*met))
        return tuple(found[::-1])

    def _concatenated(self, n: fx.Node) -> Axes | None:
        """Apply the rule of `cat`: join the sets of the other axes, and fix those of the concatenated axis."""
        parts, dim = n.args[0], n.args[1] if len(n.args) > 1 else n.kwargs.get("dim", 0)
        if not isinstance(parts, list | tuple) or not isinstance(dim, int):
            return None
        rows = [self.axes[part] for part in parts if isinstance(part, fx.Node) and part in self.axes]
        if len({*map(len, rows)}) != 1:
            return None
        found: list[Neurons | None] = []
        for axis, column in enumerate(zip(*rows, strict=True)):
            together = column[0]
            for neurons in column[1:]:
                together = join(together, neurons)
            if axis == dim % len(rows[0]):
                fix(*column)
                together = None
            found.append(together)
        return tuple(found)

    def _reduced(self, n: fx.Node, x: Axes) -> Axes | None:
        """Apply the rule of `mean` and `sum`: reduced axes may be permuted, but their signs are fixed."""
        dims = n.args[1] if len(n.args) > 1 else n.kwargs.get("dim")
        dims = [dims] if isinstance(dims, int) else dims
        if not isinstance(dims, list | tuple) or not all(isinstance(dim, int) for dim in dims):
            return None
        gone = {dim % len(x) for dim in dims if isinstance(dim, int)}
        if self.signs:
            fix(*(x[axis] for axis in gone))
        kept = len(self.shapes[n]) == len(x)
        return tuple(None if axis in gone else neurons for axis, neurons in enumerate(x) if kept or axis not in gone)

    def _refuse(self, n: fx.Node) -> None:
        """Fix the inputs and weights of an operation without a rule. Add a note if an input was free before."""
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        own = [neurons for weight in module.parameters() for neurons in self.of(weight)] if module is not None else []
        fix(*own)
        if self._fix_inputs(n):
            what = type(module).__name__ if module is not None else _name(n.target)
            self.notes.append(f"{n.name} ({what}) fixes the {'signs' if self.signs else 'order'} of its input neurons")

    def _fix_inputs(self, n: fx.Node) -> bool:
        """Fix all sets of an operation's inputs, and return whether any of them was free."""
        found = [neurons for node in n.all_input_nodes for neurons in self.axes.get(node, ()) if neurons is not None]
        free = any(not neurons.root().fixed for neurons in found)
        fix(*found)
        return free


def trace(module: nn.Module, inputs: Iterable[Tensor], *, signs: bool) -> Tracer:
    """Trace a network, and join its neurons into sets.

    Args:
        module: in evaluation mode, on the CPU.
        inputs: its positional arguments.
        signs: look for sign flips instead of permutations.

    Raises:
        LayoutError: if torch.fx cannot trace the module.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).eval()
    >>> found = trace(net, [torch.ones(1, 3)], signs=False)
    >>> found.of(net[0].weight)[0].root() is found.of(net[2].weight)[1].root()
    True
    """
    try:
        graph = fx.symbolic_trace(module)
    except Exception as error:  # the module is the user's: whatever it raises explains why it cannot be traced
        raise LayoutError(
            f"torch.fx must be able to trace {type(module).__name__}, got {type(error).__name__}: {error}. Write the "
            "groups by hand instead: groups={'fc1.weight': ('a', None), 'fc1.bias': ('a',), ...}"
        ) from error
    tracer = Tracer(graph, signs=signs)
    with torch.no_grad():
        tracer.run(*inputs)
    return tracer


def _name(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))
