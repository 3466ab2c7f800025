"Every exercise has a check, a worked solution and a wrong answer that is refused; headers keep their promises."
import json
import re

import pytest

from flowtok.exercises import check_of
from notebooks import NBS, fingerprint, notebooks, promised, read

SLACK = 1.5  # a header may be wrong by this factor, and by two seconds


def lessons():
    "Notebooks below 40 by their two digits: those that share a number are one lesson."
    found = {}
    for p in notebooks():
        if p.parent == NBS and re.match(r"[0-3]\d_", p.name): found.setdefault(p.name[:2], []).append(p)
    return found


LESSONS = lessons()


def exercises(path):
    "Numbers of the exercises in the last cell of a notebook, such as 06.1."
    last = "".join(read(path)["cells"][-1]["source"])
    return re.findall(r"^\d\. \*\*(\d\d\.\d)\*\* \((?:easy|medium|hard)\)", last, re.M)


def with_exercises(number):
    "Names of the notebooks of a lesson that have exercises."
    return [p.stem for p in LESSONS[number] if exercises(p)]


def code_of(path): return "\n".join("".join(c["source"]) for c in read(path)["cells"] if c["cell_type"] == "code")


def test_every_lesson_has_its_solutions():
    "No notebook of solutions belongs to nothing, either."
    assert len(LESSONS) > 20
    named = [name for number in LESSONS for name in with_exercises(number)]
    assert {f"{name}_solved" for name in named} == {p.stem for p in (NBS/"solutions").glob("*.ipynb")}


@pytest.mark.parametrize("number", LESSONS)
def test_every_exercise_has_a_check_a_solution_and_a_wrong_answer(number):
    assert len(with_exercises(number)) == 1, "the exercises of a lesson stand in one of its notebooks"
    name, = with_exercises(number)
    keys = exercises(NBS/f"{name}.ipynb")
    assert keys == [f"{number}.{k}" for k in range(1, len(keys) + 1)] and 3 <= len(keys) <= 8
    solved = code_of(NBS/"solutions"/f"{name}_solved.ipynb")
    for key in keys:
        assert callable(check_of(key))
        for call in ("check", "refuses"): assert f'{call}("{key}", ' in solved, f"{name}_solved has no {call} of {key}"


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_outputs_are_of_this_code_and_the_header_tells_the_time(path):
    nb = read(path)
    made = nb["metadata"].get("doc", {})
    assert made.get("code") == fingerprint(nb), f"the outputs are of other code: python tests/notebooks.py run {path.stem}"
    said, took = promised(nb), made["seconds"]
    if path.stem == "index": return
    assert said, "the header does not say how long it takes: Runs in 40 seconds on a laptop."
    assert took/SLACK - 2 <= said <= took*SLACK + 2, f"the header says {said} seconds, it took {took}"


def test_a_changed_cell_is_stale():
    nb = read(notebooks()[0])
    before = fingerprint(nb)
    nb = json.loads(json.dumps(nb))
    next(c for c in nb["cells"] if c["cell_type"] == "code")["source"].append("\n1 + 1")
    assert fingerprint(nb) != before
