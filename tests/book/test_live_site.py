"""Live models in the built website: scripts are there, on the pages that need them only, and they run."""

import re

import pytest
from cut_off import LAPTOP, PHONE, cut_off
from live_weights import weight_scripts

from mmlearn.figures.live import MODELS

pytestmark = [pytest.mark.site, pytest.mark.slow]


def test_the_site_holds_the_weights_as_scripts(site):
    folder = site / "_static" / "live" / "weights"
    want = {file: text for name in MODELS for file, text in weight_scripts(name)}
    assert {file.name for file in folder.glob("*.js")} == {*want, "scenes.js", "things.js"}
    for file, text in want.items():
        assert (folder / file).read_text(encoding="utf-8") == text


def test_pages_with_a_live_model_load_its_button_and_others_do_not(site):
    for file in (site / "book").rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        for part in ("live/live.js", "live/live.css"):
            assert bool(re.search(f'(src|href)="[^"]*{part}', text)) == (' data-live="' in text), file


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_the_front_page_speaks_about_a_scene(site, chromium):
    context = chromium.new_context(viewport={"width": LAPTOP, "height": 900})
    page, wrong = context.new_page(), []
    page.set_default_timeout(180_000)
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((site / "book" / "intro.html").as_uri())                               # from the disk
    button = page.get_by_role("button", name="Run the model here")
    assert button.bounding_box()["y"] + button.bounding_box()["height"] < 900        # above the fold
    button.click()
    page.get_by_role("status").filter(has_text="Written in").wait_for()
    page.get_by_role("button", name="Build a scene").click()
    page.locator("canvas[aria-label^='your scene: a medium']").wait_for()
    page.get_by_role("status").filter(has_text="Written in").wait_for()
    for width in (LAPTOP, PHONE):
        assert cut_off(page, width) == []
    assert wrong == []
    context.close()
