"""The measurements beside the paper's tables: each script once, with as little as it can do."""

import json

import pytest

from benchmarks.__main__ import module_of

LITTLE = {
    "latency": ["--source", "digits", "--runs", "1"],
    "in-dataset": [
        "--source",
        "digits",
        "--methods",
        "local30",
        "average",
        "--draws",
        "2",
        "--seeds",
        "1",
        "--ensembles",
        "1",
    ],
    "full-schedule": ["--source", "digits", "--seeds", "1"],
    "select": ["--source", "digits", "--seeds", "1", "--images", "50"],
    "transfer": ["--source", "digits", "--images", "digits", "--seeds", "1", "--strengths", "1"],
    "resize-rules": ["--source", "digits", "--images", "digits", "--seeds", "1"],
    "reading": ["--files", "8", "--runs", "1"],
}


def run(name, arguments, folder):
    module_of(name).main([*arguments, "--out", str(folder)])
    (path,) = folder.glob("*.json")
    assert path.stem.startswith(name)
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return {name: run(name, arguments, tmp_path_factory.mktemp(name)) for name, arguments in LITTLE.items()}


def test_every_measurement_says_how_it_was_made(found):
    for name, record in found.items():
        assert record["command"].startswith(f"python -m benchmarks {name}")
        assert record["results"], name


def test_init_is_ahead_of_the_default_on_its_own_task(found):
    epoch = found["in-dataset"]["results"]["one epoch at 0.001"]
    assert epoch["init_"]["mean"] > epoch["default"]["mean"] + 0.3
    assert found["in-dataset"]["results"]["methods"]["local30"]["accuracy"] > 0.9
    assert found["in-dataset"]["results"]["ensemble of 15"]["ensemble"]["mean"] > 0.9
    for name, start in (("transfer", "strength 1.0"), ("resize-rules", "taken")):
        for net, row in found[name]["results"].items():
            other = row["default"]["epoch 1"]["mean"]
            assert row[start]["epoch 1"]["mean"] > other, (name, net)


def test_times_and_memory_are_of_what_is_measured(found):
    latency = found["latency"]["results"]
    assert 0 < latency["init_, warm"]["median"] < latency["init_, first of a process"]["median"]
    assert all(row["memory, MB"] > 0.9 * row["matrix, MB"] for row in found["reading"]["results"].values())
    assert found["reading"]["results"]["8 plain20 .pt"]["values per network"] == 268_730


def test_the_full_schedule_and_the_selection_end_where_they_should(found):
    assert all(row["mean"] > 0.85 for row in found["full-schedule"]["results"].values())
    assert all(row["mean"] > 0.9 for row in found["select"]["results"].values())
