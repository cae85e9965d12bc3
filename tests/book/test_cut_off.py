"""Nothing is cut off: code, outputs, formulas, tables and figures fit the page, on a laptop and on a
phone."""

import pytest
from cut_off import LAPTOP, PHONE, cut_off, served
from notebooks import toc_pages
from unconverted import CUT_OFF

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

PARTS = {  # what is cut off at 1300 px, what is said about it
    f"<pre>{'x' * 79}</pre>": [],
    f"<pre>{'x' * 79}\n{'y' * 120}</pre>": ["code in the text: " + "y" * 90],
    f"<details><pre>{'x' * 79}</pre></details>": [],
    f"<details><pre>{'x' * 120}</pre></details>": ["code in the text: " + "x" * 90],
    f"<div class='cell_input'><pre>short\n{'z' * 99}</pre></div>": ["code: " + "z" * 90],
    f"<div class='cell_output'><pre>{'z' * 99}</pre></div>": ["output: " + "z" * 90],
    "<table style='width: 900px'><tr><td>wide</td></tr></table>": ["table: wide"],
    "<div style='overflow-x: auto'><table style='width: 900px'><tr><td>wide</td></tr></table></div>": [
        "table: wide"
    ],
    "<table><tr><td>narrow</td></tr></table>": [],
    "<img alt='a wide picture' "
    "src='data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7' "
    "style='width: 800px; height: 9px; max-width: none'>": ["figure: a wide picture"],
    "<div class='mml-player' style='width: 800px; max-width: none'>frames</div>": ["figure: frames"],
    "<svg width='300'><svg width='900'></svg></svg>": [],
    "<div class='math'><mjx-math style='display: inline-block; width: 300px'>x</mjx-math>"
    "<span class='eqno'>(1)</span></div>": [],
    "<div class='math'><mjx-math style='display: inline-block; width: 900px'>x</mjx-math>"
    "<span class='eqno'>(1)</span></div>": [
        "equation: (1)"
    ],
    "<div class='math'><mjx-math style='display: inline-block; width: 300px'>x</mjx-math>"
    "<span class='eqno' style='margin-left: -60px'>(1)</span></div>": ["equation under its number: (1)"],
    "<p>so <span class='math'><mjx-math style='display: inline-block; width: 900px'>long</mjx-math>"
    "</span></p>": [
        "formula in the text: long"
    ],
}
FRAME = ("<!doctype html><style>body {{ margin: 0 }} article {{ width: 704px; max-width: 100% }} img, svg {{ "
         "max-width: 100% }}"
         " pre, div.math {{ font: 13px monospace; overflow-x: auto }}</style><article>{}</article>")


@pytest.mark.parametrize("part", PARTS)
def test_the_measure_finds_what_is_cut_off_and_names_it(chromium, part):
    page = chromium.new_page()
    page.set_content(FRAME.format(part))
    assert cut_off(page, LAPTOP) == PARTS[part]
    page.close()


@pytest.mark.parametrize("part, want", [
    (f"<pre>{'x' * 200}</pre>", []),
    ("<div style='overflow-x: auto'><table style='width: 900px'><tr><td>scrolls "
     "alone</td></tr></table></div>", []),
    ("<table style='width: 900px'><tr><td>pushes</td></tr></table>",
     ["table: pushes", "page: 900 px wide on a screen of 390"]),
    ("<div style='width: 500px'>pushes</div>", ["page: 500 px wide on a screen of 390"]),
])
def test_on_a_phone_parts_may_scroll_and_the_page_may_not(chromium, part, want):
    page = chromium.new_page()
    page.set_content(FRAME.format(part))
    assert cut_off(page, PHONE) == want
    page.close()


@pytest.mark.site
@pytest.mark.parametrize("name", toc_pages())
def test_a_page_cuts_nothing_off(chromium, address, name):
    page = chromium.new_page()
    page.set_default_timeout(180_000)
    page.goto(f"{address}/{name}.html")
    laptop, phone = cut_off(page, LAPTOP), cut_off(page, PHONE)
    page.close()
    assert phone == [], f"{name} on a phone"
    if name in CUT_OFF:
        assert laptop, f"{name} cuts nothing off any more: take it off the list in tests/book/unconverted.py"
    else:
        assert laptop == [], (
            f"{len(laptop)} cut off at {LAPTOP} px; `python tools/cut_off.py {name}` lists them"
        )


def test_pages_that_wait_for_their_rewrite_exist():
    assert CUT_OFF <= set(toc_pages())


def test_a_folder_is_served_while_it_is_asked_for(tmp_path):
    import urllib.request

    (tmp_path / "a.txt").write_text("here")
    with served(tmp_path) as address:
        assert urllib.request.urlopen(f"{address}/a.txt").read() == b"here"
