"""Live models on a page, from a disk and from a server: keyboard, touch, dark, a phone, no scripts.

One page with all models is opened once, and each test uses its widgets as a reader would who goes on reading.
Tests wait for what a reader sees, never for a time: a busy machine is slow.
"""

import re
import shutil

import pytest
import torch
from cut_off import served
from live_parts import LIVE
from live_weights import write_scripts
from PIL import Image

from mmlearn.both_modalities.interleaved import NONSENSE
from mmlearn.data.images import standardise
from mmlearn.figures.live import (
    BOUND,
    LABELS,
    MODELS,
    QUESTION,
    SCENES,
    TEXTS,
    bind,
    bytes_to_load,
    fill,
    live,
    pixels_of,
    scene_to_pick,
    thing_to_pick,
)
from mmlearn.generate import beam, greedy
from mmlearn.image2text.saved import load_captioner
from mmlearn.images_for_language.word_space import load_word_space
from mmlearn.text_for_vision.training import load_mini
from mmlearn.text_for_vision.zero_shot import SCENE, classify, zero_shot_weights

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]
BEFORE = 20_000                    # bytes that a page may load before the button is pressed
PATIENCE = 120_000                 # milliseconds that a test waits for what a reader sees
ANSWERED = re.compile("Answered|Written|Drawn")


@pytest.fixture(scope="module")
def blocks():
    """What a notebook stores of each model."""
    return {name: live(name)._repr_html_() for name in MODELS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, blocks):
    """A page with all models, one of them twice, and one with one, beside the scripts of the site."""
    made = tmp_path_factory.mktemp("site")
    shutil.copytree(LIVE, made / "live")
    write_scripts(made / "live" / "weights")
    for page, body in {"all": "".join(blocks.values()) + blocks["attngan"], "one": blocks["attngan"]}.items():
        (made / f"{page}.html").write_text(
            '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>live</title>'
            '<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
            f'<link rel="stylesheet" href="live/live.css"><script src="live/live.js"></script>'
            f"<body>{body}</body>",
            encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def open_page(chromium, folder):
    """A function that opens a page, and returns it with what went wrong and what was loaded."""
    contexts = []

    def opener(address: str, **options):
        size = {"width": 900, "height": 900}
        contexts.append(chromium.new_context(viewport=size, has_touch=True, **options))
        page, wrong, loaded = contexts[-1].new_page(), [], []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: loaded.append(request.url))
        page.goto(address)
        return page, wrong, loaded

    yield opener
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def opened(open_page, folder):
    """The page with all models, opened from a disk, with the first answers of all of them."""
    page, wrong, loaded = open_page(f"{folder.as_uri()}/all.html")
    before = list(loaded)
    run_buttons = page.get_by_role("button", name="Run the model here")
    for _ in range(run_buttons.count()):
        run_buttons.first.click()
    for i in range(len(MODELS) + 1):
        page.locator(".mm-live").nth(i).get_by_role("status").filter(has_text=ANSWERED).wait_for()
    return page, wrong, before, loaded


@pytest.fixture
def widget(opened):
    """The page, and a function that gives the place of a model on it; afterwards nothing went wrong."""
    page, wrong, _, _ = opened
    yield page, lambda name: page.locator(f'[data-live="{name}"] .mm-widget').first
    assert wrong == []


def answers(place) -> int:
    """How many answers a widget has given."""
    return int(place.get_attribute("data-answers") or 0)


def wait_for_answer(page, place, before: int) -> None:
    """Wait until a widget has answered since, and has nothing more to do."""
    page.wait_for_function("([e, n]) => e.dataset.answers > n && e.getAttribute('aria-busy') === 'false'",
                           arg=[place.element_handle(), before])


def pixels(place) -> str:
    """What the large picture of a widget shows."""
    return place.locator("canvas.mm-shown").evaluate("canvas => canvas.toDataURL()")


def wait_for_change(page, place, before: str) -> str:
    """Wait until the large picture differs, and return it."""
    canvas = place.locator("canvas.mm-shown").element_handle()
    page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas, before])
    return pixels(place)


def canvas_named(place, about: str):
    return place.locator(f'canvas[aria-label="{about}"]')


def test_models_run_on_a_page_opened_from_a_disk(opened):
    page, wrong, before, loaded = opened
    assert not any("weights/" in url or "nn.js" in url for url in before)      # before the buttons
    assert all(url.startswith(("file:", "data:", "blob:")) for url in loaded)
    unnamed = page.evaluate("[...document.querySelectorAll('input, select, canvas, progress')].filter(e => "
                            "!e.labels?.length && !e.getAttribute('aria-label')).length")
    assert unnamed == 0 and wrong == []


def test_two_places_of_one_model_share_its_weights(opened):
    page, _, _, loaded = opened
    assert page.locator('[data-live="attngan"] canvas.mm-shown').count() == 2
    assert len([url for url in loaded if re.search(r"attngan-\w+-0\.js", url)]) == 1


def test_workers_compute_so_that_the_page_stays_awake(opened):
    assert len(opened[0].workers) == len(MODELS)


def test_a_page_loads_little_before_the_button_is_pressed(open_page, folder, blocks):
    with served(folder) as address:
        page, wrong, loaded = open_page(f"{address}/all.html")
        names = [url.removeprefix(address + "/") for url in loaded if url.startswith(address)]
        assert sorted(names) == ["all.html", "live/live.css", "live/live.js"]
        scripts = sum((folder / name).stat().st_size for name in names if name != "all.html")
        assert scripts + max(map(len, blocks.values())) < BEFORE
        buttons = page.get_by_role("button", name="Run the model here").all_inner_texts()
        sizes = [f"{bytes_to_load(name) / 1e6:.1f} MB" for name in MODELS]
        assert buttons[:-1] == [f"Run the model here (loads {size})" for size in sizes]
        assert wrong == []


@pytest.mark.parametrize("name", MODELS)
def test_the_size_on_the_button_is_that_of_the_weights(folder, name):
    there = sum(file.stat().st_size for file in (folder / "live" / "weights").glob(f"{name}-*-*.js"))
    assert 0 <= there - bytes_to_load(name) < 2000


def test_weights_that_do_not_come_are_named_and_come_later_to_a_page_without_workers(open_page, folder):
    with served(folder) as address:
        page, _, _ = open_page(f"{address}/one.html")
        page.evaluate("delete window.Worker")
        page.route("**/attngan-*-1.js", lambda route: route.abort())
        page.get_by_role("button", name="Run the model here").click()
        page.get_by_role("status").filter(has_text="-1.js could not be loaded").wait_for()
        page.unroute("**/attngan-*-1.js")
        page.get_by_role("button", name="Try again").click()
        page.get_by_role("status").filter(has_text="Drawn").wait_for()
        assert page.workers == []


def test_labels_that_one_types_get_torchs_probabilities_and_unknown_words_are_named(widget):
    page, place = widget[0], widget[1]("clip-mini-resnet")
    place.locator(".mm-picks button").first.click()
    field = place.get_by_label("labels, separated by commas")
    field.fill("dog, a zebra, blue flower")
    field.press("Enter")
    place.locator("table.mm-odds th", has_text="zebra").wait_for()
    mini = load_mini("resnet")
    names = ["dog", "zebra", "blue flower"]
    weights = zero_shot_weights(mini.model, mini.tokeniser, names, SCENE)
    odds = classify(mini.model, standardise(pixels_of(scene_to_pick(0)[0])), weights)[0].tolist()
    want = {name: f"{100 * p:.1f} %" for name, p in zip(names, odds)}
    rows = place.locator("table.mm-odds tr").all()
    assert {row.locator("th").inner_text(): row.locator("td").last.inner_text() for row in rows} == want
    assert place.locator(".mm-read s").all_inner_texts() == ["zebra"]
    assert "never seen in training: zebra" in place.locator(".mm-read").inner_text()
    wait_for_answer(page, place, 0)


@torch.no_grad()
@pytest.mark.parametrize("size, scene, how", [(1, 2, "greedy"), (3, 4, "beam")])
def test_words_of_a_caption_appear_and_show_where_the_model_looked(widget, size, scene, how):
    page, place = widget[0], widget[1]("captioner-grid")
    place.get_by_label("how words are chosen").select_option(str(size))
    place.locator(".mm-picks button").nth(scene).click()
    saved, picture = load_captioner("captioner-grid"), pixels_of(scene_to_pick(scene)[0])
    context = saved.model.encode(picture)
    tokens = greedy(saved.model, context)[0][0] if size == 1 else beam(saved.model, context, k=size)[0][0, 0]
    want = saved.tokeniser.decode(tokens)
    canvas_named(place, scene_to_pick(scene)[1]).wait_for()
    place.get_by_role("status").filter(has_text=f"“{want}”").wait_for()
    words = place.locator(".mm-words button")
    assert words.all_inner_texts() == want.split()
    seen = []
    for i in (0, 1, 2):
        words.nth(i).tap()
        place.locator(f".mm-words button:nth-child({i + 1})[aria-pressed=true]").wait_for()
        seen.append(pixels(place))
    words.nth(2).focus()
    page.keyboard.press("ArrowLeft")
    assert words.nth(1).evaluate("w => w === document.activeElement")
    assert pixels(place) == seen[1]
    assert len(set(seen)) == 3


def test_of_pictures_picked_in_haste_the_last_is_described(widget):
    page, place = widget[0], widget[1]("captioner-grid")
    before = answers(place)
    place.locator(".mm-picks").evaluate("row => [6, 7, 8, 9, 3].forEach(i => row.children[i].click())")
    canvas_named(place, scene_to_pick(3)[1]).wait_for()
    wait_for_answer(page, place, before)
    assert answers(place) == before + 1
    assert place.locator(".mm-picks button[aria-pressed=true]").get_attribute("title") == scene_to_pick(3)[1]


def test_a_picture_is_uploaded_and_painted_on(widget, tmp_path):
    page, place = widget[0], widget[1]("clip-mini-resnet")
    file = tmp_path / "p.png"
    Image.fromarray(scene_to_pick(5)[0]).save(file)
    table, tables = place.locator("table.mm-odds"), []

    def answered(about: str, act) -> None:
        before = answers(place)
        act()
        canvas_named(place, about).wait_for()
        wait_for_answer(page, place, before)
        tables.append(table.inner_text())

    def paint() -> None:
        box = place.locator("canvas.mm-shown").bounding_box()
        page.mouse.move(box["x"] + 40, box["y"] + 128)
        page.mouse.down()
        page.mouse.move(box["x"] + 200, box["y"] + 128, steps=4)
        page.mouse.up()

    answered(scene_to_pick(5)[1], place.locator(".mm-picks button").nth(5).click)
    answered("your picture", lambda: place.locator("input[type=file]").set_input_files(file))
    place.get_by_role("button", name="Paint on it").click()
    place.get_by_label("colour").select_option("red")
    place.get_by_label("brush").select_option("broad")
    place.locator("canvas.mm-shown").scroll_into_view_if_needed()
    answered("your painting", paint)
    assert tables[1] == tables[0]                                               # the same pixels
    assert tables[2] != tables[0]
    place.get_by_role("button", name="Paint on it").click()


def test_a_scene_is_built_from_things_that_keys_and_fingers_move(widget):
    page, place = widget[0], widget[1]("captioner-grid")
    page.set_viewport_size({"width": 390, "height": 900})
    place.get_by_role("button", name="Build a scene").click()
    canvas = place.locator("canvas.mm-shown")
    canvas_named(place, "your scene: a medium brown dog, meadow").wait_for()
    before = answers(place)
    for label, choice in (("setting", "beach"), ("thing", "boat"), ("colour", "yellow"), ("size", "large")):
        place.get_by_label(label).select_option(choice)
    place.get_by_role("button", name="Add").click()
    canvas_named(place, "your scene: a medium brown dog, a large yellow boat, beach").wait_for()
    wait_for_answer(page, place, before)
    place.get_by_role("status").filter(has_text="Written").wait_for()
    pictures, before = [pixels(place)], answers(place)
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    wait_for_answer(page, place, before)
    place.get_by_role("status").filter(has_text="Written").wait_for()
    pictures.append(pixels(place))
    canvas.scroll_into_view_if_needed()
    box, before = canvas.bounding_box(), answers(place)
    page.mouse.move(box["x"] + 0.66 * box["width"], box["y"] + 0.62 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"], steps=3)
    page.mouse.up()
    wait_for_answer(page, place, before)
    place.get_by_role("status").filter(has_text="Written").wait_for()
    pictures.append(pixels(place))
    assert len(set(pictures)) == 3
    canvas.focus()
    page.keyboard.press("Delete")
    canvas_named(place, "your scene: a medium brown dog, beach").wait_for()
    place.get_by_role("button", name="Remove").click()
    canvas_named(place, "your scene: nothing, beach").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    place.get_by_role("button", name="Build a scene").click()
    page.set_viewport_size({"width": 900, "height": 900})


def test_a_sentence_is_drawn_and_mixed_with_another(widget):
    page, place = widget[0], widget[1]("attngan")
    pictures = [pixels(place)]
    slider = place.get_by_label("from the first sentence to the second")
    slider.focus()
    page.keyboard.press("End")
    canvas_named(place, f"drawn by the model: {TEXTS[1]}").wait_for()
    pictures.append(pixels(place))
    slider.fill("0.5")
    place.locator("canvas[aria-label*='50 %']").wait_for()
    pictures.append(pixels(place))
    place.get_by_role("button", name="Another seed").click()
    place.get_by_role("status").filter(has_text="seed 1").wait_for()
    pictures.append(pixels(place))
    assert len(set(pictures)) == 4
    place.get_by_label("a sentence", exact=True).fill("a large purple zebra")
    place.locator(".mm-read s", has_text="zebra").wait_for()
    place.locator("canvas[aria-label*='zebra']").wait_for()


def test_a_picture_is_written_code_by_code_and_says_what_was_read(widget):
    page, place = widget[0], widget[1]("dalle")
    canvas, slider = place.locator("canvas.mm-shown"), place.get_by_label("look at a code")
    first, before = pixels(place), answers(place)
    place.get_by_role("button", name="Another seed").tap()
    place.get_by_role("status").filter(has_text="Drawn in").filter(has_text="seed 1: 64 codes").wait_for()
    wait_for_answer(page, place, before)
    second = pixels(place)
    assert second != first
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    place.get_by_role("status").filter(has_text="in row 1, column 2 had a probability of").wait_for()
    assert slider.get_attribute("aria-valuetext") == "row 1, column 2" and pixels(place) != second
    read = place.get_by_label("what was read of the sentence").locator("span")
    words = ["start", "a", "large", "red", "balloon", "on", "a", "beach", "17 × padding"]
    assert read.all_inner_texts() == words
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"])
    place.get_by_role("status").filter(has_text="in row 8, column 8").wait_for()
    slider.fill("0")
    assert pixels(place) == second
    before = answers(place)
    place.get_by_label("a sentence", exact=True).fill("a large purple zebra on a beach")
    place.locator(".mm-read s", has_text="zebra").wait_for()
    canvas_named(place, "drawn by the model: a large purple zebra on a beach").wait_for()
    wait_for_answer(page, place, before)


def test_rows_of_a_picture_stay_while_the_rest_is_written_anew(widget):
    page, place = widget[0], widget[1]("dalle")
    top = """canvas => {
        const pen = new OffscreenCanvas(256, 96).getContext('2d', {willReadFrequently: true});
        pen.drawImage(canvas, 0, 0);
        return Array.from(pen.getImageData(0, 0, 256, 96).data); }"""
    before, canvas = answers(place), place.locator("canvas.mm-shown")
    was, all_of_it = canvas.evaluate(top), pixels(place)
    place.get_by_label("rows to keep of this picture").fill("5")
    place.get_by_role("status").filter(has_text=": 24 codes").wait_for()
    wait_for_answer(page, place, before)
    apart = [abs(a - b) for a, b in zip(was, canvas.evaluate(top))]
    assert pixels(place) != all_of_it
    assert sum(apart) / len(apart) < 3                      # the same codes, but what is below reaches up
    place.get_by_label("look at a code").fill("1")
    place.get_by_role("status").filter(has_text="in row 1, column 1 was there before").wait_for()
    assert "5 of 8 rows" in place.get_by_label("rows to keep of this picture").get_attribute("aria-valuetext")
    before = answers(place)
    place.get_by_label("rows to keep of this picture").fill("0")
    place.get_by_role("status").filter(has_text=": 64 codes").wait_for()
    wait_for_answer(page, place, before)
    assert pixels(place) == all_of_it                                              # the same seed


def test_words_get_neighbours_that_follow_the_weight_and_analogies(widget):
    page, place = widget[0], widget[1]("word-space")
    near, space = place.get_by_label("the nearest words"), load_word_space()

    def names_at(word: str, share: float) -> None:
        want = [name for name, _ in space.with_share(share).word_vectors().neighbours(word, 7)]
        page.wait_for_function(
            "([e, want]) => [...e.rows].map(row => row.cells[1].textContent).join() === want",
            arg=[near.element_handle(), ",".join(want)])

    names_at("raven", 0.5)
    slider = place.get_by_label("pictures alone (0) to text alone (1)")
    slider.focus()
    page.keyboard.press("End")
    names_at("raven", 1.0)
    assert "100 %" in slider.get_attribute("aria-valuetext")
    near.get_by_role("button", name="dove").tap()
    names_at("dove", 1.0)
    place.get_by_role("button", name="dog : puppy = cat").click()
    place.get_by_label("the words that follow").get_by_role("button", name="kitten").wait_for()
    field = place.get_by_label("a word", exact=True)
    field.fill("canary")
    names_at("canary", 1.0)
    assert near.locator(".mm-seen").count() > 3
    slider.fill("0")
    place.get_by_role("status").filter(has_text="canary has no pictures").wait_for()
    assert near.locator("tr").count() == 0
    field.fill("zeppelins")
    place.locator(".mm-read s", has_text="zeppelins").wait_for()
    place.get_by_role("status").filter(has_text="was never read").wait_for()


def test_a_gap_is_filled_and_regions_that_were_read_are_lit(widget):
    page, place = widget[0], widget[1]("vilbert")
    assert place.get_by_role("button").count() == len(SCENES)              # to pick; no upload, no painting
    dark = pixels(place)
    words = place.get_by_label("the likeliest words for the gap").locator("th").all_inner_texts()
    assert words == list(fill(0, QUESTION))
    looked = place.get_by_label("where the model looked")
    assert looked.locator("th").first.inner_text() == "whole picture"
    field = place.get_by_label("a sentence with a gap")
    field.fill("there is a boat and a ___")
    field.press("Enter")
    page.wait_for_function("([e, want]) => [...e.rows].map(row => row.cells[0].textContent).join() === want",
                           arg=[place.get_by_label("the likeliest words for the gap").element_handle(),
                                ",".join(fill(0, "there is a boat and a ___"))])
    assert pixels(place) != dark
    field.fill("a zebra")
    place.locator(".mm-read s", has_text="zebra").wait_for()
    place.get_by_role("status").filter(has_text="Write ___").wait_for()
    assert looked.locator("tr").count() == 0


def test_two_made_up_words_are_bound_to_pictures_and_follow_when_they_are_swapped(widget):
    page, place = widget[0], widget[1]("flamingo")
    odds, (first, second) = place.get_by_label("how probable each word is"), NONSENSE[:2]

    def shares() -> dict[str, str]:
        return {row.locator("th").inner_text(): row.locator("td").last.inner_text()
                for row in odds.locator("tr").all()}

    want = bind([*zip(BOUND, (first, second))], BOUND[2])
    assert shares() == {word: f"{100 * share:.1f} %" for word, share in want.items()}
    read = place.get_by_label("the page that the model reads")
    assert read.locator("canvas").count() == 3 and read.inner_text().count("Output:") == 3
    before = answers(place)
    place.get_by_role("button", name="Swap the two words").click()
    wait_for_answer(page, place, before)
    assert shares()[second] == f"{100 * want[first]:.1f} %"
    before = answers(place)
    place.locator(".mm-picks button").nth(3).tap()                         # into the slot that is asked for
    canvas_named(place, thing_to_pick(3)[1]).wait_for()
    wait_for_answer(page, place, before)
    place.get_by_role("status").filter(has_text=f"Likelier: {first}").wait_for()
    slot = place.get_by_role("button", name=f"the picture of {second}")
    slot.focus()
    page.keyboard.press("Enter")
    assert slot.get_attribute("aria-pressed") == "true"
    place.get_by_label("a question about the third picture").fill("What is in the zebra?")
    place.get_by_role("button", name="Ask", exact=True).click()
    place.locator("s", has_text="zebra").wait_for()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_phone_shows_all_of_it_in_the_light_of_the_page(widget, theme):
    page, _ = widget
    page.set_viewport_size({"width": 390, "height": 900})
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for place in page.locator(".mm-live").all():
        assert place.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
        dark = place.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(22, 27, 34)"
        assert dark == (theme == "dark")
    small = page.locator(".mm-live :is(button, label.mm-wordy, select)").evaluate_all("""all => all.map(
        e => e.getBoundingClientRect()).filter(b => b.width && Math.min(b.width, b.height) < 32).length""")
    assert small == 0
    page.set_viewport_size({"width": 900, "height": 900})


def test_without_scripts_the_prepared_answers_stay(open_page, folder):
    page, _, _ = open_page(f"{folder.as_uri()}/all.html", java_script_enabled=False)
    pictures = page.locator(".mm-live img")
    assert pictures.count() == len(MODELS) + 1 and page.locator("button, input").count() == 0
    for picture in pictures.all():
        assert picture.get_attribute("alt") and picture.evaluate("i => i.naturalWidth") == 64
    assert page.locator(".mm-note").count() == len(MODELS) + 1
    rows = len(LABELS) + 5 + 6 + 2              # labels, words for a gap, neighbours, made-up words
    assert page.locator("table tr").count() == rows
