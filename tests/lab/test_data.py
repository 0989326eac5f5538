"""Image sets: what ships, folders of a user's own, and what is refused."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from simreg_core.lab.data import load_cifar10_c, load_image_set
from simreg_core.lab.image_files import (
    COUNTS,
    TASK_PHOTOS,
    DataError,
    count_images,
    has_cifar10_c,
    has_validation,
    stamp_of,
)
from simreg_core.names import CORRUPTIONS


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    load_image_set.cache_clear()
    yield tmp_path
    load_image_set.cache_clear()


def write_tree(root, sizes=((8, 8), (8, 8)), classes=("cat", "dog")):
    for class_name in classes:
        (root / class_name).mkdir(parents=True)
        for index, size in enumerate(sizes):
            pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / class_name / f"{index}.png")


@pytest.mark.parametrize(("split", "count"), [("train", 4000), ("validation", 1000), ("test", 1000)])
def test_photos(split, count):
    photos = load_image_set("photos", split)
    assert photos.images.shape == (count, 1, 16, 16)
    assert photos.images.dtype == torch.uint8
    assert photos.labels.bincount().tolist() == [count // 10] * 10
    assert photos.classes == TASK_PHOTOS
    assert 0 <= photos.pixels.min() < photos.pixels.max() <= 1


def test_splits_of_photos_share_no_pixels():
    # a patch of one split overlaps none of another: no row of 16 pixels with texture stands in two splits
    rows = {}
    for split in ("train", "validation", "test"):
        lines = load_image_set("photos", split).images.reshape(-1, 16).numpy()
        textured = lines[lines.std(axis=1) > 12]
        rows[split] = {line.tobytes() for line in textured}
        assert len(rows[split]) > 1000
    assert not rows["train"] & rows["test"]
    assert not rows["train"] & rows["validation"]
    assert not rows["validation"] & rows["test"]


def test_the_same_images_every_time():
    first = load_image_set("photos", "test").checksum
    load_image_set.cache_clear()
    assert load_image_set("photos", "test").checksum == first
    assert load_image_set("photos", "train").checksum != first


def test_colour_and_other_sizes():
    assert load_image_set("photos", "test", (24, 20), 3).images.shape[1:] == (3, 24, 20)
    assert load_image_set("photos-foreign", "train").images.shape[1:] == (1, 16, 16)
    assert load_image_set("digits", "train", (16, 16)).images.shape == (1297, 1, 16, 16)


def test_a_folder_of_classes(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "test", sizes=((8, 8),))
    train = load_image_set("mine", "train")
    assert (len(train), len(load_image_set("mine", "test"))) == (4, 2)
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="has no validation images"):
        load_image_set("mine", "validation")


def test_a_folder_is_resized_to_one_size(folder):
    write_tree(folder / "mixed", sizes=((8, 8), (10, 20)))
    with pytest.raises(DataError, match=r"'mixed' mixes image sizes \(8x8 and 10x20\)"):
        load_image_set("mixed", "train")
    assert load_image_set("mixed", "train", (9, 16), 3).images.shape == (4, 3, 9, 16)


def test_labels_mean_the_same_in_every_split(folder):
    write_tree(folder / "mine" / "train", classes=("ant", "cat", "dog", ".hidden"))
    write_tree(folder / "mine" / "test", classes=("cat", "dog"))
    with pytest.warns(UserWarning, match="no images of 1 of 3 classes, such as 'ant'"):
        assert load_image_set("mine", "test").labels.tolist() == [1, 1, 2, 2]
    write_tree(folder / "mine" / "validation", classes=("emu",))
    with pytest.raises(DataError, match="class 'emu' but no training images of it"):
        load_image_set("mine", "validation")


def test_a_part_of_a_folder_is_spread_over_its_classes(folder):
    write_tree(folder / "mine", sizes=((8, 8),) * 6)
    assert load_image_set("mine", "train", count=4).labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="13 images are asked for, but 'mine' has 12"):
        load_image_set("mine", "train", count=13)


def test_gray_is_pillows(folder):
    write_tree(folder / "mine")
    picture = Image.open(folder / "mine" / "cat" / "0.png")
    assert torch.equal(load_image_set("mine", "train").images[0, 0], torch.from_numpy(np.array(picture.convert("L"))))


def test_a_corrupt_file_is_named(folder):
    write_tree(folder / "mine")
    broken = folder / "mine" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=f"{broken} cannot be read"):
        load_image_set("mine", "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "train"), "unknown image set 'nothing'; allowed: photos, photos-foreign, digits, cifar10"),
        (("photos", "dev"), "unknown split 'dev'; allowed: train, validation, test"),
        (("photos", "train", (16, 16), 2), "channels must be 1"),
        (("photos", "train", (4, 16)), "size must be at least 8"),
        (("photos", "train", (200, 200)), "too small for patches of 200x200"),
        (("photos-foreign", "test"), "has no test images"),
        (("digits", "validation"), "no validation images of its own"),
    ],
)
def test_bad_names_are_named(arguments, message):
    with pytest.raises(DataError, match=message):
        load_image_set(*arguments)


def test_an_empty_folder_is_named(folder):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="'empty' is empty"):
        load_image_set("empty", "train")


def test_a_download_that_fails_names_the_set_and_the_folder(folder, monkeypatch):
    def no_network(*arguments, **options):
        raise RuntimeError("network is unreachable")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", no_network)
    with pytest.raises(DataError, match=f"'cifar10' could not be had in {folder}: network is unreachable"):
        load_image_set("cifar10", "train")


def test_torchvision_sets(folder, monkeypatch):
    class Fake:
        data = np.full((3, 32, 32, 3), 200, dtype=np.uint8)
        targets = (2, 0, 1)
        classes = ("a", "b", "c")

        def __init__(self, root, train, download):
            assert (root, train, download) == (folder, False, True)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Fake)
    images = load_image_set("cifar10", "test", (16, 16))
    assert images.images.shape == (3, 1, 16, 16)
    assert images.images.unique().tolist() == [200]
    assert images.labels.tolist() == [2, 0, 1]


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
        with pytest.raises(DataError, match=r"image file .*x\.png cannot be read: ."):
            read_one(folder, content, "png")


def quiet_count(name, split="train"):
    """count_images, where a warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return count_images(name, split)


def test_hidden_files_and_what_systems_leave_are_skipped(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "train", classes=("__MACOSX", ".ipynb_checkpoints"))
    write_tree(folder / "mine", classes=("__MACOSX",))
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "mine" / "train" / "cat" / name).write_bytes(b"\0\5\26\7")
        (folder / "mine" / name).write_bytes(b"\0\5\26\7")
    assert quiet_count("mine") == 4
    assert load_image_set("mine", "train").classes == ("cat", "dog")


def test_files_that_are_not_read_are_counted(folder):
    root = folder / "mine"
    write_tree(root / "train")
    write_tree(root / "train" / "cat" / "more", classes=("deep",))
    write_tree(root, classes=("extra",))
    for name in ("1.heic", "2.HEIC", "boxes.txt", "no_ending"):
        (root / "train" / "dog" / name).write_bytes(b"x")
    for path in (root / "train" / "x.png", root / "y.png"):
        Image.fromarray(RAMP).save(path)
    os.mkfifo(root / "train" / "dog" / "pipe.png")  # to open it would wait for ever
    for question in (count_images, load_image_set):
        with pytest.warns(UserWarning, match="image set 'mine', train images; left out: ") as said:
            question("mine", "train")
    message = str(said[0].message)
    assert len(load_image_set("mine", "train")) == 4
    assert "2 images beside the class folders, such as" in message
    assert "2 images deeper than CLASS/ and CLASS/images/, such as" in message
    assert "5 files that are not known as images (2 .heic, 1 .png, 1 .txt, 1 without ending)" in message
    assert "folders beside those of the splits ('extra')" in message


def test_a_class_without_training_images_is_refused(folder):
    root = folder / "mine" / "train"
    write_tree(root)
    (root / "emu").mkdir()
    for question in (count_images, load_image_set):
        with pytest.raises(
            DataError, match=r"'mine' has no train images of class 'emu'; put some into .*emu, or remove"
        ):
            question("mine", "train")
    (root / "emu" / "x.heic").write_bytes(b"x")
    write_tree(root / "emu", classes=("deep",))
    with pytest.raises(DataError, match=r"class 'emu'.*2 images deeper.*emu/deep/0\.png; 1 files .*\(1 \.heic\)"):
        count_images("mine", "train")


def test_a_class_without_test_images_is_said(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "test")
    for path in (folder / "mine" / "test" / "cat").iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match="'mine', test images; no images of 1 of 2 classes, such as 'cat'"):
        assert load_image_set("mine", "test").labels.tolist() == [1, 1]


@pytest.mark.parametrize("place", ["", "test", "train/emu", "train/cat/7.png"])
def test_a_link_to_nothing_is_named(folder, place):
    link = folder / "mine" / place
    if place:
        write_tree(folder / "mine" / "train")
    link.symlink_to(folder / "gone")
    with pytest.raises(DataError, match=f"{link} is a link to nothing; mend or remove it"):
        count_images("mine", "train")


def test_links_to_something_are_followed(folder):
    write_tree(folder / "elsewhere")
    (folder / "mine" / "train" / "emu").mkdir(parents=True)
    (folder / "mine" / "train" / "cat").symlink_to(folder / "elsewhere" / "cat")
    (folder / "mine" / "train" / "emu" / "0.png").symlink_to(folder / "elsewhere" / "dog" / "0.png")
    assert quiet_count("mine") == 3


def test_a_link_to_itself_is_named(folder):
    write_tree(folder / "mine")
    (folder / "mine" / "cat" / "loop.png").symlink_to(folder / "mine" / "cat" / "loop.png")
    with pytest.raises(DataError, match=r"loop\.png is a link to nothing"):
        count_images("mine", "train")


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    write_tree(folder / "mine")
    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(DataError, match=f"folder {folder / 'mine'} cannot be read: .*Permission denied"):
        count_images("mine", "train")


def test_images_of_a_class_may_lie_in_a_folder_images(folder):
    for class_name in ("cat", "dog"):
        write_tree(folder / "tiny" / "train" / class_name, classes=("images",))
        (folder / "tiny" / "train" / class_name / "boxes.txt").write_text("0 0 8 8")
    with pytest.warns(UserWarning, match=r"2 files that are not known as images \(2 \.txt\)"):
        tiny = load_image_set("tiny", "train")
    assert tiny.labels.tolist() == [0, 0, 1, 1]
    assert tiny.classes == ("cat", "dog")
    write_tree(folder / "tiny" / "val", classes=("images",))
    with pytest.raises(DataError, match=r"class 'images' but no training .* sort the files in .*val/images into class"):
        count_images("tiny", "validation")


def test_images_that_lie_deeper_are_said(folder):
    write_tree(folder / "twice" / "twice" / "train")
    with pytest.raises(
        DataError, match=r"'twice' is empty: .* 4 images deeper than CLASS/.*twice/twice/train/cat/0\.png"
    ):
        count_images("twice", "train")
    write_tree(folder / "flat", classes=("train",))
    with pytest.raises(DataError, match=r"'flat' is empty: .* 2 images beside the class folders, such as .*0\.png"):
        count_images("flat", "train")


def test_val_is_a_name_of_the_validation_split(folder):
    write_tree(folder / "mine" / "train")
    assert not has_validation("mine")
    write_tree(folder / "mine" / "val", sizes=((8, 8),))
    assert has_validation("mine")
    assert quiet_count("mine", "validation") == len(load_image_set("mine", "validation")) == 2
    write_tree(folder / "mine" / "validation")
    for question in (lambda: has_validation("mine"), lambda: count_images("mine", "train")):
        with pytest.raises(DataError, match=r"'mine' has both 'validation' and 'val' in .*mine; keep one"):
            question()


@pytest.mark.parametrize("other", ["training", "Train", "valid", "testing", "VAL"])
def test_a_folder_named_like_a_split_is_refused(folder, other):
    write_tree(folder / "mine" / other)
    with pytest.raises(DataError, match=f"has a folder '{other}' in .*; folders of splits are named 'train'"):
        count_images("mine", "train")
    write_tree(folder / "mine" / "test")
    with pytest.raises(DataError, match=f"has a folder '{other}' in .*; folders of splits are named 'train'"):
        count_images("mine", "test")


def test_a_class_may_be_named_like_a_split(folder):
    write_tree(folder / "vehicles", classes=("Bus", "Train"))
    assert load_image_set("vehicles", "train").classes == ("Bus", "Train")


def test_a_split_that_is_missing_is_said_with_those_that_are_there(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "val")
    with pytest.raises(DataError, match=r"no test images: .*mine/test is missing \(there is 'train', 'val'\)"):
        count_images("mine", "test")
    write_tree(folder / "plain")
    with pytest.raises(DataError, match=r"no test images: .*in no folder of a split are training images"):
        count_images("plain", "test")


def test_names_are_compared_in_one_unicode_form(folder):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    write_tree(folder / composed / "train", classes=(composed, "tea"))
    write_tree(folder / composed / "test", classes=(decomposed, "tea"))
    for name in (composed, decomposed):
        test = load_image_set(name, "test")
        assert test.classes == (composed, "tea")
        assert test.labels.tolist() == [0, 0, 1, 1]
    write_tree(folder / composed / "train", classes=(decomposed,))
    with pytest.raises(
        DataError, match=r"folders 'cafe?\\\S+' and 'cafe?\\\S+' in .* are one name in Unicode form NFC"
    ):
        count_images(composed, "train")


def test_names_that_look_the_same_are_told_apart(folder):
    write_tree(folder / "mine" / "train", classes=("cat", "dog"))
    write_tree(folder / "mine" / "test", classes=("c\u0430t", "dog"))  # a Cyrillic letter
    with pytest.raises(
        DataError, match=r"\('c\\u0430t'\) but no training images of it \(the most similar one is 'cat'\)"
    ):
        count_images("mine", "test")


@pytest.mark.parametrize("name", list(COUNTS))
def test_a_name_that_means_two_sets_is_refused(folder, name):
    (folder / name).mkdir()
    assert count_images(name, "train") == COUNTS[name]["train"]  # nothing of an image set in it
    write_tree(folder / name / "train")
    for question in (count_images, load_image_set):
        with pytest.raises(DataError, match=f"'{name}' means two image sets: .*{name}/train/cat/0.png.*; rename"):
            question(name, "train")


def test_torchvisions_own_downloads_are_no_second_set(folder):
    for download in ("MNIST", "FashionMNIST", "cifar-10-batches-py", "cifar-100-python"):
        write_tree(folder / download)
    for name in ("cifar10", "cifar100", "mnist", "fashion-mnist"):
        assert quiet_count(name, "test") == 10_000


@pytest.mark.parametrize(("name", "split"), [(name, split) for name in ("photos", "digits") for split in COUNTS[name]])
def test_named_sets_hold_as_many_images_as_is_said(name, split):
    assert count_images(name, split) == len(load_image_set(name, split))


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar10", "validation", "'cifar10' has no validation images of its own; take them from 'train'"),
        ("photos-foreign", "test", "'photos-foreign' has no test images"),
        ("mnist", "dev", "unknown split 'dev'"),
        ("mine", "dev", "unknown split 'dev'"),
        ("mine", "train", "unknown image set 'mine'"),
    ],
)
def test_counting_refuses_what_loading_refuses(name, split, message):
    for question in (count_images, load_image_set, stamp_of):
        with pytest.raises(DataError, match=message):
            question(name, split)


def test_a_stamp_follows_the_files(folder):
    write_tree(folder / "mine" / "train")
    first = stamp_of("mine", "train")
    assert stamp_of("mine", "train") == first
    path = folder / "mine" / "train" / "cat" / "0.png"
    os.utime(path, ns=(0, 0))
    touched = stamp_of("mine", "train")
    path.rename(path.with_name("2.png"))
    assert len({first, touched, stamp_of("mine", "train")}) == 3
    assert stamp_of("digits", "train") == "digits"


def write_npy(path, shape, dtype=np.uint8):
    """An array of zeros that takes no room: the file has holes."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


@pytest.fixture
def cifar10_c(folder):
    root = folder / "CIFAR-10-C"
    root.mkdir()
    for corruption in CORRUPTIONS:
        write_npy(root / f"{corruption}.npy", (50_000, 32, 32, 3))
    write_npy(root / "labels.npy", (50_000,))[:] = np.arange(50_000) % 10
    return root


def test_cifar10_c(cifar10_c):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 2, 32, 32, 3), dtype=np.uint8)
    fog = np.lib.format.open_memmap(cifar10_c / "fog.npy", mode="r+")
    for severity in range(1, 6):
        fog[(severity - 1) * 10_000], fog[severity * 10_000 - 1] = pictures[severity - 1]
    fog.flush()
    for severity in range(1, 6):
        first, last = pictures[severity - 1]
        colour = load_cifar10_c("fog", severity, 3)
        assert colour.images.shape == (10_000, 3, 32, 32)
        assert torch.equal(colour.images[0].permute(1, 2, 0), torch.from_numpy(first))
        assert torch.equal(colour.images[-1].permute(1, 2, 0), torch.from_numpy(last))
    gray = load_cifar10_c("fog", 4, 1)
    assert gray.images.shape == (10_000, 1, 32, 32)
    assert torch.equal(gray.images[0, 0], torch.from_numpy(np.array(Image.fromarray(pictures[3, 0]).convert("L"))))
    assert (gray.name, gray.split) == ("CIFAR-10-C/fog/4", "test")
    assert gray.labels.tolist() == [*range(10)] * 1000
    assert (gray.classes[0], gray.classes[9]) == ("airplane", "truck")
    assert load_cifar10_c("frost", 5, 1).images.max() == 0


def test_cifar10_c_is_looked_for_in_the_data_folder(folder):
    assert not has_cifar10_c()
    with pytest.raises(DataError, match=f"CIFAR-10-C is not in the data folder: {folder / 'CIFAR-10-C'} is missing"):
        load_cifar10_c("fog", 1, 1)
    (folder / "CIFAR-10-C").mkdir()
    assert has_cifar10_c()


@pytest.mark.parametrize("name", [*CORRUPTIONS, "labels"])
def test_every_file_of_cifar10_c_is_needed(cifar10_c, name):
    (cifar10_c / f"{name}.npy").unlink()
    with pytest.raises(DataError, match=f"{cifar10_c / name}.npy is missing; expected"):
        load_cifar10_c("fog", 1, 1)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        (
            "snow",
            (10_000, 32, 32, 3),
            np.uint8,
            r"holds \[10000, 32, 32, 3\] uint8; expected \[50000, 32, 32, 3\] uint8",
        ),
        ("snow", (50_000, 32, 32, 3), np.float32, r"holds \[50000, 32, 32, 3\] float32; expected .* uint8"),
        ("labels", (10_000,), np.uint8, r"holds \[10000\] uint8; expected \[50000\] uint8"),
        ("labels", (50_000,), np.float64, r"holds \[50000\] float64; expected \[50000\] uint8"),
    ],
)
def test_a_file_of_cifar10_c_that_does_not_fit_is_named(cifar10_c, name, shape, dtype, message):
    write_npy(cifar10_c / f"{name}.npy", shape, dtype)
    with pytest.raises(DataError, match=f"{name}.npy {message}"):
        load_cifar10_c("fog", 1, 1)


def test_a_corrupt_file_of_cifar10_c_is_named(cifar10_c):
    labels = np.lib.format.open_memmap(cifar10_c / "labels.npy", mode="r+")
    labels[7] = 10
    labels.flush()
    with pytest.raises(DataError, match=r"labels.npy holds label 10; expected 0 to 9"):
        load_cifar10_c("fog", 1, 1)
    half = (cifar10_c / "snow.npy").open("r+b")
    half.truncate(1000)
    with pytest.raises(DataError, match=r"snow.npy cannot be read \(.*\); expected \[50000, 32, 32, 3\] uint8"):
        load_cifar10_c("fog", 1, 1)
    half.truncate(0)
    with pytest.raises(DataError, match=r"snow.npy cannot be read"):
        load_cifar10_c("fog", 1, 1)
    half.close()
    np.save(cifar10_c / "snow.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"snow.npy cannot be read"):
        load_cifar10_c("fog", 1, 1)
    with (cifar10_c / "snow.npy").open("wb") as archive:
        np.savez(archive, images=np.zeros(3))
    with pytest.raises(DataError, match=r"snow.npy cannot be read"):
        load_cifar10_c("fog", 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rain", 1, 1), "unknown corruption 'rain'; allowed: gaussian_noise, shot_noise"),
        (("fog", 0, 1), "severity must be a whole number from 1 to 5, got 0"),
        (("fog", 1.0, 1), "severity must be a whole number from 1 to 5, got 1.0"),
        (("fog", 1, 2), r"channels must be 1 \(gray\) or 3 \(colour\), got 2"),
    ],
)
def test_bad_arguments_of_cifar10_c(cifar10_c, arguments, message):
    with pytest.raises(DataError, match=message):
        load_cifar10_c(*arguments)
