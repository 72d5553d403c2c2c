"""A hyper-representation that is made in milliseconds (the zoo's CNN, an untrained autoencoder), and a web server."""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hyperinit import nets
from hyperinit.autoencoder import Autoencoder, AutoencoderConfig
from hyperinit.files import headers as files_headers
from hyperinit.hub import http, publish, sources
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.artifact import Header
from hyperinit.representation.card import FIGURES, ROWS, Card
from hyperinit.samplers import METHODS, Anchors, SamplerOptions
from hyperinit.samplers.gan import LatentGAN

collect_ignore_glob = ["support/*"]  # programs and helpers of the tests, which hold none
ANCHORS = 20
CONFIG = AutoencoderConfig(width=16, heads=2, feedforward=32, depth=1, latent=8)


def rounded(value):
    """Round to half precision, so that an artifact gives back the very same numbers."""
    return value.detach().half().float()


def card():
    rows = [*METHODS, *ROWS]
    figures = {name: dict(zip(FIGURES, (0.9, 0.01, 50, 1000, 5.0, 0.5, 0.1), strict=True)) for name in rows}
    for place, name in enumerate(rows):
        figures[name]["accuracy"] = 0.95 - place / 100
    return Card(
        source="tiny",
        title="an untrained source for tests",
        licence="MIT",
        citation="nobody",
        preprocessing={"size": 28, "channels": 1, "mean": [0.5], "std": [0.25]},
        zoo={"images": {"name": "noise", "train": 100}, "models": 25, "anchors": ANCHORS, "date": "2024-01-01"},
        recommended="kde30",
        measured=figures,
    )


def gan_state(seed):
    """State of a generator that was never trained; small, so that it draws latents in the cube."""
    generator = torch.Generator().manual_seed(seed)
    shapes = LatentGAN.shapes(CONFIG.latent)
    return {key: rounded(torch.randn(shape, generator=generator) * shape[-1] ** -0.5) for key, shape in shapes.items()}


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory):
    """A cache folder of the tests' own: nothing is read from, or left in, that of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERINIT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def _parts():
    """Header, autoencoder state and anchor weights: the slow part of `tiny`, made once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [nets.cnn() for _ in range(ANCHORS)]
        layout = Layout.of(networks[0])
        weights = rounded(torch.stack([layout.flatten(net.state_dict()) for net in networks]))
        mean, std = torch.empty(layout.size), torch.empty(layout.size)
        for place in layout.layer_slices.values():
            mean[place], std[place] = weights[:, place].mean(), weights[:, place].std()
        state = Autoencoder(CONFIG, layout, mean, std).state_dict()
    state = {name: value if name in ("mean", "std") else rounded(value) for name, value in state.items()}
    header = Header(card(), layout, nets.describe(networks[0]), CONFIG, SamplerOptions(neighbours=4))
    return header, state, weights


@pytest.fixture
def tiny(_parts):
    """A hyper-representation of the zoo's CNN with 20 anchors, worth nothing but whole."""
    header, state, weights = _parts
    autoencoder = Autoencoder(CONFIG, header.layout, state["mean"], state["std"])
    autoencoder.load_state_dict(state)
    with torch.no_grad():
        z = rounded(autoencoder.eval().encode(weights))
    anchors = Anchors(z, torch.linspace(0.97, 0.5, ANCHORS), torch.full((ANCHORS,), 3.0), weights.clone())
    return HyperRepresentation(header, autoencoder, anchors, {"gan": gan_state(1), "gan30": gan_state(2)})


@pytest.fixture
def artifact(tiny, tmp_path):
    """Path of the saved `tiny`."""
    path = tmp_path / "tiny.safetensors"
    tiny.save(path)
    return path


@pytest.fixture
def forge(artifact):
    """Change header and tensors of the artifact and give it the right digest: damage that only checks can find."""

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


class Server(ThreadingHTTPServer):
    """Serves `files` by path, `body` elsewhere; `plan` has one word for each GET to come, "" for an ordinary answer."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.seen, self.headers, self.etag = [], [], [], '"one"'
        self.body, self.files, self.heads = random.Random(0).randbytes(300_000), {}, {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.stopped, self.stall, self.slow = threading.Event(), 0, 0

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of some tests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        status, headers = self.server.heads.get(self.path, (404, {}))
        self.server.headers.append(dict(self.headers))
        self.reply(status, b"", headers)

    def do_GET(self):
        word, _, value = (self.server.plan.pop(0) if self.server.plan else "").partition(" ")
        self.server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        self.server.headers.append(dict(self.headers))
        body = self.server.files.get(self.path, self.server.body)
        if word.isdigit():
            return self.reply(int(word), b"sorry", {"Retry-After": value} if value else {})
        if word == "to":
            return self.reply(302, b"", {"Location": value})
        return self.file(body[::-1] if word == "wrong" else body, word)

    def file(self, body, word):
        """Answer with a file, or lie about it as the word says."""
        start = 0
        if "Range" in self.headers and word != "whole" and self.headers.get("If-Range") == self.server.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        headers = {} if word == "untagged" else {"ETag": self.server.etag}
        if start:
            headers["Content-Range"] = f"bytes {start - (word == 'shifted')}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        half = rest[: len(rest) // 2]
        if word == "short":  # announced as whole
            rest = half
        elif word == "longer":
            rest += b"!"
        elif word == "endless":
            headers |= {"Content-Length": None, "Connection": "close"}
            rest *= 3
        elif word == "ends":  # without a length, the end of the connection is the end of the file
            headers |= {"Content-Length": None, "Connection": "close"}
            rest = half
        return self.reply(206 if start else 200, rest, headers, half if word in ("cut", "untagged") else rest)

    def reply(self, status, body, headers, sent=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.write(body if sent is None else sent)
        if sent is not None and len(sent) < len(body):
            self.server.stopped.wait(self.server.stall)
            self.close_connection = True

    def write(self, body):
        """Send a body, in small pieces with pauses between them if the server is slow."""
        step = 1 << 15 if self.server.slow else len(body)
        for start in range(0, len(body), step or 1):
            self.wfile.write(body[start : start + step])
            self.server.stopped.wait(self.server.slow)


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
