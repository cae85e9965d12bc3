"""The public files of latent diffusion and T5 are not at hand; stand-ins in their format are.

The U-Net and the text tower are written here from the released names and shapes, as plain modules, not from
our own mapping; the autoencoder's names are tested with its own reader.
"""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from networks import stirred
from safetensors.torch import save_file
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.nn.t5 import T5Encoder
from mmlearn.pretrained import READERS, load, vqgan
from mmlearn.pretrained.latent_diffusion import compvis_names, diffusers_names
from mmlearn.text2image.autoencoder import AutoencoderConfig
from mmlearn.text2image.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from mmlearn.text2image.latent_diffusion import LatentDiffusion, LatentUNet, LatentUNetConfig

W, CONTEXT, VOCAB, POSITIONS = 32, 64, 30, 6


class Holder(nn.Module):
    """Something that has parts by name."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class ResBlock(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, i), nn.SiLU(), nn.Conv2d(i, o, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * W, o))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, o), nn.SiLU(), nn.Dropout(0), nn.Conv2d(o, o, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if i == o else nn.Conv2d(i, o, 1)

    def forward(self, x, emb, context):
        h = self.in_layers(x) + self.emb_layers(emb)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    def __init__(self, d, source):
        super().__init__()
        self.to_q = nn.Linear(d, d, bias=False)
        self.to_k, self.to_v = nn.Linear(source, d, bias=False), nn.Linear(source, d, bias=False)
        self.to_out = nn.Sequential(nn.Linear(d, d), nn.Dropout(0))

    def forward(self, x, source):
        b, n, d = x.shape
        q, k, v = (a.view(b, -1, 8, d // 8).permute(0, 2, 1, 3).reshape(b * 8, -1, d // 8)
                   for a in (self.to_q(x), self.to_k(source), self.to_v(source)))
        weights = (torch.einsum("bid,bjd->bij", q, k) * (d // 8) ** -0.5).softmax(-1)
        out = torch.einsum("bij,bjd->bid", weights, v)
        return self.to_out(out.view(b, 8, n, -1).permute(0, 2, 1, 3).reshape(b, n, d))


class Gated(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.proj = nn.Linear(d, 8 * d)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attn1, self.attn2 = Attention(d, d), Attention(d, CONTEXT)
        self.ff = Holder(net=nn.Sequential(Gated(d), nn.Dropout(0), nn.Linear(4 * d, d)))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x, context):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff.net(self.norm3(x))


class Spatial(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm = nn.GroupNorm(32, d, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(d, d, 1), nn.Conv2d(d, d, 1)
        self.transformer_blocks = nn.ModuleList([Block(d)])

    def forward(self, x, emb, context):
        b, d, h, w = x.shape
        y = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(b, h * w, d)
        y = self.transformer_blocks[0](y, context)
        return x + self.proj_out(y.view(b, h, w, d).permute(0, 3, 1, 2))


class Down(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.op = nn.Conv2d(d, d, 3, 2, 1)

    def forward(self, x, emb, context):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.conv = nn.Conv2d(d, d, 3, padding=1)

    def forward(self, x, emb, context):
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


class First(nn.Conv2d):
    def forward(self, x, emb, context):
        return super().forward(x)


class Released(nn.Module):
    """Two levels of W and 2 W channels, one block each; the first level attends, the second does not."""

    def __init__(self):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(W, 4 * W), nn.SiLU(), nn.Linear(4 * W, 4 * W))

        def row(*parts):
            return nn.ModuleList(parts)

        self.input_blocks = row(row(First(4, W, 3, padding=1)), row(ResBlock(W, W), Spatial(W)), row(Down(W)),
                                row(ResBlock(W, 2 * W)))
        self.middle_block = row(ResBlock(2 * W, 2 * W), Spatial(2 * W), ResBlock(2 * W, 2 * W))
        self.output_blocks = row(row(ResBlock(4 * W, 2 * W)), row(ResBlock(3 * W, 2 * W), Up(2 * W)),
                                 row(ResBlock(3 * W, W), Spatial(W)), row(ResBlock(2 * W, W), Spatial(W)))
        self.out = nn.Sequential(nn.GroupNorm(32, W), nn.SiLU(), nn.Conv2d(W, 4, 3, padding=1))

    def forward(self, x, t, context):
        rates = torch.exp(-math.log(10000) * torch.arange(W // 2) / (W // 2))
        args = t[:, None].float() * rates
        emb = self.time_embed(torch.cat([args.cos(), args.sin()], -1))
        kept = []
        for stage in self.input_blocks:
            for layer in stage:
                x = layer(x, emb, context)
            kept.append(x)
        for layer in self.middle_block:
            x = layer(x, emb, context)
        for stage in self.output_blocks:
            x = torch.cat([x, kept.pop()], 1)
            for layer in stage:
                x = layer(x, emb, context)
        return self.out(x)


def text_layer():
    d = CONTEXT
    parts = {f"{n}_proj": nn.Linear(d, d) for n in ("q", "k", "v", "out")}
    return Holder(self_attn=Holder(**parts), layer_norm1=nn.LayerNorm(d), layer_norm2=nn.LayerNorm(d),
                  mlp=Holder(fc1=nn.Linear(d, 4 * d), fc2=nn.Linear(4 * d, d)))


class ReleasedText(nn.Module):
    def __init__(self):
        super().__init__()
        self.text_model = Holder(
            embeddings=Holder(token_embedding=nn.Embedding(VOCAB, CONTEXT),
                              position_embedding=nn.Embedding(POSITIONS, CONTEXT)),
            encoder=Holder(layers=nn.ModuleList([text_layer(), text_layer()])),
            final_layer_norm=nn.LayerNorm(CONTEXT))

    def forward(self, tokens):
        model, t = self.text_model, tokens.size(1)
        x = model.embeddings.token_embedding(tokens) + model.embeddings.position_embedding.weight[:t]
        for layer in model.encoder.layers:
            y, a = layer.layer_norm1(x), layer.self_attn
            scores = a.q_proj(y) @ a.k_proj(y).transpose(1, 2) / 8                           # one head of 64
            scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -float("inf"))
            x = x + a.out_proj(scores.softmax(-1) @ a.v_proj(y))
            y = layer.mlp.fc1(layer.layer_norm2(x))
            x = x + layer.mlp.fc2(y * (1.702 * y).sigmoid())
        return model.final_layer_norm(x)


def prefixed(prefix, module):
    return {prefix + name: value for name, value in module.state_dict().items()}


def inputs():
    g = torch.Generator().manual_seed(1)
    return (torch.randn(2, 4, 8, 8, generator=g), torch.tensor([3, 900]),
            torch.randn(2, 5, CONTEXT, generator=g))


def a_first_stage():
    torch.manual_seed(0)
    config = KLAutoencoderConfig(AutoencoderConfig(32, (1, 2), 1, (), 4, True), 4)
    model, state = stirred(KLAutoencoder(config)).eval(), {}
    names = vqgan.compvis_names(config.autoencoder, False)
    for ours, value in model.state_dict().items():
        theirs = names(ours)
        for name, part in zip(theirs, value.chunk(len(theirs))):
            square = len(theirs) == 3 or ".proj_out." in name
            state[f"first_stage_model.{name}"] = part[..., None, None] if square and part.ndim == 2 else part
    return model, {name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", ""])
def test_a_released_u_net_predicts_the_same_noise_in_our_modules(prefix, tmp_path):
    theirs = stirred(Released()).eval()
    torch.save({"state_dict": prefixed(prefix, theirs)}, tmp_path / "model.ckpt")
    ours = load(tmp_path / "model.ckpt", size=8)
    assert type(ours) is LatentUNet and not ours.training
    assert ours.config == LatentUNetConfig(
        size=8, width=W, multipliers=(1.0, 2.0), blocks=1, attention=(8,), heads=8, context=CONTEXT)
    x, t, context = inputs()
    with torch.no_grad():
        want = theirs(x, t, context)
        assert want.std() > 0.05
        torch.testing.assert_close(ours(x, t, context), want, atol=1e-5, rtol=1e-5)


def test_a_whole_checkpoint_of_stable_diffusion_becomes_a_whole_system(tmp_path, capsys):
    torch.manual_seed(0)
    unet, text = stirred(Released()).eval(), stirred(ReleasedText()).eval()
    stage, state = a_first_stage()
    state |= prefixed("model.diffusion_model.", unet) | prefixed("cond_stage_model.transformer.", text)
    state |= {
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(POSITIONS)[None],
        "betas": torch.rand(1000),
        "model_ema.decay": torch.tensor(0.99),
    }
    torch.save({"state_dict": state, "global_step": 5}, tmp_path / "sd-v1-4.ckpt")
    ours = load(tmp_path / "sd-v1-4.ckpt", size=8)
    assert isinstance(ours, LatentDiffusion) and ours.config.first_stage.scale == 0.18215
    assert "left out 2 tensors that are not read here: betas, model_ema" in capsys.readouterr().err
    tokens = torch.tensor([[27, 3, 4, 29, 29, 29], [27, 5, 6, 7, 8, 29]])
    x, t, _ = inputs()
    with torch.no_grad():
        torch.testing.assert_close(ours.read(tokens), text(tokens), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            ours(x, t, ours.read(tokens)), unet(x, t, text(tokens)), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(ours.first_stage.decode(x), stage.decode(x), atol=1e-5, rtol=1e-5)
    assert not any(p.requires_grad for part in (ours.text, ours.first_stage) for p in part.parameters())


@pytest.mark.parity
def test_a_folder_of_diffusers_gives_the_same_noise(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    theirs = stirred(
        diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=CONTEXT,
            attention_head_dim=8,
        )
    ).eval()
    theirs.save_pretrained(tmp_path / "unet")
    ours = load(tmp_path / "unet")
    x, t, context = inputs()
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t, context), theirs(x, t, context).sample, atol=1e-5, rtol=1e-5)
    settings = json.loads((tmp_path / "unet" / "config.json").read_text())
    (tmp_path / "unet" / "config.json").write_text(json.dumps({**settings, "use_linear_projection": True}))
    with pytest.raises(ValueError, match="sets use_linear_projection otherwise .* it is another model"):
        load(tmp_path / "unet")


def test_a_file_with_a_name_too_many_or_too_few_is_refused(tmp_path):
    state = prefixed("model.diffusion_model.", Released())
    state["model.diffusion_model.extra.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="not expected: extra.weight"):
        load(tmp_path / "model.ckpt", size=8)
    del state["model.diffusion_model.extra.weight"], state["model.diffusion_model.out.2.bias"]
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="missing: out.2.bias"):
        load(tmp_path / "model.ckpt", size=8)


def test_paper_sizes_have_the_released_names():
    config = LatentUNetConfig.stable_diffusion()
    with blank():
        state = LatentUNet(config).state_dict()
    compvis = [their for name in state for their in compvis_names(config)(name)]
    assert len(set(compvis)) == len(compvis) == 686                      # as Stable Diffusion's file has them
    assert {"input_blocks.3.0.op.weight", "input_blocks.8.1.transformer_blocks.0.attn2.to_v.weight",
            "output_blocks.8.2.conv.bias", "output_blocks.2.1.conv.weight", "middle_block.1.proj_in.weight",
            "input_blocks.11.0.out_layers.3.weight", "output_blocks.11.1.norm.weight"} <= set(compvis)
    diffusers = {their for name in state for their in diffusers_names(config)(name)}
    assert len(diffusers) == 686 and {
        "down_blocks.2.downsamplers.0.conv.weight", "up_blocks.0.upsamplers.0.conv.weight",
        "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2.bias", "down_blocks.3.resnets.1.conv2.weight",
        "mid_block.attentions.0.proj_out.weight", "time_embedding.linear_2.bias"} <= diffusers


@pytest.mark.parametrize("name", [name for name, module in READERS.items() if module == "latent_diffusion"])
def test_public_names_say_what_is_missing_without_a_network(name):
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        load(name)


# ------------------------------------------------------------------------------------------------- T5


def a_t5(folder, projection="gated-gelu", decoder=True):
    """A folder as google/t5-v1_1-… is: encoder, decoder, and the words twice."""
    d, inner, ff = 12, 8, 20
    shapes = {"shared": (30, d), "encoder.final_layer_norm": (d,),
              "encoder.block.0.layer.0.SelfAttention.relative_attention_bias": (8, 2)}
    for i in range(2):
        attention, feed = f"encoder.block.{i}.layer.0", f"encoder.block.{i}.layer.1"
        shapes |= {f"{attention}.SelfAttention.{n}": (inner, d) for n in "qkv"}
        shapes |= {f"{attention}.SelfAttention.o": (d, inner), f"{attention}.layer_norm": (d,),
                   f"{feed}.DenseReluDense.wi_0": (ff, d), f"{feed}.DenseReluDense.wi_1": (ff, d),
                   f"{feed}.DenseReluDense.wo": (d, ff), f"{feed}.layer_norm": (d,)}
    g = torch.Generator().manual_seed(0)
    state = {f"{name}.weight": torch.randn(shape, generator=g) * 0.3 for name, shape in shapes.items()}
    if decoder:
        state |= {"decoder.final_layer_norm.weight": torch.ones(d), "lm_head.weight": torch.zeros(30, d)}
        state["encoder.embed_tokens.weight"] = state["shared.weight"].clone()
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "t5",
                "vocab_size": 30,
                "d_model": d,
                "d_kv": 4,
                "num_heads": 2,
                "d_ff": ff,
                "num_layers": 2,
                "relative_attention_num_buckets": 8,
                "relative_attention_max_distance": 20,
                "feed_forward_proj": projection,
                "dropout_rate": 0.1,
            }
        )
    )
    return folder


@pytest.mark.parity
def test_a_folder_of_t5_gives_the_states_that_transformers_gives(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    folder = a_t5(tmp_path / "t5")
    ours = load(folder)
    assert isinstance(ours, T5Encoder) and "left out 3 tensors of the decoder" in capsys.readouterr().err
    theirs = transformers.T5EncoderModel.from_pretrained(a_t5(tmp_path / "encoder", decoder=False)).eval()
    tokens = torch.randint(0, 30, (2, 15))
    with torch.no_grad():
        torch.testing.assert_close(
            ours(tokens), theirs(input_ids=tokens).last_hidden_state, atol=1e-5, rtol=1e-5
        )


def test_a_t5_of_another_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has the feed-forward net 'relu', expected 'gated-gelu'"):
        load(a_t5(tmp_path / "t5", "relu"))
