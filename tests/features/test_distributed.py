"""Extraction on a cluster: the same bits as one process, with workers killed, blocks damaged, networks failing, and
nobody there.
"""

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings as hypothesis_settings, strategies as st

from leuknb.features import distributed
from leuknb.core import InputError, LeuknbError, package_versions, sha256
from leuknb.settings import make_settings
from leuknb.data.images import UnreadableImage
from leuknb.data.datasets import load_dataset
from leuknb.evaluation.predict import evaluate
from leuknb.features.extraction import extract

pytestmark = pytest.mark.skipif(importlib.util.find_spec("distributed") is None,
                                reason="dask.distributed is not installed")
SETTINGS = make_settings(image_size=64, device="cpu", synthetic={"n_images": 40, "images_per_patient": 2})


class Cluster:
    "A scheduler and workers as processes of this machine, on the loopback address only."

    def __init__(self, folder: Path):
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", {}
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address",
                    "127.0.0.1:0", "--no-show", "--scheduler-file", str(self.file))
        deadline = time.monotonic() + 60
        while not self.file.exists() and time.monotonic() < deadline: time.sleep(0.05)

    def _start(self, name, *arguments):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        log = open(self.folder / f"{name}.log", "w")
        self.processes[name] = subprocess.Popen([sys.executable, "-m", "dask", *arguments], stdout=log,
                                                stderr=subprocess.STDOUT, env=environment, cwd=self.folder)
        log.close()

    def add(self, name):
        self._start(name, "worker", "--scheduler-file", str(self.file), "--host", "127.0.0.1", "--nthreads", "1",
                    "--no-nanny", "--dashboard-address", "127.0.0.1:0", "--name", name, "--local-directory",
                    str(self.folder))

    def kill(self, name):
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes.pop(name).wait()

    def close(self):
        for process in self.processes.values(): process.kill()
        for process in self.processes.values(): process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    for name in ("one", "two"): made.add(name)
    yield made
    made.close()


@pytest.fixture(scope="module")
def dataset(own_store): return load_dataset(SETTINGS)


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory): return extract(dataset, SETTINGS, store=tmp_path_factory.mktemp("alone"))


def test_with_one_of_two_workers_killed_midway_the_features_are_those_of_one_process_and_only_its_shard_is_lost(cluster,
    dataset, alone, tmp_path):
    kept, found = tmp_path / "shards", {}

    def run():
        with distributed.connect(str(cluster.file)) as client:
            client.wait_for_workers(2, timeout=60)
            found["X"] = distributed.extract_on(client, dataset, SETTINGS, store=tmp_path / "store",
                                                shards=f"file://{kept}", size=2)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 90
    while len(list(kept.glob("*.block"))) < 3 and time.monotonic() < deadline: time.sleep(0.002)
    cluster.kill("two")
    time.sleep(0.05)
    before = {p: p.stat().st_mtime_ns for p in kept.glob("*.block") if distributed.unpack_block(p.read_bytes())}
    thread.join(90)
    assert not thread.is_alive() and found["X"].tobytes() == alone.tobytes()
    after = {p: p.stat().st_mtime_ns for p in kept.glob("*.block")}
    assert 3 <= len(before) < len(after), "the worker was not killed midway"
    redone = [p for p in before if after[p] != before[p]]
    assert len(redone) <= 1, "more than the killed worker's shard was computed again"
    cluster.add("three")


def test_without_a_shard_store_rows_come_through_the_scheduler_and_a_second_call_asks_nobody(cluster, dataset, alone,
    tmp_path):
    with distributed.connect(str(cluster.file)) as client:
        X = distributed.extract_on(client, dataset, SETTINGS, store=tmp_path, size=8)
    assert X.tobytes() == alone.tobytes()
    assert distributed.extract_on(None, dataset, SETTINGS, store=tmp_path, size=8).tobytes() == alone.tobytes()
    assert extract(dataset, SETTINGS, store=tmp_path).tobytes() == alone.tobytes()


def test_features_of_augmented_copies_are_those_of_one_process(cluster, dataset, tmp_path):
    with distributed.connect(str(cluster.file)) as client:
        X = distributed.extract_on(client, dataset, SETTINGS, copy=2, store=tmp_path / "a", size=16)
    assert X.tobytes() == extract(dataset, SETTINGS, copy=2, store=tmp_path / "b").tobytes()


def test_what_a_stopped_run_had_gathered_is_not_computed_again(cluster, dataset, alone, tmp_path, monkeypatch):
    sent, run_tasks = [], distributed.run_tasks

    def watched(client, function, tasks, what, stop=None):
        tasks = list(tasks)
        sent.append(len(tasks))
        for i, done in enumerate(run_tasks(client, function, tasks, what), 1):
            yield done
            if i == stop: raise KeyboardInterrupt

    with distributed.connect(str(cluster.file)) as client:
        monkeypatch.setattr(distributed, "run_tasks", lambda *call: watched(*call, stop=2))
        with pytest.raises(KeyboardInterrupt): distributed.extract_on(client, dataset, SETTINGS, store=tmp_path, size=8)
        monkeypatch.setattr(distributed, "run_tasks", watched)
        X = distributed.extract_on(client, dataset, SETTINGS, store=tmp_path, size=8)
    assert sent[1] == sent[0] - 2 and X.tobytes() == alone.tobytes()


def test_a_damaged_block_in_the_shard_store_is_made_again(cluster, dataset, alone, tmp_path):
    with distributed.connect(str(cluster.file)) as client:
        distributed.extract_on(client, dataset, SETTINGS, store=tmp_path / "a", shards=str(tmp_path / "shards"),
                               size=16)
        path = sorted((tmp_path / "shards").glob("*.block"))[0]
        whole = path.read_bytes()
        path.write_bytes(whole[:-5] + b"wrong")
        X = distributed.extract_on(client, dataset, SETTINGS, store=tmp_path / "b", shards=str(tmp_path / "shards"),
                                   size=16)
    assert X.tobytes() == alone.tobytes() and path.read_bytes() == whole


def test_an_image_that_changed_since_it_was_listed_is_named_and_not_tried_again(cluster, dataset, tmp_path):
    moved = load_dataset(SETTINGS)
    copy = tmp_path / "data"
    for name in moved.usable["file_name"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(moved.read(name))
    changed = load_dataset(SETTINGS.model_copy(update={"data": str(copy)}))
    name = changed.usable["file_name"][5]
    (copy / name).write_bytes(moved.read(moved.usable["file_name"][6]))
    with distributed.connect(str(cluster.file)) as client, pytest.raises(LeuknbError, match=f"{name} was changed"):
        distributed.extract_on(client, changed, SETTINGS, store=tmp_path / "store", size=8)


def test_a_worker_with_other_versions_or_another_recipe_is_refused():
    with pytest.raises(InputError, match="torch .* here, 0.1 at the caller"):
        distributed.check_alike("0" * 64, {**package_versions(distributed.SHAPING), "torch": "0.1"}, SETTINGS)
    with pytest.raises(InputError, match="its weights, its device"):
        distributed.check_alike("0" * 64, package_versions(distributed.SHAPING), SETTINGS)


def test_fits_on_the_cluster_give_the_predictions_of_one_machine(cluster):
    draw, n = np.random.default_rng(0), 40
    label = np.array(["normal", "abnormal"] * (n // 2))
    X = (draw.normal(size=(n, 6)) + (label == "abnormal")[:, None]).astype(np.float32)
    table = pd.DataFrame({"file_name": [f"{i}.png" for i in range(n)], "label": label})
    wanted = make_settings(positive="abnormal", classifiers=["svm", "knn", "tree"], n_splits=3, cv_folds=3,
                           cv_repeats=1)
    here = evaluate(X, table, wanted)
    with distributed.connect(str(cluster.file)) as client, distributed.folds_on(client):
        there = evaluate(X, table, wanted)
    assert here.equals(there)


def test_a_cluster_without_workers_is_given_up_in_words():
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=False,
                      dashboard_address="127.0.0.1:0") as empty, distributed.connect(empty.scheduler_address) as client:
        with pytest.raises(LeuknbError, match="no worker for 0 s, 1 tasks"):
            list(distributed.run_tasks(client, abs, [(-1,)], "task", patience=0.1))


def test_an_address_where_nobody_answers_and_missing_dask_are_told_in_words(monkeypatch):
    monkeypatch.setattr(distributed, "CONNECT", 0.3)
    for address in ("tcp://127.0.0.1:1", "nowhere://x"):
        with pytest.raises(InputError, match="no Dask scheduler answers"), distributed.connect(address): pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install leuknb\[dask\]"), distributed.connect("tcp://127.0.0.1:1"): pass


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=120), st.integers(1, 40))
def test_shards_hold_each_distinct_image_once_whatever_the_order(numbers, size):
    digests = [sha256(n.to_bytes(2, "little")) for n in numbers]
    made = distributed.make_shards(digests, "r", size)
    assert sorted(d for s in made for d in s.digests) == sorted(set(digests))
    assert all(digests[p] == d for s in made for p, d in zip(s.places, s.digests))
    assert [s.key for s in made] == [s.key for s in distributed.make_shards(sorted(digests, reverse=True), "r", size)]
    assert len({s.key for s in made}) == len(made)


def test_a_bucket_is_read_like_a_folder_and_bad_files_in_it_are_named(dataset):
    fs = fsspec.filesystem("memory")
    names = dataset.usable["file_name"].tolist()
    for name in names: fs.pipe_file(f"/hospital/{name}", dataset.read(name))
    fs.pipe_file("/hospital/normal/.hidden.png", b"")
    fs.pipe_file("/hospital/normal/notes.txt", b"no image"); fs.pipe_file("/hospital/normal/torn.png", b"\x89PNG")
    found = distributed.load_remote(make_settings(data="memory://hospital"))
    assert sorted(found.usable["file_name"]) == sorted(names) and found.positive == "abnormal"
    assert found.skipped["file_name"].tolist() == ["normal/torn.png"]
    assert dict(zip(found.usable["file_name"], found.usable["sha256"])) == dict(zip(names, dataset.usable["sha256"]))
    small = distributed.load_remote(make_settings(data="memory://hospital",
                                                  pixel_limit=int((dataset.usable["width"]
                                                      * dataset.usable["height"]).max()) - 1))
    assert any("over the pixel limit" in why for why in small.skipped["why"])


def test_a_name_that_climbs_out_of_a_bucket_is_not_followed():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/secret.png", b"secret")
    fs.pipe_file("/climbing/metadata.csv", b"file_name,label\n../secret.png,normal\na.png,abnormal\n")
    listing = distributed.list_remote("memory://climbing").listing
    assert "climbs out" in listing.set_index("file_name")["why"]["../secret.png"]


def test_a_network_that_fails_is_raised_and_never_taken_for_a_bad_image(monkeypatch):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/flaky/normal/a.png", b"x")
    monkeypatch.setattr(type(fs), "cat_file", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("reset")))
    with pytest.raises(ConnectionError): distributed.inspect_remote("memory://flaky", ["normal/a.png"])


def test_a_missing_remote_file_is_an_unreadable_image():
    with pytest.raises(UnreadableImage, match="no such file"): distributed.read_remote("memory://nothing", "a.png")


def test_only_addresses_with_a_protocol_of_elsewhere_are_remote():
    assert distributed.is_remote("s3://bucket/x") and distributed.is_remote("memory://x")
    assert not any(map(distributed.is_remote, ("smears", "/smears", "file:///smears", "synthetic",
                                               "kaggle:owner/name")))


# the queue's srun: starts what follows its options as often as --ntasks says, twice at most
SRUN = """#!/bin/bash
n=1
while [[ $1 == --* ]]; do case $1 in --ntasks=*) n=${1#--ntasks=};; esac; shift; done
[ "$n" -gt 2 ] && n=2
for _ in $(seq "$n"); do "$@" & echo $! >> "$STARTED"; done
wait
"""


@pytest.mark.long
def test_the_script_for_slurm_in_the_guide_runs_on_a_local_cluster(tmp_path):
    guide = json.loads((ROOT / "nbs" / "guides" / "07_cluster.ipynb").read_text())
    text = "".join("".join(c["source"]) + "\n" for c in guide["cells"])
    script = re.search(r"## SLURM.*?```sh\n(.*?)```", text, re.S)[1]
    dataset = load_dataset(SETTINGS)
    (tmp_path / "smears").symlink_to(dataset.root)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    (tmp_path / "job.sh").write_text(script.replace("ib0", "lo").replace("/shared/smears", str(tmp_path / "smears")))
    for options in ("--interface lo", "--ntasks=31", "extract"): assert options in (tmp_path / "job.sh").read_text()
    environment = {**os.environ, "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "TMPDIR": str(tmp_path),
                   "STARTED": str(tmp_path / "started"), "OMP_NUM_THREADS": "1", "LEUKNB_OFFLINE": "1",
                   "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        with open(tmp_path / "log", "w") as log:  # a pipe would stay open as long as the scheduler lives
            done = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=environment, stdout=log, stderr=log,
                                  timeout=200)
    finally:
        for pid in (tmp_path / "started").read_text().split():
            with contextlib.suppress(ProcessLookupError): os.kill(int(pid), signal.SIGKILL)
    assert done.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    made = pd.read_parquet(tmp_path / "features" / "features.parquet")
    assert len(made) == 40 and np.array_equal(made.filter(regex=r"^f\d+$").to_numpy(np.float32),
                                              extract(dataset, make_settings(data=str(tmp_path / "smears"))))
