"Image to text: commands, directions, odd files, and agreement with the code behind COCO's numbers."
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import flowtok
from flowtok import recipes
from flowtok.benchmarks import caption_metrics
from flowtok.config import preset
from flowtok.shapes import Shapes, draw, judge

TINY = dict(data="shapes", steps=3, device="cpu", progress=False)


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch):
    for room in ("recipes", "data"): monkeypatch.setattr(f"flowtok.{room}.open_data", lambda *args, **kw: Shapes(48))


def differ(a, b):
    "Names of the weights and statistics in which two models are not the same to the last bit."
    mine, other = a.state_dict(), b.state_dict()
    assert list(mine) == list(other)
    return [k for k in mine if not torch.equal(mine[k], other[k])]


def moved(a, b):
    "How far apart two models are: their vectors, which a step of Adam moves by its rate at most, and their matrices."
    apart = [((p - q).abs().max().item(), p.ndim) for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    return max(far for far, n in apart if n != 2), max(far for far, n in apart if n == 2)


def spread(pipe):
    "Standard deviation of each number of a token around its mean over the drawings, computed in float64."
    x = torch.stack([Shapes(48)[i]["image"] for i in range(48)])
    z = pipe.image_tokenizer.encode(x).mean.detach().double().numpy()
    return (z - z.mean(0)).std((0, 1), ddof=1)


def test_each_direction_alone_and_both(tmp_path):
    draws = recipes.train(out=tmp_path/"t2i", direction="t2i", **TINY)
    with pytest.raises(ValueError, match="has no captioner"): draws.image_to_text([Image.new("RGB", (32, 32))])
    says = recipes.train(out=tmp_path/"i2t", direction="i2t", **TINY)
    with pytest.raises(ValueError, match="cannot draw"): says.text_to_image(["a star"])
    again = flowtok.load(tmp_path/"i2t", device="cpu")
    pictures = [Shapes(4)[i]["image"] for i in range(4)]
    said = says.image_to_text(pictures, steps=2, temperature=1.0)
    assert again.flow is None and differ(again, says) == []
    assert again.image_to_text(pictures, steps=2, temperature=1.0) == said and len(set(said)) > 1
    with pytest.raises(ValueError, match="choose t2i, i2t, both or tokenizer"): recipes.train(out=tmp_path/"x", direction="back", **TINY)


def test_a_run_of_one_direction_grows_the_other(tmp_path):
    first = recipes.train(out=tmp_path/"run", direction="t2i", **TINY)
    both = recipes.train(out=tmp_path/"run", direction="both", resume=True, **TINY)
    assert torch.equal(first.images(["a star"], steps=2), both.images(["a star"], steps=2))
    whole = recipes.train(out=tmp_path/"whole", **TINY)
    assert both.captioner is not None and differ(both, whole) == []


def test_start_from_a_trained_model(tmp_path):
    whole = recipes.train(out=tmp_path/"whole", **TINY)
    started = recipes.train(out=tmp_path/"started", start=tmp_path/"whole", direction="i2t", **TINY)
    assert differ(started, whole) == []
    assert not (tmp_path/"started"/"tokenizer").exists() and not (tmp_path/"started"/"flow").exists()
    again = recipes.train(out=tmp_path/"again", start=tmp_path/"whole", direction="t2i", **dict(TINY, seed=1))
    assert differ(again.image_tokenizer, whole.image_tokenizer) == []
    assert moved(again.flow, whole.flow)[1] > 0.1  # another seed's start, and not that of the model to start from
    own = recipes.train(out=tmp_path/"again", start=tmp_path/"whole", direction="i2t", resume=True, **dict(TINY, seed=1))  # its own flow stays
    assert differ(own.flow, again.flow) == [] and own.captioner is not None
    with pytest.raises(ValueError, match="has 77 tokens of 16 numbers .* 16, 16, 128: choose its preset, nano"): recipes.train("B", out=tmp_path/"x", start=tmp_path/"whole", **TINY)
    with pytest.raises(ValueError, match="another start"): recipes.train(out=tmp_path/"started", direction="i2t", resume=True, **TINY)


def test_caption_command(tmp_path):
    "What it says of twenty pictures is true of at least 18 (of 300 such files: 98 %); files that cannot be read change nothing but the end."
    data, good = Shapes(20, seed=11), [f"{i}.png" for i in range(20)]
    for i, name in enumerate(good): draw(data.scene(i), 64).save(tmp_path/name)
    (tmp_path/"bad.png").write_text("no image")
    def run(*files):
        command = [Path(sys.executable).parent/"flowtok-caption", "nano", *files, "--device", "cpu"]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    fine = run(*good)
    assert fine.returncode == 0, fine.stderr
    names, said = zip(*(line.split(": ", 1) for line in fine.stdout.splitlines()))
    assert list(names) == good
    stated = [judge(data.scene(i), text) for i, text in enumerate(said)]
    assert sum(all(s.values()) for s in stated) >= 18 and sum(map(len, stated)) >= 60, said
    mixed = run("bad.png", *good, "missing.png")
    assert mixed.returncode == 1 and mixed.stdout == fine.stdout
    assert "bad.png is not a readable image" in mixed.stderr and "missing.png" in mixed.stderr and "Traceback" not in mixed.stderr


def test_seeds_and_batches():
    pipe, pictures = flowtok.load("nano", device="cpu"), [Shapes(6, seed=8)[i]["image"] for i in range(6)]
    def said(seed, images=pictures, **kw): return pipe.image_to_text(images, temperature=0.5, seed=seed, **kw)
    assert said(3) == said(3, batch=2) and said(3)[:3] == said(3, pictures[:3])
    assert any(said(3) != said(s) for s in range(4, 12))
    assert pipe.image_to_text(pictures) == pipe.image_to_text(pictures, batch=2)


@pytest.mark.skipif(shutil.which("java") is None, reason="COCO's tokenizer is a Java program")
def test_metrics_agree_with_pycocoevalcap(tmp_path):
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.eval import COCOEvalCap
    from pycocotools.coco import COCO
    people = [["A dog runs on the beach.", "A brown dog is running along the shore"], ["Two men play chess", "men at a chess board, in a park", "chess players"],
              ["a red bus in a street", "A bus, painted red, waits at a stop"], ["snow on a roof"]]
    said = ["a dog is running on the beach.", "two men play chess in a park", "a green train", "Snow covers the roof of a house"]
    truth = dict(info={}, licenses=[], type="captions", images=[dict(id=i) for i in range(4)],
                 annotations=[dict(image_id=i, id=10*i + k, caption=t) for i, texts in enumerate(people) for k, t in enumerate(texts)])
    (tmp_path/"truth.json").write_text(json.dumps(truth))
    (tmp_path/"said.json").write_text(json.dumps([dict(image_id=i, caption=t) for i, t in enumerate(said)]))

    class WithoutSpice(COCOEvalCap):
        "Their whole protocol; SPICE is left out because it fetches models."
        def evaluate(self):
            import pycocoevalcap.eval as theirs
            theirs.Spice = lambda: type("None", (), dict(compute_score=lambda *a: (0.0, [{}]*4), method=lambda s: "SPICE"))()
            super().evaluate()

    coco = COCO(str(tmp_path/"truth.json"))
    theirs = WithoutSpice(coco, coco.loadRes(str(tmp_path/"said.json"))); theirs.evaluate()
    ours = caption_metrics(said, people, ("BLEU", "METEOR", "ROUGE-L", "CIDEr"))
    names = {"BLEU-1": "Bleu_1", "BLEU-2": "Bleu_2", "BLEU-3": "Bleu_3", "BLEU-4": "Bleu_4", "METEOR": "METEOR", "ROUGE-L": "ROUGE_L", "CIDEr": "CIDEr"}
    for mine, name in names.items(): assert abs(ours[mine] - theirs.eval[name]) < 1e-12, name  # equal
    assert ours["BLEU-1"] == pytest.approx(18/24, abs=1e-9)  # by hand: words found, of as many as the references have


def test_metrics_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no java here"): caption_metrics(["a"], [["a"]])


def test_a_tokenizer_alone_and_what_is_built_on_it(tmp_path):
    alone = recipes.train(out=tmp_path/"tokenizer", direction="tokenizer", **TINY)
    assert alone.flow is None and alone.captioner is None
    assert alone.image_tokenizer.latent_std.numpy() == pytest.approx(spread(alone), rel=1e-4)  # 4e-8 off
    with pytest.raises(ValueError, match="--direction tokenizer and cannot draw"): alone.text_to_image(["a star"])
    recipes.pretokenize(str(tmp_path/"tokenizer"), "shapes", tmp_path/"tokens", device="cpu", progress=False)
    built = recipes.train(out=tmp_path/"built", start=tmp_path/"tokenizer", direction="t2i", **TINY | dict(data=str(tmp_path/"tokens")))
    assert differ(built.image_tokenizer, alone.image_tokenizer) == []
    with pytest.raises(ValueError, match="images of 32 pixels, preset nano64 is for 64"): recipes.train("nano64", out=tmp_path/"x", start=tmp_path/"tokenizer", **TINY | dict(data=str(tmp_path/"tokens")))


def test_going_on_at_another_resolution(tmp_path, monkeypatch):
    for room in ("recipes", "data"): monkeypatch.setattr(f"flowtok.{room}.open_data", lambda source, size, **kw: Shapes(48, size))
    small = recipes.train(out=tmp_path/"small", **TINY)
    large = recipes.train("nano64", out=tmp_path/"large", start=tmp_path/"small", **dict(TINY, steps=1))
    assert large.images(["a star"], steps=2).shape == (1, 3, 64, 64)
    for part, rate in dict(image_tokenizer=preset("nano64").train_tokenizer.lr, flow=preset("nano64").train_flow.lr).items():
        vectors, matrices = moved(getattr(large, part), getattr(small, part))
        assert vectors == pytest.approx(rate, rel=1e-3) and matrices < 0.01, part  # 5e-5 off, 0.004
    assert (tmp_path/"large"/"tokenizer").exists() and (tmp_path/"large"/"flow").exists()


def test_a_trained_part_goes_on(tmp_path):
    base = recipes.train(out=tmp_path/"base", direction="t2i", **TINY)
    tuned = recipes.train(out=tmp_path/"tuned", direction="t2i", start=tmp_path/"base", tune=True, **dict(TINY, steps=1))
    vectors, matrices = moved(base.flow, tuned.flow)
    assert vectors == pytest.approx(preset("nano").train_flow.lr, rel=1e-3) and matrices < 0.01  # 1e-5 off, 0.004
    assert differ(base.image_tokenizer, tuned.image_tokenizer) == []
    finer = recipes.train(out=tmp_path/"finer", direction="tokenizer", start=tmp_path/"base", tune=True, seed=1, **dict(TINY, steps=1))
    vectors, matrices = moved(base.image_tokenizer, finer.image_tokenizer)  # from where it stood, and not another seed's start
    assert vectors == pytest.approx(preset("nano").train_tokenizer.lr, rel=1e-3) and matrices < 0.01  # 5e-5 off, 0.004
    for wrong in (dict(), dict(start=tmp_path/"base", direction="i2t"), dict(start=tmp_path/"base", direction="both"), dict(start=tmp_path/"finer"), dict(start=tmp_path/"base", preset_name="nano64")):
        with pytest.raises(ValueError, match="--tune"): recipes.train(out=tmp_path/"x", tune=True, **TINY | dict(direction="t2i") | wrong)
