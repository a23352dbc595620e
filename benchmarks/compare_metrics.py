"""Which numbers of two metrics.json differ, whatever schema each is written in.

    python benchmarks/compare_metrics.py OLD.json NEW.json

Schema 1 kept the interval beside the number (`ci`, or a dictionary of them) and called values `mean`; schema 2 has one
shape, {"value", "ci", "n", "units"}. Both are brought to flat names such as `cv.models.svm.accuracy.value`; numbers
that are in both and differ are printed, then those that only one of them has. Exit status 1 when any differs.
"""
import json
import math
import re
import sys
from pathlib import Path

RENAMED = {r"^dataset\.n_groups$": "dataset.n_patients", r"^external\.n_groups$": "external.n_patients"}


def is_estimate(value) -> bool:
    return isinstance(value, dict) and "value" in value and set(value) <= {"value", "ci", "n", "units"}


def to_schema_2(metrics: dict) -> dict:
    "Return metrics of schema 1 in the shapes of schema 2, as far as both hold the same numbers."
    m = json.loads(json.dumps(metrics))
    for model in m.get("holdout", {}).get("models", {}).values(): _beside(model)
    for model in m.get("cv", {}).get("models", {}).values():
        for k, v in list(model.items()):
            if k == "per_class": model[k] = {c: {n: _of_mean(e) for n, e in each.items()} for c, each in v.items()}
            else: model[k] = _of_mean(v)
    for row in m.get("comparisons", []): _joined(row, "difference")
    for r in m.get("calibration", {}).values():
        r.pop("operating_points", None)  # chosen and judged on the same images; `thresholds` are other numbers
        for k in ("brier", "ece"): r[k] = r[k] if is_estimate(r[k]) else {"value": r[k]}
    audit = m.get("audit", {})
    for row in audit.get("shortcuts", []): _joined(row, "auroc")
    if "warnings" in audit: audit["warnings"] = [{"text": w} for w in audit["warnings"]]
    over = audit.get("over_best_probe")
    if over: _joined(over, "auroc"); over["difference"] = {"value": over["difference"], "ci": over.pop("difference_ci")}
    if "cv" in m: m["cv"].pop("grouped", None)
    if "explanations" in m: m["explanations"]["examples"] = m["explanations"].pop("cases")
    return m


def _beside(model: dict) -> None:
    "Move the intervals of a model's dictionary `ci` to the numbers they belong to."
    for name, ends in model.pop("ci", {}).items():
        model[name] = {"value": model[name], **({} if ends is None or None in ends else {"ci": ends})}
    for each in model.get("per_class", {}).values(): _beside(each)


def _of_mean(v: dict) -> dict:
    return {"value": v["mean"], **({} if v.get("ci") is None or None in v["ci"] else {"ci": v["ci"]})}


def _joined(row: dict, name: str) -> None:
    ends = row.pop("ci", None)
    if row[name] is not None: row[name] = {"value": row[name], **({} if ends is None else {"ci": ends})}


def flat(value, name: str = "") -> dict:
    "Return every plain value by its dotted name."
    if isinstance(value, dict): parts = value.items()
    elif isinstance(value, list): parts = enumerate(value)
    else: return {name: value}
    return {k: v for key, part in parts for k, v in flat(part, f"{name}.{key}" if name else str(key)).items()}


def read(path: str) -> dict:
    metrics = json.loads(Path(path).read_text(encoding="utf-8"))
    found = flat(to_schema_2(metrics) if metrics.get("schema") == 1 else metrics)
    for old, new in RENAMED.items(): found = {re.sub(old, new, k): v for k, v in found.items()}
    return found


def main(old: str, new: str) -> int:
    a, b = read(old), read(new)
    same = lambda x, y: x == y or (isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y))
    both = [k for k in a if k in b and k != "schema"]
    differ = [k for k in both if not same(a[k], b[k])]
    print(f"{len(both):,} values are in both; {len(differ):,} differ")
    for k in differ: print(f"  {k}: {a[k]!r} -> {b[k]!r}")
    for words, keys in (("only in the old one", set(a) - set(b)), ("only in the new one", set(b) - set(a))):
        heads = sorted({re.sub(r"\.\d+(?=\.|$)", ".*", re.sub(r"(models|calibration|per_class)\.[^.]+", r"\1.*", k))
                        for k in keys})
        print(f"{words}: {len(keys):,} values" + (f" ({', '.join(heads[:60])})" if heads else ""))
    return 1 if differ else 0


if __name__ == "__main__":
    if len(sys.argv) != 3: sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
