"""Zero-shot classification: sentences, weights, probabilities, accuracy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmlearn.data.clip_tokeniser import CLIPTokeniser
from mmlearn.nn.vit import ViTConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig
from mmlearn.text_for_vision.zero_shot import (
    BARE,
    OPENAI_SEVEN,
    PHOTO,
    SCENE,
    TASKS,
    average_prompts,
    class_probabilities,
    classify,
    prompts,
    top_k_accuracy,
    with_article,
    zero_shot_weights,
)

CLASSES = ("dog", "apple", "unicycle", "hourglass")


def tiny(vocab: int = 49_408, eot: int = 49_407) -> CLIP:
    torch.manual_seed(0)
    return CLIP(CLIPConfig(16, ViTConfig(16, 8, 64, 2, 1), TextConfig(vocab, 77, 64, 2, 1, eot)))


@pytest.mark.equation("eq:zero-shot-weights")
def test_each_sentence_counts_the_same_and_the_mean_has_length_one():
    v = torch.randn(3, 4, 5, dtype=torch.float64) * torch.tensor([0.1, 1, 10, 100])[:, None]
    got = average_prompts(v)
    for c in range(3):
        mean = [0.0] * 5
        for j in range(4):
            length = math.sqrt(sum(float(x) ** 2 for x in v[c, j]))
            mean = [m + float(x) / length / 4 for m, x in zip(mean, v[c, j])]
        length = math.sqrt(sum(m * m for m in mean))
        assert got[c].tolist() == pytest.approx([m / length for m in mean], abs=1e-12)


@pytest.mark.equation("eq:zero-shot-posterior")
def test_probabilities_are_a_softmax_over_the_classes():
    u, w = (nn.functional.normalize(torch.randn(n, 5, dtype=torch.float64), dim=1) for n in (3, 4))
    got = class_probabilities(u, w, 7.0)
    for i in range(3):
        e = [math.exp(7 * sum(float(a * b) for a, b in zip(u[i], w[c]))) for c in range(4)]
        assert got[i].tolist() == pytest.approx([x / sum(e) for x in e], abs=1e-12)
    assert torch.isfinite(class_probabilities(u, w, torch.tensor(100.0, dtype=torch.float64))).all()


def test_articles_follow_the_sound():
    right = ["an apple", "a cat", "an umbrella", "a unicycle", "an hourglass", "a house", "a ewe", "an owl",
             "a UFO", "a one-way street", "an unusual dog", "a bus", "an Ice cream", "a European robin",
             "an uninhabited island"]
    for phrase in right:
        assert with_article(phrase.split(" ", 1)[1]) == phrase


def test_a_template_takes_the_name_bare_or_with_its_article():
    assert prompts("apple", PHOTO) == ["A photo of a apple."]                 # as OpenAI wrote it
    assert prompts("apple", ("A photo of {a}.", "{a} in a "
                                                "field.")) == ["A photo of an apple.", "An apple in a field."]
    assert prompts("tabby cat", BARE) == ["tabby cat"] and len(prompts("cat", OPENAI_SEVEN)) == 7
    assert prompts("7", TASKS["digits"]) == ['A photo of the number: "7".']
    for bad in ("a photo", "a photo of {name}", "{} {0.x}"):
        with pytest.raises(ValueError, match="must hold"):
            prompts("cat", (bad,))


def test_the_scene_worlds_templates_use_its_words():
    from mmlearn.data.scenes import captions, sample_scene
    known = {word for i in range(400) for text in captions(sample_scene(0, i, "train"))
             for word in text.lower().strip(".").split()}
    for sentence in prompts("apple", SCENE):
        assert set(sentence.lower().strip(".").split()) <= known, sentence


def test_weights_and_probabilities_have_the_shapes_and_modes_promised():
    model = tiny()
    model.train()
    tokeniser = CLIPTokeniser.find()
    weights = zero_shot_weights(model, tokeniser, CLASSES, OPENAI_SEVEN, batch=5)
    assert weights.shape == (4, 16) and model.training and not weights.requires_grad
    torch.testing.assert_close(weights.norm(dim=1), torch.ones(4))
    images = torch.randn(5, 3, 16, 16)
    p = classify(model, images, weights, batch=2)
    torch.testing.assert_close(p.sum(1), torch.ones(5))
    torch.testing.assert_close(classify(model, images[3:4], weights), p[3:4])
    torch.testing.assert_close(zero_shot_weights(model, tokeniser, CLASSES[1:2], OPENAI_SEVEN), weights[1:2])


def test_an_ensemble_of_sentences_costs_one_classifier():
    # The mean logit over sentences is the logit of the mean vector: averaging in the space of embeddings is
    # exact for
    # scores, and only the length of the mean is lost.
    v = nn.functional.normalize(torch.randn(3, 7, 5, dtype=torch.float64), dim=-1)
    u = nn.functional.normalize(torch.randn(4, 5, dtype=torch.float64), dim=-1)
    mean_of_scores = torch.stack([u @ v[:, j].T for j in range(7)]).mean(0)
    length = v.mean(1).norm(dim=1)
    torch.testing.assert_close(u @ average_prompts(v).T * length, mean_of_scores)


@pytest.mark.parity
def test_the_weights_are_those_of_open_clip():
    import open_clip
    from open_clip.zero_shot_classifier import build_zero_shot_classifier

    torch.manual_seed(1)
    theirs = open_clip.CLIP(embed_dim=16, quick_gelu=True,
                            text_cfg=dict(context_length=77, vocab_size=49_408, width=64, heads=1, layers=2),
                            vision_cfg=dict(image_size=16, layers=2, width=64, patch_size=8,
                                            head_width=64)).eval()
    from mmlearn.pretrained.clip import fill
    model = fill(tiny().config, theirs.state_dict(), "openai", "open_clip")
    want = build_zero_shot_classifier(theirs, open_clip.tokenizer._tokenizer, CLASSES, OPENAI_SEVEN)
    got = zero_shot_weights(model, CLIPTokeniser.find(), CLASSES, OPENAI_SEVEN)
    torch.testing.assert_close(got, want.T, atol=1e-5, rtol=1e-5)
    images = torch.randn(6, 3, 16, 16)
    with torch.no_grad():
        logits = theirs.logit_scale.exp() * theirs.encode_image(images, normalize=True) @ want
    torch.testing.assert_close(classify(model, images, got), logits.softmax(-1), atol=1e-5, rtol=1e-4)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_top_k_counts_as_a_person_would(classes, n, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 3, (n, classes), generator=generator).double()
    labels = torch.randint(0, classes, (n,), generator=generator)
    for k in range(1, classes + 1):
        right = 0
        for row, label in zip(scores.tolist(), labels.tolist()):
            right += sum(1 for c, s in enumerate(row) if c != label and s >= row[label]) < k
        assert top_k_accuracy(scores, labels, k) == pytest.approx(right / n)
    assert top_k_accuracy(scores, labels, classes) == 1


def test_what_makes_no_classifier_is_refused():
    model, tokeniser = tiny(), CLIPTokeniser.find()
    with pytest.raises(ValueError, match="0 classes"):
        zero_shot_weights(model, tokeniser, (), PHOTO)
    with pytest.raises(ValueError, match="'dog' is named twice"):
        zero_shot_weights(model, tokeniser, ("dog", "cat", "dog"))
    with pytest.raises(ValueError, match="k is 5 with 4 classes"):
        top_k_accuracy(torch.rand(2, 4), torch.tensor([0, 1]), 5)
    with pytest.raises(ValueError, match="labels go from 0 to 4"):
        top_k_accuracy(torch.rand(2, 4), torch.tensor([0, 4]))
