"""Images of any form become what a source's networks were trained on; other objects are refused."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from seeds import gen
from tiny_source import card

from hyperinit.batches.transforms import Transform
from hyperinit.errors import ArgumentError

GREY, COLOUR = Transform(28, 1, (0.1307,), (0.3081,)), Transform(28, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def random(*shape):
    return torch.randint(256, shape, dtype=torch.uint8, generator=gen())


def test_an_image_of_the_right_size_is_only_normalised():
    pixels = random(3, 28, 28)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (COLOUR.mean, COLOUR.std))
    expected = (pixels.double() / 255 - mean) / std
    torch.testing.assert_close(COLOUR(pixels), expected.float())
    assert COLOUR(pixels).dtype == torch.float32


@pytest.mark.parametrize("transform", [GREY, COLOUR])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (20, 20), (40, 30), (7, 90)])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_forms_of_one_image_give_one_input(transform, channels, size):
    pixels = random(channels, *size)
    array = np.ascontiguousarray(pixels.numpy().transpose(1, 2, 0))
    image = Image.fromarray(array[..., 0] if channels == 1 else array)
    expected = transform(pixels)
    assert expected.shape == (transform.channels, 28, 28)
    assert all(torch.equal(transform(form), expected) for form in (array, image))
    if channels == 1:
        assert torch.equal(transform(array[..., 0]), expected)
    assert torch.equal(transform(torch.stack([pixels, pixels])), torch.stack([expected, expected]))
    assert torch.equal(transform(np.stack([array, array])), torch.stack([expected, expected]))


def test_a_batch_may_be_empty():
    assert GREY(random(0, 3, 40, 30)).shape == (0, 1, 28, 28)


def test_colours_become_pillows_grey():
    pixels = random(3, 28, 28)
    grey = np.asarray(Image.fromarray(pixels.numpy().transpose(1, 2, 0).copy()).convert("L"))
    assert torch.equal(GREY(pixels), GREY(grey))


def test_resizing_is_close_to_pillows():
    smooth = torch.nn.functional.interpolate(random(1, 1, 8, 8).float(), (64, 64), mode="bilinear").byte()[0]
    image = Image.fromarray(smooth[0].numpy()).resize((28, 28), Image.Resampling.BILINEAR)
    torch.testing.assert_close(GREY(smooth), GREY(np.asarray(image)), atol=1.01 / 255 / 0.3081, rtol=0)


def test_the_centre_of_a_longer_image_is_kept():
    pixels = torch.zeros(1, 28, 60, dtype=torch.uint8)
    pixels[:, :, 16:44] = 255
    assert (GREY(pixels) > 2).all()


def test_a_source_of_centre_crops_gets_a_centre_crop():
    pixels = random(1, 32, 32)
    cropped = dataclasses.replace(GREY, crop=True)
    assert torch.equal(cropped(pixels), GREY(pixels[:, 2:30, 2:30]))
    assert torch.equal(cropped(random(1, 20, 20)), GREY(random(1, 20, 20)))  # too small for a crop


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_pillows_modes_of_eight_bits_are_accepted(mode):
    image = Image.fromarray(random(20, 20).numpy()).convert(mode)
    assert COLOUR(image).shape == (3, 28, 28)
    assert torch.equal(GREY(image), GREY(np.asarray(image.convert("L")))) or mode in ("P", "CMYK", "YCbCr")


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(1, 28, 28), torch.zeros(28, 28, dtype=torch.uint8), torch.zeros(5, 28, 28, dtype=torch.uint8),
        torch.zeros(2, 4, 28, 28, dtype=torch.uint8), torch.zeros(1, 0, 28, dtype=torch.uint8), np.zeros((28, 28)),
        np.zeros((3, 28, 28), np.uint8), np.zeros(28, np.uint8), "image.png", None, [[0, 1]],
    ],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_refused(image):
    with pytest.raises(ArgumentError, match=r"^image must be a PIL image, a uint8 array"):
        GREY(image)


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_images_of_more_than_eight_bits_are_refused(mode):
    with pytest.raises(ArgumentError, match=f"8 bits in each channel, got a PIL image of mode '{mode}'"):
        GREY(Image.new(mode, (28, 28)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_settings_of_the_caller_have_no_influence(default_dtype, dtype):
    pixels = random(3, 40, 30)
    expected = GREY(pixels)
    default_dtype(dtype)
    with torch.device("meta"), torch.autocast("cpu"):
        assert torch.equal(GREY(pixels), expected)


def test_a_card_gives_the_transform():
    assert Transform.of(card()) == Transform(28, 1, (0.5,), (0.25,))
    assert Transform.of(dataclasses.replace(card(), title="photographs, centre crop to 28x28")).crop
    assert pickle.loads(pickle.dumps(GREY)) == GREY  # for the workers of a data loader


@pytest.mark.parametrize(
    "change",
    [
        {"size": None}, {"size": 0}, {"channels": 2}, {"mean": []}, {"mean": None}, {"std": [0.0]}, {"std": [1.0, 1.0]},
        {"mean": [float("nan")]}, {"size": "28"},
    ],
)  # fmt: skip
def test_a_card_without_whole_preprocessing_is_refused(change):
    other = dataclasses.replace(card(), preprocessing=card().preprocessing | change)
    with pytest.raises(ArgumentError, match="card of 'tiny' must say how images are prepared"):
        Transform.of(other)
    with pytest.raises(ArgumentError, match=r"got \{\}"):
        Transform.of(dataclasses.replace(card(), preprocessing={}))
