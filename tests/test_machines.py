"Several processes and several machines: work that is shared, killed, and gone on with."
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from flowtok.config import preset
from flowtok.core import generator, process, seed_all
from flowtok.data import Images, encode_dataset, open_cache
from flowtok.distributed import launched
from flowtok.shapes import Shapes
from flowtok.text import tokenize
from flowtok.tokenizer import ImageTokenizer
from flowtok.training import TrainConfig, checkpoints, fit, read_log

SCRIPT = Path(__file__)
FILES = ("mean", "logvar", "ids", "first", "done")


def encoded(out, pause=0.0, n=200):
    "Drawings in blocks of four, by a tokenizer that nobody trained."
    seed_all(0)
    tokenizer, threads = ImageTokenizer(preset("nano").tokenizer), torch.get_num_threads()
    def encode(x):
        time.sleep(pause)
        return tokenizer.encode(x)
    torch.set_num_threads(1)  # as all that is compared with it: more may round otherwise
    try: return encode_dataset(Images(Shapes(n), limit=0), encode, lambda texts: tokenize(texts, 16), out, dict(model="none"), 4, progress=False)
    finally: torch.set_num_threads(threads)


def one_of_two(rank, out, store):
    "A process of two; the block that it encodes takes some milliseconds."
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    encoded(out, pause=0.01)
    torch.distributed.destroy_process_group()


def two_processes(out, store):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=one_of_two, args=(rank, out, store)) for rank in (0, 1)]
    for p in both: p.start()
    return both


def counted(out):
    "How many images are ticked off, and how many blocks have been handed in."
    done = np.load(out/"done.npy").sum() if (out/"done.npy").exists() else 0
    return int(done), len(list((out/"blocks").glob("[0-9]*.npz")))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_pretokenising_by_two_is_killed_ten_times_and_the_files_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    whole, rng = tmp_path/"whole", random.Random(0)
    encoded(whole)
    for attempt in range(8):  # a slow machine gets nowhere in so short a time, a fast one is done before it is struck in the midst
        killed, met = tmp_path/f"killed{attempt}", []
        for k in range(10):
            both = two_processes(killed, tmp_path/f"store{attempt}-{k}")
            time.sleep(rng.uniform(0.05, 0.3)*(1 + attempt/2))
            for p in both: os.kill(p.pid, signal.SIGKILL)
            for p in both: p.join()
            met.append(counted(killed))
        if any(0 < done < 200 for done, _ in met) and any(blocks for _, blocks in met): break
    else: raise AssertionError(met)
    both = two_processes(killed, tmp_path/"last")
    for p in both: p.join(120)
    assert [p.exitcode for p in both] == [0, 0]
    for name in FILES: assert (whole/f"{name}.npy").read_bytes() == (killed/f"{name}.npy").read_bytes(), name
    assert not (killed/"blocks").exists() and open_cache(killed).mean.dtype == torch.float16


def fitted(out, rank, world):
    "Weights of a regression of eight rows a step: all at once, or in two parts by each of two processes."
    torch.set_num_threads(1)
    launched(torch.device("cpu"))
    assert process() == (rank, world)
    seed_all(0)
    model, own = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 16), torch.nn.Linear(16, 2)).double(), slice(rank*8//world, (rank + 1)*8//world)
    def batches(step): return dict(x=torch.randn(8, 5, generator=generator(step), dtype=torch.float64)[own])
    def loss(model, batch, noise, step): return dict(loss=(model(batch["x"]) - batch["x"][:, :2].sin()).square().mean())
    cfg = TrainConfig(steps=20, lr=1e-3, batch=8, warmup=1, muon_lr=0.02, accumulate=1 if world == 1 else 2)
    fit(model, loss, batches, cfg, progress=False)
    if rank == 0: torch.save(model.state_dict(), out)


def test_two_processes_that_accumulate_take_the_steps_of_one_that_does_not(tmp_path):
    port = free_port()
    def run(rank, world):
        env = dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo") if world > 1 else {}
        return subprocess.Popen([sys.executable, SCRIPT, "fitted", str(tmp_path/f"{world}.pt"), str(rank), str(world)], env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = [(p.communicate(timeout=300)[0], p.returncode) for p in [run(rank, world) for world in (1, 2) for rank in range(world)]]
    assert [code for _, code in said] == [0, 0, 0], said
    one, two = (torch.load(tmp_path/f"{world}.pt") for world in (1, 2))
    apart = {name: (one[name] - two[name]).abs().max().item() for name in one}
    assert max(apart.values()) < 1e-12, apart


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def on_machines(folders, *command):
    "`command` by two launchers, each in a folder of its own, as on two machines: a process each."
    port, env = free_port(), os.environ | dict(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    def launch(rank, folder):
        where = f"--nnodes 2 --node-rank {rank} --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port} --local-addr 127.0.0.1"
        return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *where.split(), *map(str, command)], cwd=folder, env=env,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [launch(rank, folder) for rank, folder in enumerate(folders)]


@pytest.fixture
def machines(tmp_path):
    "Two working folders, and a data set that both see."
    from test_files import squares
    squares(tmp_path/"data")
    folders = [tmp_path/"first", tmp_path/"second"]
    for f in folders: f.mkdir()
    return folders, [SCRIPT, tmp_path/"data"]


def test_two_machines_that_share_nothing_are_told_at_once(machines):
    folders, command = machines
    said = [(p.communicate(timeout=300)[0], p.returncode) for p in on_machines(folders, *command, "run", 2)]
    for text, code in said: assert code != 0 and text.count("process 1 does not see what process 0 writes into run: name a folder on a disk that all machines share"), text


def test_two_machines_that_share_the_folder_go_on_after_a_kill(machines, tmp_path):
    folders, command = machines
    both, run = on_machines(folders, *command, tmp_path/"run", 30), tmp_path/"run"/"tokenizer"
    while not (run.exists() and checkpoints(run)) and all(p.poll() is None for p in both): time.sleep(0.05)
    subprocess.run(["pkill", "-9", "-f", str(tmp_path/"run")])  # launchers and what they launched
    for p in both: p.wait()
    assert checkpoints(run) and not (tmp_path/"run"/"run.json").exists()
    said = [(p.communicate(timeout=300)[0], p.returncode) for p in on_machines(folders, *command, tmp_path/"run", 30)]
    assert [code for _, code in said] == [0, 0], said[0][0]
    assert [e["step"] for e in read_log(run/"log.jsonl")] == list(range(1, 31)) and json.loads((tmp_path/"run"/"run.json").read_text())["processes"] == 2


if __name__ == "__main__":  # a process of a regression: fitted OUT RANK WORLD; or of a small training: DATA RUN STEPS
    if sys.argv[1] == "fitted": fitted(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        from flowtok import distributed
        from flowtok.recipes import train
        distributed.PATIENCE = 2.0
        torch.set_num_threads(1)
        source, target, steps = sys.argv[1:]
        train(data=source, out=target, steps=int(steps), save_every=3, resume=True, direction="tokenizer", device="cpu", progress=False)
