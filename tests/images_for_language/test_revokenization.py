"""Revokenization: each target token gets the voken of the source token that covers most of it."""

import random

import pytest

from mmlearn.data.tokenisers import BPETokeniser, WordPieceTokeniser, WordTokeniser
from mmlearn.images_for_language.revokenization import (
    Revokenizer,
    align,
    ids_and_spans,
    overlap,
    revokenise,
    text_and_spans,
    text_of_bytes,
    text_of_pieces,
)

TEXTS = ["a lovely cat, is sitting here.", "the naïve café's façade", "日本の猫 🐈 sleeps", "cats"] * 3


def tokenisers():
    return (WordPieceTokeniser.train(TEXTS, size=90, min_count=1),
            BPETokeniser.train(TEXTS, size=300, min_count=1))


@pytest.mark.equation("eq:voken-iou")
@pytest.mark.parametrize("a, b, want", [
    ((0, 4), (0, 4), 1.0), ((0, 4), (2, 6), 2 / 6), ((0, 2), (2, 4), 0.0), ((1, 3), (0, 8), 2 / 8),
    ((3, 3), (3, 3), 0.0), ((0, 3), (3, 3), 0.0)])
def test_overlap_is_the_shared_part_of_all_characters(a, b, want):
    A, B = set(range(*a)), set(range(*b))
    assert overlap(a, b) == overlap(b, a) == pytest.approx(want)
    assert overlap(a, b) == (len(A & B) / len(A | B) if A | B else 0.0)


def cuts(dice, length):
    """Neighbouring spans that cover most of ``length`` characters, some with a gap before them."""
    ends = sorted({dice.randrange(1, length) for _ in range(dice.randrange(1, 9))} | {length})
    spans, start = [], 0
    for end in ends:
        gap = dice.random() < 0.3 and end - start > 1
        spans.append((start + gap, end))
        start = end
    return spans


@pytest.mark.equation("eq:voken-align")
def test_two_pointers_find_what_trying_all_source_tokens_finds():
    dice = random.Random(0)
    for _ in range(300):
        length = dice.randrange(2, 30)
        source, target = cuts(dice, length), cuts(dice, length)
        got = align(source, target)
        assert got == sorted(got)                                   # as texts go
        for span, place in zip(target, got):
            values = [overlap(one, span) for one in source]
            assert values[place] == max(values)
            if max(values):
                assert place == values.index(max(values))


def test_the_example_of_the_released_code():
    """I have a lovely cat: "I ha ve a lov ely c at." against "I hav e a lo ve ly cat."."""
    target = [(0, 1), (2, 4), (4, 6), (7, 8), (9, 12), (12, 15), (16, 17), (17, 20)]
    source = [(0, 1), (2, 5), (5, 6), (7, 8), (9, 11), (11, 13), (13, 15), (16, 20)]
    assert align(source, target) == [0, 1, 2, 3, 4, 6, 7, 7]


def test_a_token_that_nothing_covers_gets_the_next_ones_voken():
    assert align([(0, 2), (5, 7)], [(0, 2), (3, 4), (8, 9)]) == [0, 1, 1]
    assert align([(0, 2)], []) == [] and align([(0, 2)], [(5, 6)]) == [0]
    with pytest.raises(ValueError, match="there is no source token"):
        align([], [(0, 1)])
    with pytest.raises(ValueError, match=r"target token 1 has .* 0 to 1, the one before \(2, 3\)"):
        align([(0, 2)], [(2, 3), (0, 1)])


def test_where_the_tokenisers_coincide_nothing_changes():
    words, byte = tokenisers()
    for tokeniser in (words, byte):
        asked = []

        def vokenise(texts, asked=asked):
            asked.extend(texts)
            return [[100 * i + j for j in range(len(ids))] for i, ids in enumerate(texts)]
        ids = [tokeniser.encode(text) for text in TEXTS[:4]]
        again = Revokenizer(vokenise, tokeniser, tokeniser)(ids)
        assert asked == ids and again == [[100 * i + j for j in range(len(row))] for i, row in enumerate(ids)]


def test_the_spans_of_word_pieces_and_bytes_are_those_of_the_library():
    for tokeniser in tokenisers():
        for text in TEXTS[:4]:
            ids, _ = ids_and_spans(tokeniser, text)
            written, spans = text_and_spans(tokeniser, ids)
            again, theirs = ids_and_spans(tokeniser, written)
            assert again == ids and spans == theirs
            assert isinstance(tokeniser, WordPieceTokeniser) or written == text


def test_a_character_of_several_bytes_belongs_to_each_token_that_has_one_of_them():
    letters = [chr(ord(c)) for c in "ĠðŁĲĪ"]                        # a space and the four bytes of a cat
    text, spans = text_of_bytes(letters)
    assert text == " 🐈" and spans == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2)]
    assert text_of_bytes(["Ġa", "", "b"]) == (" ab", [(0, 2), (2, 2), (2, 3)])
    broken, spans = text_of_bytes(["a", "ðŁ", "b"])                 # half a character is no text
    assert broken == "a\N{REPLACEMENT CHARACTER}b" and spans == [(0, 1), (1, 2), (2, 3)]
    with pytest.raises(ValueError, match="'猫' stands for no byte"):
        text_of_bytes(["猫"])


def test_words_of_pieces_stand_apart_and_their_ends_are_joined():
    assert text_of_pieces(["a", "love", "##ly", "cat", "."]) == (
        "a lovely cat .", [(0, 1), (2, 6), (6, 8), (9, 12), (13, 14)])
    assert text_of_pieces(["##s", "##"])[0] == "s ##" or text_of_pieces(["##s", "##"])[0] == "##s ##"


def test_bytes_get_the_vokens_of_the_word_pieces_that_cover_them():
    words, byte = tokenisers()
    ids = [byte.encode("a lovely cat is here.")]

    def vokenise(texts):
        return [[hash_of(words.inner.id_to_token(i)) for i in text] for text in texts]

    def hash_of(piece):
        return sum(map(ord, piece))
    got = Revokenizer(vokenise, words, byte)(ids)[0]
    text, here = text_and_spans(byte, ids[0])
    read, there = ids_and_spans(words, text)
    assert len(got) == len(ids[0])
    for (start, end), voken in zip(here, got):
        best = max(range(len(read)), key=lambda j: (overlap(there[j], (start, end)), -j))
        assert voken == hash_of(words.inner.id_to_token(read[best]))


def test_a_voken_a_token_and_a_known_tokeniser_are_asked_for():
    with pytest.raises(ValueError, match="2 vokens for 1 source tokens"):
        revokenise([1, 2], [(0, 1)], [(0, 1)])
    words = WordTokeniser.train(["a cat"])
    with pytest.raises(ValueError, match="WordTokeniser does not say where its tokens stand"):
        text_and_spans(words, [4])
    with pytest.raises(ValueError, match="WordTokeniser does not say where its tokens stand"):
        ids_and_spans(words, "a cat")
