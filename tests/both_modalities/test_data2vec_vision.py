"""data2vec for images: masks in blocks, what is learned from whom, sizes, the same numbers as elsewhere."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, count_blank, numbers, stirred

from mmlearn.both_modalities.data2vec import (
    Data2Vec,
    Data2VecConfig,
    MaskedInputs,
    ema_update_,
    regression_loss,
    train_data2vec,
)
from mmlearn.both_modalities.data2vec_vision import (
    Data2VecVision,
    Data2VecVisionConfig,
    HiddenPictures,
    VisionData2Vec,
    add_block,
    block_aspect,
    block_mask,
    block_masks,
    block_sides,
    fine_tuning_groups,
    layer_of,
    layer_rate,
    pretraining_views,
    vision_batch,
    vision_head,
)
from mmlearn.nn.beit import BEiTClassifier
from mmlearn.nn.modes import seeded as seeded_block
from mmlearn.pretrained import load
from mmlearn.train import constant

TINY = Data2VecVisionConfig(16, 4, 12, 3, 2, 20, drop_path=0.0, layer_scale=0.1, masked=9, least=2)
OF = replace(Data2VecConfig.vision(), K=2)


def learner(config=TINY, of=OF, kind=VisionData2Vec, seed=0):
    """A learner whose teacher is another network than itself, in float64."""
    with seeded_block(seed):
        student, head = Data2VecVision(config), vision_head(config)
        model = kind(stirred(student, 1, 0.3), stirred(head, 2), of).double()
    stirred(model.teacher, 3, 0.2)
    return model


def batch_of(b=2, seed=0):
    return numbers(b, 3, 16, 16, seed=seed), block_masks(b, TINY, torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------ masks

@pytest.mark.equation("eq:block-sides", "eq:block-aspect")
def test_a_block_has_the_area_and_the_ratio_that_were_drawn():
    assert block_aspect(0.0) == pytest.approx(0.3) and block_aspect(1.0) == pytest.approx(1 / 0.3)
    assert block_aspect(0.5) == pytest.approx(1.0)
    for u in (0.1, 0.25, 0.4):
        want = math.exp(math.log(0.3) + u * (math.log(1 / 0.3) - math.log(0.3)))
        assert block_aspect(u) == pytest.approx(want)
        assert block_aspect(u) * block_aspect(1 - u) == pytest.approx(1)        # flat as often as tall
    for area, aspect in ((16, 1), (40, 0.4), (100, 2.5)):
        y, x = block_sides(area, aspect)
        assert (y, x) == (round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect)))
        assert abs(y * x / area - 1) < 0.25


def test_a_mask_is_a_union_of_blocks_with_never_more_patches_than_asked_for():
    config, g = Data2VecVisionConfig(), torch.Generator().manual_seed(0)
    counts = [int(block_mask(14, 120, 16, g).sum()) for _ in range(300)]
    assert max(counts) == 120 and min(counts) >= 100
    assert 119 < sum(counts) / len(counts) < 119.9                      # 119.5 over 2,000 draws
    masks = block_masks(3, config, g)
    assert masks.shape == (3, 196) and masks.dtype == torch.bool
    assert torch.equal(block_masks(3, config, torch.Generator().manual_seed(5)),
                       block_masks(3, config, torch.Generator().manual_seed(5)))


def test_masks_are_distributed_as_those_of_the_loop_that_the_paper_describes():
    def loop(rng, G=14, wanted=75, least=16):
        hidden = set()
        while len(hidden) < wanted:
            for _ in range(10):
                most = wanted - len(hidden)
                area = rng.uniform(least, most)
                ratio = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
                h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
                if w >= G or h >= G:
                    continue
                top, left = rng.randint(0, G - h), rng.randint(0, G - w)
                new = {(i, j) for i in range(top, top + h) for j in range(left, left + w)} - hidden
                if 0 < len(new) <= most:
                    hidden |= new
                    break
            else:
                return hidden
        return hidden

    rng, g, n = random.Random(0), torch.Generator().manual_seed(0), 400
    theirs = torch.zeros(14, 14)
    for _ in range(n):
        for i, j in loop(rng):
            theirs[i, j] += 1 / n
    ours = sum(block_mask(14, 75, 16, g).float() for _ in range(n)).view(14, 14) / n
    assert abs(float(ours.sum() - theirs.sum())) < 0.5
    assert float(ours[5:9, 5:9].mean()) > float(ours[0].mean()) + 0.05          # the middle more than the rim
    assert abs(float(ours[5:9, 5:9].mean() - theirs[5:9, 5:9].mean())) < 0.05
    assert abs(float(ours[0].mean() - theirs[0].mean())) < 0.05


def test_a_block_that_is_too_large_or_hides_nothing_new_is_not_taken():
    empty = [[False] * 4 for _ in range(4)]
    tall = [0.999, 0.999, 0.0, 0.0]                                     # 5 rows high, where there are 4
    assert add_block(empty, 9, 2, [tall]) == 0
    assert add_block(empty, 4, 4, [tall, [0.0, 0.5, 0.99, 0.0]]) == 4   # 2 x 2 at the bottom left
    assert [row[:2] for row in empty] == [[False, False]] * 2 + [[True, True]] * 2
    assert add_block(empty, 4, 4, [[0.0, 0.5, 0.99, 0.0]]) == 0         # the same block again


# -------------------------------------------------------------------------------------------------- the sizes

@pytest.mark.parametrize("name, published", [("base", 85_664_592), ("large", 303_135_168),
                                             ("base_fine_tuned", 85_761_216)])
def test_the_published_sizes_are_ours(name, published):
    assert count_blank(Data2VecVision, getattr(Data2VecVisionConfig, name)()) == published


def test_the_classifier_of_the_base_size_has_the_published_parts():
    config = Data2VecVisionConfig.base_fine_tuned()
    assert count_blank(BEiTClassifier, config, 1000) == 85_761_216 + 2 * 768 + 768 * 1000 + 1000
    base, mini = Data2VecVisionConfig.base(), Data2VecVisionConfig.mini()
    assert (base.masked, base.least, base.places, base.drop_path) == (120, 16, 196, 0.2)
    assert base.layer_scale == 1e-4 and Data2VecVisionConfig.large().layer_scale == 1e-5
    assert (mini.places, mini.masked) == (64, 38) and count(Data2VecVision(mini)) < 250_000


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="hide fewer than all"):
        Data2VecVisionConfig(masked=196)
    with pytest.raises(ValueError, match="no fewer than a block"):
        Data2VecVisionConfig(masked=10)


# ------------------------------------------------------------------------------------------------ the learner

def test_targets_are_ends_of_the_last_blocks_normalised_averaged_and_normalised_again():
    model, (images, mask) = learner(), batch_of()
    ends = model.teacher.layers(images)

    def normal(row):
        centred = row - row.mean()
        return centred / (centred.square().mean() + 1e-5).sqrt()

    rows = []
    for b in range(2):
        for p in range(16):
            if mask[b, p]:
                rows.append(normal((normal(ends[1][b, p]) + normal(ends[2][b, p])) / 2))
    torch.testing.assert_close(model.hidden_targets(images, mask), torch.stack(rows))


@pytest.mark.parametrize("norm, twice", [("layer", True), ("layer", False), ("none", False)])
def test_the_sparing_learner_says_and_learns_what_the_plain_one_does(norm, twice):
    of = replace(OF, norm=norm, twice=twice)
    images, mask = batch_of()
    found = []
    for kind in (Data2Vec, VisionData2Vec):
        model = learner(of=of, kind=kind)
        out = model(images, mask)
        loss = regression_loss(out.prediction, out.target, of.beta)
        loss.backward()
        assert all(p.grad is None for p in model.teacher.parameters())
        found.append([out.prediction, out.target, loss, *(p.grad for p in model.student.parameters()),
                      *(p.grad for p in model.head.parameters())])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b)
    assert abs(found[0][2] - F.smooth_l1_loss(found[0][0], found[0][1], beta=2.0)) < 1e-12


def test_e5_targets_are_of_the_last_blocks_not_of_the_first():
    model, (images, mask) = learner(), batch_of()
    before = model.hidden_targets(images, mask)
    with torch.no_grad():
        model.teacher.blocks[2].gamma_2 += 0.5                          # the last of three blocks
    assert not torch.allclose(model.hidden_targets(images, mask), before)
    model = learner(of=replace(OF, K=1))
    last = model.teacher.layers(images)[-1][mask]
    want = F.layer_norm(F.layer_norm(last, (12,)), (12,))
    torch.testing.assert_close(model.hidden_targets(images, mask), want)


def test_e6_the_teacher_sees_the_whole_picture_has_no_head_and_no_skipped_blocks():
    model, (images, mask) = learner(replace(TINY, drop_path=0.9)).train(), batch_of()
    assert not model.teacher.training and model.student.training
    assert not any("head" in name for name, _ in model.teacher.named_parameters())
    targets = model.teach(images)
    torch.testing.assert_close(model.hidden_targets(images, mask), targets[mask])       # whatever the mask
    other = torch.where(F.interpolate(mask.view(2, 1, 4, 4).double(), scale_factor=4).bool(),
                        numbers(2, 3, 16, 16, seed=8), images)
    assert not torch.allclose(model.teach(other), targets)              # what is hidden from the student
    model.eval()
    torch.testing.assert_close(model(other, mask).prediction, model(images, mask).prediction)


def test_e7_released_vision_has_offsets_and_no_absolute_positions():
    state = Data2VecVision(TINY).state_dict()
    assert "table" in state and not any("pos" in name for name in state)
    assert state["table"].shape == (7 * 7 + 3, 2)


def test_gradients_reach_everything_but_the_teacher_and_an_update_moves_it_by_its_share():
    model, (images, mask) = learner(), batch_of()
    out = model(images, mask)
    regression_loss(out.prediction, out.target, 2.0).backward()
    for name, p in [*model.student.named_parameters(), *model.head.named_parameters()]:
        assert p.grad is not None and p.grad.abs().sum() > 0, name
    before = {name: p.clone() for name, p in model.teacher.named_parameters()}
    ema_update_(model.teacher, model.student, 0.9998)
    theta = dict(model.student.named_parameters())
    for name, p in model.teacher.named_parameters():
        torch.testing.assert_close(p, 0.9998 * before[name] + 0.0002 * theta[name])


def test_one_picture_alone_is_told_as_among_others():
    model, (images, mask) = learner(), batch_of(3)
    all_of, first = model(images, mask), int(mask[0].sum())
    alone = model(images[:1], mask[:1])
    torch.testing.assert_close(alone.prediction, all_of.prediction[:first])
    torch.testing.assert_close(alone.target, all_of.target[:first])


def test_a_batch_without_hidden_patches_and_targets_over_places_are_refused():
    model, (images, mask) = learner(), batch_of()
    with pytest.raises(ValueError, match="hide a patch or more"):
        model(images, torch.zeros_like(mask))
    with pytest.raises(ValueError, match="use Data2Vec"):
        VisionData2Vec.new(TINY, replace(OF, norm="instance"))


def test_the_teachers_view_of_a_few_pictures_can_be_learned_by_heart():
    config = Data2VecVisionConfig(16, 4, 32, 2, 2, 64, drop_path=0.0, layer_scale=0.5, masked=9, least=2)
    with seeded_block(0):
        model = VisionData2Vec.new(config, replace(OF, tau_0=1.0, tau_e=1.0))
        stirred(model.student, 2, 0.2)                                  # places differ from the start
        stirred(model.teacher, 1)
    g = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 16, 16, generator=g)
    batch = vision_batch(images, config, g)
    assert isinstance(batch, MaskedInputs) and batch.mask.shape == (4, 16)

    def loss():
        with torch.no_grad():
            out = model.eval()(batch.inputs, batch.mask)
            return float(regression_loss(out.prediction, out.target, 2.0))

    before = loss()
    history = train_data2vec(model, [batch], steps=120, lr=1e-2, schedule=constant(1e-2))
    assert loss() < 0.2 * before and len(history.loss) == 120
    assert int(model.updates) == 120


# ----------------------------------------------------------------------------------------------- fine-tuning

@pytest.mark.equation("eq:layer-decay")
def test_what_is_near_the_picture_learns_more_slowly():
    for l in range(5):
        want = 1.0
        for _ in range(4 - l):
            want *= 0.65
        assert layer_rate(l, 3) == pytest.approx(want)
    model = BEiTClassifier(TINY, 5)
    groups = fine_tuning_groups(model, 4e-3)
    assert sum(p.numel() for group in groups for p in group["params"]) == count(model)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in groups:
        for p in group["params"]:
            name = names[id(p)]
            assert group["lr"] == pytest.approx(4e-3 * 0.65 ** (4 - layer_of(name, 3)))
            assert (group["weight_decay"] > 0) == (p.ndim > 1 and "table" not in name)
    of = ("encoder.cls", "encoder.patches.project.bias", "encoder.blocks.0.gamma_1",
          "encoder.blocks.2.gamma_1", "head.out.bias")
    assert [layer_of(name, 3) for name in of] == [0, 0, 1, 3, 4]
    with pytest.raises(ValueError, match="give a BEiTClassifier"):
        fine_tuning_groups(torch.nn.Linear(2, 2), 1e-3)


def test_pictures_are_cut_flipped_coloured_and_standardised():
    images = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    with seeded_block(0):
        views = [pretraining_views(16)(images) for _ in range(2)]
    assert all(view.shape == (3, 16, 16) for view in views) and not torch.equal(*views)
    assert all(-3 < float(view.mean()) < 3 for view in views)


# ----------------------------------------------------------------------------------------------------- parity

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
         "image_size": 16, "patch_size": 4, "use_mask_token": True, "drop_path_rate": 0.0}


def theirs_of(kind, tmp_path, **changes):
    """A model of transformers with nothing at rest, and ours, read from the folder that it saves."""
    import transformers

    family = "Beit" if kind.startswith("Beit") else "Data2VecVision"
    changes = {"use_shared_relative_position_bias": True, **changes}
    config = getattr(transformers, f"{family}Config")(**SIZES, **changes)
    with seeded_block(0):
        theirs = getattr(transformers, kind)(config)
    theirs = stirred(theirs, 1, 0.3).eval()
    theirs.save_pretrained(tmp_path)
    return theirs, load(tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["Data2VecVisionModel", "BeitModel"])
@pytest.mark.parametrize("bias", ["shared", "layer"])
def test_states_of_all_blocks_are_those_of_transformers(kind, bias, tmp_path):
    theirs, ours = theirs_of(kind, tmp_path, use_shared_relative_position_bias=bias == "shared",
                             use_relative_position_bias=bias == "layer", use_mean_pooling=False)
    images, mask = numbers(2, 3, 16, 16).float(), batch_of()[1]
    with torch.no_grad():
        want = theirs(images, bool_masked_pos=mask, output_hidden_states=True)
        torch.testing.assert_close(ours(images, mask), want.last_hidden_state[:, 1:], atol=1e-5, rtol=1e-5)
        for mine, one in zip(ours.encoder.ends(images, mask), want.hidden_states[1:4]):
            torch.testing.assert_close(mine, one, atol=1e-5, rtol=1e-5)
        larger = numbers(2, 3, 24, 24, seed=1).float()                  # a change of resolution
        torch.testing.assert_close(ours(larger), theirs(larger).last_hidden_state[:, 1:],
                                   atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["Data2VecVisionModel", "BeitModel"])
def test_an_encoder_without_a_last_norm_is_that_of_transformers(kind, tmp_path):
    more = {"add_pooling_layer": False} if kind == "BeitModel" else {}
    import transformers

    family = kind.removesuffix("Model")
    config = getattr(transformers, f"{family}Config")(**SIZES, use_shared_relative_position_bias=True)
    theirs = stirred(getattr(transformers, kind)(config, **more), 1, 0.3).eval()
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path)
    images, mask = numbers(2, 3, 16, 16).float(), batch_of()[1]
    with torch.no_grad():
        want = theirs(images, bool_masked_pos=mask).last_hidden_state
        torch.testing.assert_close(ours.tokens(images, mask), want, atol=1e-5, rtol=1e-5)
    assert count(ours) == count(theirs)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["Data2VecVisionForImageClassification", "BeitForImageClassification"])
def test_classes_are_those_of_transformers(kind, tmp_path):
    theirs, ours = theirs_of(kind, tmp_path, use_shared_relative_position_bias=False,
                             use_relative_position_bias=True, num_labels=7)
    images = numbers(2, 3, 16, 16).float()
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_codes_of_hidden_patches_are_those_of_transformers(tmp_path):
    theirs, ours = theirs_of("BeitForMaskedImageModeling", tmp_path, vocab_size=11)
    images, mask = numbers(2, 3, 16, 16).float(), batch_of()[1]
    with torch.no_grad():
        torch.testing.assert_close(ours(images, mask), theirs(images, bool_masked_pos=mask).logits,
                                   atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_the_epsilon_of_a_folder_is_used_and_matters(tmp_path):
    images = 1e-4 * numbers(2, 3, 16, 16).float()
    theirs, ours = theirs_of("Data2VecVisionModel", tmp_path / "plain", use_mean_pooling=False)
    assert theirs.config.layer_norm_eps == ours.config.eps == 1e-12     # not the 1e-6 of the authors
    with torch.no_grad():
        for model in (theirs.embeddings, ours.encoder):                 # states so small that it counts
            for p in model.parameters() if model is theirs.embeddings else (
                    model.cls, model.mask_token, *model.patches.parameters()):
                p.mul_(1e-3)
        want = theirs(images).last_hidden_state[:, 1:]
        torch.testing.assert_close(ours(images), want, atol=1e-4, rtol=1e-4)
        for module in ours.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
        assert (ours(images) - want).abs().max() > 1e-2
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert config["model_type"] == "data2vec-vision"


def test_hidden_pictures_follow_from_the_number_of_the_batch_with_and_without_views():
    images = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    for augment in (False, True):
        one, same = (HiddenPictures(images, 3, Data2VecVisionConfig.mini(), seed=2, augment=augment)
                     for _ in range(2))
        first, again, other = one[1], same[1], one[0]
        assert torch.equal(first.inputs, again.inputs) and torch.equal(first.mask, again.mask)
        assert not torch.equal(first.mask, other.mask) and first.inputs.shape == (3, 3, 32, 32)
    row = HiddenPictures(images, 6, Data2VecVisionConfig.mini(), shuffle=False)[0].inputs[4, 1, 2, 3]
    want = (float(images[4, 1, 2, 3]) / 255 - 0.456) / 0.224
    assert float(row) == pytest.approx(want, abs=1e-5)
