"""Build the documentation from the notebooks into a folder, offline: nbdev makes the pages, smalldocs the API tables
and the site, leuknb the reports of the gallery.

    python docs/build.py [_docs] [--tiny]      # --tiny: reports of a few small images, for a quick look

Works on a copy, so the checkout stays as it is. Fails when a page links to something that is not there, or would ask
an outside address.
"""

import copy
import html
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
from checks import broken, outside, without_checks  # noqa: E402
from gallery import gallery_page, write_reports  # noqa: E402
from symbols import describe  # noqa: E402

HERE = "leuknb-docs.invalid"  # stands for the site itself until pages know where they lie


def numbered(folder: Path, *patterns: str) -> list[Path]:
    "The pages of a folder in the order of their numbers."
    return sorted(p for pattern in patterns for p in folder.glob(f"[0-9]*_{pattern}"))


def page_of(path: str | Path) -> Path:
    "Where a page lies: like its notebook, without numbers (02_features/05_extraction -> features/extraction)."
    return Path(*(re.sub(r"^\d+[a-z]?_", "", part) for part in Path(path).parts))


def chapters() -> list[tuple[str, list[Path]]]:
    "The story's chapters with their notebooks, as the folders of nbs/ are numbered; single notebooks around them."
    nbs = ROOT / "nbs"
    folders = [d for d in numbered(nbs, "*") if d.is_dir()]
    single = [p.relative_to(nbs) for p in numbered(nbs, "*.ipynb")]
    story = [(d.name[3:].capitalize(), [p.relative_to(nbs) for p in numbered(d, "*.ipynb")]) for d in folders]
    before = [p for p in single if p.name < folders[0].name]
    return [("Ground", before), *story, ("Use", [p for p in single if p not in before])]


def config() -> dict:
    "The site: its pages in order, its look."
    story = [{"section": title, "contents": [str(page_of(p)) for p in paths]} for title, paths in chapters()]
    guides = [f"guides/{page_of(p.name)}" for p in numbered(ROOT / "nbs" / "guides", "*.ipynb", "*.md")]
    sections = [{"section": "Guides", "contents": guides},
                {"section": "Warnings", "contents": ["warnings/index.md", *(f"warnings/{c}.md" for c in codes())]},
                {"section": "Networks", "contents": ["networks.md", "leuknb_lite0.md"]}, *story,
                {"section": "The project", "contents": ["changelog.md", "contributing.md", "security.md"]}]
    return {
        "project": {"type": "website", "output-dir": "_docs",
                    "render": ["index.md", "gallery.md", *(page for s in sections for page in s["contents"])],
                    "resources": ["images/*", "source/**", "source.css", "gallery/**", "CITATION.cff"]},
        "format": {"html": {"theme": {"light": "cosmo", "dark": "darkly"}, "css": "site.css", "toc": True,
                            "toc-depth": 3, "include-in-header": {"file": "header.html"}}},
        "website": {
            "title": "leuknb",
            "description": "A folder of blood-smear images in, an executed and honest notebook report out. Research "
                           "use only.",
            "navbar": {"search": True, "left": [{"text": "Guides", "href": guides[0]},
                                                {"text": "Gallery", "href": "gallery.md"},
                                                {"text": "The story and the API", "href": "core.ipynb"},
                                                {"text": "Warnings", "href": "warnings/index.md"},
                                                {"text": "Changes", "href": "changelog.md"}]},
            "sidebar": {"style": "docked", "collapse-level": 1, "contents": ["index.md", "gallery.md", *sections]},
            "page-navigation": True,
            "page-footer": {"center": "Research use only: not a medical device, not a diagnosis. Apache-2.0."},
        },
    }


def codes() -> dict:
    "Every warning's code, and what it is about."
    from leuknb.warning_codes import CODES

    return CODES


def warning_page(code: str) -> str:
    "The page of one warning: what it means, how it is found, what to do, how it is acknowledged."
    about = codes()[code]
    return (f"# {code}: {about.title}\n\n## What it means\n\n{about.meaning}\n\n## How it is found\n\n{about.found} "
            f"[The module]"
            f"(../{about.place.replace('.', '/')}.ipynb) explains it.\n\n## What to do\n\n{about.action}\n\n"
            f"Whoever has looked into it acknowledges it: it stays on the page, marked so, and no longer makes "
            f"`leuknb audit` end with 3.\n\n```sh\nleuknb report DATA --set acknowledge={code}\n```\n\n"
            f"[All warnings](index.md)\n")


def warnings_page() -> str:
    "The list of the warnings, each with its page."
    rows = "\n".join(f"| [{code}]({code}.md) | {about.title} | {about.action} |" for code, about in codes().items())
    return ("# Warnings\n\n> What may stand between a number and its meaning: every code of a report, an audit or a "
            f"model card, with a page each.\n\n| code | what was seen | what to do |\n|---|---|---|\n{rows}\n")


def networks_page() -> str:
    "The networks that have a name of their own, in one table."
    from leuknb.features.backbones import PACKAGES
    from leuknb.features.foundation_models import FOUNDATION_MODELS

    rows = [("[`leuknb_lite0`](leuknb_lite0.md), the default", "ImageNet, then 16,891 normal blood cells",
             PACKAGES["leuknb_lite0"].licence, "comes with leuknb")]
    rows += [(f"`{n}`", "ImageNet", p.licence, f"`{p.pip}`") for n, p in PACKAGES.items()
             if n != "leuknb_lite0"]
    rows += [(f"`{n}`", m.seen, m.licence, m.paper) for n, m in FOUNDATION_MODELS.items()]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return ("# Networks\n\n> Which pretrained networks a report can read features with, what each has seen, and under "
            "which licence.\n\n```sh\nleuknb report my_images --set backbone=dinobloom_s\n```\n\n"
            f"| `backbone=` | has seen | licence | from |\n|---|---|---|---|\n{table}\n\n"
            "Every classification network of torchvision and timm is taken by its name too; `leuknb backbones` lists "
            "them and says what each one needs. Sizes and times: [foundation models]"
            "(features/foundation_models.ipynb). One of your own: [another network](guides/new-backbone.ipynb).\n")


def copy_sources(work: Path) -> None:
    "Copy what the pages are made of to `work`, with the keys that nbdev's links need."
    for name in ("nbs", "leuknb"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints",
            "reports"))
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    (work / "settings.ini").write_text(settings
                                       + f"branch = main\ngit_url = https://{HERE}/source\ndoc_host = "
                                         f"https://{HERE}\ndoc_baseurl = /\ntitle = leuknb\n", encoding="utf-8")


def process_notebooks(work: Path, pages: Path) -> None:
    "Write each notebook as a page: exported code becomes tables of its signature and parameters, names become links."
    import nbdev.doclinks
    from execnb.nbio import read_nb, write_nb
    from nbdev.process import Processor
    from nbdev.processors import FilterDefaults, exec_show_docs

    class Describe(Processor):
        "Turns the cells that shall show a symbol into its description; runs no cell."

        def begin(self):
            found = re.search(r"#\| default_exp ([\w.]+)",
                              "\n".join(c.source for c in self.nb.cells if c.cell_type == "code"))
            self.module = found and importlib.import_module(f"leuknb.{found.group(1)}")
            self.nb.cells[:] = in_order(self.nb.cells)

        def cell(self, cell):
            found = cell.cell_type == "code" and re.search(r"^show_doc\(([\w.]+)\)", cell.source, re.M)
            if found: cell.cell_type, cell.source = "markdown", describe(self.module, found.group(1), HERE)

    class Pages(FilterDefaults):
        def base_procs(self): return [Describe if p is exec_show_docs else p for p in super().base_procs()]

    nbdev.doclinks._build_modidx()
    for path in sorted((work / "nbs").rglob("*.ipynb")):
        target = pages / page_of(path.relative_to(work / "nbs"))
        target.parent.mkdir(parents=True, exist_ok=True)
        nb = read_nb(path)
        keep_introduction(nb)
        hide_checks(nb)
        Pages()(nb)
        unlink_outputs(nb)
        write_nb(nb, target)
        target.write_text(inner_links(target.read_text(encoding="utf-8"), target.relative_to(pages)), encoding="utf-8")


def keep_introduction(nb) -> None:
    "Put what follows title and summary into a cell of its own: nbdev takes the first cell for the page's head, whole."
    found = re.match(r"(# [^\n]*\n+>[^\n]*)\n+(?=\S)(.*)", nb.cells[0].source, re.DOTALL)
    if not found or nb.cells[0].cell_type != "markdown": return
    rest = copy.deepcopy(nb.cells[0])
    rest.source, rest.id = found[2], f"{rest.id}-rest"
    nb.cells[0].source = found[1]
    nb.cells.insert(1, rest)
    for i, cell in enumerate(nb.cells): cell.idx_ = i


def hide_checks(nb) -> None:
    "Leave out, or fold, what only checks; the notebook keeps it."
    for cell in nb.cells:
        if cell.cell_type == "code" and not cell.source.startswith("#|"):
            cell.source = without_checks(cell.source, bool(cell.get("outputs")))


def in_order(cells: list) -> list:
    "The cells with descriptions of one export cell in the order of its definitions (they come reversed)."
    out, run = [], []
    for cell in [*cells, None]:
        if cell is not None and getattr(cell, "has_sd", False): run.insert(0, cell)
        else: out, run = out + run + [cell], []
    return out[:-1]


def unlink_outputs(nb) -> None:
    "In what a cell showed, a link to a place of the report, or to a file of a run, leads nowhere: its text stays."
    local = re.compile(r'<a\b[^>]*\bhref="(?![a-z]+:|//)[^"]*"[^>]*>(.*?)</a>', re.S)
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            if "text/html" in shown:
                text = "".join(shown["text/html"])
                shown["text/html"] = local.sub(r"\1", text)


def inner_links(text: str, page: Path) -> str:
    "Links to the site itself, to sources and to numbered notebooks, as seen from `page`."
    up = "../" * (len(page.parts) - 1)
    text = re.sub(rf"\[(`_\w+`)\]\(https://{HERE}/[^)]*\)", r"\1", text)  # what is private has no place of its own
    text = re.sub(rf"(https://{HERE}/[\w./-]+#\w+)\.\w+", r"\1", text)  # a method is described with its class
    text = re.sub(rf"https://{HERE}/+(?:\d+[a-z]?_)?", up, text)
    text = re.sub(r"output-file: [\w.-]+\\n", "", text)
    return re.sub(r"\]\(((?:[\w.-]+/)*[\w.-]+\.(?:ipynb|md))(?=[#)])", lambda m: f"]({page_of(m.group(1))}", text)


def summarised(text: str) -> str:
    "A page whose summary (the line after its title that begins with >) is the description in its head."
    found = re.match(r"# ([^\n]*)\n+> ([^\n]*)\n+", text)
    if not found: return text
    title, summary = (json.dumps(part, ensure_ascii=False) for part in found.groups())
    return f"---\ntitle: {title}\ndescription: {summary}\n---\n\n{text[found.end():]}"


def write_pages(pages: Path) -> None:
    "The pages that are no notebooks: the front page is the README."
    texts = {}
    for source in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?:nbs/|_docs/)", "](", text)
        text = re.sub(r"\]\(([A-Z]+)\.md", lambda m: f"]({m[1].lower()}.md", text)
        texts["index.md" if source == "README.md" else source.lower()] = text
    texts |= {f"guides/{page_of(p.name)}": p.read_text(encoding="utf-8")
              for p in (ROOT / "nbs" / "guides").glob("*.md")}
    texts |= {f"warnings/{code}.md": warning_page(code) for code in codes()}
    card = (ROOT / "leuknb" / "features" / "assets" / "leuknb_lite0.md").read_text(encoding="utf-8")
    head = "# leuknb_lite0\n\n> The card of the default network's weights, as the file itself carries it."
    texts |= {"warnings/index.md": warnings_page(), "networks.md": networks_page(), "gallery.md": gallery_page(),
              "leuknb_lite0.md": re.sub(r"^# [^\n]*", head, card)}
    for page, text in texts.items():
        (pages / page).parent.mkdir(exist_ok=True)
        (pages / page).write_text(inner_links(summarised(text), Path(page)), encoding="utf-8")
    shutil.copytree(ROOT / "nbs" / "images", pages / "images", dirs_exist_ok=True)
    for name in ("site.css", "header.html"): shutil.copy(ROOT / "docs" / name, pages / name)
    shutil.copy(ROOT / "CITATION.cff", pages / "CITATION.cff")
    (pages / "_quarto.yml").write_text(yaml.safe_dump(config(), sort_keys=False), encoding="utf-8")


def render(pages: Path) -> Path:
    "Render the pages with smalldocs and return the site's folder."
    from smalldocs.cli import main

    status = main(["render", str(pages)])
    if status: raise SystemExit(status)
    return pages / "_docs"


def write_sources(pages: Path) -> None:
    "A page for each module with its code, where `source` links point."
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    for path in sorted((ROOT / "leuknb").rglob("[a-z]*.py")):
        place = path.relative_to(ROOT / "leuknb").with_suffix("")
        formatter = HtmlFormatter(full=True, title="leuknb." + ".".join(place.parts), linenos="inline",
                                  lineanchors="L", anchorlinenos=True, wrapcode=True)
        page = highlight(path.read_text(encoding="utf-8"), PythonLexer(), formatter)
        head = ('<head><meta name="viewport" content="width=device-width, initial-scale=1">'
                f'<link rel="stylesheet" href="{"../" * len(place.parts)}source.css">')
        target = pages / "source" / place.with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page.replace("<head>", head, 1), encoding="utf-8")
    shutil.copy(ROOT / "docs" / "source.css", pages / "source.css")


def self_contained(site: Path) -> None:
    "Formulas become MathML, which browsers draw themselves; fonts and scripts from elsewhere go."
    from latex2mathml.converter import convert

    formula = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if "katex" not in text: continue
        text = formula.sub(lambda m: convert(html.unescape(m.group(2)),
                                             display="inline" if m.group(1) == "inline" else "block"), text)
        path.write_text(re.sub(r"<(?:link|script)[^>]*cdn\.jsdelivr\.net/npm/katex[^>]*>(?:</script>)?", "", text),
                        encoding="utf-8")
    for path in site.rglob("*.css"):
        path.write_text(re.sub(r"@import\s+(?:url\([^)]*\)|[\"'][^\"']*[\"'])\s*;", "",
                               path.read_text(encoding="utf-8")), encoding="utf-8")


def offline_search(site: Path) -> None:
    "The search index also as a script: a page opened from a disk may load a script beside it, but may not fetch."
    index = (site / "search.json").read_text(encoding="utf-8")
    (site / "search-index.js").write_text(f"window.leuknbSearchIndex = {index};\n", encoding="utf-8")


def main(out: Path, tiny: bool = False) -> None:
    "Build the site into `out`, replacing what is there; prints where it begins."
    with tempfile.TemporaryDirectory(prefix="leuknb-docs-") as folder:
        work, here = Path(folder).resolve(), os.getcwd()
        copy_sources(work)
        os.chdir(work)  # nbdev finds its configuration from here
        sys.path.insert(0, str(work))
        try:
            process_notebooks(work, work / "_proc")
            write_pages(work / "_proc")
            write_sources(work / "_proc")
            write_reports(work / "_proc" / "gallery", tiny)
            site = render(work / "_proc")
        finally:
            os.chdir(here)
        self_contained(site)
        offline_search(site)
        wrong = [f"asks an outside address: {o}" for o in outside(site)] + [f"broken link: {b}" for b in broken(site)]
        if wrong: raise SystemExit("docs: " + "\ndocs: ".join(wrong))
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(site, out)
    print(out / "index.html")


if __name__ == "__main__":
    names = [a for a in sys.argv[1:] if a != "--tiny"]
    main(Path(names[0] if names else ROOT / "_docs").resolve(), "--tiny" in sys.argv)
