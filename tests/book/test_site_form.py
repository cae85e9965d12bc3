"""The form of the site in a browser: room for code, sizes of headings, contents, folded parts, names of
equations, dark mode."""

import make_appendix
import pytest
from cut_off import LAPTOP, PHONE, settled
from notebooks import COLUMNS, ROOT

pytestmark = [pytest.mark.browser, pytest.mark.site, pytest.mark.slow, pytest.mark.xdist_group("browser")]
CHAPTER = "book/1-image2text"


@pytest.fixture
def page_at(chromium, address):
    """A function that opens a page of the site at a width, in light or dark mode."""
    contexts = []

    def opener(name: str, width: int = LAPTOP, theme: str = "light"):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme))
        page = contexts[-1].new_page()
        page.set_default_timeout(180_000)
        page.goto(f"{address}/{name}.html")
        settled(page)
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        return page

    yield opener
    for context in contexts:
        context.close()


def put(page, html: str):
    """Append HTML to the article of a page and return its first element."""
    return page.evaluate_handle("html => { const box = document.createElement('div'); box.innerHTML = html;"
                                " document.querySelector('article').append(box); return "
                                "box.firstElementChild; }", html)


@pytest.mark.parametrize(
    "box",
    [
        "<pre>{}</pre>",
        "<div class='cell'><div class='cell_input'><div class='highlight'><pre>{}</pre></div></div></div>",
        "<div class='cell'><div class='cell_output'><pre>{}</pre></div></div>",
        "<details open><summary>s</summary><div class='highlight-python'><div class='highlight'><pre>{}</pre></div></div></details>",
    ],
)
def test_at_laptop_width_a_block_holds_79_columns(page_at, box):
    page = page_at("book/intro")
    fits = [put(page, box.format("x" * n)).evaluate(
        "box => { const pre = box.matches('pre') ? box : box.querySelector('pre'); return pre.scrollWidth <= "
        "pre.clientWidth; }")
        for n in (COLUMNS, 3 * COLUMNS)]
    assert fits == [True, False]


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_a_heading_is_larger_than_those_below_it(page_at, width):
    page = page_at("book/intro", width)
    sizes = [float(put(page, f"<section><{h}>A heading</{h}></section>").evaluate(
        "s => parseFloat(getComputedStyle(s.firstElementChild).fontSize)"))
        for h in ("h1", "h2", "h3", "h4", "h5")]
    assert (
        all(above >= 1.1 * below for above, below in zip(sizes[:4], sizes[1:4])) and sizes[3] >= sizes[4]
    ), sizes


@pytest.mark.parametrize("name, title", [(CHAPTER, "1.2.1"), ("book/4-text-for-vision", "4.2.1")])
def test_the_contents_of_a_page_list_subsections_and_the_headings_of_the_section_being_read(
    page_at, name, title
):
    page = page_at(name)
    shown = page.evaluate("[...document.querySelectorAll('.bd-sidebar-secondary .page-toc a')].filter(a => "
                          "a.getClientRects().length)"
                          ".map(a => a.textContent.trim())")
    assert any(text.startswith(title) for text in shown)
    assert all(text[0].isdigit() for text in shown if "." in text[:3])
    assert len(shown) < 40, "headings of level 3 without a number show in their own section only"


def test_the_setup_cell_is_folded_and_opens(page_at):
    page = page_at(CHAPTER)
    setup = page.locator("article div.cell").first
    assert (
        "import mmlearn" not in setup.inner_text() and "torch" in setup.locator(".cell_output").inner_text()
    )
    setup.locator("summary").click()
    assert "from mmlearn.book import" in setup.inner_text()


def test_an_equation_shows_its_name_beside_its_number_and_code_leads_to_it(page_at):
    page = page_at(CHAPTER)
    path = ROOT / f"{CHAPTER}.ipynb"
    labels = {label for label, pages in make_appendix.labelled_equations().items() if pages[0] == path}
    names = page.locator("article .eqname").all_inner_texts()
    assert len(names) == len(labels) and set(names) == labels
    for link in page.locator("article a.eqref[href^='#']").all():
        place = page.locator(link.get_attribute("href"))
        assert place.count() == 1
        number = place.locator(".eqno").inner_text().strip("#\n ")
        assert link.get_attribute("title") == f"equation {number}"


def test_in_the_dark_plots_stand_on_white_and_drawings_on_the_page(page_at):
    page = page_at("book/intro", theme="dark")
    colour = "e => getComputedStyle(e).backgroundColor"
    plot = put(page, "<div class='cell'><div class='cell_output'><img alt='a plot' "
                     "src='data:image/gif;base64,R0lGODlhAQABAAAAACw='></div></div>")
    assert plot.query_selector("img").evaluate(colour) == "rgb(255, 255, 255)"
    drawing = put(page, "<div class='cell'><div class='cell_output'><div class='output text_html'><div "
                        "class='mml-figure'>"
                        "<svg width='2000' viewBox='0 0 2000 10'></svg></div></div></div></div>")
    assert drawing.query_selector(".text_html").evaluate(colour) == "rgba(0, 0, 0, 0)"
    assert drawing.evaluate("e => e.querySelector('svg').getBoundingClientRect().width <= "
                            "e.parentElement.clientWidth")


def test_the_table_of_chapters_reads_on_a_phone(page_at):
    page = page_at("book/intro", PHONE)
    table = page.locator("article table").first
    assert table.evaluate("t => t.scrollWidth <= t.parentElement.clientWidth")
    widths = table.locator("tbody tr").first.locator("td").evaluate_all("cells => cells.map(c => "
                                                                        "c.clientWidth)")
    assert min(widths) >= 50 and widths[0] >= 90, widths
