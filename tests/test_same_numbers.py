"""Same seed, same numbers: losses of every stage and what the bundled weights draw and say, as one commit had them.

    python tests/test_same_numbers.py record   write tests/same-numbers.json (of the code as it stands, on this machine)
    python tests/test_same_numbers.py check    train 200 steps of every stage again, about five minutes, and compare
"""
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import flowtok
from world import folder

FILE = Path(__file__).with_name("same-numbers.json")
CAPTIONS = ["a large blue star on white", "a small red circle", "a red square above a green cross on black",
            "a yellow shape at the top left", "pink triangle, grey background", "an orange circle left of a cyan star"]


def machine():
    "What the last bits of a number depend on."
    try: model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration): model = platform.processor()
    return dict(cpu=model.partition(":")[2].strip() or model, torch=torch.__version__, kernels=torch.backends.cpu.get_cpu_capability())


def drawn():
    "Digests of what the bundled weights draw, and what they say of it."
    pipe, found, threads = flowtok.load("nano", device="cpu"), {}, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, options in dict(default={}, plain=dict(guidance=1.0, steps=7), strong=dict(guidance=2.5, seed=3)).items():
            images = pipe.text_to_image(CAPTIONS, **options)
            found[name] = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()[:16]
            found[f"{name}, said"] = pipe.image_to_text(images)
    finally: torch.set_num_threads(threads)
    return found


def losses(steps, *options):
    "The loss of every step of every stage, from `flowtok-train` with one thread."
    from os import environ
    with tempfile.TemporaryDirectory() as out:
        words = ["--steps", str(steps), "--out", out, "--device", "cpu", "--save-every", "100", *options]
        subprocess.run([sys.executable, "-c", f"import sys; sys.argv[1:] = {words!r}; from flowtok.cli import *; {command()}()"],
                       check=True, env=environ | dict(OMP_NUM_THREADS="1"), capture_output=True, text=True)
        logs = sorted(Path(out).glob("*/log.jsonl"))
        return {log.parent.name: [json.loads(line)["loss"] for line in log.read_text().splitlines()] for log in logs}


def command(): return "flowtok_train"  # of `flowtok.cli`


def pictures(path):
    "A folder of twenty squares with two captions each."
    return folder(path, [(f"{i}.png", [f"a picture of square {i}", f"square {i % 8}"]) for i in range(20)])


def short():
    "Twenty steps of every stage on a folder of pictures."
    with tempfile.TemporaryDirectory() as here: return losses(20, "--data", str(pictures(Path(here)/"pictures")))


def test_the_same_seed_gives_the_same_numbers():
    "On the machine of the record to the last digit; elsewhere kernels add up in another order."
    kept, now = json.loads(FILE.read_text()), short()
    assert now.keys() == kept["short"].keys() == {"tokenizer", "flow", "autoencoder", "caption"}
    if kept["machine"] == machine(): assert now == kept["short"] and drawn() == kept["drawn"]
    for stage, values in now.items(): assert torch.allclose(torch.tensor(values), torch.tensor(kept["short"][stage]), rtol=0.05), stage


if __name__ == "__main__":
    found = dict(machine=machine(), drawn=drawn(), short=short(), long=losses(200))
    if sys.argv[1:] == ["record"]: FILE.write_text(json.dumps(found) + "\n")
    elif sys.argv[1:] == ["check"]:
        kept = json.loads(FILE.read_text())
        for part in ("machine", "drawn", "short", "long"): print(f"{part}: {'the same' if kept[part] == found[part] else 'DIFFERENT'}")
        for stage, values in found["long"].items():
            apart = next((i for i, (a, b) in enumerate(zip(values, kept["long"][stage], strict=True)) if a != b), None)
            print(f"{stage}: {len(values)} losses, {'all equal' if apart is None else f'apart from step {apart + 1} on'}; the last {values[-1]}")
    else: sys.exit(__doc__)
