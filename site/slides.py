"""Makes slides of lessons: a slide for each heading, with the text and the pictures and without the code.

    python site/slides.py [NAME ...]    write slides/NAME.slides.html; without a name, of every lesson
"""
import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/"nbs"
LONG = 600  # characters of text on one slide


def pieces(text):
    "Paragraphs of a text cell in parts of at most about LONG characters, each of which becomes a slide."
    part = []
    for paragraph in text.split("\n\n"):
        if part and (paragraph.startswith("#") or sum(map(len, part)) + len(paragraph) > LONG):
            yield "\n\n".join(part)
            part = []
        part.append(paragraph)
    if any(part): yield "\n\n".join(part)


def slides(path):
    "The slides of a notebook as HTML."
    nb, cells = nbformat.read(path, as_version=4), []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for text in pieces(cell.source.partition("## Exercises")[0].strip()):
                kind = "slide" if text.startswith("#") else "subslide"
                cells.append(nbformat.v4.new_markdown_cell(text, metadata=dict(slideshow=dict(slide_type=kind))))
        elif any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])):
            cell.outputs = [o for o in cell.outputs if "image/png" in o.get("data", {})]
            cell.metadata["slideshow"] = dict(slide_type="-")
            cells.append(cell)
    nb.cells = cells
    exporter = SlidesExporter(config=Config(SlidesExporter=dict(exclude_input=True, exclude_input_prompt=True,
                                                                exclude_output_prompt=True)))
    return exporter.from_notebook_node(nb)[0]


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(p.stem for p in NBS.glob("[0-9]*.ipynb"))
    out = Path("slides")
    out.mkdir(exist_ok=True)
    for name in names:
        if not (NBS/f"{name}.ipynb").exists(): sys.exit(f"no lesson {name}: name a notebook of nbs/, such as 01_flow")
        (out/f"{name}.slides.html").write_text(slides(NBS/f"{name}.ipynb"), encoding="utf-8")
        print(out/f"{name}.slides.html")
