"""The documentation: it builds offline, leaves the checkout alone, holds what it should, leads nowhere wrong, and is
read in a real browser.
"""

import html
import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT


builder = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("build_docs",
    ROOT / "docs" / "build.py"))
spec.loader.exec_module(builder)


def state():
    "What lies in the checkout beside ignored things: name -> size and time."
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for d in ("nbs", "leuknb", "docs", "tests")
            for p in (ROOT / d).rglob("*") if p.is_file() and "__pycache__" not in p.parts} | {
        p: p.stat().st_size for p in ROOT.iterdir() if p.is_file()}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site, built once, without a network: proxies lead nowhere."
    for needed in ("smalldocs", "latex2mathml"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: the documentation needs leuknb[dev,docs]")
    out, before = tmp_path_factory.mktemp("site") / "_docs", state()
    dead = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY",
                                                    "ALL_PROXY")}
    done = subprocess.run([sys.executable, ROOT / "docs" / "build.py", out, "--tiny"],
                          cwd=tmp_path_factory.mktemp("elsewhere"),
                          env={**os.environ, **dead, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "warning" not in done.stderr + done.stdout
    assert state() == before, "building the documentation changed the checkout"
    return out


def test_every_notebook_and_every_guide_has_its_page_where_its_module_lies(site):
    for path in (ROOT / "leuknb").rglob("[a-z]*.py"):
        place = path.relative_to(ROOT / "leuknb").with_suffix(".html")
        assert (site / place).is_file() and (site / "source" / place).is_file(), place
    notebooks = [p for p in (ROOT / "nbs").rglob("[0-9]*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    guides = list((ROOT / "nbs" / "guides").glob("*.md"))
    assert len(notebooks) > 50 and len(guides) > 4
    for path in notebooks + guides:
        assert (site / builder.page_of(path.relative_to(ROOT / "nbs"))).with_suffix(".html").is_file(), path.name
    for name in ("index", "changelog", "contributing"): assert (site / f"{name}.html").is_file(), name


def test_chapters_and_their_order_are_those_of_the_numbered_folders():
    titles = [title for title, _ in builder.chapters()]
    assert titles[0] == "Ground" and titles[-1] == "Use"
    assert titles[1:5] == ["Data", "Features", "Classification", "Evaluation"]
    pages = [str(builder.page_of(p)) for _, paths in builder.chapters() for p in paths]
    assert pages[0] == "core.ipynb" and pages[-1] == "cli.ipynb" and len(set(pages)) == len(pages)
    assert pages.index("evaluation/metrics.ipynb") < pages.index("evaluation/intervals.ipynb")
    assert builder.page_of("00e_paper.ipynb").name == "paper.ipynb"
    assert str(builder.page_of("02_features/05_extraction.ipynb")) == "features/extraction.ipynb"


def test_links_between_notebooks_guides_and_sources_lose_their_numbers():
    text = "[a](../04_evaluation/03_intervals.ipynb#the-end) [b](../guides/04_statistics.ipynb) [c](01_kaggle.md)"
    assert builder.unnumbered(text) == (
        "[a](../evaluation/intervals.ipynb#the-end) [b](../guides/statistics.ipynb) [c](kaggle.md)")


def test_names_that_one_module_has_are_links_and_others_only_after_their_module():
    links = builder.index()
    assert links["CNNFeatures"] == links["features.transformer.CNNFeatures"] == (
        "/features/transformer.ipynb#cnnfeatures")
    assert links["CNNFeatures.fit"] == links["CNNFeatures"] and links["leuknb.evaluation.intervals"] == (
        "/evaluation/intervals.ipynb")
    both = {n.rpartition(".")[2] for n in links if n.count(".") == 2 and not n.startswith("leuknb.")}
    assert sum(n not in links for n in both) > 5  # of several modules: no link is better than a wrong one


def test_every_public_function_is_described_with_its_parameters(site):
    page = (site / "features" / "extraction.html").read_text()
    import leuknb.features.extraction as module

    for name in module.__all__:
        if callable(getattr(module, name)) and getattr(module, name).__module__ == "leuknb.features.extraction":
            assert f'id="{name.lower()}"' in page, name
    page = (site / "features" / "transformer.html").read_text()
    row = page[page.index('id="cnnfeatures"'):]
    row = row[row.index("<table"): row.index("</table>")]
    for said in ("pooling", "of maps: mean, max, flatten, covariance, moments", "image_size", "Description"):
        assert said in row
    assert 'href="../source/features/transformer.html#L-' in page and (site / "source" / "features"
        / "extraction.html").read_text().count('id="L-') > 100


def test_a_settings_page_lists_every_setting_with_its_default_and_meaning(site):
    from leuknb.settings import Settings

    page = (site / "settings.html").read_text()
    table = page[page.index('id="settings"'):]
    for name in Settings.model_fields:
        row = re.search(rf"<tr>\s*<td[^>]*>(?:<a[^>]*>)?<code>{name}</code>.*?</tr>", table, re.S)[0]
        assert re.search(r"<td[^>]*>(.*?)</td>\s*</tr>$", row, re.S)[1].strip(), f"nothing is said of {name}"
    assert "FieldInfo" not in page


def test_the_site_loads_nothing_from_elsewhere_and_no_link_inside_it_is_broken(site):
    assert builder.outside(site) == [] and builder.broken(site) == []


def test_the_checks_of_the_builder_find_what_they_look_for(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">x</a><a href="c.html#no">x</a><a href="c.html#yes">x</a><a '
        'href="https://example.org">fine</a><img src="https://example.org/x.png"><script '
        'src=//cdn.example.org/x.js></script>')
    (tmp_path / "c.html").write_text('<p id="yes">')
    (tmp_path / "s.css").write_text('@import url("https://fonts.example.org/a;b"); p {}')
    assert builder.broken(tmp_path) == ["a.html: b.html", "a.html: c.html#no (no such place)"]
    assert [o.split(": ", 1)[1] for o in builder.outside(tmp_path)] == ["https://example.org/x.png",
        "//cdn.example.org/x.js", "https://fonts.example.org/a;b"]


def test_no_page_shows_a_path_of_the_machine_that_built_it(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert str(ROOT) not in text and "leuknb-docs" not in text, page.name


def test_guides_in_markdown_name_only_commands_and_options_that_exist():
    import typer

    from leuknb.cli import app

    group = typer.main.get_command(app)
    coming = {"train", "predict", "export"}
    for path in [*(ROOT / "nbs" / "guides").glob("*.md"), ROOT / "README.md"]:
        text = path.read_text()
        shown = "\n".join([*re.findall(r"```sh\n(.*?)```", text, re.S), *re.findall(r"^    (leuknb .*)$", text, re.M),
                           *re.findall(r"^\| `(leuknb [^`]*)`", text, re.M)])
        for name, rest in re.findall(r"^leuknb ([a-z]+)([^#\n]*)", shown, re.M):
            if name in coming and name not in group.commands: continue
            assert name in group.commands, f"{path.name}: leuknb {name}"
            known = {o for p in group.commands[name].params for o in p.opts} | {o for p in group.params for o in p.opts}
            for option in re.findall(r"(?<![\w-])(--[a-z-]+)", rest):
                assert option in known, f"{path.name}: leuknb {name} {option}"


def test_in_a_browser_the_site_asks_nothing_of_the_outside_and_raises_no_error(site, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    asked, errors = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    for name in ("index", "core", "data/synthetic", "guides/statistics"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.locator("main h1, #title-block-header h1").count() >= 1
    assert not errors and [u for u in asked if not u.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def test_search_finds_a_function_even_from_a_disk(site, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto((site / "guides" / "kaggle.html").as_uri())
    page.fill("#quarto-search input", "clopper_pearson")
    found = page.locator("#quarto-search a.search-result")
    found.first.wait_for(timeout=10_000)
    found.first.click()
    page.wait_for_url("**/evaluation/intervals.html*")
    page.close()


def test_search_ranks_names_guides_and_warnings_before_what_was_tried_on_the_way(site, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto((site / "index.html").as_uri())

    def found(asked):
        page.fill("#quarto-search input", "")
        page.fill("#quarto-search input", asked)
        page.locator("#quarto-search a.search-result").first.wait_for(timeout=10_000)
        page.wait_for_timeout(300)
        return [a.get_attribute("href").removeprefix("./") for a in page.locator(
            "#quarto-search a.search-result").all()]

    places = found("patients")
    for_readers = [p.startswith(("guides/", "index", "warnings/", "gallery")) for p in places]
    assert places[0] == "evaluation/patients.html" and for_readers[1], places  # of that very name, then what is read
    late = [i for i, p in enumerate(places) if p.startswith(("experiments/", "changelog"))]
    assert not late or min(late) > max(i for i, reads in enumerate(for_readers) if reads), places
    assert found("CNNFeatures")[0].startswith("features/transformer.html#cnnfeatures")
    assert found("LKB203")[0].startswith("warnings/LKB203")
    page.close()


def test_at_a_desk_code_is_shown_whole_and_tables_have_room(site, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    for name in ("index", "evaluation/intervals", "guides/using-a-model", "networks"):
        page.goto((site / f"{name}.html").as_uri())
        cut, wide, padded = page.evaluate(
            """() => [
              [...document.querySelectorAll('main pre.sourceCode')]
                .filter(e => e.scrollWidth > e.clientWidth + 1).length,
              document.querySelector('main').clientWidth,
              Math.min(99, ...[...document.querySelectorAll('main td')]
                .map(e => parseFloat(getComputedStyle(e).paddingLeft))),
            ]""")
        assert cut == 0 and wide >= 740 and padded >= 8, (name, cut, wide, padded)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_narrow_screen_and_can_be_read_in_light_and_dark(site, browser, scheme):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    for name in ("index", "core", "features/extraction", "guides/comparison", "guides/statistics"):
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
        text, ground = page.evaluate(
            """() => {
              const lum = c => {
                const m = c.match(/[\\d.]+/g).map(Number);
                return m.length > 3 && m[3] === 0 ? null : 0.299 * m[0] + 0.587 * m[1] + 0.114 * m[2];
              };
              const p = document.querySelector('main p');
              let e = p, ground = null;
              while (e && ground === null) { ground = lum(getComputedStyle(e).backgroundColor); e = e.parentElement }
              return [lum(getComputedStyle(p).color), ground];
            }""")
        assert abs(text - ground) > 120, (name, text, ground)
        assert (ground < 100) == (scheme == "dark"), (name, ground)
    context.close()


def test_on_paper_a_page_is_text_alone_and_its_code_is_whole(site, browser):
    page = browser.new_page(viewport={"width": 680, "height": 900})
    page.emulate_media(media="print")
    for name in ("index", "evaluation/schemes", "guides/your-images"):
        page.goto((site / f"{name}.html").as_uri())
        around = ":is(#quarto-sidebar, #quarto-header, .page-navigation, .footer, .code-copy-button, a.source):visible"
        assert page.locator(around).count() == 0, name
        assert page.locator("main pre").evaluate_all("all => all.filter(e => e.scrollWidth > e.clientWidth + 1).length"
                                                     ) == 0, name
    page.close()


def test_the_search_index_is_json_that_names_pages_that_exist(site):
    for entry in json.loads((site / "search.json").read_text()): assert (site / entry["href"].split("#")[0]).is_file()


def words_of(page):
    "What is read on a page."
    text = re.sub(r"<script\b.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", "", text)).replace("\u2019", "'")


def test_every_warning_has_a_page_that_says_what_it_means_how_it_is_found_and_what_to_do(site):
    from leuknb.warning_codes import CODES

    listed = words_of(site / "warnings" / "index.html")
    for code, about in CODES.items():
        text = words_of(site / "warnings" / f"{code}.html")
        for part in (about.title, about.meaning, about.found, about.action, f"acknowledge={code}"):
            assert part.replace("`", "") in text, (code, part)
        assert (site / about.place.replace(".", "/")).with_suffix(".html").is_file(), code
        assert code in listed and about.action.replace("`", "") in listed


def test_the_limits_that_warnings_name_are_those_of_the_code():
    from leuknb.auditing import duplicates, labels, shortcuts
    from leuknb.evaluation import warnings as numbers
    from leuknb.warning_codes import CODES

    found = {code: about.found for code, about in CODES.items()}
    for code, probe in (("LKB201", "file"), ("LKB202", "border"), ("LKB203", "colour"), ("LKB204", "thumbnail")):
        assert f"begins above {shortcuts.LEAST[probe]:.2f}" in found[code], code
        assert f"{shortcuts.STRONG[probe]:.2f}" in found[code], code
    for code in ("LKB203", "LKB204"): assert f"begins above {shortcuts.TOO_GOOD:.2f}" in found[code]
    assert f"below {labels.CLEARLY}" in found["LKB105"] and f"correlation {duplicates.DETAIL:.2f}" in found["LKB103"]
    assert (numbers.FEW_UNITS, numbers.FEW_PATIENTS) == (10, 20) and f"{numbers.MUCH:.0%}".replace("%", " %") in found[
        "LKB302"] and "below ten" in found["LKB301"] and "below twenty" in found["LKB303"]


def test_the_gallery_leads_to_executed_reports_and_says_that_they_are_synthetic(site):
    page, said = (site / "gallery.html").read_text(encoding="utf-8"), words_of(site / "gallery.html")
    assert "All images are synthetic" in said
    from gallery import EXAMPLES

    assert [e.name for e in EXAMPLES] == ["default", "patients", "confounded"]
    for example in EXAMPLES:
        assert f'href="gallery/{example.name}.html"' in page and example.title in said and example.about.replace(
            "`", "") in said
        report = (site / "gallery" / f"{example.name}.html").read_text(encoding="utf-8")
        assert "drawn by a simulator" in report and "balanced accuracy" in report and "Checklist" in report
    assert 'href="gallery.html"' in (site / "index.html").read_text(encoding="utf-8")
    assert EXAMPLES[0].settings == {} and EXAMPLES[2].settings["synthetic.confounding"] == 1
    from leuknb.evaluation.cell_shares import FEWEST_CELLS

    assert EXAMPLES[1].settings["synthetic.images_per_patient"] > FEWEST_CELLS  # fewer, and no share would be told


def test_a_report_of_the_gallery_is_made_anew_when_settings_or_code_change(tmp_path, monkeypatch):
    import gallery

    first = gallery.key_of({"seed": 1})
    assert gallery.key_of({"seed": 1}) == first != gallery.key_of({"seed": 2})
    for name in ("leuknb/core.py", "nbs/reports/report.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    before = gallery.key_of({})
    (tmp_path / "leuknb" / "core.py").write_text("b")
    assert gallery.key_of({}) != before


def test_lines_that_only_check_are_hidden_in_pages_and_stay_in_notebooks(site):
    from checks import without_checks

    assert without_checks("x = f(1)\ntest_eq(x, (\n    2))\nassert x\nx", True) == "x = f(1)\nx"
    assert without_checks("for i in y: test_close(f(i), i)\ny", True) == "y"
    assert without_checks("with ExceptionExpected(ValueError): f()\nf", True) == "f"
    assert without_checks("x = f(1)\ntest_eq(x, 2)", False).startswith("#| code-fold: true")
    for kept in ("f(1)", "%%time\nassert f", "for i in y:\n    print(i)\n    assert i"):
        assert without_checks(kept, False) == kept
    checks, folded = 0, 0
    for page in site.rglob("*.html"):
        if page.parts[len(site.parts)] in ("source", "gallery"): continue
        text = page.read_text(encoding="utf-8")
        folded += text.count("<summary>checks</summary>")
        open_ = re.sub(r"<details\b.*?</details>", "", text, flags=re.S)
        for block in re.findall(r'<pre[^>]*class="sourceCode[^>]*>(.*?)</pre>', open_, re.S):
            checks += len(re.findall(r"^(?:test_(?:eq|close|fail)\(|assert )", re.sub(r"<[^>]+>", "", block), re.M))
    assert checks == 0 and folded > 20
    assert "test_eq(" in (ROOT / "nbs" / "00a_core.ipynb").read_text(encoding="utf-8")


def test_the_default_network_has_its_card_and_every_named_network_a_row(site):
    from leuknb.features.backbones import PACKAGES
    from leuknb.features.foundation_models import FOUNDATION_MODELS

    card, table = words_of(site / "leuknb_lite0.html"), words_of(site / "networks.html")
    assert "Not a medical device" in card and "16,891" in card and "CC BY 4.0" in card
    for name in [*PACKAGES, *FOUNDATION_MODELS]: assert name in table, name


def test_the_citation_names_what_the_project_names():
    import configparser
    import tomllib

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software" and len(cited["abstract"]) > 100
    assert str(cited["version"]) == settings["DEFAULT"]["version"] and cited["license"] == project["license"]
    assert [a["name"] for a in cited["authors"]] == [a["name"] for a in project["authors"]]
    assert cited["message"] and cited["title"] and len(cited["keywords"]) > 3
    for reference in cited["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference) and reference["type"] != "dataset"
        assert re.fullmatch(r"10\.\d{4,}/\S+", reference.get("doi", "10.1234/x"))


def test_the_readme_is_short_says_what_is_true_here_and_shows_nothing_from_elsewhere():
    import configparser

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    now = settings["DEFAULT"]
    assert f"Python {now['min_python']} or newer" in text and f"version {now['version']}," in text
    assert f"version = {{{now['version']}}}" in text and "@software{leuknb" in text
    assert len(text.split()) < 850  # some two minutes, commands and citation left out
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert pictures and "<img" not in text
    for picture in pictures: assert (ROOT / picture).stat().st_size < 200_000
    for link in re.findall(r"\]\(([^)#]*)", text):
        if not link.startswith(("http", "_docs/")): assert (ROOT / link).is_file(), link
    for said in ("git clone", 'pip install "leuknb[onnx]"', "make report", "make test", "GB",
                 "title, authors, journal and DOI are not", "drawn by a simulator", "_docs/gallery.html",
                 "leuknb train", "leuknb predict", "import leuknb"):
        assert said in text, said


def test_what_follows_the_summary_of_a_page_is_on_the_page(site):
    assert "no file has to be renamed" in (site / "guides" / "your-images.html").read_text().lower()
    assert "functions of a few lines that every other module calls" in (site / "core.html").read_text()
