"Training from the command line: all kinds of folders, all kinds of mistakes, and interruption."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flowtok
from flowtok import cli, recipes
from flowtok.pictures import to_pil
from flowtok.shapes import Shapes, draw
from flowtok.training import Stop, checkpoints, stop_at

MODES = {"RGB": (60, 40), "RGBA": (20, 90), "L": (64, 64), "P": (33, 50), "1": (40, 40), "CMYK": (37, 64), "I;16": (48, 32)}


@pytest.fixture
def folder(tmp_path): return pictures_of_all_modes(tmp_path/"pictures")


def pictures_of_all_modes(folder):
    "Seven captioned images of all modes and sizes."
    folder.mkdir()
    rows = []
    for i, (mode, size) in enumerate(MODES.items()):
        name = f"{i}." + ("jpg" if mode == "CMYK" else "png")
        picture = draw(Shapes(10).scene(i), 64).resize(size)
        (picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)).save(folder/name)
        rows.append(dict(file_name=name, text=f"picture number {i}"))
    write(folder, rows)
    return folder


def write(folder, rows): (folder/"metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def rows(folder): return [json.loads(line) for line in (folder/"metadata.jsonl").read_text().splitlines()]


def fails(capsys, *, match, **kw):
    "The command ends with status 1 and one line that says `match`."
    with pytest.raises(SystemExit) as stop: cli.flowtok_train(device="cpu", **kw)
    said = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 1
    assert said[-1].startswith("error: ") and match in said[-1], said


def test_a_folder_of_all_modes_trains_and_samples(folder, tmp_path):
    out = tmp_path/"run"
    cli.flowtok_train(data=str(folder), out=str(out), steps=6, save_every=3, device="cpu")
    assert {"config.json", "model.safetensors", "run.json", "settings.json", "curves.png", "samples"} <= {p.name for p in out.iterdir()}
    pictures = {f"{part}-{step:06}.png" for part in ("tokenizer", "flow", "caption") for step in (3, 6)}
    assert {p.name for p in (out/"samples").iterdir()} == pictures
    pipe, record = flowtok.load(out, device="cpu"), json.loads((out/"run.json").read_text())
    parts = ("tokenizer", "flow", "autoencoder", "caption")
    assert record["seed"] == 0 and tuple(record["training_seconds"]) == parts
    assert 0 < sum(record["training_seconds"].values()) < record["seconds"]
    assert record["parameters"]["tokenizer"] == sum(p.numel() for p in pipe.image_tokenizer.parameters())
    for part, module in dict(flow=pipe.flow, autoencoder=pipe.captioner.text, caption=pipe.captioner.dit).items():
        averaged = torch.load(checkpoints(out/part)[0])["ema"]
        assert [n for n, p in module.named_parameters() if not torch.equal(p, averaged[f"module.{n}"])] == [], part
    cli.flowtok_sample(str(out), ["picture number 3"], out=str(tmp_path/"three.png"), device="cpu")
    assert Image.open(tmp_path/"three.png").size == (32, 32)
    cli.flowtok_sample(str(out), ["picture number 3"], out=str(tmp_path/"sheet.png"), sheet=True, device="cpu")
    assert Image.open(tmp_path/"sheet.png").size == (240, 261)  # 1.6 inches at 150 dots, and 0.14 for a line of words


def test_csv_and_named_column(folder, tmp_path):
    lines = [f"{r['file_name']},nothing but {'abcdefg'[i]},{r['text']}" for i, r in enumerate(rows(folder))]
    (folder/"metadata.csv").write_text("\n".join(["file_name,text,title", *lines, ""]))
    (folder/"metadata.jsonl").unlink()
    cli.flowtok_train(data=str(folder), out=str(tmp_path/"run"), steps=1, caption_column="title", device="cpu")
    encoder = flowtok.load(tmp_path/"run", device="cpu").text_encoder
    assert encoder.unknown_words("picture number 0 1 2 3 4 5 6 nothing") == ["nothing"]


def test_webdataset(folder, tmp_path):
    import tarfile
    with tarfile.open(tmp_path/"shard.tar", "w") as tar:
        for i, row in enumerate(rows(folder)[:4]):
            (tmp_path/"caption.txt").write_text(row["text"])
            tar.add(folder/row["file_name"], f"{i:04}.png"); tar.add(tmp_path/"caption.txt", f"{i:04}.txt")
    data = recipes.open_data(tmp_path/"shard.tar", 32)
    grey = Image.open(folder/"2.png").resize((32, 32), Image.Resampling.BICUBIC).convert("RGB")
    assert len(data) == 4 and data.texts(2) == ["picture number 2"] and np.array_equal(to_pil(data[2]["image"]), grey)


def test_corrupt_image(folder, tmp_path, capsys):
    (folder/"3.png").write_bytes((folder/"3.png").read_bytes()[:60])
    fails(capsys, data=str(folder), out=str(tmp_path/"run"), steps=2, match="3.png is not a readable image")


def test_empty_caption(folder, tmp_path, capsys):
    write(folder, [*rows(folder)[:-1], dict(rows(folder)[-1], text=" ")])
    fails(capsys, data=str(folder), out=str(tmp_path/"run"), steps=2, match="empty caption in line 7 of metadata.jsonl (6.png)")


def test_missing_column(folder, tmp_path, capsys):
    fails(capsys, data=str(folder), out=str(tmp_path/"run"), steps=2, caption_column="title", match="no caption column title in metadata.jsonl: found file_name, text")


def test_folder_without_captions(folder, tmp_path, capsys):
    (folder/"metadata.jsonl").unlink()
    fails(capsys, data=str(folder), out=str(tmp_path/"run"), steps=2, match="no caption column")


def test_no_such_data(tmp_path, capsys):
    fails(capsys, data=str(tmp_path/"nothing"), out=str(tmp_path/"run"), match="no data set")


def test_unknown_preset(tmp_path, capsys):
    fails(capsys, preset="medium", out=str(tmp_path/"run"), match="choose one of nano, nano64, small, small-clip, B, XL, H")


def test_unknown_device(tmp_path, capsys):
    with pytest.raises(SystemExit): cli.flowtok_train(out=str(tmp_path/"run"), device="toaster")
    assert "unknown device 'toaster'" in capsys.readouterr().err


def test_unwritable_folder(folder, tmp_path, capsys):
    (tmp_path/"file").write_text("in the way")
    fails(capsys, data=str(folder), out=str(tmp_path/"file"/"run"), steps=2, match="choose another folder with --out")


def test_second_run_in_one_folder(folder, tmp_path, capsys):
    cli.flowtok_train(data=str(folder), out=str(tmp_path/"run"), steps=1, device="cpu")
    fails(capsys, data=str(folder), out=str(tmp_path/"run"), steps=1, match="--resume")
    fails(capsys, data=str(folder), out=str(tmp_path/"run"), steps=2, resume=True, match="started with another preset")
    fails(capsys, data=str(folder), out=str(tmp_path/"run"), steps=1, seed=1, resume=True, match="started with another seed")


def losses(out): return {part: [json.loads(line)["loss"] for line in (out/part/"log.jsonl").read_text().splitlines()] for part in ("tokenizer", "flow")}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    "A folder of pictures, what a run is called with, and a whole run."
    folder = tmp_path_factory.mktemp("never-stopped")
    common = dict(data=str(pictures_of_all_modes(folder/"pictures")), steps=8, save_every=2, device="cpu", progress=False)
    recipes.train(out=folder/"whole", **common)
    return common, folder/"whole"


@pytest.mark.parametrize("part,at", [("reconstruction_callback", 4), ("sample_callback", 6)])
def test_resume_is_exact(part, at, never_stopped, tmp_path, monkeypatch):
    "Stopped in either part, a resumed run has the losses of one that was never stopped, to the last bit."
    common, whole = never_stopped
    with monkeypatch.context() as m, pytest.raises(Stop):
        m.setattr(recipes, part, lambda *a: stop_at(at))
        recipes.train(out=tmp_path/"stopped", **common)
    recipes.train(out=tmp_path/"stopped", resume=True, **common)
    assert losses(whole) == losses(tmp_path/"stopped")
    assert len(losses(whole)["flow"]) == 8
    alone, resumed = (flowtok.load(run, device="cpu").state_dict() for run in (whole, tmp_path/"stopped"))
    assert all((alone[k] == resumed[k]).all() for k in alone)


@pytest.mark.skipif(os.name == "nt", reason="signals work differently on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_says_how_to_go_on(number, folder, tmp_path):
    "Ctrl-C, or a machine that is wanted back, in a real process: one line, and a checkpoint of the last step."
    command = [Path(sys.executable).parent/"flowtok-train", "--data", folder, "--out", tmp_path/"run", "--device", "cpu", "--save-every", "5"]
    process = subprocess.Popen([*command, "--steps", "5000"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until = time.time() + 120
    while not checkpoints(tmp_path/"run"/"tokenizer") and time.time() < until: time.sleep(0.2)
    process.send_signal(number)
    said = process.communicate(timeout=45)[1]
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said and "--resume" in said.splitlines()[-1]
    done = len((tmp_path/"run"/"tokenizer"/"log.jsonl").read_text().splitlines())
    assert done >= 5 and checkpoints(tmp_path/"run"/"tokenizer")[0].name == f"step-{done:08}.pt"
