"""Every promise of SECURITY.md has a test that exists and that `make test` runs."""

import ast
import re

import pytest
from conftest import ROOT


def names_and_whether_long() -> dict[str, bool]:
    "Name of a test -> whether it is marked as long, wholly."
    found = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        whole = any(isinstance(n, ast.Assign) and n.targets[0].id == "pytestmark"
                    and "mark.long" in ast.unparse(n.value) for n in tree.body if isinstance(n, ast.Assign)
                    and isinstance(n.targets[0], ast.Name))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = whole or any(ast.unparse(d) == "pytest.mark.long" for d in node.decorator_list)
    return found


TESTS = names_and_whether_long()
PROMISES = [row
            for row in re.findall(r"^\|(.+)\|$",
                                  (ROOT / "SECURITY.md").read_text().split("## What is promised, and what holds it")[1],
                                  re.M) if "---" not in row and not row.endswith(" tests ")]


def test_the_promises_are_found(): assert len(PROMISES) == 20


@pytest.mark.parametrize("promise", PROMISES, ids=lambda row: row.split("|")[0].strip()[:60])
def test_a_promise_names_tests_that_exist_and_one_that_is_not_long(promise):
    *_, tests = promise.split("|")
    named = re.findall(r"`(test_\w+)`", tests)
    assert not set(named) - set(TESTS)
    assert [name for name in named if not TESTS[name]]
    assert {name for name in named if TESTS[name]} == set(re.findall(r"\*`(test_\w+)`\*",
        tests)), "long tests, and only they, stand in italics"
