import math

import pytest
import torch
import torch.nn.functional as F

from mmlearn.data.pairs import scene_pairs
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.text_for_vision.contrastive import clip_loss, logits
from mmlearn.text_for_vision.unicl import (
    PROMPTS,
    TwoStage,
    classifier_images,
    expand,
    first_stage,
    mixed_keys,
    same_key,
    second_stage,
    targets,
    text_keys,
    unicl_floor,
    unicl_gradient,
    unicl_images,
    unicl_loss,
    unicl_matrix,
    unicl_texts,
)

KEYS = torch.tensor([0, 1, 0, 2, 1, 0])


def unit(b=6, e=5, seed=0):
    x = torch.randn(b, e, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True)


def naive_images(l, keys):
    """The papers' double sum, one image after the other."""
    rows = []
    for i in range(len(l)):
        positives = [k for k in range(len(l)) if keys[k] == keys[i]]
        total = sum(math.exp(l[i, j]) for j in range(len(l)))
        rows.append(-sum(math.log(math.exp(l[i, k]) / total) for k in positives) / len(positives))
    return torch.tensor(rows, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------- keys

def test_equal_texts_have_equal_keys_and_no_others():
    assert text_keys(["a cat", "a dog", "a cat", "A cat"]).tolist() == [0, 1, 0, 2]


def test_a_caption_matches_only_itself_and_a_class_all_of_its_pictures():
    keys = mixed_keys(torch.tensor([4, -1, 2, -1, 4]))
    assert keys.tolist() == [4, 5, 2, 6, 4]
    assert mixed_keys(torch.tensor([-1, -1])).tolist() == [0, 1]
    with pytest.raises(ValueError, match="smallest label is -2"):
        mixed_keys(torch.tensor([0, -2]))


@pytest.mark.equation("eq:unicl-positives")
def test_positives_are_the_pairs_of_one_key():
    want = [[int(a == b) for b in KEYS.tolist()] for a in KEYS.tolist()]
    assert same_key(KEYS).int().tolist() == want


@pytest.mark.equation("eq:unicl-targets")
def test_targets_share_one_among_the_positives():
    counts = [3, 2, 3, 1, 2, 3]
    want = torch.tensor([[(1 / counts[i] if KEYS[i] == KEYS[j] else 0.0) for j in range(6)]
                         for i in range(6)])
    torch.testing.assert_close(targets(KEYS), want)
    torch.testing.assert_close(targets(KEYS), targets(KEYS).T)
    torch.testing.assert_close(targets(KEYS).sum(0), torch.ones(6))


# --------------------------------------------------------------------------------------------------- the loss

@pytest.mark.equation("eq:unicl-images")
@pytest.mark.equation("eq:unicl-texts")
def test_the_loss_of_an_image_or_text_is_the_mean_over_its_positives():
    l = logits(unit(), unit(seed=1), 7.0)
    torch.testing.assert_close(unicl_images(l, KEYS), naive_images(l, KEYS))
    torch.testing.assert_close(unicl_texts(l, KEYS), naive_images(l.T, KEYS))


@pytest.mark.equation("eq:unicl-matrix")
def test_the_matrix_form_is_the_papers_sum():
    l = logits(unit(), unit(seed=1), 7.0)
    torch.testing.assert_close(unicl_matrix(l, KEYS),
                               naive_images(l, KEYS).sum() + naive_images(l.T, KEYS).sum())


@pytest.mark.equation("eq:unicl-loss")
def test_the_loss_is_the_papers_sum_divided_by_all_images_and_texts():
    u, v = unit(), unit(seed=1)
    l = logits(u, v, 7.0)
    want = (naive_images(l, KEYS).sum() + naive_images(l.T, KEYS).sum()) / 12
    torch.testing.assert_close(unicl_loss(u, v, 7.0, KEYS), want)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(unicl_loss(u[order], v[order], 7.0, KEYS[order]), want)
    torch.testing.assert_close(unicl_loss(u, v, torch.tensor(7.0), 10 - KEYS), want)  # only equality counts


def test_with_all_keys_different_the_papers_sum_is_2b_times_clips_loss():
    u, v = unit(), unit(seed=1)
    torch.testing.assert_close(unicl_loss(u, v, 7.0, torch.arange(6)), clip_loss(u, v, 7.0))
    torch.testing.assert_close(unicl_matrix(logits(u, v, 7.0), torch.arange(6)), 12 * clip_loss(u, v, 7.0))


@pytest.mark.equation("eq:unicl-gradient")
def test_the_gradient_is_probabilities_minus_targets():
    l = logits(unit(), unit(seed=1), 7.0).requires_grad_()
    (gradient,) = torch.autograd.grad(unicl_matrix(l, KEYS) / 12, l)
    torch.testing.assert_close(unicl_gradient(l.detach(), KEYS), gradient)
    torch.testing.assert_close(unicl_gradient(l.detach(), KEYS).sum(), torch.tensor(0.0, dtype=torch.float64),
                               atol=1e-12, rtol=0)
    u, v, scale = (
        unit().requires_grad_(),
        unit(seed=1).requires_grad_(),
        torch.tensor(3.0, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(lambda *x: unicl_loss(*x, KEYS), (u, v, scale))


@pytest.mark.equation("eq:unicl-floor")
def test_the_floor_is_reached_when_probabilities_are_the_targets_and_never_passed():
    want = sum(math.log(n) for n in (3, 2, 3, 1, 2, 3)) / 6
    assert unicl_floor(KEYS) == pytest.approx(want)
    best = 60.0 * same_key(KEYS).double()
    assert float(unicl_matrix(best, KEYS)) / 12 == pytest.approx(want, abs=1e-9)
    for seed in range(20):
        assert float(unicl_loss(unit(seed=seed), unit(seed=seed + 1), 10.0, KEYS)) > want
    assert unicl_floor(torch.arange(6)) == 0


# ---------------------------------------------------------------------------------------------- special cases

def test_two_views_of_labelled_pictures_give_supervised_contrastive_learning():
    first, second, scale = unit(), unit(seed=1), 5.0
    rows = []  # Khosla et al. 2020, L_out, the second views being the contrast
    for i in range(6):
        total = sum(math.exp(scale * float(first[i] @ second[a])) for a in range(6))
        positives = [p for p in range(6) if KEYS[p] == KEYS[i]]
        rows.append(
            -1
            / len(positives)
            * sum(math.log(math.exp(scale * float(first[i] @ second[p])) / total) for p in positives)
        )
    torch.testing.assert_close(unicl_images(logits(first, second, scale), KEYS),
                               torch.tensor(rows, dtype=torch.float64))


@pytest.mark.equation("eq:unicl-classifier")
def test_names_of_classes_as_texts_give_a_softmax_classifier_with_counted_classes():
    u, names, scale = unit(), unit(4, seed=1), 5.0             # the fourth class does not occur in the batch
    l = logits(u, names, scale)
    want = []
    for i, y in enumerate(KEYS.tolist()):
        counts = [(KEYS == c).sum().item() for c in range(4)]
        total = sum(n * math.exp(l[i, c]) for c, n in enumerate(counts))
        want.append(math.log(counts[y]) - math.log(counts[y] * math.exp(l[i, y]) / total))
    torch.testing.assert_close(classifier_images(l, KEYS), torch.tensor(want, dtype=torch.float64))
    torch.testing.assert_close(classifier_images(l, KEYS), unicl_images(logits(u, names[KEYS], scale), KEYS))


def test_a_batch_with_each_class_once_is_an_ordinary_softmax_classifier():
    u, names, labels = unit(), unit(seed=1), torch.tensor([2, 0, 5, 1, 3, 4])
    ours = unicl_images(logits(u, names[labels], 5.0), labels).mean()
    torch.testing.assert_close(ours, F.cross_entropy(5.0 * u @ names.T, labels))


def loss_and_gradient(loss, u, texts, spread):
    """Value and gradients for images and for one vector a distinct text, ``spread`` being each row's own
    deviation."""
    u, texts = u.clone().requires_grad_(), texts.clone().requires_grad_()
    v = F.normalize(texts[KEYS] + spread, dim=1)
    value = loss(u, v)
    return value.detach(), torch.autograd.grad(value, (u, texts))


def test_identical_text_vectors_make_unicl_and_clip_the_same_function():
    u, texts = unit(), unit(3, seed=1)
    results = [loss_and_gradient(loss, u, texts, 0.0) for loss in (
        lambda u, v: unicl_loss(u, v, 7.0, KEYS), lambda u, v: clip_loss(u, v, 7.0))]
    torch.testing.assert_close(results[0], results[1], atol=1e-12, rtol=1e-12)


def test_with_different_wordings_of_a_text_unicl_and_clip_differ():
    u, texts = unit(), unit(3, seed=1)
    spread = 0.3 * unit(seed=2)
    (ours, mine), (clips, theirs) = [loss_and_gradient(loss, u, texts, spread) for loss in (
        lambda u, v: unicl_loss(u, v, 7.0, KEYS), lambda u, v: clip_loss(u, v, 7.0))]
    assert abs(ours - clips) > 0.01
    assert max(float((a - b).abs().max()) for a, b in zip(mine, theirs)) > 0.01


def test_keys_and_pairs_must_fit():
    with pytest.raises(ValueError, match=r"keys have shape \(5,\)"):
        unicl_loss(unit(), unit(), 1.0, KEYS[:5])
    with pytest.raises(ValueError, match="row i of both is pair i"):
        unicl_loss(unit(), unit(5), 1.0, KEYS)


# ------------------------------------------------------------------------------------------------- two stages

def test_only_short_descriptions_get_a_template_and_each_template_comes_up():
    draw = torch.Generator().manual_seed(0)
    assert {expand("red car", draw) for _ in range(40)} == {
        "A photo of the red car.",
        "A cropped photo of red car.",
    }
    sentence = "a red car stands in the street"
    assert expand(sentence, draw) == sentence


@pytest.fixture(scope="module")
def described():
    """Six pictures: labels for the first four, sentences for the others, both for the last."""
    from dataclasses import replace
    texts = (("cat",), ("dog",), ("cat",), ("red car",), ("a cat sleeps on a bed",),
             ("dog", "a dog runs in the street"))
    return replace(scene_pairs(6, size=32), captions=texts)


def test_stages_hold_the_descriptions_that_the_paper_says(described):
    first, second = first_stage(described), second_stage(described)
    assert first.captions[0] == ("A photo of the cat.", "A cropped photo of cat.")
    assert first.captions[5].count("a dog runs in the street") == len(PROMPTS)
    assert second.captions == (("a cat sleeps on a bed",), ("a dog runs in the street",))
    torch.testing.assert_close(second.images, described.images[4:])
    with pytest.raises(ValueError, match="no description has more than 30 words"):
        second_stage(described, longest=30)


def test_two_stages_switch_where_they_are_told_to(described):
    words = WordTokeniser.train([t for texts in first_stage(described).captions for t in texts], min_count=1)
    batches = TwoStage(described, words, switch=3, batch=2)
    templated = {words.encode(text)[1] for text in ("a photo", "a cropped")}
    for step in range(6):
        batch = batches(step)
        assert len(batch.images) == 2
        assert (step < 3) or int(batch.which.max()) <= 1
        assert torch.equal(batch.tokens, batches(step).tokens)
        if step >= 3:
            assert not any(word in row for row in batch.tokens.tolist() for word in templated)
    with pytest.raises(ValueError, match="switch is -1"):
        TwoStage(described, words, switch=-1)
