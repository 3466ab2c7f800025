"The authors' names and sizes, whole: what the fixtures of notebook 13 are too small to show."
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import flowtok
from flowtok.core import TextConfig, preset
from flowtok.cost import build
from flowtok.pipeline import from_parts
from flowtok.released import FLOW_NAMES, TOKENIZER_NAMES, load_flow, load_tokenizer, released_preset, their_names

PARITY = Path(__file__).parent/"parity"


def names_and_sizes(module, table, skip=()):
    "Their names with the number of elements that our module has room for."
    found = {}
    for name, p in module.state_dict().items():
        if name in skip: continue
        keys = their_names(name, table)
        found |= {k: p.numel()//len(keys) for k in keys}
    return found


def listed(file):
    "Names and numbers of elements in the release."
    shapes = json.loads((PARITY/"keys"/f"{file}.json").read_text())
    return {k: torch.Size(s).numel() for k, s in shapes.items()}


@pytest.mark.parametrize("name", ["B", "XL", "H"])
def test_every_tensor_of_the_flow_has_its_place(name):
    theirs, p = listed(f"FlowTok_{name}"), preset(name)
    assert theirs.pop("pos_embed") == p.flow.n_tokens*p.flow.width
    assert names_and_sizes(build(p)["flow"], FLOW_NAMES) == theirs


@pytest.mark.parametrize("size", [256, 512])
def test_every_tensor_of_the_tokenizer_has_its_place(size):
    theirs, p = listed(f"FlowTiTok_{size}"), preset("B")
    tables = {k: theirs.pop(k) for k in list(theirs) if ".positional_embedding.freqs" in k}
    assert set(tables.values()) == {(size//16)**2*64}
    ours = build(replace(p, tokenizer=replace(p.tokenizer, image_size=size)))["tokenizer"]
    assert names_and_sizes(ours, TOKENIZER_NAMES, ("latent_mean", "latent_std")) == theirs


def state(file): return {k[6:]: v for k, v in load_file(PARITY/f"{file}.safetensors").items() if k.startswith("state/")}


def test_released_weights_make_a_pipeline_that_can_be_saved(tmp_path):
    tokenizer, flow = load_tokenizer(state("tokenizer"), 64, 16, (2, 3)), load_flow(state("flow"), 4)
    p = released_preset("xl", tokenizer, flow, text=TextConfig(name="", pretrained="", width=128, depth=1, heads=2, context=77))
    pipe = from_parts(p, tokenizer, flow, pretrained=False)
    images = pipe.images(["a red circle", "a cat"], steps=2)
    assert images.shape == (2, 3, 64, 64) and images.std() > 0.01
    pipe.save(tmp_path/"kept")
    again = flowtok.load(tmp_path/"kept", device="cpu")
    assert again.preset.grid == "release" and torch.equal(again.images(["a red circle", "a cat"], steps=2), images)


def test_released_names(monkeypatch):
    with pytest.raises(ValueError, match="choose xl or h"): flowtok.load("released:b")
    def offline(*args, **kw): raise ConnectionError
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(ValueError, match="FlowTiTok_512.bin could not be fetched"): flowtok.load("released:xl")
