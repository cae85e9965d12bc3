"""unCLIP: its formulas by loops, its sizes beside the stated ones, the same prior as diffusers, and its
promises."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred

from mmlearn import generate
from mmlearn.nn.modes import blank
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.glide import GLIDETextConfig
from mmlearn.text2image.unclip import (
    KarloConfig,
    KarloDecoder,
    UnCLIPConfig,
    UnCLIPDecoder,
    UnCLIPUpsampler,
    UpsamplerConfig,
    blurred,
    condition_time,
    crop_both,
    draw_pictures,
    drop_embedding,
    embedding_tokens,
)
from mmlearn.text2image.unclip_prior import (
    ARPrior,
    ARPriorConfig,
    DiffusionPrior,
    EmbeddingCodec,
    PriorConfig,
    Text,
    as_denoiser,
    bucket,
    choose_better,
    draw_codes,
    draw_embeddings,
    drop_text,
    prior_error,
    prior_loss,
    projected,
    scaled_embedding,
    unbucket,
)

TINY = PriorConfig(embed=6, text=5, context=4, width=16, layers=2, heads=4, scale=2.0)
TINY_AR = ARPriorConfig(6, 3, 8, 16, 2, 4, 10, GLIDETextConfig(20, 5, 16, 1, 4))
TINY_UNET = ADMConfig(16, 8, (1.0, 2.0), 1, (8,), groups=4, head_channels=8, context=12)
TINY_DECODER = UnCLIPConfig(TINY_UNET, GLIDETextConfig(20, 5, 12, 1, 3), 6)
TINY_UP = UpsamplerConfig(32, 8, (1.0, 2.0), 1, (), in_channels=6, groups=4, head_channels=8, low=16)


def a_text(b=3, config=TINY, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(config.context) < torch.tensor([config.context, 2, 3])[:b, None]
    return Text(torch.randn(b, config.context, config.text, generator=g), mask,
                F.normalize(torch.randn(b, config.embed, generator=g), dim=1))


# --------------------------------------------------------------------------------------------- sizes


def test_sizes_are_those_stated_or_the_difference_is_known():
    with blank():
        karlo, paper = DiffusionPrior(PriorConfig.karlo()), DiffusionPrior(PriorConfig.paper())
        ar, decoder = ARPrior(ARPriorConfig.paper()), UnCLIPDecoder(UnCLIPConfig.paper())
        small, ups = KarloDecoder(KarloConfig.released()), [
            UnCLIPUpsampler(c) for c in (UpsamplerConfig.to_256(), UpsamplerConfig.to_1024())]
    assert count(karlo) + karlo.mean.numel() + karlo.std.numel() == 1_022_030_080     # diffusers counts these
    assert count(paper) == 1_225_925_632                                              # stated: 1B
    assert count(ar.text) == 1_315_987_072 and count(ar) == 2_121_410_688             # stated: 1B in all
    assert [count(up) for up in ups] == [729_710_726, 282_064_326]                    # stated: 700M, 300M
    assert count(decoder) == 3_565_435_398                                            # stated: 3.5B
    assert count(small) == 893_318_086                                                # stated: 900M


# ------------------------------------------------------------------------------- equations of the prior


@pytest.mark.equation("eq:unclip-scale")
def test_embeddings_are_scaled_to_the_size_of_the_noise():
    z = F.normalize(torch.randn(400, 1024, dtype=torch.float64), dim=1)
    mean, std = torch.zeros(1024, dtype=torch.float64), torch.full((1024,), 1 / 17.2, dtype=torch.float64)
    got = scaled_embedding(z, mean, std)
    assert float(got[3, 7]) == pytest.approx(17.2 * float(z[3, 7]))
    assert float(got.std()) == pytest.approx(17.2 / 32, rel=0.01)          # as pictures in [-1, 1] have it
    model = DiffusionPrior(TINY)
    torch.testing.assert_close(model.unscaled(model.scaled(z[:, :6].float())), z[:, :6].float())


@pytest.mark.equation("eq:unclip-loss")
def test_the_loss_is_the_square_of_the_distance_to_the_embedding_itself():
    a, z = torch.randn(2, 3, 6, dtype=torch.float64)
    want = [sum((float(a[i, j]) - float(z[i, j])) ** 2 for j in range(6)) / 6 for i in range(3)]
    torch.testing.assert_close(prior_error(a, z), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:unclip-choose")
def test_of_two_embeddings_the_one_that_fits_the_caption_is_kept():
    drawn, text = torch.randn(4, 2, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    for i, kept in enumerate(choose_better(drawn, text)):
        products = [sum(float(a) * float(b) for a, b in zip(z, text[i])) for z in drawn[i]]
        assert torch.equal(kept, drawn[i, products.index(max(products))])


@pytest.mark.equation("eq:unclip-pca")
@pytest.mark.equation("eq:unclip-bucket")
@pytest.mark.equation("eq:unclip-unbucket")
def test_an_embedding_becomes_tokens_of_its_widest_directions_and_comes_back():
    g = torch.Generator().manual_seed(0)
    spread = torch.tensor([5.0, 2.0, 1.0, 0.1, 0.1, 0.1])
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=g))[0]
    z = (torch.randn(500, 6, generator=g) * spread) @ rotation + 3
    codec = EmbeddingCodec(replace(TINY_AR, buckets=1024)).fit(z)
    a = projected(z, codec.mean, codec.axes)
    naive = torch.stack([torch.stack([sum((z[i, j] - codec.mean[j]) * codec.axes[j, k] for j in range(6))
                                      for k in range(3)]) for i in range(4)])
    torch.testing.assert_close(a[:4], naive, atol=1e-5, rtol=1e-5)
    assert [round(float(s)) for s in a.std(dim=0)] == [5, 2, 1]              # the widest first
    codes = codec.encode(z)
    for i in range(4):
        for k in range(3):
            low, high = float(codec.low[k]), float(codec.high[k])
            want = min(max(math.floor((float(a[i, k]) - low) / (high - low) * 1024), 0), 1023)
            assert abs(int(codes[i, k]) - want) <= 1
            middle = low + (int(codes[i, k]) + 0.5) * (high - low) / 1024
            assert float(unbucket(codes, codec.low, codec.high)[i, k]) == pytest.approx(middle, abs=1e-5)
    assert (codec.decode(codes) - z).square().mean() < 0.02 * z.var(dim=0).mean()
    assert int(bucket(torch.tensor([9.0]), torch.zeros(1), torch.ones(1), 8)) == 7
    with pytest.raises(ValueError, match="3 embeddings have no 3 principal directions"):
        codec.fit(z[:3])


# -------------------------------------------------------------------------------- the diffusion prior


def test_the_prior_sees_the_caption_its_embedding_the_time_and_the_noise_and_no_padding():
    model = stirred(DiffusionPrior(TINY)).eval()
    text, t, z = a_text(), torch.tensor([3, 700, 999]), torch.randn(3, 6)
    whole = model(z, t, *text)
    for i in range(3):
        alone = Text(*(part[i : i + 1] for part in text))
        torch.testing.assert_close(
            model(z[i : i + 1], t[i : i + 1], *alone)[0], whole[i], atol=1e-5, rtol=1e-5
        )
    padded = text.states.clone()
    padded[~text.mask] = 9.0
    torch.testing.assert_close(model(z, t, padded, text.mask, text.embedding), whole)
    for other in (model(z + 1, t, *text), model(z, t + 1 - 2 * (t > 500).long(), *text),
                  model(z, t, text.states + 1, text.mask, text.embedding),
                  model(z, t, text.states, text.mask, -text.embedding)):
        assert not torch.allclose(other, whole, atol=1e-4)
    assert model(z, t, *text.empty()).isfinite().all()
    with pytest.raises(ValueError, match="captions have 3 states, the prior reads 4"):
        model(z, t, text.states[:, :3], text.mask[:, :3], text.embedding)


def test_gradients_reach_every_parameter_of_the_prior():
    model = stirred(DiffusionPrior(TINY))
    z = F.normalize(torch.randn(3, 6), dim=1)
    prior_loss(model, z, a_text(), NoiseSchedule.cosine()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_share_of_the_captions_is_dropped_whole():
    text = Text(*(part.repeat_interleave(400, 0) for part in a_text()))
    dropped = drop_text(text, 0.1, torch.Generator().manual_seed(0))
    gone = ~dropped.mask.any(1)
    assert 0.07 < float(gone.float().mean()) < 0.13
    assert (dropped.states[gone] == 0).all() and (dropped.embedding[gone] == 0).all()
    assert torch.equal(dropped.states[~gone], text.states[~gone])


def test_a_handful_of_embeddings_is_learnt_by_heart_and_guidance_of_the_noise_is_that_of_the_embedding():
    torch.manual_seed(0)
    config = replace(TINY, width=32)
    model, schedule = DiffusionPrior(config), NoiseSchedule.cosine(100)
    text, z = a_text(), F.normalize(torch.randn(3, 6), dim=1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    many, g = text.repeat(16), torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        loss = prior_loss(model, z.repeat_interleave(16, 0), drop_text(many, 0.1, g), schedule, g)
        loss.backward()
        optimizer.step()
    drawn = draw_embeddings(model.eval(), text, schedule, 20, 1.5, generator=torch.Generator().manual_seed(1))
    again = draw_embeddings(model, text, schedule, 20, 1.5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, again)
    assert (F.cosine_similarity(drawn, z) > 0.97).all()
    double, x, t = model.double(), torch.randn(3, 6, dtype=torch.float64), torch.tensor([10, 50, 90])
    of = {
        name: value.double() if value.is_floating_point() else value for name, value in text._asdict().items()
    }
    empty = {name: torch.zeros_like(value) for name, value in of.items()}
    noise = as_denoiser(double, schedule)
    guided = 2.5 * noise(x, t, **of) - 1.5 * noise(x, t, **empty)
    bar = schedule.alpha_bars[t][:, None]
    x0 = 2.5 * double(x, t, **of) - 1.5 * double(x, t, **empty)
    torch.testing.assert_close((x - (1 - bar).sqrt() * guided) / bar.sqrt(), x0)


@pytest.mark.parity
def test_the_prior_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    c = TINY
    theirs = diffusers.PriorTransformer(
        num_attention_heads=c.heads, attention_head_dim=c.width // c.heads, num_layers=c.layers,
        embedding_dim=c.embed, num_embeddings=c.context).eval()
    # its text states have the size of its embeddings
    config = replace(c, text=c.embed)
    stirred(theirs)
    left, ours = dict(theirs.state_dict()), DiffusionPrior(config).eval()
    new = {"mean": left.pop("clip_mean")[0], "std": left.pop("clip_std")[0],
           "query": left.pop("prd_embedding")[0, 0], "positions": left.pop("positional_embedding")[0]}
    names = {
        "states_in": "encoder_hidden_states_proj",
        "embedding_in": "embedding_proj",
        "noisy_in": "proj_in",
        "time1": "time_embedding.linear_1",
        "time2": "time_embedding.linear_2",
        "norm_after": "norm_out",
        "out": "proj_to_clip_embeddings",
    }
    for i in range(c.layers):
        a, b = f"layers.{i}", f"transformer_blocks.{i}"
        names |= {f"{a}.attention.out": f"{b}.attn1.to_out.0", f"{a}.attention_norm": f"{b}.norm1",
                  f"{a}.feed_forward_norm": f"{b}.norm3", f"{a}.feed_forward.inner": f"{b}.ff.net.0.proj",
                  f"{a}.feed_forward.outer": f"{b}.ff.net.2"}
        for kind in ("weight", "bias"):
            new[f"{a}.attention.in_{kind}"] = torch.cat([left.pop(f"{b}.attn1.to_{n}.{kind}") for n in "qkv"])
    for name, their in names.items():
        for kind in ("weight", "bias"):
            new[f"{name}.{kind}"] = left.pop(f"{their}.{kind}")
    assert not left
    ours.load_state_dict(new)
    text, z, t = a_text(config=config), torch.randn(3, c.embed), torch.tensor([0, 400, 999])
    with torch.no_grad():
        want = theirs(z, t, proj_embedding=text.embedding, encoder_hidden_states=text.states,
                      attention_mask=text.mask).predicted_image_embedding
        torch.testing.assert_close(ours(z, t, *text), want, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.unscaled(z), theirs.post_process_latents(z))


# ---------------------------------------------------------------------------- the autoregressive prior


def test_the_autoregressive_prior_reads_only_what_is_before_and_the_cache_changes_nothing():
    torch.manual_seed(0)
    model = stirred(ARPrior(TINY_AR)).eval()
    tokens, text = torch.randint(0, 19, (2, 5)), F.normalize(torch.randn(2, 6), dim=1)
    context = model.prefix(tokens, text, torch.tensor([0.5, -0.2]))
    codes = torch.tensor([[8, 1, 2], [8, 3, 4]])
    logits = model.decode(codes, context)
    assert logits.shape == (2, 3, 8)
    changed = codes.clone()
    changed[:, 2] = 7
    torch.testing.assert_close(model.decode(changed, context)[:, :2], logits[:, :2])
    with torch.no_grad():
        drawn, log_probs = generate.sample(model, context, k=2, bos=8, eos=-1, max_len=3,
                                           generator=torch.Generator().manual_seed(0))
        again = generate.score(model, context, drawn, bos=8, eos=-1)
    torch.testing.assert_close(log_probs, again, atol=1e-5, rtol=1e-5)
    other = model.prefix(tokens, text, torch.tensor([0.9, 0.9]))
    assert not torch.allclose(model.decode(codes, other), logits, atol=1e-4)


def test_the_autoregressive_prior_learns_embeddings_and_gradients_reach_all_of_it():
    torch.manual_seed(0)
    z = F.normalize(torch.randn(40, 6), dim=1)
    model = ARPrior(TINY_AR)
    model.codec.fit(z)
    tokens, text = torch.randint(0, 19, (3, 5)), F.normalize(torch.randn(3, 6), dim=1)
    tokens[1, 2:] = 19
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(60):
        optimizer.zero_grad()
        loss = -model(z[:3], tokens, text).mean()
        loss.backward()
        if step == 1:
            unused = {
                name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()
            }
            assert not unused
        optimizer.step()
    assert float(loss) < 0.1 < math.log(8)
    drawn = draw_codes(model.eval(), tokens[:1], text[:1], float(z[0] @ text[0]), 2,
                       torch.Generator().manual_seed(0))
    want = F.normalize(model.codec.decode(model.codec.encode(z[:1])), dim=1)
    assert float(F.cosine_similarity(drawn, want)) > 0.99


# ----------------------------------------------------------------------- the decoder and the upsamplers


@pytest.mark.equation("eq:unclip-time")
@pytest.mark.equation("eq:unclip-tokens")
def test_an_embedding_becomes_a_vector_for_the_time_and_four_tokens():
    z, W, bias, text = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3), (3, 8), (8,), (2, 8)))
    for i in range(2):
        row = [sum(float(z[i, k]) * float(W[k, j]) for k in range(3)) + float(bias[j]) for j in range(8)]
        row = torch.tensor(row, dtype=torch.float64)
        torch.testing.assert_close(condition_time(z, W, bias, text)[i], row + text[i])
        torch.testing.assert_close(embedding_tokens(z, W, bias, 4)[i],
                                   torch.stack([row[0:2], row[2:4], row[4:6], row[6:8]]))


@pytest.mark.equation("eq:unclip-drop")
def test_a_tenth_of_the_embeddings_is_replaced_by_nothing():
    z, nothing = torch.randn(2000, 3), torch.tensor([7.0, 8.0, 9.0])
    got = drop_embedding(z, nothing, 0.1, torch.Generator().manual_seed(0))
    gone = (got == nothing).all(1)
    assert 0.08 < float(gone.float().mean()) < 0.12 and torch.equal(got[~gone], z[~gone])


@pytest.mark.equation("eq:unclip-blur")
def test_the_small_picture_is_blurred_by_a_normal_kernel_of_three_pixels():
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    k = [math.exp(-i * i / (2 * 0.36)) for i in (-1, 0, 1)]
    k = [v / sum(k) for v in k]

    def at(i, n):
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i

    got = blurred(x)
    for c in range(2):
        for i in range(5):
            for j in range(6):
                want = sum(k[a + 1] * k[b + 1] * float(x[0, c, at(i + a, 5), at(j + b, 6)])
                           for a in (-1, 0, 1) for b in (-1, 0, 1))
                assert float(got[0, c, i, j]) == pytest.approx(want, rel=1e-6, abs=1e-6)
    assert float(blurred(torch.ones(1, 1, 4, 4)).std()) < 1e-6


@pytest.mark.parametrize("kind", ["unclip", "karlo"])
def test_a_decoder_reads_embedding_and_text_and_learns_everywhere(kind):
    torch.manual_seed(0)
    x, t, z = torch.randn(2, 3, 16, 16), torch.tensor([3, 900]), torch.randn(2, 6)
    if kind == "unclip":
        model = stirred(UnCLIPDecoder(TINY_DECODER))
        conditions = model.conditions(z, torch.tensor([[1, 2, 3, 19, 19], [4, 19, 19, 19, 19]]))
    else:
        model = stirred(KarloDecoder(KarloConfig(TINY_UNET, 5, 6)))
        conditions = model.conditions(z, torch.randn(2, 4, 5), torch.randn(2, 6))
        nothing = model.empty(2, torch.zeros(1, 4, 5), torch.zeros(1, 6))
        assert {k: v.shape for k, v in nothing.items()} == {k: v.shape for k, v in conditions.items()}
    out = model(x, t, **conditions)
    assert out.shape == (2, 6, 16, 16)
    for name, value in conditions.items():
        other = value.flip(0)
        assert not torch.allclose(model(x, t, **{**conditions, name: other}), out, atol=1e-4), name
    out.square().mean().backward()
    missing = [name for name, p in model.named_parameters()
               if name != "nothing" and (p.grad is None or not p.grad.abs().sum())]
    assert not missing
    one = {name: value[:1] for name, value in conditions.items()}
    torch.testing.assert_close(model(x[:1], t[:1], **one)[0], out[0], atol=1e-5, rtol=1e-5)


def test_an_upsampler_works_on_crops_as_on_whole_pictures_and_knows_no_attention():
    model = stirred(UnCLIPUpsampler(TINY_UP)).eval()
    assert not any("attention" in type(m).__name__.lower() for m in model.modules())
    high, low = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 16, 16)
    small_high, small_low = crop_both(high, low, 4, torch.Generator().manual_seed(0))
    assert small_high.shape == (2, 3, 8, 8) and small_low.shape == (2, 3, 4, 4)
    places = [
        (y, x) for y in range(13) for x in range(13) if torch.equal(low[..., y : y + 4, x : x + 4], small_low)
    ]
    (y, x), = places
    assert torch.equal(high[..., 2 * y : 2 * y + 8, 2 * x : 2 * x + 8], small_high)
    t = torch.tensor([5, 6])
    assert model(small_high, t, small_low).shape == (2, 6, 8, 8)
    assert model(high, t, low).shape == (2, 6, 32, 32)
    with pytest.raises(ValueError, match="halves them 1 times; give sides that 2 divides"):
        model(torch.randn(1, 3, 9, 9), t[:1], torch.randn(1, 3, 3, 3))
    with pytest.raises(ValueError, match="have no 5th part"):
        crop_both(high, low, 5)


def test_a_cascade_draws_and_enlarges():
    torch.manual_seed(0)
    decoder, up = stirred(UnCLIPDecoder(TINY_DECODER)).eval(), stirred(UnCLIPUpsampler(TINY_UP)).eval()
    conditions = decoder.conditions(torch.randn(2, 6), torch.full((2, 5), 19))
    drawn = [draw_pictures(decoder, conditions, decoder.empty(2), (up,), scale, (3, 2),
                           torch.Generator().manual_seed(0)) for scale in (1.0, 1.0, 3.0)]
    assert drawn[0].shape == (2, 3, 32, 32) and drawn[0].abs().max() <= 1
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


# --------------------------------------------------------------------------------------------- errata


def test_booklet_b5_an_embedding_does_not_take_the_place_of_the_noise():
    """The booklet has the decoder take "a CLIP image embedding as its x_t instead of pure noise"."""
    config = UnCLIPConfig.paper()
    assert config.embed == 1024 != 3 * config.unet.size**2                    # it would not fit
    decoder = stirred(UnCLIPDecoder(TINY_DECODER)).eval()
    z, caption, t = torch.randn(1, 6), torch.full((1, 5), 19), torch.tensor([999])
    drawn = [draw_pictures(decoder, decoder.conditions(z, caption), decoder.empty(1), steps=(3,),
                           generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert not torch.allclose(*drawn, atol=1e-3)  # one embedding, another noise, another picture
    with pytest.raises(Exception, match="x|3 y x|shape"):
        decoder(z, t, z, caption)
