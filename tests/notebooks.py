"""Notebooks as files: run them and keep what they show, make the README, find them.

    python tests/notebooks.py run [NAME ...]   execute notebooks top to bottom and save their outputs
    python tests/notebooks.py times            what each took when it was last run, and what its header says
    python tests/notebooks.py readme           make README.md from index.ipynb
"""
import base64
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/"nbs"


def notebooks():
    "Paths of all notebooks that are run, in reading order."
    return sorted(p for p in NBS.rglob("*.ipynb") if not p.name.startswith(("_", ".")) and ".ipynb_checkpoints" not in p.parts)


def read(path): return json.loads(Path(path).read_text(encoding="utf-8"))


def write(path, nb): Path(path).write_text(json.dumps(nb, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def fingerprint(nb):
    "Sixteen letters that tell the code of a notebook from any other."
    return hashlib.sha256("\0".join("".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "code").encode()).hexdigest()[:16]


def without_outputs(nb):
    for cell in nb["cells"]:
        if cell["cell_type"] == "code": cell["outputs"] = []
    return nb


def execute(path):
    "Execute the notebook at `path` and save it with its outputs."
    sys.argv[1:] = ["run", path.stem]  # what records tell: the command that was given, and no path of this machine
    os.environ["TQDM_DISABLE"] = "1"  # no bars in saved outputs
    with contextlib.chdir(path.parent):  # before the import, so that Matplotlib finds the folder's matplotlibrc
        from execnb.shell import CaptureShell
        CaptureShell(mpl_format="png").execute(path, path, exc_stop=True)


def run(path):
    "Execute the notebook at `path` in a process of its own; save its outputs, how long it took, and of which code they are."
    from nbdev.clean import nbdev_clean
    begun, before = time.perf_counter(), path.read_text(encoding="utf-8")
    write(path, without_outputs(read(path)))  # a cell that has nothing to show any more would keep what it showed
    done = False
    try: done = subprocess.run([sys.executable, __file__, "execute", str(path)]).returncode == 0
    finally:
        if not done: path.write_text(before, encoding="utf-8")  # also when it is interrupted
    if not done: sys.exit(f"{path.name} failed")
    nb = read(path)
    seconds = round(time.perf_counter() - begun)
    nb["metadata"]["doc"] = dict(code=fingerprint(nb), seconds=seconds)
    promise(nb, seconds)
    forget_widgets(nb)
    shrink(nb)
    write(path, nb)
    nbdev_clean(str(path))


TIME = re.compile(r"[Rr]uns in (\d+) seconds on a laptop")


def promised(nb):
    "Seconds that the header of a notebook says it takes, or None."
    said = TIME.search("".join(nb["cells"][0]["source"]))
    return int(said[1]) if said else None


def promise(nb, seconds):
    "Write into the header how long the notebook takes."
    unit = 1 if seconds < 10 else 5 if seconds < 60 else 10
    shown = str(max(1, round(seconds/unit))*unit)
    nb["cells"][0]["source"] = [TIME.sub(lambda m: m[0].replace(m[1], shown), line) for line in nb["cells"][0]["source"]]


def forget_widgets(nb):
    "Take widgets out of the outputs: without a kernel they cannot be shown."
    for cell in nb["cells"]:
        if "outputs" in cell: cell["outputs"] = [o for o in cell["outputs"] if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})]


def shrink(nb):
    "Store pictures with 256 colours, large ones with 96, where that is smaller. Palettes cover rare colours too: a yellow shape stays yellow."
    from PIL import Image
    for data in (o["data"] for c in nb["cells"] for o in c.get("outputs", []) if "image/png" in o.get("data", {})):
        before = data["image/png"] if isinstance(data["image/png"], str) else "".join(data["image/png"])
        small = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(before))).convert("RGB").quantize(256 if len(before) < 25_000 else 96, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        after = base64.b64encode(small.getvalue()).decode()
        if len(after) < len(before): data["image/png"] = after


def readme(folder=ROOT):
    "Write README.md and its pictures, made from index.ipynb, into `folder`; code that starts with `#| hide` is left out."
    from nbconvert import MarkdownExporter
    import nbformat
    from traitlets.config import Config
    nb = nbformat.read(NBS/"index.ipynb", as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code" and cell.source.startswith("#| hide"): cell.metadata["tags"] = ["hide-input"]
    nb.metadata["language_info"] = dict(name="python")
    config = Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags={"hide-input"}))
    text, resources = MarkdownExporter(config=config).from_notebook_node(nb, resources={"output_files_dir": "nbs/images"})
    for name, data in resources["outputs"].items():
        (Path(folder)/name).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder)/name).write_bytes(data)
    note = "<!-- made from nbs/index.ipynb by tests/notebooks.py: edit the notebook -->\n"
    (Path(folder)/"README.md").write_text(note + text.strip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", *names]:
            if strange := set(names) - {path.stem for path in notebooks()}: sys.exit(f"no notebook {', '.join(sorted(strange))}: give names without folder and ending")
            for path in notebooks():
                if not names or path.stem in names:
                    print(path.relative_to(ROOT), flush=True)
                    run(path)
        case ["execute", path]: execute(Path(path))
        case ["times"]:
            for path in notebooks(): print(f"{path.stem:28} {read(path)['metadata'].get('doc', {}).get('seconds', '?'):>5} s measured {promised(read(path)) or '?':>5} s promised")
        case ["readme"]: readme()
        case _: sys.exit(__doc__)
