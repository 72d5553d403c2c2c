"""Reading returns what was written, or raises an error that names the file and says what to do."""

import json
import random
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArtifactError
from hyperinit.representation import HyperRepresentation
from hyperinit.representation import artifact as artifacts
from hyperinit.representation.artifact import ANCHORS, FORMAT, Contents, read, write


def opened(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["hyperinit"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def refused(path, message):
    """Expect one error that names the file, says what is wrong and what to do."""
    whole = (
        rf"^{re.escape(str(path))} must be a whole hyper-representation file, got: {message}.*Copy or build it again\.$"
    )
    with pytest.raises(ArtifactError, match=re.compile(whole, re.DOTALL)):
        read(path)


def equal(one, two):
    """Whether two artifacts hold equal headers and equal tensors."""
    left, right = one.tensors(), two.tensors()
    return (
        one.header == two.header
        and left.keys() == right.keys()
        and all(torch.equal(value, right[name]) for name, value in left.items())
    )


# Round trip


def test_what_was_written_is_read(tiny, artifact):
    found = read(artifact)
    assert found.header == tiny.header
    assert {value.dtype for value in found.tensors().values()} == {torch.float32}
    state = found.autoencoder.state_dict()
    assert state.keys() == tiny.autoencoder.state_dict().keys()
    for name, value in tiny.autoencoder.state_dict().items():
        assert torch.equal(state[name], value), name
    for name in ("z", "score", "epoch", "weights"):
        assert torch.equal(getattr(found.anchors, name), getattr(tiny.anchors, name)), name
    assert found.states.keys() == tiny.states.keys() == {"gan", "gan30"}
    for method, state in tiny.states.items():
        assert found.states[method].keys() == state.keys()
        for key, value in state.items():
            assert torch.equal(found.states[method][key], value), key


def test_the_names_in_the_file_are_those_of_the_document(artifact):
    names = opened(artifact)[1].keys()
    assert {name for name in names if name.startswith("anchors.")} == {
        "anchors.z", "anchors.score", "anchors.epoch", "anchors.weights",
    }  # fmt: skip
    assert {name.split(".")[0] for name in names} == {"mean", "std", "encoder", "decoder", "anchors", "samplers"}
    assert {"samplers.gan.0.weight", "samplers.gan30.0.weight"} <= names


def test_the_autoencoder_is_built_once(artifact, monkeypatch):
    built = []

    def build(*arguments):
        built.append(Autoencoder(*arguments))
        return built[-1]

    monkeypatch.setattr(artifacts, "Autoencoder", build)
    hr = HyperRepresentation.read(artifact)
    assert [hr.autoencoder] == built
    assert {value.device.type for value in hr.autoencoder.state_dict().values()} == {"cpu"}


def test_a_representation_draws_the_same_after_saving(tiny, artifact):
    again = HyperRepresentation.read(artifact)
    draws = [hr.sample(5, generator=torch.Generator().manual_seed(0)) for hr in (tiny, again)]
    assert torch.equal(*draws)
    assert str(again.card) == str(tiny.card)


def test_everything_but_the_standardisation_and_scores_is_half_precision(artifact):
    exact = {name for name, value in opened(artifact)[1].items() if value.dtype == torch.float32}
    assert exact == {"mean", "std", "anchors.score", "anchors.epoch"}


def test_what_was_read_is_written_again(artifact, tmp_path):
    HyperRepresentation.read(artifact).save(tmp_path / "again.safetensors")
    assert equal(read(tmp_path / "again.safetensors"), read(artifact))


def test_the_order_and_strides_of_tensors_do_not_matter(tiny, artifact, tmp_path):
    def other(tensors):
        return {
            name: value.mT.contiguous().mT if value.ndim > 1 else value for name, value in reversed(tensors.items())
        }

    tiny.autoencoder.load_state_dict(other(tiny.autoencoder.state_dict()), assign=True)
    states = {method: other(state) for method, state in reversed(tiny.states.items())}
    write(tmp_path / "b.safetensors", Contents(tiny.header, tiny.autoencoder, tiny.anchors, states))
    assert (tmp_path / "b.safetensors").read_bytes() == artifact.read_bytes()


def test_reading_draws_no_random_number(artifact):
    before = torch.get_rng_state()
    HyperRepresentation.read(artifact)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tiny, artifact, monkeypatch):
    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    before = artifact.read_bytes()
    monkeypatch.setattr(artifacts, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        tiny.save(artifact)
    assert artifact.read_bytes() == before
    assert list(artifact.parent.iterdir()) == [artifact]


# Damage on the way


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.01, 0.1, 0.5, 0.99, 0.99999])
def test_a_file_that_was_cut_off_is_refused(artifact, share):
    raw = artifact.read_bytes()
    artifact.write_bytes(raw[: int(share * len(raw))])
    refused(artifact, "")


def test_a_file_with_more_at_its_end_is_refused(artifact):
    artifact.write_bytes(artifact.read_bytes() + b"\0")
    refused(artifact, "")


def test_one_altered_byte_is_never_taken_for_the_original(artifact):
    raw, whole = artifact.read_bytes(), read(artifact)
    head = 8 + int.from_bytes(raw[:8], "little")
    generator, outcomes = random.Random(0), []
    places = [*range(8), *generator.sample(range(8, head), 26), *generator.sample(range(head, len(raw)), 26)]
    for place in places:
        altered = bytearray(raw)
        altered[place] ^= generator.randrange(1, 256)
        artifact.write_bytes(altered)
        try:
            assert equal(read(artifact), whole), place
            outcomes.append("same")
        except ArtifactError as error:
            outcomes.append("refused" if str(artifact) in str(error) else "refused without its name")
    assert set(outcomes) <= {"same", "refused"}
    assert len(places) == 60
    assert outcomes[-26:] == ["refused"] * 26  # no byte of a tensor is without meaning


def test_a_changed_number_is_found_by_the_digest(artifact):
    tensors = opened(artifact)[1]
    with safe_open(artifact, "pt") as file:
        metadata = file.metadata()
    tensors["mean"][0] += 1
    save_file(tensors, artifact, metadata)
    refused(artifact, "its contents do not match the digest in its header; the file was altered")


def test_a_changed_header_is_found_by_the_digest(artifact):
    header, tensors = opened(artifact)
    header["card"]["measured"]["kde"]["accuracy"] = 0.99
    save_file(tensors, artifact, {"hyperinit": json.dumps(header, sort_keys=True)})
    refused(artifact, "its contents do not match the digest")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"^.*gone\.safetensors must be a hyper-representation, got no such file$"):
        read(tmp_path / "gone.safetensors")
    refused(tmp_path, "")  # a folder


def test_other_safetensors_files_are_refused(artifact):
    save_file({"weight": torch.zeros(2)}, artifact)
    refused(artifact, "a safetensors file without a hyperinit header")


# Headers


def test_another_format_says_what_to_install(forge):
    reads = rf"format {FORMAT + 1}, and this hyperinit reads format {FORMAT}; install "
    path = forge(lambda header, tensors: header.update(format=FORMAT + 1, needs="0.3.1"))
    refused(path, reads + r"hyperinit 0\.3\.1 or later to read this file")
    path = forge(lambda header, tensors: header.pop("needs"))
    refused(path, reads + "a later hyperinit to read this file")
    path = forge(lambda header, tensors: header.update(needs="0.4\n; rm"))
    refused(path, "")


def test_the_format_is_looked_at_first(forge):
    """A later format may have other fields; its version is what the user must read."""

    def later(header, tensors):
        header.clear()
        header["format"] = 7

    refused(forge(later), "format 7, and this hyperinit reads")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", '"text"', "{}", "[" * 100_000])
def test_headers_that_are_no_object_are_refused(artifact, text):
    tensors = opened(artifact)[1]
    save_file(tensors, artifact, {"hyperinit": text})
    refused(artifact, "a damaged header: |format must be a positive integer, got None")


@pytest.mark.parametrize("field", ["card", "layout", "architecture", "autoencoder", "samplers"])
def test_each_field_is_needed(forge, field):
    refused(forge(lambda header, tensors: header.pop(field)), f"header must have the fields .*; it lacks {field}")


@pytest.mark.parametrize("field", ["card", "autoencoder", "samplers"])
@pytest.mark.parametrize("value", [None, 5, [1], "text"])
def test_fields_of_another_type_are_refused(forge, field, value):
    path = forge(lambda header, tensors: header.update({field: value}))
    refused(path, rf"{field} must be an object, got {re.escape(repr(value))}")


@pytest.mark.parametrize(
    ("field", "key", "value", "message"),
    [
        ("card", "mood", 1, "card must have the fields .*; it has the unknown 'mood'"),
        ("autoencoder", "mood", 1, "autoencoder must have the fields .*; it has the unknown 'mood'"),
        ("samplers", "mood", 1, "samplers must have the fields .*; it has the unknown 'mood'"),
        ("card", "title", 5, "card fields of a wrong type: title"),
        ("card", "recommended", "kde31", "the recommended method 'kde31' is unknown"),
        ("autoencoder", "heads", 3, "width, heads, .*heads must divide width, got"),
        ("autoencoder", "compression", "mean", "compression must be"),
        ("autoencoder", "width", 1e9, "width, heads, "),
        ("samplers", "bandwidth", -1, "bandwidth and noise must be"),
        ("samplers", "neighbours", 0, "neighbours must be"),
        (
            "layout",
            "layers",
            [{"name": "0"}],
            "a layer must be an object with a list tensors of at most 512, got {'name': '0'}",
        ),
    ],
)
def test_unknown_and_bad_values_are_refused(forge, field, key, value, message):
    refused(forge(lambda header, tensors: header[field].update({key: value})), message)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            [["linear", {"in_features": 2464, "out_features": 1}]],
            "an architecture that does not have the layout in the header",
        ),
        ([["tanh", {}]], "a zoo's network must hold conv, linear and norm layers only, found none"),
        ([["exec", {}]], r"not a network description: a step must be one of .*, got \['exec', {}\]"),
        ([["tanh", []]], "not a network description: a step must be one of"),
        ("cnn", "not a network description"),
    ],
)
def test_an_architecture_that_contradicts_the_layout_is_refused(forge, architecture, message):
    refused(forge(lambda header, tensors: header.update(architecture=architecture)), message)


def test_no_architecture_is_allowed(forge):
    assert read(forge(lambda header, tensors: header.update(architecture=None))).header.architecture is None


# Tensors


def put(name, value):
    return lambda header, tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h, t: t.pop("mean"), r"mean must have shape \(2464,\) to fit the layout, got None"),
        (lambda h, t: t.pop("anchors.z"), r"tensors that do not fit the header: anchors.z None"),
        (put("more", torch.zeros(1)), "tensors that do not fit the header: unexpected more"),
        (put("std", torch.ones(2463)), r".* std \(2463,\), expected \(2464,\)"),
        (put("anchors.score", torch.ones(19)), r".* anchors.score \(19,\), expected \(20,\)"),
        (put("anchors.z", torch.ones(20, 9)), r".* anchors.z \(20, 9\), expected \(20, 8\)"),
        (put("encoder.positions", torch.ones(48, 16)), r".* encoder.positions \(48, 16\), expected \(49, 16\)"),
        (put("std", torch.zeros(2464)), "tensor std must be above 0 everywhere, it is not"),
        (put("mean", torch.full((2464,), float("nan"))), "tensor mean must hold finite numbers"),
        (put("anchors.score", torch.full((20,), float("inf"))), "tensor anchors.score must hold finite numbers"),
        (put("mean", torch.full((2464,), 1e300, dtype=torch.float64)), "tensor mean must hold finite numbers"),
        (put("mean", torch.zeros(2464, dtype=torch.int32)), "tensor 'mean' must be of F64, F32, .*, it is of I32"),
        (put("anchors.score", torch.full((20,), 1.1)), r"tensor anchors.score must lie in \[0, 1\], it goes from 1.1"),
        (put("anchors.z", torch.full((20, 8), -1.1)), r"tensor anchors.z must lie in \[-1, 1\], it goes from -1.1"),
        (
            put("anchors.epoch", torch.full((20,), -1.0)),
            r"tensor anchors.epoch must lie in \[0, inf\], it goes from -1",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(forge, edit, message):
    refused(forge(edit), message)


def test_without_anchors_there_is_nothing_to_draw_from(forge):
    def empty(header, tensors):
        tensors.update({name: tensors[name][:0] for name in ANCHORS})

    refused(forge(empty), "tensors that do not fit the header: no anchors")


def test_other_precisions_are_read_as_float32(forge, artifact):
    expected = read(artifact).anchors.z.to(torch.float8_e4m3fn).float()
    path = forge(lambda h, t: t.update({"anchors.z": t["anchors.z"].to(torch.float8_e4m3fn)}))
    assert torch.equal(read(path).anchors.z, expected)


def test_a_version_that_only_equals_the_number_is_refused(forge):
    refused(forge(lambda header, tensors: header.update(format=True)), "format must be a positive integer, got True")
