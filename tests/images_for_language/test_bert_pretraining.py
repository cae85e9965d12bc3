"""BERT's pre-training: what is hidden, the two heads, their losses, and the same numbers as transformers."""

import math
from dataclasses import replace

import pytest
import torch
from networks import count_blank, numbers, stirred

from mmlearn.images_for_language.bert import (
    IGNORED,
    IS_NEXT,
    IS_RANDOM,
    BERTForPreTraining,
    MLMHead,
    Scores,
    choose_exactly,
    choose_independently,
    corrupt,
    mask_tokens,
    mlm_loss,
    nsp_loss,
    pretraining_loss,
    word_scores,
)
from mmlearn.nn.bert import BERTConfig, pooled_state
from mmlearn.nn.transformer import GELU, gelu, gelu_tanh

SMALL = BERTConfig(50, 32, 16, 2, 2, 32)
PAD, CLS, SEP, MASK = 0, 2, 3, 4
SPECIAL = (PAD, CLS, SEP)


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def texts(rows=6, length=12, vocab=50):
    """[CLS] words [SEP], the last rows shorter than the others."""
    ids = torch.randint(5, vocab, (rows, length), generator=dice(1))
    ids[:, 0] = CLS
    for row in range(rows):
        end = length - row % 4
        ids[row, end - 1], ids[row, end:] = SEP, PAD
    return ids


def model(config=SMALL, spread=0.2):
    torch.manual_seed(0)
    return stirred(BERTForPreTraining(config), scale=spread).eval()


# ---------------------------------------------------------------------------------------------------- masking

@pytest.mark.equation("eq:bert-choose")
def test_as_many_tokens_are_chosen_as_the_released_rule_says():
    for length in range(3, 40):
        ids = torch.full((1, 40), PAD)
        ids[0, :length] = 9
        ids[0, 0], ids[0, length - 1] = CLS, SEP
        chosen = choose_exactly(ids == 9, torch.tensor([length]), 0.15, dice())
        assert int(chosen.sum()) == min(max(1, round(0.15 * length)), length - 2)
        assert not chosen[0, 0] and not chosen[0, length - 1:].any()
    every = torch.ones(3, 100, dtype=torch.bool)
    limited = choose_exactly(every, torch.full((3,), 100), 0.15, dice(), most=7)
    assert limited.sum(dim=1).tolist() == [7, 7, 7]


def test_every_token_is_as_likely_to_be_chosen_by_either_rule():
    candidates = torch.ones(20_000, 10, dtype=torch.bool)
    candidates[:, 0] = False
    lengths = torch.full((20_000,), 10)
    exact = choose_exactly(candidates, lengths, 0.3, dice())
    alone = choose_independently(candidates, lengths, 0.3, dice())
    assert (exact.sum(dim=1) == 3).all() and alone.sum(dim=1).float().std() > 1
    assert not exact[:, 0].any() and not alone[:, 0].any()
    torch.testing.assert_close(exact.float().mean(dim=0)[1:], torch.full((9,), 3 / 9), atol=0.015, rtol=0)
    torch.testing.assert_close(alone.float().mean(dim=0)[1:], torch.full((9,), 0.3), atol=0.015, rtol=0)


@pytest.mark.equation("eq:bert-mask")
def test_e10_eight_in_ten_are_hidden_one_is_another_word_one_stays_and_all_are_asked():
    ids = torch.randint(5, 1000, (400, 100), generator=dice(3))
    inputs, labels = mask_tokens(ids, SPECIAL, 1000, MASK, dice(4))
    asked = labels != IGNORED
    assert (asked.sum(dim=1) == 15).all()                                # of every text of 100 tokens
    assert torch.equal(labels[asked], ids[asked])                        # even where the word is shown
    assert torch.equal(inputs[~asked], ids[~asked])
    shares = {"hidden": (inputs == MASK), "same": (inputs == ids) & asked}
    hidden, same = (float(share.float().mean()) for share in shares.values())
    other = float(((inputs != ids) & (inputs != MASK)).float().mean())
    assert hidden == pytest.approx(0.12, abs=0.004)                      # of all tokens: 12, 1.5 and 1.5 %
    assert same == pytest.approx(0.015, abs=0.002) and other == pytest.approx(0.015, abs=0.002)


def test_another_word_may_be_any_of_the_vocabulary_even_a_special_one():
    ids = torch.full((200, 100), 9)
    inputs = corrupt(ids, torch.ones_like(ids, dtype=torch.bool), 8, MASK, dice())
    others = inputs[(inputs != MASK) & (inputs != 9)]
    assert others.unique().tolist() == [0, 1, 2, 3, 5, 6, 7]             # and MASK, among the eight
    assert len(others) / ids.numel() == pytest.approx(0.1 * 7 / 8, abs=0.005)


def test_masks_follow_from_the_generator_and_leave_what_they_were_given():
    ids = texts()
    before = ids.clone()
    one, two = (mask_tokens(ids, SPECIAL, 50, MASK, dice(7)) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1]) and torch.equal(ids, before)
    assert not torch.equal(one[1], mask_tokens(ids, SPECIAL, 50, MASK, dice(8))[1])
    special = (ids == PAD) | (ids == CLS) | (ids == SEP)
    assert (one[1][special] == IGNORED).all() and torch.equal(one[0][special], ids[special])
    alone = mask_tokens(ids[:, :3], SPECIAL, 50, MASK, dice(1), rate=0.01, choose=choose_independently)
    assert (alone[1] == IGNORED).all()                                   # a text may have no question


@pytest.mark.parametrize("more, message", [
    ({"rate": 0.0}, "rate is 0.0"), ({"rate": 1.5}, "rate is 1.5"),
    ({"mask_id": 50}, "mask_id is 50, the vocabulary goes from 0 to 49")])
def test_a_mask_that_cannot_be_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        mask_tokens(texts(), **{"special": SPECIAL, "vocab": 50, "mask_id": MASK, **more})


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:gelu")
@pytest.mark.equation("eq:gelu-tanh")
def test_both_forms_of_gelu_are_the_formulas_and_lie_within_five_ten_thousandths():
    z = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    for i in range(0, 2001, 100):
        x = float(z[i])
        exact = x / 2 * (1 + math.erf(x / math.sqrt(2)))
        near = x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        assert float(gelu(z[i])) == pytest.approx(exact, abs=1e-12)
        assert float(gelu_tanh(z[i])) == pytest.approx(near, abs=1e-12)
    assert 4e-4 < float((gelu(z) - gelu_tanh(z)).abs().max()) < 5e-4
    assert torch.equal(GELU("tanh")(z), gelu_tanh(z)) and torch.equal(GELU()(z), gelu(z))
    with pytest.raises(ValueError, match="form 'fast' of GELU is unknown"):
        GELU("fast")


@pytest.mark.equation("eq:bert-pooler")
def test_the_pooler_is_a_layer_with_tanh():
    h, W, b = numbers(3, 4), numbers(4, 4, seed=1), numbers(4, seed=2)
    got = pooled_state(h, W, b)
    for i in range(3):
        for k in range(4):
            want = math.tanh(sum(float(h[i, j]) * float(W[j, k]) for j in range(4)) + float(b[k]))
            assert float(got[i, k]) == pytest.approx(want, abs=1e-12)


@pytest.mark.equation("eq:bert-words")
def test_a_word_is_told_by_the_row_it_enters_by():
    h, E, b = numbers(2, 3, 4), numbers(7, 4, seed=1), numbers(7, seed=2)
    got = word_scores(h, E, b)
    for i in range(2):
        for j in range(3):
            for w in range(7):
                want = sum(float(h[i, j, k]) * float(E[w, k]) for k in range(4)) + float(b[w])
                assert float(got[i, j, w]) == pytest.approx(want, abs=1e-12)


@pytest.mark.equation("eq:bert-mlm-head")
@pytest.mark.parametrize("form", ["erf", "tanh"])
def test_the_head_of_words_is_a_layer_gelu_normalisation_and_the_tied_matrix(form):
    words = torch.nn.Embedding(7, 4).double()
    head = stirred(MLMHead(BERTConfig(7, 8, 4, 1, 2, 8, gelu=form), words).double())
    h = numbers(3, 4)
    got = head(h)
    for i in range(3):
        W, b = head.dense.weight, head.dense.bias
        z = [sum(float(h[i, j]) * float(W[k, j]) for j in range(4)) + float(b[k]) for k in range(4)]
        z = [x / 2 * (1 + (math.erf(x / math.sqrt(2)) if form == "erf" else
                           math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))) for x in z]
        mean = sum(z) / 4
        spread = math.sqrt(sum((x - mean) ** 2 for x in z) / 4 + 1e-12)
        z = [(x - mean) / spread * float(head.norm.weight[k]) + float(head.norm.bias[k])
             for k, x in enumerate(z)]
        for w in range(7):
            want = sum(z[k] * float(words.weight[w, k]) for k in range(4)) + float(head.bias[w])
            assert float(got[i, w]) == pytest.approx(want, abs=1e-10)


@pytest.mark.equation("eq:bert-mlm")
@pytest.mark.equation("eq:bert-nsp")
@pytest.mark.equation("eq:bert-loss")
def test_the_losses_are_means_over_their_own_terms():
    logits, labels = numbers(2, 3, 5), torch.tensor([[1, IGNORED, 4], [IGNORED, 0, IGNORED]])
    terms = []
    for i, j, w in ((0, 0, 1), (0, 2, 4), (1, 1, 0)):
        total = sum(math.exp(float(x)) for x in logits[i, j])
        terms.append(-math.log(math.exp(float(logits[i, j, w])) / total))
    words = sum(terms) / 3
    assert float(mlm_loss(logits, labels)) == pytest.approx(words, abs=1e-12)
    pairs, following = numbers(2, 2, seed=1), torch.tensor([IS_NEXT, IS_RANDOM])
    next_terms = [-math.log(math.exp(float(row[n])) / (math.exp(float(row[0])) + math.exp(float(row[1]))))
                  for row, n in zip(pairs, (0, 1))]
    assert float(nsp_loss(pairs, following)) == pytest.approx(sum(next_terms) / 2, abs=1e-12)
    loss, parts = pretraining_loss(Scores(logits, pairs), labels, following)
    assert float(loss) == pytest.approx(words + sum(next_terms) / 2, abs=1e-12)
    assert set(parts) == {"mlm", "nsp"}
    assert float(pretraining_loss(Scores(logits, None), labels)[0]) == pytest.approx(words, abs=1e-12)


def test_without_any_question_the_loss_is_0_and_not_undefined():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = mlm_loss(logits, torch.full((2, 3), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0 and float(logits.grad.abs().max()) == 0
    assert float(mlm_loss(torch.empty(0, 5), torch.empty(0, dtype=torch.long))) == 0


def test_0_says_that_b_follows_and_1_that_it_is_random():
    assert (IS_NEXT, IS_RANDOM) == (0, 1)
    assert float(nsp_loss(torch.tensor([[9.0, -9.0]]), torch.tensor([IS_NEXT]))) < 1e-6


# -------------------------------------------------------------------------------------------------- the model

def formula(v, d, layers, context=512, segments=2):
    """Parameters of the encoder with its pooler, of the head of words, and of that of pairs."""
    encoder = v * d + context * d + segments * d + 2 * d + layers * (12 * d * d + 13 * d) + d * d + d
    return encoder, d * d + 3 * d + v, 2 * d + 2


@pytest.mark.parametrize("name, encoder, whole, words_alone", [
    ("base", 109_482_240, 110_106_428, 109_514_298),
    ("large", 335_141_888, 336_226_108, 335_174_458),
    ("small", 35_068_416, 35_363_644, 35_099_962)])
def test_the_published_sizes_have_the_published_number_of_parameters(name, encoder, whole, words_alone):
    config = getattr(BERTConfig, name)()
    assert count_blank(BERTForPreTraining, config) == whole
    assert count_blank(BERTForPreTraining, replace(config, pooler=False)) == words_alone
    parts = formula(config.vocab, config.width, config.layers)
    assert parts[0] == encoder and sum(parts) == whole
    assert words_alone == whole - parts[2] - config.width**2 - config.width


def test_the_matrix_of_words_is_one_tensor_in_a_model_in_a_file_and_in_a_copy():
    from copy import deepcopy

    bert = model()
    assert not any("tied" in name or name == "words.words.weight" for name in bert.state_dict())
    other = deepcopy(bert)
    assert other.words.tied[0] is other.bert.embed.words and other.words.tied[0] is not bert.bert.embed.words
    with torch.no_grad():
        other.bert.embed.words.weight.mul_(2)
    assert not torch.equal(other(texts()).words, bert(texts()).words)


def test_scores_of_chosen_positions_are_those_of_all_positions_there():
    bert, ids = model(), texts()
    inputs, labels = mask_tokens(ids, SPECIAL, 50, MASK, dice())
    chosen = labels != IGNORED
    everywhere, some = bert(inputs), bert(inputs, chosen)
    assert everywhere.words.shape == (6, 12, 50) and some.words.shape == (int(chosen.sum()), 50)
    assert everywhere.pairs.shape == (6, 2)
    torch.testing.assert_close(everywhere.words[chosen], some.words, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mlm_loss(everywhere.words, labels), mlm_loss(some.words, labels[chosen]))
    one = bert(inputs[1:2], chosen[1:2])                                 # a row stands alone
    torch.testing.assert_close(one.pairs[0], some.pairs[1], atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter_and_the_words_by_both_ways():
    bert, ids = model(), texts()
    inputs, labels = mask_tokens(ids, SPECIAL, 50, MASK, dice())
    scores = bert(inputs, labels != IGNORED, segments=(ids > 20).long())
    pretraining_loss(scores, labels[labels != IGNORED], torch.tensor([0, 1] * 3))[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in bert.parameters())
    absent = [i for i in range(50) if i not in inputs]
    assert absent and (bert.bert.embed.words.weight.grad[absent].abs().sum(dim=1) > 0).all()


def test_a_model_without_a_pooler_tells_words_alone():
    bert = model(replace(SMALL, pooler=False))
    scores = bert(texts())
    assert scores.pairs is None and bert.pairs is None
    assert pretraining_loss(scores, texts(), torch.zeros(6, dtype=torch.long))[1].keys() == {"mlm"}


def test_dropout_acts_in_training_alone():
    bert, ids = model(), texts()
    assert torch.equal(bert(ids).words, bert(ids).words)
    bert.train()
    assert not torch.equal(bert(ids).words, bert(ids).words)


def test_states_of_every_layer_are_told_and_the_last_are_the_output():
    bert, ids = model().bert, texts()
    states = list(bert.by_layer(ids))
    assert len(states) == 3 and torch.equal(states[0], bert.embed(ids)) and torch.equal(states[-1], bert(ids))


# ----------------------------------------------------------------------------------------------------- parity

def theirs_of(ours, gelu="gelu", pairs=True):
    """transformers' model with our weights, every name accounted for on both sides."""
    from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32, hidden_act=gelu)
    theirs = (BertForPreTraining if pairs else BertForMaskedLM)(config).eval()
    own, state = dict(ours.state_dict()), {}
    names = {"bert.embed.words.weight": "bert.embeddings.word_embeddings.weight",
             "bert.embed.positions.weight": "bert.embeddings.position_embeddings.weight",
             "bert.embed.segments.weight": "bert.embeddings.token_type_embeddings.weight"}
    both = {"bert.embed.norm": "bert.embeddings.LayerNorm",
            "words.norm": "cls.predictions.transform.LayerNorm",
            "words.dense": "cls.predictions.transform.dense"}
    if pairs:
        both |= {"pairs": "cls.seq_relationship", "bert.pooler": "bert.pooler.dense"}
    for i in range(2):
        ours_layer, their_layer = f"bert.layers.{i}.", f"bert.encoder.layer.{i}."
        for a, b in {"attention.out": "attention.output.dense",
                     "attention_norm": "attention.output.LayerNorm",
                     "feed_forward.inner": "intermediate.dense", "feed_forward.outer": "output.dense",
                     "feed_forward_norm": "output.LayerNorm"}.items():
            both[ours_layer + a] = their_layer + b
        for kind in ("weight", "bias"):
            thirds = own.pop(f"{ours_layer}attention.in_{kind}").chunk(3)
            for part, third in zip(("query", "key", "value"), thirds):
                state[f"{their_layer}attention.self.{part}.{kind}"] = third
    names |= {f"{a}.{kind}": f"{b}.{kind}" for a, b in both.items() for kind in ("weight", "bias")}
    for a, b in names.items():
        state[b] = own.pop(a)
    state["cls.predictions.bias"] = state["cls.predictions.decoder.bias"] = own.pop("words.bias")
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    assert not own
    theirs.load_state_dict(state)
    assert theirs.cls.predictions.decoder.weight is theirs.bert.embeddings.word_embeddings.weight
    return theirs


@pytest.mark.parity
@pytest.mark.parametrize("form, name", [("erf", "gelu"), ("tanh", "gelu_new")])
def test_scores_losses_and_gradients_are_those_of_transformers(form, name):
    ours = model(replace(SMALL, gelu=form))
    theirs = theirs_of(ours, name)
    ids, following = texts(), torch.tensor([0, 1, 1, 0, 1, 0])
    segments = (torch.arange(12) > 5).long().expand(6, -1) * (ids != PAD)
    inputs, labels = mask_tokens(ids, SPECIAL, 50, MASK, dice())
    want = theirs(input_ids=inputs, attention_mask=(ids != PAD).long(), token_type_ids=segments,
                  labels=labels, next_sentence_label=following)
    chosen = labels != IGNORED
    scores = ours(inputs, chosen, ids != PAD, segments)
    torch.testing.assert_close(scores.words, want.prediction_logits[chosen], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.pairs, want.seq_relationship_logits, atol=1e-5, rtol=1e-5)
    loss, _ = pretraining_loss(scores, labels[chosen], following)
    torch.testing.assert_close(loss, want.loss, atol=1e-5, rtol=1e-5)
    loss.backward()
    want.loss.backward()
    got = {name: p.grad for name, p in ours.named_parameters()}
    for a, b in {"bert.embed.words.weight": "bert.embeddings.word_embeddings.weight",
                 "bert.embed.positions.weight": "bert.embeddings.position_embeddings.weight",
                 "words.bias": "cls.predictions.bias", "pairs.weight": "cls.seq_relationship.weight",
                 "words.dense.weight": "cls.predictions.transform.dense.weight",
                 "bert.layers.0.feed_forward.inner.weight": "bert.encoder.layer.0.intermediate.dense.weight",
                 "bert.pooler.weight": "bert.pooler.dense.weight"}.items():
        torch.testing.assert_close(got[a], theirs.get_parameter(b).grad, atol=1e-5, rtol=1e-5)
    thirds = got["bert.layers.1.attention.in_weight"].chunk(3)
    for part, third in zip(("query", "key", "value"), thirds):
        their = theirs.get_parameter(f"bert.encoder.layer.1.attention.self.{part}.weight")
        torch.testing.assert_close(third, their.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_words_alone_are_scored_as_by_transformers():
    ours = model(replace(SMALL, pooler=False))
    theirs, ids = theirs_of(ours, pairs=False), texts()
    with torch.no_grad():
        want = theirs(input_ids=ids, attention_mask=(ids != PAD).long()).logits
        got = ours(ids).words
    torch.testing.assert_close(got[ids != PAD], want[ids != PAD], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_the_rule_of_independent_choices_is_that_of_transformers_collator():
    """The shares of either agree; the draws themselves do not, nor could they."""
    from transformers import BertTokenizer, DataCollatorForLanguageModeling

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(95))]
    collate = DataCollatorForLanguageModeling(BertTokenizer(vocab={w: i for i, w in enumerate(words)}))
    ids = torch.randint(5, 100, (100, 100), generator=dice(3))
    torch.manual_seed(0)
    found = collate([{"input_ids": row} for row in ids])
    ours = mask_tokens(ids, SPECIAL, 100, MASK, dice(4), choose=choose_independently)
    for inputs, labels in ((found["input_ids"], found["labels"]), ours):
        asked = labels != IGNORED
        assert float(asked.float().mean()) == pytest.approx(0.15, abs=0.012)
        assert float((inputs[asked] == MASK).float().mean()) == pytest.approx(0.8, abs=0.04)
        assert float((inputs[asked] == ids[asked]).float().mean()) == pytest.approx(0.1, abs=0.03)
