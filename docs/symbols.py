"""What a page says of a public name: where its source is, how it is called, its parameters, its methods. The tables
are smalldocs'.
"""

import ast
import inspect
import re
from functools import partial

from smalldocs import api


def public(source: str) -> list[str]:
    "The public functions and classes that a cell defines."
    return [s.name for s in ast.parse(source).body
            if isinstance(s, ast.FunctionDef | ast.ClassDef) and not s.name.startswith("_")]


def index() -> dict[str, str]:
    """Where the site describes each public name, for smalldocs' links: by the name itself where one module has it, and
    after its module; a method with its class.
    """
    found = [(s, f"/{s.module.removeprefix('leuknb.').replace('.', '/')}.ipynb") for s in api.inventory(["leuknb"])]
    names = [s.name for s, _ in found]
    out = {}
    for s, page in found:
        place = f"{page}#{s.name.partition('.')[0].lower()}" if s.name else page
        full = f"{s.module}.{s.name}".rstrip(".")
        out |= {full: place, full.removeprefix("leuknb."): place}
        if s.name and names.count(s.name) == 1: out[s.name] = place
    return out


def describe(module, name: str) -> str:
    "A symbol as Markdown."
    symbol = getattr(module, name)
    place = module.__name__.removeprefix("leuknb.").replace(".", "/")
    source = f"[source](/source/{place}.html#L-{api.line_of(symbol)}){{.source}}"
    parts = ["---", source, f"### {name}", f"```python\n{called(symbol, name)}\n```", api.doc(symbol),
             told_above(symbol, parameters(symbol, module)), methods(symbol) if inspect.isclass(symbol) else ""]
    return "\n\n".join(p for p in parts if p)


def parameters(symbol, module) -> str:
    "Parameters, or the fields of a class, as a table: name, type, default, meaning."
    if not inspect.isclass(symbol): return api.params_table(symbol, module)
    if api.is_model(symbol): return re.sub(r"Annotated\[(\w+), .*?\)\]\)\]", r"\1", api.fields_table(symbol, module))
    return api.params_table(symbol, module) if api.has_init(symbol) else api.keys_table(symbol, module) \
        if "__annotations__" in vars(symbol) else ""


def told_above(symbol, table: str) -> str:
    "A table with what is said of a parameter or a field above it, where nothing is said beside it."
    for said, name in re.findall(r"((?:^ +# .*\n)+) +(\w+)(?:: |=|,)", inspect.getsource(symbol), re.M):
        words = api.cell(" ".join(re.findall(r"# (.*)", said))).replace("\\", r"\\")
        table = re.sub(rf"^(\| `{name}` .* \|)  \|$", rf"\1 {words} |", table, flags=re.M)
    return table


def called(symbol, name: str) -> str:
    "How a symbol is called: names and short defaults; one name a line when it is long."
    try: call = inspect.signature(symbol)
    except (TypeError, ValueError): return name
    stars = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}
    shown = [stars.get(p.kind, "") + p.name + ("" if p.default is p.empty else f"={short(p.default)}")
             for p in call.parameters.values() if p.name not in ("self", "cls")]
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= 90 else f"{name}(\n    " + ",\n    ".join(shown) + ",\n)"


written = api.default_text


def short(value, most: int = 40) -> str:
    "A default as it would be written, or its type when that is long."
    text = written(value)
    return text if len(text) <= most and " object" not in text else f"{type(value).__name__}(...)"


api.default_text = partial(short, most=120)  # in the tables


def methods(symbol: type) -> str:
    "The documented public methods and properties that a class defines itself, as a table."
    rows = []
    for name, value in vars(symbol).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if name.startswith("_") or not (inspect.isfunction(function) and function.__doc__): continue
        call = name if isinstance(value, property) else " ".join(called(function, name).split())
        rows.append([f"`{call}`", api.summary(function)])
    return api.table(rows, ["Method", "What it does"])
