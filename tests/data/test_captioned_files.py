"""A folder of pictures with a table of captions."""

import pytest
from PIL import Image

from mmlearn.data.captioned_files import read_captions


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "captions.csv").write_text('file,caption\nb.png,"a cat, asleep"\na.png,a dog\nb.png,a cat\n',
                                           encoding="utf-8")
    return tmp_path


def test_lines_of_one_picture_are_its_captions(folder):
    records = read_captions(folder)
    assert [(r.path.name, r.captions) for r in records] == [("b.png", ("a cat, "
                                                                       "asleep", "a "
                                                                                 "cat")), ("a.png", ("a "
                                                                                                     "dog",))]
    assert [r.image_id for r in records] == [0, 1] and records == read_captions(folder / "captions.csv")


def test_a_table_may_lie_elsewhere_and_begin_with_a_mark_of_byte_order(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("tables") / "t.csv"
    table.write_text("caption,file\nred,a.png\n", encoding="utf-8-sig")
    assert read_captions(table, folder)[0].captions == ("red",)


@pytest.mark.parametrize("content, error, sentence", [
    ("", ValueError, "has the columns none; it needs file and caption"),
    ("name,caption\n", ValueError, "has the columns name, caption"),
    ("file,caption\n", ValueError, "no line below its first"),
    ("file,caption\na.png,\n", ValueError, "line 2: a file or a caption is empty"),
    ("file,caption\na.png\n", ValueError, "line 2: a file or a caption is empty"),
    ("file,caption\nc.png,x\n", FileNotFoundError, "names c.png, which is not in"),
    ("file,caption\n../x.png,x\n", ValueError, "line 2: .*leaves the image folder"),
    ("file,caption\na.png,a cat, asleep\n", ValueError, "line 2: it has more cells.*in quotes"),
    ("file;caption\na.png;x\n", ValueError, "has the columns file;caption; .* parted by a comma"),
    ("file,caption,file\na.png,x,b.png\n", ValueError, "two columns 'file'"),
    ('file,caption\na.png,"x\n', ValueError, "cannot be read as CSV"),
    ("file,caption\n" + 300 * "x" + ",x\n", (ValueError, FileNotFoundError), "x.* in "),
    ("file,caption\na\0.png,x\n", ValueError, "cannot be read as CSV|names no file"),
    (b"file,caption\n\xff\xfe,x\n", ValueError, "is not UTF-8 text.*with commas"),
])
def test_a_table_that_is_none_is_refused_in_one_sentence(folder, content, error, sentence):
    (folder / "captions.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=sentence):
        read_captions(folder)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no table .*captions\.csv"):
        read_captions(tmp_path)
