"""The figures of BERT and of self-attention show what the code does."""

import re

import pytest
import torch
from figure_parts import check_texts, drawing, frames, text_boxes, texts

from mmlearn.data.wordpiece import WordPiece
from mmlearn.figures.diagram import Diagram
from mmlearn.figures.images_for_language import bert
from mmlearn.figures.interactive import LIMIT
from mmlearn.images_for_language.bert import IGNORED
from mmlearn.nn.bert import BERTConfig

PAIR = "a red cat sits on the left of a tall green tree", "two birds fly by the sea at night"
TOKENS = WordPiece.train([*PAIR, "the dog sees a cat", "a blue house at night"] * 2, 90)


@pytest.mark.parametrize("config", [BERTConfig.base(), BERTConfig.large(), BERTConfig.mini(pooler=True)])
def test_the_model_is_legible_and_shows_its_sizes(config):
    drawn = bert.pretraining(config)
    assert drawn.width <= 480 and len(drawn.alt) > 200 and "  " not in drawn.alt and "mm-new" in drawn.svg
    check_texts(drawn)
    said = " ".join(texts(drawn))
    assert f"{config.layers} encoder layers, {config.heads} heads" in said and f"8 × {config.width}" in said
    assert all(word in said for word in bert.READ)


def test_every_frame_of_masking_is_legible_and_shows_what_the_code_drew():
    shown = frames(bert.masking(*PAIR, TOKENS))
    assert len(shown) == 5
    ids = torch.tensor([TOKENS.bos, *TOKENS.encode(PAIR[0]), TOKENS.eos, *TOKENS.encode(PAIR[1]), TOKENS.eos])
    read, asked = bert.drawn_masks(ids, TOKENS)
    for frame in shown[1:]:                                            # the still one stands in another form
        check_texts(drawing(frame))
    said = [re.sub(r"<[^>]+>", "|", frame) for frame in shown]
    hidden = [TOKENS.words[i] for i in asked.tolist() if i != IGNORED]
    assert said[3].count("[MASK]") == int((read == TOKENS.mask).sum())
    assert said[4].count("|?|") == len(hidden) and all(f"|{word}|" in said[4] for word in hidden)
    assert f"0.15 · {len(ids)} = {0.15 * len(ids):.2f}: {len(hidden)} are chosen" in said[1]
    fates = [bert.fate(int(r), int(t), TOKENS.mask) for r, t, a in zip(read, ids, asked) if a != IGNORED]
    assert set(fates) == set(bert.FATES) and all(said[2].count(f"|{bert.FATES[f]}|") == fates.count(f)
                                                 for f in ("another", "kept"))


def test_a_pair_too_short_for_all_fates_is_drawn_all_the_same():
    assert len(frames(bert.masking("a cat", "the dog", TOKENS))) == 5


def test_in_any_order_each_token_reads_the_same_and_with_positions_not():
    block = bert.equivariance()
    assert len(block.html.encode()) < LIMIT
    without, with_places = frames(block)[::2], frames(block)[1::2]
    assert len(without) == len(with_places) == 6
    for frame in without:
        assert "in every order" in frame
        if "<svg" in frame:
            drawn = drawing(frame)
            check_texts(drawn)
            ends = [words for words, left, *_ in text_boxes(drawn) if left > 400 and "." in words]
            order = [words for words, left, top, *_ in text_boxes(drawn) if left < 60 and top > 50]
            assert dict(zip(order, ends)) == {"dog": "1.25", "sees": "1.50", "cat": "1.00"}
    assert all("depends on where it stands" in frame for frame in with_places)


def test_weights_and_rows_are_those_of_the_pencil():
    weights, read = bert.attended(torch.tensor([[1.0, 0.0], [2.0, 0.6931472], [0.0, 0.0]]))
    torch.testing.assert_close(weights, torch.tensor([[1, 2, 1], [1, 4, 1], [1, 1, 1]]) / torch.tensor(
        [[4.0], [6.0], [3.0]]))
    torch.testing.assert_close(read, torch.tensor([1.25, 1.5, 1.0]))
    assert isinstance(bert.pretraining(), Diagram)
