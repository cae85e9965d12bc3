"""Moving figures: one block each that needs nothing, says what it shows, and starts as a still picture."""

import base64
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmlearn.figures.diagram import Diagram
from mmlearn.figures.interactive import LIMIT, hover, player, slider


def bar(k: int) -> Diagram:
    drawn = Diagram(100, 40, f"bar {k}")
    drawn.text(50, 20, f"bar {k}")
    return drawn


def picture(k: int) -> np.ndarray:
    return np.full((8, 8, 3), k / 10)


def data(page: str) -> dict:
    """What the block's script is given."""
    return json.loads(re.search(r"const D = (\{.*\});\n", page).group(1))


def blocks():
    return [player([picture(i) for i in range(3)], ["one", "two", "three"], "three greys"),
            slider({"angle": [0, 1, 2]}, [bar(i) for i in range(3)], "three bars"),
            hover(["a", "red", "dog"], [picture(i) for i in range(3)], "where words look")]


def test_every_block_has_a_name_of_its_own():
    names = [re.search(r' id="([^"]+)"', block._repr_html_()).group(1) for block in [*blocks(), *blocks()]]
    assert len(set(names)) == 6


@pytest.mark.parametrize("number", range(3))
def test_a_block_asks_for_nothing_outside_itself(number):
    page = blocks()[number]._repr_html_().replace("http://www.w3.org/2000/svg", "")
    assert "http" not in page and 'src="//' not in page
    assert "@import" not in page and "import(" not in page and "url(" not in page and "fetch" not in page


@pytest.mark.parametrize("number", range(3))
def test_the_first_picture_needs_no_script(number):
    still = blocks()[number]._repr_html_().split("<script>")[0].split('class="mm-stage"')[1]
    assert still.count("<img ") == 1 and re.search(' alt="[^"]+[0-9a-z]"', still)
    assert "<button" not in still and "<input" not in still             # nothing that would be dead


def test_a_still_picture_is_carried_once_and_a_still_drawing_has_what_is_under_it():
    assert data(blocks()[0]._repr_html_())["frames"][0] == ""
    under = bar(7)
    page = slider({"x": [1, 2]}, [bar(0), bar(1)], "bars", under=under)._repr_html_()
    picture = base64.b64decode(re.search("svg.xml;base64,([^\"]+)", page).group(1)).decode()
    assert picture.index("bar 7<") < picture.index("bar 0<") and "bar 7" in data(page)["under"]


def test_a_block_may_start_at_its_last_frame():
    page = player([bar(i) for i in range(3)], ["a", "b", "c"], "bars", start=-1)._repr_html_()
    assert 'alt="bar 2"' in page.split("<script>")[0] and data(page)["start"] == 2


@pytest.mark.parametrize("make", [
    lambda alt: player([bar(0)], ["a"], alt), lambda alt: slider({"x": [1]}, [bar(0)], alt),
    lambda alt: hover(["a"], [bar(0)], alt)])
def test_a_moving_figure_without_words_is_refused(make):
    with pytest.raises(ValueError, match="needs alt"):
        make(" ")


def test_each_frame_needs_its_label_and_each_place_its_frame():
    with pytest.raises(ValueError, match="2 frames and 1 labels for 2 places"):
        player([bar(0), bar(1)], ["a"], "bars")
    with pytest.raises(ValueError, match="5 frames and 5 labels for 6 places"):
        slider({"x": [1, 2, 3], "y": [1, 2]}, [bar(i) for i in range(5)], "bars")
    with pytest.raises(ValueError, match="give one each"):
        player([], [], "nothing")


def test_a_block_that_is_too_large_is_refused_with_its_size():
    noise = [np.random.default_rng(i).random((256, 256, 3)) for i in range(12)]
    with pytest.raises(ValueError, match=r"the figure is \d+ kB, at most 400 kB"):
        player(noise, [str(i) for i in range(12)], "noise")
    assert LIMIT == 400_000


def test_markup_in_words_and_labels_is_shown_and_not_obeyed():
    labels = ["<u>x</u>", "</script><!--"]
    page = hover(["<b>", "</script>"], [bar(0), bar(1)], 'a "quote" & <i>', labels=labels)._repr_html_()
    head, script = page.split("<script>")
    assert "<b>" not in head and "<u>" not in head and "<i>" not in head
    assert page.count("</script>") == 1 and "<!--" not in page
    assert "&lt;/script&gt;&lt;!--" in data(page)["frames"][1]


def test_a_matplotlib_figure_is_a_frame_and_is_closed():
    figure = plt.figure(figsize=(2, 1))
    page = player([figure, bar(1)], ["a", "b"], "a figure")._repr_html_()
    assert '<img src="data:image/webp' in page and 'alt="a figure: a"' in page
    assert not plt.fignum_exists(figure.number)


def test_without_html_there_are_words():
    assert repr(blocks()[0]) == "moving figure: three greys"
    assert repr(bar(3)) == "diagram: bar 3"
