"""Labels in several wordings, and two stages of training, are what the study says they are."""

import pytest
import torch

from mmlearn.data.pairs import PairBatches
from mmlearn.experiments.text_for_vision.objects import captioned, objects
from mmlearn.experiments.text_for_vision.unicl import (
    ASKED,
    LOSSES,
    WORDINGS,
    Staged,
    half_described,
    judged_both_ways,
    label_curve,
    staged_run,
    worded,
)
from mmlearn.text_for_vision.small_encoder import StudyConfig, StudyEncoder
from mmlearn.text_for_vision.training import embed_images, embed_texts


def test_every_wording_names_the_label_and_the_key_is_the_label():
    pictures = objects(6, 3, places="any")
    data = worded(pictures)
    for label, texts in zip(pictures.labels.tolist(), data.captions):
        assert len(texts) == len(set(texts)) == len(WORDINGS) and all(
            pictures.classes[label] in text for text in texts
        )
    assert all(len(texts) == 1 for texts in worded(pictures, ASKED).captions)


def test_with_one_text_a_key_the_two_losses_are_one():
    torch.manual_seed(0)
    u = torch.nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1)
    keys = torch.tensor([0, 1, 0, 2, 1, 0])
    v = torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64), dim=1)
    torch.testing.assert_close(LOSSES["CLIP"](u, v[keys], 9.0, keys), LOSSES["UniCL"](u, v[keys], 9.0, keys))
    other = torch.nn.functional.normalize(v[keys] + 0.3 * torch.randn(6, 4, dtype=torch.float64), dim=1)
    assert abs(float(LOSSES["CLIP"](u, other, 9.0, keys) - LOSSES["UniCL"](u, other, 9.0, keys))) > 1e-3


def test_stages_follow_each_other_at_the_switch():
    everything, described, tokeniser = half_described(12)
    before, after = (PairBatches(data, tokeniser, 4, max_len=20) for data in (everything, described))
    staged = Staged(before, after, 2)
    for step, source in ((0, before), (1, before), (2, after), (3, after)):
        assert torch.equal(staged(step).tokens, source(step).tokens) and torch.equal(
            staged(step).which, source(step).which
        )


def test_every_other_picture_has_only_its_label():
    everything, described, _ = half_described(8)
    pictures = objects(8, 3, places="any")
    captions = captioned(pictures).captions
    assert everything.captions[::2] == captions[::2] == described.captions
    assert everything.captions[1::2] == worded(pictures).captions[1::2] and torch.equal(
        described.images, pictures.images[::2]
    )


def test_retrieval_counts_a_tie_as_a_miss_and_its_own_as_a_hit():
    pictures = objects(8, 3, places="any")
    _, _, tokeniser = half_described(8)
    torch.manual_seed(0)
    model = StudyEncoder(StudyConfig(len(tokeniser), (4, 8, 8, 8), 16, width=16, layers=1)).eval()
    texts = [max(captions, key=len) for captions in captioned(pictures).captions]
    scores = embed_images(model, pictures.images) @ embed_texts(model, tokeniser, texts).T
    hits = [all(scores[i, i] > scores[i, j] for j in range(8) if j != i) for i in range(8)]
    found = judged_both_ways(model, tokeniser, pictures)
    assert found["image to text R@1"] == pytest.approx(sum(hits) / 8)
    assert set(found) == {"top-1", "image to text R@1", "text to image R@1"}


def test_a_curve_has_a_point_for_each_evaluation():
    curve = label_curve("UniCL", WORDINGS, train=16, test=8, steps=4, every=2, batch=8)
    assert curve["step"] == [2, 4] and len(curve["top-1"]) == 2


def test_a_staged_run_depends_on_the_switch_only_after_it():
    assert set(staged_run(1, train=12, test=6, steps=2,
                          batch=4)) == {"top-1", "image to text R@1", "text to image R@1"}
