"""The miniature's language model: its texts, its training, what it knows, and its files."""

import math

import numpy as np
import pytest
import torch

from mmlearn.both_modalities.few_shot import score_answers
from mmlearn.both_modalities.interleaved import NONSENSE, Example
from mmlearn.both_modalities.language_model import (
    TextBatches,
    all_examples,
    binding_text,
    freeze_,
    judge_lm,
    lm_objective,
    lm_tokeniser,
    load_lm,
    perplexity,
    save_lm,
    train_lm,
    unigram_loss,
)
from mmlearn.data.pairs import scene_pairs
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig


@pytest.fixture(scope="module")
def said():
    """What is said of twelve scenes, and its words."""
    data = scene_pairs(12, "train", size=16)
    return all_examples(data), lm_tokeniser(data)


def small(tokeniser, **more):
    torch.manual_seed(0)
    return CausalLM(CausalLMConfig(len(tokeniser), 128, 32, 2, 2, 64, "rotary", "gelu", **more))


@pytest.mark.equation("eq:lm-perplexity")
def test_who_knows_nothing_is_in_doubt_between_all_words():
    assert float(perplexity(torch.tensor(math.log(50)))) == pytest.approx(50, abs=1e-3)
    assert float(perplexity(torch.tensor(0.0))) == 1.0


def test_every_word_that_is_said_is_known(said):
    examples, of = said
    assert all(of.unk not in of.encode(f"{e.request} {e.answer}") for e in examples)
    assert all(of.unk not in of.encode(word) for word in NONSENSE)
    assert {"output", "question", "answer", "instruction"} <= set(of.words)


def test_a_thing_has_one_word_on_a_page_and_another_on_the_next():
    words = set()
    for seed in range(10):
        page = binding_text(NONSENSE, ("cat", "dog", "sun"), np.random.default_rng(seed), 2, 3)
        assert len(page) == 6
        bound = {e.request: e.answer for e in page}
        assert len(bound) == 2 and all(bound[e.request] == e.answer for e in page)
        words |= set(bound.items())
    assert len(words) > 10


def test_batches_of_text_follow_from_their_number_and_are_cut_at_the_context(said):
    examples, of = said
    batches = TextBatches(examples, of, 8, context=40, seed=2)
    one, two = batches[3], TextBatches(examples, of, 8, context=40, seed=2)[3]
    assert torch.equal(one.tokens, two.tokens)
    assert not torch.equal(one.tokens[:, :9], batches[4].tokens[:, :9])
    assert one.tokens.shape[1] <= 40 and (one.tokens[:, 0] == of.bos).all()
    silent = torch.isin(one.tokens, torch.tensor([of.pad, of.bos, of.image]))
    assert torch.equal(one.scored, ~silent) and (one.tokens == of.image).any()
    with pytest.raises(ValueError, match="a share is between 0 and 1"):
        TextBatches(examples, of, 8, binding=2.0)


def test_repeated_pages_say_random_words_again_in_their_order_and_the_repetitions_count(said):
    examples, of = said
    batch = TextBatches(examples, of, 8, context=64, repeated=0.5, seed=1)[0]
    for tokens, scored in zip(batch.tokens[:4].tolist(), batch.scored[:4].tolist()):
        period = scored.index(True) - 1
        assert tokens[0] == of.bos and 3 <= period <= 32 and len(set(tokens[1:period + 1])) == period
        assert all(scored[period + 1:64]) and min(tokens[1:64]) > of.image
        assert tokens[period + 1:64] == tokens[1:64 - period]
    assert (batch.scored[4:, 1] | (batch.tokens[4:, 1] == of.image)).all()      # of other pages all counts
    with pytest.raises(ValueError, match="a share is between 0 and 1"):
        TextBatches(examples, of, 8, repeated=-0.1)


def test_the_objective_weighs_a_batch_by_its_tokens(said):
    examples, of = said
    batch = TextBatches(examples, of, 4)[0]
    loss, scalars = lm_objective(small(of), batch)
    assert float(loss.detach()) == pytest.approx(math.log(len(of)), abs=0.2)
    assert int(scalars["weight"]) == int(batch.scored.sum())          # <bos> is never scored


def test_training_beats_who_counts_words_and_a_stopped_run_goes_on(said, tmp_path):
    examples, of = said
    held = TextBatches(examples, of, 16, context=128, seed=99)
    lm = small(of)
    before = judge_lm(lm, held)
    history = train_lm(lm, examples, of, steps=60, batch=8, lr=5e-3, progress=False, folder=tmp_path / "run")
    after = judge_lm(lm, held)
    assert before["perplexity"] == pytest.approx(len(of), rel=0.3)
    assert after["loss"] < unigram_loss(held) < before["loss"]
    assert after["perplexity"] == pytest.approx(math.exp(after["loss"]), rel=1e-4)
    assert after["accuracy"] > 0.3 and len(history.loss) == 60
    again = small(of)
    train_lm(again, examples, of, steps=60, batch=8, lr=5e-3, progress=False, folder=tmp_path / "run")
    for a, b in zip(lm.parameters(), again.parameters()):
        assert torch.equal(a, b)


def test_a_few_questions_are_answered_by_heart(said):
    _, of = said
    facts = [Example("Question: What colour is the cat? Answer:", "red"),
             Example("Question: What colour is the dog? Answer:", "blue"),
             Example("Question: Where is this? Answer:", "in a room")]
    lm = small(of)
    train_lm(lm, facts, of, steps=140, batch=3, lr=1e-2, most=1, binding=0.0, progress=False)
    judged = score_answers(lm, [[fact] for fact in facts], ["red", "blue", "in a room", "two"], of)
    assert judged.accuracy == 1.0


def test_a_frozen_model_has_nothing_to_train(said):
    lm = freeze_(small(said[1]))
    assert not lm.training and not any(p.requires_grad for p in lm.parameters())


def test_a_model_is_saved_with_its_words_and_read_again(said, tmp_path):
    examples, of = said
    lm = small(of).eval()
    save_lm(tmp_path / "lm.safetensors", lm, of, {"steps": 3})
    saved = load_lm(tmp_path / "lm.safetensors")
    tokens = TextBatches(examples, of, 2)[0].tokens
    with torch.no_grad():
        torch.testing.assert_close(saved.model(tokens), lm(tokens), atol=2e-2, rtol=2e-2)   # 16 bits a number
    assert saved.tokeniser.words == of.words and saved.about["steps"] == 3 and "words" not in saved.about
    with pytest.raises(FileNotFoundError, match="train one with train_lm"):
        load_lm(tmp_path / "none.safetensors")
