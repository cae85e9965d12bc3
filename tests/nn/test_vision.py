import pytest
import torch
import torchvision
from networks import count

from mmlearn.nn.vision import ConvTrunk, Frozen, PatchEmbedding, TorchvisionTrunk, grid_to_sequence


def test_a_patch_is_a_linear_map_of_its_pixels():
    layer = PatchEmbedding(4, 5).double()
    images = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    got = layer(images)
    assert got.shape == (2, 6, 5)
    for n in range(2):
        for p, (y, x) in enumerate((y, x) for y in range(2) for x in range(3)):
            pixels = images[n, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            want = (layer.project.weight * pixels).sum(dim=(1, 2, 3)) + layer.project.bias
            torch.testing.assert_close(got[n, p], want)
    torch.testing.assert_close(got, grid_to_sequence(layer.project(images)))


def test_patches_must_cover_the_image():
    with pytest.raises(ValueError, match="do not cut into patches of 4"):
        PatchEmbedding(4, 5)(torch.rand(1, 3, 8, 10))


def test_four_blocks_turn_64_pixels_into_8_by_8_cells():
    trunk = ConvTrunk().eval()
    grid = trunk(torch.rand(2, 3, 64, 64))
    assert grid.shape == (2, 64, 64)
    assert trunk.out_channels == 64
    with pytest.raises(ValueError, match="smaller than one cell"):
        trunk(torch.rand(1, 3, 4, 4))


def test_cells_run_row_by_row():
    trunk = ConvTrunk((4, 4)).eval()
    images = torch.zeros(1, 3, 16, 16)
    changed = images.clone()
    changed[:, :, 0, 15] = 1.0  # top right: the end of the first row of 8 cells
    cells = (trunk(images) != trunk(changed)).any(dim=-1)[0].nonzero().flatten().tolist()
    assert set(cells) <= {6, 7, 14, 15}
    assert 7 in cells


@pytest.mark.parametrize("name, published", [("resnet50", 23_508_032), ("resnet101", 42_500_160)])
def test_trunks_have_the_published_number_of_parameters(name, published):
    with torch.device("meta"):
        trunk = TorchvisionTrunk(name)
    assert count(trunk) == published
    assert trunk.out_channels == 2048


@pytest.mark.parity
def test_the_grid_pooled_and_classified_is_torchvisions_answer():
    torch.manual_seed(0)
    whole = torchvision.models.resnet18(weights=None).eval()
    trunk = TorchvisionTrunk("resnet18").eval()
    trunk.resnet.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("fc.")})
    images = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    want = whole((images - mean[:, None, None]) / std[:, None, None])
    grid = trunk(images)
    assert grid.shape == (2, 4, 512)
    torch.testing.assert_close(whole.fc(grid.mean(dim=1)), want, atol=1e-4, rtol=1e-4)


def test_a_trunk_that_torchvision_does_not_have_is_refused():
    with pytest.raises(ValueError, match="'alexnet' is no ResNet"):
        TorchvisionTrunk("alexnet")


def test_a_frozen_trunk_keeps_its_weights_and_batch_statistics():
    frozen = Frozen(ConvTrunk(), 64).train()
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    out = frozen(torch.rand(4, 3, 32, 32))
    assert not out.requires_grad
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(torch.equal(before[k], v) for k, v in frozen.state_dict().items())
    assert not any(module.training for module in frozen.trunk.modules())
