"""Temporary files of killed processes are deleted at once, and those of other processes stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hyperinit.files import temporary

KILLED = """
import os, signal, sys
from pathlib import Path
from hyperinit.files.atomic import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write_text("half")
    file.with_name("of a library").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _anew(monkeypatch):
    monkeypatch.setattr(temporary, "_swept", {})


def test_names_are_short_and_of_this_process(tmp_path):
    path = temporary.beside(tmp_path / ("ä" * 120 + ".safetensors"))
    assert path.parent == tmp_path
    assert len(os.fsencode(path.name)) < 160
    assert not path.exists()
    path.write_text("x")
    assert not temporary.is_abandoned(path)
    temporary.sweep(tmp_path)
    assert path.exists()


def test_what_a_killed_process_wrote_is_deleted_by_the_next_one(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.txt")], check=False)
    [left] = tmp_path.iterdir()
    assert {path.name for path in left.iterdir()} == {"new", "of a library"}
    (tmp_path / "mine.part").write_text("x")
    temporary.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.part"]


def test_files_of_other_machines_are_abandoned_after_a_day(tmp_path):
    path = tmp_path / "a.ffffffff-1-00000000.part"
    path.write_text("x")
    assert not temporary.is_abandoned(path)
    os.utime(path, (0, 0))
    assert temporary.is_abandoned(path)
    path.unlink()
    assert not temporary.is_abandoned(path)


@pytest.mark.parametrize("process", [1, os.getpid(), os.getppid()])
def test_running_processes_keep_their_files(process):
    assert temporary._runs(process)


def test_ended_processes_and_zombies_do_not_run():
    done = subprocess.Popen([sys.executable, "-c", ""])
    while temporary._runs(done.pid):  # until it is a zombie: nothing has waited for it
        pass
    done.wait()
    assert not temporary._runs(done.pid)
    assert not temporary._runs(999_999_999_999)


def test_a_folder_that_cannot_be_read_is_left_alone(tmp_path):
    temporary.sweep(tmp_path / "missing")
    temporary.delete(tmp_path / "missing")
    temporary.delete(Path("x" * 300))
