"""ADM's U-Nets and classifiers: sizes as published, conditions, and diffusers' networks at equal weights."""

import pytest
import torch
import torch.nn.functional as F
from networks import count_blank, covers, redrawn

from mmlearn.nn.modes import blank
from mmlearn.text2image.adm import (
    ADMConfig,
    ADMUNet,
    ADMUpsampler,
    AttentionPool,
    NoisyClassifier,
    NoisyClassifierConfig,
    drop_labels,
)

TINY = ADMConfig(8, 8, (1, 2), 1, (4,), head_channels=4, groups=4, classes=5, context=6)
TINY_CLASSIFIER = NoisyClassifierConfig(8, 8, (1, 2), 1, (4,), head_channels=4, groups=4, out_channels=5)


def batch(config=TINY, b=3):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(b, config.in_channels, config.size, config.size, generator=g)
    return x, torch.tensor([0, 500, 999])[:b]


# ------------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize("name, parameters", [
    ("imagenet64", 295_904_454), ("imagenet128", 421_529_606), ("imagenet256", 553_838_086),
    ("imagenet512", 558_997_638), ("upsampler256", 311_795_910),
])
def test_a_published_size_is_that_of_our_network(name, parameters):
    assert count_blank(ADMUNet, getattr(ADMConfig, name)()) == parameters


def test_networks_without_labels_have_no_embeddings_of_them():
    assert count_blank(ADMUNet, ADMConfig.lsun256()) == 553_838_086 - 1000 * 4 * 256
    assert round(count_blank(ADMUNet, ADMConfig.upsampler512()) / 1e6) == 309


@pytest.mark.parametrize("name, parameters", [("imagenet64", 65_438_568), ("imagenet128", 42_568_040),
                                              ("imagenet256", 54_096_360), ("imagenet512", 54_448_360)])
def test_classifiers_have_the_sizes_of_the_released_code(name, parameters):
    assert count_blank(NoisyClassifier, getattr(NoisyClassifierConfig, name)()) == parameters


def test_heads_are_64_channels_wide_or_four_in_number():
    with blank():
        for config, want in ((ADMConfig.imagenet256(), {8, 16}), (ADMConfig.imagenet128(), {4}),
                             (ADMConfig.upsampler256(), {4})):
            model = ADMUNet(config)
            assert {m.heads for m in model.modules() if hasattr(m, "in_weight")} == want


def test_e30_the_network_of_512_pixels_was_larger_than_half_a_billion_before_glide():
    """The survey calls GLIDE the first large diffusion model; ADM of May 2021 has 554 and 559 million."""
    assert count_blank(ADMUNet, ADMConfig.imagenet256()) > 550e6
    assert count_blank(ADMUNet, ADMConfig.imagenet512()) > 550e6


# ------------------------------------------------------------------------------------------------- conditions


@covers("eq:adm-drop")
def test_labels_are_dropped_as_often_as_asked():
    labels = torch.arange(2000) % 5
    got = drop_labels(labels, 5, 0.2, torch.Generator().manual_seed(0))
    assert 0.17 < float((got == 5).float().mean()) < 0.23
    assert torch.equal(got[got < 5], labels[got < 5])
    assert torch.equal(drop_labels(labels, 5, 0), labels) and (drop_labels(labels, 5, 1) == 5).all()
    again = drop_labels(labels, 5, 0.2, torch.Generator().manual_seed(0))
    assert torch.equal(got, again)


def test_labels_and_embeddings_are_added_to_the_timestep():
    model = redrawn(ADMUNet(TINY)).eval()
    x, t = batch()
    labels, context = torch.tensor([0, 1, 4]), torch.randn(3, 2, 6)
    by_label = model(x, t, context=context, labels=labels)
    by_embedding = model(x, t, model.label.weight[labels], context)
    assert torch.equal(by_label, by_embedding)
    assert not torch.allclose(by_label, model(x, t, context=context))
    assert not torch.allclose(by_label, model(x, t, context=-context, labels=labels))
    assert by_label.shape == (3, 6, 8, 8)


def test_a_label_for_none_is_one_more():
    config = ADMConfig.mini(classes=7)
    assert config.labels == 8 and ADMUNet(config).label.weight.shape == (8, 4 * config.width)
    assert ADMUNet(ADMConfig.mini()).label is None


def test_booklet_b2_without_the_keys_and_values_of_the_context_the_output_is_another():
    """The booklet has the last token alone as the condition; every attention layer reads all tokens."""
    model = redrawn(ADMUNet(TINY)).eval()
    x, t = batch()
    context = torch.randn(3, 4, 6)
    want, readers = model(x, t, context=context), [m for m in model.modules() if hasattr(m, "context")]
    assert len(readers) == 4 and all(reader.context is not None for reader in readers)
    for token in range(4):
        changed = context.clone()
        changed[:, token] += 1
        assert not torch.allclose(model(x, t, context=changed), want)
    for reader in readers:
        torch.nn.init.zeros_(reader.context.weight)
    assert not torch.allclose(model(x, t, context=context), want)


def test_conditions_that_a_network_has_no_use_for_are_refused():
    model = ADMUNet(ADMConfig(8, 8, (1, 2), 1, (4,), head_channels=4, groups=4))
    x, t = batch()
    with pytest.raises(ValueError, match="labels were given to a U-Net without classes; build it"):
        model(x, t, labels=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="no layers that read one; build it with context=size of a token"):
        model(x, t, context=torch.randn(3, 2, 6))


def test_an_upsampler_sees_the_small_picture_enlarged_bilinearly():
    config = ADMConfig(8, 8, (1, 2), 1, (4,), head_channels=4, groups=4, in_channels=6)
    model = redrawn(ADMUpsampler(config)).eval()
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 2])
    low = torch.randn(2, 3, 2, 2)
    large = torch.zeros(2, 3, 8, 8)
    for y in range(8):
        for i in range(8):
            v, u = ((min(max((p + 0.5) / 4 - 0.5, 0), 1)) for p in (y, i))
            top, bottom = (low[:, :, j, 0] * (1 - u) + low[:, :, j, 1] * u for j in (0, 1))
            large[:, :, y, i] = top * (1 - v) + bottom * v
    want = super(ADMUpsampler, model).forward(torch.cat([x, large], 1), t)
    torch.testing.assert_close(model(x, t, low), want, atol=1e-5, rtol=1e-5)


# ----------------------------------------------------------------------------------------- the usual promises


def test_a_fresh_network_predicts_exactly_nothing():
    x, t = batch()
    output = ADMUNet(TINY)(x, t, context=torch.randn(3, 2, 6), labels=torch.tensor([0, 1, 2]))
    assert output.shape == (3, 6, 8, 8) and not output.any()


def test_gradients_reach_every_parameter_and_a_row_is_what_it_is_alone():
    model = redrawn(ADMUNet(TINY))
    x, t = batch()
    labels, context = torch.tensor([0, 1, 4]), torch.randn(3, 2, 6)
    whole = model(x, t, context=context, labels=labels)
    whole.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    for i in range(3):
        row = slice(i, i + 1)
        alone = model(x[row], t[row], context=context[row], labels=labels[row])
        torch.testing.assert_close(alone[0], whole[i], atol=1e-5, rtol=1e-4)


def test_a_classifier_tells_noisy_pictures_apart_and_its_gradient_reaches_them():
    torch.manual_seed(0)
    model = NoisyClassifier(TINY_CLASSIFIER)
    labels, t = torch.arange(4), torch.tensor([0, 100, 200, 300])
    x = (labels[:, None, None, None] - 1.5) * torch.ones(4, 3, 8, 8) + 0.5 * torch.randn(4, 3, 8, 8)
    adam = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(40):
        adam.zero_grad()
        loss = F.cross_entropy(model(x, t), labels)
        loss.backward()
        adam.step()
    assert float(loss) < 0.1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    x.requires_grad_()
    logits = model(x, t)
    gradient, = torch.autograd.grad(logits.log_softmax(1)[range(4), labels.roll(1)].sum(), x)
    with torch.no_grad():
        moved = model(x + 0.05 * gradient / gradient.abs().max(), t).log_softmax(1)
    assert (moved[range(4), labels.roll(1)] > logits.log_softmax(1)[range(4), labels.roll(1)]).all()
    assert torch.allclose(model(x[:1], t[:1])[0], logits[0], atol=1e-5)


def test_attention_pooling_lets_the_mean_of_the_places_read_them():
    pool = redrawn(AttentionPool(6, 2, 4, 3).double())
    x = torch.randn(2, 6, 2, 2, dtype=torch.float64)
    got = pool(x)
    for b in range(2):
        places = [x[b].mean((1, 2)), *(x[b, :, y, i] for y in range(2) for i in range(2))]
        places = torch.stack(places) + pool.places
        q, k, v = (places @ pool.in_weight.T + pool.in_bias).split(6, dim=1)
        read = torch.cat([(q[0, part] @ k[:, part].T / 3**0.5).softmax(0) @ v[:, part]
                          for part in (slice(0, 3), slice(3, 6))])
        torch.testing.assert_close(got[b], read @ pool.out.weight.T + pool.out.bias)


# ----------------------------------------------------------------------------------------------------- parity


STAGES = {  # two levels of one block
    "down.0": "down_blocks.0.resnets.0", "down.1": "down_blocks.0.downsamplers.0",
    "down.2": "down_blocks.1.resnets.0", "middle": "mid_block.resnets.0",
    "up.0": "up_blocks.0.resnets.0", "up.1": "up_blocks.0.resnets.1",
    "up.2": "up_blocks.1.resnets.0", "up.3": "up_blocks.1.resnets.1",
}
RENAMED = (("condition.", "time_emb_proj."), ("shortcut.", "conv_shortcut."),
           ("time.linear", "time_embedding.linear_"), ("label.", "class_embedding."))


def of_diffusers(name):
    """What diffusers calls our tensor ``name``, without the kind of a projection."""
    if name.startswith(("norm.", "conv_in.", "conv_out.")):
        return name.replace("norm.", "conv_norm_out.")
    for stage, theirs in STAGES.items():
        if name.startswith(f"{stage}."):
            layer, inner = name.removeprefix(f"{stage}.").split(".", 1)
            if layer == "1":
                theirs = theirs.replace("resnets", "attentions")
                inner = inner.replace("norm.", "group_norm.").replace("out.", "to_out.0.")
            if layer == "2":
                theirs = "mid_block.resnets.1" if stage == "middle" else "up_blocks.0.upsamplers.0"
            name = f"{theirs}.{inner}"
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return name


def copied(theirs, ours, attention):
    """``ours`` with the weights of ``theirs``, every name of both used once."""
    state, mine = theirs.state_dict(), {}
    for name in ours.state_dict():
        at = of_diffusers(name)
        projections = next((kinds for ending, kinds in attention.items() if f".{ending}" in at), None)
        if projections is None:
            mine[name] = state.pop(at)
        else:
            base, kind = at.rsplit(".", 1)[0].removesuffix(".context"), at.replace("_", ".").rsplit(".", 1)[1]
            mine[name] = torch.cat([state.pop(f"{base}.{part}.{kind}") for part in projections])
    assert not state, list(state)
    ours.load_state_dict(mine)
    return ours.eval()


@pytest.mark.parity
def test_the_network_with_labels_is_that_of_diffusers():
    from diffusers import UNet2DModel

    theirs = redrawn(UNet2DModel(
        sample_size=8, out_channels=6, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"), flip_sin_to_cos=True, freq_shift=0,
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"), downsample_type="resnet",
        upsample_type="resnet", resnet_time_scale_shift="scale_shift", attention_head_dim=4,
        attn_norm_num_groups=4, num_class_embeds=5)).eval()
    ours = ADMUNet(ADMConfig(8, 8, (1, 2), 1, (4,), head_channels=4, groups=4, classes=5))
    ours = copied(theirs, ours, {"in_": ("to_q", "to_k", "to_v")})
    x, t = batch()
    labels = torch.tensor([4, 0, 2])
    want = theirs(x, t, class_labels=labels).sample
    assert want.std() > 0.1
    torch.testing.assert_close(ours(x, t, labels=labels), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_the_network_that_reads_tokens_is_that_of_diffusers():
    from diffusers import UNet2DConditionModel

    theirs = redrawn(UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=6, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), norm_num_groups=4,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", flip_sin_to_cos=True, freq_shift=0,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), attention_head_dim=4,
        cross_attention_dim=6, class_embed_type="identity", resnet_time_scale_shift="scale_shift")).eval()
    ours = ADMUNet(ADMConfig(8, 8, (1, 2), 1, (4,), head_channels=4, groups=4, context=6))
    ours = copied(theirs, ours, {"in_": ("to_q", "to_k", "to_v"), "context": ("add_k_proj", "add_v_proj")})
    x, t = batch()
    embedding, context = torch.randn(3, 32), torch.randn(3, 2, 6)
    want = theirs(x, t, context, class_labels=embedding).sample
    assert want.std() > 0.1
    torch.testing.assert_close(ours(x, t, embedding, context), want, atol=1e-5, rtol=1e-5)
