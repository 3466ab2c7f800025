"Every exercise has a check, a worked solution and a wrong answer that is refused; headers keep their promises."
import json
import re

import pytest

from flowtok.exercises import check_of
from notebooks import NBS, fingerprint, notebooks, promised, read

LESSONS = [p for p in notebooks() if p.parent == NBS and re.match(r"\d\d_", p.name) and p.stem not in ("30_paper_map", "31_exercises", "32_course")]
SLACK = 1.5  # a header may be wrong by this factor, and by two seconds


def exercises(path):
    "Numbers of the exercises in a lesson, such as 06.1."
    last = "".join(read(path)["cells"][-1]["source"])
    return re.findall(r"^\d\. \*\*(\d\d\.\d)\*\* \((?:easy|medium|hard)\)", last, re.M)


def test_lessons_are_numbered_and_each_has_its_solutions():
    numbers = [p.stem[:2] for p in LESSONS]
    assert numbers == [f"{i:02}" for i in range(len(numbers))] and len(numbers) > 20
    assert {f"{p.stem}_solved" for p in LESSONS} == {p.stem for p in (NBS/"solutions").glob("*.ipynb")}


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_every_exercise_has_a_check_a_solution_and_a_wrong_answer(path):
    keys, lesson = exercises(path), path.stem[:2]
    assert keys == [f"{lesson}.{k}" for k in range(1, len(keys) + 1)] and 3 <= len(keys) <= 5
    solved = "\n".join("".join(c["source"]) for c in read(NBS/"solutions"/f"{path.stem}_solved.ipynb")["cells"] if c["cell_type"] == "code")
    for key in keys:
        assert callable(check_of(key))
        for call in ("check", "refuses"): assert f'{call}("{key}", ' in solved, f"{path.stem}_solved has no {call} of {key}"


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
