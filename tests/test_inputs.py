"What people bring is read right, or refused in one clear line; nothing is silently something else."
import json
import os
import random
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flowtok
from flowtok import cli, recipes
from flowtok.captioned import DataError, open_image
from flowtok.config import preset
from flowtok.core import generator
from flowtok.data import open_data
from flowtok.pictures import to_tensor
from flowtok.shapes import Scene, Shape, Shapes, draw
from flowtok.text import TextEncoder, tokenize, vocabulary_of
from world import COLOURS, folder, jpeg, sideways, square, squares, tar

CAPTION = "a small red circle"
TINY = dict(steps=2, device="cpu", progress=False)


@pytest.fixture(scope="module")
def pipe(): return flowtok.load("nano", device="cpu")


@pytest.fixture
def corner(): return draw(Scene("white", (Shape("triangle", "red", "small", 0.345, 0.345),)), 256)


def colours(data):
    "The colour and the captions of every item."
    names = {tuple(Image.new("RGB", (1, 1), c).getpixel((0, 0))): c for c in COLOURS}
    pixels = [tuple(round(255*float(v)) for v in data[i]["image"].mean((1, 2))) for i in range(len(data))]
    return [(names.get(p, p), data.texts(i)) for i, p in enumerate(pixels)]


def refused(monkeypatch, capsys, command, *words):
    "The one line that `command` ends with; anything else fails."
    monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, words)])
    with pytest.raises(SystemExit) as stop: command()
    said = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 1 and said[-1].startswith("error: ") and "Traceback" not in "".join(said), said
    return said[-1]


# --- pictures

@pytest.mark.parametrize("turn", [3, 6, 8])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_a_camera_held_sideways(pipe, corner, tmp_path, turn, ending):
    "EXIF orientation: by path, as an open image, in a folder, in a tar."
    path, straight = sideways(corner, tmp_path/f"phone{ending}", turn), to_tensor(open_image(corner, 32))
    folder(tmp_path/"data", [("a.png", "a")])
    path.rename(tmp_path/"data"/path.name)
    (tmp_path/"data"/"metadata.jsonl").write_text(json.dumps(dict(file_name=path.name, text="a")))
    (tmp_path/"data"/"a.png").unlink()
    path = tmp_path/"data"/path.name
    kinds = [open_image(path, 32), open_image(Image.open(path), 32), open_data(tmp_path/"data", 32).image(0)]
    if ending != ".tif": kinds.append(open_data(tar(tmp_path/"a.tar", [(f"1{ending}", path.read_bytes()), ("1.txt", b"a")]), 32, progress=False).image(0))
    for image in kinds: assert (to_tensor(image) - straight).abs().mean() < 0.01
    assert pipe.image_to_text(path) == pipe.image_to_text(corner)


def test_an_uploaded_phone_picture_is_upright(corner, tmp_path):
    from flowtok.playground import uploaded
    path = sideways(corner, tmp_path/"phone.png")
    assert torch.equal(to_tensor(uploaded([dict(name="phone.png", content=path.read_bytes())])), to_tensor(corner))


@pytest.mark.parametrize("image, message", [
    (torch.full((3, 8, 8), 128.0), "128 to 128"), (torch.full((3, 8, 8), -1.0), "-1 to -1"), (torch.full((3, 8, 8), float("nan")), "nan"),
    (torch.zeros(4, 8, 8), "(3,h,w)"), (np.zeros((8, 8, 3)), "float64"), (Image.new("F", (8, 8)), "mode F"), (Image.new("I", (8, 8)), "mode I"),
    (".", "it is a folder"), ("nowhere.png", "there is no such file"), (b"no picture", "not a readable image"), (5, "not a readable image")])
def test_a_range_is_never_guessed(image, message):
    with pytest.raises(DataError) as error: open_image(image, 8)
    assert message in str(error.value)


def test_bytes_are_bytes():
    "uint8 tensors and arrays are 0 to 255, wherever images are taken."
    from flowtok.benchmarks import to_bytes
    from flowtok.shapes import read_scene
    scene = Shapes(1).scene(0)
    array = np.asarray(draw(scene, 32))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for image in (array, tensor): assert torch.equal(to_tensor(open_image(image, 32)), to_tensor(draw(scene, 32)))
    assert read_scene(tensor) == read_scene(draw(scene, 32)) and read_scene(tensor) is not None
    assert torch.equal(to_bytes(tensor), tensor)
    with pytest.raises(ValueError, match="divide bytes by 255"): flowtok.load("nano", device="cpu").image_tokenizer.encode(tensor[None])


def test_figures_show_pictures_as_they_are(corner, tmp_path):
    "Grey is no rainbow, a phone's picture stands, the user's settings of Matplotlib turn nothing."
    import matplotlib
    from flowtok.pictures import show_images
    phone = Image.open(sideways(corner, tmp_path/"phone.png"))
    with matplotlib.rc_context({"image.origin": "lower", "image.aspect": "auto"}): figure = show_images([Image.new("L", (4, 4), 128), phone, corner])
    grey, turned, straight = (ax.images[0] for ax in figure.axes)
    assert (grey.get_array() == 128).all() and (turned.get_array() == straight.get_array()).all()
    assert straight.origin == "upper" and figure.axes[0].get_aspect() == 1


def test_clear_pixels_of_sixteen_bits_are_white(tmp_path):
    Image.fromarray(np.array([[0, 30000], [30000, 65535]], dtype=np.uint16)).save(tmp_path/"a.png", transparency=30000)
    assert (to_tensor(Image.open(tmp_path/"a.png"))[0]*255).round().int().tolist() == [[0, 255], [255, 255]]


@pytest.mark.parametrize("image", [torch.zeros(3, 0, 0), np.zeros((0, 0, 3), np.uint8)])
def test_no_pixels_no_caption(pipe, image):
    with pytest.raises(DataError, match="not a readable image"): pipe.image_to_text([image])


def test_dropout_plays_no_part_in_drawing():
    p = flowtok.load("nano", device="cpu")
    for layer in p.flow.projector.layers: layer.dropout.p = 0.5
    quiet = p.images([CAPTION], 2)
    p.train()
    assert torch.equal(p.images([CAPTION], 2), quiet) and p.training


# --- seeds and defaults

@pytest.mark.parametrize("zero", [np.int64(0), np.uint8(0), torch.tensor(0), np.array(0), 0.0, False])
def test_a_whole_number_of_any_kind_is_the_same_seed(pipe, zero):
    assert torch.equal(pipe.images([CAPTION], 2, seed=zero), pipe.images([CAPTION], 2, seed=0))
    assert torch.equal(torch.rand(3, generator=generator(zero, "a")), torch.rand(3, generator=generator(0, "a")))
    assert Shapes(3, seed=zero).texts(1) == Shapes(3, seed=0).texts(1)


@pytest.mark.parametrize("seed", [0.5, "0", None, float("nan"), [0], torch.tensor(0.5)])
def test_what_is_no_whole_number_is_no_seed(pipe, seed):
    with pytest.raises(ValueError, match="seed must be a whole number"): pipe.images([CAPTION], 2, seed=seed)
    with pytest.raises(ValueError, match="seed must be a whole number"): Shapes(3, seed=seed)


@pytest.fixture
def other_defaults():
    "float64, and a device on which nothing can be computed."
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def test_defaults_of_the_user_change_nothing(pipe, request, tmp_path):
    picture, data = square(2), squares(tmp_path/"data")
    drawn, said = pipe.images([CAPTION], 2), pipe.image_to_text([picture], temperature=0.5, seed=3)
    before = recipes.train(data=str(data), out=tmp_path/"before", **TINY)
    request.getfixturevalue("other_defaults")
    again = flowtok.load("nano", device="cpu")
    for p in (pipe, again):
        assert torch.equal(p.images([CAPTION], 2), drawn) and p.image_to_text([picture], temperature=0.5, seed=3) == said
    after = recipes.train(data=str(data), out=tmp_path/"after", **TINY)
    for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True): assert torch.equal(a, b)
    assert torch.get_default_dtype() == torch.float64 and torch.get_default_device().type == "meta"


def random_states(): return torch.rand(1).item(), random.random(), float(np.random.rand())


def seed_user():
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)


def test_random_states_of_the_user_stay(pipe, tmp_path):
    squares(tmp_path/"data")
    actions = dict(load=lambda: flowtok.load("nano"), draw=lambda: pipe.images([CAPTION], 2), say=lambda: pipe.image_to_text(square(), temperature=1),
                   train=lambda: recipes.train(data=str(tmp_path/"data"), out=tmp_path/"run", **TINY))
    for name, act in actions.items():
        seed_user()
        act()
        after = random_states()
        seed_user()
        assert after == random_states(), name


# --- numbers that are none

@pytest.mark.parametrize("options", [dict(guidance=float("nan")), dict(guidance=float("inf")), dict(guidance="2"), dict(steps=2.5), dict(steps="5"), dict(steps=0),
                                     dict(batch=0), dict(batch=1.5), dict(guidance=1e38)])
def test_odd_numbers_are_refused(pipe, options):
    with pytest.raises((ValueError, FloatingPointError)) as error: pipe.text_to_image([CAPTION], **options) if "batch" not in options else pipe.images([CAPTION], **options)
    assert next(iter(options)) in str(error.value)


@pytest.mark.parametrize("options", [dict(temperature=-1), dict(temperature=float("nan")), dict(temperature="1"), dict(steps=0), dict(batch=0), dict(seed=0.5, temperature=1)])
def test_odd_numbers_for_captions_are_refused(pipe, options):
    with pytest.raises(ValueError) as error: pipe.image_to_text([square()], **options)
    assert next(iter(options)) in str(error.value)


@pytest.mark.parametrize("options, message", [(dict(dtype="bf16"), "unknown dtype"), (dict(dtype=torch.int8), "unknown dtype"), (dict(device=None), "unknown device"), (dict(model=None), "a model is a name")])
def test_load_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message): flowtok.load(**dict(model="nano") | options)


def test_a_dtype_may_be_named():
    pipe = flowtok.load("nano", device="cpu", dtype="bfloat16")
    assert pipe.dtype == torch.bfloat16
    assert pipe.images([CAPTION], 2).dtype == torch.float32


@pytest.mark.parametrize("words", [["--guidance", "nan"], ["--guidance", "inf"], ["--steps", "0"]])
def test_no_picture_of_no_number(words, tmp_path, monkeypatch, capsys):
    assert words[0][2:] in refused(monkeypatch, capsys, cli.flowtok_sample, "nano", CAPTION, "--out", tmp_path/"a.png", *words)
    assert list(tmp_path.iterdir()) == []


# --- labels

def ink(path): return np.asarray(Image.open(path).convert("L"))


def test_a_dollar_is_a_dollar(pipe, tmp_path, monkeypatch):
    "Neither a formula nor the end of a training, nor text that loses its spaces."
    from flowtok.pictures import show_images
    for text in ("$$ bills", "$x^2_$ a star", "a $5 circle for $7", r"\frac{", "_^{}%&#~"):
        figure = show_images([square()], [text])
        figure.canvas.draw()
        label = figure.axes[0].xaxis.label
        assert label.get_text().replace("\n", " ") == text and not label.get_parse_math()
    data = folder(tmp_path/"data", [(f"{i}.png", "$x^2_$ a star") for i in range(8)])
    recipes.train(data=str(data), out=tmp_path/"run", direction="t2i", save_every=1, **TINY)
    assert sorted(p.name for p in (tmp_path/"run"/"samples").glob("flow-*")) == ["flow-000001.png", "flow-000002.png"]


def test_a_gallery_that_fails_ends_no_training(tmp_path, monkeypatch):
    def fails(*args, **kw): raise ValueError("no picture of this")
    monkeypatch.setattr(recipes, "show_images", fails)
    with pytest.warns(UserWarning, match="could not be drawn .no picture of this.: the training goes on"):
        recipes.train(data=str(squares(tmp_path/"data")), out=tmp_path/"run", **TINY)
    assert flowtok.load(tmp_path/"run", device="cpu")


def test_many_captions_make_several_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "PAGE", 3)
    cli.flowtok_sample("nano", [CAPTION]*7, out=str(tmp_path/"a.png"), steps=1, sheet=True, device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-01.png", "a-02.png", "a-03.png"]
    cli.flowtok_sample("nano", [CAPTION]*2, out=str(tmp_path/"b.png"), steps=1, per_caption=2, device="cpu")
    assert [Image.open(tmp_path/f"b-0{k}.png").size for k in (1, 2, 3, 4)] == [(32, 32)]*4
    with pytest.raises(SystemExit): cli.flowtok_sample("nano", [CAPTION], out=str(tmp_path/"c.pdf"), device="cpu")
    assert "or ask for a --sheet" in capsys.readouterr().err
    from flowtok.pictures import MOST_SHOWN, show_images
    with pytest.raises(ValueError, match=f"show at most {MOST_SHOWN} at once"): show_images([square()]*(MOST_SHOWN + 1))
    with pytest.raises(ValueError, match="2 captions for 1 images"): show_images([square()], ["a", "b"])


def test_a_long_caption_leaves_room_for_its_picture():
    from flowtok.pictures import show_images
    assert show_images([square()], ["word "*3000]).get_size_inches()[1] < 4


# --- words

def test_accents_may_be_composed_or_not():
    composed = ["un café crème", "Ångström über Größe"]
    encoder = TextEncoder(preset("nano").text, vocabulary_of(tokenize(composed, 16)))
    split = [unicodedata.normalize("NFD", t) for t in composed]
    with warnings.catch_warnings(action="error"): assert torch.equal(encoder.tokenize(split), encoder.tokenize(composed))


@pytest.mark.parametrize("options", [dict(captions=0), dict(captions=2.5), dict(detail="foo"), dict(split="all"), dict(pair_share=float("nan"))])
def test_odd_options_of_drawings(options):
    with pytest.raises(ValueError, match=next(iter(options))): Shapes(3, **options)


@pytest.mark.parametrize("text", ["\u00a0", "&nbsp;", "\u200b", "\ud83d"])
def test_captions_without_anything_to_see_are_named(text, tmp_path):
    square().save(tmp_path/"a.png")
    (tmp_path/"metadata.jsonl").write_text(json.dumps(dict(file_name="a.png", text=text)))
    with pytest.raises(DataError, match=r"in line 1 of metadata.jsonl \(a.png\)"): open_data(tmp_path, 32)


@pytest.mark.parametrize("text", ["", " \n", "\ufeff", "\u00a0"])
def test_an_empty_caption_is_empty(text):
    with pytest.raises(ValueError, match="caption 1 is empty"): tokenize(["a", text])


def test_long_captions_make_one_warning():
    with pytest.warns(UserWarning, match="of 3 captions, such as") as said: tokenize([f"{i} word "*20 for i in range(3)], 16)
    assert len(said) == 1


@pytest.mark.parametrize("captions", [None, 5, [5], [b"a"]])
def test_captions_of_another_type(pipe, captions):
    with pytest.raises((ValueError, TypeError), match="caption"): pipe.text_to_image(captions)


# --- folders

def test_names_are_no_splits(tmp_path):
    "Three folders, or files, with train in their names."
    for k, kind in enumerate(("car", "bus", "train")): folder(tmp_path/"vehicles"/kind, [("1.png", f"a {kind}")], lambda i: square(k))
    with warnings.catch_warnings(action="error"): found = colours(open_data(tmp_path/"vehicles", 32))
    assert found == [("lime", ["a bus"]), ("red", ["a car"]), ("blue", ["a train"])]
    names = ["cat.png", "photo of a train.png", "test/dog.png", "validation-1.png"]
    folder(tmp_path/"files", [(n, n) for n in names])
    assert [t for _, (t,) in colours(open_data(tmp_path/"files", 32))] == names


@pytest.mark.parametrize("split, read", [(None, 3), ("train", 3), ("test", 2), ("validation", 1)])
def test_folders_of_splits_say_what_is_left_out(tmp_path, split, read):
    for name, n in dict(train=3, test=2, val=1).items(): squares(tmp_path/name, n, name + " {}")
    with pytest.warns(UserWarning, match=f"read {read} pictures .*left out {6 - read} of the others .test, train, val."): data = open_data(tmp_path, 32, split=split)
    assert len(data) == read and {data.texts(i)[0].split()[0] for i in range(read)} == {dict(validation="val").get(split, split or "train")}
    with pytest.raises(DataError, match="choose among test, train, val"): open_data(tmp_path, 32, split="dev2")


def test_a_picture_without_a_row_is_said(tmp_path):
    squares(tmp_path, 3)
    square().save(tmp_path/"more.png")
    square().save(tmp_path/"even more.webp")
    with pytest.warns(UserWarning, match="left out 2 of 5 pictures .*even more.webp, more.png"): assert len(open_data(tmp_path, 32)) == 3


def test_links_are_followed_and_hidden_files_are_not(tmp_path):
    squares(tmp_path/"elsewhere", 2)
    (tmp_path/"data").mkdir()
    (tmp_path/"data"/"linked").symlink_to(tmp_path/"elsewhere")
    (tmp_path/"elsewhere"/"up").symlink_to(tmp_path/"data")
    (tmp_path/"elsewhere"/"._0.png").write_bytes(b"a note of macOS")
    with warnings.catch_warnings(action="error"): assert len(open_data(tmp_path/"data", 32)) == 2


BAD_METADATA = {
    "number": ("metadata.jsonl", b'{"file_name":"a.png","text":3}', "line 1 of metadata.jsonl (a.png)"),
    "number in csv": ("metadata.csv", b"file_name,text\na.png,007", "the number 007 in line 2 of metadata.csv (a.png)"),
    "cp1252": ("metadata.jsonl", '{"file_name":"a.png","text":"café"}'.encode("cp1252"), "line 1 of metadata.jsonl is not UTF-8"),
    "cp1252 in csv": ("metadata.csv", "file_name,text\na.png,café".encode("cp1252"), "line 2 of metadata.csv is not UTF-8"),
    "utf-16": ("metadata.csv", "file_name,text\na.png,b".encode("utf-16"), "is not UTF-8"),
    "above": ("metadata.jsonl", b'{"file_name":"../a.png","text":"x"}', "leaves the folder"),
    "absolute": ("metadata.jsonl", b'{"file_name":"/a.png","text":"x"}', "leaves the folder"),
    "drive": ("metadata.jsonl", rb'{"file_name":"C:\\a.png","text":"x"}', "leaves the folder"),
    "no such file": ("metadata.jsonl", b'{"file_name":"b.png","text":"x"}', "no file b.png beside metadata.jsonl, which line 1"),
    "no name": ("metadata.jsonl", b'{"file_name":null,"text":"x"}', "no file_name in line 1"),
    "no column of names": ("metadata.jsonl", b'{"name":"a.png","text":"x"}', "no column file_name in metadata.jsonl: found name, text"),
    "dict": ("metadata.jsonl", b'{"file_name":"a.png","text":{"en":"x"}}', "a dict of en in line 1"),
    "null": ("metadata.jsonl", b'{"file_name":"a.png","text":null}', "empty caption in line 1"),
    "nan": ("metadata.jsonl", b'{"file_name":"a.png","text":NaN}', "empty caption in line 1"),
    "missing": ("metadata.jsonl", b'{"file_name":"a.png","text":"x"}\n{"file_name":"a.png"}', "empty caption in line 2"),
    "blank": ("metadata.jsonl", b'{"file_name":"a.png","text":"  "}', "empty caption in line 1"),
    "empty list": ("metadata.jsonl", b'{"file_name":"a.png","text":[]}', "empty caption in line 1"),
    "list of numbers": ("metadata.jsonl", b'{"file_name":"a.png","text":["x",3]}', "3 (int) in line 1"),
    "array": ("metadata.jsonl", b'["a.png","x"]', "line 1 of metadata.jsonl is no JSON object"),
    "no JSON": ("metadata.jsonl", b"{'file_name':'a.png'}", "line 1 of metadata.jsonl is no JSON"),
    "comma": ("metadata.csv", b"file_name,text\na.png,red, and round", "line 2 of metadata.csv has another number of fields"),
    "no field": ("metadata.csv", b"file_name,text\na.png", "line 2 of metadata.csv has another number of fields"),
    "open quotation": ("metadata.csv", b'file_name,text\na.png,x\na.png,"y\na.png,z', "cannot be read"),
    "column twice": ("metadata.csv", b"file_name,text,text\na.png,x,y", "two columns of one name"),
    "long field": ("metadata.csv", b"file_name,text\na.png," + b"x"*200_000, "cannot be read"),
    "deep": ("metadata.jsonl", b"["*100_000, "line 1 of metadata.jsonl is no JSON"),
    "no rows": ("metadata.jsonl", b"", "the data set is empty"),
    "no parquet": ("metadata.parquet", b"PAR1", "cannot be read as a parquet file")}


@pytest.mark.parametrize("kind", BAD_METADATA)
def test_wrong_metadata_is_named(kind, tmp_path, monkeypatch, capsys):
    name, content, message = BAD_METADATA[kind]
    square().save(tmp_path/"a.png")
    (tmp_path/name).write_bytes(content)
    assert message in refused(monkeypatch, capsys, cli.flowtok_train, "--data", tmp_path, "--out", tmp_path/"run", "--steps", 1, "--device", "cpu")


GOOD_METADATA = {
    "mark at the start": ("metadata.jsonl", b'\xef\xbb\xbf{"file_name":"a.png","text":"x"}', ["x"]),
    "mark in csv": ("metadata.csv", b"\xef\xbb\xbffile_name,text\r\na.png,x\r\n", ["x"]),
    "capitals": ("METADATA.JSONL", b'{"file_name":"a.png","text":"x"}', ["x"]),
    "NA": ("metadata.csv", b"file_name,text\na.png,NA", ["NA"]),
    "quotation marks": ("metadata.csv", b'file_name,text\na.png,"red, and ""round"""', ['red, and "round"']),
    "two lines": ("metadata.csv", b'file_name,text\na.png,"red\nround"', ["red\nround"]),
    "several": ("metadata.jsonl", b'{"file_name":"a.png","text":["x","y"]}', ["x", "y"]),
    "caption": ("metadata.jsonl", b'{"file_name":"a.png","caption":"x"}', ["x"]),
    "digits as a text": ("metadata.jsonl", b'{"file_name":"a.png","text":"007"}', ["007"]),
    "separator": ("metadata.jsonl", '{"file_name":"a.png","text":"x\u2028y"}'.encode(), ["x\u2028y"]),
    "Windows": ("metadata.jsonl", rb'{"file_name":".\\a.png","text":"x"}', ["x"])}


@pytest.mark.parametrize("kind", GOOD_METADATA)
def test_odd_metadata_is_read(kind, tmp_path):
    name, content, texts = GOOD_METADATA[kind]
    square(2).save(tmp_path/"a.png")
    (tmp_path/name).write_bytes(content)
    with warnings.catch_warnings(action="error"): assert colours(open_data(tmp_path, 32)) == [("blue", texts)]


def test_accents_in_names_of_files(tmp_path):
    square(2).save(tmp_path/unicodedata.normalize("NFD", "café.png"))
    (tmp_path/"metadata.jsonl").write_text(json.dumps(dict(file_name="café.png", text="x")))
    assert colours(open_data(tmp_path, 32)) == [("blue", ["x"])]


def test_an_edit_of_the_same_length_is_seen(tmp_path):
    squares(tmp_path, 2)
    assert open_data(tmp_path, 32).texts(0) == ["a red square"]
    text = (tmp_path/"metadata.jsonl").read_text()
    (tmp_path/"metadata.jsonl").write_text(text.replace("a red square", "a big circle"))
    assert open_data(tmp_path, 32).texts(0) == ["a big circle"]


def test_two_columns_of_captions_are_said(tmp_path):
    square().save(tmp_path/"a.png")
    (tmp_path/"metadata.jsonl").write_text('{"file_name":"a.png","text":"x","caption":"y"}')
    with pytest.warns(UserWarning, match="caption left out"): assert open_data(tmp_path, 32).texts(0) == ["x"]
    assert open_data(tmp_path, 32, caption_column="caption").texts(0) == ["y"]
    (tmp_path/"metadata.csv").write_text("file_name,text\na.png,z\n")
    with pytest.raises(DataError, match="more than one metadata file"): open_data(tmp_path, 32)


def test_images_of_a_table_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    "A Hub set of any size opens at once."
    from datasets import Dataset, Image as ImageColumn
    from flowtok import captioned
    rows = Dataset.from_dict(dict(image=[dict(bytes=jpeg(i), path=None) for i in range(30)], text=[f"number {i}" for i in range(30)])).cast_column("image", ImageColumn())
    reads = []
    real = captioned._Column.__getitem__
    monkeypatch.setattr(captioned._Column, "__getitem__", lambda self, i: reads.append(i) or real(self, i))
    monkeypatch.setattr(captioned._Column, "name", lambda self, i: reads.append(("name", i)))
    opened = captioned.from_table(rows, 32)
    assert reads == [] and opened.texts(7) == ["number 7"]
    assert opened[7]["image"].shape == (3, 32, 32) and reads == [7]


def test_splits_of_the_hub_are_said(monkeypatch):
    import datasets
    def table(n): return datasets.Dataset.from_dict(dict(image=[dict(bytes=jpeg(i), path=None) for i in range(n)], text=["a"]*n)).cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda name: dict(train=table(3), test=table(2)))
    with pytest.warns(UserWarning, match=r"reading split train of user/name \(3\), left out: test \(2\)"): assert len(open_data("user/name", 32)) == 3
    with pytest.warns(UserWarning, match=r"left out: train \(3\)"): assert len(open_data("user/name", 32, split="test")) == 2
    with pytest.raises(DataError, match="no split dev: choose among train, test"): open_data("user/name", 32, split="dev")


@pytest.mark.parametrize("source, options, message", [
    ("shapes", dict(caption_column="text"), "caption-column means nothing for drawings"), ("shapes", dict(max_broken=0.1), "max-broken means nothing"),
    ("folder", dict(n=3), "n means nothing"), ("folder", dict(max_broken=0.1), "max-broken means nothing"), ("folder", dict(processes=2), "processes means nothing"),
    ("tar", dict(split="test"), "split means nothing for tar files"), ("folder", dict(split="test"), "no folder for the split test"),
    ("folder/metadata.jsonl", {}, "name the folder it lies in"), ("folder/nothing/here", {}, "there is no such folder"), ("*.nothing", {}, "no such tar file"), ("a.tar.gz", {}, "unpack it"), ("", {}, "a data set is")])
def test_an_option_without_a_meaning_is_refused(source, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    squares(tmp_path/"folder", 2)
    tar(tmp_path/"tar"/"a.tar", [("1.jpg", jpeg()), ("1.txt", b"a")])
    with pytest.raises(DataError, match=message): open_data(source, 32, progress=False, **options)


def test_a_folder_called_shapes_is_pointed_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    squares(tmp_path/"shapes", 2)
    with pytest.warns(UserWarning, match="is ./shapes"): assert isinstance(open_data("shapes", 32), Shapes)
    assert len(open_data("./shapes", 32)) == 2


# --- tar files

TARS = {
    "capitals": ([("1.JPG", jpeg()), ("1.JSON", b'{"caption":"a red ball"}')], None, ["a red ball"]),
    "mark": ([("1.jpg", jpeg()), ("1.txt", b"\xef\xbb\xbfa red ball\r\n")], None, ["a red ball"]),
    "mark in JSON": ([("1.jpg", jpeg()), ("1.json", b'\xef\xbb\xbf{"text":"a red ball"}')], None, ["a red ball"]),
    "both, text by default": ([("1.jpg", jpeg()), ("1.txt", b"short"), ("1.json", b'{"caption":"long"}')], None, ["short"]),
    "both, a column is in the JSON": ([("1.jpg", jpeg()), ("1.txt", b"short"), ("1.json", b'{"long":"long"}')], "long", ["long"])}


@pytest.mark.parametrize("kind", TARS)
def test_captions_in_tars(kind, tmp_path):
    members, column, texts = TARS[kind]
    assert colours(open_data(tar(tmp_path/"a.tar", members), 32, caption_column=column, progress=False))[0][1] == texts


BAD_TARS = {"two images": ([("1.jpg", jpeg()), ("1.png", jpeg()), ("1.txt", b"a")], None, "2 images: 1.jpg, 1.png"),
            "no column": ([("1.jpg", jpeg()), ("1.txt", b"a")], "long", "no JSON file with an entry long"),
            "number": ([("1.jpg", jpeg()), ("1.json", b'{"text":3}')], None, "3 (int) in 1.json"),
            "cp1252": ([("1.jpg", jpeg()), ("1.txt", "café".encode("cp1252"))], None, "not UTF-8 in 1.txt"),
            "blank": ([("1.jpg", jpeg()), ("1.txt", b" \n")], None, "empty caption in 1.txt")}


@pytest.mark.parametrize("kind", BAD_TARS)
def test_wrong_samples_in_tars_are_counted(kind, tmp_path):
    members, column, message = BAD_TARS[kind]
    with pytest.raises(DataError) as error: open_data(tar(tmp_path/"a.tar", members), 32, caption_column=column, progress=False)
    assert message in str(error.value)


def test_all_tars_of_a_folder_are_read(tmp_path):
    for k, place in enumerate(("a.tar", "b.TAR", "below/a.tar")): tar(tmp_path/place, [("1.jpg", jpeg(k)), ("1.txt", place.encode())])
    data = open_data(tmp_path, 32, progress=False)
    assert sorted(data.texts(i)[0] for i in range(len(data))) == ["a.tar", "b.TAR", "below/a.tar"]
    squares(tmp_path/"pictures", 2)
    with pytest.raises(DataError, match="holds tar files and pictures"): open_data(tmp_path, 32, progress=False)
    odd = tar(tmp_path/"odd [1].tar", [("1.jpg", jpeg()), ("1.txt", b"odd")])
    assert open_data(odd, 32, progress=False).texts(0) == ["odd"]


def test_samples_behind_the_end_of_a_tar_are_not_lost_silently(tmp_path):
    "Two tars in one file, or a damaged header."
    for k in range(2): tar(tmp_path/f"{k}.tar", [("1.jpg", jpeg(k)), ("1.txt", b"a")])
    (tmp_path/"both.tar").write_bytes((tmp_path/"0.tar").read_bytes() + (tmp_path/"1.tar").read_bytes())
    with pytest.raises(DataError, match="cut short"): open_data(tmp_path/"both.tar", 32, progress=False)
    three = bytearray(tar(tmp_path/"three.tar", [(f"{i}.{e}", jpeg() if e == "jpg" else b"a") for i in range(3) for e in ("jpg", "txt")]).read_bytes())
    at = three.index(b"1.jpg")
    three[at:at + 512] = bytes(512)
    (tmp_path/"three.tar").write_bytes(three)
    with pytest.raises(DataError, match="cut short"): open_data(tmp_path/"three.tar", 32, progress=False)


def test_one_key_twice_is_two_samples(tmp_path):
    data = open_data(tar(tmp_path/"a.tar", [("._1.jpg", b"macOS"), ("1.jpg", jpeg()), ("1.txt", b"one"), ("1.jpg", jpeg(1)), ("1.txt", b"two")]), 32, progress=False)
    assert colours(data)[0][1] == ["one"] and colours(data)[1][1] == ["two"] and len(data) == 2


def test_packed_tars_in_a_folder_and_odd_patterns(tmp_path):
    for place in ("run [1]/a.tar", "run 1/b.tar"): tar(tmp_path/place, [("1.jpg", jpeg()), ("1.txt", place.encode())])
    assert open_data(tmp_path/"run [1]"/"*.tar", 32, progress=False).texts(0) == ["run [1]/a.tar"]
    assert open_data(str(tmp_path/"run ?"/"b.tar"), 32, progress=False).texts(0) == ["run 1/b.tar"]
    with pytest.raises(DataError, match="no tar, such as"): open_data(tmp_path/"run*", 32, progress=False)
    (tmp_path/"run 1"/"c.tgz").write_bytes(b"")
    with pytest.raises(DataError, match="compressed, such as"): open_data(tmp_path/"run 1", 32, progress=False)


def test_a_place_where_nothing_can_be_written(tmp_path, monkeypatch):
    "The list of a tar on a read-only disk lies in the cache of the user."
    from flowtok import records, shards
    path = tar(tmp_path/"disk"/"a.tar", [("1.jpg", jpeg()), ("1.txt", b"one")])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"cache"))
    real = records.replacing
    def refusing(target):
        if Path(target).is_relative_to(tmp_path/"disk"): raise OSError(30, "Read-only file system")
        return real(target)
    monkeypatch.setattr(shards, "replacing", refusing)
    assert open_data(path, 32, progress=False).texts(0) == ["one"]
    assert len(list((tmp_path/"cache").rglob("a.tar-*.json"))) == 1


def test_a_tar_that_changed_is_looked_through_again(tmp_path):
    path = tar(tmp_path/"a.tar", [("1.jpg", jpeg()), ("1.txt", b"one")])
    before = open_data(path, 32, progress=False).fingerprint()
    tar(path, [("1.jpg", jpeg()), ("1.txt", b"two")])
    os.utime(path, ns=(1, 1))
    after = open_data(path, 32, progress=False)
    assert after.texts(0) == ["two"] and after.fingerprint()["captions"] != before["captions"] and after.fingerprint()["images"] == before["images"]


# --- errors of commands

MISTAKES = {  # words that end a command, and what it says
    "train": (["--preset", "medium", "--out", "run"], "unknown preset 'medium'"), "pretokenize": (["no-such-model", "data", "tokens"], "no model 'no-such-model'"),
    "sample": (["no-such-model", CAPTION], "no model 'no-such-model'"), "caption": (["no-such-model", "a.png"], "no model 'no-such-model'"),
    "evaluate": (["nano", "--direction", "i2i"], "unknown direction 'i2i'"), "study": (["everything"], "unknown study 'everything'"),
    "tour": (["--notebook", "nowhere.ipynb"], "no notebook nowhere.ipynb"), "gpu": (["--parts", "parity,speed", "--device", "cpu"], "unknown part 'speed'")}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_unless_its_traceback_is_wanted(name, tmp_path, monkeypatch, capsys):
    words, message = MISTAKES[name]
    command = getattr(cli, f"flowtok_{name}")
    monkeypatch.chdir(tmp_path)
    assert message in refused(monkeypatch, capsys, command, *words)
    monkeypatch.setattr(sys, "argv", [command.__name__, *words, "--debug"])
    with pytest.raises(ValueError) as error: command()
    assert message in str(error.value) and capsys.readouterr().err == ""


@pytest.mark.parametrize("debug", [False, True])
def test_a_traceback_on_the_screen(debug, tmp_path):
    "As a user sees it: the last line says the same, and nothing else is written without --debug."
    command = [Path(sys.executable).parent/"flowtok-sample", "no-such-model", CAPTION, *["--debug"]*debug]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert done.returncode == 1 and done.stdout == "" and "no model 'no-such-model'" in said[-1]
    assert said[0].startswith("Traceback") and any("in _folder_of" in line for line in said) if debug else len(said) == 1


def test_an_option_may_be_cut_short(tmp_path, monkeypatch):
    "--debug takes no letters away from --device; behind -- it is a caption."
    for words in (["nano", "a star", "--d", "cpu"], ["nano", "--dev", "cpu", "--", "--debug"]):
        monkeypatch.setattr(sys, "argv", ["flowtok-sample", *words[:-2], "--steps", "1", "--out", str(tmp_path/"x.png"), *words[-2:]])
        cli.flowtok_sample()
    monkeypatch.setattr(sys, "argv", ["flowtok-sample", "mega", "a star", "--debug"])
    with pytest.raises(ValueError, match="no model"): cli.flowtok_sample()
