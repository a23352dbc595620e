"""Cells are found by the steps of mathematical morphology, computed over no more of the frame than they can reach."""

import numpy as np
import pytest
from scipy import ndimage

from leuknb.data import segmentation
from leuknb.data.images import decode, resize
from leuknb.data.segmentation import FIELD, SIDE, square_around, white_cell, white_cells, WhiteCells
from leuknb.data.synthetic import draw_batch
from leuknb.settings import SyntheticSettings


def masks():
    "Masks of many shapes, blobs at the rim and the empty and the full one among them."
    g = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.3, 0.6, 0.97, 1.0):
        yield g.random((60, 60)) < share
        yield ndimage.zoom(g.random((7, 7)), 60 / 7, order=1) < share
    for y, x in ((0, 0), (59, 59), (0, 30), (30, 59), (30, 30)):
        one = np.zeros((60, 60), bool)
        one[y, x] = True
        yield one
        yield ndimage.binary_dilation(one, iterations=9) ^ ndimage.binary_dilation(one, iterations=4)


MASKS = list(masks())


@pytest.mark.parametrize("by", [1, 2, 3, 12, 30, 100])
def test_growing_and_opening_are_scipys(by):
    for mask in MASKS:
        before = mask.copy()
        np.testing.assert_array_equal(segmentation._grown(mask, by), ndimage.binary_dilation(mask, iterations=by))
        np.testing.assert_array_equal(segmentation._opened(mask, by), ndimage.binary_opening(mask, iterations=by))
        np.testing.assert_array_equal(mask, before)


def test_filling_numbering_and_choosing_are_scipys():
    for mask in MASKS:
        np.testing.assert_array_equal(segmentation._filled(mask), ndimage.binary_fill_holes(mask))
        parts, n = segmentation._parts(mask)
        expected, many = ndimage.label(mask)
        np.testing.assert_array_equal(parts, expected)
        assert n == many
        few = np.arange(1, n + 1, 2)
        np.testing.assert_array_equal(segmentation._chosen(parts, n, few), np.isin(expected, few))


def plainly(rgb):
    "The cell and its nucleus, every step over all of the half and in scipy's own words."
    half = rgb.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    half = np.floor(half + 0.5).astype(np.uint8)
    dye = ndimage.gaussian_filter(segmentation.absorbance(half), (0.75, 0.75, 0))
    violet = dye[..., 0] - 0.5 * dye[..., 2]
    level = np.clip(segmentation.otsu(violet, -0.2, 1.2), 0.15, 0.6)
    blobs, n = ndimage.label(ndimage.binary_opening(violet > level))
    if not n: return None
    main = blobs == 1 + np.argmax(ndimage.sum(segmentation._central(), blobs, range(1, n + 1)))
    near = ndimage.binary_dilation(main, iterations=6)
    lobes = [i for i in range(1, n + 1) if near[blobs == i].sum() > 0.3 * (blobs == i).sum()]
    nucleus = ndimage.binary_fill_holes(np.isin(blobs, lobes))
    bluish = dye[..., 0] - 0.75 * dye[..., 2] > 0.06
    cell = (bluish & ndimage.binary_dilation(nucleus, iterations=15)) | nucleus
    parts, _ = ndimage.label(ndimage.binary_opening(cell) | nucleus)
    cell = ndimage.binary_fill_holes(np.isin(parts, np.unique(parts[nucleus])))
    return tuple(np.kron(mask, np.ones((2, 2), bool)) for mask in (cell, nucleus))


def test_the_cell_is_the_one_that_the_plain_steps_find():
    frames = list(draw_batch(SyntheticSettings(n_images=8), side=SIDE).rgb)
    frames += [np.random.default_rng(k).integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
               for k in range(4)]
    for rgb in frames:
        for found, expected in zip(white_cell(rgb), plainly(rgb), strict=True):
            np.testing.assert_array_equal(found, expected)
    blank = white_cell(np.full((SIDE, SIDE, 3), 255, np.uint8))
    assert blank[0].any() and np.array_equal(*blank)


def field(pictures, across):
    "Pictures side by side, in the frame's size."
    rows = [np.hstack(pictures[i * across:(i + 1) * across]) for i in range(across)]
    return resize(np.ascontiguousarray(np.vstack(rows)), SIDE)


@pytest.mark.parametrize("across", [2, 3])
def test_all_cells_of_a_field_are_read(across):
    drawn = [resize(p, SIDE) for p in draw_batch(SyntheticSettings(n_images=9, images_per_patient=1), side=SIDE).rgb]
    cells = white_cells(field(drawn, across))
    assert cells.n >= FIELD and square_around(cells) == (slice(0, SIDE), slice(0, SIDE))
    _, parts = ndimage.label(cells.mask)
    assert parts > 1


def test_a_cell_with_one_neighbour_is_read_alone():
    blank = np.full((SIDE, SIDE, 3), 235, np.uint8)
    for y, x, radius in ((180, 170, 50), (70, 300, 45)): blank[disc(y, x, radius)] = 90, 40, 140
    cells = white_cells(blank)
    assert cells.n == 1 and not cells.mask[70, 300] and cells.mask[180, 170]
    blank[disc(290, 300, 45)] = 90, 40, 140
    assert white_cells(blank).n == 3 and white_cells(blank).mask[70, 300]
    blank[disc(359, 60, 45)] = 90, 40, 140  # at the edge: not whole
    assert white_cells(blank).n == 3


def disc(y, x, radius):
    return np.hypot(*(np.mgrid[:SIDE, :SIDE] - np.array([y, x])[:, None, None])) < radius


@pytest.mark.parametrize("radius", [20, 100, 130, 150])
def test_the_square_holds_the_cell(radius):
    mask = disc(180, 180, radius)
    rows, columns = square_around(WhiteCells(mask, 1))
    assert mask[rows, columns].sum() == mask.sum() and rows.stop - rows.start == columns.stop - columns.start


def test_real_single_cells_are_no_fields(real_data):
    files = sorted(real_data("deepapl").rglob("*.jp*g"))[::16]
    seen = [white_cells(resize(decode(f.read_bytes()), SIDE)).n for f in files]
    assert len(seen) > 80 and np.mean(np.array(seen) > 1) < 0.03
