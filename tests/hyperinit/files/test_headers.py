"""Damaged and forged headers are refused, and the message names the fault."""

import json
import math
import os
from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hyperinit.errors import ArtifactError
from hyperinit.files import headers
from hyperinit.files.headers import MOST_HEADER, built, check_format, check_plain, digest, is_finite, opened, parsed


def refusal(call, *arguments):
    with pytest.raises(ArtifactError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2), "b": torch.zeros(1, dtype=torch.int64)}, path, {"key": '{"format": 1}'})
    return path


# Files


def test_a_file_gives_its_header_and_its_tensors(file):
    with opened(file, "key") as (header, found):
        assert header == {"format": 1}
        assert headers.shapes(found, headers.DTYPES) == {"a": (2,), "b": (1,)}
        assert refusal(headers.shapes, found, headers.FLOATS) == (
            "tensor 'b' must be of F64, F32, F16, BF16, F8_E4M3, F8_E5M2, it is of I64"
        )


def test_a_header_that_is_too_long_is_refused_before_it_is_read(file, monkeypatch):
    monkeypatch.setattr(headers, "safe_open", None)  # which is not called

    def look():
        with opened(file, "key"):
            pass

    size = file.stat().st_size
    for length in (size - 7, 2**63, 2**64 - 1):
        file.write_bytes(length.to_bytes(8, "little") + file.read_bytes()[8:])
        assert refusal(look) == f"a header of {length:,} bytes in a file of {size:,}; it was cut off"
    os.truncate(file, MOST_HEADER + 9)
    file.write_bytes((MOST_HEADER + 1).to_bytes(8, "little") + file.read_bytes()[8:])
    assert refusal(look) == "a header of 1,048,577 bytes, and this hyperinit reads at most 1,048,576"


@pytest.mark.parametrize("size", range(8))
def test_a_file_of_a_few_bytes_is_refused(tmp_path, size):
    path = tmp_path / "a"
    path.write_bytes(bytes(size))
    with pytest.raises(ArtifactError, match="it was cut off"), opened(path, "key"):
        pass


def test_a_pipe_is_not_opened(tmp_path):
    """Opening a pipe would wait for its writer."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="a path that is not a regular file"), opened(tmp_path / "pipe", "key"):
        pass


# JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "a damaged header: it must be an object, got [1]"),
        ('{"a": NaN}', "a damaged header: numbers must be finite, got NaN"),
        ('{"a": -Infinity}', "a damaged header: numbers must be finite, got -Infinity"),
        ('{"a": {"b": 1, "b": 2}}', "a damaged header: an object with a duplicate key"),
        ('{"a": [0, 1e999]}', "header.a.1 must be a finite number of at most 64 bits, got inf"),
        ('{"a": 9223372036854775808}', "header.a must be a finite number of at most 64 bits, got 9223372036854775808"),
        (
            '{"a": 1' + "0" * 400 + "}",
            "header.a must be a finite number of at most 64 bits, got a number of over 80 digits",
        ),
        ('{"a": "\\u001b[2J"}', r"header.a must hold no control characters, got '\x1b[2J'"),
        ('{"a": {"\\ud800": 1}}', r"header.a must hold no control characters, got '\ud800'"),
        ('{"a": ' + "[" * 15 + "[]" + "]" * 15 + "}", "levels deep, it lies deeper"),
        ("[" * 99_999, "a damaged header: RecursionError: "),
        ("[" * 100_001, "a damaged header: it must hold at most 100,000 values, got up to 100,001"),
        ('{"a": ' + "1" * 5000 + "}", "a damaged header: ValueError: "),
        ("{", "a damaged header: JSONDecodeError: "),
    ],
)
def test_damaged_json_is_refused(text, message):
    assert message in refusal(parsed, text)


def test_plain_json_is_parsed_unchanged():
    data = {"a": [1, -(2**63), 2**63 - 1, 1e308, True, None], "b": {"c": "Schürholt, 2 µm\n\tπ 🐍"}}
    assert parsed(json.dumps(data)) == data
    assert parsed('{"a": ' + "[" * 14 + "[]" + "]" * 14 + "}")


def test_other_types_are_not_plain():
    assert refusal(check_plain, {"a": {1, 2}}) == "header.a must be plain data, got set"
    assert refusal(check_plain, {"a": math.nan}) == "header.a must be a finite number of at most 64 bits, got nan"


@dataclass
class Two:
    a: int
    b: int = 2


def test_a_dataclass_takes_its_own_fields_only():
    assert built(Two, {"a": 1}, "two") == Two(1, 2)
    assert refusal(built, Two, [1], "two") == "two must be an object, got [1]"
    assert refusal(built, Two, {"b": 1}, "two") == "two must have the fields a, b; it lacks a"
    assert refusal(built, Two, {"a": 1, "c": 1}, "two") == "two must have the fields a, b; it has the unknown 'c'"


@pytest.mark.parametrize("found", [None, 0, -1, 1.0, True, "1", [1]])
def test_a_format_must_be_a_positive_integer(found):
    assert refusal(check_format, {"format": found}, 1) == f"format must be a positive integer, got {found!r}"


@pytest.mark.parametrize(
    ("needs", "reader"),
    [
        ("1.2", "hyperinit 1.2 or later"),
        ("0.3.1", "hyperinit 0.3.1 or later"),
        ("9" * 30 + ".1", "a later hyperinit"),
        ("1.2; rm", "a later hyperinit"),
        (2, "a later hyperinit"),
        (None, "a later hyperinit"),
    ],
)
def test_another_format_says_which_hyperinit_reads_it(needs, reader):
    message = f"format 2, and this hyperinit reads format 1; install {reader} to read this file"
    assert refusal(check_format, {"format": 2, "needs": needs}, 1) == message
    check_format({"format": 2, "needs": needs}, 2)


# Tensors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64])
def test_nan_and_infinity_are_found_wherever_they_are(dtype):
    for place in range(3):
        for number in (math.nan, math.inf, -math.inf):
            value = torch.ones(3, dtype=dtype)
            assert is_finite(value)
            value[place] = number
            assert not is_finite(value)
    assert is_finite(torch.zeros(0, dtype=dtype))


def test_the_digest_depends_on_everything(file):
    with safe_open(file, "pt") as found:
        tensors = {name: found.get_tensor(name) for name in ("a", "b")}
    same = digest({"x": 1}, tensors)
    assert digest({"x": 1}, dict(reversed(tensors.items()))) == same
    others = [
        digest({"x": 2}, tensors),
        digest({"x": 1}, {"a": tensors["a"]}),
        digest({"x": 1}, {"a": tensors["a"], "c": tensors["b"]}),
        digest({"x": 1}, tensors | {"a": tensors["a"] + 1}),
        digest({"x": 1}, tensors | {"a": tensors["a"][None]}),
        digest({"x": 1}, tensors | {"a": tensors["a"].view(torch.int32)}),
    ]
    assert len({same, *others}) == 7


@pytest.mark.parametrize("key", [1, None, True, 0.5])
def test_keys_that_are_no_text_are_refused(key):
    """JSON would turn them into text, which may then be there twice."""
    with pytest.raises(ArtifactError, match=f"^header.card must have texts as keys, got {key}$"):
        headers.check_plain({"card": {"1": 1, key: 2}})
