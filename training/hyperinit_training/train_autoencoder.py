"""Train the autoencoder of a hyper-representation on a zoo; resumable at any step with the same result.

Letters: N snapshots, B of them in a batch, D weights per network, L latent size.

Source: Schürholt et al. 2022, arXiv:2209.14733, section 2 (losses, augmentations) and Table 8.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ZooError
from hyperinit_training.align import align
from hyperinit_training.augment import PermutationAugmentation, erase
from hyperinit_training.losses import (
    ProjectionHead,
    ReconstructionLoss,
    combined,
    layer_mean,
    layer_std,
    nt_xent,
    r2,
    tensor_spread,
)
from hyperinit_training.precision import fastest
from hyperinit_training.recipe import AutoencoderRecipe
from hyperinit_training.runs import append_json, truncate_log, write_json, write_tensors
from hyperinit_training.windows import code_windows, draw_places, window_size
from hyperinit_training.zoo import Zoo

LOG_EVERY = 50
DTYPES = {str(dtype): dtype for dtype in (torch.bfloat16, torch.float32)}
CHECKPOINT_SECONDS = 60.0
LEAST_MODELS = 8


@dataclass(frozen=True)
class Losses:
    """The parts of one step's loss.

    `total` = beta * reconstruction + (1 - beta) * contrast (paper, eq. 1) + kl_weight * kl, which is 0 unless the
    autoencoder is variational.
    """

    total: Tensor
    reconstruction: Tensor
    contrast: Tensor
    kl: Tensor


def prepare(zoo: Zoo, recipe: AutoencoderRecipe) -> Zoo:
    """Reorder the neurons of all snapshots to match each other, family by family, if the recipe says so.

    Raises:
        ZooError: if the train split is too small to learn from.
    """
    train = zoo.part("train")
    if len(train) < LEAST_MODELS:
        raise ZooError(f"a zoo must have at least {LEAST_MODELS} snapshots to train on, got {len(train)}")
    if not recipe.align:
        return zoo
    scale = layer_std(train.weights, zoo.layout)
    generator = torch.Generator().manual_seed(recipe.seed)
    return replace(zoo, weights=align(zoo.weights, zoo.layout, generator=generator, families=zoo.families, scale=scale))


class Training:
    """All that changes while an autoencoder trains: modules, optimiser, randomness and the number of steps done.

    Args:
        recipe: how to train.
        zoo: prepared zoo; its "train" part is learnt, its "val" part watched.
    """

    def __init__(self, recipe: AutoencoderRecipe, zoo: Zoo) -> None:
        self.recipe = recipe
        self.train, self.val = zoo.part("train").weights, zoo.part("val").weights
        if recipe.centre == "network":
            mean, std = self.train.mean(0), tensor_spread(self.train, zoo.layout)
        else:
            mean, std = layer_mean(self.train, zoo.layout), layer_std(self.train, zoo.layout)
        self.autoencoder = Autoencoder(recipe.config(), zoo.layout, mean, std)
        self.head = ProjectionHead(recipe.latent * (window_size(self.autoencoder) if recipe.chunk else 1))
        self.loss = ReconstructionLoss(std if recipe.lwln else None)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        groups = zoo.layout.group_sizes and recipe.permutations
        self.permute = PermutationAugmentation(zoo.layout, recipe.permutations, self.generator) if groups else None
        parameters = [*self.autoencoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(  # fused: one pass over memory instead of ten
            parameters, recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay, fused=True
        )
        self.step = 0
        self.dtype = fastest()  # of matrix products; a resumed run keeps the one it began with

    def advance(self) -> Losses:
        """Do one gradient step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * _warm_cosine(self.step, self.recipe.warmup, self.recipe.steps)
        rows = torch.randint(len(self.train), (self.recipe.batch,), generator=self.generator)
        losses = self.losses(self.train[rows])
        self.optimizer.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.autoencoder.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return losses

    def losses(self, weights: Tensor) -> Losses:
        """Loss of two views each of networks (B, D)."""
        views, targets = (torch.cat(pair) for pair in zip(self.view(weights), self.view(weights), strict=True))
        # On a CPU the fused attention's backward pass takes longer than all else together at 48 short tokens.
        with self.autocast(), sdpa_kernel(SDPBackend.MATH):
            code = self._code_windows if self.recipe.chunk else self._code_networks
            latents, reconstruction, kl = code(views, targets)
        penalty = self.recipe.kl_weight * kl
        if self.recipe.beta == 1:
            return Losses(reconstruction + penalty, reconstruction, torch.zeros(()), kl)
        first, second = latents.chunk(2)
        contrast = nt_xent(self.head(first), self.head(second))
        return Losses(combined(reconstruction, contrast, self.recipe.beta) + penalty, reconstruction, contrast, kl)

    def _code_networks(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, reconstruction and divergence of whole networks (2 B, D)."""
        spread: Tensor | float = self.recipe.latent_noise
        kl = torch.zeros(())
        if self.recipe.variational:
            latents, log_variance = self.autoencoder.posterior(views)
            spread, kl = (log_variance / 2).exp(), kl_divergence(latents, log_variance)
        else:
            latents = self.autoencoder.encode(views)
        noise = torch.randn(latents.shape, generator=self.generator) * spread
        return latents, self.loss(self.autoencoder.decode(latents + noise), targets), kl

    def _code_windows(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Likewise of one window of each network, the same in both of its views."""
        places = draw_places(self.autoencoder, len(views) // 2, self.generator).repeat(2, 1)
        noise = torch.randn(*places.shape, self.recipe.latent, generator=self.generator) * self.recipe.latent_noise
        lwln = self.recipe.lwln
        latents, reconstruction = code_windows(self.autoencoder, views, targets, places, noise, lwln=lwln)
        return latents, reconstruction, torch.zeros(())

    def autocast(self) -> torch.autocast:
        """Return the context of mixed precision; it does nothing where float32 is the faster."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def view(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """One augmented view of networks (B, D) and what it has to reconstruct, both (B, D)."""
        clean = weights
        if self.permute is not None:
            chosen = torch.rand(len(weights), 1, generator=self.generator) < self.recipe.permuted
            clean = torch.where(chosen, self.permute(weights, self.generator), weights)
        view = erase(clean, self.generator, probability=self.recipe.erase)
        return view, {"view": view, "clean": clean, "aligned": weights}[self.recipe.target]

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """R2 of reconstructions of training and of held-out snapshots, un-augmented."""
        std, mean = self.loss.std, self.train.mean(0)
        self.autoencoder.eval()
        with self.autocast():
            parts = {"train_r2": self.train[:256], "val_r2": self.val}
            found = {
                key: r2(self.autoencoder.decode(self.autoencoder.encode(part)), part, std, mean).item()
                for key, part in parts.items()
                if len(part)
            }
        self.autoencoder.train()
        return found

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs."""
        tensors = {f"autoencoder.{key}": value for key, value in self.autoencoder.state_dict().items()}
        tensors |= {f"head.{key}": value for key, value in self.head.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        tensors["random.generator"] = self.generator.get_state()
        tensors["random.global"] = torch.get_rng_state()
        write_tensors(path, tensors, {"step": str(self.step), "dtype": str(self.dtype), **self.identity()})

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint of `save`.

        Raises:
            ZooError: if the file is damaged or belongs to another recipe or zoo.
        """
        try:
            tensors, metadata = load_file(path), _metadata(path)
            found, ours = {key: metadata[key] for key in ("recipe", "zoo")}, self.identity()
            for key in ("recipe", "zoo"):
                if found[key] != ours[key]:
                    raise ValueError(f"it was written for another {key}")
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _prefixed(tensors, "optimizer.").items():
                index, _, name = key.partition(".")
                state.setdefault(int(index), {})[name] = value
            self.autoencoder.load_state_dict(_prefixed(tensors, "autoencoder."))
            self.head.load_state_dict(_prefixed(tensors, "head."))
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
            self.generator.set_state(tensors["random.generator"])
            torch.set_rng_state(tensors["random.global"])
            self.step, self.dtype = int(metadata["step"]), DTYPES[metadata["dtype"]]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ZooError(f"cannot resume from {path}: {error}; delete it to start again") from None

    def identity(self) -> dict[str, str]:
        """What a checkpoint must have been written for: the recipe, and the training networks (as a digest)."""
        weights = self.train.contiguous().view(torch.uint8).numpy().data
        return {"recipe": str(asdict(self.recipe)), "zoo": hashlib.sha256(weights).hexdigest()}


def train_autoencoder(recipe: AutoencoderRecipe, zoo: Zoo, folder: Path) -> Autoencoder:
    """Train an autoencoder on a prepared zoo; a checkpoint found in `folder` is continued.

    Writes `recipe.json`, `log.jsonl` (one line every 50 steps) and `checkpoint.safetensors` into `folder`.

    Returns:
        The trained autoencoder in evaluation mode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)  # initial weights and dropout; restored on leaving
        training = Training(recipe, zoo)
        if checkpoint.exists():
            training.resume(checkpoint)
        write_json(folder / "recipe.json", asdict(recipe))
        truncate_log(log, training.step)
        saved = time.monotonic()
        with tqdm(total=recipe.steps, initial=training.step, unit="step", desc="autoencoder", disable=None) as bar:
            while training.step < recipe.steps:
                losses = training.advance()
                bar.update()
                if training.step % LOG_EVERY == 0 or training.step == recipe.steps:
                    record = {key: value.item() for key, value in vars(losses).items()} | training.measure()
                    append_json(log, {"step": training.step, **record})
                    bar.set_postfix({key: f"{value:.3f}" for key, value in record.items()})
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    training.save(checkpoint)
                    saved = time.monotonic()
        training.save(checkpoint)
    return training.autoencoder.eval()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of Gaussians from N(0, 1) per latent coordinate: the mean of KL / L over the batch.

    Args:
        mean: of every coordinate, (B, L).
        log_variance: of every coordinate, (B, L).

    Source: Kingma and Welling 2014, arXiv:1312.6114, Appendix B.

    >>> kl_divergence(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    tensor(1.)
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2


def _warm_cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the peak rate: rises linearly for `warmup` steps, then falls to zero as a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def _prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})
