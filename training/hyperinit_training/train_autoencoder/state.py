"""The state of an autoencoder's training: modules, optimiser and random generators. It steps, saves and resumes.

Several processes share every batch (see `processes`). Their result equals that of one process up to rounding, except
for the masks of dropout.

Letters: N snapshots, B of them in a batch, D weights per network, L latent size.

Source: Schürholt et al. 2022, arXiv:2209.14733, section 2 (losses, augmentations) and Table 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ZooError
from hyperinit_training.machine import devices, precision, processes
from hyperinit_training.machine.run_files import (
    load_optimizer,
    optimizer_tensors,
    prefixed,
    read_tensors,
    write_tensors,
)
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.symmetry.positions import Groups
from hyperinit_training.train_autoencoder.augment import PermutationAugmentation, erase, erase_
from hyperinit_training.train_autoencoder.explained import r2
from hyperinit_training.train_autoencoder.losses import (
    Losses,
    ProjectionHead,
    ReconstructionLoss,
    combined,
    kl_divergence,
    nt_xent,
)
from hyperinit_training.train_autoencoder.windows import code_windows, count_weights, draw_places, window_size
from hyperinit_training.zoo.statistics import layer_mean, layer_std, tensor_spread
from hyperinit_training.zoo.zoo import Zoo

CPU = torch.device("cpu")
DTYPES = {str(dtype): dtype for dtype in (torch.bfloat16, torch.float32)}


class Training:
    """Hold everything that changes while an autoencoder trains.

    Args:
        recipe: sizes of the autoencoder and options of the training.
        zoo: prepared zoo. The autoencoder trains on its "train" part and is evaluated on its "val" part.
        signs: groups of neurons whose signs views may flip, see `symmetry.sign_groups`. None flips no signs.
        device: device of modules, networks and computations. Random numbers are drawn on the CPU, except for the masks
            of dropout.
    """

    def __init__(
        self, recipe: AutoencoderRecipe, zoo: Zoo, signs: Groups | None = None, device: torch.device = CPU
    ) -> None:
        self.recipe, self.device = recipe, device
        self.train, self.val = zoo.part("train").weights, zoo.part("val").weights
        if recipe.centre == "network":
            mean, std = self.train.mean(0), tensor_spread(self.train, zoo.layout)
        else:
            mean, std = layer_mean(self.train, zoo.layout), layer_std(self.train, zoo.layout)
        self.autoencoder = Autoencoder(recipe.config(), zoo.layout, mean, std).to(device)
        self.head = ProjectionHead(recipe.latent * (window_size(self.autoencoder) if recipe.chunk else 1)).to(device)
        self.loss = ReconstructionLoss(std if recipe.lwln else None).to(device)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.symmetries = hashlib.sha256(repr((zoo.layout.to_json(), signs)).encode()).hexdigest()
        self.permute = None
        if zoo.layout.group_sizes and recipe.permutations:
            self.permute = PermutationAugmentation(zoo.layout, recipe.permutations, self.generator, device, signs=signs)
        self.train, self.val = self.train.to(device), self.val.to(device)
        parameters = [*self.autoencoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(  # fused: one pass over memory instead of ten
            parameters, recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay, fused=True
        )
        self.step = 0
        self.dtype = precision.fastest_on(device)  # of matrix products; a resumed run keeps its dtype

    def advance(self) -> Losses:
        """Take one gradient step and return its losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self._seed_dropout()
        rows = torch.randint(len(self.train), (self.recipe.batch,), generator=self.generator).to(self.device)
        losses = self.losses(self.train[rows])
        self.optimizer.zero_grad()
        losses.total.backward()
        processes.average_gradients(self.optimizer.param_groups[0]["params"])
        nn.utils.clip_grad_norm_(self.autoencoder.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return losses

    def _seed_dropout(self) -> None:
        """Seed the masks of dropout with the number of the step, on a GPU or in several processes.

        Checkpoints do not save the generator of a GPU, and each process needs masks of its own.
        """
        if self.recipe.dropout and (processes.count() > 1 or self.device.type != "cpu"):
            place = self.step * processes.count() + processes.rank()
            devices.global_generator(self.device).manual_seed((self.recipe.seed * 1_000_003 + place) % 2**63)

    def losses(self, weights: Tensor) -> Losses:
        """Return the losses of two views of each network (B, D)."""
        # Rows 0 ... B - 1 are first views, rows B ... 2B - 1 second views: (2B, D) each.
        views, targets = (torch.cat(pair) for pair in zip(self.view(weights), self.view(weights), strict=True))
        with precision.mixed(self.dtype, self.device), precision.attention(self.device):
            code = self._code_windows if self.recipe.chunk else self._code_networks
            latents, reconstruction, kl = code(views, targets)
        penalty = self.recipe.kl_weight * kl
        if self.recipe.beta == 1:
            return Losses(reconstruction + penalty, reconstruction, self._zero(), kl)
        # Every process contrasts all 2B latents: with its own share alone, it would lack the other negatives.
        first, second = processes.gather(latents, len(views)).chunk(2)  # (B, L) each
        contrast = nt_xent(self.head(first), self.head(second))
        return Losses(combined(reconstruction, contrast, self.recipe.beta) + penalty, reconstruction, contrast, kl)

    def _code_networks(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Code this process's share of networks (2B, D). Return its latents, and both losses of all networks."""
        rows, mine = len(views), processes.share()
        views, targets = views[mine], targets[mine]
        part = (
            len(views) / rows * processes.count()
        )  # shares differ in size: the mean of part * loss is that of all rows
        spread: Tensor | float = self.recipe.latent_noise
        kl = self._zero()
        if self.recipe.variational:
            latents, log_variance = self.autoencoder.posterior(views)
            spread, kl = (log_variance / 2).exp(), processes.mean(part * kl_divergence(latents, log_variance))
        else:
            latents = self.autoencoder.encode(views)
        noise = torch.randn(rows, latents.shape[1], generator=self.generator)[mine].to(self.device) * spread
        loss = self.loss(self.autoencoder.decode(latents + noise), targets)
        return latents, processes.mean(part * loss), kl

    def _code_windows(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Code one window of each network, the same in both of its views. Returns as `_code_networks`."""
        places = draw_places(self.autoencoder, len(views) // 2, self.generator).repeat(2, 1)
        noise = torch.randn(*places.shape, self.recipe.latent, generator=self.generator) * self.recipe.latent_noise
        lwln = self.recipe.lwln
        mine, size = processes.share(), views.shape[1]
        rows = (views[mine], targets[mine], places[mine], noise[mine].to(self.device))
        latents, loss = code_windows(self.autoencoder, *rows, lwln=lwln)
        weights = [count_weights(self.autoencoder, found, size) for found in (places[mine], places)]
        return latents, processes.mean(weights[0] / weights[1] * processes.count() * loss), self._zero()

    def _zero(self) -> Tensor:
        return torch.zeros((), device=self.device)

    def view(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return one augmented view of networks (B, D) and its reconstruction target, both (B, D)."""
        clean = weights
        if self.permute is not None:
            chosen = torch.rand(len(weights), 1, generator=self.generator) < self.recipe.permuted
            clean = torch.where(chosen.to(self.device), self.permute(weights, self.generator), weights)
        # Erase in place, without a copy, if `clean` is a new tensor that is not the target before erasing.
        fresh = clean is not weights and self.recipe.target != "clean"
        view = (erase_ if fresh else erase)(clean, self.generator, probability=self.recipe.erase)
        return view, {"view": view, "clean": clean, "aligned": weights}[self.recipe.target]

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return the R2 of reconstructions of training and validation snapshots, without augmentation."""
        std, mean = self.loss.std, self.train.mean(0)
        self.autoencoder.eval()
        with precision.mixed(self.dtype, self.device):
            parts = {"train_r2": self.train[:256], "val_r2": self.val}
            found = {
                key: r2(self.autoencoder.decode(self.autoencoder.encode(part)), part, std, mean).item()
                for key, part in parts.items()
                if len(part)
            }
        self.autoencoder.train()
        return found

    def save(self, path: Path) -> None:
        """Write a checkpoint, from which `resume` continues.

        Raises:
            ZooError: if a weight is not finite.
            WriteError: if the file cannot be written. An older checkpoint is unchanged then.
        """
        tensors = self._tensors()
        tensors |= {f"optimizer.{key}": value for key, value in optimizer_tensors(self.optimizer).items()}
        if not all(value.isfinite().all() for value in tensors.values()):
            raise self.diverged()
        write_tensors(path, tensors, {"step": str(self.step), "dtype": str(self.dtype), **self.identity()})

    def _tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint that exist at every step, so all but the optimizer's."""
        tensors = {f"autoencoder.{key}": value for key, value in self.autoencoder.state_dict().items()}
        tensors |= {f"head.{key}": value for key, value in self.head.state_dict().items()}
        return tensors | {"random.generator": self.generator.get_state(), "random.global": torch.get_rng_state()}

    def diverged(self) -> ZooError:
        """Return the error for a training whose numbers are no longer finite."""
        return ZooError(
            f"the autoencoder must keep finite weights, got NaN or infinity at step {self.step} of "
            f"{self.recipe.steps}; lower its rate of {self.recipe.rate:g}, or leave unusual networks out of the zoo"
        )

    def resume(self, path: Path) -> None:
        """Restore the state from a checkpoint of `save`.

        Raises:
            ZooError: if the file is damaged or belongs to another recipe or zoo.
        """
        try:
            tensors, metadata = read_tensors(path)
            ours = self.identity()
            for key in ours:
                if metadata[key] != ours[key]:
                    raise ValueError(f"it was written for another {key}")
            if missing := self._tensors().keys() - tensors.keys():
                raise ValueError(f"it lacks {min(missing)}")
            step, self.dtype = int(metadata["step"]), DTYPES[metadata["dtype"]]
            states = prefixed(tensors, "optimizer.")
            self._check_states(states, step)
            self.autoencoder.load_state_dict(prefixed(tensors, "autoencoder."))
            self.head.load_state_dict(prefixed(tensors, "head."))
            load_optimizer(self.optimizer, states)
            self.generator.set_state(tensors["random.generator"])
            torch.set_rng_state(tensors["random.global"])
            self.step = step
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ZooError(f"cannot resume from {path}: {error}; delete it to start again") from None

    def _check_states(self, states: Mapping[str, Tensor], step: int) -> None:
        """Check that every parameter has the optimizer's state of this step."""
        if not 0 <= step <= self.recipe.steps:
            raise ValueError(f"its step must lie in 0 to {self.recipe.steps}, got {step}")
        trained = [*self.autoencoder.parameters(), *(self.head.parameters() if self.recipe.beta != 1 else ())]
        expected = {
            f"{index}.{name}": torch.Size(()) if name == "step" else parameter.shape
            for index, parameter in enumerate(trained if step else ())
            for name in ("step", "exp_avg", "exp_avg_sq")
        }
        if {name: value.shape for name, value in states.items()} != expected:
            raise ValueError("its optimizer states are not those of the parameters")
        if any(value.item() != step for name, value in states.items() if name.endswith(".step")):
            raise ValueError(f"its optimizer states are not those of step {step}")

    def identity(self) -> dict[str, str]:
        """Return what a checkpoint and a run must share.

        These are the recipe as text, a digest of the training networks, and one of the layout and its symmetries.
        """
        weights = self.train.cpu().contiguous().view(torch.uint8).numpy().data
        return {
            "recipe": str(asdict(self.recipe)), "zoo": hashlib.sha256(weights).hexdigest(), "layout": self.symmetries,
        }  # fmt: skip
