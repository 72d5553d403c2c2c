"""Figures of slow tests, for docs/reliability.md: HYPERINIT_RELIABILITY=FILE merges them into that JSON file."""

import json
import os
import platform
from datetime import date
from pathlib import Path

import torch


def record(*place, **found):
    """Write what was found under the keys of `place`, beside what the file holds, with the date and the versions."""
    target = os.environ.get("HYPERINIT_RELIABILITY")
    if not target:
        return
    path = Path(target)
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    data |= {"python": platform.python_version(), "torch": torch.__version__, "system": platform.system()}
    inside = data
    for key in place:
        inside = inside.setdefault(key, {})
    inside.clear()
    inside |= found
    data.setdefault("dates", {})["/".join(place)] = date.today().isoformat()
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
