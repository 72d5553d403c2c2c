"""A recipe at full size: train the zoo, write the artifact, and initialise networks that work."""

import pytest
import torch

import hyperinit
from hyperinit_training.cli import pretrain
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy


@pytest.mark.slow
def test_the_digits_recipe_gives_networks_that_know_digits(tmp_path):
    out = tmp_path / "digits.safetensors"
    assert pretrain(["--recipe", "digits-tuned", "--out", str(out), "--run", str(tmp_path / "run")]) == 0
    x, y = map(torch.from_numpy, load_images("digits").normalised("test"))
    generator = torch.Generator().manual_seed(0)
    found = [accuracy(hyperinit.init_(hyperinit.nets.cnn(), out, generator=generator), x, y) for _ in range(20)]
    assert min(found) >= 0.9
    assert accuracy(hyperinit.ensemble(15, out, generator=generator), x, y) >= 0.95
