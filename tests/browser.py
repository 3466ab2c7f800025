"""Run notebooks in a real JupyterLab, driven in a browser, and look at what it shows.

    python tests/browser.py [--shots FOLDER] [NAME ...]     all notebooks, or those named

Works on a copy of the files that git knows. Needs `pip install playwright` and a Chromium on the PATH.
"""
import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from notebooks import NBS, ROOT, notebooks, read

SETTINGS = {"notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
            "apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False}}
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")


@contextlib.contextmanager
def lab(root):
    "A JupyterLab server on the folder `root`, with settings of its own; yields its address."
    with tempfile.TemporaryDirectory() as home, socket.socket() as free:
        free.bind(("127.0.0.1", 0)); port, token = free.getsockname()[1], secrets.token_hex(16)
        env = os.environ | {f: str(Path(home)/f) for f in FOLDERS} | dict(PYTHONPATH=str(ROOT))
        for name, value in SETTINGS.items():
            file = Path(env["JUPYTERLAB_SETTINGS_DIR"])/"@jupyterlab"/name
            file.parent.mkdir(parents=True, exist_ok=True); file.write_text(json.dumps(value))
        free.close()
        words = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"]
        server = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try: yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset"
        finally: server.terminate(); server.wait(20)


@contextlib.contextmanager
def browser():
    "A page of a headless Chromium."
    try: from playwright.sync_api import sync_playwright
    except ImportError: sys.exit("this needs playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None: sys.exit("this needs a Chromium on the PATH")
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium.new_page(viewport=dict(width=1280, height=900))
        chromium.close()


def open_notebook(page, address):
    "Open a notebook and wait until its kernel is there."
    for attempt in range(20):
        try: page.goto(address, timeout=60_000); break
        except Exception: time.sleep(1)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    page.wait_for_timeout(5000)  # the kernel; the page does not say when it is there


def menu(page, *items):
    "Choose from the menu bar."
    page.click(f'.lm-MenuBar-itemLabel:text-is("{items[0]}")')
    page.click(f'.lm-Menu-itemLabel:text-is("{items[1]}")')


def run_all(page, timeout=900):
    "Run All Cells, wait until none is waiting, and save."
    page.evaluate("document.querySelector('.jp-Notebook').focus()")
    menu(page, "Run", "Run All Cells")
    page.wait_for_timeout(1500)
    if page.locator(".jp-Dialog .jp-mod-accept").count(): page.click(".jp-Dialog .jp-mod-accept"); page.wait_for_timeout(1500)
    waiting = "!document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=busy]') && ![...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')].some(p => p.textContent.includes('[*]'))"
    page.wait_for_function(waiting, timeout=1000*timeout)
    page.keyboard.press("Control+s"); page.wait_for_timeout(2500)


def shut_down(page, address):
    "End all kernels, so that the next notebook has the memory to itself."
    start, token = address.partition("/lab")[0], address.partition("token=")[2].partition("&")[0]
    headers = {"Authorization": f"token {token}"}
    for kernel in page.request.get(f"{start}/api/kernels", headers=headers).json(): page.request.delete(f"{start}/api/kernels/{kernel['id']}", headers=headers)


def faults(path):
    "What is wrong with the outputs of a notebook: errors and warnings."
    outputs = [(c["id"], o) for c in read(path)["cells"] for o in c.get("outputs", [])]
    return [f"{id}: {o.get('ename', 'warning')}: {o.get('evalue') or ''.join(o.get('text', ''))}"[:300] for id, o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


def not_run(path):
    "Numbers of code cells that were not executed."
    return [i for i, c in enumerate(read(path)["cells"]) if c["cell_type"] == "code" and "".join(c["source"]).strip() and c["execution_count"] is None]


def play(page):
    "Turn the knobs of 36_playground; returns milliseconds from a new seed to a new picture, for five seeds."
    panel = page.locator(".jp-OutputArea .widget-vbox:has(.widget-text)").first
    seen, times = panel.locator("img").first, []
    for _ in range(5):
        before, begun = seen.get_attribute("src"), time.perf_counter()
        panel.locator('.widget-slider:has-text("seed") .noUi-handle').press("ArrowRight")
        while seen.get_attribute("src") == before and time.perf_counter() - begun < 10: page.wait_for_timeout(10)
        if seen.get_attribute("src") == before: raise SystemExit("the picture does not follow the slider")
        times.append(round(1000*(time.perf_counter() - begun)))
    return times


def shoot(page, folder, name):
    "Screenshots of a notebook, from top to bottom."
    folder.mkdir(parents=True, exist_ok=True)
    view = page.locator(".jp-WindowedPanel-outer").first
    height, step = view.evaluate("e => e.scrollHeight"), 800
    for k in range(min(12, -(-height//step))):
        view.evaluate(f"e => e.scrollTop = {k*step}"); page.wait_for_timeout(250)
        page.screenshot(path=folder/f"{name}-{k:02}.png", animations="disabled", timeout=10_000)


def main():
    "Run, report, and exit with 1 if anything was wrong."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*"); parser.add_argument("--shots", type=Path)
    options, wrong = parser.parse_args(), 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server ends, too
    chosen = [p for p in notebooks() if not options.names or p.stem in options.names]
    with tempfile.TemporaryDirectory() as copy:
        for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")[:-1]:
            (Path(copy)/name).parent.mkdir(parents=True, exist_ok=True); shutil.copy(ROOT/name, Path(copy)/name)
        with lab(copy) as address, browser() as page:
            for path in chosen:
                begun, place = time.perf_counter(), Path("nbs")/path.relative_to(NBS)
                open_notebook(page, address.format(place.as_posix())); run_all(page)
                found = faults(Path(copy)/place) + [f"cell {i} was not run" for i in not_run(Path(copy)/place)]
                if path.stem == "36_playground": print("  milliseconds from slider to picture:", play(page))
                if options.shots: shoot(page, options.shots, path.stem)
                shut_down(page, address)
                print(f"{path.stem:28} {time.perf_counter() - begun:6.0f} s  {'; '.join(found) or 'no error, no warning'}", flush=True)
                wrong += bool(found)
    sys.exit(bool(wrong))


if __name__ == "__main__": main()
