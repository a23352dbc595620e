"""The first screen: what stands beside the number, and a next command that works when it is copied."""

import shlex

import pytest
from typer.testing import CliRunner

from leuknb.cli import app
from leuknb.reporting.headline import next_step
from leuknb.settings import make_settings, parse_changes, PRESETS
from leuknb.warning_codes import warning

REAL = {"dataset": {"synthetic": False, "n_patients": 40}, "headline": {"warnings": []}, "cv": {}}
UNNAMED = REAL | {"dataset": {"synthetic": False, "n_patients": None}}
SHORTCUT = REAL | {"headline": {"warnings": [warning("LKB201", "x")]}}
LEARNED = UNNAMED | {"headline": {"warnings": [warning("LKB106", "x")]}}
MINE = {"data": "my smears/a", "positive": "blast", "group": "regex:(P[0-9]+)", "n_splits": 20}


@pytest.mark.parametrize(("metrics", "settings", "begins", "holds"), [
    (REAL | {"dataset": {"synthetic": True, "n_patients": 40}}, make_settings(), "leuknb report my_images", {}),
    (SHORTCUT, make_settings(**MINE), "leuknb audit", {"positive": "blast", "group": "regex:(P[0-9]+)"}),
    (LEARNED, make_settings(**MINE), "leuknb report 'my smears/a' --preset imagenet", {"positive": "blast"}),
    (UNNAMED, make_settings(**MINE), "leuknb report", {"group": "COLUMN", "n_splits": 20}),
    ({k: v for k, v in REAL.items() if k != "cv"}, make_settings(**MINE, cv_repeats=0), "leuknb report", {}),
    (REAL, make_settings(**MINE), "leuknb report 'my smears/a'", {"positive": "blast", "external": "OTHER"}),
    (REAL, make_settings("best", **MINE), "leuknb report 'my smears/a' --preset best", {"external": "OTHER"}),
    (REAL, make_settings("best", **MINE, external="b"), "leuknb train 'my smears/a' --preset best", {})])
def test_what_next_is_a_command_that_can_be_copied(metrics, settings, begins, holds):
    why, command = next_step(settings, metrics)
    words = shlex.split(command)
    pairs = parse_changes([b for a, b in zip(words, words[1:]) if a == "--set"])
    assert command.startswith(begins) and why.endswith(".") and holds.items() <= pairs.items()
    make_settings(next((p for p in PRESETS if p in words), "demo"), **pairs)
    known = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"}).output
    assert all(w in known for w in words if w.startswith("--"))


@pytest.mark.parametrize("code", ["LKB103", "LKB205"])
def test_warnings_that_were_looked_into_or_could_not_be_judged_do_not_lead_back_to_the_audit(code):
    seen = {"headline": {"warnings": [warning(code, "x") | ({} if code == "LKB205" else {"acknowledged": True})]}}
    assert "audit" not in next_step(make_settings(data="x"), REAL | seen)[1]
