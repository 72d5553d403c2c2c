"""Callables by name: what is found, and what each mistake is told."""

import sys

import pytest
from torch import nn

from hyperinit.cli.factories import load_callable, load_factory
from hyperinit.errors import ArgumentError

MINE = """
from torch import nn

class Nets:
    @staticmethod
    def small():
        return nn.Linear(2, 1)

number = 3
def make(): return nn.Linear(3, 1)
def needs(width): return nn.Linear(width, 1)
def broken(): raise RuntimeError("no weights here")
def text(): return "net"
def leaves(): raise SystemExit(3)
"""


@pytest.fixture(autouse=True)
def _mine(tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(MINE)
    (tmp_path / "leaves_of_test.py").write_text("import sys\nsys.exit('usage: train.py')")
    (tmp_path / "raises_of_test.py").write_text("raise OSError('no disk')")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mine_of_test", None)


@pytest.mark.parametrize(("name", "width"), [("mine_of_test:make", 3), ("mine_of_test:Nets.small", 2)])
def test_modules_of_the_working_folder_are_found_and_the_path_is_left_as_it_was(name, width):
    before = list(sys.path)
    assert load_factory(name)().in_features == width
    assert sys.path == before


def test_what_the_users_code_prints_does_not_mix_with_the_answer(tmp_path, capsys):
    (tmp_path / "prints_of_test.py").write_text(
        "from torch import nn\nprint('imported')\ndef make(): print('made'); return nn.Linear(1, 1)\n"
    )
    load_factory("prints_of_test:make")()
    assert capsys.readouterr() == ("", "imported\nmade\n")


def test_a_new_network_each_time():
    make = load_factory("hyperinit.nets:cnn")
    assert isinstance(make(), nn.Module)
    assert make() is not make()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make", r"^a callable must be given as MODULE:NAME.*got 'make'$"),
        (":make", r"must be given as MODULE:NAME"),
        ("mine_of_test:", r"must be given as MODULE:NAME"),
        ("nowhere_at_all:make", r"^nowhere_at_all must be importable, got ModuleNotFoundError: No module named"),
        ("raises_of_test:make", r"^raises_of_test must be importable, got OSError: no disk$"),
        ("leaves_of_test:make", r"^leaves_of_test must be importable, got SystemExit: usage: train.py$"),
        ("mine_of_test:mak", r"^mine_of_test must have the attribute mak, got no mak; did you mean 'make'\?$"),
        ("mine_of_test:Nets.large", r"^mine_of_test must have the attribute Nets.large, got no large"),
        ("mine_of_test:number", r"^mine_of_test:number must be callable, got a int$"),
    ],
)
def test_a_name_that_cannot_be_used_is_explained(name, message):
    before = list(sys.path)
    with pytest.raises(ArgumentError, match=message):
        load_callable(name)
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("needs", r"needs must return a network when called without arguments, got TypeError: .*width"),
        ("leaves", r"leaves must return a network .*, got SystemExit: 3$"),
        ("broken", r"broken must return a network .*, got RuntimeError: no weights here$"),
        ("text", r"text must return a torch.nn.Module, got a str$"),
    ],
)
def test_a_factory_that_makes_no_network_is_explained(name, message):
    make = load_factory(f"mine_of_test:{name}")
    with pytest.raises(ArgumentError, match=message):
        make()
