"""Wrapped by DDP and FSDP2, on two processes that torchrun starts."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "support" / "distributed_run.py"


@pytest.mark.slow
def test_every_rank_ends_with_the_weights_of_a_plain_network():
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, str(SCRIPT)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    kinds = ("ddp", "compiled ddp", "fsdp", "fsdp on meta", "refusal")
    assert Counter(done.stdout.splitlines()) == {f"rank done: {kind}": 2 for kind in kinds}
