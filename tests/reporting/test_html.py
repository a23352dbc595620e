"""The pages in a real browser: by keyboard, by ear, in the dark, on paper, without a script, and with names that try
to break out.
"""

import http.server
import io
import json
import re
import sys
import threading
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from conftest import needs_weasyprint

from leuknb.reporting.interactive import images_html, threshold_html, threshold_steps
from leuknb.core import InputError
from leuknb.plotting import theme
from leuknb.reporting.html import figure_html, page_html, pdf, policy, render, table_html
from leuknb.reporting.live import live_html, part_html
from leuknb.reporting.run import to_html

POSITIVE, NEGATIVE = "abnormal <b>&amp;", "normal</script>"
HOSTILE = ["</script><script>document.title='broken'</script>.png", "<!--<script>.png", "a\u2028b\u2029c.png",
           '"><img src=x onerror="document.title=\'broken\'">.png', "src=//example.org/x.png", "=1+1.png"]


def drawn(classes=(NEGATIVE, POSITIVE), n=40, seed=1):
    """A predictions table of made-up scores: holdout and one repeat of a cross-validation, of two classifiers;
    scores of the second are tied.
    """
    rng, rows = np.random.default_rng(seed), []
    for scheme in ("holdout", "cv"):
        for model, digits in (("svm", 6), ("knn", 0)):
            for i in range(n):
                at = i % len(classes)
                score = np.round(rng.normal(size=len(classes)) + 1.2 * (np.arange(len(classes)) == at), digits)
                one = score[1] - score[0] if len(classes) == 2 else score.max()
                each = {} if len(classes) == 2 else {f"score_{c}": s for c, s in zip(classes, score)}
                rows.append({"file_name": HOSTILE[i] if i < len(HOSTILE) else f"cell_{i:03d}.png", "label": classes[at],
                             "group": f"p{i // 4}", "model": model, "scheme": scheme,
                             "split": i % 5 if scheme == "cv" else 0, "score": one,
                             "predicted": classes[int(one > 0) if len(classes) == 2 else int(score.argmax())], **each})
    return pd.DataFrame(rows)


def pictured(positive, size=(40, 60)):
    "Stands for a data set whose every file is the same small picture."
    f = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)).save(f, "PNG")
    return SimpleNamespace(positive=positive, grouped=True, read=lambda name: f.getvalue())


def made(predictions, positive):
    "A page as the report makes it, of a notebook with these predictions and a figure."
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(4, 2))
    ax.plot([0, 1])
    shown = ["<h1>Normal or abnormal?</h1>", figure_html(fig, "line", "A line <i>rising</i>.",
                                                         "A line that rises from 0 to 1."),
             threshold_html(predictions, positive), images_html(predictions, pictured(positive)),
             "<details id='more'><summary>More</summary><p id='folded'>Folded away.</p></details>"]
    cells = []
    for head, html in zip(("", "## The figure", "## The threshold", "## The images", "## Further"), shown):
        if head: cells.append(nbformat.v4.new_markdown_cell(head))
        cells.append(
            nbformat.v4.new_code_cell(
                "x = 'a line of code'  # that is long enough to scroll on a narrow screen, or so one hopes",
                outputs=[nbformat.v4.new_output("display_data", {"text/html": html})]))
    return to_html(nbformat.v4.new_notebook(cells=cells), "A report")


@pytest.fixture(scope="module")
def predictions(): return drawn()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, predictions):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(made(predictions, POSITIVE), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, page_file):
    "A function that opens a page; at the end no page may have had an error or asked for anything."
    contexts, wrong = [], []

    def open_it(path=page_file, width=1400, watch=True, **how):
        context = browser.new_context(viewport={"width": width, "height": 900}, **how)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(5000)
        if watch:
            tab.on("pageerror", lambda e: wrong.append(str(e)))
            tab.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
            tab.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("data:", path.as_uri())) else None)
        tab.goto(path.as_uri())
        return tab

    yield open_it
    for context in contexts: context.close()
    assert not wrong


def move(tab, at):
    tab.locator("#threshold").evaluate("(e, at) => { e.value = at; e.dispatchEvent(new Event('input')); }", at)


def shown_numbers(tab):
    counts = {k: int(tab.locator(f"#count-{k}").inner_text()) for k in ("tp", "fn", "fp", "tn")}
    return counts, {m: float(tab.locator(f"#rate-{m}").get_attribute("data-value"))
                    for m in ("sensitivity", "specificity", "precision", "accuracy", "f1")}


def test_the_threshold_starts_where_the_classifier_decided_and_every_place_agrees_with_scikit_learn(opened,
    predictions):
    tab = opened()
    names = tab.locator("#threshold-set option").all_inner_texts()
    assert names == ["linear SVM, holdout", "k-nearest neighbours, holdout", "linear SVM, cross-validation",
                     "k-nearest neighbours, cross-validation"]
    for i, (scheme, model) in enumerate([("holdout", "svm"), ("holdout", "knn"), ("cv", "svm"), ("cv", "knn")]):
        tab.select_option("#threshold-set", str(i))
        part = predictions[(predictions.scheme == scheme) & (predictions.model == model)]
        truth, score, levels = (part.label == POSITIVE).to_numpy(), part.score.to_numpy(), np.unique(part.score)
        start = int(tab.locator("#threshold").input_value())
        assert (score >= levels[start]).tolist() == (part.predicted
                                                     == POSITIVE).tolist() and "decision threshold" in tab.locator(
                                                         "#threshold-value").inner_text()
        assert int(tab.locator("#threshold").get_attribute("max")) == len(levels)
        for at in (start, 1, len(levels) // 2, len(levels) - 1):
            move(tab, at)
            called = score >= levels[at]
            counts, rates = shown_numbers(tab)
            (tn, fp), (fn, tp) = confusion_matrix(truth, called)
            assert counts == {"tp": tp, "fn": fn, "fp": fp, "tn": tn}
            wanted = {"sensitivity": recall_score(truth, called), "specificity": recall_score(~truth, ~called),
                      "precision": precision_score(truth, called), "accuracy": accuracy_score(truth, called),
                      "f1": f1_score(truth, called)}
            assert rates == pytest.approx(wanted, abs=1e-12)
        tab.click("#threshold-back") if tab.locator("#threshold-back").is_enabled() else None
        assert int(tab.locator("#threshold").input_value()) == start
    told = tab.locator("#threshold-note").inner_text()
    assert "40 images" in told and "optimistic" in told


def test_the_threshold_moves_by_the_arrow_keys_and_says_where_it_is(opened):
    tab = opened()
    tab.focus("#threshold")
    before = int(tab.locator("#threshold").input_value())
    tab.keyboard.press("ArrowRight")
    assert int(tab.locator("#threshold").input_value()) == before + 1
    assert re.search(r"sensitivity \d+\.\d %, specificity \d+\.\d %",
                     tab.locator("#threshold").get_attribute("aria-valuetext"))
    tab.keyboard.press("End")
    assert shown_numbers(tab)[0]["tp"] == 0 and tab.locator("#rate-precision").inner_text() == "undefined (0/0)"


def test_the_images_sort_filter_and_change_their_classifier(opened, predictions):
    tab = opened()
    rows = tab.locator("#images-table tbody tr")
    assert rows.count() == 40 and "40 of 40" in tab.locator("#images-count").inner_text()
    tab.get_by_role("button", name="score").click()
    head = tab.locator("#images-table th", has_text="score")
    assert head.get_attribute("aria-sort") == "ascending"
    shown = [float(v)
             for v in tab.locator("#images-table td.score").evaluate_all("cells => cells.map(c => c.dataset.value)")]
    assert shown == sorted(shown)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending" and tab.locator("th[aria-sort]").count() == 1
    tab.select_option("#images-model", "knn")
    part = predictions[(predictions.scheme == "holdout") & (predictions.model == "knn")]
    wrong = part[part.label != part.predicted]
    tab.select_option("#images-which", "wrong")
    assert f"{len(wrong)} of 40" in tab.locator("#images-count").inner_text()
    assert set(tab.locator("#images-table tbody tr:visible td.file").all_inner_texts()) == {" ".join(name.split())
        if name.isascii() else name for name in wrong.file_name}
    assert set(tab.locator("#images-table tbody tr:visible td.verdict").all_inner_texts()) <= {"missed", "false alarm"}
    tab.select_option("#images-which", "")
    tab.fill("#images-text", "CELL_01")
    assert rows.filter(visible=True).count() == 10


def test_a_picture_opens_by_keyboard_and_escape_gives_the_focus_back(opened):
    tab = opened()
    first = tab.locator("#images-table img").first.get_attribute("alt")
    for name in ("Enlarge: A line that rises from 0 to 1.", f"Enlarge: {first}"):
        button = tab.get_by_role("button", name=name, exact=True)
        button.focus()
        tab.keyboard.press("Enter")
        assert tab.locator("dialog[open] img").is_visible() and tab.locator("dialog img").bounding_box()["width"] > 100
        tab.keyboard.press("Escape")
        assert tab.locator("dialog[open]").count() == 0 and button.evaluate("e => e === document.activeElement")


def test_the_colours_follow_the_system_and_the_button_overrules_it(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    tab, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    light, night = tab.evaluate(ground), dark.evaluate(ground)
    assert light == "rgb(255, 255, 255)" and night == "rgb(13, 17, 23)"
    for page, other, pressed in ((tab, night, "true"), (dark, light, "false")):
        page.click("#theme")
        assert page.evaluate(ground) == other and page.locator("#theme").get_attribute("aria-pressed") == pressed


@pytest.fixture(scope="module")
def audit_file(tmp_path_factory):
    "The audit page of a few images with copies under two labels, a split that leaks, and hostile names."
    from leuknb.auditing.audit import run_audit
    from leuknb.data.datasets import load_dataset
    from leuknb.reporting.audit_page import audit_html
    from leuknb.settings import make_settings

    folder = tmp_path_factory.mktemp("audit")
    rows = []
    for i in range(16):
        label, name = (POSITIVE, NEGATIVE)[i % 2], HOSTILE[5 * (i == 1)].replace("/", "") if i < 2 else f"cell_{i}.png"
        pixels = np.random.default_rng(2 if i in (2, 3) else i).integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(folder / name)
        rows.append((name, label, f"p{i}", "test" if i % 4 == 2 else "train"))
    pd.DataFrame(rows, columns=["file_name", "label", "patient_id", "split"]).to_csv(folder / "metadata.csv",
        index=False)
    data = load_dataset(make_settings(data=str(folder), positive=POSITIVE))
    page = audit_html(run_audit(data, make_settings(permutations=20, cv_repeats=1)), data)
    (folder / "audit.html").write_text(page, encoding="utf-8")
    return folder / "audit.html"


@pytest.mark.parametrize(("scheme", "width", "ground"),
                         [("light", 1280, "rgb(255, 255, 255)"), ("dark", 390, "rgb(13, 17, 23)")])
def test_the_audit_page_looks_and_works_like_the_report_in_light_and_dark_and_on_a_phone(opened, audit_file, scheme,
    width, ground):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-playwright-python is not installed").Axe()
    tab = opened(audit_file, width=width, color_scheme=scheme)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing pushes the page sideways"
    assert tab.locator(".pictures.conflict figure").count() == 2 and tab.locator(".contents li").count() == 5
    found = axe.run(tab).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")] == []
    tab.locator(".pictures button").first.click()
    assert tab.locator("dialog img").is_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 400), ("dark", 1400)])
def test_axe_finds_nothing_serious(opened, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-playwright-python is not installed").Axe()
    tab = opened(width=width, color_scheme=scheme)
    tab.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    found = axe.run(tab).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")] == []
    tab.locator("#threshold-note").evaluate("e => { e.style.color = '#999'; e.style.background = '#aaa'; }")
    assert "color-contrast" in {v["id"] for v in axe.run(tab,
                                                         context="#threshold-note").response[
                                                             "violations"]}, "and it does look"


def test_a_keyboard_reaches_the_content_first_and_headings_and_landmarks_are_in_order(opened):
    tab = opened()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "content"
    levels = [int(t[1]) for t in tab.locator(":is(h1,h2,h3,h4)").evaluate_all("all => all.map(h => h.tagName)")]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert [tab.get_by_role(role).count() for role in ("main", "navigation", "banner")] == [1, 1, 1]
    assert tab.locator("table:not(:has(caption))").count() == 0 and tab.locator(
        "img:not([alt]), img[alt='']").count() == 0


def test_the_contents_stay_beside_a_wide_page_and_fold_above_a_narrow_one(opened):
    wide, narrow = opened(), opened(width=400)
    assert wide.locator(".contents a").all_inner_texts() == ["The figure", "The threshold", "The images", "Further"]
    wide.get_by_role("link", name="The images", exact=True).click()
    wide.locator(".contents a[aria-current]", has_text="The images").wait_for()
    assert wide.locator(".contents a").first.bounding_box()["y"] >= 0, "still in sight"
    assert not narrow.locator(".contents a").first.is_visible()
    narrow.locator(".contents summary").click()
    assert narrow.locator(".contents a").first.is_visible()
    for tab in (wide, narrow):
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing wider than the screen"


def test_without_a_script_everything_is_there_to_read_and_no_control_is(opened, predictions):
    tab = opened(java_script_enabled=False)
    assert tab.locator("#images-table tbody tr:visible").count() == 40 and tab.locator(
        "figure img").is_visible() and tab.locator("#threshold-view table:visible").count() == 2
    assert tab.locator(":is(button, select, input, dialog):visible").count() == 0
    part = predictions[(predictions.scheme == "holdout") & (predictions.model == "svm")]
    assert int(tab.locator("#count-tp").inner_text()) == ((part.label == POSITIVE) & (part.predicted == POSITIVE)).sum()


def test_on_paper_the_controls_are_gone_and_what_is_folded_is_open(opened):
    tab = opened(color_scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.locator(":is(.control, .contents, details.code):visible").count() == 0
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "paper is white"
    assert tab.locator("th button.sort").first.evaluate("e => getComputedStyle(e).display") == "contents", (
        "Chromium repeats no button at the head of the next page")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("#folded").is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not tab.locator("#folded").is_visible()


def test_hostile_names_are_shown_as_they_are_and_run_nothing(opened, page_file):
    tab = opened()
    assert tab.title() == "A report"
    texts = tab.locator("td.file").evaluate_all("cells => cells.map(c => c.textContent)")
    assert set(HOSTILE) <= set(texts)
    assert tab.locator("#images-truth option").all_inner_texts() == ["all", POSITIVE, NEGATIVE]
    for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>',
                            page_file.read_text(encoding="utf-8"), re.DOTALL):
        assert json.loads(block) and not re.search("[<>\u2028\u2029]", block)


def test_the_policy_runs_the_pages_own_script_and_no_other(opened, page_file, tmp_path):
    text = page_file.read_text(encoding="utf-8")
    assert policy() in text and "script-src 'sha256-" in policy() and "unsafe-inline" not in policy().split(
        "script-src")[1]
    bad = text.replace("<main",
                       "<script>document.title='broken'</script><img alt='' src='data:,' "
                       "onerror=\"document.title='broken'\"><main", 1)
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    tab = opened(tmp_path / "bad.html", watch=False)
    tab.wait_for_timeout(100)
    assert tab.title() == "A report" and tab.evaluate("document.documentElement.classList.contains('js')")


def test_more_than_two_classes_have_no_slider_and_a_score_for_each(opened, tmp_path):
    path = tmp_path / "three.html"
    path.write_text(made(drawn(("a", "b", "c"), 30), None), encoding="utf-8")
    tab = opened(path)
    assert tab.locator("#threshold").count() == 0 and "no single threshold" in tab.locator("main").inner_text()
    assert tab.locator("#images-table tbody tr").first.locator("td.score").count() == 3
    tab.select_option("#images-model", "knn")
    assert set(tab.locator("td.verdict").all_inner_texts()) == {"right", "mistaken"}


def test_of_a_large_set_all_images_are_shown_mistakes_first_and_the_page_stays_small():
    predictions = drawn(n=1548)
    html = images_html(predictions, pictured(POSITIVE, (144, 144)))
    kinds = re.findall(r'class="(wrong|fine)( later)?"', html)
    part = predictions[(predictions.scheme == "holdout") & (predictions.model == "svm")]
    wrong = (part.label != part.predicted).sum()
    assert [k for k, _ in kinds] == ["wrong"] * wrong + ["fine"] * (1548 - wrong)
    assert [later for _, later in kinds] == [""] * 25 + [" later"] * (1548 - 25), "25 are printed"
    assert len(html) < 10e6, "of noise, which no JPEG makes small; cells take a third"
    assert html == images_html(predictions, pictured(POSITIVE, (144, 144))), "the same bytes"
    assert "100 of 1,548 held-out images" in images_html(predictions, pictured(POSITIVE), most=100)


INTERVAL = "83.8 % (78.9 to 87.8 %)"


def wide_table():
    models = [f"model {k}" for k in range(9)]
    table = pd.DataFrame({m: [INTERVAL, "0.907 (0.863 to 0.938)", ""] for m in models},
                         index=pd.Index(["accuracy", "AUROC", "MCC"], name="metric"))
    sizes = pd.DataFrame({"class": ["normal", "abnormal"], "images": [1200, 96],
                          "sizes": ["360 x 363, 1280 x 1024, 640 x 480, 12 more"] * 2})
    return table_html(table, "Wide.") + table_html(sizes, "Sizes.")


@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (1280, "screen"), (673, "print")])
def test_no_interval_breaks_inside_and_text_stands_left_numbers_right(opened, tmp_path, width, media):
    path = tmp_path / "tables.html"
    path.write_text(page_html("Tables", f"<h1>Tables</h1>{wide_table()}"), encoding="utf-8")
    tab = opened(path, width=width)
    tab.emulate_media(media=media)
    pieces = "all => all.map(e => [e.textContent, e.getClientRects().length])"
    whole = tab.locator("td .whole").evaluate_all(pieces)
    assert ("(78.9 to 87.8 %)", 1) in map(tuple, whole) and ("1280 x 1024", 1) in map(tuple, whole)
    assert {n for _, n in whole} == {1}, "each in one piece"
    sides = tab.locator("table:has(caption:text('Sizes.')) tbody tr").first.locator("td").evaluate_all(
        "all => all.map(e => getComputedStyle(e).textAlign)")
    assert sides == ["left", "right", "left"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width or media == "print"
    assert tab.locator("th:text-is('')").count() == 0
    wrap = tab.locator("td.words").first.evaluate("e => getComputedStyle(e).overflowWrap")
    assert wrap != "anywhere", "no bro/ken word"


def of_eight_columns():
    "The widest table of a report: every model and every baseline with its interval."
    models = ("linear SVM", "k-nearest neighbours", "ensemble of trees", "decision tree", "always the larger class",
              "gradient boosting", "best shortcut: an 8 x 8 thumbnail")
    rows = ("accuracy", "precision (at 51 % abnormal)", "NPV (at 51 % abnormal)", "balanced accuracy")
    return table_html(pd.DataFrame({m: ["100.0 % (77.3 to 100.0 %)"] * len(rows) for m in models},
                                   index=pd.Index(rows, name="metric")), "Wide.")


def as_checklist():
    words = "What was asked of the people, the images and the numbers of this study, in words of some length? " * 2
    row = {"item": "12a", "topic": "Data", "asks": words, "status": "for the authors", "answer": words * 2,
           "where": "how", "kind": ""}
    source = {"source": "Somebody", "counted": "1"}
    return render("checklists.html.j2", {"data": ""}, checklists=[(source, "A checklist", [row] * 3)],
                  headings={"how": "The smallest difference these images can show"})


def test_the_widest_table_and_the_checklists_fit_a_desk(opened, tmp_path):
    path = tmp_path / "wide.html"
    path.write_text(page_html("Wide", f"<h1>Wide</h1>{of_eight_columns()}{as_checklist()}"), encoding="utf-8")
    tab = opened(path, width=1280)
    tab.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    over = tab.locator(".scroll").evaluate_all("all => all.map(e => e.scrollWidth - e.clientWidth)")
    assert over == [0, 0]
    assert all(n == 1 for n in tab.locator("td .whole").evaluate_all("all => all.map(e => e.getClientRects().length)"))


def test_on_paper_nothing_is_cut_off_at_the_edge_of_a_page():
    needs_weasyprint()
    from weasyprint import HTML

    photo = photograph()
    page = page_html("Paper", f"<h1>Paper</h1>{of_eight_columns()}{as_checklist()}{photo}")
    inside = [(b, sheet) for sheet in HTML(string=page).render().pages for b in sheet._page_box.descendants()
              if type(b).__name__ in ("TextBox", "BlockReplacedBox", "InlineReplacedBox")]
    words = " ".join(b.text for b, _ in inside if hasattr(b, "text"))
    assert "thumbnail" in words and "for the authors" in words
    assert [getattr(b, "text", b) for b, sheet in inside if b.position_x + b.width > sheet.width] == []


def test_on_paper_figures_are_small_enough_that_two_fit_a_page_each_with_its_caption():
    needs_weasyprint()
    from matplotlib.figure import Figure
    from weasyprint import HTML

    def square(name):
        theme()  # its font sizes and layout shape the picture
        fig = Figure(figsize=(6, 5.5))
        fig.add_subplot().plot([0, 1])
        return figure_html(fig, name, f"caption of {name}")

    pages = HTML(string=page_html("Paper", f"<h1>Paper</h1>{square('one')}{square('two')}")).render().pages
    boxes = [b for b in pages[0]._page_box.descendants() if getattr(b, "element_tag", "") in ("img", "figcaption")]
    kinds = [b.element_tag for b in boxes]
    assert len(pages) == 1 and kinds.count("img") == 2 and kinds.count("figcaption") >= 2
    image = next(b for b in boxes if b.element_tag == "img")
    assert image.width == pytest.approx(0.66 * float(image.element.get("width")), rel=0.01)
    assert image.width == pytest.approx(image.height, rel=0.2)


def test_a_class_with_a_long_name_stays_whole_on_a_phone(opened, tmp_path, predictions):
    path = tmp_path / "phone.html"
    named = predictions.replace({POSITIVE: "abnormal", NEGATIVE: "normal"})
    path.write_text(page_html("t", f"<h1>t</h1>{threshold_html(named, 'abnormal')}"), encoding="utf-8")
    tab = opened(path, width=390)
    lines = "e => { const r = document.createRange(); r.selectNodeContents(e); return r.getClientRects().length; }"
    assert [tab.locator(f".matrix tbody th >> nth={i}").evaluate(lines) for i in (0, 1)] == [1, 1]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_each_fold_is_named_and_sections_few_need_are_folded(opened, tmp_path):
    code, words = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    deep = nbformat.v4.new_output("display_data", {"text/html": "<p id='deep'>Deep.</p>"})
    cells = [words("## One"), code("# Reading\n1"), code("2"), words("## Two", metadata={"tags": ["folded"]}),
             code("3", outputs=[deep]), words("## Three"), code("4", metadata={"tags": ["setup"]})]
    path = tmp_path / "folds.html"
    path.write_text(to_html(nbformat.v4.new_notebook(cells=cells), "Folds"), encoding="utf-8")
    tab = opened(path)
    names = tab.locator("details.code > summary").evaluate_all("all => all.map(e => e.textContent)")
    assert names == ["Code: Reading", "Code: Reading (2)", "Code: Two", "Code: How this was computed"]
    assert not tab.locator("#deep").is_visible()
    tab.get_by_text("Show: Two").click()
    assert tab.locator("#deep").is_visible() and tab.get_by_role("heading", name="Three").is_visible()
    tab.emulate_media(media="print")
    assert tab.get_by_role("heading", name="Three").is_visible()
    assert not tab.get_by_role("heading", name="How this was computed").is_visible(), "nothing but code: not printed"


def test_the_command_is_copied_by_keyboard_where_the_clipboard_is_allowed_and_where_not(opened, tmp_path):
    path = tmp_path / "command.html"
    path.write_text(page_html("Command", '<h1>Again</h1><pre class="command">leuknb report --set a="b &lt; c"</pre>'),
                    encoding="utf-8")
    for allowed in (True, False):
        tab = opened(path)
        if allowed: tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        else: tab.evaluate("""() => {
            Object.defineProperty(navigator, 'clipboard', { value: undefined });
            addEventListener('copy', (e) => { window.copied = e.target.value; });
        }""")
        tab.get_by_role("button", name="Copy the command").focus()
        tab.keyboard.press("Enter")
        tab.get_by_text("Copied.", exact=True).wait_for()
        got = tab.evaluate("navigator.clipboard.readText()") if allowed else tab.evaluate("window.copied")
        assert got == 'leuknb report --set a="b < c"'
        assert tab.evaluate("document.activeElement.className").startswith("copy"), "the focus stays"


def test_the_images_are_paged_and_a_filter_begins_at_the_first_page(opened):
    tab = opened()
    shown = tab.locator("#images-table tbody tr:visible td.file")
    first = shown.all_inner_texts()
    assert len(first) == 25 and tab.locator("#images-back").is_disabled()
    assert "40 of 40 images, 1 to 25 of them here" in tab.locator("#images-count").inner_text()
    tab.focus("#images-on")
    tab.keyboard.press("Enter")
    assert shown.count() == 15 and tab.locator("#images-on").is_disabled()
    assert "26 to 40" in tab.locator("#images-count").inner_text()
    tab.select_option("#images-which", "wrong")
    assert tab.locator("#images-back").is_disabled() and shown.first.inner_text() == first[0]


def photograph():
    import matplotlib.pyplot as plt

    fig, (ax, beside) = plt.subplots(1, 2, figsize=(9, 2))
    ax.imshow(np.full((8, 8, 3), (230, 120, 60), np.uint8)); ax.axis("off")
    beside.text(0.5, 0.5, "words"); beside.axis("off")
    return figure_html(fig, "photo", "A photograph.")


def chart():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(9, 2))
    ax.plot([0, 1])
    return figure_html(fig, "chart", "A chart.")


def brightness(tab, place):
    return np.asarray(Image.open(io.BytesIO(tab.locator(place).screenshot())).convert("L")).mean()


def pixels(tab, place): return np.asarray(Image.open(io.BytesIO(tab.locator(place).screenshot())).convert("RGB"), int)


@pytest.mark.parametrize("width", [390, 1280])
def test_what_keeps_the_colours_of_a_photograph_lies_on_it_to_the_pixel(opened, tmp_path, width):
    path = tmp_path / "figures.html"
    path.write_text(page_html("Figures", f"<h1>Figures</h1>{photograph()}"), encoding="utf-8")
    tab = opened(path, width=width)
    below, above = (tab.locator(f"#figure-photo {kind}").bounding_box() for kind in ("img", ".kept"))
    assert all(abs(below[k] - above[k]) < 0.6 for k in below), (below, above)
    shown = pixels(tab, "#figure-photo .scroll")
    tab.add_style_tag(content=".kept { display: none }")
    alone = pixels(tab, "#figure-photo .scroll")
    assert np.quantile(np.abs(shown - alone).max(2), 0.99) < 12, "by light nothing changes"


def test_figures_are_dark_in_the_dark_but_photographs_keep_their_colours(opened, tmp_path):
    path = tmp_path / "figures.html"
    path.write_text(page_html("Figures", f"<h1>Figures</h1>{chart()}{photograph()}"), encoding="utf-8")
    light, dark = opened(path, color_scheme="light"), opened(path, color_scheme="dark")
    assert brightness(light, "#figure-chart img") > 200 > 60 > brightness(dark, "#figure-chart img")
    day, night = (pixels(tab, "#figure-photo button.zoom") for tab in (light, dark))
    own, card = np.abs(day - (230, 120, 60)).max(2) < 8, day.min(2) > 245
    assert own.sum() > 1000 and np.quantile(np.abs(day - night)[own].max(1), 0.98) < 4, "all of the photograph"
    assert card.sum() > 1000 and np.quantile(night[card].max(1), 0.98) < 40, "no white card glares around it"
    dark.locator("#figure-photo button.zoom").click()
    large = pixels(dark, "dialog .pictured")
    own = np.abs(large - (230, 120, 60)).max(2) < 8
    assert own.sum() > 1000 and (large.min(2) > 245).mean() < 0.01, "nor when it is enlarged"
    dark.keyboard.press("Escape")
    dark.click("#theme")
    assert brightness(dark, "#figure-chart img") > 200, "the button turns figures, too"
    assert np.quantile(pixels(dark, "#figure-photo button.zoom")[card].min(1), 0.02) > 240


def test_on_a_phone_a_figure_scrolls_says_so_and_is_named(opened, tmp_path):
    path = tmp_path / "phone.html"
    path.write_text(page_html("Figures", f"<h1>Figures</h1>{chart()}"), encoding="utf-8")
    phone, desk = opened(path, width=390), opened(path, width=1280)
    box = phone.get_by_role("region", name="A chart.")
    assert phone.locator("#figure-chart img").bounding_box()["width"] == pytest.approx(576, abs=2)
    assert "scrolls sideways" in box.evaluate("e => getComputedStyle(e, '::before').content")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert desk.locator(".more").count() == 0 and desk.locator("#figure-chart img").bounding_box()["width"] > 800


def as_jupyterlab(outputs):
    "A page that shows outputs as JupyterLab does: each put in by itself, its scripts run, beside tables not ours."
    text = json.dumps(outputs).replace("</", "<\\/")
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Lab</title>
<style>.jp-RenderedHTMLCommon td {{ text-align: center; padding: 40px }}
.jp-RenderedHTMLCommon tbody tr:nth-child(odd) {{ background: rgb(1, 2, 3) }}</style>
<body data-jp-theme-light="true"><main><table id="other"><tr><td>not ours</td></tr></table></main><script>
const outputs = {text};
const show = (html) => {{
  const place = document.createElement("div");
  place.className = "jp-RenderedHTMLCommon"; place.innerHTML = html;
  for (const old of place.querySelectorAll("script:not([type])")) {{
    const script = document.createElement("script");
    script.textContent = old.textContent; old.replaceWith(script);
  }}
  document.querySelector("main").append(place);
}};
outputs.forEach((html, k) => setTimeout(() => show(html), 20 * k));
</script></body></html>"""


def test_in_a_notebook_the_filter_the_threshold_and_the_copy_button_live(opened, tmp_path, predictions):
    parts = [threshold_html(predictions, POSITIVE), images_html(predictions, pictured(POSITIVE)),
             '<div class="answer"><div class="number">83.4 %</div></div><pre class="command">leuknb report</pre>']
    path = tmp_path / "lab.html"
    path.write_text(as_jupyterlab([live_html(), *map(part_html, parts), live_html()]), encoding="utf-8")
    tab = opened(path)
    tab.get_by_role("button", name="Copy the command").wait_for()
    assert tab.locator("#images-table tbody tr:visible").count() == 25
    tab.select_option("#images-which", "wrong")
    part = predictions[(predictions.scheme == "holdout") & (predictions.model == "svm")]
    wrong = (part.label != part.predicted).sum()
    assert f"{wrong} of 40" in tab.locator("#images-count").inner_text()
    assert tab.locator("#images-table tbody tr:visible").count() == min(wrong, 25) < 40
    assert tab.locator("#threshold-strip circle").count() > 20, "the strip is drawn"
    before = tab.locator("#count-tp").inner_text()
    tab.focus("#threshold"); tab.keyboard.press("Home")
    assert tab.locator("#count-tp").inner_text() != before
    style = "(e, name) => getComputedStyle(e)[name]"
    assert float(tab.locator(".number").evaluate(style, "fontSize")[:-2]) > 40, "the headline is one"
    assert tab.locator("#images-table td.words").first.evaluate(style, "textAlign") == "left"
    assert tab.locator("#other td").evaluate(style, "paddingLeft") == "1px", "what is not ours is left alone"
    assert tab.locator(".copy").count() == 1 and tab.locator("#leuknb-style").count() == 1, "once, however often run"
    ink = tab.locator(".answer").evaluate(style, "color")
    tab.evaluate("document.body.dataset.jpThemeLight = 'false'")
    assert tab.locator(".answer").evaluate(style, "color") != ink, "dark with JupyterLab"


def test_the_page_drops_what_brings_a_notebook_to_life():
    cells = [nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", {"text/html": html})])
             for html in (live_html(), part_html("<p>kept</p>"))]
    page = to_html(nbformat.v4.new_notebook(cells=cells), "t")
    assert page.count("<script") == 1 and "leuknb-style" not in page and "<p>kept</p>" in page


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=1, max_size=60), st.integers(-7, 7),
       st.integers(1, 8))
def test_steps_count_every_image_once_and_are_exact_at_the_start(images, cut, most):
    score, truth = (np.array(v) for v in zip(*images))
    steps = threshold_steps(score, truth, score >= cut, most)
    assert len(steps.score) <= most + 1 and steps.positive.sum() == truth.sum() and steps.negative.sum() == (
        ~truth).sum()
    assert steps.positive[steps.start :].sum() == (truth
                                                   & (score >= cut)).sum() and steps.negative[: steps.start].sum() == (
                                                       ~truth & (score < cut)).sum()
    assert score.min() <= steps.threshold <= score.max() or steps.threshold in (0, 0.5)


def test_a_pdf_is_made_without_fetching_anything():
    needs_weasyprint()
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self): asked.append(self.path); self.send_error(404)
        def log_message(self, *_): pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        document = pdf(page_html("t", "<h1>Words</h1>").replace("</main>",
                                                                f'<img src="{address}/x.png"><img '
                                                                f'src="file:///etc/hostname"><link rel="stylesheet" '
                                                                f'href="{address}/y.css"></main>'))
        server.shutdown()
    assert document.startswith(b"%PDF") and not asked


def test_a_missing_weasyprint_is_told_with_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(InputError, match=r"leuknb\[pdf\]"): pdf("<p>words</p>")
