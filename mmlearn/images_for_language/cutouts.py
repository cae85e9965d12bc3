r"""Cutouts: a picture as CLIP sees it many times, each time turned, bent, recoloured, torn and noised anew.

Paper: K. Crowson et al. (2022), *VQGAN-CLIP*, ECCV, arXiv:2204.08583 (augmentations); the list and its
numbers are those of the released code as iACE runs it (github.com/YujieLu10/IACE-NLU), whose
transformations are kornia's.  Survey: 3.6.
Differs from the code: corners are those of the picture, not the centres of its corner pixels. All cuts of a
step are made at once, and all pictures of a batch get the same cuts, so that what becomes of a picture does
not depend on its neighbours. Noise is drawn cut by cut, so that few cuts at a time are the same cuts. Nothing
is cropped: the name is older than this recipe, whose cuts show the whole picture.

Pictures are square and in [0, 1]; places are in [-1, 1], x to the right and y downwards, with 0 in the middle
and 1 at the edge. Letters of shapes: k cuts, b pictures, s pixels a side.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmlearn.nn.configuration import check

LUMA = (0.2989, 0.587, 0.114)           # what red, green and blue give to a grey picture
Range = tuple[float, float]
Number = float | int
Hole = tuple[float, float, float, float]        # y, x, height, width as shares of a side


@dataclass(frozen=True)
class CutoutConfig:
    cuts: int = 32              # of a picture, each step
    share: float = 0.7          # probability of each of the four changes, drawn for each cut
    degrees: float | int = 15.0     # most by which a cut is turned, either way
    shift: float = 0.1          # most by which it is shifted, as a share of its side
    shear: float | int = 5.0    # most degrees by which it is sheared along x and along y
    distortion: float | int = 0.7   # corners move inwards by at most this share of half a side
    jitter: float = 0.1         # of brightness, contrast and saturation about 1, of the hue about 0
    erase: Range = (0.1, 0.4)   # area of the rectangle that all cuts of a step lose
    ratio: Range = (0.3, 1 / 0.3)   # its height over its width
    noise: float = 0.1          # largest standard deviation of the noise

    def __post_init__(self) -> None:
        check(self, share=(0, 1), degrees=(0, 180), shift=(0, 1), shear=(0, 80), distortion=(0, 0.95),
              jitter=(0, 0.5), erase=(0, 0.9), ratio=(0.01, 100), noise=(0, 10))
        for name, (low, high) in (("erase", self.erase), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} is {low} to {high}; give the smaller number first")
        if not self.ratio[0] <= 1 <= self.ratio[1]:
            raise ValueError(f"ratio is {self.ratio[0]} to {self.ratio[1]}; flat and upright holes are drawn "
                             f"equally often, so use a range with 1 in it")

    @classmethod
    def paper(cls) -> "CutoutConfig":
        """The released code's, as iACE runs it."""
        return cls()

    @classmethod
    def mini(cls) -> "CutoutConfig":
        """Eight milder cuts for scenes of 64 pixels, whose words name colours."""
        return cls(8, degrees=10.0, distortion=0.4, jitter=0.04, erase=(0.05, 0.2), noise=0.05)

    @classmethod
    def none(cls) -> "CutoutConfig":
        """The picture as it is, once."""
        return cls(1, share=0.0, noise=0.0)


# -------------------------------------------------------------------------------------------------- equations

def pooled(
    x: Float[Tensor, "b c y x"], size: int
) -> Float[Tensor, "b c s s"]:
    r"""eq:imagine-pool: $\tfrac12\,(\text{mean}+\max)$ over the pixels that
    become one: the maximum keeps details, the mean their surroundings."""
    return (F.adaptive_avg_pool2d(x, size) + F.adaptive_max_pool2d(x, size)) / 2


def affine_matrix(
    angle: Float[Tensor, " k"], shift: Float[Tensor, "k 2"],
    shear: Float[Tensor, "k 2"],
) -> Float[Tensor, "k 3 3"]:
    r"""eq:imagine-affine: $A=\begin{pmatrix}R_\varphi S&a\\0&1\end{pmatrix}$,
    $R_\varphi=\begin{pmatrix}\cos\varphi&-\sin\varphi\\\sin\varphi&\cos
    \varphi\end{pmatrix}$, $S=\begin{pmatrix}1&0\\-\tan\psi_y&1\end{pmatrix}
    \begin{pmatrix}1&-\tan\psi_x\\0&1\end{pmatrix}$: where a place of the
    picture goes, sheared, turned, shifted."""
    cos, sin = angle.cos(), angle.sin()
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    tx, ty = shear.tan().unbind(1)

    def square(*rows: Tensor) -> Tensor:
        return torch.stack(rows, dim=1).view(-1, 2, 2)

    turn = square(cos, -sin, sin, cos) @ square(one, zero, -ty, one)
    turn = turn @ square(one, -tx, zero, one)
    top = torch.cat([turn, shift[:, :, None]], dim=2)
    bottom = torch.stack([zero, zero, one], dim=1)[:, None]
    return torch.cat([top, bottom], dim=1)


def homography(
    start: Float[Tensor, "k 4 2"], end: Float[Tensor, "k 4 2"]
) -> Float[Tensor, "k 3 3"]:
    r"""eq:imagine-homography: the matrix $H$ with $H_{33}=1$ and
    $H\,(x_i,y_i,1)^\top\propto(x_i',y_i',1)^\top$ for four pairs of places:
    eight linear equations."""
    x, y = start.unbind(2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows = []
    for axis, other in enumerate((end[..., 0], end[..., 1])):
        own, rest = [x, y, one], [zero] * 3
        first = own + rest if axis == 0 else rest + own
        rows.append(torch.stack([*first, -x * other, -y * other], dim=2))
    right = torch.cat([end[..., 0], end[..., 1]], dim=1)
    found = torch.linalg.solve(torch.cat(rows, dim=1), right)
    return F.pad(found, (0, 1), value=1.0).view(-1, 3, 3)


def warped(
    x: Float[Tensor, "k c s s"], H: Float[Tensor, "k 3 3"]
) -> Float[Tensor, "k c s s"]:
    r"""eq:imagine-warp: $x'(q)=x(H^{-1}q)$ with bilinear values between
    pixels and zeros outside: $H$ says where places go."""
    size = x.shape[-1]
    line = (2 * torch.arange(size, device=x.device) + 1) / size - 1
    line = line.to(x)
    q = torch.stack([line.expand(size, size), line[:, None].expand(size, size),
                     torch.ones(size, size).to(x)], dim=2)          # y x 3
    source = q.flatten(0, 1) @ torch.linalg.inv(H).mT               # k (y x) 3
    places = source[..., :2] / source[..., 2:]
    return F.grid_sample(x, places.view(-1, size, size, 2),
                         align_corners=False)


def blended(
    x: Float[Tensor, "*n 3 y x"], other: Float[Tensor, "*m c v u"] | float | int,
    factor: Float[Tensor, "*k"],
) -> Float[Tensor, "*n 3 y x"]:
    r"""eq:imagine-blend: $\min(\max(f x+(1-f)\,x_0,0),1)$: with $x_0=0$ a
    change of brightness, with the mean grey of contrast, with the grey
    picture of saturation."""
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def grey(x: Float[Tensor, "*n 3 y x"]) -> Float[Tensor, "*n 1 y x"]:
    r"""eq:imagine-grey: $0.2989\,r+0.587\,g+0.114\,b$."""
    weights = x.new_tensor(LUMA)[:, None, None]
    return (weights * x).sum(dim=-3, keepdim=True)


def turned_hue(
    x: Float[Tensor, "*n 3 y x"], turn: Float[Tensor, "*k"]
) -> Float[Tensor, "*n 3 y x"]:
    r"""eq:imagine-hue: $x_j'=m-c\,\max(0,\min(\kappa_j,4-\kappa_j,1))$,
    $\kappa_j=(n_j+6(h+\Delta))\bmod 6$, $n=(5,3,1)$, with the largest
    value $m$, the range $c$ and the hue $h$ of a pixel."""
    r, g, b = x.unbind(dim=-3)
    most, least = x.amax(dim=-3), x.amin(dim=-3)
    c = most - least
    divisor = torch.where(c > 0, c, torch.ones_like(c))
    sixth = torch.where(
        most == r, (g - b) / divisor,
        torch.where(most == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor))
    n = x.new_tensor((5.0, 3.0, 1.0))[:, None, None]
    kappa = (n + sixth.unsqueeze(-3) + 6 * turn) % 6
    share = torch.minimum(kappa, 4 - kappa).clamp(0, 1)
    return most.unsqueeze(-3) - c.unsqueeze(-3) * share


def noisy(
    x: Float[Tensor, "k b 3 s s"], scale: Float[Tensor, " k"],
    noise: Float[Tensor, "k 3 s s"],
) -> Float[Tensor, "k b 3 s s"]:
    r"""eq:imagine-noise: $x+a\,\epsilon$, $a\sim U(0,0.1)$ for each cut,
    $\epsilon\sim N(0,1)$ for each number."""
    return x + scale[:, None, None, None, None] * noise[:, None]


# ------------------------------------------------------------------------------------------------------ draws

@dataclass(frozen=True)
class Cuts:
    """What is done in one step: matrices of k cuts, factors of their colours and which get them, the
    rectangle that all lose, if any, noise."""

    affine: Float[Tensor, "k 3 3"]
    perspective: Float[Tensor, "k 3 3"]
    colours: Float[Tensor, "k 4"]           # brightness, contrast, saturation, hue
    coloured: Bool[Tensor, " k"]
    order: tuple[int, ...]                  # of the four changes of colour
    hole: Hole | None
    noise: Float[Tensor, " k"]
    seeds: tuple[int, ...]                  # of each cut's noise

    def __len__(self) -> int:
        return len(self.noise)

    def split(self, at_once: int) -> Iterator["Cuts"]:
        """The same cuts, ``at_once`` at a time."""
        for start in range(0, len(self), at_once):
            part = slice(start, start + at_once)
            yield replace(self, affine=self.affine[part], perspective=self.perspective[part],
                          colours=self.colours[part], coloured=self.coloured[part], noise=self.noise[part],
                          seeds=self.seeds[part])


def draw_cuts(config: CutoutConfig, generator: torch.Generator) -> Cuts:
    """What one step does to every picture, a function of the generator, on the CPU."""
    k = config.cuts

    def uniform(low: Number, high: Number, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    def chosen() -> Tensor:
        return torch.rand(k, generator=generator) < config.share

    angle, shear, d = math.radians(config.degrees), math.radians(config.shear), config.distortion
    turned, bent, coloured = chosen(), chosen(), chosen()
    affine = affine_matrix(uniform(-angle, angle, k), 2 * uniform(-config.shift, config.shift, k, 2),
                           uniform(-shear, shear, k, 2))
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]).expand(k, 4, 2)
    perspective = homography(corners, corners * (1 - d * torch.rand(k, 4, 2, generator=generator)))
    still = torch.eye(3).expand(k, 3, 3)
    colours = torch.cat([uniform(1 - config.jitter, 1 + config.jitter, k, 3),
                         uniform(-config.jitter, config.jitter, k, 1)], dim=1)
    order = tuple(torch.randperm(4, generator=generator).tolist())
    hole = draw_hole(config, uniform)
    torn = float(uniform(0, 1, 1)) < config.share
    seeds = tuple(torch.randint(2**31, (k,), generator=generator).tolist())
    return Cuts(torch.where(turned[:, None, None], affine, still),
                torch.where(bent[:, None, None], perspective, still),
                colours, coloured, order, hole if torn else None, uniform(0, config.noise, k), seeds)


def draw_hole(config: CutoutConfig, uniform: Callable[..., Tensor]) -> Hole:
    """A rectangle: its area and its height over its width are drawn, flat and upright ones equally often."""
    (small, large), (low, high) = config.erase, config.ratio
    flat = float(uniform(0, 1, 1)) < 0.5
    area = float(uniform(small, large, 1))
    ratio = float(uniform(low, 1, 1) if flat else uniform(1, high, 1))
    height, width = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
    y, x = uniform(0, 1, 2).tolist()
    return y * (1 - height), x * (1 - width), height, width


# ------------------------------------------------------------------------------------------------------- cuts

def recoloured(
    x: Float[Tensor, "k b 3 s s"], factors: Float[Tensor, "k 4"],
    order: tuple[int, ...],
) -> Float[Tensor, "k b 3 s s"]:
    """Brightness, contrast, saturation (eq:imagine-blend) and hue
    (eq:imagine-hue) of each cut, in this order."""
    for change in order:
        f = factors[:, change, None, None, None, None]
        if change == 0:
            x = blended(x, 0.0, f)
        elif change == 1:
            mean = grey(x).mean(dim=(-2, -1), keepdim=True)
            x = blended(x, mean, f)
        elif change == 2:
            x = blended(x, grey(x), f)
        else:
            x = turned_hue(x, f)
    return x


def erased(x: Float[Tensor, "*n s s"], hole: Hole | None) -> Float[Tensor, "*n s s"]:
    """Zeros in a rectangle, which is rounded to pixels and has at least one."""
    if hole is None:
        return x
    size = x.shape[-1]
    y0, x0, height, width = hole
    rows, columns = max(1, round(height * size)), max(1, round(width * size))
    top, left = min(round(y0 * size), size - rows), min(round(x0 * size), size - columns)
    kept = torch.ones(size, size, dtype=torch.bool, device=x.device)
    kept[top : top + rows, left : left + columns] = False
    return x * kept


def cut(
    x: Float[Tensor, "b 3 s s"], cuts: Cuts
) -> Float[Tensor, "k b 3 s s"]:
    """Pictures in [0, 1] of CLIP's size -> k cuts of each: turned and
    shifted, seen from aside, recoloured, torn, noised.

    The pictures of a batch ride as channels through one warp a cut.
    """
    k, b = len(cuts), len(x)
    many = x.flatten(0, 1).expand(k, -1, -1, -1)        # k (b 3) s s
    for H in (cuts.affine, cuts.perspective):
        if not torch.equal(H, torch.eye(3).expand_as(H)):
            many = warped(many, H.to(x))
    seen = many.unflatten(1, (b, 3))
    if bool(cuts.coloured.any()):
        changed = recoloured(seen, cuts.colours.to(x), cuts.order)
        chosen = cuts.coloured.to(x.device)[:, None, None, None, None]
        seen = torch.where(chosen, changed, seen)
    seen = erased(seen, cuts.hole)
    if not bool(cuts.noise.any()):
        return seen
    noise = torch.stack([noise_of(seed, x.shape[1:]) for seed in cuts.seeds])
    return noisy(seen, cuts.noise.to(x), noise.to(x))


def noise_of(seed: int, shape: Sequence[int]) -> Tensor:
    """Normal numbers of one cut, the same on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
