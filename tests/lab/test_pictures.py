"""How an image file becomes pixels."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from simreg_core.lab.image_files import (
    DataError,
)
from simreg_core.lab.images import load_image_set

pytestmark = pytest.mark.usefixtures("folder")


RAMP = np.tile(np.linspace(0, 255, 16).round().astype(np.uint8), (12, 1))  # not square, and no side like another


RAMP[0] = 0


COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)


def read_one(folder, picture, ending, channels=3, **options):
    """[channels, h, w] of a picture, saved and read again as the only image of a set."""
    path = folder / "one" / "class" / f"x.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for earlier in path.parent.iterdir():
        earlier.unlink()
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    else:
        picture.save(path, **options)
    load_image_set.cache_clear()
    return load_image_set("one", "train", channels=channels).images[0].numpy()


def png_bytes(width, height, depth, colour, rows, transparent):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    lines = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", lines), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG", "jpe", "jfif", "webp", "bmp", "dib", "tif", "TIFF", "ppm"])
def test_what_has_8_bits_is_read_as_pillow_reads_it(folder, ending):
    for channels, mode in ((1, "L"), (3, "RGB")):
        for pixels in (RAMP, COLOURS):
            read = read_one(folder, Image.fromarray(pixels), ending, channels)
            with Image.open(folder / "one" / "class" / f"x.{ending}") as picture:
                expected = np.asarray(picture.convert("RGB").convert(mode))
            assert np.array_equal(read, expected[None] if channels == 1 else expected.transpose(2, 0, 1))


@pytest.mark.parametrize("ending", ["gif", "pgm", "pnm"])
def test_gray_formats(folder, ending):
    assert np.array_equal(read_one(folder, Image.fromarray(RAMP), ending, 1)[0], RAMP)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bits_are_scaled(folder, ending):
    wide = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert np.array_equal(read_one(folder, wide, ending, 1)[0], RAMP)
    assert np.array_equal(read_one(folder, wide, ending, 3), np.stack([RAMP] * 3))


def test_16_bits_of_the_other_byte_order_are_scaled(folder):
    wide = Image.frombytes("I;16B", RAMP.shape[::-1], (RAMP.astype(">u2") * 257).tobytes())
    assert np.array_equal(read_one(folder, wide, "tif", 1)[0], RAMP)


@pytest.mark.parametrize(
    ("pixels", "options", "mode"),
    [
        (RAMP.astype(np.int32) * 257, {}, "I"),
        (RAMP.astype(np.float32) / 255, {}, "F"),
        (RAMP.astype(np.uint16) * 257, {"tiffinfo": {262: 0}}, "I;16"),  # 0 is white
    ],
)
def test_levels_without_a_known_white_are_refused(folder, pixels, options, mode):
    with pytest.raises(
        DataError, match=rf"x\.tif cannot be read: it holds levels without a known white .*mode {mode}\)"
    ):
        read_one(folder, Image.fromarray(pixels), "tif", **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_pictures_are_turned_upright(folder, orientation, ending):
    stored = {
        1: RAMP, 2: RAMP[:, ::-1], 3: RAMP[::-1, ::-1], 4: RAMP[::-1],
        5: RAMP.T, 6: RAMP.T[::-1], 7: RAMP.T[::-1, ::-1], 8: RAMP.T[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if ending == "webp" else {}
    picture = Image.fromarray(np.ascontiguousarray(stored))
    assert np.array_equal(read_one(folder, picture, ending, 1, exif=exif, **options)[0], RAMP)


@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_leaves_the_pixels_readable(folder, exif):
    assert np.array_equal(read_one(folder, Image.fromarray(RAMP), "png", 1, exif=exif)[0], RAMP)


def test_transparent_pictures_are_put_on_white(folder):
    alpha = np.zeros_like(RAMP)
    alpha[:, 8:], alpha[:, 15] = 255, 51
    read = read_one(folder, Image.fromarray(np.dstack([COLOURS, alpha])), "png").transpose(1, 2, 0)
    assert (read[:, :8] == 255).all()
    assert np.array_equal(read[:, 8:15], COLOURS[:, 8:15])
    assert np.abs(read[:, 15] - (COLOURS[:, 15] * 0.2 + 255 * 0.8)).max() <= 1
    gray = read_one(folder, Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(alpha)]), "png", 1)[0]
    assert (gray[:, :8] == 255).all()
    assert np.array_equal(gray[:, 8:15], RAMP[:, 8:15])


def test_a_transparent_colour_is_put_on_white(folder):
    palette = Image.fromarray(RAMP // 17, "L").convert("P")
    palette.putpalette([17 * (level // 3) for level in range(48)])
    for ending in ("png", "gif"):
        read = read_one(folder, palette, ending, 1, transparency=2)[0]
        assert np.array_equal(read, np.where(RAMP == 34, 255, RAMP))
    read = read_one(folder, palette, "png", 1, transparency=bytes([0, 255, 0]))[0]
    assert np.array_equal(read, np.where((RAMP == 0) | (RAMP == 34), 255, RAMP))
    read = read_one(folder, Image.fromarray(RAMP), "png", 1, transparency=34)[0]
    assert np.array_equal(read, np.where(RAMP == 34, 255, RAMP))
    colour = tuple(COLOURS[5, 5].tolist())
    read = read_one(folder, Image.fromarray(COLOURS), "png", transparency=colour).transpose(1, 2, 0)
    assert np.array_equal(read, np.where((colour == COLOURS).all(-1, keepdims=True), 255, COLOURS))


def test_an_opaque_alpha_channel_changes_nothing(folder):
    picture = Image.fromarray(COLOURS)
    for mode in ("RGBA", "LA", "P"):
        assert np.array_equal(
            read_one(folder, picture.convert(mode), "png"),
            np.asarray(picture.convert(mode).convert("RGB")).transpose(2, 0, 1),
        )


@pytest.mark.parametrize(
    "content",
    [
        png_bytes(8, 8, 2, 0, [b"\x1b\x1b"] * 8, struct.pack(">H", 1)),
        png_bytes(8, 8, 16, 0, [struct.pack(">8H", *range(8))] * 8, struct.pack(">H", 1)),
        png_bytes(8, 8, 16, 2, [struct.pack(">24H", *range(24))] * 8, struct.pack(">3H", 0, 1, 2)),
    ],
)
def test_a_transparent_colour_that_pillow_misses_is_refused(folder, content):
    with pytest.raises(DataError, match=r"x\.png cannot be read: it has a transparent colour, but not 8 bits"):
        read_one(folder, content, "png")


@pytest.mark.parametrize(("mode", "ending"), [("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "tif"), ("LAB", "tif")])
def test_other_colour_spaces_are_converted(folder, mode, ending):
    picture = Image.new("RGB", (8, 8), (200, 40, 90)).convert(mode)
    red, green, blue = read_one(folder, picture, ending)[:, 4, 4].tolist()
    assert abs(red - 200) < 12
    assert abs(green - 40) < 12
    assert abs(blue - 90) < 12


@pytest.mark.parametrize("ending", ["gif", "tif", "png", "webp"])
def test_several_pictures_in_one_file_are_refused(folder, ending):
    first, second = Image.fromarray(COLOURS), Image.fromarray(COLOURS[:, ::-1].copy())
    with pytest.raises(DataError, match=rf"x\.{ending} cannot be read: it holds 2 pictures; save each"):
        read_one(folder, first, ending, save_all=True, append_images=[second])


def test_a_cameras_second_picture_is_no_image_of_its_own(folder):
    picture = Image.fromarray(COLOURS)
    read = read_one(folder, picture, "jpg", format="MPO", save_all=True, append_images=[picture.resize((4, 4))])
    assert read.shape == (3, 12, 16)


def test_every_failure_of_pillow_names_the_file(folder):
    for content in (b"", b"no image", png_bytes(8, 8, 8, 0, [b"12345678"] * 8, b"")):
        with pytest.raises(DataError, match=r"image file .*x\.png cannot be read: .") as error:
            read_one(folder, content, "png")
        assert str(error.value).count("x.png") == 1
        assert "<" not in str(error.value)  # no object of Pillow's
    with pytest.raises(DataError, match=r"broken or no picture; remove it, or save it again as PNG or JPEG$"):
        read_one(folder, b"no image", "png")


def test_of_a_truncated_picture_it_is_said_what_to_do(folder):
    picture = folder / "one" / "class" / "x.jpg"
    read_one(folder, Image.fromarray(COLOURS), "jpg")
    with pytest.raises(DataError, match=r"x\.jpg cannot be read: .*truncated.*; remove it, or save it again$"):
        read_one(folder, picture.read_bytes()[:-40], "jpg")
