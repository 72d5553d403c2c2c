"""Result files: their fields, and where they are written."""

import json

import pytest

from benchmarks.record import Record, save, summary


def test_a_result_file_has_the_fields_of_a_record_and_is_named_after_the_measurement(tmp_path):
    path = save("table9-x", "python -m benchmarks table9", {"key": "x"}, {"rows": {}}, 0.0, tmp_path / "new")
    assert path == tmp_path / "new" / "table9-x.json"
    record = json.loads(path.read_text())
    assert record.keys() == Record.__annotations__.keys()
    assert (record["name"], record["config"], record["results"]) == ("table9-x", {"key": "x"}, {"rows": {}})


def test_a_summary_has_the_deviation_of_the_population_and_survives_json():
    found = summary([0.1, 0.2, 0.6])
    assert found["mean"] == pytest.approx(0.3)
    assert found["std"] == pytest.approx(((0.04 + 0.01 + 0.09) / 3) ** 0.5, abs=1e-5)
    assert json.loads(json.dumps(found)) == found
