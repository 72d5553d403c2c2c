"""Which two found files are equal."""

from pathlib import Path

from hyperinit.files.found import Found

PATH = Path("a.safetensors")


def test_path_and_digest_tell_files_apart_and_the_name_does_not():
    assert Found(PATH, "0" * 64, "a") == Found(PATH, "0" * 64, "b")
    assert hash(Found(PATH, "0" * 64, "a")) == hash(Found(PATH, "0" * 64, "b"))
    assert Found(PATH, "0" * 64, "a") != Found(PATH, None, "a")
    assert Found(PATH, None, "a") != Found(Path("b.safetensors"), None, "a")
