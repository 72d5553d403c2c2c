"""Latency: what a result file holds. No time is judged."""

import json

from benchmarks.__main__ import module_of


def test_latency_has_fresh_and_warm_calls(tmp_path):
    module_of("latency").main(["--source", "digits", "--runs", "2", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "latency.json").read_text())
    assert record["command"] == "python -m benchmarks latency --source digits"
    assert {name: row["n"] for name, row in record["results"].items()} == {
        "import hyperinit after torch": 2,
        "init_, first of a process": 2,
        "init_, warm": 180,  # of 200, without those that fill caches
        "ensemble(n=15), warm": 27,
    }
    assert all(row["median"] <= row["worst"] for row in record["results"].values())
