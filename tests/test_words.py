"""Words and numbers of the lessons: the field's terms, each explained before it is used, lines that can be read, and numbers that a cell made.

The last is a net with holes: of numbers that are changed by up to four tenths it finds about six in ten, since others are by chance some number of the lesson.

    python -m pytest -q tests/test_words.py
"""
import ast
import json
import re

import pytest
from notebooks import NBS, notebooks, read

LESSONS = [p for p in notebooks() if p.parent == NBS]

# --- private words

PRIVATE = {
    r"\bknobs?\b": "modulation", r"\bdear(er|est)?\b": "expensive, costs more", r"\bby head\b": "by hand", r"\bmelt(s|ed|ing)?\b": "blend",
    r"\bshouts?\b": "is large", r"\b(loud|quiet)(er|est)?\b": "large, small (of a loss)", r"\bwalk(s|ed|ing|ers?)?\b": "integrate, follow",
    r"\b(is|are|was|were|be|been|being) (asked|told)\b(?! for)": "evaluated, conditioned, distinguished", r"\bask(s|ed|ing)? the network\b": "evaluate the network",
    r"\bhabits?\b": "mean, practice", r"\bwakes? up\b": "gets a gradient", r"\bdice\b": "is random", r"\bthe network (thinks|wants|believes)\b": "a plain verb"}


def private_words(text):
    "The private words in a text, with the field's."
    return [f"{found[0]!r}: say {instead}" for word, instead in PRIVATE.items() for found in re.finditer(word, text, re.I)]


def plain(text):
    "A text without code, formulas and addresses."
    return re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|https?://\S+", " ", text, flags=re.S)


def texts(nb):
    "The text cells of a notebook: id and text."
    return [(c["id"], "".join(c["source"])) for c in nb["cells"] if c["cell_type"] == "markdown"]


def strings(nb):
    "What the code of a notebook says: id and strings, docstrings included."
    for cell in nb["cells"]:
        try: tree = ast.parse("".join(cell["source"])) if cell["cell_type"] == "code" else None
        except SyntaxError: continue  # a command of the shell
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value: yield cell["id"], node.value


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_no_private_words(path):
    nb = read(path)
    assert [(cell, word) for cell, text in (*texts(nb), *strings(nb)) for word in private_words(plain(text))] == []


@pytest.mark.parametrize("said", ["its knobs", "the dearest", "by head", "it melts", "a critic shouts", "a loud sample", "walks to the end", "is told its caption",
                                  "asks the network", "a habit", "it wakes up", "throws dice", "the network thinks"])
def test_private_words_are_found(said): assert private_words(said) and not private_words("a dearth of old tales")


# --- lines

def long_lines(nb): return [(c["id"], line) for c in nb["cells"] if c["cell_type"] == "code" for line in "".join(c["source"]).splitlines() if len(line) > 100]


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_code_lines_have_at_most_100_columns(path):
    assert long_lines(read(path)) == [], "JupyterLab and the site cut longer lines off"


def test_long_lines_are_found(): assert long_lines(dict(cells=[dict(id="a", cell_type="code", source=["x"*101])]))


# --- terms

PLAIN = {"reader", "record", "control", "spread", "split", "flow", "straight", "shard", "source", "sequence", "freedom"}  # words of every day as well


def glossary():
    "Terms of the course and the lesson that explains each, from 42_course."
    terms = []
    for cell in read(NBS/"42_course.ipynb")["cells"]:
        source = "".join(cell["source"])
        if not re.match(r"TERMS (\+?=) \[", source): continue
        terms += [(ast.literal_eval(e.elts[0]).split(",")[0].strip("$ "), ast.literal_eval(e.elts[2])) for e in ast.parse(source).body[0].value.elts]
    return [(term, lesson) for term, lesson in terms if term not in PLAIN]


def too_early(term, lesson, name, nb):
    "Where lesson `name` first uses `term`, which the later `lesson` explains, if it neither explains it there nor says where it is explained."
    if lesson == "index" or name >= lesson: return []  # the front page comes first
    word = rf"\b{re.escape(term)}(s|es)?\b"
    used = [(cell, paragraph) for cell, text in texts(nb) for paragraph in text.split("\n\n") if re.search(word, plain(paragraph), re.I)]
    if not used: return []
    explained = re.search(rf"(?<![\w*])\*\*?{word}|{word} (is|are|means) (a|an|the) ", used[0][1], re.I) or lesson[:2] in named(used[0][1])
    return [] if explained else [(name, used[0][0], term)]


def named(text):
    "Numbers of the lessons that a text names: notebook 09, notebooks 06 and 09, `31_control`."
    rows = re.findall(r"(?:notebooks?|lessons?) (\d\d(?:(?:, | and | to )\d\d)*)", text)
    return {n for row in rows for n in re.findall(r"\d\d", row)} | set(re.findall(r"\b(\d\d)_\w", text))


def test_terms_are_explained_before_they_are_used():
    books = {p.stem: read(p) for p in LESSONS if p.stem[0].isdigit()}
    missing = [found for term, lesson in glossary() for name, nb in books.items() for found in too_early(term, lesson, name, nb)]
    assert len(glossary()) > 25 and missing == [], "say what it means, or in which notebook it is explained"


def test_early_terms_are_found():
    nb = dict(cells=[dict(id="a", cell_type="markdown", source=["Then adaLN-zero does it."])])
    assert too_early("adaLN-zero", "07_dit", "01_flow", nb) and not too_early("adaLN-zero", "07_dit", "08_sampling", nb)
    for said, early in (("Then adaLN-zero (notebook 07) does it.", False), ("*adaLN-zero* does it", False), ("A *short* story: adaLN-zero.", True), ("adaLN-zero (notebook 02)", True)):
        nb["cells"][0]["source"] = [said]
        assert bool(too_early("adaLN-zero", "07_dit", "01_flow", nb)) == early, said


# --- numbers

NUMBER = r"(?<![\w.,/-])\d[\d,]*\.\d+(?![\d.]|e[+-]?\d)|(?<![\w.,/-])\d+(?= ?%)|(?<![\w.,/-])\d{1,3},\d{3}(?![\d,])"
CONSTANTS = {"0.5"}
NO_RESULTS = r"(exercises?|[Ss]ections?) [\d.]+( and [\d.]+)*|([Pp]ython|[Tt]orch|since|arXiv) [\d.]+|\d{4}\.\d{5}|(?<!\d)\d\d\.\d(?= in|:)|95 % interval"
PAPER = re.compile(r"\b(paper\w*|authors?|release\w*|published|et al|A100|Stable Diffusion|ImageNet|COCO|Karpathy|CLIP)\b")


def numbers_in(text):
    "The numbers of a text, as floats."
    return {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*(?:e[+-]?\d+)?", text) if n.replace(",", "").strip(".")}


def values(tree):
    "All numbers of a JSON file; of strings only those of commands, for commits and dates hold others."
    if isinstance(tree, bool | str | None): return set()
    if isinstance(tree, int | float): return {float(tree)}
    if isinstance(tree, dict) and "command" in tree: return numbers_in(tree["command"]) | values({k: v for k, v in tree.items() if k != "command"})
    return set().union(*map(values, tree.values() if isinstance(tree, dict) else tree)) if tree else set()


def evidence(nb):
    "Numbers that the cells of a notebook contain or put out, and those of the results files that it names."
    found = set()
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        found |= numbers_in(source) if cell["cell_type"] == "code" else set()
        for o in cell.get("outputs", []): found |= numbers_in("".join(o.get("text", "")) + "".join(o.get("data", {}).get("text/plain", "")) + "".join(o.get("data", {}).get("text/markdown", "")))
        for name in re.findall(r"results/([\w./*-]*)", source):
            for file in (NBS/"results").glob(name.rstrip("/") or "*"):
                for one in ([file] if file.is_file() else file.rglob("*.json")):
                    if one.suffix == ".json": found |= values(json.loads(one.read_text(encoding="utf-8")))
    return found


def supported(number, pool, percent):
    "Whether a number is one of the pool, as far as it is written out; a percentage may be a share there, or what is missing to it."
    digits, value = len(number.partition(".")[2]), float(number.replace(",", ""))
    forms = (lambda v: v, lambda v: 100*v, lambda v: 100 - 100*v) if percent else (lambda v: v, lambda v: 100*v, lambda v: v/60, lambda v: 1000*v)
    return any(round(form(v), digits) == value for form in forms for v in pool)


def unsupported(nb, pools):
    "Numbers of the text that neither this notebook nor one that the same paragraph names has shown; a sentence about the paper has others."
    own = evidence(nb)
    for cell, text in texts(nb):
        for paragraph in text.partition("## Exercises")[0].split("\n\n"):
            pool = own.union(*(p for name, p in pools.items() if name[:2] in named(paragraph)))
            for sentence in re.split(r"(?<=[.?!]) |\n", plain(paragraph)):
                if PAPER.search(sentence): continue
                for m in re.finditer(NUMBER, re.sub(NO_RESULTS, "", sentence)):
                    if m[0] not in CONSTANTS and not supported(m[0], pool, "%" in m.string[m.end():m.end() + 2]): yield cell, m[0], sentence[:100]


@pytest.fixture(scope="module")
def pools(): return {p.stem: evidence(read(p)) for p in LESSONS}


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_numbers_of_the_text_were_shown(path, pools):
    assert list(unsupported(read(path), pools)) == [], "a number in a text is one that a cell or a results file of that lesson holds"


def test_invented_numbers_are_found():
    cells = [dict(id="a", cell_type="code", source=["x"], outputs=[dict(text=["0.934 right, 1.41e+03 s"])]),
             dict(id="b", cell_type="markdown", source=["93.4 % are right, 6.6 % are not, in 1,410 s. Unlike the paper's 18.2, ours is 71.2 (notebook 31 has 88.5, `32_x` 77.7)."])]
    assert [n for _, n, _ in unsupported(dict(cells=cells), {"31_control": {0.885}, "index": {71.2}})] == []  # that sentence is about the paper
    cells[1]["source"] = ["Ours is 71.2 (notebook 31 has 88.5, `32_x` 77.7), and 8.5 of 1,234."]
    assert [n for _, n, _ in unsupported(dict(cells=cells), {"31_control": {0.885}, "index": {71.2}})] == ["71.2", "77.7", "8.5", "1,234"]
