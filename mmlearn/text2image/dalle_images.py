"""How DALL-E cuts pictures: one square for tests, random squares to train the dVAE and the transformer.

Paper: A. Ramesh et al. (2021), arXiv:2102.12092, app. A.1 (listing 1) and B.1 (listing 2); for tests the
notebook of github.com/openai/DALL-E.  Survey: 2.2.1.
Differs from the paper: the resizing by area has exact shares at the edges of the squares.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mmlearn.data.images import Picture, as_rgb, centre_crop


def area_shares(length: int, out: int) -> Float[Tensor, "o n"]:
    """Row i: which share of output place i each of ``length`` input places has, when both lie on one line.

    Rows sum to 1. In float64.
    """
    edges = torch.arange(out + 1, dtype=torch.float64) * (length / out)
    low, high = edges[:-1, None], edges[1:, None]
    places = torch.arange(length, dtype=torch.float64)
    overlap = (torch.minimum(high, places + 1) - torch.maximum(low, places)).clamp_min(0)
    return overlap * (out / length)


def resize_by_area(image: Float[Tensor, "c y x"], size: int) -> Float[Tensor, "c s s"]:
    """Each pixel of the square is the mean of what lies under it."""
    rows, columns = (area_shares(side, size).to(image) for side in image.shape[1:])
    return rows @ image @ columns.mT


def square_for_tests(image: Picture, size: int = 256) -> Float[Tensor, "3 s s"]:
    """A picture in [0, 1] as it is tested: short side to ``size`` (Lanczos), the square in the middle.

    Raises ``ValueError`` for a picture whose short side is smaller.
    """
    picture = as_rgb(image)
    _check_side(min(picture.size), size)
    wide, high = (round(size / min(picture.size) * side) for side in picture.size)
    square = centre_crop(picture.resize((wide, high), Image.Resampling.LANCZOS), size)
    data = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    return data.view(size, size, 3).permute(2, 0, 1).float() / 255


def _check_side(side: int, size: int) -> None:
    if side < size:
        raise ValueError(f"the picture's short side has {side} pixels, the model wants {size}; give a larger "
                         f"picture, or enlarge it before")


@dataclass(frozen=True)
class Crop:
    """Where a random square lies and what becomes of it, in pixels: cut, resized, cut again, mirrored."""

    top: int                        # of the full square
    left: int
    side: int                       # of the full square: the picture's short side
    resized: int                    # t, its side after resizing
    top_again: int                  # of the square of the wanted size, within the resized one
    left_again: int
    mirrored: bool

    def __call__(self, image: UInt8[Tensor, "3 y x"], size: int) -> UInt8[Tensor, "3 s s"]:
        """The square of ``size`` pixels that the crop makes of a picture."""
        square = image[:, self.top:self.top + self.side, self.left:self.left + self.side].float()
        small = resize_by_area(square, self.resized).round().clamp(0, 255).byte()
        cut = small[:, self.top_again:self.top_again + size, self.left_again:self.left_again + size]
        return (cut.flip(-1) if self.mirrored else cut).contiguous()


def _between(low: int, high: int, generator: torch.Generator | None) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def dvae_crop(high: int, wide: int, size: int = 256, generator: torch.Generator | None = None) -> Crop:
    """Listing 1, for the dVAE: any full square, resized to t of 9/8 to 12/8 of ``size`` (never enlarged),
    any square of it, mirrored or not. Raises ``ValueError`` for a picture that is too small."""
    side = min(high, wide)
    _check_side(side, size)
    top, left = _between(0, high - side, generator), _between(0, wide - side, generator)
    t = _between(min(side, round(9 / 8 * size)), min(side, round(12 / 8 * size)), generator)
    again = _between(0, t - size, generator), _between(0, t - size, generator)
    return Crop(top, left, side, t, *again, bool(_between(0, 1, generator)))


def dalle_crop(high: int, wide: int, size: int = 256, generator: torch.Generator | None = None) -> Crop:
    """Listing 2, for the transformer: a full square near the middle (between 3/8 and 5/8 of what is left
    over), resized to t of 1 to 9/8 of ``size``, any square of it, and never mirrored: it may show text.
    Raises ``ValueError`` for a picture that is too small."""
    side = min(high, wide)
    _check_side(side, size)

    def offset(spare: int) -> int:
        return _between(3 * spare // 8, max(3 * spare // 8 + 1, 5 * spare // 8) - 1, generator)

    top, left = offset(high - side), offset(wide - side)
    t = _between(size, min(side, round(9 / 8 * size)), generator)
    return Crop(top, left, side, t, _between(0, t - size, generator), _between(0, t - size, generator), False)
