"""Build the documentation from the notebooks into a folder, offline: nbdev makes the pages and the API tables,
smalldocs the site.

    python docs/build.py [_docs]

Works on a copy, so the checkout stays as it is. Fails when a page links to something that is not there, or would ask
an outside address.
"""

import copy
import importlib
import inspect
import operator
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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
    import yaml  # noqa: F401  smalldocs needs it too: fail early

    story = [{"section": title, "contents": [str(page_of(p)) for p in paths]} for title, paths in chapters()]
    guides = [f"guides/{page_of(p.name)}" for p in numbered(ROOT / "nbs" / "guides", "*.ipynb", "*.md")]
    return {
        "project": {"type": "website", "output-dir": "_docs",
                    "render": ["index.md", *guides, "changelog.md", "contributing.md",
                               *(f"warnings/{c}.md" for c in codes()),
                               *(f for s in story for f in s["contents"])],
                    "resources": ["images/*", "source/**", "source.css"]},
        "format": {"html": {"theme": {"light": "cosmo", "dark": "darkly"}, "css": "site.css", "toc": True,
                            "toc-depth": 3, "include-in-header": {"file": "header.html"}}},
        "website": {
            "title": "leuknb",
            "description": "A folder of blood-smear images in, an executed and honest notebook report out. Research "
                           "use only.",
            "navbar": {"search": True, "left": [{"text": "Guides", "href": guides[0]},
                                                {"text": "The story and the API", "href": "core.ipynb"},
                                                {"text": "Changes", "href": "changelog.md"}]},
            "sidebar": {"style": "docked", "collapse-level": 2,
                        "contents": ["index.md", {"section": "Guides", "contents": guides},
                                     {"section": "Warnings", "contents": [f"warnings/{c}.md" for c in codes()]}, *story,
                                                                             {"section": "The project",
                                                                                 "contents": ["changelog.md",
                                                                                     "contributing.md"]}]},
            "page-navigation": True,
            "page-footer": {"center": "Research use only: not a medical device, not a diagnosis. Apache-2.0."},
        },
    }


def codes() -> dict:
    "Every warning's code, and what it is about."
    from leuknb.warning_codes import CODES

    return CODES


def warning_page(code: str) -> str:
    "The page of one warning: what it means, what to do, how it is acknowledged."
    about = codes()[code]
    return (f"# {code}: {about.title}\n\n{about.meaning}\n\n## What to do\n\n{about.action}\n\n"
            f"Whoever has looked into it acknowledges it: it stays on the page, marked so, and no longer makes "
            f"`leuknb audit` end with 3.\n\n```sh\nleuknb report DATA --set acknowledge={code}\n```\n\n"
            f"[All warnings](../warning_codes.ipynb)\n")


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
            if found: cell.cell_type, cell.source = "markdown", describe(self.module, found.group(1))

    class Pages(FilterDefaults):
        def base_procs(self): return [Describe if p is exec_show_docs else p for p in super().base_procs()]

    nbdev.doclinks._build_modidx()
    for path in sorted((work / "nbs").rglob("*.ipynb")):
        target = pages / page_of(path.relative_to(work / "nbs"))
        target.parent.mkdir(parents=True, exist_ok=True)
        nb = read_nb(path)
        keep_introduction(nb)
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


def in_order(cells: list) -> list:
    "The cells with descriptions of one export cell in the order of its definitions (they come reversed)."
    out, run = [], []
    for cell in [*cells, None]:
        if cell is not None and getattr(cell, "has_sd", False): run.insert(0, cell)
        else: out, run = out + run + [cell], []
    return out[:-1]


def describe(module, name: str) -> str:
    """A symbol as Markdown: where its source is, how it is called, what it says of itself, its parameters, a class's
    methods.
    """
    symbol = operator.attrgetter(name)(module)
    line = inspect.getsourcelines(symbol)[1]
    place = module.__name__.removeprefix("leuknb.").replace(".", "/")
    source = f"[source](https://{HERE}/source/{place}.html#L-{line}){{.source}}"
    doc = inspect.cleandoc(symbol.__doc__ or "")
    parts = ["---", source, f"### {name}", f"```python\n{signature(symbol, name)}\n```", doc, parameters(symbol),
             methods(symbol) if inspect.isclass(symbol) else ""]
    return "\n\n".join(p for p in parts if p)


def signature(symbol, name: str) -> str:
    "How a symbol is called: names and short defaults; one name a line when it is long."
    try: call = inspect.signature(symbol)
    except (TypeError, ValueError): return name
    shown = [("**" if p.kind is p.VAR_KEYWORD else "*" if p.kind is p.VAR_POSITIONAL else "") + p.name + (""
        if p.default is p.empty else f"={short(p.default)}")
             for p in call.parameters.values() if p.name != "self"]
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(shown) + ",\n)"


def short(value) -> str:
    "A default as it would be written, or its type when that is long."
    if isinstance(value, type) or callable(value): return getattr(value, "__name__", "...")
    text = repr(value)
    return text if len(text) <= 40 and " object at " not in text else f"{type(value).__name__}(...)"


def parameters(symbol) -> str:
    "The parameters as a table: name, type, default, meaning."
    from fastcore.docments import docments

    if hasattr(symbol, "model_fields"): return fields(symbol)
    try: found = docments(symbol, full=True, returns=True)
    except (TypeError, ValueError, OSError): return ""
    rows = []
    for name, p in found.items():
        if name == "self" or (name == "return" and p.docment is None): continue
        default = "" if name == "return" else "*required*" if p.default is inspect.Parameter.empty else code(
            short(p.default))
        rows.append((f"**{name}**" if name != "return" else "*returns*", code(annotation(p.anno)), default,
                     str(p.docment or "")))
    return table(("parameter", "type", "default", "what it is"), rows) if rows else ""


def fields(symbol: type) -> str:
    "The fields of a pydantic class as a table, read from its source."
    rows = re.findall(r"^    (\w+): (.+?) = (.+?)(?:  # (.*))?$", inspect.getsource(symbol), re.M)
    return table(("field", "type", "default", "what it is"),
                 [(f"**{name}**", code(kind), code(default), what) for name, kind, default, what in rows])


def annotation(value) -> str:
    "A type as it is written."
    if value is inspect.Parameter.empty or value is None: return ""
    return value if isinstance(value, str) else getattr(value, "__name__", str(value)) if isinstance(value,
        type) else str(value).replace("typing.", "")


def methods(symbol: type) -> str:
    "The documented public methods and properties that a class defines itself, as a table."
    rows = []
    for name, value in vars(symbol).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if name.startswith("_") or not (inspect.isfunction(function) and function.__doc__): continue
        rows.append((code(name if isinstance(value, property) else signature(function, name).replace("\n", " ")),
                     inspect.cleandoc(function.__doc__).split("\n")[0]))
    return table(("method", "what it does"), rows) if rows else ""


def code(text: str) -> str: return f"`{text}`" if text else ""


def table(head: tuple, rows: list[tuple]) -> str:
    "Rows as a Markdown table."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in line) + " |"
                     for line in lines)


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


def write_pages(pages: Path) -> None:
    "The pages that are no notebooks: the front page is the README."
    import yaml

    for source, target in (("README.md", "index.md"), ("CHANGELOG.md", "changelog.md"),
                           ("CONTRIBUTING.md", "contributing.md")):
        text = (ROOT / source).read_text(encoding="utf-8")
        text = inner_links(text, Path(target)).replace("](nbs/", "](").replace("](CONTRIBUTING.md",
            "](contributing.md").replace("](CHANGELOG.md", "](changelog.md")
        (pages / target).write_text(text, encoding="utf-8")
    for path in (ROOT / "nbs" / "guides").glob("*.md"):
        page = page_of(Path("guides") / path.name)
        (pages / page).write_text(inner_links(path.read_text(encoding="utf-8"), page), encoding="utf-8")
    (pages / "warnings").mkdir(exist_ok=True)
    for code in codes(): (pages / "warnings" / f"{code}.md").write_text(warning_page(code), encoding="utf-8")
    shutil.copytree(ROOT / "nbs" / "images", pages / "images", dirs_exist_ok=True)
    shutil.copy(ROOT / "docs" / "site.css", pages / "site.css")
    shutil.copy(ROOT / "docs" / "header.html", pages / "header.html")
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
    import html

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


def outside(site: Path) -> list[str]:
    """What the site's pages would load from elsewhere: page, address.

    Text of a page, code that is shown among it, loads nothing.
    """
    tags = re.compile(
        r"""<(?:script|img|iframe|link|source|video|audio|embed)\b[^>]*?\b(?:src|href)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""")
    styles = re.compile(r"""<style[^>]*>(.*?)</style>|\bstyle="([^"]*)\"""", re.S)
    rules = re.compile(r"""url\(\s*["']?((?:https?:)?//[^"')]+)|@import\s+["']?((?:https?:)?//[^"';]+)""")
    found = []
    for path in sorted(p for p in site.rglob("*") if p.suffix in (".html", ".css")):
        text = path.read_text(encoding="utf-8")
        css = text if path.suffix == ".css" else "\n".join(a or b for a, b in styles.findall(text))
        found += [(path, address) for address in tags.findall(text)] + [(path, a or b) for a, b in rules.findall(css)]
    return [f"{path.relative_to(site)}: {address[:120]}" for path, address in found]


def broken(site: Path) -> list[str]:
    "Links inside the site that lead nowhere: page, link. A fragment must name an element of the page."
    import html
    from urllib.parse import unquote

    ids, links = {}, []
    for path in sorted(site.rglob("*.html")):
        text = re.sub(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+", "data:", path.read_text(encoding="utf-8"))
        ids[path] = {html.unescape(i) for i in re.findall(r"""\b(?:id|name)=["']([^"']+)["']""", text)}
        links += [(path, html.unescape(link))
                  for link in re.findall(r"""<(?:a|link|img|script)\b[^>]*?\b(?:href|src)=["']([^"']+)["']""", text)]
    found = []
    for path, link in links:
        if re.match(r"[a-z][a-z0-9+.-]*:|//", link): continue
        file, _, fragment = link.partition("#")
        target = (path.parent / unquote(file.split("?")[0])).resolve() if file else path
        if target.is_dir(): target = target / "index.html"
        if not target.is_file(): found.append(f"{path.relative_to(site)}: {link}")
        elif fragment and target in ids and unquote(fragment) not in ids[target]:
            found.append(f"{path.relative_to(site)}: {link} (no such place)")
    return sorted(set(found))


def main(out: Path) -> None:
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
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_docs").resolve())
