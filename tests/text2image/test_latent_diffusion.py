"""Latent diffusion: sizes as published, formulas by loops, the U-Net and the text of diffusers, the latents'
scale."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred

from mmlearn.nn.attention import record_attention
from mmlearn.nn.modes import blank
from mmlearn.text2image.autoencoder import AutoencoderConfig
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from mmlearn.text2image.latent_diffusion import (
    CLIPStates,
    LatentDiffusion,
    LatentDiffusionConfig,
    LatentUNet,
    LatentUNetConfig,
    LDMText,
    LDMTextConfig,
    SpatialTransformer,
    draw_pictures,
    geglu,
    latent_loss,
    signal_to_noise,
)
from mmlearn.text2image.samplers import sample
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig

TINY = LatentUNetConfig(8, 16, (1.0, 2.0), 1, (8,), groups=8, heads=4, context=12)
TINY_TEXT = LDMTextConfig(20, 6, 12, 2, 3, 2, 24)
TINY_STAGE = KLAutoencoderConfig(AutoencoderConfig(8, (1, 2), 1, (), 4, True, groups=4), 4, 0.5)
WHOLE = LatentDiffusionConfig(TINY, TINY_STAGE, TINY_TEXT)


def inputs(b=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(b, 4, 8, 8, generator=g), torch.tensor([3, 900])[:b],
            torch.randn(b, 5, 12, generator=g))


# --------------------------------------------------------------------------------------------- sizes


def test_sizes_are_those_published():
    with blank():
        stable = LatentDiffusion(LatentDiffusionConfig.stable_diffusion())
        paper = LatentDiffusion(LatentDiffusionConfig.text_to_image())
    assert count(stable.unet) == 859_520_964 and count(stable.text) == 123_060_480
    assert count(stable.first_stage) == 83_653_863
    assert count(paper.unet) == 872_300_484
    assert count(paper.unet) + count(paper.text) == 1_415_195_844        # stated: 1.45B
    trained = sum(p.numel() for p in stable.parameters() if p.requires_grad)
    assert trained == 859_520_964                                        # text and first stage are frozen
    trained = sum(p.numel() for p in paper.parameters() if p.requires_grad)
    assert trained == 1_415_195_844


# ------------------------------------------------------------------------------------------ equations


@pytest.mark.equation("eq:ldm-geglu")
def test_one_half_of_the_inner_states_gates_the_other():
    x, W, V, b, c = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3), (3, 4), (3, 4), (4,), (4,)))
    for row, got in zip(x, geglu(x, W, V, b, c)):
        for i in range(4):
            gate = float(row @ V[:, i] + c[i])
            gelu = gate * 0.5 * (1 + math.erf(gate / math.sqrt(2)))
            assert float(got[i]) == pytest.approx(float(row @ W[:, i] + b[i]) * gelu)


@pytest.mark.equation("eq:ldm-loss")
def test_the_loss_is_that_of_the_noise_of_scaled_latents():
    model = stirred(LatentDiffusion(WHOLE)).eval()
    images, tokens = torch.rand(3, 3, 16, 16) * 2 - 1, torch.randint(0, 20, (3, 6))
    got = latent_loss(model, images, tokens, torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(0)
    z = 0.5 * model.first_stage.posterior(images).sample(g)
    i, noise = torch.randint(1000, (3,), generator=g), torch.randn(3, 4, 8, 8, generator=g)
    total = 0.0
    for k in range(3):
        bar = 1.0
        for beta in torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)[: int(i[k]) + 1]:
            bar *= 1 - float(beta) ** 2
        noisy = math.sqrt(bar) * z[k] + math.sqrt(1 - bar) * noise[k]
        error = noise[k] - model.unet(noisy[None], i[k : k + 1], model.read(tokens[k : k + 1]))[0]
        total += float(error.square().mean()) / 3
    assert float(got) == pytest.approx(total, rel=1e-4)


@pytest.mark.equation("eq:ldm-snr")
def test_with_the_wrong_scale_the_last_step_is_no_noise_and_samples_have_the_wrong_mean():
    """Latents are normal with mean 5 and deviation 5.49 = 1/0.18215; the denoiser is exact for either
    scale."""
    schedule, sigma, mean = NoiseSchedule.scaled_linear(), 1 / 0.18215, 5.0
    snr = [float(signal_to_noise(schedule.alpha_bars, sigma, s)[-1]) for s in (0.18215, 1.0)]
    bar = float(schedule.alpha_bars[-1])
    assert snr == pytest.approx([bar / (1 - bar), bar / (1 - bar) * sigma**2])
    assert snr[0] < 0.005 and snr[1] > 0.14

    def exact(scale):
        m, variance = scale * mean, (scale * sigma) ** 2

        def denoise(x, t):                                               # E[noise | x] of a normal
            a = schedule.alpha_bars[t].reshape(-1, 1).float()
            return (1 - a).sqrt() * (x - a.sqrt() * m) / (a * variance + 1 - a)
        return denoise

    off = {}
    for s in (0.18215, 1.0):
        z = sample(exact(s), schedule.respaced(100), (4000, 1), "ddim", denoised_fn=None,
                   generator=torch.Generator().manual_seed(0)) / s
        off[s] = (abs(float(z.mean()) - mean) / sigma, float(z.std()) / sigma)
    assert off[0.18215][0] < 0.1 and abs(off[0.18215][1] - 1) < 0.05
    assert off[1.0][0] > 3 * off[0.18215][0]                            # it starts where no latent ever is


# --------------------------------------------------------------------------------------- the usual promises


def test_a_fresh_u_net_predicts_nothing_and_a_fresh_transformer_changes_nothing():
    x, t, context = inputs()
    assert (LatentUNet(TINY)(x, t, context) == 0).all()
    maps = torch.randn(2, 16, 8, 8)
    assert torch.equal(SpatialTransformer(16, TINY)(maps, context), maps)
    with pytest.raises(ValueError, match="reads captions; give context"):
        SpatialTransformer(16, TINY)(maps)


def test_the_u_net_reads_picture_time_and_caption_and_every_part_learns():
    model = stirred(LatentUNet(TINY))
    x, t, context = inputs()
    whole = model(x, t, context)
    for other in (model(x + 1, t, context), model(x, t.flip(0), context), model(x, t, context.flip(0))):
        assert not torch.allclose(other, whole, atol=1e-4)
    torch.testing.assert_close(
        model(x, t, context[:, torch.tensor([2, 0, 1, 4, 3])]), whole, atol=1e-5, rtol=1e-5
    )
    for i in range(2):
        torch.testing.assert_close(model(x[i : i + 1], t[i : i + 1], context[i : i + 1])[0], whole[i],
                                   atol=1e-5, rtol=1e-5)
    whole.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_what_places_read_of_the_caption_can_be_recorded():
    model = stirred(LatentUNet(TINY)).eval()
    x, t, context = inputs()
    with record_attention(model) as weights:
        seen = model(x, t, context)
    torch.testing.assert_close(seen, model(x, t, context), atol=1e-5, rtol=1e-5)
    cross = [w for name, w in weights.items() if name.endswith("cross_attention")]
    assert {w.shape for w in cross} == {(2, 4, 64, 5), (2, 4, 16, 5)}
    torch.testing.assert_close(cross[0].sum(-1), torch.ones(2, 4, 64))


def test_what_is_to_be_predicted_is_learnt_from_the_caption_alone():
    torch.manual_seed(0)
    model = LatentDiffusion(WHOLE)
    tokens = torch.tensor([[1, 2, 3, 0, 0, 0], [4, 5, 6, 0, 0, 0]])
    wanted = torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 4, 8, 8)
    optimizer = torch.optim.Adam([*model.unet.parameters(), *model.text.parameters()], 1e-2)
    g = torch.Generator().manual_seed(0)
    for _ in range(40):
        x, t = torch.randn(2, 4, 8, 8, generator=g), torch.randint(1000, (2,), generator=g)
        optimizer.zero_grad()
        loss = F.mse_loss(model(x, t, model.read(tokens)), wanted)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.1


def test_pictures_come_out_of_the_first_stage_at_its_size():
    model = stirred(LatentDiffusion(WHOLE)).eval()
    tokens = torch.randint(0, 20, (2, 6))
    drawn, again, other, plain = (
        draw_pictures(model, tokens, tokens[:1] * 0, scale, 2, generator=torch.Generator().manual_seed(seed))
        for scale, seed in ((3.0, 0), (3.0, 0), (3.0, 1), (1, 0)))
    assert torch.equal(drawn, again) and not torch.equal(drawn, other) and not torch.equal(drawn, plain)
    assert drawn.shape == (2, 3, 16, 16) and not drawn.requires_grad
    mini = LatentDiffusionConfig.mini(factor=8)
    assert mini.unet.size == 8 and mini.first_stage.autoencoder.factor == 8
    assert isinstance(model.first_stage, KLAutoencoder)


def test_clips_states_are_those_of_chapter_fours_tower():
    config = CLIPConfig(8, CLIPConfig.mini().image, TextConfig(30, 7, 12, 2, 3, 29))
    clip = stirred(CLIP(config)).eval()
    states = CLIPStates(config.text).eval()
    left = {name: value for name, value in clip.text.state_dict().items() if name != "projection"}
    states.load_state_dict(left)
    tokens = torch.tensor([[1, 2, 29, 29, 29, 29, 29], [3, 4, 5, 6, 7, 8, 29]])
    torch.testing.assert_close(states(tokens), clip.text.tokens(tokens))
    assert states(tokens).shape == (2, 7, 12)


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="heads of LatentUNetConfig is 3, which does not divide the 16"):
        replace(TINY, heads=3)
    with pytest.raises(
        ValueError, match="reads tokens of size 10 and latents of 4 channels; the text's have 12"
    ):
        replace(WHOLE, unet=replace(TINY, context=10))
    with pytest.raises(ValueError, match="captions have 7 tokens, the model reads 6"):
        LDMText(TINY_TEXT)(torch.zeros(1, 7, dtype=torch.long))


# --------------------------------------------------------------------------------------------- parity

BLOCK = (("norm1", "norm1"), ("conv1", "conv1"), ("condition", "time_emb_proj"), ("norm2", "norm2"),
         ("conv2", "conv2"), ("shortcut", "conv_shortcut"))


@pytest.mark.parity
def test_the_u_net_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    config = LatentUNetConfig(16, 16, (1.0, 2.0, 2.0), 1, (16, 8), groups=8, heads=4, context=12)
    theirs = stirred(diffusers.UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12, attention_head_dim=4)).eval()
    ours, left, new = LatentUNet(config).eval(), dict(theirs.state_dict()), {}

    def take(our, their):
        for kind in ("weight", "bias"):
            if f"{their}.{kind}" in left:
                new[f"{our}.{kind}"] = left.pop(f"{their}.{kind}").flatten(
                    0 if kind == "bias" else 1) if ".proj_" in their else left.pop(f"{their}.{kind}")

    def transformer(our, their):
        for a, b in (("norm", "norm"), ("enter", "proj_in"), ("leave", "proj_out")):
            take(f"{our}.{a}", f"{their}.{b}")
        a, b = f"{our}.layers.0", f"{their}.transformer_blocks.0"
        for n in ("norm1", "norm2", "norm3"):
            take(f"{a}.{n}", f"{b}.{n}")
        for name, n in (("self_attention", 1), ("cross_attention", 2)):
            parts = {p: left.pop(f"{b}.attn{n}.to_{p}.weight") for p in "qkv"}
            if n == 1:
                new[f"{a}.{name}.project.weight"] = torch.cat(list(parts.values()))
            else:
                new[f"{a}.{name}.queries.weight"] = parts["q"]
                new[f"{a}.{name}.keys_values.weight"] = torch.cat([parts["k"], parts["v"]])
            take(f"{a}.{name}.out", f"{b}.attn{n}.to_out.0")
        take(f"{a}.feed_forward.inner", f"{b}.ff.net.0.proj")
        take(f"{a}.feed_forward.outer", f"{b}.ff.net.2")

    def block(our, their):
        for a, b in BLOCK:
            take(f"{our}.{a}", f"{their}.{b}")

    take("time.linear1", "time_embedding.linear_1")
    take("time.linear2", "time_embedding.linear_2")
    for a, b in (("conv_in", "conv_in"), ("norm", "conv_norm_out"), ("conv_out", "conv_out")):
        take(a, b)
    block("middle.0", "mid_block.resnets.0")
    transformer("middle.1", "mid_block.attentions.0")
    block("middle.2", "mid_block.resnets.1")
    for level in range(3):
        block(f"down.{2 * level}.0", f"down_blocks.{level}.resnets.0")
        if level < 2:
            transformer(f"down.{2 * level}.1", f"down_blocks.{level}.attentions.0")
            take(f"down.{2 * level + 1}.0.conv", f"down_blocks.{level}.downsamplers.0.conv")
        for i in range(2):
            stage, last = f"up.{2 * level + i}", 1
            block(f"{stage}.0", f"up_blocks.{level}.resnets.{i}")
            if level > 0:
                transformer(f"{stage}.1", f"up_blocks.{level}.attentions.{i}")
                last = 2
            if i == 1 and level < 2:
                take(f"{stage}.{last}.conv", f"up_blocks.{level}.upsamplers.0.conv")
    assert not left
    ours.load_state_dict(new)
    x, t, context = torch.randn(2, 4, 16, 16), torch.tensor([3, 900]), torch.randn(2, 5, 12)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t, context), theirs(x, t, context).sample, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_the_papers_text_is_that_of_diffusers():
    pytest.importorskip("diffusers")
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
    c = TINY_TEXT
    theirs = LDMBertModel(LDMBertConfig(
        vocab_size=c.vocab, max_position_embeddings=c.context, encoder_layers=c.layers, encoder_ffn_dim=c.ff,
        encoder_attention_heads=c.heads, head_dim=c.head, d_model=c.width, dropout=0.0))
    theirs = stirred(theirs).eval()
    left, ours = {n.removeprefix("model."): v for n, v in theirs.state_dict().items()}, LDMText(c).eval()
    left = {n: v for n, v in left.items() if not n.startswith("to_logits")}       # built, and never called
    new = {"words.weight": left.pop("embed_tokens.weight"), "positions": left.pop("embed_positions.weight")}
    names = {"norm_after": "layer_norm"}
    for i in range(c.layers):
        for a, b in (("attention_norm", "self_attn_layer_norm"), ("feed_forward_norm", "final_layer_norm"),
                     ("inner", "fc1"), ("outer", "fc2"), ("attention.out", "self_attn.out_proj")):
            names[f"layers.{i}.{a}"] = f"layers.{i}.{b}"
        new[f"layers.{i}.attention.project.weight"] = torch.cat(
            [left.pop(f"layers.{i}.self_attn.{p}_proj.weight") for p in "qkv"])
    for a, b in names.items():
        for kind in ("weight", "bias"):
            new[f"{a}.{kind}"] = left.pop(f"{b}.{kind}")
    assert not left
    ours.load_state_dict(new)
    tokens = torch.randint(0, c.vocab, (2, c.context))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens)[0], atol=1e-5, rtol=1e-5)
