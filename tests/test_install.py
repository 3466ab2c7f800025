"What `pip install .` brings to an empty environment is enough for every console command, and for those of the README."
import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flowtok.shapes import Shapes, draw
from notebooks import ROOT
from world import folder

PROGRAMS = Path(sys.executable).parent  # of the environment that runs the tests, which is the README's
NETWORKS = re.compile("error: .*could not be (fetched|loaded).*connect once")  # they are on the internet only

SMALL = {  # options that make a command quick; of two that are the same the last one counts
    "flowtok-train": "--data {pictures} --steps 2 --device cpu",
    "flowtok-pretokenize": "--device cpu",
    "flowtok-sample": "--device cpu",
    "flowtok-caption": "--device cpu",
    "flowtok-evaluate": "--samples 8 --steps 1 --device cpu",
    "flowtok-study": "--steps 2",
    "flowtok-tour": "",
    "flowtok-gpu": "--device cpu"}
LEFT = {  # what a command has to leave in the folder --out; all others: the file --out itself
    "flowtok-train": ("config.json", "model.safetensors", "run.json", "curves.png", "samples"),
    "flowtok-evaluate": ("evaluation.json", "captions.json", "gallery.png"),
    "flowtok-evaluate --data": ("benchmark.json", "benchmark.md"),
    "flowtok-caption": (),
    "flowtok-study": ("tokenizer.json", "tokenizer-01.png"),
    "flowtok-tour": ("index.ipynb", "gallery.png"),
    "flowtok-gpu": ("processes.json",)}
NOT_IN_README = {  # in any of its blocks
    "flowtok-pretokenize": "flowtok-pretokenize nano FOLDER tokens",
    "flowtok-study": "flowtok-study tokenizer --seeds 0 --only 'KL 0' --out studies",
    "flowtok-gpu": "flowtok-gpu --parts processes --out card"}


def settings():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT/"settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def console_commands(): return [line.partition("=")[0] for line in settings()["console_scripts"].split()]


def requirements(*extras):
    "What the package needs, with these extras."
    lists = ["requirements", *(f"{extra}_requirements" for extra in extras)]
    return [Requirement(line) for name in lists for line in settings()[name].split()]


def unmet(requirement):
    "Whether this environment lacks it."
    try: return not requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError: return True


# --- what is imported is required

def imported(path):
    "Names of the packages that a file imports, also inside of functions; Python's and ours left out."
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"flowtok"}


def test_what_is_imported_is_required():
    "`captions` and `emoji` are the extras that code asks for, and it says so when they are missing."
    required = {canonicalize_name(r.name) for r in requirements("captions", "emoji")}
    modules = set.union(*map(imported, (ROOT/"flowtok").rglob("*.py")))
    assert {"torch", "PIL", "execnb"} <= modules
    packages = packages_distributions()
    brought = {m for m in modules if required & {canonicalize_name(name) for name in packages.get(m, ())}}
    assert sorted(modules - brought) == []


# --- environments

@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "A folder of eight captioned drawings."
    data = Shapes(8, seed=11)
    rows = [(f"{i}.png", data.texts(i)[0]) for i in range(8)]
    return folder(tmp_path_factory.mktemp("small")/"pictures", rows, lambda i: draw(data.scene(i), 32))


def checkout(path):
    "A copy of the tracked files."
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")[:-1]
    for name in names:
        (path/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/name, path/name)
    return path


def surroundings():
    "Variables of a user's shell; one thread, for machines that do other work as well."
    without = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    return {k: v for k, v in os.environ.items() if k not in without} | dict(OMP_NUM_THREADS="1")


def offline():
    "Variables of a user without a connection: tests fetch no networks of gigabytes."
    closed = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    return surroundings() | closed | dict(HF_HUB_OFFLINE="1")


def call(words, at, env=None):
    "Run a command in the folder `at`; returns its exit status, and what it printed and complained of."
    done = subprocess.run([str(w) for w in words], cwd=at, capture_output=True, text=True, env=env or offline())
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def install(place):
    "`pip install .` in an empty environment; returns the folder of its programs."
    source, programs = checkout(place/"checkout"), place/"env"/PROGRAMS.name
    subprocess.run([sys.executable, "-m", "venv", place/"env"], check=True)
    pip = [programs/"python", "-m", "pip", "install", "-q", "--no-compile", "."]  # half the time
    status, _, said = call(pip, source, surroundings())
    assert status == 0, said
    return programs


@pytest.fixture(scope="module")
def installing(tmp_path_factory):
    "An install that goes on while tests with the other environment run."
    place = tmp_path_factory.mktemp("bare")
    with ThreadPoolExecutor(1) as pool: yield pool.submit(install, place)
    shutil.rmtree(place)  # gigabytes


@pytest.fixture
def bare(installing):
    "Programs after `pip install .`."
    return installing.result()


# --- using commands

def option(words, name, default):
    "The word after `name`."
    return words[words.index(name) + 1] if name in words else default


def use(words, programs, at, pictures):
    "Run a console command with small numbers in the folder `at`, and look for what it promises to leave."
    name, words = Path(words[0]).name, [str(pictures) if w == "FOLDER" else w for w in words[1:]]
    status, said, complaints = call([programs/name, *words, *SMALL[name].format(pictures=pictures).split()], at)
    kind = "flowtok-evaluate --data" if name == "flowtok-evaluate" and "--data" in words else name
    if kind == "flowtok-evaluate --data" and status: return without_networks(complaints)
    assert status == 0, complaints
    out = at/option(words, "--out", "tour" if name == "flowtok-tour" else words[-1])
    assert [f for f in LEFT.get(kind, ("",)) if not (out/f).exists()] == [], said
    if name == "flowtok-caption": assert said.startswith(f"{words[1]}: ")


def without_networks(complaints):
    "What a command may say that cannot reach the networks it measures with."
    errors = [line for line in complaints.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and NETWORKS.match(errors[0]), complaints
    assert "install" not in complaints and "ModuleNotFoundError" not in complaints, complaints


# --- the README

def readme_blocks():
    "Headings of the README's blocks of commands, and the words of every command in them."
    text = (ROOT/"README.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.S | re.M)
    fences = [(title, *f) for title, body in sections for f in re.findall(r"^```(\w*)\n(.*?)^```", body, re.S | re.M)]
    blocks = [(title, block) for title, language, block in fences if language != "python"]
    return [(title, [c for line in block.splitlines() for c in commands(line)]) for title, block in blocks]


def commands(line):
    "The commands of a line of a shell, as lists of words."
    words = shlex.split(line, comments=True)
    ends = [i for i, w in enumerate(words) if w == "&&"]
    return [words[a:b] for a, b in zip([0, *(i + 1 for i in ends)], [*ends, len(words)]) if words]


def is_ours(words): return Path(words[0]).name.startswith("flowtok-")


BLOCKS = readme_blocks()
OURS = [(title, [c for c in block if is_ours(c)], any("pip" in c for c in block)) for title, block in BLOCKS if any(map(is_ours, block))]
OTHERS = [c for _, block in BLOCKS for c in block if not is_ours(c)]


@pytest.mark.parametrize("title, block, installs", OURS, ids=[title for title, *_ in OURS])
def test_commands_of_the_readme(title, block, installs, installing, tmp_path, pictures):
    "One after the other, as they stand there, but with few pictures and few steps; a block that installs has what it installs, the others have no more than `pip install .` brings."
    programs = PROGRAMS if installs else installing.result()
    at = checkout(tmp_path/"flowtok")
    shutil.rmtree(at/"flowtok")  # only the installed package is left
    for words in block: use(words, programs, at, pictures)


@pytest.mark.parametrize("words", OTHERS, ids=shlex.join)
def test_other_lines_of_the_readme(words, tmp_path):
    "A line that is not known here fails: give it a case."
    match words:
        case ["python3", "-m", "venv", ".venv"]: pass  # the environment that runs this
        case [".venv/bin/python", "-m", "pip", "install", "-q", "-e", ".[dev]"]:
            assert [str(r) for r in requirements("dev") if unmet(r)] == [], "run the README's install again"
        case [".venv/bin/python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]: pass  # what is running
        case [".venv/bin/jupyter", "lab", notebook]:
            assert (ROOT/notebook).exists()
            assert call([PROGRAMS/"jupyter", "lab", "--version"], tmp_path)[0] == 0
        case _: pytest.fail("no test runs this line of the README")


def test_every_console_command_is_used():
    used = {Path(words[0]).name for _, block, _ in OURS for words in block} | set(NOT_IN_README)
    assert used == set(console_commands())


# --- `pip install .`

@pytest.mark.parametrize("name", console_commands())
def test_help_after_a_bare_install(name, bare, tmp_path):
    status, said, complaints = call([bare/name, "--help"], tmp_path)
    assert status == 0, complaints
    assert said.startswith(f"usage: {name} ")


def test_the_installed_package_is_what_runs(bare, tmp_path):
    _, said, _ = call([bare/"python", "-c", "import flowtok; print(flowtok.__file__)"], tmp_path)
    assert Path(said.strip()).is_relative_to(bare.parent)


@pytest.mark.parametrize("line", NOT_IN_README.values(), ids=NOT_IN_README)
def test_a_command_after_a_bare_install(line, bare, tmp_path, pictures):
    use(shlex.split(line), bare, tmp_path, pictures)
