"""What the survey says of data2vec, ViLBERT, Flamingo and their tasks, and what papers and codes say: those
entries of the errata page that have no test beside the system's own."""

import math
from dataclasses import replace

import pytest
import torch
from networks import numbers
from torch import nn

from mmlearn.both_modalities import few_shot, interleaved
from mmlearn.both_modalities.data2vec import (
    Data2Vec,
    Data2VecConfig,
    MaskedInputs,
    regression_head,
    regression_loss,
    targets,
)
from mmlearn.both_modalities.data2vec_speech import (
    MASKED,
    SPAN,
    Data2VecSpeech,
    Data2VecSpeechConfig,
    masked_share,
)
from mmlearn.both_modalities.data2vec_text import Data2VecTextConfig, data2vec_text
from mmlearn.both_modalities.data2vec_vision import (
    Data2VecVision,
    Data2VecVisionConfig,
    VisionData2Vec,
    block_masks,
)
from mmlearn.both_modalities.flamingo import (
    Flamingo,
    FlamingoAdapter,
    FlamingoConfig,
    GatedCrossAttention,
    PerceiverResampler,
    interleaved_loss,
    last_picture,
    media_mask,
)
from mmlearn.both_modalities.vilbert import CoAttentionLayer, ViLBERTConfig
from mmlearn.both_modalities.vilbert_heads import referring_targets, retrieval_alternatives
from mmlearn.both_modalities.vilbert_pretraining import (
    PretrainingConfig,
    ViLBERTForPreTraining,
    ViLBERTScores,
    pretraining_groups,
    pretraining_loss,
    region_loss,
)
from mmlearn.metrics.navigation import success
from mmlearn.metrics.vcr import vcr_scores
from mmlearn.metrics.vqa import without_marks
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import blank, seeded

BLOCKS = Data2VecVisionConfig(16, 4, 12, 3, 2, 20, drop_path=0.0, layer_scale=0.1, masked=9, least=2)
STREAMS = ViLBERTConfig(BERTConfig(20, 8, 12, 3, 3, 16, pad=0, dropout=0.0, pooler=False), features=6,
                        classes=5, width=8, layers=2, heads=2, ff=10, inner=12, co_heads=3, co_text=(1, 2),
                        co_vision=(0, 1), dropout=0.0)


def three_learners():
    """data2vec for pictures, text and speech, with something that each is given."""
    method = Data2VecConfig.mini(K=2)
    with seeded(0):
        config = Data2VecSpeechConfig.mini()
        speech = Data2Vec(Data2VecSpeech(config), regression_head(config.width), method)
        return ((VisionData2Vec.new(BLOCKS, method), torch.randn(1, 3, 16, 16)),
                (data2vec_text(Data2VecTextConfig.mini(), method), torch.tensor([[5, 6, 7, 8]])),
                (speech, torch.randn(1, 8000)))


# ----------------------------------------------------------------------------------------------- the overview

def test_e26_three_learners_share_an_algorithm_and_no_parameter_and_each_takes_its_own_inputs():
    learners = three_learners()
    seen = [{id(p) for p in model.parameters()} for model, _ in learners]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    for i, (model, _) in enumerate(learners):
        for j, (_, inputs) in enumerate(learners):
            if i == j:
                assert model.teach(inputs).ndim == 3
            else:
                with pytest.raises((ValueError, TypeError, RuntimeError, IndexError)):
                    model.teach(inputs)


def test_e27_classes_of_regions_are_labels_that_people_gave_the_detectors_pictures():
    assert ViLBERTConfig.base().classes == 1600 + 1                     # things of Visual Genome, and nothing
    with torch.device("meta"):
        head = ViLBERTForPreTraining(ViLBERTConfig.base()).regions
    assert head.classes.weight.shape == (1601, 1024)


def tiny_flamingo(vision=None):
    lm = CausalLMConfig(vocab=20, context=24, width=16, layers=2, heads=2, ff=32)
    config = FlamingoConfig(layers=2, width=16, heads=2, every=1, features=6, visual=8, resampler_layers=1,
                            resampler_heads=2, latents=3, frames=1, head=4, image=4, eoc=3)
    with seeded(0):
        return Flamingo(config, CausalLM(lm), vision)


def test_e30_what_was_trained_before_is_frozen_and_stays_bit_for_bit_while_what_connects_it_learns():
    model, tokens = tiny_flamingo(), torch.tensor([[2, 7, 4, 8, 9]])
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        loss = interleaved_loss(model(tokens, features=torch.ones(1, 1, 5, 6)), tokens, tokens != 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    same = {name.split(".")[0] for name, p in model.named_parameters() if torch.equal(p, before[name])}
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert "language" in same and moved == {"adapter"}


# -------------------------------------------------------------------------------------------------- the tasks

def test_e34_a_problem_of_reasons_asks_twice_and_guessing_is_right_in_one_of_sixteen():
    answers, reasons = torch.arange(4).repeat(4), torch.arange(4).repeat_interleave(4)      # each guess once
    right = torch.zeros(16, dtype=torch.long)
    assert list(vcr_scores(answers, reasons, right, right).table().values()) == [1 / 4, 1 / 4, 1 / 16]


def test_e36_who_stops_within_three_metres_has_arrived_and_who_passes_by_has_not():
    to_goal, stopped = torch.tensor([0.0, 2.9, 3.0, 3.1, 1.0]), torch.tensor([True, True, True, True, False])
    assert success(to_goal, stopped, 3.0).tolist() == [True, True, True, False, False]


# --------------------------------------------------------------------------------------------------- data2vec

def test_e19_a_target_is_what_the_feed_forward_net_gives_and_in_the_released_vision_the_end_of_the_block():
    assert Data2VecTextConfig.base().target == "ffn"
    (vision, images), (text, tokens), _ = three_learners()
    blocks = list(text.teacher.bert.by_block(tokens))
    with torch.no_grad():
        for a, block in zip(text.teacher.layers(tokens), blocks):
            assert torch.equal(a, block.ffn) and not torch.allclose(block.ffn, block.end)
        ends = []
        for block in vision.teacher.blocks:
            block.register_forward_hook(lambda block, args, out: ends.append(out))
        found = vision.teacher.layers(images)
        assert len(found) == len(ends) == 3
        assert all(torch.equal(a, end[:, 1:]) for a, end in zip(found, ends))


def test_e21_one_class_trains_all_three_modalities():
    for model, inputs in three_learners():
        assert isinstance(model, Data2Vec)
        places = model.teach(inputs).shape[1]
        mask = torch.zeros(1, places, dtype=torch.bool)
        mask[:, 1:3] = True
        found = model(inputs, MaskedInputs(inputs, mask).mask)
        assert found.prediction.shape == found.target.shape
        assert regression_loss(found.prediction, found.target, 2.0).isfinite()


def test_e22_the_numbers_that_are_missing():
    vision, text, speech = Data2VecConfig.vision(), Data2VecConfig.text(), Data2VecConfig.speech()
    assert [(c.K, c.beta) for c in (vision, text, speech)] == [(6, 2), (10, 4), (8, 0)]
    assert (vision.decay(1), text.tau_0, text.tau_e, speech.tau_0, speech.tau_e) == (
        0.9998, 0.999, 0.9999, 0.999, 0.9999)
    base = Data2VecVisionConfig.base()
    assert base.masked / base.places == pytest.approx(0.6, abs=0.02)
    assert (MASKED, SPAN) == (0.065, 10) and masked_share(MASKED, SPAN) == pytest.approx(0.489, abs=5e-4)
    assert masked_share(MASKED, SPAN) == pytest.approx(1 - (1 - 0.065) ** 10)


def test_e23_a_hidden_patch_has_hidden_neighbours_and_single_draws_have_fewer():
    config, draw = Data2VecVisionConfig.base(), torch.Generator().manual_seed(0)
    blocks = block_masks(50, config, draw).view(50, 14, 14)
    alone = torch.rand(50, 196, generator=draw).argsort(1).lt(blocks[0].sum()).view(50, 14, 14)

    def beside(mask):                                   # of the right-hand neighbours of hidden patches
        return float(mask[:, :, 1:][mask[:, :, :-1]].float().mean())

    assert beside(blocks) > 0.85 and beside(alone) < 0.65


def test_e24_a_patch_is_one_vector_and_all_are_the_sequence():
    model = Data2VecVision(BLOCKS)                                          # 16 pixels, patches of 4
    assert model.embed(torch.randn(1, 3, 16, 16)).shape == (1, 1 + 16, 12)


# ---------------------------------------------------------------------------------------------------- ViLBERT

def test_e40_a_layer_maps_adds_and_normalises_what_was_read_and_has_a_feed_forward_net():
    parts = {name.split(".")[1] for name, _ in CoAttentionLayer(STREAMS).named_parameters()}
    assert parts == {"attention", "attention_norm", "feed_forward", "feed_forward_norm"}
    layer = CoAttentionLayer(STREAMS)
    x, y = torch.randn(1, 3, 8), torch.randn(1, 4, 12)
    masks = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
    found = layer(x, y, *masks)
    for states in found:                                # the norm comes last
        torch.testing.assert_close(states.mean(-1), torch.zeros(states.shape[:2]), atol=1e-5, rtol=0)
    with torch.no_grad():
        for stream in (layer.vision, layer.text):
            stream.attention.out.weight.zero_()         # nothing read: the residual is left
    assert layer(x, y, *masks)[0].isfinite().all() and not torch.allclose(layer(x, y, *masks)[0], found[0])


def test_e41_words_regions_and_the_pair_are_asked_for_and_the_three_losses_added():
    scores = ViLBERTScores(torch.zeros(3, 20), torch.zeros(2, 5), torch.zeros(1, 2))
    words, classes, pair = torch.tensor([4, 5, 6]), torch.full((2, 5), 0.2), torch.tensor([0])
    total, parts = pretraining_loss(scores, words, classes, pair)
    assert [round(float(parts[name]), 5) for name in ("mlm", "region", "pair")] == [
        round(math.log(20), 5), 0.0, round(math.log(2), 5)]
    assert float(total) == pytest.approx(math.log(20) + math.log(2), abs=1e-5)


# --------------------------------------------------------------------------------------------------- Flamingo

def test_e43_the_adapter_is_a_resampler_gated_blocks_and_one_vector():
    model = tiny_flamingo()
    assert {name for name, _ in model.named_children()} - {"vision"} == {"adapter", "language"}
    assert isinstance(model.adapter.resampler, PerceiverResampler)
    assert all(isinstance(block, GatedCrossAttention) for block in model.adapter.blocks.values())
    others = {name.split(".")[0] for name, _ in model.adapter.named_parameters()} - {"resampler", "blocks"}
    assert others == {"end"}
    features = torch.randn(1, 1, 1, 50, 6)                                  # one frame of 50 cells
    assert model.adapter.resampler(features[0]).shape[-2:] == (3, 8)        # as many tokens as latents


def test_e44_visual_tokens_and_words_have_no_common_space():
    config = FlamingoConfig.flamingo_80b()
    assert (config.visual, config.width) == (1536, 8192)
    with blank():
        block = FlamingoAdapter(config).blocks["0"]
    shapes = {tuple(p.shape) for p in block.parameters() if p.ndim == 2}
    assert (64 * 128, 8192) in shapes and (2 * 64 * 128, 1536) in shapes  # Q; K and V


def test_e45_the_vision_encoder_gets_no_gradient_and_stays_in_evaluation_mode():
    model = tiny_flamingo(nn.Sequential(nn.Flatten(2), nn.Linear(16, 6), nn.Dropout(0.5))).train()
    assert not model.vision.training and not any(p.requires_grad for p in model.vision.parameters())


def test_e46_what_the_survey_leaves_out_is_here():
    assert few_shot.rices and interleaved.ChunkTokeniser and PerceiverResampler and GatedCrossAttention
    assert media_mask and Flamingo(tiny_flamingo().config, CausalLM(
        CausalLMConfig(vocab=20, context=24, width=16, layers=2, heads=2, ff=32))).frozen == ["language"]


# ------------------------------------------------------------------------------ slips of the papers and codes

def test_p2_the_released_groups_decay_exactly_what_should_not():
    model = ViLBERTForPreTraining(STREAMS)
    names = {id(p): name for name, p in model.named_parameters()}
    decays = {names[id(p)] for group in pretraining_groups(model, PretrainingConfig.released())
              if group["weight_decay"] > 0 for p in group["params"]}
    released = {name for name in names.values() if name.endswith("bias") or "norm" in name}    # 0.01 there
    assert not decays & released and decays | released == {*names.values()}


def test_p3_a_batch_without_hidden_regions_is_zero_by_zero_in_the_released_loss():
    logits, classes = torch.zeros(0, 5, requires_grad=True), torch.zeros(0, 5)
    assert (torch.zeros(()) / max(torch.zeros(0).sum(), 0)).isnan()         # the released guard
    assert region_loss(logits, classes) == 0


def test_p4_two_maps_of_each_meeting_are_never_used():
    maps = [nn.Linear(1024, 1024, device="meta"), nn.Linear(1024, 768, device="meta")]
    assert 239_023_229 + 6 * sum(p.numel() for one in maps for p in one.parameters()) == 250_044_029


def test_p5_the_code_asks_for_the_overlap_where_the_paper_asks_for_yes_or_no():
    overlap = torch.tensor([[1.0, 0.5, 0.25]])
    assert referring_targets(overlap).tolist() == [[1.0, 0.5, 0.0]]
    assert referring_targets(overlap, soft=False).tolist() == [[1.0, 1.0, 0.0]]


def test_p6_the_hard_alternative_is_a_text_beside_the_right_picture():
    near = torch.tensor([[1], [0], [3], [2]])
    found = retrieval_alternatives(4, near, torch.Generator().manual_seed(0))
    assert torch.equal(found.pictures[:, 3], torch.arange(4)) and torch.equal(found.texts[:, 3], near[:, 0])


def test_p7_a_teacher_that_reads_hidden_tokens_and_padding_has_other_targets():
    model = three_learners()[1][0].eval()
    tokens = torch.tensor([[5, 6, 7, 8, 9, 10]])
    hidden = torch.tensor([[False, True, False, False, True, False]])
    whole, released = model.teach(tokens), model.teach(tokens.masked_fill(~hidden, 1))
    assert not torch.allclose(whole[hidden], released[hidden])
    assert torch.equal(model(tokens, hidden).target, whole[hidden])         # ours reads the whole


def test_p8_targets_of_pictures_are_ends_of_blocks_and_normalised_twice():
    assert Data2VecConfig.vision().twice and not Data2VecConfig.text().twice
    layers = [5 * numbers(1, 3, 4, seed=i) + i for i in range(3)]
    once, twice = targets(layers, 2, "layer"), targets(layers, 2, "layer", twice=True)
    assert not torch.allclose(once, twice, atol=0.05)
    torch.testing.assert_close(twice.std(-1, correction=0), torch.ones(1, 3).double(), atol=1e-3, rtol=0)


def test_p9_seventy_five_patches_are_beits_share_and_not_data2vecs():
    assert round(100 * 75 / 196) == 38 and round(100 * Data2VecVisionConfig.base().masked / 196) == 61
    fewer = replace(Data2VecVisionConfig.base(), masked=75)
    assert block_masks(20, fewer, torch.Generator().manual_seed(0)).float().mean() < 0.39


def test_p10_flamingos_shapes_give_other_counts_than_its_table_and_its_text():
    counted = []
    for name in ("flamingo_3b", "flamingo_9b", "flamingo_80b"):
        with blank():
            blocks = FlamingoAdapter(getattr(FlamingoConfig, name)()).blocks
        counted.append(round(sum(p.numel() for p in blocks.parameters()) / 1e9, 2))
    assert counted == [1.16, 1.80, 8.36]
    assert round(40 * 12 * 4096**2 / 1e9, 2) == 8.05                        # the layers of the 7.1B


def test_p11_by_the_first_mask_of_flamingo_pytorch_a_token_sees_all_pictures_before_it():
    phi = last_picture(torch.tensor([[True, False, True, True, False]]))
    of = [{sees: [i + 1 for i in range(3) if media_mask(phi, 3, sees)[0, t, i]] for sees in ("last", "all")}
          for t in range(5)]
    assert of[4] == {"last": [3], "all": [1, 2, 3]} and of[1] == {"last": [1], "all": [1]}


def test_p12_openflamingos_every_fourth_is_counted_from_the_end_of_a_group():
    assert [*FlamingoConfig.openflamingo_9b().places][:3] == [3, 7, 11]
    assert [*FlamingoConfig.flamingo_9b().places][:3] == [0, 4, 8]


def test_p13_thirty_two_periods_go_and_no_more():
    assert without_marks("." * 40) == "." * 8
