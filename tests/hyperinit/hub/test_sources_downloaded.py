"""Downloaded sources through `hub.sources.find` and `load`: offline without sockets, many and killed processes."""

import sys
import time
from hashlib import sha256
from signal import SIGKILL
from subprocess import PIPE, Popen

import pytest

import hyperinit
from hyperinit.errors import ArgumentError, DownloadError, HyperinitError
from hyperinit.hub import sources

FIND = f"""
import sys, types
sys.modules["hyperinit"] = package = types.ModuleType("hyperinit")  # without torch, which takes seconds to import
package.__path__ = {hyperinit.__path__}
from hyperinit.hub import sources
print(sources.find(sys.argv[1]).path)
"""
LOAD = "import sys, hyperinit; print(hyperinit.load(sys.argv[1]).card.source)"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYPERINIT_REGISTRY", raising=False)
    return tmp_path / "home"


@pytest.fixture
def source(server):
    return f"{server.url}/nets.safetensors#sha256={sha256(server.body).hexdigest()}"


@pytest.fixture
def _no_sockets(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", fail)
    monkeypatch.setattr("socket.create_connection", fail)
    monkeypatch.setattr("socket.getaddrinfo", fail)


def test_an_artifact_is_loaded_from_an_address(server, artifact):
    server.body = artifact.read_bytes()
    source = f"{server.url}/x?download=1#sha256={sha256(server.body).hexdigest()}"
    assert hyperinit.load(source).card.source == "tiny"
    assert hyperinit.load(source) is hyperinit.load(source, offline=True)
    assert len(server.seen) == 1


def test_load_can_be_told_to_stay_offline(server, source):
    with pytest.raises(DownloadError, match=r"nets.safetensors is missing; remove offline=True to download it"):
        hyperinit.load(source, offline=True)
    assert not server.seen


def test_the_bar_of_a_download_is_silent_here(source, capfd):
    sources.find(source)
    assert capfd.readouterr() == ("", "")


def test_offline_embedded_files_and_paths_work(embedded, artifact, monkeypatch, request):
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    request.getfixturevalue("_no_sockets")
    assert hyperinit.load("tiny", offline=True).card.source == "tiny"
    assert hyperinit.load(artifact).card.source == "tiny"


def test_offline_cached_files_work(source, request):
    path = sources.find(source)
    request.getfixturevalue("_no_sockets")
    assert sources.find(source, offline=True) == path


@pytest.mark.usefixtures("_no_sockets")
@pytest.mark.parametrize("registry", ["", "https://example.org/index.json"])
@pytest.mark.parametrize(
    "source",
    [
        f"https://example.org/a#sha256={'0' * 64}",
        f"http://example.org/a#sha256={'0' * 64}",
        "hf://org/repo/a.safetensors",
        f"hf://org/repo/a.safetensors@{'0' * 40}",
        "a-name",
    ],
)
def test_offline_other_sources_fail_at_once_and_the_error_says_what_to_do(monkeypatch, home, source, registry):
    monkeypatch.setenv("HYPERINIT_REGISTRY", registry)
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    start = time.monotonic()
    unknown = source == "a-name" and not registry
    message = r"unknown source 'a-name'" if unknown else r"unset HYPERINIT_OFFLINE to download it, or by hand"
    with pytest.raises(HyperinitError, match=message) as caught:
        hyperinit.load(source)
    assert isinstance(caught.value, DownloadError) is not unknown
    assert time.monotonic() - start < 1
    assert not home.exists()


@pytest.mark.usefixtures("_no_sockets")
@pytest.mark.parametrize("source", ["https://example.org/a.safetensors", "s3://a/b", "hf://a/b"])
def test_refused_addresses_open_no_socket(source):
    with pytest.raises(ArgumentError):
        hyperinit.load(source)


def race(server, code, count, killed):
    """Let processes fetch the same file at once, kill the first of them in the middle, and return the outputs."""
    source = f"{server.url}/nets.safetensors#sha256={sha256(server.body).hexdigest()}"
    command = [sys.executable, "-c", code, source]
    processes = [Popen(command, stdout=PIPE, stderr=PIPE, text=True) for _ in range(count)]
    deadline = time.monotonic() + 120
    while len(server.seen) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)  # so that something has come
    for process in processes[:killed]:
        process.kill()
    results = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [code for *_, code in results[:killed]] == [-SIGKILL] * killed
    assert [(error, code) for _, error, code in results[killed:]] == [("", 0)] * (count - killed)
    return {output.strip() for output, *_ in results[killed:]}


def test_three_processes_at_once_one_killed(server, home):
    server.slow = 0.1  # a second for the whole file
    [path] = race(server, FIND, 3, 1)
    [good, *parts] = sorted(home.iterdir(), key=lambda file: len(file.name))
    assert str(good) == path
    assert good.read_bytes() == server.body
    assert [part.name.endswith(".part") for part in parts] in ([], [True])  # what the killed one had, if anything


@pytest.mark.slow
def test_eight_processes_at_once_some_killed(server, home, artifact):
    server.body, server.slow = artifact.read_bytes(), 0.1
    assert race(server, LOAD, 8, 3) == {"tiny"}
    [good, *parts] = sorted(home.iterdir(), key=lambda file: len(file.name))
    assert good.read_bytes() == server.body
    assert len(parts) <= 3
    assert all(part.name.endswith(".part") for part in parts)
