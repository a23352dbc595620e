"""Copies in disguise are found and different cells are not called copies; clusters, kinds, labels, cost."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from leuknb.core import rng, sha256
from leuknb.settings import SyntheticSettings, View
from leuknb.data.descriptors import blocks, grey, invariants, working_copy
from leuknb.auditing.duplicates import candidate_pairs, clusters_of, find_duplicates
from leuknb.data.images import view
from leuknb.data.synthetic import draw_batch

KINDS = ("re-encoded", "resized", "turned", "cropped", "all at once")


def as_file(image, kind="JPEG", quality=90):
    out = io.BytesIO()
    image.save(out, kind, quality=quality)
    return out.getvalue()


def disguise(data, kind, generator):
    "A copy of an image file, made in one of the ways copies come about."
    image = Image.open(io.BytesIO(data)).convert("RGB")
    quality = int(generator.integers(80, 96))
    if kind in ("cropped", "all at once"):
        lost = [int(n * s) for n, s in zip(image.size, generator.uniform(0.02, 0.08, 2))]
        x, y = (int(generator.integers(n + 1)) for n in lost)
        image = image.crop((x, y, x + image.width - lost[0], y + image.height - lost[1]))
    if kind in ("resized", "all at once"):
        scale = np.exp(generator.uniform(np.log(0.5), np.log(2)))
        image = image.resize([round(n * scale) for n in image.size], Image.Resampling.BICUBIC)
    if kind in ("turned", "all at once"):
        image = Image.fromarray(view(np.asarray(image), View.__args__[generator.integers(1, 8)]))
    if kind in ("re-encoded", "all at once"): quality = int(generator.integers(30, 96))
    return as_file(image, "JPEG", quality)


def search(files):
    copies = np.stack([working_copy(f) for f in files])
    return find_duplicates(files.__getitem__, [sha256(f) for f in files], invariants(copies),
                           np.round(grey(blocks(copies, 32))).astype(np.uint8),
                           [Image.open(io.BytesIO(f)).size for f in files])


@pytest.fixture(scope="module")
def smears():
    return [as_file(Image.fromarray(rgb)) for rgb in draw_batch(SyntheticSettings(n_images=60, seed=3), side=160).rgb]


def score(files, n, seed=0):
    "Plant one copy of each of the first n files: recall, and false pairs."
    generator = rng(seed, "plant")
    planted = [disguise(f, KINDS[i % len(KINDS)], generator) for i, f in enumerate(files[:n])]
    found = search([*files, *planted])
    recall = np.mean([found.cluster[i] == found.cluster[len(files) + i] for i in range(n)])
    of = lambda i: i if i < len(files) else i - len(files)
    false = [(a, b) for a, b in zip(found.pairs["a"], found.pairs["b"]) if of(a) != of(b)]
    return recall, false


def test_disguised_copies_of_smears_are_found_and_nothing_else_is(smears):
    recall, false = score(smears, 50)
    assert recall >= 0.98 and not false


def test_disguised_copies_of_real_single_cells_are_found_and_different_cells_are_not(real_data):
    files = [p.read_bytes() for p in sorted(real_data("pbc").rglob("*.jpg"))]
    recall, false = score(files, 100)
    assert recall >= 0.98 and not false


def test_the_same_picture_under_two_labels_is_in_the_real_set(real_data):
    folder = real_data("deepapl")
    names = ["immature/Patient_30_blast_SNE_8371873.jpg", "mature/Patient_30_neutrophil_SNE_8371873.jpg"]
    assert search([(folder / n).read_bytes() for n in names]).pairs["kind"].tolist() == ["same file"]


def test_copies_of_copies_form_one_cluster(smears):
    g = rng(1, "chain")
    chain = [smears[0]]
    for _ in range(12): chain.append(disguise(chain[0], "turned", g))
    found = search(chain + smears[1:8])
    assert len(set(found.cluster[:13])) == 1 and len(set(found.cluster[13:])) == 7
    assert len(found.pairs) == 12  # a tree, not all 78 pairs


def test_same_pixels_in_another_container_are_exact_copies(smears):
    image = Image.open(io.BytesIO(smears[0]))
    found = search([smears[0], as_file(image, "PNG"), as_file(image, "BMP"), *smears[1:5]])
    assert found.exact == 2 and found.near == 0 and set(found.pairs["kind"]) == {"same pixels"}


@pytest.mark.parametrize("files", [[], [0], [0, 0], [0, 1]])
def test_tiny_sets_do_not_crash(smears, files):
    files = [smears[i] for i in files]
    if files: assert len(search(files).pairs) == len(files) - len(set(files))
    assert clusters_of(0, np.empty((0, 2))).size == 0


def test_blank_pictures_are_compared_by_pixels_only():
    blank = [as_file(Image.new("RGB", (60, 50), c), "PNG") for c in ("white", "beige", "ivory")]
    assert len(search(blank).pairs) == 0
    assert search([*blank, as_file(Image.new("RGB", (60, 50), "white"),
                                   "BMP")]).pairs["kind"].tolist() == ["same pixels"]


def test_the_search_gives_the_same_answer_twice(smears):
    files = smears[:20] + [disguise(f, "all at once", rng(2, "twice")) for f in smears[:6]]
    assert search(files).pairs.equals(search(files).pairs)


def test_prints_hardly_change_when_an_image_is_turned(smears):
    copies = np.stack([working_copy(f) for f in smears[:6]])
    for name in View.__args__: assert np.allclose(invariants(view(copies, name)), invariants(copies), atol=0.02)


def test_candidates_grow_hardly_faster_than_the_number_of_images():
    generator = np.random.default_rng(0)
    seconds = []
    for n in (4_000, 16_000):
        points = generator.normal(size=(n // 2, 16)) * np.geomspace(400, 30, 16)
        points = np.concatenate([points, points + generator.normal(size=points.shape)])  # a copy of each
        start = time.perf_counter()
        pairs = candidate_pairs(points)
        seconds.append(time.perf_counter() - start)
        assert n // 2 <= len(pairs) < 8 * n
    assert seconds[1] < 10 * max(seconds[0], 0.05)  # four times the images; all pairs would be sixteen times the work
