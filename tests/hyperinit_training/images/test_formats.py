"""Readers of the official formats, on small files written in those formats, and their errors on damaged files."""

import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from trap import Trap

from hyperinit.errors import DataError
from hyperinit_training.images import formats
from hyperinit_training.images.dataset import load_images
from hyperinit_training.images.download import FILES, Remote
from hyperinit_training.images.formats import CIFAR10_TEST, CIFAR10_TRAIN, EXTRACTED, KEYS, STL10_FILES, read

RNG = np.random.default_rng(0)
CIFAR = {name: RNG.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8) for name in (*CIFAR10_TRAIN, CIFAR10_TEST)}
STL = {"train": RNG.integers(0, 256, (6, 3, 96, 96), dtype=np.uint8), "test": np.arange(96 * 96 * 3, dtype=np.uint8)}
STL["test"] = STL["test"].reshape(1, 3, 96, 96)
LABELS = [9, 0, 3, 3]


def text(value):
    """Pickle a string as Python 2 did."""
    raw = value.encode() if isinstance(value, str) else value
    return b"T" + struct.pack("<I", len(raw)) + raw


def pickled(x, labels, *, module="numpy.core.multiarray", dtype="u1"):
    """Pickle a batch as its authors did: Python 2, protocol 2, text as bytes, the array by `_reconstruct`."""
    array = f"c{module}\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01".encode("latin-1")
    array += b"".join(b"J" + struct.pack("<i", size) for size in x.shape) + b"\x86"
    array += f"cnumpy\ndtype\nU\x02{dtype}K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ".encode("latin-1")
    array += b"\xff\xff\xff\xffK\x00tb\x89" + text(x.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + text("labels") + numbers + b"u."


def tarred(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def cifar_members(**changes):
    found = {name: pickled(x.reshape(4, 3072), LABELS) for name, x in CIFAR.items()} | changes
    return {f"{EXTRACTED['cifar10']}/{name}": raw for name, raw in found.items()}


def stl_members(**changes):
    raw = {f"x_{split}": np.ascontiguousarray(x.transpose(0, 1, 3, 2)).tobytes() for split, x in STL.items()}
    raw |= {"y_train": bytes([10, 1, 2, 3, 4, 5]), "y_test": bytes([10])} | changes
    return {f"{EXTRACTED['stl10']}/{STL10_FILES[key]}": value for key, value in raw.items()}


MEMBERS = {"cifar10": cifar_members, "stl10": stl_members}


def put(folder, name, *, archive=True, **changes):
    """Write an archive or its extracted folder, and return the folder."""
    members = MEMBERS[name](**changes)
    folder.mkdir(parents=True, exist_ok=True)
    if archive:
        tarred(folder / FILES[name][0].name, {f"{EXTRACTED[name]}/readme.html": b"hello"} | members)
    else:
        (folder / EXTRACTED[name]).mkdir()
        for member, raw in members.items():
            (folder / member).write_bytes(raw)
    return folder


def put_svhn(folder, **changes):
    x = RNG.integers(0, 256, (32, 32, 3, 6), dtype=np.uint8)
    content = {"X": x, "y": np.array([[10], [1], [2], [3], [9], [10]], np.uint8)} | changes
    content = {key: value for key, value in content.items() if value is not None}
    for remote in FILES["svhn"]:
        scipy.io.savemat(folder / remote.name, content, do_compression=True)
    return x


# CIFAR-10


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("below", ["", "cifar10"])
def test_cifar10_is_read_from_the_archive_and_from_its_folder(tmp_path, archive, below):
    put(tmp_path / below, "cifar10", archive=archive)
    found = read("cifar10", tmp_path)
    np.testing.assert_array_equal(found["x_train"], np.concatenate([CIFAR[name] for name in CIFAR10_TRAIN]))
    np.testing.assert_array_equal(found["x_test"], CIFAR[CIFAR10_TEST])
    assert found["y_train"].tolist() == LABELS * 5
    assert found["y_test"].tolist() == LABELS
    images = load_images("cifar10", tmp_path)
    assert images.x_train.shape == (17, 3, 28, 28)


def test_numpy_reads_the_pickles_of_these_tests(tmp_path):
    """numpy itself reads what `pickled` writes; `encoding` as for pickles of Python 2."""
    x = CIFAR[CIFAR10_TEST].reshape(4, 3072)
    batch = pickle.loads(pickled(x, LABELS), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], x)
    assert batch[b"labels"] == LABELS


def test_a_batch_written_by_a_newer_numpy_is_read(tmp_path):
    raw = pickled(CIFAR[CIFAR10_TEST].reshape(4, 3072), LABELS, module="numpy._core.multiarray")
    found = read("cifar10", put(tmp_path, "cifar10", test_batch=raw))
    np.testing.assert_array_equal(found["x_test"], CIFAR[CIFAR10_TEST])


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (pickle.dumps({"data": Trap()}, 2), r"(posix|nt)\.mkdir"),
        (b"cbuiltins\neval\n(S'1'\ntR.", r"builtins\.eval"),
        (b"c__builtin__\ngetattr\n.", r"__builtin__\.getattr"),
        (b"cnumpy.core.multiarray\nfromfile\n.", r"numpy\.core\.multiarray\.fromfile"),
        (b"cnumpy\nload\n.", r"numpy\.load"),
        (b"(ios\nsystem\n.", r"os\.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93.", r"numpy\.ndarray\.__reduce__"),
    ],
)
def test_a_batch_with_any_other_global_is_refused_by_its_name(tmp_path, monkeypatch, raw, name):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "cifar10", data_batch_3=raw)
    with pytest.raises(DataError, match=rf"data_batch_3 must be a complete batch .* the global {name} is not allowed"):
        read("cifar10", tmp_path)
    assert not Path("sprung").exists()


X = CIFAR[CIFAR10_TEST].reshape(4, 3072)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            pickled(X, LABELS)[:-2000],
            r"must be a complete batch of CIFAR-10, got \w+: .*; move it away and download it again",
        ),
        (b"", r"must be a complete batch of CIFAR-10, got EOFError"),
        (b"<html>", r"must be a complete batch of CIFAR-10, got "),
        (pickle.dumps([1]), r"must be a complete batch of CIFAR-10, got TypeError"),
        (b"\x80\x02}" + text("data") + b"K\x01s.", r"must be a complete batch of CIFAR-10, got KeyError: b'labels'"),
        (pickled(X[:, :3000], LABELS), r"must be a complete batch of CIFAR-10, got ValueError"),
        (pickled(X.reshape(8, 1536), LABELS), r"must hold a uint8 array \(n, 3072\) by rows, got \(\(8, 1536\)"),
        (pickled(X, LABELS, dtype="i1"), r"must hold a uint8 array \(n, 3072\) by rows, got .*b'i1'"),
        (pickled(X, LABELS[:3]), r"must hold one label for each of 4 images, got 3"),
        (pickled(X, [0, 1, 2, 10]), r"must hold labels of 0 to 9, got 0 to 10"),
    ],
)
def test_a_damaged_batch_is_named(tmp_path, raw, message):
    put(tmp_path, "cifar10", archive=False, test_batch=raw)
    with pytest.raises(DataError, match=f"cifar-10-batches-py/test_batch {message}"):
        read("cifar10", tmp_path)


# STL-10


@pytest.mark.parametrize("archive", [True, False])
def test_stl10_is_read_from_the_archive_and_from_its_folder(tmp_path, archive):
    found = read("stl10", put(tmp_path, "stl10", archive=archive))
    np.testing.assert_array_equal(found["x_train"], STL["train"])
    np.testing.assert_array_equal(found["x_test"], STL["test"])
    assert (found["y_train"].tolist(), found["y_test"].tolist()) == ([9, 0, 1, 2, 3, 4], [9])
    assert load_images("stl10", tmp_path).x_train.shape == (5, 3, 28, 28)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": bytes(27_647)}, r"train_X.bin must hold images of 3x96x96 bytes, got 27,647 bytes; move it away"),
        ({"x_test": b""}, r"test_X.bin must hold images of 3x96x96 bytes, got 0 bytes"),
        ({"x_train": bytes(5 * 27_648)}, r"train_y.bin must hold one label for each of 5 images, got 6"),
        ({"y_test": bytes([11])}, r"test_y.bin must hold labels of 1 to 10, got 11 to 11"),
        ({"y_train": bytes(6)}, r"train_y.bin must hold labels of 1 to 10, got 0 to 0"),
    ],
)
def test_wrong_content_of_stl10_is_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=f"stl10_binary/{message}"):
        read("stl10", put(tmp_path, "stl10", **changes))


# Archives


@pytest.mark.parametrize("name", MEMBERS)
def test_a_truncated_or_altered_archive_is_named(tmp_path, name):
    path = put(tmp_path, name) / FILES[name][0].name
    whole = path.read_bytes()
    damaged = [whole[: len(whole) * share // 8] for share in range(8)] + [whole[:-4]]
    for place in range(60, len(whole), len(whole) // 12):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    for raw in damaged:
        path.write_bytes(raw)
        with pytest.raises(
            DataError, match=rf"{path.name} must be a complete .tar.gz file, got .*; move it away and download"
        ):
            read(name, tmp_path)


def test_missing_members_and_links_are_named(tmp_path):
    path = put(tmp_path, "cifar10") / FILES["cifar10"][0].name
    members = cifar_members()
    members.pop("cifar-10-batches-py/data_batch_2")
    tarred(path, members)
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz must hold .* but lacks data_batch_2; move it"):
        read("cifar10", tmp_path)
    with tarfile.open(path, "w:gz") as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    with pytest.raises(DataError, match=r"but lacks data_batch_1, data_batch_2, "):
        read("cifar10", tmp_path)


def test_a_huge_member_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "LARGEST", 1000)
    with pytest.raises(DataError, match=r"but lacks data_batch_1"):
        read("cifar10", put(tmp_path, "cifar10"))


def test_an_extracted_folder_that_lacks_files_is_named(tmp_path):
    put(tmp_path, "stl10", archive=False)
    (tmp_path / "stl10_binary" / "test_y.bin").unlink()
    with pytest.raises(DataError, match=r"stl10_binary must hold train_X.bin, .* but lacks test_y.bin"):
        read("stl10", tmp_path)


# SVHN


def test_svhn_is_read_and_ten_means_zero(tmp_path):
    x = put_svhn(tmp_path)
    found = read("svhn", tmp_path)
    np.testing.assert_array_equal(found["x_train"], x.transpose(3, 0, 1, 2))
    assert found["y_test"].tolist() == [0, 1, 2, 3, 9, 0]
    assert load_images("svhn", tmp_path).x_train.shape == (5, 1, 28, 28)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, r"must be a complete .mat file with X and y, got KeyError: 'y'"),
        (
            {"X": np.zeros((32, 32, 3, 6))},
            r"must hold uint8 images \(32, 32, 3, n\) and .*, got float64 \(32, 32, 3, 6",
        ),
        ({"X": np.zeros((28, 28, 3, 6), np.uint8)}, r"must hold uint8 images .*got uint8 \(28, 28, 3, 6\)"),
        ({"y": np.zeros((6, 1))}, r"must hold uint8 images .* and float64 \(6, 1\)"),
        ({"y": np.ones((5, 1), np.uint8)}, r"must hold one label for each of 6 images, got 5"),
        ({"y": np.zeros((6, 1), np.uint8)}, r"must hold labels of 1 to 10, got 0 to 0"),
        ({"y": np.full((6, 1), 11, np.uint8)}, r"must hold labels of 1 to 10, got 11 to 11"),
    ],
)
def test_wrong_content_of_svhn_is_named(tmp_path, changes, message):
    put_svhn(tmp_path, **changes)
    with pytest.raises(DataError, match=f"train_32x32.mat {message}"):
        read("svhn", tmp_path)


def test_a_truncated_or_altered_mat_file_is_named(tmp_path):
    put_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    whole = path.read_bytes()
    damaged = [whole[:count] for count in (0, 100, 126, 130, 1000, len(whole) - 1)]
    damaged += [
        whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] for place in range(150, len(whole), 97)
    ]
    for raw in damaged:
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"test_32x32.mat must "):
            read("svhn", tmp_path)


# Folders and digests


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_listed_with_urls_and_the_command(tmp_path, name):
    file, url = FILES[name][-1].name, FILES[name][-1].urls[0]
    with pytest.raises(
        DataError, match=rf"^{name} needs a folder with .*{file}.*, got .* without .*{file}\. "
    ) as error:
        load_images(name, tmp_path)
    assert f"Run `hyperinit data {name} --data {tmp_path}` to download " in str(error.value)
    assert url in str(error.value)
    assert str(error.value).endswith(f"pass data='{tmp_path}' in Python or --data {tmp_path} on the command line.")
    message = (
        rf"got no folder\. Run `hyperinit data {name} --data FOLDER` .* pass data='FOLDER' in Python or --data FOLDER"
    )
    with pytest.raises(DataError, match=message):
        load_images(name)


def test_an_empty_folder_of_the_name_does_not_hide_the_files_beside_it(tmp_path):
    put(tmp_path, "cifar10")
    (tmp_path / "cifar10").mkdir()
    assert set(read("cifar10", tmp_path)) == set(KEYS)


def test_verify_compares_the_published_digest(tmp_path, monkeypatch):
    put(tmp_path, "cifar10")
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz must have the published MD5 c58f30108f718f92721af3b9"):
        load_images("cifar10", tmp_path, verify=True)
    path = tmp_path / FILES["cifar10"][0].name
    monkeypatch.setitem(FILES, "cifar10", (Remote(path.name, hashlib.md5(path.read_bytes()).hexdigest(), ("url",)),))
    assert len(load_images("cifar10", tmp_path, verify=True).x_test) == 4


def test_verify_needs_the_archive(tmp_path):
    put(tmp_path, "stl10", archive=False)
    with pytest.raises(DataError, match=r"verify=True needs stl10_binary.tar.gz, because .*, got the extracted folder"):
        load_images("stl10", tmp_path, verify=True)
