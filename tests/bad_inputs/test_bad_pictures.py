"""Whatever stands in a file of a picture, it is read rightly or refused in a sentence that names it.

``MMLEARN_BAD_INPUTS=6000`` tries that many files instead of a few.
"""

import numpy as np
import pytest
from pictures import COUNT, Case, cases

from mmlearn.cli import main
from mmlearn.data.images import (
    MAX_PIXELS,
    ImageRecipe,
    PictureFiles,
    load_picture,
    load_square,
    preprocess,
    read_image,
)

CASES = list(cases())
DRAWN = ["--weights", "clip-mini-resnet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All cases as files."""
    folder = tmp_path_factory.mktemp("bad")
    for case in CASES:
        (folder / case.name).write_bytes(case.content)
    return folder


def complaint(case: Case, read) -> str | None:
    """What is wrong with how a file is read or refused, if anything."""
    try:
        read()
    except (ValueError, OSError) as error:
        told = str(error)
        if case.name not in told or "\n" in told.strip():
            return f"{case.name}: {told!r} does not name the file in one line"
        return None if case.refused else f"{case.name} is a picture, and refused: {told}"
    except Exception as error:
        return f"{case.name} ended in {error!r}"
    return None if case.read else f"{case.name} is no picture, and read"


def test_each_file_is_read_rightly_or_named(folder):
    wrong = []
    for case in CASES:
        def read(case=case):
            image = read_image(folder / case.name)
            assert image.mode == "RGB" and 0 < image.width * image.height <= MAX_PIXELS
            if case.pixels is not None:
                np.testing.assert_array_equal(np.asarray(image), case.pixels)
        wrong.append(complaint(case, read))
    assert not list(filter(None, wrong))


@pytest.mark.parametrize("load", [
    lambda path: preprocess(path, ImageRecipe(32)),
    lambda path: preprocess(str(path), ImageRecipe(32, (40, 36))),
    lambda path: load_square(path, 32), lambda path: load_picture(path, 32),
    lambda path: PictureFiles([path], 32)[[0]][0],
    lambda path: PictureFiles([path], 32, load_square).rows([0])[0][0],
], ids=["preprocess", "squeezed", "load_square", "load_picture", "files", "rows"])
def test_each_way_to_a_tensor_gives_a_square_or_names_the_file(folder, load):
    wrong = []
    for case in CASES:
        def read(case=case):
            assert load(folder / case.name).shape == (3, 32, 32)
        wrong.append(complaint(case, read))
    assert not list(filter(None, wrong))


def test_the_command_line_names_each_file_it_cannot_read(folder, capfd):
    for case in CASES[::max(1, COUNT // 5) | 1]:
        path = str(folder / case.name)
        for command in (["classify", path, "--labels", "cat,dog", "--template", "a picture of {a}.", *DRAWN],
                        ["caption", path, "--checkpoint", "captioner-grid", "--beam", "1"]):
            code = main(command)
            told = capfd.readouterr().err
            assert code in (0, 2), case.name
            assert code == 0 or (case.refused and case.name in told), told
            assert code == 2 or case.read, case.name


def test_a_search_leaves_out_what_it_cannot_read_and_names_it(folder, capfd):
    listed = [c for c in CASES if not c.name.endswith(".ppm")]  # which a search does not list
    assert main(["retrieve", str(folder), "a cat", "--top", str(len(CASES)), *DRAWN]) == 0
    out, told = capfd.readouterr()
    for case in listed:
        assert (case.name in out) != (case.name in told), case.name
        assert case.read or case.name in told, case.name
        assert case.refused or case.name in out, case.name


def test_the_cases_are_the_same_for_a_seed():
    assert [c.content for c in cases(60, 3)] == [c.content for c in cases(60, 3)]
    kinds = {c.name.split("-")[1] for c in cases(60, 3) if c.name[0] == "0"}
    assert {"whole", "cut", "flipped", "noise", "glued"} <= kinds
