"""The taming transformer: sizes, each equation by loops, prefixes, windows, and the authors' code."""

import math

import pytest
import torch
from networks import count, stirred
from oracles import taming

from mmlearn.generate import score
from mmlearn.nn.attention import KVCache
from mmlearn.text2image.taming_transformer import (
    Prefix,
    TamingTransformer,
    TamingTransformerConfig,
    choose,
    code_loss,
    code_objective,
    keep_most,
    sample_codes,
    sample_sliding,
    window_start,
)
from mmlearn.train import fit

TINY = TamingTransformerConfig(7, 22, 16, 2, 2)


def build(config=TINY, seed=0):
    """A model that has preferences."""
    torch.manual_seed(seed)
    return stirred(TamingTransformer(config), seed=None, scale=0.3).eval()


def drawn_by_hand(model, prefix, number):
    """The likeliest codes one after the other, everything computed anew each time."""
    tokens = prefix
    for _ in range(number):
        tokens = torch.cat([tokens, model.read(tokens)[:, -1].argmax(1, keepdim=True)], dim=1)
    return tokens[:, prefix.shape[1]:]


def test_the_class_conditional_model_of_imagenet_has_one_point_four_billion_parameters():
    with torch.device("meta"):
        assert round(count(TamingTransformer(TamingTransformerConfig.imagenet())) / 1e9, 1) == 1.4


@pytest.mark.parametrize("name", ["semantic", "faces", "imagenet"])
def test_parameters_are_those_of_the_formula(name):
    c = getattr(TamingTransformerConfig, name)()
    d = c.width
    layer = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d
    with torch.device("meta"):
        assert count(TamingTransformer(c)) == c.layers * layer + 2 * c.vocab * d + c.positions * d + 2 * d


@pytest.mark.equation("eq:taming-loss")
@torch.no_grad()
def test_the_loss_is_the_mean_logarithm_of_each_code_given_those_before():
    model = build().double()
    prefix, codes = torch.randint(7, (2, 3)), torch.randint(7, (2, 4))
    want = 0.0
    for i in range(2):
        for p in range(4):
            seen = torch.cat([prefix[i], codes[i, :p]])
            logits = model.read(seen[None])[0, -1].tolist()
            total = sum(math.exp(v) for v in logits)
            want -= math.log(math.exp(logits[codes[i, p]]) / total) / 8
    assert float(code_loss(model(prefix, codes), codes)) == pytest.approx(want)


def test_a_fresh_model_knows_nothing():
    torch.manual_seed(0)
    model = TamingTransformer(TINY)
    codes = torch.randint(7, (4, 9))
    assert float(code_loss(model(torch.zeros(4, 1, dtype=torch.long), codes), codes)) == pytest.approx(
        math.log(7), abs=0.05)


@pytest.mark.equation("eq:taming-window")
def test_a_window_has_its_code_in_the_middle_and_stays_in_the_grid():
    assert [window_start(i, 6, 4) for i in range(6)] == [0, 0, 0, 1, 2, 2]
    for size in range(16, 40):
        for i in range(size):
            start = window_start(i, size, 16)
            row = i if i <= 8 else 16 - (size - i) if size - i < 8 else 8         # as the authors' notebook
            assert 0 <= start <= size - 16 and i - start == row


@pytest.mark.equation("eq:taming-keep")
def test_some_codes_are_replaced_by_any():
    codes = torch.full((200, 50), 3)
    changed = keep_most(codes, 5, 0.9, torch.Generator().manual_seed(0))
    assert float((changed != 3).double().mean()) == pytest.approx(0.1 * 4 / 5, abs=0.01)
    assert torch.equal(keep_most(codes, 5, 1.0), codes) and set(changed.unique().tolist()) == set(range(5))


def test_a_code_depends_on_the_prefix_and_on_codes_before_it_alone():
    model = build()
    codes = torch.randint(7, (1, 6))
    prefix = torch.randint(7, (1, 2))
    logits = model(prefix, codes)
    for changed in range(6):
        other = codes.clone()
        other[0, changed] = (other[0, changed] + 1) % 7
        same = (model(prefix, other) - logits).abs().amax(dim=2)[0] < 1e-6
        assert same.tolist() == [True] * (changed + 1) + [False] * (5 - changed)
    assert ((model((prefix + 1) % 7, codes) - logits).abs().amax(dim=2) > 1e-4).all()


@torch.no_grad()
def test_with_kept_keys_and_values_the_logits_are_the_same():
    model = build()
    tokens = torch.randint(7, (3, 8))
    whole = model.read(tokens)
    with KVCache(model):
        parts = [model.read(tokens[:, :3])] + [model.read(tokens[:, i:i + 1]) for i in range(3, 8)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_likeliest_codes_are_those_found_by_hand_whatever_the_prefix():
    model = build()
    prefix = torch.randint(7, (3, 2))
    codes = sample_codes(model, prefix, 3, 4, top_k=1)
    assert torch.equal(codes.flatten(1), drawn_by_hand(model, prefix, 12))
    assert model.cache is None
    tokens = codes.flatten(1)[:, None]
    logs = score(model, Prefix(prefix), tokens, bos=0, eos=-1)
    want = model(prefix, tokens[:, 0]).log_softmax(-1).gather(-1, tokens[:, 0, :, None])[..., 0]
    torch.testing.assert_close(logs[:, 0], want, atol=1e-5, rtol=1e-5)


def test_rows_of_a_prefix_stand_together():
    prefix = Prefix(torch.tensor([[1, 2], [3, 4]]))
    assert prefix.rows == 2 and prefix.repeat(2).rows == 4
    assert prefix.repeat(2).of_rows.tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert prefix.repeat(2).select(torch.tensor([3, 0])).of_rows.tolist() == [[3, 4], [1, 2]]


def test_samples_are_a_function_of_the_seed_and_keep_to_the_likeliest():
    model = build()
    prefix = torch.zeros(64, 1, dtype=torch.long)
    first, second = (sample_codes(model, prefix, 2, 2, generator=torch.Generator().manual_seed(1))
                     for _ in range(2))
    assert torch.equal(first, second) and len(first.flatten(1).unique(dim=0)) > 1
    likeliest = model.read(prefix[:1])[0, -1].topk(2).indices.tolist()
    few = sample_codes(model, prefix, 2, 2, top_k=2)
    assert set(few[:, 0, 0].unique().tolist()) <= set(likeliest)
    mass = model.read(prefix[:1])[0, -1].softmax(0)
    nucleus = sample_codes(model, prefix, 1, 1, top_p=float(mass.max()) / 2)
    assert nucleus.unique().tolist() == [int(mass.argmax())]


@torch.no_grad()
def test_a_window_as_large_as_the_grid_draws_what_is_drawn_without_one():
    model = build()
    prefix = torch.randint(7, (2, 3))
    slid = sample_sliding(model, prefix, 4, 4, window=4, top_k=1)
    assert torch.equal(slid, sample_codes(model, prefix, 4, 4, top_k=1))


@torch.no_grad()
def test_larger_pictures_are_drawn_through_a_window_of_what_is_there():
    model = build()
    labels = torch.randint(7, (2, 5, 6))
    codes = sample_sliding(model, labels, 5, 6, window=3, top_k=1)
    for i in range(5):
        for j in range(6):
            top, left = min(max(i - 1, 0), 2), min(max(j - 1, 0), 3)
            given = labels[:, top:top + 3, left:left + 3].flatten(1)
            past = codes[:, top:top + 3, left:left + 3].flatten(1)[:, :3 * (i - top) + j - left]
            want = model.read(torch.cat([given, past], dim=1))[:, -1].argmax(1)
            assert torch.equal(codes[:, i, j], want)
    with pytest.raises(ValueError, match="a grid of 2 x 6 is smaller than the window of 3; use sample_codes"):
        sample_sliding(model, labels[:, :2], 2, 6, window=3)


def test_a_temperature_near_zero_chooses_the_likeliest():
    logits = torch.randn(5, 7)
    assert torch.equal(choose(logits, 1e-4), logits.argmax(1))


def test_gradients_reach_every_parameter_and_a_few_pictures_are_learnt_by_heart():
    torch.manual_seed(0)
    model = TamingTransformer(TINY)
    codes, prefix = torch.randint(7, (4, 9)), torch.arange(4)[:, None]
    code_loss(model(prefix, codes), codes).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    objective = code_objective(lambda images: images.long().view(4, 3, 3), 0.95)
    fit(model, objective, lambda i: (prefix, codes.float()), steps=150, lr=5e-3, progress=False)
    assert torch.equal(sample_codes(model, prefix, 3, 3, top_k=1).flatten(1), codes)


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="heads of TamingTransformerConfig is 3, which does not divide"):
        TamingTransformerConfig(7, 22, 16, 2, 3)
    with pytest.raises(ValueError, match="token ids go from 7 to 7, the vocabulary from 0 to 6"):
        build().read(torch.tensor([[7]]))
    with pytest.raises(ValueError, match="position 23 is past the table's 22"):
        build().read(torch.zeros(1, 23, dtype=torch.long))


@pytest.mark.parity
@torch.no_grad()
def test_logits_are_those_of_the_authors_code():
    from mmlearn.pretrained.vqgan import gpt_names

    GPT = taming("modules.transformer.mingpt").modules.transformer.mingpt.GPT
    torch.manual_seed(0)
    theirs = stirred(GPT(7, 22, n_layer=2, n_head=2, n_embd=16).eval(), seed=None, scale=0.2)
    state, used, ours = theirs.state_dict(), set(), TamingTransformer(TINY).eval()
    for name, value in ours.state_dict().items():
        parts = gpt_names(name)
        used |= set(parts)
        value.copy_(torch.cat([state[p].reshape(-1, *value.shape[1:]) for p in parts]))
    assert used == {name for name in state if not name.endswith(".mask")}
    tokens = torch.randint(7, (3, 22))
    torch.testing.assert_close(ours.read(tokens), theirs(tokens)[0], atol=1e-5, rtol=1e-5)
