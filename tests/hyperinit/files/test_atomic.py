"""A file is replaced as a whole or not at all, and digests of files."""

import pytest

from hyperinit.files.atomic import digest, replacing


def test_the_file_appears_whole_and_readable(tmp_path):
    with replacing(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert (tmp_path / "deep" / "a.txt").stat().st_mode & 0o777 == 0o644


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_digests_are_those_of_the_command_line(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(str(tmp_path / "a"), "md5") == "900150983cd24fb0d6963f7d28e17f72"
