"""What the survey says of captioning and M2, and why it cannot be so: each correction of the errata that can
be run."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmlearn.generate import beam
from mmlearn.image2text.m2 import M2Config, M2Transformer, memory_attention, mesh, survey_memory
from mmlearn.nn.attention import KVCache
from mmlearn.nn.transformer import Context

MINI = M2Config.mini(vocab=40, features=16)


def build(**change):
    torch.manual_seed(0)
    return M2Transformer(replace(MINI, **change)).eval()


def matrices(*shapes):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, dtype=torch.float64, generator=g) for shape in shapes]


@pytest.mark.equation("eq:m2-survey-memory")
def test_e1_the_surveys_memory_is_the_formula_with_a_sum():
    X, W_q, W_k, W_v, M_k, M_v, W_km, W_vm = matrices((5, 4), *[(4, 4)] * 3, (5, 4), (5, 4), (4, 4), (4, 4))
    got = survey_memory(X, W_q, W_k, W_v, M_k, M_v, W_km, W_vm)
    for i in range(5):
        exps, values = [], []
        for j in range(5):
            key = [sum(X[j, c] * W_k[c, o] + M_k[j, c] * W_km[c, o] for c in range(4)) for o in range(4)]
            values.append(X[j] @ W_v + M_v[j] @ W_vm)
            exps.append(math.exp(float(sum((X[i] @ W_q)[o] * key[o] for o in range(4))) / 2))
        torch.testing.assert_close(got[i], sum(e / sum(exps) * v for e, v in zip(exps, values)))


@pytest.mark.equation("eq:m2-survey-memory")
def test_e1_slots_that_are_added_must_be_as_many_as_the_regions():
    X, W, M = matrices((5, 4), (4, 4), (3, 4))
    with pytest.raises(ValueError, match="3 slots cannot be added to 5 regions"):
        survey_memory(X, W, W, W, M, M, W, W)


@pytest.mark.equation("eq:m2-survey-memory")
@pytest.mark.equation("eq:m2-memory")
def test_e1_added_slots_are_tied_to_places_and_appended_ones_are_not():
    X, W_q, W_k, W_v, M_k, M_v, W_km, W_vm = matrices((5, 4), *[(4, 4)] * 3, (5, 4), (5, 4), (4, 4), (4, 4))
    order = torch.tensor([2, 0, 4, 1, 3])

    def added(X):
        return survey_memory(X, W_q, W_k, W_v, M_k, M_v, W_km, W_vm)

    def appended(X):
        return memory_attention(X @ W_q, X @ W_k, X @ W_v, M_k, M_v)

    torch.testing.assert_close(appended(X[order]), appended(X)[order])
    assert (added(X[order]) - added(X)[order]).abs().max() > 0.1


def test_e2_slots_are_parameters_of_each_layer_and_not_projected():
    names = dict(build().named_parameters())
    memory = sorted(name for name in names if "memory" in name)
    assert memory == sorted(f"encoder.{i}.attention.memory_{kind}" for i in range(3)
                            for kind in ("keys", "values"))
    assert all(names[name].shape == (8, 64) for name in memory)


def test_e3_the_memory_is_the_same_for_every_image():
    layer = build().encoder[0].attention
    seen = []
    original = layer.attend

    def attend(q, k, v, *args, **options):
        seen.append((k[:, :, -8:], v[:, :, -8:]))
        return original(q, k, v, *args, **options)

    layer.attend = attend
    for seed in (1, 2):
        layer(torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(seed)))
    for first, second in zip(*seen):
        assert torch.equal(first, second)                       # of other images,
        assert torch.equal(first[0], first[1])                  # and of other rows


@pytest.mark.parametrize(
    "mesh_kind, sees_it", [("sigmoid", True), ("softmax", True), ("one-to-one", True), ("last", False)]
)
def test_e4_the_mesh_connects_layers(mesh_kind, sees_it):
    model = build(mesh=mesh_kind)
    tokens = torch.tensor([[2, 5, 6]])
    context = model.encode(torch.randn(1, 5, 16))
    changed = context.levels.clone()
    changed[:, 0] += torch.randn(1, 5, 64)                       # the first encoder layer, the last untouched
    difference = (model.decode(tokens, Context(changed, context.mask))
                  - model.decode(tokens, context)).abs().max()
    assert (difference > 1e-3) if sees_it else (difference == 0)


def test_e5_generation_is_one_step_a_word():
    model = build()
    calls = []
    original = model.decode
    model.decode = lambda tokens, *args, **options: (
        calls.append(tokens.shape[1]) or original(tokens, *args, **options)
    )
    beam(model, model.encode(torch.randn(2, 5, 16)), k=5, eos=-1, max_len=12)
    assert calls == [1] * 12


def test_e5_a_step_of_m2_costs_more_than_one_of_a_plain_transformer():
    costs = []
    for mesh_kind in ("sigmoid", "last"):
        model = build(mesh=mesh_kind)
        context = model.encode(torch.randn(1, 5, 16))
        with KVCache(model):
            model.decode(torch.tensor([[2]]), context)
            with FlopCounterMode(display=False) as counter:
                model.decode(torch.tensor([[5]]), context)
        costs.append(counter.get_total_flops())
    assert costs[0] > 1.5 * costs[1]


@pytest.mark.equation("eq:m2-mesh")
def test_e6_the_root_of_the_layers_keeps_the_spread_of_independent_branches():
    C = torch.randn(50, 3, 40, 64, generator=torch.Generator().manual_seed(0))
    assert mesh(torch.ones_like(C), C).std().item() == pytest.approx(1.0, abs=0.01)
    assert C.sum(dim=1).std().item() == pytest.approx(math.sqrt(3), abs=0.02)


def test_e7_a_decoder_layer_has_three_sub_layers():
    layer = build().decoder[0]
    assert {name for name, module in layer.named_children()
            if not isinstance(module, (nn.LayerNorm, nn.Dropout))} == {
        "self_attention", "cross_attention", "feed_forward"}


def test_e8_an_encoder_layer_normalises_twice():
    layer = build().encoder[0]
    assert sum(isinstance(module, nn.LayerNorm) for module in layer.modules()) == 2


@pytest.mark.equation("eq:ffn")
def test_e9_the_feed_forward_net_multiplies_from_the_left_both_times():
    x, W_1, b_1, W_2, b_2 = matrices((4,), (6, 4), (6,), (4, 6), (4,))
    with pytest.raises(RuntimeError):
        torch.relu(W_1 @ x + b_1) @ W_2 + b_2                    # the survey's order
    assert (W_2 @ torch.relu(W_1 @ x + b_1) + b_2).shape == (4,)


def test_e11_the_model_reads_given_region_vectors():
    with torch.device("meta"):
        model = M2Transformer(M2Config.paper())
        logits = model(torch.randn(2, 50, 2048), torch.ones(2, 20, dtype=torch.long))
    assert logits.shape == (2, 20, 10_201)


@pytest.mark.parity
def test_e13_bert_writes_only_with_a_causal_mask_and_new_cross_attention():
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    size = dict(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                intermediate_size=64, initializer_range=0.2)
    tokens = torch.randint(5, 40, (2, 6))
    changed = tokens.clone()
    changed[:, -1] = 4
    image = torch.randn(2, 5, 32)
    writer = BertLMHeadModel(BertConfig(**size, is_decoder=True, add_cross_attention=True)).eval()
    reader = BertLMHeadModel(BertConfig(**size, is_decoder=False)).eval()
    with torch.no_grad():
        same = [writer(t, encoder_hidden_states=image).logits[:, :-1] for t in (tokens, changed)]
        other = [reader(t).logits[:, :-1] for t in (tokens, changed)]
    assert torch.equal(*same)
    assert (other[0] - other[1]).abs().max() > 1e-3
    fresh = set(writer.state_dict()) - set(reader.state_dict())
    assert fresh and all("crossattention" in name for name in fresh)
