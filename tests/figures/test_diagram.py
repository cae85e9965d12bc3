"""Diagrams are well-formed, self-contained vectors with their meaning in words."""

import base64
import html
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from mmlearn.figures.diagram import COLOURS, ROLES, STYLE, Box, Diagram, data_uri, in_lines, literal, rich

XMLNS = "http://www.w3.org/2000/svg"
SVG = f"{{{XMLNS}}}"


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def alone(drawn: Diagram) -> str:
    """The SVG inside the picture that stands where no script runs."""
    return base64.b64decode(re.search("svg.xml;base64,([^\"]+)", drawn.still()).group(1)).decode()


def everything() -> Diagram:
    drawn = Diagram(300, 200, 'a "cat" & <a dog>')
    drawn.group(150, 100, 280, 180, "N × <layers>", "image")
    a = drawn.box(60, 50, "X_{q} & <b>\n*W*^i", "image")
    b = drawn.node(200, 150, "+", "new")
    drawn.arrow(a, b, "p < d", "loss", dashed=True)
    drawn.arrow(b, (290, 20), sides="rb")
    drawn.image(250, 50, np.zeros((4, 6, 3)), 30)
    return drawn


def test_a_diagram_is_well_formed_and_says_what_it_shows():
    root = ET.fromstring(everything().svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'a "cat" & <a dog>'
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert texts == ["N × <layers>", "Xq & <b>", "Wi", "+", "p < d"]
    assert not list(root.iter(f"{SVG}b"))


def test_a_diagram_asks_for_nothing_outside_itself():
    for text in (everything()._repr_html_(), alone(everything())):
        asked = re.findall(r'(?:href|src)="([^"]+)"|url\(|@import|//[a-z]', text.replace(XMLNS, ""))
        assert asked and all(address.startswith("data:image/") for address in asked)


def test_where_no_script_runs_a_diagram_is_a_picture_of_itself():
    drawn = everything()
    page, picture = drawn._repr_html_(), alone(drawn)
    assert page.count("<img ") == 1 and f'alt="{html.escape(drawn.alt)}"' in page and "<svg" not in page
    assert ET.fromstring(picture).get("aria-label") == drawn.alt
    assert re.sub("<style>.*?</style>", "", picture) == drawn.svg
    assert ".mm " not in picture and "--mm-ink:" in picture             # its style needs no page around it


@pytest.mark.parametrize("alt", ["", "  "])
def test_a_diagram_without_words_is_refused(alt):
    with pytest.raises(ValueError, match="needs alt"):
        Diagram(10, 10, alt)


def test_sub_and_superscripts_return_to_the_line():
    shifts = [float(shift) for shift in re.findall(r'dy="([^"]+)"', rich("X_i^{2n} + *y*", 10))]
    assert shifts[0] > 0 > shifts[1]
    assert sum(shifts) == pytest.approx(0)
    assert "font-style=\"italic\">y<" in rich("*y*", 10)


def test_words_from_data_keep_their_signs():
    text = "a_b *c* 2^n \\ <eos>"
    assert "".join(ET.fromstring(f"<text>{rich(literal(text), 12)}</text>").itertext()) == text


def test_arrows_start_and_end_at_the_sides_of_boxes():
    drawn = Diagram(200, 100, "two boxes")
    a, b = drawn.box(30, 50, "a", w=40, h=20), drawn.box(150, 50, "b", w=40, h=20)
    drawn.arrow(a, b)
    line, head = re.findall(r' d="([^"]+)"', drawn.parts[-2] + drawn.parts[-1])
    assert line.startswith("M50 50") and "L123 50" in line              # 7 px short of the tip
    assert head.startswith("M130 50L121 54.5")
    assert Box(10, 10, 4, 8).at("t", 0.25) == (9, 6)


def test_an_arrow_between_places_that_are_not_level_has_corners():
    drawn = Diagram(200, 100, "two boxes")
    drawn.arrow((0, 0), (100, 60), sides="rl", bend=0.3)
    assert "30 0" in drawn.parts[0] and "30 60" in drawn.parts[0]
    drawn.arrow((0, 0), (100, 60), sides="rt")
    assert "Q100 0" in drawn.parts[2]


def test_small_letters_are_never_shrunk_below_nine_pixels():
    drawn = Diagram(480, 100, "words")
    drawn.text(10, 10, "large", 20)
    drawn.text(10, 10, "small", 12)
    assert f"min-width:{480 * 9 / 12:.0f}px" in drawn.svg


def test_a_narrow_drawing_stands_beside_the_wide_one():
    page = Diagram(400, 100, "wide one", narrow=Diagram(200, 200, "narrow one"))._repr_html_()
    assert 'class="mm mm-wide"' in page and 'class="mm mm-narrow"' in page


def test_pictures_become_webp_of_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    read = Image.open(io.BytesIO(base64.b64decode(data_uri(pixels).split(",")[1])))
    assert read.format == "WEBP"
    np.testing.assert_array_equal(np.asarray(read.convert("RGB")), pixels)


@pytest.mark.parametrize("role", ROLES)
def test_colours_can_be_read_on_their_tint_and_in_equations_on_both_pages(role):
    line, tint, dark_line, dark_tint = ROLES[role]
    assert contrast(line, tint) >= 4 and contrast(dark_line, dark_tint) >= 4.5
    assert contrast(COLOURS[role], "#ffffff") >= 4.5
    assert contrast(COLOURS[role], "#14181e") >= 3
    assert f"--mm-{role}:{line};" in STYLE and f".mm .mm-{role}{{" in STYLE


def test_boxes_fill_lines_and_go_on_below():
    assert in_lines([40, 40, 40], 100, 10) == [(20, 0), (70, 0), (20, 1)]
