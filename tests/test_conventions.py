"""What people expect of any command line: logs on request, colours and bars only where they belong, completion,
documented exit codes.
"""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, leuknb

COLOUR = re.compile(r"\x1b\[[0-9;]*?(?:3[0-7]|9[0-7]|4[0-7])[;m]")


def on_a_terminal(*arguments, cwd, **environment) -> str:
    "What the command line writes when its output is a terminal."
    parent, child = pty.openpty()
    call = [str(Path(sys.executable).parent / "leuknb"), *arguments]
    env = {**{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}, "TERM": "xterm-256color",
           "COLUMNS": "120", **environment}
    done = subprocess.Popen(call, cwd=cwd, stdin=child, stdout=child, stderr=child, env=env)
    os.close(child)
    out = b""
    while True:
        try: piece = os.read(parent, 65536)
        except OSError: break
        if not piece: break
        out += piece
    done.wait(timeout=60)
    os.close(parent)
    return out.decode(errors="replace")


def test_no_color_takes_the_colours_from_help_and_tables(tmp_path):
    assert COLOUR.search(on_a_terminal("--help", cwd=tmp_path))
    assert not COLOUR.search(on_a_terminal("--help", cwd=tmp_path, NO_COLOR="1"))


def test_what_is_piped_on_holds_no_escape_sequence_and_no_progress_bar(tmp_path):
    done = leuknb("synth", "smears", "--n", 4, "--set", "images_per_patient=2", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "smears\n"
    done = leuknb("extract", "smears", "--out", "features", "--set", "image_size=64", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "features/features.parquet\n"
    for stream in (done.stdout, done.stderr): assert "\x1b" not in stream and "\r" not in stream and "%|" not in stream


def test_verbose_logs_on_standard_error_wherever_it_is_written_and_leaves_the_result_alone(tmp_path):
    home = {"LEUKNB_HOME": str(tmp_path / "home")}
    quiet = leuknb("cache", "info", cwd=tmp_path, **home)
    assert quiet.returncode == 0 and "INFO" not in quiet.stderr
    for call in (["--verbose", "cache", "info"], ["cache", "info", "--verbose"]):
        done = leuknb(*call, cwd=tmp_path, **home)
        assert done.returncode == 0 and done.stdout == quiet.stdout
        assert re.search(r"INFO leuknb\.cli: leuknb [\d.]+: exit status 0 after [\d.]+ s", done.stderr)
    failed = leuknb("extract", "missing", "--out", "x", "--set", "seed=7", "--verbose", cwd=tmp_path)
    assert (failed.returncode == 2 and '"seed":7' in failed.stderr and "exit status 2" in failed.stderr
            and "Traceback" not in failed.stderr)


def test_debug_shows_the_traceback_wherever_it_is_written(tmp_path):
    for call in (["--debug", "audit", "--table", "missing.csv"], ["audit", "--table", "missing.csv", "--debug"]):
        done = leuknb(*call, cwd=tmp_path)
        assert done.returncode != 0 and "Traceback" in done.stderr and "InputError" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_be_taught_the_commands(tmp_path, shell):
    asked = {"bash": {"COMP_WORDS": "leuknb re", "COMP_CWORD": "1"}, "zsh": {"_TYPER_COMPLETE_ARGS": "leuknb re"},
             "fish": {"_TYPER_COMPLETE_ARGS": "leuknb re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}}[shell]
    offered = leuknb(cwd=tmp_path, _LEUKNB_COMPLETE=f"complete_{shell}", **asked)
    assert "report" in offered.stdout, offered.stderr


def test_installing_completion_writes_only_into_the_home_folder(tmp_path):
    (tmp_path / "home").mkdir()
    done = leuknb("--install-completion", "bash", cwd=tmp_path, HOME=str(tmp_path / "home"),
                  _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    written = "".join(p.read_text() for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert "_LEUKNB_COMPLETE" in written
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_exit_codes_are_documented_in_the_help_and_in_the_guide(tmp_path):
    told = " ".join(leuknb("--help", cwd=tmp_path, COLUMNS="200").stdout.split())
    guide = (ROOT / "nbs" / "guides" / "09_command-line.md").read_text()
    for code, what in (("0", "done"), ("1", "the run failed"), ("2", "the call or the input was wrong"),
                       ("3", "an audit found something to look at"), ("130", "stopped")):
        assert f"{code} {what}" in told, code
        assert re.search(rf"\| {code} \| [^|]*{what}", guide), code
