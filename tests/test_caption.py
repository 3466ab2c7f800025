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
from flowtok.data import Shapes, parse
from flowtok.evaluation import caption_metrics

TINY = dict(data="shapes", steps=3, device="cpu", progress=False)


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch):
    monkeypatch.setattr(recipes, "open_data", lambda *args, **kw: Shapes(48))


def test_each_direction_alone_and_both(tmp_path):
    draws = recipes.train(out=tmp_path/"t2i", direction="t2i", **TINY)
    with pytest.raises(ValueError, match="has no captioner"): draws.image_to_text([Image.new("RGB", (32, 32))])
    says = recipes.train(out=tmp_path/"i2t", direction="i2t", **TINY)
    with pytest.raises(ValueError, match="cannot draw"): says.text_to_image(["a star"])
    again = flowtok.load(tmp_path/"i2t", device="cpu")
    pictures = [Shapes(4)[i]["image"] for i in range(4)]
    assert again.flow is None and again.image_to_text(pictures, steps=2) == says.image_to_text(pictures, steps=2)
    with pytest.raises(ValueError, match="choose t2i, i2t, both or tokenizer"): recipes.train(out=tmp_path/"x", direction="back", **TINY)


def test_a_run_of_one_direction_grows_the_other(tmp_path):
    first = recipes.train(out=tmp_path/"run", direction="t2i", **TINY)
    both = recipes.train(out=tmp_path/"run", direction="both", resume=True, **TINY)
    assert torch.equal(first.images(["a star"], steps=2), both.images(["a star"], steps=2))
    assert len(both.image_to_text([Image.new("RGB", (32, 32))], steps=2)) == 1
    whole = recipes.train(out=tmp_path/"whole", **TINY)
    for a, b in zip(both.parameters(), whole.parameters(), strict=True): assert torch.equal(a, b)


def test_start_from_a_trained_model(tmp_path):
    whole = recipes.train(out=tmp_path/"whole", **TINY)
    started = recipes.train(out=tmp_path/"started", start=tmp_path/"whole", direction="i2t", **TINY)
    for a, b in zip(started.parameters(), whole.parameters(), strict=True): assert torch.equal(a, b)
    assert not (tmp_path/"started"/"tokenizer").exists() and not (tmp_path/"started"/"flow").exists()
    again = recipes.train(out=tmp_path/"again", start=tmp_path/"whole", direction="t2i", **dict(TINY, seed=1))
    for a, b in zip(again.tokenizer.parameters(), whole.tokenizer.parameters(), strict=True): assert torch.equal(a, b)
    assert torch.equal(again.tokenizer.latent_std, whole.tokenizer.latent_std) and not torch.equal(again.flow.projector.out.weight, whole.flow.projector.out.weight)
    own = recipes.train(out=tmp_path/"again", start=tmp_path/"whole", direction="i2t", resume=True, **dict(TINY, seed=1))  # its own flow stays
    assert torch.equal(own.flow.projector.out.weight, again.flow.projector.out.weight) and own.captioner is not None
    with pytest.raises(ValueError, match="has 77 tokens of 16 numbers .* 16, 16, 128: choose its preset, nano"): recipes.train("B", out=tmp_path/"x", start=tmp_path/"whole", **TINY)
    with pytest.raises(ValueError, match="another start"): recipes.train(out=tmp_path/"started", direction="i2t", resume=True, **TINY)


def test_caption_command(tmp_path):
    from flowtok.data import draw
    scene = Shapes(1, seed=7).scene(0)
    draw(scene, 64).save(tmp_path/"good.png")
    (tmp_path/"bad.png").write_text("no image")
    command = Path(sys.executable).parent/"flowtok-caption"
    run = lambda *files: subprocess.run([command, "nano", *map(str, files), "--device", "cpu"], capture_output=True, text=True, cwd=tmp_path)
    fine = run("good.png")
    assert fine.returncode == 0 and parse(fine.stdout.strip().partition(": ")[2]) is not None, fine.stderr
    mixed = run("bad.png", "good.png", "missing.png")
    assert mixed.returncode == 1 and mixed.stdout == fine.stdout
    assert "bad.png is not a readable image" in mixed.stderr and "missing.png" in mixed.stderr and "Traceback" not in mixed.stderr


def test_seeds_and_batches():
    pipe, pictures = flowtok.load("nano", device="cpu"), [Shapes(6, seed=8)[i]["image"] for i in range(6)]
    drawn = pipe.image_to_text(pictures, seed=3)
    assert drawn == pipe.image_to_text(pictures, seed=3, batch=2) and drawn[:3] == pipe.image_to_text(pictures[:3], seed=3)
    assert any(drawn != pipe.image_to_text(pictures, seed=s) for s in range(4, 12))
    likeliest = pipe.image_to_text(pictures, seed=None)
    assert likeliest == pipe.image_to_text(pictures, seed=None, batch=2)


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
    for mine, name in names.items(): assert abs(ours[mine] - theirs.eval[name]) < 1e-6, name
    assert ours["BLEU-1"] > 0.3


def test_metrics_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no java here"): caption_metrics(["a"], [["a"]])


def test_a_tokenizer_alone_and_what_is_built_on_it(tmp_path):
    alone = recipes.train(out=tmp_path/"tokenizer", direction="tokenizer", **TINY)
    assert alone.flow is None and alone.captioner is None and alone.tokenizer.latent_std.min() > 0 and not torch.equal(alone.tokenizer.latent_std, torch.ones(16))
    with pytest.raises(ValueError, match="--direction tokenizer and cannot draw"): alone.text_to_image(["a star"])
    recipes.pretokenize(str(tmp_path/"tokenizer"), "shapes", tmp_path/"tokens", device="cpu", progress=False)
    built = recipes.train(out=tmp_path/"built", start=tmp_path/"tokenizer", direction="t2i", **TINY | dict(data=str(tmp_path/"tokens")))
    for a, b in zip(built.tokenizer.state_dict().values(), alone.tokenizer.state_dict().values(), strict=True): assert torch.equal(a, b)
    with pytest.raises(ValueError, match="images of 32 pixels, preset nano64 is for 64"): recipes.train("nano64", out=tmp_path/"x", start=tmp_path/"tokenizer", **TINY | dict(data=str(tmp_path/"tokens")))


def test_going_on_at_another_resolution(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "open_data", lambda source, size, **kw: Shapes(48, size))
    small = recipes.train(out=tmp_path/"small", **TINY)
    large = recipes.train("nano64", out=tmp_path/"large", start=tmp_path/"small", **dict(TINY, steps=1))
    assert large.images(["a star"], steps=2).shape == (1, 3, 64, 64)
    for part in ("tokenizer", "flow"):
        moved = max((a - b).abs().max() for a, b in zip(getattr(large, part).parameters(), getattr(small, part).parameters(), strict=True))
        assert 0 < moved < 0.1, part
    assert (tmp_path/"large"/"tokenizer").exists() and (tmp_path/"large"/"flow").exists()


def test_a_trained_part_goes_on(tmp_path):
    base = recipes.train(out=tmp_path/"base", direction="t2i", **TINY)
    tuned = recipes.train(out=tmp_path/"tuned", direction="t2i", start=tmp_path/"base", tune=True, **dict(TINY, steps=1))
    far = lambda part: max((a - b).abs().max() for a, b in zip(getattr(base, part).state_dict().values(), getattr(tuned, part).state_dict().values(), strict=True))
    assert 0 < far("flow") < 0.02 and far("tokenizer") == 0
    finer = recipes.train(out=tmp_path/"finer", direction="tokenizer", start=tmp_path/"base", tune=True, seed=1, **dict(TINY, steps=1))
    moved = max((a - b).abs().max() for a, b in zip(base.tokenizer.parameters(), finer.tokenizer.parameters(), strict=True))
    assert 0 < moved < 0.02  # and not another seed's start
    for wrong in (dict(), dict(start=tmp_path/"base", direction="i2t"), dict(start=tmp_path/"base", direction="both"), dict(start=tmp_path/"finer"), dict(start=tmp_path/"base", preset_name="nano64")):
        with pytest.raises(ValueError, match="--tune"): recipes.train(out=tmp_path/"x", tune=True, **TINY | dict(direction="t2i") | wrong)
