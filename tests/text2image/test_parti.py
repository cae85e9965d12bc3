"""Parti and its tokeniser: formulas by loops, sizes beside those of the digests, drawing with and without
cache."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred

from mmlearn import generate
from mmlearn.nn.modes import blank
from mmlearn.text2image.imagen import Imagen
from mmlearn.text2image.parti import (
    GuidedParti,
    Parti,
    PartiConfig,
    attended_share,
    best_picture,
    draw_codes,
    guided_logits,
    parti_loss,
    window_mask,
)
from mmlearn.text2image.vector_quantisation import Quantised
from mmlearn.text2image.vit_vqgan import (
    Half,
    HalfConfig,
    ViTVQGAN,
    ViTVQGANConfig,
    patches_of,
    picture_of,
    tokeniser_loss,
)

TINY = PartiConfig(16, 32, 4, 1, 2, 20, 5, 1, 12, 4, 3, 0.0)
TINY_TOKENS = ViTVQGANConfig(HalfConfig(16, 1, 4), HalfConfig(24, 1, 4), 8, 2, 12, 4)


def batch(b=3):
    g = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, 20, (b, 5), generator=g)
    tokens[1:2, 3:] = 1
    return tokens, torch.randint(0, 12, (b, 4, 4), generator=g)


# --------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("name, published, ours", [
    ("m350", 350e6, 387_069_952), ("m750", 750e6, 790_190_080), ("b3", 3e9, 3_090_321_408),
    ("b20", 20e9, 20_544_323_584),
])
def test_the_four_sizes_are_those_that_are_stated(name, published, ours):
    config = getattr(PartiConfig, name)()
    d = config.width
    layers = config.encoder_layers * 12 * d**2 + config.decoder_layers * 16 * d**2
    assert abs(layers / published - 1) < 0.06                       # what is stated are the layers
    with blank():
        model = Parti(config)
    assert count(model) == ours
    extras = (config.vocab + config.context + 2 * config.codes + config.places) * d
    assert abs(count(model) - layers - extras) < 0.01 * layers     # and biases and norms


def test_the_tokenisers_sizes_are_told_beside_the_stated_ones():
    stated = {"small": 32e6, "base": 91e6, "large": 599e6}
    for name, published in stated.items():
        config = getattr(ViTVQGANConfig, name)()
        with blank():
            half = Half(config.encoder, 192, None, 1024)
        assert 0.8 < count(half) / published < 1.06, (name, count(half))
    assert ViTVQGANConfig.parti().grid == 32
    with blank():
        assert count(ViTVQGAN(ViTVQGANConfig.parti())) == 665_328_608


# ------------------------------------------------------------------------------------------ tokeniser


@pytest.mark.equation("eq:parti-patches")
def test_patches_are_cut_row_by_row_and_put_together_again():
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    rows = patches_of(x, 2)
    assert rows.shape == (2, 9, 12)
    for i in range(3):
        for j in range(3):
            want = [x[1, c, 2 * i + a, 2 * j + b] for c in range(3) for a in range(2) for b in range(2)]
            assert torch.equal(rows[1, 3 * i + j], torch.stack(want))
    assert torch.equal(picture_of(rows, 2, 3), x)


@pytest.mark.equation("eq:parti-tokeniser")
def test_the_loss_of_the_tokeniser_is_the_sum_of_its_parts():
    x, x_hat = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    found = Quantised(x, torch.zeros(2, 1), torch.tensor(0.3), torch.tensor(0.8))
    square = sum(float(a - b) ** 2 for a, b in zip(x.flatten(), x_hat.flatten())) / 96
    got = tokeniser_loss(x, x_hat, found, torch.tensor(2.0), torch.tensor(5.0))
    assert float(got) == pytest.approx(square + 0.3 + 0.25 * 0.8 + 0.1 * 2 + 0.1 * 5, rel=1e-5)


def test_a_tokeniser_encodes_decodes_and_learns_a_handful_of_pictures():
    torch.manual_seed(0)
    model = ViTVQGAN(TINY_TOKENS)
    images = F.interpolate(torch.rand(4, 3, 2, 2).round() * 1.8 - 0.9, scale_factor=4.0)
    codes = model.encode(images)
    assert codes.shape == (4, 4, 4) and model.decode(codes).shape == images.shape
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(150):
        optimizer.zero_grad()
        drawn, found = model(images)
        loss = tokeniser_loss(images, drawn, found)
        loss.backward()
        if step == 0:
            assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    assert float((model.decode(model.encode(images)) - images).square().mean()) < 0.3 * float(images.var())
    with pytest.raises(ValueError, match="4 x 8 pixels, the tokeniser wants 8 x 8"):
        model.encode(images[:, :, :4])
    with pytest.raises(ValueError, match="patch of ViTVQGANConfig is 3, which does not divide size 8"):
        replace(TINY_TOKENS, patch=3)


# ------------------------------------------------------------------------------------------ transformer


@pytest.mark.equation("eq:parti-window")
def test_a_token_sees_the_start_and_the_window_that_is_drawn_already():
    mask = window_mask(5, 3)
    for i in range(26):
        for j in range(26):
            r, c, r2, c2 = (i - 1) // 5, (i - 1) % 5, (j - 1) // 5, (j - 1) % 5
            want = j == 0 or (i > 0 and j <= i and abs(r - r2) <= 1 and abs(c - c2) <= 1)
            assert bool(mask[i, j]) == want
    full = window_mask(32, 11)
    assert int(full[1:, 1:].sum(1).max()) == 61 and attended_share(PartiConfig.b20()) < 0.12


@pytest.mark.equation("eq:parti-guidance")
def test_guided_logits_raise_the_ratio_of_probabilities_to_a_power():
    given, none = torch.randn(2, 7, dtype=torch.float64)
    assert torch.equal(guided_logits(given, none, 0), none)
    torch.testing.assert_close(guided_logits(given, none, 1), given)
    p, q = given.softmax(0), none.softmax(0)
    want = [float(q[i]) * (float(p[i]) / float(q[i])) ** 1.2 for i in range(7)]
    torch.testing.assert_close(guided_logits(given, none, 1.2).softmax(0),
                               torch.tensor(want, dtype=torch.float64) / sum(want))


@pytest.mark.equation("eq:parti-rerank")
def test_the_picture_that_fits_best_is_chosen():
    u, v = torch.randn(3, 4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    for i, best in enumerate(best_picture(u, v)):
        products = [sum(float(a * b) for a, b in zip(row, v[i])) for row in u[i]]
        assert int(best) == products.index(max(products))


@pytest.mark.equation("eq:parti-loss")
def test_the_loss_is_the_mean_negative_log_probability_of_the_tokens():
    model = stirred(Parti(TINY)).eval()
    tokens, codes = batch()
    context = model.encode(tokens)
    before = torch.cat([torch.full((3, 1), 12), codes.flatten(1)[:, :-1]], dim=1)
    logits = model.decode(before, context)
    total = 0.0
    for i in range(3):
        for j in range(16):
            row = [math.exp(float(v)) for v in logits[i, j]]
            total -= math.log(row[int(codes.flatten(1)[i, j])] / sum(row)) / 48
    assert float(parti_loss(model, tokens, codes, 0)) == pytest.approx(total, rel=1e-5)
    dropped = model(tokens, codes, torch.tensor([True, True, False]))
    other = model(tokens.flip(0), codes, torch.tensor([True, True, False]))
    torch.testing.assert_close(dropped[:2], other[:2])              # a dropped caption says nothing
    assert not torch.allclose(dropped[2], other[2], atol=1e-4)


def test_nothing_is_seen_that_comes_later_nor_outside_the_window_of_all_layers():
    model = stirred(Parti(replace(TINY, decoder_layers=1))).eval()
    tokens, codes = batch(1)
    rows = torch.cat([torch.full((1, 1), 12), codes.flatten(1)[:, :-1]], dim=1)
    mask = window_mask(4, 3)
    whole = model.decode(rows, model.encode(tokens)).detach()
    for j in range(1, 16):
        changed = rows.clone()
        changed[0, j] = (changed[0, j] + 1) % 12
        moved = (model.decode(changed, model.encode(tokens)) - whole).abs().amax(2)[0] > 1e-5
        assert torch.equal(moved, mask[:16, j])


def test_padding_says_nothing_and_a_row_is_what_it_is_alone():
    model = stirred(Parti(TINY)).eval()
    tokens, codes = batch()
    whole = model(tokens, codes)
    for i, length in enumerate((5, 3, 5)):
        torch.testing.assert_close(model(tokens[i : i + 1, :length], codes[i : i + 1])[0], whole[i],
                                   atol=1e-5, rtol=1e-5)


def test_drawing_with_a_cache_and_guidance_has_the_probabilities_of_one_pass():
    model = stirred(Parti(TINY)).eval()
    tokens, _ = batch(2)
    guided = GuidedParti(model, 3.0).eval()
    context = guided.encode(tokens)
    with torch.no_grad():
        drawn, log_probs = generate.sample(guided, context, k=2, bos=12, eos=-1, max_len=16,
                                           generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(log_probs, generate.score(guided, context, drawn, bos=12, eos=-1),
                                   atol=1e-4, rtol=1e-4)
    codes = draw_codes(model, tokens, 2, 3.0, generator=torch.Generator().manual_seed(0))
    assert codes.shape == (2, 2, 4, 4) and torch.equal(codes.flatten(2), drawn)
    plain = GuidedParti(model, 1.0)
    rows = torch.tensor([[12, 3, 4], [12, 5, 6]])
    torch.testing.assert_close(
        plain.decode(rows, plain.encode(tokens)), model.decode(rows, model.encode(tokens))
    )


def test_pictures_are_learnt_by_heart_from_their_captions():
    torch.manual_seed(0)
    model = Parti(TINY)
    tokens, codes = batch()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    g = torch.Generator().manual_seed(0)
    for step in range(80):
        optimizer.zero_grad()
        loss = parti_loss(model, tokens, codes, 0.1, g)
        loss.backward()
        if step == 3:
            model.zero_grad()
            parti_loss(model, tokens, codes, 0.5, torch.Generator().manual_seed(2)).backward()
            unused = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
            assert not unused
        optimizer.step()
    context = model.eval().encode(tokens)
    greedy, _ = generate.greedy(model, context, bos=12, eos=-1, max_len=16)
    assert (greedy == codes.flatten(1)).float().mean() > 0.95


def test_impossible_inputs_are_refused_in_a_sentence():
    model = Parti(TINY)
    tokens, codes = batch()
    with pytest.raises(ValueError, match="captions have 10 tokens, the model reads 5"):
        model.encode(torch.cat([tokens, tokens], 1))
    with pytest.raises(ValueError, match="token ids go from 2 to 25"):
        model.encode(torch.tensor([[2, 25]]))
    with pytest.raises(ValueError, match="heads of PartiConfig is 3"):
        replace(TINY, heads=3)
    with pytest.raises(ValueError, match="token ids go from 0 to 12"):
        model(tokens, codes + (codes == 11).long())


# --------------------------------------------------------------------------------------------- errata


def test_booklet_b6_imagen_is_diffusion_and_parti_the_autoregressive_one():
    """The booklet has Google call "its new autoregressive model" Imagen, and Parti another one after it."""
    assert callable(getattr(Parti, "decode", None)) and not hasattr(Imagen, "decode")
    parti, tokens = stirred(Parti(TINY)).eval(), batch(1)[0]
    assert isinstance(parti, generate.Decoder)                       # token after token
    logits = parti.decode(torch.tensor([[12]]), parti.encode(tokens))
    assert logits.shape == (1, 1, 12)
