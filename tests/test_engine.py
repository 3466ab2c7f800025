"The training engine: several processes, and kills at any time."
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowtok import training
from flowtok.config import preset
from flowtok.model import FlowTok, reroute, text_to_image_loss
from flowtok.training import checkpoints
from parallel import STAGES

SCRIPT = Path(__file__).parent/"parallel.py"
COMMON = dict(env=dict(os.environ, OMP_NUM_THREADS="1"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
TWO = "-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2".split()  # the address, since a machine need not know its own name


def run(*args):
    done = subprocess.run([sys.executable, *map(str, args)], **COMMON)
    assert done.returncode == 0, done.stderr[-4000:]


def found(path):
    "What a run left: losses and other numbers, and the weights."
    return json.loads(path.read_text()), torch.load(path.with_suffix(".pt"))


STEPS = 50


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "What one process leaves that nobody kills."
    folder = tmp_path_factory.mktemp("alone")
    run(SCRIPT, folder/"alone.json", folder/"run", STEPS)
    return found(folder/"alone.json")


def test_two_processes_have_the_losses_of_one(alone, tmp_path):
    "Same global batch, noise keyed by row: every stage, float64."
    run(*TWO, SCRIPT, tmp_path/"two.json")
    (one, weights), (two, others) = alone, found(tmp_path/"two.json")
    assert (one["world"], two["world"]) == (1, 2)
    for stage, losses in one["exact"].items():
        assert len(losses) == len(set(losses)) == STEPS
        apart = max(abs(a - b) for a, b in zip(losses, two["exact"][stage], strict=True))
        assert apart < 1e-12, stage  # 8e-15 at most
    apart = {k: (weights[k] - others[k]).abs().max().item() for k in weights}
    assert max(apart.values()) < 1e-11, apart  # 2e-13 at most


def kill_in(stage, folder, steps, rng):
    "Start or go on, and kill -9 some time after the first new checkpoint of `stage`; False when it got through."
    newest = lambda: checkpoints(folder/stage)[:1] if (folder/stage).exists() else []
    before = newest()
    process = subprocess.Popen([sys.executable, SCRIPT, folder/"losses.json", folder, str(steps)], **COMMON)
    while newest() == before and process.poll() is None: time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    process.kill()
    return process.wait() != 0


def check_kills(folder, kills, steps, undisturbed):
    "Kill every stage `kills` times; losses and weights are to the last bit those of a run that was left alone."
    rng, struck = random.Random(0), {}
    for stage in STAGES: struck[stage] = sum(kill_in(stage, folder/"killed", steps, rng) for _ in range(kills))
    assert min(struck.values()) == kills, f"got through before it was killed {kills} times: {struck}"
    run(SCRIPT, folder/"killed.json", folder/"killed", steps)
    (killed, weights), (alone, others) = found(folder/"killed.json"), undisturbed
    assert killed["losses"] == alone["losses"]
    assert {k: len(v) for k, v in alone["losses"].items()} == dict.fromkeys(STAGES, steps)
    assert [k for k in weights if not torch.equal(weights[k], others[k])] == []
    return struck


def test_killed_at_any_time(alone, tmp_path):
    (tmp_path/"killed").mkdir()
    check_kills(tmp_path, kills=1, steps=STEPS, undisturbed=alone)


if __name__ == "__main__":  # python tests/test_engine.py FOLDER: ten kills of every stage, about ten minutes
    folder = Path(sys.argv[1])
    (folder/"killed").mkdir(parents=True)
    run(SCRIPT, folder/"alone.json", folder/"alone", 400)
    print("killed", check_kills(folder, kills=10, steps=400, undisturbed=found(folder/"alone.json")), "times; losses and weights are those of a run left alone")


@pytest.fixture
def patient(monkeypatch):
    "A training that looks at its losses when it logs, as on a GPU."
    monkeypatch.setattr(training, "_patience", lambda run: run.cfg.log_every)


def regression(steps, spoilt=None, asks=None, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    def batches(step):
        if asks: asks(step)
        return dict(x=torch.full((8, 4), torch.nan if step == spoilt else 0.1*step), index=torch.arange(8) + 100*step)
    def loss(model, batch, noise, step): return dict(loss=model(batch["x"]).square().mean())
    return training.fit(model, loss, batches, training.TrainConfig(steps, 8, 1e-3, log_every=5), progress=False, **options)


def test_a_broken_step_is_named_though_nobody_looked_at_once(patient, tmp_path):
    "And what is saved is whole."
    with pytest.raises(FloatingPointError, match="loss became nan at step 8, samples 700, 701.*step-00000004.pt"): regression(20, spoilt=7, out=tmp_path, save_every=4)
    assert all(v.isfinite().all() for v in training.load_checkpoint(checkpoints(tmp_path)[0])["model"].values())
    assert [e["step"] for e in training.read_log(tmp_path/"log.jsonl")] == [4]


def test_numbers_are_asked_for_when_there_is_a_line_to_log(patient):
    "Everything else may run ahead of the card."
    asked = []
    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, f, types, args=(), kwargs=None):
            asks = getattr(f, "__name__", "") in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy")
            if asks and sys._getframe(1).f_code.co_filename == training.__file__: asked.append(f.__name__)  # torch asks for its own counters, which lie on the host
            return f(*args, **kwargs or {})
    with Watch(): regression(100)
    often = len(asked)
    asked.clear()
    with Watch(): regression(200)
    assert often > 0 and len(asked) - often <= 2*100/5, (often, len(asked))


def test_a_patient_training_stops_at_once_when_it_is_asked(patient, tmp_path):
    "And what it saves was looked at, with no line of the log that a run left alone would not have."
    def asks(step):
        if step == 12: signal.raise_signal(signal.SIGTERM)
    with pytest.raises(training.Interrupted): regression(100, asks=asks, out=tmp_path, save_every=50)
    assert training.load_checkpoint(checkpoints(tmp_path)[0])["step"] == 13
    regression(100, out=tmp_path, save_every=50, resume=True)
    alone = regression(100)[1]
    assert [(e["step"], e["loss"]) for e in training.read_log(tmp_path/"log.jsonl")] == [(e["step"], e["loss"]) for e in alone]


class Waits(torch.utils._python_dispatch.TorchDispatchMode):
    "Counts what would make the host wait for a GPU: numbers that are asked for, and places that a mask picks."

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        masks = f.name().startswith("aten::index") and any(torch.is_tensor(i) and i.dtype == torch.bool for i in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()))
        if masks or f.name().partition(".")[0] in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::equal"): self.found.append(f.name())
        return f(*args, **kwargs or {})


@pytest.mark.parametrize("name", ["nano", "small", "B"])
def test_the_flow_s_loss_asks_for_no_number(name):
    p = preset(name)
    f = replace(p.flow, width=64, depth=1, heads=2, mlp_width=64)
    model, draw, b, ends = FlowTok(f, 16), torch.Generator().manual_seed(0), 8, p.flow_loss.references
    image, text, words = torch.randn(b, f.n_tokens, f.latent_dim), torch.randn(b, f.n_tokens, f.text_width), torch.randint(16, (b, f.n_tokens))
    others = dict(others=torch.randn(b, ends, f.n_tokens, f.latent_dim), missing=torch.zeros(b, ends, dtype=torch.bool)) if ends else {}
    with Waits() as waits: text_to_image_loss(model, image, text, p.flow_loss, draw, words=words if f.reader_depth else None, **others)["loss"].backward()
    assert waits.found == []


def test_null_samples_are_sent_to_each_other_s_images():
    x = torch.arange(6.0)[:, None, None]
    for null, wanted in (("010110", [0, 4, 2, 1, 3, 5]), ("000000", range(6)), ("000100", range(6)), ("111111", [5, 0, 1, 2, 3, 4])):
        chosen = torch.tensor([c == "1" for c in null])
        targets, left = reroute(x, chosen)
        assert targets.flatten().tolist() == list(wanted) and left.tolist() == (chosen & (chosen.sum() > 1)).tolist()
