"""Commands and readers of word vectors: nothing is lost, and nothing wrong is read without a word."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmlearn.cli import main
from mmlearn.data.vocabulary import LONGEST, WindowBatches, numbered, read_corpus
from mmlearn.data.word_tasks import odd_accuracy, twin_accuracy
from mmlearn.data.word_vectors import WordVectors, read_vectors, write_vectors
from mmlearn.data.wordpiece import WordPiece
from mmlearn.files import write_atomically
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


@pytest.mark.parametrize("kind", ["words", "glove"])
def test_a_corpus_of_one_word_teaches_nothing(tmp_path, capsys, kind):
    (tmp_path / "one.txt").write_text("a a a a\n" * 3)
    arguments = ["train", kind, str(tmp_path / "one.txt"), "--out", str(tmp_path / "one.glove"), *TRAIN]
    assert main(arguments) == 2
    assert "has only one word that occurs 1 times or more, 'a'; lower" in capsys.readouterr().err


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
    (tmp_path / "same.txt").write_text("a c 1\nb c 2\n")
    (tmp_path / "few.txt").write_text("a b 1\nx y 2\n")
    (tmp_path / "good.txt").write_text("a b 1\na c 2\n")
    (tmp_path / "asked.txt").write_text(": one\na b c x\n")

    def evaluate(*names):
        *files, options = names
        code = main(["evaluate", "words", *(str(tmp_path / name) for name in ("v.txt", *files)), *options])
        return code, *capsys.readouterr()

    for name, why in (("equal", "all scores of the 3 pairs"), ("same", "all cosines of the 2 pairs"),
                      ("few", "1 of 2 have all their words")):
        code, out, err = evaluate(f"{name}.txt", [])
        assert code == 2 and not out and f"mmlearn evaluate: {name}: {why}" in err and err.count("\n") == 1
        code, out, err = evaluate(f"{name}.txt", "good.txt", ["--json"])
        assert code == 0 and json.loads(out)[name]["spearman"] is None and f"{name}: {why}" in err
    code, out, err = evaluate(["--analogies", str(tmp_path / "asked.txt")])
    assert code == 2 and not out and "asked: 0 of 1 have all their words" in err


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


@pytest.mark.parametrize("content, part", [
    ("x" * 50_000 + " ", "the most frequent one, 'x{39}…', 1 times"),
    ("a\nb\na\nb\n" * 9, "one a line, or lower")])
def test_what_a_corpus_lacks_is_said_in_a_line(tmp_path, capsys, content, part):
    (tmp_path / "c.txt").write_text(content)
    assert main(["train", "glove", str(tmp_path / "c.txt"), "--out", str(tmp_path / "v.txt")]) == 2
    said = capsys.readouterr().err
    assert re.search(part, said) and len(said) < 300 and not (tmp_path / "v.txt").exists()


@pytest.mark.parametrize("name, part", [("folder.txt", "is a folder"), ("x" * 240 + ".txt", "name too long")])
def test_a_name_that_no_file_can_have_is_refused_before_training(corpus, capsys, monkeypatch, name, part):
    monkeypatch.setattr("mmlearn.images_for_language.glove.train_glove", None)
    (corpus.parent / "folder.txt").mkdir()
    assert main(["train", "glove", str(corpus), "--out", str(corpus.parent / name), *TRAIN]) == 2
    said = capsys.readouterr().err
    assert part in said and "[Errno" not in said and said.count("\n") == 1


def test_a_seed_that_cannot_be_is_named_alone(corpus, tmp_path, capsys):
    arguments = ["train", "glove", str(corpus), "--out", str(tmp_path / "v.txt"), *TRAIN]
    assert main([*arguments, "--seed", "-1"]) == 2
    assert "seed is -1; take a whole number from 0 to 4,294,967,295" in capsys.readouterr().err


def test_a_link_stays_and_what_it_leads_to_is_written(corpus, tmp_path):
    (tmp_path / "v.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "v.txt")
    assert main(["train", "glove", str(corpus), "--out", str(tmp_path / "link.txt"), *TRAIN]) == 0
    assert (tmp_path / "link.txt").is_symlink() and len(read_vectors(tmp_path / "v.txt")) == 4


def test_memory_that_is_not_enough_is_one_sentence(corpus, tmp_path, capsys, monkeypatch):
    arguments = ["train", "glove", str(corpus), "--out", str(tmp_path / "v.txt"), *TRAIN]
    where = "mmlearn.images_for_language.glove.train_glove"
    monkeypatch.setattr(where, lambda *_, **__: torch.empty(1 << 55))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "takes more memory than the machine has; give less at once" in said and said.count("\n") == 1

    def wrong(*_, **__):
        raise RuntimeError("a mistake of the program")

    monkeypatch.setattr(where, wrong)
    with pytest.raises(RuntimeError, match="a mistake"):
        main(arguments)


@pytest.mark.parametrize("error, part", [
    (OSError(errno.ENOSPC, "No space left"), "the output cannot be written (No space left); make room"),
    (OSError(errno.EACCES, "Permission denied", "v.txt"), "v.txt: Permission denied; check the path")])
def test_errors_of_the_system_name_what_failed(corpus, tmp_path, capsys, monkeypatch, error, part):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mmlearn.cli.train_glove.open_corpus", fail)
    assert main(["train", "glove", str(corpus), "--out", str(tmp_path / "v.txt"), *TRAIN]) == 2
    assert part in capsys.readouterr().err


KILLED = """
import sys, time
from mmlearn import cli
from mmlearn.cli import systems
from mmlearn.files import written_whole

def run(args):
    with written_whole(sys.argv[1]) as file:
        file.write(b"new")
        print("writing", flush=True)
        time.sleep(60)

systems.add = lambda parser: parser.set_defaults(run=run)
raise SystemExit(cli.main(["systems"]))
"""


def test_a_process_that_is_ended_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("old")
    for number, left in ((signal.SIGTERM, 0), (signal.SIGKILL, 1)):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"writing\n"
            process.send_signal(number)
        assert process.returncode == (143 if number == signal.SIGTERM else -number)
        assert path.read_text() == "old" and len([*tmp_path.glob(".*.partial")]) == left
    written = next(tmp_path.glob(".*.partial"))
    write_atomically(path, "newer")
    assert written.exists()                                 # somebody may still be writing it
    os.utime(written, (0, time.time() - 100_000))
    (tmp_path / ".other.txt-1.partial").write_text("")
    os.utime(tmp_path / ".other.txt-1.partial", (0, 0))
    write_atomically(path, "newest")
    assert sorted(one.name for one in tmp_path.iterdir()) == [".other.txt-1.partial", "v.txt"]
