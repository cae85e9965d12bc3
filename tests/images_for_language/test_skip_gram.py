"""Skip-gram: three objectives against loops, their gradients, what negative sampling comes to, the model."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmlearn.data.vocabulary import Text, Vocabulary, WindowBatches, cooccurrences, numbered, pairs
from mmlearn.images_for_language.huffman import HuffmanTree
from mmlearn.images_for_language.skip_gram import (
    OBJECTIVES,
    SkipGram,
    SkipGramConfig,
    expected_ns_loss,
    hs_gradient,
    hs_loss,
    implied_log_p,
    noise,
    ns_gradient,
    ns_loss,
    objective,
    pair_loss,
    rate,
    shifted_pmi,
    softmax_gradient,
    softmax_loss,
)
from mmlearn.train import fit

COUNTS = (9, 7, 4, 2, 1)
SENTENCES = [list("abcab"), list("bca"), list("deab"), list("cda")] * 3
VOCABULARY = Vocabulary.of(SENTENCES)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def model_of(objective: str, **more) -> SkipGram:
    """A model with random weights on both sides, in double precision."""
    torch.manual_seed(0)
    model = SkipGram(SkipGramConfig(objective=objective, dim=6, window=2, min_count=1, **more), VOCABULARY)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    return model.double()


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:skipgram-objective")
@pytest.mark.equation("eq:skipgram-softmax")
def test_the_objective_is_the_mean_over_words_of_the_sum_over_their_windows():
    V, U = random(5, 3), random(5, 3, seed=1)
    words, c = [0, 3, 1, 1, 4], 2
    want = 0.0
    for t in range(len(words)):
        for j in range(-c, c + 1):
            if j and 0 <= t + j < len(words):
                i, o = words[t], words[t + j]
                scores = [math.exp(float(U[w] @ V[i])) for w in range(5)]
                want += math.log(scores[o] / sum(scores)) / len(words)
    text = Text(torch.tensor(words), torch.zeros(5, dtype=torch.int64))
    inputs, targets = pairs(text, torch.full((5,), c))
    losses = softmax_loss(V[inputs], U, targets)
    assert float(objective(-losses, len(words))) == pytest.approx(want)


@pytest.mark.equation("eq:skipgram-softmax-gradient")
def test_the_gradient_of_the_softmax_is_the_expected_vector_minus_the_observed_one():
    v, U, target = random(4, 3).requires_grad_(), random(5, 3, seed=1), torch.tensor([0, 2, 4, 2])
    softmax_loss(v, U, target).sum().backward()
    torch.testing.assert_close(softmax_gradient(v.detach(), U, target), v.grad)
    for i in range(4):
        p = (U @ v[i].detach()).softmax(0)
        want = -U[target[i]] + sum(p[w] * U[w] for w in range(5))
        torch.testing.assert_close(v.grad[i], want)


@pytest.mark.equation("eq:skipgram-hs")
def test_the_hierarchical_softmax_is_the_product_of_the_turns_on_the_way():
    tree, v, nodes = HuffmanTree.of(COUNTS), random(3), random(4, 3, seed=1)
    for word in range(5):
        p = 1.0
        for node, bit in zip(tree.paths[word][tree.mask[word]], tree.bits[word][tree.mask[word]]):
            x = float(nodes[node] @ v)
            p *= sigma(x) if bit == 0 else 1 - sigma(x)
        x = (nodes[tree.paths[word]] @ v)[None]
        found = hs_loss(x, tree.bits[word][None], tree.mask[word][None])
        assert float(found) == pytest.approx(-math.log(p))


def test_the_probabilities_of_the_hierarchical_softmax_sum_to_one_with_no_normaliser():
    tree = HuffmanTree.of(COUNTS)
    for seed in range(3):
        x = 5 * random(4, seed=seed)
        p = (-hs_loss(x[tree.paths], tree.bits, tree.mask)).exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-14)
        for node in range(4):           # those below a node sum to the probability of getting there
            below = ((tree.paths == node) & tree.mask).any(1)
            word = int(below.nonzero()[0])
            place = int(((tree.paths[word] == node) & tree.mask[word]).nonzero()[0])
            way = zip(tree.paths[word][:place].tolist(), tree.bits[word][:place].tolist())
            want = math.prod(sigma(float(x[k])) if bit == 0 else sigma(-float(x[k])) for k, bit in way)
            assert float(p[below].sum()) == pytest.approx(want)


@pytest.mark.equation("eq:skipgram-hs-gradient")
def test_the_gradients_of_the_hierarchical_softmax_are_those_derived():
    x, bits = random(3, 4).requires_grad_(), torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 1]])
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, True, True, False]])
    assert torch.autograd.gradcheck(lambda x: hs_loss(x, bits, mask), x)
    hs_loss(x, bits, mask).sum().backward()
    torch.testing.assert_close(hs_gradient(x.detach(), bits).masked_fill(~mask, 0), x.grad)
    v, nodes = random(2, seed=2).requires_grad_(), random(4, 2, seed=3).requires_grad_()
    hs_loss((nodes @ v)[None], bits[:1], mask[:1]).sum().backward()
    for j in range(4):
        g = sigma(float(nodes[j] @ v)) - 1 + int(bits[0, j])
        torch.testing.assert_close(nodes.grad[j], g * v.detach())
    g = hs_gradient(nodes.detach() @ v.detach(), bits[0])
    torch.testing.assert_close(v.grad, sum(g[j] * nodes.detach()[j] for j in range(4)))


@pytest.mark.equation("eq:skipgram-ns")
@pytest.mark.equation("eq:skipgram-ns-gradient")
def test_negative_sampling_is_k_plus_one_logistic_losses_with_the_gradients_derived():
    v, U = random(3).requires_grad_(), random(5, 3, seed=1).requires_grad_()
    o, drawn = 2, [0, 4, 2, 4]                                # 2 is the neighbour itself, 4 comes twice
    want = -math.log(sigma(float(U[o] @ v)))
    for k in drawn:
        want -= math.log(sigma(-float(U[k] @ v))) if k != o else 0
    mask = torch.tensor([[k != o for k in drawn]])
    loss = ns_loss((U[o] @ v)[None], (U[drawn] @ v)[None], mask)
    assert float(loss) == pytest.approx(want)
    loss.sum().backward()
    g_o, g_k = ns_gradient((U[o] @ v)[None].detach(), (U[drawn] @ v)[None].detach())
    dv, dU = g_o[0] * U.detach()[o], torch.zeros_like(U)
    dU[o] = g_o[0] * v.detach()
    for k, g in zip(drawn, g_k[0]):
        if k != o:
            dv = dv + g * U.detach()[k]
            dU[k] += g * v.detach()
    torch.testing.assert_close(v.grad, dv)
    torch.testing.assert_close(U.grad, dU)
    x_o, x_k = random(2).requires_grad_(), random(2, 3, seed=4).requires_grad_()
    some = torch.tensor([[True, False, True]] * 2)
    assert torch.autograd.gradcheck(lambda a, b: ns_loss(a, b, some), (x_o, x_k))


@pytest.mark.equation("eq:skipgram-noise")
def test_the_power_three_quarters_draws_rare_words_more_often():
    counts = torch.tensor([90.0, 9.0, 1.0])
    total = 90**0.75 + 9**0.75 + 1
    torch.testing.assert_close(noise(counts), torch.tensor([90**0.75, 9**0.75, 1.0]) / total)
    torch.testing.assert_close(noise(counts), torch.tensor([0.825, 0.147, 0.028]), atol=6e-4, rtol=0)
    torch.testing.assert_close(noise(counts, 1), counts / 100)


def counts_and_noise() -> tuple[Tensor, Tensor]:
    text = numbered(SENTENCES, VOCABULARY)
    counts = cooccurrences(text, 5, 4, dynamic=False) + 0.5          # all words meet: every PMI is finite
    return counts, noise(torch.tensor(VOCABULARY.counts, dtype=torch.float64))


@pytest.mark.equation("eq:skipgram-ns-expected")
def test_the_expected_loss_is_the_mean_over_what_may_be_drawn():
    counts, P_n = counts_and_noise()
    x, K = random(5, 5), 3
    want = 0.0
    for i in range(5):
        for o in range(5):                                             # K draws for each time that i meets o
            drawn = sum(float(P_n[n]) * -math.log(sigma(-float(x[i, n]))) for n in range(5))
            want += float(counts[i, o]) * (-math.log(sigma(float(x[i, o]))) + K * drawn)
    assert float(expected_ns_loss(x, counts, P_n, K)) == pytest.approx(want)


@pytest.mark.equation("eq:skipgram-shifted-pmi")
@pytest.mark.parametrize("K", [1, 5])
def test_negative_sampling_converges_to_the_pmi_minus_log_k(K):
    counts, P_n = counts_and_noise()
    V, U = (torch.nn.Parameter(0.1 * random(5, 5, seed=s)) for s in (0, 1))     # as many numbers as words
    optimizer = torch.optim.LBFGS([V, U], max_iter=2000, tolerance_grad=1e-10, tolerance_change=1e-16,
                                  line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = expected_ns_loss(V @ U.mT, counts, P_n, K) / counts.sum()
        value.backward()
        return value

    optimizer.step(loss)
    want = torch.tensor([[math.log(float(counts[i, o] / (counts[i].sum() * P_n[o]))) - math.log(K)
                          for o in range(5)] for i in range(5)], dtype=torch.float64)
    torch.testing.assert_close(shifted_pmi(counts, P_n, K), want)
    torch.testing.assert_close((V @ U.mT).detach(), want, atol=1e-3, rtol=0)
    x = shifted_pmi(counts, P_n, K).requires_grad_()
    expected_ns_loss(x, counts, P_n, K).backward()
    assert float(x.grad.abs().max()) < 1e-12                            # no way is down from there


def test_with_the_unigram_as_noise_it_is_the_pmi_of_the_counts():
    counts, _ = counts_and_noise()
    P = counts.sum(0) / counts.sum()
    joint = counts / counts.sum()
    pmi = (joint / (joint.sum(1, keepdim=True) * P)).log()
    torch.testing.assert_close(shifted_pmi(counts, P, 4), pmi - math.log(4))
    torch.testing.assert_close(shifted_pmi(counts, P, 4), shifted_pmi(counts, P, 4).mT)
    never = shifted_pmi(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.tensor([0.5, 0.5]), 1)
    assert float(never[0, 0]) == -math.inf and bool(never[1:].isfinite().all())


@pytest.mark.equation("eq:skipgram-implied")
def test_scores_at_the_optimum_imply_the_true_distribution():
    counts, P_n = counts_and_noise()
    found = implied_log_p(shifted_pmi(counts, P_n, 5), P_n)
    torch.testing.assert_close(found.exp(), counts / counts.sum(1, keepdim=True))
    x = random(2, 5)
    for i in range(2):
        terms = [math.exp(float(x[i, w])) * float(P_n[w]) for w in range(5)]
        for o in range(5):
            assert float(implied_log_p(x, P_n)[i, o]) == pytest.approx(math.log(terms[o] / sum(terms)))


@pytest.mark.equation("eq:skipgram-rate")
def test_the_learning_rate_falls_in_a_straight_line_to_a_ten_thousandth():
    for s in (0, 0.3, 0.9999, 1):
        assert rate(s, 0.025) == pytest.approx(0.025 * max(1 - s, 1e-4))
    assert rate(0.7, 0.025, 1) == 0.025


# ---------------------------------------------------------------------------------------------------- errata

def test_e11_negative_sampling_is_no_likelihood():
    """The survey: it maximises the probability of neighbours. Its scores are those of K + 1 binary questions:
    they sum to no 1 over the words, where those of the hierarchical softmax do."""
    counts, P_n = counts_and_noise()
    p = shifted_pmi(counts, P_n, 5).exp().sum(1)
    assert not torch.allclose(p, torch.ones_like(p), atol=0.1)
    hs = model_of("hs").log_p(torch.arange(5)).exp().sum(1)
    torch.testing.assert_close(hs, torch.ones_like(hs))


def test_e11_what_is_pushed_down_are_draws_from_all_words_neighbours_too():
    """The survey: the probability of non-neighbours is minimised. Negatives come from the whole vocabulary:
    a neighbour is drawn, and pushed down, as often as its frequency says."""
    _, P_n = counts_and_noise()
    model = model_of("ns", negatives=40)
    inputs, targets = torch.zeros(50, dtype=torch.int64), torch.zeros(50, dtype=torch.int64) + 1
    model.loss(inputs, targets, torch.Generator().manual_seed(0)).backward()
    moved = model.W_out.grad.abs().sum(1) > 0
    assert bool(moved.all()) and bool((P_n > 0).all())


def test_e12_the_two_objectives_come_from_two_papers():
    """The survey cites one paper of Mikolov for all of word2vec, and "Harris et al.": Harris is one
    author."""
    import mmlearn.images_for_language.skip_gram as module

    about = " ".join(str(module.__doc__).split())
    assert "arXiv:1301.3781, sec. 3.2 (skip-gram, hierarchical softmax)" in about
    assert "arXiv:1310.4546, sec. 2 (negative sampling, subsampling)" in about
    listed = (Path(__file__).parents[2] / "book" / "references.bib").read_text(encoding="utf-8")
    entries = dict(re.findall(r"(?ms)^@\w+\{([^,]+),\n(.*?)^\}", listed))
    authors = re.search(r"author += \{(.*)\},", entries["harris1954distributional"])[1]
    assert " and " not in authors and "others" not in authors
    assert "1301.3781" in entries["mikolov2013word2vec"] and "1310.4546" in entries["mikolov2013distributed"]


def test_booklet_b4_text8_has_no_400_million_words():
    """100 million characters, a space after each word: not even words of one letter would be so many."""
    characters = 100_000_000
    assert characters // 2 < 400_000_000
    assert SkipGramConfig.word2vec().vocab == 71_291          # of 5 occurrences, counted in text8


def test_e5_negatives_of_the_text_are_words_drawn_by_frequency():
    """The survey: negatives are words not in the context. In text they are drawn from the counts to the power
    3/4, whatever stands around (negatives of MMSkip-gram's pictures are pictures, and its text has none)."""
    model = model_of("ns", negatives=3)
    drawn = torch.multinomial(model.noise, 60_000, True, generator=torch.Generator().manual_seed(1))
    shares = torch.bincount(drawn, minlength=5) / 60_000
    weights = [count**0.75 for count in VOCABULARY.counts]
    want = torch.tensor([w / sum(weights) for w in weights])
    torch.testing.assert_close(shares, want, atol=0.01, rtol=0)
    assert not hasattr(model_of("hs"), "noise")


# ----------------------------------------------------------------------------------------------------- model

@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_of_a_pair_is_that_of_its_equation(objective):
    model = model_of(objective)
    inputs, targets = torch.tensor([0, 3, 2, 2]), torch.tensor([1, 4, 2, 0])
    found = model.losses(inputs, targets, torch.Generator().manual_seed(5))
    again = torch.Generator().manual_seed(5)
    drawn = torch.multinomial(model.noise, 20, True, generator=again).view(4, 5) if objective == "ns" else []
    for m, (i, o) in enumerate(zip(inputs.tolist(), targets.tolist())):
        v, U = model.W_in[i], model.W_out
        if objective == "softmax":
            want = -float((U @ v).log_softmax(0)[o])
        elif objective == "hs":
            way = model.tree.paths[o][model.tree.mask[o]], model.tree.bits[o][model.tree.mask[o]]
            want = -sum(math.log(sigma((1 - 2 * int(b)) * float(U[k] @ v))) for k, b in zip(*way))
        else:
            want = -math.log(sigma(float(U[o] @ v))) - sum(
                math.log(sigma(-float(U[k] @ v))) for k in drawn[m] if k != o)
        assert float(found[m]) == pytest.approx(want)
    assert float(model.loss(inputs, targets, torch.Generator().manual_seed(5))) == pytest.approx(
        float(found.mean()))
    if objective != "ns":                                             # a batch of one is a row of the batch
        torch.testing.assert_close(model.losses(inputs[2:3], targets[2:3]), found[2:3])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_word_of_a_batch_gets_a_gradient_and_no_other_input(objective):
    model = model_of(objective, negatives=50)
    model.loss(torch.tensor([0, 3]), torch.tensor([1, 4])).backward()
    moved = model.W_in.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, False, False, True, False]
    assert bool((model.W_out.grad.abs().sum(1) > 0).any())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_distribution_over_words_sums_to_one_and_its_logarithms_are_the_losses(objective):
    model = model_of(objective)
    words = torch.arange(5)
    log_p = model.log_p(words)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(5, dtype=torch.float64))
    if objective != "ns":
        for o in range(5):
            torch.testing.assert_close(-log_p[:, o], model.losses(words, torch.full((5,), o)))
    text = numbered(SENTENCES, VOCABULARY)
    inputs, targets = pairs(text, torch.full_like(text.ids, 2))
    want = sum(float(log_p[i, o]) for i, o in zip(inputs.tolist(), targets.tolist()))
    assert model.score(text) == pytest.approx(want)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_handful_of_sentences_is_learnt_by_batches_to_what_they_allow(objective):
    text = numbered(SENTENCES, VOCABULARY)
    torch.manual_seed(0)
    model = SkipGram(SkipGramConfig(objective=objective, dim=8, window=2), VOCABULARY)
    batches = WindowBatches(text, len(text.ids), window=2, dynamic=False)
    history = fit(model, pair_loss, batches, steps=400, lr=0.05, progress=False)
    assert history.loss[-1] < history.loss[0]
    counts = cooccurrences(text, 5, 2, dynamic=False)
    p = counts / counts.sum(1, keepdim=True)
    best = float((counts * p.clamp(min=1e-12).log()).sum())
    unigram = float((counts * (counts.sum(0) / counts.sum()).log()).sum())
    assert best * 1.06 < model.score(text) <= best * (1 - 1e-6)
    assert model.score(text) > unigram


def test_one_size_fits_the_vocabulary_and_the_objective():
    hs, ns = model_of("hs"), model_of("ns")
    assert hs.W_in.shape == ns.W_in.shape == ns.W_out.shape == (5, 6) and hs.W_out.shape == (4, 6)
    assert hs.config.vocab == 5 and set(hs.state_dict()) == {"W_in", "W_out"}
    bound = replace(hs.config, init=0.5).init / 6
    fresh = SkipGram(hs.config, VOCABULARY)
    assert float(fresh.W_in.abs().max()) <= bound and not fresh.W_out.any()


@pytest.mark.parametrize("name, want", [
    ("word2vec", 2 * 71_291 * 100), ("ldc", (2 * 82_000 - 1) * 640), ("neg5", 2 * 692_000 * 300),
    ("neg15", 2 * 692_000 * 300), ("hs_huffman", (2 * 692_000 - 1) * 300)])
def test_the_sizes_of_the_papers(name, want):
    with torch.device("meta"):
        model = SkipGram(getattr(SkipGramConfig, name)())
    assert sum(p.numel() for p in model.parameters()) == want


def test_the_defaults_are_those_of_word2vec_c():
    c = SkipGramConfig.word2vec()
    assert (c.dim, c.window, c.sample, c.negatives, c.min_count, c.epochs, c.lr) == (
        100, 5, 1e-3, 5, 5, 5, 0.025)
    assert (c.objective, c.power, c.least, c.init, c.keep, c.dynamic) == ("ns", 0.75, 1e-4, 0.5, "code", True)
    assert SkipGramConfig.neg5().keep == "paper" and SkipGramConfig.neg5().sample == 1e-5


@pytest.mark.parametrize("values, sentence", [
    ({"objective": "none"}, "objective of SkipGramConfig is 'none', with which nothing would be learnt; use"),
    ({"objective": ""}, "with which nothing would be learnt"),
    ({"negatives": 0}, "negatives of SkipGramConfig is 0, expected from 1"),
    ({"keep": "all"}, "keep of SkipGramConfig is 'all'; use one of paper, code"),
    ({"sample": 2.0}, "sample of SkipGramConfig is 2.0"),
    ({"window": 0}, "window of SkipGramConfig is 0"),
    ({"dim": 0}, "dim of SkipGramConfig is 0"),
    ({"vocab": 1}, "vocab of SkipGramConfig is 1"),
    ({"lr": math.nan}, "lr of SkipGramConfig is nan"),
])
def test_settings_that_teach_nothing_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        SkipGramConfig(**values)


def test_a_model_without_a_vocabulary_says_what_it_lacks():
    model = SkipGram(replace(SkipGramConfig.mini(), vocab=4))
    word = torch.tensor([0])
    for ask in (lambda: model.loss(word, word), lambda: model.log_p(word), model.vectors):
        with pytest.raises(ValueError, match="make it with the vocabulary of a corpus"):
            ask()


@pytest.mark.parity
def test_the_probabilities_of_negatives_are_those_of_gensims_table():
    from gensim.models import Word2Vec

    theirs = Word2Vec(min_count=1, negative=5, workers=1)
    theirs.build_vocab(SENTENCES)
    table = np.diff(np.concatenate([[0], theirs.cum_table.astype(np.float64)])) / (2**31 - 1)
    np.testing.assert_allclose(model_of("ns").noise.numpy(), table, atol=1e-7)
