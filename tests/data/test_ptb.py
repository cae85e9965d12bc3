"""The caption tokeniser: measured behaviour, edge cases, and parity with the COCO evaluation's Java tool."""

import random
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlearn.data.ptb import PUNCTUATION, ptb_tokenise
from mmlearn.data.scenes import captions, sample_scene

MEASURED = [
    ("A man's dog isn't on the red-and-blue mat.", "a man 's dog is n't on the red-and-blue mat"),
    ("it's they're we've I'll he'd I'm", "it 's they 're we 've i 'll he 'd i 'm"),
    ("cannot gonna wanna gimme lemme gotta", "can not gon na wan na gim me lem me got ta"),
    ("Two dogs, one cat; and a bird: all here!", "two dogs one cat and a bird all here"),
    ("dogs,2 cats and 3,400 people at 7:30am", "dogs ,2 cats and 3,400 people at 7:30 am"),
    ("a U.S. flag on St. James St. at 5 p.m.", "a u.s. flag on st. james st. at 5 p.m."),
    ("No. 5 bus, no. bus", "no. 5 bus no bus"),
    ("a sign (old) and [new] {x}", "a sign -lrb- old -rrb- and -lsb- new -rsb- -lcb- x -rcb-"),
    ("a “quoted” word — and ‘this’ one...", "a quoted word and this one"),
    ("what?! what?? a cat.", "what ?! what ?? a cat"),
    ("a man’s 1.5-inch ½ black/white AT&T sign", "a man 's 1.5-inch 1/2 black/white at&t sign"),
    ('He said "hello" to the \'big\' dog.', "he said hello to the big dog"),
    ("A sign (red) reads [STOP] {now}", "a sign -lrb- red -rrb- reads -lsb- stop -rsb- -lcb- now -rcb-"),
    ("5:30 p.m. in the U.S.A.", "5:30 p.m. in the u.s.a."),
    ("a T.V. on a stand.", "a t.v. on a stand"),
    ("no.", "no"),
    ("Main St.", "main st."),
    ("$5 for 50% off & more", "$ 5 for 50 % off & more"),
    ("1/2 ... and/or w/o 3-d 10,000", "1/2 and/or w/o 3-d 10,000"),
    ("a man,woman", "a man woman"),
    ("1 red,2 blue", "1 red ,2 blue"),
    ("man...walking", "man walking"),
    ("yes?!", "yes ?!"),
    ("#23 @home a*b e+f g=h", "# 23 @home a * b e + f g = h"),
    ("90's '90s", "90 's '90s"),
    ("5'10\"", "5 10"),
    ("“smart” – dash — em…", "smart dash em"),
    ("coloured café", "coloured café"),
]
PIECES = """a the man woman dog cats riding on in with bicycle skateboard street pizza giraffe Frisbee
T-shirt x-ray red-and-blue black/white and/or five-year-old 10-foot 1.5-inch man's dogs' it's
they're isn't don't can't won't he'd we've I'll I'm cannot gonna o'clock o'brien 1990's 1970s 2
15 1,000 3.5 1/2 7:30 1st 4x4 2nd 50% $5 #1 100-meter "old" "stop sign" 'stop' “curly” man’s
``tick'' (left) [right] {both} Mr. Mrs. Dr. St. Mt. vs. etc. Ave. p.m. a.m. U.S. D.C. J. No. --
- — – , ; : & ! ? ... b&w AT&T café""".split()


@pytest.mark.parametrize(("caption", "tokens"), MEASURED)
def test_measured_rows_give_the_same_tokens(caption: str, tokens: str) -> None:
    assert ptb_tokenise(caption) == tokens.split()


@pytest.mark.parametrize("caption", ["", " ", "\n", "\t\x00\x1f", "\u2028\u2029", ". , ; !"])
def test_a_caption_without_words_has_no_tokens(caption: str) -> None:
    assert ptb_tokenise(caption) == []


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\t", "\x00", "\x85", "\u2028", "\u2029", "\u00a0"])
def test_control_characters_and_line_separators_are_spaces(separator: str) -> None:
    assert ptb_tokenise(f"a dog{separator}runs") == ["a", "dog", "runs"]


@given(st.text(max_size=60))
def test_no_token_is_empty_or_punctuation_or_contains_a_space(text: str) -> None:
    for token in ptb_tokenise(text):
        assert token and token not in PUNCTUATION and token.split() == [token]


@given(st.lists(st.sampled_from("a dog don't it's cannot red-and-blue 1,000 7:30 a.m. St. 1990's".split())))
def test_tokenising_the_tokens_again_changes_nothing(words: list[str]) -> None:
    once = ptb_tokenise(" ".join(words))
    assert ptb_tokenise(" ".join(once)) == once


def test_the_result_is_a_new_list_each_time() -> None:
    ptb_tokenise("a dog").append("cat")
    assert ptb_tokenise("a dog") == ["a", "dog"]


@pytest.mark.parity
@pytest.mark.skipif(shutil.which("java") is None, reason="the COCO evaluation's tokeniser needs Java")
def test_captions_get_the_tokens_of_the_official_tool() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    scenes = [caption for i in range(75) for caption in captions(sample_scene(0, i))][:300]
    generator = random.Random(0)
    mixed = [" ".join(generator.choices(PIECES, k=generator.randint(4, 14))) + " dog." for _ in range(300)]
    texts = ["", "", *scenes, " ", ".", "", *mixed, ""]             # also captions without words
    official = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    differing = [(text, official[i][0].split(), ptb_tokenise(text)) for i, text in enumerate(texts)]
    assert [row for row in differing if row[1] != row[2]] == []
