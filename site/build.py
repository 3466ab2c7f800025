"""Builds the documentation site from the notebooks, as they were saved, and from the comments in the code.

    python site/build.py [OUT]    write the site into the folder OUT (_site without one), and check its links

It needs what site/requirements.txt lists, and no PyTorch. OUT/index.html opens without a server.
"""
import logging
import shutil
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit

import api
import lessons
import links

SITE = Path(__file__).resolve().parent
ROOT = SITE.parent
NBS = ROOT/"nbs"
MARK = "sitemap.xml"  # what every folder that mkdocs wrote has


def notebooks(folder):
    "Notebooks that stand in `folder`, in reading order."
    return sorted(p for p in folder.glob("*.ipynb") if p.name[0] not in "_." and p.stem != "index")


def write(path, data):
    "Write text or bytes; folders are made on the way."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def write_lesson(path, pages):
    "Write the page of a notebook, its pictures and the notebook itself into the folder `pages`."
    inside = path.relative_to(NBS)
    text, files = lessons.convert(path, "../"*(len(inside.parts) - 1))
    write(pages/inside.with_suffix(".md"), text)
    write(pages/inside, path.read_bytes())
    for name, data in files.items(): write(pages/name, data)
    return {lessons.title(path): inside.with_suffix(".md").as_posix()}


def write_api(pages):
    "Write the pages of the modules into the folder `pages`."
    found = api.modules(ROOT/"flowtok")
    write(pages/"api"/"index.md", api.overview(found))
    for m in found: write(pages/"api"/f"{m.name}.md", api.page(m))
    entries = [(m.lesson, {f"flowtok.{m.name}": f"api/{m.name}.md"}) for m in found]
    return [{"All modules": "api/index.md"}] + by_part(entries)


def by_part(entries):
    "Navigation with a section for each part; `entries` are pairs of the name of a notebook and its entry."
    sections = {name: [] for name in dict.fromkeys(lessons.PARTS.values())}
    for name, entry in entries: sections[lessons.part(name)].append(entry)
    return [{name: section} for name, section in sections.items() if section]


def write_pages(pages):
    "Write everything that mkdocs reads into the folder `pages`; returns the navigation."
    shutil.copytree(SITE/"assets", pages/"assets")
    write_lesson(NBS/"index.ipynb", pages)
    parts, solutions = (by_part([(p.stem, write_lesson(p, pages)) for p in notebooks(folder)]) for folder in (NBS, NBS/"solutions"))
    groups = [{name: group} for name, group in (("Solutions", solutions), ("API", write_api(pages))) if group]
    return [{"Tour": "index.md"}, *parts, *groups]


def address():
    "Where settings.ini says that the site is served."
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT/"settings.ini", encoding="utf-8")
    return settings["DEFAULT"]["doc_host"] + settings["DEFAULT"]["doc_baseurl"] + "/"


def build(out):
    "Build the site into the folder `out`."
    from mkdocs.commands.build import build as mkdocs_build
    from mkdocs.config import load_config
    with tempfile.TemporaryDirectory() as pages:
        nav = write_pages(Path(pages))
        mkdocs_build(load_config(str(SITE/"mkdocs.yml"), docs_dir=pages, site_dir=str(out), site_url=address(), nav=nav))


def wanted(arguments):
    "The folder that the command line asks for."
    if len(arguments) > 1 or arguments and arguments[0].startswith("-"): sys.exit(__doc__)
    out = Path(arguments[0] if arguments else ROOT/"_site").resolve()
    if out.exists() and not out.is_dir(): sys.exit(f"{out} is a file: give a folder for the site")
    if out.is_dir() and any(out.iterdir()) and not (out/MARK).exists(): sys.exit(f"{out} holds other files, which the site would replace: give a new or an empty folder")
    return out


def main(arguments):
    "Build, check, and say how it went."
    out = wanted(arguments)
    logging.basicConfig(format="%(message)s")  # mkdocs speaks of what it does not like
    try: build(out)
    except ModuleNotFoundError as e: sys.exit(f"{e.name} is not installed: python -m pip install -r site/requirements.txt")
    pages, count, broken = links.check(out, urlsplit(address()).path)
    for line in broken: print(line)
    print(f"{out.name}: {pages} pages, {count} links inside the site, {len(broken)} broken")
    sys.exit(bool(broken))


if __name__ == "__main__": main(sys.argv[1:])
