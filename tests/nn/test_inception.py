"""Inception-v3 for the metrics: torchvision's network, and pytorch-fid's of 2015."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import Inception3

from mmlearn.nn.inception import FID_BLOCKS, InceptionFeatures
from mmlearn.pretrained import load
from mmlearn.pretrained.inception import recognises


def stir(network, seed=0):
    """Random weights that keep the signal alive, and batch statistics that matter."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=g))
            elif value.ndim > 1:
                fan = value[0].numel()
                value.copy_(torch.randn(value.shape, generator=g) * (2 / fan) ** 0.5)
            elif value.is_floating_point():
                value.add_(0.1 * torch.randn(value.shape, generator=g))
    return network.eval()


def images(seed=1):
    return torch.rand(1, 3, 75, 75, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("variant, count", [("fid", 23_850_960), ("torchvision", 23_834_568)])
def test_the_sizes_are_those_of_the_published_networks(variant, count):
    with torch.device("meta"):
        model = InceptionFeatures(variant)
    assert sum(p.numel() for p in model.network.parameters()) == count
    trunk = [p for name, p in model.network.named_parameters() if not name.startswith("fc.")]
    assert sum(p.numel() for p in trunk) == 21_785_568


@pytest.mark.parity
def test_weights_in_pytorch_fids_layout_give_its_features(tmp_path, monkeypatch):
    theirs = pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *a, **k: written)
    written = stir(Inception3(num_classes=1008, aux_logits=False, init_weights=False)).state_dict()
    reference = theirs.InceptionV3([3], use_fid_inception=True).eval()
    path = tmp_path / "pt_inception-2015-12-05.pth"
    torch.save(written, path)
    model = load(path)
    assert isinstance(model, InceptionFeatures) and model.name == "Inception-v3 of 2015 (pytorch-fid)"
    with torch.no_grad():
        want = reference((images() + 1) / 2)[0].flatten(1)
        got = model(images())
    assert got.shape == (1, 2048) and float(want.std()) > 1e-3
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.logits(images()), want @ written["fc.weight"].T, atol=1e-4, rtol=1e-4)


def test_weights_in_torchvisions_layout_give_its_features(tmp_path):
    network = stir(Inception3(aux_logits=True, init_weights=False))
    path = tmp_path / "inception_v3_google.pth"
    counters = {name for name in network.state_dict() if name.endswith("num_batches_tracked")}
    torch.save({n: v for n, v in network.state_dict().items() if n not in counters}, path)   # an older file
    assert recognises(path)
    model = load(path)
    assert model.name == "Inception-v3 of torchvision"
    network.fc, network.dropout = torch.nn.Identity(), torch.nn.Identity()
    x = F.interpolate(images(), size=(299, 299), mode="bilinear", align_corners=False)
    with torch.no_grad():
        torch.testing.assert_close(model(images()), network(x), atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad for p in model.parameters()) and not model.train().training


def test_the_blocks_of_2015_differ_at_the_borders_and_in_the_last_by_maxima():
    from torchvision.models import inception

    with torch.no_grad():
        x = torch.rand(1, 768, 5, 5)
        ours = stir(FID_BLOCKS["Mixed_6b"]())
        plain = inception.InceptionC(768, 128).eval()
        plain.load_state_dict(ours.state_dict())
        a, b = ours(x), plain(x)
        torch.testing.assert_close(a[:, :, 1:-1, 1:-1], b[:, :, 1:-1, 1:-1])      # inside no zero is averaged
        torch.testing.assert_close(a[:, :576], b[:, :576])                   # and three branches are the same
        assert (a[:, 576:, 0] - b[:, 576:, 0]).abs().max() > 1e-3
    flat = torch.ones(1, 2, 3, 3)
    assert torch.equal(FID_BLOCKS["Mixed_5b"]().pool(flat), flat)
    peak = torch.zeros(1, 1, 3, 3)
    peak[0, 0, 1, 1] = 9
    assert torch.equal(FID_BLOCKS["Mixed_7c"]().pool(peak), torch.full((1, 1, 3, 3), 9.0))


def test_untrained_networks_say_so_and_other_files_are_refused(tmp_path):
    with torch.device("meta"):
        assert InceptionFeatures("fid").name.endswith("not trained")
        with pytest.raises(ValueError, match="variant is 'v4'; use one of fid, torchvision"):
            InceptionFeatures("v4")
    small = {"Conv2d_1a_3x3.conv.weight": torch.zeros(1), "Mixed_7c.branch_pool.conv.weight": torch.zeros(1),
             "fc.weight": torch.zeros(10, 2)}
    torch.save(small, tmp_path / "small.pth")
    with pytest.raises(ValueError, match="has 10 classes, and Inception-v3 is known with 1008 and 1000"):
        load(tmp_path / "small.pth")
    torch.save(small | {"fc.weight": torch.zeros(1008, 2048)}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match="does not fit the model; missing"):
        load(tmp_path / "part.pth")
    with pytest.raises(FileNotFoundError, match="download pt_inception-2015"):
        load("mseitzer/pytorch-fid")
