"""The lock of a run folder: one training at a time, and no lock is left by a killed process."""

import re
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hyperinit.errors import ArgumentError, WriteError
from hyperinit_training.machine import lock, processes
from hyperinit_training.machine.lock import locked

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from hyperinit_training.machine.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start processes that lock a folder and sleep; returns a function that starts one."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLD, str(tmp_path / "run"), str(ROOT), str(ROOT / "training")]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def in_use(folder):
    return re.escape(
        f"{folder} must be used by one training at a time, got a second; wait until the first ends, or name another "
        "folder"
    )


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "a" / "run"):
            assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == [".lock"]
        assert not list((tmp_path / "a" / "run").iterdir())


def test_a_second_process_is_refused_and_a_killed_one_locks_nothing(tmp_path, holder):
    first = holder()
    assert first.stdout.readline() == "locked\n"
    second = holder()
    assert re.search(in_use(tmp_path / "run"), second.communicate(timeout=60)[1])
    with pytest.raises(ArgumentError, match=in_use(tmp_path / "run")), locked(tmp_path / "run"):
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (tmp_path / "run" / ".lock").exists()  # it is left, and locks nothing
    with locked(tmp_path / "run"):
        assert "must be used by one training" in holder().communicate(timeout=60)[1]
    assert holder().stdout.readline() == "locked\n"


def test_a_thread_locks_a_folder_twice_and_another_thread_does_not(tmp_path):
    errors = []

    def other():
        try:
            with locked(tmp_path / "link"):
                pass
        except ArgumentError as error:
            errors.append(str(error))

    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with locked(tmp_path / "run"):
        with locked(tmp_path / "run"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(errors) == 1
    with locked(tmp_path / "link"):
        pass


def test_an_error_inside_frees_the_folder(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), locked(tmp_path):
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_only_the_first_of_several_processes_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    with locked(tmp_path / "run"):
        assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/run/.lock cannot be written, got: "), locked(tmp_path / "file" / "run"):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise sqlite3.OperationalError("disk I/O error")

    class Connection(sqlite3.Connection):
        execute = refuse

    monkeypatch.setattr(lock.sqlite3, "connect", lambda path, **_: Connection(path))
    message = r"cannot be locked \(disk I/O error\), so nothing stops a second training in it; start only one$"
    with pytest.warns(RuntimeWarning, match=message), locked(tmp_path):
        pass
