"""GLIDE's tokeniser: GPT-2's byte pairs in lower case, without start and end, padded to the context."""

import pickle
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.data import glide_tokeniser
from mmlearn.data.clip_tokeniser import byte_letters
from mmlearn.data.glide_tokeniser import GPT2, MERGES, PADDING, GLIDETokeniser

CAPTIONS = ["A red cat sits on the mat.", "The dog isn't near the cat!", "two dogs, one cat; a well-lit "
                                                                         "house",
            "a bird over the sea", "It's 1984's café"]
SMALL = GLIDETokeniser.train(CAPTIONS, 60, context=12)
ODD = ["", " ", "\n", "  two  spaces ", "DON'T SHOUT", "it's, they'll; we've: I'd", "a😀b 👍🏽",
       "naïve ÉTÉ ǅ İ",
       "tab\tand\nline\r\n", "3.14159 1,000", "’curly’ “quotes”", "<|endoftext|>", "a<|endoftext|> cat",
       "日本語 текст", "\u00a0nbsp\u2003em", "$%&/()=?", "x" * 70, "\x00\x07", "the cat the cat"]


@cache
def theirs():
    """``transformers``' tokeniser of GPT-2 with the same merges."""
    from transformers import GPT2Tokenizer

    return GPT2Tokenizer(vocab=dict(SMALL.index), merges=list(SMALL.merges), add_prefix_space=False)


def check(text):
    if PADDING not in text.lower():                         # theirs takes it for the special token
        assert SMALL.encode(text) == theirs().encode(text.lower(), add_special_tokens=False), repr(text)


@pytest.mark.parity
@pytest.mark.parametrize("text", [*ODD, *CAPTIONS])
def test_odd_texts_have_the_ids_of_gpt_2s_tokeniser_in_lower_case(text):
    check(text)


@pytest.mark.parity
@given(st.text(max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_text_has_the_ids_of_gpt_2s_tokeniser(text):
    check(text)


def test_no_text_can_spell_the_padding():
    for text in (PADDING, "a" + PADDING, PADDING.upper()):
        assert SMALL.pad not in SMALL.encode(text) and SMALL.decode(SMALL.encode(text)) == text.lower()


def test_a_caption_fills_the_context_and_the_mask_says_where_text_stands():
    tokens = SMALL.batch(["a red cat", "", "x" * 40])
    assert tokens.shape == (3, 12) and tokens.dtype == torch.long
    mask = SMALL.mask(tokens)
    length = len(SMALL.encode("a red cat"))
    assert mask[0].tolist() == [True] * length + [False] * (12 - length)
    assert tokens[0, :length].tolist() == SMALL.encode("a red cat")       # neither start nor end
    assert tokens[1].tolist() == [SMALL.pad] * 12 and not mask[1].any()   # the empty text: how one is dropped
    assert tokens[2].tolist() == SMALL.encode("x" * 40)[:12] and mask[2].all()     # cut, without an end
    assert SMALL.batch([], 5).shape == (0, 5) and SMALL.batch(["a"], 3).shape == (1, 3)


def test_padding_is_the_last_of_256_bytes_merges_and_itself():
    assert len(SMALL) == 256 + 60 + 1 and SMALL.pad == 316
    assert SMALL.words[:256] == list(byte_letters().values()) and SMALL.words[-1] == PADDING
    assert 256 + MERGES + 1 == 50_257                      # those of the released model


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_text_comes_back_in_lower_case(text):
    lower = text.lower()
    if lower.encode("utf-8", "replace").decode("utf-8", "replace") == lower:
        assert SMALL.decode(SMALL.encode(text)) == lower
        assert SMALL.decode(SMALL.batch([text], 400)[0]) == lower


def test_with_merges_enough_every_word_is_one_token():
    full = GLIDETokeniser.train(CAPTIONS, 1000)
    assert full.context == 128 and len(full) < 1257        # it ends when nothing is left to be joined
    assert full.spelt_out("the red cat sits") == []
    assert full.spelt_out("The red zebra, a cat") == ["zebra"]
    words = [full.words[i] for i in full.encode("the red cat")]
    assert words == ["the", "Ġred", "Ġcat"]                # a word takes the space before it along


def test_it_travels_and_is_rebuilt_from_its_merges():
    again = pickle.loads(pickle.dumps(SMALL))
    assert again.encode(CAPTIONS[0]) == SMALL.encode(CAPTIONS[0]) and again.context == 12
    described = {"merges": [list(pair) for pair in SMALL.merges]}
    assert GLIDETokeniser.of(described, "x.json", 12).encode("it's a cat") == SMALL.encode("it's a cat")
    for wrong in ({}, {"merges": [["a"]]}, {"merges": [[1, 2]]}, {"merges": "ab"}):
        with pytest.raises(ValueError, match=r"x\.json has no merges"):
            GLIDETokeniser.of(wrong, "x.json", 12)


def test_the_released_list_is_read_from_its_file_and_from_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "vocab.bpe"
    lines = [f"{a} {b}" for a, b in SMALL.merges]
    file.write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds 60 merges, GPT-2 has 50000"):
        GLIDETokeniser.load(file)
    monkeypatch.setattr(glide_tokeniser, "MERGES", 2)
    file.write_text("#version: 0.2\nĠ t\nĠ a\n", encoding="utf-8")
    found = GLIDETokeniser.load(file)
    assert found.merges == [("Ġ", "t"), ("Ġ", "a")] and found.encode(" a t") == [257, 256]
    file.write_text("Ġ t\nĠ a b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'Ġ a b', which is no pair"):
        GLIDETokeniser.load(file)
    with pytest.raises(FileNotFoundError, match="openaipublic"):
        GLIDETokeniser.load(tmp_path / "none.bpe")


def test_the_released_list_is_downloaded_once_and_checked(tmp_path, monkeypatch):
    asked = []

    def download(remote, target):
        asked.append((remote, target))
        target.write_text("#version: 0.2\nĠ t\nĠ a\n", encoding="utf-8")
        return target

    monkeypatch.setattr(glide_tokeniser, "download", download)
    monkeypatch.setattr(glide_tokeniser, "MERGES", 2)
    assert len(GLIDETokeniser.released(folder=tmp_path)) == 259
    assert asked == [(GPT2, tmp_path / "vocab.bpe")] and len(GPT2.sha256) == 64


def test_a_context_without_room_is_refused():
    with pytest.raises(ValueError, match="context is 0"):
        GLIDETokeniser([], 0)
