"""Scripts that measure the embedded sources: each runs once at its smallest size."""

import json

import pytest

from benchmarks.__main__ import module_of

DIGITS = ["--source", "digits", "--seeds", "1"]
LITTLE = {
    "in-dataset": [*DIGITS, "--methods", "local30", "average", "--draws", "2", "--ensembles", "1"],
    "full-schedule": DIGITS,
    "select": [*DIGITS, "--images", "50"],
    "transfer": [*DIGITS, "--images", "digits", "--strengths", "1"],
    "wider": [*DIGITS, "--images", "digits", "--times", "2", "--epochs", "0", "--limit", "200"],
    "spread": ["--source", "digits", "--methods", "local30", "--ensembles", "1"],
    "resize-rules": [*DIGITS, "--images", "digits"],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Name -> the only result file that the script wrote."""
    records = {}
    for name, arguments in LITTLE.items():
        folder = tmp_path_factory.mktemp(name)
        module_of(name).main([*arguments, "--out", str(folder)])
        (path,) = folder.glob("*.json")
        assert path.stem.startswith(name)
        records[name] = json.loads(path.read_text())
    return records


def test_result_files_name_the_command_and_the_settings(found):
    for name, record in found.items():
        assert record["name"].startswith(name)
        assert record["command"].startswith(f"python -m benchmarks {name} --source digits")
        assert record["config"]["source"] == "digits"
        assert record["config"].get("seeds", record["config"].get("ensembles")) == 1


def test_init_is_ahead_of_the_default_on_its_own_task(found):
    epoch = found["in-dataset"]["results"]["one epoch at 0.001"]
    assert epoch["init_"]["mean"] > epoch["default"]["mean"] + 0.3
    assert found["in-dataset"]["results"]["methods"]["local30"]["accuracy"] > 0.9
    assert found["in-dataset"]["results"]["ensemble of 15"]["ensemble"]["mean"] > 0.9
    for name, start in (("transfer", "strength 1.0"), ("resize-rules", "taken")):
        for net, row in found[name]["results"].items():
            other = row["default"]["epoch 1"]["mean"]
            assert row[start]["epoch 1"]["mean"] > other, (name, net)


def test_the_full_schedule_and_the_selection_reach_their_accuracies(found):
    assert all(row["mean"] > 0.85 for row in found["full-schedule"]["results"].values())
    assert all(row["mean"] > 0.9 for row in found["select"]["results"].values())


def test_wider_networks_start_where_their_networks_are(found):
    results = found["wider"]["results"]
    assert results["2 generated networks"]["epoch 0"]["mean"] > 0.9
    assert results["PyTorch's default"]["epoch 0"]["mean"] < 0.4


def test_ensembles_of_different_families_are_compared(found):
    results = found["spread"]["results"]
    assert results["families"] == 10
    assert min(row["mean"] for key, row in results.items() if "," in key) > 0.9
