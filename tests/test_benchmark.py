"Numbers that are committed can be made again; one command measures pictures that nobody has seen."
import json
import sys
from pathlib import Path

import pytest
import torch

import flowtok
from flowtok import cli, protocols
from flowtok.core import to_pil
from flowtok.data import Shapes
from flowtok.evaluation import accuracy, caption_set

RESULTS = Path(__file__).parents[1]/"nbs"/"results"


def test_a_committed_number_can_be_made_again():
    "Right in one step, of a thousand captions: seed 1, whose weights are the bundled ones."
    record = json.loads((RESULTS/"nano-seed1"/"evaluation.json").read_text())
    captions = caption_set("seen", record["record"]["samples"], record["record"]["seed"] + 1)
    drawn = flowtok.load("nano", device="cpu").images(captions, 1, record["record"]["guidance"], record["record"]["seed"])
    assert accuracy(drawn, captions)["right"] == pytest.approx(record["steps"]["1"], abs=0.003)


@pytest.fixture
def pictures(tmp_path):
    folder, data = tmp_path/"pictures", Shapes(6, seed=321)
    folder.mkdir()
    for i in range(6): to_pil(data[i]["image"]).save(folder/f"{i}.jpg")
    (folder/"metadata.jsonl").write_text("\n".join(json.dumps(dict(file_name=f"{i}.jpg", text=data.texts(i)[0])) for i in range(6)))
    return folder


class Colours(torch.nn.Module):
    num_features = 3

    def forward(self, x): return x.float().mean((2, 3))


class Thirty:
    name = "none"

    def __init__(self, device): pass

    def __call__(self, images, captions): return torch.full((len(captions),), 30.0)


def evaluate(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["flowtok-evaluate", "nano", "--steps", "2", *map(str, words)])
    cli.evaluate()


def test_any_pictures_in_one_line(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(protocols, "ClipScore", Thirty)
    monkeypatch.setattr(protocols, "fid", lambda features, measure=protocols.fid: measure(Colours()))
    evaluate(monkeypatch, "--data", pictures, "--out", tmp_path/"out")
    report = json.loads((tmp_path/"out"/"benchmark.json").read_text())
    assert report["protocol"]["samples"] == 6 and report["fid"] >= 0 and report["clip"] == 30 and report["record"]["versions"]["torch"]
    assert "| nano |" in capsys.readouterr().out and len(list((tmp_path/"out"/"drawn").glob("*.png"))) == 6


@pytest.mark.parametrize("words, message", [
    (["--metrics", "fod"], "unknown metric 'fod'"), (["--samples", "1"], "at least two images"), (["--direction", "i2i"], "unknown direction 'i2i'"),
    (["--data", "mjhq-30k:nowhere"], "no meta_data.json in nowhere"), (["--data", "coco-30k:nowhere"], "captions_val2014.json")])
def test_wrong_words(words, message, pictures, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit): evaluate(monkeypatch, "--data", pictures, "--out", tmp_path/"out", *words)
    assert message in capsys.readouterr().err and not (tmp_path/"out"/"drawn").exists()
