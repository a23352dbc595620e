"""Build the documentation from the notebooks into a folder, offline: smalldocs makes the site, with the tables and
the links of the API; leuknb makes the reports of the gallery.

    python docs/build.py [_docs] [--tiny]      # --tiny: reports of a few small images, for a quick look

The checkout stays as it is. Fails when a page links to something that is not there, or would ask an outside address.
"""

import html
import importlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import jinja2
import yaml
from latex2mathml.converter import convert
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from smalldocs import cli as smalldocs

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
from checks import broken, outside, without_checks  # noqa: E402
from gallery import command, EXAMPLES, write_reports  # noqa: E402
from symbols import describe, index, public  # noqa: E402

from leuknb.features.backbones import PACKAGES  # noqa: E402
from leuknb.features.foundation_models import FOUNDATION_MODELS  # noqa: E402
from leuknb.warning_codes import CODES  # noqa: E402


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
    "The site: its look (site.yml), its pages in order."
    story = [{"section": title, "contents": [str(page_of(p)) for p in paths]} for title, paths in chapters()]
    guides = [f"guides/{page_of(p.name)}" for p in numbered(ROOT / "nbs" / "guides", "*.ipynb", "*.md")]
    site = yaml.safe_load((ROOT / "docs" / "site.yml").read_text(encoding="utf-8"))
    site["website"]["sidebar"]["contents"] = ["index.md", "gallery.md",
        {"section": "Guides", "contents": guides},
        {"section": "Warnings", "contents": ["warnings/index.md", *(f"warnings/{code}.md" for code in CODES)]},
        {"section": "Networks", "contents": ["networks.md", "leuknb_lite0.md"]}, *story,
        {"section": "The project", "contents": ["changelog.md", "contributing.md", "security.md"]}]
    return site


def filled(template: str, **values) -> str:
    "A page that is made of what the code says, from its template in docs/pages."
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT / "docs" / "pages"), trim_blocks=True,
                               undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return pages.get_template(f"{template}.md.j2").render(values)


def filled_pages() -> dict[str, str]:
    "The pages that are made of what the code says: the warnings, the networks, the gallery."
    return {"warnings/index.md": filled("warnings", codes=CODES),
            "networks.md": filled("networks", packages=PACKAGES, foundation_models=FOUNDATION_MODELS),
            "gallery.md": filled("gallery", examples=EXAMPLES, command=command)} | {
        f"warnings/{code}.md": filled("warning", code=code, about=about) for code, about in CODES.items()}


def write_notebooks(pages: Path) -> None:
    "Write each notebook as a page."
    for path in sorted((ROOT / "nbs").rglob("[0-9]*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        nb = json.loads(path.read_text(encoding="utf-8"))
        nb["cells"] = shown(nb["cells"])
        target = pages / page_of(path.relative_to(ROOT / "nbs"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(nb), encoding="utf-8")


def shown(cells: list[dict]) -> list[dict]:
    "The cells of a page: exported code becomes tables of its signature and parameters, checks are left out or folded."
    out, module = [], None
    for cell in cells:
        source = "".join(cell["source"])
        if found := re.match(r"#\| default_exp ([\w.]+)", source):
            module = importlib.import_module(f"leuknb.{found[1]}")
        elif source.startswith("#| export"):
            out += [{"cell_type": "markdown", "metadata": {}, "source": describe(module, name)}
                    for name in public(source)]
        elif cell["cell_type"] == "markdown": out.append(cell | {"source": unnumbered(source)})
        elif not source.startswith("#| hide"):
            unlinked = [unlink(output) for output in cell["outputs"]]
            out.append(cell | {"source": without_checks(source, bool(unlinked)), "outputs": unlinked})
    return [out[0] | {"source": summarised(out[0]["source"])}, *out[1:]]


def unlink(output: dict) -> dict:
    "In what a cell showed, a link to a place of the report, or to a file of a run, leads nowhere: its text stays."
    if "text/html" not in output.get("data", {}): return output
    text = re.sub(r'<a\b[^>]*\bhref="(?![a-z]+:|//)[^"]*"[^>]*>(.*?)</a>', r"\1",
                  "".join(output["data"]["text/html"]), flags=re.S)
    return output | {"data": output["data"] | {"text/html": text}}


def unnumbered(text: str) -> str:
    "Links to numbered notebooks lead to their pages."
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
    card = (ROOT / "leuknb" / "features" / "assets" / "leuknb_lite0.md").read_text(encoding="utf-8")
    head = "# leuknb_lite0\n\n> The card of the default network's weights, as the file itself carries it."
    texts |= {"leuknb_lite0.md": re.sub(r"^# [^\n]*", head, card)} | filled_pages()
    for page, text in texts.items():
        (pages / page).parent.mkdir(exist_ok=True)
        (pages / page).write_text(unnumbered(summarised(text)), encoding="utf-8")
    (pages / "_symbols.json").write_text(json.dumps(index()), encoding="utf-8")
    shutil.copytree(ROOT / "nbs" / "images", pages / "images", dirs_exist_ok=True)
    for name in ("docs/site.css", "docs/source.css", "docs/header.html", "CITATION.cff"):
        shutil.copy(ROOT / name, pages)
    (pages / "_quarto.yml").write_text(yaml.safe_dump(config(), sort_keys=False), encoding="utf-8")


def write_sources(pages: Path) -> None:
    "A page for each module with its code, where `source` links point."
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


def self_contained(site: Path) -> None:
    """Formulas become MathML, which browsers draw themselves; fonts and scripts from elsewhere go; the search index is
    a script, too: a page opened from a disk may load one beside it, but may not fetch.
    """
    formula = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
    kinds = {"inline": "inline", "display": "block"}
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if "katex" not in text: continue
        text = formula.sub(lambda m: convert(html.unescape(m[2]), display=kinds[m[1]]), text)
        text = re.sub(r"<(?:link|script)[^>]*cdn\.jsdelivr\.net/npm/katex[^>]*>(?:</script>)?", "", text)
        path.write_text(text, encoding="utf-8")
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"@import\s+(?:url\([^)]*\)|[\"'][^\"']*[\"'])\s*;", "", text), encoding="utf-8")
    found = (site / "search.json").read_text(encoding="utf-8")
    (site / "search-index.js").write_text(f"window.leuknbSearchIndex = {found};\n", encoding="utf-8")


def main(out: Path, tiny: bool = False) -> None:
    "Build the site into `out`, replacing what is there; prints where it begins."
    with tempfile.TemporaryDirectory(prefix="leuknb-docs-") as folder:
        pages = Path(folder).resolve()
        write_notebooks(pages)
        write_pages(pages)
        write_sources(pages)
        write_reports(pages / "gallery", tiny)
        if smalldocs.main(["render", "--quiet", "--strict", str(pages)]): raise SystemExit("docs: see above")
        self_contained(site := pages / "_docs")
        wrong = [f"asks an outside address: {o}" for o in outside(site)] + [f"broken link: {b}" for b in broken(site)]
        if wrong: raise SystemExit("docs: " + "\ndocs: ".join(wrong))
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(site, out)
    print(out / "index.html")


if __name__ == "__main__":
    names = [a for a in sys.argv[1:] if a != "--tiny"]
    main(Path(names[0] if names else ROOT / "_docs").resolve(), "--tiny" in sys.argv)
