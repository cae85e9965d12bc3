"""The language model with vokens: its formulas, its sizes, transformers' outputs, and how it is trained."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, numbers, stirred

from mmlearn.data.pairs import scene_pairs, scene_tokeniser
from mmlearn.images_for_language.token_image_matching import MatcherConfig, TokenImageMatcher
from mmlearn.images_for_language.voken_lm import (
    VokenHead,
    VokenLM,
    VokenLMConfig,
    ablated,
    asked_vokens,
    visually_supervised,
    voken_lm_losses,
    voken_logits,
    voken_loss,
)
from mmlearn.images_for_language.voken_training import (
    AugmentedBatches,
    FeatureBatches,
    MaskedBatches,
    matcher_step,
    text_blocks,
    train_matcher,
    train_voken_lm,
)
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.modes import blank, seeded
from mmlearn.nn.vision import ResidualTrunk

TEXT = BERTConfig(40, 12, 16, 2, 2, 32, pad=0, dropout=0.0, pooler=False)
SMALL = VokenLMConfig(TEXT, 9)


def model(config=SMALL):
    with seeded(0):
        return stirred(VokenLM(config), seed=1).eval()


def rows():
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, 40, (3, 8), generator=g)
    vokens = torch.randint(0, 9, (3, 8), generator=g)
    tokens[:, 0], tokens[:, 7] = 2, 3
    vokens[:, 0] = vokens[:, 7] = -100
    tokens[2, 5:], vokens[2, 4:] = 0, -100
    labels = torch.full_like(tokens, -100)
    labels[0, 2], labels[1, 4], labels[1, 5] = tokens[0, 2], tokens[1, 4], tokens[1, 5]
    return tokens, labels, vokens


# ------------------------------------------------------------------------------------------ equations


def test_e27_vokens_are_neither_learnt_apart_and_joined_nor_learnt_together():
    """A third way: pictures are chosen beforehand and only asked for. None goes in, none is learnt."""
    lm, (tokens, labels, vokens) = model(), rows()
    text = count(lm.bert)
    assert lm.bert(tokens).shape == lm(tokens).shape == (3, 8, 16)          # reads text alone
    assert {name.split(".")[0] for name, _ in lm.named_parameters()} == {"bert", "words", "vokens"}
    voken_lm_losses(lm, tokens, labels, vokens)["voken"].backward()
    moved = sum(p.numel() for p in lm.bert.parameters() if p.grad is not None and p.grad.abs().sum() > 0)
    assert moved > 0.9 * text                                               # and pictures change all of it


@pytest.mark.equation("eq:voken-logits")
@pytest.mark.equation("eq:voken-loss")
def test_the_loss_is_the_mean_negative_log_probability_of_the_vokens_that_are_asked():
    z, W, b = numbers(2, 3, 4), numbers(5, 4, seed=1), numbers(5, seed=2)
    vokens = torch.tensor([[4, -100, 0], [2, 2, -100]])
    scores, total, asked = voken_logits(z, W, b), 0.0, 0
    for i in range(2):
        for j in range(3):
            row = [sum(float(z[i, j, k] * W[v, k]) for k in range(4)) + float(b[v]) for v in range(5)]
            for v in range(5):
                assert float(scores[i, j, v]) == pytest.approx(row[v])
            if vokens[i, j] >= 0:
                total -= row[vokens[i, j]] - math.log(sum(math.exp(one) for one in row))
                asked += 1
    assert float(voken_loss(scores, vokens)) == pytest.approx(total / asked)
    assert float(voken_loss(scores, torch.full_like(vokens, -100))) == 0.0
    assert float(voken_loss(torch.zeros(4, 50), torch.arange(4))) == pytest.approx(math.log(50))


@pytest.mark.equation("eq:voken-total")
def test_the_whole_is_the_vokens_and_lambda_times_the_words():
    assert float(visually_supervised(torch.tensor(2.0), torch.tensor(3.0), 0.5)) == 3.5


@pytest.mark.equation("eq:voken-head")
def test_the_head_is_a_layer_gelu_normalisation_and_a_layer_of_its_own():
    head = stirred(VokenHead(SMALL), seed=3).double()
    h = numbers(2, 16)
    u = h @ head.dense.weight.mT + head.dense.bias
    u = u * (1 + torch.erf(u / 2**0.5)) / 2
    u = (u - u.mean(1, keepdim=True)) / (u.var(1, unbiased=False, keepdim=True) + 1e-12).sqrt()
    z = u * head.norm.weight + head.norm.bias
    torch.testing.assert_close(head(h), z @ head.decoder.weight.mT + head.decoder.bias)


def test_losses_of_a_batch_are_those_of_all_positions_one_by_one():
    lm, (tokens, labels, vokens) = model(), rows()
    parts = voken_lm_losses(lm, tokens, labels, vokens)
    states = lm(tokens)
    word, voken = (torch.stack([-F.log_softmax(scores, -1)[i, j, wanted[i, j]]
                                for i in range(3) for j in range(8) if wanted[i, j] >= 0]).mean()
                   for scores, wanted in ((lm.words(states), labels), (lm.vokens(states), vokens)))
    torch.testing.assert_close(parts["word"], word)
    torch.testing.assert_close(parts["voken"], voken)
    torch.testing.assert_close(parts["loss"], word + voken)
    plain = voken_lm_losses(lm, tokens, labels, torch.full_like(vokens, -100))
    torch.testing.assert_close(plain["loss"], word)                         # masked language modelling alone


# --------------------------------------------------------------------------------------------- vokens


def test_vokens_may_be_asked_of_all_of_the_hidden_or_of_the_other_words():
    tokens, labels, vokens = rows()
    hidden = labels >= 0
    assert torch.equal(asked_vokens(vokens, labels, "all"), vokens)
    assert torch.equal(asked_vokens(vokens, labels, "mask") >= 0, hidden & (vokens >= 0))
    assert torch.equal(asked_vokens(vokens, labels, "nonmask") >= 0, ~hidden & (vokens >= 0))
    lm = model(replace(SMALL, asked="mask"))
    ours = voken_lm_losses(lm, tokens, labels, vokens)["voken"]
    only = vokens.masked_fill(~hidden, -100)
    torch.testing.assert_close(ours, voken_loss(lm.vokens(lm(tokens)), only))


def test_ablations_change_vokens_and_never_where_they_stand():
    tokens, _, vokens = rows()
    has = vokens >= 0
    draws = torch.Generator().manual_seed(0)
    for kind in ("random", "shuffle", "reverse", "token"):
        out = ablated(vokens, tokens, kind, 9, draws)
        assert torch.equal(out >= 0, has) and not torch.equal(out, vokens), kind
    assert torch.equal(ablated(vokens, tokens, "token", 9)[has], tokens[has])
    for i in range(3):
        row = vokens[i][has[i]].tolist()
        assert ablated(vokens, tokens, "reverse", 9)[i][has[i]].tolist() == row[::-1]
        shuffled = ablated(vokens, tokens, "shuffle", 9, draws)[i][has[i]].tolist()
        assert sorted(shuffled) == sorted(row)
    whole = ablated(vokens.view(1, -1), tokens.view(1, -1), "shuffle", 9, draws).view_as(vokens)
    assert sorted(whole[has].tolist()) == sorted(vokens[has].tolist())
    assert any(sorted(a.tolist()) != sorted(b.tolist()) for a, b in zip(whole, vokens))
    zeros = torch.zeros(1, 5000, dtype=torch.long)
    many = ablated(zeros, zeros, "random", 9)
    assert torch.bincount(many[0], minlength=9).min() > 450


# ----------------------------------------------------------------------------------------------- model


def test_the_published_sizes_have_the_published_heads():
    with blank():
        base, small = VokenLM(VokenLMConfig.base()), VokenLM(VokenLMConfig.small())
    assert count(base.vokens) == 39_042_128 and count(small.vokens) == 25_913_680
    assert count(base) == 109_514_298 + 39_042_128 and count(small) == 35_099_962 + 25_913_680
    with pytest.raises(ValueError, match="text of VokenLMConfig has a pooler"):
        VokenLMConfig(BERTConfig.base())


def test_gradients_reach_every_parameter_and_without_vokens_none_of_the_head():
    lm, (tokens, labels, vokens) = model().train(), rows()
    voken_lm_losses(lm, tokens, labels, vokens)["loss"].backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0
               for name, p in lm.named_parameters() if "segments" not in name)
    lm.zero_grad(set_to_none=True)
    voken_lm_losses(lm, tokens, labels, torch.full_like(vokens, -100))["loss"].backward()
    assert all(p.grad is None or float(p.grad.abs().sum()) == 0 for p in lm.vokens.parameters())
    assert float(lm.bert.embed.words.weight.grad.abs().sum()) > 0


def test_padding_changes_nothing_and_a_row_stands_alone():
    lm, (tokens, _, _) = model(), rows()
    scores = lm.vokens(lm(tokens))
    torch.testing.assert_close(lm.vokens(lm(tokens[2:, :5]))[0], scores[2, :5], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.slow
def test_words_and_vokens_are_those_of_transformers_with_the_released_head():
    from transformers import BertConfig, BertForMaskedLM

    theirs = BertForMaskedLM(BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12)).eval()
    lm = model()
    theirs.visual_cls_head = torch.nn.ModuleDict({
        "dense": torch.nn.Linear(16, 16), "layer_norm": torch.nn.LayerNorm(16, eps=1e-12),
        "decoder": torch.nn.Linear(16, 9)})
    head = theirs.visual_cls_head
    own, state = lm.state_dict(), {}
    table = {"words.dense": "cls.predictions.transform.dense",
             "words.norm": "cls.predictions.transform.LayerNorm",
             "vokens.dense": "visual_cls_head.dense", "vokens.norm": "visual_cls_head.layer_norm",
             "vokens.decoder": "visual_cls_head.decoder", "bert.embed.norm": "bert.embeddings.LayerNorm"}
    for ours, their in table.items():
        for kind in ("weight", "bias"):
            state[f"{their}.{kind}"] = own.pop(f"{ours}.{kind}")
    state["cls.predictions.bias"] = state["cls.predictions.decoder.bias"] = own.pop("words.bias")
    for kind, their in (("words", "word"), ("positions", "position"), ("segments", "token_type")):
        state[f"bert.embeddings.{their}_embeddings.weight"] = own.pop(f"bert.embed.{kind}.weight")
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    parts = {"attention.out": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
             "feed_forward.inner": "intermediate.dense", "feed_forward.outer": "output.dense",
             "feed_forward_norm": "output.LayerNorm"}
    for i in range(2):
        for kind in ("weight", "bias"):
            for ours, their in parts.items():
                state[f"bert.encoder.layer.{i}.{their}.{kind}"] = own.pop(f"bert.layers.{i}.{ours}.{kind}")
            thirds = own.pop(f"bert.layers.{i}.attention.in_{kind}").chunk(3)
            for part, third in zip(("query", "key", "value"), thirds, strict=True):
                state[f"bert.encoder.layer.{i}.attention.self.{part}.{kind}"] = third
    assert not own
    theirs.load_state_dict(state)
    tokens, labels, vokens = rows()
    real = tokens != 0
    with torch.no_grad():
        out = theirs(input_ids=tokens, attention_mask=real.long(), labels=labels, output_hidden_states=True)
        z = head["layer_norm"](F.gelu(head["dense"](out.hidden_states[-1])))
        scores = head["decoder"](z)
        states = lm(tokens)
        torch.testing.assert_close(lm.words(states)[real], out.logits[real], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(lm.vokens(states)[real], scores[real], atol=1e-5, rtol=1e-5)
        parts = voken_lm_losses(lm, tokens, labels, vokens)
    torch.testing.assert_close(parts["word"], out.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts["voken"], F.cross_entropy(scores.view(-1, 9), vokens.view(-1)),
                               atol=1e-5, rtol=1e-5)


# -------------------------------------------------------------------------------------------- training


def masked(vokens=True, batch=3, **more):
    tokens, _, given = rows()
    return MaskedBatches(tokens, given if vokens else None, batch, special=(0, 2, 3), vocab=40, mask_id=1,
                         pad=0, **more)


def test_a_batch_follows_from_its_number_and_hides_no_special_token():
    batches = masked(rate=0.5)
    first, again, later = batches[4], batches[4], batches[5]
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first.labels, later.labels)
    hidden = first.labels >= 0
    assert hidden.any() and (first.labels[hidden] > 3).all()
    assert (masked(vokens=False)[0].vokens == -100).all()
    with pytest.raises(ValueError, match=r"tokens are \(3, 8\), vokens \(3, 7\)"):
        MaskedBatches(rows()[0], rows()[2][:, :7], 3, special=(), vocab=40, mask_id=1, pad=0)


def test_a_corpus_is_cut_in_blocks_between_two_special_tokens():
    tokens, vokens = text_blocks([[5, 6, 7], [8, 9], [4, 4]], [[0, 1, 2], [3, 4], [5, 5]], 2, 3, length=3)
    assert tokens.tolist() == [[2, 5, 6, 7, 3], [2, 8, 9, 4, 3]]
    assert vokens.tolist() == [[-100, 0, 1, 2, -100], [-100, 3, 4, 5, -100]]
    with pytest.raises(ValueError, match="text 0 has 1 tokens and 2 vokens"):
        text_blocks([[5]], [[1, 2]], 2, 3)
    with pytest.raises(ValueError, match="1 tokens make no block of 126"):
        text_blocks([[5]], [[1]], 2, 3)


def test_a_handful_of_sentences_and_their_vokens_is_learnt_by_heart():
    lm = model().train()
    tokens, _, vokens = rows()
    batches = MaskedBatches(tokens, vokens, 3, special=(0, 2, 3), vocab=40, mask_id=1, pad=0, rate=0.3)
    train_voken_lm(lm, batches, steps=80, lr=1e-2, warmup=5, progress=False)
    with torch.no_grad():
        found = lm.vokens(lm.eval()(tokens)).argmax(-1)
    assert ((found == vokens) | (vokens < 0)).all()


@pytest.mark.slow
def test_a_matcher_learns_from_pictures_or_from_their_rows_alike(tmp_path):
    data = scene_pairs(12, size=16)
    tokeniser = scene_tokeniser(data)
    config = MatcherConfig(BERTConfig(len(tokeniser), 24, 16, 2, 2, 32, pad=tokeniser.pad, pooler=False), 2,
                           (4, 8, 8), 16, 8, 0.0)
    with seeded(0):
        matcher = TokenImageMatcher(config)
        stirred(matcher.bert, scale=0.3)
        stirred(matcher.trunk, scale=0.3)
    rows_of = FeatureBatches(matcher, data, tokeniser, 7)
    pictures = AugmentedBatches(data, tokeniser, 7, augment=lambda images: images)
    assert rows_of.size == pictures.size == 6                       # halves, each the other's negatives
    torch.testing.assert_close(matcher_step(matcher.train(), rows_of[0]), matcher_step(matcher, pictures[0]))
    changed = AugmentedBatches(data, tokeniser, 6)
    assert changed[0].images.shape[-1] == 224 and torch.equal(changed[0].images, changed[0].images)
    history = train_matcher(matcher, rows_of, steps=60, lr=1e-2, progress=False)
    assert history.loss[0] == pytest.approx(0.5, abs=0.1) and history.smooth(5)[-1] < 0.49
    assert isinstance(matcher.trunk.trunk, ResidualTrunk) and not matcher.trunk.trunk.training
