"""Pictures: read upright, prepared as the references do; bytes, sizes, channels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmlearn.data.images import (
    MEAN,
    STD,
    ImageRecipe,
    load_picture,
    preprocess,
    read_image,
    resized,
    standardise,
    unstandardise,
)


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.equation("eq:clip-standardise")
def test_each_channel_has_its_own_mean_and_deviation():
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    got = standardise(images)
    for b in range(2):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    assert float(got[b, c, y, x]) == pytest.approx(
                        (float(images[b, c, y, x]) - MEAN[c]) / STD[c], abs=1e-12
                    )
    torch.testing.assert_close(unstandardise(got), images)
    torch.testing.assert_close(standardise(images[0]), got[0])


@pytest.mark.parity
@given(st.integers(3, 90), st.integers(3, 90), st.sampled_from([16, 17, 32, 64]), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_pixels_are_bit_for_bit_those_of_open_clip(height, width, size, seed):
    from open_clip.transform import image_transform

    image = picture(height, width, seed)
    want = image_transform(size, is_train=False, interpolation="bicubic", mean=MEAN, std=STD)(image)
    assert torch.equal(preprocess(image, ImageRecipe(size)), want)


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(50, 70), (70, 50), (64, 64)])
def test_pixels_are_those_of_transformers(shape):
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    want = torch.as_tensor(np.asarray(processor(picture(*shape))["pixel_values"][0]))
    torch.testing.assert_close(preprocess(picture(*shape), ImageRecipe(32)), want, atol=1e-5, rtol=1e-5)


def test_arrays_tensors_and_images_are_read_alike():
    image = picture(20, 30)
    want = preprocess(image, ImageRecipe(16))
    assert want.shape == (3, 16, 16) and want.dtype == torch.float32
    array = np.array(image)
    assert torch.equal(preprocess(array, ImageRecipe(16)), want)
    assert torch.equal(preprocess(torch.from_numpy(array).permute(2, 0, 1), ImageRecipe(16)), want)
    grey = preprocess(array[..., 0], ImageRecipe(16))
    torch.testing.assert_close(unstandardise(grey)[0], unstandardise(grey)[2])
    assert preprocess(image.convert("P"), ImageRecipe(16)).shape == (3, 16, 16)


def test_what_is_not_bytes_is_refused():
    for bad in (torch.rand(3, 8, 8), np.zeros((8, 8, 4), np.uint8),
                torch.zeros(2, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="give a PIL image, bytes"):
            preprocess(bad)


def test_a_picture_keeps_its_proportions_until_it_is_cut():
    assert resized(picture(40, 60), ImageRecipe(20)).size == (30, 20)
    assert resized(picture(40, 60), ImageRecipe(20, (25, 25))).size == (25, 25)


def test_a_camera_turned_on_its_side_is_set_upright(tmp_path):
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[274] = 6                                                             # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (4, 8)
    with pytest.raises(FileNotFoundError, match="no image at"):
        read_image(tmp_path / "none.jpg")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_image(tmp_path / "text.png")


def test_an_image_that_is_none_is_told_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image at"):
        load_picture(tmp_path / "a.png", 32)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        load_picture(tmp_path / "b.png", 32)
