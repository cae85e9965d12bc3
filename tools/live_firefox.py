"""Do live models give Firefox the numbers that they give Chromium? Each model answers once in both, and the
largest difference is printed; without Debian's ``firefox-esr`` nothing is compared.

    python tools/live_firefox.py [NAME ...]         default: all models

Both open the same page of a server on this machine, and the page sends its answers back.
"""

import argparse
import json
import queue
import shutil
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
from cut_off import CHROMIUM, chromium_path
from live_times import LIVE
from live_weights import weight_scripts

from mmlearn.figures.live import MODELS, QUESTION, TEXTS, scene_to_pick, thing_to_pick

PATIENCE = 600                                          # seconds for a browser
PAGE = """<!doctype html><meta charset="utf-8"><title>compare</title><script>
const abouts = {{}}, pieces = {{}}, calls = {calls};
const mmlearnLive = {{about: (name, about) => {{abouts[name] = about;}},
  piece: (name, i, text) => {{(pieces[name] = pieces[name] || [])[i] = text;}}}};
{scripts}
(async () => {{
  const nn = mmlearnEngine(), models = mmlearnModels(nn), told = {{}};
  for (const [name, list] of Object.entries(calls)) {{
    const parts = pieces[name].map(text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)));
    const model = models[name](nn.readSafetensors(await new Blob(parts).arrayBuffer()), abouts[name]);
    for (const [call, ...given] of list) for (const value of model[call](...given)) told[name] = value;}}
  await fetch("/", {{method: "POST", body: JSON.stringify(told, (_, value) =>
    ArrayBuffer.isView(value) ? Array.from(value) : value)}});
}})();
</script>"""


def calls_of(name: str) -> list[list[Any]]:
    """What a model is asked; the last answer counts."""
    def planes(image: np.ndarray) -> list[float]:
        return (image.transpose(2, 0, 1) / 255).ravel().tolist()

    scene = planes(scene_to_pick(0)[0])
    looks = [["look", i, planes(thing_to_pick(thing)[0])] for i, thing in enumerate((0, 2, 1))]
    return {"clip-mini-resnet": [["classify", scene, ["boat", "car"]]],
            "captioner-grid": [["caption", scene, 3]], "attngan": [["draw", list(TEXTS), 0.3, 7]],
            "dfgan": [["draw", list(TEXTS), 0.3, 7]],
            "dalle": [["draw", TEXTS[0], 7]], "word-space": [["neighbours", "raven", 0.5, 7]],
            "vilbert": [["fill", 0, QUESTION]],
            "flamingo": [*looks, ["bind", [[0, "dax"], [1, "blicket"]], 2]]}[name]


def numbers(told: Any) -> list[float]:
    """All numbers of an answer, in order."""
    if isinstance(told, (int, float)):
        return [float(told)]
    inside = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    return [number for part in inside for number in numbers(part)]


def answers(page: str, command: list[str]) -> dict[str, Any]:
    """What the page sends back from a browser. Raises ``queue.Empty`` if it never does."""
    heard: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def do_POST(self) -> None:
            heard.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    browser = subprocess.Popen([*command, f"http://127.0.0.1:{server.server_port}/"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return heard.get(timeout=PATIENCE)
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or list(MODELS)
    firefox, chromium = shutil.which("firefox-esr"), chromium_path()
    if firefox is None or chromium is None:
        print("nothing compared: firefox-esr and chromium are needed; install them with apt-get",
              file=sys.stderr)
        return 0
    scripts = [(LIVE / file).read_text(encoding="utf-8") for file in ("nn.js", "models.js")]
    scripts += [text for name in names for _, text in weight_scripts(name)]
    calls = json.dumps({name: calls_of(name) for name in names})
    page = PAGE.format(calls=calls, scripts="\n".join(scripts))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        found = [answers(page, [firefox, "--headless", "--no-remote", "--profile", one]),
                 answers(page, [chromium, "--headless", *CHROMIUM, f"--user-data-dir={other}"])]
    worst = 0.0
    for name in names:
        ours, theirs = (np.array(numbers(told[name])) for told in found)
        apart = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
        worst = max(worst, apart)
        print(f"{name:18} {len(ours):6} numbers, at most {apart:.1e} apart")
    return int(worst > 1e-5)


if __name__ == "__main__":
    sys.exit(main())
