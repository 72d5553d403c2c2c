"""Addresses of sources: how they are parsed, and which are refused."""

import pytest

from hyperinit.errors import ArgumentError
from hyperinit.hub import address
from hyperinit.hub.address import HuggingFace, Web, parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("source", ["mnist", "./a.safetensors", "data/x", "C:\\a.safetensors", "~/x", "a@b#c"])
def test_names_and_paths_are_no_addresses(source):
    assert parse(source) is None


@pytest.mark.parametrize("scheme", ["https", "http", "HTTPS"])
def test_web_addresses_carry_their_digest(scheme):
    url = f"{scheme}://example.org/nets/cnn.safetensors?version=2"
    assert parse(f"{url}#sha256={HEX.upper()}") == Web(url, HEX)
    assert Web(url, HEX).name == "cnn.safetensors"


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://a.org/x%20y", "x y.safetensors"), ("https://a.org/", "source.safetensors"), ("https://a.org", None)],
)
def test_every_web_address_has_a_file_name(url, name):
    assert Web(url, HEX).name == (name or "source.safetensors")


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("hf://org/repo/cnn.safetensors", ("org/repo", "cnn.safetensors", "main")),
        ("hf://org/repo/a/b/cnn.safetensors@refs/pr/1", ("org/repo", "a/b/cnn.safetensors", "refs/pr/1")),
    ],
)
def test_hugging_face_addresses(source, parts):
    assert parse(source) == HuggingFace(*parts)
    assert parse(source).name == "cnn.safetensors"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "https://a.org/x",
            r"state the SHA-256 of the file: add #sha256=HEX to 'https://a.org/x', with .*`sha256sum",
        ),
        ("http://a.org/x", r"add #sha256=HEX"),
        (f"https://a.org/x#sha256={HEX}0", r"must end in #sha256= and 64 hexadecimal digits, got 'sha256="),
        (f"https://a.org/x#md5={HEX}", r"must end in #sha256= and 64 hexadecimal digits, got 'md5="),
        (f"https://#sha256={HEX}", r"an address with a server, got 'https://#"),
        (f"https://[#sha256={HEX}", r"an address with a server"),
        ("s3://bucket/x.safetensors", r"a name, a path, https://.* or hf://.*, got 's3://bucket"),
        ("hf://org/cnn.safetensors", r"must be hf://org/repo/path/file.safetensors@revision, got 'hf://org/cnn"),
        ("hf://org/repo/cnn.bin", r"must be hf://"),
        ("hf://org/repo/cnn.safetensors@", r"must be hf://"),
        ("hf://org/repo/../cnn.safetensors", r"must be hf://"),
        ("hf://org//repo/cnn.safetensors", r"must be hf://"),
        ("hf://org/repo/cnn.safetensors@a/../b", r"must be hf://"),
        ("hf://org/repo/a\nb.safetensors", r"must be hf://"),
    ],
)
def test_malformed_addresses_and_those_without_a_digest_are_refused(source, message):
    with pytest.raises(ArgumentError, match=message):
        parse(source)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://a.org/", True),
        ("http://localhost:80/", True),
        ("http://[::1]/", True),
        ("http://127.0.0.1.evil.org/", False),
        ("http://localhost@evil.org/", False),
        ("ftp://localhost/", False),
        ("http://[", False),
    ],
)
def test_plain_http_is_safe_on_this_machine_only(url, safe):
    assert address.is_safe(url) is safe
