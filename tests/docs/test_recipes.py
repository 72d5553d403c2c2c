"""Each program in docs/recipes.md runs unchanged, if its packages are installed."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))
NEEDS = {"Plain PyTorch": [], "Lightning": ["lightning"], "Trainer of transformers": ["transformers", "accelerate"],
         "timm": ["timm"], "torch.hub": []}  # fmt: skip


def test_no_recipe_is_missing_from_this_file():
    assert list(PROGRAMS) == list(NEEDS)


@pytest.mark.parametrize("title", NEEDS)
def test_a_recipe_runs(title, tmp_path):
    for name in NEEDS[title]:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install {name}")
    compile(PROGRAMS[title], title, "exec", flags=ast.PyCF_ONLY_AST)
    command = [sys.executable, "-c", PROGRAMS[title]]
    folder = ROOT if title == "torch.hub" else tmp_path
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
