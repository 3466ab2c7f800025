"""Turns notebooks, as they were saved, into Markdown pages: nothing is run."""
import ast
import base64
import json
import re
from pathlib import Path

PICTURES = {"image/png": "png", "image/jpeg": "jpg"}
PARTS = {"0": "The idea", "1": "The idea", "2": "The machinery", "3": "The laboratory", "4": "Teaching"}  # of a number


def part(name):
    "The part that a notebook, or its solutions, belongs to, such as `The idea` for `01_flow`."
    return PARTS[name[0]]


def read(path):
    "The notebook at `path`, with the source of each cell as one string."
    nb = json.loads(Path(path).read_text(encoding="utf-8"))
    for cell in nb["cells"]: cell["source"] = "".join(cell["source"])
    return nb


def heading(path):
    "First line of the notebook, without the mark of a heading."
    return read(path)["cells"][0]["source"].partition("\n")[0].lstrip("# ")


def title(path):
    "Short name of a page: `06 The flow` for `01_flow.ipynb` and its solutions."
    before, _, after = heading(path).partition(": ")
    name = after if before == "Solutions" else before
    number = re.match(r"\d*", Path(path).name)[0]
    return f"{number} {name[:1].upper()}{name[1:]}".strip()


def directives(source):
    "Words of the lines that speak to nbdev, such as `#| export`."
    return [line[2:].split() for line in source.splitlines() if line.startswith("#|")]


def module(nb):
    """Name of the module that the notebook exports, such as `flow` or `experiments.studies`; None without one, and for
    the checks of exercises."""
    said = (words for cell in nb["cells"] for words in directives(cell["source"]))
    return next((words[1] for words in said if words[0] == "default_exp" and not words[1].startswith("checks.")), None)


def definitions(source):
    "Public names that the code defines; a method added by `@patch` is `Class.method`."
    return [n for node in ast.parse(source).body for n in names(node) if not n.split(".")[-1].startswith("_")]


def names(node):
    "Names that one statement defines."
    if isinstance(node, ast.Assign): return [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    if isinstance(node, ast.ClassDef): return [node.name]
    if not isinstance(node, ast.FunctionDef): return []
    return [f"{node.args.args[0].annotation.id}.{node.name}" if patched(node) else node.name]


def patched(node):
    "Whether the function becomes a method of the class of its first argument."
    return any(ast.unparse(d).partition("(")[0] == "patch" for d in node.decorator_list)


def fenced(text, style):
    "A block of code or of output; the fence is longer than any in the text."
    fence = "`"*(max((len(m) for m in re.findall("`+", text)), default=0) + 3)
    return f"{fence} {{ {style} }}\n{text.rstrip()}\n{fence}"


def to_pages(text, folder, up=""):
    "Markdown whose links to notebooks lead to pages; the bare name of a notebook in `folder` becomes a link to it."
    linked = lambda m: f"[{m[0]}]({up}{m[1]}.ipynb)" if (folder/f"{m[1]}.ipynb").exists() else m[0]
    text = re.sub(r"(?<![\[`])`(\d\d_\w+)`(?![\]`])", linked, text)
    return re.sub(r"\]\((?!\w+:)([^)\s]*?)\.ipynb(#[^)]*)?\)", r"](\1.md\2)", text)


def exported(source, owner, up):
    "Line above the code of a cell that tells which names it gives to the module `owner`, with anchors for them."
    found = definitions(source)
    if not found: return ""
    anchors = "".join(f'<span id="code-{name}"></span>' for name in found)
    links = ", ".join(f"[`{name}`]({up}api/{owner}.md#{name})" for name in found)
    return f"{anchors}[`flowtok.{owner}`]({up}api/{owner}.md): {links}\n{{ .exported }}\n\n"


def code(source, owner, up):
    "Markdown of the code of a cell, without lines that speak to nbdev."
    said = {words[0] for words in directives(source)}
    text = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip("\n")
    if "hide" in said or not text: return ""
    public = exported(text, owner, up) if "export" in said and owner else ""
    return public + fenced(text, ".python")


def output(data, picture, up):
    "Markdown of one output and, for a picture, its bytes; `picture` is its path without the ending."
    for kind, ending in PICTURES.items():
        if kind in data:
            link = f"{up}{picture}.{ending}"
            return f"[![what the code above shows]({link})]({link}){{ .figure }}", {f"{picture}.{ending}": base64.b64decode("".join(data[kind]))}
    if "text/markdown" in data: return "".join(data["text/markdown"]), {}
    text = "".join(data.get("text/plain", ""))
    return (fenced(text, ".text .output") if text.strip() else ""), {}


def convert(path, up=""):
    "Markdown of a notebook and its pictures, as path -> bytes; `up` leads from the page to the first one."
    nb, name, folder = read(path), path.stem, path.parent/up
    owner, parts, files = module(nb), [], {}
    for i, cell in enumerate(nb["cells"]):
        parts.append(code(cell["source"], owner, up) if cell["cell_type"] == "code" else to_pages(cell["source"], folder, up))
        for j, out in enumerate(cell.get("outputs", [])):
            text, made = output(out.get("data") or {"text/plain": out.get("text", "")}, f"pictures/{name}-{i}-{j}", up)
            parts.append(text if text.startswith("`") else to_pages(text, folder, up))
            files |= made
    parts.insert(1, origin(path.name, owner, up))
    return "\n\n".join(p for p in parts if p) + "\n", files


def origin(name, owner, up):
    "Line below the title with the notebook itself and the module it exports."
    exports = f" · exported to [`flowtok.{owner}`]({up}api/{owner}.md)" if owner else ""
    return f"[Download the notebook]({name}){{ download }}{exports}\n{{ .small }}"
