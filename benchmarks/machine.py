"""What all benchmarks share: the machine in words, `--quick`, and where results are kept."""

import argparse
import json
import platform
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine() -> dict:
    "The machine by its cores, its instruction sets and its Python."
    from leuknb.features.onnx import cores, instruction_sets

    return {"cores": cores(), "processor": platform.machine(), "instruction_sets": list(instruction_sets()),
            "python": platform.python_version()}


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None = None, **quick) -> argparse.Namespace:
    "The arguments of a benchmark. `--quick` takes sizes that only show it runs, and keeps no result."
    sizes = ", ".join(f"{name} {value}" for name, value in quick.items())
    parser.add_argument("--quick", action="store_true", help=f"only show that it runs ({sizes}); nothing is kept")
    if parser.parse_known_args(arguments)[0].quick: parser.set_defaults(**quick)
    return parser.parse_args(arguments)


def keep(name: str, found: dict, quick: bool) -> None:
    "Write results/NAME.json whole; a quick run leaves what is there."
    from leuknb.core import to_json, write_atomic

    if quick: return
    with write_atomic(RESULTS / f"{name}.json") as f: f.write(to_json(found, indent=1, sort_keys=False) + "\n")


def keep_rows(path: Path, studies: list[str], rows: list[dict]) -> None:
    "Write the rows of some studies into a file of rows; those of other studies stay."
    from leuknb.core import to_json, write_atomic

    there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [r for r in there if r["study"] not in studies]
    with write_atomic(path) as f: f.write("[\n" + ",\n".join(to_json(r) for r in kept + rows) + "\n]\n")
