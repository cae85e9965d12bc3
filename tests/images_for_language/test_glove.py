"""GloVe: its derivation, counts and the released program by loops, the numbers of mittens, training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.catalog import count_parameters
from mmlearn.data.vocabulary import Vocabulary, numbered
from mmlearn.data.word_vectors import WordVectors
from mmlearn.images_for_language import glove
from mmlearn.images_for_language.glove import (
    ICE_STEAM,
    Counts,
    GloVe,
    GloVeConfig,
    agreement,
    conditional,
    cooccurrence,
    glove_loss,
    gradients,
    log_counts,
    predicted,
    ratio,
    ratio_of_vectors,
    skip_gram_objective,
    standardised,
    train_glove,
    weight,
    word_sum,
)
from mmlearn.images_for_language.glove_updates import (
    AllEntries,
    EntryByEntry,
    adagrad,
    entry_update,
    independent,
)


def table(v=6, seed=0, zeros=0.4):
    g = torch.Generator().manual_seed(seed)
    X = torch.rand(v, v, generator=g).double() * 30
    return X * (torch.rand(v, v, generator=g) > zeros)


def parameters(v=6, d=3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=g, dtype=dtype) / d for shape in ((v, d), (v, d), (v,), (v,)))


# ------------------------------------------------------------------------------------------- the derivation


@pytest.mark.equation("eq:glove-conditional")
@pytest.mark.equation("eq:glove-ratio")
@pytest.mark.equation("eq:glove-log")
def test_probabilities_ratios_and_logarithms_are_those_of_the_counts():
    X = table(5, zeros=0)
    P, log_p = conditional(X), log_counts(X)
    i, j, k = torch.tensor([[0, 1, 4], [2, 3, 0], [1, 1, 4]])
    R = ratio(P, i, j, k)
    for a in range(5):
        for b in range(5):
            p = float(X[a, b]) / sum(float(x) for x in X[a])
            assert float(P[a, b]) == pytest.approx(p) and float(log_p[a, b]) == pytest.approx(math.log(p))
    for n in range(3):
        assert float(R[n]) == pytest.approx(float(P[i[n], k[n]]) / float(P[j[n], k[n]]))


def test_ice_and_steam_have_the_ratios_of_the_paper():
    published = {"solid": 8.9, "gas": 8.5e-2, "water": 1.36, "fashion": 0.96}
    for word, (ice, steam) in ICE_STEAM.items():
        assert ice / steam == pytest.approx(published[word], rel=0.04)      # of figures rounded to two places


@pytest.mark.equation("eq:glove-exp")
def test_a_difference_of_vectors_gives_the_ratio_if_products_are_logarithms():
    w_i, w_j, w_k = torch.randn(3, 4, 3).double()
    got = ratio_of_vectors(w_i, w_j, w_k)
    for n in range(4):
        first, second = (sum(float(x) * float(y) for x, y in zip(w[n], w_k[n])) for w in (w_i, w_j))
        assert float(got[n]) == pytest.approx(math.exp(first) / math.exp(second))
    X = table(4, zeros=0)                                                   # exact vectors: products log P
    W, C = log_counts(X), torch.eye(4, dtype=torch.float64)
    assert float(ratio_of_vectors(W[0], W[2], C[1])) == pytest.approx(float(
        ratio(conditional(X), torch.tensor([0]), torch.tensor([2]), torch.tensor([1]))))


@pytest.mark.equation("eq:glove-bias")
@pytest.mark.equation("eq:glove-weight")
@pytest.mark.equation("eq:glove-loss")
def test_the_loss_is_the_weighted_square_of_each_error():
    W, C, b, b_c = parameters()
    counts = Counts.of(table())
    want = 0.0
    for i, j, x in zip(counts.i.tolist(), counts.j.tolist(), counts.values.tolist()):
        prediction = sum(float(p) * float(q) for p, q in zip(W[i], C[j])) + float(b[i]) + float(b_c[j])
        f = (x / 20) ** 0.75 if x < 20 else 1.0
        assert float(weight(torch.tensor(x).double(), 20)) == pytest.approx(f)
        want += f * (prediction - math.log(x)) ** 2
    i, j = counts.i, counts.j
    assert float(glove_loss(predicted(W[i], C[j], b[i], b_c[j]), counts.values, 20)) == pytest.approx(want)


def test_the_weight_is_nothing_at_nothing_never_falls_and_ends_at_one():
    x = torch.linspace(0, 300, 50).double()
    f = weight(x)
    assert f[0] == 0 and bool((f.diff() >= 0).all()) and f[-1] == 1 and weight(torch.tensor(100.0)) == 1
    small = torch.tensor(1e-9).double()
    assert float(weight(small) * small.log() ** 2) < 1e-4                   # so zero counts may be left out


@pytest.mark.equation("eq:glove-gradient")
def test_the_gradients_are_those_of_the_loss():
    X, leaves = table(), tuple(p.requires_grad_() for p in parameters())
    counts = Counts.of(X)

    def J(W, C, b, b_c):
        return glove_loss(predicted(W[counts.i], C[counts.j], b[counts.i], b_c[counts.j]), counts.values, 20)

    assert torch.autograd.gradcheck(J, leaves)
    J(*leaves).backward()
    for leaf, got in zip(leaves, gradients(*(p.detach() for p in leaves), X, 20)):
        torch.testing.assert_close(got, leaf.grad)


@pytest.mark.equation("eq:glove-skip-gram")
def test_skip_gram_over_all_counts_is_a_weighted_sum_of_cross_entropies():
    X, logits = table(4, zeros=0), torch.randn(4, 4).double()
    want = 0.0
    for i in range(4):
        Q = [math.exp(float(z)) / sum(math.exp(float(y)) for y in logits[i]) for z in logits[i]]
        total = sum(float(x) for x in X[i])
        want += total * -sum(float(x) / total * math.log(q) for x, q in zip(X[i], Q))
    assert float(skip_gram_objective(X, logits)) == pytest.approx(want)


@pytest.mark.equation("eq:glove-sum")
@pytest.mark.equation("eq:glove-standardised")
def test_a_word_is_the_sum_of_its_two_vectors_and_is_standardised_over_the_vocabulary():
    W, C, *_ = parameters()
    torch.testing.assert_close(word_sum(W, C), torch.stack([w + c for w, c in zip(W, C)]))
    got = standardised(WordVectors(tuple("abcdef"), W)).vectors
    for k in range(3):
        column = [float(x) for x in W[:, k]]
        mean = sum(column) / 6
        deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / 6)
        assert got[:, k].tolist() == pytest.approx([(x - mean) / deviation for x in column])


@pytest.mark.equation("eq:glove-agreement")
def test_agreement_is_a_correlation_in_which_pairs_count_by_their_weight():
    x, y = torch.randn(2, 5).double()
    n = torch.tensor([1, 3, 2, 1, 4])
    many = torch.stack([x, y]).repeat_interleave(n, dim=1).numpy()          # whole weights are repetitions
    assert float(agreement(x, y, n.double())) == pytest.approx(np.corrcoef(many)[0, 1])


# --------------------------------------------------------------------------------------------------- counts

SENTENCES = st.lists(st.lists(st.sampled_from("abcd"), max_size=7), min_size=1, max_size=4).filter(
    lambda corpus: any(corpus))


@pytest.mark.equation("eq:glove-counts")
@given(SENTENCES, st.integers(1, 4), st.booleans(), st.booleans(), st.integers(1, 9), st.booleans())
@settings(max_examples=80, deadline=None)
def test_counts_are_those_of_a_loop_over_all_pairs(corpus, window, both_sides, distance, part, dense):
    vocabulary = Vocabulary.of(corpus)
    want = torch.zeros(len(vocabulary), len(vocabulary), dtype=torch.float64)
    for sentence in corpus:
        ids = vocabulary.encode(sentence)
        for t, word in enumerate(ids):
            for s, other in enumerate(ids):
                if 0 < abs(s - t) <= window and (both_sides or s < t):
                    want[word, other] += 1 / abs(s - t) if distance else 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glove, "PART", part)
        patch.setattr(glove, "DENSE", 1 << 24 if dense else 0)
        got = cooccurrence(numbered(corpus, vocabulary), len(vocabulary), window, both_sides, distance)
    torch.testing.assert_close(got.dense(), want)
    assert bool((got.values > 0).all())
    key = got.i * got.size + got.j
    assert bool((key.diff() > 0).all())
    again = Counts.of(want)
    assert torch.equal(again.i, got.i) and torch.equal(again.j, got.j)


def test_unknown_words_do_not_count_for_distances():
    vocabulary = Vocabulary(("a", "b"), (2, 1))
    got = cooccurrence(numbered([["a", "x", "x", "b"]], vocabulary), 2, 1)
    assert got.dense().tolist() == [[0, 1], [1, 0]]


# -------------------------------------------------------------------------------------------------- updates


@pytest.mark.equation("eq:glove-adagrad")
def test_adagrad_divides_by_the_root_of_all_squares_so_far():
    theta, s = torch.tensor([1.0, 2.0]).double(), torch.full((2,), 0.1).double()
    want, sums = theta.tolist(), s.tolist()
    for g in ((0.5, -2.0), (1.0, 0.0), (-3.0, 4.0)):
        adagrad(theta, torch.tensor(g).double(), s, 0.05)
        for k in range(2):
            sums[k] += g[k] ** 2
            want[k] -= 0.05 * g[k] / math.sqrt(sums[k])
    assert theta.tolist() == pytest.approx(want) and s.tolist() == pytest.approx(sums)


def started(X, dtype=torch.float64, kind=AllEntries, **options):
    counts, own = Counts.of(X), [p.clone() for p in parameters(len(X), dtype=dtype)]
    run = kind(tuple(own), counts.i, counts.j, counts.values.log(), weight(counts.values, 20), **options)
    return run, own


def test_sums_over_counted_pairs_alone_are_half_the_gradients():
    X = table()
    X[2] = 0                                                                # a word without a neighbour
    for dtype in (torch.float64, torch.float32):
        run, own = started(X, dtype, lr=0.05)
        got, loss = run.gradients()
        for one, want in zip(got, gradients(*(p.double() for p in own), X, 20)):
            torch.testing.assert_close(2 * one.double(), want, atol=1e-4 if dtype is torch.float32 else 1e-10,
                                       rtol=1e-4)
        counts = Counts.of(X)
        W, C, b, b_c = (p.double() for p in own)
        J = glove_loss(predicted(W[counts.i], C[counts.j], b[counts.i], b_c[counts.j]), counts.values, 20)
        assert loss == pytest.approx(float(J) / 2, rel=1e-5)


@pytest.mark.parity
def test_fifty_steps_are_those_of_mittens():
    from mittens import GloVe as Mittens

    X = table(9)
    W, C, b, b_c = parameters(9)
    theirs = Mittens(n=3, xmax=20, alpha=0.75, max_iter=50, learning_rate=0.05, display_progress=0,
                     test_mode=True)
    want = theirs.fit(X.numpy(), fixed_initialization={
        "W": W.numpy().copy(), "C": C.numpy().copy(), "bw": b.numpy()[:, None].copy(),
        "bc": b_c.numpy()[:, None].copy()})
    run, own = started(X, lr=0.05, accumulator=0.1)
    losses = [run.step() for _ in range(50)]
    for mine, of in zip(own, (theirs.W, theirs.C, theirs.bw[:, 0], theirs.bc[:, 0])):
        assert np.abs(mine.numpy() - of).max() < 1e-12
    assert np.abs(word_sum(own[0], own[1]).numpy() - want).max() < 1e-12
    assert losses == pytest.approx(theirs.errors)


def released(own, i, j, log_x, f, lr, accumulator):
    """A pass of the released program, count by count and number by number; returns the sum of 1/2 f e^2."""
    W, C, b, b_c = (p.tolist() for p in own)
    sums = [[[accumulator] * len(W[0]) for _ in W] for _ in range(2)] + [[accumulator] * len(W)] * 2
    s_w, s_c, s_b, s_bc = sums[0], sums[1], list(sums[2]), list(sums[3])
    loss = 0.0
    for a, c, lx, fx in zip(i, j, log_x, f):
        e = sum(x * y for x, y in zip(W[a], C[c])) + b[a] + b_c[c] - lx
        fe = fx * e
        loss += 0.5 * fe * e
        for k in range(len(W[0])):
            g = max(-100.0, min(100.0, fe * C[c][k])) * lr
            h = max(-100.0, min(100.0, fe * W[a][k])) * lr
            W[a][k] -= g / math.sqrt(s_w[a][k])
            C[c][k] -= h / math.sqrt(s_c[c][k])
            s_w[a][k] += g * g
            s_c[c][k] += h * h
        b[a] -= fe / math.sqrt(s_b[a])
        b_c[c] -= fe / math.sqrt(s_bc[c])
        s_b[a] += fe * fe
        s_bc[c] += fe * fe
    return loss, (W, C, b, b_c)


@pytest.mark.equation("eq:glove-entry")
def test_rounds_of_entries_without_a_common_word_are_the_released_program_entry_by_entry():
    X = table(8)
    X[0] *= 1e9                                                             # errors that are cut
    run, own = started(X, kind=EntryByEntry, lr=0.05, accumulator=1.0, seed=3)
    counts = Counts.of(X)
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(3))
    f = weight(counts.values, 20)
    want, numbers = released(own, counts.i[order].tolist(), counts.j[order].tolist(),
                             counts.values.log()[order].tolist(), f[order].tolist(), 0.05, 1.0)
    assert run.step() == pytest.approx(want)
    for mine, values in zip(own, numbers):
        torch.testing.assert_close(mine, torch.tensor(values, dtype=torch.float64))
    big = np.full((1, 2), 1e6)
    moved = entry_update(big, -big, np.ones((1, 2)), np.ones((1, 2)), np.array([3.0]), 0.05)
    assert moved[0][0, 0] - 1e6 == pytest.approx(5) and moved[2][0, 0] == pytest.approx(26)


def test_in_a_round_no_word_stands_twice_and_none_comes_before_its_turn():
    rng = np.random.default_rng(0)
    i, j = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    order, ends = independent(i, j, 5)
    assert sorted(order.tolist()) == list(range(60)) and ends[-1] == 60
    place = np.argsort(order)
    for start, end in zip([0, *ends], ends):
        assert len(set(i[order[start:end]])) == len(set(j[order[start:end]])) == end - start
    for a in range(60):
        for b in range(a):
            if i[a] == i[b] or j[a] == j[b]:
                assert place[b] < place[a]


# ------------------------------------------------------------------------------------------- model, training


@pytest.fixture(scope="module")
def corpus():
    """Sentences in which two kinds of things have their own company."""
    rng = np.random.default_rng(0)
    kinds = ("cat dog horse".split(), "car truck bus".split())
    company = ("eats sleeps runs fur".split(), "drives stops road fuel".split())
    found = []
    for _ in range(300):
        kind = int(rng.integers(2))
        found.append([str(rng.choice(kinds[kind])), *map(str, rng.choice(company[kind], 2)), "the"])
    return found


MINI = replace(GloVeConfig.mini(dim=8), epochs=60)


def test_the_paper_has_240_8_million_parameters():
    with torch.device("meta"):
        assert count_parameters(GloVe(GloVeConfig.glove_300())) == 2 * 400_000 * 301 == 240_800_000
        assert count_parameters(GloVe(replace(GloVeConfig.demo(), biases=False))) == 2 * 400_000 * 50


@pytest.mark.parametrize("updates", ["all", "entry"])
def test_counts_that_two_numbers_a_word_explain_are_learnt(updates):
    u, v = torch.randn(2, 12, 2, generator=torch.Generator().manual_seed(0)).double()
    counts = Counts.of((u @ v.mT + torch.linspace(0, 3, 12)[:, None]).clamp(-3, 5).exp())
    config = GloVeConfig(12, 2, x_max=10, lr=0.5, epochs=150, updates=updates)
    run = train_glove(None, config, counts=counts, progress=False)
    assert run.history.loss[-1] < 5e-3 * run.history.loss[0] and run.history.steps == list(range(1, 151))
    assert run.model.agreement(counts) > 0.99


@pytest.mark.parametrize("updates", ["all", "entry"])
def test_a_run_is_a_function_of_its_seed_and_a_word_the_sum_of_its_vectors(corpus, updates):
    config = replace(MINI, updates=updates, epochs=5)
    run = train_glove(corpus, config, progress=False)
    vectors = run.vectors()
    torch.testing.assert_close(vectors.vectors, run.vectors("word").vectors + run.vectors("context").vectors)
    same = train_glove(corpus, config, progress=False)
    assert torch.equal(same.vectors().vectors, vectors.vectors)
    other = train_glove(corpus, config, seed=1, progress=False)
    assert not torch.equal(other.vectors().vectors, vectors.vectors)


def test_gradients_reach_every_parameter_and_the_loss_is_what_training_lowers(corpus):
    run = train_glove(corpus, replace(MINI, epochs=1), progress=False)
    model = GloVe(run.model.config, run.model.vocabulary)
    loss = model.loss(run.counts)
    loss.backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters())
    X = run.counts.values.float()
    want = glove_loss(model(run.counts.i, run.counts.j), X, MINI.x_max, MINI.alpha)
    assert float(loss) == pytest.approx(float(want))
    one = model(run.counts.i[:1], run.counts.j[:1])
    torch.testing.assert_close(one, model(run.counts.i, run.counts.j)[:1])


def test_e9_without_biases_the_logarithms_of_frequent_words_are_not_taken_up(corpus):
    one, none = (train_glove(corpus, replace(MINI, dim=2, biases=biases), progress=False)
                 for biases in (True, False))
    assert none.history.loss[-1] > 3 * one.history.loss[-1]
    assert not none.model.b.requires_grad and float(none.model.b.abs().sum()) == 0
    X = torch.tensor([[4.0, 2.0], [2.0, 1.0]]).double()                     # independent: X_ij = x_i x_j
    b = torch.tensor([4.0, 2.0]).double().log() - 0.5 * math.log(4)
    zero = torch.zeros(2, 1).double()
    torch.testing.assert_close(b[:, None] + b, X.log())                     # biases alone explain them all
    assert float(gradients(zero, zero, b, b, X)[0].abs().max()) < 1e-12
    assert float(glove_loss(torch.zeros(4).double(), X.flatten())) > 0      # else products must do it


@pytest.mark.parametrize("updates", ["all", "entry"])
def test_a_run_that_was_stopped_goes_on_to_the_same_result(corpus, updates, tmp_path):
    config = replace(MINI, updates=updates, epochs=10)
    whole = train_glove(corpus, config, progress=False)
    part = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        steps = []

        def stopped(self):
            if len(steps) == 7:
                raise KeyboardInterrupt
            steps.append(1)
            return step(self)

        kind = AllEntries if updates == "all" else EntryByEntry
        step = kind.step
        patch.setattr(kind, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_glove(corpus, config, folder=part, save_every=3, progress=False)
    again = train_glove(corpus, config, folder=part, save_every=3, progress=False)
    assert torch.equal(again.vectors().vectors, whole.vectors().vectors)
    assert again.history.loss == whole.history.loss
    with pytest.raises(ValueError, match="seed"):
        train_glove(corpus, config, seed=1, folder=part, progress=False)


def test_what_cannot_be_trained_is_one_sentence(corpus):
    vocabulary = Vocabulary.of(corpus)
    model = GloVe(MINI, vocabulary)
    for call, part in (
            (lambda: train_glove(corpus, MINI, model=model), "a model is given"),
            (lambda: train_glove(None, MINI), "nothing to train on"),
            (lambda: train_glove(corpus, MINI, seed=-1), "seed is -1"),
            (lambda: train_glove(corpus, MINI, save_every=0), "save_every is 0"),
            (lambda: train_glove([["a"], ["b"]], MINI), "no two words of the vocabulary stand in one window"),
            (lambda: train_glove(corpus, model=GloVe(MINI)), "knows no words"),
            (lambda: train_glove(None, model=model, counts=Counts.of(table())), "give counts of its"),
            (lambda: train_glove(corpus, replace(MINI, lr=100.0, updates="entry", accumulator=1e-9),
                                 progress=False), "lower the learning rate"),
            (lambda: Counts.of(torch.ones(2, 3)), "not square"), (lambda: GloVe(MINI).vectors(), "no words"),
            (lambda: model.vectors("both"), "side is 'both'"),
            (lambda: cooccurrence(numbered(corpus, vocabulary), len(vocabulary), 0), "window is 0"),
            (lambda: GloVeConfig(updates="some"), "updates of GloVeConfig is 'some'"),
            (lambda: GloVeConfig(x_max=0), "x_max of GloVeConfig")):
        with pytest.raises(ValueError, match=part):
            call()


def test_counts_that_were_made_before_can_be_trained_on(corpus):
    vocabulary = Vocabulary.of(corpus)
    counts = cooccurrence(numbered(corpus, vocabulary), len(vocabulary), MINI.window)
    want = train_glove(corpus, MINI, progress=False).vectors().vectors
    got = train_glove(None, MINI, vocabulary=vocabulary, counts=counts, progress=False)
    assert torch.equal(got.vectors().vectors, want)
    model = GloVe(got.model.config, vocabulary)
    model.load_state_dict(got.model.state_dict())
    further = train_glove(corpus, model=model, progress=False)
    assert further.history.loss[-1] < got.history.loss[-1]
