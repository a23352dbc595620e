"""Training the network against extracting its features, in the same five folds with patients apart, on real smears.

    python benchmarks/finetuning.py                          blast195, head and last (in the folder of LEUKNB_DATA)
    python benchmarks/finetuning.py --sets deepapl --parts head --epochs 5
    python benchmarks/finetuning.py --quick                  two epochs of the head on blast195; nothing is kept

Each row is the section `finetune` of a report whose budget allows every fold, with the processor seconds of both ways
over all folds beside it: they are the measure where others use the machine. Direct extraction is counted with the
decoding of its images, the training without. A row replaces that of the same set, part and length in
results/finetuning.json.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset
from leuknb.evaluation.finetuning import finetuning_section, Trial
from leuknb.features.extraction import extract

from machine import keep, machine, parse, RESULTS

DATA = Path(os.environ.get("LEUKNB_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))


class Clock:
    "Calls what makes a table, and keeps the processor seconds of trainings and of direct fits apart."

    def __init__(self): self.seconds, self.tables = {"fine_tuned": 0.0, "direct": 0.0}, {}

    def __call__(self, key, make):
        if key in self.tables: return self.tables[key]
        begun = time.process_time()
        self.tables[key] = made = make()
        took = time.process_time() - begun
        if "look" in made: self.seconds["fine_tuned"] += took
        elif "fit" in made: self.seconds["direct"] += float(made["fit"].iloc[0]) * made["split"].nunique()
        return made


def measure(name: str, part: str, epochs: int) -> dict:
    "Both ways on one set: the report's section, and processor seconds over all folds."
    settings = make_settings(data=str(DATA / name), finetune=part, finetune_epochs=epochs, finetune_seconds=1e9)
    dataset, clock, load = load_dataset(settings), Clock(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as store:
        begun = time.process_time()
        X = extract(dataset, settings, store=store)
        clock.seconds["direct"] += time.process_time() - begun
    section, _ = finetuning_section(Trial(dataset, settings, keep=clock), X)
    return {"set": name, "images": len(X), "load_at_start": round(load, 1),
            "processor_seconds": {k: round(v, 1) for k, v in clock.seconds.items()}, **section}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["blast195"])
    parser.add_argument("--parts", nargs="+", default=["head", "last"])
    parser.add_argument("--epochs", type=int, default=30, help="times that a training goes over its images")
    given, path = parse(parser, parts=["head"], epochs=2), RESULTS / "finetuning.json"
    for name in given.sets:
        for part in given.parts:
            row = measure(name, part, given.epochs)
            print(json.dumps(row, default=float), flush=True)
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
            rows = [r for r in rows if (r["set"], r["part"], r["epochs"]) != (name, part, given.epochs)]
            keep("finetuning", {"machine": machine(), "rows": rows + [row]}, given.quick)


if __name__ == "__main__": main()
