"""Words and numbers of the lessons: the field's terms, each explained before it is used, lines that can be read, and numbers that a cell made.

    python -m pytest -q tests/test_words.py
"""
import ast
import json
import re

import pytest
from notebooks import NBS, ROOT, notebooks, read

LESSONS = [p for p in notebooks() if p.parent == NBS]

# --- private words

PRIVATE = {
    r"\bknobs?\b": "modulation", r"\bdear(er|est)?\b": "expensive, costs more", r"\bby head\b": "by hand", r"\bmelt(s|ed|ing)?\b": "blend",
    r"\bshouts?\b": "is large", r"\b(loud|quiet)(er|est)?\b": "large, small (of a loss)", r"\bwalk(s|ed|ing|ers?)?\b": "integrate, follow",
    r"\b(is|are|was|were|be|been|being) (asked|told)\b": "evaluated, conditioned, distinguished", r"\bask(s|ed|ing)? the network\b": "evaluate the network",
    r"\bhabits?\b": "mean, practice", r"\bwakes? up\b": "gets a gradient", r"\bdice\b": "is random", r"\bthe network (thinks|wants|believes)\b": "a plain verb"}


def private_words(text):
    "The private words in a text, with the field's."
    return [f"{found[0]!r}: say {instead}" for word, instead in PRIVATE.items() for found in re.finditer(word, text, re.I)]


def prose(nb):
    "The text cells of a notebook, without code, formulas and addresses."
    for cell in nb["cells"]:
        if cell["cell_type"] != "markdown": continue
        text = re.sub(r"```.*?```", " ", "".join(cell["source"]), flags=re.S)
        yield cell["id"], re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|https?://\S+", " ", text, flags=re.S)


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_no_private_words(path):
    assert [(cell, word) for cell, text in prose(read(path)) for word in private_words(text)] == []


def test_private_words_are_found():
    assert private_words("its dearest knob") and private_words("the network is told its caption") and not private_words("a dearth of told tales")


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
    "Paragraphs of lesson `name` that use `term`, which the later `lesson` explains, and neither explain it nor say where it is explained."
    if lesson == "index" or name >= lesson: return []  # the front page comes first
    word, first = re.compile(rf"\b{re.escape(term)}\b", re.I), None
    for cell, text in prose(nb):
        for paragraph in text.split("\n\n"):
            if not word.search(paragraph): continue
            first = first or (cell, paragraph)
    if not first: return []
    explained = re.search(rf"notebooks? \d\d|\d\d_|\*\*?[^*]*{re.escape(term)}|{re.escape(term)} (is|are|means) ", first[1], re.I)
    return [] if explained else [(name, first[0], term)]


def test_terms_are_explained_before_they_are_used():
    books = {p.stem: read(p) for p in LESSONS if p.stem[0].isdigit()}
    missing = [found for term, lesson in glossary() for name, nb in books.items() for found in too_early(term, lesson, name, nb)]
    assert len(glossary()) > 25 and missing == [], "say what it means, or in which notebook it is explained"


def test_early_terms_are_found():
    nb = dict(cells=[dict(id="a", cell_type="markdown", source=["Then adaLN-zero does it."])])
    assert too_early("adaLN-zero", "07_dit", "01_flow", nb) and not too_early("adaLN-zero", "07_dit", "08_sampling", nb)
    nb["cells"][0]["source"] = ["Then adaLN-zero (notebook 07) does it."]
    assert not too_early("adaLN-zero", "07_dit", "01_flow", nb)


# --- numbers

NUMBER = r"(?<![\w.,/])\d[\d,]*\.\d+(?!\.?\d|e-?\d)|(?<![\w.,/])\d+(?= ?%)"
CONSTANTS = {"0.5", "95", "2.0", "100", "0.0", "1.0", "50", "10"}  # halves, wholes, the interval of 95 %, and a tenth
PAPER = re.compile(r"\b(paper|authors?|release\w*|published|et al|A100|Stable Diffusion|CLIP's)\b")


def numbers_in(text):
    "Numbers as floats, with and without their sign and percent."
    return {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*(?:e-?\d+)?", text) if n.replace(",", "").strip(".")}


def values(tree):
    "All numbers of a JSON file."
    if isinstance(tree, bool): return set()
    if isinstance(tree, (int, float)): return {float(tree)}
    if isinstance(tree, str): return numbers_in(tree)
    return set().union(*map(values, tree.values() if isinstance(tree, dict) else tree)) if tree else set()


def evidence(nb):
    "Numbers that the cells of a notebook contain or put out, and those of the results files that they name."
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


def supported(number, pool):
    "Whether a number is one of the pool, as far as it is written out; a percentage may be a share there."
    digits, value = len(number.partition(".")[2]), float(number.replace(",", ""))
    return any(round(v*f, digits) == value for v in pool for f in (1, 100, 0.01) if abs(v*f - value) <= 1)


def unsupported(nb, pools):
    "Numbers of the text that neither this notebook nor one that the same paragraph names has shown."
    for cell, text in prose(nb):
        for paragraph in text.partition("## Exercises")[0].split("\n\n"):
            if PAPER.search(paragraph): continue
            pool = set().union(evidence(nb), *(p for name, p in pools.items() if re.search(rf"(?<!\d){name[:2]}(?!\d)", paragraph)))
            for number in re.findall(NUMBER, re.sub(r"(exercises?|[Ss]ections?) [\d.]+( and [\d.]+)*|([Pp]ython|[Tt]orch|since|arXiv) [\d.]+|\d{4}\.\d{5}|(?<!\d)\d\d\.\d(?= in|:)", "", paragraph)):
                if number not in CONSTANTS and not supported(number, pool): yield cell, number, paragraph[:80]


@pytest.fixture(scope="module")
def pools(): return {p.stem: evidence(read(p)) for p in LESSONS}


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_numbers_of_the_text_were_shown(path, pools):
    assert list(unsupported(read(path), pools)) == [], "a number in a text is one that a cell or a results file of that lesson holds"


def test_invented_numbers_are_found():
    nb = dict(cells=[dict(id="a", cell_type="code", source=["x"], outputs=[dict(text=["0.934 right"])]), dict(id="b", cell_type="markdown", source=["93.4 % are right, and 71.2 % are not."])])
    assert [n for _, n, _ in unsupported(nb, {})] == ["71.2"]
