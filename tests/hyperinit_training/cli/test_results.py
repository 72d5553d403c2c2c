"""What a long command may replace: nothing that it did not write, unless it is told to."""

import pytest

from hyperinit.errors import ArgumentError
from hyperinit.hub import sources
from hyperinit_training.cli.results import check_artifact, check_zoo
from hyperinit_training.sources.written import write


@pytest.fixture
def out(tmp_path):
    """An artifact that exists."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"networks")
    return path


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_a_foreign_file_is_replaced_only_with_force(out, run):
    with pytest.raises(ArgumentError, match=r"^--out must be a new file, got .*; pass --force to replace it$"):
        check_artifact(out, run, force=False)
    check_artifact(out, run, force=True)


def test_a_finished_command_can_be_repeated_until_its_result_is_altered(tiny, out, run):
    write(tiny, out, run)
    check_artifact(out, run, force=False)
    out.write_bytes(b"other networks")
    with pytest.raises(ArgumentError, match="--out must be a new file"):
        check_artifact(out, run, force=False)


def test_a_folder_of_the_run_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "run.json"):
        with pytest.raises(ArgumentError, match=r"^--run must "):
            check_artifact(tmp_path / "new.safetensors", run, force=False)


def test_an_embedded_source_has_a_name_and_a_title_of_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    with pytest.raises(ArgumentError, match=r"^--out must be lower case letters, digits and hyphens, got My_Nets"):
        check_artifact(tmp_path / "My_Nets.safetensors", tmp_path / "run", force=False)
    with pytest.raises(ArgumentError, match=r"^the title of the recipe must be one line of text, got "):
        check_artifact(tmp_path / "nets.safetensors", tmp_path / "run", force=False, title="two\nlines")
    check_artifact(tmp_path / "nets.safetensors", tmp_path / "run", force=False, title="one line")


def test_foreign_weights_in_the_folder_of_a_zoo_are_replaced_only_with_force(tmp_path):
    check_zoo(tmp_path / "new", force=False)
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    with pytest.raises(ArgumentError, match=r"^--out must be a new folder or one of a zoo, got .*; pass --force"):
        check_zoo(tmp_path, force=False)
    check_zoo(tmp_path, force=True)
    (tmp_path / "zoo.json").write_text("{}")
    check_zoo(tmp_path, force=False)
    with pytest.raises(ArgumentError, match=r"^--out must be a folder, got .*nets.pt, which has the ending of a file$"):
        check_zoo(tmp_path / "nets.pt", force=False)
