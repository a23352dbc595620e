"""What precision=int8 saves and what it costs: processor time of a forward pass, cosine of the features to those in
32 bits, and accuracy on real cells.

    python benchmarks/int8.py       deepapl and blast195 (in the folder that LEUKNB_DATA names)

The networks are leuknb_lite0 as the preset demo reads it and efficientnet_lite0 as imagenet does, the classifier the
preset's first. Of the first set: AUROC and balanced accuracy of a cross-validation, patients apart. Of the second: the
mean accuracy over random splits, patients apart, 80 % of the images for training. Cosines are over the images of both.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np

from machine import keep, machine, parse
from scoring import cross_validated, FOLDS, right

DATA = Path(os.environ.get("LEUKNB_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
PRESETS = {"leuknb_lite0": "demo", "efficientnet_lite0": "imagenet"}
REPEATS, SPLITS, TIMED, TURNS = 10, 1000, 32, 7


def judged(X, datasets, classifier, repeats: int, splits: int) -> dict:
    "What a classifier reaches on the features of both sets."
    from leuknb.evaluation.splits import random_splits

    auroc, balanced = cross_validated(X[0], datasets[0].y, datasets[0].groups, classifier, repeats)
    drawn = random_splits(datasets[1].y, datasets[1].groups, splits)
    return {"deepapl_auroc": auroc, "deepapl_balanced_accuracy": balanced,
            "blast195_accuracy": float(right(X[1], datasets[1].y, classifier, drawn).mean())}


def in_turn(networks: list, images: np.ndarray, batch: int) -> list[float]:
    "Processor milliseconds an image of each network: the median over turns."
    spent = [[] for _ in networks]
    for _ in range(TURNS):
        for network, kept in zip(networks, spent):
            start = time.process_time()
            for at in range(0, len(images), batch): network(images[at:at + batch])
            kept.append(1000 * (time.process_time() - start) / len(images))
    return [statistics.median(kept) for kept in spent]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(float), b.astype(float)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def seconds_to_make(network) -> float:
    "Processor seconds in which the graph on 8-bit numbers is made, drawing included."
    from leuknb.features.quantization import calibration_squares, quantized_graph

    exact, start = network.exact(), time.process_time()
    quantized_graph(exact, calibration_squares(network.frames, network.image_size))
    return time.process_time() - start


def seen(dataset, settings) -> list[np.ndarray]:
    "The images of a set as the network takes them."
    from leuknb.data.images import decode
    from leuknb.features.extraction import network_input, recipe_of

    recipe = recipe_of(settings)
    return [network_input(decode(dataset.read(f)), recipe) for f in dataset.usable["file_name"]]


def rows_of_network(name: str, datasets: list, repeats: int, splits: int) -> list[dict]:
    "What is known of one network: a row in 32 bits, a row in 8."
    from leuknb.features.extraction import network_of, recipe_of, rows_of
    from leuknb.settings import make_settings

    ways = {p: make_settings(PRESETS[name], device="cpu", engine="onnx", precision=p) for p in ("float32", "int8")}
    recipes, settings = {p: recipe_of(s) for p, s in ways.items()}, ways["float32"]
    networks, batch = {p: network_of(r) for p, r in recipes.items()}, recipes["int8"]["batch"]
    assert settings.backbone == name
    squares = [seen(d, settings) for d in datasets]
    X = {p: [np.stack(list(rows_of(network, iter(s), batch))) for s in squares] for p, network in networks.items()}
    spent = in_turn(list(networks.values()), np.stack(squares[0][:TIMED]), batch)
    cosine = cosines(np.concatenate(X["int8"]), np.concatenate(X["float32"]))
    alike = {"int8": {"cosine_least": float(cosine.min()), "cosine_mean": float(cosine.mean()),
                      "cpu_seconds_to_make": seconds_to_make(networks["int8"])}}
    classifier = "svm", settings.params.get("svm")
    return [{"network": name, "precision": p, "cpu_ms_an_image": cpu, **alike.get(p, {}),
             **judged(X[p], datasets, classifier, repeats, splits)} for p, cpu in zip(ways, spent)]


def main():
    from leuknb.data.datasets import load_dataset
    from leuknb.settings import make_settings

    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--sets", nargs=2, default=["deepapl", "blast195"])
    parser.add_argument("--networks", nargs="+", choices=PRESETS, default=[*PRESETS])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--splits", type=int, default=SPLITS)
    args = parse(parser, repeats=1, splits=5, sets=["blast195", "blast195"], networks=["leuknb_lite0"])
    datasets, rows = [load_dataset(make_settings(data=str(DATA / name))) for name in args.sets], []
    for name in args.networks:
        rows += rows_of_network(name, datasets, args.repeats, args.splits)
        for row in rows[-2:]: print(*row.values(), flush=True)
    keep("int8", {"machine": machine(), "cells": sum(len(d.y) for d in datasets), "folds": FOLDS,
                  "repeats": args.repeats, "splits": args.splits, "rows": rows}, args.quick)


if __name__ == "__main__": main()
