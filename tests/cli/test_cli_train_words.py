"""``mmlearn train words``: vectors of a text file, and one sentence for what cannot be trained."""

import json

import numpy as np
import pytest
import torch

from mmlearn.cli import main
from mmlearn.data.vocabulary import read_corpus
from mmlearn.data.word_vectors import read_vectors
from mmlearn.images_for_language.skip_gram import SkipGramConfig, train_skip_gram

SMALL = ["--dim", "8", "--window", "2", "--min-count", "2", "--epochs", "2"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A file of 200 sentences, with an empty line."""
    rng = np.random.default_rng(0)
    lines = [" ".join(f"wört{i}" for i in np.minimum(rng.zipf(1.5, 8), 20)) for _ in range(200)]
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n\n".join([lines[0], "\n".join(lines[1:])]) + "\n", encoding="utf-8")
    return path


def train(capsys, *arguments) -> dict:
    assert main(["train", "words", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    assert main(["train", "words", *map(str, arguments)]) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.startswith("mmlearn train: ") and streams.err.count("\n") == 1
    return streams.err


@pytest.mark.parametrize("name, objective, workers", [("v.txt", "hs", 1), ("v.bin", "ns", 1),
                                                      ("v.glove", "ns", 2)])
def test_vectors_of_a_text_file_are_written_in_each_format(corpus, tmp_path, capsys, name, objective,
                                                              workers):
    told = train(capsys, corpus, "--out", tmp_path / name, *SMALL, "--objective", objective, "--workers",
                 workers)
    vectors = read_vectors(tmp_path / name)
    assert vectors.words[0] == "wört1" and vectors.vectors.shape == (told["words"], 8)
    assert 1500 < told["tokens"] <= 1600 and told["objective"] == objective
    assert told["pairs"] > 200 and told["first loss"] > 0


def test_the_file_holds_what_training_gives_with_the_same_settings(corpus, tmp_path, capsys):
    train(capsys, corpus, "--out", tmp_path / "v.bin", *SMALL, "--seed", "3")
    config = SkipGramConfig(dim=8, window=2, min_count=2, epochs=2)
    want = train_skip_gram(read_corpus(corpus), config, seed=3, progress=False).vectors()
    found = read_vectors(tmp_path / "v.bin")
    assert found.words == want.words and torch.equal(found.vectors, want.vectors)


def test_it_says_in_words_what_came_of_it(corpus, tmp_path, capsys):
    assert main(["train", "words", str(corpus), "--out", str(tmp_path / "v.txt"), *SMALL]) == 0
    streams = capsys.readouterr()
    assert "words of" in streams.out and "nats a pair" in streams.out and "skip-gram" in streams.err


def test_a_run_with_checkpoints_is_not_begun_again(corpus, tmp_path, capsys):
    run = [corpus, "--out", tmp_path / "v.bin", *SMALL, "--checkpoints", tmp_path / "run"]
    first = train(capsys, *run)
    before = (tmp_path / "v.bin").read_bytes()
    (tmp_path / "v.bin").unlink()
    assert train(capsys, *run)["last loss"] == first["last loss"]
    assert (tmp_path / "v.bin").read_bytes() == before
    assert "holds a run with config.dim 8 (now 9)" in refused(capsys, *run, "--dim", "9")


@pytest.mark.parametrize("arguments, sentence", [
    (["CORPUS", "--out", "v.csv"], "says no format; end the name of the file with .txt, .bin or .glove"),
    (["CORPUS", "--out", "vectors"], "says no format"),
    (["missing.txt", "--out", "v.txt"], "no file at missing.txt; give a text file in UTF-8"),
    (["CORPUS", "--out", "v.txt", "--min-count", "99999"], "no word occurs 99999 times"),
    (["CORPUS", "--out", "v.txt", "--min-count", "0"], "min_count of SkipGramConfig is 0"),
    (["CORPUS", "--out", "v.txt", "--objective", "hs", "--negatives", "3"], "--objective hs draws none"),
    (["CORPUS", "--out", "v.txt", "--negatives", "0"], "negatives of SkipGramConfig is 0"),
    (["CORPUS", "--out", "v.txt", "--epochs", "0"], "epochs of SkipGramConfig is 0"),
    (["CORPUS", "--out", "v.txt", "--dim", "-4"], "dim of SkipGramConfig is -4"),
    (["CORPUS", "--out", "v.txt", "--sample", "nan"], "sample of SkipGramConfig is nan"),
    (["CORPUS", "--out", "v.txt", "--workers", "0"], "workers is 0"),
    (["CORPUS", "--out", "v.txt", "--seed", "-1"], "seed is -1"),
])
def test_what_cannot_be_trained_is_one_sentence_and_nothing_is_written(corpus, tmp_path, capsys, monkeypatch,
                                                                       arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, *(corpus if a == "CORPUS" else a for a in arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content, sentence", [
    (b"", "holds no word"), ("Bär".encode("latin-1"), "is not UTF-8 text"),
    (b"a\nb\na\nb\n", "stand in one window")])
def test_a_file_that_is_no_corpus_is_named(tmp_path, capsys, content, sentence):
    (tmp_path / "c.txt").write_bytes(content)
    assert sentence in refused(capsys, tmp_path / "c.txt", "--out", tmp_path / "v.txt", "--min-count", "1")
    assert not (tmp_path / "v.txt").exists()


def test_no_objective_is_no_choice(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "words", str(corpus), "--out", str(tmp_path / "v.txt"), "--objective", "none"])
    assert stopped.value.code == 2 and "choose from" in capsys.readouterr().err
