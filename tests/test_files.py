"Files that users own are replaced whole or not at all; a folder belongs to one run; what changed since is noticed."
import json
import os
import re
import subprocess
import sys
import threading
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

import flowtok
from flowtok import cli, recipes
from flowtok.data import open_cache
from flowtok.experiments import studies
from flowtok.lineage import ADDED
from flowtok.pictures import show_images
from flowtok.pipeline import WEIGHTS
from flowtok.records import alone, difference, replacing, save_figure, write_json
from flowtok.training import save_checkpoint
from test_inputs import refused
from world import square, squares

TINY = dict(steps=2, device="cpu", progress=False)
BIN = Path(sys.executable).parent


class Cut(Exception): pass


def cut_at(step):
    "A callback that ends a training as a kill would."
    def callback(at, model):
        if at >= step: raise Cut
    return callback


# --- replaced whole or not at all

FULL = """
import resource, sys, torch, numpy as np
from pathlib import Path
import flowtok
from flowtok.data import _make_array
from flowtok.records import replacing, write_json
from flowtok.training import save_checkpoint
pipe, folder = flowtok.load("nano", device="cpu"), Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # as a full disk would
def array():
    with replacing(folder/"a.npy") as part: np.save(part, np.zeros(100_000))
for act in (lambda: pipe.save(folder), lambda: save_checkpoint(folder/"step-1.pt", pipe.state_dict()), lambda: write_json(folder/"a.json", "x"*300_000), array,
            lambda: _make_array(folder/"mean.npy", (100_000, 16, 16), np.float32)):
    try: act()
    except OSError as e: print(e.errno, "no space left on the disk" in str(e))
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of files are of Unix")
def test_a_full_disk(tmp_path):
    "It is said, what was there still loads, and nothing is left lying about."
    flowtok.load("nano", device="cpu").save(tmp_path)
    save_checkpoint(tmp_path/"step-1.pt", dict(a=1))
    write_json(tmp_path/"a.json", "before")
    (tmp_path/"a.npy").write_bytes(b"before")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == ["28 True"]*5, done.stdout + done.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="limits of files are of Unix")
def test_a_training_on_a_full_disk_ends_in_one_line(tmp_path):
    code = "import resource, sys; from flowtok import cli; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000)); cli.flowtok_train(data=sys.argv[1], out=sys.argv[2], steps=3, save_every=1, device='cpu')"
    done = subprocess.run([sys.executable, "-c", code, squares(tmp_path/"data"), tmp_path/"run"], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no space left on the disk for" in done.stderr.splitlines()[-1]
    assert not [p.name for p in (tmp_path/"run").rglob("*.part*")]


def test_what_fails_leaves_the_old_file(tmp_path):
    for name in ("a.json", "a.png", "b.bin"): (tmp_path/name).write_bytes(b"before")
    with pytest.raises(TypeError): write_json(tmp_path/"a.json", object())
    figure = show_images([square()])
    figure.savefig = lambda *args, **kw: 1/0
    with pytest.raises(ZeroDivisionError): save_figure(figure, tmp_path/"a.png")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path/"b.bin") as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {n: b"before" for n in ("a.json", "a.png", "b.bin")}


def test_an_own_readme_stays(tmp_path):
    pipe = flowtok.load("nano", device="cpu")
    pipe.save(tmp_path)
    (tmp_path/"README.md").write_text("my model")
    pipe.save(tmp_path)
    assert (tmp_path/"README.md").read_text() == "my model"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_many_writers_of_one_file(tmp_path):
    "None is lost on the way, and no reader sees half a file."
    file, faults = tmp_path/"a.json", []
    def write(k):
        try:
            for i in range(150): write_json(file, [k]*200)
        except Exception as e: faults.append(e)
    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    write_json(file, [0]*200)
    for t in threads: t.start()
    while any(t.is_alive() for t in threads): assert len(set(json.loads(file.read_text()))) == 1
    assert not faults and [p.name for p in tmp_path.iterdir()] == ["a.json"]


# --- one process at a time

def _add(file, k):
    for i in range(20): studies._add_row(file, dict(steps=1), dict(name=f"change {k}", seed=i), lambda rows: "")


def test_rows_of_several_processes_all_arrive(tmp_path):
    processes = [get_context("spawn").Process(target=_add, args=(tmp_path/"a.json", k)) for k in range(3)]
    for p in processes: p.start()
    for p in processes: p.join()
    rows = json.loads((tmp_path/"a.json").read_text())["rows"]
    assert sorted((r["name"], r["seed"]) for r in rows) == sorted((f"change {k}", i) for k in range(3) for i in range(20))


def test_a_second_run_in_a_folder_is_refused_at_once(tmp_path, monkeypatch, capsys):
    squares(tmp_path/"data")
    with alone(tmp_path/"run"):
        said = refused(monkeypatch, capsys, cli.flowtok_train, "--data", tmp_path/"data", "--out", tmp_path/"run", "--steps", 1, "--device", "cpu")
        assert "another process is at work in" in said and "--out" in said
        said = refused(monkeypatch, capsys, cli.flowtok_pretokenize, "nano", tmp_path/"data", tmp_path/"run", "--device", "cpu")
        assert "another process is at work in" in said
    assert [p.name for p in (tmp_path/"run").iterdir()] == [".lock"]
    recipes.train(data=str(tmp_path/"data"), out=tmp_path/"run", **TINY | dict(steps=1))


def test_two_real_runs_in_one_folder(tmp_path):
    "One of them is refused; the folder is whole, and of the other."
    common = [BIN/"flowtok-train", "--out", tmp_path/"run", "--steps", "2", "--device", "cpu"]
    for k, what in enumerate(("square", "star")): squares(tmp_path/str(k), caption="a {} " + what)
    runs = [subprocess.Popen([*common, "--data", tmp_path/str(k), "--seed", str(k)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for k in range(2)]
    said = [r.communicate()[1] for r in runs]
    won = [k for k in range(2) if runs[k].returncode == 0]
    assert len(won) == 1 and ("another process is at work" in said[1 - won[0]] or "already holds a run" in said[1 - won[0]])
    assert json.loads((tmp_path/"run"/"settings.json").read_text())["seed"] == won[0]
    assert len((tmp_path/"run"/"tokenizer"/"log.jsonl").read_text().splitlines()) == 2


# --- what changed since

@pytest.fixture
def stopped(tmp_path, monkeypatch):
    "A run that was cut in its first part; returns how to go on."
    squares(tmp_path/"data")
    def go(**kw): return recipes.train(data=str(tmp_path/"data"), out=tmp_path/"run", direction="t2i", save_every=1, **TINY | kw)
    with monkeypatch.context() as m, pytest.raises(Cut):
        m.setattr(recipes, "reconstruction_callback", lambda *a: cut_at(1))
        go()
    return go


def change_captions(folder, old="a red square", new="a red zebra"):
    file = folder/"metadata.jsonl"
    file.write_text(file.read_text().replace(old, new, 1))


def test_changed_captions_end_a_resume(stopped, tmp_path):
    change_captions(tmp_path/"data")
    with pytest.raises(ValueError, match="was started with other captions, which have changed since"): stopped(resume=True)
    change_captions(tmp_path/"data", "a red zebra", "a red square")
    assert stopped(resume=True).images(["a red square"], 1).isfinite().all()


def test_captions_in_another_order_end_a_resume(stopped, tmp_path):
    file = tmp_path/"data"/"metadata.jsonl"
    first, second = (json.loads(line) for line in file.read_text().splitlines()[:2])
    rest = file.read_text().splitlines()[2:]
    first["text"], second["text"] = second["text"], first["text"]
    file.write_text("\n".join([json.dumps(first), json.dumps(second), *rest]))
    with pytest.raises(ValueError, match="other captions"): stopped(resume=True)


def test_a_changed_picture_ends_a_resume(stopped, tmp_path):
    square(5).save(tmp_path/"data"/"0.png")
    with pytest.raises(ValueError, match="was started with other images"): stopped(resume=True)


def test_another_column_ends_a_resume(stopped):
    with pytest.raises(ValueError, match=r"another caption_column \(caption_column none, now text\)"): stopped(resume=True, caption_column="text")


def test_another_model_to_start_from_ends_a_resume(tmp_path, monkeypatch):
    "Even when it lies in the same folder."
    data = str(squares(tmp_path/"data"))
    for seed in (0, 1):
        recipes.train(data=data, out=tmp_path/f"base{seed}", direction="t2i", seed=seed, **TINY)
    go = lambda **kw: recipes.train(data=data, out=tmp_path/"run", start=tmp_path/"base", direction="t2i", **TINY | kw)
    (tmp_path/"base0").rename(tmp_path/"base")
    with monkeypatch.context() as m, pytest.raises(Cut):
        m.setattr(recipes, "sample_callback", lambda *a: cut_at(1))
        go(save_every=1)
    (tmp_path/"base").rename(tmp_path/"base0")
    (tmp_path/"base1").rename(tmp_path/"base")
    with pytest.raises(ValueError, match="another start_weights"): go(save_every=1, resume=True)


def test_a_message_shows_where_two_settings_differ(stopped):
    with pytest.raises(ValueError, match=r"another preset \(preset.train_tokenizer.steps 2, now 3\)"): stopped(resume=True, steps=3)
    assert difference(dict(a=1, b=dict(c=[1])), dict(a=1, b=dict(c=[2]))) == "b.c [1], now [2]"
    assert difference(dict(a=1), dict(a=1, b=2)) == "b none, now 2" and difference(dict(a=1), dict(a=1)) == ""


def test_a_run_of_an_older_version_goes_on(stopped, tmp_path):
    "It did not note what its captions were."
    file = tmp_path/"run"/"settings.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in settings.items() if k not in (*ADDED, "caption")}))
    assert stopped(resume=True).flow is not None


@pytest.mark.parametrize("change, message", [
    (lambda d: change_captions(d), "fingerprint.captions"), (lambda d: square(5).save(d/"0.png"), "fingerprint.images"), (None, "origin.caption_column none, now text")])
def test_stale_tokens_are_refused(change, message, tmp_path):
    squares(tmp_path/"data")
    make = lambda **kw: recipes.pretokenize("nano", str(tmp_path/"data"), tmp_path/"tokens", device="cpu", progress=False, **kw)
    make()
    make()  # again, with nothing changed: nothing to do
    if change: change(tmp_path/"data")
    with pytest.raises(ValueError, match=f"holds the tokens of something else .{message}"): make(**({} if change else dict(caption_column="text")))
    assert len(open_cache(tmp_path/"tokens")) == 8


def test_tokens_of_drawings_keep_which_captions_are_easy(tmp_path, monkeypatch):
    "A cache on disk trains what drawings train, step by step."
    from flowtok.shapes import Shapes
    for room in ("recipes", "data"): monkeypatch.setattr(f"flowtok.{room}.open_data", lambda *args, **kw: Shapes(40))
    recipes.train(out=tmp_path/"first", direction="t2i", **TINY)
    recipes.pretokenize(str(tmp_path/"first"), "shapes", tmp_path/"tokens", device="cpu", progress=False)
    cache = open_cache(tmp_path/"tokens")
    assert cache.easy.tolist() == [int(cache.first[i]) + k for i in range(40) for k in Shapes(40).easy(i)]
    logs = []
    for name, data in dict(drawn="shapes", tokens=tmp_path/"tokens").items():
        recipes.train(data=str(data), out=tmp_path/name, start=tmp_path/"first", direction="t2i", **TINY)
        logs.append([json.loads(line)["loss"] for line in (tmp_path/name/"flow"/"log.jsonl").read_text().splitlines()])
    assert max(abs(a - b)/abs(b) for a, b in zip(*logs, strict=True)) < 1e-4  # images in memory and from the disk are encoded in other batches
    (tmp_path/"tokens"/"repeats.npy").unlink()  # as in a cache of an older day
    with pytest.raises(ValueError, match="encode again"): open_cache(tmp_path/"tokens")


def test_pictures_drawn_for_other_captions_are_not_measured(tmp_path, monkeypatch):
    "A benchmark that goes on after its captions were changed."
    from test_benchmark import Colours
    from flowtok.benchmarks import benchmark
    squares(tmp_path/"data", 4)
    pipe = flowtok.load("nano", device="cpu")
    go = lambda: benchmark(pipe, str(tmp_path/"data"), tmp_path/"out", steps=1, metrics=("fid",), features=Colours(), progress=False)
    with pytest.warns(UserWarning, match="words this model was not trained on"): go()
    change_captions(tmp_path/"data")
    with pytest.raises(ValueError, match="protocol.content.captions|content.captions"): go()


def test_other_pictures_of_a_table_are_noticed():
    from datasets import Dataset, Image as ImageColumn
    from flowtok.captioned import from_table
    from world import jpeg
    def table(k): return from_table(Dataset.from_dict(dict(image=[dict(bytes=jpeg(i + k), path=None) for i in range(4)], text=["a"]*4)).cast_column("image", ImageColumn()), 32)
    assert table(0).fingerprint() == table(0).fingerprint()
    assert table(0).fingerprint()["images"] != table(1).fingerprint()["images"]


def test_a_large_file_is_told_from_others_by_its_middle(tmp_path):
    from flowtok.captioned import CaptionedImages
    def images(): return CaptionedImages([tmp_path/"a"], [["a"]], 32).fingerprint()["images"]
    content = bytearray(6_000_000)
    (tmp_path/"a").write_bytes(content)
    before = images()
    content[2_990_000:3_040_000] = b"x"*50_000
    (tmp_path/"a").write_bytes(content)
    assert images() != before


def test_checkpoints_without_settings_are_nobodys(stopped, tmp_path):
    (tmp_path/"run"/"settings.json").unlink()
    for resume in (True, False):
        with pytest.raises(ValueError, match="checkpoints without the settings.json"): stopped(resume=resume)
    assert not (tmp_path/"run"/"settings.json").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"preset": 3}', '{"steps": 1}'])
def test_settings_that_are_none(content, tmp_path):
    squares(tmp_path/"data")
    (tmp_path/"run").mkdir()
    (tmp_path/"run"/"settings.json").write_text(content)
    with pytest.raises(ValueError, match="is damaged, or of no training"): recipes.train(data=str(tmp_path/"data"), out=tmp_path/"run", **TINY)


def test_a_benchmark_keeps_out_of_a_run(stopped, tmp_path):
    "Neither takes the other's folder for its own."
    from test_benchmark import Colours
    from flowtok.benchmarks import benchmark
    before = (tmp_path/"run"/"settings.json").read_bytes()
    pipe = flowtok.load("nano", device="cpu")
    go = lambda out: benchmark(pipe, str(tmp_path/"data"), out, steps=1, metrics=("fid",), features=Colours(), progress=False)
    with pytest.raises(ValueError, match="something else than a measurement"): go(tmp_path/"run")
    assert (tmp_path/"run"/"settings.json").read_bytes() == before
    with pytest.warns(UserWarning, match="words this model"): go(tmp_path/"out")
    (tmp_path/"out"/"settings.json").unlink()
    with pytest.raises(ValueError, match="holds pictures without the settings.json"): go(tmp_path/"out")


def test_what_a_killed_run_left_is_cleared(tmp_path):
    squares(tmp_path/"data")
    (tmp_path/"run"/"flow").mkdir(parents=True)
    (tmp_path/"run"/".saving-abc").mkdir()
    (tmp_path/"run"/".saving-abc"/"model.safetensors").write_bytes(b"half")
    for name in ("flow/.123-0a1b2c3d.part.pt", ".123-0a1b2c3d.part.json"): (tmp_path/"run"/name).write_bytes(b"half")
    (tmp_path/"run"/".mine.txt").write_text("of the user")
    recipes.train(data=str(tmp_path/"data"), out=tmp_path/"run", direction="tokenizer", **TINY)
    assert sorted(p.name for p in (tmp_path/"run").rglob(".*")) == [".lock", ".mine.txt"]


def test_a_cache_in_the_home_of_the_user_that_says_nothing_of_its_model(tmp_path, monkeypatch):
    "In a folder `encode_dataset` gives what it gives in memory, and opens what it wrote."
    from flowtok.data import Images, encode_dataset
    from flowtok.shapes import Shapes
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pipe, images = flowtok.load("nano", device="cpu"), Images(Shapes(8), progress=False)
    kept, made = (encode_dataset(images, pipe.image_tokenizer.encode, pipe.text_encoder.tokenize, out, progress=False) for out in ("~/tokens", None))
    for name in ("mean", "logvar", "ids", "first", "easy"): assert torch.equal(getattr(kept, name), getattr(made, name)), name
    assert (tmp_path/"tokens"/"cache.json").exists() and not Path("~").exists()


def test_an_easy_list_of_another_cache_is_not_taken(tmp_path):
    squares(tmp_path/"data")
    (tmp_path/"tokens").mkdir()
    import numpy as np
    np.save(tmp_path/"tokens"/"easy.npy", np.array([0, 99]))
    recipes.pretokenize("nano", str(tmp_path/"data"), tmp_path/"tokens", device="cpu", progress=False)
    assert open_cache(tmp_path/"tokens").easy is None


def test_a_link_stays_a_link_and_a_private_file_private(tmp_path):
    (tmp_path/"real.json").write_text("{}")
    (tmp_path/"real.json").chmod(0o600)
    (tmp_path/"link.json").symlink_to(tmp_path/"real.json")
    write_json(tmp_path/"link.json", 1)
    assert (tmp_path/"link.json").is_symlink() and json.loads((tmp_path/"real.json").read_text()) == 1
    assert (tmp_path/"real.json").stat().st_mode & 0o777 == 0o600
    write_json(tmp_path/("漢"*80 + ".json"), 1)


# --- commands

@pytest.mark.parametrize("words", [["--start", ""], ["--out="], ["--caption-column", ""]])
def test_an_empty_option_ends_the_command(words, monkeypatch, capsys):
    assert f"{words[0].rstrip('=')} is empty" in refused(monkeypatch, capsys, cli.flowtok_train, "--steps", 1, *words)


def test_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(squares(tmp_path/"data"))
    monkeypatch.setattr(sys, "argv", ["flowtok-train", "--data=~/data", "--out=~/run", "--steps=1", "--direction=tokenizer", "--device=cpu"])
    cli.flowtok_train()
    flowtok.load("~/run", "cpu").save("~/copy")
    assert (tmp_path/"run"/"config.json").exists() and (tmp_path/"copy"/"config.json").exists() and not Path("~").exists()


def test_a_caption_may_begin_with_dashes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flowtok-sample", "nano", "--steps", "1", "--device", "cpu", "--out", "a.png", "--", "--red-circle"])
    cli.flowtok_sample()
    assert (tmp_path/"a.png").exists()


def test_a_training_inside_no_grad(tmp_path):
    squares(tmp_path/"data")
    with torch.inference_mode(): recipes.train(data=str(tmp_path/"data"), out=tmp_path/"run", **TINY)


def test_logging_with_what_is_not_installed(tmp_path, monkeypatch):
    import accelerate.accelerator
    monkeypatch.setattr(accelerate.accelerator, "filter_trackers", lambda *args, **kw: [])
    with pytest.raises(ValueError, match="cannot be used to log"): recipes.train(data=str(squares(tmp_path/"data")), out=tmp_path/"run", track="wandb", **TINY)


# --- models by name

def test_a_hub_id_whose_owner_is_also_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"flowtok").mkdir()
    asked = []
    def fetch(*args, **kw):
        asked.append(kw.get("repo_id", args[0] if args else None))
        raise ConnectionError("offline")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    with pytest.raises(ValueError, match="no flowtok model could be fetched from the Hub"): flowtok.load("flowtok/xl")
    assert asked and set(asked) == {"flowtok/xl"}


@pytest.mark.parametrize("name", ["./flowtok/xl", "/flowtok/xl", "a/b/c", "~/xl", "flowtok/xl/", "nothing"])
def test_what_can_only_be_a_path_asks_no_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **kw: pytest.fail("asked the Hub"))
    with pytest.raises(ValueError, match="no model"): flowtok.load(name)


def test_a_bundled_name_and_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"nano").mkdir()
    assert flowtok.load("nano", device="cpu").preset.name == "nano"  # the folder is no model
    (tmp_path/"nano"/"settings.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no finished model"): flowtok.load("nano")  # a run that has not ended
    flowtok.load(WEIGHTS/"nano", device="cpu").save(tmp_path/"nano")
    assert flowtok.load("nano", device="cpu").preset.name == "nano"


# --- what a training says at its end

def test_the_hint_has_a_caption_of_its_own_data(tmp_path, capsys):
    cli.flowtok_train(data=str(squares(tmp_path/"data", caption="it's a {} \"square\"")), out=str(tmp_path/"run"), steps=1, device="cpu", direction="t2i")
    hint = capsys.readouterr().out.strip().splitlines()[-1]
    import shlex
    words = shlex.split(hint)
    assert words[:3] == ["flowtok-sample", str(tmp_path/"run"), 'it\'s a red "square"']


def test_going_on_with_nothing_is_said(tmp_path, capsys):
    cli.flowtok_train(data=str(squares(tmp_path/"data")), out=str(tmp_path/"run"), steps=1, device="cpu", resume=True, direction="tokenizer")
    assert "to go on with: a new one begins" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_others_may_read_weights_as_they_may_read_other_files(tmp_path):
    before = os.umask(0o022)
    try: flowtok.load("nano", device="cpu").save(tmp_path/"model")
    finally: os.umask(before)
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in (tmp_path/"model").iterdir()} == dict.fromkeys(
        ("config.json", "model.safetensors", "README.md"), "0o644")


# --- files of ideas

def ideas_file(folder, text):
    file = folder/"mine.py"
    file.write_text(text)
    return file


@pytest.mark.parametrize("text, said", [
    ("", "has no ideas: write IDEAS"),
    ("IDEAS = {'a': 3}", "has no ideas: write IDEAS"),
    ("IDEAS = {'a': dict(chnage={})}", "mine.py, 'a': an idea about the flow names change, parts, edit, length, not chnage"),
    ("IDEAS = {'a': dict(change={'flow_loss.reference': 0})}", "'a': a preset has no flow_loss.reference"),
    ("IDEAS = {'a': dict(parts=dict(loss=abs))}", "`parts` is a FlowParts"),
    ("IDEAS = {'a': dict(edit='deeper')}", "`edit` is a function"),
    ("IDEAS = {'a': dict(length=0)}", "`length` is a share of the steps")])
def test_ideas_that_cannot_be_trained_are_refused_before_anything_is(tmp_path, text, said):
    with pytest.raises(ValueError, match=re.escape(said)): studies.study(str(ideas_file(tmp_path, text)), tmp_path/"out")
    assert not (tmp_path/"out"/"mine.json").exists()


ROW = """
from beside import HALF
def row(variant, seed, steps=4):
    if variant.get("fails"): raise ValueError("the part `loss` gave nothing")
    return dict(seen=variant["x"]*HALF + seed, steps=steps), None
IDEAS = {"one": dict(x=1), "two": dict(x=2)}
"""


def test_a_file_of_ideas_keeps_its_text_with_its_rows(tmp_path, capsys):
    (tmp_path/"beside.py").write_text("HALF = 0.5\n")
    file, out = ideas_file(tmp_path, ROW), tmp_path/"out"
    cli.flowtok_study(str(file), out=str(out), seeds="0,1")
    assert "seen moves by" in capsys.readouterr().out
    kept = studies.read_study(out/"mine.json")
    assert [r["seen"] for r in kept["rows"]] == [0.5, 1.0, 1.5, 2.0] and list(kept["texts"].values()) == [ROW]
    file.write_text(ROW + "IDEAS['three'] = dict(x=3)\n")
    with pytest.warns(UserWarning, match="has changed since these rows were made, and they stay: one, two;"):
        rows = studies.study(str(file), out, [0], report=lambda row: None)
    assert len(rows) == 5 and len(studies.read_study(out/"mine.json")["texts"]) == 2


def test_an_idea_that_fails_is_an_error_and_not_a_row(tmp_path):
    (tmp_path/"beside.py").write_text("HALF = 0.5\n")
    file = ideas_file(tmp_path, ROW + "IDEAS['bad'] = dict(fails=True)\n")
    with pytest.raises(ValueError, match="'bad': the part `loss` gave nothing"):
        studies.study(str(file), tmp_path/"out", [0], report=lambda row: None)
    assert len(studies.read_study(tmp_path/"out"/"mine.json")["rows"]) == 2


def test_a_file_may_not_have_the_name_of_a_study(tmp_path):
    (tmp_path/"cure.py").write_text(ROW)
    with pytest.raises(ValueError, match="cure is the name of a study"): studies.study(str(tmp_path/"cure.py"), tmp_path/"out")
