"Numbers that are committed can be made again; one command measures pictures that nobody has seen."
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from scipy import linalg

import flowtok
from flowtok import benchmarks, cli
from flowtok.evaluation import accuracy, caption_set, source_width
from flowtok.lineage import weights_digest
from flowtok.pictures import to_pil
from flowtok.shapes import Shapes

RESULTS = Path(__file__).parents[1]/"nbs"/"results"


def test_a_committed_number_can_be_made_again():
    "Right in one step, of a thousand captions: seed 0, whose weights are the bundled ones."
    record = json.loads((RESULTS/"nano-seed0"/"evaluation.json").read_text())
    samples, seed, guidance = (record["record"][k] for k in ("samples", "seed", "guidance"))
    pipe, captions = flowtok.load("nano", device="cpu"), caption_set("seen", samples, seed + 1)
    assert source_width(pipe, captions) == pytest.approx(record["source"], abs=2e-4)  # equal; other captions: 8e-4 off
    right = accuracy(pipe.images(captions, 1, guidance, seed), captions)["right"]
    assert right == pytest.approx(record["steps"]["1"], abs=0.0025)  # equal; elsewhere one or two may be read otherwise


@pytest.fixture
def pictures(tmp_path):
    folder, data = tmp_path/"pictures", Shapes(6, seed=321)
    folder.mkdir()
    for i in range(6): to_pil(data[i]["image"]).save(folder/f"{i}.jpg")
    rows = [dict(file_name=f"{i}.jpg", text=data.texts(i)[0]) for i in range(6)]
    (folder/"metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


class Colours(torch.nn.Module):
    "Mean colours in place of Inception's features, which would have to be fetched."
    num_features = 3

    def forward(self, x): return x.float().mean((2, 3))


TINY_CLIP = dict(embed_dim=16, vision_cfg=dict(image_size=24, layers=1, width=32, patch_size=8, head_width=16),
                 text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=1))


@pytest.fixture
def tiny_clip(tmp_path):
    "A CLIP of open_clip's with random weights, and the file that holds them."
    (tmp_path/"clip").mkdir()
    (tmp_path/"clip"/"flowtok-tiny.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path/"clip")
    torch.manual_seed(0)
    model = open_clip.create_model("flowtok-tiny", pretrained=None).eval()
    torch.save(model.state_dict(), tmp_path/"clip"/"weights.pt")
    return model, str(tmp_path/"clip"/"weights.pt")


def cosines(model, files, captions):
    "Cosines of images and captions: (b,). Pillow resizes each channel in floats; whole bytes, as open_clip prepares them, move a score by up to 0.06."
    def resized(channel): return np.asarray(Image.fromarray(channel).resize((24, 24), Image.Resampling.BICUBIC)).clip(0, 1)
    x = np.stack([[resized(c) for c in (np.asarray(Image.open(f), dtype=np.float32)/255).transpose(2, 0, 1)] for f in files])
    mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad(): u, v = model.encode_image(torch.from_numpy((x - mean)/std)).numpy(), model.encode_text(open_clip.tokenize(captions)).numpy()
    return (u*v).sum(1)/np.linalg.norm(u, axis=1)/np.linalg.norm(v, axis=1)


def frechet(files, others):
    "Distance of the normal distributions of two sets' mean colours."
    a, b = (np.stack([np.asarray(Image.open(f), dtype=float).mean((0, 1)) for f in x]) for x in (files, others))
    s, t = np.cov(a.T), np.cov(b.T)
    return ((a.mean(0) - b.mean(0))**2).sum() + np.trace(s + t - 2*linalg.sqrtm(s @ t).real)


def evaluate(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["flowtok-evaluate", "nano", "--steps", "2", *map(str, words)])
    cli.flowtok_evaluate()


def test_any_pictures_in_one_line(pictures, tiny_clip, tmp_path, monkeypatch, capsys):
    "Both numbers are those of the files, computed here in another way; the two networks are small and random."
    model, weights = tiny_clip
    monkeypatch.setattr(benchmarks, "ClipScore", partial(benchmarks.ClipScore, "flowtok-tiny", weights))
    measure = benchmarks.fid
    monkeypatch.setattr(benchmarks, "fid", lambda features, *device: measure(Colours(), *device))
    evaluate(monkeypatch, "--data", pictures, "--out", tmp_path/"out")
    report = json.loads((tmp_path/"out"/"benchmark.json").read_text())
    pipe, captions = flowtok.load("nano", device="cpu"), [Shapes(6, seed=321).texts(i)[0] for i in range(6)]
    real, drawn = sorted(pictures.glob("*.jpg")), sorted((tmp_path/"out"/"drawn").glob("*.png"))
    wanted = pipe.images(captions, 2, seed=(1000, 0))
    assert [Image.open(f).tobytes() for f in drawn] == [to_pil(x).tobytes() for x in wanted]
    assert report["fid"] == pytest.approx(frechet(real, drawn), abs=1e-3)  # 8e-5 off, of 2247
    scores = cosines(model, drawn, captions)
    assert min(scores) < -0.05  # counts as 0
    assert report["clip"] == pytest.approx(100*scores.clip(0).mean(), abs=2e-3)  # bilinear instead of bicubic: 2e-2 off
    assert report["protocol"] | dict(content=None) == dict(
        content=None, data=str(pictures), samples=6, size=32, seed=1000, block=64, resize="centre square, bicubic",
        captions="the first of each image", fid="Inception", clip=f"flowtok-tiny/{weights}")
    assert report["record"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    said = [weights_digest(pipe)[:8], 2, pipe.preset.guidance, report["fid"], report["clip"], report["images_per_second"]]
    assert f"| nano | {' | '.join(map(str, said))} |" in capsys.readouterr().out


@pytest.mark.parametrize("words, message", [
    (["--metrics", "fod"], "unknown metric 'fod'"), (["--samples", "1"], "at least two images"), (["--direction", "i2i"], "unknown direction 'i2i'"),
    (["--data", "mjhq-30k:nowhere"], "no meta_data.json in nowhere"), (["--data", "coco-30k:nowhere"], "captions_val2014.json")])
def test_wrong_words(words, message, pictures, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit): evaluate(monkeypatch, "--data", pictures, "--out", tmp_path/"out", *words)
    assert message in capsys.readouterr().err and not (tmp_path/"out"/"drawn").exists()
