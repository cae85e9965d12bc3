"""Tokenisers: text to ids and back."""

import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.data.tokenisers import BPETokeniser, WordPieceTokeniser, WordTokeniser, ptb_words, simple_words

CAPTIONS = ["A red cat sits on the mat.", "The dog isn't near the cat!",
            "two dogs, one cat; a well-lit house", "a bird over the sea"]
WORDS = WordTokeniser.train(CAPTIONS, splitter="simple")
PIECES = WordPieceTokeniser.train(CAPTIONS * 3, size=90)
BYTES = BPETokeniser.train(CAPTIONS * 3, size=320)
ALL = pytest.mark.parametrize("tokeniser", [WORDS, PIECES, BYTES], ids=["words", "pieces", "bytes"])


def test_the_first_ids_are_those_of_the_m2_code():
    assert WORDS.words[:4] == ["<unk>", "<pad>", "<bos>", "<eos>"]
    assert (WORDS.unk, WORDS.pad, WORDS.bos, WORDS.eos) == (0, 1, 2, 3)


def test_words_are_ordered_by_count_and_then_by_alphabet():
    tokeniser = WordTokeniser.train(["b a b", "c b a", "d"], splitter="simple")
    assert tokeniser.words[4:] == ["b", "a", "c", "d"]
    assert WordTokeniser.train(["b a b", "c b a", "d"], min_count=2,
                               splitter="simple").words[4:] == ["b", "a"]


def test_the_simple_splitter_drops_punctuation_and_keeps_inner_marks():
    assert simple_words("A man's dog isn't on the red-and-blue mat.") == \
        ["a", "man's", "dog", "isn't", "on", "the", "red-and-blue", "mat"]
    assert simple_words("Ça coûte 5 $ — naïve ÉTÉ …") == ["ça", "coûte", "5", "$", "naïve", "été"]


def test_the_default_splitter_is_that_of_the_metrics():
    tokeniser = WordTokeniser.train(["A man's dog isn't here."])
    assert sorted(tokeniser.words[4:]) == sorted(ptb_words("A man's dog isn't here.")) == \
        sorted(["a", "man", "'s", "dog", "is", "n't", "here"])


@given(st.lists(st.sampled_from(WORDS.words[4:])))
def test_known_words_come_back_unchanged(words):
    text = " ".join(words)
    assert WORDS.decode(WORDS.encode(text)) == text
    assert WORDS.decode(WORDS.encode(text, add_special=True)) == text


@given(st.text(max_size=40))
@settings(max_examples=150)
def test_bytes_come_back_whatever_the_text(text):
    if "<pad>" not in text and "<bos>" not in text and BYTES.END not in text:
        assert BYTES.decode(BYTES.encode(text)) == text
        assert BYTES.decode(BYTES.encode(text, add_special=True)) == text


@given(st.text(max_size=40))
@settings(max_examples=100)
def test_any_text_becomes_ids_inside_the_vocabulary(text):
    for tokeniser in (WORDS, PIECES, BYTES):
        ids = tokeniser.encode(text, add_special=True)
        assert ids[0] == tokeniser.bos and ids[-1] == tokeniser.eos
        assert all(0 <= i < len(tokeniser) for i in ids)


def test_unknown_words_are_unknown_and_a_text_cannot_spell_a_special_token():
    assert WORDS.encode("a zebra") == [WORDS.index["a"], 0]
    assert WORDS.encode("pad bos <eos>") == [0, 0, 0]
    assert PIECES.encode("猫") == [PIECES.unk]


@ALL
def test_a_batch_is_padded_after_the_end_and_cut_before_it(tokeniser):
    rows = tokeniser.batch(["a cat", "a red cat sits", ""])
    assert rows.dtype == torch.int64 and (rows[:, 0] == tokeniser.bos).all()
    for row, text in zip(rows, ["a cat", "a red cat sits", ""]):
        ids = tokeniser.encode(text)
        assert row.tolist() == [tokeniser.bos, *ids,
                                tokeniser.eos] + [tokeniser.pad] * (rows.shape[1] - 2 - len(ids))
        assert tokeniser.decode(row) == text
    short = tokeniser.batch(["a red cat sits on the mat"], max_len=4)
    assert short.shape == (1, 4) and short[0, -1] == tokeniser.eos
    with pytest.raises(ValueError, match="max_len is 1"):
        tokeniser.batch(["a"], max_len=1)


@ALL
def test_decoding_stops_at_the_end_and_refuses_foreign_ids(tokeniser):
    ids = tokeniser.encode("a cat", add_special=True)
    assert tokeniser.decode(ids + tokeniser.encode("the dog")) == "a cat"
    assert tokeniser.decode([]) == ""
    with pytest.raises(ValueError, match=f"token id {len(tokeniser)} is not in 0"):
        tokeniser.decode([len(tokeniser)])


@ALL
def test_a_saved_tokeniser_comes_back(tokeniser, tmp_path):
    tokeniser.save(tmp_path / "t.json")
    again = type(tokeniser).load(tmp_path / "t.json")
    assert again.words == tokeniser.words and len(again) == len(tokeniser)
    for text in (*CAPTIONS, "ünknown ☃", ""):
        assert again.encode(text, add_special=True) == tokeniser.encode(text, add_special=True)
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ValueError, match="t.json is not a"):
        type(tokeniser).load(tmp_path / "t.json")
    with pytest.raises(FileNotFoundError):
        type(tokeniser).load(tmp_path / "none.json")


def test_a_word_tokeniser_travels_to_the_workers_of_a_loader():
    assert pickle.loads(pickle.dumps(WORDS)).encode("a red cat") == WORDS.encode("a red cat")


def test_a_wrong_vocabulary_is_refused():
    with pytest.raises(ValueError, match="begins with"):
        WordTokeniser(["a", "b"])
    with pytest.raises(ValueError, match="lists 'a' twice"):
        WordTokeniser([*WordTokeniser.SPECIALS, "a", "a"])
    with pytest.raises(ValueError, match="splitter 'spacy' is unknown"):
        WordTokeniser.train(["a"], splitter="spacy")


@pytest.mark.parity
def test_wordpiece_equals_berts_tokeniser_on_the_same_vocabulary(tmp_path):
    from transformers import BertTokenizer
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES.words) + "\n", encoding="utf-8")
    ours = WordPieceTokeniser.from_vocab(tmp_path / "vocab.txt")
    theirs = BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    for text in (*CAPTIONS, "Unbelievable CATS' dög — 42!", "", "猫 and dog", "[SEP] cat"):
        assert ours.encode(text, add_special=True) == theirs(text)["input_ids"], text


@pytest.mark.parity
def test_bpe_equals_gpt2s_tokeniser_on_the_same_files(tmp_path):
    from transformers import GPT2Tokenizer
    content = json.loads(BYTES.inner.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(content["vocab"]), encoding="utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    ours = BPETokeniser.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    theirs = GPT2Tokenizer(vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"))
    for text in (*CAPTIONS, "Unbelievable  CATS' dög — 42!\n\tx", "", "猫 and dog", "isn't we'll"):
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("content, message", [
    ("[]", "holds a list"), ("{}", "words is no list"),
    ('{"words": ["<unk>", 7], "splitter": "simple"}', "words is no"),
    ('{"words": ["a"], "splitter": "simple"}', "begins with"), ("[" * 10**5, "nested too deep"),
    ('{"words": ["<unk>", "<pad>", "<bos>", "<eos>"], "splitter": 7}', "splitter is no text")])
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, content, message):
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(ValueError, match=rf"words\.json .*{message}"):
        WordTokeniser.load(tmp_path / "words.json")


def test_a_count_that_no_word_reaches_is_refused():
    with pytest.raises(ValueError, match="no word occurs 1000 times, the most frequent one 4 times"):
        WordTokeniser.train(CAPTIONS, min_count=1000, splitter="simple")


VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"]


def test_pieces_are_parted_by_line_breaks_alone(tmp_path):
    lines = [*VOCAB[:-1], "\u2028x\x85", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert WordPieceTokeniser.from_vocab(tmp_path / "vocab.txt").encode("a dog") == [5, 7]


@pytest.mark.parametrize("lines, message", [
    ([*VOCAB, "dog"], "lists 'dog' twice"), (VOCAB[1:], r"lacks \[PAD\]"), (["hello"], r"lacks \[UNK\]")])
def test_a_list_of_pieces_that_is_none_is_named(tmp_path, lines, message):
    (tmp_path / "vocab.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"vocab\.txt.*{message}"):
        WordPieceTokeniser.from_vocab(tmp_path / "vocab.txt")


def test_a_tokeniser_of_another_kind_or_with_a_hole_is_refused(tmp_path):
    PIECES.save(tmp_path / "pieces.json")
    with pytest.raises(ValueError, match="pieces.json is a tokeniser of kind WordPiece, expected BPE"):
        BPETokeniser.load(tmp_path / "pieces.json")
    content = json.loads((tmp_path / "pieces.json").read_text())
    content["model"]["vocab"]["[MASK]"] = 10**6
    content["added_tokens"] = []
    (tmp_path / "pieces.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"pieces\.json: the vocabulary has \d+ tokens and ids up to 1000"):
        WordPieceTokeniser.load(tmp_path / "pieces.json")


def bpe_files(folder):
    BYTES.save(folder / "bytes.json")
    model = json.loads((folder / "bytes.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]))
    return model


def test_the_two_files_of_gpt2_must_belong_together(tmp_path):
    model = bpe_files(tmp_path)
    files = tmp_path / "vocab.json", tmp_path / "merges.txt"
    assert BPETokeniser.from_files(*files).encode("a red cat") == BYTES.encode("a red cat")
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"][:-1]))
    with pytest.raises(ValueError, match=r"merges\.txt has no merge that makes .*; the files do not belong"):
        BPETokeniser.from_files(*files)
    (tmp_path / "merges.txt").write_text("a b c")
    with pytest.raises(ValueError, match=r"merges\.txt has the line 'a b c', which is no pair"):
        BPETokeniser.from_files(*files)
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"] | {"a": 10**30}))
    with pytest.raises(ValueError, match=r"vocab\.json gives 'a' no whole number"):
        BPETokeniser.from_files(*files)
