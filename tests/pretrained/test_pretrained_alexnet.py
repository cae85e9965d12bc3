"""torchvision's AlexNet is read with every name and shape accounted for."""

import pytest
import torch
from torch import nn

from mmlearn.images_for_language.visual_vectors import AlexNet, AlexNetConfig
from mmlearn.pretrained import load


def stand_in(width=32, classes=5):
    """A network of plain torch with torchvision's names, narrow."""
    conv = nn.Conv2d
    net = nn.Module()
    net.features = nn.Sequential(
        conv(3, 8, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), conv(8, 12, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), conv(12, 10, 3, padding=1), nn.ReLU(), conv(10, 6, 3, padding=1), nn.ReLU(),
        conv(6, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
    net.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(4 * 36, width), nn.ReLU(), nn.Dropout(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, classes))
    return net.eval()


def test_a_file_with_torchvisions_names_opens_and_gives_the_same(tmp_path):
    torch.manual_seed(0)
    peer = stand_in()
    torch.save(peer.state_dict(), tmp_path / "alexnet.pth")
    ours = load(tmp_path / "alexnet.pth")
    assert isinstance(ours, AlexNet) and not ours.training and ours.config.width == 32
    assert not any(p.requires_grad for p in ours.parameters())
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), peer.classifier(peer.features(x).flatten(1)), atol=1e-5, rtol=0)


def test_files_that_are_not_whole_are_refused(tmp_path):
    state = stand_in().state_dict()
    from mmlearn.pretrained import alexnet

    cut = dict(state)
    del cut["features.10.bias"]
    torch.save(cut, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"missing: features\.10\.bias"):
        alexnet.load(tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="is none of the checkpoints"):
        load(tmp_path / "cut.pth")
    other = {**state, "features.3.weight": torch.zeros(12, 8, 3, 3)}
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"features\.3\.weight is \(12, 8, 3, 3\), expected \(12, 8, 5, 5\)"):
        load(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match="alexnet-owt-7be5be79.pth and load it by its path"):
        load("torchvision/alexnet")
    assert AlexNetConfig.torchvision() == AlexNetConfig()
