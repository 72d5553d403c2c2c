"""A server that runs `hyperinit` commands in forks of one warm process, so that faults hit their work and not imports.

Every line of standard input is a JSON list of runs that are started together. The answer is a line with a JSON list of
their ends. A run has these fields, of which all but `argv` and `cwd` may be left out:

- argv: the arguments of `hyperinit`.
- cwd: the folder to run in.
- delay: seconds after which it is started.
- kill_after: seconds after its start at which it is killed with SIGKILL.
- die_at_write: it kills itself when it is about to rename the file of this number, counted from 1.
- limit: the most bytes of any file that it writes: then the disk is full.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time

import tiny_source
import torch
from matplotlib.figure import Figure

from hyperinit.cli import program
from hyperinit.files import atomic
from hyperinit.samplers import gan
from hyperinit_training.cli import commands
from hyperinit_training.images.dataset import load_images
from hyperinit_training.machine import precision
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_autoencoder import augment, train
from hyperinit_training.train_zoo import train_zoo


def warm_up():
    """Load and compile everything, without a backward pass: PyTorch forbids forks after one on some machines."""
    torch.set_num_threads(1)
    train.LOG_EVERY, train.CHECKPOINT_SECONDS, gan.EPOCHS = 5, 0.2, 5
    assert commands
    precision.fastest()  # timed once, so that all forks train in one format
    Figure().subplots().plot([0, 1])
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)  # imports for seconds
    tiny_source.make_tiny(*tiny_source.make_parts()).sample(2, method="neigh", generator=torch.Generator())
    augment._loops()
    for count in (torch.zeros(2, 3), torch.zeros(2, 70)):
        index = torch.zeros(2, count.shape[1], dtype=torch.int16)
        augment.gathered(count, index, torch.zeros(2, dtype=torch.int64))
        augment.fill_(count, torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64), 0.0)
    recipe = ZooRecipe(images="digits", models=2, families=1, epochs=1, branch_epochs=1, limit=64)
    with tempfile.TemporaryDirectory() as folder:
        train_zoo(recipe, load_images("digits"), atomic.Path(folder), workers=1)


def child(run, output):
    """Run one command in this fork, and end it."""
    code = 70
    try:
        time.sleep(run.get("delay", 0))
        os.chdir(run["cwd"])
        os.dup2(output, 1)
        os.dup2(output, 2)
        if "limit" in run:
            resource.setrlimit(resource.RLIMIT_FSIZE, (run["limit"],) * 2)
        if "die_at_write" in run:
            _die_at(run["die_at_write"])
        code = program.main(run["argv"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 70)


def _die_at(number):
    settle, left = atomic.settle, [number]

    def dying(temporary, path):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        settle(temporary, path)

    atomic.settle = dying


def start(run):
    """Fork a run. Returns a function that waits for it and returns how it ended."""
    reading, writing = os.pipe()
    began, process = time.monotonic(), os.fork()
    if not process:
        os.close(reading)
        child(run, writing)
    os.close(writing)
    said = []
    reader = threading.Thread(target=lambda: said.append(_all_of(reading)))
    reader.start()
    if "kill_after" in run:
        threading.Timer(run["kill_after"] + run.get("delay", 0), lambda: _kill(process)).start()

    def wait():
        status = os.waitpid(process, 0)[1]
        ended.add(process)
        reader.join()
        seconds = time.monotonic() - began - run.get("delay", 0)
        return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "said": said[0]}

    return wait


ended = set()


def _kill(process):
    if process not in ended:
        os.kill(process, signal.SIGKILL)


def _all_of(handle):
    with os.fdopen(handle, errors="replace") as file:
        return file.read()


def main():
    warm_up()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("warm", file=answers, flush=True)
    for line in sys.stdin:
        waits = [start(run) for run in json.loads(line)]
        print(json.dumps([wait() for wait in waits]), file=answers, flush=True)


if __name__ == "__main__":
    main()
