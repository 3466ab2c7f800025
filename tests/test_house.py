"""Rules of the house: who may import whom, lines that can be read, one name for one thing.

    python tests/test_house.py    print the import graph as a table
"""
import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from notebooks import ROOT

PACKAGE = ROOT/"flowtok"
PARTS = {"0": "the idea", "1": "the idea", "2": "the machinery", "3": "the laboratory", "4": "teaching"}  # of a notebook's number
IDEA = {"core", "filling", "pictures", "flow", "shapes", "layers", "tokenizer", "tokenizer_loss", "text", "dit", "sampling", "model", "captioning", "evaluation"}
ALLOWED = {  # (module, a module that is read after it): why it imports it all the same; CONTRIBUTING.md names each
    ("config", "training"): "a preset holds the settings of a training, which stand beside their use",
    ("lineage", "pipeline"): "a run may start from the parts of a trained pipeline",
    ("recipes", "pipeline"): "a recipe trains the parts of a pipeline and saves it",
    ("pipeline", "released"): "flowtok.load opens the authors' weights by their name",
    ("data", "emoji"): "--data emoji opens them",
    ("cli", "emoji"): "flowtok-evaluate --data emoji judges with it",
    ("cli", "benchmarks"): "flowtok-evaluate --data measures with it",
    ("cli", "experiments.studies"): "flowtok-study is its command",
    ("cli", "gpu"): "flowtok-gpu is its command",
    ("gpu", "emoji"): "a card is tried on emoji too",
    ("experiments.studies", "experiments.control"): "the control is one of the studies",
    ("experiments.control", "emoji"): "the control is measured on emoji too",
    ("experiments.studies", "experiments.cure"): "what was tried against lost captions is one of the studies"}


# --- the import graph

class Module:
    "What one file of the package says of itself."

    def __init__(self, path, package):
        inside = path.relative_to(package).with_suffix("").parts
        self.package = path.name == "__init__.py"
        self.name = ".".join(inside[:-1] if self.package else inside)  # flowtok itself has the empty name
        self.path, self.source = path, path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        made_from = re.search(r"File to edit: \S*?(\d\d)_\w+\.ipynb", self.source)
        self.number = made_from[1] if made_from else None  # of its notebook

    @property
    def part(self): return PARTS[self.number[0]] if self.number else ""


def modules(package=PACKAGE):
    "All modules by name, in reading order; those of checks, and what nbdev keeps for itself, left out."
    paths = [p for p in package.rglob("*.py") if p.name != "_modidx.py" and p.relative_to(package).parts[0] != "checks"]
    found = [Module(p, package) for p in paths]
    return {m.name: m for m in sorted(found, key=lambda m: (m.number or "", m.name))}


def statements(tree, lazy=False):
    "Every import below a node, and whether it waits inside of a function."
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom): yield node, lazy
        yield from statements(node, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def origin(module, node):
    "The full name that an import of names starts from, such as flowtok.data."
    if not node.level: return node.module
    here = ["flowtok", *filter(None, module.name.split("."))]
    up = node.level - module.package  # a package is its own first dot
    return ".".join([*here[:len(here) - up], *filter(None, [node.module])])


def imported(module, known):
    "Pairs of a module of ours that `module` imports, and whether it does so lazily."
    for node, lazy in statements(module.tree):
        if isinstance(node, ast.Import): names = [alias.name for alias in node.names]
        else:
            start = origin(module, node)
            inside = {f"{start}.{alias.name}" for alias in node.names}
            names = [n for n in inside if n.removeprefix("flowtok.") in known] or [start]
        for name in names:
            if name.partition(".")[0] == "flowtok": yield name.partition(".")[2], lazy


def graph(package=PACKAGE):
    "Module -> {module it imports: whether it only does so inside of functions}."
    known, edges = modules(package), {}
    for m in known.values():
        edges[m.name] = {}
        for name, lazy in imported(m, known): edges[m.name][name] = lazy and edges[m.name].get(name, True)
    return edges


def table(package=PACKAGE):
    "The graph as lines of text."
    known, edges = modules(package), graph(package)
    def names(of, lazy): return ", ".join(n or "flowtok" for n in edges[of] if edges[of][n] is lazy)
    rows = [("module", "part", "imports", "lazy imports")] + [(f"{m.number or ''} {m.name or 'flowtok'}".strip(), m.part, names(m.name, False), names(m.name, True)) for m in known.values()]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join([*(cell.ljust(w) for cell, w in zip(row, wide)), row[3]]).rstrip() for row in rows)


def unknown(package):
    "Imports of modules that are not there."
    edges = graph(package)
    return [(a, b) for a in edges for b in edges[a] if b not in edges and not b.startswith("checks")]


def circle(package):
    "Modules that import each other, lazily or not, as a list that ends where it begins; empty without one."
    edges, done = graph(package), set()
    def walk(name, path):
        if name in path: return [*path[path.index(name):], name]
        if name in done: return []
        found = next(filter(None, (walk(n, [*path, name]) for n in edges.get(name, ()))), [])
        done.add(name)
        return found
    return next(filter(None, (walk(n, []) for n in edges)), [])


def leaving_the_idea(package):
    "Imports of the first part from outside of it."
    return [(a, b) for a, names in graph(package).items() if a in IDEA for b in names if b not in IDEA]


def using_experiments(package):
    "Imports of the experiments by anything but themselves, and but one command."
    def is_one(name): return name.partition(".")[0] == "experiments"
    edges = [(a, b, lazy) for a, names in graph(package).items() for b, lazy in names.items() if is_one(b) and not is_one(a)]
    return [(a, b) for a, b, lazy in edges if (a, b) != ("cli", "experiments.studies") or not lazy]


def read_later(package):
    "Imports of modules whose notebook has a larger number."
    known = modules(package)
    def later(a, b): return b in known and known[a].number and known[b].number and known[b].number > known[a].number
    return [(a, b) for a, names in graph(package).items() for b in names if later(a, b)]


def backwards(package): return [edge for edge in read_later(package) if edge not in ALLOWED]


def test_the_graph_is_whole():
    "`pytest -s` shows it."
    print("", table(), sep="\n")
    assert unknown(PACKAGE) == []
    edges = graph()
    assert len(edges) > 30 and edges["cli"]["recipes"] is True and edges["recipes"]["pipeline"] is False
    assert edges["experiments.studies"].keys() > {"recipes", "layers", "experiments.control"} and edges[""] == {"pipeline": True}


def test_no_circle(): assert circle(PACKAGE) == []


def test_the_idea_stands_alone():
    assert {m.name for m in modules().values() if m.part == "the idea"} == IDEA
    assert leaving_the_idea(PACKAGE) == []


def test_nothing_is_built_on_experiments(): assert using_experiments(PACKAGE) == []


def test_modules_import_what_is_read_before_them():
    assert backwards(PACKAGE) == []
    assert set(read_later(PACKAGE)) == set(ALLOWED), "an exception that nobody needs any more"


@pytest.mark.parametrize("a, b", ALLOWED, ids=[f"{a}-{b}" for a, b in ALLOWED])
def test_contributing_names_each_exception(a, b):
    lines = (ROOT/"CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    assert any(f"`{a}`" in line and f"`{b}`" in line for line in lines), f"say in CONTRIBUTING.md that `{a}` imports `{b}`: {ALLOWED[a, b]}"


# --- lines

def files(package): return sorted(p for p in package.rglob("*.py") if p.name != "_modidx.py")


def long_lines(package):
    "Lines of more than 120 columns, the claim in line 1 too; only the `__all__` that nbdev itself writes may be longer."
    lines = ((p, n, line) for p in files(package) for n, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1))
    return [f"{p.relative_to(package)}:{n}: {len(line)} columns" for p, n, line in lines
            if len(line) > 120 and not line.startswith("__all__ = ")]


def crowded_lines(package):
    "Lines with two statements and a semicolon."
    tokens = ((p, t) for p in files(package) for t in tokenize.generate_tokens(io.StringIO(p.read_text(encoding="utf-8")).readline))
    return [f"{p.relative_to(package)}:{t.start[0]}" for p, t in tokens if t.type == tokenize.OP and t.string == ";"]


def test_lines_are_short(): assert long_lines(PACKAGE) == []


def test_one_statement_a_line(): assert crowded_lines(PACKAGE) == []


# --- names

def public(module):
    "Functions and classes of a module that `__all__` names."
    listed = next((ast.literal_eval(n.value) for n in module.tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"), None)
    found = [n for n in module.tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return [n for n in found if (n.name in listed if listed is not None else not n.name.startswith("_"))]


def names_of_two(package):
    "Names that two modules give to two things."
    where = {}
    for m in modules(package).values():
        if m.package: continue  # flowtok.load hands over to that of the pipeline
        for name in {n.name for n in public(m)}: where.setdefault(name, []).append(m.name)
    return {name: owners for name, owners in where.items() if len(owners) > 1}


def functions(module):
    "Functions of a module and methods of its classes that people call: no underscore, but `__init__` and its like."
    inside = [n for c in module.tree.body if isinstance(c, ast.ClassDef) for n in c.body]
    found = [n for n in [*module.tree.body, *inside] if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [n for n in found if not n.name.startswith("_") or n.name.startswith("__")]


def bags(package):
    "Functions that take options nobody can look up."
    def tells(node): return any(re.match(r"(\w+\.)?delegates\b", ast.unparse(d)) for d in node.decorator_list)
    return [f"{m.name or 'flowtok'}.{n.name}" for m in modules(package).values() for n in functions(m) if n.args.kwarg and not tells(n)]


def test_one_name_one_thing(): assert names_of_two(PACKAGE) == {}


def test_options_can_be_looked_up(): assert bags(PACKAGE) == []


# --- small and quick

def length_of_core(package): return len((package/"core.py").read_text(encoding="utf-8").splitlines())


def test_core_is_short(): assert length_of_core(PACKAGE) < 100


def loaded(*names, at=ROOT):
    "Packages that importing these modules loads in a fresh process."
    code = f"import sys; sys.path.insert(0, {str(at)!r}); import {', '.join(names)}; print(flowtok.__file__, *{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file, *found = done.stdout.split()
    assert Path(file).is_relative_to(at), file
    return set(found)


SLOW = [(("flowtok.recipes", "flowtok.cli", "flowtok.pipeline"), {"matplotlib"}), (("flowtok.flow",), {"matplotlib", "accelerate", "transformers"})]


@pytest.mark.parametrize("names, slow", SLOW, ids=["recipes", "flow"])
def test_imports_are_quick(names, slow): assert loaded(*names) & slow == set()


def test_types_are_for_users(): assert (PACKAGE/"py.typed").exists()


# --- each rule, broken

def append(text): return lambda source: source + text


BROKEN = {  # what a rule finds, the file that breaks it, and how
    "a circle": (circle, "flow.py", append("\nfrom .model import FlowTok\n")),
    "a lazy circle": (circle, "layers.py", append("\ndef later():\n    from flowtok import tokenizer\n")),
    "from outside": (leaving_the_idea, "evaluation.py", append("\ndef later():\n    import flowtok.records\n")),
    "experiments": (using_experiments, "recipes.py", append("\ndef later():\n    from .experiments.control import METHODS\n")),
    "experiments at once": (using_experiments, "cli.py", append("\nfrom .experiments.studies import study\n")),
    "experiments as such": (using_experiments, "data.py", append("\nfrom . import experiments\n")),
    "read later": (backwards, "core.py", append("\nfrom .flow import interpolate\n")),
    "read later, by its full name": (backwards, "experiments/control.py", append("\nimport flowtok.cost as cost\n")),
    "nothing there": (unknown, "data.py", append("\nfrom .protocols import fid\n")),
    "a long line": (long_lines, "checks/c01_flow.py", append("\nx = 1  # " + "x"*112 + "\n")),
    "a long claim": (long_lines, "cost.py", lambda s: '"""' + "claim "*20 + '"""\n' + s),
    "two statements": (crowded_lines, "experiments/studies.py", append("\nx = 1; y = 2\n")),
    "two things": (names_of_two, "experiments/control.py", lambda s: s.replace("__all__ = [", "__all__ = ['study', ") + "\ndef study(): pass\n"),
    "a bag": (bags, "data.py", append("\ndef anything(a, **kw): pass\n")),
    "a bag of a class": (bags, "data.py", append("\nclass Anything:\n    def __init__(self, **kw): pass\n"))}


@pytest.fixture
def copy(tmp_path):
    "A copy of the package, to be spoilt."
    return Path(shutil.copytree(PACKAGE, tmp_path/"flowtok", ignore=shutil.ignore_patterns("weights", "__pycache__")))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_rule_is_found(kind, copy):
    rule, name, spoil = BROKEN[kind]
    before, file = rule(copy), copy/name
    file.write_text(spoil(file.read_text(encoding="utf-8")), encoding="utf-8")
    assert rule(copy) != before


def test_what_may_be_written_is_not_found(copy):
    "A semicolon in a text, a long `__all__`, an option that is told, an import of the same number."
    (copy/"data.py").write_text("__all__ = ['" + "long"*40 + "']\n# %% ../nbs/21_data.ipynb\nfrom .shards import Shards\n\nx = 'a; b'  # c; d\n\n@delegates(Shards)\ndef load(a, **kw): pass\n\ndef _hidden(**kw): pass\n", encoding="utf-8")
    kept = [rule(copy) for rule in (long_lines, crowded_lines, bags, backwards)]
    assert [[found for found in map(str, k) if "data" in found] for k in kept] == [[]]*4


def test_a_long_core_and_a_slow_import_are_found(copy):
    (copy/"core.py").write_text((copy/"core.py").read_text() + "\n"*100)
    assert length_of_core(copy) >= 100
    for name in ("flow.py", "pipeline.py"): (copy/name).write_text("import matplotlib\n" + (copy/name).read_text())
    for names, slow in SLOW: assert loaded(*names, at=copy.parent) & slow


if __name__ == "__main__": print(table())
