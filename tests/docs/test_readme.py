"""The README and the guides: their Python runs as it stands, and what they say about files and sources is true."""

import re
from pathlib import Path

import pytest
from torch import nn

import hyperinit
from hyperinit.samplers import METHODS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = ["README.md", "docs/sources.md"]
BLOCKS = [
    pytest.param(block, id=f"{name}-{place}")
    for name in GUIDES
    for place, block in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    )
]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "training/README.md"]
PAGES += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]


def wide():
    return nn.Sequential(
        nn.Conv2d(3, 16, 5), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(16, 12, 5), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(12, 8, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(72, 40), nn.Tanh(), nn.Linear(40, 100),
    )  # fmt: skip


@pytest.fixture
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Blocks may write files and register samplers."""
    monkeypatch.chdir(tmp_path)
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.usefixtures("_in_a_folder_of_its_own")
@pytest.mark.parametrize("block", [block for block in BLOCKS if ">>>" not in block.values[0]])
def test_a_block_runs_as_it_stands(block):
    exec(block, {})


def test_the_plan_is_the_one_that_is_printed():
    [block] = [block.values[0] for block in BLOCKS if ">>>" in block.values[0]]
    shown = block.split("\n", 1)[1].strip()
    assert shown == str(hyperinit.plan(wide(), "mnist")).strip()


def test_the_readme_is_short():
    assert README.count("\n") <= 200


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= set(targets)


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_exist(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


def rooms(package):
    """Names of the folders in a package that hold files of their own."""
    return {path.parent.name for path in (ROOT / package).glob("[!_]*/*") if path.is_file()}


def test_the_tree_is_the_tree():
    """The names in the tree, in the first 32 columns, are those of the rooms and no other."""
    [tree] = re.findall(r"## The tree\n\n```text\n(.*?)```", README, re.DOTALL)
    hyperinit_part, training_part, benchmarks_part, _ = re.split(
        r"^training/.*\n|^benchmarks/ +|^docs/", tree, flags=re.MULTILINE
    )
    for package, part in (("hyperinit", hyperinit_part), ("training/hyperinit_training", training_part)):
        named = [name for line in part.splitlines() if line.startswith("  ") for name in line[:32].split()]
        assert sorted(named) == sorted(rooms(package))
    assert sorted(benchmarks_part.split()) == sorted(rooms("benchmarks"))


def test_the_table_of_sources_names_their_networks_and_accuracies():
    rows = [
        [cell.strip() for cell in row.strip("|\n").split("|")] for row in re.findall(r"^\| `.*", README, re.MULTILINE)
    ]
    rows = {row[0].split("`")[1]: row[1:] for row in rows if "x28x28" in row[1]}
    assert rows.keys() == dict(hyperinit.sources()).keys()
    for name, (shape, activation, weights, accuracy, *_) in rows.items():
        hr = hyperinit.load(name)
        kinds = {type(layer).__name__.lower() for layer in hr.build_model(hr.sample(1)[0])}
        size = hr.card.preprocessing["size"]
        assert shape == f"{hr.card.preprocessing['channels']}x{size}x{size}"
        assert kinds == {"conv2d", "maxpool2d", "flatten", "linear", activation}
        assert weights == f"{hr.layout.size:,}"
        measured = hr.card.measured[hr.card.recommended]["accuracy"]
        assert abs(float(accuracy.removesuffix(" %")) / 100 - measured) < 0.005  # drawn anew: within half a point
