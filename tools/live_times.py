"""How long a reader waits for a live model: the first answer with its loading, and one more, at full speed
and at a quarter of it.

    python tools/live_times.py [NAME ...]           default: all models

The page is opened from a disk in Chromium, without workers, since only the page's own thread can be slowed
down; a worker is no faster. Seconds mean something on a quiet machine alone: the load is printed beside them.
"""

import argparse
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from cut_off import CHROMIUM, chromium_path
from live_weights import scene_script, weight_scripts
from notebooks import ROOT

from mmlearn.figures.live import MODELS, bytes_to_load, live

LIVE = ROOT / "book" / "_static" / "live"
ANSWERED = re.compile("Answered|Written|Drawn")
ANOTHER = "button:has-text('Another seed')"
AGAIN = {"attngan": ANOTHER, "dfgan": ANOTHER, "dalle": ANOTHER, "word-space": "button:has-text('puppy')"}
PICK = ".mm-picks button >> nth=4"                      # what asks for one more answer elsewhere
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>live</title>
<link rel="stylesheet" href="live/live.css"><script src="live/live.js"></script><body>{}</body>"""


def write_page(folder: Path, name: str) -> Path:
    """A page with one model beside the scripts that it loads; returns it."""
    weights = folder / "live" / "weights"
    shutil.copytree(LIVE, folder / "live", dirs_exist_ok=True)
    weights.mkdir(exist_ok=True)
    for file, text in [*weight_scripts(name), ("scenes.js", scene_script())]:
        (weights / file).write_text(text, encoding="utf-8")
    page = folder / f"{name}.html"
    page.write_text(PAGE.format(live(name)._repr_html_()), encoding="utf-8")
    return page


def waits(browser: Any, page_file: Path, name: str, slower: int) -> tuple[float, float]:
    """Seconds from the click to the first answer, and for one more."""
    page = browser.new_page()
    page.set_default_timeout(600_000)
    page.add_init_script("delete window.Worker")
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    page.goto(page_file.as_uri())
    start = time.perf_counter()
    page.get_by_role("button", name="Run the model here").click()
    page.get_by_role("status").filter(has_text=ANSWERED).first.wait_for()
    first = time.perf_counter() - start
    place = page.locator(".mm-widget")
    answers = "e => +e.dataset.answers"
    page.wait_for_function("e => e.getAttribute('aria-busy') === 'false'", arg=place.element_handle())
    before = place.evaluate(answers)
    start = time.perf_counter()
    place.locator(AGAIN.get(name, PICK)).click()
    page.wait_for_function("([e, n]) => e.dataset.answers > n", arg=[place.element_handle(), before])
    page.close()
    return first, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or list(MODELS)
    from playwright.sync_api import sync_playwright

    print("model                 MB   first s  next s   at a quarter    load")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium_path(), args=CHROMIUM)
        for name in names:
            page = write_page(Path(folder), name)
            full, quarter = (waits(browser, page, name, slower) for slower in (1, 4))
            print(f"{name:18} {bytes_to_load(name) / 1e6:5.1f} {full[0]:8.2f} {full[1]:7.2f} "
                  f"{quarter[0]:8.2f} {quarter[1]:7.2f} {os.getloadavg()[0]:7.1f}", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
