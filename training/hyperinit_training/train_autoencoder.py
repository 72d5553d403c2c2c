"""Train the autoencoder of a hyper-representation on a zoo; resumable at any step with the same result.

Several processes share every batch (see `processes`); up to the order of sums they do what one does, but for dropout.

Letters: N snapshots, B of them in a batch, D weights per network, L latent size.

Source: Schürholt et al. 2022, arXiv:2209.14733, section 2 (losses, augmentations) and Table 8.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training import processes
from hyperinit_training.align import align
from hyperinit_training.augment import Groups, PermutationAugmentation, erase
from hyperinit_training.losses import (
    Losses,
    ProjectionHead,
    ReconstructionLoss,
    combined,
    kl_divergence,
    layer_mean,
    layer_std,
    nt_xent,
    r2,
    tensor_spread,
)  # fmt: skip
from hyperinit_training.precision import fastest, mixed
from hyperinit_training.recipe import AutoencoderRecipe
from hyperinit_training.runs import (
    append_json,
    load_optimizer,
    optimizer_tensors,
    prefixed,
    read_tensors,
    truncate_log,
    write_json,
    write_tensors,
)  # fmt: skip
from hyperinit_training.windows import code_windows, count_weights, draw_places, window_size
from hyperinit_training.zoo import Zoo

LOG_EVERY = 50
DTYPES = {str(dtype): dtype for dtype in (torch.bfloat16, torch.float32)}
CHECKPOINT_SECONDS = 60.0
LEAST_MODELS = 8


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
    aligned = zoo.weights
    if processes.is_first():
        aligned = align(zoo.weights, zoo.layout, generator=generator, families=zoo.families, scale=scale)
    return replace(zoo, weights=processes.from_first(aligned))


class Training:
    """All that changes while an autoencoder trains: modules, optimiser, randomness and steps done.

    Args:
        recipe: how to train.
        zoo: prepared zoo; its "train" part is learnt, its "val" part watched.
        signs: groups of neurons that views may flip, see `symmetry.sign_groups`.
    """

    def __init__(self, recipe: AutoencoderRecipe, zoo: Zoo, signs: Groups | None = None) -> None:
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
        self.permute = None
        if zoo.layout.group_sizes and recipe.permutations:
            self.permute = PermutationAugmentation(zoo.layout, recipe.permutations, self.generator, signs=signs)
        parameters = [*self.autoencoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(  # fused: one pass over memory instead of ten
            parameters, recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay, fused=True
        )
        self.step = 0
        self.dtype = fastest()  # of matrix products; a resumed run keeps the one it began with

    def advance(self) -> Losses:
        """Do one gradient step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        if self.recipe.dropout and processes.count() > 1:  # no two processes may drop alike, nor need to save states
            place = self.step * processes.count() + processes.rank()
            torch.default_generator.manual_seed((self.recipe.seed * 1_000_003 + place) % 2**63)
        rows = torch.randint(len(self.train), (self.recipe.batch,), generator=self.generator)
        losses = self.losses(self.train[rows])
        self.optimizer.zero_grad()
        losses.total.backward()
        processes.average_gradients(self.optimizer.param_groups[0]["params"])
        nn.utils.clip_grad_norm_(self.autoencoder.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return losses

    def losses(self, weights: Tensor) -> Losses:
        """Loss of two views each of networks (B, D)."""
        views, targets = (torch.cat(pair) for pair in zip(self.view(weights), self.view(weights), strict=True))
        # On a CPU the fused attention's backward pass takes longer than all else together.
        with mixed(self.dtype), sdpa_kernel(SDPBackend.MATH):
            code = self._code_windows if self.recipe.chunk else self._code_networks
            latents, reconstruction, kl = code(views, targets)
        penalty = self.recipe.kl_weight * kl
        if self.recipe.beta == 1:
            return Losses(reconstruction + penalty, reconstruction, torch.zeros(()), kl)
        first, second = processes.gather(latents, len(views)).chunk(2)
        contrast = nt_xent(self.head(first), self.head(second))
        return Losses(combined(reconstruction, contrast, self.recipe.beta) + penalty, reconstruction, contrast, kl)

    def _code_networks(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents of this process's share, reconstruction and divergence of whole networks (2 B, D)."""
        rows, mine = len(views), processes.share()
        views, targets = views[mine], targets[mine]
        part = len(views) / rows * processes.count()
        spread: Tensor | float = self.recipe.latent_noise
        kl = torch.zeros(())
        if self.recipe.variational:
            latents, log_variance = self.autoencoder.posterior(views)
            spread, kl = (log_variance / 2).exp(), processes.mean(part * kl_divergence(latents, log_variance))
        else:
            latents = self.autoencoder.encode(views)
        noise = torch.randn(rows, latents.shape[1], generator=self.generator)[mine] * spread
        loss = self.loss(self.autoencoder.decode(latents + noise), targets)
        return latents, processes.mean(part * loss), kl

    def _code_windows(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Likewise of one window of each network, the same in both of its views."""
        places = draw_places(self.autoencoder, len(views) // 2, self.generator).repeat(2, 1)
        noise = torch.randn(*places.shape, self.recipe.latent, generator=self.generator) * self.recipe.latent_noise
        lwln = self.recipe.lwln
        mine, size = processes.share(), views.shape[1]
        rows = (views[mine], targets[mine], places[mine], noise[mine])
        latents, loss = code_windows(self.autoencoder, *rows, lwln=lwln)
        weights = [count_weights(self.autoencoder, found, size) for found in (places[mine], places)]
        return latents, processes.mean(weights[0] / weights[1] * processes.count() * loss), torch.zeros(())

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
        with mixed(self.dtype):
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
        tensors |= {f"optimizer.{key}": value for key, value in optimizer_tensors(self.optimizer).items()}
        tensors["random.generator"] = self.generator.get_state()
        tensors["random.global"] = torch.get_rng_state()
        write_tensors(path, tensors, {"step": str(self.step), "dtype": str(self.dtype), **self.identity()})

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint of `save`.

        Raises:
            ZooError: if the file is damaged or belongs to another recipe or zoo.
        """
        try:
            tensors, metadata = read_tensors(path)
            found, ours = {key: metadata[key] for key in ("recipe", "zoo")}, self.identity()
            for key in ("recipe", "zoo"):
                if found[key] != ours[key]:
                    raise ValueError(f"it was written for another {key}")
            self.autoencoder.load_state_dict(prefixed(tensors, "autoencoder."))
            self.head.load_state_dict(prefixed(tensors, "head."))
            load_optimizer(self.optimizer, prefixed(tensors, "optimizer."))
            self.generator.set_state(tensors["random.generator"])
            torch.set_rng_state(tensors["random.global"])
            self.step, self.dtype = int(metadata["step"]), DTYPES[metadata["dtype"]]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ZooError(f"cannot resume from {path}: {error}; delete it to start again") from None

    def identity(self) -> dict[str, str]:
        """What a checkpoint must have been written for: the recipe, and the training networks (as a digest)."""
        weights = self.train.contiguous().view(torch.uint8).numpy().data
        return {"recipe": str(asdict(self.recipe)), "zoo": hashlib.sha256(weights).hexdigest()}


def train_autoencoder(recipe: AutoencoderRecipe, zoo: Zoo, folder: Path, *, signs: Groups | None = None) -> Autoencoder:
    """Train an autoencoder on a prepared zoo; a checkpoint found in `folder` is continued.

    Writes `recipe.json`, `log.jsonl` (one line every 50 steps) and `checkpoint.safetensors` into `folder`; of several
    processes the first does, and all must see the folder.

    Returns:
        The trained autoencoder in evaluation mode.

    Raises:
        ArgumentError: if there are more processes than views in a batch.
        ZooError: if a checkpoint does not fit, or the processes have different zoos.
    """
    if processes.count() > 2 * recipe.batch:
        raise ArgumentError(f"at most {2 * recipe.batch} processes can share a batch, got {processes.count()}")
    first = processes.is_first()
    if first:
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)  # initial weights and dropout; restored on leaving
        training = Training(recipe, zoo, signs)
        _begin(training, checkpoint)
        if first:
            write_json(folder / "recipe.json", asdict(recipe))
            truncate_log(log, training.step)
        saved = time.monotonic()
        with tqdm(
            total=recipe.steps, initial=training.step, unit="step", desc="autoencoder", disable=None if first else True
        ) as bar:
            while training.step < recipe.steps:
                losses = training.advance()
                bar.update()
                if not first:
                    continue
                if training.step % LOG_EVERY == 0 or training.step == recipe.steps:
                    record = {key: value.item() for key, value in vars(losses).items()} | training.measure()
                    append_json(log, {"step": training.step, **record})
                    bar.set_postfix({key: f"{value:.3f}" for key, value in record.items()})
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    training.save(checkpoint)
                    saved = time.monotonic()
        if first:
            training.save(checkpoint)
    return training.autoencoder.eval()


def _begin(training: Training, checkpoint: Path) -> None:
    """Bring all processes to one state."""
    if not processes.same(int(training.identity()["zoo"][:12], 16)):
        raise ZooError("all processes must train on one zoo, got different ones")
    training.dtype = torch.bfloat16 if processes.agreed(training.dtype == torch.bfloat16) else torch.float32
    if processes.agreed(checkpoint.exists()):
        training.resume(checkpoint)
    processes.barrier()  # the first writes from here on, and nobody reads
