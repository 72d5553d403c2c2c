"""The program in docs/averaging.md runs unchanged."""

import re
import subprocess
import sys
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "averaging.md").read_text(encoding="utf-8")


def test_the_program_runs_and_alignment_helps(tmp_path):
    [program] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    plain, aligned = (float(drop) for drop in re.findall(r"a drop of (-?[\d.e-]+)", done.stdout))
    assert plain > 0.05 > aligned
