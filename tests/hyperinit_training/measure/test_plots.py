"""Pictures of a run: they are made, and of the right numbers."""

import json

from hyperinit_training.measure import plots
from hyperinit_training.measure.usability import Usability

ROW = {"score": 0.9, "std": 0.01, "distance": 1.0, "n": 20}


def run(folder, *, scored=True, held=True):
    records = [
        {"step": step, "reconstruction": 1 / step, "train_r2": 0.5, **({"val_r2": 0.4} if held else {})}
        for step in (50, 100)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    row = ROW if scored else {"distance": 1.0, "n": 20}
    return Usability(
        {"zoo": row, "kde": row}, 0.4 if held else None, {"0": 0.5, "3": -7.0} if held else {}, "kde", True, ()
    )


def test_three_pictures_are_made(tmp_path):
    made = plots.draw(tmp_path, run(tmp_path))
    assert [path.name for path in made] == ["losses.png", "reconstruction.png", "scores.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    assert not list(tmp_path.glob("*.part"))


def test_what_is_not_known_is_not_drawn(tmp_path):
    made = plots.draw(tmp_path, run(tmp_path, scored=False, held=False))
    assert [path.name for path in made] == ["losses.png"]


def test_lines_and_bars_are_the_numbers(tmp_path):
    found = run(tmp_path)
    axes = plots._losses([json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]).axes[0]
    assert [line.get_label() for line in axes.lines] == [
        "reconstruction loss",
        "R2, training networks",
        "R2, held-out networks",
    ]
    assert axes.lines[0].get_ydata().tolist() == [0.02, 0.01]
    assert axes.get_xlabel() == "gradient step"
    bars = plots._reconstruction(found).axes[0].patches
    assert [bar.get_width() for bar in bars] == [-1.0, 0.5]
    assert plots._scores(found).axes[0].get_xlabel() == "score, mean and spread"
