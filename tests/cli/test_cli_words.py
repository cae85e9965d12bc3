"""``mmlearn words``, ``evaluate words`` and ``train glove``: the numbers of the library, one sentence on bad
input."""

import json
import re

import pytest
import torch

from mmlearn.cli import main
from mmlearn.data.word_vectors import WordVectors, read_vectors, write_vectors
from mmlearn.metrics.similarity import evaluate_pairs, read_pairs


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Vectors, pairs and a corpus, in a folder that is stood in."""
    monkeypatch.chdir(tmp_path)
    words = ("man", "woman", "king", "queen", "Köln")
    male, female, royal, other = torch.eye(4)
    rows = torch.stack([male, female, royal + male, royal + female, other])
    write_vectors("v.txt", WordVectors(words, rows))
    (tmp_path / "pairs.tsv").write_text("# about\nman\twoman\t8\nking\tQueen\t9\nman\tqueen\t3\nking\tx\t1\n")
    (tmp_path / "twice.txt").write_text("2 1\na 1\na 2\n")
    (tmp_path / "corpus.txt").write_text("a red cat sleeps\na blue cat eats\nthe red tower\n" * 5)
    return tmp_path


def told(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_neighbours_are_printed_with_their_cosines(place, capsys):
    one, other = told(capsys, "words", "neighbours", "v.txt", "king", "Köln", "--top", "2")
    assert one["word"] == "king" and other["word"] == "Köln"
    assert {answer["word"]: answer["cosine"] for answer in one["answers"]} == {"man": 0.7071, "queen": 0.5}
    assert main(["words", "neighbours", "v.txt", "king", "--top", "1"]) == 0
    assert capsys.readouterr().out == " 0.7071  man\n"


def test_analogies_are_solved(place, capsys):
    for method in ("3CosAdd", "3CosMul"):
        found = told(capsys, "words", "analogy", "v.txt", "man", "woman", "king", "--method", method)
        assert found["answers"][0]["word"] == "queen" and found["method"] == method
    assert main(["words", "analogy", "v.txt", "man", "woman", "king", "--top", "1"]) == 0
    assert capsys.readouterr().out.split()[1] == "queen"


def test_pairs_are_scored_by_the_name_of_their_file(place, capsys):
    (place / "more.csv").write_text("word1,word2,a,b\nman,woman,1,3\nking,queen,2,2\nman,queen,3,1\n")
    found = told(capsys, "evaluate", "words", "v.txt", "pairs.tsv", "more.csv")
    assert found["pairs"] == evaluate_pairs(read_vectors("v.txt"), read_pairs("pairs.tsv"))
    assert (found["pairs"]["pairs"], found["pairs"]["covered"]) == (4, 3)
    by_b = told(capsys, "evaluate", "words", "v.txt", "more.csv", "--column", "b")["more"]
    assert by_b["spearman"] == pytest.approx(-found["more"]["spearman"])
    assert by_b == told(capsys, "evaluate", "words", "v.txt", "more.csv", "--column", "4")["more"]
    strict = told(capsys, "evaluate", "words", "v.txt", "pairs.tsv", "more.csv", "--case")["pairs"]
    assert strict["covered"] == 2
    assert main(["evaluate", "words", "v.txt", "pairs.tsv"]) == 0
    assert capsys.readouterr().out.startswith("pairs  rho ")


def test_what_is_not_covered_has_no_score(place, capsys):
    (place / "none.tsv").write_text("x\ty\t1\ny\tz\t2\n")
    (place / "questions.txt").write_text(": royal\nman woman king queen\nman x king y\n")
    found = told(capsys, "evaluate", "words", "v.txt", "none.tsv", "--analogies", "questions.txt")
    assert found["none"] == {"spearman": None, "pairs": 2, "covered": 0}
    assert found["questions"] == {"accuracy": 1, "correct": 1, "covered": 1, "questions": 2}
    assert main(["evaluate", "words", "v.txt", "none.tsv", "--analogies", "questions.txt"]) == 0
    streams = capsys.readouterr()
    assert "none: 0 of 2 have all their words in v.txt" in streams.err and "100.0 % right" in streams.out


@pytest.mark.parametrize("line, part", [
    ("words neighbours v.txt dog", "'dog' is none of the 5 words"),
    ("words neighbours none.txt dog", "no file of vectors none.txt"),
    ("words neighbours twice.txt a", "twice.txt, line 3: the word 'a' stands there again"),
    ("words neighbours v.txt king --top 0", "--top is 0"),
    ("words neighbours v.txt king --limit 0", "--limit is 0"),
    ("words neighbours v.txt king --encoding utf-16", "encoding is 'utf-16'"),
    ("words analogy v.txt man woman dog", "'dog' is none"),
    ("evaluate words v.txt", "nothing to compare with"),
    ("evaluate words v.txt v.txt", "line 2: 1.0 is no word"),
    ("evaluate words v.txt pairs.tsv pairs.tsv", "two files are called 'pairs'"),
    ("evaluate words v.txt pairs.tsv --column x", "no column 'x'"),
    ("evaluate words v.txt --analogies pairs.tsv", "line 1: .* words before the first section"),
    ("train glove corpus.txt --out x.csv", "--out x.csv says no format"),
    ("train glove none.txt --out x.txt", "no file at none.txt"),
    ("train glove corpus.txt --out x.txt --min-count 99", "no word occurs 99 times"),
    ("train glove corpus.txt --out x.txt --lr nan", "lr of GloVeConfig is nan"),
])
def test_bad_input_is_one_sentence(place, capsys, line, part):
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert re.search(part, said) and said.count("\n") == 1 and said.startswith("mmlearn ")
    assert not (place / "x.txt").exists()


def test_duplicates_are_read_where_asked(place, capsys):
    (place / "twice.txt").write_text("3 2\na 1 2\nb 2 1\na 9 9\n")
    assert told(capsys, "words", "neighbours", "twice.txt", "a", "--duplicates", "first") == [
        {"word": "a", "answers": [{"word": "b", "cosine": 0.8}]}]


@pytest.mark.parametrize("name", ["x.txt", "x.bin", "x.glove"])
def test_glove_is_trained_on_a_corpus(place, capsys, name):
    line = ("train", "glove", "corpus.txt", "--out", name, "--dim", 4, "--epochs", 20, "--min-count", 5,
            "--x-max", 5, "--checkpoints", "run")
    found = told(capsys, *line)
    assert found["last loss"] < found["first loss"] and found["words"] == 8
    vectors = read_vectors(name)
    assert len(vectors) == 8 and vectors.width == 4
    again = told(capsys, *line)
    assert again["last loss"] == found["last loss"]
    assert torch.equal(read_vectors(name).vectors, vectors.vectors)
