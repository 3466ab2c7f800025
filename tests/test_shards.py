"Shards with broken pieces: what is counted, what is seen, how much memory it takes, and training from them."
import ctypes
import gc
import io
import os
import platform
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from PIL import Image

from flowtok import recipes, training
from flowtok.captioned import DataError
from flowtok.data import Images, ShuffledShards, open_cache
from flowtok.shards import Shards
from flowtok.training import batch_iterator

SHARDS, EACH = 100, 20


def put(tar, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def picture(rng):
    out = io.BytesIO()
    Image.new("RGB", (rng.randint(20, 60), rng.randint(20, 60)), tuple(rng.randrange(256) for _ in range(3))).save(out, "JPEG")
    return out.getvalue()


def make_shards(folder, shards=SHARDS, each=EACH):
    "One shard in a hundred is cut short, one JPEG in a hundred is; returns the numbers of the good samples."
    rng, good = random.Random(0), []
    for s in range(shards):
        path, ends = folder/f"{s:04}.tar", []
        with tarfile.open(path, "w") as tar:
            for i in range(s*each, (s + 1)*each):
                content, spoilt = picture(rng), i % 100 == 7
                put(tar, f"{i:06}.jpg", content[:len(content)//2] if spoilt else content)
                put(tar, f"{i:06}.txt", f"number {i}".encode())
                if not spoilt: ends.append((i, tar.offset))
        if s % 100 == 50:
            cut = ends[each//2][1] + 700
            os.truncate(path, cut)
            ends = [e for e in ends if e[1] <= cut]
        good += [i for i, _ in ends]
    return good


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return folder, make_shards(folder)


def seen(data, workers, rank, world, batch=8):
    "Numbers of the samples that one process sees in the first epoch, each with its place in the epoch."
    order = ShuffledShards(data.counts, batch, near=4)
    def batches(step): return dict(number=torch.tensor([int(data.texts(int(i))[0].split()[1]) for i in order(step)]), place=step*batch + rank*batch//world + torch.arange(batch//world))
    run = SimpleNamespace(cfg=SimpleNamespace(steps=-(-len(data)//batch)), step=0, accelerator=SimpleNamespace(device=torch.device("cpu")))
    with patch("flowtok.data.process", lambda: (rank, world)): found = list(batch_iterator(batches, run, workers))
    return [n for b in found for n, p in zip(b["number"].tolist(), b["place"].tolist()) if p < len(data)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_good_sample_once_an_epoch(shards, workers):
    folder, good = shards
    with pytest.warns(UserWarning, match="left out 21 broken pieces beside"): data = Shards(sorted(folder.glob("*.tar")), 32, progress=False)
    assert sorted(seen(data, workers, 0, 2) + seen(data, workers, 1, 2)) == good
    assert len(good) == len(data) == SHARDS*EACH - 20 - 8


def test_too_much_is_broken(shards):
    with pytest.raises(DataError, match="more than 1.0%.*007: OSError"): Shards(sorted(shards[0].glob("*.tar")), 32, max_broken=0.01, progress=False)


@pytest.mark.filterwarnings("ignore:left out", "ignore:words this model")
def test_training_from_shards_and_from_their_tokens(shards, tmp_path):
    folder, good = shards
    common = dict(steps=4, device="cpu", progress=False)
    first = recipes.train(data=str(folder), out=tmp_path/"first", direction="t2i", **common)
    recipes.pretokenize(str(tmp_path/"first"), str(folder), tmp_path/"tokens", device="cpu", progress=False)
    tokens = open_cache(tmp_path/"tokens").mean.double().numpy()
    assert len(tokens) == len(good)
    spread = (tokens - tokens.mean(0)).std((0, 1), ddof=1)
    assert first.image_tokenizer.latent_std.numpy() == pytest.approx(spread, rel=1e-4)  # encoded in other batches: 4e-8 off on one machine, 2e-6 on another
    for name, data in dict(images=folder, tokens=tmp_path/"tokens").items(): recipes.train(data=str(data), out=tmp_path/name, start=tmp_path/"first", **common)
    for part in ("flow", "autoencoder", "caption"):
        logs = [[e["loss"] for e in training.read_log(tmp_path/name/part/"log.jsonl")] for name in ("images", "tokens")]
        assert len(logs[0]) == 4 and max(abs(a - b)/abs(b) for a, b in zip(*logs, strict=True)) < 1e-4, part  # 3e-6 at most so far
    with pytest.raises(ValueError, match="name its model with --start"): recipes.train(data=str(tmp_path/"tokens"), out=tmp_path/"x", **common)
    recipes.train(data=str(folder), out=tmp_path/"other", direction="t2i", **dict(common, seed=1))
    with pytest.raises(ValueError, match="made by another tokenizer"): recipes.train(data=str(tmp_path/"tokens"), out=tmp_path/"x", start=tmp_path/"other", **common)


def memory():
    "Resident memory in bytes, after what is free has been given back."
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1])*os.sysconf("SC_PAGE_SIZE")


def growth(samples, folder):
    "Bytes of memory that each sample costs from the thousandth on."
    data = Shards(sorted(folder.glob("*.tar")), 32, progress=False)
    order, images = ShuffledShards(data.counts, 100, near=4), Images(data, limit=0)
    for step in range(samples//100):
        if step == 10: before = memory()
        images(order(step))
    return (memory() - before)/(samples - 1000)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="reads /proc and gives memory back as glibc does")
def test_memory_is_flat():
    "In a process of its own: 8 bytes a sample at most in ten runs, 321 when 256 of each were kept."
    command = [sys.executable, __file__, "6000"]
    done = subprocess.run(command, env=os.environ | dict(OMP_NUM_THREADS="1"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert abs(float(done.stdout)) < 100


if __name__ == "__main__":  # python tests/test_shards.py 200000: bytes of memory a sample; some minutes
    with tempfile.TemporaryDirectory() as folder:
        make_shards(Path(folder))
        print(round(growth(int(sys.argv[1]), Path(folder)), 1))
