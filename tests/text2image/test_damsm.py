"""DAMSM: words and regions, sentences and pictures, four losses."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, lengths_mask, numbers
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.text2image.damsm import (
    DAMSM,
    DAMSMConfig,
    ImageEncoder,
    SmallTrunk,
    TextEncoder,
    matching_losses,
    over_regions,
    over_words,
    posterior,
    region_attention,
    region_context,
    released_score,
    sentence_score,
    word_score,
    word_scores,
    word_similarity,
)

MINI = DAMSMConfig.mini(vocab=30, size=16)


WORDS, REGIONS, MASK = 0.7 * numbers(3, 4, 5), 0.7 * numbers(3, 6, 5, seed=1), lengths_mask(4, 3, 1)


def captions(b=4, t=6, seed=0):
    tokens = torch.randint(2, 30, (b, t), generator=torch.Generator().manual_seed(seed))
    for i in range(b):
        tokens[i, t - i % t:] = 1                                          # padding
    return tokens


# ---------------------------------------------------------------------------------------------- the formulas

def naive_word_score(image, caption, gamma1, gamma2, exponent):
    """R of one picture and one caption without padding, word by word."""
    t, p = len(caption), len(image)
    s = [[float(caption[i] @ image[j]) for j in range(p)] for i in range(t)]
    bar = [[math.exp(s[i][j]) / sum(math.exp(s[k][j]) for k in range(t)) for j in range(p)] for i in range(t)]
    total = 0.0
    for i in range(t):
        weights = [math.exp(gamma1 * bar[i][j]) for j in range(p)]
        context = sum(weights[j] / sum(weights) * image[j] for j in range(p))
        cosine = float(context @ caption[i] / (context.norm() * caption[i].norm()))
        total += math.exp(gamma2 * cosine)
    return math.log(total) / (gamma2 if exponent else 1)


@pytest.mark.equation("eq:damsm-similarity")
@pytest.mark.equation("eq:damsm-over-words")
@pytest.mark.equation("eq:damsm-attention")
@pytest.mark.equation("eq:damsm-context")
def test_words_share_regions_and_regions_share_words():
    s = word_similarity(WORDS, REGIONS)
    bar = over_words(s, MASK)
    alpha = over_regions(bar, 4.0)
    c = region_context(alpha, REGIONS)
    for i in range(3):                                                     # pictures
        for j in range(3):                                                 # captions
            t = int(MASK[j].sum())
            for p in range(6):
                exps = [math.exp(float(WORDS[j, k] @ REGIONS[i, p])) for k in range(t)]
                for k in range(t):
                    assert s[i, j, k, p].item() == pytest.approx(float(WORDS[j, k] @ REGIONS[i, p]))
                    assert bar[i, j, k, p].item() == pytest.approx(exps[k] / sum(exps))
            for k in range(t):
                exps = [math.exp(4 * float(bar[i, j, k, p])) for p in range(6)]
                want = sum(e / sum(exps) * REGIONS[i, p] for p, e in enumerate(exps))
                torch.testing.assert_close(c[i, j, k], want)
    assert (bar[:, 1, 3:] == 0).all()                                      # no region belongs to padding
    torch.testing.assert_close(bar.sum(2), torch.ones(3, 3, 6, dtype=torch.float64))
    torch.testing.assert_close(alpha.sum(3), torch.ones(3, 3, 4, dtype=torch.float64))


@pytest.mark.equation("eq:damsm-score")
@pytest.mark.equation("eq:damsm-score-code")
@pytest.mark.parametrize("score", ["code", "paper"])
def test_all_pairs_at_once_have_the_scores_of_each_pair_alone(score):
    config = replace(MINI, score=score)
    got = word_scores(WORDS, REGIONS, MASK, config)
    for i in range(3):
        for j in range(3):
            want = naive_word_score(REGIONS[i], WORDS[j, : int(MASK[j].sum())], 4.0, 5.0, score == "paper")
            assert got[i, j].item() == pytest.approx(want, abs=1e-10)


def test_p3_the_codes_logits_are_gamma_2_times_the_papers():
    cosine = numbers(2, 3, 4).tanh()
    torch.testing.assert_close(released_score(cosine, MASK, 5.0), 5 * word_score(cosine, MASK, 5.0))
    code, paper = (word_scores(WORDS, REGIONS, MASK, replace(MINI, score=s)) for s in ("code", "paper"))
    torch.testing.assert_close(posterior(code, 10.0), posterior(paper, 50.0))


def test_a_large_gamma_2_takes_the_best_word():
    cosine = torch.tensor([[[0.1, 0.7, -0.4]]], dtype=torch.float64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    errors = [abs(word_score(cosine, mask, g).item() - 0.7) for g in (1, 5, 50, 500)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-6


@pytest.mark.equation("eq:damsm-sentence-score")
@pytest.mark.equation("eq:damsm-posterior")
@pytest.mark.equation("eq:damsm-matching")
def test_losses_are_cross_entropies_over_the_batch():
    code, sentence = numbers(3, 5), numbers(3, 5, seed=1)
    R = sentence_score(code, sentence)
    first = second = 0.0
    for i in range(3):
        cosines = [[float(code[a] @ sentence[b] / code[a].norm() / sentence[b].norm()) for b in range(3)]
                   for a in range(3)]
        row, column = cosines[i], [cosines[k][i] for k in range(3)]
        log_p = 10 * row[i] - math.log(sum(math.exp(10 * r) for r in row))
        assert posterior(R, 10.0)[i, i].item() == pytest.approx(log_p)
        first -= log_p / 3
        second -= (10 * column[i] - math.log(sum(math.exp(10 * r) for r in column))) / 3
    got = matching_losses(R, 10.0)
    assert got[0].item() == pytest.approx(first) and got[1].item() == pytest.approx(second)


@pytest.mark.parity
def test_the_sentence_part_is_twice_clips_loss():
    open_clip = pytest.importorskip("open_clip")
    code, sentence = numbers(6, 8), numbers(6, 8, seed=1)
    theirs = open_clip.loss.ClipLoss()(F.normalize(code, dim=1), F.normalize(sentence, dim=1), 10.0)
    torch.testing.assert_close(sum(matching_losses(sentence_score(code, sentence), 10.0)), 2 * theirs)


def test_another_picture_of_the_same_class_is_no_wrong_answer():
    R = numbers(4, 4)
    classes = torch.tensor([0, 1, 0, 2])
    got = matching_losses(R, 10.0, classes)
    for axis in (0, 1):
        want = 0.0
        for i in range(4):
            logits = [10 * float(R[i, k] if axis == 0 else R[k, i]) for k in range(4)
                      if k == i or classes[k] != classes[i]]
            own = 10 * float(R[i, i])
            want += (math.log(sum(math.exp(x) for x in logits)) - own) / 4
        assert got[axis].item() == pytest.approx(want)
    assert got[0] < matching_losses(R, 10.0)[0]
    with pytest.raises(ValueError, match="there are 2 pictures and 4 captions"):
        matching_losses(R[:2], 10.0)


@pytest.mark.equation("eq:damsm-loss")
def test_the_loss_is_the_sum_of_four_and_knowing_nothing_costs_log_b_in_each():
    torch.manual_seed(0)
    model = DAMSM(MINI).eval()
    losses = model(torch.randn(4, 3, 16, 16), captions())
    assert losses.total().item() == pytest.approx(sum(float(x) for x in losses), abs=1e-5)
    nothing = matching_losses(torch.zeros(4, 4), 10.0)
    assert all(x.item() == pytest.approx(math.log(4)) for x in nothing)


# ---------------------------------------------------------------------------------------------- the encoders

@pytest.mark.parametrize("config, text", [(DAMSMConfig.cub(), 2_075_320), (DAMSMConfig.coco(), 8_629_420)])
def test_the_encoders_have_the_parameters_of_the_released_ones(config, text):
    with blank():
        model = DAMSM(config)
    assert count(model.text) == text
    assert count(model.image.trunk) == 21_785_568
    assert sum(p.numel() for p in model.image.parameters() if p.requires_grad) == 721_152


@pytest.mark.parity
def test_the_trunk_is_torchvisions_and_has_17_by_17_regions():
    from torchvision.models import inception_v3
    torch.manual_seed(0)
    whole = inception_v3(weights=None, init_weights=False, aux_logits=False).eval()
    whole.fc = nn.Identity()
    encoder = ImageEncoder(DAMSMConfig.cub()).train()
    encoder.trunk.load_state_dict(whole.state_dict())
    assert not encoder.trunk.Mixed_6e.branch1x1.bn.training          # frozen with its statistics
    image = torch.rand(1, 3, 299, 299) * 2 - 1
    with torch.no_grad():
        regions, code = encoder(image)
        pooled = encoder.trunk(image)[1]
    torch.testing.assert_close(pooled, whole(image), atol=1e-5, rtol=1e-4)
    assert regions.shape == (1, 289, 256) and code.shape == (1, 256)


@pytest.mark.parity
def test_words_and_sentence_are_those_of_an_lstm_run_on_each_caption_alone():
    torch.manual_seed(0)
    encoder = TextEncoder(MINI).eval()
    lstm = nn.LSTM(64, 32, bidirectional=True)
    lstm.load_state_dict(encoder.rnn.state_dict())
    tokens = captions()
    words, sentence = encoder(tokens)
    for i in range(4):
        own = tokens[i][tokens[i] != 1]
        states, (last, _) = lstm(encoder.words(own)[:, None])
        torch.testing.assert_close(words[i, : len(own)], states[:, 0])
        assert not words[i, len(own):].any()
        torch.testing.assert_close(sentence[i], last.flatten())


def test_e11_words_and_sentence_are_two_granularities_of_one_lstm_not_several_layers():
    torch.manual_seed(0)
    encoder = TextEncoder(MINI).eval()
    assert encoder.rnn.num_layers == 1 and encoder.rnn.bidirectional
    tokens = captions()
    words, sentence = encoder(tokens)
    for i in range(4):
        last = int((tokens[i] != 1).sum()) - 1
        torch.testing.assert_close(sentence[i, :32], words[i, last, :32])      # forward, at the last word
        torch.testing.assert_close(sentence[i, 32:], words[i, 0, 32:])         # backward, at the first word


def test_padding_changes_nothing():
    torch.manual_seed(0)
    model = DAMSM(MINI).eval()
    tokens, image = captions(), torch.randn(4, 3, 16, 16)
    longer = torch.cat([tokens, torch.ones(4, 5, dtype=torch.long)], dim=1)
    for short, long in zip(model(image, tokens), model(image, longer)):
        torch.testing.assert_close(short, long)
    rubbish = longer.clone()
    rubbish[:, 6:] = 7
    mask = longer != 1
    torch.testing.assert_close(model(image, rubbish, mask).total(), model(image, tokens).total())


def test_captions_without_words_and_masks_with_holes_are_refused():
    encoder = TextEncoder(MINI)
    tokens = captions()
    tokens[2] = 1
    with pytest.raises(ValueError, match="caption 2 has no words"):
        encoder(tokens)
    with pytest.raises(ValueError, match="padding may only follow"):
        encoder(captions(), torch.tensor([[True, False, True, True, True, True]]).expand(4, -1))


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_small_trunk_has_8_by_8_regions_at_any_side(size):
    torch.manual_seed(0)
    encoder = ImageEncoder(DAMSMConfig.mini(size=size))
    regions, code = encoder(torch.randn(2, 3, size, size))
    assert regions.shape == (2, 64, 64) and code.shape == (2, 64)
    assert encoder(torch.randn(2, 3, 24, 24))[0].shape == (2, 64, 64)          # other sides are resized
    with pytest.raises(ValueError, match="24 pixels a side"):
        SmallTrunk(24, 4)


def test_regions_are_the_rows_of_the_grid():
    torch.manual_seed(0)
    encoder = ImageEncoder(MINI).eval()
    image = torch.zeros(1, 3, 16, 16)
    before = encoder(image)[0]
    image[0, :, 2:4, 12:14] = 5                                                # cell (1, 6) of 8 x 8
    moved = (encoder(image)[0] - before).norm(dim=2)[0]
    assert moved.argmax().item() == 1 * 8 + 6


def test_gradients_reach_everything_but_the_frozen_trunk():
    torch.manual_seed(0)
    model = DAMSM(MINI)
    model(torch.randn(4, 3, 16, 16), captions()).total().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    frozen = ImageEncoder(DAMSMConfig.cub())
    assert not any(p.requires_grad for p in frozen.trunk.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_32_bits_under_autocast(dtype):
    torch.manual_seed(0)
    model = DAMSM(MINI)
    regions, words = 20 * torch.randn(3, 6, 64), 20 * torch.randn(3, 4, 64)     # products overflow 16 bits
    code, sentence = torch.randn(3, 64), torch.randn(3, 64)
    want = model.losses(regions, code, words, sentence, MASK).total()
    with torch.autocast("cpu", dtype=dtype):
        got = model.losses(regions.to(dtype), code, words.to(dtype), sentence, MASK).total()
    assert got.dtype == torch.float32 and torch.isfinite(got)
    torch.testing.assert_close(got, want, atol=0.5, rtol=0.1)


def test_a_handful_of_pairs_is_learnt_and_words_find_their_regions():
    torch.manual_seed(0)
    model = DAMSM(replace(DAMSMConfig.mini(vocab=12, size=16), dropout=0.0, trunk_width=8))
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    image = torch.full((8, 3, 16, 16), -0.2)
    for i in range(8):                                  # a colour on the left for the first four, else right
        left = slice(2, 6) if i < 4 else slice(10, 14)
        image[i, :, 4:12, left] = colours[i % 4][:, None, None]
    tokens = torch.tensor([[2 + i % 4, 6 + i // 4] for i in range(8)])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(image, tokens).total()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 2                                                      # from 4 log 8 = 8.3
    model.eval()
    words, _ = model.text(tokens)
    regions, _ = model.image(image)
    mask = model.text.mask(tokens)
    assert (word_scores(words, regions, mask, model.config).argmax(1) == torch.arange(8)).float().mean() > 0.8
    assert region_attention(words, regions, mask, 4.0).shape == (8, 8, 2, 64)


@pytest.mark.parametrize("change, said", [
    ({"trunk": "vgg"}, "trunk is 'vgg'"), ({"score": "mean"}, "score is 'mean'"),
    ({"embed": 7}, "embed is 7"), ({"stretch": 0}, "stretch is 0"), ({"stretch": math.inf}, "stretch is inf"),
    ({"trunk": "small"}, "small trunk has width 0"),
])
def test_configurations_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        replace(DAMSMConfig.coco(), **change)
