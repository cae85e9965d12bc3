"""GLIDE: a transformer that reads captions, a U-Net that takes noise away, holes, two sizes, and what draws
with them."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, redrawn
from torch import nn

from mmlearn.data.glide_tokeniser import GLIDETokeniser
from mmlearn.data.pairs import PairData
from mmlearn.data.things import attributes_of, thing_pairs
from mmlearn.metrics.text_match import attribute_accuracy
from mmlearn.nn.modes import blank, seeded
from mmlearn.text2image import painting, pipeline
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.diffusion_training import (
    denoising_errors,
    glide_loss,
    random_holes,
    reduced,
    sized,
    train_diffusion,
    train_reader,
)
from mmlearn.text2image.glide import (
    GLIDE,
    GLIDEConfig,
    GLIDETextConfig,
    drop_captions,
    enlarged,
    fitted,
    padded_states,
    quantised,
    summarised,
    with_hole,
    with_known,
)
from mmlearn.text2image.painting import (
    Painter,
    PainterConfig,
    load_painter,
    open_drawer,
    reduced_mask,
    save_painter,
)
from mmlearn.text2image.samplers import guided

TEXTS = ["a red cat", "a blue house at night", "two dogs", "a car"]
WORDS = GLIDETokeniser.train(TEXTS, 200, context=6)
TINY = fitted(ADMConfig(8, 8, (1, 2), 1, (4,), groups=4, head_channels=8),
                      GLIDETextConfig(len(WORDS), 6, 16, 2, 2))
TINY_UP = fitted(ADMConfig(16, 8, (1, 2), 1, (), groups=4, head_channels=8),
                         GLIDETextConfig(len(WORDS), 6, 16, 1, 2), 8, "linear")


def stirred(config, seed=0):
    """A model of which nothing is at rest: every parameter is drawn, the zeros of fresh layers too."""
    with seeded(seed):
        return redrawn(GLIDE(config), seed=None, scale=0.5).eval()


def case(b=2, size=8, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, 3, size, size, generator=g), torch.tensor([3, 700])[:b], WORDS.batch(TEXTS[:b])


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:glide-padding")
def test_where_the_text_has_ended_a_vector_of_the_position_stands():
    g = torch.Generator().manual_seed(0)
    words, positions, padding = (torch.randn(*s, dtype=torch.float64, generator=g)
                                 for s in ((2, 3, 4), (3, 4), (3, 4)))
    mask = torch.tensor([[True, True, False], [False, False, False]])
    want = torch.empty(2, 3, 4, dtype=torch.float64)
    for i in range(2):
        for j in range(3):
            want[i, j] = words[i, j] + positions[j] if mask[i, j] else padding[j]
    torch.testing.assert_close(padded_states(words, positions, padding, mask), want)


@pytest.mark.equation("eq:glide-summary")
def test_the_summary_is_a_projection_of_the_last_position():
    states, W, bias = torch.randn(2, 3, 4).double(), torch.randn(4, 5).double(), torch.randn(5).double()
    want = torch.stack([sum(states[i, 2, k] * W[k] for k in range(4)) + bias for i in range(2)])
    torch.testing.assert_close(summarised(states, W, bias), want)


@pytest.mark.equation("eq:glide-enlarged")
def test_p10_the_low_resolution_is_enlarged_bilinearly_not_bicubically():
    low = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    n, N = 3, 6

    def line(values, i):
        s = (i + 0.5) * n / N - 0.5
        below, f = math.floor(s), s - math.floor(s)
        a, b = (values[min(max(j, 0), n - 1)] for j in (below, below + 1))
        return (1 - f) * a + f * b

    want = torch.stack([torch.stack([line([line(low[0, 0, r], x) for r in range(n)], y) for x in range(N)])
                        for y in range(N)])[None, None]
    torch.testing.assert_close(enlarged(low, N), want)
    assert not torch.allclose(F.interpolate(low, (N, N), mode="bicubic"), want)


@pytest.mark.equation("eq:glide-hole")
@pytest.mark.equation("eq:glide-known")
def test_the_hole_is_zeros_beside_its_mask_and_known_pixels_come_back():
    g = torch.Generator().manual_seed(0)
    known, drawn = torch.randn(2, 3, 2, 2, generator=g).double(), torch.randn(2, 3, 2, 2,
                                                                              generator=g).double()
    kept = torch.tensor([[[[1., 0.], [0., 1.]]]]).expand(2, 1, 2, 2).double()
    seen, mixed = with_hole(known, kept), with_known(drawn, known, kept)
    assert seen.shape == (2, 4, 2, 2)
    for i in range(2):
        for y in range(2):
            for x in range(2):
                is_known = bool(kept[i, 0, y, x])
                assert seen[i, 3, y, x] == float(is_known)
                for c in range(3):
                    assert seen[i, c, y, x] == (known[i, c, y, x] if is_known else 0.0)
                    assert mixed[i, c, y, x] == (known if is_known else drawn)[i, c, y, x]


@pytest.mark.equation("eq:glide-quantised")
def test_quantised_pixels_are_those_of_bytes():
    x = torch.rand(97, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    want = torch.tensor([math.floor((v + 1) * 127.5 + 0.5) / 127.5 - 1 for v in x.tolist()]).double()
    torch.testing.assert_close(quantised(x), want)
    assert len(quantised(torch.linspace(-1, 1, 5000)).unique()) == 256


def test_a_model_that_says_the_velocity_gives_the_noise_that_follows_from_it():
    config = GLIDEConfig.mini(20, 8, 4)
    model, plain = stirred(config).eval(), stirred(replace(config, predicts="noise")).eval()
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([0, 500, 999])
    tokens = torch.randint(20, (3, 4))
    with torch.no_grad():
        noise, v = model(x, t, tokens), plain(x, t, tokens)
    for n, bar in enumerate(config.noise.alpha_bars[t].tolist()):
        want = (1 - bar) ** 0.5 * x[n] + bar ** 0.5 * v[n, :3]
        torch.testing.assert_close(noise[n, :3], want)
    torch.testing.assert_close(noise[:, 3:], v[:, 3:])          # what the variance is made of


def test_such_a_model_is_trained_by_the_error_of_the_velocity():
    config = GLIDEConfig.mini(20, 8, 4)
    config = replace(config, unet=replace(config.unet, out_channels=3))
    model, x0, tokens = stirred(config).eval(), torch.rand(4, 3, 8, 8) * 2 - 1, torch.randint(20, (4, 4))
    loss = glide_loss(model, x0, tokens, config.noise, 0, torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(0)
    torch.rand(4, generator=draws)                              # which captions are dropped: none
    i, noise = torch.randint(1000, (4,), generator=draws), torch.randn(4, 3, 8, 8, generator=draws)
    bar = config.noise.alpha_bars[i].float().reshape(-1, 1, 1, 1)
    x = bar.sqrt() * x0 + (1 - bar).sqrt() * noise
    plain = GLIDE(replace(config, predicts="noise")).eval()
    plain.load_state_dict(model.state_dict())
    v = bar.sqrt() * noise - (1 - bar).sqrt() * x0
    torch.testing.assert_close(loss, (v - plain(x, i, tokens)).square().mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.equation("eq:glide-drop")
def test_a_dropped_caption_is_the_empty_text_not_zeros():
    tokens = WORDS.batch(["a red cat"] * 4000)
    dropped = drop_captions(tokens, WORDS.pad, 0.2, torch.Generator().manual_seed(0))
    empty = (dropped == WORDS.batch([""])).all(dim=1)
    assert 0.17 < empty.float().mean() < 0.23
    assert torch.equal(dropped[~empty], tokens[~empty])
    assert torch.equal(drop_captions(tokens, WORDS.pad, 0), tokens)


# ------------------------------------------------------------------------------------------------------ sizes

@pytest.mark.parametrize("name, parameters", [
    ("full", 3_554_414_086), ("full_upsampler", 1_540_932_998), ("filtered", 385_030_726),
    ("filtered_inpaint", 385_037_638), ("filtered_upsampler", 398_361_286),
    ("filtered_upsampler_inpaint", 398_368_198)])
def test_published_sizes_have_their_parameters(name, parameters):
    with blank():
        model = GLIDE(getattr(GLIDEConfig, name)())
    assert count(model) == parameters
    if name == "full":                      # the paper: 2.3 billion see, 1.2 billion read
        transformer = count(model.text.layers)
        assert round(transformer / 1e9, 1) == 1.2
        assert 2.2e9 < count(model.unet) < 2.3e9


def test_the_miniatures_fit_into_five_megabytes_of_16_bits():
    with blank():
        counts = [count(GLIDE(config.with_hole()))
                  for config in (GLIDEConfig.mini(800), GLIDEConfig.mini_upsampler(800))]
    assert counts[0] > 2e6 and 2 * sum(counts) < 4.9e6
    assert GLIDEConfig.mini().size == GLIDEConfig.mini_upsampler().low == 32


@pytest.mark.parametrize("change, message", [
    ({"low": 4}, "has 3 channels at its input, which gets 6"), ({"inpaint": True}, "which gets 7"),
    ({"schedule": "flat"}, "schedule of GLIDEConfig is 'flat'; use one of cosine, linear"),
    ({"predicts": "x0"}, "predicts of GLIDEConfig is 'x0'; use one of noise, velocity"),
    ({"text": GLIDETextConfig(300, 6, 32, 1, 2)}, "reads tokens of size 16, those of the text have 32")])
def test_parts_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_an_upsampler_of_another_size_is_refused():
    with pytest.raises(ValueError, match="low of GLIDEConfig is 5, which does not divide the 16 pixels"):
        replace(TINY_UP, low=5)
    with pytest.raises(ValueError, match="enlarges pictures of 8 pixels; give a model that starts from "
                                         "noise"):
        PainterConfig(TINY_UP)
    with pytest.raises(ValueError, match="enlarges pictures of 4 pixels, the base model draws 8"):
        PainterConfig(TINY, replace(TINY_UP, low=4))


# ------------------------------------------------------------------------------------------------------ model

def test_noise_and_a_map_for_the_variance_come_out_and_nothing_at_first():
    x, t, tokens = case()
    with seeded(0):
        model = GLIDE(TINY)
    out = model(x, t, tokens)
    assert out.shape == (2, 6, 8, 8) and not out.any()     # the last convolution starts at 0
    assert stirred(TINY)(x, t, tokens).std() > 0.1


def test_a_batch_of_one_is_a_row_of_a_batch():
    x, t, tokens = case()
    model = stirred(TINY)
    torch.testing.assert_close(model(x, t, tokens)[:1], model(x[:1], t[:1], tokens[:1]), atol=1e-5, rtol=1e-4)


def test_shorter_captions_are_padded_and_the_mask_follows_from_the_padding():
    x, t, tokens = case()
    model = stirred(TINY)
    want = model(x, t, tokens, WORDS.mask(tokens))
    torch.testing.assert_close(model(x, t, tokens), want)
    short = tokens[:, :5]
    assert (tokens[:, 5:] == WORDS.pad).all()
    torch.testing.assert_close(model(x, t, short), want)
    torch.testing.assert_close(model(x, t, short, WORDS.mask(short)), want)
    with pytest.raises(ValueError, match="captions have 7 tokens, the model reads 6"):
        model(x, t, F.pad(tokens, (0, 1), value=WORDS.pad))
    with pytest.raises(ValueError, match="token ids go from"):
        model(x, t, tokens + 400)


def test_attention_runs_both_ways_and_the_last_position_is_read_even_if_it_is_padding():
    model, tokens = stirred(TINY), WORDS.batch(["a red cat"])
    other = tokens.clone()
    other[0, 2] = tokens[0, 1]
    first, second = model.read(tokens), model.read(other)
    # a later word changes an earlier state
    assert not torch.allclose(first.states[0, 0], second.states[0, 0])
    want = model.text.summary(first.states[:, -1])
    torch.testing.assert_close(first.summary, want)
    torch.testing.assert_close(model.read(WORDS.batch([""])).summary, model.empty().summary)
    assert model.empty(3).states.shape == (3, 6, 16)


def test_booklet_b2_the_text_enters_by_its_summary_and_by_every_token():
    x, t, tokens = case()
    model = stirred(TINY)
    summary, states = model.read(tokens)
    both = model.predict(x, t, summary, states)
    assert not torch.allclose(model.predict(x, t, torch.zeros_like(summary), states), both)
    changed = states.clone()
    changed[:, 1] = 0                                           # one token that is not the last
    assert not torch.allclose(model.predict(x, t, summary, changed), both)
    for name, parameter in model.named_parameters():
        if ".context." in name:
            nn.init.zeros_(parameter)                           # keys and values of the text: all alike
    assert not torch.allclose(model.predict(x, t, summary, states), both)


def test_booklet_b1_the_text_encoder_is_trained_with_the_u_net():
    x, _, tokens = case()
    model = stirred(TINY).train()
    glide_loss(model, x.tanh(), tokens, TINY.noise, 0.5, torch.Generator().manual_seed(0)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # the bias of keys shifts all scores of a query alike, so that only rounding reaches it
    assert without == [] and all(p.requires_grad for p in model.text.parameters())


def test_e29_guidance_steers_the_sampling_and_no_loss():
    import inspect

    assert not {"scale", "guidance"} & set(inspect.signature(glide_loss).parameters)
    x, t, tokens = case()
    model = stirred(TINY)
    conditions, empty = model.read(tokens)._asdict(), model.empty(2)._asdict()
    conditional, unconditional = model.predict(x, t, **conditions), model.predict(x, t, **empty)
    for scale in (0.0, 1.0, 3.0):
        got = guided(model.predict, conditions, empty, scale)(x, t)
        want = unconditional[:, :3] + scale * (conditional[:, :3] - unconditional[:, :3])
        torch.testing.assert_close(got[:, :3], want, atol=1e-4, rtol=1e-4)
        # variance: not guided
        torch.testing.assert_close(got[:, 3:], conditional[:, 3:], atol=1e-5, rtol=1e-4)
    assert torch.equal(guided(model.predict, conditions, empty, 1.0)(x, t), conditional)
    torch.testing.assert_close(unconditional, model(x, t, WORDS.batch(["", ""])), atol=1e-5, rtol=1e-4)


def test_e32_an_upsampler_reads_text_and_a_small_picture():
    x, t, tokens = case(size=16)
    model, low = stirred(TINY_UP), torch.randn(2, 3, 8, 8).tanh()
    out = model(x, t, tokens, low=low)
    assert out.shape == (2, 6, 16, 16)
    assert not torch.allclose(model(x, t, tokens, low=low.flip(0)), out)
    assert not torch.allclose(model(x, t, tokens.flip(0), low=low), out)
    want = torch.cat([x, F.interpolate(low, (16, 16), mode="bilinear", align_corners=False)], dim=1)
    assert torch.equal(model.inputs(x, low=low), want)


@pytest.mark.parametrize("config, low", [(TINY, None), (TINY_UP, 8)])
def test_widened_for_inpainting_it_draws_at_first_what_it_drew(config, low):
    x, t, tokens = case(size=config.size)
    low = None if low is None else torch.randn(2, 3, low, low).tanh()
    model = stirred(config)
    wide = model.widened_for_inpainting()
    extra = wide.unet.conv_in.weight[:, 3:7]
    assert wide.config.inpaint and not extra.any()
    assert wide.config.channels == config.channels + 4 and not model.config.inpaint
    known, kept = torch.randn(2, 3, *x.shape[2:]).tanh(), (torch.rand(2, 1, *x.shape[2:]) < 0.5).float()
    want = model(x, t, tokens, low=low)
    torch.testing.assert_close(wide(x, t, tokens, known=known, kept=kept, low=low), want, atol=1e-6,
                               rtol=1e-5)
    torch.testing.assert_close(wide(x, t, tokens, low=low), want, atol=1e-6, rtol=1e-5)
    nn.init.normal_(extra.data)
    wide.unet.conv_in.weight.data[:, 3:7] = 1.0                 # … and after training something else
    assert not torch.allclose(wide(x, t, tokens, known=known, kept=kept, low=low), want)
    order = wide.inputs(x, known, kept, low)
    parts = [x, known * kept, kept, *([] if low is None else [enlarged(low, config.size)])]
    assert torch.equal(order, torch.cat(parts, dim=1))
    assert count(wide.widened_for_inpainting()) == count(wide)


@pytest.mark.parametrize("config, given, message", [
    (TINY, {"low": torch.zeros(2, 3, 4, 4)}, "one of 4 pixels is to be enlarged, the model wants none"),
    (TINY_UP, {}, "no picture is to be enlarged, the model wants one of 8"),
    (TINY, {"known": torch.zeros(2, 3, 8, 8), "kept": torch.ones(2, 1, 8, 8)}, "make one with widened"),
    (TINY.with_hole(), {"known": torch.zeros(2, 3, 8, 8)}, "is known and kept together")])
def test_conditions_that_the_model_has_no_use_for_are_refused(config, given, message):
    x, t, tokens = case(size=config.size)
    with pytest.raises(ValueError, match=message):
        stirred(config)(x, t, tokens, **given)


# --------------------------------------------------------------------------------------------------- training

def coloured(pictures=8, size=16):
    """Pictures of one colour, with captions that name it."""
    colours = {"red": (200, 30, 30), "blue": (30, 30, 200)}
    names = [list(colours)[i % 2] for i in range(pictures)]
    images = torch.stack([torch.tensor(colours[name], dtype=torch.uint8)[:, None, None].expand(3, size, size)
                          for name in names])
    return PairData(images, tuple((f"a {name} cat", f"a {name} house") for name in names))


def test_holes_are_rectangles_and_sometimes_everything():
    kept = random_holes(400, 16, generator=torch.Generator().manual_seed(0))
    assert kept.shape == (400, 1, 16, 16) and set(kept.unique().tolist()) == {0.0, 1.0}
    whole = (kept == 0).flatten(1).all(1)
    assert 0.2 < whole.float().mean() < 0.33
    for mask in kept[~whole][:50, 0]:
        rows, columns = (mask == 0).any(1), (mask == 0).any(0)
        assert (mask == 0).sum() == rows.sum() * columns.sum() and min(rows.sum(), columns.sum()) >= 4


def test_pictures_are_reduced_by_means():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    want = torch.stack([torch.stack([images[..., 2 * y:2 * y + 2,
                                            2 * x:2 * x + 2].float().mean((2, 3)) / 127.5 - 1
                                     for x in range(2)], dim=-1) for y in range(2)], dim=-2)
    torch.testing.assert_close(sized(2)(images), want)
    with pytest.raises(ValueError, match="4 pixels a side cannot be reduced to 3"):
        reduced(images.float(), 3)


@pytest.mark.slow
def test_a_handful_of_pictures_is_learned_and_saved_with_its_upsampler(tmp_path):
    data = coloured()
    with seeded(0):
        model = GLIDE(replace(TINY, unet=replace(TINY.unet, width=16)))
    before = denoising_errors(model, data, WORDS)["error"]
    history = train_diffusion(model, data, WORDS, steps=120, batch=8, lr=3e-3, ema=0.95, drop=0.1,
                              progress=False)
    after = denoising_errors(history.ema, data, WORDS)
    assert before > 0.9 and after["error"] < 0.15 and set(after) > {"error", "error at 0.5"}
    wide = history.ema.widened_for_inpainting().train()
    train_diffusion(wide, data, WORDS, steps=3, batch=4, lr=1e-3, ema=None, progress=False)
    with seeded(1):
        up = GLIDE(TINY_UP)
    found = train_diffusion(up, data, WORDS, steps=3, batch=4, ema=0.9, progress=False)
    assert denoising_errors(found.ema, data, WORDS)["error"] < 1.2
    save_painter(tmp_path / "glide.safetensors", Painter.of(WORDS, wide, found.ema), {"settings": {}})
    again = load_painter(tmp_path / "glide.safetensors")
    assert again.config.size == 16 and again.draw(["a red cat"], steps=2, upsampling=2).shape == (1, 3, 16,
                                                                                                  16)


def test_a_reader_learns_to_say_what_captions_name_and_is_held_still_then():
    with seeded(0):
        model = GLIDE(TINY)
    tokens = WORDS.batch(TEXTS, TINY.text.context)
    named = {"thing": torch.tensor([0, 1, 2, 3]), "colour": torch.tensor([1, 0, -1, -1])}
    history = train_reader(model, tokens, named, steps=60, batch=16, lr=1e-2, progress=False)
    assert history.loss[0] > math.log(4) and history.loss[-1] < 0.1
    learnt = {name: weight.clone() for name, weight in model.text.state_dict().items()}
    train_diffusion(model, coloured(), WORDS, steps=3, batch=4, lr=1e-2, progress=False)
    changed = {name for name, weight in model.text.state_dict().items() if not weight.equal(learnt[name])}
    assert changed == {"summary.weight", "summary.bias"}
    assert not model.unet.conv_in.weight.equal(GLIDE(TINY).unet.conv_in.weight)


# ---------------------------------------------------------------------------------------------------- drawing

@pytest.fixture(scope="module")
def painter():
    return Painter.of(WORDS, stirred(TINY), stirred(TINY_UP, 1))


QUICK = {"steps": 3, "upsampling": 2}


def test_the_same_seed_draws_the_same_pictures_and_another_others(painter):
    drawn = painter.draw(TEXTS[:2], 2, seed=5, **QUICK)
    assert drawn.shape == (4, 3, 16, 16) and drawn.abs().max() <= 1
    assert torch.equal(painter.draw(TEXTS[:2], 2, seed=5, **QUICK), drawn)
    assert not torch.equal(painter.draw(TEXTS[:2], 2, seed=6, **QUICK), drawn)
    assert not torch.equal(painter.draw(TEXTS[:2], 2, seed=5, guidance=1.0, **QUICK), drawn)
    assert painter.draw(TEXTS, seed=5, batch=3, **QUICK).shape == (4, 3, 16, 16)


def test_captions_are_read_once_however_many_steps_follow(painter, monkeypatch):
    calls = []
    forward = type(painter.base.text).forward
    monkeypatch.setattr(type(painter.base.text), "forward",
                        lambda self, *a: (calls.append(self), forward(self, *a))[1])
    painter.draw(["a red cat"], steps=9, upsampling=4)
    # the caption, the empty text
    assert calls.count(painter.base.text) == calls.count(painter.upsampler.text) == 2


def test_each_stage_is_sampled_as_it_was_published(painter, monkeypatch):
    asked = []

    def record(denoise, schedule, shape, method, **options):
        asked.append((schedule, tuple(shape), method, options))
        return options["start"].tanh()

    monkeypatch.setattr(painting, "sample", record)
    painter.draw(["a red cat"], seed=2)
    (schedule, shape, method, options), (schedule_up, shape_up, method_up, options_up) = asked
    noise = torch.randn(1, 3, 8, 8, generator=(draws := torch.Generator().manual_seed(2)))
    assert len(schedule) == 100 and method == "ddpm" and shape == (1, 3, 8, 8)
    torch.testing.assert_close(schedule.alpha_bars, NoiseSchedule.cosine().respaced("100").alpha_bars)
    assert torch.equal(options["start"], noise)
    assert len(schedule_up) == 27 and method_up == "ddim" and shape_up == (1, 3, 16, 16)
    assert schedule_up.timesteps[-1] == 997
    torch.testing.assert_close(options_up["start"], torch.randn(1, 3, 16, 16, generator=draws) * 0.997)


def test_the_upsampler_is_given_the_colours_of_bytes(painter, monkeypatch):
    lows = []
    inputs = GLIDE.inputs
    monkeypatch.setattr(GLIDE, "inputs", lambda self, x, known=None, kept=None, low=None: (
        lows.append(low), inputs(self, x, known, kept, low))[1])
    painter.draw(["a red cat"], **QUICK)
    low = next(low for low in lows if low is not None)
    torch.testing.assert_close(low, quantised(low))


@pytest.mark.parametrize("inpaint", [True, False])
def test_known_pixels_are_kept_exactly_and_the_hole_is_drawn(painter, inpaint):
    if inpaint:
        painter = Painter.of(WORDS, painter.base.widened_for_inpainting(),
                             painter.upsampler.widened_for_inpainting())
    picture = torch.randint(0, 256, (3, 16, 16)).float() / 127.5 - 1
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[3:9, 5:12] = True
    edited = painter.edit(picture, hole, "a red cat", 2, seed=1, **QUICK)
    assert edited.shape == (2, 3, 16, 16)
    for one in edited:
        assert torch.equal(one[:, ~hole], picture[:, ~hole])
        assert not torch.equal(one[:, hole], picture[:, hole])
    assert not torch.equal(edited[0], edited[1])
    assert torch.equal(painter.edit(picture, hole, "a red cat", 2, seed=1, **QUICK), edited)
    hidden = picture.masked_fill(hole, 0.3)                       # what was in the hole plays no part
    torch.testing.assert_close(painter.edit(hidden, hole, "a red cat", 2, seed=1, **QUICK), edited)
    with pytest.raises(ValueError, match="the hole is 8 x 16 pixels, the model edits 16 x 16"):
        painter.edit(picture, hole[:, :8], "a red cat")
    with pytest.raises(ValueError, match="no white pixel"):
        painter.edit(picture, torch.zeros_like(hole), "a red cat")


def test_no_pixel_of_the_small_mask_is_known_that_covers_a_part_of_the_hole():
    kept = torch.ones(1, 1, 4, 4)
    kept[0, 0, 1, 3] = 0
    assert reduced_mask(kept, 2).tolist() == [[[[1.0, 0.0], [1.0, 1.0]]]]


def test_what_was_saved_draws_the_same(painter, tmp_path, monkeypatch):
    save_painter(tmp_path / "run", painter, {"settings": {"data": "scenes"}})
    again = open_drawer(tmp_path / "run")
    assert isinstance(again, Painter) and again.system == "glide" and again.config == painter.config
    assert again.tokeniser.merges == WORDS.merges
    half = Painter.of(WORDS, stirred(TINY), stirred(TINY_UP, 1))
    for parameter in half.parameters():
        parameter.data = parameter.data.half().float()          # 16 bits are stored
    want = half.draw(["a red cat"], seed=3, **QUICK)
    torch.testing.assert_close(again.draw(["a red cat"], seed=3, **QUICK), want)
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="the miniature glide did not come with this copy"):
        open_drawer("glide")
    save_painter(tmp_path / "glide.safetensors", painter, {})
    assert isinstance(open_drawer("glide"), Painter)
    description = tmp_path / "glide.json"
    description.write_text(description.read_text().replace('"system": "glide"', '"system": "m2"'))
    with pytest.raises(ValueError, match="describes a model of 'm2', which draws no sentences"):
        open_drawer(tmp_path / "glide.safetensors")


def test_texts_without_words_and_models_without_a_tokeniser_are_refused(painter):
    with pytest.raises(ValueError, match="' ' has no word"):
        painter.draw([" "])
    with pytest.raises(ValueError, match="has no tokeniser; load it with load_painter"):
        Painter(PainterConfig(TINY)).draw(["a cat"])


# ----------------------------------------------------------------------------------------------------- parity

def diffusers_of(config):
    """diffusers' U-Net of a configuration."""
    from diffusers import UNet2DConditionModel

    unet = config.unet
    sides = [unet.size >> level for level in range(len(unet.widths))]
    attends = [side in unet.attention for side in sides]
    return UNet2DConditionModel(
        sample_size=unet.size, in_channels=unet.in_channels, out_channels=unet.out_channels,
        block_out_channels=unet.widths, layers_per_block=unet.blocks,
        down_block_types=["SimpleCrossAttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends],
        up_block_types=["SimpleCrossAttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a
                        in reversed(attends)],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", norm_num_groups=unet.groups, norm_eps=1e-5,
        cross_attention_dim=unet.context, attention_head_dim=unet.head_channels,
        resnet_time_scale_shift="scale_shift", class_embed_type="identity", flip_sin_to_cos=True,
        freq_shift=0).eval()


def names_in_diffusers(config):
    """Where each of our layers is in diffusers' U-Net: ours -> theirs."""
    unet, names = config.unet, {}
    levels = len(unet.widths)
    place = 0
    for level in range(levels):
        for i in range(unet.blocks):
            names[f"down.{place}.0"] = f"down_blocks.{level}.resnets.{i}"
            names[f"down.{place}.1"] = f"down_blocks.{level}.attentions.{i}"
            place += 1
        if level < levels - 1:
            names[f"down.{place}.0"] = f"down_blocks.{level}.downsamplers.0"
            place += 1
    names |= {"middle.0": "mid_block.resnets.0", "middle.1": "mid_block.attentions.0",
              "middle.2": "mid_block.resnets.1"}
    for level in range(levels):
        attends = unet.size >> (levels - 1 - level) in unet.attention
        for i in range(unet.blocks + 1):
            place = level * (unet.blocks + 1) + i
            names[f"up.{place}.0"] = f"up_blocks.{level}.resnets.{i}"
            if attends:
                names[f"up.{place}.1"] = f"up_blocks.{level}.attentions.{i}"
            if i == unet.blocks:
                names[f"up.{place}.{1 + attends}"] = f"up_blocks.{level}.upsamplers.0"
    return names


def as_diffusers(state, config):
    """The weights of our U-Net under diffusers' names."""
    names, out = names_in_diffusers(config), {}
    parts = {"norm1": "norm1", "conv1": "conv1", "condition": "time_emb_proj", "norm2": "norm2",
             "conv2": "conv2", "shortcut": "conv_shortcut", "norm": "group_norm", "out": "to_out.0"}
    outer = {"time.linear1": "time_embedding.linear_1", "time.linear2": "time_embedding.linear_2",
             "conv_in": "conv_in", "norm": "conv_norm_out", "conv_out": "conv_out"}
    for name, value in state.items():
        layer, _, rest = name.rpartition(".")
        where = next((ours for ours in names if name.startswith(ours + ".")), None)
        if where is None:
            out[f"{outer[layer]}.{rest}"] = value
            continue
        part = name.removeprefix(where + ".")
        if part in ("in_weight", "in_bias"):
            for one, rows in zip(("to_q", "to_k", "to_v"), value.chunk(3)):
                out[f"{names[where]}.{one}.{part.removeprefix('in_')}"] = rows
        elif part.startswith("context."):
            for one, rows in zip(("add_k_proj", "add_v_proj"), value.chunk(2)):
                out[f"{names[where]}.{one}.{rest}"] = rows
        else:
            out[f"{names[where]}.{parts[part.rpartition('.')[0]]}.{rest}"] = value
    return out


@pytest.mark.parity
@pytest.mark.parametrize("config", [
    replace(TINY, unet=replace(TINY.unet, blocks=2)), TINY.with_hole(), TINY_UP,
    fitted(ADMConfig(16, 8, (1, 2, 3), 1, (8, 4), groups=4, head_channels=8), TINY.text)],
    ids=["base", "hole", "upsampler", "three levels"])
def test_the_u_net_predicts_what_that_of_diffusers_does(config):
    ours, theirs = stirred(config), diffusers_of(config)
    state = as_diffusers(ours.unet.state_dict(), config)
    theirs.load_state_dict(state)                               # strict: every name on both sides
    x, t, tokens = case(size=config.size)
    low = torch.randn(2, 3, config.low, config.low).tanh() if config.low else None
    hole = ({"known": torch.randn_like(x).tanh(), "kept": (torch.rand(2, 1, 8, 8) < 0.5).float()}
            if config.inpaint else {})
    reading = ours.read(tokens)
    with torch.no_grad():
        got = ours(x, t, tokens, low=low, **hole)
        want = theirs(ours.inputs(x, low=low, **hole), t, encoder_hidden_states=reading.states,
                      class_labels=reading.summary).sample
    assert want.std() > 0.1
    torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4)


@pytest.mark.parity
def test_a_step_of_the_base_model_is_that_of_diffusers_scheduler():
    from diffusers import DDPMScheduler

    from mmlearn.text2image.samplers import sample_steps

    model, tokens = stirred(TINY), WORDS.batch(["a red cat"])
    conditions, empty = model.read(tokens)._asdict(), model.empty()._asdict()
    with torch.no_grad():
        denoise = guided(model.predict, conditions, empty, 3.0)
        steps = list(sample_steps(denoise, TINY.noise.respaced([400, 401]), (1, 3, 8, 8), "ddpm",
                                  generator=torch.Generator().manual_seed(0)))
        scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range",
                                  clip_sample=True)
        # a chain of two neighbours, as one step of the whole one from 401 to 400
        whole = TINY.noise
        x = steps[0].x
        output = denoise(x, torch.tensor([401]))
        g = torch.Generator().manual_seed(0)
        torch.randn(1, 3, 8, 8, generator=g)
        want = scheduler.step(output, 401, x, generator=g).prev_sample
    assert whole.timesteps[401] == 401
    torch.testing.assert_close(steps[1].x, want, atol=2e-5, rtol=1e-4)


def test_the_miniature_of_the_book_draws_what_a_sentence_asks_for():
    data, judge = thing_pairs(24, "test"), pipeline.load_judge()
    texts = [captions[0] for captions in data.captions]
    drawn = load_painter("glide").draw(texts, steps=15, method="ddim")
    right = attribute_accuracy(judge.answers(drawn), attributes_of(data.scenes))
    assert drawn.shape == (24, 3, 64, 64) and right["setting"] > 0.9 and right["colour"] > 0.7
    assert right["category"] > 0.5              # 1 of 30 by chance
