"""How long one waits before anything happens: imports, the command line's answers, a first extraction, the first
report and the same report again.

    python benchmarks/startup.py                medians of 7, and reports
    python benchmarks/startup.py --rounds 3     medians of 3

Every command runs in a process of its own, in turn, in a temporary folder with a cache of its own; the byte-code of
the modules is there, as after a first use. Seconds on the clock and processor seconds of the process and its
children: the second is the measure where others use the machine. `python` is an empty Python process, which
everything includes. `slowest` names the modules that take most of an import, with their own milliseconds.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import keep, machine, parse

LEUKNB = str(Path(sys.executable).parent / "leuknb")
COMMANDS = {
    "python": [sys.executable, "-c", ""],
    "import leuknb": [sys.executable, "-c", "import leuknb"],
    "import leuknb.features": [sys.executable, "-c", "import leuknb.features"],
    "import leuknb.features.extraction": [sys.executable, "-c", "import leuknb.features.extraction"],
    "leuknb --version": [LEUKNB, "--version"],
    "leuknb --help": [LEUKNB, "--help"],
    "leuknb doctor": [LEUKNB, "doctor"],
    "leuknb backbones": [LEUKNB, "backbones"],
}


def run(command: list[str], cwd: Path) -> tuple[float, float]:
    "Seconds on the clock and of processor time of a command and its children."
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env={**os.environ, "LEUKNB_HOME": str(cwd / "home")}, capture_output=True,
                          text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(what: str, runs: list[tuple[float, float]]) -> dict:
    wall, cpu = (statistics.median(r[i] for r in runs) for i in (0, 1))
    row = {"what": what, "seconds": round(wall, 3), "cpu_seconds": round(cpu, 3),
           "least_seconds": round(min(r[0] for r in runs), 3), "runs": len(runs)}
    print(f"{what:32}{row['seconds']:9.3f} s{row['cpu_seconds']:9.3f} processor s   (of {len(runs)}; least "
          f"{row['least_seconds']:.3f} s)", flush=True)
    return row


def slowest(code: str, n: int = 6) -> dict[str, float]:
    "The packages that take most of an import: their own milliseconds, their parts counted."
    told = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True).stderr
    found: dict[str, float] = {}
    for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", told):
        found[name.split(".")[0]] = found.get(name.split(".")[0], 0) + int(own) / 1000
    return {k: round(v, 1) for k, v in sorted(found.items(), key=lambda kv: -kv[1])[:n]}


def reports(cwd: Path, times: int) -> list[dict]:
    """The default report: the first one of a machine (smears are drawn, features extracted, everything fitted), and
    the same again, all of it kept.
    """
    first, again = [], []
    for i in range(times):
        here = cwd / f"reports{i}"
        here.mkdir()
        first.append(run([LEUKNB, "report", "--out", "first"], here))
        again += [run([LEUKNB, "report", "--out", f"again{k}"], here) for k in range(3 if times == 1 else 1)]
    return [medians("first report", first), medians("stored report", again)]


def extractions(cwd: Path, times: int) -> list[dict]:
    "A first extraction of the default's features in a home of its own, of few images and of as many as the paper had."
    rows = []
    for n in (8, 195):
        run([LEUKNB, "synth", f"set{n}", "--n", str(n)], cwd)
        taken = []
        for i in range(times):
            here = cwd / f"extract{n}-{i}"
            here.mkdir()
            taken.append(run([LEUKNB, "extract", str(cwd / f"set{n}"), "--out", "out"], here))
        rows.append(medians(f"first extraction, {n} images", taken))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    args = parse(parser, rounds=1)
    load, rounds = os.getloadavg()[0], args.rounds
    with tempfile.TemporaryDirectory(prefix="leuknb-startup-") as folder:
        cwd = Path(folder)
        for command in COMMANDS.values(): run(command, cwd)  # files are read, byte-code is written
        taken = [{name: run(command, cwd) for name, command in COMMANDS.items()} for _ in range(rounds)]
        rows = [medians(name, [t[name] for t in taken]) for name in COMMANDS]
        rows += extractions(cwd, min(rounds, 3))
        rows += reports(cwd, 3 if load < 2 else 1)
    found = {"machine": machine(), "load_at_start": load,
             "note": "with a load above the cores look at cpu_seconds", "rows": rows,
             "slowest_ms": {m: slowest(f"import {m}")
                            for m in ("leuknb.cli", "leuknb.features.extraction", "leuknb.reporting.run")}}
    for module, parts in found["slowest_ms"].items(): print(module, parts)
    keep("startup", found, args.quick)


if __name__ == "__main__": main()
