"""Flamingo reads pictures between words; what it computes is compared with loops that read like the paper."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmlearn import generate
from mmlearn.both_modalities.flamingo import (
    MIXTURE,
    Dense,
    Flamingo,
    FlamingoAdapter,
    FlamingoConfig,
    GatedCrossAttention,
    LatentAttention,
    MediaAttention,
    PerceiverResampler,
    frame_times,
    fused_read_pictures,
    gate_slope,
    gated,
    interleaved_loss,
    last_picture,
    media_mask,
    mixture_loss,
    parameter_groups,
    read_features,
    read_latents,
    read_pictures,
    squared_relu,
    with_times,
)
from mmlearn.both_modalities.flamingo_vision import NFNetCells, PatchStates
from mmlearn.nn.attention import KVCache, MultiHeadAttention, attention, fused_attention, record_attention
from mmlearn.nn.modes import blank, seeded
from mmlearn.nn.transformer import Context
from mmlearn.nn.vit import VisionTransformer, ViTConfig

IMAGE, EOC, VOCAB = 4, 3, 20
CONFIG = FlamingoConfig(layers=3, width=16, heads=2, every=2, features=6, visual=8, resampler_layers=2,
                        resampler_heads=2, latents=3, frames=3, head=4, image=IMAGE, eoc=EOC)
# text, picture 1, three words, picture 2, two words, end
TOKENS = torch.tensor([[2, 7, IMAGE, 8, 9, 10, IMAGE, 11, 12, EOC]])


class Layer(nn.Module):
    """A pre-norm layer of a language model."""

    def __init__(self, width, heads):
        super().__init__()
        self.attention = MultiHeadAttention(width, heads, causal=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, mask=None):
        x = x + self.attention(self.norms[0](x), mask)
        return x + self.net(self.norms[1](x))


class TinyLM(nn.Module):
    """A language model with the parts that Flamingo asks for."""

    cache = None
    keeps_past = True

    def __init__(self, vocab=VOCAB, width=16, layers=3, heads=2, context=24):
        super().__init__()
        self.words = nn.Embedding(vocab, width)
        self.positions = nn.Parameter(torch.randn(context, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def embed(self, tokens, mask=None):
        start, t = 0 if self.cache is None else self.cache.length, tokens.shape[1]
        place = torch.arange(start, start + t) if mask is None else (mask.cumsum(1) - 1).clamp(min=0)[:, -t:]
        return self.words(tokens) + self.positions[place]

    def logits(self, z):
        return z @ self.words.weight.mT

    def forward(self, tokens, mask=None):
        x = self.embed(tokens, mask)
        for layer in self.layers:
            x = layer(x, mask)
        return self.logits(self.norm(x))


@dataclass
class Story(Context):
    """What was read before writing, as the language model's prompts say it."""

    tokens: torch.Tensor | None = None
    media: torch.Tensor | None = None

    def repeat(self, k):
        return replace(self, copies=self.copies * k)

    def given(self, tokens, past):
        if past == 0:
            tokens = torch.cat([self.tokens.repeat_interleave(self.copies, 0), tokens[:, 1:]], 1)
        return tokens, None

    def phi(self, t):
        media = self.media.repeat_interleave(self.copies, 0)
        return torch.cat([media, media[:, -1:].expand(-1, max(0, t - media.shape[1]))], 1)[:, :t]


def stirred(module, seed=0, scale=0.5):
    """The module with all its weights drawn, gates included, so that every part counts."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(scale * torch.randn(value.shape, generator=g))
    return module


def made(config=CONFIG, seed=0, trained=(), vision=None):
    with seeded(seed):
        model = Flamingo(config, TinyLM(layers=config.layers, width=config.width), vision, trained)
    stirred(model.adapter, seed)
    return model.eval()


def drawn(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def normed(x, norm):
    """Layer normalisation, read aloud."""
    mean = sum(x) / len(x)
    var = sum((v - mean) ** 2 for v in x) / len(x)
    return torch.stack([(v - mean) / torch.sqrt(var + norm.eps) for v in x]) * norm.weight + norm.bias


def naive_heads(queries, keys, values, heads, may):
    """Attention of rows, head by head and query by query; a query that may see nothing reads zeros."""
    e = queries.shape[1] // heads
    rows = []
    for i, q in enumerate(queries):
        parts = []
        for a in range(heads):
            cut = slice(a * e, (a + 1) * e)
            exps = [math.exp(float(q[cut] @ k[cut]) / math.sqrt(e)) if may(i, j) else 0.0
                    for j, k in enumerate(keys)]
            total = sum(exps) or 1.0
            parts.append(sum((w / total * v[cut] for w, v in zip(exps, values)), torch.zeros(e).double()))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:flamingo-phi", "eq:flamingo-mask")
def test_a_token_sees_the_last_picture_before_it_or_all_of_them():
    is_picture = torch.tensor([[False, True, False, False, True, True, False], [False] * 7])
    phi = last_picture(is_picture)
    places = [[i for i, one in enumerate(row) if one] for row in is_picture.tolist()]
    for row in range(2):
        for token in range(7):
            shown = [i for i, place in enumerate(places[row], start=1) if place <= token]
            assert int(phi[row, token]) == max(shown, default=0)
            for sees, wanted in (("last", shown[-1:]), ("all", shown)):
                mask = media_mask(phi, 4, sees)
                assert [i for i in range(1, 5) if mask[row, token, i - 1]] == wanted
    assert media_mask(phi, 0).shape == (2, 7, 0)


@pytest.mark.equation("eq:flamingo-time")
def test_a_time_is_added_to_all_places_of_its_frame():
    X, e = drawn(2, 3, 2, 4), drawn(5, 4, seed=2)
    want = torch.stack([torch.stack([X[i, n, p] + e[n] for n in range(3) for p in range(2)])
                        for i in range(2)])
    torch.testing.assert_close(with_times(X, e), want)


@pytest.mark.equation("eq:flamingo-time-between")
def test_more_frames_than_times_stretch_the_table_from_end_to_end():
    e = drawn(8, 3)
    times = frame_times(e, 30)
    for i in range(30):
        u = i * 7 / 29
        low = min(i * 7 // 29, 6)
        torch.testing.assert_close(times[i], e[low] + (u - low) * (e[low + 1] - e[low]), atol=1e-6, rtol=0)
    torch.testing.assert_close(times[[0, -1]], e[[0, -1]], atol=1e-6, rtol=0)
    torch.testing.assert_close(frame_times(e, 5), e[:5])
    torch.testing.assert_close(frame_times(e[:1], 4), e[:1].expand(4, -1))


@pytest.mark.equation("eq:flamingo-resample")
def test_latents_read_features_and_latents_both_normalised():
    layer = stirred(LatentAttention(4, 2, 3)).double()
    x, features = drawn(2, 3, 4), drawn(2, 5, 4, seed=2)
    W_q, W_k, W_v = layer.in_weight.detach().chunk(3)
    with torch.no_grad():
        for i in range(2):
            latents = [normed(row, layer.norm_latents) for row in x[i]]
            sources = [normed(row, layer.norm_features) for row in features[i]] + latents
            read = naive_heads(torch.stack([W_q @ z for z in latents]), [W_k @ z for z in sources],
                               [W_v @ z for z in sources], 2, lambda i, j: True)
            want = read @ layer.out.weight.mT
            torch.testing.assert_close(layer(x, features)[i], want)


@pytest.mark.equation("eq:flamingo-resample", "eq:flamingo-absorb")
def test_features_are_read_the_same_without_keys_and_values_of_their_own():
    Q, X, W_k, W_v = drawn(2, 2, 3, 4), drawn(2, 7, 5, seed=2), drawn(2, 4, 5, seed=3), drawn(2, 4, 5, seed=4)
    latents = drawn(2, 2, 3, 4, seed=5), drawn(2, 2, 3, 4, seed=6)
    inputs = [z.requires_grad_() for z in (Q, X, W_k, W_v, *latents)]

    def plain(Q, X, W_k, W_v, K, V):
        features = torch.einsum("bsd,hed->bhse", X, W_k), torch.einsum("bsd,hed->bhse", X, W_v)
        return read_latents(Q, features, (K, V), attention)

    want, got = plain(*inputs), read_features(*inputs[:4], tuple(inputs[4:]))
    torch.testing.assert_close(got, want)
    weight = drawn(*want.shape, seed=7)
    for a, b in zip(torch.autograd.grad((got * weight).sum(), inputs),
                    torch.autograd.grad((want * weight).sum(), inputs)):
        torch.testing.assert_close(a, b)


def test_keys_of_features_are_left_out_where_that_is_less_work():
    layer = LatentAttention(8, 2, 4)
    assert not layer.absorbs(64, 100) and not LatentAttention(8, 2, 64).absorbs(64, 10_000)
    assert LatentAttention(8, 2, 128).absorbs(64, 256) and not LatentAttention(8, 2, 128).absorbs(64, 100)
    stirred(layer).double()
    x, features = drawn(1, 2, 8), drawn(3, 40, 8, seed=2)
    assert layer.absorbs(2, 40)
    want = layer(x, features)
    layer.absorbs = lambda r, s: False
    torch.testing.assert_close(layer(x, features), want)
    torch.testing.assert_close(layer(x.expand(3, -1, -1), features), want)       # latents once, or a picture


@pytest.mark.equation("eq:flamingo-squared-relu")
def test_the_activation_is_the_square_of_what_is_positive():
    z = drawn(3, 5)
    want = torch.tensor([[v * v if v > 0 else 0.0 for v in row] for row in z.tolist()]).double()
    torch.testing.assert_close(squared_relu(z), want)
    assert torch.autograd.gradcheck(squared_relu, z.requires_grad_())
    net = stirred(Dense(4, "squared relu")).double()
    x = drawn(2, 4, seed=2)
    with torch.no_grad():
        for i in range(2):
            inner = net.inner.weight @ normed(x[i], net.norm)
            torch.testing.assert_close(net(x)[i], net.outer.weight @ inner.clamp(min=0) ** 2)


@pytest.mark.equation("eq:flamingo-read")
def test_a_token_reads_the_visual_tokens_of_its_pictures_and_zeros_without_one():
    config = replace(CONFIG, width=6, visual=4, head=3)
    layer = stirred(MediaAttention(config)).double()
    x, visual = drawn(2, 4, 6), drawn(2, 3, 2, 4, seed=2)
    phi = torch.tensor([[0, 1, 1, 3], [0, 0, 2, 2]])
    K, V = layer.sources.weight.detach().chunk(2)
    for sees in ("last", "all"):
        seen = media_mask(phi, 3, sees)
        with torch.no_grad():
            got = layer(x, visual, seen)
            for i in range(2):
                rows = visual[i].reshape(6, 4)
                queries = torch.stack([layer.queries.weight @ normed(z, layer.norm) for z in x[i]])
                read = naive_heads(queries, [K @ z for z in rows], [V @ z for z in rows], 2,
                                   lambda t, j, seen=seen, i=i: bool(seen[i, t, j // 2]))
                torch.testing.assert_close(got[i], read @ layer.out.weight.mT)
        assert not got[0, 0].any() and not got[1, :2].any() and got[1, 2:].abs().min() > 0


@pytest.mark.equation("eq:flamingo-read")
@pytest.mark.parametrize("phi", [[[0, 1, 1, 3, 3], [0, 0, 0, 2, 0]], [[3, 3, 1, 1, 2], [2, 2, 2, 2, 2]]])
def test_queries_sorted_by_their_picture_read_the_same(phi):
    seen = media_mask(torch.tensor(phi), 3)
    Q, K, V = drawn(2, 5, 2, 4), drawn(2, 3, 2, 6, 4, seed=2), drawn(2, 3, 2, 6, 4, seed=3)
    parts = [z.requires_grad_() for z in (Q, K, V)]
    fused = fused_read_pictures(Q, K, V, seen)
    mask = seen.repeat_interleave(6, dim=-1)[:, None]
    plain = read_pictures(Q.transpose(1, 2), *(z.transpose(1, 2).flatten(2, 3) for z in (K, V)), mask)
    plain = plain.transpose(1, 2)
    torch.testing.assert_close(fused, plain)
    slopes = (torch.autograd.grad(read.square().sum(), parts) for read in (fused, plain))
    torch.testing.assert_close(*slopes)


def test_tokens_are_sorted_where_each_sees_one_of_several_large_pictures(monkeypatch):
    layer, phi = stirred(MediaAttention(CONFIG)), torch.tensor([[0, 1, 2]])
    last = media_mask(phi, 2)
    assert layer.sorts(64, last) and not layer.sorts(64, media_mask(phi, 2, "all"))
    assert not layer.sorts(8, last) and not layer.sorts(64, media_mask(phi * 0, 2))
    with KVCache(layer):
        assert not layer.sorts(64, last)
    with record_attention(nn.ModuleList([layer])):
        assert not layer.sorts(64, last)
    x, visual = drawn(2, 3, CONFIG.width).float(), drawn(1, 2, 5, CONFIG.visual).float()
    seen = last.expand(2, -1, -1)                                               # two rows share two pictures
    plain = layer(x, visual, seen)
    monkeypatch.setattr("mmlearn.both_modalities.flamingo.MANY", 1)
    assert layer.sorts(5, seen.reshape(1, 6, 2))
    torch.testing.assert_close(layer(x, visual, seen), plain)


@pytest.mark.equation("eq:flamingo-read")
def test_gradients_stay_finite_where_a_row_of_the_mask_is_empty():
    for attend in (attention, fused_attention):
        Q, K, V = (drawn(1, 2, 3, 4, seed=i).requires_grad_() for i in range(3))
        mask = torch.tensor([[[[False] * 3, [True, False, True], [False, True, False]]]])
        read = read_pictures(Q, K, V, mask, attend)
        assert not read[:, :, 0].any()
        read.square().sum().backward()
        assert all(z.grad.isfinite().all() for z in (Q, K, V)) and not Q.grad[:, :, 0].any()


@pytest.mark.equation("eq:flamingo-gate", "eq:flamingo-gate-gradient")
def test_a_closed_gate_lets_nothing_through_but_can_be_opened():
    Y, alpha, g = drawn(2, 3), torch.tensor([0.7]).double().requires_grad_(), drawn(2, 3, seed=3)
    f = drawn(2, 3, seed=2).requires_grad_()
    want = torch.tensor([[Y[i, j] + math.tanh(0.7) * f[i, j] for j in range(3)] for i in range(2)])
    torch.testing.assert_close(gated(Y, alpha, f), want.double())
    for start in (0.7, 0.0):
        alpha = torch.tensor([start]).double().requires_grad_()
        to_alpha, to_f = torch.autograd.grad((g * gated(Y, alpha, f)).sum(), [alpha, f])
        torch.testing.assert_close(gate_slope(g, alpha, f), to_alpha)
        torch.testing.assert_close(to_f, math.tanh(start) * g)
        assert to_alpha.abs() > 0 and bool(to_f.any()) == (start > 0)
    assert torch.equal(gated(Y, torch.zeros(1).double(), f), Y)


@pytest.mark.equation("eq:flamingo-chain")
def test_the_loss_is_the_mean_surprise_of_the_scored_tokens():
    logits, tokens = drawn(2, 4, 5), torch.tensor([[1, 3, 0, 2], [4, 4, 1, 0]])
    scored = torch.tensor([[True, True, False, True], [False, False, True, False]])
    total = 0.0
    for i in range(2):
        for t in range(1, 4):
            if scored[i, t]:
                row = logits[i, t - 1]
                total -= float(row[tokens[i, t]]) - math.log(sum(math.exp(v) for v in row))
    assert float(interleaved_loss(logits, tokens, scored)) == pytest.approx(total / 3)
    assert float(interleaved_loss(torch.zeros(2, 4, 5), tokens, scored)) == pytest.approx(math.log(5))
    assert float(interleaved_loss(logits, tokens, torch.zeros_like(scored))) == 0


@pytest.mark.equation("eq:flamingo-mixture")
def test_gradients_of_all_sets_of_data_are_summed_before_one_update():
    w = drawn(3).requires_grad_()
    losses = torch.stack([(w * (i + 1)).square().sum() for i in range(4)])
    weights = torch.tensor(list(MIXTURE.values()), dtype=torch.float64)
    whole, = torch.autograd.grad(mixture_loss(losses, weights), w, retain_graph=True)
    parts = [torch.autograd.grad(loss, w, retain_graph=True)[0] for loss in losses]
    torch.testing.assert_close(whole, sum(a * g for a, g in zip(weights, parts)))
    assert weights.tolist() == [1.0, 0.2, 0.2, 0.03]


# ----------------------------------------------------------------------------------------------------- blocks

def test_a_resampler_gives_as_many_tokens_for_one_frame_as_for_many():
    resampler = stirred(PerceiverResampler(CONFIG)).double()
    for frames, places in ((1, 4), (3, 4), (7, 2)):
        assert resampler(drawn(2, frames, places, 6)).shape == (2, 3, 8)
    x = drawn(3, 2, 4, 6)
    torch.testing.assert_close(resampler(x[1:2])[0], resampler(x)[1])            # a row alone
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(resampler(x[:, :, order]), resampler(x))          # places have no position
    assert (resampler(x.flip(1)) - resampler(x)).abs().max() > 1e-3              # frames have a time
    none = stirred(PerceiverResampler(replace(CONFIG, frames=0, features=8))).double()
    assert none.times is None and isinstance(none.project, nn.Identity)
    z = drawn(2, 2, 3, 8)
    torch.testing.assert_close(none(z.flip(1)), none(z))


def test_a_gated_block_is_the_identity_at_the_start_and_without_gates_it_is_not():
    x, visual, seen = torch.randn(2, 4, 16), torch.randn(2, 2, 3, 8), torch.ones(2, 4, 2, dtype=torch.bool)
    assert torch.equal(GatedCrossAttention(CONFIG)(x, visual, seen), x)
    block = GatedCrossAttention(replace(CONFIG, gated=False))
    assert block.gate_read is None and not torch.allclose(block(x, visual, seen), x)


def test_the_feed_forward_gate_changes_tokens_that_see_no_picture_too():
    block = stirred(GatedCrossAttention(CONFIG))
    x, visual, seen = torch.randn(1, 3, 16), torch.randn(1, 1, 3, 8), torch.tensor([[[0], [0], [1]]]).bool()
    moved = (block(x, visual, seen) - x).abs().amax(-1)[0]
    assert (moved > 1e-3).all()
    with torch.no_grad():
        block.gate_dense.zero_()
    assert torch.equal(block(x, visual, seen)[:, :2], x[:, :2])


def test_rows_of_one_sequence_share_its_pictures():
    layer = stirred(MediaAttention(CONFIG)).double()
    x, visual = drawn(6, 4, 16), drawn(2, 2, 3, 8, seed=2)
    seen = torch.rand(6, 4, 2, generator=torch.Generator().manual_seed(0)) < 0.6
    want = layer(x, visual.repeat_interleave(3, 0), seen)
    torch.testing.assert_close(layer(x, visual, seen), want)


def test_where_a_token_looks_can_be_recorded():
    model = made()
    with record_attention(model) as weights:
        out = model(TOKENS, features=torch.randn(1, 2, 5, 6))
    assert out.shape == (1, 10, VOCAB)
    looks = weights["adapter.blocks.0.attention"]                                # b h t (m r)
    assert looks.shape == (1, 2, 10, 6)
    assert not looks[..., 2:6, 3:].any() and not looks[..., 6:, :3].any()
    torch.testing.assert_close(looks[..., 2:, :].sum(-1), torch.ones(1, 2, 8))
    assert weights["adapter.resampler.layers.1.attention"].shape == (2, 2, 3, 8)


# ------------------------------------------------------------------------------------------------------ model

@pytest.mark.equation("eq:flamingo-gate")
def test_before_training_flamingo_is_its_language_model_to_the_bit():
    with seeded(0):
        lm = TinyLM()
        model = Flamingo(CONFIG, lm).eval()
        features = torch.randn(1, 2, 5, 6)
    assert torch.equal(model(TOKENS, features=features), lm(TOKENS))


def test_a_text_without_pictures_passes_by_the_blocks():
    model = made()
    tokens = TOKENS.masked_fill(TOKENS == IMAGE, 5)[:, :-1]
    assert torch.equal(model(tokens), model.language(tokens))
    assert not torch.equal(model(tokens, features=torch.randn(1, 1, 5, 6)), model.language(tokens))


def test_the_end_of_a_chunk_has_a_learned_vector():
    model = made()
    tokens = torch.tensor([[2, 7, EOC, 8]])
    changed = (model(tokens) - model.language(tokens)).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [False, False, True, True]
    assert Flamingo(replace(CONFIG, ends=False), TinyLM()).adapter.end is None


@pytest.mark.parametrize("sees", ["last", "all"])
def test_a_picture_changes_what_follows_it_and_nothing_before(sees):
    model = made(replace(CONFIG, sees=sees)).double()
    features = drawn(1, 2, 5, 6)
    base = model(TOKENS, features=features)
    for picture, place in ((0, 2), (1, 6)):
        other = features.clone()
        other[:, picture] += 1
        moved = (model(TOKENS, features=other) - base).abs().amax(-1)[0] > 1e-9
        assert moved.tolist() == [t >= place for t in range(10)]


def test_an_earlier_picture_is_seen_through_the_words_between_alone():
    model = made(replace(CONFIG, every=3)).double()              # one block, before the first layer
    features = drawn(1, 2, 5, 6)
    other = features.clone()
    other[:, 0] += 1
    states = []
    for one in (features, other):
        visual = model.see(features=one)
        seen = media_mask(last_picture(TOKENS == IMAGE), 2)
        states.append(model.adapter.blocks["0"](model.language.embed(TOKENS), visual, seen))
    assert torch.equal(states[0][:, 6:], states[1][:, 6:]) and not torch.equal(*(s[:, 2:6] for s in states))
    assert (model(TOKENS, features=other) - model(TOKENS, features=features))[:, 6:].abs().min() > 0


def test_only_resampler_blocks_and_the_end_are_trained():
    model = made()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"adapter"} and model.frozen == ["language"]
    tokens = torch.cat([TOKENS, torch.tensor([[13]])], 1)                 # something follows <EOC>
    loss = interleaved_loss(model(tokens, features=torch.randn(1, 2, 5, 6)), tokens, tokens != IMAGE)
    loss.backward()
    for name, p in model.named_parameters():
        if name.startswith("language"):
            assert p.grad is None
        else:
            assert p.grad is not None and p.grad.any(), name
    assert model.adapter.resampler.times.grad[0].any() and not model.adapter.resampler.times.grad[1:].any()


@pytest.mark.equation("eq:flamingo-gate-gradient")
def test_in_the_first_step_the_gates_alone_move():
    with seeded(0):
        model = Flamingo(CONFIG, TinyLM())
    loss = interleaved_loss(model(TOKENS, features=torch.randn(1, 2, 5, 6)), TOKENS, TOKENS != IMAGE)
    loss.backward()
    moved = {name.rpartition(".")[2] for name, p in model.named_parameters()
             if p.grad is not None and p.grad.any()}
    assert moved == {"gate_read", "gate_dense"}                  # <EOC> stands last: nothing comes after it


def test_frozen_parts_stay_in_evaluation_mode_and_may_be_trained_on_request():
    vision = nn.Sequential(nn.Flatten(2), nn.Dropout(0.5))
    model = made(replace(CONFIG, features=16), vision=vision)
    model.train()
    assert model.adapter.training and not model.language.training and not model.vision.training
    free = made(replace(CONFIG, features=16), trained=("language", "vision"), vision=nn.Linear(2, 2))
    free.train()
    assert free.language.training and all(p.requires_grad for p in free.parameters()) and not free.frozen
    with pytest.raises(ValueError, match="trained names"):
        made(trained=("ears",))


def test_pixels_go_through_the_vision_encoder_frame_by_frame():
    class Rows(nn.Module):
        def forward(self, images):                                                # 4 x 2 pixels: 2 cells
            return images.permute(0, 3, 1, 2).flatten(2)

    model = made(replace(CONFIG, features=12), vision=Rows())
    pictures = torch.randn(2, 2, 3, 4, 2)
    features = pictures.permute(0, 1, 4, 2, 3).flatten(3)
    tokens = TOKENS.expand(2, -1)
    torch.testing.assert_close(model(tokens, pictures), model(tokens, features=features))
    videos = torch.randn(2, 2, 5, 3, 4, 2)
    frames = videos.permute(0, 1, 2, 5, 3, 4).flatten(4)
    assert model.see(videos).shape == (2, 2, 3, 8)
    torch.testing.assert_close(model(tokens, videos), model(tokens, features=frames))


def test_a_row_of_a_batch_is_what_it_is_alone_padding_included():
    model = made().double()
    short = torch.tensor([2, IMAGE, 8, 9, 10])
    tokens = torch.stack([TOKENS[0], torch.cat([torch.zeros(5, dtype=torch.long), short])])
    mask = torch.arange(10) >= torch.tensor([[0], [5]])
    features = drawn(2, 2, 5, 6)
    both = model(tokens, features=features, mask=mask)
    torch.testing.assert_close(both[:1], model(TOKENS, features=features[:1]))
    torch.testing.assert_close(both[1:, 5:], model(short[None], features=features[1:, :1]))


def test_media_may_be_given_instead_of_counted():
    model = made()
    features = torch.randn(1, 2, 5, 6)
    phi = last_picture(TOKENS == IMAGE)
    assert torch.equal(model(TOKENS, features=features, media=phi), model(TOKENS, features=features))
    later = torch.full_like(phi, 2)
    assert not torch.equal(model(TOKENS, features=features, media=later), model(TOKENS, features=features))


def test_what_does_not_fit_is_refused_with_a_remedy():
    model = made()
    with pytest.raises(ValueError, match="shows 2 pictures, and 1 are given"):
        model(TOKENS, features=torch.randn(1, 1, 5, 6))
    with pytest.raises(ValueError, match="either pictures or features"):
        model.see()
    with pytest.raises(ValueError, match="no vision encoder"):
        model(TOKENS, torch.randn(1, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="has 2 layers, the configuration 3"):
        Flamingo(CONFIG, TinyLM(layers=2))
    with pytest.raises(ValueError, match="Linear is no language model"):
        Flamingo(CONFIG, nn.Linear(2, 2))
    with pytest.raises(ValueError, match="have no gates"):
        FlamingoAdapter(replace(CONFIG, gated=False)).gates()
    for wrong, about in (({"sees": "none"}, "sees"), ({"activation": "tanh"}, "activation"),
                         ({"first": 3}, "first"), ({"eoc": IMAGE}, "eoc"), ({"latents": 0}, "latents")):
        with pytest.raises(ValueError, match=about):
            replace(CONFIG, **wrong)


def test_gates_of_all_blocks_are_told():
    model = made()
    gates = model.adapter.gates()
    assert gates.shape == (2, 2) and list(model.adapter.blocks) == ["0", "2"]
    assert float(gates[1, 0]) == pytest.approx(math.tanh(float(model.adapter.blocks["2"].gate_read)))
    assert not Flamingo(CONFIG, TinyLM()).adapter.gates().any()


def test_the_resampler_does_not_decay():
    model = made()
    decaying, others = parameter_groups(model)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert sum(p.numel() for p in others["params"]) == sum(
        p.numel() for p in model.adapter.resampler.parameters())
    assert len(decaying["params"]) + len(others["params"]) == sum(
        p.requires_grad for p in model.parameters())


# --------------------------------------------------------------------------------------------------- decoding

def story(model, tokens=TOKENS[:, :-1], seed=3):
    features = torch.randn(len(tokens), 2, 5, 6, generator=torch.Generator().manual_seed(seed))
    phi = last_picture(tokens == IMAGE)
    return Story(model.see(features=features), tokens=tokens, media=phi), features


@torch.no_grad()
def test_words_written_one_by_one_are_those_of_one_pass():
    model = made().double()
    tokens = torch.cat([TOKENS[:, :-1], torch.tensor([[2, 7, IMAGE, 8, 9, 13, IMAGE, 14, 15]])])
    features = drawn(2, 2, 5, 6)
    context = Story(model.see(features=features), tokens=tokens, media=last_picture(tokens == IMAGE))
    written, log_probs = generate.greedy(model, context, eos=EOC, max_len=5)
    whole = torch.cat([tokens, written], 1)
    at = last_picture(whole == IMAGE).clamp(max=2)
    logits = model(whole, features=features, media=at)[:, 8:-1]
    for row in range(2):
        for t, word in enumerate(written[row]):
            if EOC in written[row, :t]:
                break
            assert int(logits[row, t].argmax()) == int(word)
            assert float(logits[row, t].log_softmax(-1)[word]) == pytest.approx(float(log_probs[row, t]))
    beams, totals = generate.beam(model, context, k=3, eos=EOC, max_len=4)
    again = generate.score(model, context, beams, eos=EOC)
    torch.testing.assert_close(again.to(totals), totals, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pictures_are_projected_once_while_a_text_is_written():
    model = made()
    context, _ = story(model)
    calls = []
    for block in model.adapter.blocks.values():
        block.attention.sources.register_forward_hook(lambda *_: calls.append(1))
    with KVCache(model):
        for _ in range(4):
            model.decode(torch.tensor([[9]]), context)
    assert len(calls) == len(model.adapter.blocks)


@torch.no_grad()
def test_a_text_alone_is_continued_as_the_language_model_would():
    model = made()
    context = Story(torch.empty(1, 0, 0, 0), tokens=torch.tensor([[2, 7, 8]]))
    tokens, _ = generate.greedy(model, context, eos=EOC, max_len=1)
    assert int(tokens[0, 0]) == int(model.language(torch.tensor([[2, 7, 8]]))[0, -1].argmax())


# ------------------------------------------------------------------------------------------------- published

def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name, blocks, read", [("flamingo_3b", 24, 1.16), ("flamingo_9b", 10, 1.80),
                                                ("flamingo_80b", 12, 8.36)])
def test_paper_sizes_have_the_published_counts(name, blocks, read):
    with blank():
        adapter = FlamingoAdapter(getattr(FlamingoConfig, name)())
    assert round(count(adapter.resampler) / 1e6) == 194                   # table 1: 194M
    assert len(adapter.blocks) == blocks
    assert round(count(adapter.blocks) / 1e9, 2) == read                  # the text says 1.4B, 1.8B and 10B
    assert list(adapter.blocks)[0] == "0"                                 # before the very first layer


def test_the_resampler_counts_what_its_parts_count():
    with blank():
        resampler = FlamingoAdapter(FlamingoConfig.flamingo_3b()).resampler
    d, inner = 1536, 16 * 128
    layer = 4 * d * inner + 8 * d * d + 3 * 2 * d
    assert count(resampler) == 6 * layer + 64 * d + 8 * d + 2 * d + (3072 + 1) * d
    assert round((6 * layer + 64 * d) / 1e6, 2) == 188.90


def test_openflamingos_first_block_stands_before_the_last_layer_of_a_group():
    places = {name: list(getattr(FlamingoConfig, name)().places)
              for name in ("openflamingo_3b", "openflamingo_4b", "openflamingo_9b")}
    assert places["openflamingo_3b"] == list(range(24))
    assert places["openflamingo_4b"] == list(range(1, 32, 2))
    assert places["openflamingo_9b"] == list(range(3, 32, 4))


def test_the_miniature_trains_half_a_million_weights():
    adapter = FlamingoAdapter(FlamingoConfig.mini())
    assert 500_000 < count(adapter) < 600_000


@pytest.mark.parity
@pytest.mark.slow
def test_the_vision_encoder_of_the_paper_has_the_published_count():
    pytest.importorskip("timm")
    with blank():
        vision = NFNetCells()
    assert count(vision) == 435_286_032 and vision.out_channels == FlamingoConfig.flamingo_80b().features


@pytest.mark.parity
def test_a_network_of_timm_gives_its_cells_row_by_row():
    timm = pytest.importorskip("timm")
    with seeded(0):
        vision = NFNetCells("resnet18").eval()
        images = torch.randn(1, 3, 64, 64)
        grid = vision.network.forward_features(images)
    assert timm.__name__ == "timm" and vision(images).shape == (1, 4, 512)
    torch.testing.assert_close(vision(images)[0, 1], grid[0, :, 0, 1])


def test_patches_of_a_vision_transformer_come_without_the_class_token():
    with seeded(0):
        tower = VisionTransformer(ViTConfig(8, 4, 8, 2, 2), 6).eval()
        vision = PatchStates(tower)
        images = torch.randn(2, 3, 8, 8)
    assert vision.out_channels == 8 and vision(images).shape == (2, 4, 8)
    torch.testing.assert_close(vision(images), tower.tokens(images)[:, 1:])


# --------------------------------------------------------------------------------------------------- learning

def test_a_handful_of_pictures_is_learned_and_the_picture_decides():
    with seeded(0):
        model = Flamingo(replace(CONFIG, layers=2, every=1), TinyLM(layers=2))
        features = torch.randn(4, 1, 4, 6)
    answers = torch.tensor([10, 11, 12, 13])
    tokens = torch.tensor([[2, IMAGE, 7, 0, EOC]]).repeat(4, 1)
    tokens[:, 3] = answers
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    scored[:, 3] = True
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = interleaved_loss(model(tokens, features=features), tokens, scored)
        loss.backward()
        optimizer.step()
    assert loss < 0.05 and model.adapter.gates().abs().min() > 1e-3
    shuffled = features.roll(1, 0)
    with torch.no_grad():
        assert interleaved_loss(model(tokens, features=shuffled), tokens, scored) > 1
        assert torch.equal(model(tokens[:, :4], features=shuffled)[:, 2].argmax(-1), answers.roll(1))


# ----------------------------------------------------------------------------------------------------- errata

def test_e12_flamingo_reads_texts_pictures_and_videos_and_no_speech():
    model = made()
    with pytest.raises((ValueError, TypeError)):
        model(TOKENS, torch.randn(1, 2, 16_000))                          # waveforms have no place
    assert set(dict(model.named_children())) - {"vision"} == {"adapter", "language"}


def test_e13_the_language_model_is_no_recurrence_one_pass_is_all_steps():
    model = made()
    context, _ = story(model)
    model, context = model.double(), replace(context, levels=context.levels.double())
    more = torch.tensor([[0, 11, 12, 13]])
    whole = model.decode(more, context)                                   # all positions in parallel
    with KVCache(model), torch.no_grad():
        steps = [model.decode(more[:, i:i + 1], context) for i in range(4)]
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    assert not any(isinstance(part, nn.RNNBase) for part in model.modules())


def test_e14_there_is_no_adversary_the_loss_is_the_surprise_of_words():
    model = made()
    names = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"resampler", "blocks", "end"}                        # no generator, no discriminator
    logits = model(TOKENS, features=torch.randn(1, 2, 5, 6))
    want = F.cross_entropy(logits[0, :-1], TOKENS[0, 1:])
    scored = torch.ones_like(TOKENS, dtype=torch.bool)
    torch.testing.assert_close(interleaved_loss(logits, TOKENS, scored), want)


def test_e15_pictures_come_in_by_gated_attention_alone():
    model = made()
    a, b = torch.randn(1, 2, 5, 6), torch.randn(1, 2, 5, 6)
    assert not torch.equal(model(TOKENS, features=a), model(TOKENS, features=b))
    with torch.no_grad():
        for block in model.adapter.blocks.values():
            block.gate_read.zero_()
    assert torch.equal(model(TOKENS, features=a), model(TOKENS, features=b))


def test_booklet_b1_a_word_sees_the_picture_directly_before_it():
    model = made().double()
    tokens, features = torch.tensor([[2, 7, IMAGE, 8]]), drawn(1, 1, 5, 6)
    change = model(tokens, features=features + 1) - model(tokens, features=features)
    assert change[0, 2].abs().max() > 1e-6 and not change[0, :2].any()    # the logits that say what follows
