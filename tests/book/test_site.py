"""The built website: every page there, formulas and figures in it, links that lead somewhere."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote, urlsplit

import make_appendix
import nbformat
import pytest
from bs4 import BeautifulSoup
from notebooks import ROOT, notebooks, repository, toc_pages

pytestmark = pytest.mark.site


def soup(file: Path) -> BeautifulSoup:
    return BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, BeautifulSoup]:
    return {file: soup(file) for file in sorted((site / "book").rglob("*.html"))}


def test_the_toc_lists_the_five_chapters_and_the_appendix():
    listed = toc_pages()
    assert [p for p in listed if re.match(r"book/\d", p)] == [
        "book/1-image2text", "book/2-text2image", "book/3-images-for-language", "book/4-text-for-vision",
        "book/5-both-modalities"]
    assert {"book/exercises/1-image2text", "book/appendix/errata", "book/appendix/systems",
            "book/appendix/equations", "book/appendix/data", "book/appendix/scaling-up", "book/appendix/api",
            "book/appendix/references"} <= set(listed)


@pytest.mark.parametrize("page", toc_pages())
def test_every_page_of_the_toc_is_there_with_its_title(site, page):
    article = soup(site / f"{page}.html").find("article")
    assert article.find("h1").get_text().strip("# ¶")
    assert len(article.get_text()) > 60


def test_the_front_page_leads_to_the_introduction(site):
    assert "book/intro.html" in (site / "index.html").read_text()


def test_no_page_shows_a_message_of_the_builder(pages):
    for file, page in pages.items():
        assert not page.select(".system-message, .problematic"), file
        article = page.find("article").get_text()
        assert "{eq}`" not in article and "{cite" not in article, f"{file}: a role was not rendered"


def test_every_labelled_equation_is_rendered_and_numbered(site):
    labels = make_appendix.labelled_equations()
    anchors = {source: {part["id"]: part for part in soup((site / source.relative_to(ROOT)).with_suffix(
        ".html")).find_all(id=re.compile("^equation-"))} for source in {s[0] for s in labels.values()}}
    for label, sources in labels.items():
        found = anchors[sources[0]].get(f"equation-{label.replace(':', '-')}")
        assert found is not None, f"{label} is not on {sources[0].name}"
        assert re.search(r"\(\d+(\.\d+)*\)", found.get_text()), f"{label} has no number"


def test_a_known_formula_is_on_the_errata_page(site):
    formulas = [m.get_text() for m in soup(site / "book/appendix/errata.html").select(".math")]
    assert any(r"\frac{1}{\sqrt N}\sum_i \alpha_i" in f for f in formulas)


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.relative_to(ROOT / "book").as_posix())
def test_every_stored_figure_is_on_its_page_with_its_alt_text(site, path):
    page = soup((site / path.relative_to(ROOT)).with_suffix(".html"))
    shown = [image for image in page.select("article .cell_output img")
             if not image.find_parent(class_="text_html")]                # pictures inside a moving figure
    stored = [c.metadata["mystnb"]["image"]["alt"] for c in nbformat.read(path, as_version=4).cells
              if c.cell_type == "code" and "remove-cell" not in c.metadata.get("tags", [])
              for o in c.outputs if any(k.startswith("image/") for k in o.get("data", {}))]
    assert [image["alt"] for image in shown] == stored
    for image in shown:
        assert ((site / path.relative_to(ROOT)).parent / unquote(image["src"])).resolve().is_file(), image[
            "src"
        ]


def test_every_image_has_alt_text(pages):
    for file, page in pages.items():
        for image in page.select("article img"):
            assert image.get("alt", "").strip(), f"{file.name}: {image.get('src')} has no alt text"


def test_links_inside_the_site_lead_to_a_page_and_a_place_on_it(site, pages):
    ids = {file.resolve(): {tag["id"] for tag in page.select("[id]")} for file, page in pages.items()}
    broken = []
    for file, page in pages.items():
        for tag, attribute in [("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")]:
            for element in page.find_all(tag):
                parts = urlsplit(element.get(attribute) or "")
                if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                    continue
                target = (file.parent / unquote(parts.path)).resolve() if parts.path else file.resolve()
                if not target.is_file():
                    broken.append(f"{file.name}: {parts.path}")
                elif parts.fragment and target in ids and unquote(parts.fragment) not in ids[target]:
                    broken.append(f"{file.name}: {parts.path}#{parts.fragment}")
    assert broken == []


def test_pages_load_nothing_from_elsewhere(pages):
    for file, page in pages.items():
        loaded = [e.get("src") or e.get("href") for e in page.select("script[src], link[rel=stylesheet], "
                                                                     "img[src], iframe[src]")]
        allowed = "https://colab.research.google.com/assets/"  # the badge, shown where a notebook brings one
        assert not [
            u for u in loaded if u.startswith(("http:", "https:", "//")) and not u.startswith(allowed)
        ], file


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.relative_to(ROOT / "book").as_posix())
def test_the_rocket_of_a_notebook_opens_that_notebook_in_colab(site, path):
    page = soup((site / path.relative_to(ROOT)).with_suffix(".html"))
    rockets = {a["href"] for a in page.find_all("a", href=True)
               if a["href"].startswith("https://colab.research.google.com/github")}
    owner_and_name = repository().removeprefix("https://github.com/")
    want = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/{path.relative_to(ROOT).as_posix()}"
    assert want in rockets


def test_solutions_and_wrong_answers_are_folded_and_stand_on_pages_of_their_own(site):
    for path in notebooks():
        page = soup((site / path.relative_to(ROOT)).with_suffix(".html"))
        answers = page.select("article .tag_solution, article .tag_wrong")
        assert bool(answers) == (path.parent.name == "solutions"), path
        for cell in answers:
            assert cell.find("details") or "tag_hide-cell" in cell["class"]


def test_the_drawings_are_well_formed():
    for drawing in (ROOT / "book" / "_static").glob("*.svg"):
        assert ElementTree.parse(drawing).getroot().tag.endswith("svg")
