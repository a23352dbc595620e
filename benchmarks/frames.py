"""What a person hands us may show its cells smaller, larger or several at once: a square of one size around the most
central cell against one that grows with the cell, and all cells of a field, on images as they are and remade.

    python benchmarks/frames.py                          the synthetic default set
    python benchmarks/frames.py FOLDER [FOLDER ...]      and labelled sets of images, as `leuknb report` takes them

The features are those of the default preset, the classifier its first. Five folds, three times, patients apart, the
same for both ways. `cut to 200`: 200 of an image's 360 pixels are kept in its middle, around the cell. `4 cells`: so
many images of one patient and class side by side, three such fields of each with three images or more.
"""

import argparse

import numpy as np

from machine import keep, machine, parse
from scoring import cross_validated

REPEATS, EACH, ENOUGH = 3, 3, 3
READ = {"the central cell in one size": {"ROOM": 0.0, "FIELD": 10**6}, "as now": {}}


def cut(square: np.ndarray, kept: int) -> np.ndarray:
    "What is left around the cell, as large as before."
    from leuknb.data.images import resize
    from leuknb.data.segmentation import SIDE, white_cell

    middle = (round(at.mean()) for at in np.nonzero(white_cell(square)[0]))
    top, left = (int(np.clip(at - kept // 2, 0, SIDE - kept)) for at in middle)
    return resize(np.ascontiguousarray(square[top:top + kept, left:left + kept]), SIDE)


def fields(squares, y, groups, across: int):
    "Fields of `across` times `across` cells: pictures, classes, patients."
    from leuknb.core import rng
    from leuknb.data.images import resize
    from leuknb.data.segmentation import SIDE

    pictures, kinds, whose, draw = [], [], [], rng(0, "fields", across)
    for patient, kind in sorted(set(zip(groups, y))):
        of = np.flatnonzero((groups == patient) & (y == kind))
        if len(of) < ENOUGH: continue
        for _ in range(EACH):
            taken = draw.choice(of, (across, across), replace=len(of) < across * across)
            picture = np.vstack([np.hstack([squares[i] for i in row]) for row in taken])
            pictures.append(resize(np.ascontiguousarray(picture), SIDE))
            kinds.append(kind)
            whose.append(patient)
    return pictures, np.array(kinds), np.array(whose)


def shown(dataset, quick: bool):
    "Yield name, pictures, classes, patients: a set as it is, and remade."
    from leuknb.data.images import decode, resize
    from leuknb.data.segmentation import SIDE

    squares = [resize(decode(dataset.read(f)), SIDE) for f in dataset.usable["file_name"]]
    yield "as it is", squares, dataset.y, dataset.groups
    if quick: return
    for kept in (250, 200, 150): yield f"cut to {kept}", [cut(s, kept) for s in squares], dataset.y, dataset.groups
    for across in (2, 3): yield f"{across * across} cells", *fields(squares, dataset.y, dataset.groups, across)


def features(pictures, settings, read: dict) -> np.ndarray:
    "Features of pictures, cells being looked for in one of the ways of `READ`."
    from leuknb.data import segmentation
    from leuknb.features.extraction import network_input, network_of, recipe_of, rows_of

    recipe, before = recipe_of(settings), {k: getattr(segmentation, k) for k in read}
    for k, v in read.items(): setattr(segmentation, k, v)
    packed = (network_input(p, recipe) for p in pictures)
    try: return np.stack(list(rows_of(network_of(recipe), packed, recipe["batch"])))
    finally:
        for k, v in before.items(): setattr(segmentation, k, v)


def judged(X, y, groups, settings, repeats: int) -> dict:
    "AUROC, and balanced accuracy in percent: means over repeats."
    auroc, balanced = cross_validated(X, y, groups, ("svm", settings.params.get("svm")), repeats)
    return {"auroc": round(auroc, 4), "balanced_accuracy": round(balanced, 2)}


def main():
    from leuknb.data.datasets import load_dataset
    from leuknb.settings import make_settings

    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("data", nargs="*")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parse(parser, repeats=1)
    rows = []
    for data in [None, *args.data]:
        settings = make_settings("demo", data=data) if data else make_settings("demo")
        name, dataset = data.rstrip("/").rpartition("/")[2] if data else "synthetic", load_dataset(settings)
        for how, pictures, y, groups in shown(dataset, args.quick):
            for read, changes in READ.items():
                rows.append({"set": name, "shown": how, "images": len(pictures), "read": read,
                             **judged(features(pictures, settings, changes), y, groups, settings, args.repeats)})
                print(*rows[-1].values(), flush=True)
    keep("frames", {"machine": machine(), "rows": rows}, args.quick)


if __name__ == "__main__": main()
