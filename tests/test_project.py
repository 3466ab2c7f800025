"The notebooks run, and everything made from them is what they make today."
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache

import pytest

from notebooks import NBS, ROOT, notebooks, readme


def call(*args, **kw):
    "Run a command of this Python's environment; returns what it printed."
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, **kw)
    return done.returncode, done.stdout + done.stderr


def children(): return sum(os.times()[2:4])  # seconds of a core that processes took which have ended


@cache
def nbdev_test(solutions):
    "Run `nbdev_test` on all lessons, or all solutions, two at a time with one thread each; returns its exit status, what it printed and the seconds of a core it took."
    what = dict(path="nbs/solutions") if solutions else dict(path="nbs", skip_folder_re="^[_.]|^solutions$")
    begun = children()
    status, said = call("-c", f"from nbdev.test import nbdev_test; nbdev_test(do_print=True, n_workers=2, timing=True, **{what})", cwd=ROOT, env=os.environ | dict(OMP_NUM_THREADS="1"))
    return status, said, children() - begun


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_notebook_runs(path):
    status, said, _ = nbdev_test(path.parent.name == "solutions")
    assert f"Completed {path}" in said, f"nbdev_test never ran {path.name}"
    failed = said.partition("Failed On The Following Notebooks")[2]
    assert path.name not in failed, said
    assert status == 0 or failed, said


@pytest.mark.skipif(os.name == "nt", reason="Windows does not count the seconds of processes that have ended")
@pytest.mark.parametrize("solutions, minutes", [(False, 15), (True, 4)], ids=["lessons", "solutions"])
def test_notebooks_are_quick(solutions, minutes):
    "Minutes of two cores, counted as seconds of a core, of which it takes more when other tests run beside them."
    _, said, seconds = nbdev_test(solutions)
    assert 0 < seconds < 2*60*minutes, f"{seconds:.0f} s of a core; {said}"


KEPT_BY_HAND = ("flowtok/__init__.py", "flowtok/experiments/__init__.py")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    "A copy of the notebooks, exported and cleaned."
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(NBS, folder/"nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT/"settings.ini", folder)
    for name in KEPT_BY_HAND:
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/name, folder/name)
    status, said = call("-c", "from nbdev.doclinks import nbdev_export; nbdev_export(); from nbdev.clean import nbdev_clean; nbdev_clean()", cwd=folder)
    assert status == 0, said
    return folder


def test_export_leaves_no_difference(exported):
    names = {str(p.relative_to(folder/"flowtok")) for folder in (exported, ROOT) for p in (folder/"flowtok").rglob("*.py")}
    same, different, missing = filecmp.cmpfiles(exported/"flowtok", ROOT/"flowtok", names, shallow=False)
    assert not different and not missing, f"run nbdev_export: {different + missing}"
    assert len(same) > 20


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_notebook_is_clean_and_executed(path, exported):
    assert (exported/path.relative_to(ROOT)).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), "run nbdev_clean"
    assert path.stat().st_size < 300_000
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [o for c in cells for o in c.get("outputs", [])]
    assert outputs, "saved without outputs: python tests/notebooks.py run " + path.stem
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert "widget-view" not in json.dumps(outputs), "a widget was saved: python tests/notebooks.py run " + path.stem
    said = [o.get("text") or [v for kind, v in o.get("data", {}).items() if kind.startswith("text/")] for o in outputs]
    assert not re.search(r"/(home|Users|tmp|root)/\w", json.dumps(said))


def test_solutions_have_the_colours_of_the_lessons():
    assert (ROOT/"nbs/matplotlibrc").read_text() == (ROOT/"nbs/solutions/matplotlibrc").read_text()


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_cells_are_short(path):
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert not [c["id"] for c in cells if "".join(c["source"]).count("\n") >= 40], "at most 40 lines a cell"


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_no_output_is_swallowed(path):
    "The shell that runs the notebooks drops what a cell prints when the cell ends in a semicolon."
    sources = ["".join(c["source"]).rstrip() for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert not [s for s in sources if "print(" in s and s.endswith(";")]


def test_readme_is_made_from_index(tmp_path):
    readme(tmp_path)
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(made) > 1
    same, different, missing = filecmp.cmpfiles(tmp_path, ROOT, made, shallow=False)
    assert not different and not missing, "run python tests/notebooks.py readme"


def test_pyflakes():
    status, said = call("-m", "pyflakes", str(ROOT/"flowtok"))
    assert status == 0, said


def test_records_name_no_path_of_a_machine():
    "A command in a record can be given anywhere."
    def commands(x):
        if isinstance(x, dict): yield from ([x["command"]] if isinstance(x.get("command"), str) else []); x = list(x.values())
        if isinstance(x, list):
            for v in x: yield from commands(v)
    files = [*(ROOT/"nbs"/"results").rglob("*.json"), *(ROOT/"flowtok"/"weights").rglob("*.json")]
    found = [(f.name, c) for f in files for c in commands(json.loads(f.read_text()))]
    assert len(found) > 20 and not [c for c in found if any(w.startswith(("/", "~")) for w in c[1].split())]


def test_saved_pictures_keep_rare_colours():
    "A small yellow shape in a picture of many blues stays yellow."
    import base64
    import io

    import numpy as np
    from PIL import Image
    from notebooks import shrink
    blues = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)//np.array([4, 2, 1], np.uint8)
    blues[100:115, 100:115] = (255, 230, 20)
    picture = io.BytesIO()
    Image.fromarray(blues).save(picture, "PNG")
    output = {"image/png": base64.b64encode(picture.getvalue()).decode()}
    before = len(output["image/png"])
    shrink(dict(cells=[dict(outputs=[dict(data=output)])]))
    after = np.asarray(Image.open(io.BytesIO(base64.b64decode(output["image/png"]))).convert("RGB")).astype(int)
    assert len(output["image/png"]) < before/2 and np.abs(after[105, 105] - (255, 230, 20)).max() < 40


def test_a_notebook_that_is_run_keeps_no_old_output(tmp_path):
    "And one that fails stays as it was."
    import json
    from notebooks import run
    def cell(source): return dict(cell_type="code", id=f"c{len(source)}", metadata={}, source=[source], execution_count=None, outputs=[dict(output_type="stream", name="stdout", text=["old"])])
    path = tmp_path/"small.ipynb"
    def written(*sources):
        header = dict(cell_type="markdown", id="header", metadata={}, source=["Runs in 5 seconds on a laptop."])
        path.write_text(json.dumps(dict(cells=[header, *map(cell, sources)], metadata={}, nbformat=4, nbformat_minor=5)), encoding="utf-8")
        return path.read_text(encoding="utf-8")
    written("x = 1", "print(x + 1)")
    run(path)
    silent, prints = json.loads(path.read_text(encoding="utf-8"))["cells"][1:]
    assert silent["outputs"] == [] and "".join(prints["outputs"][0]["text"]) == "2\n"
    before = written("print(1)", "1/0")
    with pytest.raises(SystemExit, match="small.ipynb failed"): run(path)
    assert path.read_text(encoding="utf-8") == before
