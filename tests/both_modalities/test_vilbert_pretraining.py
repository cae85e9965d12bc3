"""What ViLBERT is asked in pre-training: hidden words, hidden regions, and what belongs together."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmlearn.both_modalities.vilbert import ViLBERTConfig, box_geometry, image_token
from mmlearn.both_modalities.vilbert_pretraining import (
    ALIGNED,
    RANDOM,
    PretrainingConfig,
    RegionHead,
    ViLBERTForPreTraining,
    alignment_loss,
    alignment_score,
    ask_aligned,
    draw_texts,
    mask_regions,
    pretraining_batch,
    pretraining_groups,
    pretraining_loss,
    pretraining_step,
    region_loss,
    shorten,
)
from mmlearn.both_modalities.vilbert_regions import Seen, see, see_boxes
from mmlearn.checkpoints import load_model, save_model
from mmlearn.images_for_language.bert import IGNORED
from mmlearn.nn.bert import BERTConfig
from mmlearn.train import fit

PAD, CLS, SEP, MASK, VOCAB = 0, 1, 2, 3, 30


def tiny(**more):
    text = BERTConfig(VOCAB, 8, 32, 3, 4, 64, pad=PAD, dropout=0.0, pooler=False)
    sizes = dict(features=6, classes=5, width=32, layers=2, heads=4, ff=32, inner=32, co_heads=4,
                 co_text=(1, 2), co_vision=(0, 1), dropout=0.0)
    return ViLBERTConfig(text, **{**sizes, **more})


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def pairs(b=4, n=3, seed=0):
    """Texts of 4 to 6 tokens, the special ones counted, and pictures of n or n - 1 regions."""
    tokens = torch.randint(4, VOCAB, (b, 6), generator=dice(seed))
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    tokens[1, 3], tokens[1, 4:] = SEP, PAD
    mask = torch.ones(b, n, dtype=torch.bool)
    mask[0, -1] = False
    corners = torch.rand(b, n, 4, generator=dice(seed)).sort(dim=-1).values[..., [0, 1, 2, 3]]
    classes = torch.randn(b, n, 5, generator=dice(seed)).mul(3).softmax(-1).masked_fill(~mask[..., None], 0.0)
    features = torch.randn(b, n, 6, generator=dice(seed)).masked_fill(~mask[..., None], 0.0)
    return tokens, Seen(features, box_geometry(corners, 1, 1), mask, classes)


def batch(tokens, seen, config=None, seed=0):
    config = config or PretrainingConfig.released()
    return pretraining_batch(tokens, seen, config, special=(PAD, CLS, SEP), vocab=VOCAB, mask_id=MASK,
                             pad=PAD, generator=dice(seed))


# ------------------------------------------------------------------------------------------- what is hidden


@pytest.mark.equation("eq:vilbert-hide")
def test_of_hundred_regions_15_are_asked_for_and_13_to_14_lose_their_feature():
    regions, mask = torch.ones(400, 50, 2), torch.ones(400, 50, dtype=torch.bool)
    mask[:, 40:] = False
    left, chosen = mask_regions(regions, mask, dice())
    gone = (left == 0).all(dim=-1)
    assert not chosen[:, 40:].any() and (gone <= chosen).all()
    assert abs(chosen[:, :40].double().mean() - 0.15) < 0.01
    assert abs(gone[chosen].double().mean() - 0.9) < 0.02
    assert (left[~gone] == 1).all() and (regions == 1).all()            # the given ones are as they were
    again, same = mask_regions(regions, mask, dice())
    assert torch.equal(left, again) and torch.equal(chosen, same)


def test_every_region_or_none_is_hidden_where_it_is_asked_so():
    regions, mask = torch.ones(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)
    left, chosen = mask_regions(regions, mask, dice(), rate=1.0, zeroed=1.0)
    assert chosen.all() and left.abs().sum() == 0
    left, chosen = mask_regions(regions, mask, dice(), rate=1.0, zeroed=0.0)
    assert chosen.all() and (left == 1).all()
    assert not mask_regions(regions, mask, dice(), rate=0.0)[1].any()


def test_half_of_the_pictures_get_the_text_of_another_one():
    rows, labels = draw_texts(2000, dice())
    own = rows == torch.arange(2000)
    assert torch.equal(own, labels == ALIGNED) and torch.equal(~own, labels == RANDOM)
    assert abs(own.double().mean() - 0.5) < 0.05
    assert (draw_texts(3, dice(), share=0.0)[0] == torch.arange(3)).all()
    assert (draw_texts(3, dice(), share=1.0)[0] != torch.arange(3)).all()
    with pytest.raises(ValueError, match="use batches of 2 or more"):
        draw_texts(1)


def test_a_batch_hides_words_and_regions_and_keeps_every_box():
    tokens, seen = pairs(b=60, n=5)
    made = batch(tokens, seen)
    asked = made.words != IGNORED
    assert torch.equal(made.boxes, seen.boxes) and torch.equal(made.classes, seen.classes)
    assert not (asked & ~made.text_mask).any() and not (made.hidden & ~seen.mask).any()
    assert not torch.isin(made.words[asked], torch.tensor([PAD, CLS, SEP])).any()
    assert (made.tokens[asked] == MASK).double().mean() > 0.6
    source = torch.where(asked, made.words, made.tokens)                # the texts as they were, row by row
    own = (source == tokens).all(dim=1)
    assert own[made.pairs == ALIGNED].all() and not own[made.pairs == RANDOM].any()
    assert asked[made.pairs == RANDOM].any() and made.hidden[made.pairs == RANDOM].any()   # the released rule
    later = batch(tokens, seen, replace(PretrainingConfig(), only_aligned=True))
    assert not (later.words != IGNORED)[later.pairs == RANDOM].any()
    assert not later.hidden[later.pairs == RANDOM].any()
    assert torch.equal(later.tokens, made.tokens) and torch.equal(later.regions, made.regions)


def test_the_whole_picture_is_the_mean_of_what_is_left_over_the_number_of_all_regions():
    tokens, seen = pairs(b=2, n=3)
    made = batch(tokens, seen, replace(PretrainingConfig(), region_rate=0.5, zeroed=1.0))
    for b in range(2):
        want = sum(seen.features[b, i] for i in range(3) if seen.mask[b, i] and not made.hidden[b, i])
        torch.testing.assert_close(image_token(made.regions, made.region_mask)[b, 0],
                                   want / int(seen.mask[b].sum()) * torch.ones(6))


def test_texts_and_regions_are_cut_to_the_lengths_of_the_recipe():
    tokens, seen = pairs()
    short = shorten(tokens, 5, PAD)
    assert short[:, -1].tolist() == [SEP, PAD, SEP, SEP] and torch.equal(short[1], tokens[1, :5])
    assert torch.equal(short[0, :4], tokens[0, :4]) and shorten(tokens, 6, PAD) is tokens
    made = batch(tokens, seen, replace(PretrainingConfig(), text_length=5, max_regions=2))
    assert made.tokens.shape == (4, 5) and made.regions.shape == (4, 2, 6) and made.classes.shape == (4, 2, 5)
    with pytest.raises(ValueError, match="4 texts for 3 pictures"):
        batch(tokens, seen.rows(torch.arange(3)))


def test_what_does_not_belong_together_is_asked_nothing():
    words, hidden = torch.tensor([[5, IGNORED], [6, 7]]), torch.tensor([[True], [True]])
    words, hidden = ask_aligned(words, hidden, torch.tensor([ALIGNED, RANDOM]))
    assert words.tolist() == [[5, IGNORED], [IGNORED, IGNORED]] and hidden.tolist() == [[True], [False]]


# --------------------------------------------------------------------------------------------------- losses


@pytest.mark.equation("eq:vilbert-region")
def test_the_loss_of_regions_is_the_divergence_from_the_detector():
    logits, p = normal(3, 5), normal(3, 5, seed=1).softmax(-1)
    p[0] = torch.tensor([0, 0, 1.0, 0, 0])                             # 0 log 0 is 0
    total = 0.0
    for i in range(3):
        z = sum(math.exp(x) for x in logits[i].tolist())
        for c in range(5):
            if p[i, c] > 0:
                total += float(p[i, c]) * (math.log(p[i, c]) - (float(logits[i, c]) - math.log(z)))
    torch.testing.assert_close(region_loss(logits, p), torch.tensor(total / 3).double())
    assert region_loss(p[1:].log(), p[1:]).abs() < 1e-12               # who says the same loses nothing


def test_its_gradient_is_that_of_a_cross_entropy_with_soft_labels():
    logits, p = normal(4, 5).requires_grad_(), normal(4, 5, seed=1).softmax(-1)
    (grad,) = torch.autograd.grad(region_loss(logits, p), logits)
    torch.testing.assert_close(grad, (logits.softmax(-1) - p) / 4)
    soft = nn.functional.cross_entropy(logits, p)
    torch.testing.assert_close(torch.autograd.grad(soft, logits)[0], grad)
    assert torch.autograd.gradcheck(lambda z: region_loss(z, p), logits)


def test_without_a_hidden_region_the_loss_is_zero_and_not_zero_by_zero():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = region_loss(logits, torch.zeros(0, 5))
    loss.backward()
    assert loss == 0 and loss.isfinite()


@pytest.mark.equation("eq:vilbert-alignment", "eq:vilbert-score")
def test_pairs_are_two_classes_of_which_the_first_belongs_together():
    logits, labels = normal(3, 2), torch.tensor([0, 1, 0])
    z = [sum(math.exp(x) for x in row) for row in logits.tolist()]
    want = -sum(float(logits[i, y]) - math.log(z[i]) for i, y in enumerate(labels)) / 3
    torch.testing.assert_close(alignment_loss(logits, labels), torch.tensor(want).double())
    torch.testing.assert_close(alignment_score(logits),
                               torch.tensor([math.exp(logits[i, 0]) / z[i] for i in range(3)]).double())
    assert (ALIGNED, RANDOM) == (0, 1)


@pytest.mark.equation("eq:vilbert-loss")
def test_the_three_losses_are_added_without_weights(seeded):
    tokens, seen = pairs()
    made = batch(tokens, seen, replace(PretrainingConfig(), word_rate=0.5, region_rate=0.5))
    model = ViLBERTForPreTraining(tiny())
    asked = made.words != IGNORED
    inputs = (made.tokens, None, made.text_mask, made.regions, made.boxes, made.region_mask)
    every, some = model(*inputs), model(*inputs, asked, made.hidden)
    torch.testing.assert_close(some.words, every.words[asked])
    torch.testing.assert_close(some.regions, every.regions[made.hidden])
    loss, parts = pretraining_step(model, made)
    torch.testing.assert_close(loss, parts["mlm"] + parts["region"] + parts["pair"])
    torch.testing.assert_close(parts["mlm"],
                               nn.functional.cross_entropy(every.words[asked], made.words[asked]))
    torch.testing.assert_close(parts["region"],
                               region_loss(every.regions[made.hidden], made.classes[made.hidden]))
    nothing = pretraining_loss(
        every._replace(words=every.words[:0, 0], regions=every.regions[:0, 0]),
        made.words[:0, 0], made.classes[:0, 0], made.pairs)[1]
    assert nothing["mlm"] == nothing["region"] == 0 and nothing["pair"] > 0


@pytest.mark.equation("eq:vilbert-region-head")
def test_the_head_of_regions_is_a_layer_a_gelu_a_norm_and_a_layer():
    head = RegionHead(tiny()).double()
    x = normal(32)
    h = head.dense.weight @ x + head.dense.bias
    h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
    h = (h - h.mean()) / torch.sqrt(((h - h.mean()) ** 2).mean() + 1e-12)
    torch.testing.assert_close(head(x), head.classes.weight @ h + head.classes.bias)


# -------------------------------------------------------------------------------------------------- training


def test_the_text_stream_learns_at_a_tenth_of_the_rate_and_only_matrices_decay():
    model = ViLBERTForPreTraining(tiny())
    groups = pretraining_groups(model, PretrainingConfig.released())
    names = {id(p): name for name, p in model.named_parameters()}
    assert sum(len(group["params"]) for group in groups) == len(names)
    for group in groups:
        own = {names[id(p)].startswith("vilbert.text.") for p in group["params"]}
        assert own == {group["scale"] == 0.1}
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.01}
    words = model.vilbert.text.embed.words.weight
    assert sum(p is words for group in groups for p in group["params"]) == 1     # tied, and once


@pytest.mark.slow
def test_four_pairs_are_learned_by_heart(seeded):
    tokens, seen = pairs()
    config = replace(PretrainingConfig.mini(), word_rate=0.5, region_rate=0.5, zeroed=1.0)
    made = batch(tokens, seen, config, seed=0)
    assert made.hidden.any() and set(made.pairs.tolist()) == {ALIGNED, RANDOM}
    model = ViLBERTForPreTraining(tiny())
    before = pretraining_step(model, made)[1]
    optimizer = torch.optim.AdamW(pretraining_groups(model, config), lr=5e-3)
    fit(model, pretraining_step, [made], steps=60, optimizer=optimizer, lr=5e-3, progress=False)
    after = pretraining_step(model, made)[1]
    assert before["mlm"] > 2 and before["pair"] > 0.5
    assert after["mlm"] < 0.1 and after["region"] < 0.1 * before["region"] and after["pair"] < 0.05


@torch.no_grad()
def test_a_saved_model_is_opened_with_its_configuration(tmp_path, seeded):
    model = ViLBERTForPreTraining(tiny(co_attention="survey")).eval()
    save_model(tmp_path / "model.safetensors", model, "vilbert", {})
    again, _ = load_model(tmp_path / "model.safetensors", {"vilbert": (ViLBERTConfig, ViLBERTForPreTraining)})
    tokens, seen = pairs()
    assert again.config == model.config
    assert torch.equal(again(tokens, None, None, *seen[:3]).pairs, model(tokens, None, None, *seen[:3]).pairs)


def test_settings_that_cannot_be_are_refused():
    assert PretrainingConfig.released().batch == 512 and PretrainingConfig.released().lr == 1e-4
    with pytest.raises(ValueError, match="region_rate of PretrainingConfig is 1.5"):
        PretrainingConfig(region_rate=1.5)


# --------------------------------------------------------------------------------------------------- regions


@pytest.fixture(scope="module")
def detector():
    from mmlearn.image2text.regions import load_detector

    return load_detector()


@pytest.fixture(scope="module")
def drawn():
    from mmlearn.image2text.regions import DetectionData

    return DetectionData(4, "val")


def test_the_detector_of_chapter_1_gives_regions_places_and_classes(detector, drawn):
    from mmlearn.data.scenes import CATEGORIES
    from mmlearn.image2text.regions import region_features

    found, regions = see(detector, drawn.images), region_features(detector, drawn.images, max_regions=10)
    config = ViLBERTConfig.mini()
    assert found.features.shape == (4, 9, config.features) and found.classes.shape == (4, 9, config.classes)
    assert config.classes == len(CATEGORIES) + 1
    assert torch.equal(found.mask, regions.mask[:, 1:])                 # the whole picture is none of them
    torch.testing.assert_close(found.boxes, regions.features[:, 1:, -5:])         # as chapter 1 says places
    torch.testing.assert_close(found.features, regions.features[:, 1:, :-5])
    torch.testing.assert_close(found.classes.sum(-1), found.mask.float())
    agree = found.classes.argmax(-1)[found.mask] == regions.labels[:, 1:][found.mask] + 1
    assert found.mask.sum() >= 8 and agree.double().mean() > 0.7
    assert not detector.training


def test_given_boxes_are_seen_as_found_ones_are(detector, drawn):
    from mmlearn.image2text.regions import region_features

    regions = region_features(detector, drawn.images, max_regions=10)
    boxes = [corners[1:][real[1:]] for corners, real in zip(regions.boxes, regions.mask)]
    found, given = see(detector, drawn.images), see_boxes(detector, drawn.images, boxes, batch=3)
    n = given.mask.shape[1]
    assert torch.equal(found.mask[:, :n], given.mask) and found.mask[:, n:].sum() == 0
    torch.testing.assert_close(found.features[:, :n], given.features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.classes[:, :n], given.classes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.boxes[:, :n], given.boxes)
    none = see_boxes(detector, drawn.images[:2], [boxes[0][:0], boxes[1]])
    assert none.mask.any(dim=1).tolist() == [False, True]
    with pytest.raises(ValueError, match="4 pictures and boxes for 1"):
        see_boxes(detector, drawn.images, boxes[:1])
    with pytest.raises(ValueError, match="picture 0 has a box that is empty or leaves its 64 x 64"):
        see_boxes(detector, drawn.images[:1], [torch.tensor([[5.0, 5.0, 5.0, 9.0]])])


@torch.no_grad()
def test_a_picture_in_which_nothing_is_found_is_read_all_the_same(detector, drawn, seeded):
    found = see(detector, drawn.images, threshold=2.0)
    assert not found.mask.any()
    model = ViLBERTForPreTraining(ViLBERTConfig.mini()).eval()
    tokens = torch.tensor([[2, 5, 3]]).expand(4, -1)
    assert all(part.isfinite().all() for part in model(tokens, None, None, *found[:3]))
    with pytest.raises(ValueError, match="max_regions is 0"):
        see(detector, drawn.images, max_regions=0)
