"""How the work grows: listing and extraction from 1,000 to 100,000 images, audit and evaluation from 200 to 20,000;
time, memory, the store on disk; and whether the store survives being killed.

    python benchmarks/scale.py               about an hour on two quiet cores
    python benchmarks/scale.py --only whole  the classifiers alone; the rows of other parts stay, each with its day
    python benchmarks/scale.py --quick       a twentieth of the sizes, three kills: whether it runs; nothing is kept

Images are small JPEG mosaics of drawn smears, made into a temporary folder and removed. The first 20,000 are
different pictures; further ones are the same pictures with another comment in the file, so that every file has a
digest of its own. Every step runs in a process of its own. Memory is measured from outside: `peak_mb` is the most
that the system counted for it; `own_mb` leaves out file pages, which the system can take back (sampled ten times a
second). Processor seconds of all threads stand beside seconds on the clock: they are the measure where others use the
machine. `exponent` is the slope of log(processor seconds) over log(n); `beyond` the same less the seconds of the
smallest size, which start-up makes up in part: 1 is a straight line.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

from machine import keep, machine, parse, RESULTS

SIZES, WIDE_SIZES = (1_000, 3_000, 10_000, 30_000, 100_000), (200, 600, 2_000, 6_000, 20_000)
DIFFERENT, SIDE, FEATURES = 20_000, 64, 500
LIMIT = 5_400  # seconds on the clock that a step may take
PARTS = {"store": ("default", "list", "extract", "again"), "whole": ("whole",), "audit": ("audit",),
         **{c: (f"evaluate {c}",) for c in ("svm", "knn", "ensemble", "tree")}}  # what --only names: its steps
NOTES = {"cores": "processor seconds per second on the clock during `default`; images_per_second over cores is the "
                  "rate of one core",
         "images": f"mosaics of {2 * SIDE} x {2 * SIDE} pixels, seen by the network at 32 x 32; `default`: drawn "
                   f"smears of the usual size, the default recipe",
         "evaluate": f"{FEATURES} features; the holdout, five folds and their intervals",
         "whole": f"{FEATURES} features; four classifiers, holdout, and as many splits and repeats as auto makes",
         "memory": "peak_mb: all; own_mb: without file pages, sampled"}


# --- the images

def step_images(work: Path, n: int) -> dict:
    "Write n JPEG files; in a process of its own, so that what they need is not counted for others."
    from PIL import Image

    from leuknb.settings import SyntheticSettings
    from leuknb.data.synthetic import draw_batch

    folder = work / "images"
    tiles = draw_batch(SyntheticSettings(n_images=200), side=SIDE).rgb
    random, files = np.random.default_rng(0), []
    for i in range(n):
        if i < DIFFERENT:
            four = [np.rot90(tiles[random.integers(len(tiles))], random.integers(4)) for _ in range(4)]
            file = io.BytesIO()
            Image.fromarray(np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])).save(file, "JPEG", quality=85)
            files.append(file.getvalue())
        data, note = files[i % DIFFERENT], str(i).encode()
        (folder / f"{i // 1000:03d}").mkdir(exist_ok=True)
        (folder / name_of(i)).write_bytes(data[:2] + b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note + data[2:])
    return {}


def name_of(i: int) -> str: return f"{i // 1000:03d}/{i:06d}.jpg"


def list_images(folder: Path, n: int) -> Path:
    path = folder / f"first{n}.csv"
    path.write_text("file_name,label\n" + "".join(f"{name_of(i)},{'abnormal' if i % 2 else 'normal'}\n"
                                                  for i in range(n)))
    return path


# --- the steps, each run in a process of its own

def dataset_of(work: Path, n: int):
    "The dataset that the step `list` left."
    import pandas as pd

    from leuknb.data.datasets import Dataset

    return Dataset("mosaics", work / "images", pd.read_parquet(work / f"dataset{n}.parquet"), ["abnormal", "normal"],
                   "abnormal", True)


def small():
    from leuknb.settings import make_settings

    return make_settings(image_size=32, device="cpu")


def step_list(work: Path, n: int) -> dict:
    from leuknb.settings import make_settings
    from leuknb.data.datasets import load_dataset

    with measured() as m: dataset = load_dataset(make_settings(data=str(work / "images" / f"first{n}.csv")))
    dataset.table.to_parquet(work / f"dataset{n}.parquet")
    return {**m, "table_mb": round(dataset.table.memory_usage(deep=True).sum() / 1e6, 1)}


def step_extract(work: Path, n: int) -> dict:
    from leuknb.features.extraction import extract

    dataset = dataset_of(work, n)
    with measured() as m: X = extract(dataset, small(), store=work / f"store{n}")
    np.save(work / f"features{n}.npy", X[:: max(1, n // 1000)])
    return {**m, "matrix_mb": round(X.nbytes / 1e6, 1)}


def step_again(work: Path, n: int) -> dict:
    "The second run: everything comes from the store."
    from leuknb.features.extraction import extract

    dataset = dataset_of(work, n)
    with measured() as m: X = extract(dataset, small(), store=work / f"store{n}")
    assert np.array_equal(X[:: max(1, n // 1000)], np.load(work / f"features{n}.npy")), "the store gave other numbers"
    size = sum(p.stat().st_size for p in (work / f"store{n}").rglob("*") if p.is_file())
    return {**m, "store_mb": round(size / 1e6, 1), "beside_the_numbers_bytes_an_image": round((size - X.nbytes) / n, 1)}


def step_default(work: Path, n: int) -> dict:
    "The default recipe on drawn smears of the usual size: JPEG files on disk to features."
    from leuknb.settings import make_settings
    from leuknb.data.datasets import load_dataset
    from leuknb.features.extraction import extract

    settings = make_settings(device="cpu", synthetic={"n_images": n})
    dataset = load_dataset(settings)
    extract(dataset, small(), store=work / "warm")  # the network is loaded and the files were read
    with measured() as m: extract(dataset, settings, store=work / "default")
    return m


def step_audit(work: Path, n: int) -> dict:
    from leuknb.auditing.audit import run_audit
    from leuknb.settings import make_settings

    dataset, X = dataset_of(work, n), made_up(n)[0]
    with measured() as m: found = run_audit(dataset, make_settings(), X)
    return {**m, "near_duplicates": found.metrics["near_duplicates"]}


def step_evaluate(work: Path, n: int, classifier: str) -> dict:
    "One classifier: the holdout and five folds, with its intervals."
    import pandas as pd

    from leuknb.settings import make_settings
    from leuknb.evaluation.predict import evaluate
    from leuknb.evaluation.schemes import cv_metrics

    X, y = made_up(n)
    table = pd.DataFrame({"file_name": [name_of(i) for i in range(n)], "label": np.where(y, "abnormal", "normal")})
    settings = make_settings(positive="abnormal", classifiers=[classifier], n_splits=0, cv_repeats=1, permutations=0)
    with measured() as m:
        predictions = evaluate(X, table, settings)
        cv_metrics(predictions, "abnormal", "cv")
    return m


def step_whole(work: Path, n: int) -> dict:
    "All that a default report fits on so many images: the four classifiers, splits and repeats left to auto."
    import pandas as pd

    from leuknb.settings import make_settings
    from leuknb.evaluation.predict import evaluate

    X, y = made_up(n)
    table = pd.DataFrame({"file_name": [name_of(i) for i in range(n)], "label": np.where(y, "abnormal", "normal")})
    with measured() as m: predictions = evaluate(X, table, make_settings(positive="abnormal"))
    return {**m, **predictions.groupby("scheme")["split"].nunique().to_dict()}


def made_up(n: int):
    "Features [n, 500] with shared structure, and labels that some of them tell."
    g = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = g.normal(size=(n, FEATURES)) + 0.4 * (g.random(FEATURES) < 0.05) * y[:,
        None] + 0.3 * g.normal(size=(n, 20)) @ g.normal(size=(20, FEATURES))
    return X.astype(np.float32), y


class measured(dict):
    "Seconds on the clock and of processor time of a block."

    def __enter__(self):
        self.start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error):
        self.update(seconds=round(time.perf_counter() - self.start[0], 4),
                    cpu_seconds=round(time.process_time() - self.start[1], 4))


# --- looking at them from outside

def run_step(work: Path, step: str, n: int, *more: str, limit: float = LIMIT) -> dict:
    "Run a step in a process of its own; its own measures, and its memory seen from outside."
    told = work / "told.json"
    told.unlink(missing_ok=True)
    environment = {**os.environ, "LEUKNB_HOME": str(work / "home")}
    process = subprocess.Popen([sys.executable, __file__, "--step", step, str(work), str(n), *more], env=environment,
                               stdout=subprocess.DEVNULL)
    own, start, ended = 0, time.monotonic(), (0, 0, None)
    while not ended[0]:
        own = max(own, own_memory(process.pid))
        if time.monotonic() - start > limit: process.kill()
        time.sleep(0.1)
        ended = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    row = {"step": " ".join((step, *more)), "images": n, "measured": str(date.today())}
    if process.returncode:
        row |= {"failed": f"over {limit:.0f} s" if time.monotonic() - start > limit
                else f"exit status {process.returncode}"}
    else:
        row |= json.loads(told.read_text()) | {"peak_mb": round(ended[2].ru_maxrss / 1024 / (1024
            if sys.platform == "darwin" else 1)), "own_mb": round(own / 1024) or None}
    if "seconds" in row: row["images_per_second"] = round(n / max(row["seconds"], 1e-9), 1)
    print("  ".join(f"{k} {v:,}" if isinstance(v, (int, float)) else f"{v}" for k, v in row.items()), flush=True)
    return row


def own_memory(pid: int) -> int:
    "Kilobytes of a process that are no file pages; 0 where the system does not tell."
    try: lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError: return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


def growth(rows: list[dict]) -> dict:
    "The powers of the processor time, and the memory that each further 10,000 images take, for each step."
    found = {}
    for step in dict.fromkeys(r["step"] for r in rows):
        of = sorted((r for r in rows if r["step"] == step and "seconds" in r), key=lambda r: r["images"])
        if len(of) < 3: continue
        n, cpu, own = (np.array([r[k] for r in of], float)
                       for k in ("images", "cpu_seconds", "own_mb" if of[0]["own_mb"] else "peak_mb"))
        found[step] = {"exponent": power(n, cpu), "beyond": power(n[1:] - n[0], cpu[1:] - cpu[0]),
                       "peak_mb": max(r["peak_mb"] for r in of),
                       "own_mb_for_each_10000": round(float(np.polyfit(n, own, 1)[0] * 10_000), 1)}
    return found


def power(n, seconds) -> float:
    "The slope of log(seconds) over log(n), where there are seconds."
    some = seconds > 0
    return round(float(np.polyfit(np.log(n[some]), np.log(seconds[some]), 1)[0]), 2) if some.sum() > 1 else float("nan")


# --- killed

def killed(work: Path, n: int, times: int) -> dict:
    """Kill an extraction at random moments; after each kill every row of the store must be one of the clean
    extraction's, bit by bit, and none may be lost.
    """
    from leuknb.core import fingerprint
    from leuknb.features.extraction import recipe_of
    from leuknb.features.store import FeatureStore

    key, digests = fingerprint(recipe_of(small()))[:32], dataset_of(work, n).usable["sha256"].tolist()
    clean, found = FeatureStore(work / f"store{n}" / key).read(digests)
    assert found.all()
    chance, had, fresh, ends = random.Random(0), 0, 0, []
    store = work / "killed"
    for _ in range(times):
        process = subprocess.Popen([sys.executable, __file__, "--step", "resume", str(work), str(n)],
                                   stdout=subprocess.PIPE, text=True)
        process.stdout.readline()  # everything is imported
        try: process.wait(chance.uniform(0, 6))
        except subprocess.TimeoutExpired: process.send_signal(signal.SIGKILL)
        process.wait()
        rows, found = FeatureStore(store / key).read(digests)
        assert found.sum() >= had, "rows were lost"
        assert rows is None or np.array_equal(rows[found], clean[found]), "the store is wrong"
        had = int(found.sum())
        ends.append(had)
        if found.all(): shutil.rmtree(store); had, fresh = 0, fresh + 1
    process = subprocess.run([sys.executable, __file__, "--step", "resume", str(work), str(n)],
                             stdout=subprocess.DEVNULL)
    rows, found = FeatureStore(store / key).read(digests)
    assert process.returncode == 0 and found.all() and np.array_equal(rows, clean), "the rest was not resumed"
    return {"kills": times, "images": n, "rows_after_each": ends, "finished_before_the_kill": fresh, "wrong_rows": 0,
            "lost_rows": 0, "resumed": True}


def step_resume(work: Path, n: int) -> dict:
    from leuknb.features.extraction import extract

    dataset = dataset_of(work, n)
    print("ready", flush=True)
    extract(dataset, small(), store=work / "killed")
    return {}


# --- all of it

def run_all(work: Path, quick: bool, parts: list[str]):
    "Run the steps of some parts; yield what was found so far after each size."
    least = 20 if quick else 1
    sizes, wide = (sorted({max(n // least, 60) for n in s}) for s in (SIZES, WIDE_SIZES))
    (work / "images").mkdir()
    listed = {*(sizes if "store" in parts else []), *(wide if "audit" in parts else [])}
    if listed: run_step(work, "images", max(listed))
    for n in listed: list_images(work / "images", n)
    found = {"rows": []}
    if "store" in parts: yield from run_store(work, quick, sizes, found)
    if "audit" in parts:
        for n in listed - {r["images"] for r in found["rows"]}: run_step(work, "list", n)
    steps = [step.split() for part in parts if part != "store" for step in PARTS[part]]
    for step, *more in steps:
        for n in wide:
            found["rows"].append(run_step(work, step, n, *more))
            yield found
            if "failed" in found["rows"][-1]: break  # larger ones take longer


def run_store(work: Path, quick: bool, sizes: list[int], found: dict):
    "Run the steps from files to features, and the kills."
    default = run_step(work, "default", 48 if quick else 195)
    found |= {"images_per_second": default["images_per_second"],
              "cores": round(default["cpu_seconds"] / default["seconds"], 3), "default": default}
    for n in sizes:
        found["rows"] += [run_step(work, step, n) for step in ("list", "extract", "again")]
        yield found
        if n == sizes[2]: found["killed"] = killed(work, n, 3 if quick else 20)
    print(found["killed"], flush=True)
    yield found


def beside(found: dict, before: dict, parts: list[str]) -> dict:
    "What was found, and the rows of other parts from before."
    anew = {step for part in parts for step in PARTS[part]}
    rows = [r for r in before.get("rows", []) if r["step"] not in anew] + found["rows"]
    return before | found | {"rows": rows, "growth": growth(rows)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="parts to run; others stay")
    args, path = parse(parser), RESULTS / "scale.json"
    if args.step:
        name, work, n, *more = args.step
        told = globals()[f"step_{name}"](Path(work), int(n), *more)
        (Path(work) / "told.json").write_text(json.dumps(told, default=float))
        return
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="leuknb-scale-") as work:
        os.environ["LEUKNB_HOME"] = str(Path(work) / "home")
        for found in run_all(Path(work), args.quick, args.only):
            told = beside(found, before, args.only)
            keep("scale", told | {"machine": machine(), "load_at_start": load, "notes": NOTES}, args.quick)
    for step, facts in told["growth"].items(): print(step, json.dumps(facts))


if __name__ == "__main__": main()
