"""Text files of persons and other programs: encodings, sizes and nesting."""

import pytest

from hyperinit.errors import ArgumentError
from hyperinit.files import texts


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfnets/a.pt\n")
    assert texts.read_text(tmp_path / "a.txt") == "nets/a.pt\n"
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1]}')
    assert texts.read_json(tmp_path / "a.json") == {"a": [1]}
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert texts.read_toml(tmp_path / "a.toml") == {"a": 1}


@pytest.mark.parametrize(("encoding", "got"), [("utf-16", "UTF-16"), ("latin-1", "the byte 0xe9")])
def test_other_encodings_are_refused_with_what_to_do(tmp_path, encoding, got):
    path = tmp_path / "list.txt"
    path.write_bytes("é.pt\n".encode(encoding))
    with pytest.raises(ArgumentError, match=rf"list.txt must be UTF-8 text, got {got}; save it again as UTF-8$"):
        texts.read_text(path)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (texts.read_json, "[" * 100_000),
        (texts.read_toml, "a = " + "[" * 100_000),
        (texts.read_toml, "a." * 5000 + "b=1\nx=["),
    ],
)
def test_deep_nesting_is_refused(tmp_path, read, text):
    path = tmp_path / "deep"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=r"deep (must be (JSON|TOML) of a few levels, got one|is not TOML: )"):
        read(path)


def test_damaged_text_is_refused_with_its_kind(tmp_path):
    path = tmp_path / "a"
    path.write_text('{"a')
    with pytest.raises(ArgumentError, match=r"a is not JSON: "):
        texts.read_json(path)
    with pytest.raises(ArgumentError, match=r"a is not TOML: "):
        texts.read_toml(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for path in (tmp_path / "gone", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ArgumentError, match=rf"{path.name} must be a file that can be read, got: "):
            texts.read_text(path)
    (tmp_path / "large").write_text("12345")
    monkeypatch.setattr(texts, "LARGEST", 4)
    with pytest.raises(ArgumentError, match=r"large must have at most 4 bytes, got 5$"):
        texts.read_text(tmp_path / "large")
