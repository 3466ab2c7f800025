"Small data that tests share: folders of captioned pictures, tar files, a camera's note."
import io
import json
import tarfile
from pathlib import Path

from PIL import Image

COLOURS = ("red", "lime", "blue", "black", "white", "cyan", "pink", "grey")


def square(i=0, size=40): return Image.new("RGB", (size, size), COLOURS[i % len(COLOURS)])


def folder(path, rows, draw=square):
    "A folder with a metadata.jsonl: `rows` are pairs of a file name and a caption."
    path.mkdir(parents=True, exist_ok=True)
    for i, (name, _) in enumerate(rows):
        (path/name).parent.mkdir(parents=True, exist_ok=True)
        draw(i).save(path/name)
    lines = [json.dumps(dict(file_name=name, text=text)) + "\n" for name, text in rows]
    (path/"metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return path


def squares(path, n=8, caption="a {} square"):
    "A folder of `n` squares, each with its colour in the caption."
    return folder(path, [(f"{i}.png", caption.format(COLOURS[i % 8])) for i in range(n)])


def jpeg(i=0, **kw):
    "Bytes of a JPEG."
    file = io.BytesIO()
    square(i).save(file, "JPEG", **kw)
    return file.getvalue()


def tar(path, members):
    "A tar file of pairs of a name and bytes."
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def sideways(image, path, turn=6):
    "Save `image` as a camera does that was held sideways; viewers show it upright."
    back = {3: "ROTATE_180", 6: "ROTATE_90", 8: "ROTATE_270"}[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    image.transpose(Image.Transpose[back]).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path
