"""Reading of checkpoints: what a result file holds. No time is judged."""

import json

from benchmarks.__main__ import module_of
from benchmarks.speed.reading import plain20


def test_reading_counts_values_and_needs_at_least_the_memory_of_the_matrix(tmp_path):
    module_of("reading").main(["--files", "8", "--runs", "1", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "reading.json").read_text())
    assert record["command"] == "python -m benchmarks reading"
    assert list(record["results"]) == ["8 cnn .pt", "8 cnn .safetensors", "8 plain20 .pt", "8 plain20 .safetensors"]
    assert all(row["memory, MB"] > 0.9 * row["matrix, MB"] for row in record["results"].values())
    values = sum(value.numel() for value in plain20().state_dict().values() if value.is_floating_point())
    assert record["results"]["8 plain20 .pt"]["values per network"] == values
    assert record["results"]["8 plain20 .pt"]["matrix, MB"] == round(8 * 4 * values / 1e6, 1)
