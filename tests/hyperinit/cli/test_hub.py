"""`hyperinit pull`, `hyperinit cache` and `hyperinit registry build`, from a folder to another machine's cache."""

import json
import shutil
from hashlib import sha256

import pytest

import hyperinit
from hyperinit.cli import program
from hyperinit.hub import index as hub_index


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_index, "_recent", {})
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYPERINIT_REGISTRY", raising=False)
    return tmp_path / "home"


@pytest.fixture
def zoo(artifact, tmp_path, capsys):
    """A folder with two artifacts and an index of them."""
    (tmp_path / "zoo").mkdir()
    for name in ("one", "two-v2"):
        shutil.copy(artifact, tmp_path / "zoo" / f"{name}.safetensors")
    assert program.main(["registry", "build", str(tmp_path / "zoo")]) == 0
    assert capsys.readouterr().out.endswith(
        f"two-v2  an untrained source for tests\n2 sources in {tmp_path}/zoo/index.json\n"
    )
    return tmp_path / "zoo"


def output(capsys, *argv):
    code = program.main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def test_an_index_lists_file_digest_size_title_and_card(zoo, tiny):
    index = json.loads((zoo / "index.json").read_text())
    raw = (zoo / "one.safetensors").read_bytes()
    assert list(index) == ["one", "two-v2"]
    card = index["one"].pop("card")
    assert index["one"] == {
        "file": "one.safetensors",
        "sha256": sha256(raw).hexdigest(),
        "size": len(raw),
        "title": "an untrained source for tests",
        "mirrors": ["one.safetensors"],
    }
    assert card["recommended"] == tiny.card.recommended
    assert sorted(path.name for path in zoo.iterdir()) == ["index.json", "one.safetensors", "two-v2.safetensors"]


def test_a_served_folder_is_a_registry(server, zoo, home, monkeypatch, capsys):
    server.files = {f"/{path.name}": path.read_bytes() for path in zoo.iterdir()}
    monkeypatch.setenv("HYPERINIT_REGISTRY", f"{server.url}/index.json")
    assert "two-v2" in output(capsys, "sources")[1]
    code, out, _ = output(capsys, "pull", "two-v2")
    path, title, facts = out.splitlines()
    assert (code, title) == (0, "an untrained source for tests")
    digest = sha256((zoo / "two-v2.safetensors").read_bytes()).hexdigest()
    assert path == str(home / f"{digest[:16]}-two-v2.safetensors")
    assert facts.endswith(f"bytes, SHA-256 {digest}")
    server.seen.clear()
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    assert hyperinit.load("two-v2").sample(2, method="kde30").shape == (2, 2464)
    assert not server.seen


def test_artifacts_may_lie_elsewhere(server, zoo, home, monkeypatch, capsys):
    server.files = {f"/files/{path.name}": path.read_bytes() for path in zoo.glob("*.safetensors")}
    output(capsys, "registry", "build", str(zoo), "--base-url", f"{server.url}/files")
    (zoo / "one.safetensors").unlink()
    monkeypatch.setenv("HYPERINIT_REGISTRY", str(zoo))
    assert output(capsys, "pull", "one")[0] == 0


def test_out_is_a_copy_of_the_file(embedded, home, tmp_path, capsys):
    out = tmp_path / "new" / "mine.safetensors"
    code, text, _ = output(capsys, "pull", "tiny", "--out", str(out))
    assert (code, text.splitlines()[0]) == (0, str(out))
    assert out.read_bytes() == (embedded / "tiny.safetensors").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["mine.safetensors"]
    assert not home.exists()
    code, _, err = output(capsys, "pull", "tiny", "--out", str(out / "under a file.safetensors"))
    assert (code, err[:40]) == (1, "hyperinit: --out must lie in a folder th")


def test_a_file_that_exists_is_replaced_only_with_force(embedded, home, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    out.write_text("mine")
    code, _, err = output(capsys, "pull", "tiny", "--out", str(out))
    assert (code, out.read_text()) == (1, "mine")
    assert "--out must be a new file" in err
    assert output(capsys, "pull", "tiny", "--out", str(out), "--force")[0] == 0
    assert out.read_bytes() == (embedded / "tiny.safetensors").read_bytes()


def test_an_output_that_cannot_be_written_is_refused_before_the_download(server, home, tmp_path, capsys):
    source = f"{server.url}/a#sha256={sha256(server.body).hexdigest()}"
    code, _, err = output(capsys, "pull", source, "--out", str(tmp_path / "a.pt"))
    assert (code, err[:37]) == (1, "hyperinit: --out must end in .safeten")
    assert not server.seen


def test_what_is_pulled_must_be_a_hyper_representation(server, home, capsys):
    source = f"{server.url}/a#sha256={sha256(server.body).hexdigest()}"
    code, out, err = output(capsys, "pull", source)
    assert (code, out) == (1, "")
    assert "must be a whole hyper-representation file" in err


def test_the_cache_is_listed_and_emptied(home, capsys):
    assert output(capsys, "cache", "path")[1] == f"{home}\n"
    assert output(capsys, "cache", "list")[1] == f"0 files in {home}\n"
    home.mkdir()
    (home / "0123456789abcdef-a.safetensors").write_bytes(bytes(2000))
    (home / "mine").write_text("x")
    listed = f"        2,000  0123456789abcdef-a.safetensors\n1 file in {home}\n"
    assert output(capsys, "cache", "list")[1] == listed
    assert output(capsys, "cache", "clear")[1] == f"1 file deleted from {home}\n"
    assert [path.name for path in home.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "argv", [("pull", "tiny"), ("cache", "list"), ("cache", "clear"), ("cache", "path"), ("registry", "build", "zoo")]
)
def test_every_answer_is_text_and_plain_data(embedded, home, artifact, monkeypatch, argv):
    (artifact.parent / "zoo").mkdir()
    shutil.copy(artifact, artifact.parent / "zoo")
    monkeypatch.chdir(artifact.parent)
    arguments = program._parser().parse_args(argv)
    text, data = arguments.run(arguments)
    assert isinstance(text, str)
    assert isinstance(json.loads(json.dumps(data)), dict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda zoo: (zoo / "one.safetensors").write_bytes(b"x"), r"one.safetensors must be a whole hyper-repr"),
        (lambda zoo: (zoo / "one.safetensors").rename(zoo / "No Name.safetensors"), r"'No Name': a name must be lower"),
        (lambda zoo: [path.unlink() for path in zoo.glob("*.safetensors")], r"with .safetensors artifacts, got none"),
    ],
)
def test_a_folder_that_cannot_be_listed_keeps_its_index(zoo, capsys, change, message):
    before = (zoo / "index.json").read_bytes()
    change(zoo)
    code, _, err = output(capsys, "registry", "build", str(zoo))
    assert code == 1
    assert message.replace(r"\.", ".") in err
    assert (zoo / "index.json").read_bytes() == before


@pytest.mark.parametrize("url", ["files/", "ftp://a.org/", "https://a.org/#x"])
def test_other_base_addresses_are_refused(zoo, capsys, url):
    assert output(capsys, "registry", "build", str(zoo), "--base-url", url)[0] == 1


@pytest.mark.parametrize("argv", [("pull",), ("cache",), ("cache", "delete"), ("registry",), ("registry", "build")])
def test_wrong_usage_ends_with_two(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(list(argv))
    assert caught.value.code == 2
