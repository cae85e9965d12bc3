"""Moving figures in a real browser without a network: mouse, keyboard, touch; nothing on the console."""

import numpy as np
import pytest

from mmlearn.figures.diagram import Diagram
from mmlearn.figures.image2text import architecture, decoding, m2, scores, training
from mmlearn.figures.image2text.looking import where_words_look
from mmlearn.figures.interactive import hover, plane, player, slider

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]


def bars(count: int) -> list[Diagram]:
    drawn = []
    for k in range(count):
        diagram = Diagram(200, 60, f"bar {k}")
        diagram.text(100, 30, f"bar {k}")
        drawn.append(diagram)
    return drawn


@pytest.fixture
def open_blocks(chromium):
    """A function that opens blocks on one page and returns it with what went wrong."""
    contexts = []

    def opener(*blocks, theme: str = "light", width: int = 800, **options):
        context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.clock.install()
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("data:", "about:")) else wrong.append(r.url))
        body = "".join(block._repr_html_() for block in blocks)
        page.set_content(f'<!doctype html><html data-theme="{theme}"><meta name="viewport" '
                         f'content="width=device-width"><body>{body}</body></html>')
        return page, wrong

    yield opener
    for context in contexts:
        context.close()


def seen(page, number: int = 0) -> list[str]:
    """The texts of the frames of a block that can be seen."""
    frames = page.locator(".mm").nth(number).locator(".mm-frame")
    return [text.strip() for i, text in enumerate(frames.all_text_contents()) if frames.nth(i).is_visible()]


def test_a_player_plays_to_its_end_and_stops_there(open_blocks):
    page, wrong = open_blocks(player(bars(3), ["a", "b", "c"], "bars", seconds=600))
    assert seen(page) == ["bar 0a"]
    page.get_by_label("play").click()
    for frame in ("bar 1b", "bar 2c", "bar 2c"):
        page.clock.run_for(600_000)
        assert seen(page) == [frame]
    page.get_by_role("button", name="play").click()                          # "play" again, from the start
    assert seen(page) == ["bar 0a"]
    page.clock.run_for(600_000)
    assert seen(page) == ["bar 1b"]
    assert wrong == []


def test_a_player_pauses_and_steps(open_blocks):
    page, wrong = open_blocks(player(bars(4), list("abcd"), "bars", seconds=60))
    page.get_by_label("play").click()
    page.get_by_label("pause").click()
    assert seen(page) == ["bar 0a"]
    page.get_by_label("step", exact=True).first.click()
    page.get_by_label("step", exact=True).first.click()
    assert seen(page) == ["bar 2c"]
    page.get_by_label("step back").click()
    assert seen(page) == ["bar 1b"]
    assert wrong == []


def test_the_keyboard_moves_a_player(open_blocks):
    page, wrong = open_blocks(player(bars(4), list("abcd"), "bars"))
    page.get_by_label("play").focus()
    for key, frame in (("ArrowRight", "bar 1b"), ("End", "bar 3d"), ("ArrowLeft", "bar 2c"),
                       ("Home", "bar 0a"), ("ArrowLeft", "bar 0a")):
        page.keyboard.press(key)
        assert seen(page) == [frame]
    page.locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    assert seen(page) == ["bar 1b"]                                                  # once, not twice
    assert wrong == []


def test_two_sliders_choose_a_frame(open_blocks):
    page, wrong = open_blocks(slider({"angle": [0, 90], "scale": ["1", "2", "4"]}, bars(6), "bars", start=4))
    outputs = page.locator("output")
    assert outputs.all_inner_texts() == ["90", "2"] and seen(page) == ["bar 4"]
    page.get_by_label("scale").fill("2")
    assert seen(page) == ["bar 5"]
    page.get_by_label("angle").fill("0")
    assert seen(page) == ["bar 2"] and outputs.all_inner_texts() == ["0", "4"]
    assert page.get_by_label("scale").get_attribute("aria-valuetext") == "4"
    assert wrong == []


def test_a_plane_is_pointed_at_and_its_sliders_follow(open_blocks):
    page, wrong = open_blocks(plane({"a": "xyz", "b": "uv"}, bars(6), "plane", area=(0.25, 0, 1, 1)),
                              has_touch=True)
    assert seen(page) == ["bar 0"]
    box = page.locator(".mm-frame svg").first.bounding_box()

    def at(across: float, down: float) -> tuple[float, float]:
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    for place, frame in ((0.95, 0.1), "bar 5"), ((0.95, 0.9), "bar 4"), ((0.3, 0.4), "bar 1"):
        page.mouse.move(*at(*place))
        assert seen(page) == [frame]
    page.mouse.move(*at(0.1, 0.9))                                          # outside of the area
    assert seen(page) == ["bar 1"]
    page.touchscreen.tap(*at(0.6, 0.9))
    assert seen(page) == ["bar 2"] and page.locator("output").all_text_contents() == ["y", "u"]
    page.get_by_label("b", exact=True).press("ArrowRight")
    assert seen(page) == ["bar 3"] and not wrong


def test_words_are_pointed_at_focused_and_tapped(open_blocks):
    page, wrong = open_blocks(hover(["a", "red", "dog"], bars(3), "bars"), has_touch=True)
    words = page.locator(".mm-words button")
    words.nth(2).hover()
    assert seen(page) == ["bar 2"]
    words.nth(1).focus()
    assert seen(page) == ["bar 1"]
    page.keyboard.press("ArrowRight")
    assert seen(page) == ["bar 2"] and words.nth(2).evaluate("w => w == document.activeElement")
    words.nth(0).tap()
    assert seen(page) == ["bar 0"]
    assert [words.nth(i).get_attribute("aria-pressed") for i in range(3)] == ["true", "false", "false"]
    assert wrong == []


def test_blocks_of_one_page_do_not_disturb_each_other(open_blocks):
    page, wrong = open_blocks(player(bars(3), list("abc"), "bars"), player(bars(3), list("abc"), "bars"))
    page.get_by_label("step", exact=True).locator("visible=true").first.click()
    assert seen(page, 0) == ["bar 1b"] and seen(page, 1) == ["bar 0a"]
    assert wrong == []


def test_what_lies_under_the_frames_is_always_seen(open_blocks):
    drawn = bars(4)
    page, wrong = open_blocks(slider({"x": [1, 2, 3]}, drawn[:3], "bars", under=drawn[3]))
    assert seen(page) == ["bar 3", "bar 0"]
    page.locator("input").fill("2")
    assert seen(page) == ["bar 3", "bar 2"]
    boxes = page.locator(".mm-frame svg").evaluate_all("all => all.map(s => s.getBoundingClientRect().top)")
    assert len(set(boxes)) == 1 and wrong == []


def test_without_scripts_a_still_picture_remains_and_no_dead_buttons(open_blocks):
    page, _ = open_blocks(player(bars(3), list("abc"), "bars", start=1), java_script_enabled=False)
    assert page.locator(".mm-frame").all_text_contents() == ["b"]                    # the label
    still = page.locator(".mm-frame img")
    assert still.get_attribute("alt") == "bar 1" and still.evaluate("i => i.naturalWidth > 0")
    assert page.locator("button, input").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_follow_the_light_of_the_page(open_blocks, theme):
    page, _ = open_blocks(bars(1)[0], player(bars(2), list("ab"), "bars"), theme=theme, color_scheme="light")
    colours = page.locator(".mm").evaluate_all("all => all.map(m => getComputedStyle(m).backgroundColor)")
    inks = page.locator(".mm text").evaluate_all("all => all.map(t => getComputedStyle(t).fill)")
    dark = theme == "dark"
    assert set(colours) == {"rgb(22, 27, 34)" if dark else "rgb(255, 255, 255)"}
    assert set(inks) == {"rgb(230, 235, 242)" if dark else "rgb(29, 39, 51)"}


def test_a_wide_diagram_scrolls_in_itself_on_a_phone_and_stays_readable(open_blocks):
    wide = Diagram(900, 60, "wide")
    wide.text(450, 30, "words", 13)
    page, _ = open_blocks(wide, player(bars(2), list("ab"), "bars"), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    size = page.locator("svg").first.evaluate("s => 13 * s.getBoundingClientRect().width / 900")
    assert size >= 8.99


def test_the_figures_of_chapter_1_open_and_fit_a_phone_whole(open_blocks):
    picture = np.full((16, 16, 3), 0.5)
    table = {"a red dog": {"BLEU-4": 1.0, "CIDEr-D": 5.0}, "a dog": {"BLEU-4": 0.5, "CIDEr-D": 1.0}}
    shown = [draw() for draw in (
        architecture.coco_pipeline, architecture.captioner, m2.memory_attention, m2.m2_beside_transformer,
        m2.meshed_decoder_layer, decoding.beam_search, training.self_critical, decoding.beam_player)]
    shown += [m2.memory_as_gate(degrees=90), m2.mesh_gates(["a", "dog"], np.full((3, 2, 3), 0.5)),
              where_words_look(picture, ["a", "dog"], np.ones((2, 4))),
              scores.score_variants(table, ["one", "two"], picture),
              training.training_player(picture, [1, 2], ["a", "a dog"], [3.0, 2.0])]
    page, wrong = open_blocks(*shown, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cut = page.evaluate("""[...document.querySelectorAll('.mm, .mm-stage')].filter(
        e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText.slice(0, 40))""")
    assert cut == []
    smallest = page.evaluate("""Math.min(...[...document.querySelectorAll('.mm svg[role] text')].filter(
        t => t.getClientRects().length).map(t => parseFloat(getComputedStyle(t).fontSize)
        * t.ownerSVGElement.getBoundingClientRect().width / t.ownerSVGElement.viewBox.baseVal.width))""")
    assert smallest >= 8.99
    assert wrong == []
