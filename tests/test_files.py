"""Reading text and JSON: what is wrong, where, and what to do."""

import pytest

from mmlearn.files import read_json, read_text


def test_text_is_read_without_its_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffcafé\n".encode())
    assert read_text(tmp_path / "a.txt") == "café\n"


@pytest.mark.parametrize(("content", "reason"), [
    (b"{", "is not valid JSON"), (b"", "is not valid JSON"), (b"\xff\xfe{", "is not UTF-8 text"),
    (b"[" * 100_000, "is nested too deep"), (b"[1]", "holds a list, where an object is expected"),
    (b"null", "holds null, where an object is expected")])
def test_what_is_no_json_object_is_refused_in_one_sentence_that_names_the_file(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as error:
        read_json(path, remedy="make it again")
    assert str(error.value).startswith(str(path)) and str(error.value).endswith("; make it again")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at .*a.json; export or download it again"):
        read_json(tmp_path / "a.json")


def test_other_kinds_may_be_asked_for(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    assert read_json(tmp_path / "a.json", list) == [1, 2]
    assert read_json(tmp_path / "a.json", (dict, list)) == [1, 2]
