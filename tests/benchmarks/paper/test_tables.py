"""The paper's tables: its numbers as data, what is claimed of the results, and every script once at smoke scale."""

import json

import pytest
import torch

from benchmarks.__main__ import COMMANDS, module_of
from benchmarks.paper.pieces import pieces
from benchmarks.record import save, summary
from benchmarks.report import claims, document, published
from benchmarks.report.claims.judging import Results, better, mann_whitney, near_chance
from benchmarks.scales import SCALES
from hyperinit_training.recipes.load import load_recipe


def population(mean, spread=0.01, count=20):
    return summary([mean + spread * (place - (count - 1) / 2) / count for place in range(count)])


def table1(folder, scale, **means):
    rows = {name.replace("_", " "): {"0": population(mean), "1": population(mean)} for name, mean in means.items()}
    config = {"table": "table1", "key": "svhn", "scale": scale, "epochs": [1, 25, 50]}
    save(f"table1-svhn-{scale}", "python", config, {"rows": rows}, 0.0, folder)


# The paper's numbers


def test_numbers_of_the_paper_that_are_quoted_in_its_text():
    cells = {(c.table, c.key, c.row, c.epoch): (c.mean, c.std) for c in published.cells()}
    assert len(cells) == 9 * 4 + 15 * 2
    assert cells["table1", "svhn", "S_KDE30", 0] == (51.5, 5.9)
    assert [cells["table1", key, "B_KDE30", 25][0] for key in published.IMAGES] == [93.2, 75.4, 48.1, 38.4]
    assert cells["table2", "svhn-mnist", "S_GAN30", 1] == (75.0, 6.3)
    assert cells["table2", "stl10-cifar10", "B_F", 50] == (49.2, 0.7)
    effects = {(e.key, e.row, e.baseline): (e.p, e.cles) for e in published.effects()}
    assert effects["svhn-mnist", "S_GAN", "B_F"] == (1.5e-07, 0.2517)
    assert effects["stl10", "S_KDE30", "B_T"] == (1.2e-06, 0.2948)
    assert published.medians()["stl10-cifar10", "S_Neigh"] == (10.0, None, None)


def test_medians_agree_with_the_means_of_the_same_populations():
    """Tables 1 and 10 describe the same networks, so a slip of a row or a column would show."""
    medians = published.medians()
    for cell in published.cells():
        key = cell.key, cell.row
        end = (50,) if cell.row == "B_T" or cell.table == "table2" else (25,)
        if key in medians and cell.epoch in end:
            assert abs(medians[key][0] - cell.mean) < 2 * cell.std


def test_the_paper_scale_is_the_papers():
    recipe = SCALES["paper"].recipe("svhn")
    assert (recipe.zoo.models, recipe.zoo.epochs) == (1000, 25)
    assert recipe.zoo.snapshots == (5, 21, 22, 23, 24, 25)  # Figure 3 needs the first
    assert (recipe.autoencoder.width, recipe.autoencoder.latent, recipe.autoencoder.beta) == (1680, 1000, 0.92)
    assert recipe.zoo.init == load_recipe("svhn-paper").zoo.init == "uniform"


@pytest.mark.parametrize("scale", SCALES)
def test_the_baseline_differs_in_the_loss_only(scale):
    lwln, plain = (vars(SCALES[scale].recipe("mnist", variant).autoencoder) for variant in ("lwln", "plain"))
    assert {key for key in lwln if lwln[key] != plain[key]} == {"lwln"}


# Verdicts


def test_mann_whitney_effect_is_the_share_of_pairs_won():
    first, second = torch.rand(2, 30, generator=torch.Generator().manual_seed(0)).tolist()
    won = sum((a > b) + (a == b) / 2 for a in first for b in second) / 900
    assert mann_whitney(first, second)[1] == pytest.approx(won)


@pytest.mark.parametrize(("high", "low", "holds"), [(0.7, 0.5, True), (0.5, 0.7, False), (0.5, 0.5, None)])
def test_a_comparison_holds_fails_or_is_unclear(high, low, holds):
    assert better("", "", population(high), population(low)).holds is holds


def test_what_is_missing_is_not_measured_and_not_failed():
    assert better("", "", population(0.7), None).verdict == "not measured"
    assert near_chance("", "", None).verdict == "not measured"


@pytest.mark.parametrize(("mean", "holds"), [(0.12, True), (0.3, False)])
def test_near_chance(mean, holds):
    assert near_chance("", "", population(mean)).holds is holds


def test_larger_scales_count(tmp_path):
    table1(tmp_path, "small", kde30=0.5)
    table1(tmp_path, "paper", kde30=0.6)
    table1(tmp_path, "smoke", kde30=0.1)
    assert Results(tmp_path).row("table1", "svhn", "kde30", 0)["mean"] == pytest.approx(0.6)


def test_report_states_failed_claims_first(tmp_path):
    table1(tmp_path, "small", kde30=0.515, kde30_without_LWLN=0.7, uniform=0.1)
    text = "\n\n".join(document.sections(Results(tmp_path), tmp_path / "figures"))
    first = text.index("## What does not survive")
    assert first < text.index("S_KDE30 is better than without LWLN") < text.index("## All claims")
    lost = text[first : text.index("## All claims")]
    assert "uniform is near chance" not in lost
    assert "| S_KDE30 (kde30) | 0 | 51.5 ± 5.9 | 51.5 ± 0.3 | yes |" in text
    assert "| B_KDE30 (kde30 without LWLN) | 0 | 10.1 ± 3.2 | 70.0 ± 0.3 | **no** |" in text
    assert (tmp_path / "figures" / "table1-svhn.png").stat().st_size < 60_000


def test_report_of_nothing_claims_nothing(tmp_path):
    assert all(claim.holds == "" for claim in claims.claims(Results(tmp_path)))
    assert "0 claims hold, 0 fail, 0 are unclear" in "\n".join(document.sections(Results(tmp_path), tmp_path))


@pytest.mark.parametrize(("overlap", "holds"), [(0.3, True), (0.7, False), (0.5, None)])
def test_novelty_is_judged_at_the_accuracy_of_the_method(tmp_path, overlap, holds):
    """Noise of accuracies 0.6 and 0.8 has overlaps 0.4 and 0.6: at 0.7 a method must have less than 0.5."""
    rows = {
        name: {"accuracy": population(accuracy), "overlap": population(likeness)}
        for name, accuracy, likeness in (("kde30", 0.7, overlap), ("0.1", 0.8, 0.6), ("0.5", 0.6, 0.4))
    }
    found = {"methods": {"kde30": rows.pop("kde30")}, "noise": rows, "recommended": "kde30"}
    config = {"table": "novelty", "key": "digits", "scale": "small"}
    save("novelty-digits", "python", config, found, 0.0, tmp_path)
    (claim,) = [claim for claim in claims.claims(Results(tmp_path)) if "plus noise" in claim.text]
    assert claim.holds is holds


# Every script


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


def test_the_pieces_are_all_scripts_and_none_is_unknown():
    named = {piece.split()[0] for piece in pieces()}
    assert named == SCRIPTS.keys()
    assert len(set(pieces())) == len(list(pieces()))


def test_the_pieces_are_printed_as_commands(capsys):
    module_of("pieces").main(["--scale", "paper", "--data", "DATA"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "python -m benchmarks prepare --images mnist --part zoo --scale paper --data DATA"
    assert lines[-1] == "python -m benchmarks report"


def test_networks_that_stay_at_the_most_frequent_class_have_not_learnt(tmp_path):
    for key, mean in (("mnist", 0.8), ("svhn", 0.2)):
        config = {"table": "uniform-start", "key": key, "scale": "small", "epochs": 180, "steps of an epoch": 819}
        save(f"uniform-start-{key}", "python", config, {"rows": {"uniform": {"180": population(mean)}}}, 0.0, tmp_path)
    found = {claim.where: claim for claim in claims.claims(Results(tmp_path)) if "U(0, 1)" in claim.text}
    assert {where: claim.holds for where, claim in found.items()} == {"Table 7, mnist": True, "Table 7, svhn": False}
    assert "within 147,420 steps" in found["Table 7, svhn"].text


def test_every_table_runs_at_smoke_scale_and_is_reported(tmp_path, monkeypatch):
    """Some two minutes on two idle cores, a fourth of it for numba's compiler."""
    monkeypatch.setattr("hyperinit.samplers.gan.EPOCHS", 10)  # instead of 1,000
    assert SCRIPTS.keys() <= COMMANDS.keys()
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
