"""The website in a real browser, without a network: formulas, search, phone width, nothing on the console."""

import pytest
from cut_off import settled
from notebooks import ROOT, notebooks, toc_pages

pytestmark = [pytest.mark.browser, pytest.mark.site, pytest.mark.slow, pytest.mark.xdist_group("browser")]
OUTSIDE_ALLOWED = ("https://colab.research.google.com/assets/",)      # the badge


@pytest.fixture(scope="module")
def contexts(chromium):
    """Browser contexts by width; pages of one context share a cache, as a reader's do."""
    made: dict[int, object] = {}

    def at(width: int):
        if width not in made:
            made[width] = chromium.new_context(viewport={"width": width, "height": 900})
            made[width].set_default_timeout(180_000)
        return made[width]

    yield at
    for context in made.values():
        context.close()


@pytest.fixture
def open_page(contexts, address):
    """A function that opens a page at a width and returns it with what went wrong: console errors, failed
    requests."""
    opened = []

    def opener(page_name: str, width: int = 1300):
        page = contexts(width).new_page()
        opened.append(page)
        wrong: list[str] = []

        def asked(request) -> None:
            if not request.url.startswith((address, "data:", "blob:", *OUTSIDE_ALLOWED)):
                wrong.append(f"outside: {request.url}")

        def said(message) -> None:
            if message.type == "error" and not message.location.get("url", "").startswith(OUTSIDE_ALLOWED):
                wrong.append(f"console: {message.text}")

        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("response", lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.goto(f"{address}/{page_name}")
        settled(page)
        return page, wrong

    yield opener
    for page in opened:
        page.close()


@pytest.mark.parametrize("name", toc_pages())
def test_a_page_opens_without_complaint_and_fits_a_phone(open_page, name):
    page, wrong = open_page(f"{name}.html", width=390)
    assert wrong == []
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1], f"the page is {widths[0]} px wide on a screen of {widths[1]} px"
    raw = page.evaluate("[...document.querySelectorAll('article .math')].filter(m => "
                        "!m.querySelector('mjx-container'))"
                        ".map(m => m.textContent)")
    assert raw == [], "formulas that were not drawn"
    assert page.evaluate("document.querySelectorAll('mjx-merror').length") == 0
    missing = page.evaluate("[...document.querySelectorAll('article img')].filter(i => i.loading !== 'lazy' "
                            "&& "
                            "(!i.complete || i.naturalWidth === 0)).map(i => i.src)")
    assert [url for url in missing if not url.startswith(OUTSIDE_ALLOWED)] == []


def test_formulas_are_drawn_with_the_fonts_of_the_site(open_page):
    page, wrong = open_page("book/appendix/errata.html")
    assert wrong == []
    assert page.locator("mjx-container").count() > 20
    assert page.evaluate("document.fonts.check('16px MJXTEX')")


def test_the_search_finds_a_page(open_page):
    page, wrong = open_page("search.html?q=notation")
    page.wait_for_selector("#search-results li a", timeout=120_000)
    links = page.locator("#search-results li a").evaluate_all("els => els.map(e => e.getAttribute('href'))")
    assert any("notation" in link for link in links)
    assert wrong == []


def test_the_search_button_opens_a_field_to_type_in(open_page):
    page, _ = open_page("book/intro.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("errata")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=errata**")
    page.wait_for_selector("#search-results li a", timeout=120_000)


def test_the_table_of_contents_opens_on_a_phone(open_page):
    page, wrong = open_page("book/intro.html", width=390)
    link = page.locator("#pst-primary-sidebar a, .bd-sidebar-primary a, dialog "
                        "a").filter(has_text="1 Image2Text").first
    page.locator(".primary-toggle:visible").first.click()
    link.wait_for(state="visible", timeout=120_000)
    link.click()
    page.wait_for_url("**/book/1-image2text.html")
    assert wrong == []


def test_the_rocket_leads_to_colab(open_page):
    page, _ = open_page("book/1-image2text.html")
    links = page.locator("a[href^='https://colab.research.google.com/github']")
    assert links.count() >= 1
    assert links.first.get_attribute("href").endswith("/blob/main/book/1-image2text.ipynb")


@pytest.mark.parametrize("path", [p for p in notebooks() if p.parent.name == "solutions"],
                         ids=lambda p: p.stem)
def test_a_solution_unfolds_when_it_is_asked_for(open_page, path):
    page, _ = open_page(path.relative_to(ROOT).with_suffix(".html").as_posix())
    solutions = page.locator("div.tag_solution details")
    assert solutions.count() >= (2 if path.stem == "data" else 8)
    for number in range(solutions.count()):
        details = solutions.nth(number)
        assert not details.evaluate("d => d.open")
        details.locator("summary").click()
        assert details.evaluate("d => d.open")
