"""DF-GAN's public checkpoints, read from a stand-in that plain modules with the authors' names wrote."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmlearn.pretrained import load
from mmlearn.pretrained.dfgan import public_name, recognises
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig

N, Z, E, SIZE = 4, 6, 5, 32


class Plain(nn.Module):
    """A module whose parts are given by name; dots make nested names."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def mlp(into, out):
    return Plain(linear1=nn.Linear(into, out), linear2=nn.Linear(out, out))


def affine(into, out):
    return Plain(fc_gamma=mlp(into, out), fc_beta=mlp(into, out))


def fuse(into, out):
    return Plain(affine0=affine(into, out), affine1=affine(into, out))


def modulate(part, h, c):
    def run(net):
        return net.linear2(F.relu(net.linear1(c)))
    gamma, beta = run(part.fc_gamma), run(part.fc_beta)
    return gamma.view(len(h), -1, 1, 1) * h + beta.view(len(h), -1, 1, 1)


def deep_fusion(part, h, c):
    h = F.leaky_relu(modulate(part.affine0, h, c), 0.2)
    return F.leaky_relu(modulate(part.affine1, h, c), 0.2)


class NetG(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(Z, 8 * N * 16)
        widths = [(8 * N, 4 * N), (4 * N, 2 * N), (2 * N, N)]                     # 4 -> 8 -> 16 -> 32 pixels
        self.GBlocks = nn.ModuleList()
        for a, b in widths:
            self.GBlocks.append(Plain(c1=nn.Conv2d(a, b, 3, 1, 1), c2=nn.Conv2d(b, b, 3, 1, 1),
                                      fuse1=fuse(Z + E, a), fuse2=fuse(Z + E, b), c_sc=nn.Conv2d(a, b, 1)))
        self.to_rgb = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(N, 3, 3, 1, 1), nn.Tanh())

    def forward(self, z, sentence):
        c = torch.cat((z, sentence), 1)
        h = self.fc(z).reshape(len(z), 8 * N, 4, 4)
        for block in self.GBlocks:
            h = F.interpolate(h, scale_factor=2)
            inner = block.c1(deep_fusion(block.fuse1, h, c))
            inner = block.c2(deep_fusion(block.fuse2, inner, c))
            h = block.c_sc(h) + inner
        return self.to_rgb(h)


class DBlock(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b
        self.conv_r = nn.Sequential(nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
                                    nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.LeakyReLU(0.2))
        self.conv_s = nn.Conv2d(a, b, 1)
        self.gamma = nn.Parameter(torch.randn(1))

    def forward(self, x):
        side = self.conv_s(x) if self.a != self.b else x
        return F.avg_pool2d(side, 2) + self.gamma * self.conv_r(x)


class NetD(nn.Module):
    def __init__(self, size=SIZE):
        super().__init__()
        self.conv_img = nn.Conv2d(3, N, 3, 1, 1)
        widths = [N, 2 * N, 4 * N, 8 * N, 8 * N, 8 * N, 8 * N][: size.bit_length() - 2]
        self.DBlocks = nn.ModuleList(DBlock(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, x):
        x = self.conv_img(x)
        for block in self.DBlocks:
            x = block(x)
        return x


class NetC(nn.Module):
    def __init__(self):
        super().__init__()
        self.joint_conv = nn.Sequential(nn.Conv2d(8 * N + E, 2 * N, 3, 1, 1, bias=False), nn.LeakyReLU(0.2),
                                        nn.Conv2d(2 * N, 1, 4, 1, 0, bias=False))

    def forward(self, h, sentence):
        y = sentence.view(len(sentence), -1, 1, 1).repeat(1, 1, 4, 4)
        return self.joint_conv(torch.cat((h, y), 1))


def written(path, prefix="", **changed):
    """Nets at random weights, and a file of them as the authors' code saves it."""
    torch.manual_seed(0)
    nets = {"netG": NetG(), "netD": NetD(), "netC": NetC()}
    states = {name: {prefix + key: value for key, value in net.state_dict().items()}
              for name, net in nets.items()}
    optimizer = torch.optim.Adam(nets["netG"].parameters(), lr=1e-4)
    torch.save({"model": states | changed, "optimizers": {"optimizer_G": optimizer.state_dict()},
                "epoch": 290}, path)
    return nets


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_gives_the_outputs_of_the_nets_that_wrote_it(tmp_path, prefix):
    nets = written(tmp_path / "state_epoch_290.pth", prefix)
    model = load(tmp_path / "state_epoch_290.pth")
    assert isinstance(model, DFGAN) and not model.training
    assert model.config == DFGANConfig(SIZE, N, Z, E)
    z, sentences, images = torch.randn(3, Z), torch.randn(3, E), torch.rand(3, 3, SIZE, SIZE) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.generator(z, sentences), nets["netG"](z, sentences), atol=1e-5,
                                   rtol=1e-5)
        want = nets["netC"](nets["netD"](images), sentences).flatten()
        torch.testing.assert_close(model.discriminator(images, sentences), want, atol=1e-5, rtol=1e-5)


def test_every_name_of_the_published_size_is_one_of_the_authors():
    with torch.device("meta"):
        names = {public_name(name) for name in DFGAN(DFGANConfig.coco()).state_dict()}
    assert {name.split(".")[0] for name in names} == {"netG", "netD", "netC"}
    assert "netG.GBlocks.5.fuse2.affine1.fc_beta.linear2.bias" in names and "netD.DBlocks.5.gamma" in names
    assert {name.split(".")[1] for name in names} == {"fc", "GBlocks", "to_rgb", "conv_img", "DBlocks",
                                                      "joint_conv"}
    assert not any("conv_s" in name for name in names if ".3." in name)       # widths match there: not used


def test_unused_shortcuts_must_be_there_and_are_dropped(tmp_path):
    from mmlearn.pretrained.dfgan import unused_shortcuts
    from mmlearn.text2image.dfgan import unused_parameters

    shapes = unused_shortcuts(DFGANConfig.coco())
    assert list(shapes) == [f"netD.DBlocks.{i}.conv_s.{part}"
                            for i in (3, 4, 5) for part in ("weight", "bias")]
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert count == unused_parameters(DFGANConfig.coco()) == 197_376


@pytest.mark.parametrize("net, name, said", [
    ("netD", "DBlocks.0.conv_s.weight", "missing: netD.DBlocks.0.conv_s.weight"),
    ("netC", "joint_conv.2.weight", "missing: netC.joint_conv.2.weight"),
    ("netG", "fc.weight", "has no netG.fc.weight"),
])
def test_a_missing_name_is_said(tmp_path, net, name, said):
    nets = written(tmp_path / "whole.pth")
    state = nets[net].state_dict()
    del state[name]
    written(tmp_path / "file.pth", **{net: state})
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "file.pth")


def test_other_files_are_not_taken_for_dfgan(tmp_path):
    torch.save({"model": {"conv.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    assert not recognises(tmp_path / "other.pth")
    assert not recognises(tmp_path)
    with pytest.raises(FileNotFoundError, match="are on no hub"):
        load("tobran/DF-GAN")
