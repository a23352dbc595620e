"""Every kind of picture becomes the array a person would expect; whatever else comes in is refused in one line."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from leuknb.core import InputError, rng
from leuknb.features.backbones import load_torchvision
from leuknb.data.images import UnreadableImage
from leuknb.data.images import decode, resize, to_rgb, view
from leuknb.data.augment import augment, augmented, KINDS, stain_jitter

VIEWS = ("identity", "fliplr", "flipud", "rot180", "transpose", "rot90", "rot270", "antitranspose")
ROWS, COLUMNS = np.meshgrid(np.arange(40), np.arange(56), indexing="ij")
COLOUR = np.stack([4 * COLUMNS, 6 * ROWS, 255 - 3 * COLUMNS], axis=-1).astype(np.uint8)  # smooth, and no symmetry
GREY = (4 * COLUMNS + ROWS % 7).astype(np.uint8)


def encoded(image, format, **options) -> bytes:
    if isinstance(image, np.ndarray): image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def far(a, b) -> float: return float(np.abs(a.astype(int) - np.asarray(b).astype(int)).mean())


def smooth(seed=0, shape=(64, 64)):
    return np.array(Image.fromarray(rng(seed, "smooth").integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(shape[::-1],
        Image.Resampling.BICUBIC))


# formats and modes

@pytest.mark.parametrize(("format", "options", "off"), [
    ("PNG", {}, 0), ("BMP", {}, 0), ("TIFF", {}, 0), ("TIFF", {"compression": "tiff_lzw"}, 0),
    ("TIFF", {"compression": "tiff_deflate"}, 0), ("TIFF", {"compression": "jpeg"}, 4),
    ("WEBP", {"lossless": True}, 0), ("WEBP", {}, 6), ("JPEG", {"quality": 95}, 4),
    ("JPEG", {"quality": 95, "progressive": True}, 4), ("MPO", {"quality": 95}, 4), ("GIF", {}, 12)])
def test_each_format_gives_its_pixels(format, options, off):
    rgb = decode(encoded(COLOUR, format, **options))
    assert rgb.dtype == np.uint8 and rgb.shape == COLOUR.shape and rgb.flags.writeable
    assert far(rgb, COLOUR) <= off


@pytest.mark.parametrize(("mode", "format", "off"), [
    ("L", "PNG", 0), ("L", "JPEG", 2), ("L", "TIFF", 0), ("L", "BMP", 0), ("LA", "PNG", 0), ("1", "PNG", 130),
    ("1", "TIFF", 130), ("P", "GIF", 2), ("P", "BMP", 2)])
def test_grey_pictures_stay_grey(mode, format, off):
    rgb = decode(encoded(Image.fromarray(GREY).convert(mode), format))
    assert np.ptp(rgb.astype(int), axis=2).max() == 0 and far(rgb[..., 0], GREY) <= off


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_colour_spaces_of_print_and_video_come_back_through_tiff(mode):
    image = Image.fromarray(COLOUR)
    if mode == "LAB":
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(ImageCms.createProfile("sRGB"),
            ImageCms.createProfile("LAB"), "RGB", "LAB"))
    data = encoded(image.convert(mode) if mode != "LAB" else image, "TIFF")
    assert Image.open(io.BytesIO(data)).mode == mode
    assert far(decode(data), COLOUR) < 8


def test_inverted_cmyk_jpegs_come_out_upright_in_colour():
    data = encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data and far(decode(data), COLOUR) < 5


def test_sixteen_bit_grey_is_scaled_not_clipped():
    wide = GREY.astype(np.uint16) * 257
    for data in (encoded(wide, "PNG"), encoded(wide, "TIFF"), encoded(wide.astype(">u2"), "TIFF")):
        assert (decode(data)[..., 0] == GREY).all()
    assert (decode(encoded(wide.astype(np.int32), "TIFF"))[..., 0] == GREY).all()
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    out = decode(encoded(ramp, "PNG"))[..., 0].ravel()
    assert (np.diff(out.astype(int)) >= 0).all() and (out == np.round(np.arange(65536) / 257)).all()


def test_eight_bit_data_in_a_sixteen_bit_file_is_taken_as_it_is():
    assert (decode(encoded(GREY.astype(np.uint16), "PNG"))[..., 0] == GREY).all()


def test_sixteen_bit_colour_is_off_by_one_level_at_most():
    wide = np.stack([ROWS * 1600, COLUMNS * 1100, 65535 - COLUMNS * 1000], axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    import zlib
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 56, 40, 16, 2, 0, 0, 0)) + chunk(b"IDAT",
        zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.abs(decode(data).astype(int) - np.round(wide.astype(float) / 257)).max() <= 1


def test_floats_are_stretched_and_nan_is_black():
    values = np.linspace(-5, 3, 64, dtype=np.float32).reshape(8, 8)
    holes = values.copy()
    holes[0, 0], holes[0, 1], holes[7, 7] = np.nan, -np.inf, np.inf
    out = decode(encoded(holes, "TIFF"))[..., 0]
    assert out[0, 0] == 0 and out[0, 1] == 0 and out[7, 7] == 255 and out[7, 6] == 255
    assert (decode(encoded(np.full((4, 4), np.nan, np.float32), "TIFF")) == 0).all()
    assert (decode(encoded(np.full((4, 4), 3e38, np.float32), "TIFF")) == 0).all()
    assert decode(encoded(np.array([[-3e38, 3e38]], np.float32), "TIFF"))[0, :, 0].tolist() == [0, 255]


def test_integers_without_a_customary_white_are_stretched():
    assert decode(encoded(np.array([[-100, 0, 100]], np.int32), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    assert decode(encoded(np.array([[0, 2**31 - 1]], np.int32), "TIFF"))[0, :, 0].tolist() == [0, 255]


def test_transparency_is_laid_over_white():
    alpha = np.zeros(GREY.shape, np.uint8)
    alpha[:, 28:] = 255
    rgba = np.dstack([COLOUR, alpha])
    for data in (encoded(rgba, "PNG"), encoded(rgba, "WEBP", lossless=True), encoded(rgba, "TIFF"),
                 encoded(np.dstack([GREY, alpha]), "PNG")):
        assert (decode(data)[:, :28] == 255).all()
    half = decode(encoded(np.dstack([np.zeros_like(COLOUR), np.full_like(alpha, 128)]), "PNG"))
    assert (np.abs(half.astype(int) - 127) <= 1).all()


def test_a_transparent_colour_is_laid_over_white_too():
    flat = Image.new("RGB", (4, 4), (10, 20, 30))
    flat.putpixel((0, 0), (1, 2, 3))
    out = decode(encoded(flat, "PNG", transparency=(10, 20, 30)))
    assert (out[1:] == 255).all() and out[0, 0].tolist() == [1, 2, 3]
    palette = Image.fromarray(GREY).convert("P")
    assert (decode(encoded(palette, "PNG", transparency=bytes(256))) == 255).all()
    assert (decode(encoded(palette, "GIF", transparency=int(GREY[0, 0])))[0, 0] == 255).all()


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_many_counts(format):
    options = {"lossless": True} if format == "WEBP" else {}
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue", "green")]
    rgb = decode(encoded(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert (rgb == [255, 0, 0]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_camera_orientation_is_applied_once(format, orientation):
    stored = {1: "identity", 2: "fliplr", 3: "rot180", 4: "flipud", 5: "transpose", 6: "rot90", 7: "antitranspose",
              8: "rot270"}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb = decode(encoded(view(COLOUR, stored), format, exif=exif, **({"lossless": True} if format == "WEBP" else {})))
    assert rgb.shape == COLOUR.shape and far(rgb, COLOUR) < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
                                  b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0"])
def test_damaged_exif_does_not_cost_the_image(exif):
    assert far(decode(encoded(COLOUR, "JPEG", exif=exif, quality=95)), COLOUR) < 5


def test_an_embedded_profile_is_ignored():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert (decode(encoded(COLOUR, "PNG", icc_profile=profile)) == COLOUR).all()
    assert (decode(encoded(COLOUR, "PNG", icc_profile=b"nonsense")) == COLOUR).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA",
                                  "RGBX", "RGBa", "La", "I;16", "I;16L", "I;16B"])
def test_every_mode_of_pillow_has_a_rule(mode):
    assert to_rgb(Image.new(mode, (5, 3))).mode == "RGB"


# hostile bytes

FILES = {f: encoded(COLOUR, f) for f in ("PNG", "JPEG", "TIFF", "BMP", "WEBP",
                                         "GIF")} | {"16-bit": encoded(GREY.astype(np.uint16) * 257, "PNG"),
                                                    "CMYK": encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG")}


def decodes_or_says_why(data):
    try: rgb = decode(data, pixel_limit=100_000)
    except UnreadableImage as e: assert str(e) and "\n" not in str(e) and "0x" not in str(e)
    else: assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size <= 300_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused_in_one_line_or_read(name):
    data = FILES[name]
    for end in np.unique(np.linspace(0, len(data) - 1, 60).astype(int)): decodes_or_says_why(data[:end])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM",
                                                  b"GIF89a", b"RIFF\x20\0\0\0WEBPVP8 "]).flatmap(
    lambda magic: st.binary(max_size=200).map(magic.__add__)))
def test_random_bytes_are_refused_in_one_line_or_read(data): decodes_or_says_why(data)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1,
                                                max_size=8))
def test_flipped_bytes_are_refused_in_one_line_or_read(name, changes):
    data = bytearray(FILES[name])
    for place, value in changes: data[place % len(data)] = value
    decodes_or_says_why(bytes(data))


def test_an_image_over_the_pixel_limit_is_not_decoded():
    with pytest.raises(UnreadableImage, match="56 x 40"): decode(FILES["PNG"], pixel_limit=56 * 40 - 1)
    assert decode(FILES["PNG"], pixel_limit=56 * 40).shape == (40, 56, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_slivers_are_resized_like_anything_else(size):
    assert resize(decode(encoded(Image.new("RGB", size, "pink"), "PNG")), 224).shape == (224, 224, 3)


# resize

@pytest.mark.parametrize(("shape", "size"), [((363, 360), 227), ((100, 140), 224), ((300, 200), 64), ((64, 64), 65)])
def test_resize_agrees_with_torchvision_antialiasing_to_one_level(shape, size):
    import torch

    load_torchvision()
    from torchvision.transforms.v2 import functional as F

    rgb = rng(3, "noise").integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = F.resize(torch.from_numpy(rgb.copy()).permute(2, 0, 1), [size, size], antialias=True).permute(1, 2,
        0).numpy()
    assert np.abs(resize(rgb, size).astype(int) - theirs.astype(int)).max() <= 1


def test_resize_keeps_the_mean_and_leaves_the_right_size_alone():
    assert (resize(COLOUR[:40, :40], 40) == COLOUR[:40, :40]).all()
    assert abs(resize(COLOUR, 20).mean() - COLOUR.mean()) < 1


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
                                 np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_rgb_array_is_named(bad):
    for function in (lambda a: resize(a, 8), stain_jitter, lambda a: augment(a, rng(0))):
        with pytest.raises(InputError, match="uint8"): function(bad)


# views and augmentation

def test_the_eight_views_are_a_group():
    square = smooth()
    seen = {view(square, name).tobytes() for name in VIEWS}
    assert len(seen) == 8
    for a in VIEWS: assert {view(view(square, a), b).tobytes() for b in VIEWS} == seen
    for name, back in dict(zip(VIEWS, VIEWS), rot90="rot270", rot270="rot90").items():
        assert (view(view(COLOUR, name), back) == COLOUR).all()


def test_a_view_of_a_batch_is_the_batch_of_views():
    batch = np.stack([COLOUR, COLOUR[::-1]])
    for name in VIEWS:
        assert (view(batch, name)[1] == view(batch[1], name)).all() and view(batch, name).flags.c_contiguous


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))), st.integers(0, 2**32 - 1),
       st.sets(st.sampled_from(KINDS)))
def test_an_altered_copy_keeps_shape_and_type_and_is_repeatable(rgb, seed, kinds):
    before = rgb.copy()
    copy = augmented(rgb, seed, "key", 1, kinds)
    assert copy.shape == rgb.shape and copy.dtype == np.uint8 and not np.shares_memory(copy, rgb)
    assert (rgb == before).all() and (augmented(rgb, seed, "key", 1, sorted(kinds)) == copy).all()
    assert (augmented(rgb, seed, "key", 0, kinds) == rgb).all()


def test_turns_and_mirrors_only_move_pixels():
    square = smooth()
    seen = {augmented(square, 0, "k", i, ["rotate", "flip"]).tobytes() for i in range(1, 80)}
    assert seen == {view(square, name).tobytes() for name in VIEWS}


def test_leaving_one_kind_out_changes_nothing_else():
    square = smooth()
    whole, without = augmented(square, 5, "k", 1, KINDS), augmented(square, 5, "k", 1, ["brightness", "stain"])
    assert any((view(without, name) == whole).all() for name in VIEWS)


def test_copies_of_different_files_seeds_and_numbers_differ():
    square = smooth()
    assert len({augmented(square, s, k, c).tobytes() for s in range(3) for k in "ab" for c in range(1, 4)}) == 18


def test_stain_jitter_equals_beer_and_lambert_written_out():
    rgb = rng(1, "noise").integers(0, 256, (20, 20, 3), dtype=np.uint8)
    h, e = np.array([0.650, 0.704, 0.286]), np.array([0.072, 0.990, 0.105])
    basis = np.array([v / np.linalg.norm(v) for v in (h, e, np.cross(h, e))])
    scale, shift, lamp = np.array([1.15, 0.85, 1.1]), np.array([0.01, -0.02, 0.015]), 0.9
    density = -np.log10((rgb.reshape(-1, 3) + 1.0) / 256)
    amounts = np.linalg.solve(basis.T, density.T).T
    expected = np.clip(np.round(lamp * 256 * 10 ** -((amounts * scale + shift) @ basis) - 1), 0, 255)
    assert np.abs(stain_jitter(rgb, scale, shift, lamp).reshape(-1, 3) - expected).max() <= 1


def test_more_dye_darkens_and_a_brighter_lamp_lightens():
    rgb = np.full((2, 2, 3), (150, 100, 180), np.uint8)
    assert (stain_jitter(rgb, (1.3, 1, 1)) < rgb).all() and (stain_jitter(rgb, brightness=1.2) > rgb).all()
    noise = rng(2, "noise").integers(0, 256, (30, 30, 3), dtype=np.uint8)
    assert (stain_jitter(noise) == noise).all()


def test_an_augmentation_that_is_not_known_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'flip'"): augment(COLOUR, rng(0), ["flips"])
