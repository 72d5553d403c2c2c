"""Fixtures that several test files use; their helpers are in tests/support."""

import json
import threading

import pytest
import tiny_source
from safetensors import safe_open
from safetensors.torch import save_file
from web_server import Server

from hyperinit.files import headers as files_headers
from hyperinit.hub import http, publish, sources

collect_ignore_glob = ["support/*"]  # helpers and programs, no tests


def pytest_configure(config):
    """Many tests fit sources into other networks on purpose; tests of the warning itself expect it."""
    message = "the module must compute what the network of"
    config.addinivalue_line("filterwarnings", f"ignore:{message}:hyperinit.errors.MismatchWarning")


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory):
    """Use a cache folder of the tests' own, so that the user's is neither read nor changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERINIT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def _parts():
    """Header, autoencoder state and anchor weights: the slow part of `tiny`, made once."""
    return tiny_source.make_parts()


@pytest.fixture
def tiny(_parts):
    """A hyper-representation of the zoo's CNN with 20 anchors, see tests/support/tiny_source.py."""
    return tiny_source.make_tiny(*_parts)


@pytest.fixture
def artifact(tiny, tmp_path):
    """Path of the saved `tiny`."""
    path = tmp_path / "tiny.safetensors"
    tiny.save(path)
    return path


@pytest.fixture
def forge(artifact):
    """Edit header and tensors of the artifact and renew its digest, so that only the checks of fields can fail."""

    def change(edit):
        with safe_open(artifact, "pt") as file:
            header, tensors = (
                json.loads(file.metadata()["hyperinit"]),
                {key: file.get_tensor(key) for key in sorted(file.keys())},
            )
        edit(header, tensors)
        header.pop("digest", None)
        text = json.dumps(header | {"digest": files_headers.digest(header, tensors)})
        save_file(tensors, artifact, {"hyperinit": text})
        return artifact

    return change


@pytest.fixture
def embedded(tiny, tmp_path, monkeypatch):
    """An installation whose only source is `tiny`; gives its folder."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(sources, "FOLDER", folder)
    tiny.save(folder / "tiny.safetensors")
    publish.register_embedded(folder / "tiny.safetensors", "tiny", "an untrained source for tests")
    return folder


@pytest.fixture
def server(monkeypatch):
    """A server on this machine; pauses between attempts take no time."""
    for name in (
        "HYPERINIT_OFFLINE",
        "HYPERINIT_PROGRESS",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(http, "WAITS", (0.0, 0.0))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()
