"""DDPM's U-Net: sizes as counted in the authors' configurations, and diffusers' network at equal weights."""

import pytest
import torch
import torch.nn.functional as F
from networks import count, count_blank, redrawn

from mmlearn.nn.modes import blank
from mmlearn.text2image.ddpm import RECIPES, DDPMConfig, DDPMUNet

TINY = DDPMConfig(8, 8, (1, 2), 1, (4,), groups=4)


# ------------------------------------------------------------------------------------------------------ sizes


def test_the_network_of_cifar10_has_as_many_parameters_as_the_authors():
    assert count_blank(DDPMUNet, DDPMConfig.cifar10()) == 35_746_307            # 35.7 million, app. B


def test_the_networks_of_256_pixels_have_the_sizes_of_the_paper():
    assert count_blank(DDPMUNet, DDPMConfig.lsun256()) == 113_673_219           # 114 million, app. B
    assert count_blank(DDPMUNet, DDPMConfig.large_bedroom256()) == 255_677_955  # 256 million, app. B


def test_attention_is_where_the_paper_has_it():
    with blank():
        model = DDPMUNet(DDPMConfig.cifar10())
    attending = [name.split(".")[0] for name, m in model.named_modules() if hasattr(m, "in_weight")]
    assert attending == ["down", "down", "middle", "up", "up", "up"]
    assert {m.heads for m in model.modules() if hasattr(m, "heads")} == {1}


def test_recipes_are_those_of_appendix_b():
    assert (RECIPES["cifar10"].batch, RECIPES["cifar10"].lr) == (128, 2e-4)
    assert {recipe.batch for name, recipe in RECIPES.items() if name != "cifar10"} == {64}
    assert [name for name, recipe in RECIPES.items() if not recipe.flip] == ["lsun_bedroom"]


# ---------------------------------------------------------------------------------------- the usual promises


def test_a_fresh_network_predicts_no_noise_and_starts_as_the_authors_do():
    model = DDPMUNet(DDPMConfig.mini())
    assert not model(torch.randn(2, 3, 16, 16), torch.tensor([0, 999])).any()
    conv = model.down[0][0].conv1
    bound = (6 / (9 * (conv.in_channels + conv.out_channels))) ** 0.5       # variance scaling, fan average
    assert bound * 0.98 < conv.weight.abs().max() <= bound
    assert not any(m.bias.any() for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d))
    assert not model.middle[0].conv2.weight.any() and not model.middle[1].out.weight.any()


def test_every_parameter_gets_a_gradient_and_a_row_is_what_it_is_alone():
    model = redrawn(DDPMUNet(TINY))
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([0, 500, 999])
    whole = model(x, t)
    whole.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    for i in range(3):
        torch.testing.assert_close(model(x[i: i + 1], t[i: i + 1])[0], whole[i], atol=1e-5, rtol=1e-4)


def test_a_handful_of_noisy_pictures_is_learnt_by_heart():
    torch.manual_seed(0)
    model = DDPMUNet(DDPMConfig(8, 16, (1, 2), 1, (4,), groups=8))
    noise, t = torch.randn(4, 3, 8, 8), torch.tensor([10, 300, 600, 990])
    x = 0.5 * torch.rand(4, 3, 8, 8) + noise
    adam = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(60):
        adam.zero_grad()
        loss = F.mse_loss(model(x, t), noise)
        loss.backward()
        adam.step()
    assert float(loss) < 0.05


# ----------------------------------------------------------------------------------------------------- parity


def of_diffusers(name):
    """What diffusers calls our tensor ``name``, for two levels of one block."""
    down = {"0": "down_blocks.0.resnets.0", "1": "down_blocks.0.downsamplers.0",
            "2": "down_blocks.1.resnets.0"}
    up = {"0": "up_blocks.0.resnets.0", "1": "up_blocks.0.resnets.1", "2": "up_blocks.1.resnets.0",
          "3": "up_blocks.1.resnets.1"}
    part, *rest = name.split(".")
    if part == "time":
        return f"time_embedding.{rest[0].replace('linear', 'linear_')}.{rest[1]}"
    if part in ("norm", "conv_in", "conv_out"):
        return name.replace("norm.", "conv_norm_out.") if part == "norm" else name
    where, layer, *rest = rest if part != "middle" else ("", *rest)
    if part == "middle":
        base = {"0": "mid_block.resnets.0", "1": "mid_block.attentions.0", "2": "mid_block.resnets.1"}[layer]
    else:
        base = (down if part == "down" else up)[where]
        if layer == "1":
            base = base.replace("resnets", "attentions")
        if layer == "2" or (part == "up" and where == "1" and rest[0] == "conv"):
            base = "up_blocks.0.upsamplers.0"
    inner = ".".join(rest)
    if "attentions" in base:
        return f"{base}.{inner.replace('norm.', 'group_norm.').replace('out.', 'to_out.0.')}"
    return f"{base}.{inner.replace('condition', 'time_emb_proj').replace('shortcut', 'conv_shortcut')}"


def copied(theirs, ours):
    """``ours`` with the weights of ``theirs``, every name of both used once."""
    state, mine = theirs.state_dict(), {}
    for name in ours.state_dict():
        at = of_diffusers(name)
        if at.endswith((".in_weight", ".in_bias")):
            base, kind = at.rsplit(".in_", 1)
            mine[name] = torch.cat([state.pop(f"{base}.to_{part}.{kind}") for part in "qkv"])
        else:
            mine[name] = state.pop(at)
    assert not state
    ours.load_state_dict(mine)
    return ours


@pytest.mark.parity
def test_the_network_is_that_of_diffusers_at_the_same_weights():
    from diffusers import UNet2DModel

    theirs = redrawn(UNet2DModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, norm_eps=1e-6,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, attention_head_dim=None)).eval()
    ours = copied(theirs, DDPMUNet(TINY)).eval()
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([0, 7, 999])
    want, got = theirs(x, t).sample, ours(x, t)
    assert want.std() > 0.1
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)

    got.square().mean().backward()                           # for gradients ours computes norms again
    want.square().mean().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        if ".in_" not in name:
            torch.testing.assert_close(p.grad, gradients[of_diffusers(name)], atol=1e-5, rtol=1e-4)


@pytest.mark.parity
def test_diffusers_counts_the_same_for_cifar10():
    from diffusers import UNet2DModel

    with torch.device("meta"):
        theirs = UNet2DModel(
            sample_size=32, block_out_channels=(128, 256, 256, 256),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=None)
    assert count(theirs) == count_blank(DDPMUNet, DDPMConfig.cifar10())
