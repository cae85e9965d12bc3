"""WordPiece: words of a text, pieces of a word, and how pieces are learnt."""

import pickle
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmlearn.data.tokenisers import WordPieceTokeniser
from mmlearn.data.wordpiece import (
    SPECIALS,
    WordPiece,
    basic_words,
    joined,
    learn_pieces,
    longest_first,
    without_accents,
)

TEXTS = ["A red cat sits on the mat.", "The dog isn't near the cat!", "two dogs, one cat; a well-lit house",
         "a bird over the sea", "unaffable, unable, able: unaffected", "Ein Mädchen trägt Äpfel"]
PIECES = WordPiece.train(TEXTS * 3, size=110)
NASTY = [
    "Unbelievable CATS' dög — 42!", "", "   ", "\t\n\r", "猫 and dog", "猫犬dog",
    "ab\x00c\ufffdd", "a\u200bb", "a\u00a0b\u3000c", "x\u2028y\u2029z", "l\u2019été",
    "Ça coûte 5 $ + 3 € = 8^2 ~ `tick`", "İstanbul", "e\u0301a\u0300\u0323", "\u0301",
    "ﬁne ﬀ ½", "한국어 텍스트", "ひらがなカタカナ", "a" * 99, "a" * 100, "a" * 101, "a" * 200,
    "...---...", "don't_stop-now", "a\x0bb\x0cc\x1cd\x85e",
    "«quoted» “double” ‘single’ ¿que?", "\u00adsoft\u00adhyphen", "𠀀𪜀", "cat" * 40,
    "##able able##", "naïve Straße ẞ", "a\u0338b", "Ω Å K", "१२३ ٣",
    "un able unable\u00a0unaffable",
]


def reference(words=None, lowercase=True):
    """The same vocabulary in the library's parts, without added tokens that a text could spell."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(words or PIECES.words)}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda text: inner.encode(text).ids


# ------------------------------------------------------------------------------------------------------ words

def test_the_words_of_a_text_are_those_of_the_released_rules():
    assert basic_words("Hello,\tWORLD!") == ["hello", ",", "world", "!"]
    assert basic_words("Ça\u00a0coûte 5$") == ["ca", "coute", "5", "$"]
    assert basic_words("猫犬 und") == ["猫", "犬", "und"]
    assert basic_words("a\x00b\ufffdc\u200bd") == ["abcd"]
    assert basic_words("Käse Été", lowercase=False) == ["Käse", "Été"]
    assert basic_words("\u0301 x") == ["x"]
    assert basic_words("don't [SEP]") == ["don", "'", "t", "[", "sep", "]"]


def test_accents_go_and_letters_stay():
    assert without_accents("café Åß") == "cafe Aß"
    assert without_accents("e\u0323\u0302") == "e"


# ----------------------------------------------------------------------------------------------------- pieces

KNOWN = {"un", "##aff", "##able", "##a", "able", "a", "##ble", "##f"}


def test_a_word_is_cut_into_the_longest_known_pieces():
    assert longest_first("unaffable", KNOWN) == ["un", "##aff", "##able"]
    assert longest_first("able", KNOWN) == ["able"]
    assert longest_first("unfa", KNOWN) == ["un", "##f", "##a"]


def test_one_piece_that_is_missing_makes_the_whole_word_unknown():
    assert longest_first("unaffables", KNOWN) is None
    assert longest_first("ble", KNOWN) is None                           # known inside a word alone


def test_greed_may_fail_where_another_cut_would_not():
    known = {"ab", "a", "##bc"}
    assert longest_first("abc", known) is None                           # "ab" is taken, "##c" is not there
    assert longest_first("abc", known - {"ab"}) == ["a", "##bc"]


def test_a_word_has_a_longest_length_that_the_two_programs_set_apart():
    known = {"a", "##a"}
    assert len(longest_first("a" * 100, known)) == 100
    assert longest_first("a" * 101, known) is None
    assert len(longest_first("a" * 200, known, longest=200)) == 200      # of the released code


@pytest.mark.parity
@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_the_library_on_nasty_texts(lowercase):
    theirs = reference(lowercase=lowercase)
    ours = WordPiece(PIECES.words, lowercase=lowercase)
    for text in (*TEXTS, *NASTY):
        assert ours.encode(text) == theirs(text), text


@pytest.mark.parity
def test_ids_are_those_of_transformers_on_texts_that_spell_no_token(tmp_path):
    from transformers import BertTokenizer

    PIECES.save(tmp_path / "vocab.txt")
    theirs = BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    for text in (*TEXTS, *NASTY):
        assert PIECES.encode(text, add_special=True) == theirs(text)["input_ids"], text


# Latin, Greek, Cyrillic, signs of punctuation, Chinese; without letters that a table may not know, and the
# Greek s, which Python spells in another way at the end of a word
LETTERS = st.one_of(*(st.characters(min_codepoint=low, max_codepoint=high, exclude_characters="Σσς",
                                    exclude_categories=("Cn", "Co", "Cs"))
                      for low, high in ((0, 0x52F), (0x2000, 0x206F), (0x4E00, 0x4E20))))


@pytest.mark.parity
def test_ids_are_those_of_the_library_on_any_text():
    theirs = reference()

    @given(st.text(LETTERS, max_size=30))
    @settings(max_examples=200, deadline=None)
    def agree(text):
        assert PIECES.encode(text) == theirs(text)

    agree()


def test_a_final_sigma_and_a_private_letter_are_read_as_the_released_code_reads_them():
    assert basic_words("ΟΔΟΣ") == ["οδος"]                               # Python knows the end of a word
    assert basic_words("a\ue000b") == ["a\ue000b"]                       # private use: no control letter


# --------------------------------------------------------------------------------------------------- learning

def naive_pieces(counts, size, min_count):
    """The same, counting all pairs anew each time."""
    spelt = {word: [word[0], *("##" + c for c in word[1:])] for word in counts}
    known = sorted({p for pieces in spelt.values() for p in pieces})
    while len(known) < size:
        pairs = Counter()
        for word, pieces in spelt.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < min_count:
            break
        piece = best[0] + best[1][2:]
        if piece not in known:
            known.append(piece)
        for word, pieces in spelt.items():
            out = []
            for p in pieces:
                if out and (out[-1], p) == best:
                    out[-1] = piece
                else:
                    out.append(p)
            spelt[word] = out
    return known


@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 9), min_size=1, max_size=8),
       st.integers(6, 30), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
@example({"aaaa": 3, "aaa": 2}, 12, 1)
def test_pieces_are_learnt_as_if_all_pairs_were_counted_each_time(counts, size, min_count):
    assert learn_pieces(counts, size, min_count) == naive_pieces(counts, size, min_count)


def test_a_pair_becomes_one_piece_wherever_it_stands():
    assert joined(["a", "##a", "##a", "##b"], ("##a", "##a")) == ["a", "##aa", "##b"]
    assert joined(["a", "##a", "##a", "##a"], ("##a", "##a")) == ["a", "##aa", "##a"]


def test_what_is_learnt_is_the_same_each_time():
    again = WordPiece.train(reversed(TEXTS * 3), size=110)
    assert again.words == PIECES.words and len(PIECES) == 110 and PIECES.words[:5] == list(SPECIALS)


@pytest.mark.parity
def test_with_room_enough_every_word_is_one_piece_here_and_in_the_library():
    words = {word for text in TEXTS for word in basic_words(text)}
    for kind in (WordPiece, WordPieceTokeniser):                         # which pairs come first may differ
        assert words <= set(kind.train(TEXTS * 3, size=1000).words)


def test_every_word_of_the_texts_is_known():
    assert all(PIECES.unk not in PIECES.encode(text) for text in TEXTS)


# -------------------------------------------------------------------------------------------------- tokeniser

def test_a_text_cannot_spell_a_special_token():
    assert not {PIECES.eos, PIECES.mask, PIECES.bos} & set(PIECES.encode("[SEP] [MASK] [CLS]"))


def test_words_are_told_with_their_pieces_and_come_back():
    text = "unaffable cats"
    words = PIECES.split(text)
    assert [word for word, _ in words] == ["unaffable", "cats"]
    assert [i for _, ids in words for i in ids] == PIECES.encode(text)
    assert PIECES.decode(PIECES.encode(text, add_special=True)) == text
    assert "".join(p.removeprefix("##") for p in PIECES.pieces("unaffable")) == "unaffable"


def test_a_vocabulary_is_written_and_read(tmp_path):
    PIECES.save(tmp_path / "vocab.txt")
    again = WordPiece.load(tmp_path / "vocab.txt")
    assert again.words == PIECES.words and again.special == (0, 2, 3) and again.mask == 4
    assert WordPieceTokeniser.from_vocab(tmp_path / "vocab.txt").words == PIECES.words
    assert pickle.loads(pickle.dumps(again)).encode(TEXTS[0]) == PIECES.encode(TEXTS[0])


@pytest.mark.parametrize("words, message", [
    ([*SPECIALS, "a", "a"], "lists 'a' twice"),
    ([*SPECIALS[:4], "a"], "lacks \\[MASK\\]"),
    (["", *SPECIALS, ""], "lists '' twice"),
])
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, words, message):
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    with pytest.raises(ValueError, match=rf"vocab\.txt.* {message}"):
        WordPiece.load(tmp_path / "vocab.txt")


def test_bad_requests_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match="3 pieces are asked for, and the letters alone are 4"):
        learn_pieces({"abcd": 3}, 3)
    with pytest.raises(ValueError, match="the texts hold no words"):
        WordPiece.train(["", " "])
    with pytest.raises(FileNotFoundError, match="give the vocab.txt of a BERT"):
        WordPiece.load(tmp_path / "none.txt")
