"""A run knows the artifacts that it wrote, whenever it was killed."""

from dataclasses import replace

import pytest

from hyperinit.representation import HyperRepresentation
from hyperinit_training.sources import written


def other(tiny):
    """Make a source whose file has other bytes."""
    return tiny.with_header(replace(tiny.header, card=replace(tiny.card, title="another")))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "mine.safetensors"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_what_was_written_is_recognised_until_it_is_altered(tiny, out, run):
    assert not written.wrote(out, run)
    written.write(tiny, out, run)
    assert HyperRepresentation.read(out).card == tiny.card
    assert written.wrote(out, run)
    assert [path.name for path in run.iterdir()] == [written.RECORD]
    tiny.save(out)  # the same bytes
    assert written.wrote(out, run)
    out.write_bytes(out.read_bytes()[:-1] + b"\x01")
    assert not written.wrote(out, run)
    assert not written.wrote(out, run / "another")


def test_a_kill_before_the_artifact_is_replaced_leaves_one_that_is_recognised(tiny, out, run, monkeypatch):
    written.write(tiny, out, run)
    before, saves, save = out.read_bytes(), [], HyperRepresentation.save

    def dies(self, path):
        saves.append(path)
        if len(saves) == 2:
            raise KeyboardInterrupt
        save(self, path)

    monkeypatch.setattr(HyperRepresentation, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        written.write(other(tiny), out, run)
    assert out.read_bytes() == before
    assert written.wrote(out, run)
    monkeypatch.undo()
    written.write(other(tiny), out, run)
    assert out.read_bytes() != before
    assert written.wrote(out, run)


@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", '{"digest": 3}'])
def test_a_damaged_record_permits_nothing(tiny, out, run, text):
    tiny.save(out)
    (run / written.RECORD).write_text(text)
    assert not written.wrote(out, run)
