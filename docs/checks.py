"""What a built site must not do: ask an outside address, or lead nowhere. And what its pages need not show: the lines
of a notebook that only check.
"""

import ast
import html
import re
from pathlib import Path
from urllib.parse import unquote

_TAGS = re.compile(
    r"""<(?:script|img|iframe|link|source|video|audio|embed)\b[^>]*?\b(?:src|href)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""")
_STYLES = re.compile(r"""<style[^>]*>(.*?)</style>|\bstyle="([^"]*)\"""", re.S)
_RULES = re.compile(r"""url\(\s*["']?((?:https?:)?//[^"')]+)|@import\s+["']?((?:https?:)?//[^"';]+)""")

_QUOTED = r"""(?:"([^"]+)"|'([^']+)')"""


def outside(site: Path) -> list[str]:
    """What the site's pages would load from elsewhere: page, address.

    Text of a page, code that is shown among it, loads nothing.
    """
    found = []
    for path in sorted(p for p in site.rglob("*") if p.suffix in (".html", ".css", ".svg")):
        text = path.read_text(encoding="utf-8")
        css = text if path.suffix == ".css" else "\n".join(a or b for a, b in _STYLES.findall(text))
        found += [(path, address) for address in _TAGS.findall(text)] + [(path, a or b) for a, b in _RULES.findall(css)]
    return [f"{path.relative_to(site)}: {address[:120]}" for path, address in found]


def broken(site: Path) -> list[str]:
    "Links inside the site that lead nowhere: page, link. A fragment must name an element of the page."
    ids, links = {}, []
    for path in sorted(site.rglob("*.html")):
        text = re.sub(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+", "data:", path.read_text(encoding="utf-8"))
        text = re.sub(r"(<script\b[^>]*>).*?</script>", r"\1", text, flags=re.S)
        ids[path] = {html.unescape(a or b) for a, b in re.findall(rf"\b(?:id|name)={_QUOTED}", text)}
        links += [(path, html.unescape(a or b))
                  for a, b in re.findall(rf"<(?:a|link|img|script)\b[^>]*?\b(?:href|src)={_QUOTED}", text)]
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


def checks_only(statement: ast.stmt) -> bool:
    "Whether a statement does nothing but check: assert, test_eq and its kin, an expected exception, loops over such."
    if isinstance(statement, ast.Assert): return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        name = statement.value.func
        return getattr(name, "id", getattr(name, "attr", "")).startswith("test_")
    if isinstance(statement, ast.With):
        return any("ExceptionExpected" in ast.unparse(item.context_expr) for item in statement.items)
    return isinstance(statement, (ast.For, ast.If)) and all(map(checks_only, statement.body + statement.orelse))


def without_checks(source: str, shows: bool) -> str:
    """The source of a cell as a page has it: without its checks where it `shows` something; folded, as it is, where
    checks are all that it is for.
    """
    try: tree = ast.parse(source)
    except SyntaxError: return source  # a magic or a command of the shell
    checking = [s for s in tree.body if checks_only(s)]
    if not checking: return source
    if not shows: return f"#| code-fold: true\n#| code-summary: \"checks\"\n{source}"
    lines = source.split("\n")
    for s in reversed(checking): del lines[s.lineno - 1: s.end_lineno]
    return "\n".join(lines).strip("\n")
