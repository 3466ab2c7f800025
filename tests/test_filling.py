"Weights from files: what lies in memory, published text towers, names that may not be opened, and a bar that moves."
import json
from dataclasses import asdict, replace

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import flowtok
from flowtok import pipeline
from flowtok.config import preset
from flowtok.filling import fill, read_state, without_memory
from flowtok.pipeline import Pipeline
from flowtok.text import TextConfig, TextEncoder, tokenize

TOWER = TextConfig(name="ViT-S-32-alt", pretrained="published", width=256, depth=10, heads=4)


@pytest.fixture
def published(monkeypatch, tmp_path):
    "A CLIP of open_clip's with random weights, as if its file had been fetched."
    torch.manual_seed(1)
    clip = open_clip.create_model(TOWER.name, pretrained=None).eval()
    save_file(clip.state_dict(), tmp_path/"clip.safetensors")
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: dict(hf_hub="user/clip/") if tag == "published" else {})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda cfg: str(tmp_path/"clip.safetensors"))
    return clip


def test_a_published_text_tower_is_read_as_open_clip_reads_it(published):
    ids = tokenize(["a cat on a mat", "two dogs"], 77)
    with torch.no_grad():
        x = published.token_embedding(ids) + published.positional_embedding
        wanted = published.ln_final(published.transformer(x, attn_mask=published.attn_mask))
        encoder = TextEncoder(TOWER)
        torch.testing.assert_close(encoder(ids), wanted, atol=1e-5, rtol=0)
    assert not any(p.requires_grad or p.is_meta for p in encoder.parameters())


def test_a_text_tower_that_cannot_be_fetched(published, monkeypatch):
    with pytest.raises(ValueError, match="no weights 'others' of ViT-S-32-alt"): TextEncoder(replace(TOWER, pretrained="others"))
    def offline(cfg): raise ConnectionError("offline")
    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(ValueError, match="could not be fetched .ConnectionError."): TextEncoder(TOWER)


def test_a_saved_model_with_a_published_tower_brings_its_own(published, tmp_path):
    p = preset("nano")
    p = replace(p, direction="t2i", text=replace(TOWER, context=16), flow=replace(p.flow, text_width=256, reader_depth=0))
    torch.manual_seed(2)
    pipe = Pipeline(asdict(p), pretrained=True)
    pipe.save(tmp_path/"kept")
    published_again = flowtok.load(tmp_path/"kept", device="cpu")
    assert torch.equal(published_again.images(["a cat"], steps=2), pipe.images(["a cat"], steps=2))


@pytest.mark.parametrize("name", ["hf-hub:somebody/clip", "local-dir:/tmp/clip", "no-such-tower"])
def test_a_model_of_others_cannot_have_a_tower_loaded_from_anywhere(name, tmp_path):
    pipe = flowtok.load("nano", device="cpu")
    pipe.save(tmp_path)
    file = tmp_path/"config.json"
    config = json.loads(file.read_text())
    config["settings"]["text"]["name"] = name
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="unknown text tower"): flowtok.load(tmp_path, device="cpu")


def test_no_more_of_a_file_is_open_at_a_time_than_asked_for(tmp_path, monkeypatch):
    from flowtok import filling
    layers, opened = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(16)]), []
    torch.save(layers.state_dict(), tmp_path/"a.pth")
    groups = list(filling._groups({k: v.nbytes for k, v in layers.state_dict().items()}, 5*64*64*4))
    assert list(map(len, groups)) == [5, 5, 5, 1]
    read = filling.read_file
    monkeypatch.setattr(filling, "read_file", lambda path: opened.append(path) or read(path))
    with without_memory(): empty = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(16)])
    fill(empty, tmp_path/"a.pth", most=5*64*64*4)
    assert len(opened) == 1 + 4 and all(torch.equal(a, b) for a, b in zip(empty.parameters(), layers.parameters()))


def test_threads_that_load_at_once_leave_torch_as_it_was():
    from concurrent.futures import ThreadPoolExecutor
    before = nn.Module.register_parameter, dict(vars(nn.init))
    with ThreadPoolExecutor(6) as pool: found = list(pool.map(lambda k: flowtok.load("nano", device="cpu"), range(12)))
    assert (nn.Module.register_parameter, dict(vars(nn.init))) == before and not nn.Linear(1, 1).weight.is_meta
    assert not any(p.is_meta for pipe in found for p in pipe.parameters())


def test_batch_bounds_every_network():
    pipe, most = flowtok.load("nano", device="cpu"), {}
    def note(name): return lambda module, args: most.__setitem__(name, max(most.get(name, 0), len(args[0])))
    for name, module in dict(text=pipe.text_encoder, projector=pipe.flow.projector, decoder=pipe.image_tokenizer.decoder, encoder=pipe.image_tokenizer.encoder,
                             flow=pipe.flow.dit, captions=pipe.captioner.dit, words=pipe.captioner.text.decoder.words).items():
        module.register_forward_pre_hook(note(name))
    images = pipe.text_to_image(["a red circle"]*7, steps=2, guidance=1.0, batch=3)
    pipe.image_to_text(images, steps=1, batch=3)
    assert most == dict.fromkeys(most, 3) and len(most) == 7


def test_a_bar_counts_every_step(monkeypatch):
    bars, tqdm = [], pipeline.tqdm
    monkeypatch.setattr(pipeline, "tqdm", lambda **kw: bars.append(tqdm(**kw | dict(delay=0))) or bars[-1])
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    pipe = flowtok.load("nano", device="cpu")
    pipe.text_to_image(["a red circle"]*5, steps=4, batch=2)
    assert (bars[-1].n, bars[-1].total) == (12, 12)
    pipe.text_to_image("a red circle", progress=False)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    pipe.text_to_image("a red circle")
    assert bars[-1].disable and bars[-2].disable


def test_the_same_generator_draws_the_same():
    pipe = flowtok.load("nano", device="cpu")
    def drawn(g): return pipe.text_to_image("a red circle", steps=2, output_type="tensor", generator=g)
    g = torch.Generator().manual_seed(3)
    first, second = drawn(g), drawn(g)
    assert torch.equal(first, drawn(torch.Generator().manual_seed(3))) and not torch.equal(first, second)
    twice = pipe.text_to_image(["a red circle"]*2, steps=2, output_type="tensor")
    assert torch.equal(twice, pipe.text_to_image("a red circle", steps=2, output_type="tensor", per_caption=2))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_was_cut_is_an_error_that_says_so(tmp_path, zipped):
    "Wherever the cut lies: torch raises whatever comes, from IndexError and OSError to struct.error."
    torch.save({f"blocks.{i}.weight": torch.randn(3, 3) for i in range(6)}, tmp_path/"whole.pth", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path/"whole.pth").read_bytes()
    for n in range(20, len(whole) - 1, 11):
        (tmp_path/"cut.pth").write_bytes(whole[:n])
        with pytest.raises(ValueError, match="cut.pth (cannot be read|ends too early|holds more than tensors)"): read_state(tmp_path/"cut.pth")
