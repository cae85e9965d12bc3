"""Pictures: read from files, prepared for a network, given out in batches.

Paper: A. Radford et al. (2021), arXiv:2103.00020, sec. 2.4-2.5; resizing, mean and deviation of
github.com/openai/CLIP.
Survey: 1.2, 4.2.2.  Differs from the paper: a picture with a palette becomes RGB before it is resized (the
code does so afterwards), and what is transparent shows white; every other picture gives the same numbers.

A source of what a model reads of images has two methods: ``len(source)`` images, and ``source.rows(indices)``
-> (values, mask), the mask True where a region is real, None where all are.
"""

import errno
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)          # of CLIP's training images, by channel, in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)
MAX_PIXELS = 2**27              # of a file: 134 million, 0.5 GB; a file of some bytes can claim any number
MAX_RATIO = 100                 # of the long side to the short one: resized to 224, it has 22,400 already
# Kinds of files that are read. Pillow knows more, some of which run another program (PostScript) to be drawn.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
# EXIF's orientation -> what undoes it
UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
           4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270,
           7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}
Picture = Image.Image | np.ndarray | Tensor | str | Path


def _channels(values: Sequence[float | int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def standardise(
    images: Float[Tensor, "*b 3 y x"],
    mean: Sequence[float | int] = MEAN,
    std: Sequence[float | int] = STD,
) -> Float[Tensor, "*b 3 y x"]:
    r"""eq:clip-standardise: $(x_c-\mathrm{mean}_c)/\mathrm{dev}_c$ in each colour channel, from pixels in
    [0, 1]."""
    return (images - _channels(mean, images)) / _channels(std, images)


def unstandardise(
    images: Float[Tensor, "*b 3 y x"], mean: Sequence[float | int] = MEAN, std: Sequence[float | int] = STD
) -> Float[Tensor, "*b 3 y x"]:
    """Pixels in [0, 1] again, to be looked at."""
    return images * _channels(std, images) + _channels(mean, images)


@dataclass(frozen=True)
class ImageRecipe:
    """How a picture becomes the input of an image tower. The default is CLIP's at 224 pixels."""

    size: int = 224                                # pixels a side of the square that is cut out of the middle
    # short side, or (height, width), before that; None: short side = size
    resize: int | tuple[int, int] | None = None
    mean: tuple[float, ...] = MEAN                  # subtracted, in [0, 1]
    std: tuple[float, ...] = STD                    # divided by
    filter: int = Image.Resampling.BICUBIC          # of resizing


def resized(image: Image.Image, recipe: ImageRecipe) -> Image.Image:
    """The picture with its short side at the recipe's length (or squeezed to its height and width)."""
    to = recipe.size if recipe.resize is None else recipe.resize
    if isinstance(to, int):
        wide, high = image.size
        to = (int(to * high / wide), to) if wide <= high else (to, int(to * wide / high))
    shape = (to[1], to[0])                                          # PIL counts width first
    return image if image.size == shape else image.resize(shape, Image.Resampling(recipe.filter))


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The square of ``size`` pixels in the middle; what lies outside a smaller picture is black."""
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def preprocess(image: Picture, recipe: ImageRecipe = ImageRecipe()) -> Float[Tensor, "3 s s"]:
    """A picture as the image tower wants it: resized, cut to a square, standardised; float32.

    ``image`` is a file (see ``read_image``), a PIL image, an array (h, w, 3) or (h, w) or a tensor (3, h, w),
    both of bytes. Raises ``ValueError`` for anything else: numbers that are not bytes may be pixels in [0, 1]
    or standardised ones, which nobody can tell; and for a picture over ``MAX_RATIO`` times as long as thin.
    """
    return standardise(_square(image, recipe), recipe.mean, recipe.std)


def _square(image: Picture, recipe: ImageRecipe) -> Float[Tensor, "3 s s"]:
    square = centre_crop(resized(as_rgb(image), recipe), recipe.size)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()       # y x 3 -> 3 y x
    return pixels.float() / 255


def as_rgb(image: Picture) -> Image.Image:
    """A PIL image of three channels; what is transparent shows white, 16 bits become 8.

    A PIL image is taken as it stands, a file upright (``read_image``). Raises ``ValueError`` for what is no
    picture.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            return _flat(image)
        except Exception as error:                      # of a file that PIL has opened and not yet decoded
            raise ValueError(f"the picture cannot be decoded ({error}); give another one") from error
    if not isinstance(image, np.ndarray | Tensor):
        raise ValueError(f"an image is of type {type(image).__name__}; give a file, a PIL image, an array or "
                         f"a tensor")
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if isinstance(image, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)                                          # 3 y x -> y x 3
    grey_or_colour = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not grey_or_colour or not pixels.size:
        raise ValueError(f"an image has shape {tuple(image.shape)} and type {image.dtype}; give a PIL image, "
                         f"bytes (uint8) "
                         "as array (h, w, 3) or tensor (3, h, w), or call standardise on pixels in [0, 1]")
    return _flat(Image.fromarray(np.ascontiguousarray(pixels)))


def _flat(image: Image.Image) -> Image.Image:
    """RGB over white, a picture of its own."""
    image.load()
    if not all(image.size):
        raise ValueError("it has no pixels")
    wide, high = image.size
    if max(wide, high) > MAX_RATIO * min(wide, high):
        raise ValueError(f"{wide:,} x {high:,} pixels are a line; cut out the part that matters")
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits as bytes. Those of 32 bits and fractions have no range that all agree on."""
    values = np.asarray(image)
    sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")       # where "I" is 16 bits
    low, high = values.min(), values.max()
    if image.mode == "F" or low < 0 or high > (65535 if sixteen else 255):
        raise ValueError(f"it holds numbers from {low:g} to {high:g} of {8 * values.itemsize} bits, and "
                         f"nobody can tell which of them is white")
    grey = (values.astype(np.int32) + 128) // 257 if sixteen else values            # 65535 -> 255, rounded
    if isinstance(clear := image.info.get("transparency"), int):
        grey = np.where(values == clear, 255, grey)
    return Image.fromarray(grey.astype(np.uint8))


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def read_image(path: str | Path) -> Image.Image:
    """A picture file in RGB, upright as its camera says; of a moving picture the first frame.

    What is transparent shows white, 16 bits become 8, damaged notes of the camera are passed over. Raises
    ``FileNotFoundError`` where there is no file, ``ValueError`` for one that is no whole picture of the kinds
    in ``FORMATS``, has more than ``MAX_PIXELS``, is over ``MAX_RATIO`` times as long as thin, or holds
    numbers without a range; both name the file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no image at {path}; check the path")
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")                 # of Pillow, about what it passes over
        try:
            with Image.open(file, formats=_formats()) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                flat = _flat(image)
                turn = UPRIGHT.get(_orientation(image))         # notes may stand behind the pixels
                return flat if turn is None else flat.transpose(turn)
        except UnidentifiedImageError:
            what, remedy = f"it is none of {', '.join(FORMATS)}", "give a JPEG or PNG file"
        except Image.DecompressionBombError:            # Pillow's own limit is higher
            what, remedy = "it has, or claims, too many pixels", f"give one of at most {MAX_PIXELS:,}"
        except Exception as error:                      # Pillow fails in a dozen ways on damaged files
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise OSError(error.errno, error.strerror, str(path)) from error    # the disk's fault
            what, remedy = str(error) or type(error).__name__, "give a whole JPEG or PNG file"
    raise ValueError(f"{path} cannot be read as an image ({what}); {remedy}")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:                                   # notes that cannot be read say nothing
        return 1


CACHE = 2 * 2**30       # bytes of memory that a source may keep


@runtime_checkable
class Inputs(Protocol):
    """A source of what a captioner reads, one item an image."""

    def __len__(self) -> int: ...

    def rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]: ...


class TensorInputs:
    """Features (n, p, f) or pictures (n, 3, s, s) that are in memory already; bytes are given out in [0,
    1]."""

    def __init__(self, values: Tensor, mask: Bool[Tensor, "n p"] | None = None):
        self.values, self.mask = values, mask

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        index = torch.as_tensor(indices)
        values = self.values[index]
        values = values.float() / 255 if values.dtype == torch.uint8 else values.float()
        return values, None if self.mask is None else self.mask[index]


def load_picture(path: Path | str, size: int) -> Float[Tensor, "3 s s"]:
    """An image file as RGB in [0, 1], squeezed to ``size`` x ``size`` pixels."""
    return _square(path, ImageRecipe(size, (size, size)))


def load_square(path: Path | str, size: int) -> Float[Tensor, "3 s s"]:
    """An image file as RGB in [0, 1]: the square in its middle, its short side resized to ``size`` pixels."""
    return _square(path, ImageRecipe(size))


class PictureFiles:
    """Pictures (b, 3, size, size), read from files when asked for and kept as bytes while memory allows.

    ``rows`` gives numbers in [0, 1], an index bytes as a tensor of pictures would. ``load(path, size)`` reads
    a file.
    """

    def __init__(self, paths: Sequence[Path], size: int, load: Callable[[Path, int], Tensor] = load_picture):
        if size < 1:
            raise ValueError(f"pictures of {size} pixels a side were asked for; take 1 or more")
        self.paths, self.size, self.load = tuple(paths), size, load
        self._kept: dict[int, Tensor] = {}
        self._room = CACHE // (3 * size * size)

    def __len__(self) -> int:
        return len(self.paths)

    def _picture(self, i: int) -> Tensor:
        if i not in self._kept:
            bytes_ = (self.load(self.paths[i], self.size) * 255).round().to(torch.uint8)
            if len(self._kept) >= self._room:
                return bytes_
            self._kept[i] = bytes_
        return self._kept[i]

    def rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        return self[indices].float() / 255, None

    def __getitem__(self, indices: Sequence[int] | Tensor | slice) -> UInt8[Tensor, "b 3 s s"]:
        chosen = range(len(self))[indices] if isinstance(indices, slice) else indices
        if not len(chosen):
            return torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return torch.stack([self._picture(int(i)) for i in chosen])
