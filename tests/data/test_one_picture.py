"""One picture, in every way that a person may have it, is one picture and always the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import maskcon
from maskcon.data.readers.arrays import from_arrays, one_or_several
from maskcon.errors import InputError

TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A picture that its EXIF says to turn."""
    path = tmp_path_factory.mktemp("photo") / "phone.png"
    noise = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, exif=TURNED)
    return path


def test_every_way_in_gives_the_same_vector(run, photo):
    encoder = maskcon.Encoder.load(run)
    array = np.array(
        Image.fromarray(np.array(Image.open(photo))).transpose(Image.Transpose.ROTATE_270)
    )
    ways = [
        photo, str(photo), [photo], photo.read_bytes(), [photo.read_bytes()],
        bytearray(photo.read_bytes()), memoryview(photo.read_bytes()),
        Image.open(photo), [Image.open(photo)], array, [array], array[None],
        np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        torch.from_numpy(array).permute(2, 0, 1), torch.from_numpy(array).permute(2, 0, 1)[None],
        [torch.from_numpy(array).permute(2, 0, 1)],
    ]  # fmt: skip
    expected = encoder.embed([photo])
    for way in ways:
        found = encoder.embed(way)
        assert found.shape == expected.shape, type(way)
        np.testing.assert_array_equal(found, expected, err_msg=str(type(way)))
    together = encoder.embed([photo, str(photo), Image.open(photo), array, photo.read_bytes()])
    np.testing.assert_allclose(together, np.repeat(expected, 5, axis=0), atol=1e-6)


def test_grey_ways(run):
    encoder = maskcon.Encoder.load(run)
    grey = np.random.default_rng(1).integers(256, size=(16, 16), dtype=np.uint8)
    expected = encoder.embed([Image.fromarray(grey)])
    for way in (grey, grey[..., None], grey[None], [grey], Image.fromarray(grey)):
        np.testing.assert_array_equal(encoder.embed(way), expected)


@pytest.mark.parametrize(
    "shape", [(2, 16, 16), (3, 16, 16), (4, 16, 16), (16, 16, 2), (32, 32, 5), (32, 20, 13)]
)
def test_what_may_be_one_or_several_is_refused(shape):
    with pytest.raises(
        InputError, match=r"may be one picture (with|of \d+ bands).* or several grey"
    ):
        one_or_several(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(8, 32, 32), (8, 16, 16), (100, 12, 30)])
def test_several_grey_pictures_are_several(shape):
    assert len(one_or_several(np.zeros(shape, np.uint8))) == shape[0]


@pytest.mark.parametrize(
    "given",
    [
        *(None, 5, np.ones((16, 16, 3), bool), np.ones((16, 16, 3), np.float32)),
        *(np.ones((16, 16, 3), np.int64), np.ones((16, 16, 3), object)),
        *(np.ones((1, 1, 16, 16, 3), np.uint8), torch.ones(2, 16, 16).byte()),
        *(torch.ones(3, 16, 16).bfloat16(), torch.ones(3, 16, 16, requires_grad=True)),
    ],
)
def test_other_kinds_are_one_message(given):
    with pytest.raises(InputError, match="expected"):
        one_or_several(given)


def test_a_picture_with_labels_of_several_is_refused():
    with pytest.raises(InputError, match="expected uint8"):
        from_arrays(np.zeros((16, 16, 3), np.uint8), ["a"] * 16)
