"""Predicting captions, predicting words, contrasting: formulas against loops, and the arms of the
comparison."""

import math
from dataclasses import replace

import pytest
import torch

from mmlearn.data.pairs import PairBatches, class_pictures, pixels, scene_pairs, scene_tokeniser
from mmlearn.experiments.text_for_vision.clip_efficiency import ARMS, arm_accuracy, build_arm, train_arm
from mmlearn.text_for_vision.prediction import (
    BagEncoder,
    CaptionPredictor,
    WordPredictor,
    bag_of_words,
    bow_embed,
    bow_loss,
    bow_score,
    lm_score,
    predict_caption,
    predict_words,
)
from mmlearn.text_for_vision.small_encoder import StudyConfig

CONFIG = StudyConfig(vocab=40, channels=(4, 8, 8, 8), embed=8, width=16, layers=1)
TEXTS = torch.tensor([[2, 7, 9, 7, 3, 1], [2, 5, 3, 1, 1, 1], [2, 0, 6, 11, 12, 3]])


def images(b=3, seed=0):
    return torch.randn(b, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def data():
    return scene_pairs(24, size=32)


# --------------------------------------------------------------------------------------------------- formulas

@pytest.mark.equation("eq:bow")
def test_a_bag_counts_each_word_of_a_text_once():
    got = bag_of_words(TEXTS, 40)
    for row, tokens in zip(got, TEXTS.tolist()):
        words = {t for t in tokens if t > 3}
        for w in range(40):
            assert math.isclose(float(row[w]), (1 / len(words)) if w in words else 0.0, abs_tol=1e-7)


def test_padding_and_order_change_no_bag():
    padded = torch.cat([TEXTS, torch.ones(3, 4, dtype=torch.long)], dim=1)
    assert torch.equal(bag_of_words(padded, 40), bag_of_words(TEXTS, 40))
    assert torch.equal(bag_of_words(TEXTS.flip(1), 40), bag_of_words(TEXTS, 40))


def test_a_text_without_words_is_an_empty_bag():
    assert not bag_of_words(torch.tensor([[2, 0, 3, 1]]), 40).any()


@pytest.mark.equation("eq:bow-loss")
def test_the_loss_of_words_is_the_cross_entropy_with_the_bag():
    torch.manual_seed(0)
    logits, bag = torch.randn(3, 6, dtype=torch.float64), torch.rand(3, 6, dtype=torch.float64)
    bag /= bag.sum(dim=1, keepdim=True)
    want = 0.0
    for i in range(3):
        total = sum(math.exp(x) for x in logits[i].tolist())
        want += sum(-float(bag[i, w]) * math.log(math.exp(float(logits[i, w])) / total) for w in range(6)) / 3
    assert math.isclose(float(bow_loss(logits, bag)), want, rel_tol=1e-12)


def test_a_predictor_that_knows_nothing_has_a_loss_of_log_v():
    assert math.isclose(float(bow_loss(torch.zeros(3, 40), bag_of_words(TEXTS, 40))), math.log(40),
                        rel_tol=1e-6)


@pytest.mark.equation("eq:bow-score")
def test_a_class_scores_the_log_probability_of_its_words():
    torch.manual_seed(1)
    logits = torch.randn(2, 6, dtype=torch.float64)
    classes = [[1], [2, 4], [0, 1, 5]]
    words = torch.tensor([[float(w in c) for w in range(6)] for c in classes], dtype=torch.float64)
    got = bow_score(logits, words)
    for i in range(2):
        total = sum(math.exp(x) for x in logits[i].tolist())
        for c, members in enumerate(classes):
            want = sum(float(logits[i, w]) - math.log(total) for w in members)
            assert math.isclose(float(got[i, c]), want, rel_tol=1e-12)


@pytest.mark.equation("eq:cbow")
def test_a_text_is_the_mean_of_its_words():
    torch.manual_seed(2)
    table = torch.randn(40, 5, dtype=torch.float64)
    got = bow_embed(bag_of_words(TEXTS, 40).double(), table)
    for row, tokens in zip(got, TEXTS.tolist()):
        words = sorted({t for t in tokens if t > 3})
        want = [sum(float(table[w, k]) for w in words) / len(words) for k in range(5)]
        torch.testing.assert_close(row, torch.tensor(want, dtype=torch.float64), atol=1e-7, rtol=1e-6)


@pytest.mark.equation("eq:lm-score")
def test_a_prompt_scores_the_sum_of_its_words_log_probabilities():
    torch.manual_seed(3)
    model = CaptionPredictor(CONFIG).double().eval()
    pictures = images().double()
    with torch.no_grad():
        got = lm_score(model, pictures, TEXTS)
        for i in range(3):
            for c, prompt in enumerate(TEXTS.tolist()):
                want = 0.0
                for m in range(1, prompt.index(3) + 1):  # the word m after the words before it, one by one
                    logits = model(pictures[i:i + 1], torch.tensor([prompt[:m]]))[0, -1]
                    want += float(logits[prompt[m]] - logits.logsumexp(dim=0))
                assert math.isclose(float(got[i, c]), want, rel_tol=1e-9)


# ----------------------------------------------------------------------------------------------------- models

def test_shapes_of_the_arms():
    assert WordPredictor(CONFIG)(images()).shape == (3, 40)
    captioner = CaptionPredictor(CONFIG)
    assert captioner(images(), TEXTS).shape == (3, 6, 40)
    assert captioner.encode(images()).levels.shape == (3, 1, 4, 16)            # 16 pixels are 2 x 2 cells
    u, v, scale = BagEncoder(CONFIG)(images(), TEXTS)
    assert u.shape == v.shape == (3, 8) and math.isclose(scale.item(), 1 / 0.07, rel_tol=1e-5)
    torch.testing.assert_close(v.norm(dim=1), torch.ones(3))


def test_word_order_is_lost_on_a_bag_and_kept_by_the_transformer():
    swapped = TEXTS[:1].clone()
    swapped[0, 1:3] = TEXTS[0, 1:3].flip(0)
    same, other = (torch.equal(m.encode_text(TEXTS[:1]), m.encode_text(swapped))
                   for m in (BagEncoder(CONFIG), build_arm("Transformer contrasted", CONFIG)))
    assert same and not other


def test_the_captioner_reads_only_words_that_came_before():
    model = CaptionPredictor(CONFIG).eval()
    later = TEXTS.clone()
    later[:, 3:] = 8
    with torch.no_grad():
        torch.testing.assert_close(model(images(), TEXTS)[:, :3], model(images(), later)[:, :3])


@pytest.mark.parametrize("name", ARMS)
def test_all_arms_start_from_the_same_convolutions(name):
    mine, same, other = (
        build_arm(name, CONFIG, 4),
        build_arm("words predicted", CONFIG, 4),
        build_arm(name, CONFIG, 5),
    )
    for a, b in zip(mine.image.trunk.parameters(), same.image.trunk.parameters()):
        assert torch.equal(a, b)
    assert not torch.equal(next(mine.image.parameters()), next(other.image.parameters()))


def test_building_an_arm_draws_nothing_from_the_common_randomness():
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    build_arm("captioner", CONFIG, 1)
    assert torch.equal(torch.rand(1), before)


def test_an_arm_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="arm 'words' is unknown; use one of captioner"):
        build_arm("words", CONFIG)


@pytest.mark.parametrize("name", ARMS)
def test_gradients_reach_every_parameter_of_an_arm(name, data):
    tokeniser = scene_tokeniser(data)
    config = replace(CONFIG, vocab=len(tokeniser))
    model = build_arm(name, config)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    history = train_arm(name, model, data, tokeniser, steps=2, batch=8, lr=1e-2, warmup=0, progress=False)
    assert all(math.isfinite(loss) for loss in history.loss)
    still = [n for n, p in model.named_parameters() if torch.equal(before[n], p)]
    assert not still


def test_all_arms_see_the_same_images_in_the_same_order(data, monkeypatch):
    tokeniser = scene_tokeniser(data)
    seen: dict[str, list] = {}
    original = PairBatches.__call__
    for name in ARMS:
        order: list = []

        def spy(self, step, order=order):
            batch = original(self, step)
            order.append((batch.which.tolist(), batch.tokens.tolist()))
            return batch

        monkeypatch.setattr(PairBatches, "__call__", spy)
        train_arm(name, build_arm(name, replace(CONFIG, vocab=len(tokeniser))), data, tokeniser, steps=3,
                  batch=8, seed=2, progress=False)
        seen[name] = order
    first = seen["captioner"][:3]
    assert all(order[:3] == first for order in seen.values())


@pytest.mark.parametrize("name", ["words predicted", "captioner"])
def test_a_predictor_learns_a_handful_of_captions(name, data):
    few = replace(data.first(6), captions=tuple(texts[:1] for texts in data.first(6).captions))
    tokeniser = scene_tokeniser(few)
    model = build_arm(name, replace(CONFIG, vocab=len(tokeniser), channels=(8, 16, 16, 32)))
    loss = predict_words if name == "words predicted" else predict_caption
    batch = PairBatches(few, tokeniser, 6)(0)
    before = float(loss(model, batch).detach())
    train_arm(name, model, few, tokeniser, steps=60, batch=6, lr=1e-2, progress=False)
    bags = bag_of_words(batch.tokens, len(tokeniser))
    least = float((bags.count_nonzero(dim=1).float().log()).mean()) if name == "words predicted" else 0.0
    assert float(loss(model, batch).detach()) - least < 0.3 * (before - least)


def test_accuracy_is_that_of_the_best_scored_class(data):
    tokeniser = scene_tokeniser(data)
    pictures = class_pictures(12, size=32)
    config = replace(CONFIG, vocab=len(tokeniser))
    words = build_arm("words predicted", config).eval()
    right = 0
    for image, label in zip(pictures.images, pictures.labels):
        log_p = words(pixels(image[None]))[0].log_softmax(dim=0)
        scores = [sum(float(log_p[i]) for i in tokeniser.encode(name) if i > 3) for name in pictures.classes]
        right += scores.index(max(scores)) == int(label) and scores.count(max(scores)) == 1
    assert math.isclose(arm_accuracy(words, tokeniser, pictures), right / 12, abs_tol=1e-6)
    captioner = build_arm("captioner", config).train()
    whole, parts = (arm_accuracy(captioner, tokeniser, pictures, batch=b) for b in (12, 5))
    assert whole == parts and captioner.training
