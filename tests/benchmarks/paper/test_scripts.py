"""Every script of the paper's tables and figures, once at smoke scale, and the report of their results."""

import json

from benchmarks.__main__ import module_of
from benchmarks.paper.pieces import pieces
from benchmarks.report import document

SCRIPTS = {
    "prepare": ["--images", "mnist", "--part", "aligned"],
    "table1": ["--images", "mnist", "--all"],
    "table2": ["--source", "svhn", "--target", "mnist"],
    "table3": ["--source", "mnist", "--target", "svhn"],
    "table4": ["--population", "1"],
    "table9": [],
    "figure3": ["--images", "svhn"],
    "figure5": ["--images", "svhn"],
    "figure6": ["--images", "svhn"],
    "figures-weights": ["--images", "svhn"],
    "novelty": ["--source", "digits"],
    "initializer": ["--source", "digits"],
    "initializer-other": ["--source", "digits"],
    "uniform-start": ["--images", "svhn"],
}


def test_every_table_runs_at_smoke_scale_and_is_reported(tmp_path, monkeypatch):
    """Takes 50 seconds on one idle core, about half of them for numba's compiler."""
    monkeypatch.setattr("hyperinit.samplers.gan.EPOCHS", 10)  # instead of 1,000
    assert SCRIPTS.keys() == {piece.split()[0] for piece in pieces()}
    common = ["--scale", "smoke", "--out", str(tmp_path / "out"), "--experiments", str(tmp_path / "experiments")]
    for name, arguments in SCRIPTS.items():
        module_of(name).main([*arguments, *common])
    document.main(["--results", str(tmp_path / "out"), "--out", str(tmp_path / "docs")])
    raw = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.json")}
    assert {json.loads(text)["config"]["table"] for text in raw.values()} == SCRIPTS.keys() - {"prepare"}
    assert {name for name, text in raw.items() if '"values": [' not in text} == {"table9-svhn-smoke.json"}  # R2 only
    text = (tmp_path / "docs" / "results.md").read_text()
    drawn = {path.name: path.stat().st_size for path in (tmp_path / "docs" / "figures").glob("*.png")}
    assert drawn.keys() == {
        "table1-mnist.png", "table1-mnist-epochs.png", "table2-svhn-mnist.png", "figure3-svhn.png", "figure5-svhn.png",
        "figure6-svhn.png", "figure9-svhn.png", "figure11-svhn.png", "novelty-digits.png", "initializer-digits.png",
        "initializer-other-digits.png",
    }  # fmt: skip
    assert max(drawn.values()) < 60_000
    assert all(f"](figures/{name})" in text for name in drawn)
    assert "Tables and figures not measured: Table 1 and Figures 4, 14, 16, 18, 20" in text  # of three data sets
