"""The public files of AttnGAN, DM-GAN, StackGAN-v2 and DAMSM are not at hand; stand-ins in their format are.

They are written here from the released names and shapes, as plain modules that work on (b, c, s, s) and
(b, d, t) as those of the authors do, not from our own mapping.
"""

import pytest
import torch
import torch.nn.functional as F
from networks import count
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.pretrained import READERS, load
from mmlearn.pretrained.text2image import ATTNGAN, DMGAN, LAYOUTS, STACKGAN_V2, fetch, layout_of
from mmlearn.text2image.attngan import AttnGANConfig, AttnGANGenerator
from mmlearn.text2image.blocks import draw_condition
from mmlearn.text2image.damsm import ImageEncoder, TextEncoder
from mmlearn.text2image.dmgan import DMGANConfig, DMGANGenerator
from mmlearn.text2image.stackgan import StackGANv2Config, StackGANv2Generator

G, TEXT, C, Z, T = 4, 6, 3, 5, 4                       # channels, text, condition, noise, words


class Gate(nn.Module):
    def forward(self, x):
        n = x.size(1) // 2
        return x[:, :n] * x[:, n:].sigmoid()


def three(i, o):
    return nn.Conv2d(i, o, 3, 1, 1, bias=False)


def grow(i, o):
    return nn.Sequential(nn.Upsample(scale_factor=2), three(i, 2 * o), nn.BatchNorm2d(2 * o), Gate())


class Residual(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.block = nn.Sequential(three(n, 2 * n), nn.BatchNorm2d(2 * n), Gate(), three(n, n),
                                   nn.BatchNorm2d(n))

    def forward(self, x):
        return self.block(x) + x


class Holder(nn.Module):
    """Something that has parts by name."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Next(nn.Module):
    """A further stage of one of the three generators, with the released names."""

    def __init__(self, kind, g, blocks):
        super().__init__()
        self.kind, wide = kind, g if kind == "v2" else 2 * g
        if kind == "attn":
            self.att = Holder(conv_context=nn.Conv2d(TEXT, g, 1, bias=False))
        if kind == "v2":
            self.jointConv = nn.Sequential(three(g + C, 2 * g), nn.BatchNorm2d(2 * g), Gate())
        if kind == "dm":
            self.A, self.B = nn.Linear(TEXT, 1, bias=False), nn.Linear(g, 1, bias=False)
            self.M_r = nn.Sequential(nn.Conv1d(g, 2 * g, 1), nn.ReLU())
            self.M_w = nn.Sequential(nn.Conv1d(TEXT, 2 * g, 1), nn.ReLU())
            self.key = nn.Sequential(nn.Conv1d(2 * g, g, 1), nn.ReLU())
            self.value = nn.Sequential(nn.Conv1d(2 * g, g, 1), nn.ReLU())
            self.response_gate = nn.Sequential(nn.Conv2d(2 * g, 1, 1), nn.Sigmoid())
        self.residual = nn.Sequential(*(Residual(wide) for _ in range(blocks)))
        self.upsample = grow(wide, g // 2 if kind == "v2" else g)

    def attend(self, h, keys, values, mask):
        """h (b, g, s, s), keys and values (b, g, t), mask True = padding, in the right order."""
        scores = torch.einsum("bgyx,bgt->btyx", h, keys).masked_fill(mask[:, :, None, None], -float("inf"))
        weights = scores.softmax(1)
        return torch.einsum("btyx,bgt->bgyx", weights, values), weights

    def forward(self, h, c, words, mask):
        weights = None
        if self.kind == "v2":
            joined = torch.cat([c[:, :, None, None].repeat(1, 1, *h.shape[2:]), h], 1)
            return self.upsample(self.residual(self.jointConv(joined))), weights
        if self.kind == "attn":
            e = self.att.conv_context(words[..., None])[..., 0]
            read, weights = self.attend(h, e, e, mask)
            return self.upsample(self.residual(torch.cat([h, read], 1))), weights
        mean = h.mean((2, 3))
        gate = (self.A(words.transpose(1, 2)) + self.B(mean)[:, None]).sigmoid().transpose(1, 2)      # b 1 t
        memory = self.M_w(words) * gate + self.M_r(mean[:, :, None].repeat(1, 1, words.size(2))) * (1 - gate)
        read, weights = self.attend(h, self.key(memory), self.value(memory), mask)
        response = self.response_gate(torch.cat([h, read], 1))
        h = h * (1 - response) + read * response
        return self.upsample(self.residual(torch.cat([h, h], 1))), weights


class Released(nn.Module):
    def __init__(self, kind, blocks=2):
        super().__init__()
        self.ca_net = Holder(fc=nn.Linear(TEXT, 4 * C))
        n = 16 * G
        fc = nn.Sequential(nn.Linear(Z + C, n * 32, bias=False), nn.BatchNorm1d(n * 32), Gate())
        self.h_net1 = Holder(fc=fc, **{f"upsample{i + 1}": grow(n >> i, n >> (i + 1)) for i in range(4)})
        shrink = 1 if kind == "v2" else 0
        self.h_net2, self.h_net3 = (Next(kind, G >> (shrink * i), blocks) for i in (0, 1))
        self.img_net1, self.img_net2, self.img_net3 = (
            Holder(img=nn.Sequential(three(G >> (shrink * i), 3), nn.Tanh())) for i in range(3))

    def forward(self, z, sentence, words, padding, epsilon):
        x = self.ca_net.fc(sentence)
        x = x[:, : 2 * C] * x[:, 2 * C:].sigmoid()
        mu, log_var = x[:, :C], x[:, C:]
        c = epsilon * (0.5 * log_var).exp() + mu
        h = self.h_net1.fc(torch.cat([c, z], 1)).view(len(z), 16 * G, 4, 4)
        for i in range(4):
            h = getattr(self.h_net1, f"upsample{i + 1}")(h)
        images, maps = [self.img_net1.img(h)], []
        for stage, head in ((self.h_net2, self.img_net2), (self.h_net3, self.img_net3)):
            h, weights = stage(h, c, words, padding)
            images.append(head.img(h))
            maps.append(weights)
        return images, maps, mu, log_var


def stirred(model, seed=0):
    """Nothing at rest: every parameter and every statistic of a normalisation is drawn."""
    g = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 1.5, generator=g)
        elif value.is_floating_point() and value.ndim > 1:
            value.normal_(0, 2 * value[0].numel() ** -0.5, generator=g)
        elif value.is_floating_point():
            value.normal_(0, 0.3, generator=g).add_(float(name.endswith("weight")))
    return model.eval()


def as_of_2018(state):
    """Files of that time hold no counters of batches."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


KINDS = {"attn": (AttnGANGenerator, AttnGANConfig), "dm": (DMGANGenerator, DMGANConfig),
         "v2": (StackGANv2Generator, StackGANv2Config)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_released_generator_draws_the_same_pictures_in_our_modules(kind, tmp_path):
    theirs = stirred(Released(kind))
    state = theirs.state_dict()
    if kind == "v2":                                   # saved from several devices
        state = {f"module.{name}": value for name, value in state.items()}
    else:
        state = as_of_2018(state)
    torch.save(state, tmp_path / "netG.pth", _use_new_zipfile_serialization=kind == "v2")
    ours = load(tmp_path / "netG.pth")
    model, config = KINDS[kind]
    assert type(ours) is model and not ours.training
    assert count(ours) == count(theirs)

    theirs, ours = theirs.double(), ours.double()       # rounding grows on the way through drawn weights
    g = torch.Generator().manual_seed(1)
    z, sentence, words = (torch.randn(*shape, generator=g, dtype=torch.float64)
                          for shape in ((2, Z), (2, TEXT), (2, T, TEXT)))
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    epsilon = torch.empty(2, C).double().normal_(generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        images, maps, mu, log_var = theirs(z, sentence, words.transpose(1, 2), ~mask, epsilon)
        seeded = torch.Generator().manual_seed(5)
        drawn = ours(z, sentence, seeded) if kind == "v2" else ours(z, sentence, words, mask, seeded)
    torch.testing.assert_close(drawn.mu, mu)
    torch.testing.assert_close(drawn.log_var, log_var)
    torch.testing.assert_close(draw_condition(mu, log_var, epsilon), epsilon * (log_var / 2).exp() + mu)
    assert [x.shape[-1] for x in drawn.images] == [64, 128, 256]
    for got, want in zip(drawn.images, images):
        assert want.std() > 0.05                       # there is something to compare
        torch.testing.assert_close(got, want, atol=1e-8, rtol=1e-6)
    for got, want in zip(drawn.attention, maps):       # b (s s) t against b t s s
        torch.testing.assert_close(got, want.flatten(2).transpose(1, 2), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("kind, layout", [("attn", ATTNGAN), ("dm", DMGAN), ("v2", STACKGAN_V2)])
def test_sizes_are_read_off_the_shapes(kind, layout):
    state = Released(kind, blocks=3).state_dict()
    assert layout_of(state) is layout
    assert layout.config(state, "netG.pth") == KINDS[kind][1](
        text=TEXT, condition=C, noise=Z, width=G, residual=3, size=64, branches=3)


@pytest.mark.parametrize("layout, config, names", [
    (ATTNGAN, AttnGANConfig.coco(),
     ("h_net2.att.conv_context.weight", "h_net3.residual.2.block.4.running_var")),
    (DMGAN, DMGANConfig.cub(), ("h_net3.response_gate.0.bias", "h_net2.M_w.0.weight", "h_net2.A.weight")),
    (STACKGAN_V2, StackGANv2Config.paper(), ("h_net3.jointConv.1.running_mean", "img_net3.img.0.weight")),
])
def test_paper_sizes_have_the_released_names(layout, config, names):
    with blank():
        theirs = [layout.theirs(name) for name in layout.build(config).state_dict()]
    assert len(set(theirs)) == len(theirs) and set(names) <= set(theirs)
    heads = {name.split(".")[0] for name in theirs}
    assert heads == {"ca_net", "h_net1", "h_net2", "h_net3", "img_net1", "img_net2", "img_net3"}
    assert {f"h_net1.upsample{i}.1.weight" for i in (1, 2, 3, 4)} <= set(theirs)


def test_a_released_text_encoder_gives_the_same_words_and_sentences(tmp_path):
    theirs = stirred(Holder(encoder=nn.Embedding(20, 7),
                            rnn=nn.LSTM(7, 5, batch_first=True, bidirectional=True)))
    torch.save(theirs.state_dict(), tmp_path / "text_encoder100.pth", _use_new_zipfile_serialization=False)
    ours = load(tmp_path / "text_encoder100.pth")
    assert isinstance(ours, TextEncoder) and ours.words.weight.shape == (20, 7)
    tokens = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [9, 0, 0, 0]])        # 0 is the end of a caption
    lengths = [4, 2, 1]
    packed = nn.utils.rnn.pack_padded_sequence(theirs.encoder(tokens), lengths, batch_first=True)
    output, (hidden, _) = theirs.rnn(packed)
    words = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0]
    sentence = hidden.transpose(0, 1).reshape(3, 10)
    got = ours(tokens)
    torch.testing.assert_close(got[0], words)
    torch.testing.assert_close(got[1], sentence)


class ReleasedImageEncoder(nn.Module):
    def __init__(self, embed):
        super().__init__()
        from torchvision.models import inception_v3
        whole = inception_v3(weights=None, init_weights=False, aux_logits=False)
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3",
                     *(f"Mixed_{block}" for block in "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c".split())):
            self.add_module(name, getattr(whole, name))
        self.emb_features = nn.Conv2d(768, embed, 1, bias=False)
        self.emb_cnn_code = nn.Linear(2048, embed)

    def forward(self, x):
        x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=True)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for block in "5b 5c 5d 6a 6b 6c 6d 6e".split():
            x = getattr(self, f"Mixed_{block}")(x)
        regions = self.emb_features(x)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return regions, self.emb_cnn_code(F.avg_pool2d(x, 8).flatten(1))


def test_a_released_image_encoder_gives_the_same_regions_and_codes(tmp_path):
    torch.manual_seed(0)
    theirs = ReleasedImageEncoder(6).eval()
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")      # signals do not fade
    torch.save(as_of_2018(theirs.state_dict()), tmp_path / "image_encoder100.pth")
    ours = load(tmp_path / "image_encoder100.pth")
    assert isinstance(ours, ImageEncoder)
    with torch.no_grad():
        image = torch.rand(1, 3, 64, 64) * 2 - 1
        (regions, code), (want_regions, want_code) = ours(image), theirs(image)
    torch.testing.assert_close(regions, want_regions.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(code, want_code, atol=1e-5, rtol=1e-4)
    assert regions.shape == (1, 289, 6) and regions.std() > 0.05


def test_a_file_with_a_name_or_a_shape_too_many_is_refused(tmp_path):
    state = Released("attn").state_dict()
    state["h_net2.extra.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "netG.pth")
    with pytest.raises(ValueError, match="not expected: h_net2.extra.weight"):
        load(tmp_path / "netG.pth")
    del state["h_net2.extra.weight"], state["h_net3.upsample.1.weight"]
    torch.save(state, tmp_path / "netG.pth")
    with pytest.raises(ValueError, match="missing: h_net3.upsample.1.weight"):
        load(tmp_path / "netG.pth")
    del state["h_net1.fc.0.weight"]
    torch.save(state, tmp_path / "netG.pth")
    with pytest.raises(ValueError, match="netG.pth has no h_net1.fc.0.weight"):
        load(tmp_path / "netG.pth")


def test_no_file_belongs_to_two_layouts():
    for kind in KINDS:
        state = Released(kind).state_dict()
        assert sum(layout.knows(state) for layout in LAYOUTS) == 1


@pytest.mark.parametrize("name", [name for name, module in READERS.items()
                                  if module == "text2image" and not name.startswith("mediasynthesis")])
def test_names_without_a_hub_say_where_the_files_are(name):
    with pytest.raises(FileNotFoundError, match=f"README of github.com/{name}"):
        load(name)
    with pytest.raises(FileNotFoundError, match="could not be fetched"):      # the mirror, without a network
        fetch("mediasynthesismuseum/attngan-coco", "text_encoder100.pth")
