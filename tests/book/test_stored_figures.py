"""Stored figures are made smaller where no eye sees it (``tools/notebooks.py shrink``)."""

import base64
import io

import nbformat
import numpy as np
import pytest
from notebooks import MAX_ERRORS, MAX_PNG_BYTES, STEP, looks_alike, notebooks, shrink, shrink_png, tidy
from PIL import Image, ImageDraw


def png(picture) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode() + "\n"


def opened(data: str):
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def plot():
    """Lines and letters whose edges are smooth, as in a plot, opaque and with the channel of opacity."""
    picture = Image.new("RGBA", (1200, 800), "white")
    draw = ImageDraw.Draw(picture)
    for i in range(8):
        colour = (40 + 20 * i, 200 - 20 * i, 90, 255)
        draw.line([(0, 90 * i), (1200, 800 - 90 * i)], colour, 4)
        draw.text((600, 90 * i), f"series {i}", (0, 0, 0, 255))
    return picture.resize((600, 400), Image.Resampling.LANCZOS)


@pytest.fixture
def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8))


def test_a_plot_gets_a_palette_looks_alike_and_is_less_than_half_as_large(plot):
    before, after = png(plot), shrink_png(png(plot))
    found = opened(after)
    assert found.mode == "P" and found.size == plot.size and len(after) < len(before) / 2
    error = np.abs(np.asarray(found.convert("RGB")).astype(int) - np.asarray(plot.convert("RGB"))).max(-1)
    one, nearly_all, mean = MAX_ERRORS
    assert error.max() <= one and (error > nearly_all).mean() <= 0.001 and error.mean() <= mean


def test_a_second_time_changes_nothing(plot, noise):
    for picture in (plot, noise):
        once = shrink_png(png(picture))
        assert shrink_png(once) == once


def test_what_would_look_different_is_rounded_by_two_at_most(noise):
    after = opened(shrink_png(png(noise)))
    error = np.asarray(after).astype(int) - np.asarray(noise)
    assert after.mode == "RGB" and abs(error).max() == STEP / 2
    assert {*np.unique(np.asarray(after)).tolist()} == {*range(0, 256, STEP), 255}


def test_what_is_transparent_stays_so(plot):
    plot.putpixel((0, 0), (10, 20, 30, 40))
    after = opened(shrink_png(png(plot)))
    assert (np.asarray(after.convert("RGBA")) == np.asarray(plot)).all()


def test_a_figure_that_is_too_large_is_made_to_fit_however_it_looks():
    steps = np.random.default_rng(0).integers(0, 256, (330, 330, 3), dtype=np.uint8)
    picture = Image.fromarray(steps)
    assert len(base64.b64decode(png(picture))) > 3 * MAX_PNG_BYTES
    assert len(base64.b64decode(shrink_png(png(picture)))) <= MAX_PNG_BYTES


@pytest.mark.parametrize("change, alike", [(0, True), (33, False)])
def test_one_pixel_decides(change, alike):
    picture = Image.new("RGB", (100, 100), (100, 100, 100))
    other = picture.copy()
    other.putpixel((5, 5), (100, 100, 100 + change))
    assert looks_alike(picture, other) == alike


def test_more_than_a_thousandth_or_the_mean_decides():
    picture = np.full((100, 100, 3), 100, dtype=np.uint8)
    for n, error, alike in ((10, 17, True), (11, 17, False), (5_000, 1, True), (5_001, 1, False)):
        other = picture.copy()
        other.reshape(-1, 3)[:n, 1] += error
        assert looks_alike(Image.fromarray(picture), Image.fromarray(other)) == alike


def test_stored_figures_of_a_notebook_are_made_smaller_and_nothing_else_is_changed(tmp_path, plot):
    v4 = nbformat.v4
    file = tmp_path / "1-annotation.ipynb"
    figure = v4.new_output("display_data", {"image/png": png(plot), "text/plain": "é"})
    cell = v4.new_code_cell("draw()", outputs=[v4.new_output("stream", text="1\n"), figure])
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# é"), cell]), file)
    size = file.stat().st_size
    saved = shrink(file)
    assert saved > 0 and size - file.stat().st_size == pytest.approx(saved, abs=2000)     # é was escaped
    assert shrink(file) == 0
    after = nbformat.read(file, as_version=4)
    figure["data"]["image/png"] = shrink_png(png(plot))
    assert after.cells[1].outputs == [cell.outputs[0], figure] and after.cells[0].source == "# é"


def test_running_a_notebook_makes_its_figures_smaller(plot):
    v4 = nbformat.v4
    cell = v4.new_code_cell("draw()", outputs=[v4.new_output("display_data", {"image/png": png(plot)})])
    notebook = v4.new_notebook(cells=[cell])
    tidy(notebook)
    assert notebook.cells[0].outputs[0].data["image/png"] == shrink_png(png(plot))


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_stored_figure_has_no_channel_of_opacity_that_says_nothing(path):
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                picture = opened(output.data["image/png"])
                assert picture.mode != "RGBA" or picture.getchannel("A").getextrema() != (255, 255), (
                    "run `tools/notebooks.py shrink`")
