"""Live models on a page, from a disk and from a server: keyboard, touch, dark, a phone, no scripts."""

import re
import shutil

import pytest
import torch
from cut_off import served
from live_parts import LIVE
from live_weights import write_scripts

from mmlearn.data.images import standardise
from mmlearn.figures.live import LABELS, MODELS, TEXTS, bytes_to_load, live, pixels_of, scene_to_pick
from mmlearn.generate import beam, greedy
from mmlearn.image2text.saved import load_captioner
from mmlearn.text_for_vision.training import load_mini
from mmlearn.text_for_vision.zero_shot import SCENE, classify, zero_shot_weights

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]
BEFORE = 20_000                    # bytes that a page may load before the button is pressed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages with a live model each, and one with all, beside the scripts as the site has them."""
    made = tmp_path_factory.mktemp("site")
    shutil.copytree(LIVE, made / "live")
    write_scripts(made / "live" / "weights")
    blocks = {name: live(name)._repr_html_() for name in MODELS}
    for page, body in {**blocks, "all": "".join(blocks.values())}.items():
        (made / f"{page}.html").write_text(
            '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>live</title>'
            '<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
            f'<link rel="stylesheet" href="live/live.css"><script src="live/live.js"></script>'
            f"<body>{body}</body>",
            encoding="utf-8")
    return made


@pytest.fixture
def open_page(chromium, folder):
    """A function that opens a page of the folder, and returns it with what went wrong and what was loaded."""
    contexts = []

    def opener(name: str, address: str | None = None, theme: str = "light", width: int = 900, **options):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, **options))
        page, wrong, loaded = contexts[-1].new_page(), [], []
        page.set_default_timeout(120_000)
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: loaded.append(request.url))
        page.goto(f"{address or folder.as_uri()}/{name}.html")
        if options.get("java_script_enabled", True):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        return page, wrong, loaded

    yield opener
    for context in contexts:
        context.close()


def run(page):
    """Press the button and wait for the first answer."""
    page.get_by_role("button", name="Run the model here").click()
    page.get_by_role("status").filter(has_text=re.compile("after|Written|Drawn")).wait_for()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_runs_on_a_page_opened_from_a_disk(open_page, name):
    page, wrong, loaded = open_page(name)
    assert not any("weights/" in url or "nn.js" in url for url in loaded)      # before the button
    run(page)
    assert wrong == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in loaded)
    assert page.evaluate("[...document.querySelectorAll('input, select, canvas, progress')].filter(e => "
                         "!e.labels?.length && !e.getAttribute('aria-label')).length") == 0


def test_a_page_loads_little_before_the_button_is_pressed(open_page, folder):
    with served(folder) as address:
        page, wrong, loaded = open_page("all", address)
        names = [url.removeprefix(address + "/") for url in loaded if url.startswith(address)]
        assert sorted(names) == ["all.html", "live/live.css", "live/live.js"]
        assert sum((folder / name).stat().st_size for name in names[1:]) < BEFORE
        blocks = [len(live(name)._repr_html_()) for name in MODELS]
        assert max(blocks) + sum((folder / name).stat().st_size for name in names[1:]) < BEFORE
        buttons = page.get_by_role("button", name="Run the model here")
        assert buttons.all_inner_texts() == [f"Run the model here (loads {bytes_to_load(name) / 1e6:.1f} MB)"
                                             for name in MODELS]
        assert wrong == []


@pytest.mark.parametrize("name", MODELS)
def test_the_size_on_the_button_is_that_of_the_weights(folder, name):
    there = sum(file.stat().st_size for file in (folder / "live" / "weights").glob(f"{name}-*-*.js"))
    assert 0 <= there - bytes_to_load(name) < 2000


def test_a_worker_answers_while_the_page_stays_awake(open_page):
    page, wrong, _ = open_page("attngan")
    page.evaluate("""() => { window.longest = 0; let last = performance.now(); setInterval(() => {
        const now = performance.now(); longest = Math.max(longest, now - last); last = now; }, 20); }""")
    run(page)
    page.evaluate("longest = 0")
    page.get_by_role("button", name="Another seed").click()
    said = page.get_by_role("status").filter(has_text="seed 1")
    said.wait_for()
    took = 1000 * float(re.search(r"Drawn in ([\d.]+) s", said.inner_text())[1])
    assert page.evaluate("longest") < took / 2 and wrong == []


def test_without_workers_the_page_computes_itself(open_page, folder):
    page, wrong, _ = open_page("clip-mini-resnet")
    page.evaluate("delete window.Worker")
    run(page)
    assert page.locator("table.mm-odds tr").count() == len(LABELS) and wrong == []


def test_labels_that_one_types_get_torchs_probabilities_and_unknown_words_are_named(open_page):
    page, wrong, _ = open_page("clip-mini-resnet")
    run(page)
    field = page.get_by_label("labels, separated by commas")
    field.fill("dog, a zebra, blue flower")
    field.press("Enter")
    page.locator("table.mm-odds th", has_text="zebra").wait_for()
    mini = load_mini("resnet")
    names = ["dog", "zebra", "blue flower"]
    weights = zero_shot_weights(mini.model, mini.tokeniser, names, SCENE)
    odds = classify(mini.model, standardise(pixels_of(scene_to_pick(0)[0])), weights)[0].tolist()
    want = {name: f"{100 * p:.1f} %" for name, p in zip(names, odds)}
    rows = page.locator("table.mm-odds tr").all()
    assert {row.locator("th").inner_text(): row.locator("td").last.inner_text() for row in rows} == want
    assert page.locator(".mm-read s").all_inner_texts() == ["zebra"]
    assert "never seen in training: zebra" in page.locator(".mm-read").inner_text()
    assert wrong == []


@torch.no_grad()
@pytest.mark.parametrize("size, how", [(1, "greedy"), (3, "beam")])
def test_words_of_a_caption_appear_and_show_where_the_model_looked(open_page, size, how):
    page, wrong, _ = open_page("captioner-grid", has_touch=True)
    run(page)
    if size > 1:
        page.get_by_label("how words are chosen").select_option(str(size))
    page.locator(".mm-picks button").nth(2).click()
    saved, pixels = load_captioner("captioner-grid"), pixels_of(scene_to_pick(2)[0])
    context = saved.model.encode(pixels)
    tokens = greedy(saved.model, context)[0][0] if size == 1 else beam(saved.model, context, k=size)[0][0, 0]
    want = saved.tokeniser.decode(tokens)
    page.get_by_role("status").filter(has_text=f"“{want}”").wait_for()
    words = page.locator(".mm-words button")
    assert words.all_inner_texts() == want.split()
    canvas, seen = page.locator("canvas.mm-shown"), []
    for i in (0, 1, 2):
        words.nth(i).tap()
        assert words.nth(i).get_attribute("aria-pressed") == "true"
        seen.append(canvas.screenshot())
    words.nth(2).focus()
    page.keyboard.press("ArrowLeft")
    assert words.nth(1).evaluate("w => w === document.activeElement")
    assert canvas.screenshot() == seen[1]
    assert len(set(seen)) == 3
    assert wrong == []


def test_a_picture_is_uploaded_and_painted_on(open_page, tmp_path):
    from PIL import Image

    file = tmp_path / "p.png"
    Image.fromarray(scene_to_pick(5)[0]).save(file)
    page, wrong, _ = open_page("clip-mini-resnet")
    run(page)
    table = page.locator("table.mm-odds")
    page.locator(".mm-picks button").nth(5).click()
    page.locator("canvas[aria-label='" + scene_to_pick(5)[1] + "']").wait_for()
    page.wait_for_timeout(1500)
    picked = table.inner_text()
    page.locator("input[type=file]").set_input_files(file)
    page.locator("canvas[aria-label='your picture']").wait_for()
    page.wait_for_timeout(1500)
    assert table.inner_text() == picked                                         # the same pixels
    page.get_by_role("button", name="Paint on it").click()
    page.get_by_label("colour").select_option("red")
    page.get_by_label("brush").select_option("broad")
    box = page.locator("canvas.mm-shown").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 128)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 128, steps=4)
    page.mouse.up()
    page.locator("canvas[aria-label='your painting']").wait_for()
    page.wait_for_timeout(1500)
    assert table.inner_text() != picked and wrong == []


def test_a_scene_is_built_from_things_that_keys_and_fingers_move(open_page):
    page, wrong, _ = open_page("captioner-grid", width=390, has_touch=True)
    run(page)
    page.get_by_role("button", name="Build a scene").click()
    canvas = page.locator("canvas.mm-shown")
    page.locator("canvas[aria-label='your scene: a medium brown dog, meadow']").wait_for()
    page.get_by_label("setting").select_option("beach")
    page.get_by_label("thing").select_option("boat")
    page.get_by_label("colour").select_option("yellow")
    page.get_by_label("size").select_option("large")
    page.get_by_role("button", name="Add").click()
    page.locator("canvas[aria-label='your scene: a medium brown dog, a large yellow boat, beach']").wait_for()
    page.get_by_role("status").filter(has_text="Written").wait_for()
    pictures = [canvas.screenshot()]
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(1000)
    pictures.append(canvas.screenshot())
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.66 * box["width"], box["y"] + 0.62 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"], steps=3)
    page.mouse.up()
    page.wait_for_timeout(1000)
    pictures.append(canvas.screenshot())
    assert len(set(pictures)) == 3
    canvas.focus()
    page.keyboard.press("Delete")
    page.locator("canvas[aria-label='your scene: a medium brown dog, beach']").wait_for()
    page.get_by_role("button", name="Remove").click()
    page.locator("canvas[aria-label='your scene: nothing, beach']").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and wrong == []


def test_a_sentence_is_drawn_and_mixed_with_another(open_page):
    page, wrong, _ = open_page("attngan")
    run(page)
    canvas = page.locator("canvas.mm-shown")
    first = canvas.screenshot()
    slider = page.get_by_label("from the first sentence to the second")
    slider.focus()
    page.keyboard.press("End")
    page.locator(f"canvas[aria-label='drawn by the model: {TEXTS[1]}']").wait_for()
    second = canvas.screenshot()
    slider.fill("0.5")
    page.locator("canvas[aria-label*='50 %']").wait_for()
    assert len({first, second, canvas.screenshot()}) == 3
    page.get_by_label("a sentence").fill("a large purple zebra")
    page.locator(".mm-read s", has_text="zebra").wait_for()
    assert wrong == []


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_it_whole_in_the_light_of_the_page(open_page, name, theme):
    page, wrong, _ = open_page(name, theme=theme, width=390, has_touch=True)
    run(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".mm-live").evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    small = page.locator(".mm-live :is(button, label.mm-wordy, select)").evaluate_all("""all => all.map(
        e => e.getBoundingClientRect()).filter(b => b.width && Math.min(b.width, b.height) < 32).length""")
    assert small == 0
    dark = page.locator(".mm-live").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(22, 27, 34)"
    assert dark == (theme == "dark") and wrong == []


def test_without_scripts_the_prepared_answers_stay(open_page):
    page, _, _ = open_page("all", java_script_enabled=False)
    pictures = page.locator(".mm-live img")
    assert pictures.count() == len(MODELS) and page.locator("button, input").count() == 0
    for i in range(len(MODELS)):
        assert pictures.nth(i).get_attribute("alt") and pictures.nth(i).evaluate("i => i.naturalWidth") == 64
    assert page.locator(".mm-note").count() == len(MODELS)
    assert page.locator("table tr").count() == len(LABELS)


def test_weights_that_do_not_come_are_named_and_can_be_asked_for_again(open_page, folder):
    with served(folder) as address:
        page, _, _ = open_page("attngan", address)
        page.route("**/attngan-*-1.js", lambda route: route.abort())
        page.get_by_role("button", name="Run the model here").click()
        page.get_by_role("status").filter(has_text="-1.js could not be loaded").wait_for()
        page.unroute("**/attngan-*-1.js")
        page.get_by_role("button", name="Try again").click()
        page.get_by_role("status").filter(has_text="Drawn").wait_for()


def test_two_places_of_one_model_share_its_weights(open_page, folder):
    text = (folder / "attngan.html").read_text(encoding="utf-8")
    body = text.split("<body>")[1].removesuffix("</body>")
    (folder / "twice.html").write_text(text.replace(body, body + body), encoding="utf-8")
    page, wrong, loaded = open_page("twice")
    for _ in range(2):
        page.get_by_role("button", name="Run the model here").first.click()
    page.locator("canvas.mm-shown").nth(1).wait_for()
    page.get_by_role("status").filter(has_text="Drawn").nth(1).wait_for()
    assert len([url for url in loaded if "-0.js" in url]) == 1 and wrong == []
