"""Training of a skip-gram, one update a pair: against a loop, against gensim, killed and resumed."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmlearn.data.vocabulary import Vocabulary, cooccurrences, numbered, pairs, widths
from mmlearn.data.word_vectors import WordVectors
from mmlearn.images_for_language.skip_gram import (
    SkipGram,
    SkipGramConfig,
    noise,
    shifted_pmi,
    train_skip_gram,
)
from mmlearn.images_for_language.skip_gram_updates import (
    EXACT,
    alias_table,
    hs_updates,
    ns_updates,
    sigmoid_table,
)
from mmlearn.metrics.similarity import (
    WordPairs,
    likeness,
    paired_difference,
    read_pairs,
    spearman,
    spearman_interval,
)

RNG = np.random.default_rng(0)
SENTENCES = [[f"w{i}" for i in np.minimum(RNG.zipf(1.4, 9), 25)] for _ in range(60)]
PLAIN = SkipGramConfig(dim=6, window=2, min_count=1, sample=0.0, epochs=1, dynamic=False, least=1.0)


def weights(model):
    return model.W_in.detach().clone(), model.W_out.detach().clone()


# ---------------------------------------------------------------------------------------------------- updates

@pytest.mark.parametrize("objective", ["hs", "ns"])
def test_an_epoch_is_gradient_descent_pair_after_pair(objective):
    vocabulary = Vocabulary.of(SENTENCES[:12])
    text, config = numbered(SENTENCES[:12], vocabulary), replace(PLAIN, objective=objective, negatives=3)
    torch.manual_seed(1)
    model = SkipGram(config, vocabulary)
    with torch.no_grad():
        model.W_out.normal_()
    want_in, want_out = (w.double().numpy() for w in weights(model))
    width, loss, lr = widths(len(text.ids), 2, dynamic=False), 0.0, 0.05
    inputs, targets = (column.tolist() for column in pairs(text, width))
    draws = drawn_negatives(model, len(inputs), seed=7) if objective == "ns" else None
    for m, (i, o) in enumerate(zip(inputs, targets)):
        if objective == "hs":
            way = model.tree.mask[o]
            terms = list(zip(model.tree.paths[o][way].tolist(), (1 - model.tree.bits[o][way]).tolist()))
        else:
            terms = [(o, 1)] + [(k, 0) for k in draws[m] if k != o]
        back = np.zeros(6)                                       # what the input gets when the pair is done
        for row, label in terms:
            p = 1 / (1 + math.exp(-want_in[i] @ want_out[row]))
            loss -= math.log(p if label else 1 - p)
            back += lr * (label - p) * want_out[row]
            want_out[row] += lr * (label - p) * want_in[i]
        want_in[i] += back
    W = [w.detach().numpy() for w in (model.W_in, model.W_out)]
    columns = [c.int().numpy() for c in (*text, width)]
    if objective == "hs":
        tree = model.tree
        way = tree.paths.int().numpy(), tree.bits.to(torch.int8).numpy(), tree.lengths.int().numpy()
        found = hs_updates(*W, *columns, 0, len(text.ids), *way, np.float32(lr), EXACT)
    else:
        found = ns_updates(*W, *columns, 0, len(text.ids), *alias_table(model.noise.numpy()), 3,
                           np.float32(lr), EXACT, np.uint64(7))
    np.testing.assert_allclose(W[0], want_in, atol=1e-5)
    np.testing.assert_allclose(W[1], want_out, atol=1e-5)
    assert found[1] == len(inputs) and found[0] == pytest.approx(loss, rel=1e-5)


def test_an_update_is_the_learning_rate_times_the_gradient_that_autograd_finds():
    config = replace(PLAIN, objective="hs", window=1, lr=0.5)
    sentences = [["a", "b"], ["c"], ["d"], ["e"]]
    torch.manual_seed(1)
    model = SkipGram(config, Vocabulary.of(sentences))
    with torch.no_grad():
        model.W_out.normal_()
    before = SkipGram(config, model.vocabulary)
    before.load_state_dict(model.state_dict())
    train_skip_gram(sentences, model=model, progress=False)     # a is predicted from b, then b from a
    moved = (model.W_in - before.W_in).detach()
    before.loss(torch.tensor([1]), torch.tensor([0])).backward()
    torch.testing.assert_close(moved[1], -0.5 * before.W_in.grad[1])
    assert moved[0].abs().min() > 0 and not moved[2:].any()


def drawn_negatives(model, count, seed):
    """What the compiled loop draws: splitmix64, 32 bits for a row of the table, 32 for the choice in it."""
    accept, alias = (column.tolist() for column in alias_table(model.noise.numpy()))
    mask, state, drawn = 2**64 - 1, seed, []
    for _ in range(count):
        row = []
        for _ in range(model.config.negatives):
            state = state + 0x9E3779B97F4A7C15 & mask
            z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
            z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
            z ^= z >> 31
            column = (z >> 32) * len(accept) >> 32
            row.append(column if z & 0xFFFFFFFF < accept[column] else alias[column])
        drawn.append(row)
    return drawn


@pytest.mark.parametrize("p", [[1.0], [0.5, 0.5], [0.7, 0.2, 0.1], None])
def test_the_alias_table_draws_what_it_was_made_of(p):
    p = np.array(p) if p else noise(torch.arange(500, 0, -1).double()).numpy()
    accept, alias = alias_table(p)
    found = accept / 2**32 / len(p)
    np.add.at(found, alias, (1 - accept / 2**32) / len(p))
    np.testing.assert_allclose(found, p, atol=1e-9)


def test_negatives_are_drawn_as_often_as_their_probability_says():
    model = SkipGram(replace(PLAIN, negatives=5), Vocabulary.of(SENTENCES))
    drawn = np.array(drawn_negatives(model, 4000, seed=3)).ravel()
    shares = np.bincount(drawn, minlength=len(model.noise)) / len(drawn)
    np.testing.assert_allclose(shares, model.noise.numpy(), atol=0.012)


def test_p2_the_table_of_word2vec_takes_83_for_83_and_a_third():
    table = sigmoid_table()
    assert len(table) == 1000 and table[int((0 + 6) * 83)] == pytest.approx(0.494, abs=5e-4)
    assert table[0] == pytest.approx(1 / (1 + math.exp(6))) and table[500] == 0.5


# ----------------------------------------------------------------------------------------------------- gensim

def gensim_twin(table: bool):
    """gensim's model after three epochs, and ours from the weights that it began with (its last row of inner
    nodes belongs to no node)."""
    from gensim.models import Word2Vec

    theirs = Word2Vec(vector_size=6, window=2, min_count=1, sample=0, sg=1, workers=1, shrink_windows=False,
                      alpha=0.05, min_alpha=0.05, seed=1, hs=1, negative=0)
    theirs.build_vocab(SENTENCES)
    config = replace(PLAIN, objective="hs", lr=0.05, epochs=3)
    words = tuple(theirs.wv.index_to_key)                              # in its order of words alike
    ours = SkipGram(config, Vocabulary(words, tuple(int(theirs.wv.get_vecattr(w, "count")) for w in words)))
    with torch.no_grad():
        ours.W_in.copy_(torch.from_numpy(theirs.wv.vectors))
        ours.W_out.copy_(torch.from_numpy(theirs.syn1[:-1]))
    theirs.train(SENTENCES, total_examples=len(SENTENCES), epochs=3)
    return theirs, train_skip_gram(SENTENCES, model=ours, table_sigmoid=table, progress=False)


@pytest.mark.parity
def test_training_with_the_hierarchical_softmax_is_gensims_number_for_number():
    theirs, ours = gensim_twin(True)
    W_in, W_out = (w.numpy() for w in weights(ours.model))
    assert np.abs(W_in).max() > 0.3                                     # something was learnt
    assert np.abs(W_in - theirs.wv.vectors).max() < 2e-6
    assert np.abs(W_out - theirs.syn1[:-1]).max() < 2e-6
    theirs, exact = gensim_twin(False)
    assert np.abs(exact.model.W_in.detach().numpy() - theirs.wv.vectors).max() > 1e-3     # the 83


@pytest.mark.parity
def test_the_score_of_sentences_is_gensims_but_for_its_table():
    theirs, ours = gensim_twin(True)
    model, want = ours.model, float(theirs.score(SENTENCES, len(SENTENCES)).astype(np.float64).sum())
    text = numbered(SENTENCES, model.vocabulary)
    assert model.score(text) == pytest.approx(want, rel=0.03)
    inputs, targets = pairs(text, widths(len(text.ids), 2, dynamic=False))
    x = (model.W_out[model.paths[targets]] @ model.W_in[inputs, :, None])[:, :, 0]
    turns = (1 - 2 * model.bits[targets]) * x.detach()
    place = ((turns + 6) * 83).int().clamp(0, 999)
    logs = torch.from_numpy(np.log(sigmoid_table()))[place]
    by_table = logs[model.mask[targets] & (turns.abs() < 6)].double().sum()
    assert float(by_table) == pytest.approx(want, rel=1e-5)


def agreement(sentences, judged, config):
    """Ours and gensim's rank correlation with the same pairs, gensim's with its bootstrap interval, and the
    paired difference, all from the same corpus and as many epochs."""
    from gensim.models import Word2Vec

    ours = train_skip_gram(sentences, config, progress=False).vectors()
    theirs = Word2Vec(sentences, sg=1, vector_size=config.dim, epochs=config.epochs, window=config.window,
                      min_count=config.min_count, sample=config.sample, workers=1, seed=0).wv
    theirs = WordVectors(tuple(theirs.index_to_key), torch.from_numpy(theirs.vectors))
    mine, other = (likeness(v)(judged.first, judged.second) for v in (ours, theirs))
    assert torch.equal(mine.isnan(), other.isnan())
    there, draw = ~mine.isnan(), torch.Generator().manual_seed(0)
    lists = mine[there], other[there], judged.score[there]
    return (spearman(lists[0], lists[2]), spearman_interval(*lists[1:], generator=draw),
            paired_difference(*lists, generator=draw), int(there.sum()))


@pytest.mark.parity
@pytest.mark.slow
def test_vectors_agree_with_human_judgement_as_gensims_do():
    """On the news articles that gensim ships, with WordSim-353."""
    from importlib.resources import files

    from gensim.utils import simple_preprocess

    data = files("gensim") / "test" / "test_data"
    lines = (data / "lee_background.cor").read_text(encoding="utf-8").splitlines()
    judged = read_pairs(str(data / "wordsim353.tsv"))
    rho, theirs, difference, covered = agreement(
        [simple_preprocess(line) for line in lines], judged, SkipGramConfig(dim=50, epochs=20))
    assert covered > 50 and theirs.low < rho < theirs.high and difference.low < 0 < difference.high


@pytest.mark.parity
@pytest.mark.slow
def test_vectors_find_known_likenesses_as_gensims_do():
    """On a language whose words have known shares in topics; two words are as alike as these."""
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(12, 0.3), 150)                              # of each word
    chances = topics / topics.sum(0)
    sentences = [[f"w{i}" for i in rng.choice(150, 8, p=chances[:, t])] for t in rng.integers(0, 12, 8000)]
    unit = topics / np.linalg.norm(topics, axis=1, keepdims=True)
    a, b = rng.integers(0, 150, (2, 600))
    judged = WordPairs(tuple(f"w{i}" for i in a), tuple(f"w{i}" for i in b),
                       torch.from_numpy((unit[a] * unit[b]).sum(1)))
    rho, theirs, difference, covered = agreement(sentences, judged,
                                                 SkipGramConfig(dim=32, epochs=3, sample=0.0))
    assert covered == 600 and rho > 0.7 and theirs.low < rho < theirs.high


# --------------------------------------------------------------------------------------------------- training

def corpus(count=600, seed=0):
    """Sentences of a language in which c follows a and d follows b, and much that is the same everywhere."""
    rng = np.random.default_rng(seed)
    rows = [["a", "the", "c"] if one else ["b", "the", "d"] for one in rng.integers(0, 2, count)]
    return [[*row, *(f"x{i}" for i in rng.integers(0, 6, 3))] for row in rows]


@pytest.mark.parametrize("objective", ["hs", "ns"])
def test_training_lowers_the_loss_and_beats_the_unigram_on_held_out_text(objective):
    config = SkipGramConfig(dim=12, objective=objective, window=2, epochs=8, min_count=1, sample=0.0, lr=0.05)
    done = train_skip_gram(corpus(), config, progress=False)
    history = done.history
    assert history.finished and history.loss[-1] < history.loss[0] and len(history.loss) == 8
    assert done.words == 8 * 3600 and done.words_per_second > 0
    held = numbered(corpus(100, seed=1), done.model.vocabulary)
    inputs, targets = pairs(held, torch.full_like(held.ids, 2))
    unigram = float(done.model.vocabulary.frequencies().log()[targets].sum())
    assert done.model.score(held) > unigram


def test_the_loss_that_is_reported_is_the_mean_of_the_pairs_of_each_part():
    config = replace(PLAIN, objective="hs", lr=1e-9, epochs=2)            # the weights stay what they are
    torch.manual_seed(0)
    model = SkipGram(config, Vocabulary.of(SENTENCES))
    with torch.no_grad():
        model.W_out.normal_()
    text = numbered(SENTENCES, model.vocabulary)
    inputs, targets = pairs(text, widths(len(text.ids), 2, dynamic=False))
    want = float(model.loss(inputs, targets))
    done = train_skip_gram(SENTENCES, model=model, progress=False)
    assert done.history.loss == pytest.approx([want, want], rel=1e-5)
    assert done.history.scalars["pairs"] == [len(inputs)] * 2
    assert done.loss(2) == pytest.approx(want, rel=1e-5)


@pytest.mark.slow
def test_scores_come_to_correlate_with_the_shifted_pmi():
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(40, 0.3), 6)
    sentences = [[f"w{i}" for i in rng.choice(40, 8, p=topics[t])] for t in rng.integers(0, 6, 3000)]
    config = SkipGramConfig(dim=32, window=3, epochs=10, min_count=1, sample=0.0, lr=0.05)
    model = train_skip_gram(sentences, config, progress=False).model
    counts = cooccurrences(numbered(sentences, model.vocabulary), 40, 3)
    want = shifted_pmi(counts, model.noise, 5)
    frequent = counts > 100
    found = (model.W_in @ model.W_out.mT).detach()[frequent].double()
    assert float(torch.corrcoef(torch.stack([found, want[frequent]]))[0, 1]) > 0.8


def test_the_same_seed_gives_the_same_vectors_and_another_one_others():
    config = SkipGramConfig(dim=6, window=2, min_count=1, epochs=2)
    a, b, c = (weights(train_skip_gram(SENTENCES, config, seed=s, progress=False).model) for s in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a, b)) and not torch.equal(a[0], c[0])


def test_several_workers_do_the_same_work():
    config = SkipGramConfig(dim=8, window=2, min_count=1, sample=0.0, epochs=6, lr=0.05)
    sentences = corpus(4000)
    one, two = (train_skip_gram(sentences, config, workers=n, progress=False) for n in (1, 2))
    assert two.history.scalars["pairs"] == one.history.scalars["pairs"]
    assert two.loss(6) == pytest.approx(one.loss(6), rel=0.02)


class Killed(Exception):
    pass


@pytest.mark.parametrize("objective", ["hs", "ns"])
def test_a_run_that_was_killed_goes_on_to_the_same_vectors(objective, tmp_path, monkeypatch):
    config = SkipGramConfig(dim=6, objective=objective, window=2, min_count=1, epochs=3, sample=0.01)
    sentences = corpus(5000)                                              # three parts an epoch
    want = train_skip_gram(sentences, config, progress=False)
    from mmlearn.images_for_language import skip_gram

    record, count = skip_gram._Run.record, [0]

    def killed(self, *args):
        count[0] += 1
        if count[0] == 6:
            raise Killed
        record(self, *args)

    monkeypatch.setattr(skip_gram._Run, "record", killed)
    with pytest.raises(Killed):
        train_skip_gram(sentences, config, folder=tmp_path, save_every=2, progress=False)
    monkeypatch.undo()
    found = train_skip_gram(sentences, config, folder=tmp_path, save_every=2, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(weights(found.model), weights(want.model)))
    assert found.history.loss == want.history.loss and found.history.steps == list(range(1, 10))
    again = train_skip_gram(sentences, config, folder=tmp_path, save_every=2, progress=False)
    assert torch.equal(again.model.W_in, want.model.W_in)                 # nothing was left to do


def test_a_folder_of_another_run_is_refused(tmp_path):
    config = SkipGramConfig(dim=6, min_count=1, epochs=1)
    train_skip_gram(SENTENCES, config, folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"holds a run with config.dim 6 \(now 7\)"):
        train_skip_gram(SENTENCES, replace(config, dim=7), folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match="holds a run with corpus"):
        train_skip_gram(SENTENCES[::-1], config, folder=tmp_path, progress=False)


def test_a_run_says_how_far_it_is():
    out = io.StringIO()
    train_skip_gram(corpus(3000), SkipGramConfig(dim=6, min_count=1), progress=out)
    assert "skip-gram" in out.getvalue() and "loss" in out.getvalue()


@pytest.mark.parametrize("sentences, more, sentence", [
    ([["a"], ["a"]], {}, "2|expected from 2"),
    ([["a"], ["b"], ["a"], ["b"]], {}, "no two words of the vocabulary stand in one window"),
    ([], {}, "the corpus holds no word"),
    (SENTENCES, {"workers": 0}, "workers is 0; take a whole number from 1"),
    (SENTENCES, {"seed": -1}, "seed is -1"),
    (SENTENCES, {"save_every": 0}, "save_every is 0"),
    (SENTENCES, {"config": SkipGramConfig(objective="softmax")}, "objective is 'softmax'.* fit, pair_loss"),
    (SENTENCES, {"config": SkipGramConfig(min_count=10**6)}, "no word occurs 1000000 times"),
    (SENTENCES, {"config": SkipGramConfig(min_count=1, lr=100.0, window=9, epochs=9)}, "lower the learning"),
    (SENTENCES, {"model": SkipGram(SkipGramConfig(vocab=4))}, "this skip-gram knows no words"),
    (SENTENCES, {"model": SkipGram(SkipGramConfig(vocab=4)), "config": PLAIN}, "give it alone"),
])
def test_what_cannot_be_trained_is_refused_in_a_sentence(sentences, more, sentence):
    more = {"config": SkipGramConfig(dim=4, min_count=1)} | more if "model" not in more else more
    with pytest.raises(ValueError, match=sentence):
        train_skip_gram(sentences, progress=False, **more)
