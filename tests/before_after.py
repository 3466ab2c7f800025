"""What a change has bought: the same measurements with the code of two commits, in turns on one machine.

    python tests/before_after.py 772278b 3    three turns of that commit and of this checkout; writes nbs/results/before-after.json (about seven minutes a turn on 2 cores, which should have nothing else to do)
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL, LARGE = 8, 24  # photographs that are encoded; the difference in time is that of the others, without what loading costs


def median_of(call, repeats=5):
    "Median seconds of a call, after one that warms up."
    def timed():
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun
    timed()
    return statistics.median(timed() for _ in range(repeats))


def jpeg(work):
    "Seconds to open a photograph of 12 megapixels at 256 pixels."
    from flowtok.captioned import open_image
    return median_of(lambda: open_image(work/"photo.jpg", 256))


def shuffled(work):
    "Seconds of a batch of 4,096 indices; the shuffle of the epoch, made once, is not in it."
    from flowtok.data import Shuffled
    order, step = Shuffled(1_000_000, 4096), iter(range(1000))
    return median_of(lambda: order(next(step)), 20)


def captions(work):
    "Seconds of eight captions of 77 tokens, by the decoder of preset B."
    import torch
    from flowtok.captioning import TextDecoder, read_words
    from flowtok.config import preset
    p = preset("B")
    torch.manual_seed(0)
    decoder, z = TextDecoder(p.caption, 77, p.flow.latent_dim, 77, 500).eval(), torch.randn(8, 77, p.flow.latent_dim)
    return median_of(lambda: read_words(decoder, z, 0, -1), 3)


def step(work):
    "Seconds of a step of nano's flow, 64 captions."
    import torch
    from flowtok.config import preset
    from flowtok.model import FlowTok, text_to_image_loss
    from flowtok.training import fit
    p, n, words = preset("nano"), 64, 64
    f = p.flow
    made = dict(tokens=torch.randn(n, f.n_tokens, f.latent_dim), text=torch.randn(n, f.n_tokens, f.text_width), words=torch.randint(words, (n, f.n_tokens)))
    def loss(model, batch, noise, step): return text_to_image_loss(model, batch["tokens"], batch["text"], p.flow_loss, noise, words=batch["words"])
    torch.manual_seed(0)
    log = fit(FlowTok(f, words), loss, lambda step: made, replace(p.train_flow, steps=24, batch=n, warmup=0, easy=0.0, log_every=1), progress=False)[1]
    return (log[-1]["seconds"] - log[3]["seconds"])/20


def encoded(work, n):
    "Seconds of `flowtok-pretokenize` for `n` photographs, in this process."
    from flowtok.recipes import pretokenize
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=work) as out: pretokenize(str(work/"model"), work/f"photos{n}", Path(os.environ.get("BEFORE_AFTER_OUT", out)), device="cpu", progress=False, block=4)
    return time.perf_counter() - begun


def run(tree, *words, processes=1, **env):
    "What this file prints when it measures the code in `tree`."
    threads = {} if processes == 1 else dict(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    launch = [] if processes == 1 else f"-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node {processes}".split()
    done = subprocess.run([sys.executable, *launch, __file__, "measure", *map(str, words)], env=os.environ | threads | dict(PYTHONPATH=str(tree)) | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def pretokenized(tree, work, processes):
    "Photographs a second."
    seconds = []
    for n in (SMALL, LARGE):
        with tempfile.TemporaryDirectory(dir=work) as out: seconds.append(run(tree, "encoded", work, n, processes=processes, BEFORE_AFTER_OUT=out))
    return (LARGE - SMALL)/(seconds[1] - seconds[0])


def make(work):
    "A photograph of 12 megapixels, folders of it, and the tokenizer of preset B with random weights, in a form that the older code reads."
    import numpy as np
    from PIL import Image
    from flowtok.config import preset
    from flowtok.pipeline import Pipeline
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8))
    noise.resize((4000, 3000), Image.Resampling.BICUBIC).save(work/"photo.jpg", quality=92)
    for n in (SMALL, LARGE):
        (work/f"photos{n}").mkdir()
        for i in range(n): os.link(work/"photo.jpg", work/f"photos{n}"/f"{i}.jpg")
        lines = (json.dumps(dict(file_name=f"{i}.jpg", text=f"photograph {i}")) for i in range(n))
        (work/f"photos{n}"/"metadata.jsonl").write_text("\n".join(lines))
    Pipeline(asdict(replace(preset("B"), direction="tokenizer"))).save(work/"model")


def head():
    "The commit of this checkout, which has to be as it was committed."
    changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if changed: sys.exit(f"commit or take back what is changed, so that the record can name what was measured:\n{changed}")
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def compare(old, new, turns):
    "Every measurement in turns, and the medians; both commits are checked out beside each other."
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        work, before, after = (Path(folder)/name for name in ("work", "old", "new"))
        work.mkdir()
        for tree, commit in ((before, old), (after, new)): subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True, capture_output=True)
        try:
            run(before, "make", work)
            for _ in range(turns):
                for tree, when in ((before, "before"), (after, "after")):
                    row = {name: run(tree, name, work) for name in ("jpeg", "shuffled", "captions", "step")}
                    row |= {f"pretokenize {n}": pretokenized(tree, work, n) for n in (1, 2)}
                    for name, value in row.items(): found.setdefault(name, {}).setdefault(when, []).append(float(f"{value:.4g}"))
                    print(when, row, flush=True)
        finally:
            for tree in (before, after): subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT)
    return {name: {when: statistics.median(values) for when, values in row.items()} | dict(turns=row) for name, row in found.items()}


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        import flowtok
        name, work, *rest = sys.argv[2:]
        assert Path(flowtok.__file__).is_relative_to(os.environ["PYTHONPATH"]), f"{flowtok.__file__} is not the code that is to be measured"
        value = globals()[name](Path(work), *map(int, rest))
        if int(os.environ.get("RANK", 0)) == 0: print(json.dumps(value))
    else:
        from flowtok.records import run_record, write_json
        begun, old, new = time.perf_counter(), sys.argv[1], head()
        rows = compare(old, new, int(sys.argv[2]))
        write_json(ROOT/"nbs"/"results"/"before-after.json", dict(rows=rows, record=run_record(0, round(time.perf_counter() - begun)) | dict(commit=new, old=old)))
