"""Image files that nobody vouches for: each is read or skipped with a reason, in bounded time and memory, and never
by an accident.
"""

import json
import subprocess
import sys
from pathlib import Path

import inputs
import pytest

IMAGES = inputs.images()
# of the whole process, numpy, pandas and Pillow included (some 120); what a kind of file may cost
MEGABYTES = {"bomb": 500, "size": 700, "lie": 700}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "What came of every file, each read in a process of its own under limits."
    folder = tmp_path_factory.mktemp("images")
    for name, (data, _) in IMAGES.items(): (folder / f"{name}.png").write_bytes(data)
    done = subprocess.run([sys.executable, Path(__file__).with_name("trial.py"), folder], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_there_are_more_than_a_hundred_of_them(): assert len(IMAGES) > 150


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_file_gives_pixels_or_one_reason_within_limits(found, name):
    result, expected = found[f"{name}.png"], IMAGES[name][1]
    assert "raised" not in result and result["status"] == 0, result
    assert result["memory"] < 1e6 * MEGABYTES.get(name.split("-")[0], 300), f"{result['memory'] / 1e6:.0f} MB"
    if expected != "either": assert ("skip" if result["why"] else "ok") == expected, result["why"]
    if result["why"]:
        assert 5 < len(result["why"]) < 200 and result["why"].isascii() and result[
            "why"].isprintable() and ";" not in result["why"] and "0x" not in result["why"]
    else: assert result["shape"] == [64, 64, 3]


@pytest.mark.parametrize(("name", "says"), [
    ("empty", "empty file"), ("lie-svg", "accepted format"), ("bomb-png-square", "over the pixel limit"),
    ("bomb-tiff-tile", "tiles of 12000 x 12000"), ("bomb-jpeg-scans", "scans"),
    ("bomb-tiff-deflate", "50001 x 1001"), ("cut-png-0.5", "cannot be decoded"),
    ("lie-tiff-sizes", "cannot be decoded")])
def test_the_reason_says_what_is_wrong(found, name, says): assert says in found[f"{name}.png"]["why"]


def test_a_bomb_is_refused_before_it_is_decoded(found):
    for name in IMAGES:
        if name.startswith("bomb") and IMAGES[name][1] == "skip": assert found[f"{name}.png"]["seconds"] < 5, name


def test_an_honest_jpeg_in_many_passes_and_a_tiff_of_many_small_jpegs_are_read():
    from PIL import Image

    from leuknb.data.images import open_image

    large = Image.effect_noise((900, 900), 60).convert("RGB")
    assert open_image(inputs.saved(large, "JPEG", progressive=True)).size == (900, 900)
    many = inputs.saved(large, "TIFF", compression="jpeg", strip_size=900 * 3 * 8)
    assert many.count(b"\xff\xda") > 100 and open_image(many).size == (900, 900)
