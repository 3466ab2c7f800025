"""Makes a page for each module of the package from its source: signatures, and the comments beside their arguments.

The source is read, not imported, so that the site can be made where PyTorch is not installed.
"""
import ast
import io
import re
import tokenize
from pathlib import Path

from lessons import PARTS, names, part, patched


class Module:
    "Source of a module: what it exports, what it defines, and its comments."

    def __init__(self, path, package=None):
        "`package`: the folder that names begin in, such as `experiments.studies`; None: that of the file."
        path = Path(path)
        self.name = ".".join(path.relative_to(package or path.parent).with_suffix("").parts)
        self.source = path.read_text(encoding="utf-8")
        tree = ast.parse(self.source)
        self.doc = ast.get_docstring(tree) or ""
        self.defined = {name: node for node in tree.body for name in names(node)}
        listed = self.defined.get("__all__")
        self.exported = ast.literal_eval(listed.value) if listed else []
        self.comments = comments_of(self.source)
        made_from = re.search(r"File to edit: \S*?(\w+)\.ipynb", self.source)
        self.lesson = made_from[1] if made_from else None

    def methods(self, name):
        "Methods of the class `name` that have no underscore, as `Class.method` -> node; patched ones come last."
        own = {f"{name}.{n.name}": n for n in self.defined[name].body if isinstance(n, ast.FunctionDef)}
        return {k: n for k, n in {**own, **self.patches(name)}.items() if not n.name.startswith("_")}

    def patches(self, name):
        "Methods that `@patch` adds to the class `name`."
        return {k: n for k, n in self.defined.items() if k.startswith(f"{name}.")}

    def public(self):
        "Everything the page tells about, as name -> node: exported names, and methods below their class."
        found = {}
        for name in sorted(self.exported, key=lambda n: self.defined[n].lineno):
            found[name] = self.defined[name]
            if isinstance(found[name], ast.ClassDef): found |= self.methods(name)
        return found | {k: n for k, n in self.defined.items() if "." in k and not n.name.startswith("_") and k not in found}


def comments_of(source):
    "The comment of each line of code: the one beside it, or else those directly above it."
    found, above = {}, {}
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        if t.type != tokenize.COMMENT: continue
        text, line = t.string.lstrip("# "), t.start[0]
        if t.line[:t.start[1]].strip(): found[line] = text
        else: above[line + 1] = f"{above.pop(line, '')} {text}".strip()
    return above | found


def prose(text):
    "Text for Markdown: outside of code, marks of Markdown stand for themselves."
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    plain = lambda part: re.sub(r"([*_\[\]$|\\])", r"\\\1", part).replace("<", "&lt;")
    return "".join(p if p.startswith("`") else plain(p) for p in parts)


def table(rows, what):
    "Markdown table of (code, comment) pairs."
    lines = [f"| `` {code} `` | {prose(comment)} |" for code, comment in rows]
    return "\n".join([f"| {what} | what it is |", "|---|---|", *lines]) if rows else ""


def arguments(node):
    "Arguments of a function as written, with annotation and default, each with its line; `self` and the patched class are left out."
    a = node.args
    plain = a.posonlyargs + a.args
    defaults = [None]*(len(plain) - len(a.defaults)) + a.defaults
    found = list(zip([""]*len(plain), plain, defaults))
    if a.vararg: found.append(("*", a.vararg, None))
    found += zip([""]*len(a.kwonlyargs), a.kwonlyargs, a.kw_defaults)
    if a.kwarg: found.append(("**", a.kwarg, None))
    return [(x.lineno, stars + written(x, default)) for stars, x, default in found if x.arg != "self"]


def written(x, default):
    "An argument as it stands in the code."
    if default is None: return ast.unparse(x)
    return f"{ast.unparse(x)} = {ast.unparse(default)}" if x.annotation else f"{x.arg}={ast.unparse(default)}"


def signature(name, args):
    "A call as one line, or with a line for each argument where that is too long."
    line = f"{name}({', '.join(args)})"
    return line if len(line) <= 88 else f"{name}(\n    " + ",\n    ".join(args) + ")"


def call(name, args, module, what="argument"):
    "Markdown of a call and of the comments beside its arguments; those that share a line share its comment."
    lines = dict.fromkeys(line for line, _ in args if line in module.comments)
    rows = [(", ".join(a for at, a in args if at == line), module.comments[line]) for line in lines]
    return block(signature(name, [a for _, a in args])), table(rows, what)


def block(code): return f"```python\n{code}\n```"


def is_property(node): return any(re.search(r"^property$|as_prop=True", ast.unparse(d)) for d in node.decorator_list)


def is_dataclass(node): return any("dataclass" in ast.unparse(d) for d in node.decorator_list)


def kind(name, node, module):
    "Markdown of a class: its call with the comments of `__init__`, or with its fields if it is a dataclass."
    init = next((n for n in node.body if getattr(n, "name", "") == "__init__"), None)
    if init: return call(f"class {name}", arguments(init), module)
    fields = [(n.end_lineno, ast.unparse(n)) for n in node.body if isinstance(n, ast.AnnAssign)]
    if is_dataclass(node): return call(f"class {name}", fields, module, "field")
    return block(f"class {name}({', '.join(ast.unparse(b) for b in node.bases)})"), ""


def body(name, node, module):
    "Signature and table of one name."
    if isinstance(node, ast.ClassDef): return kind(name, node, module)
    if isinstance(node, ast.Assign): return block(ast.get_source_segment(module.source, node)), ""
    return (block(name), "") if is_property(node) else call(name, arguments(node), module)


def entry(name, node, module):
    "Markdown of one name: heading, signature, what it does, its arguments, and the way to its code."
    usage, rows = body(name, node, module)
    doc = "" if isinstance(node, ast.Assign) else ast.get_docstring(node) or ""
    place = name if isinstance(node, (ast.ClassDef, ast.Assign)) or patched(node) else name.partition(".")[0]
    code = f"[Its code in `{module.lesson}`](../{module.lesson}.md#code-{place}){{ .small }}" if module.lesson else ""
    return "\n\n".join(p for p in (f"{'###' if '.' in name else '##'} `{name}` {{ #{name} }}", usage, prose(doc), rows, code) if p)


def page(module):
    "Markdown page of a module."
    top = f"# flowtok.{module.name}\n\n> {prose(module.doc)}"
    return "\n\n".join([top, *(entry(name, node, module) for name, node in module.public().items())]) + "\n"


def modules(folder):
    "Modules in `folder` and below that export something, in the order of their lessons; checks of exercises left out."
    paths = [p for p in sorted(Path(folder).rglob("*.py")) if not p.name.startswith("_")]
    found = [Module(p, folder) for p in paths if p.relative_to(folder).parts[0] != "checks"]
    return sorted((m for m in found if m.exported), key=lambda m: m.lesson or "")


def overview(found):
    "Markdown page that lists the modules, part by part."
    lines = ["# The modules"]
    for name in dict.fromkeys(PARTS.values()):
        mine = [m for m in found if m.lesson and part(m.lesson) == name]
        if mine: lines += ["", f"## {name}", "", *(entry_of_list(m) for m in mine)]
    return "\n".join(lines) + "\n"


def entry_of_list(m):
    "Markdown of a module in the list of all."
    return f"- [`flowtok.{m.name}`]({m.name}.md): {prose(m.doc)} Lesson: [`{m.lesson}`](../{m.lesson}.md)"
