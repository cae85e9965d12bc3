"""The public files of guided-diffusion and DDPM are not at hand; stand-ins in their format are.

They are written here from the released names and shapes, as plain modules that work on (b, c, y, x) and
(b, c, t) as the authors' do, not from our own mapping.
"""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from networks import redrawn
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.pretrained import READERS, load, reader
from mmlearn.pretrained.diffusion import adm_config, build, by_kind, diffusers_names, guided_shapes, knows
from mmlearn.text2image.adm import ADMConfig, ADMUNet, ADMUpsampler, NoisyClassifier, NoisyClassifierConfig
from mmlearn.text2image.ddpm import DDPMConfig, DDPMUNet

# ------------------------------------------------------------------------------ guided-diffusion, as released


class Res(nn.Module):
    def __init__(self, i, o, e, move=None):
        super().__init__()
        self.move = move
        self.in_layers = nn.Sequential(nn.GroupNorm(32, i), nn.SiLU(), nn.Conv2d(i, o, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(e, 2 * o))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, o), nn.SiLU(), nn.Dropout(0.0),
                                        nn.Conv2d(o, o, 3, padding=1))
        self.skip_connection = nn.Identity() if i == o else nn.Conv2d(i, o, 1)

    def forward(self, x, e):
        h = self.in_layers[1](self.in_layers[0](x))
        if self.move == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        if self.move == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = self.out_layers[0](self.in_layers[2](h))
        scale, shift = self.emb_layers(e)[:, :, None, None].chunk(2, dim=1)
        return self.skip_connection(x) + self.out_layers[1:](h * (1 + scale) + shift)


def attend(qkv, heads, new):
    """qkv (b, 3 c, t), its rows by kind and then head if ``new``, else by head and then kind."""
    b, _, t = qkv.shape
    q, k, v = qkv.view(b, 3, heads, -1, t).unbind(1) if new else qkv.view(b, heads, 3, -1, t).unbind(2)
    scale = 1 / math.sqrt(math.sqrt(q.shape[2]))
    weight = torch.einsum("bhct,bhcs->bhts", q * scale, k * scale).softmax(-1)
    return torch.einsum("bhts,bhcs->bhct", weight, v).reshape(b, -1, t)


class Attention(nn.Module):
    def __init__(self, c, heads, new):
        super().__init__()
        self.heads, self.new = heads, new
        self.norm, self.qkv = nn.GroupNorm(32, c), nn.Conv1d(c, 3 * c, 1)
        self.proj_out = nn.Conv1d(c, c, 1)

    def forward(self, x, e):
        h = x.flatten(2)
        return (h + self.proj_out(attend(self.qkv(self.norm(h)), self.heads, self.new))).view_as(x)


class Steps(nn.Sequential):
    def forward(self, x, e):
        for layer in self:
            x = layer(x, e) if isinstance(layer, Res | Attention) else layer(x)
        return x


class Pool(nn.Module):
    def __init__(self, places, c, out):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(c, places + 1))
        self.qkv_proj, self.c_proj = nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, out, 1)

    def forward(self, x):
        x = x.flatten(2)
        x = torch.cat([x.mean(-1, keepdim=True), x], -1) + self.positional_embedding
        return self.c_proj(attend(self.qkv_proj(x), x.shape[1] // 64, True))[:, :, 0]


class Guided(nn.Module):
    """Two levels of one block, the second of which attends; U-Net or, with ``pool``, classifier."""

    def __init__(self, heads=2, new=False, into=3, out=6, classes=None, pool=None, w=64):
        super().__init__()
        e, self.w = 4 * w, w
        self.time_embed = nn.Sequential(nn.Linear(w, e), nn.SiLU(), nn.Linear(e, e))
        if classes:
            self.label_emb = nn.Embedding(classes, e)
        def attention():
            return Attention(2 * w, heads, new)

        self.input_blocks = nn.ModuleList([
            Steps(nn.Conv2d(into, w, 3, padding=1)), Steps(Res(w, w, e)), Steps(Res(w, w, e, "down")),
            Steps(Res(w, 2 * w, e), attention())])
        self.middle_block = Steps(Res(2 * w, 2 * w, e), attention(), Res(2 * w, 2 * w, e))
        if pool:
            self.out = nn.Sequential(nn.GroupNorm(32, 2 * w), nn.SiLU(), Pool(pool, 2 * w, out))
            return
        self.output_blocks = nn.ModuleList([
            Steps(Res(4 * w, 2 * w, e), attention()),
            Steps(Res(3 * w, 2 * w, e), attention(), Res(2 * w, 2 * w, e, "up")),
            Steps(Res(3 * w, w, e)), Steps(Res(2 * w, w, e))])
        self.out = nn.Sequential(nn.GroupNorm(32, w), nn.SiLU(), nn.Conv2d(w, out, 3, padding=1))

    def forward(self, x, t, y=None):
        half = self.w // 2
        angles = t[:, None].float() * 10000 ** (-torch.arange(half) / half)
        e = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        if y is not None:
            e = e + self.label_emb(y)
        kept = []
        for block in self.input_blocks:
            x = block(x, e)
            kept.append(x)
        x = self.middle_block(x, e)
        if hasattr(self, "output_blocks"):
            for block in self.output_blocks:
                x = block(torch.cat([x, kept.pop()], 1), e)
        return self.out(x)


def noisy(into=3, size=16):
    g = torch.Generator().manual_seed(1)
    return torch.randn(2, into, size, size, generator=g), torch.tensor([3, 800])


def close(got, want):
    assert want.std() > 0.1                            # there is something to compare
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_released_unet_predicts_the_same_in_our_modules(tmp_path):
    theirs = redrawn(Guided(classes=5), scale=1.2).eval()
    torch.save(theirs.state_dict(), tmp_path / "64x64_diffusion.pt")
    ours = load(tmp_path / "64x64_diffusion.pt")
    assert type(ours) is ADMUNet and not ours.training
    assert ours.config == ADMConfig(16, 64, (1.0, 2.0), 1, (8,), classes=5)
    (x, t), y = noisy(), torch.tensor([4, 1])
    close(ours(x, t, labels=y), theirs(x, t, y))
    close(ours(x, t), theirs(x, t))


@torch.no_grad()
def test_the_order_of_projections_and_the_number_of_heads_can_be_given(tmp_path):
    theirs = redrawn(Guided(heads=4, new=True, out=3), scale=1.2).eval()
    state = {name: value.half() if value.ndim > 1 else value for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    torch.save(state, tmp_path / "model.pt")           # the torso in half precision, as it was trained
    config = ADMConfig(16, 64, (1, 2), 1, (8,), heads=4, head_channels=None, out_channels=3)
    ours = load(tmp_path / "model.pt", config=config, new_order=True)
    x, t = noisy()
    close(ours(x, t), theirs(x, t))
    other = load(tmp_path / "model.pt", config=config)
    assert not torch.allclose(other(x, t), theirs(x, t), atol=1e-2)
    rows = torch.arange(12)                            # 2 heads of 2 channels: head, kind, channel
    assert by_kind(rows, 2).tolist() == [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]


@torch.no_grad()
def test_a_released_upsampler_and_a_classifier_are_the_same_in_our_modules(tmp_path):
    theirs = redrawn(Guided(into=6), scale=1.2).eval()
    torch.save(theirs.state_dict(), tmp_path / "64_256_upsampler.pt")
    ours = load(tmp_path / "64_256_upsampler.pt")
    (x, t), low = noisy(), noisy(size=4)[0]
    assert type(ours) is ADMUpsampler
    close(ours(x, t, low), theirs(torch.cat([x, F.interpolate(low, (16, 16), mode="bilinear")], 1), t))

    theirs = redrawn(Guided(out=7, pool=64), scale=1.2).eval()
    torch.save(theirs.state_dict(), tmp_path / "64x64_classifier.pt")
    config = NoisyClassifierConfig(16, 64, (1, 2), 1, (8,), out_channels=7)
    ours = load(tmp_path / "64x64_classifier.pt", config=config)
    assert type(ours) is NoisyClassifier
    close(ours(x, t), theirs(x, t))
    with pytest.raises(ValueError, match="none of the published classifiers .* give config="):
        load(tmp_path / "64x64_classifier.pt")


@pytest.mark.parametrize("name", ["imagenet64", "imagenet128", "imagenet256", "imagenet512", "lsun256",
                                  "upsampler256", "upsampler512"])
def test_published_sizes_are_found_by_names_and_shapes(name):
    config = getattr(ADMConfig, name)()
    shapes = guided_shapes(build(config))
    assert knows(shapes) and len(shapes) == len(build(config).state_dict())
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert adm_config(state, "file") == config


def test_names_of_the_released_files_are_ours_of_the_paper_sizes():
    shapes = guided_shapes(build(ADMConfig.imagenet64()))
    assert shapes["input_blocks.3.0.in_layers.0.weight"] == (192,)
    assert shapes["input_blocks.5.1.qkv.weight"] == (3 * 384, 384, 1)
    assert shapes["output_blocks.3.2.out_layers.3.weight"] == (768, 768, 3, 3)
    assert shapes["label_emb.weight"] == (1000, 768) and shapes["out.2.weight"] == (6, 192, 3, 3)
    shapes = guided_shapes(build(NoisyClassifierConfig.imagenet64()))
    assert shapes["out.2.positional_embedding"] == (512, 65)
    assert shapes["out.2.c_proj.weight"] == (1000, 512, 1)


def test_a_file_with_a_name_too_many_or_too_few_is_refused(tmp_path):
    state = Guided().state_dict()
    path = tmp_path / "model.pt"
    torch.save(state | {"input_blocks.3.1.extra": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not expected: input_blocks.3.1.extra"):
        load(path)
    torch.save({name: value for name, value in state.items() if name != "middle_block.1.norm.bias"}, path)
    with pytest.raises(ValueError, match="missing: middle_block.1.norm.bias"):
        load(path)
    torch.save({name: value for name, value in state.items() if not name.startswith("output_blocks.3")}, path)
    with pytest.raises(ValueError, match="3 output blocks are not levels of 2 each"):
        load(path)
    torch.save({name: value for name, value in state.items() if name != "out.2.weight"}, path)
    with pytest.raises(ValueError, match="model.pt has no out.2.weight"):
        load(path)


def test_heads_that_nobody_published_are_asked_for():
    shapes = guided_shapes(build(ADMConfig(8, 8, (1, 2), 1, (4,), head_channels=4)))
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    with pytest.raises(ValueError, match="file: head_channels of ADMConfig is 64, .* or give config="):
        adm_config(state, "file")


def test_unets_that_read_text_are_left_to_their_own_readers():
    names = set(Guided().state_dict())
    assert knows(names)
    assert not knows(names | {"transformer.resblocks.0.ln_1.weight"})                              # GLIDE
    assert not knows(names | {"input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"})           # latent
    assert not knows({"time_embed.0.weight"})


# -------------------------------------------------------------------------------------------- DDPM on the hub


CONFIG = {"_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu",
          "attention_head_dim": None, "block_out_channels": [8, 16], "center_input_sample": False,
          "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "downsample_padding": 0,
          "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 1,
          "mid_block_scale_factor": 1, "norm_eps": 1e-6, "norm_num_groups": 4, "out_channels": 3,
          "sample_size": 8, "time_embedding_type": "positional",
          "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}


class Part(nn.Module):
    """Something that has parts by name."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, nn.ModuleList(part) if isinstance(part, list) else part)


def resnet(i, o, e=32):
    shortcut = {} if i == o else {"conv_shortcut": nn.Conv2d(i, o, 1)}
    return Part(norm1=nn.GroupNorm(4, i, 1e-6), conv1=nn.Conv2d(i, o, 3, padding=1),
                norm2=nn.GroupNorm(4, o, 1e-6), conv2=nn.Conv2d(o, o, 3, padding=1),
                time_emb_proj=nn.Linear(e, o), **shortcut)


def run_resnet(block, x, e):
    h = block.conv1(F.silu(block.norm1(x))) + block.time_emb_proj(F.silu(e))[:, :, None, None]
    h = block.conv2(F.silu(block.norm2(h)))
    return h + (block.conv_shortcut(x) if hasattr(block, "conv_shortcut") else x)


def attention(c):
    return Part(group_norm=nn.GroupNorm(4, c, 1e-6), query=nn.Linear(c, c), key=nn.Linear(c, c),
                value=nn.Linear(c, c), proj_attn=nn.Linear(c, c))


def run_attention(block, x):
    h = block.group_norm(x).flatten(2).transpose(1, 2)
    weights = (block.query(h) @ block.key(h).transpose(1, 2) / math.sqrt(h.shape[2])).softmax(2)
    return x + block.proj_attn(weights @ block.value(h)).transpose(1, 2).reshape(x.shape)


class OnTheHub(nn.Module):
    """DDPM's U-Net with the names of the hub's files of 2022, of the sizes of ``CONFIG``."""

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, 8, 3, padding=1)
        self.time_embedding = Part(linear_1=nn.Linear(8, 32), linear_2=nn.Linear(32, 32))
        self.down_blocks = nn.ModuleList([
            Part(resnets=[resnet(8, 8)], downsamplers=[Part(conv=nn.Conv2d(8, 8, 3, 2))]),
            Part(attentions=[attention(16)], resnets=[resnet(8, 16)])])
        self.mid_block = Part(attentions=[attention(16)], resnets=[resnet(16, 16), resnet(16, 16)])
        self.up_blocks = nn.ModuleList([
            Part(attentions=[attention(16), attention(16)], resnets=[resnet(32, 16), resnet(24, 16)],
                 upsamplers=[Part(conv=nn.Conv2d(16, 16, 3, padding=1))]),
            Part(resnets=[resnet(24, 8), resnet(16, 8)])])
        self.conv_norm_out, self.conv_out = nn.GroupNorm(4, 8, 1e-6), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, t):
        angles = t[:, None].float() * 10000 ** (-torch.arange(4) / 3)
        e = self.time_embedding.linear_1(torch.cat([angles.sin(), angles.cos()], 1))
        e = self.time_embedding.linear_2(F.silu(e))
        a = self.conv_in(x)
        b = run_resnet(self.down_blocks[0].resnets[0], a, e)
        c = self.down_blocks[0].downsamplers[0].conv(F.pad(b, (0, 1, 0, 1)))
        d = run_attention(self.down_blocks[1].attentions[0], run_resnet(self.down_blocks[1].resnets[0], c, e))
        h = run_attention(self.mid_block.attentions[0], run_resnet(self.mid_block.resnets[0], d, e))
        h = run_resnet(self.mid_block.resnets[1], h, e)
        up = self.up_blocks[0]
        for i, kept in enumerate((d, c)):
            h = run_attention(up.attentions[i], run_resnet(up.resnets[i], torch.cat([h, kept], 1), e))
        h = up.upsamplers[0].conv(F.interpolate(h, scale_factor=2))
        for i, kept in enumerate((b, a)):
            h = run_resnet(self.up_blocks[1].resnets[i], torch.cat([h, kept], 1), e)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


def folder(path, config=None, weights=None, safe=False):
    (path / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    if safe:
        from safetensors.torch import save_file
        save_file(weights, path / "diffusion_pytorch_model.safetensors")
    elif weights is not None:
        torch.save(weights, path / "diffusion_pytorch_model.bin")
    return path


@pytest.mark.parametrize("today", [False, True])
@torch.no_grad()
def test_a_ddpm_of_the_hub_predicts_the_same_in_our_modules(tmp_path, today):
    theirs = redrawn(OnTheHub(), scale=1.2).eval()
    state = dict(theirs.state_dict())
    if today:
        for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
            state = {name.replace(f"{old}.", f"{new}."): value for name, value in state.items()}
    ours = load(folder(tmp_path, weights=state, safe=today))
    assert type(ours) is DDPMUNet and not ours.training
    assert ours.config == DDPMConfig(8, 8, (1.0, 2.0), 1, (4,), groups=4)
    x, t = noisy(size=8)
    close(ours(x, t), theirs(x, t))


def test_the_sizes_of_cifar10_have_the_names_of_the_hub():
    with blank():
        names = diffusers_names(DDPMUNet(DDPMConfig.cifar10()))
    flat = [one for theirs in names.values() for one in theirs]
    assert len(set(flat)) == len(flat)
    assert {"down_blocks.1.attentions.1.to_q.weight", "up_blocks.2.attentions.2.to_out.0.bias",
            "down_blocks.2.downsamplers.0.conv.weight", "up_blocks.0.upsamplers.0.conv.bias",
            "mid_block.resnets.1.time_emb_proj.weight", "up_blocks.3.resnets.2.conv_shortcut.weight",
            "conv_norm_out.weight", "time_embedding.linear_2.bias"} <= set(flat)
    assert not any(name.startswith("down_blocks.3.downsamplers") for name in flat)


@pytest.mark.parametrize("config, sentence", [
    ({"freq_shift": 0}, "config.json: freq_shift is 0, expected 1; give a folder of DDPM's U-Net"),
    ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift is 'scale_shift'"),
    ({"down_block_types": ["DownBlock2D", "ResnetDownsampleBlock2D"]}, "has 'ResnetDownsampleBlock2D'"),
    ({"block_out_channels": [8]}, "block_out_channels is .8. and down_block_types .* expected two lists"),
    ({"sample_size": "8"}, "sample_size is '8', expected a whole number"),
    ({"norm_num_groups": 0}, "config.json: groups is 0, expected from 1"),
])
def test_another_network_of_diffusers_is_refused(tmp_path, config, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(folder(tmp_path, config, OnTheHub().state_dict()))


def test_a_folder_without_its_weights_or_with_others_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has a configuration but none of diffusion_pytorch_model"):
        load(folder(tmp_path))
    state = OnTheHub().state_dict()
    state["up_blocks.0.upsamplers.0.conv.weight"] = torch.zeros(16, 16, 1, 1)
    with pytest.raises(ValueError, match=r"conv.weight is \(16, 16, 1, 1\), expected \(16, 16, 3, 3"):
        load(folder(tmp_path, weights=state))


def test_public_names_say_where_the_files_are():
    assert reader("google/ddpm-cifar10-32").SYSTEM == "guided-diffusion and DDPM"
    assert sum(module == "diffusion" for module in READERS.values()) == 7
    with pytest.raises(FileNotFoundError, match="get a file such as https://openaipublic.*/256x256_diffusion.pt"):
        load("openai/guided-diffusion")
    with pytest.raises(FileNotFoundError, match="could not be fetched"):       # without a network
        load("google/ddpm-cifar10-32")
