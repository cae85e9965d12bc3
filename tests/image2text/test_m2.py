import math
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from networks import count
from torch import nn

from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.image2text.m2 import (
    ABLATION,
    BOS,
    EOS,
    PAD,
    M2Config,
    M2Transformer,
    MemoryAttention,
    equal_ff,
    equalise,
    extra_parameters,
    memory_gate,
    parameter_count,
    record_gates,
)
from mmlearn.nn.attention import KVCache, attention, attention_weights, record_attention
from mmlearn.nn.positions import sinusoids

MINI = M2Config.mini(vocab=40, features=16)
KINDS = {
    "m2": MINI,
    "paper norm": replace(MINI, norm="paper"),
    "softmax": replace(MINI, mesh="softmax"),
    "one-to-one": replace(MINI, mesh="one-to-one"),
    "no memory": replace(MINI, memory=0),
    "plain": replace(MINI, memory=0, mesh="last"),
    "attention on attention": replace(MINI, memory=0, aoa=True),
    "learned positions": replace(MINI, positions="learned"),
    "one layer": replace(MINI, layers=1),
    "released": replace(MINI, positions="random", padding="off"),
}


def build(config=MINI, seed=0):
    torch.manual_seed(seed)
    return M2Transformer(config).eval()


def batch(b=3, p=6, t=7, seed=1, vocab=40, features=16):
    g = torch.Generator().manual_seed(seed)
    regions = torch.randn(b, p, features, generator=g)
    regions[1, 4:] = 0                                              # the second image has four regions
    tokens = torch.randint(4, vocab, (b, t), generator=g)
    tokens[:, 0] = BOS
    return regions, tokens


# ----------------------------------------------------------------------------------------------- parameters


PUBLISHED = {
    "M2": (M2Config.paper, 38_411_264), "3 layers": (M2Config.transformer_3, 33_565_184),
    "6 layers": (M2Config.transformer_6, 55_634_432),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_paper_sizes_have_the_parameters_of_the_released_code(name):
    make, published = PUBLISHED[name]
    with torch.device("meta"):
        model = M2Transformer(make())
    assert count(model) == published
    assert model.embed.positions.table.numel() == 28_160              # frozen, counted apart


def test_the_parts_of_the_paper_model_have_the_published_sizes():
    with torch.device("meta"):
        model = M2Transformer(M2Config.paper())
    assert count(model.project) + count(model.encoder) == 10_630_144
    assert count(model.embed) + count(model.decoder) + count(model.output) == 27_781_120
    assert sum(p.numel() for n, p in model.named_parameters() if "memory" in n) == 122_880
    assert sum(p.numel() for n, p in model.named_parameters() if "gate" in n) == 4_723_200


@pytest.mark.parametrize("config", [*(make() for make in ABLATION.values()), *KINDS.values()])
def test_parameters_are_counted_by_arithmetic(config):
    with torch.device("meta"):
        model = M2Transformer(config)
    assert parameter_count(config) == count(model)


@pytest.mark.equation("eq:m2-params")
@pytest.mark.parametrize("N, n_m, d", [(3, 40, 512), (6, 40, 512), (3, 8, 64), (2, 1, 32)])
def test_m2_has_its_slots_and_gates_more_than_a_plain_transformer(N, n_m, d):
    m2 = replace(M2Config.paper(), layers=N, memory=n_m, width=d)
    plain = replace(m2, memory=0, mesh="last")
    with torch.device("meta"):
        sizes = [count(M2Transformer(config)) for config in (m2, plain)]
    assert sizes[0] - sizes[1] == 2 * N * n_m * d + N * N * (2 * d * d + d) == extra_parameters(N, n_m, d)


@pytest.mark.equation("eq:m2-equal-params")
def test_wider_feed_forward_nets_give_the_plain_miniature_the_size_of_m2():
    assert equal_ff(3, 8, 64) == pytest.approx(99.97, abs=0.005)
    assert equal_ff(3, 8, 64) == (2 * 3 * 8 * 64 + 9 * (2 * 64**2 + 64)) / (2 * 3 * (2 * 64 + 1))
    assert M2Config.plain_mini().ff == 228
    assert parameter_count(M2Config.plain_mini()) - parameter_count(M2Config.mini()) == 24


@pytest.mark.parametrize("name", ABLATION)
def test_every_row_of_the_ablation_can_be_given_the_parameters_of_m2(name):
    changed = {f.name: getattr(ABLATION[name](), f.name) for f in fields(M2Config)
               if f.name in ("memory", "mesh", "aoa")}
    config = replace(M2Config.mini(), **{**changed, "memory": min(8, changed["memory"])})
    equal = equalise(config, M2Config.mini())
    assert abs(parameter_count(equal) - parameter_count(M2Config.mini())) <= 3 * (2 * 64 + 1)


def test_one_to_one_is_as_large_as_a_plain_transformer():
    assert parameter_count(M2Config.one_to_one_no_memory()) == parameter_count(M2Config.transformer_3())


def test_the_slots_are_visible_in_the_printed_model():
    assert "slots=8" in repr(build())
    assert "slots" not in repr(build(KINDS["plain"]))


# ------------------------------------------------------------------------------------- the usual promises


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    model = M2Transformer(KINDS[kind]).train()
    features, tokens = batch()
    caption_cross_entropy(model(features, tokens[:, :-1]), tokens[:, 1:]).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_word_by_word_with_a_cache_gives_the_logits_of_one_pass(kind):
    model = build(KINDS[kind]).double()
    features, _ = batch()
    features = features.double()
    tokens = torch.randint(4, 40, (6, 7), generator=torch.Generator().manual_seed(0))  # two captions an image
    context = model.encode(features)
    with KVCache(model):
        parts = [model.decode(part, context) for part in tokens.split([1, 1, 3, 2], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model.decode(tokens, context))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_is_what_it_is_alone(kind):
    model = build(KINDS[kind])
    features, tokens = batch()
    together = model(features, tokens)
    for i in range(3):
        torch.testing.assert_close(model(features[i : i + 1], tokens[i : i + 1])[0], together[i], atol=1e-5,
                                   rtol=1e-5)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "released"])
def test_padded_regions_change_nothing(kind):
    model = build(KINDS[kind])
    features, tokens = batch()
    padded = torch.cat([features, torch.zeros(3, 5, 16)], dim=1)
    torch.testing.assert_close(model(padded, tokens), model(features, tokens), atol=1e-5, rtol=1e-5)
    rubbish = torch.cat([features, torch.randn(3, 5, 16)], dim=1)
    mask = torch.cat([(features != 0).any(-1), torch.zeros(3, 5, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(model(rubbish, tokens, mask), model(features, tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_words_after_a_place_do_not_change_what_is_said_before_it(kind):
    model = build(KINDS[kind])
    features, tokens = batch()
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1 - 4) % 36 + 4
    before, after = model(features, tokens), model(features, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4], atol=1e-6, rtol=1e-6)
    assert ((before[:, 4:] - after[:, 4:]).abs().amax(dim=-1) > 1e-4).all()
    changed[:, 4:] = PAD
    torch.testing.assert_close(before[:, :4], model(features, changed)[:, :4], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_regions_does_not_matter(kind):
    model = build(KINDS[kind])
    features, tokens = batch()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(model.encode(features[:, order]).levels,
                               model.encode(features).levels[:, :, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(features[:, order], tokens), model(features, tokens), atol=1e-5,
                               rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_recording_changes_nothing_and_keeps_distributions(kind):
    config = KINDS[kind]
    model = build(config)
    features, tokens = batch()
    want = model(features, tokens)
    with record_attention(model) as weights, record_gates(model) as gates:
        torch.testing.assert_close(model(features, tokens), want, atol=1e-5, rtol=1e-5)
    assert torch.equal(model(features, tokens), want)
    N, n = config.layers, {"one-to-one": 1, "last": 1}.get(config.mesh, config.layers)
    names = {f"encoder.{i}.attention": (3, 4, 6, 6 + config.memory) for i in range(N)}
    for i in range(N):
        names |= {f"decoder.{i}.self_attention": (3, 4, 7, 7),
                  f"decoder.{i}.cross_attention": (3, 1, n, 4, 7, 6)}
    assert {name: tuple(value.shape) for name, value in weights.items()} == names
    for value in weights.values():
        torch.testing.assert_close(value.sum(-1), torch.ones_like(value.sum(-1)))
    gated = config.mesh in ("sigmoid", "softmax")
    assert {name: tuple(value.shape) for name, value in gates.items()} == {
        f"decoder.{i}": (3, N, 7, config.width) for i in range(N) if gated}
    if config.mesh == "sigmoid":
        assert all(((value > 0) & (value < 1)).all() for value in gates.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_model_runs_under_autocast(dtype):
    model = build().train()
    features, tokens = batch()
    with torch.autocast("cpu", dtype=dtype):
        logits = model(features, tokens[:, :-1])
        loss = caption_cross_entropy(logits, tokens[:, 1:])
    assert logits.dtype == dtype
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        context = model.encode(features)
        with KVCache(model):
            parts = [model.decode(tokens[:, i : i + 1], context) for i in range(7)]
        whole = model.decode(tokens, context)
    torch.testing.assert_close(torch.cat(parts, dim=1).float(), whole.float(), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("kind", ["m2", "plain"])
def test_eight_captions_can_be_learnt_by_heart(kind):
    model = M2Transformer(replace(KINDS[kind], dropout=0.0)).train()
    g = torch.Generator().manual_seed(0)
    features = torch.randn(8, 6, 16, generator=g)
    tokens = torch.randint(4, 40, (8, 7), generator=g)
    tokens[:, 0], tokens[:, -1] = BOS, EOS
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    for _ in range(100):
        loss = caption_cross_entropy(model(features, tokens[:, :-1]), tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05                                        # from log 40 = 3.7
    model.eval()
    assert (model(features, tokens[:, :-1]).argmax(-1) == tokens[:, 1:]).all()
    shuffled = model(features.roll(1, dims=0), tokens[:, :-1])       # E12: the words come from the image
    assert caption_cross_entropy(shuffled, tokens[:, 1:]) > loss + 1


# ----------------------------------------------------------------------------------------- refusing bad input


def test_features_of_another_size_are_refused():
    with pytest.raises(ValueError, match="features have size 7, the model wants 16"):
        build().encode(torch.randn(1, 3, 7))


def test_captions_longer_than_the_table_are_refused():
    with pytest.raises(ValueError, match="past the table's 30"):
        build()(torch.randn(1, 3, 16), torch.full((1, 31), 5))


@pytest.mark.parametrize("change", [{"mesh": "grid"}, {"norm": "pre"}, {"memory_init": "zero"},
                                    {"positions": "none"}, {"padding": "on"}, {"aoa": True}])
def test_configurations_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError):
        replace(M2Config.paper(), **change)


# ------------------------------------------------------------------------------------------------- the memory


@pytest.mark.equation("eq:m2-lambda")
def test_attention_over_regions_and_slots_is_a_gate_between_the_two():
    g = torch.Generator().manual_seed(0)
    Q, K, V = (torch.randn(2, 6, 8, dtype=torch.float64, generator=g) for _ in range(3))
    M_k, M_v = (torch.randn(2, 5, 8, dtype=torch.float64, generator=g) for _ in range(2))
    gate = memory_gate(Q, K, M_k)
    for n in range(2):
        for i in range(6):
            Z_X = sum(math.exp(float(Q[n, i] @ k) / math.sqrt(8)) for k in K[n])
            Z_M = sum(math.exp(float(Q[n, i] @ k) / math.sqrt(8)) for k in M_k[n])
            assert gate[n, i].item() == pytest.approx(Z_X / (Z_X + Z_M), abs=1e-12)
    whole = attention(Q, torch.cat([K, M_k], 1), torch.cat([V, M_v], 1))
    mixed = gate[..., None] * attention(Q, K, V) + (1 - gate[..., None]) * attention(Q, M_k, M_v)
    torch.testing.assert_close(whole, mixed)
    weights = attention_weights(Q, torch.cat([K, M_k], 1))
    torch.testing.assert_close(weights[..., :6].sum(-1), gate)


def test_at_initialisation_regions_get_about_their_share_of_the_keys():
    model = build(replace(M2Config.mini(), memory=8))
    with record_attention(model) as weights:
        model.encode(torch.randn(16, 6, 64))
    shares = [weights[f"encoder.{i}.attention"][..., :6].sum(-1).mean().item() for i in range(3)]
    assert all(abs(share - 6 / 14) < 0.12 for share in shares)


@pytest.mark.parity
def test_torchs_extra_key_and_value_is_a_memory_of_one_slot():
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(16, 4, add_bias_kv=True, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = MemoryAttention(16, 4, slots=1)
    with torch.no_grad():
        ours.memory_keys.copy_(theirs.bias_k[0] / math.sqrt(4))       # bias_k = sqrt(d_k) m_k
        ours.memory_values.copy_(theirs.bias_v[0] / math.sqrt(1))     # bias_v = sqrt(n_m) m_v
    state = ours.state_dict() | {"in_weight": theirs.in_proj_weight, "in_bias": theirs.in_proj_bias,
                                 "out.weight": theirs.out_proj.weight, "out.bias": theirs.out_proj.bias}
    ours.load_state_dict(state)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("slots", [1, 3, 8])
def test_memory_is_fused_attention_over_longer_keys(slots):
    torch.manual_seed(0)
    layer = MemoryAttention(16, 4, slots)
    x = torch.randn(2, 5, 16)
    q, k, v = (part.view(2, 5, 4, 4).transpose(1, 2)
               for part in (x @ layer.in_weight.T + layer.in_bias).chunk(3, -1))
    slots_k = (layer.memory_keys * 2).view(slots, 4, 4).transpose(0, 1).expand(2, 4, slots, 4)
    slots_v = (
        (layer.memory_values * math.sqrt(slots)).view(slots, 4, 4).transpose(0, 1).expand(2, 4, slots, 4)
    )
    read = F.scaled_dot_product_attention(q, torch.cat([k, slots_k], 2), torch.cat([v, slots_v], 2))
    want = layer.out(read.transpose(1, 2).reshape(2, 5, 16))
    torch.testing.assert_close(layer(x), want, atol=1e-6, rtol=1e-5)
    with record_attention(layer) as weights:  # the formula itself, not its fused twin
        torch.testing.assert_close(layer(x), want, atol=1e-6, rtol=1e-5)
    assert weights[""].shape == (2, 4, 5, 5 + slots)


def test_slots_far_away_are_no_slots_at_all():
    torch.manual_seed(0)
    layer = MemoryAttention(16, 4, 5).double()
    x = torch.randn(1, 3, 16, dtype=torch.float64)
    q, k, v = layer.project_all(x)
    # q . away = -200
    away = torch.linalg.lstsq(q[0], torch.full((4, 3, 1), -200.0, dtype=torch.float64)).solution
    with torch.no_grad():
        layer.memory_keys.copy_(away[..., 0].flatten().expand(5, 16) / math.sqrt(4))
    with record_attention(layer) as weights:
        got = layer(x)
    assert weights[""][..., 3:].max() < 1e-30
    torch.testing.assert_close(got, layer.out(layer.join(attention(q, k, v))))


def test_duplicating_every_region_is_seen_only_by_a_model_with_memory():
    features, _ = batch()
    twice = features.repeat(1, 2, 1)
    plain, memory = build(KINDS["plain"]), build()
    torch.testing.assert_close(plain.encode(twice).levels[:, :, :6], plain.encode(features).levels, atol=1e-5,
                               rtol=1e-5)
    assert (memory.encode(twice).levels[:, :, :6] - memory.encode(features).levels).abs().max() > 0.01


def test_an_image_without_regions_is_read_from_memory_alone():
    model = build()
    features, tokens = batch()
    features[2] = 0
    logits = model(features, tokens)
    assert torch.isfinite(logits).all()
    with record_attention(model) as weights:
        model.encode(features)
    assert (weights["encoder.0.attention"][2, ..., :6] == 0).all()
    torch.testing.assert_close(weights["encoder.0.attention"][2, ..., 6:].sum(-1), torch.ones(4, 6))
    model.train()
    model(features, tokens).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.isfinite(build(KINDS["plain"])(features, tokens)).all()


# --------------------------------------------------------------------------------------------------- the mesh


def gated(bias, **change):
    """A decoder layer whose gates are all at sigmoid(bias), and what it reads."""
    config = replace(MINI, **change)
    layer = build(config).decoder[0]
    with torch.no_grad():
        layer.gate_weight.zero_()
        layer.gate_bias.copy_(torch.as_tensor(bias, dtype=torch.float32).expand(3)[:, None].expand(3, 64))
    x = torch.randn(3, 7, 64, generator=torch.Generator().manual_seed(0))
    levels = build(config).encode(batch()[0]).levels
    return layer, x, levels


def readings(layer, x, levels):
    """E_i of the released code, one encoder layer at a time."""
    Y = layer.self_norm(x + layer.self_attention(x))
    return torch.stack([layer.cross_norm(Y + layer.cross_attention(Y, levels[:, i])) for i in range(3)],
                       dim=1)


def finish(layer, Z):
    return layer.feed_forward_norm(Z + layer.feed_forward(Z))


def test_gates_forced_open_sum_the_readings_over_the_root_of_the_layers():
    layer, x, levels = gated(50.0)
    want = finish(layer, readings(layer, x, levels).sum(dim=1) / math.sqrt(3))
    torch.testing.assert_close(layer(x, levels), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("open_gate", [0, 1, 2])
def test_one_open_gate_lets_one_encoder_layer_through(open_gate):
    layer, x, levels = gated([50.0 if i == open_gate else -50.0 for i in range(3)])
    want = finish(layer, readings(layer, x, levels)[:, open_gate] / math.sqrt(3))
    torch.testing.assert_close(layer(x, levels), want, atol=1e-5, rtol=1e-5)


def test_equal_softmax_gates_take_the_mean():
    layer, x, levels = gated(0.0, mesh="softmax")
    want = finish(layer, readings(layer, x, levels).mean(dim=1) / math.sqrt(3))
    torch.testing.assert_close(layer(x, levels), want, atol=1e-5, rtol=1e-5)


def test_gates_start_near_one_half():
    model, (features, tokens) = build(M2Config.mini()), batch(vocab=200, features=64)
    with record_gates(model) as gates:
        model(features, tokens)
    for i in range(3):
        assert gates[f"decoder.{i}"].mean().item() == pytest.approx(0.5, abs=0.1)


def test_one_layer_has_a_gate_and_a_mesh_of_one():
    model = build(KINDS["one layer"])
    assert model.decoder[0].gate_weight.shape == (1, 64, 128)


# ---------------------------------------------------------------------- the released code's surprises (traps)


def test_slots_start_as_the_released_code_ends_up_or_as_it_says():
    """Trap 1a: its general initialisation overwrites that of the memory."""
    torch.manual_seed(0)
    xavier = MemoryAttention(512, 8, 40)
    # .0169
    assert xavier.memory_keys.abs().max().item() == pytest.approx(math.sqrt(6 / (40 * 512 + 512)), rel=1e-3)
    assert xavier.memory_values.std().item() == pytest.approx(0.0098, abs=2e-4)
    nominal = MemoryAttention(512, 8, 40, init="nominal")
    assert nominal.memory_keys.std().item() == pytest.approx(1 / 64, rel=0.05)
    assert nominal.memory_values.std().item() == pytest.approx(1 / 40, rel=0.05)


def test_slots_are_scaled_when_they_are_used():
    """Trap 2: keys by the root of d_k, values by the root of their number."""
    layer = MemoryAttention(512, 8, 40, init="nominal")
    keys, values = layer.memory(3)
    assert keys.shape == values.shape == (3, 8, 40, 64)
    for n in range(3):
        for a in range(8):
            torch.testing.assert_close(keys[n, a], 8 * layer.memory_keys[:, 64 * a : 64 * a + 64])
            torch.testing.assert_close(values[n, a],
                                       math.sqrt(40) * layer.memory_values[:, 64 * a : 64 * a + 64])
    assert keys.std().item() == pytest.approx(0.125, rel=0.05)
    assert values.std().item() == pytest.approx(0.158, rel=0.05)


def test_positions_are_frozen_sinusoids_or_frozen_noise():
    """Trap 1b: the released code overwrites its sinusoids by noise; both are there, saved and not trained."""
    true, noise = build(), build(KINDS["released"])
    torch.testing.assert_close(true.embed.positions.table[1:], sinusoids(31, 64)[1:])
    assert (true.embed.positions.table[0] == 0).all()
    norms = noise.embed.positions.table.norm(dim=1)
    assert not torch.allclose(norms, torch.full_like(norms, math.sqrt(32)), rtol=0.1)
    assert "embed.positions.table" in noise.state_dict()
    assert "embed.positions.table" not in dict(noise.named_parameters())


def test_the_padding_word_stays_zero():
    """Trap 1c."""
    assert (build().embed.words.weight[PAD] == 0).all()


def test_a_mask_after_the_input_normalisation_would_miss_the_padding():
    """Trap 3: padded rows are not zero any more once they went through bias, ReLU and LayerNorm."""
    model = build()
    with torch.no_grad():
        nn.init.normal_(model.project.linear.bias, std=0.1)
        nn.init.normal_(model.project.norm.bias, std=0.1)
    features, _ = batch()
    padding = (features == 0).all(-1)
    assert padding.sum() == 2
    assert not (model.project(features).sum(-1) == 0)[padding].any()
    context = model.encode(features)
    assert torch.equal(context.mask, ~padding)
    assert build(KINDS["released"]).encode(features).mask is None


def test_padding_that_is_not_masked_is_read():
    """Trap 3: with padding="off" a longer row of zeros changes the caption; this is what the public weights
    expect."""
    model = build(KINDS["released"])
    with torch.no_grad():
        nn.init.normal_(model.project.linear.bias, std=0.1)
    features, tokens = batch()
    padded = torch.cat([features, torch.zeros(3, 5, 16)], dim=1)
    assert (model(padded, tokens) - model(features, tokens)).abs().max() > 1e-3


def test_zeroing_what_stands_at_padded_words_changes_no_real_word():
    """Trap 6: the released code multiplies outputs at <pad> by zero; we leave them, for nothing real reads
    them."""
    model = build()
    features, tokens = batch()
    tokens[:, 5:] = PAD
    before = model(features, tokens)[:, :5]

    def zero_padding(module, inputs, output):
        return output * (tokens != PAD)[:, :, None].to(output)

    for layer in model.decoder:
        layer.self_attention.register_forward_hook(zero_padding)
        layer.feed_forward.register_forward_hook(zero_padding)
    torch.testing.assert_close(model(features, tokens)[:, :5], before)


def test_log_probabilities_are_ours_to_take():
    """The released model ends in a log-softmax; ours returns scores, so a loss or a search normalises them
    once."""
    model, (features, tokens) = build(), batch()
    logits = model(features, tokens)
    assert not torch.allclose(logits.exp().sum(-1), torch.ones(3, 7), atol=0.5)
