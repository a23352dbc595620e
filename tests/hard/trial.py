"""Read every file of a folder as a run does, each in a process of its own under limits: `python trial.py FOLDER`
prints what came of each as JSON.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from leuknb.data.images import UnreadableImage
from leuknb.data.datasets import inspect_file
from leuknb.data.images import decode, resize

SECONDS, BYTES = 20, 1_500_000_000  # of processor time and of memory, for one file


def read(root, name):
    "What came of one file: facts and reason, and the shape of its pixels when it counts as usable."
    *facts, why = inspect_file(root, name)
    found = {"facts": facts, "why": why}
    if why: return found
    try: pixels = decode((root / name).read_bytes())
    except UnreadableImage as e: return {**found, "why": str(e)}
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise TypeError(f"{pixels.dtype} {pixels.shape}")
    return {**found, "shape": resize(pixels, 64).shape}


def limited(root, name, result):
    "In the child: set the limits, read, write what came of it."
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try: found = read(root, name)
    except BaseException as e: found = {"raised": f"{type(e).__name__}: {e}"}
    result.write_text(json.dumps(found))


def attempt(root, name):
    "Fork, wait, and add what the child used."
    result, start = root.with_name(f"{root.name}.{name}.json"), time.perf_counter()
    child = os.fork()
    if child == 0:
        limited(root, name, result)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    found = json.loads(result.read_text()) if result.exists() else {"raised": "nothing came back"}
    return {**found, "status": status, "seconds": round(time.perf_counter() - start, 3),
            "memory": used.ru_maxrss * 1024}


if __name__ == "__main__":
    root = Path(os.path.realpath(sys.argv[1]))
    json.dump({name: attempt(root, name) for name in sorted(os.listdir(root))}, sys.stdout)
