r"""Bag of visual words: a picture as counts of the little patterns that it is made of, and a word as the sum
of its pictures.

Papers: E. Bruni, N.-K. Tran and M. Baroni (2014), *Multimodal Distributional Semantics*, JAIR 49, sec. 3.2
(the pipeline and its sizes); D. Lowe (2004), *Distinctive Image Features from Scale-Invariant Keypoints*,
IJCV 60, sec. 6 (the descriptor); J. Sivic and A. Zisserman (2003), *Video Google*, ICCV (visual words);
S. Lloyd (1982), *Least Squares Quantization in PCM* (k-means).  Survey: 3.3.
Differs from the papers: Bruni averages the descriptors of hue, saturation and value to 128 numbers, and
speaks of 3 x 128 where they are clustered: ``colour`` says which. How a radius is laid out in cells is not
said there; here it is half the side of the 4 x 4 cells, and the deviation of the window that weighs them, as
Lowe has it. Descriptors are taken where these cells lie within the picture, and k-means starts from
descriptors drawn at random.

A descriptor of a grid point: gradients of the picture, shared among 8 directions and 4 x 4 cells around the
point by linear weights, under a Gaussian window; unit length, numbers above 0.2 cut, unit length again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from mmlearn.images_for_language.counts import DENSE
from mmlearn.nn.configuration import check
from mmlearn.text2image.vector_quantisation import nearest_codes

COLOURS = ("average", "concatenate")
CELLS, DIRECTIONS, CUT = 4, 8, 0.2                  # of a descriptor: Lowe's
PICTURES = 64                                       # that are described at once


@dataclass(frozen=True)
class VisualWordsConfig:
    words: int = 5000                           # k, visual words
    bins: int = 4                               # parts of a side of the picture that count for themselves
    step: int = 5                               # pixels from one grid point to the next
    radii: tuple[int, ...] = (10, 15, 20, 25)   # of a descriptor, in pixels
    colour: str = "average"                     # the three channels' descriptors: "average" or "concatenate"

    def __post_init__(self) -> None:
        check(self, bins=(1, 64), step=(1, 1000), radii=(1, 10_000))
        if not self.radii:
            raise ValueError("radii are empty; give at least one radius in pixels, such as 10")
        if self.colour not in COLOURS:
            raise ValueError(f"colour is {self.colour!r}; use one of {', '.join(COLOURS)}")

    @classmethod
    def bruni(cls) -> "VisualWordsConfig":
        """5,000 visual words in 4 x 4 parts of the picture: 80,000 columns (tuned on MEN's development
        pairs)."""
        return cls()

    @classmethod
    def mini(cls) -> "VisualWordsConfig":
        """A miniature for pictures of 64 pixels: 50 visual words in 2 x 2 parts, 200 columns."""
        return cls(words=50, bins=2, step=4, radii=(6, 10), colour="concatenate")

    @property
    def columns(self) -> int:
        """Numbers of a picture."""
        return self.words * self.bins**2

    @property
    def width(self) -> int:
        """Numbers of a descriptor."""
        return CELLS**2 * DIRECTIONS * (3 if self.colour == "concatenate" else 1)


# -------------------------------------------------------------------------------------------------- equations

def rgb_to_hsv(pixels: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b 3 y x"]:
    r"""eq:bovw-hsv: value $\max$, saturation $(\max-\min)/\max$, and the hue as the place of the largest
    channel plus the difference of the other two, in sixths of a turn: all in [0, 1]; grey has hue 0."""
    value, largest = pixels.max(dim=1)
    spread = value - pixels.min(dim=1).values
    r, g, b = pixels.unbind(dim=1)
    divisor = torch.where(spread > 0, spread, 1)
    turns = torch.stack([(g - b) / divisor, 2 + (b - r) / divisor,
                         4 + (r - g) / divisor], dim=1)
    hue = turns.gather(1, largest[:, None])[:, 0] / 6 % 1
    saturation = spread / torch.where(value > 0, value, 1)
    return torch.stack([hue, saturation, value], dim=1)


def direction_maps(
    pixels: Float[Tensor, "b y x"]
) -> Float[Tensor, "b 8 y x"]:
    r"""eq:bovw-directions: $G_o=\lVert\nabla I\rVert\,\max\big(0,\,1-\tfrac{8}{2\pi}\lvert\theta-o\,\tfrac{2
    \pi}8\rvert\big)$, $o=0\dots7$: each gradient is shared by the two directions beside its own; $\theta=0$
    points along the row, a quarter turn down."""
    down, right = torch.gradient(pixels, dim=(1, 2))
    length = (down.square() + right.square()).sqrt()
    place = torch.atan2(down, right) / (2 * torch.pi) * DIRECTIONS
    turns = torch.arange(DIRECTIONS, device=pixels.device)[:, None, None]
    apart = (place[:, None] - turns) % DIRECTIONS
    apart = torch.minimum(apart, DIRECTIONS - apart)
    return length[:, None] * (1 - apart).clamp(min=0)


def cell_weights(radius: int) -> Float[Tensor, "4 n"]:
    r"""eq:bovw-cells: $k_i(x)=e^{-x^2/2r^2}\max\big(0,\,1-\tfrac{2}{r}\lvert x-o_i\rvert\big)$,
    $o_i=\tfrac r2(i-\tfrac32)$, $i=0\dots3$: what a pixel x beside a grid point gives to the cells of a
    side, for whole numbers from $-\lfloor5r/4\rfloor$ to $\lfloor5r/4\rfloor$."""
    reach = 5 * radius // 4
    x = torch.arange(-reach, reach + 1, dtype=torch.float64)
    middles = radius / 2 * (torch.arange(CELLS, dtype=torch.float64)
                            - (CELLS - 1) / 2)
    share = (1 - 2 / radius * (x - middles[:, None]).abs()).clamp(min=0)
    return share * torch.exp(-x.square() / (2 * radius**2))


def limited(
    histograms: Float[Tensor, "*b d"], cut: float | int = CUT
) -> Float[Tensor, "*b d"]:
    r"""eq:bovw-limit: $h\mapsto h'/\lVert h'\rVert$ with $h'=\min(h/\lVert h\rVert,\,0.2)$: one strong edge
    does not outweigh the rest; nothing stays nothing."""
    return F.normalize(F.normalize(histograms, dim=-1).clamp(max=cut), dim=-1)


def sift(
    pixels: Float[Tensor, "b y x"], radius: int, step: int
) -> Float[Tensor, "b r c 128"]:
    """Descriptors (eq:bovw-directions, -cells, -limit) of the points of a
    grid, upright, of one radius."""
    maps = direction_maps(pixels)
    weights = cell_weights(radius).to(maps)[:, None]
    reach = weights.shape[-1] // 2
    rows, columns = (grid(n, radius, step) for n in pixels.shape[1:])
    maps = F.pad(maps.flatten(0, 1)[:, None], (reach,) * 4)
    maps = maps[:, :, rows[0]:rows[-1] + 2 * reach + 1,
                columns[0]:columns[-1] + 2 * reach + 1]
    down = F.conv2d(maps, weights[..., None], stride=(step, 1))
    down = down.flatten(0, 1)[:, None]                  # (b o i) 1 r x
    cells = F.conv2d(down, weights[:, :, None], stride=(1, step))
    cells = cells.unflatten(0, (-1, DIRECTIONS, CELLS))  # b o i j r c
    return limited(cells.permute(0, 4, 5, 2, 3, 1).flatten(3))


def grid(length: int, radius: int, step: int) -> Int[Tensor, " n"]:
    """The points of a side around which ``radius`` pixels fit, ``step`` apart, in the middle of the side."""
    room = length - 2 * radius
    if room < 0:
        raise ValueError(f"a descriptor of radius {radius} needs {2 * radius} pixels, the picture has "
                         f"{length}; enlarge it, or use smaller radii")
    count = room // step + 1
    return torch.arange(count) * step + (length - (count - 1) * step) // 2


def described(
    images: UInt8[Tensor, "b 3 y x"], config: VisualWordsConfig
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "n 2"]]:
    """The descriptors of pictures, 0 to 255, on the grid of every radius, and where each stands: row and
    column as parts of the side, 0 to 1. Raises ``ValueError`` for pictures too small for a radius."""
    channels = rgb_to_hsv(images.float() / 255)
    y, x = images.shape[-2:]
    found, places = [], []
    for radius in config.radii:
        rows, columns = grid(y, radius, config.step), grid(x, radius, config.step)
        each = sift(channels.flatten(0, 1), radius, config.step).unflatten(0, (-1, 3)).flatten(2, 3)
        found.append(each.mean(dim=1) if config.colour == "average" else each.transpose(1, 2).flatten(2))
        places.append(torch.cartesian_prod(rows / y, columns / x))
    return torch.cat(found, dim=1), torch.cat(places).to(images.device)


# ------------------------------------------------------------------------------------------------------ words

def lloyd_step(
    points: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    r"""eq:bovw-lloyd: $a_i=\arg\min_j\lVert x_i-\mu_j\rVert$, then $\mu_j=\frac1{\lvert\{i:a_i=j\}\rvert}
    \sum_{i:a_i=j}x_i$: neither step raises $\sum_i\lVert x_i-\mu_{a_i}\rVert^2$. A centre without points
    takes the point that is furthest from its own."""
    nearest = nearest_codes(points, centres)
    counts = torch.bincount(nearest, minlength=len(centres))
    sums = torch.zeros_like(centres).index_add_(0, nearest, points)
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        apart = (points - centres[nearest]).square().sum(dim=1)
        far = apart.topk(len(empty)).indices
        sums.index_add_(0, nearest[far], points[far], alpha=-1)
        counts = counts.index_add(0, nearest[far], -torch.ones_like(far))
        sums[empty], counts[empty] = points[far], 1
    return sums / counts.clamp(min=1)[:, None], nearest


def k_means(
    points: Float[Tensor, "n d"], start: Float[Tensor, "k d"],
    iterations: int = 300, tolerance: float = 1e-4
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Lloyd's algorithm from given centres: the centres, and the nearest of each point.

    It stops when no point changes its centre, when the squared moves of all centres together fall below
    ``tolerance`` times the mean variance of the numbers, or after ``iterations`` steps. Raises ``ValueError``
    for fewer points than centres.
    """
    if len(points) < len(start):
        raise ValueError(f"there are {len(points)} points for {len(start)} centres; give more points, or ask "
                         f"for fewer centres")
    centres, before = start.clone(), None
    bound = tolerance * float(points.var(dim=0, correction=0).mean())
    for _ in range(iterations):
        moved, nearest = lloyd_step(points, centres)
        shift = float((moved - centres).square().sum())
        centres = moved
        if (before is not None and torch.equal(nearest, before)) or shift <= bound:
            break
        before = nearest
    return centres, nearest_codes(points, centres)


def random_start(
    points: Float[Tensor, "n d"], count: int, generator: torch.Generator
) -> Float[Tensor, "k d"]:
    """Different points, drawn at random. Raises ``ValueError`` if there are fewer than ``count``."""
    if len(points) < count:
        raise ValueError(f"there are {len(points)} points for {count} centres; give more points, or ask for "
                         f"fewer centres")
    return points[torch.randperm(len(points), generator=generator)[:count].to(points.device)]


def binned(
    nearest: Int[Tensor, "b n"], places: Float[Tensor, "n 2"],
    words: int, bins: int
) -> Float[Tensor, "b c"]:
    r"""eq:bovw-histogram: $h_{u,v,j}=\sum_i[a_i=j]\,[\lfloor Br_i\rfloor=u]\,[\lfloor Bc_i\rfloor=v]$: how
    often visual word j stands in part (u, v) of the picture, B parts a side; (r, c) is a point's place."""
    part = (places * bins).long().clamp(max=bins - 1)
    column = (part[:, 0] * bins + part[:, 1]) * words + nearest
    table = torch.zeros(len(nearest), bins**2 * words, device=nearest.device)
    return table.scatter_add_(1, column, table.new_ones(column.shape))


class BagOfVisualWords(nn.Module):
    """A vocabulary of visual words and the pictures it counts (eq:bovw-lloyd, eq:bovw-histogram).

    ``learn`` finds the centres; ``forward``: pictures (b, 3, y, x) of bytes -> counts (b, bins^2 * words);
    ``of_words`` sums over the pictures of each word. Raises ``ValueError`` where nothing was learnt yet.
    """

    centres: Tensor

    def __init__(self, config: VisualWordsConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("centres", torch.zeros(config.words, config.width))

    @torch.no_grad()
    def learn(
        self, images: UInt8[Tensor, "n 3 y x"], generator: torch.Generator,
        sample: int = 100_000, iterations: int = 300
    ) -> "BagOfVisualWords":
        """Visual words from the descriptors of pictures, ``sample`` of them drawn at random where there are
        more."""
        points = torch.cat([described(part, self.config)[0].flatten(0, 1)
                            for part in images.split(PICTURES)])
        if len(points) > sample:
            points = random_start(points, sample, generator)
        start = random_start(points, self.config.words, generator)
        self.centres.copy_(k_means(points, start, iterations)[0])
        return self

    @torch.no_grad()
    def forward(self, images: UInt8[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        if not bool(self.centres.any()):
            raise ValueError("the visual words are not learnt yet; call learn(pictures, generator) first")
        counted = []
        for part in images.split(PICTURES):
            points, places = described(part, self.config)
            nearest = nearest_codes(points.flatten(0, 1), self.centres).view(points.shape[:2])
            counted.append(binned(nearest, places, self.config.words, self.config.bins))
        return torch.cat(counted)

    def of_words(self, pictures: Iterable[UInt8[Tensor, "_ 3 _ _"]]) -> Float[Tensor, "w c"]:
        """eq:bovw-sum, a row for the pictures of each word; sparse where the table is large."""
        return stacked(word_sum(self(images)) for images in pictures)


def word_sum(counts: Float[Tensor, "b c"]) -> Float[Tensor, " c"]:
    r"""eq:bovw-sum: $\#(t,\cdot)=\sum_{I\in\mathcal I_t}h(I)$: the visual words of all its pictures."""
    return counts.sum(dim=0)


def stacked(rows: Iterable[Float[Tensor, " c"]], dense: int = DENSE) -> Float[Tensor, "w c"]:
    """Rows as a table, sparse if it has more than ``dense`` cells."""
    kept = [row.to_sparse() for row in rows]
    if not kept:
        raise ValueError("there are no words; give the pictures of at least one")
    table = torch.stack(kept).coalesce()
    return table.to_dense() if table.numel() <= dense else table


