"""Files of the published names, keys and sizes with random numbers in them (6 GB), and what loading them costs.

    python tests/full_size.py make FOLDER             write them
    python tests/full_size.py measure FOLDER DTYPE    load them as flowtok.load("released:xl") does; add a row to nbs/results/loading.json
    python tests/full_size.py measure FOLDER DTYPE 20    and draw one picture of 512 pixels in so many steps
"""
import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from flowtok.config import preset
from flowtok.model import FlowTok
from flowtok.records import run_record, write_json
from flowtok.tokenizer import ImageTokenizer

ROOT = Path(__file__).resolve().parent.parent
CLIP = "open_clip_model.safetensors"


def tables(p):
    "What the release stores and we compute, under its names."
    from flowtok.filling import without_memory
    with without_memory(): flow, tokenizer = FlowTok(p.flow), ImageTokenizer(replace(p.tokenizer, image_size=512))
    parts = [(f"{part}.positional_embedding.freqs_{f}", getattr(getattr(tokenizer, part).stack.rope, f)) for part in ("encoder", "decoder") for f in ("cos", "sin")]
    return dict(parts, pos_embed=flow.dit.positions[None])


def make(folder):
    "Write the three files."
    import open_clip
    folder.mkdir(parents=True, exist_ok=True)
    computed, g = tables(preset("XL")), torch.Generator().manual_seed(0)
    def random(shape): return torch.empty(shape).uniform_(-0.02, 0.02, generator=g)
    for keys, file in (("FlowTok_XL", "FlowTok-XL.pth"), ("FlowTiTok_512", "FlowTiTok_512.bin")):
        shapes = json.loads((ROOT/"tests"/"parity"/"keys"/f"{keys}.json").read_text())
        torch.save({k: computed[k].clone() if k in computed else random(s) for k, s in shapes.items()}, folder/file)
    with torch.device("meta"): clip = open_clip.create_model(preset("XL").text.name, load_weights=False, device="meta")
    save_file({k: random(v.shape) for k, v in clip.state_dict().items()}, folder/CLIP)


def resident():
    "GB of this process: now, and at most so far."
    now = int(Path("/proc/self/statm").read_text().split()[1])*resource.getpagesize()
    return round(now/1e9, 2), round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024/1e9, 2)


def measure(folder, dtype, steps=0):
    "What loading, and perhaps drawing, costs: a dict."
    import flowtok.pipeline
    import open_clip.factory
    def local(*args, **kw): return str(folder/CLIP)
    (before, _), began = resident(), time.perf_counter()
    with patch("huggingface_hub.hf_hub_download", lambda repo, file, **kw: str(folder/file)), \
         patch("open_clip.download_pretrained", local), patch("open_clip.factory.download_pretrained", local):
        pipe = flowtok.load("released:xl", device="cpu", dtype=dtype)
    row = dict(dtype=dtype, seconds=round(time.perf_counter() - began, 1), process_gb=before,
               weights_gb=round(sum(p.nbytes for p in pipe.parameters())/1e9, 2), peak_gb=resident()[1])
    if steps:
        began = time.perf_counter()
        assert pipe.text_to_image("a corgi in the snow", steps=steps)[0].size == (512, 512)
        row |= dict(steps=steps, picture_seconds=round(time.perf_counter() - began, 1), picture_peak_gb=resident()[1])
    words = [dtype, *([str(steps)] if steps else [])]
    return row | dict(record=run_record(0) | dict(command=" ".join(["python tests/full_size.py measure FOLDER", *words])))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder]: make(Path(folder))
        case ["measure", folder, dtype, *steps]:
            row, path = measure(Path(folder), dtype, *map(int, steps)), ROOT/"nbs"/"results"/"loading.json"
            rows = json.loads(path.read_text()) if path.exists() else []
            write_json(path, [*rows, row])
            print(json.dumps(row, indent=1))
        case _: sys.exit(__doc__)
