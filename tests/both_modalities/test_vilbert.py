"""ViLBERT's two streams against loops in float64, and what the survey says of them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmlearn.both_modalities.vilbert import (
    CoAttentionLayer,
    ViLBERT,
    ViLBERTConfig,
    add_read,
    box_geometry,
    co_attention,
    image_token,
    joint_state,
    pooled,
    region_rows,
    start_from_bert,
    survey_co_attention,
)
from mmlearn.both_modalities.vilbert_heads import ViLBERTForTasks, soft_score
from mmlearn.both_modalities.vilbert_pretraining import ViLBERTForPreTraining
from mmlearn.catalog import count_parameters
from mmlearn.nn.attention import attention_weights, record_attention
from mmlearn.nn.bert import BERT, BERTConfig


def tiny(**more):
    text = BERTConfig(20, 8, 12, 3, 3, 16, pad=0, dropout=0.0, pooler=False)
    sizes = dict(features=6, classes=5, width=8, layers=2, heads=2, ff=10, inner=12, co_heads=3,
                 co_text=(1, 2), co_vision=(0, 1), dropout=0.0)
    return ViLBERTConfig(text, **{**sizes, **more})


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def model(seeded):
    model = ViLBERT(tiny()).double().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)            # larger than the initialisation: differences show
    return model


@pytest.fixture
def inputs():
    """Two texts and pictures, one of each shorter than the other."""
    tokens = torch.tensor([[2, 7, 8, 9, 3], [2, 5, 3, 0, 0]])
    boxes = box_geometry(torch.tensor([[0.0, 0, 3, 4], [1, 2, 9, 9], [4, 4, 6, 8]]).double(), 10, 10)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    return tokens, None, None, normal(2, 3, 6), boxes.expand(2, -1, -1).clone(), mask


def loop_attention(Q, K, V, mask):
    """One head: (n, e), (m, e), (m, e) and which of the m are real."""
    rows = []
    for q in Q:
        scores = [math.exp(float(q @ k) / math.sqrt(len(q))) if real else 0.0 for k, real in zip(K, mask)]
        rows.append(sum(s / sum(scores) * v for s, v in zip(scores, V)))
    return torch.stack(rows)


def loop_norm(x, weight, bias, eps=1e-12):
    mean = x.mean()
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean() + eps) * weight + bias


def loop_gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


# -------------------------------------------------------------------------------------------------- equations


@pytest.mark.equation("eq:vilbert-box")
def test_a_box_is_told_by_its_corners_and_its_share_of_the_area():
    found = box_geometry(torch.tensor([[20.0, 10.0, 60.0, 40.0]]), 80, 50)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.2, 0.75, 0.8, 0.3]]))
    whole = box_geometry(torch.tensor([0.0, 0.0, 80.0, 50.0]), 80, 50)
    assert whole.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.equation("eq:vilbert-image")
def test_the_whole_picture_is_the_mean_of_its_real_regions():
    f = normal(2, 3, 4)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    found = image_token(f, mask)
    assert found.shape == (2, 1, 4)
    torch.testing.assert_close(found[0, 0], (f[0, 0] + f[0, 2]) / 2)
    assert found[1].abs().sum() == 0                       # a picture in which nothing was found
    f[0, 1] = torch.nan
    assert image_token(f, mask).isfinite().all()


@pytest.mark.equation("eq:vilbert-embed")
def test_what_a_region_is_and_where_it_is_are_mapped_apart_and_added():
    f, s, W_f, b_f, W_s, b_s = (normal(*size, seed=i) for i, size in enumerate(
        ((2, 3, 4), (2, 3, 5), (4, 6), (6,), (5, 6), (6,))))
    found = region_rows(f, s, W_f, b_f, W_s, b_s)
    for b in range(2):
        for i in range(3):
            for d in range(6):
                want = sum(f[b, i, k] * W_f[k, d] for k in range(4)) + b_f[d]
                want += sum(s[b, i, k] * W_s[k, d] for k in range(5)) + b_s[d]
                torch.testing.assert_close(found[b, i, d], want)


@pytest.mark.equation("eq:vilbert-co-attention")
def test_each_stream_asks_and_the_other_answers():
    b, h, n, t, e = 2, 2, 3, 4, 5
    regions = tuple(normal(b, h, n, e, seed=i) for i in range(3))
    words = tuple(normal(b, h, t, e, seed=i) for i in range(3, 6))
    region_mask = torch.tensor([[True, True, True], [True, False, True]])
    text_mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    C_X, C_Y = co_attention(regions, words, region_mask[:, None, None], text_mask[:, None, None])
    assert C_X.shape == (b, h, n, e) and C_Y.shape == (b, h, t, e)
    for i in range(b):
        for a in range(h):
            Q_X, K_X, V_X = (part[i, a] for part in regions)
            Q_Y, K_Y, V_Y = (part[i, a] for part in words)
            torch.testing.assert_close(C_X[i, a], loop_attention(Q_X, K_Y, V_Y, text_mask[i]))
            torch.testing.assert_close(C_Y[i, a], loop_attention(Q_Y, K_X, V_X, region_mask[i]))


@pytest.mark.equation("eq:vilbert-survey")
def test_the_surveys_formula_is_self_attention_in_each_stream():
    regions = tuple(normal(1, 1, 3, 5, seed=i) for i in range(3))
    words = tuple(normal(1, 1, 4, 5, seed=i) for i in range(3, 6))
    H_v, H_t = survey_co_attention(regions, words)
    torch.testing.assert_close(H_v[0, 0], loop_attention(*(p[0, 0] for p in regions), [True] * 3))
    torch.testing.assert_close(H_t[0, 0], loop_attention(*(p[0, 0] for p in words), [True] * 4))


@pytest.mark.equation("eq:vilbert-add")
def test_what_was_read_is_added_and_normalised():
    sizes = ((1, 3, 4), (1, 2, 3, 5), (10, 4), (4,))
    x, C, W_o, b_o = (normal(*size, seed=i) for i, size in enumerate(sizes))
    norm = nn.LayerNorm(4, eps=1e-12).double()
    found = add_read(x, C, lambda C: C.transpose(1, 2).flatten(2) @ W_o + b_o, norm)
    for i in range(3):
        read = torch.cat([C[0, 0, i], C[0, 1, i]])
        sums = torch.stack([x[0, i, d] + sum(read[k] * W_o[k, d] for k in range(10)) + b_o[d]
                            for d in range(4)])
        torch.testing.assert_close(found[0, i], loop_norm(sums, norm.weight, norm.bias))


@pytest.mark.equation("eq:vilbert-pool", "eq:vilbert-joint")
def test_both_streams_are_pooled_by_a_relu_and_multiplied():
    x, W, bias = normal(2, 4), normal(4, 6, seed=1), normal(6, seed=2)
    found = pooled(x, W, bias)
    for b in range(2):
        for k in range(6):
            want = max(0.0, float(sum(x[b, i] * W[i, k] for i in range(4)) + bias[k]))
            assert math.isclose(found[b, k], want, rel_tol=1e-12)
    h_X, h_Y = normal(2, 3, seed=3), normal(2, 3, seed=4)
    assert joint_state(h_X, h_Y).tolist() == [[float(a * c) for a, c in zip(*rows)] for rows in zip(h_X, h_Y)]


def test_a_whole_layer_of_co_attention_equals_loops_over_words_and_regions(seeded):
    config = tiny()
    layer = CoAttentionLayer(config).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    x, y = normal(2, 3, 8), normal(2, 4, 12, seed=1)
    region_mask = torch.tensor([[True, True, True], [True, True, False]])
    text_mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    found = layer(x, y, region_mask, text_mask)

    def rows(stream, states):                               # queries, keys, values: 3 x h x n x e
        W, bias = stream.attention.in_weight, stream.attention.in_bias
        all_rows = torch.stack([torch.stack([W[k] @ row + bias[k] for k in range(36)]) for row in states])
        return all_rows.view(len(states), 3, 3, 4).permute(1, 2, 0, 3)

    def rest(stream, state, read):
        out, ff = stream.attention.out, stream.feed_forward
        z = loop_norm(state + out.weight @ read + out.bias, stream.attention_norm.weight,
                      stream.attention_norm.bias)
        inner = loop_gelu(ff.inner.weight @ z + ff.inner.bias)
        return loop_norm(z + ff.outer.weight @ inner + ff.outer.bias, stream.feed_forward_norm.weight,
                         stream.feed_forward_norm.bias)

    for b in range(2):
        X, Y = rows(layer.vision, x[b]), rows(layer.text, y[b])
        C_X = torch.cat([loop_attention(X[0, a], Y[1, a], Y[2, a], text_mask[b]) for a in range(3)], dim=1)
        C_Y = torch.cat([loop_attention(Y[0, a], X[1, a], X[2, a], region_mask[b]) for a in range(3)], dim=1)
        torch.testing.assert_close(found[0][b], torch.stack([rest(layer.vision, *p) for p in zip(x[b], C_X)]))
        torch.testing.assert_close(found[1][b], torch.stack([rest(layer.text, *p) for p in zip(y[b], C_Y)]))


@pytest.mark.parity
def test_both_directions_equal_torchs_multi_head_attention():
    regions = [normal(2, 3, 12, seed=i) for i in range(3)]
    words = [normal(2, 4, 12, seed=i) for i in range(3, 6)]
    region_mask = torch.tensor([[True, True, True], [True, True, False]])
    text_mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():                                   # everything is projected already
        theirs.in_proj_weight.copy_(torch.eye(12).repeat(3, 1))
        theirs.out_proj.weight.copy_(torch.eye(12))
        for bias in (theirs.in_proj_bias, theirs.out_proj.bias):
            bias.zero_()
    (Q_X, K_X, V_X), (Q_Y, K_Y, V_Y) = regions, words
    want_X, _ = theirs(Q_X, K_Y, V_Y, key_padding_mask=~text_mask)
    want_Y, _ = theirs(Q_Y, K_X, V_X, key_padding_mask=~region_mask)
    heads = [[part.unflatten(-1, (3, 4)).transpose(1, 2) for part in parts] for parts in (regions, words)]
    found = co_attention(*map(tuple, heads), region_mask[:, None, None], text_mask[:, None, None])
    for C, want in zip(found, (want_X, want_Y)):
        torch.testing.assert_close(C.transpose(1, 2).flatten(2), want)


# ------------------------------------------------------------------------------------------------------ model


def test_shapes_are_those_of_both_streams_with_the_whole_picture_first(model, inputs):
    states = model(*inputs)
    assert states.text.shape == (2, 5, 12) and states.vision.shape == (2, 4, 8)
    assert states.pooled_text.shape == states.pooled_vision.shape == (2, 12)
    assert (states.pooled_text >= 0).all() and (states.pooled_vision >= 0).all()


def test_layers_run_in_the_released_order():
    order = list(ViLBERTConfig.base().schedule())
    assert order[:6] == [("text", i) for i in range(6)]
    want = [step for k in range(6) for step in (("co", k), ("vision", k), ("text", 6 + k))]
    assert sorted(order[6:]) == sorted(want)
    for k in range(6):                                      # a meeting, then one layer in each stream
        here = order[6 + 3 * k:9 + 3 * k]
        assert here[0] == ("co", k) and set(here[1:]) == {("vision", k), ("text", 6 + k)}
    for config in (ViLBERTConfig.depth_2(), ViLBERTConfig.depth_4(), ViLBERTConfig.depth_8(),
                   ViLBERTConfig.mini(), tiny()):
        steps = list(config.schedule())
        assert len(set(steps)) == len(steps) == config.text.layers + config.layers + len(config.co_text)


@pytest.mark.parametrize("kind", ["paper", "survey"])
def test_padding_changes_no_other_state(seeded, inputs, kind):
    model = ViLBERT(tiny(co_attention=kind)).double().eval()
    tokens, _, _, regions, boxes, mask = inputs
    states = model(*inputs)
    changed, moved, text_mask = regions.clone(), boxes.clone(), tokens != 0
    changed[1, 2], moved[1, 2] = 100.0, 0.5
    others = tokens.masked_fill(~text_mask, 11)
    again = model(others, None, text_mask, changed, moved, mask)
    torch.testing.assert_close(again.text[text_mask], states.text[text_mask])
    real = torch.cat([torch.ones(2, 1, dtype=torch.bool), mask], dim=1)
    torch.testing.assert_close(again.vision[real], states.vision[real])


def test_a_batch_of_one_is_a_row_of_a_batch(model, inputs):
    states = model(*inputs)
    tokens, _, _, regions, boxes, _ = (part if part is None else part[1:] for part in inputs)
    alone = model(tokens[:, :3], None, None, regions[:, :2], boxes[:, :2])      # nothing of it is padding
    torch.testing.assert_close(alone.text[0], states.text[1, :3])
    torch.testing.assert_close(alone.vision[0], states.vision[1, :3])
    torch.testing.assert_close(alone.pooled_vision[0], states.pooled_vision[1])


def test_regions_are_a_set(model, inputs):
    tokens, _, _, regions, boxes, mask = inputs
    order = torch.tensor([2, 0, 1])
    states = model(*inputs)
    again = model(tokens, None, None, regions[:, order], boxes[:, order], mask[:, order])
    torch.testing.assert_close(again.text, states.text)
    torch.testing.assert_close(again.vision[:, 0], states.vision[:, 0])
    torch.testing.assert_close(again.vision[:, 1:], states.vision[:, 1:][:, order])
    moved = model(tokens, None, None, regions, boxes[:, order], mask)    # but where they are matters
    assert not torch.allclose(moved.text, states.text)


def test_words_are_no_set_and_segments_count(model, inputs):
    tokens, _, _, *seen = inputs
    states = model(*inputs)
    turned = tokens.clone()
    turned[0, 1:3] = tokens[0, [2, 1]]
    assert not torch.allclose(model(turned, None, None, *seen).text[0, 0], states.text[0, 0])
    second = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 0, 0]])
    assert not torch.allclose(model(tokens, second, None, *seen).text, states.text)
    torch.testing.assert_close(model(tokens, torch.zeros_like(tokens), tokens != 0, *seen).text, states.text)


def test_dropout_is_for_training_alone(seeded, inputs):
    config = tiny(dropout=0.5)
    model = ViLBERT(replace(config, text=replace(config.text, dropout=0.5))).double()
    first, second = model(*inputs), model(*inputs)
    assert not torch.equal(first.text, second.text) and not torch.equal(first.vision, second.vision)
    model.eval()
    assert torch.equal(model(*inputs).text, model(*inputs).text)


def test_gradients_reach_every_parameter(seeded, inputs):
    model = ViLBERTForPreTraining(tiny()).double()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    scores = model(*inputs)
    (scores.words.square().sum() + scores.regions.square().sum() + scores.pairs.square().sum()).backward()
    assert [name for name, p in model.named_parameters()
            if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_each_stream_is_moved_by_the_other(model, inputs):
    tokens, _, _, regions, *rest = inputs
    regions.requires_grad_()
    states = model(tokens, None, None, regions, *rest)
    (grad,) = torch.autograd.grad(states.text[:, 1, 0].sum(), regions)
    assert (grad[0].abs().sum(-1) > 0).all() and (grad[1, 2] == 0).all()        # not by padding


def test_maps_of_both_directions_are_recorded(model, inputs):
    plain = model(*inputs)
    with record_attention(model) as weights:
        states = model(*inputs)
    torch.testing.assert_close(states.text, plain.text)
    for k in range(2):
        regions, words = weights[f"co_layers.{k}.vision.attention"], weights[f"co_layers.{k}.text.attention"]
        assert regions.shape == (2, 3, 4, 5) and words.shape == (2, 3, 5, 4)
        torch.testing.assert_close(regions.sum(-1), torch.ones(2, 3, 4).double())
        torch.testing.assert_close(words.sum(-1), torch.ones(2, 3, 5).double())
        assert (regions[1, :, :, 3:] == 0).all() and (words[1, :, :, 3] == 0).all()
    assert {"text.layers.0.attention", "vision_layers.1.attention"} <= weights.keys()


def test_a_trained_bert_starts_the_text_stream(model, inputs):
    bert = BERT(replace(model.config.text, pooler=True)).double().eval()
    start_from_bert(model, bert)
    tokens = inputs[0]
    torch.testing.assert_close(model.text(tokens), bert(tokens))
    with pytest.raises(ValueError, match="build ViLBERT with the sizes of the BERT"):
        start_from_bert(model, BERT(BERTConfig.mini()))


@pytest.mark.parametrize("change, words", [
    (dict(heads=3), "does not divide width"), (dict(co_heads=5), "does not divide inner"),
    (dict(co_text=(2, 1)), "co_text of ViLBERTConfig is .* do not fall"),
    (dict(co_vision=(0, 3)), "from 0 to 2"), (dict(co_text=(1,)), "names 1 meetings and co_vision 2"),
    (dict(text=BERTConfig()), "set pooler=False"),
    (dict(dropout=1.5), "expected from 0 to 1"), (dict(features=0), "expected from 1"),
])
def test_a_configuration_that_cannot_be_is_refused_in_a_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        replace(tiny(), **change)


def test_inputs_of_another_size_are_refused_in_a_sentence(model, inputs):
    tokens, _, _, regions, boxes, _ = inputs
    with pytest.raises(ValueError, match="regions have 5 numbers, the model reads 6"):
        model(tokens, None, None, regions[..., :5], boxes)
    with pytest.raises(ValueError, match="the vocabulary from 0 to 19"):
        model(tokens + 15, None, None, regions, boxes)
    with pytest.raises(ValueError, match="the context has 8"):
        model(tokens.repeat(1, 2), None, None, regions, boxes)


def test_counts_of_the_released_sizes():
    with torch.device("meta"):
        whole, tasks = ViLBERTForPreTraining(ViLBERTConfig.base()), ViLBERTForTasks(ViLBERTConfig.base())
        mini = ViLBERTForPreTraining(ViLBERTConfig.mini())
    assert count_parameters(whole.vilbert) == count_parameters(tasks.vilbert) == 235_705_856
    assert count_parameters(whole) == 239_023_229
    assert count_parameters(whole) - count_parameters(whole.vilbert) == 3_317_373
    assert count_parameters(tasks.answers) == 8_510_523
    assert count_parameters(mini) == 856_757
    unused = 6 * ((1024 + 1) * 1024 + (1024 + 1) * 768)
    assert count_parameters(whole) + unused == 250_044_029


# ----------------------------------------------------------------------------------------------------- errata


def test_e9_with_its_own_values_no_stream_sees_the_other(seeded, inputs):
    tokens, _, _, regions, *rest = inputs
    regions.requires_grad_()
    survey = ViLBERT(tiny(co_attention="survey")).double()
    states = survey(tokens, None, None, regions, *rest)
    assert torch.autograd.grad(states.text.sum(), regions, allow_unused=True, retain_graph=True) == (None,)
    words = survey.text.embed.words.weight
    assert torch.autograd.grad(states.vision.sum(), words, allow_unused=True) == (None,)
    paper = ViLBERT(tiny()).double()
    states = paper(tokens, None, None, regions, *rest)
    assert torch.autograd.grad(states.text.sum(), regions, allow_unused=True)[0] is not None
    assert count_parameters(survey) == count_parameters(paper)


def test_e9_queries_of_one_and_values_of_the_same_do_not_fit():
    Q_t, V_t, K_v = normal(4, 5), normal(4, 5, seed=1), normal(3, 5, seed=2)     # 4 words, 3 regions
    with pytest.raises(RuntimeError, match="cannot be multiplied|size mismatch"):
        attention_weights(Q_t, K_v) @ V_t


@pytest.mark.slow
def test_e9_a_hidden_word_is_found_in_the_picture_by_the_papers_formula_alone(seeded):
    tokens = torch.tensor([[2, 4, 3]]).expand(4, -1)                     # [CLS] [MASK] [SEP], each time
    answers, regions = torch.tensor([10, 11, 12, 13]), torch.eye(4)[:, None]
    boxes = box_geometry(torch.tensor([[[1.0, 1, 5, 5]]]), 8, 8).expand(4, -1, -1)
    loss = {}
    for kind, steps in (("paper", 60), ("survey", 15)):
        model = ViLBERTForPreTraining(tiny(features=4, co_attention=kind))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(steps):
            scores = model(tokens, None, None, regions, boxes).words[:, 1]
            value = nn.functional.cross_entropy(scores, answers)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        loss[kind] = value.item()
    assert loss["paper"] < 0.2 and loss["survey"] > math.log(4) - 1e-4          # it cannot be better


def test_e10_the_text_is_not_preprocessed_but_passes_six_layers_alone(model, inputs):
    assert [kind for kind, _ in ViLBERTConfig.base().schedule()][:7] == ["text"] * 6 + ["co"]
    tokens = inputs[0]
    seen = []
    handle = model.co_layers[0].register_forward_pre_hook(lambda layer, args: seen.extend(args))
    model(*inputs)
    handle.remove()
    mask = tokens != 0
    want = model.text.layers[0](model.text.embed(tokens), mask)                  # one layer, in this size
    torch.testing.assert_close(seen[1], want)


def test_booklet_b3_the_softmax_is_over_queries_and_keys_and_not_over_values(model, inputs):
    with record_attention(model) as weights:
        before = model(*inputs)
    A = dict(weights)
    with torch.no_grad():                                   # other values in the last meeting
        model.co_layers[1].vision.attention.in_weight[24:] *= -3
    with record_attention(model) as weights:
        after = model(*inputs)
    assert not torch.allclose(before.text, after.text)
    assert torch.equal(weights["co_layers.1.text.attention"], A["co_layers.1.text.attention"])


def test_booklet_b5_a_question_has_3129_answers_of_which_several_may_be_right():
    with torch.device("meta"):
        model = ViLBERTForTasks(ViLBERTConfig.base())
    assert model.answers.outer.bias.shape == (3129,)
    given = torch.zeros(1, 3129, dtype=torch.long)                               # by ten annotators
    given[0, [5, 8, 9]] = torch.tensor([6, 3, 1])
    assert (soft_score(given) > 0).sum() == 3
    torch.testing.assert_close(soft_score(given)[0, [5, 8, 9]], torch.tensor([1, 1, 1 / 3]))


def test_e37_the_place_is_five_numbers_and_no_index(model):
    with torch.device("meta"):
        regions = ViLBERT(ViLBERTConfig.base()).regions
    assert regions.places.weight.shape == (1024, 5) and regions.features.weight.shape == (1024, 2048)
    assert {name for name, _ in model.regions.named_parameters()} == {
        f"{part}.{kind}" for part in ("features", "places", "norm") for kind in ("weight", "bias")}


def test_e38_the_image_token_is_no_learned_vector(model, inputs):
    *text, regions, boxes, mask = inputs
    rows, seen = model.regions(regions, boxes, mask)
    fills = torch.tensor([[[0, 0, 1, 1, 1.0]]]).double().expand(2, -1, -1)
    alone, _ = model.regions(regions.mean(1, keepdim=True), fills, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(rows[0, 0], alone[0, 1])     # as a region of that feature that fills it
    assert seen.tolist() == [[True, True, True, True], [True, True, True, False]]


def test_p1_states_are_768_wide_where_the_paper_prints_762():
    assert ViLBERTConfig.base().text.width == 768 and 768 % ViLBERTConfig.base().text.heads == 0
    with pytest.raises(ValueError, match="does not divide"):
        replace(BERTConfig.base(), width=762)
