"""Pictures: read upright, prepared as the references do; bytes, sizes, channels."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mmlearn
from mmlearn.data.images import (
    MEAN,
    STD,
    ImageRecipe,
    PictureFiles,
    as_rgb,
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


def test_a_file_of_any_form_is_prepared_as_the_picture_in_it(tmp_path):
    path = tmp_path / "a.png"
    picture(20, 30).save(path)
    want = preprocess(picture(20, 30), ImageRecipe(16))
    for one in (path, str(path)):
        assert torch.equal(preprocess(one, ImageRecipe(16)), want)
    with pytest.raises(FileNotFoundError, match="no image at"):
        preprocess("file.jpg")


def test_what_is_transparent_shows_white():
    clear = Image.new("RGBA", (2, 1), (200, 10, 10, 255))
    clear.putpixel((1, 0), (0, 0, 0, 0))
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 10, 10, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 1
    for image in (clear, palette):
        assert [as_rgb(image).getpixel((x, 0)) for x in (0, 1)] == [(200, 10, 10), (255, 255, 255)]


def test_sixteen_bits_become_eight_and_numbers_without_a_range_are_refused(tmp_path):
    values = np.array([[0, 128, 129, 257, 32_896, 65_535]])
    for kind in ("<u2", ">u2"):
        image = Image.fromarray(values.astype(kind))
        assert np.array(as_rgb(image))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "a.png")
    assert np.array(read_image(tmp_path / "a.png"))[0, :, 2].tolist() == [0, 0, 1, 1, 128, 255]
    for unknown in (values.astype(np.int32), values / 65_535, -values.astype(np.int32)):
        Image.fromarray(unknown.astype(np.int32 if unknown.dtype == np.int32 else np.float32)).save(
            tmp_path / "b.tif")
        with pytest.raises(ValueError, match="b.tif cannot be read as an image .it holds numbers from "):
            read_image(tmp_path / "b.tif")
    assert as_rgb(Image.fromarray(np.full((2, 2), 200, np.int32))).getpixel((0, 0)) == (200, 200, 200)


def test_a_line_or_a_bomb_is_refused_before_it_takes_memory(tmp_path):
    Image.new("1", (1, 60_000)).save(tmp_path / "line.png")
    with pytest.raises(ValueError, match="line.png cannot .*1 x 60,000 pixels are a line"):
        preprocess(tmp_path / "line.png")
    with pytest.raises(ValueError, match="60,000 x 1 pixels are a line"):
        preprocess(Image.new("L", (60_000, 1)))
    for side in (11_600, 60_000):                                             # Pillow warns, Pillow refuses
        (tmp_path / "bomb.ppm").write_bytes(b"P6 %d %d 255\n" % (side, side))
        with pytest.raises(ValueError, match="bomb.ppm .* too many pixels.; give one of at most 134,217,728"):
            read_image(tmp_path / "bomb.ppm")


def test_of_a_moving_picture_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        red, _, blue = read_image(tmp_path / name).getpixel((1, 1))
        assert red > 250 and blue < 5, name


def test_damaged_notes_of_the_camera_spoil_no_picture(tmp_path):
    picture(8, 9).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\xff nonsense")
    assert read_image(tmp_path / "a.jpg").size == (9, 8)


def test_a_file_that_would_run_another_program_is_not_opened(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(ValueError, match="it is none of JPEG, "):
        read_image(tmp_path / "a.jpg")


def test_a_fault_of_the_disk_is_not_the_pictures(tmp_path, monkeypatch):
    picture(8, 9).save(tmp_path / "a.png")

    def broken(*_, **__):
        raise OSError(5, "Input/output error")
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(OSError, match="Input/output error.*a.png"):
        read_image(tmp_path / "a.png")


def test_names_that_are_not_utf8_are_read(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(path, "wb") as file:
            picture(8, 9).save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert read_image(os.fsdecode(path)).size == (9, 8)


def test_files_asked_for_none_give_none(tmp_path):
    assert PictureFiles([], 8)[[]].shape == (0, 3, 8, 8)
    with pytest.raises(ValueError, match="pictures of 0 pixels a side"):
        PictureFiles([], 0)


def test_one_function_opens_picture_files():
    """The other call reads what matplotlib has just drawn into memory."""
    package = Path(mmlearn.__file__).parent
    opening = {path.relative_to(package).as_posix() for path in package.rglob("*.py")
               if "Image.open(" in path.read_text(encoding="utf-8")}
    assert opening == {"data/images.py", "figures/interactive.py"}
