"""The trainings behind the weights `leuknb_lite0`, as anyone can repeat them: EfficientNet-Lite0 learns eleven kinds of
cells of the PBC images (Acevedo et al. 2020, doi:10.17632/snkd93bnjr.1, CC BY 4.0), a folder for each of eight types.
The class is what the file names begin with, which parts neutrophils and immature granulocytes by how mature they are;
the 201 files that name only the type are left out. The weights are the mean of the trainings, with a share of
ImageNet's.

    python benchmarks/adapt.py DATA --out DIR [--set NAME=VALUE ...]    # all trainings; killed, they go on
    python benchmarks/adapt.py DATA --speed 12                          # images a second over so many steps, no more

DIR gets a folder for each training, leuknb_lite0.safetensors with its card in words (.md), and log.jsonl: for each
training the machine and the settings, then an entry every 50 steps and at each look at the images held out.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import leuknb
from leuknb.core import rng, to_json, write_atomic
from leuknb.features.adaptation import adaptation_place
from leuknb.features.averaging import average_weights
from leuknb.features.fine_tuning import AdaptSettings
from leuknb.settings import checked_settings, parse_changes

from machine import machine

NAME = "leuknb_lite0.safetensors"
KINDS = "BA|BNE|EO|ERB|LY|MMY|MO|MY|PLATELET|PMY|SNE"  # how file names begin
CHOSEN = {"backbone": "efficientnet_lite0", "train_from": "blocks.3", "image_size": 160, "steps": 1000,
          "batch_size": 64, "half": True, "frame": "cell", "stain": 0.3, "brightness": 0.2,
          "label": f"regex:/({KINDS})_[^/]*$", "data_licence": "CC BY 4.0",
          "data_source": "PBC, Hospital Clinic of Barcelona, doi:10.17632/snkd93bnjr.1"}
TRAININGS = [{}, {"train_from": "blocks.2", "steps": 1300}]  # what is not as in `CHOSEN`
LEARNED = 0.75  # share of what was learned; the rest is ImageNet's weights
WARM = 2  # steps that are not counted


def speed(settings: AdaptSettings, steps: int) -> dict:
    "Images a second over some steps, on the first images of the set, by the wall and by processor time."
    import torch

    from leuknb.data.images import decode, resize
    from leuknb.data.layouts import layout_of
    from leuknb.features.adaptation import Trainer
    from leuknb.features.backbones import describe
    from leuknb.features.onnx import cores

    layout = layout_of(settings)
    listed = layout.listing.groupby("label").head(settings.batch_size // 4)
    pixels = np.stack([resize(decode((layout.root / f).read_bytes()), settings.image_size)
                       for f in listed["file_name"]])
    y = listed["label"].astype("category").cat.codes.to_numpy(np.int64)
    torch.set_num_threads(cores())
    trainer, taken = Trainer(describe(settings.backbone), int(y.max()) + 1, settings), []
    for t in range(WARM + steps):
        rows = rng(0, t).choice(len(y), settings.batch_size)
        wall, busy = time.perf_counter(), time.process_time()
        trainer.step(t, pixels[rows], y[rows], rng(1, t))
        taken.append((time.perf_counter() - wall, time.process_time() - busy))
    wall, busy = np.median(taken[WARM:], axis=0)
    return {"images_a_second": round(settings.batch_size / wall, 1), "steps": steps,
            "images_a_second_of_idle_cores": round(settings.batch_size / busy * cores(), 1), "machine": machine()}


def train(changes: dict, folder: Path, force: bool) -> Path:
    "One training, with its log. Weights that are there are taken, and said to be."
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / NAME).exists() and not force:
        print(f"{folder / NAME} is there and taken; --force trains it again")
        return folder / NAME
    settings = checked_settings(AdaptSettings, **changes)

    def log(entry: dict) -> None:
        with open(folder / "log.jsonl", "a", encoding="utf-8") as f: f.write(to_json(entry) + "\n")

    if force: (folder / "log.jsonl").unlink(missing_ok=True)
    if not (folder / "log.jsonl").exists():  # a killed training goes on with its own
        log({"machine": machine(), "settings": settings.model_dump(mode="json", exclude={"data", "synthetic"})})
    leuknb.adapt(out=folder / NAME, force=force, tell=lambda line: print(line, flush=True), log=log,
                 **settings.model_dump())
    return folder / NAME


def train_all(changes: dict, out: Path, force: bool) -> None:
    "All trainings, and their mean."
    adaptation_place(out / NAME, force)  # before hours are spent
    files = [train({**changes, **own}, out / str(i), force) for i, own in enumerate(TRAININGS, 1)]
    print(average_weights(files, out / NAME, LEARNED, force))
    logs = [(f.parent / "log.jsonl").read_text(encoding="utf-8") for f in files]
    with write_atomic(out / "log.jsonl") as f: f.write("".join(logs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="the folder of the PBC images: a folder for each of eight types")
    parser.add_argument("--out", type=Path, help="the folder for weights, card and log")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--speed", type=int, metavar="STEPS", help="only measure images a second")
    parser.add_argument("--force", action="store_true", help="replace weights that are there")
    said = parser.parse_args()
    changes = {**CHOSEN, "data": said.data, **parse_changes(said.changes, AdaptSettings)}
    if said.speed: print(to_json(speed(checked_settings(AdaptSettings, **changes), said.speed), indent=1))
    elif said.out: train_all(changes, said.out, said.force)
    else: parser.error("name a folder with --out, or --speed STEPS")


if __name__ == "__main__": main()
