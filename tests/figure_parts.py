"""What the tests of figures read off them: frames of a moving one, texts of a drawn one."""

import json
import re
import xml.etree.ElementTree as ET

from mmlearn.figures.diagram import Diagram
from mmlearn.figures.interactive import Block

SVG = "{http://www.w3.org/2000/svg}"


def frames(block: Block) -> list[str]:
    """The frames of a block, the still one in its place."""
    page = block._repr_html_()
    data = json.loads(re.search(r"const D = (\{.*\});\n", page).group(1))
    return [part or page.split("<script>")[0].split('class="mm-frame"')[1] for part in data["frames"]]


def texts(drawn: Diagram) -> list[str]:
    """All texts of a diagram, in the order in which they are drawn."""
    return ["".join(text.itertext()) for text in ET.fromstring(drawn.svg).iter(f"{SVG}text")]
