import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmlearn.generate import (
    beam,
    beam_trace,
    greedy,
    keep_nucleus,
    keep_top_k,
    part_of_caption,
    sample,
    score,
)
from mmlearn.image2text.m2 import BOS, EOS, PAD, M2Config, M2Transformer
from mmlearn.nn.transformer import Context

CONFIG = M2Config(vocab=7, width=16, heads=2, layers=2, ff=32, memory=2, features=4, max_len=12)


def build(seed=0, scale=6.0, config=CONFIG):
    """A random model whose words have clearly different probabilities, in float64."""
    torch.manual_seed(seed)
    model = M2Transformer(config).double().eval()
    with torch.no_grad():
        model.output.weight.mul_(scale)
    return model


def images(b=3, seed=0, features=4):
    return torch.randn(b, 4, features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Table(nn.Module):
    """A model whose next word depends on the last word only, by a table of logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def decode(self, tokens, context):
        return self.logits[tokens]


def nothing(b=1):
    return Context(torch.zeros(b, 1, 1, 1, dtype=torch.float64))


def next_log_probs(model, features, words):
    """Log-probabilities of the word after ``words``, without a cache, for one image."""
    tokens = torch.tensor([[BOS, *words]])
    with torch.no_grad():
        return model.decode(tokens, model.encode(features[None]))[0, -1].log_softmax(-1).tolist()


def naive_beam(model, features, k, max_len):
    """Beam search with lists: (words, log-probability of each word, finished)."""
    beams = [([], [], False)]
    for _ in range(max_len):
        candidates = []
        for words, gains, finished in beams:
            if finished:
                candidates.append(([*words, PAD], [*gains, 0.0], True))
            else:
                for word, gain in enumerate(next_log_probs(model, features, words)):
                    candidates.append(([*words, word], [*gains, gain], word == EOS))
        beams = sorted(candidates, key=lambda c: -sum(c[1]))[:k]
        if all(finished for _, _, finished in beams):
            break
    return beams


@pytest.mark.equation("eq:beam")
@pytest.mark.parametrize("k, seed", [(1, 0), (2, 1), (3, 2), (5, 3), (9, 4)])
def test_beam_search_equals_one_written_with_lists(k, seed):
    model, features = build(seed), images(3, seed)
    tokens, log_probs = beam(model, model.encode(features), k=k, max_len=6)
    for i in range(3):
        want = naive_beam(model, features[i], k, 6)
        length = max(len(words) for words, _, _ in want)
        assert tokens[i, :, :length].tolist() == [words for words, _, _ in want]
        assert (tokens[i, :, length:] == PAD).all()  # others of the batch went on for longer
        torch.testing.assert_close(log_probs[i, :, :length],
                                   torch.tensor([g for _, g, _ in want], dtype=torch.float64))


@pytest.mark.equation("eq:beam")
def test_a_wide_enough_beam_finds_the_likeliest_text_of_all():
    model, features, T, V = build(5), images(2, 5), 3, 7
    tokens, log_probs = beam(model, model.encode(features), k=V ** (T - 1), max_len=T)
    for i in range(2):
        best, value = None, -math.inf
        known = {}  # log-probabilities after each beginning
        for words in itertools.product(range(V), repeat=T):
            if EOS in words[:-1] and any(w != PAD for w in words[words.index(EOS) + 1 :]):
                continue                                                 # after <eos> there is only padding
            total = 0.0
            for t, word in enumerate(words):
                if t and EOS in words[:t]:
                    break
                if words[:t] not in known:
                    known[words[:t]] = next_log_probs(model, features[i], words[:t])
                total += known[words[:t]][word]
            if total > value:
                best, value = list(words), total
        assert tokens[i, 0].tolist() == best
        assert log_probs[i, 0].sum().item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed):
    model = build(seed)
    context = model.encode(images(4, seed))
    tokens, log_probs = beam(model, context, k=1, max_len=9)
    greedy_tokens, greedy_log_probs = greedy(model, context, max_len=9)
    assert torch.equal(tokens[:, 0], greedy_tokens)
    torch.testing.assert_close(log_probs[:, 0], greedy_log_probs)


def test_greedy_takes_the_likeliest_word_each_time():
    model, features = build(1), images(3, 1)
    tokens, log_probs = greedy(model, model.encode(features), max_len=8)
    for i in range(3):
        words = []
        while len(words) < 8 and EOS not in words:
            choices = next_log_probs(model, features[i], words)
            words.append(max(range(7), key=lambda w: choices[w]))
            assert log_probs[i, len(words) - 1].item() == pytest.approx(max(choices), abs=1e-9)
        assert tokens[i, : len(words)].tolist() == words
        assert (tokens[i, len(words) :] == PAD).all()
        assert (log_probs[i, len(words) :] == 0).all()


def test_beams_are_sorted_and_a_finished_one_keeps_its_place():
    #       unk  pad  bos  eos    a    b
    inf = -50.0
    logits = torch.tensor([
        [0.0] * 6, [0.0] * 6,
        [inf, inf, inf, math.log(0.4), math.log(0.35), math.log(0.25)],  # first word: end .40, a .35, b .25
        [0.0] * 6,
        [inf, inf, inf, math.log(0.2), math.log(0.4), math.log(0.4)],        # after a: end .2, a .4, b .4
        [inf, inf, inf, math.log(0.9), math.log(0.05), math.log(0.05)],      # after b: end .9
    ], dtype=torch.float64)
    tokens, log_probs = beam(Table(logits), nothing(), k=2, max_len=3)
    # the end (.40) stays; a goes on as a a / a b (.14 each), then a b end = .126
    assert tokens[0, 0].tolist() == [EOS, PAD, PAD]
    assert log_probs[0, 0].sum().exp().item() == pytest.approx(0.4)
    assert tokens[0, 1].tolist() in ([4, 5, EOS], [4, 4, 4], [4, 4, 5])
    totals = log_probs.sum(-1)
    assert totals[0, 0] >= totals[0, 1]
    tokens, log_probs = beam(Table(logits), nothing(), k=3, max_len=3)
    # with three places b is kept too, and b end = .225 beats everything that begins with a
    assert tokens[0, 1].tolist() == [5, EOS, PAD]
    assert log_probs[0, 1].sum().exp().item() == pytest.approx(0.225)


def test_there_is_no_length_normalisation():
    model = build(3)
    tokens, log_probs = beam(model, model.encode(images(4, 3)), k=5, max_len=8)
    totals = log_probs.sum(-1)
    assert (totals[:, :-1] >= totals[:, 1:]).all()
    assert (log_probs[~part_of_caption(tokens)] == 0).all()
    assert (tokens[~part_of_caption(tokens)] == PAD).all()


def test_stopping_early_changes_nothing():
    logits = torch.zeros(7, 7, dtype=torch.float64)
    logits[:, EOS] = 30.0
    tokens, log_probs = beam(Table(logits), nothing(2), k=2, max_len=20)
    assert tokens.shape[2] < 20
    longer = beam(Table(logits), nothing(2), k=2, max_len=40)
    assert torch.equal(longer[0], tokens)
    torch.testing.assert_close(longer[1], log_probs)


def test_more_places_than_texts_leave_places_empty():
    tokens, log_probs = beam(Table(torch.zeros(4, 4, dtype=torch.float64)), nothing(), k=30, max_len=2)
    texts = {tuple(words) for words, total in zip(tokens[0].tolist(), log_probs[0].sum(-1).tolist())
             if total > -math.inf}
    assert len(texts) == 1 + 3 * 4  # the end at once, or three words and any


@pytest.mark.parametrize("k, max_len", [(0, 5), (3, 0)])
def test_a_beam_needs_a_place_and_a_step(k, max_len):
    with pytest.raises(ValueError, match="at least 1"):
        beam(Table(torch.zeros(4, 4)), nothing(), k=k, max_len=max_len)


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_an_image_in_a_batch_is_captioned_as_it_is_alone(method):
    model, features = build(7), images(3, 7)

    def run(part):
        context = model.encode(part)
        if method == "greedy":
            return greedy(model, context, max_len=8)[0][:, None]
        if method == "beam":
            return beam(model, context, k=4, max_len=8)[0]
        return sample(model, context, k=4, max_len=8, top_k=1)[0]

    together = run(features)
    for i in range(3):
        alone = run(features[i : i + 1])[0]
        assert torch.equal(together[i, :, : alone.shape[-1]], alone)


@pytest.mark.equation("eq:caption-chain")
@pytest.mark.parametrize("method", ["beam", "sample"])
def test_one_pass_gives_the_log_probabilities_of_the_search_with_gradients(method):
    model = build(4)
    context = model.encode(images(3, 4))
    if method == "beam":
        tokens, log_probs = beam(model, context, k=4, max_len=8)
    else:
        tokens, log_probs = sample(model, context, k=4, max_len=8, generator=torch.Generator().manual_seed(0))
    again = score(model, context, tokens)
    torch.testing.assert_close(again, log_probs)
    assert again.requires_grad and not log_probs.requires_grad
    again.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_caption_ends_with_its_first_end():
    tokens = torch.tensor([[5, 3, 1, 1], [5, 6, 5, 4], [3, 3, 5, 1]])
    assert part_of_caption(tokens).tolist() == [
        [True, True, False, False],
        [True] * 4,
        [True, False, False, False],
    ]


def test_the_trace_of_a_beam_rebuilds_its_texts():
    model = build(6)
    context = model.encode(images(2, 6))
    tree = beam_trace(model, context, k=3, max_len=6)
    tokens, log_probs = beam(model, context, k=3, max_len=6)
    assert torch.equal(tree.tokens, tokens)
    assert len(tree.steps) == tokens.shape[2]
    for i in range(2):
        for place in range(3):
            words, at = [], place
            for step in reversed(tree.steps):
                words.append(step.token[i, at].item())
                at = step.parent[i, at].item()
            assert words[::-1] == tokens[i, place].tolist()
    for step in tree.steps:  # what was kept is the best of what was offered
        offers = step.totals.flatten(1).sort(descending=True).values[:, :3]
        torch.testing.assert_close(step.total, offers)
    torch.testing.assert_close(tree.steps[-1].total, log_probs.sum(-1))


@pytest.mark.parity
def test_hugging_face_finds_the_same_captions_where_none_ends_early():
    from transformers import BartConfig, BartForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    torch.manual_seed(0)
    theirs = BartForConditionalGeneration(BartConfig(
        vocab_size=30, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=40,
        dropout=0.0, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, decoder_start_token_id=BOS,
        forced_eos_token_id=None, init_std=0.4,
    )).eval()
    with torch.no_grad():
        theirs.final_logits_bias[0, [EOS, PAD]] = -1e4                   # no caption ends before max_len
    source = torch.randn(3, 5, 32)

    class Ours(nn.Module):
        keeps_past = True  # of tokens: this peer is asked without its own

        def decode(self, tokens, context):
            tokens = self.cache.extend(self, tokens[..., None], tokens[..., None])[0][..., 0]
            k = len(tokens) // len(source)
            return theirs(encoder_outputs=BaseModelOutput(source.repeat_interleave(k, 0)),
                          decoder_input_ids=tokens).logits

    for k in (1, 4):
        with torch.no_grad():
            want = theirs.generate(encoder_outputs=BaseModelOutput(source),
                                   attention_mask=torch.ones(3, 5, dtype=torch.long), num_beams=k,
                                   do_sample=False, max_new_tokens=7, min_new_tokens=7, length_penalty=0.0,
                                   early_stopping=False, num_return_sequences=k)
        got, _ = beam(Ours(), Context(source[:, None]), k=k, max_len=7)
        assert torch.equal(got.flatten(0, 1), want[:, 1:])


# --------------------------------------------------------------------------------------------------- sampling


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=12), st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_top_k_keeps_the_k_best_words(values, k):
    kept = keep_top_k(torch.tensor([values], dtype=torch.float64), k)[0]
    least = sorted(values, reverse=True)[min(k, len(values)) - 1]
    assert [v.item() for v in kept] == [v if v >= least else -math.inf for v in values]


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=12), st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=50)
def test_the_nucleus_is_the_smallest_set_of_best_words_with_mass_p(values, p):
    kept = keep_nucleus(torch.tensor([values], dtype=torch.float64), p)[0]
    total = sum(math.exp(v) for v in values)
    mass, order = 0.0, sorted(range(len(values)), key=lambda i: -values[i])
    boundary = []
    want = set()
    for i in order:
        if abs(mass - p) < 1e-9:
            boundary.append(i)                                           # decided by rounding
        elif mass < p:
            want.add(i)
        mass += math.exp(values[i]) / total
    got = {i for i, v in enumerate(kept) if v > -math.inf}
    assert got - set(boundary) == want - set(boundary)


@pytest.mark.parity
def test_hugging_face_cuts_the_same_words():
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    for k in (1, 5, 30, 99):
        assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))
    for p in (0.1, 0.5, 0.9):
        assert torch.equal(keep_nucleus(logits, p), TopPLogitsWarper(p)(None, logits))


def test_a_nucleus_of_everything_drops_nothing():
    logits = torch.randn(4, 9)
    assert torch.equal(keep_nucleus(logits, 1.0), logits)
    assert (keep_nucleus(logits, 1e-6) > -math.inf).sum(-1).tolist() == [1] * 4


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7},
                                     {"temperature": 2.0, "top_k": 4}])
def test_words_are_drawn_as_often_as_they_should_be(options):
    logits = torch.tensor([[0.3, -1.0, 1.2, 0.0, 2.0, -0.5]], dtype=torch.float64).expand(6, 6)
    tokens, log_probs = sample(Table(logits), nothing(), k=20_000, eos=-1, max_len=1,
                               generator=torch.Generator().manual_seed(0), **options)
    scores = [v / options.get("temperature", 1.0) for v in logits[0].tolist()]
    allowed = sorted(range(6), key=lambda i: -scores[i])[: options.get("top_k", 6)]
    probs = {i: math.exp(scores[i]) / sum(math.exp(scores[j]) for j in allowed) for i in allowed}
    if "top_p" in options:
        mass = 0.0
        for i in list(allowed):
            if mass >= options["top_p"]:
                del probs[i]
            else:
                mass += probs[i]
        probs = {i: p / sum(probs.values()) for i, p in probs.items()}
    counts = torch.bincount(tokens.flatten(), minlength=6) / 20_000
    for i in range(6):
        assert counts[i].item() == pytest.approx(probs.get(i, 0.0), abs=0.015)
    torch.testing.assert_close(log_probs.flatten(), logits[0].log_softmax(-1)[tokens.flatten()])


def test_a_generator_makes_samples_repeatable():
    model = build(0)
    context = model.encode(images())
    def draw(seed):
        return sample(model, context, k=5, max_len=8, generator=torch.Generator().manual_seed(seed))[0]
    first, second, other = draw(1), draw(1), draw(2)
    assert torch.equal(first, second)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_samples_stop_at_their_end():
    model = build(0, scale=1.0)
    tokens, log_probs = sample(model, model.encode(images()), k=20, max_len=10,
                               generator=torch.Generator().manual_seed(0))
    past = ~part_of_caption(tokens)
    assert past.any() and (tokens[past] == PAD).all() and (log_probs[past] == 0).all()


@pytest.mark.parametrize("options, message", [({"temperature": 0.0}, "use "
                                                                     "greedy"), ({"top_k": 0}, "at least 1 "
                                                                                               "word"),
                                              ({"top_p": 1.5}, "top_p is 1.5")])
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sample(Table(torch.zeros(4, 4, dtype=torch.float64)), nothing(), **options)


def test_beam_search_runs_under_bfloat16():
    torch.manual_seed(0)
    model = M2Transformer(CONFIG).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens, log_probs = beam(model, model.encode(images().float()), k=3, max_len=6)
    assert log_probs.dtype == torch.float32 and torch.isfinite(log_probs).all()
    assert tokens.shape[:2] == (3, 3)
