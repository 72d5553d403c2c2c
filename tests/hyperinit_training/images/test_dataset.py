"""Loading, validation, splits and preprocessing of image data sets."""

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from trap import Trap

from hyperinit.errors import ArgumentError, DataError, UnknownNameError
from hyperinit_training.images import dataset
from hyperinit_training.images.dataset import load_images
from hyperinit_training.images.formats import MNIST_FILES

REAL = os.environ.get("HYPERINIT_TEST_DATA")


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def arrays(shape=(28, 28), train=60, test=12, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": rng.integers(0, 10, train),
        "x_test": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": rng.integers(0, 10, test),
    }


def write_npz(folder, **changes):
    path = folder / "images.npz"
    np.savez(path, **{key: value for key, value in (arrays() | changes).items() if value is not None})
    return path


@pytest.fixture
def mnist(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for key, array in arrays().items():
        write_idx(folder / MNIST_FILES[key], array)
    return folder


# MNIST


@pytest.mark.parametrize("in_subfolder", [False, True])
def test_mnist_is_read_and_split_as_torch_splits(mnist, in_subfolder):
    if in_subfolder:
        mnist = mnist.rename(mnist.with_name("mnist")).parent
    loaded, raw = load_images("mnist", mnist), arrays()
    train, val = torch.utils.data.random_split(range(60), [50, 10], torch.Generator().manual_seed(42))
    np.testing.assert_array_equal(loaded.x_train[:, 0], raw["x_train"][train.indices])
    np.testing.assert_array_equal(loaded.y_val, raw["y_train"][val.indices])
    np.testing.assert_array_equal(loaded.x_test[:, 0], raw["x_test"])
    assert loaded.x_train.dtype == np.uint8
    assert loaded.y_train.dtype == np.int64
    assert (loaded.mean, loaded.std) == ((0.1307,), (0.3081,))


def test_the_global_generator_is_left_alone(mnist):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_images("mnist", mnist)
    assert torch.rand(1) == expected


def test_a_truncated_file_is_named(mnist):
    path = mnist / MNIST_FILES["x_train"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz must be a complete gzip file, got EOFError"):
        load_images("mnist", mnist)


def test_a_file_that_is_not_gzip_is_named(mnist):
    (mnist / MNIST_FILES["y_test"]).write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz must be a complete gzip file, got BadGzipFile"):
        load_images("mnist", mnist)


@pytest.mark.parametrize(("position", "kind"), [(10, "error"), (20_000, "BadGzipFile")])
def test_altered_bytes_are_found(mnist, position, kind):
    path = mnist / MNIST_FILES["x_train"]
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"must be a complete gzip file, got {kind}: "):
        load_images("mnist", mnist)


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("x_train", np.zeros(60), r"train-images-idx3-ubyte.gz must be an idx .* number 00000803, got 00000801"),
        ("x_test", np.zeros((12, 8, 8)), r"t10k-images-idx3-ubyte.gz must hold 28x28 images .*sizes \(12, 8, 8\)"),
        ("y_train", np.zeros(59), r"mnist must have one integer label for each of 60 images, got uint8 \(59,\)"),
        ("y_test", np.full(12, 10), r"mnist must have labels in 0\.\.9, got 10\.\.10"),
    ],
)  # fmt: skip
def test_wrong_idx_content(mnist, key, array, message):
    write_idx(mnist / MNIST_FILES[key], array)
    with pytest.raises(DataError, match=message):
        load_images("mnist", mnist)


@pytest.mark.parametrize("raw", [b"", struct.pack(">HBBI", 0, 8, 1, 60) + bytes(59), bytes.fromhex("00000801")])
def test_wrong_length(mnist, raw):
    (mnist / MNIST_FILES["y_train"]).write_bytes(gzip.compress(raw))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz must"):
        load_images("mnist", mnist)


def test_missing_files_are_listed_with_their_folder(mnist):
    (mnist / MNIST_FILES["y_train"]).unlink()
    with pytest.raises(
        DataError, match=r"got .*data without train-labels-idx1-ubyte.gz\. Run .*data` to download https://"
    ):
        load_images("mnist", mnist)
    with pytest.raises(DataError, match=r"mnist needs a folder with train-images.*, got no folder\. "):
        load_images("mnist")


@pytest.mark.skipif(REAL is None, reason="HYPERINIT_TEST_DATA names no folder with the real MNIST files")
def test_real_mnist():
    real = load_images("mnist", Path(REAL))
    assert [len(x) for x in (real.x_train, real.x_val, real.x_test)] == [50_000, 10_000, 10_000]
    assert np.bincount(real.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    every = np.concatenate([real.x_train, real.x_val]) / np.float32(255)
    assert every.mean() == pytest.approx(0.1307, abs=1e-4)
    assert every.std() == pytest.approx(0.3081, abs=1e-4)


# digits


def test_digits_keep_every_image_once():
    digits = load_images("digits")
    every = np.concatenate([digits.x_train, digits.x_val, digits.x_test]).reshape(1797, -1)
    assert [len(y) for y in (digits.y_train, digits.y_val, digits.y_test)] == [1197, 200, 400]
    assert len(np.unique(every, axis=0)) == 1797
    assert every.max() == 255
    assert (np.bincount(digits.y_test) > 25).all()


def test_digits_are_normalised_by_their_own_training_images():
    digits = load_images("digits")
    x, y = digits.normalised("train")
    assert x.dtype == np.float32
    assert x.mean() == pytest.approx(0, abs=1e-5)
    assert x.std() == pytest.approx(1, abs=1e-5)
    assert y is digits.y_train
    assert abs(digits.normalised("test")[0].mean()) > 1e-4  # not normalised by itself


def test_digits_look_like_digits():
    """Averages of 3.5x3.5 pixels match the 8x8 original, which excludes a mirrored or transposed image."""
    from sklearn.datasets import load_digits

    digits = load_images("digits")
    small = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(digits.x_test / 255.0), 8).flatten(1)
    original = torch.tensor(load_digits().data / 16)
    nearest = torch.cdist(small, original).argmin(1)
    assert (load_digits().target[nearest] == digits.y_test).all()


def test_digits_take_no_folder(tmp_path):
    with pytest.raises(
        DataError, match=r"data must be left out or an .npz file for digits, which come with scikit-learn"
    ):
        load_images("digits", tmp_path)


# .npz files


@pytest.mark.parametrize("shape", [(3, 30, 31), (30, 31, 3), (30, 31), (30, 31, 1)])
def test_images_of_other_names_are_not_preprocessed(tmp_path, shape):
    raw = arrays(shape)
    loaded = load_images("mine", write_npz(tmp_path, **raw))
    channels = 3 if 3 in shape else 1
    expected = raw["x_test"].transpose(0, 3, 1, 2) if shape == (30, 31, 3) else raw["x_test"]
    np.testing.assert_array_equal(loaded.x_test, expected.reshape(12, channels, 30, 31))
    assert (len(loaded.x_train), len(loaded.x_val)) == (50, 10)
    scaled = loaded.x_train.astype(float) / 255
    np.testing.assert_allclose(loaded.mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(loaded.std, scaled.std((0, 2, 3)), rtol=1e-12)


def test_svhn_becomes_grey_as_pillow_does_and_is_cropped(tmp_path):
    image = pytest.importorskip("PIL.Image")
    raw = arrays((32, 32, 3))
    loaded = load_images("svhn", write_npz(tmp_path, **raw))
    grey = np.stack([np.asarray(image.fromarray(picture).convert("L")) for picture in raw["x_test"]])
    np.testing.assert_array_equal(loaded.x_test[:, 0], grey[:, 2:30, 2:30])
    x, _ = loaded.normalised("test")
    np.testing.assert_allclose(x, loaded.x_test / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("name", ["cifar10", "stl10"])
def test_larger_images_are_resized_as_pillow_does(tmp_path, name):
    image = pytest.importorskip("PIL.Image")
    raw = arrays((96, 96, 3), train=12, test=4)
    loaded = load_images(name, write_npz(tmp_path, **raw))
    for ours, picture in zip(loaded.x_test, raw["x_test"], strict=True):
        theirs = np.asarray(image.fromarray(picture).resize((28, 28), image.Resampling.BILINEAR))
        assert np.abs(ours.transpose(1, 2, 0).astype(int) - theirs).max() <= 1


def test_28x28_images_are_not_resized(tmp_path):
    raw = arrays((3, 28, 28))
    loaded = load_images("cifar10", write_npz(tmp_path, **raw))
    np.testing.assert_array_equal(loaded.x_test, raw["x_test"])
    assert (loaded.mean, loaded.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "count", "val"), [("mnist", 60_000, 10_000), ("svhn", 73_257, 13_257), ("cifar10", 50_000, 8_000),
                               ("stl10", 5_000, 800), ("svhn", 10_000, 1_810)],
)  # fmt: skip
def test_validation_share_gives_the_paper_numbers(name, count, val):
    assert round(count * dataset.RULES[name].val_share) == val


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mine", {"y_test": None}, r"images.npz must be a readable .npz file with x_train, .* got KeyError: .*y_test"),
        ("mine", {"x_test": np.zeros((12, 28, 28))}, r"mine x_test must be uint8 .* got float64 \(12, 28, 28\)"),
        ("mine", {"x_test": np.zeros((12, 784), np.uint8)}, r"got uint8 \(12, 784\)"),
        ("mine", {"x_test": np.zeros((0, 28, 28), np.uint8)}, r"n > 0, got uint8 \(0, 28, 28\)"),
        ("mine", {"x_test": np.zeros((12, 5, 28, 28), np.uint8)}, r"mine x_test must have 1 or 3 channels"),
        (
            "mine",
            {"x_test": np.zeros((12, 27, 28), np.uint8)},
            r"must have images of one shape, got \(60, 1, 28, 28\) and \(12, 1, 27",
        ),
        ("mine", {"x_train": np.zeros((60, 28, 28), np.uint8)}, r"mine must vary in every channel"),
        (
            "mine",
            {"x_train": np.ones((1, 28, 28), np.uint8), "y_train": np.ones(1, int)},
            r"x_train must have enough images .*got 1",
        ),
        ("mine", {"y_train": np.zeros(60)}, r"one integer label for each of 60 images, got float64 \(60,\)"),
        ("mine", {"y_train": np.zeros((60, 1), int)}, r"one integer label for each of 60 images, got int64 \(60, 1\)"),
        ("mine", {"y_train": np.full(60, -1)}, r"mine must have labels >= 0, got -1..-1"),
        ("svhn", {"y_train": np.full(60, 10)}, r"svhn must have labels in 0..9, got 10..10"),
        ("svhn", {"x_train": np.zeros((60, 27, 27), np.uint8)}, r"svhn x_train must have shape \(n, 1, 28, 28\)"),
        ("cifar10", {}, r"cifar10 x_train must have shape .*, got \(60, 28, 28\)"),
        ("stl10", {"x_train": np.zeros((60, 3, 20, 40), np.uint8)}, r"stl10 x_train must have shape \(n, 3, 28, 28\)"),
    ],
)
def test_wrong_npz_content(tmp_path, name, changes, message):
    with pytest.raises(DataError, match=message):
        load_images(name, write_npz(tmp_path, **changes))


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hidden = write_npz(tmp_path, y_test=np.array([Trap()] * 12, dtype=object))
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Trap()))
    for path in (hidden, bare):
        with pytest.raises(DataError, match=r"readable .npz file .*ValueError"):
            load_images("mine", path)
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-30], lambda raw: raw[:5000] + b"?" * 99 + raw[5099:], lambda _: b""]
)
def test_damaged_npz(tmp_path, damage):
    path = write_npz(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"images.npz must be a readable .npz"):
        load_images("mine", path)


def test_npy_under_a_wrong_name(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    path = (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"x.npz must be a readable .npz"):
        load_images("mine", path)


def test_missing_npz(tmp_path):
    with pytest.raises(DataError, match=r"none.npz must be a readable .* FileNotFoundError"):
        load_images("svhn", tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"svhn needs a folder with train_32x32.mat, .*, or an .npz file with x_train"):
        load_images("svhn", tmp_path)


# names, splits, subsets


def test_verify_needs_official_files(tmp_path):
    for name, data in (("digits", None), ("mnist", write_npz(tmp_path))):
        with pytest.raises(ArgumentError, match=r"verify=True needs official files, .*, got (digits|.*images.npz)$"):
            load_images(name, data, verify=True)


def test_unknown_names_help():
    with pytest.raises(
        UnknownNameError, match=r"unknown images 'mnits'; did you mean 'mnist'\? Choose from digits, mn"
    ):
        load_images("mnits")
    with pytest.raises(
        UnknownNameError, match=r"unknown images 'zzz'; Choose from .*: data='FILE.npz' in Python, --data FILE.npz"
    ):
        load_images("zzz")
    with pytest.raises(UnknownNameError, match=r"unknown split 'validation'; choose from train, val, test"):
        load_images("digits").normalised("validation")


def test_subset_keeps_the_first_training_images():
    digits = load_images("digits")
    part = digits.subset(100)
    np.testing.assert_array_equal(part.x_train, digits.x_train[:100])
    np.testing.assert_array_equal(part.y_train, digits.y_train[:100])
    assert part.x_val is digits.x_val
    assert (part.mean, part.std) == (digits.mean, digits.std)
    assert len(np.unique(part.y_train)) == 10  # the training images are shuffled, so a prefix has every class


@pytest.mark.parametrize("count", [0, 1198])
def test_subset_needs_a_possible_count(count):
    with pytest.raises(ArgumentError, match=rf"count must be in 1..1197, got {count}"):
        load_images("digits").subset(count)
