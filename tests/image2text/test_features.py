"""Features of images: extracted when asked for, or read from a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mmlearn.data.images import PictureFiles, TensorInputs
from mmlearn.data.scenes.export import export_coco
from mmlearn.image2text.features import ExtractedInputs, StoredFeatures
from mmlearn.image2text.saved import FeatureExtractor

# ----------------------------------------------------------------------------------------------------- inputs

@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    return export_coco(tmp_path_factory.mktemp("coco"), 4, 32, "val")


def pictures_of(folder: Path) -> list[Path]:
    return sorted((folder / "images").rglob("*.png")) or sorted(folder.rglob("*.png"))


def test_extracted_features_are_kept_and_equal_the_extractor(coco):
    files = PictureFiles(pictures_of(coco), 32)
    calls = []

    def extract(pictures):
        calls.append(len(pictures))
        return pictures.flatten(2).transpose(1, 2)[:, :3], None

    inputs = ExtractedInputs(files, extract)
    first, mask = inputs.rows([2, 0, 2])
    again, _ = inputs.rows([0, 2])
    assert calls == ([2] if torch.cuda.is_available() else [1, 1]) and mask is None
    torch.testing.assert_close(first[[1, 0]], again)
    torch.testing.assert_close(first[0], files.rows([2])[0][0].flatten(1).T[:3], atol=1e-3, rtol=0)


def test_a_deep_trunk_of_random_weights_is_calibrated_so_that_its_cells_stay_finite():
    pictures = TensorInputs(torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    raw = FeatureExtractor.grid("resnet101", None, 64).module(pictures.values)
    extractor = FeatureExtractor.grid("resnet101", None, 64, pictures=pictures)
    cells, _ = extractor.inputs(pictures).rows(range(6))
    assert raw.abs().max() > 1e4 and 0.1 < cells.std() < 100


def test_stored_features_are_padded_and_cut_and_every_image_must_be_there(tmp_path):
    arrays = {"7_features": np.ones((2, 3), np.float32), "9_features": np.full((5, 3), 2, np.float32)}
    save_file(arrays, tmp_path / "f.safetensors")
    np.savez(tmp_path / "f.npz", **arrays)
    for name in ("f.safetensors", "f.npz"):
        values, mask = StoredFeatures(tmp_path / name, [9, 7], max_regions=4).rows([1, 0])
        assert values[0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
        assert mask.tolist() == [[True, True, False, False], [True] * 4]
        with pytest.raises(ValueError, match="no array '8_features'"):
            StoredFeatures(tmp_path / name, [7, 8])
    with pytest.raises(FileNotFoundError, match="--features"):
        StoredFeatures(tmp_path / "none.npz", [7])
    (tmp_path / "f.txt").write_text("x")
    with pytest.raises(ValueError, match="ending '.txt'"):
        StoredFeatures(tmp_path / "f.txt", [7])
