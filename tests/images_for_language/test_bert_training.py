"""How BERT is trained: pairs of sentences, batches, the released optimiser, runs that go on."""

import math
import random
from collections import Counter

import pytest
import torch
from networks import numbers

from mmlearn.data.wordpiece import WordPiece
from mmlearn.images_for_language.bert import IGNORED, IS_NEXT, IS_RANDOM, BERTForPreTraining
from mmlearn.images_for_language.bert_training import (
    BERTAdam,
    PretrainingBatches,
    adam_step_,
    bert_rate,
    bert_schedule,
    counting_accuracy,
    hidden,
    judge_bert,
    pair_texts,
    pairs_of,
    pretraining_objective,
    random_part,
    shortened,
    train_bert,
)
from mmlearn.nn.bert import BERTConfig
from mmlearn.train import parameter_groups

# documents of five sentences of three tokens: token 100 d + 10 s + i says where it comes from
DOCUMENTS = [[[100 * d + 10 * s + i for i in range(3)] for s in range(5)] for d in range(1, 9)]
TEXTS = [["a red cat sits.", "the cat is red.", "one cat"], ["two dogs run far.", "the dogs are brown."],
         ["a boat on the sea.", "the sea is blue.", "one boat", "a blue sea"]] * 4
TOKENS = WordPiece.train([s for d in TEXTS for s in d], size=60)


def all_pairs(documents=DOCUMENTS, most=12, times=200, short=0.1, seed=0):
    dice = random.Random(seed)
    return [pair for _ in range(times) for d in range(len(documents))
            for pair in pairs_of(documents, d, most, dice, short)]


# ------------------------------------------------------------------------------------------------------ pairs

def test_b_follows_a_where_the_label_is_0_and_is_of_another_document_where_it_is_1():
    pairs = all_pairs(short=0.0)
    for first, second, label in pairs:
        own, other = ({token // 100 for token in part} for part in (first, second))
        assert len(own) == len(other) == 1 and (own == other) == (label == IS_NEXT)
        assert len(first) + len(second) <= 12
        if label == IS_NEXT and first[-1] % 10 == 2 and second[0] % 10 == 0:     # neither end was cut
            assert second[0] == first[-1] + 8
    assert {IS_NEXT, IS_RANDOM} == {pair.label for pair in pairs}


def test_p4_more_than_half_are_random_because_a_single_sentence_has_nothing_that_follows():
    share = Counter(pair.label for pair in all_pairs())[IS_RANDOM] / len(all_pairs())
    assert 0.5 < share < 0.75
    alone = [[sentence] for document in DOCUMENTS for sentence in document]
    assert all(pair.label == IS_RANDOM for pair in all_pairs(alone, times=2))    # a blank line after each


def test_what_a_random_part_replaced_is_used_in_the_next_pair():
    for seed in range(50):
        dice = random.Random(seed)
        pairs = list(pairs_of(DOCUMENTS, 0, 100, dice, short=0.0))
        seen = [token for first, second, label in pairs
                for token in (first if label == IS_RANDOM else [*first, *second])]
        assert seen == [token for sentence in DOCUMENTS[0] for token in sentence]


def test_p4_a_single_document_hands_out_its_own_sentences_as_random_ones():
    pairs = all_pairs(DOCUMENTS[:1], times=20)
    wrong = [p for p in pairs if p.label == IS_RANDOM and {t // 100 for t in p.second} == {1}]
    assert wrong and len(wrong) == sum(p.label == IS_RANDOM for p in pairs)


def test_a_random_part_begins_anywhere_and_is_long_enough():
    dice = random.Random(0)
    parts = [random_part(DOCUMENTS, 2, 7, dice) for _ in range(300)]
    assert {part[0] // 10 % 10 for part in parts} == set(range(5)) and {p[0] // 100 for p in parts} == \
        {1, 2, 4, 5, 6, 7, 8}
    assert all(len(part) >= 7 or part[-1] % 100 == 42 for part in parts)         # or the document ends


def test_the_longer_of_two_loses_its_ends():
    first, second = shortened(list(range(10)), list(range(100, 103)), 8, random.Random(0))
    assert second == [100, 101, 102] and len(first) == 5
    assert first == list(range(first[0], first[0] + 5))
    dice = random.Random(1)
    assert len({shortened(list(range(10)), [100], 8, dice)[0][0] for _ in range(40)}) > 1


def test_one_document_in_ten_is_cut_into_shorter_pairs():
    lengths = [len(f) + len(s) for f, s, _ in all_pairs(most=15, times=300)]
    full = sum(length >= 12 for length in lengths) / len(lengths)
    always = [len(f) + len(s) for f, s, _ in all_pairs(most=15, times=300, short=0.0)]
    assert full < sum(length >= 12 for length in always) / len(always)


def test_pairs_become_rows_with_segments_and_the_masks_know_what_is_special():
    texts = pair_texts(TEXTS, TOKENS, 16, copies=2, seed=1)
    assert texts.tokens.shape == texts.segments.shape == (len(texts), 16) and len(texts) > 20
    for row, kinds in zip(texts.tokens.tolist(), texts.segments.tolist()):
        end = max(i for i, token in enumerate(row) if token == TOKENS.eos)
        middle = row.index(TOKENS.eos)
        assert row[0] == TOKENS.bos and middle < end and row.count(TOKENS.eos) == 2
        assert set(row[end + 1:]) <= {TOKENS.pad}
        assert kinds == [0] * (middle + 1) + [1] * (end - middle) + [0] * (15 - end)
    again = pair_texts(TEXTS, TOKENS, 16, copies=2, seed=1)
    assert torch.equal(again.tokens, texts.tokens) and torch.equal(again.labels, texts.labels)


@pytest.mark.parametrize("documents, length, message", [
    (TEXTS, 4, "length is 4; a pair takes 5"), ([], 16, "the documents hold no words"),
    ([["", " "], []], 16, "the documents hold no words")])
def test_documents_that_make_no_pair_are_refused(documents, length, message):
    with pytest.raises(ValueError, match=message):
        pair_texts(documents, TOKENS, length)


# ---------------------------------------------------------------------------------------------------- batches

def test_a_batch_follows_from_its_number_and_every_epoch_has_other_masks():
    texts = pair_texts(TEXTS, TOKENS, 16)
    batches = PretrainingBatches(texts, 8, TOKENS, seed=3, shuffle=False)
    first, again, later = batches[0], batches[0], batches[len(batches)]
    for one, two in zip(first, again):
        assert torch.equal(one, two)
    assert torch.equal(first.segments, later.segments) and not torch.equal(first.labels, later.labels)
    asked = first.labels != IGNORED
    assert torch.equal(first.labels[asked], texts.tokens[:8][asked])
    assert torch.equal(first.real, texts.tokens[:8] != TOKENS.pad) and torch.equal(first.following,
                                                                                texts.labels[:8])


# -------------------------------------------------------------------------------------------------- optimiser

@pytest.mark.equation("eq:bert-adam")
def test_a_step_of_the_optimiser_is_the_formula():
    w, m, v = numbers(2, 3), torch.zeros(2, 3).double(), torch.zeros(2, 3).double()
    want = w.clone()
    mean = [[0.0] * 3 for _ in range(2)]
    square = [[0.0] * 3 for _ in range(2)]
    for step in range(5):
        g = numbers(2, 3, seed=step + 1)
        adam_step_(w, g, m, v, 0.01, (0.9, 0.99), 1e-6, 0.1)
        for i in range(2):
            for j in range(3):
                mean[i][j] = 0.9 * mean[i][j] + 0.1 * float(g[i, j])
                square[i][j] = 0.99 * square[i][j] + 0.01 * float(g[i, j]) ** 2
                move = mean[i][j] / (math.sqrt(square[i][j]) + 1e-6) + 0.1 * float(want[i, j])
                want[i, j] -= 0.01 * move
        torch.testing.assert_close(w, want, atol=1e-12, rtol=0)


def test_it_is_adamw_with_a_rate_that_undoes_the_correction():
    start = numbers(4, 3)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = BERTAdam([ours], lr=0.01, eps=0.0, weight_decay=0.0)
    adamw = torch.optim.AdamW([theirs], lr=0.01, eps=0.0, weight_decay=0.0)
    for step in range(1, 8):
        ours.grad = numbers(4, 3, seed=step)
        theirs.grad = ours.grad.clone()
        adamw.param_groups[0]["lr"] = 0.01 * (1 - 0.9**step) / math.sqrt(1 - 0.999**step)
        mine.step()
        adamw.step()
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_p5_the_first_step_is_three_times_that_of_adam():
    w = torch.zeros(3, dtype=torch.float64)
    g, m, v = torch.tensor([2.0, -0.5, 10.0]).double(), torch.zeros_like(w), torch.zeros_like(w)
    adam_step_(w, g, m, v, 1.0, eps=0.0)
    torch.testing.assert_close(w.abs(), torch.full_like(w, 0.1 / math.sqrt(0.001)), atol=1e-9, rtol=0)


@pytest.mark.equation("eq:bert-rate")
def test_the_rate_rises_to_almost_its_top_and_falls_to_nothing():
    rates = [bert_rate(s, 2.0, 10, 100) for s in range(100)]
    assert rates[0] == 0 and rates[5] == 1.0 and rates[9] == pytest.approx(1.8)
    assert rates[10] == pytest.approx(2.0 * 0.9) and max(rates) < 2.0 and rates[99] == pytest.approx(0.02)
    plan = bert_schedule(2.0, 10, 100)
    assert plan(1) == 0 and plan(6) == 1.0 and plan.name == "bert(lr=2.0, warmup=10, steps=100)"


def test_biases_and_normalisation_do_not_decay():
    model = BERTForPreTraining(BERTConfig(50, 16, 16, 1, 2, 32))
    decayed, free = parameter_groups(model, 0.01)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in free["params"]} == {
        name for name, _ in model.named_parameters() if name.endswith("bias") or "norm" in name}
    assert len(decayed["params"]) + len(free["params"]) == len(names) and free["weight_decay"] == 0


# --------------------------------------------------------------------------------------------------- training

def small(**more):
    torch.manual_seed(0)
    return BERTForPreTraining(BERTConfig(len(TOKENS), 16, 32, 2, 2, 64, dropout=0.1, **more))


def test_a_handful_of_pairs_is_learnt_by_heart():
    texts = pair_texts(TEXTS[:3], TOKENS, 16, seed=2)
    model = small()
    model.eval()
    batch = PretrainingBatches(texts, len(texts), TOKENS)[0]
    optimizer = BERTAdam(parameter_groups(model, 0.0), lr=2e-3)
    for step in range(120):
        loss, found = pretraining_objective(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 0:
            start = float(loss.detach())
    assert start > math.log(2) + 3 and float(loss.detach()) < 0.1 and float(found["right"]) == 1


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tmp_path):
    texts = pair_texts(TEXTS, TOKENS, 16)
    through = small()
    history = train_bert(through, texts, TOKENS, steps=9, batch=8, progress=False, folder=tmp_path / "a")
    assert {"mlm", "nsp", "right", "norm"} == history.scalars.keys() and len(history.loss) == 9

    def killed(step, _):
        if step == 6:
            raise KeyboardInterrupt

    model = small()
    options = dict(steps=9, batch=8, progress=False, folder=tmp_path / "b", save_every=4)
    with pytest.raises(KeyboardInterrupt):
        train_bert(model, texts, TOKENS, on_step=killed, **options)
    model = small()
    train_bert(model, texts, TOKENS, **options)
    for name, value in through.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


# -------------------------------------------------------------------------------------------------- judgement

def test_hidden_words_are_counted_one_by_one():
    texts, model = pair_texts(TEXTS, TOKENS, 16), small()
    found = judge_bert(model, texts, TOKENS, seed=5, batch=7)
    tokens, asked = hidden(texts, TOKENS, seed=5)
    assert (tokens[asked] == TOKENS.mask).all() and torch.equal(tokens[~asked], texts.tokens[~asked])
    model.eval()
    right, loss, pairs = [], [], []
    with torch.no_grad():
        for i in range(len(texts)):
            scores = model(tokens[i : i + 1], segments=texts.segments[i : i + 1])
            pairs.append(int(scores.pairs.argmax()) == int(texts.labels[i]))
            for j in asked[i].nonzero()[:, 0].tolist():
                right.append(int(scores.words[0, j].argmax()) == int(texts.tokens[i, j]))
                loss.append(-float(scores.words[0, j].log_softmax(dim=0)[texts.tokens[i, j]]))
    assert found["mlm accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["mlm loss"] == pytest.approx(sum(loss) / len(loss), abs=1e-4)
    assert found["nsp accuracy"] == pytest.approx(sum(pairs) / len(pairs))
    assert set(judge_bert(small(pooler=False), texts, TOKENS)) == {"mlm accuracy", "mlm loss"}


def test_baselines_that_count_say_what_is_frequent():
    train, test = pair_texts(TEXTS, TOKENS, 16, copies=3), pair_texts(TEXTS, TOKENS, 16, seed=9)
    found = counting_accuracy(train, test, TOKENS)
    _, asked = hidden(test, TOKENS)
    special = set(TOKENS.special)
    counts, follows = Counter(), {}
    for row in train.tokens.tolist():
        for left, token in zip(row, row[1:]):
            follows.setdefault(left, Counter())[token] += 1
            counts[token] += 1
    best = max((w for w in counts if w not in special), key=lambda w: (counts[w], -w))
    unigram, bigram = [], []
    for i, j in asked.nonzero().tolist():
        word, left = int(test.tokens[i, j]), int(test.tokens[i, j - 1])
        after = {w: n for w, n in follows.get(left, {}).items() if w not in special}
        said = max(after, key=lambda w: (after[w], -w)) if after else 1
        unigram.append(word == best)
        bigram.append(word == said)
    assert found["unigram"] == pytest.approx(sum(unigram) / len(unigram))
    assert found["bigram"] == pytest.approx(sum(bigram) / len(bigram))
    assert found["both"] > found["bigram"] > found["unigram"]
