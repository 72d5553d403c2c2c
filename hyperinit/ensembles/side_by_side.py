"""Run several networks of one structure with one call per layer in place of one per layer and member.

The members' convolutions become one wide or grouped convolution in channels-last format, in which PyTorch's pooling on
the CPU is ten times faster. Dense layers become one batched product. A large batch is split into blocks that fit into
the cache. `hyperinit.ensembles.chains` says which networks can run so, and when.

Letters used for tensor shapes: n members, B inputs, C channels in, K channels out, F features in, G features out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hyperinit.ensembles.chains import Steps, taken

BLOCK = 64  # inputs at once


def stacked_forward(steps: Steps, x: Tensor) -> Tensor:
    """Run the layers of all members, step by step, on inputs (B, C, H, W). Returns the outputs (n, B, classes).

    Args:
        steps: layers for which `steps_of` holds.
        x: at least one input.
    """
    output = torch.cat([_run(steps, part) for part in x.split(BLOCK)], dim=1)
    if output.grad_fn is not None:
        _keep_checking(output, _needed(steps, x.requires_grad))
    return output


def _keep_checking(output: Tensor, weights: Sequence[Tensor]) -> None:
    """Let a backward pass fail if weights changed in place after the forward pass, as it does with single layers.

    Autograd itself saves the copy of all members' weights, which does not change.
    """
    versions = [weight._version for weight in weights]

    def check(_: object) -> None:
        for weight, version in zip(weights, versions, strict=True):
            if weight._version != version:
                raise RuntimeError(  # as autograd raises
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"a parameter {tuple(weight.shape)} is at version {weight._version}; expected version {version}; "
                    "run the forward pass again after each change"
                )

    assert output.grad_fn is not None
    output.grad_fn.register_prehook(check)


def _needed(steps: Steps, differentiable: bool) -> list[Tensor]:
    """Return the weights that autograd would save in single layers.

    A convolution's weight is saved if its output has a gradient, a dense layer's if its input has one.
    """
    found: list[Tensor] = []
    reached = [differentiable] * len(steps[0])  # whether x has a gradient in each member
    for layers in steps:
        if "weight" not in layers[0]._parameters:
            continue
        saves_by_output = isinstance(layers[0], nn.Conv2d)
        for place, layer in enumerate(layers):
            weight, bias = layer._parameters["weight"], layer._parameters["bias"]
            assert weight is not None
            learns = weight.requires_grad or (bias is not None and bias.requires_grad)
            if reached[place] or (learns and saves_by_output):
                found.append(weight)
            reached[place] = reached[place] or learns
    return found


def _run(steps: Steps, x: Tensor) -> Tensor:
    """Carry (B, C, H, W), then (B, n * C, H, W) after the first convolution, then (n, B, F) through all layers."""
    count = len(steps[0])
    apart = False  # whether x holds channels of each member; before the first convolution all share the input's
    for layers in steps:
        layer = layers[0]
        if isinstance(layer, nn.Conv2d):
            weight = torch.cat(taken(layers, "weight")).to(memory_format=torch.channels_last)  # (n * K, C, h, w)
            biases = taken(layers, "bias")
            bias = None if biases[0] is None else torch.cat(biases)  # (n * K,)
            # One group per member keeps members apart; the first, wide convolution reads the same input for all.
            groups = layer.groups * (count if apart else 1)
            x = functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, groups)
            x, apart = x.to(memory_format=torch.channels_last), True  # (B, n * K, H, W)
        elif isinstance(layer, nn.Flatten):
            x = x.reshape(len(x), count, -1).transpose(0, 1)  # (B, n * C, H, W) -> (n, B, F)
        elif isinstance(layer, nn.Linear):
            weight = torch.stack(taken(layers, "weight")).transpose(1, 2)  # (n, F, G)
            biases = taken(layers, "bias")
            bias = None if biases[0] is None else torch.stack(biases)[:, None]  # (n, 1, G)
            x = x @ weight if bias is None else torch.baddbmm(bias, x, weight)  # (n, B, G)
        else:
            x = layer(x)  # without weights, and every channel on its own
    return x
