"The training engine: several processes, and kills at any time."
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from flowtok.training import checkpoints

SCRIPT = Path(__file__).parent/"parallel.py"
STAGES = ("tokenizer", "flow", "autoencoder", "caption")
COMMON = dict(env=dict(os.environ, OMP_NUM_THREADS="1"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
TWO = "-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2".split()  # the address, since a machine need not know its own name


def run(*args):
    done = subprocess.run([sys.executable, *map(str, args)], **COMMON)
    assert done.returncode == 0, done.stderr[-4000:]


def test_two_processes_have_the_losses_of_one(tmp_path):
    "Same global batch, noise keyed by row: every stage, 50 steps, float64."
    one, two = tmp_path/"one.json", tmp_path/"two.json"
    run(SCRIPT, one)
    run(*TWO, SCRIPT, two)
    one, two = (json.loads(path.read_text()) for path in (one, two))
    assert (one["world"], two["world"]) == (1, 2) and tuple(one["losses"]) == STAGES
    for stage, losses in one["losses"].items():
        assert len(losses) == 50 and len(set(losses)) > 40
        assert max(abs(a - b) for a, b in zip(losses, two["losses"][stage], strict=True)) < 1e-5, stage


def kill_in(stage, folder, steps, rng):
    "Start or go on, and kill -9 some time after the first new checkpoint of `stage`; False when it got through."
    newest = lambda: checkpoints(folder/stage)[:1] if (folder/stage).exists() else []
    before = newest()
    process = subprocess.Popen([sys.executable, SCRIPT, folder/"losses.json", folder, str(steps)], **COMMON)
    while newest() == before and process.poll() is None: time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    process.kill()
    return process.wait() != 0


def check_kills(folder, kills, steps):
    "Kill every stage `kills` times; the losses are to the last bit those of a run that was left alone."
    rng, struck = random.Random(0), {}
    for stage in STAGES: struck[stage] = sum(kill_in(stage, folder/"killed", steps, rng) for _ in range(kills))
    assert min(struck.values()) == kills, f"got through before it was killed {kills} times: {struck}"
    run(SCRIPT, folder/"killed.json", folder/"killed", steps)
    run(SCRIPT, folder/"alone.json", folder/"alone", steps)
    killed, alone = (json.loads((folder/name).read_text())["losses"] for name in ("killed.json", "alone.json"))
    assert killed == alone and all(len(v) == steps for v in alone.values())
    return struck


def test_killed_at_any_time(tmp_path):
    (tmp_path/"killed").mkdir()
    check_kills(tmp_path, kills=1, steps=60)


if __name__ == "__main__":  # python tests/test_engine.py FOLDER: ten kills of every stage, about ten minutes
    folder = Path(sys.argv[1])
    (folder/"killed").mkdir(parents=True)
    print("killed", check_kills(folder, kills=10, steps=400), "times; every loss is that of the run that was left alone")
