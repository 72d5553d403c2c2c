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


@pytest.mark.parametrize(
    "url", ["http://[::1/", "http://a:b/", "http://a:0/", "http://", "ftp://a/", "a", "", "http:///x"]
)
def test_broken_addresses_have_no_parts(url):
    assert address.parts(url) is None
    assert not address.is_safe(url)


@pytest.mark.parametrize("to", ["http://[::1/", "//[::1", "//a:b/", "ftp://a/", "javascript:x", "http://a:99999/"])
def test_what_joins_to_no_web_address_is_none(to):
    assert address.joined("https://example.org/zoo/index.json", to) is None


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://a.org/x/y.safetensors", "https://a.org/x/y.safetensors"),
        ("https://me:SECRET@a.org/x", "https://a.org/x"),
        ("https://SECRET@a.org:80/x", "https://a.org:80/x"),
        ("https://me:SEC@RET@a.org/x", "https://a.org/x"),
        ("https://me:SEC/RET@a.org/x", "https://a.org/x"),
        ("https://me:SEC?RET@a.org/x", "https://a.org/x"),
        ("https://me:SEC#RET@a.org/x", "https://a.org/x"),
        ("https://me:1/SECRET@a.org/x", "https://a.org/x"),
        ("https://me:SECRET@[::1/x", "https://[::1/x"),
        ("https://a.org/x?SECRET", "https://a.org/x?..."),
        (f"https://a.org/x?token=SECRET#sha256={HEX}", f"https://a.org/x?...#sha256={HEX}"),
        ("https://a.org/x#token=SECRET", "https://a.org/x#..."),
        ("https://a.org/x@v1/y?mail=me@SECRET.org", "https://a.org/x@v1/y?..."),
        ("https://localhost:80/x@v1", "https://localhost:80/x@v1"),
        ("hf://org/repo/x.safetensors@v1", "hf://org/repo/x.safetensors@v1"),
        ("hf://me:SECRET@org/repo/x.safetensors@v1", "hf://org/repo/x.safetensors@v1"),
        ("s3://key:SECRET@bucket/x", "s3://bucket/x"),
        ("me:SECRET@https://a.org/x", "https://a.org/x"),
        ("https:/me:SECRET@a.org/x", "https:/a.org/x"),
        ("https:me:SECRET@a.org/x", "a.org/x"),
        ("me:SECRET@a.org/x", "a.org/x"),
        ("./zoo/x@v1.safetensors", "./zoo/x@v1.safetensors"),
        ("C:\\me@work\\x.safetensors", "C:\\me@work\\x.safetensors"),
        ("https://a.org/\x1b[31m\n", "https://a.org/\\x1b[31m\\n"),
        ("https://a.org/" + "x" * 1000, "https://a.org/" + "x" * 286 + "..."),
    ],
)
def test_an_address_is_shown_without_its_secrets(url, text):
    assert address.shown(url) == text


@pytest.mark.parametrize(
    "source",
    [
        "https://me:SECRET@a.org/x",
        f"https://me:SECRET@a.org/x#sha256={HEX}0",
        f"https://me:SECRET@[::1/x#sha256={HEX}",
        f"https://me:SEC#SECRET@a.org/x#sha256={HEX}",
        "https://a.org/x?token=SECRET",
        "https://a.org/x#token=SECRET",
        "s3://me:SECRET@bucket/x",
        "hf://me:SECRET@org/x",
        "hf://org/repo/x.safetensors?token=SECRET",
        "://me:SECRET@a.org",
    ],
)
def test_the_message_about_a_malformed_address_holds_no_secret(source):
    with pytest.raises(ArgumentError) as caught:
        parse(source)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "Failed to parse: http://me:SECRET@[::1/",
        "Max retries exceeded with url: /a?token=SECRET&b=SECRET (Caused by x)",
        "Failed to parse: 'me:SECRET@host', label empty or too long",
        "No connection adapters were found for 'ftp://a/?x=SECRET'",
        "the query x=SECRET&y was refused",
        "user me:SECRET",
        "quoted as SE%20CRET, SECRET",
    ],
)
def test_texts_of_other_libraries_are_masked(text):
    assert address.masked("a" * 10**6, "http://\udc80@a.org?\udc80\udc80\udc80\udc80") == "a" * 1000
    found = address.masked(text, "https://me:SECRET@a.org/x?x=SECRET&y", "https://me:SE CRET@a.org/")
    assert "SECRET" not in found
    assert "CRET" not in found
    assert (
        address.masked("it is gone. Perhaps you meant https://a.org?") == "it is gone. Perhaps you meant https://a.org?"
    )
