"The authors' names and sizes, whole: what the fixtures of notebook 32 are too small to show."
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import flowtok
from flowtok.config import preset
from flowtok.core import generator
from flowtok.cost import build
from flowtok.pipeline import from_parts
from flowtok.released import (
    FLOW_NAMES, TOKENIZER_NAMES, load_flow, load_tokenizer, released_preset, their_names)
from flowtok.text import TextConfig, TextEncoder

PARITY = Path(__file__).parent/"parity"


def names_and_shapes(module, table, skip=()):
    "Their names with the shapes that our module has room for."
    found = {}
    for name, p in module.state_dict().items():
        if name in skip: continue
        keys = their_names(name, table)
        parts = p.chunk(len(keys)) if len(keys) > 1 else [p]
        found |= {k: tuple(part.shape) for k, part in zip(keys, parts, strict=True)}
    return found


def listed(file):
    "Names and shapes in the release; a linear layer stored as a 1x1 convolution without the two ones."
    shapes = json.loads((PARITY/"keys"/f"{file}.json").read_text())
    return {k: tuple(s[:2] if s[2:] == [1, 1] else s) for k, s in shapes.items()}


@pytest.mark.parametrize("name", ["B", "XL", "H"])
def test_every_tensor_of_the_flow_has_its_place(name):
    theirs, p = listed(f"FlowTok_{name}"), preset(name)
    assert theirs.pop("pos_embed") == (1, p.flow.n_tokens, p.flow.width)
    assert names_and_shapes(build(p)["flow"], FLOW_NAMES) == theirs


@pytest.mark.parametrize("size", [256, 512])
def test_every_tensor_of_the_tokenizer_has_its_place(size):
    theirs, p = listed(f"FlowTiTok_{size}"), preset("B")
    tables = {k: theirs.pop(k) for k in list(theirs) if ".positional_embedding.freqs" in k}
    assert set(tables.values()) == {((size//16)**2, 64)}
    ours = build(replace(p, tokenizer=replace(p.tokenizer, image_size=size)))["tokenizer"]
    assert names_and_shapes(ours, TOKENIZER_NAMES, ("latent_mean", "latent_std")) == theirs


def state(file): return {k[6:]: v for k, v in load_file(PARITY/f"{file}.safetensors").items() if k.startswith("state/")}


@torch.no_grad()
def by_hand(pipe, captions, steps, guidance, seed):
    "What the authors' sampling draws, written out: their times, Euler steps, guidance from a second answer."
    text = pipe.text_encoder(pipe.text_encoder.tokenize(captions))
    cloud = pipe.flow.project(text)
    noise = [torch.randn(cloud.mean.shape[1:], generator=generator(seed, "source", i)) for i in range(len(captions))]
    z, h = cloud.mean + cloud.logvar.exp().sqrt()*torch.stack(noise), (1 - 1e-5)/steps
    for k in range(steps):
        t = torch.full((len(z),), k*(1 - 1e-5)/(steps - 1))
        c, u = (pipe.flow.dit(z, t, torch.full((len(z),), null)) for null in (False, True))
        z = z + h*(guidance*c + (1 - guidance)*u)
    return pipe.image_tokenizer.decode(z*pipe.image_tokenizer.latent_std + pipe.image_tokenizer.latent_mean, text).clamp(0, 1)


def test_released_weights_make_a_pipeline_that_can_be_saved(tmp_path):
    torch.manual_seed(0)
    tokenizer, flow = load_tokenizer(state("tokenizer"), 64, 16, (2, 3)), load_flow(state("flow"), 4)
    p = released_preset("xl", tokenizer, flow, text=TextConfig(name="", pretrained="", width=128, depth=1, heads=2, context=77))
    pipe = from_parts(p, tokenizer, flow, TextEncoder(p.text))
    captions = ["a red circle", "a cat"]
    images = pipe.images(captions, steps=3, seed=5)
    wanted = by_hand(pipe, captions, steps=3, guidance=2.0, seed=5)
    torch.testing.assert_close(images, wanted, atol=2e-5, rtol=0)  # 2e-6 off; one step more: 0.03
    pipe.save(tmp_path/"kept")
    again = flowtok.load(tmp_path/"kept", device="cpu")
    assert again.preset == p and torch.equal(again.images(captions, steps=3, seed=5), images)


def test_released_names(monkeypatch):
    with pytest.raises(ValueError, match="choose xl or h"): flowtok.load("released:b")
    def offline(*args, **kw): raise ConnectionError
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(ValueError, match="FlowTiTok_512.bin could not be fetched"): flowtok.load("released:xl")
