"""The public files of GLIDE (filtered) are not at hand; stand-ins in their format are.

They are written here from the released names and shapes, as plain modules that work on (b, c, t) and (b, c,
y, x) as those of the authors do, not from our own mapping.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.pretrained import READERS, glide, load
from mmlearn.pretrained.glide import FILES, fetch, kind_of, load_clip, model_config, model_shapes
from mmlearn.text2image.glide import GLIDE, GLIDEConfig
from mmlearn.text2image.noised_clip import (
    NoisedCLIP,
    NoisedCLIPConfig,
    NoisedTextTransformer,
    NoisedVisionTransformer,
)

HEAD, WIDTH, GROUPS, TEXT, CONTEXT, VOCAB = 16, 32, 32, 32, 6, 50


class Ladder(nn.Module):
    """The text transformer and the U-Net with the released names."""

    def __init__(self, channels=3, mult=(1, 2), blocks=2, attends=(False, True)):
        super().__init__()
        self.blocks = blocks
        self.token_embedding = nn.Embedding(VOCAB, TEXT)
        self.positional_embedding = nn.Parameter(torch.empty(CONTEXT, TEXT))
        self.padding_embedding = nn.Parameter(torch.empty(CONTEXT, TEXT))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(TextBlock(TEXT) for _ in range(2))
        self.final_ln = nn.LayerNorm(TEXT)
        self.transformer_proj = nn.Linear(TEXT, 4 * WIDTH)
        self.time_embed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.SiLU(),
                                        nn.Linear(4 * WIDTH, 4 * WIDTH))
        widths = [m * WIDTH for m in mult]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(channels, widths[0], 3, padding=1)])])
        c, skips = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                layers = [Res(c, width)] + [Att(width)] * attends[level]
                self.input_blocks.append(nn.ModuleList(layers))
                c = width
                skips.append(c)
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([Res(c, c, "down")]))
                skips.append(c)
        self.middle_block = nn.ModuleList([Res(c, c), Att(c), Res(c, c)])
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for i in range(blocks + 1):
                layers = [Res(c + skips.pop(), widths[level])] + [Att(widths[level])] * attends[level]
                c = widths[level]
                if level and i == blocks:
                    layers.append(Res(c, c, "up"))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, c), nn.SiLU(), nn.Conv2d(c, 6, 3, padding=1))

    def forward(self, x, t, tokens, mask):
        h = self.token_embedding(tokens) + self.positional_embedding
        h = torch.where(mask[..., None], h, self.padding_embedding)
        for block in self.transformer.resblocks:
            h = block(h)
        h = self.final_ln(h)
        half = WIDTH // 2
        w = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(half) / half)
        a = t[:, None] * w                                      # in 32 bits, whatever the model has
        emb = self.time_embed(torch.cat([a.cos(), a.sin()], 1).to(x)) + self.transformer_proj(h[:, -1])
        text, kept = h.transpose(1, 2), []                      # b d t

        def run(layers, x):
            for layer in layers:
                read = {Res: (emb,), Att: (text,)}.get(type(layer), ())
                x = layer(x, *read)
            return x

        for layers in self.input_blocks:
            x = run(layers, x)
            kept.append(x)
        x = run(self.middle_block, x)
        for layers in self.output_blocks:
            x = run(layers, torch.cat([x, kept.pop()], 1))
        return self.out(x)


class TextBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attn = nn.Module()
        self.attn.c_qkv, self.attn.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.attn.c_qkv(self.ln_1(x)).view(b, t, d // HEAD, 3 * HEAD).split(HEAD, dim=-1)
        w = torch.einsum("bthc,bshc->bhts", q, k).div(HEAD**0.5).softmax(-1)
        x = x + self.attn.c_proj(torch.einsum("bhts,bshc->bthc", w, v).reshape(b, t, d))
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))


class Res(nn.Module):
    def __init__(self, into, out, sampling=""):
        super().__init__()
        self.sampling = sampling
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, into), nn.SiLU(),
                                       nn.Conv2d(into, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * WIDTH, 2 * out))
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, out), nn.SiLU(), nn.Dropout(0.1),
                                        nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x, emb):
        h = self.in_layers[:2](x)
        if self.sampling == "up":
            h, x = F.interpolate(h, scale_factor=2.0), F.interpolate(x, scale_factor=2.0)
        elif self.sampling == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = self.in_layers[2](h)
        scale, shift = self.emb_layers(emb)[..., None, None].chunk(2, 1)
        return self.skip_connection(x) + self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)


class Att(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, c)
        self.qkv, self.encoder_kv = nn.Conv1d(c, 3 * c, 1), nn.Conv1d(TEXT, 2 * c, 1)
        self.proj_out = nn.Conv1d(c, c, 1)

    def forward(self, x, text):
        b, c, *sides = x.shape
        heads = c // HEAD
        q, k, v = self.qkv(self.norm(x).view(b, c, -1)).view(b * heads, 3 * HEAD, -1).split(HEAD, 1)
        ek, ev = self.encoder_kv(text).view(b * heads, 2 * HEAD, -1).split(HEAD, 1)
        k, v = torch.cat([ek, k], -1), torch.cat([ev, v], -1)
        w = torch.einsum("bct,bcs->bts", q * HEAD**-0.25, k * HEAD**-0.25).softmax(-1)
        return x + self.proj_out(torch.einsum("bts,bcs->bct", w, v).reshape(b, c, -1)).view(b, c, *sides)


class Affine(nn.Module):
    def __init__(self, into, out, bias=True):
        super().__init__()
        self.w = nn.Parameter(torch.empty(out, into))
        self.b = nn.Parameter(torch.empty(out)) if bias else None

    def forward(self, x):
        return F.linear(x, self.w, self.b)


class Norm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.g, self.b = nn.Parameter(torch.empty(d)), nn.Parameter(torch.empty(d))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.g, self.b, 1e-5)


class Block(nn.Module):
    def __init__(self, d, causal):
        super().__init__()
        self.causal = causal
        self.f_attn, self.f_mlp = nn.Module(), nn.Module()
        self.f_attn.ln, self.f_mlp.ln = Norm(d), Norm(d)
        self.f_attn.f_q, self.f_attn.f_k, self.f_attn.f_v = Affine(d, d), Affine(d, d, False), Affine(d, d)
        self.f_attn.f_c = Affine(d, d)
        self.f_mlp.f_1, self.f_mlp.f_2 = Affine(d, 4 * d), Affine(4 * d, d)

    def forward(self, x):
        b, t, d = x.shape
        r = self.f_attn.ln(x)
        q, k, v = (part(r).view(b, t, d // HEAD, HEAD).transpose(1, 2)
                   for part in (self.f_attn.f_q, self.f_attn.f_k, self.f_attn.f_v))
        w = q @ k.mT / HEAD**0.5
        if self.causal:
            w = w + torch.full((t, t), -1e10, dtype=w.dtype).triu(1)
        x = x + self.f_attn.f_c((w.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d))
        return x + self.f_mlp.f_2(F.gelu(self.f_mlp.f_1(self.f_mlp.ln(x))))


class Tower(nn.Module):
    """A tower of the noised CLIP with the released names: one that sees (with ``patch``) or one that
    reads."""

    def __init__(self, patch=0, size=8, steps=20, d=32, embed=10, layers=2):
        super().__init__()
        self.patch = patch
        first, last = nn.Module(), nn.Module()
        if patch:
            first.w_t = nn.Parameter(torch.empty(steps, d))
            first.patch_proj = nn.Parameter(torch.empty(d, 3, patch, patch))
            first.w_pos = nn.Parameter(torch.empty(1 + (size // patch) ** 2, d))
            first.ln = Norm(d)
        else:
            first.w_voc, first.w_pos = nn.Parameter(torch.empty(VOCAB, d)), nn.Parameter(torch.empty(7, d))
        last.ln, last.f = Norm(d), Affine(d, embed, False)
        self.blocks = nn.ModuleDict({"input": first,
                                     **{f"block_{i}": Block(d, not patch) for i in range(layers)},
                                     "output": last})

    def forward(self, x, t=None, lengths=None):
        first, *middle, last = self.blocks.values()
        if self.patch:
            means = torch.tensor([122.77093945, 116.74601272, 104.09373519])[:, None, None].to(x)
            stds = torch.tensor([68.50053285, 66.63215831, 70.32316309])[:, None, None].to(x)
            x = F.conv2d(((x + 1) * 127.5 - means) / stds, first.patch_proj, stride=self.patch).flatten(2).mT
            x = first.ln(torch.cat([first.w_t[t][:, None], x], 1) + first.w_pos)
            at = torch.zeros(len(x), dtype=torch.long)
        else:
            x, at = first.w_voc[x] + first.w_pos, lengths - 1
        for block in middle:
            x = block(x)
        return last.f(last.ln(x)[torch.arange(len(x)), at])


def stirred(model, seed=0):
    """Every parameter is drawn; as the files hold 16 bits, so does what is drawn."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            scale = 1.5 * value[0].numel() ** -0.5 if value.ndim > 1 else 0.3
            value.normal_(0, scale, generator=g)
            if value.ndim == 1 and name.rpartition(".")[2] in ("weight", "g"):
                value.add_(1.0)
            value.copy_(value.half().float())
    return model.eval()


@pytest.mark.parametrize("channels, mult, attends", [
    (3, (1, 2), (False, True)), (7, (1, 2), (True, True)), (6, (1, 1, 2), (False, True, True)),
    (10, (1, 2), (False, True))])
def test_a_released_model_predicts_the_same_in_our_modules(channels, mult, attends, tmp_path):
    theirs = stirred(Ladder(channels, mult, attends=attends))
    torch.save({name: value.half() for name, value in theirs.state_dict().items()}, tmp_path / "base.pt")
    ours = load(tmp_path / "base.pt", head=HEAD)
    assert isinstance(ours, GLIDE) and not ours.training
    config = ours.config
    assert config.unet.multipliers == mult and config.unet.blocks == 2 and config.text.heads == TEXT // HEAD
    assert config.inpaint == (channels in (7, 10)) and bool(config.low) == (channels in (6, 10))
    assert config.schedule == ("linear" if config.low else "cosine")
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    size = config.size
    g = torch.Generator().manual_seed(1)
    x, known = (torch.randn(2, 3, size, size, generator=g).double() for _ in range(2))
    kept = (torch.rand(2, 1, size, size, generator=g) < 0.5).double()
    low = torch.randn(2, 3, size // 4, size // 4, generator=g).double()
    tokens = torch.tensor([[3, 4, 5, VOCAB - 1, VOCAB - 1, VOCAB - 1], [VOCAB - 1] * 6])
    t = torch.tensor([7, 90])
    parts, given = [x], {}
    if config.inpaint:
        parts += [known * kept, kept]
        given |= {"known": known, "kept": kept}
    if config.low:
        parts.append(F.interpolate(low, (size, size), mode="bilinear", align_corners=False))
        given["low"] = low
    theirs, ours = theirs.double(), ours.double()
    with torch.no_grad():
        want = theirs(torch.cat(parts, 1), t, tokens, tokens != VOCAB - 1)
        got = ours(x, t, tokens, **given)
    assert want.std() > 0.1
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_the_towers_of_the_noised_clip_embed_the_same_in_our_modules(tmp_path):
    seen, read = stirred(Tower(patch=4)), stirred(Tower(), 1)
    for name, tower in (("image", seen), ("text", read)):
        torch.save({key: value.half() for key, value in tower.state_dict().items()}, tmp_path / f"{name}.pt")
    assert isinstance(load(tmp_path / "image.pt", head=HEAD), NoisedVisionTransformer)
    assert isinstance(load(tmp_path / "text.pt", head=HEAD), NoisedTextTransformer)
    ours = load_clip(tmp_path / "image.pt", tmp_path / "text.pt", HEAD)
    assert isinstance(ours, NoisedCLIP) and ours.config.scale == 100 and not ours.training
    assert ours.config.steps == 20 and ours.config.text.eot == VOCAB - 1
    assert float(ours.logit_scale.exp().detach()) == pytest.approx(100)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([0, 19])
    tokens = torch.tensor([[3, 4, VOCAB - 1, 0, 0, 0, 0], [3, 9, 8, 7, 6, 5, VOCAB - 1]])
    with torch.no_grad():
        torch.testing.assert_close(ours.image(x, t), seen(x, t), atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(ours.text(tokens), read(tokens, lengths=torch.tensor([3, 7])), atol=2e-5,
                                   rtol=1e-4)
    with pytest.raises(ValueError, match="in this order"):
        load_clip(tmp_path / "text.pt", tmp_path / "image.pt", HEAD)
    torch.save(stirred(Tower(embed=6)).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="embeds in 10 numbers and .* in 6"):
        load_clip(tmp_path / "image.pt", tmp_path / "other.pt", HEAD)


@pytest.mark.parametrize("name", ["filtered", "filtered_inpaint", "filtered_upsampler",
                                  "filtered_upsampler_inpaint"])
def test_released_sizes_are_read_off_the_shapes(name):
    config = getattr(GLIDEConfig, name)()
    with blank():
        model = GLIDE(config)
    state = {theirs: torch.empty(shape, device="meta") for theirs, shape in model_shapes(model).items()}
    assert model_config(state, "base.pt") == config
    assert {"input_blocks.3.0.in_layers.0.weight", "transformer.resblocks.15.attn.c_qkv.weight", "out.2.bias",
            "middle_block.1.encoder_kv.weight", "time_embed.2.weight", "final_ln.bias"} <= state.keys()
    assert kind_of(state) == "model"


def test_the_released_noised_clip_has_the_published_names():
    with blank():
        model = NoisedCLIP(NoisedCLIPConfig.released())
    for tower, count in ((model.text, 71_679_488), (model.image, 86_443_776)):
        shapes = glide.clip_shapes(tower)
        assert sum(torch.Size(shape).numel() for shape in shapes.values()) == count
        assert "blocks.block_11.f_attn.f_k.w" in shapes and "blocks.block_0.f_attn.f_k.b" not in shapes


def test_a_file_with_a_name_or_a_shape_too_many_is_refused(tmp_path):
    file = tmp_path / "base.pt"
    state = stirred(Ladder()).state_dict()
    torch.save({**state, "unemb.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(ValueError, match=r"not expected: unemb\.weight"):
        load(file, head=HEAD)
    torch.save({name: value for name, value in state.items() if name != "padding_embedding"}, file)
    with pytest.raises(ValueError, match="missing: padding_embedding"):
        load(file, head=HEAD)
    torch.save({**state, "input_blocks.0.0.weight": torch.zeros(WIDTH, 4, 3, 3)}, file)
    with pytest.raises(ValueError, match="reads 4 channels; the released models read 3, 7, 6, 10"):
        load(file, head=HEAD)
    torch.save({"transformer_proj.weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="is none of base.pt"):
        glide.load(file)


def test_public_names_are_fetched_from_where_they_were_published(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(glide, "download", lambda remote, target: (asked.append(remote.url), target)[1])
    for name in FILES:
        assert READERS[name] == "glide" and fetch(name, tmp_path) == tmp_path / "glide" / FILES[name]
    assert asked[0] == "https://openaipublic.blob.core.windows.net/diffusion/dec-2021/base.pt"
    assert [url.rpartition("/")[2] for url in asked] == [
        "base.pt", "upsample.pt", "base_inpaint.pt", "upsample_inpaint.pt", "clip_image_enc.pt",
        "clip_text_enc.pt"]
