"Numbers that mean what they say: times, curves, precision, weight decay, clipping, plans that can work."
import json
from dataclasses import asdict, replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import flowtok
from flowtok import benchmarks, cli, evaluation, recipes
from flowtok.benchmarks import evaluate_tokenizer, fid
from flowtok.config import preset
from flowtok.core import generator
from flowtok.data import Images, LatentCache
from flowtok.evaluation import evaluate_captions, evaluate_shapes
from flowtok.dit import DiT
from flowtok.experiments.cure import BEFORE
from flowtok.experiments.studies import FIRST_RECIPE, changed
from flowtok.flow import draw_times, expected_end
from flowtok.layers import KeepsStatistics
from flowtok.lineage import PARTS, check_split, planned_preset, take_over
from flowtok.model import FlowLossConfig, FlowTok, text_to_image_loss
from flowtok.pipeline import Pipeline, _each, load, normal
from flowtok.sampling import renewing, sample, sample_adaptive, time_grid
from flowtok.shapes import Shapes
from flowtok.text import tokenize, vocabulary_of
from flowtok.tokenizer import ImageTokenizer
from flowtok.training import Run, TrainConfig, clip_groups, decayed, lr_factor, make_optimizers
from test_benchmark import RESULTS, Colours
from test_inputs import refused
from world import squares


@pytest.mark.parametrize("times", ["uniform", "logit-normal"])
def test_a_share_of_times_is_zero(times):
    t = draw_times(20_000, FlowLossConfig(times=times, time_zero=0.3), generator(0))
    assert (t == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)  # four standard deviations and a half
    assert torch.equal(draw_times(100, FlowLossConfig(times="uniform"), generator(0)), torch.rand(100, generator=generator(0)))


def test_curves_stand_at_their_steps():
    "Large presets log every twentieth step, and a resumed run has gaps."
    log = [dict(step=s, seconds=0, loss=float(s)) for s in (20, 40, 60, 100)]
    line, = recipes.plot_log(dict(flow=log)).axes[0].lines
    assert line.get_xdata().tolist() == [20, 40, 60, 100] and line.get_ydata().tolist() == [20, 40, 60, 100]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_flow_that_leaves_the_numbers_is_an_error(broken):
    def velocity(x, t, null): return x*broken
    for way in (sample_adaptive, sample):
        with pytest.raises(FloatingPointError, match="left the finite numbers"): way(velocity, torch.ones(2, 3, 2))
    for tolerance in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="tolerance"): sample_adaptive(lambda x, t, null: x, torch.ones(1, 1, 1), tolerance=tolerance)
    with pytest.raises(ValueError, match="steps must be a whole number"): time_grid(2.5)


@pytest.fixture(scope="module")
def short(): return flowtok.load("nano", device="cpu", dtype=torch.bfloat16)


def test_statistics_stay_exact_in_short_precision(short):
    pipe = flowtok.load("nano", device="cpu")
    kept = {n: b for n, b in pipe.named_buffers() if n.rpartition(".")[2] in ("latent_mean", "latent_std", "token_std")}
    assert len(kept) == 3
    for name, buffer in kept.items(): assert torch.equal(dict(short.named_buffers())[name], buffer), name
    assert short.image_tokenizer.encoder.out.weight.dtype == torch.bfloat16
    twice = KeepsStatistics()
    twice.register_buffer("mean", torch.full((1,), 1/3))
    assert twice.half().float().mean.item() == pytest.approx(1/3, abs=1e-8) and twice.double().mean.dtype == torch.float64


@pytest.fixture
def few(monkeypatch):
    "Every measurement of drawings, but of few captions and with few guidances."
    monkeypatch.setattr(evaluation, "FREE_CAPTIONS", evaluation.FREE_CAPTIONS[:2])
    monkeypatch.setattr(evaluation, "trade_off", partial(evaluation.trade_off, guidances=(1.0, 2.0)))


def test_every_measurement_runs_in_short_precision(short, few, tmp_path):
    assert evaluate_shapes(short, 16, 1)["right"]["seen"]["readable"] > 0.5
    assert evaluate_captions(short, 16, 2)["likeliest"]["seen"]["parsed"] > 0.5
    assert evaluate_tokenizer(short, Images(Shapes(16), progress=False), features=Colours())["psnr"] > 20
    report = benchmarks.benchmark(short, str(squares(tmp_path/"data")), tmp_path/"out", steps=1, metrics=("fid",), features=Colours(), progress=False)
    assert np.isfinite(report["fid"])


def test_fid_on_mps_adds_up_on_the_cpu():
    assert fid(Colours(), "mps").device.type == "cpu" and fid(Colours(), torch.device("mps", 0)).device.type == "cpu"


def test_guidance_zero_is_recorded_as_zero(few):
    pipe = flowtok.load("nano", device="cpu")
    assert evaluate_shapes(pipe, 16, 1, guidance=0)["settings"]["guidance"] == 0
    assert pipe.preset.guidance == evaluate_shapes(pipe, 16, 1)["settings"]["guidance"] != 0


# --- greedy captions

def test_the_likeliest_words_unless_asked_otherwise(tmp_path, monkeypatch):
    pipe, data = flowtok.load("nano", device="cpu"), Shapes(24, seed=5)
    pictures = [data[i]["image"] for i in range(24)]
    z = sample(pipe.caption_velocity, pipe.encode_images(pictures), pipe.preset.caption_steps)
    assert pipe.image_to_text(pictures) == pipe.decode_text(z) == pipe.image_to_text(pictures, seed=None)
    drawn = pipe.image_to_text(pictures, temperature=0.5, seed=1)
    assert drawn == pipe.decode_text(z, 0.5, 1) != pipe.decode_text(z) and drawn != pipe.image_to_text(pictures, temperature=0.5, seed=2)
    with pytest.warns(UserWarning, match="the same for every seed"): assert pipe.image_to_text(pictures, seed=4) == pipe.decode_text(z)
    monkeypatch.setattr(benchmarks, "check_caption_metrics", lambda metrics: None)
    monkeypatch.setattr(benchmarks, "caption_metrics", lambda said, references, metrics: {})
    monkeypatch.setattr(benchmarks, "open_benchmark", lambda *args: data)
    benchmarks.caption_benchmark(pipe, "shapes", tmp_path, seed=7, batch=10, progress=False)
    assert json.loads((tmp_path/"said.json").read_text())["said"] == pipe.image_to_text(pictures)


def test_captions_take_the_steps_of_the_preset_unless_told_otherwise():
    pipe = flowtok.load("nano", device="cpu")
    pictures = [Shapes(32, seed=5)[i]["image"] for i in range(32)]
    walked = pipe.encode_images(pictures)
    by_steps = {k: pipe.decode_text(sample(pipe.caption_velocity, walked, k)) for k in (1, 20)}
    assert pipe.preset.caption_steps == 1 and by_steps[1] != by_steps[20] and preset("XL").caption_steps == 20
    assert pipe.image_to_text(pictures) == by_steps[1] and pipe.image_to_text(pictures, 20) == by_steps[20]
    pipe.preset = replace(pipe.preset, caption_steps=20)
    assert pipe.image_to_text(pictures) == by_steps[20]


# --- optimisers

def test_weight_decay_reaches_what_its_name_says():
    tokenizer = ImageTokenizer(preset("nano").tokenizer)
    names = {n for n, p in tokenizer.named_parameters() if id(p) in decayed(tokenizer, "matrices")}
    assert not [n for n in names if any(w in n for w in ("latent", "positions", "mask", "bias", "ln_")) and "latent_in.weight" not in n]
    assert names == {n for n, p in tokenizer.named_parameters() if n.endswith("weight") and "ln_" not in n}
    flow = FlowTok(preset("nano").flow, words=8)
    assert {n for n, p in flow.named_parameters() if id(p) in decayed(flow, "matrices") and p.ndim < 2} == set()
    assert "dit.null.weight" not in {n for n, p in flow.named_parameters() if id(p) in decayed(flow, "matrices")}
    assert len(decayed(flow, "all")) == len(list(flow.parameters()))
    with pytest.raises(ValueError, match="unknown weight decay 'some'"): decayed(flow, "some")


@pytest.mark.parametrize("name, flow, tokenizer", [("B", "all", "matrices"), ("XL", "all", "matrices"), ("nano", "matrices", "matrices")])
def test_presets_name_their_weight_decay(name, flow, tokenizer):
    p = preset(name)
    assert (p.train_flow.decay, p.train_tokenizer.decay) == (flow, tokenizer)


def test_decay_shrinks_what_has_no_gradient():
    "Seen in the numbers: one step with a gradient of zero."
    for how, moved in dict(matrices={"0.weight"}, all={"0.weight", "0.bias", "1.weight", "1.bias"}).items():
        model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        for p in model.parameters(): nn.init.ones_(p)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        for p in model.parameters(): p.grad = torch.zeros_like(p)
        for o in make_optimizers(model, TrainConfig(1, 1, 0.1, weight_decay=0.5, decay=how)): o.step()
        assert {n for n, p in model.named_parameters() if not torch.equal(p, before[n])} == moved


def test_the_balance_head_shortens_no_step_of_the_flow():
    "Its gradient is clipped by itself."
    model = FlowTok(preset("nano").flow, words=8)
    run = Run(model, None, TrainConfig(1, 1, 0.1, clip=1.0))
    for name, p in run.model.named_parameters(): p.grad = torch.full_like(p, 100.0 if "balance" in name else 1e-6)
    largest = run.clip()
    assert largest > 1000
    assert torch.equal(model.dit.embed.weight.grad, torch.full_like(model.dit.embed.weight, 1e-6))
    norm = torch.cat([p.grad.flatten() for p in model.balance.parameters()]).norm()
    assert norm.item() == pytest.approx(1, abs=1e-3)
    assert sum(len(g) for g in clip_groups(model)) == len(list(model.parameters()))


def test_a_floor_that_is_never_reached_is_refused():
    with pytest.raises(ValueError, match="a constant schedule has no floor"): lr_factor(5, TrainConfig(10, 1, 0.1, schedule="constant", floor=0.1))


# --- plans

@pytest.mark.parametrize("accumulate, direction, message", [
    (32, "both", "does not divide the batch of 16 images .train_autoencoder."), (32, "tokenizer", None), (32, "t2i", None), (16, "both", None), (3, "both", "does not divide"), (64, "i2t", "does not divide"),
    (0, "both", "--accumulate must be at least 1"), (2.5, "both", "whole number"), ("2", "both", "whole number")])
def test_what_cannot_work_is_refused_before_the_first_step(accumulate, direction, message):
    plan = lambda: planned_preset("nano", 2, direction, accumulate)
    if message is None: assert plan().train_tokenizer.accumulate == accumulate
    else:
        with pytest.raises(ValueError, match=message): plan()


def test_a_flow_needs_two_samples_a_part():
    "The alignment loss compares captions."
    p = preset("nano")
    for accumulate, message in ((32, None), (64, "leaves one sample a part .train_flow.")):
        cut = replace(p, train_flow=replace(p.train_flow, batch=64, accumulate=accumulate))
        if message is None: check_split(cut, "train_flow")
        else:
            with pytest.raises(ValueError, match=message): check_split(cut, "train_flow")


@pytest.mark.parametrize("name, processes", list(product(("nano", "B"), (1, 2, 3, 4, 5, 8))))
def test_every_plan_that_is_made_can_be_split(name, processes):
    "As `Shuffled`, `split` and the text autoencoder do it, stage by stage."
    for accumulate in (1, 2, 4, 8, 16, 32, 64):
        p = replace(preset(name), direction="both")
        fits = True
        for part in PARTS:
            cfg = getattr(p, part)
            images = cfg.batch//4 if part == "train_autoencoder" else cfg.batch
            fits &= images % processes == 0 and (images//processes) % accumulate == 0 and not (part == "train_flow" and accumulate > 1 and images//accumulate < 2)
        try: planned_preset(name, None, "both", accumulate, processes=processes)
        except ValueError: assert not fits, (accumulate, processes)
        else: assert fits, (accumulate, processes)


def test_a_tokenizer_that_would_not_be_trained_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing is left to train .* add --tune"): recipes.train(data=str(squares(tmp_path/"data")), out=tmp_path/"run", start="nano", direction="tokenizer", device="cpu", steps=1)


@pytest.mark.parametrize("options, message", [(dict(save_every=0), "--save-every must be at least 1"), (dict(workers=-1), "workers must be at least 0"), (dict(seed="0"), "seed must be a whole number"), (dict(steps=1.5), "--steps must be a whole number")])
def test_odd_options_of_a_training(options, message, tmp_path):
    with pytest.raises(ValueError, match=message): recipes.train(data=str(squares(tmp_path/"data")), out=tmp_path/"run", device="cpu", **dict(steps=1) | options)


@pytest.mark.parametrize("n, same", [(1, False), (8, True), (3, False)])
def test_few_pictures_or_words_train(n, same, tmp_path):
    "One picture; one caption for all."
    data = squares(tmp_path/"data", n, "a photo of a dog" if same else "a {} square")
    pipe = recipes.train(data=str(data), out=tmp_path/"run", steps=2, device="cpu", progress=False)
    assert pipe.images(["a"], 2).isfinite().all() and len(pipe.image_to_text([torch.zeros(3, 32, 32)])) == 1
    for part in ("tokenizer", "flow", "autoencoder", "caption"):
        for line in (tmp_path/"run"/part/"log.jsonl").read_text().splitlines(): assert np.isfinite(list(json.loads(line).values())).all()


# --- evaluate

@pytest.mark.parametrize("words, message", [
    (["--data", "shapes", "--metrics", "fid"], "--metrics means nothing for drawings"), (["--split", "test"], "--split means nothing for drawings"),
    (["--caption-column", "a"], "--caption-column means nothing for drawings"), (["--max-broken", "0.1"], "--max-broken means nothing for drawings"),
    (["--direction", "i2t", "--guidance", "2"], "--guidance means nothing for --direction i2t"), (["--data", "mjhq-30k:x", "--split", "test"], "--split means nothing for mjhq-30k"),
    (["--data", "FOLDER", "--max-broken", "0.1"], "max-broken means nothing for pictures"), (["--data", "FOLDER", "--direction", "tokenizer", "--metrics", "fid"], "--metrics means nothing for --direction tokenizer"),
    (["--data", "FOLDER", "--direction", "tokenizer", "--steps", "3"], "--steps means nothing for --direction tokenizer")])
def test_an_option_of_evaluate_without_a_meaning(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks, "make_metrics", lambda *args: (None, None))
    words = [str(squares(tmp_path/"data")) if w == "FOLDER" else w for w in words]
    assert message in refused(monkeypatch, capsys, cli.flowtok_evaluate, "nano", "--device", "cpu", "--out", tmp_path/"out", *words)


@pytest.mark.parametrize("direction, file, numbers", [("t2i", "evaluation.json", "right"), ("i2t", "captions.json", "likeliest")])
def test_data_shapes_is_the_judge(direction, file, numbers, few, tmp_path):
    "Its report has the entries of the committed ones; the record says how it was measured."
    cli.flowtok_evaluate("nano", samples=16, steps=1, out=str(tmp_path), data="shapes", direction=direction, device="cpu", guidance=0.0 if direction == "t2i" else None)
    newest = RESULTS/"nano-seed0"
    report, kept = (json.loads((folder/file).read_text()) for folder in (tmp_path, newest))
    assert list(report) == list(kept) and list(report["record"]) == list(kept["record"])
    assert report[numbers].keys() == kept[numbers].keys()
    wanted = dict(seed=1000, samples=16, steps=1) | (dict(guidance=0) if direction == "t2i" else {})
    assert {k: report["record"][k] for k in wanted} == wanted and report["record"]["seconds"] > 0


# --- what a rearrangement must not change

def test_guidance_means_nothing_for_captions():
    "That direction is trained without null samples: their velocity would be noise."
    pipe = flowtok.load("nano", device="cpu")
    z = torch.randn(2, 16, 16, generator=generator(0))
    plain, guided = (sample(pipe.caption_velocity, z, 5, guidance=g) for g in (1.0, 3.0))
    assert (plain - guided).abs().max() < 1e-4 < (plain - sample(pipe.velocity, z, 5)).abs().max()


def test_steps_add_up_in_float32(short):
    z = torch.randn(2, 16, 16, generator=generator(0)).bfloat16()
    assert sample(short.velocity, z, 3).dtype == sample_adaptive(short.velocity, z)[0].dtype == torch.float32
    assert torch.equal(sample(short.velocity, z, 3), sample(short.velocity, z.float(), 3))


def test_noise_drawn_anew(short):
    "It belongs to a place in the list, whatever the batch; without any the walk is Euler's; it wants a network that reads."
    torch.manual_seed(0)
    pipe = Pipeline(asdict(preset("nano")), short.text_encoder.vocabulary)
    torch.nn.init.normal_(pipe.flow.dit.final.linear.weight, std=0.1)
    captions = ["a red circle", "a blue star", "a red circle"]
    _, z = pipe.encode_text(captions)
    walked = pipe.walk(z, 4, 1.5)
    assert torch.allclose(walked, pipe.walk(z, 4, 1.5, batch=2), atol=1e-4) and torch.allclose(walked[:2], pipe.walk(z[:2], 4, 1.5), atol=1e-4)
    assert torch.allclose(pipe.walk(z, 4, 1.5, eta=0), sample(pipe.velocity, z, 4, 1.5, shared=True), atol=1e-4)
    renew = renewing(pipe.flow.source, _each(lambda g: normal((4, *z.shape[1:]), g), 0, "anew", 3, 0).transpose(0, 1))
    assert torch.allclose(walked, sample(pipe.velocity, z, 4, 1.5, shared=True, renew=renew), atol=1e-4)  # though it reads each state once
    apart = [(walked - pipe.walk(z, 4, 1.5, **kw)).abs().max() for kw in (dict(eta=0), dict(eta=0.5), dict(seed=1))]
    assert min(apart) > 0.01 and torch.equal(pipe.walk(z, 4, trajectory=True)[-1], pipe.walk(z, 4))
    assert torch.equal(pipe.images(captions, 4, 1.5, batch=2), pipe.images(captions, 4, 1.5, batch=2))
    assert torch.allclose(pipe.images(captions, 4, 1.5), pipe.decode(walked), atol=1e-4)
    with pytest.raises(ValueError, match="eta must be from 0 to 1"): pipe.walk(z, 4, eta=2)
    blind = replace(preset("nano"), flow=replace(preset("nano").flow, reader_depth=0))
    with pytest.raises(ValueError, match="only a network that reads .* eta=0"): Pipeline(asdict(blind), short.text_encoder.vocabulary).walk(z, 4, eta=1)


@pytest.mark.parametrize("change", [FIRST_RECIPE, BEFORE, {"flow.reader_depth": 0}])
def test_studies_of_networks_that_do_not_read_can_be_judged(change):
    "Rows are judged after their training: what cannot draw then has cost hours."
    p = changed(replace(preset("nano"), direction="t2i"), change)
    pipe = Pipeline(asdict(p), vocabulary_of(tokenize(["a red circle"], 16)))
    assert pipe.flow.reader is None and pipe.images(["a red circle"], 3).isfinite().all()
    if len(change) > 1: assert (p.train_flow.shortest, p.train_flow.repeats) == (0, False)  # as their rows were made


def test_captions_that_are_counted_wrong_are_not_mixed_up():
    from flowtok.data import encode_dataset
    class Longer(Shapes):
        def texts(self, i): return [*super().texts(i), "one more"]
    def encode(x): return ImageTokenizer(preset("nano").tokenizer).encode(x)
    with pytest.raises(ValueError, match="Longer disagree"):
        encode_dataset(Images(Longer(4), progress=False), encode, lambda texts: torch.zeros(len(texts), 3), progress=False)


def test_what_a_data_set_says_of_its_training_is_kept(tmp_path):
    "In memory and in a folder alike; a folder that is too old to have kept it is refused."
    from flowtok.data import encode_dataset, open_cache
    images, tokenizer = Images(Shapes(24), progress=False), ImageTokenizer(preset("nano").tokenizer)
    def encoded(**kw): return encode_dataset(images, tokenizer.encode, lambda texts: tokenize(texts, 16), progress=False, **kw)
    memory, kept = encoded(), encoded(out=tmp_path/"tokens", origin=dict(data="shapes"))
    assert memory.repeats.tolist() == kept.repeats.tolist() == [3 if len(images.data.scene(i).shapes) == 2 else 1 for i in range(24)]
    assert torch.equal(memory.easy, kept.easy) and torch.equal(open_cache(tmp_path/"tokens").repeats, kept.repeats)
    (tmp_path/"tokens"/"repeats.npy").unlink()
    with pytest.raises(ValueError, match="before caches kept how they are to be trained on"): open_cache(tmp_path/"tokens")


def test_the_shortest_caption_is_that_of_its_own_image():
    ids, first = torch.tensor([[1, 2, 3], [1, 0, 0], [1, 2, 0], [5, 6, 0], [5, 7, 0], [9, 9, 9]]), torch.tensor([0, 3, 5, 6])
    cache = LatentCache(torch.zeros(3, 1, 1), torch.zeros(3, 1, 1), ids, first)
    assert cache.batch(torch.tensor([2, 0, 1, 0]), generator(0), 1.0)["row"].tolist() == [5, 1, 3, 1]
    drawn = torch.stack([cache.batch(torch.arange(3), generator(i), 0.4)["row"] for i in range(400)])
    assert (drawn[:, 0] == 1).float().mean().item() == pytest.approx(0.4 + 0.6/3, abs=0.1)  # four standard deviations
    assert set(drawn[:, 0].tolist()) == {0, 1, 2} and set(drawn[:, 1].tolist()) == {3, 4}


# --- ends instead of velocities

def test_a_network_that_predicts_the_end_is_saved_as_one(tmp_path):
    "The same weights mean another thing as velocities; a model must come back as what it was."
    p = replace(preset("nano"), direction="t2i", flow=replace(preset("nano").flow, reader_depth=0))
    torch.manual_seed(0)
    pipe = Pipeline(asdict(p), vocabulary_of(tokenize(["a red circle"], 16)))
    nn.init.normal_(pipe.flow.dit.final.linear.weight, std=0.1)
    pipe.save(tmp_path)
    back = load(tmp_path, device="cpu")
    x, t = torch.randn(2, 16, 16), torch.tensor([0.2, 0.7])
    assert back.preset.flow.predicts == "end" and torch.equal(back.velocity(x, t), pipe.velocity(x, t))
    plain = DiT(replace(p.flow, predicts="velocity"))
    plain.load_state_dict(pipe.flow.dit.state_dict())
    assert torch.allclose((plain(x, t) - x)/(1 - t)[:, None, None], pipe.velocity(x, t), atol=1e-5)
    with pytest.raises(ValueError, match="choose velocity or end"): DiT(replace(p.flow, predicts="x1"))


# --- a network that reads before it draws

def _reading(captions, seed=0):
    "A pipeline with a reader whose weights are not zero anywhere, and these words."
    torch.manual_seed(seed)
    pipe = Pipeline(asdict(replace(preset("nano"), direction="t2i")), vocabulary_of(tokenize(captions, 16)))
    for w in (*(b.cross.proj.weight for b in pipe.flow.dit.blocks), pipe.flow.dit.final.linear.weight): nn.init.normal_(w, std=0.1)
    return pipe


def test_a_reader_knows_words_as_the_text_encoder_does(tmp_path):
    "What it expects of a caption that it is sure of is the caption's own features, and its own text is what is taken out."
    pipe = _reading(["a red circle", "a blue star"])
    flow, ids = pipe.flow, pipe.text_encoder.tokenize(["a blue circle", "a red star"])
    text, sure = pipe.text_encoder(ids), 1e4*nn.functional.one_hot(pipe.text_encoder.rows[ids], flow.reader.out.out_features).float()
    assert torch.equal(flow.reader.features(sure), text)
    x, t = torch.randn(2, 16, 16), torch.tensor([0.0, 0.6])
    left = (1 - t)[:, None, None]
    plain = flow.dit(x - left*flow.project(text).mean, t, context=flow.reader.context(text))  # ends at its own x + left*v
    ours = flow.velocity(x, t, None, sure)
    assert torch.allclose(x + left*ours, x - left*flow.project(text).mean + left*plain, atol=1e-4)
    pipe.save(tmp_path)
    back = load(tmp_path, device="cpu")
    assert torch.equal(back.velocity(x, t), pipe.velocity(x, t)) and not torch.equal(back.velocity(x, t), ours)


def test_one_time_for_all_samples_means_the_same():
    "As the sampler asks: one time and one indicator for a run of samples."
    pipe, x = _reading(["a red circle"]), torch.randn(4, 16, 16)
    t, null = torch.full((4,), 0.3), torch.tensor([False, False, True, True])
    assert torch.allclose(pipe.velocity(x, t[:2], null[[0, 2]]), pipe.velocity(x, t, null), atol=1e-4)


def test_words_keep_what_was_learnt_of_them_when_more_come():
    "Rows of the vocabulary move when words come in between; none may end up with another word's weights."
    old, new = _reading(["a red circle"], 0), _reading(["a red circle", "blue star"], 1)
    take_over(new, old, ("tokenizer", "flow"))
    ids, x, t = new.text_encoder.tokenize(["a red circle", "red circle"]), torch.randn(2, 16, 16), torch.tensor([0.2, 0.7])
    before, after = old.flow.reader(x, t), new.flow.reader(x, t)
    for word in ids.unique().tolist(): assert torch.allclose(after[..., new.text_encoder.rows[word]], before[..., old.text_encoder.rows[word]], atol=1e-5)
    sure = 1e4*nn.functional.one_hot(new.text_encoder.rows[ids], after.shape[-1]).float()
    assert torch.equal(new.flow.reader.features(sure), new.text_encoder(ids)) and torch.equal(new.text_encoder(ids), old.text_encoder(ids))


def test_the_loss_teaches_to_read():
    "Gradients of the cross-entropy reach the reader, which is not left untaught in silence."
    pipe = _reading(["a red circle", "a blue star"])
    ids = pipe.text_encoder.tokenize(["a red circle", "a blue star"])
    def terms(words): return text_to_image_loss(pipe.flow, torch.randn(2, 16, 16), pipe.text_encoder(ids), FlowLossConfig(null_prob=0.0), torch.Generator().manual_seed(0), words=words)
    with_words = terms(pipe.text_encoder.rows[ids])
    with_words["loss"].backward()
    assert with_words["read"] > 0 and pipe.flow.reader.out.weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="pass words"): terms(None)


def test_a_reader_is_refused_where_it_cannot_work():
    with pytest.raises(ValueError, match="how many words there are"): FlowTok(preset("nano").flow)
    everything = Pipeline(asdict(replace(preset("nano"), direction="t2i")))  # every word there is: 49,408
    assert everything.flow.reader.out.out_features == len(everything.text_encoder.word_vectors()[0])
    p = replace(preset("nano"), text=replace(preset("nano").text, depth=2))
    with pytest.raises(ValueError, match="without a transformer"): Pipeline(asdict(p), [320, 321])


def test_a_preset_says_in_how_many_steps_it_draws():
    pipe, captions = flowtok.load("nano", device="cpu"), ["a red circle", "a small blue star on white"]
    assert (preset("small").draw_steps, pipe.preset.draw_steps) == (4, 20)
    by_steps = {k: pipe.images(captions, steps=k) for k in (3, 20)}
    assert torch.equal(pipe.images(captions), by_steps[20]) and not torch.equal(by_steps[3], by_steps[20])
    pipe.preset = replace(pipe.preset, draw_steps=3)
    assert torch.equal(pipe.images(captions), by_steps[3]) and len(pipe.filmstrip(captions[0], frames=2)) == 2
    assert len(pipe.walk(pipe.encode_text(captions)[1], trajectory=True)) == 4


def test_the_expected_end_is_a_mean_over_lines():
    "Against densities of the normal distribution, in float64."
    g = torch.Generator().manual_seed(0)
    mean, std, ends = torch.randn(3, 1, 2, 2, generator=g, dtype=torch.float64), torch.rand(3, 1, 2, 2, generator=g, dtype=torch.float64) + 0.5, torch.randn(3, 5, 2, 2, generator=g, dtype=torch.float64)
    x, t, gone = torch.randn(3, 2, 2, generator=g, dtype=torch.float64), torch.tensor([0.0, 0.4, 0.8], dtype=torch.float64), torch.zeros(3, 5, dtype=torch.bool)
    gone[:, 4] = True
    at = t[:, None, None, None]
    density = torch.distributions.Normal((1 - at)*mean + at*ends, (1 - at)*std).log_prob(x[:, None]).flatten(2).sum(2).exp()
    density[:, 4] = 0
    expected = (density[..., None, None]*ends).sum(1)/density.sum(1)[:, None, None]
    assert torch.allclose(expected_end(x, t, mean[:, 0], std[:, 0], ends, gone), expected, atol=1e-9)


def test_null_samples_keep_their_own_end():
    "They are sent to any image, so the images of their caption say nothing about them."
    torch.manual_seed(0)
    model, image, text = FlowTok(preset("nano").flow, words=8), torch.randn(6, 16, 16), torch.randn(6, 16, 128)
    nn.init.normal_(model.dit.final.linear.weight, std=0.1)
    others, missing = image[:, None] + 0.3*torch.randn(6, 3, 16, 16), torch.zeros(6, 3, dtype=torch.bool)
    def flow(null, *more): return text_to_image_loss(model, image, text, FlowLossConfig(null_prob=null, time_mean=-2.0), torch.Generator().manual_seed(1), *more, words=torch.zeros(6, 16, dtype=torch.long))["flow"].item()
    assert flow(1.0, others, missing) == pytest.approx(flow(1.0), rel=1e-5)
    assert abs(flow(0.0, others, missing)/flow(0.0) - 1) > 0.001
    assert flow(0.0, others, ~missing) == pytest.approx(flow(0.0), rel=1e-5)


def test_references_are_refused_where_they_would_mean_something_else():
    p = replace(preset("nano"), direction="t2i", flow_loss=replace(preset("nano").flow_loss, image="sample"))
    with pytest.raises(ValueError, match="references are means"): recipes.train_text_to_image(Pipeline(asdict(p), [1, 2]), None)
