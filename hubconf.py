"""Entry points for `torch.hub.load("OWNER/hyperinit", "cnn", "svhn")`: networks with generated weights."""

dependencies = ["torch", "numpy", "safetensors"]

import torch  # noqa: E402 - torch.hub reads `dependencies` first
from torch import nn  # noqa: E402

import hyperinit as _hyperinit  # noqa: E402


def cnn(source: str = "svhn", /, *, method: str | None = None, seed: int | None = None) -> nn.Module:
    """Return one generated network of a source's own architecture, ready for its images.

    Args:
        source: a name from `hyperinit.sources()`, the path of an artifact, or an address.
        method: the sampler, a name from `hyperinit.methods(source)`; None takes the one that the source recommends.
        seed: of the random numbers; None means torch's global generator.
    """
    representation = _hyperinit.load(source)
    return representation.build_model(representation.sample(1, method=method, generator=_generator(seed))[0])


def ensemble(n: int = 15, source: str = "svhn", /, *, method: str | None = None, seed: int | None = None) -> nn.Module:
    """Return `n` generated networks as one module that averages their predictions; other arguments as for `cnn`."""
    return _hyperinit.ensemble(n, source, method=method, generator=_generator(seed))


def _generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)
