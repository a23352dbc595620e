"""The notebooks in a real JupyterLab and a real browser: Run All on the report as it stands, and the page that
explores a model.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

pytestmark = pytest.mark.long
# instead of the stored values, so that it takes seconds
SMALL = {"n_splits": "20", "cv_repeats": "1", "permutations": "50"}


def drop(page, place, files) -> None:
    "Drag files over a place and let them go, as the browser takes them from the desktop."
    box, tab = page.locator(place).bounding_box(), page.context.new_cdp_session(page)
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    carried = {"items": [], "files": [str(f) for f in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        tab.send("Input.dispatchDragEvent", {"type": kind, "data": carried, **at})


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def started(call, url, cwd, **environment):
    "A server on the loopback address, once it answers."
    server = subprocess.Popen([sys.executable, "-m", *map(str, call)], cwd=cwd, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env={**os.environ, **environment})
    for _ in range(240):
        try: return urllib.request.urlopen(url, timeout=5) and server
        except OSError: time.sleep(0.5)
        if server.poll() is not None: break
    server.kill()
    raise AssertionError(f"{call[0]} did not start")


def small_copy(folder, name):
    "A report notebook with the few settings that take its time made small; nothing else is changed."
    nb = json.loads((ROOT / "nbs" / "reports" / f"{name}.ipynb").read_text())
    for cell in nb["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = [_smaller(line) for line in cell["source"]]
    (folder / f"{name}.ipynb").write_text(json.dumps(nb))


def _smaller(line):
    name = line.split(":")[0].split("=")[0].strip()
    if name == "synthetic":
        return line.replace('"n_images": 195', '"n_images": 40').replace('"images_per_patient": 5',
            '"images_per_patient": 2')
    if name not in SMALL: return line
    head, _, comment = line.partition("#")
    return head.split("=")[0] + f"= {SMALL[name]}" + (f"  #{comment}" if comment else "\n")


def wait(until, seconds):
    "Ask again and again until the answer is yes."
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end: raise AssertionError(f"not reached in {seconds} s")
        time.sleep(2)


def code_cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"
            and "".join(c["source"]).strip()]


def ended(cells) -> bool:
    "The last cell was run, or one failed."
    return bool(cells[-1]["execution_count"]) or any(o["output_type"] == "error" for c in cells for o in c["outputs"])


def shot(page, name, **how):
    "Keep a picture for a person to look at, where `LEUKNB_SHOTS` names a folder."
    if folder := os.environ.get("LEUKNB_SHOTS"): page.screenshot(path=os.path.join(folder, f"{name}.png"), **how)


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """The report notebook in JupyterLab after Run All: the page, the notebook's file, and whether a progress bar was
    seen meanwhile.
    """
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    folder = tmp_path_factory.mktemp("lab")
    small_copy(folder, "report")
    port, token = free_port(), "leuknb-test"
    address = f"http://127.0.0.1:{port}"
    server = started(["jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
                      f"--IdentityProvider.token={token}", f"--notebook-dir={folder}", "--allow-root",
                      "--LabApp.news_url="],
                     f"{address}/api", folder, JUPYTER_CONFIG_DIR=str(folder / ".config"),
                     JUPYTER_DATA_DIR=str(folder / ".data"), JUPYTER_RUNTIME_DIR=str(folder / ".run"),
                     PYTHONPATH=str(ROOT),
                     LEUKNB_HOME=str(folder / ".home"))  # nothing is kept there: what takes long shows a bar
    try:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}/lab/tree/report.ipynb?token={token}&reset")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=120_000)
        wait(lambda: any(k["execution_state"] == "idle" and k["connections"]
                         for k in json.load(urllib.request.urlopen(f"{address}/api/kernels?token={token}"))), 120)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        bars = watched(page, folder / "report.ipynb")
        yield SimpleNamespace(page=page, notebook=folder / "report.ipynb", bars=bars)
        page.close()
    finally:
        server.terminate(); server.wait(timeout=30)


def watched(page, notebook) -> list[str]:
    "Wait for the end of a notebook that runs, saving it now and again; what progress bars said meanwhile."
    bars, end = [], time.monotonic() + 500
    while not ended(code_cells(notebook)):
        assert time.monotonic() < end, "the notebook did not come to its end"
        page.keyboard.press("Control+s")
        for _ in range(5):
            here = page.locator(".jp-OutputArea-output label:has(progress)")
            if here.count() and not bars:
                page.evaluate("document.querySelector('.jp-OutputArea-output progress')?.scrollIntoView()")
                shot(page, "lab-running")
            bars += [words for words in here.all_inner_texts() if words not in bars]
            page.wait_for_timeout(400)
    return bars


def found(page, query):
    "The first place in the notebook that `query` names, in sight: JupyterLab keeps only cells near the screen."
    place, notebook = page.locator(query).first, page.locator(".jp-WindowedPanel-outer").first
    notebook.evaluate("e => { e.scrollTop = 0; }")
    for _ in range(120):
        page.wait_for_timeout(150)
        if place.count(): break
        notebook.evaluate("e => { e.scrollTop += 500; }")
    place.scroll_into_view_if_needed(timeout=20_000)
    return place


def test_run_all_on_the_report_notebook_in_jupyterlab_ends_without_an_error(lab):
    cells = code_cells(lab.notebook)
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert sum("<img" in "".join(o.get("data", {}).get("text/html", "")) for o in outputs) >= 5
    assert "ynthetic" in json.dumps(outputs)


def test_in_jupyterlab_a_progress_bar_is_seen_and_the_last_cell_says_where_the_run_lies(lab):
    assert any(re.search(r"\d of \d", words) for words in lab.bars), lab.bars
    last = json.dumps(code_cells(lab.notebook)[-1]["outputs"])
    assert "This run lies in" in last and "report" not in last.partition("temporary")[0]
    kept = found(lab.page, ".leuknb p:has-text('This run lies in')")
    assert "metrics.json" in kept.inner_text() and "study.folder" in kept.inner_text()
    shot(lab.page, "lab-end")


def test_in_jupyterlab_the_headline_looks_like_one_and_the_controls_live(lab):
    page = lab.page
    number = found(page, ".answer .number")
    shot(page, "lab-headline")
    assert float(number.evaluate("e => getComputedStyle(e).fontSize")[:-2]) > 40
    assert number.evaluate("e => getComputedStyle(e).fontWeight") == "700"
    name, value = (page.locator(f".rates {tag}").first.bounding_box() for tag in ("dt", "dd"))
    assert name["height"] < 40 and name["y"] + name["height"] <= value["y"] + 1, "one above the other"
    slider = found(page, "#threshold")
    assert page.locator("#threshold-strip circle").count() > 3, "the strip is drawn"
    before = page.locator("#count-tp").inner_text(), page.locator("#count-fp").inner_text()
    slider.focus(); page.keyboard.press("Home")
    assert (page.locator("#count-fn").inner_text(), page.locator("#count-tn").inner_text()) == ("0", "0")
    assert (page.locator("#count-tp").inner_text(), page.locator("#count-fp").inner_text()) != before
    shot(page, "lab-threshold")
    which = found(page, "#images-which")
    page.locator("#images-count", has_text=" of ").wait_for(timeout=20_000)  # filled once the controls live
    which.select_option("wrong")
    wrong, of = map(int, re.match(r"(\d+) of (\d+)", page.locator("#images-count").inner_text()).groups())
    assert wrong < of and page.locator("#images-table tbody tr:visible").count() == wrong
    shot(page, "lab-images")


def test_the_page_that_explores_a_model_answers_an_example_and_refuses_what_is_no_image(tmp_path, browser):
    pytest.importorskip("voila", reason="voila is not installed: leuknb[explore]")
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: leuknb[explore]")
    port = free_port()
    (tmp_path / "<b>notes.png").write_text("no image")
    said = open(tmp_path / "said", "w")  # noqa: SIM115
    server = subprocess.Popen([sys.executable, "-c", "from leuknb.cli import main; main()", "explore", "--port",
                               str(port), "--no-browser"], cwd=tmp_path, stdout=said, stderr=said,
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    try:
        page = browser.new_page(viewport={"width": 900, "height": 900})
        asked = []
        page.on("requestfinished", lambda r: asked.append(r.url))
        # the page's own policy let nothing out
        page.on("requestfailed", lambda r: asked.append(r.url) if r.failure != "csp" else None)
        for _ in range(120):
            try: socket.create_connection(("127.0.0.1", port), timeout=1).close(); break
            except OSError: time.sleep(0.5)
        page.goto(f"http://127.0.0.1:{port}/", timeout=240_000, wait_until="commit")
        button = page.get_by_role("button", name="Choose images")
        button.wait_for(timeout=300_000)
        page.locator("select").select_option(index=1)
        page.get_by_text("probability of abnormal").wait_for(timeout=120_000)
        assert page.get_by_text("flatters").count() == 1  # the example is a training image
        page.locator(".widget-image, img.jupyter-widgets").first.wait_for(timeout=60_000)
        shot(page, "explore", full_page=True)
        with page.expect_file_chooser() as chooser: button.click()
        chooser.value.set_files(tmp_path / "<b>notes.png")
        page.get_by_text("not an image of an accepted format").wait_for(timeout=120_000)
        assert page.get_by_text("<b>notes.png").count() == 1  # written as text
        assert page.get_by_text("Run All").count() == 0
        (tmp_path / "dropped one.png").write_text("no image")
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(
            tmp_path / "dropped two.png")
        drop(page, ".leuknb-zone", [tmp_path / "dropped one.png", tmp_path / "dropped two.png"])
        page.get_by_text("dropped one.png").wait_for(timeout=120_000)
        page.get_by_text("dropped two.png: no answer.").wait_for(timeout=120_000)
        shot(page, "explore-dropped", full_page=True)
        assert page.get_by_text("not an image of an accepted format").count() == 1
        assert page.get_by_text("<b>notes.png").count() == 0  # the answers of before are gone
        with page.expect_file_chooser(): button.click()  # the button still is one
        outside = [u for u in asked if not u.startswith((f"http://127.0.0.1:{port}", "data:", "blob:"))]
        assert not outside
        page.close()
    finally:
        os.killpg(server.pid, 15); server.wait(timeout=30); said.close()
    lines = (tmp_path / "said").read_text().splitlines()
    assert lines == [f"the page is served at http://127.0.0.1:{port}/, to this machine only; Ctrl+C stops it"]
