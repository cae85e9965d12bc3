"""What tests of figures read off them: frames of a moving one, texts of a drawn one and where they stand."""

import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations

from mmlearn.figures.diagram import Diagram, text_width
from mmlearn.figures.interactive import LIMIT, Block

SVG = "{http://www.w3.org/2000/svg}"


def block_data(block: Block) -> dict:
    """What the script of a block is given; a block is not larger than the book allows."""
    page = block._repr_html_()
    assert len(page.encode()) < LIMIT
    return json.loads(re.search(r"const D = (\{.*\});\n", page).group(1))


def frames(block: Block) -> list[str]:
    """The frames of a block, the still one in its place."""
    page, data = block._repr_html_(), block_data(block)
    return [part or page.split("<script>")[0].split('class="mm-frame"')[1] for part in data["frames"]]


def drawing(frame: str) -> str:
    """The drawing of a frame."""
    return frame[frame.index("<svg"):frame.rindex("</svg>") + 6]


def svg_of(drawn: Diagram | str) -> ET.Element:
    """The root of a diagram, or of a drawing as text."""
    return ET.fromstring(drawn if isinstance(drawn, str) else drawn.svg)


def texts(drawn: Diagram | str) -> list[str]:
    """All texts of a diagram, in the order in which they are drawn."""
    return ["".join(text.itertext()) for text in svg_of(drawn).iter(f"{SVG}text")]


def text_boxes(drawn: Diagram | str) -> list[tuple[str, float, float, float, float]]:
    """Each text with its left, top, right and bottom edge, as far as they can be known without a browser."""
    found = []
    for text in svg_of(drawn).iter(f"{SVG}text"):
        words, size = "".join(text.itertext()), float(text.get("font-size", 14))
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        wide = text_width(words, size)
        left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor", "start")]
        found.append((words, left, y - 0.75 * size, left + wide, y + 0.2 * size))
    return found


def check_texts(drawn: Diagram | str) -> None:
    """No text of a diagram is cut off at an edge or covers another."""
    boxes = text_boxes(drawn)
    x, y, width, height = map(float, svg_of(drawn).attrib["viewBox"].split())
    assert (x, y) == (0, 0)
    for words, left, top, right, bottom in boxes:
        assert left >= 0 and right <= width and top >= 0 and bottom <= height, words
    for (one, l1, t1, r1, b1), (other, l2, t2, r2, b2) in combinations(boxes, 2):
        assert min(r1, r2) - max(l1, l2) < 1 or min(b1, b2) - max(t1, t2) < 1, f"{one} covers {other}"
