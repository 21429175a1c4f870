"""One function opens a picture: a table of kinds, read alike in training, in reduced decoding and in prediction."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from vit_edu.data import image_folder
from vit_edu.pictures import EXTENSIONS, open_picture, reading, to_bytes, to_rgb, upright_size, visible

# Smooth, no symmetry, every corner another colour: what is turned, mirrored, inverted or clipped shows.
Y, X = np.mgrid[0:1:24j, 0:1:32j]
PIXELS = (255 * np.dstack([X, Y, 0.2 + 0.6 * X * Y])).round().astype(np.uint8)
GREY = PIXELS[..., 0]
PHOTO, WHITE = Image.fromarray(PIXELS), np.full_like(PIXELS, 255)
ALPHA = (255 * (X + Y > 0.6)).astype(np.uint8)
LAID = np.where(ALPHA[..., None] > 0, PIXELS, WHITE)
LAID_GREY = np.where(ALPHA > 0, GREY, 255)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def three(grey: np.ndarray) -> np.ndarray:
    return np.dstack([grey] * 3)


TURNED = Image.fromarray(np.rot90(PIXELS).copy())  # as a camera held upright stores it: orientation 6
# name: (image to save, options, pixels to be seen, greatest mean difference)
KINDS = {
    "rgb.png": (PHOTO, {}, PIXELS, 0),
    "grey.png": (Image.fromarray(GREY), {}, three(GREY), 0),
    "bits.png": (Image.fromarray(GREY > 127), {}, three(255 * (GREY > 127)), 0),
    "16.png": (Image.fromarray(GREY.astype(np.uint16) * 257), {}, three(GREY), 0),
    "16.tif": (Image.fromarray(GREY.astype(np.uint16) * 257), {}, three(GREY), 0),
    "16-hidden.png": (
        Image.fromarray(np.where(ALPHA, GREY.astype(np.uint16) * 257, 7)), {"transparency": 7}, three(LAID_GREY), 0
    ),
    "float.tif": (Image.fromarray((GREY / 255).astype(np.float32)), {}, three(GREY), 0),
    "alpha.png": (Image.fromarray(np.dstack([PIXELS, ALPHA])), {}, LAID, 0),
    "grey-alpha.png": (Image.fromarray(np.dstack([GREY, ALPHA])), {}, three(LAID_GREY), 0),
    "palette.png": (PHOTO.quantize(64), {}, np.asarray(PHOTO.quantize(64).convert("RGB")), 0),
    "photo.gif": (PHOTO.quantize(64), {}, np.asarray(PHOTO.quantize(64).convert("RGB")), 0),
    "photo.webp": (PHOTO, {"lossless": True}, PIXELS, 0),
    "photo.jpg": (PHOTO, {"quality": 95}, PIXELS, 3),
    "grey.jpg": (Image.fromarray(GREY), {"quality": 95}, three(GREY), 3),
    "cmyk.jpg": (PHOTO.convert("CMYK"), {"quality": 95}, PIXELS, 3),
    "turned.jpg": (TURNED, {"exif": exif(6), "quality": 95}, PIXELS, 3),
    "turned.png": (TURNED, {"exif": exif(6)}, PIXELS, 0),
    "turned.tif": (TURNED, {"exif": exif(6)}, PIXELS, 0),
    "turned-alpha.png": (
        Image.fromarray(np.rot90(np.dstack([PIXELS, ALPHA])).copy()), {"exif": exif(6)}, LAID, 0
    ),
}  # fmt: skip


def in_training(path) -> np.ndarray:
    """By the loader of a folder with classes."""
    ((image, label),) = image_folder(path.parent.parent)
    assert label == 0
    return np.asarray(image)


def reduced(path) -> np.ndarray:
    """As a part of a large JPEG is read; here all of it, at its size."""
    with reading(path) as image:
        size = upright_size(image)
        image.draft("RGB", image.size)
        picture = to_rgb(image)
    assert picture.size == size
    return np.asarray(picture)


WAYS = {
    "training": in_training,
    "reduced": reduced,
    "prediction": lambda path: np.asarray(to_rgb(path)),
    "a PIL image": lambda path: np.asarray(to_rgb(Image.open(path))),
    "opened first": lambda path: np.asarray(to_rgb(open_picture(path))),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_seen_alike_in_every_way(name, way, tmp_path):
    image, options, expected, tolerance = KINDS[name]
    path = tmp_path / "class" / name
    path.parent.mkdir()
    image.save(path, **options)
    found = way(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("mode", ["La", "RGBa", "LA", "PA", "1", "P", "I", "F", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"])
def test_every_mode_of_pil_becomes_rgb(mode):
    assert to_rgb(Image.new(mode, (3, 2))).mode == "RGB"


def test_multiplied_colours_are_divided_again():
    half = Image.fromarray(np.dstack([GREY, np.full_like(GREY, 128)]))
    assert np.abs(np.asarray(to_rgb(half.convert("La"))).astype(int) - np.asarray(to_rgb(half))).max() <= 2


def test_a_large_jpeg_is_decoded_at_a_quarter(tmp_path):
    """The recipe in `reading`'s docstring, on a picture that lies on its side: few pixels, the right way up."""
    large = Image.fromarray(np.rot90(np.kron(PIXELS, np.ones((16, 16, 1), np.uint8))).copy())
    large.save(tmp_path / "large.jpg", exif=exif(6), quality=95)
    with reading(tmp_path / "large.jpg") as image:
        assert upright_size(image) == (512, 384)
        image.draft("RGB", (image.width // 4, image.height // 4))
        small = to_rgb(image)
    assert small.size == (128, 96)
    expected = np.kron(PIXELS, np.ones((4, 4, 1), np.uint8))
    assert np.abs(np.asarray(small).astype(int) - expected).mean() < 4


def test_broken_exif_costs_the_turn_and_not_the_picture(tmp_path):
    """Of a path and of a PIL image; the warning names the file."""
    block = b"Exif\x00\x00II*\x00"
    path = tmp_path / "broken.png"
    PHOTO.save(path, exif=block)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception):  # noqa: B017  what others die of, or else the case shows nothing
            with Image.open(path) as image:
                ImageOps.exif_transpose(image)
    for source in path, Image.open(path):
        with pytest.warns(UserWarning, match="broken.png: its EXIF data cannot be read"):
            found = np.asarray(to_rgb(source)).astype(int)
        assert np.array_equal(found, PIXELS)


def test_a_small_overshoot_is_clipped_and_a_large_one_refused():
    assert to_bytes(np.array([-0.1, 0.0, 0.5, 1.1])).tolist() == [0, 0, 128, 255]
    for values in [-0.3, 1.0], [0.0, 1.5]:
        with pytest.raises(ValueError, match="undo their normalisation"):
            to_bytes(np.array(values))


def test_integers_of_32_bits_are_refused_unless_they_are_16():
    with pytest.raises(ValueError, match="scale them to 16"):
        to_rgb(Image.fromarray(np.full((2, 2), 70_000, np.int32)))


@pytest.mark.filterwarnings("ignore:.*EXIF")
def test_a_broken_file_is_named_with_a_remedy(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    whole = tmp_path / "whole.png"
    PHOTO.save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:100])
    for name in "text.png", "half.png":
        for way in WAYS["prediction"], reduced:
            with pytest.raises(ValueError, match=f"{name} cannot be read as a picture.*download it again, or remove"):
                way(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        to_rgb(tmp_path / "absent.png")


def test_the_users_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    PHOTO.save(tmp_path / "mine.png")
    assert np.array_equal(np.asarray(to_rgb("~/mine.png")), PIXELS)


def test_what_no_person_made_is_hidden():
    for name in ".ipynb_checkpoints", ".DS_Store", "._cat.jpg", "@eaDir", "__MACOSX", "lost+found", "#recycle":
        assert not visible(name)
    assert visible("cat") and visible("a.b") and ".jpeg" in EXTENSIONS
