"""Every stage of a tiny model, discriminator included, in float64: the losses go into a file, the weights beside it.

One process: python tests/parallel.py LOSSES.json [FOLDER [STEPS]]. Two: python -m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2 tests/parallel.py LOSSES.json.
With a FOLDER it saves every five steps and goes on where it was killed."""
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.tracking import GeneralTracker

from flowtok import recipes
from flowtok.config import preset
from flowtok.core import process, seed_all
from flowtok.data import Images
from flowtok.lineage import PARTS, vocabulary_for
from flowtok.pipeline import Pipeline
from flowtok.shapes import Shapes


STAGES = dict(tokenizer=recipes.train_tokenizer, flow=recipes.train_text_to_image,
              autoencoder=recipes.train_autoencoder, caption=recipes.train_image_to_text)


def tiny(steps):
    "The nano preset cut down, its matrices Muon's, with a discriminator that comes in after a fifth of the steps."
    p = preset("nano")
    short = dict(steps=steps, warmup=5, batch=16)
    return replace(p, tokenizer=replace(p.tokenizer, enc_width=32, enc_depth=1, enc_heads=2, dec_width=32, dec_depth=1, dec_heads=2),
                   text=replace(p.text, width=32, heads=2),
                   flow=replace(p.flow, width=32, depth=1, heads=2, mlp_width=64, text_width=32, text_depth=1, text_heads=2, text_mlp_width=64, align_width=32, balance_width=32),
                   caption=replace(p.caption, width=32, depth=1, heads=2), tokenizer_loss=replace(p.tokenizer_loss, adversarial_weight=0.1, adversarial_start=steps//5, widths=(8, 16, 16)),
                   **{part: replace(getattr(p, part), **short) for part in PARTS})


class Exact(GeneralTracker):
    "Every loss as it was: the log rounds them."
    name, requires_logging_directory, tracker = "exact", False, None

    def __init__(self): self.losses = []

    def log(self, values, step=None, **kwargs): self.losses.append(float(values["loss"]))


def losses(steps=50, folder=None):
    "Every stage's losses, in the log and unrounded, and the trained pipeline."
    torch.set_default_dtype(torch.float64)
    images, logs, exact = Images(Shapes(48), progress=False), {}, {name: Exact() for name in STAGES}
    seed_all(0)
    pipe = Pipeline(asdict(tiny(steps)), vocabulary_for(images, preset("nano").text)).double()
    def part(name, train, data):
        kept = dict(out=folder and Path(folder)/name, resume=bool(folder), save_every=5)
        logs[name] = train(pipe, data, track=exact[name], progress=False, **kept)
    part("tokenizer", recipes.train_tokenizer, images)
    cache = recipes.encode_latents(pipe, images, progress=False)
    for name, train in STAGES.items():
        if name != "tokenizer": part(name, train, cache)
    return {k: [e["loss"] for e in log] for k, log in logs.items()}, {k: t.losses for k, t in exact.items()}, pipe


if __name__ == "__main__":
    torch.set_num_threads(1)
    PartialState(cpu=True)
    target, *rest = sys.argv[1:]
    logged, exact, pipe = losses(int(rest[1]) if len(rest) > 1 else 50, rest[0] if rest else None)
    if process()[0] == 0:
        Path(target).write_text(json.dumps(dict(world=process()[1], losses=logged, exact=exact)))
        torch.save(pipe.state_dict(), Path(target).with_suffix(".pt"))
    if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()  # else it may crash when Python ends
