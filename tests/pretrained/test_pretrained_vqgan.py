"""The public files of VQGAN, latent diffusion and diffusers are not at hand; stand-ins in their format are.

They are written here from the released names and shapes, as plain modules, not from our own mapping; the
authors' code and diffusers, where they are installed, are compared in the tests of the systems.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmlearn.pretrained import load
from mmlearn.pretrained.vqgan import fetch, load_discriminator, load_lpips, load_transformer
from mmlearn.text2image.kl_autoencoder import KLAutoencoder
from mmlearn.text2image.perceptual import VGG16
from mmlearn.text2image.taming_transformer import TamingTransformer
from mmlearn.text2image.vqgan import VQGAN

W, MULTIPLIERS, BLOCKS, K = 32, (1, 2), 2, 7                # width, levels, residual blocks, codes


class Holder(nn.Module):
    """Something that has parts by name."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def norm(n):
    return nn.GroupNorm(32, n, eps=1e-6)


class Res(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1 = norm(i), nn.Conv2d(i, o, 3, 1, 1)
        self.norm2, self.conv2 = norm(o), nn.Conv2d(o, o, 3, 1, 1)
        if i != o:
            self.nin_shortcut = nn.Conv2d(i, o, 1)

    def forward(self, x):
        h = self.conv1(self.norm1(x) * self.norm1(x).sigmoid())
        h = self.conv2(self.norm2(h) * self.norm2(h).sigmoid())
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attn(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm = norm(n)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(n, n, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))             # b n p
        weights = (torch.einsum("bnp,bnq->bpq", q, k) * x.shape[1] ** -0.5).softmax(2)
        return x + self.proj_out(torch.einsum("bpq,bnq->bnp", weights, v).view_as(x))


class Levels(nn.Module):
    """Either half of a released autoencoder, with attention at the smaller of two levels."""

    def __init__(self, into, out, up):
        super().__init__()
        small = W * MULTIPLIERS[1]
        mid = Holder(block_1=Res(small, small), attn_1=Attn(small), block_2=Res(small, small))
        if up:
            self.conv_in = nn.Conv2d(into, small, 3, 1, 1)
            fine = Holder(block=nn.ModuleList([Res(small, W), Res(W, W), Res(W, W)]), attn=nn.ModuleList())
            coarse = Holder(block=nn.ModuleList([Res(small, small) for _ in range(3)]),
                            attn=nn.ModuleList([Attn(small) for _ in range(3)]),
                            upsample=Holder(conv=nn.Conv2d(small, small, 3, 1, 1)))
            self.mid, self.up = mid, nn.ModuleList([fine, coarse])
            self.norm_out, self.conv_out = norm(W), nn.Conv2d(W, out, 3, 1, 1)
        else:
            self.conv_in = nn.Conv2d(into, W, 3, 1, 1)
            fine = Holder(block=nn.ModuleList([Res(W, W), Res(W, W)]), attn=nn.ModuleList(),
                          downsample=Holder(conv=nn.Conv2d(W, W, 3, 2, 0)))
            coarse = Holder(block=nn.ModuleList([Res(W, small), Res(small, small)]),
                            attn=nn.ModuleList([Attn(small), Attn(small)]))
            self.down, self.mid = nn.ModuleList([fine, coarse]), mid
            self.norm_out, self.conv_out = norm(small), nn.Conv2d(small, out, 3, 1, 1)

    def forward(self, x):
        x = self.conv_in(x)
        if hasattr(self, "down"):
            for block in self.down[0].block:
                x = block(x)
            x = self.down[0].downsample.conv(F.pad(x, (0, 1, 0, 1)))
            for block, attn in zip(self.down[1].block, self.down[1].attn):
                x = attn(block(x))
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        if hasattr(self, "up"):
            for block, attn in zip(self.up[1].block, self.up[1].attn):
                x = attn(block(x))
            x = self.up[1].upsample.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
            for block in self.up[0].block:
                x = block(x)
        x = self.norm_out(x)
        return self.conv_out(x * x.sigmoid())


class Released(nn.Module):
    """A released autoencoder: "vq", "gumbel" or "kl"."""

    def __init__(self, kind):
        super().__init__()
        double, z, n = kind == "kl", 6, 5
        self.encoder, self.decoder = Levels(3, 2 * z if double else z, False), Levels(z, 3, True)
        self.quant_conv = nn.Conv2d(2 * z if double else z, 2 * n if double else n, 1)
        self.post_quant_conv = nn.Conv2d(n, z, 1)
        if kind == "vq":
            self.quantize = Holder(embedding=nn.Embedding(K, n))
        if kind == "gumbel":
            self.quantize = Holder(proj=nn.Conv2d(n, K, 1), embed=nn.Embedding(K, n))

    def draw(self, vectors):
        return self.decoder(self.post_quant_conv(vectors))


def stirred(model, seed=0):
    g = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.normal_(0, value[0].numel() ** -0.5 if value.ndim > 1 else 0.3, generator=g)
            value.add_(float("norm" in name and name.endswith("weight")))
            value.abs_() if "running_var" in name or name.startswith("lin") else None
    return model.eval()


@pytest.fixture
def pictures():
    return torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(3)) * 2 - 1


def beside(layers=2):
    """What the training left in a file of VQGAN: its discriminator and its perceptual distance."""
    main = [nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2)]
    for i, o, stride in ((8, 16, 2), (16, 32, 1)):
        main += [nn.Conv2d(i, o, 4, stride, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
    return stirred(Holder(discriminator=Holder(main=nn.Sequential(*main, nn.Conv2d(32, 1, 4, 1, 1)))), 5)


@torch.no_grad()
def test_a_file_of_vqgan_gives_the_same_codes_and_the_same_picture(tmp_path, pictures, capsys):
    theirs, loss = stirred(Released("vq")), beside()
    state = theirs.state_dict() | {f"loss.{name}": v for name, v in loss.state_dict().items()}
    torch.save({"state_dict": state, "global_step": 5}, tmp_path / "last.ckpt")
    ours = load(tmp_path / "last.ckpt")
    assert isinstance(ours, VQGAN) and ours.config.codes == K and ours.config.autoencoder.attention == (2,)
    z = theirs.quant_conv(theirs.encoder(pictures))
    codes = torch.cdist(z.movedim(1, -1).flatten(0, 2), theirs.quantize.embedding.weight).argmin(1)
    assert torch.equal(ours.encode(pictures).flatten(), codes)
    want = theirs.draw(theirs.quantize.embedding(codes).view(2, 8, 6, 5).movedim(-1, 1))
    torch.testing.assert_close(ours(pictures).images, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.decode(codes.view(2, 8, 6)), want, atol=1e-5, rtol=1e-5)
    said = capsys.readouterr().err
    assert "loss.discriminator (" in said and "load_discriminator and load_lpips read them" in said
    judge = load_discriminator(tmp_path / "last.ckpt")
    torch.testing.assert_close(judge(pictures), loss.discriminator.main(pictures), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_file_of_the_gumbel_variant_gives_the_likeliest_codes(tmp_path, pictures):
    theirs = stirred(Released("gumbel"))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "last.ckpt")
    ours = load(tmp_path / "last.ckpt")
    assert ours.config.quantiser == "gumbel"
    codes = theirs.quantize.proj(theirs.quant_conv(theirs.encoder(pictures))).argmax(1)
    assert torch.equal(ours.encode(pictures), codes)
    want = theirs.draw(theirs.quantize.embed(codes).movedim(-1, 1))
    torch.testing.assert_close(ours(pictures).images, want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_first_stage_is_taken_out_of_a_whole_checkpoint_of_latent_diffusion(tmp_path, pictures, capsys):
    theirs = stirred(Released("kl"))
    state = {f"first_stage_model.{name}": v for name, v in theirs.state_dict().items()}
    state |= {"model.diffusion_model.out.2.weight": torch.zeros(4, 4, 3, 3), "alphas_cumprod": torch.ones(9)}
    torch.save({"state_dict": state}, tmp_path / "sd.ckpt")
    ours = load(tmp_path / "sd.ckpt", scale=0.5)
    assert isinstance(ours, KLAutoencoder) and ours.config.scale == 0.5
    mu, log_var = theirs.quant_conv(theirs.encoder(pictures)).chunk(2, 1)
    posterior = ours.posterior(pictures)
    torch.testing.assert_close(posterior.mu, mu, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(posterior.log_var, log_var, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.encode(pictures, mode=True), mu / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.decode(mu / 2), theirs.draw(mu), atol=1e-5, rtol=1e-5)
    assert "alphas_cumprod (1), model.diffusion_model (1)" in capsys.readouterr().err


def test_a_file_with_another_tensor_or_without_one_is_refused_by_name(tmp_path):
    state = Released("vq").state_dict()
    torch.save(state | {"encoder.extra": torch.zeros(3)}, tmp_path / "more.ckpt")
    with pytest.raises(ValueError, match="not expected: encoder.extra"):
        load(tmp_path / "more.ckpt")
    del state["encoder.mid.attn_1.q.bias"]
    torch.save(state, tmp_path / "less.ckpt")
    with pytest.raises(ValueError, match=r"missing: encoder.mid.attn_1.q.bias"):
        load(tmp_path / "less.ckpt")
    with pytest.raises(FileNotFoundError, match="on the authors' server"):
        fetch("CompVis/taming-transformers")


@torch.no_grad()
def test_lpips_is_read_from_torchvisions_network_and_the_authors_heads(tmp_path):
    layers, into = [], 3
    for out in VGG16:
        layers += [nn.MaxPool2d(2)] if out == "M" else [nn.Conv2d(into, out, 3, 1, 1), nn.ReLU()]
        into = into if out == "M" else out
    vgg = stirred(Holder(features=nn.Sequential(*layers), classifier=nn.Sequential(nn.Linear(4, 2))))
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))}
    torch.save(vgg.state_dict(), tmp_path / "vgg16.pth")
    torch.save(heads, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match="holds a network but no heads"):
        load_lpips(tmp_path / "vgg16.pth")
    ours = load_lpips(tmp_path / "vgg16.pth", tmp_path / "vgg.pth")
    x, y = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    shift, scale = torch.tensor([-.030, -.088, -.188]), torch.tensor([.458, .448, .450])
    want, a, b = 0, *((v - shift[:, None, None]) / scale[:, None, None] for v in (x, y))
    taps = iter(heads.values())
    for i, layer in enumerate(layers):
        a, b = layer(a), layer(b)
        if i + 1 == len(layers) or isinstance(layers[i + 1], nn.MaxPool2d):
            ua, ub = (v / (v.norm(dim=1, keepdim=True) + 1e-10) for v in (a, b))
            want = want + F.conv2d((ua - ub) ** 2, next(taps)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(ours(x, y), want, atol=1e-5, rtol=1e-4)
    slices = {name: 1 + sum(int(name.split(".")[1]) >= first for first in (4, 9, 16, 23))
              for name in vgg.state_dict() if name.startswith("features.")}
    inside = {f"loss.perceptual_loss.net.slice{slices[name]}.{name.removeprefix('features.')}":
              vgg.state_dict()[name] for name in slices}
    inside |= {f"loss.perceptual_loss.{name}": value for name, value in heads.items()}
    inside |= {"loss.perceptual_loss.scaling_layer.shift": shift}
    torch.save({"state_dict": inside}, tmp_path / "last.ckpt")
    torch.testing.assert_close(load_lpips(tmp_path / "last.ckpt")(x, y), want, atol=1e-5, rtol=1e-4)


class GPTBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = Holder(**{part: nn.Linear(d, d) for part in ("key", "query", "value", "proj")})
        self.attn.register_buffer("mask", torch.ones(6, 6).tril()[None, None])
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d), nn.Dropout(0.0))

    def forward(self, x, heads):
        b, t, d = x.shape
        z = self.ln1(x)
        q, k, v = (getattr(self.attn, part)(z).view(b, t, heads, -1) for part in ("query", "key", "value"))
        scores = torch.einsum("bthe,bshe->bhts", q, k) / (d // heads) ** 0.5
        scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -float("inf")).softmax(-1)
        x = x + self.attn.proj(torch.einsum("bhts,bshe->bthe", scores, v).flatten(2))
        return x + self.mlp(self.ln2(x))


@torch.no_grad()
def test_a_released_transformer_is_read_beside_its_first_stage(tmp_path):
    d = 8
    gpt = Holder(tok_emb=nn.Embedding(K, d), blocks=nn.Sequential(GPTBlock(d), GPTBlock(d)),
                 ln_f=nn.LayerNorm(d), head=nn.Linear(d, K, bias=False))
    gpt.pos_emb = nn.Parameter(torch.zeros(1, 6, d))
    stirred(gpt)
    for block in gpt.blocks:
        block.attn.mask.copy_(torch.ones(6, 6).tril())
    state = {f"transformer.{name}": v for name, v in gpt.state_dict().items()}
    state |= {f"first_stage_model.{name}": v for name, v in Released("vq").state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net2net.ckpt")
    with pytest.raises(ValueError, match="say how many heads it has"):
        load_transformer(tmp_path / "net2net.ckpt")
    ours = load_transformer(tmp_path / "net2net.ckpt", heads=2)
    assert isinstance(ours, TamingTransformer) and ours.config.positions == 6
    tokens = torch.randint(K, (3, 6))
    x = gpt.tok_emb(tokens) + gpt.pos_emb
    for block in gpt.blocks:
        x = block(x, 2)
    torch.testing.assert_close(ours.read(tokens), gpt.head(gpt.ln_f(x)), atol=1e-5, rtol=1e-5)
    assert isinstance(load(tmp_path / "net2net.ckpt"), VQGAN)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["AutoencoderKL", "VQModel"])
@torch.no_grad()
def test_a_folder_of_diffusers_gives_the_same_pictures(tmp_path, kind, pictures):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    options = dict(block_out_channels=(32, 64), layers_per_block=1, latent_channels=4, norm_num_groups=8)
    if kind == "VQModel":
        options |= dict(num_vq_embeddings=K, up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
                        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"))
    else:
        options |= dict(scaling_factor=0.3, up_block_types=("UpDecoderBlock2D",) * 2,
                        down_block_types=("DownEncoderBlock2D",) * 2)
    theirs = stirred(getattr(diffusers, kind)(**options))
    theirs.save_pretrained(tmp_path / "new")
    ours = load(tmp_path / "new")
    if kind == "VQModel":
        h = theirs.encode(pictures).latents
        codes = theirs.quantize(h)[2][2].view(2, 8, 6)
        assert torch.equal(ours.encode(pictures), codes)
        torch.testing.assert_close(ours(pictures).images, theirs(pictures).sample, atol=1e-5, rtol=1e-5)
        return
    assert ours.config.scale == 0.3
    found = theirs.encode(pictures).latent_dist
    torch.testing.assert_close(ours.posterior(pictures).mu, found.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.posterior(pictures).log_var, found.logvar, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.posterior(pictures).kl(), found.kl(), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(ours.decode(found.mean * 0.3), theirs.decode(found.mean).sample, atol=1e-5,
                               rtol=1e-5)
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}    # as in 2022
    state = dict(theirs.state_dict())
    for new, old in older.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    (tmp_path / "old").mkdir()
    torch.save(state, tmp_path / "old" / "diffusion_pytorch_model.bin")
    settings = json.loads((tmp_path / "new" / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(json.dumps(settings))
    torch.testing.assert_close(load(tmp_path / "old").decode(found.mean), ours.decode(found.mean))
