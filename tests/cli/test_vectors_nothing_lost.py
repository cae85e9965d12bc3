"""Commands and readers of word vectors: nothing is lost, and nothing wrong is read without a word."""

import json

import pytest
import torch

from mmlearn.cli import main
from mmlearn.data.vocabulary import LONGEST, WindowBatches, numbered, read_corpus
from mmlearn.data.word_tasks import odd_accuracy, twin_accuracy
from mmlearn.data.word_vectors import WordVectors, read_vectors, write_vectors
from mmlearn.data.wordpiece import WordPiece
from mmlearn.metrics.similarity import paired_difference, read_pairs, spearman_interval

TRAIN = "--min-count 1 --dim 4 --epochs 1".split()


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("a cat sees a dog\na dog sees a cat\n" * 5)
    return path


@pytest.mark.parametrize("kind", ["words", "glove"])
def test_the_corpus_is_not_written_over(corpus, tmp_path, capsys, kind):
    before = corpus.read_bytes()
    (tmp_path / "link.txt").symlink_to(corpus)
    for name in (corpus, tmp_path / "link.txt"):
        assert main(["train", kind, str(corpus), "--out", str(name), *TRAIN]) == 2
        assert "is the corpus itself" in capsys.readouterr().err
    assert corpus.read_bytes() == before


@pytest.mark.parametrize("kind", ["words", "glove"])
def test_a_place_that_cannot_be_written_is_refused_before_training(corpus, capsys, monkeypatch, kind):
    monkeypatch.setattr("mmlearn.images_for_language.skip_gram.train_skip_gram", None)
    monkeypatch.setattr("mmlearn.images_for_language.glove.train_glove", None)
    assert main(["train", kind, str(corpus), "--out", str(corpus / "v.txt"), *TRAIN]) == 2
    said = capsys.readouterr().err
    assert "cannot be written" in said and "give another place" in said


def test_frames_go_over_no_other_picture_of_the_command(tmp_path, capsys):
    given = ["imagine", "a red car", "--steps", "2", "--every", "1", "--frames", str(tmp_path / "u.png")]
    assert main([*given, "--out", str(tmp_path / "u-0.png")]) == 2
    assert "which is --out" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_word_without_an_end_is_refused_while_a_corpus_is_read(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("a cat\n" + "x" * (LONGEST + 1) + "\n")
    with pytest.raises(ValueError, match="line 2: a word has more than 65,536 letters"):
        read_corpus(path)


def test_a_corpus_of_one_word_gives_json_that_others_read(tmp_path, capsys):
    (tmp_path / "one.txt").write_text("a a a a\n" * 3)
    arguments = ["train", "glove", str(tmp_path / "one.txt"), "--out", str(tmp_path / "one.glove"), *TRAIN]
    if main([*arguments, "--json"]) == 0:
        said = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
        assert said["agreement"] is None or isinstance(said["agreement"], float)
    else:
        assert "word" in capsys.readouterr().err


def test_a_mark_of_the_byte_order_belongs_to_no_word(tmp_path):
    path = tmp_path / "bom.glove"
    path.write_bytes(b"\xef\xbb\xbfcat 1 2\ndog 3 4\n")
    vectors = read_vectors(path)
    assert vectors.words == ("cat", "dog") and vectors["cat"].tolist() == [1, 2]


def test_numbers_do_not_move_to_other_rows(tmp_path):
    path = tmp_path / "tabs.glove"
    path.write_bytes(b"cat 1 2\ndog 1\t2\n")
    assert read_vectors(path)["dog"].tolist() == [1, 2]
    for rows in (b"cat 1 2\ndog 1\t2 3\n", b"a 1 2\ncat 1\t2 3\ndog \t 4\n"):
        path.write_bytes(rows)
        with pytest.raises(ValueError, match=r"tabs\.glove"):
            read_vectors(path)


@pytest.mark.parametrize("rows", ["cat dog inf\ncat bird 2\n", "cat dog\ncat bird 2\ndog bird 3\n"])
def test_a_first_pair_without_a_score_is_no_header(tmp_path, rows):
    path = tmp_path / "pairs.txt"
    path.write_text(rows)
    with pytest.raises(ValueError, match="line 1: .* neither a pair with a score nor a header"):
        read_pairs(path)


def test_no_score_is_explained(tmp_path, capsys):
    (tmp_path / "v.txt").write_text("3 2\na 1 0\nb 0 1\nc 1 1\n")
    (tmp_path / "equal.txt").write_text("a b 1\na c 1\nb c 1\n")
    main(["evaluate", "words", str(tmp_path / "v.txt"), str(tmp_path / "equal.txt"), "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["equal"]["spearman"] is None and "are alike" in said.err


def test_functions_say_what_they_cannot_do(tmp_path):
    some, same = torch.tensor([1.0, 2, 3, 4]), torch.ones(4)
    for call in (lambda: spearman_interval(some, same), lambda: paired_difference(same, some, some)):
        with pytest.raises(ValueError, match="have no order"):
            call()
    vectors = WordVectors(("a", "b"), torch.eye(2))
    for call in (lambda: odd_accuracy(vectors, []), lambda: twin_accuracy(vectors, [])):
        with pytest.raises(ValueError, match="no questions"):
            call()
    with pytest.raises(ValueError, match="min_count is 0"):
        WordPiece.train(["ab ab"], 100, min_count=0)
    from mmlearn.data.vocabulary import Vocabulary
    text = numbered([["a", "b"]], Vocabulary.of([["a", "b"]]))
    for wrong in ({"window": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="take a window of 1 or more"):
            WindowBatches(text, 2, **wrong)
    path = tmp_path / "v.txt"
    path.write_text("1 1\na 1\n")
    with pytest.raises(ValueError, match="errors is 'nope'"):
        read_vectors(path, errors="nope")


def test_a_word_that_would_come_back_as_another_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mark of the byte order"):
        write_vectors(tmp_path / "v.glove", WordVectors(("\ufeffcat",), torch.eye(1)))
    assert not list(tmp_path.iterdir())
