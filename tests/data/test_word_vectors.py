"""Vectors of words: neighbours and analogies by hand, files as gensim reads and writes them, files that are
broken."""

import gzip
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.data import word_vectors
from mmlearn.data.word_vectors import (
    MUL,
    WordVectors,
    add_target,
    cos_mul,
    cosines,
    read_vectors,
    write_vectors,
)


def some(v=7, d=3, seed=0):
    words = tuple(f"w{i}" for i in range(v))
    return WordVectors(words, torch.randn(v, d, generator=torch.Generator().manual_seed(seed)))


def angle(x, y):
    """The cosine of two vectors by loops."""
    dot = sum(float(a) * float(b) for a, b in zip(x, y))
    return dot / math.sqrt(sum(float(a) ** 2 for a in x)) / math.sqrt(sum(float(b) ** 2 for b in y))


# ------------------------------------------------------------------------------------------- equations


@pytest.mark.equation("eq:words-cosine")
def test_the_cosine_is_the_product_over_both_lengths():
    x, y = torch.randn(4, 3).double(), torch.randn(5, 3).double()
    want = torch.tensor([[angle(a, b) for b in y] for a in x], dtype=torch.float64)
    torch.testing.assert_close(cosines(x, y), want)
    assert cosines(torch.zeros(1, 3), torch.ones(1, 3)).item() == 0


@pytest.mark.equation("eq:words-cosadd")
def test_the_target_of_an_analogy_orders_words_as_the_sum_of_three_cosines():
    a, b, c, x = torch.randn(4, 6, 3).double()
    got = cosines(x, add_target(a[:1], b[:1], c[:1]))[:, 0]
    want = [angle(row, b[0]) - angle(row, a[0]) + angle(row, c[0]) for row in x]
    assert got.argsort().tolist() == sorted(range(6), key=lambda i: want[i])
    length = torch.stack([b[0] / b[0].norm() - a[0] / a[0].norm() + c[0] / c[0].norm()]).norm()
    torch.testing.assert_close(got * length, torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:words-cosmul")
def test_three_cosines_are_multiplied_after_they_are_shifted():
    a, b, c = torch.rand(3, 2, 4).double() * 2 - 1
    got = cos_mul(a, b, c, eps=1e-3)
    for i in range(2):
        for j in range(4):
            s = [(1 + float(one[i, j])) / 2 for one in (a, b, c)]
            assert float(got[i, j]) == pytest.approx(s[1] * s[2] / (s[0] + 1e-3))


# --------------------------------------------------------------------------------------------- searching


def test_neighbours_are_the_words_of_largest_cosine_without_the_word_itself(monkeypatch):
    vectors = some(23, 4)
    want = sorted(((angle(vectors["w5"], vectors[w]), w) for w in vectors.words if w != "w5"), reverse=True)
    for scores in (1 << 24, 6):                                         # in one block, and in many
        monkeypatch.setattr(word_vectors, "SCORES", scores)
        got = vectors.neighbours("w5", 4)
        assert [w for w, _ in got] == [w for _, w in want[:4]]
        assert [s for _, s in got] == pytest.approx([s for s, _ in want[:4]], abs=1e-6)
        assert vectors.neighbours(vectors["w5"], 1)[0][0] == "w5"
        assert len(vectors.neighbours("w5", 100)) == 22
        many = vectors.nearest(vectors.vectors, 5)
        for i in range(23):
            one = vectors.nearest(vectors.vectors[i:i + 1], 5)
            assert many.ids[i].tolist() == one.ids[0].tolist()


def test_an_analogy_is_solved_by_the_word_that_the_words_were_made_with(monkeypatch):
    royal, male, female = torch.eye(40)[:3]
    words = {"king": royal + male, "queen": royal + female, "man": male, "woman": female}
    noise = {f"w{i}": torch.randn(40, generator=torch.Generator().manual_seed(i)) for i in range(20)}
    vectors = WordVectors(tuple(words | noise), torch.stack([*(words | noise).values()]))
    monkeypatch.setattr(word_vectors, "SCORES", 12)
    for method in (word_vectors.ADD, MUL):
        assert vectors.analogy("man", "woman", "king", 1, method)[0][0] == "queen"
        found = vectors.analogies(["man", "woman"], ["woman", "man"], ["king", "queen"], 1, method)
        assert found.ids[:, 0].tolist() == [1, 0]


def test_a_question_that_cannot_be_answered_is_one_sentence():
    vectors = some()
    for call, part in ((lambda: vectors["cat"], "'cat' is none of the 7 words"),
                       (lambda: vectors.neighbours("w1", 0), "k is 0"),
                       (lambda: vectors.neighbours(torch.ones(2)), "a query has 2 numbers, a vector 3"),
                       (lambda: vectors.analogy("w1", "w2", "w3", 1, "add"), "method is 'add'"),
                       (lambda: vectors.pair_cosines(["w1"], []), "1 first and 0 second"),
                       (lambda: vectors.nearest(vectors.vectors[:2], without=[[0]]), "for 1 of 2 questions"),
                       (lambda: vectors.nearest(vectors.vectors[:1], without=[[99]]), "none of 0 to"),
                       (lambda: vectors.analogies(["w1"], [], ["w2"]), "1, 0 and 1 words"),
                       (lambda: some(3).analogy("w0", "w1", "w2"), "none is left"),
                       (lambda: WordVectors(("a", "b", "a"), torch.ones(3, 1)), "'a' stands twice"),
                       (lambda: WordVectors(("a",), torch.ones(2, 1)), "1 words and 2 vectors"),
                       (lambda: WordVectors(("a", "b"), torch.tensor([[1.0], [math.nan]])), "'b' is not")):
        with pytest.raises(ValueError, match=part):
            call()


def test_words_are_found_by_their_row():
    vectors = some()
    assert "w3" in vectors and "cat" not in vectors and len(vectors) == 7 and vectors.width == 3
    assert torch.equal(vectors["w3"], vectors.vectors[3])
    assert torch.equal(vectors.rows(["w3", "w0"]), vectors.vectors[[3, 0]])
    assert vectors.subset(["w3", "w0"]).words == ("w3", "w0")
    assert vectors.cosine("w1", "w2") == pytest.approx(angle(vectors["w1"], vectors["w2"]), abs=1e-6)
    got = vectors.pair_cosines(["w1", "w0"], ["w2", "w0"])
    assert got.tolist() == pytest.approx([vectors.cosine("w1", "w2"), 1], abs=1e-6)


# ------------------------------------------------------------------------------------------------- files

LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters=" \t\n\r\v\f")
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=6, unique=True)


@given(WORDS, st.integers(1, 4), st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path_factory, words, d, data):
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = data.draw(st.lists(numbers, min_size=len(words) * d, max_size=len(words) * d))
    vectors = WordVectors(tuple(words), torch.tensor(values, dtype=torch.float32).view(-1, d))
    folder = tmp_path_factory.mktemp("vectors")
    for name in ("v.txt", "v.bin", "v.glove", "v.vec"):
        if name == "v.glove" and words[0].startswith("\ufeff"):
            with pytest.raises(ValueError, match="mark of the byte order"):
                write_vectors(folder / name, vectors)
            continue
        got = read_vectors(write_vectors(folder / name, vectors))
        assert got.words == vectors.words
        assert got.vectors.numpy().tobytes() == vectors.vectors.numpy().tobytes()


@pytest.mark.parity
def test_files_are_those_of_gensim_byte_for_byte_and_read_as_gensim_reads_them(tmp_path):
    from gensim.models import KeyedVectors

    numbers = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * torch.logspace(-12, 12, 5)
    numbers[0, :4] = torch.tensor([0.0, -0.0, 1e16, 123456.0])
    ours = WordVectors(("ö", "हु", "…", *(f"w{i}" for i in range(37))), numbers)
    theirs = KeyedVectors(5)
    theirs.add_vectors(list(ours.words), ours.vectors.numpy())
    for name, options in (("a.txt", {}), ("a.bin", {"binary": True}), ("a.glove", {"write_header": False})):
        theirs.save_word2vec_format(str(tmp_path / f"their-{name}"), **options)
        write_vectors(tmp_path / name, ours)
        assert (tmp_path / name).read_bytes() == (tmp_path / f"their-{name}").read_bytes()
        got = read_vectors(tmp_path / f"their-{name}")
        read = KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=name.endswith("bin"),
                                                 no_header=name.endswith("glove"))
        assert list(got.words) == read.index_to_key == list(ours.words)
        assert np.array_equal(got.vectors.numpy(), read.vectors) and np.array_equal(read.vectors, numbers)


@pytest.mark.parity
@pytest.mark.parametrize("name, options", [
    ("test_glove.txt", {"no_header": True}), ("euclidean_vectors.bin", {"binary": True}),
    ("lee_fasttext.vec", {}), ("crime-and-punishment.vec", {})])
def test_the_files_that_gensim_ships_are_read_as_gensim_reads_them(name, options):
    from gensim.models import KeyedVectors
    from gensim.test.utils import datapath

    theirs = KeyedVectors.load_word2vec_format(datapath(name), **options)
    ours = read_vectors(datapath(name))
    assert list(ours.words) == theirs.index_to_key
    assert np.array_equal(ours.vectors.numpy(), theirs.vectors)


@pytest.mark.parity
def test_a_file_that_gensim_ships_and_refuses_is_refused():
    from gensim.test.utils import datapath

    with pytest.raises(ValueError, match="the file ends after"):
        read_vectors(datapath("pretrained.vec"))


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")     # gensim of itself
def test_neighbours_and_analogies_are_those_of_gensim():
    from gensim.models import KeyedVectors
    from gensim.test.utils import datapath

    theirs = KeyedVectors.load_word2vec_format(datapath("lee_fasttext.vec"))
    ours = read_vectors(datapath("lee_fasttext.vec"))
    for word in ours.words[:40:7]:
        got, want = ours.neighbours(word, 8), theirs.most_similar(word, topn=8)
        assert [w for w, _ in got] == [w for w, _ in want]
        assert [s for _, s in got] == pytest.approx([s for _, s in want], abs=1e-5)
    for a, b, c in zip(ours.words[:30:3], ours.words[1:30:3], ours.words[2:30:3]):
        for got, want in ((ours.analogy(a, b, c, 5), theirs.most_similar([b, c], [a], topn=5)),
                          (ours.analogy(a, b, c, 5, MUL, eps=1e-6), theirs.most_similar_cosmul(
                              [b, c], [a], topn=5))):
            assert [w for w, _ in got] == [w for w, _ in want]
            assert [s for _, s in got] == pytest.approx([s for _, s in want], rel=1e-4)


def test_blocks_end_anywhere(tmp_path, monkeypatch):
    vectors = some(50, 3)
    for name in ("a.txt", "a.bin", "a.glove"):
        write_vectors(tmp_path / name, vectors)
    monkeypatch.setattr(word_vectors, "LONGEST", 8)
    for block in (1, 2, 7, 40, 333):
        monkeypatch.setattr(word_vectors, "BLOCK", block)
        for name in ("a.bin",) if block < 40 else ("a.txt", "a.bin", "a.glove"):
            got = read_vectors(tmp_path / name)
            assert got.words == vectors.words and torch.equal(got.vectors, vectors.vectors)


def test_a_word_may_hold_spaces_and_a_row_may_end_in_one(tmp_path):
    path = tmp_path / "840.txt"
    path.write_bytes(b". . . 0.5 1.0 \nat name@domain.com 1 2\r\n5 3 -4e-1\nwith\t7\t8\n\n\n")
    got = read_vectors(path)
    assert got.words == (". . .", "at name@domain.com", "5", "with")
    assert torch.equal(got.vectors, torch.tensor([[0.5, 1], [1, 2], [3, -0.4], [7, 8]]))
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbf1 2\nb 1 2\n")
    assert read_vectors(tmp_path / "bom.txt").words == ("b",)


def test_a_file_is_read_compressed_and_in_part(tmp_path):
    vectors = some(50, 3)
    for name in ("a.txt", "a.bin", "a.glove"):
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress(write_vectors(tmp_path / name, vectors).read_bytes()))
        assert torch.equal(read_vectors(packed).vectors, vectors.vectors)
        part = read_vectors(packed, limit=4)
        assert part.words == vectors.words[:4] and torch.equal(part.vectors, vectors.vectors[:4])
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(ValueError, match="not a whole gzip file"):
        read_vectors(packed)


def test_binary_files_may_break_the_line_after_a_vector(tmp_path):
    numbers = np.arange(4, dtype="<f4")
    a, b = (numbers[part].tobytes() for part in (slice(2), slice(2, 4)))
    (tmp_path / "c.bin").write_bytes(b"2 2\na " + a + b"\nb " + b + b"\n")
    got = read_vectors(tmp_path / "c.bin")
    assert got.words == ("a", "b") and got.vectors.tolist() == [[0, 1], [2, 3]]


BROKEN = {
    "empty.txt": (b"", "line 1: the file is empty"),
    "empty.bin": (b"", "line 1: the file is empty"),
    "blank.txt": (b"\n\n", "line 1: there is nothing in its first line"),
    "no-header.bin": (b"hello\n", "line 1: the first line is 'hello'"),
    "no-line.bin": (b"1 2" + b"\0" * 300, "line 1: the first line is"),
    "text.txt": (b"To be or not\nto be\n", "line 1: it reads 'To be or not'"),
    "one-word.txt": (b"hello\n", "line 1: it reads 'hello'"),
    "zero.txt": (b"0 3\n", "line 1: 0 words of 3 numbers"),
    "huge.txt": (b"999999999999 300\na 1\n", r"line 1: 999,999,999,999 words of 300 numbers .* 21 bytes"),
    "huge.bin": (b"5 9999999999\na " + b"\0" * 90, r"line 1: 5 words of 9,999,999,999 numbers"),
    "missing.txt": (b"3 2\na 10 10\nb 10 10\n", "line 4: the file ends after 2 of 3 words"),
    "missing.bin": (b"2 2\naaaaaaaaaa " + b"\0" * 8, "row 2: the file ends after 1 of 2 words"),
    "more.txt": (b"1 2\na 1 2\nb 1 2\n", "line 3: the row of 'b' comes after the 1 words"),
    "more.bin": (b"1 1\na " + b"\0" * 4 + b"b " + b"\0" * 4, "row 2: more follows after the 1 words"),
    "short.txt": (b"2 3\na 1 2 3\nb 1 2\n", "line 3: 'b 1 2' has 2 numbers after its word, and line 1 "
                  "announces 3; correct the line that is wrong"),
    "long.txt": (b"2 2\na 1 2\nb 1 2 3\n", "line 3: 'b 1 2 3' has 3 numbers after its word"),
    "hole.glove": (b"a 1 2\n\nb 1 2\n", "line 2: the line is empty"),
    "letters.txt": (b"2 2\na 1 2\nb 1 x2\n", "line 3: 'x2' stands where the vector of 'b' has a number"),
    "comma.glove": (b"a 1.5 2\nb 1,5 2\n", "line 2: '1,5' stands where"),
    "joined.glove": (b"a 1.5 2\nb 1.5-2 2\n", "line 2: '1.5-2' stands where"),
    "nan.txt": (b"2 2\na 1 2\nb 1 nan\n", "line 3: the vector of 'b' holds nan"),
    "inf.bin": (b"1 1\na " + np.float32(np.inf).tobytes(), "row 1: the vector of 'a' holds inf"),
    "twice.txt": (b"3 1\na 1\nb 2\na 3\n", "line 4: the word 'a' stands there again, first it did in line 2"),
    "twice.bin": (b"2 1\na " + b"\0" * 4 + b"a " + b"\0" * 4, "row 2: the word 'a' stands there again"),
    "latin.txt": ("2 1\na 1\nHündin 2\n".encode("latin-1"), r"line 3: the word 'H\\\\xfcndin' is not utf-8"),
    "wordless.txt": (b"1 2\n 1 2\n", r"line 2: .* has 1 numbers|line 2: a row begins with no word"),
    "wordless.bin": (b"1 1\n " + b"\0" * 4, "row 1: a row begins with no word"),
    "no-space.bin": (b"1 1\n" + b"a" * 70_000, "row 1: its word has more than 65,536 bytes"),
    "negative.txt": (b"-3 3\ncat 1 2 3\n", "line 2: .* has 3 numbers after its word, and line 1 has 1"),
    "hex.glove": (b"cat 0x10 1\ndog 1 2\n", "line 2: .* and line 1 has 1; correct the line that is wrong"),
    "count.txt": (b"9 3\na 1 2 3\n", "line 1: .* download it again, or correct the number"),
    "mac.txt": (b"2 1\ra 1\rb 2\r", r"its lines end with \\r alone, .*; save it in UTF-8"),
    "sixteen.txt": ("a 1\nb 2\n".encode("utf-16"), "it is in UTF-16; save it in UTF-8"),
    "crlf.bin": (b"3 1\na " + b"\1" * 4 + b"\r\nb " + b"\1" * 4 + b"\r\nc " + b"\1" * 4,
                 r"row 2: there is a line break in the word .*; the file was damaged"),
    "fasttext.bin": (b"\xba\x16\x4f\x2f\x0c\0\0\0", "a model of fastText"),
    "not.txt.gz": (b"hello", "not a whole gzip file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence_with_file_line_and_remedy(name, tmp_path):
    content, part = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=part) as error:
        read_vectors(path)
    said = str(error.value)
    assert said.startswith(str(path)) and "; " in said and "\n" not in said and len(said) < 400


def test_other_things_that_cannot_be_read_or_written_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of vectors"):
        read_vectors(tmp_path / "none.txt")
    path = write_vectors(tmp_path / "a.txt", some())
    for options, part in (({"duplicates": "both"}, "duplicates is 'both'"), ({"limit": 0}, "limit is 0"),
                          ({"encoding": "utf-16"}, "is 'utf-16'"), ({"encoding": "x"}, "encoding is")):
        with pytest.raises(ValueError, match=part):
            read_vectors(path, **options)
    with pytest.raises(ValueError, match="says no format"):
        write_vectors(tmp_path / "a.csv", some())
    for word in ("", "a b", "a\n", "\udcff"):
        with pytest.raises(ValueError, match="cannot stand in a file"):
            write_vectors(path, WordVectors(("w0", word), torch.zeros(2, 1)))
    assert read_vectors(path).words == some().words                     # the old file stays whole
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_duplicates_and_other_encodings_are_read_where_asked(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("4 1\nHündin 1\nb 2\nHündin 3\nc 4\n".encode("latin-1"))
    got = read_vectors(path, encoding="latin-1", duplicates="first")
    assert got.words == ("Hündin", "b", "c") and got.vectors[:, 0].tolist() == [1, 2, 4]
    assert read_vectors(path, errors="replace", duplicates="first").words[0] == "H\ufffdndin"


@pytest.mark.parametrize("size", [3e38, 1.0, 1e-30, 1e-40])
def test_directions_do_not_depend_on_the_size_of_the_numbers(size):
    vectors = WordVectors(("a", "b", "c"), torch.tensor([[1.0, 1, 1], [0.5, 0.5, 0.5], [-1, 0, 1]]) * size)
    assert vectors.cosine("a", "b") == pytest.approx(1, abs=1e-4)
    assert float(vectors.pair_cosines(["a"], ["c"])) == pytest.approx(0, abs=1e-4)
    assert vectors.neighbours("a", 1) == [("b", pytest.approx(1, abs=1e-4))]
    for method in (word_vectors.ADD, MUL):
        assert vectors.analogies(["a"], ["b"], ["c"], 1, method, without=[[2]]).ids.tolist() == [[0]]


def test_capital_letters_end_a_name_as_small_ones_do(tmp_path):
    for name in ("A.BIN", "A.Txt", "A.GLOVE"):
        assert torch.equal(read_vectors(write_vectors(tmp_path / name, some())).vectors, some().vectors)


def test_a_line_break_in_a_word_is_refused_in_any_encoding(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"2 1\na 1\nb\\nc 2\n")
    with pytest.raises(ValueError, match="line 3: there is a line break in the word"):
        read_vectors(tmp_path / "a.txt", encoding="unicode_escape")
