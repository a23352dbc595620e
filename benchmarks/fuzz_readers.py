"""Fuzz everything that reads a stranger's bytes, led by coverage (atheris): `python benchmarks/fuzz_readers.py
[TARGET ...] [--seconds N] [--corpus DIR]`.

Targets: image, metadata, settings, weights, published. Each runs in a process of its own; what it finds is written to
DIR/TARGET/crash-*. Ends with 1 when something was found.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HARD = Path(__file__).resolve().parent.parent / "tests" / "hard"
TARGETS = ("image", "metadata", "settings", "weights", "published")


def fuzz(name, corpus, seconds):
    "In the child: instrument what is ours and Pillow's, and run."
    import atheris

    sys.path.insert(0, str(HARD))
    if name == "weights": import torch  # noqa: F401  # not to be instrumented
    with atheris.instrument_imports(include=["leuknb", "PIL"]): import targets
    target = getattr(targets, name)
    for i, data in enumerate(targets.CORPUS[target]()): (corpus / f"seed-{i}").write_bytes(data)
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={seconds}", "-rss_limit_mb=3000", "-timeout=20",
                   "-max_len=20000", f"-artifact_prefix={corpus}/crash-", "-print_final_stats=1", "-close_fd_mask=1"],
                   lambda data: targets.run(target, data))
    atheris.Fuzz()


def told(log):
    "The lines of a fuzzer's log that a person wants: how many, how fast, what was found."
    return "  ".join(line.removeprefix("stat::").strip() for line in log.splitlines()
                     if line.startswith(("stat::number_of_executed", "stat::average", "stat::peak"))) or log[-2000:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="*", default=[])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, help="where inputs are kept between runs; a temporary folder without it")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child: return fuzz(options.target[0], options.corpus, options.seconds)
    root, failed = options.corpus or Path(tempfile.mkdtemp(prefix="leuknb-fuzz-")), []
    for name in options.target or TARGETS:
        if name not in TARGETS: parser.error(f"target {name!r} is not known: use one of {', '.join(TARGETS)}")
        (root / name).mkdir(parents=True, exist_ok=True)
        done = subprocess.run([sys.executable, __file__, name, "--child", "--seconds", str(options.seconds), "--corpus",
                               str(root / name)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              errors="replace")
        print(f"{name:10} {'FOUND' if done.returncode else 'ok':6} {told(done.stderr)}", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-3000:], file=sys.stderr)
    if failed: sys.exit(f"found something in {', '.join(failed)}: see {root}")


if __name__ == "__main__": main()
