"""The rules of the code base that a program can check. CONTRIBUTING.md says them in words."""

import ast
import graphlib
import importlib.util
import inspect
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hyperinit import errors

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "hyperinit": ROOT / "hyperinit",
    "hyperinit_training": ROOT / "training" / "hyperinit_training",
    "benchmarks": ROOT / "benchmarks",
}
MAY_IMPORT = {  # package -> packages of ours that it may import
    "hyperinit": {"hyperinit"},
    "hyperinit_training": {"hyperinit", "hyperinit_training"},
    "benchmarks": {"hyperinit", "hyperinit_training", "benchmarks"},
}
ROOMS = {  # package -> its rooms in order; each may import those before it, and no other
    package: order.split()
    for package, order in {
        "hyperinit": "errors generators files nets layout modules autoencoder samplers fitting representation "
        "checkpoints batches hub ensembles request api __init__ cli __main__",
        "hyperinit_training": "machine images recipes symmetry zoo train_zoo train_autoencoder checkpoints measure "
        "sources __init__ cli __main__",
        "benchmarks": "__init__ record report speed scales populations experiment paper sources __main__",
    }.items()
}
LIGHT = {"hyperinit", "torch", "numpy", "safetensors", *sys.stdlib_module_names}  # may be imported at module level
HEAVY = {"sklearn", "scipy", "umap", "numba", "requests", "matplotlib", "tqdm", "pandas", "hyperinit_training"}
TESTS = {name: ROOT / "tests" / name for name in ("hyperinit", "hyperinit_training")}
MOST_BYTES, MOST_LINES = 20_000, 400


def files(*packages):
    return [path for package in packages for path in sorted(FOLDERS[package].rglob("*.py"))]


PACKAGE_FILES = files("hyperinit", "hyperinit_training")
ALL_FILES = [*PACKAGE_FILES, *files("benchmarks"), *sorted((ROOT / "tests").rglob("*.py"))]


def each(paths):
    return pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths])


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree, package):
    """Absolute dotted names that a module imports, wherever it does so; `package` is the one it lies in."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return names


def package_of(path):
    package = next(name for name, folder in FOLDERS.items() if path.is_relative_to(folder))
    return ".".join([package, *path.relative_to(FOLDERS[package]).parent.parts])


def without_functions(tree):
    """Copy a module without the bodies of functions and of `if TYPE_CHECKING`: what runs at import."""

    class Prune(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Prune().visit(tree)


def calls(tree):
    """Yield each call as its absolute dotted name and node: `np.load(x)` is `numpy.load`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, tail = ast.unparse(node.func).partition(".")
            yield names.get(head, head) + dot + tail, node


def keyword(call, name):
    return next((word.value.value for word in call.keywords if word.arg == name and hasattr(word.value, "value")), None)


def unsafe_reads(tree):
    """Calls that would run code from a file: unpickling, and torch.load or numpy.load when they may unpickle."""
    unpickle = {f"{module}.{name}" for module in ("pickle", "cloudpickle", "dill") for name in ("load", "loads")}
    return [
        name
        for name, call in calls(tree)
        if name in unpickle | {"joblib.load"}
        or (name == "torch.load" and keyword(call, "weights_only") is not True)
        or (name == "numpy.load" and keyword(call, "allow_pickle") not in (None, False))
    ]


def global_seeds(tree):
    """Calls that seed a generator shared by the whole process."""
    seeds = {"torch.manual_seed", "torch.seed", "torch.random.manual_seed", "numpy.random.seed", "random.seed"}
    return [name for name, _ in calls(tree) if name in seeds or name.startswith("torch.cuda.manual_seed")]


def room_of(name):
    """Room that a dotted name lies in: `hyperinit.layout.Layout` -> "layout", `hyperinit.init_` -> "__init__"."""
    package, room, *_ = [*name.split("."), ""]
    folder = FOLDERS[package]
    return room if room and ((folder / room).is_dir() or (folder / f"{room}.py").is_file()) else "__init__"


def module_names(path):
    """Dotted names of the modules that a file imports, of its own package."""
    package = package_of(path).split(".")[0]
    return {name for name in imported(parse(path), package_of(path)) if name.split(".")[0] == package}


def graph_of(package, part):
    """Each part of a package with those that it imports; `part` names the part that a dotted name lies in."""
    graph = {}
    for path in files(package):
        own = part(".".join([package_of(path), path.stem]))
        graph.setdefault(own, set()).update(part(name) for name in module_names(path))
    return {own: parts - {own} for own, parts in graph.items()}


def file_of(name):
    """Dotted name of the file that a dotted name lies in, for graphs of files and not of rooms."""
    package, *parts = name.split(".")
    while parts and not FOLDERS[package].joinpath(*parts).with_suffix(".py").is_file():
        if FOLDERS[package].joinpath(*parts).is_dir():
            return ".".join([package, *parts, "__init__"])
        parts.pop()
    return ".".join([package, *parts]) if parts else f"{package}.__init__"


# Imports


@each(files(*FOLDERS))
def test_imports_point_downwards(path):
    package = package_of(path)
    heads = {name.split(".")[0] for name in imported(parse(path), package)}
    forbidden = (heads & {*MAY_IMPORT, "tests"}) - MAY_IMPORT[package.split(".")[0]]
    assert not forbidden, f"{path} must not import {forbidden}"


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_keep_their_order(package):
    order, graph = ROOMS[package], graph_of(package, room_of)
    assert graph.keys() == {*order}, "each room, and no other, has a place in ROOMS"
    rank = {room: place for place, room in enumerate(order)}
    wrong = [f"{room} -> {part}" for room, parts in graph.items() for part in parts if rank[part] >= rank[room]]
    assert not wrong, f"a room must import only rooms before it: {wrong}"


@pytest.mark.parametrize("package", ROOMS)
@pytest.mark.parametrize("part", [room_of, file_of])
def test_no_circular_imports(package, part):
    graphlib.TopologicalSorter(graph_of(package, part)).prepare()  # raises CycleError


@each(files("hyperinit"))
def test_hyperinit_loads_only_light_packages_at_import(path):
    heads = {name.split(".")[0] for name in imported(without_functions(parse(path)), package_of(path))}
    assert heads <= LIGHT, f"import {heads - LIGHT} inside the functions that need them"


def test_importing_hyperinit_loads_nothing_heavy():
    """What torch itself loads (tqdm, in some versions) is not ours."""
    code = "import sys, torch; before = set(sys.modules); import hyperinit; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "hyperinit" in done.stdout.split()
    assert not HEAVY & set(done.stdout.split())


# Files, words, errors


@each(PACKAGE_FILES)
def test_public_objects_have_docstrings(path):
    missing = []

    def look(node, name):
        if not ast.get_docstring(node):
            missing.append(name)
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                if isinstance(child, ast.ClassDef):
                    look(child, f"{name}.{child.name}")
                elif not ast.get_docstring(child):
                    missing.append(f"{name}.{child.name}")

    look(parse(path), path.stem)
    assert not missing


def test_every_error_is_ours_and_a_built_in_one():
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    assert all(issubclass(value, errors.HyperinitError) for value in classes)
    alone = [value for value in classes if len(value.__mro__) == len(errors.HyperinitError.__mro__) + 1]
    assert not alone, f"{alone} must also derive from a built-in error that a caller would expect"


@each([path for path in PACKAGE_FILES if path != ROOT / "hyperinit" / "errors.py"])
def test_errors_are_defined_in_one_place(path):
    endings = ("Error", "Exception", "Warning")
    nodes = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)]
    found = [node.name for node in nodes if any(ast.unparse(base).endswith(endings) for base in node.bases)]
    assert not found, f"move {found} to hyperinit/errors.py"


@pytest.mark.parametrize("package", TESTS)
def test_every_module_has_a_test_file(package):
    """`room/file.py` has `room/test_file.py`, or several `room/test_file_*.py`."""
    modules = {path.relative_to(FOLDERS[package]).with_suffix("") for path in files(package)}
    missing = [
        str(module)
        for module in sorted(modules)
        if module.name not in ("__init__", "__main__")
        and not [*(TESTS[package] / module.parent).glob(f"test_{module.name}.py")]
        and not [*(TESTS[package] / module.parent).glob(f"test_{module.name}_*.py")]
    ]
    assert not missing


@pytest.mark.parametrize("package", TESTS)
def test_every_test_file_has_a_module(package):
    """Tests mirror the rooms: a file of tests that belongs to no module lies outside of them."""
    stray = []
    for path in TESTS[package].rglob("test_*.py"):
        room, stem = path.parent.relative_to(TESTS[package]), path.stem.removeprefix("test_")
        names = {module.stem for module in (FOLDERS[package] / room).glob("*.py")}
        if not any(stem == name or stem.startswith(f"{name}_") for name in names):
            stray.append(str(path.relative_to(ROOT)))
    assert not stray


@each(ALL_FILES)
def test_files_are_small(path):
    raw = path.read_bytes()
    assert len(raw) <= MOST_BYTES
    if path in PACKAGE_FILES:
        assert raw.count(b"\n") <= MOST_LINES, "split a file that holds two ideas"


# What the packages never do


@each(PACKAGE_FILES)
def test_nothing_is_unpickled(path):
    assert not unsafe_reads(parse(path))


@each(PACKAGE_FILES)
def test_nothing_seeds_globally(path):
    assert not global_seeds(parse(path))


# The checks above find what they look for


def test_imports_are_found_wherever_they_are():
    source = """
import torch.nn as nn
from hyperinit.layout import Layout
from . import zoo
from ..a import b
def f():
    import sklearn.neighbors
    importlib.import_module("umap")
if TYPE_CHECKING:
    import scipy
"""
    everywhere = {"torch.nn", "hyperinit.layout.Layout", "p.q.zoo", "p.a.b", "sklearn.neighbors", "umap", "scipy"}
    assert imported(ast.parse(source), "p.q") == everywhere
    assert imported(without_functions(ast.parse(source)), "p.q") == everywhere - {"sklearn.neighbors", "umap", "scipy"}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import pickle as p\np.load(file)", 1),
        ("from pickle import loads\nloads(raw)", 1),
        ("import torch\ntorch.load(path)", 1),
        ("import torch\ntorch.load(path, weights_only=False)", 1),
        ("import torch\ntorch.load(path, weights_only=flag)", 1),
        ("import torch\ntorch.load(path, weights_only=True)", 0),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", 1),
        ("import numpy as np\nnp.load(path, allow_pickle=False)", 0),
        ("import json\njson.load(file)", 0),
    ],
)
def test_unsafe_reads_are_found(source, count):
    assert len(unsafe_reads(ast.parse(source))) == count


def test_global_seeds_are_found_but_not_those_of_a_generator():
    source = '''
"""
>>> torch.manual_seed(0)
"""
import numpy as np, random
from torch import manual_seed as seed
seed(0)
np.random.seed(0)
random.seed(0)
torch.cuda.manual_seed_all(0)
torch.Generator().manual_seed(0)
generator.manual_seed(0)
'''
    found = Counter(global_seeds(ast.parse(source)))
    assert found == Counter(["torch.manual_seed", "numpy.random.seed", "random.seed", "torch.cuda.manual_seed_all"])


def test_the_first_init_does_not_import_torchs_compiler():
    """It takes longer than all the rest; arithmetic and normal draws on the meta device would import it."""
    code = (
        "import sys, hyperinit; hyperinit.init_(hyperinit.nets.cnn(), 'digits'); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
