"""Pictures: read from files, prepared for a network, given out in batches.

Paper: A. Radford et al. (2021), arXiv:2103.00020, sec. 2.4-2.5; resizing, mean and deviation of
github.com/openai/CLIP.
Survey: 1.2, 4.2.2.  Differs from the paper: a picture with a palette or transparency becomes RGB before it is
resized (the code does so afterwards); every other picture gives the same numbers.

A source of what a model reads of images has two methods: ``len(source)`` images, and ``source.rows(indices)``
-> (values, mask), the mask True where a region is real, None where all are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)          # of CLIP's training images, by channel, in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)
Picture = Image.Image | np.ndarray | Tensor


def _channels(values: Sequence[float | int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def standardise(
    images: Float[Tensor, "*b 3 y x"], mean: Sequence[float | int] = MEAN, std: Sequence[float | int] = STD
) -> Float[Tensor, "*b 3 y x"]:
    r"""eq:clip-standardise: $(x_c-\mu_c)/\sigma_c$ in each colour channel, from pixels in [0, 1]."""
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

    ``image`` is a PIL image, an array (h, w, 3) or (h, w) or a tensor (3, h, w), both of bytes. Raises
    ``ValueError`` for anything else: numbers that are not bytes may be pixels in [0, 1] or standardised ones,
    which nobody can tell.
    """
    image = centre_crop(resized(as_rgb(image), recipe), recipe.size)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()        # y x 3 -> 3 y x
    return standardise(pixels.float() / 255, recipe.mean, recipe.std)


def as_rgb(image: Picture) -> Image.Image:
    """A PIL image of three channels."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if isinstance(image, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)                                          # 3 y x -> y x 3
    grey_or_colour = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not grey_or_colour:
        raise ValueError(f"an image has shape {tuple(image.shape)} and type {image.dtype}; give a PIL image, "
                         f"bytes (uint8) "
                         "as array (h, w, 3) or tensor (3, h, w), or call standardise on pixels in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def read_image(path: str | Path) -> Image.Image:
    """A picture file, upright as its camera says, in RGB. Raises ``FileNotFoundError`` or ``ValueError``."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no image at {path}; check the path")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); give a JPEG or PNG file") from error


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
    image = read_image(path).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image, dtype=np.uint8).copy()).permute(2, 0, 1).float() / 255


def load_square(path: Path | str, size: int) -> Float[Tensor, "3 s s"]:
    """An image file as RGB in [0, 1]: the square in its middle, its short side resized to ``size`` pixels."""
    recipe = ImageRecipe(size)
    pixels = np.array(centre_crop(resized(read_image(path), recipe), size))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


class PictureFiles:
    """Pictures (b, 3, size, size), read from files when asked for and kept as bytes while memory allows.

    ``rows`` gives numbers in [0, 1], an index bytes as a tensor of pictures would. ``load(path, size)`` reads
    a file.
    """

    def __init__(self, paths: Sequence[Path], size: int, load: Callable[[Path, int], Tensor] = load_picture):
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
        return torch.stack([self._picture(int(i)) for i in chosen])
