r"""Gated PixelCNN: a map of codes (or of pixel values), drawn one place after the other, in rows.

Papers: A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu (2016), *Pixel Recurrent Neural Networks*,
arXiv:1601.06759, sec. 3.4 and fig. 4 (the mask); A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt,
A. Graves and K. Kavukcuoglu (2016), *Conditional Image Generation with PixelCNN Decoders*, NeurIPS,
arXiv:1606.05328, sec. 2.1 to 2.3 (gates, blind spot, conditions).  Survey: 2.2, as the prior of VQ-VAE.
Differs from the paper: the input is shifted once, by a row for the one stack and by a column for the other,
and all convolutions then see their own place; the paper masks the first and shifts the rows in every layer.
Values are embedded; its pixels are intensities. It has no dependence between the channels of a pixel: a place
holds one value, as a code map does. Depth and width of the miniature and of ``vqvae`` are ours: the paper of
VQ-VAE does not give those of its prior.

Letters of shapes: b maps, y and x their places, c channels, k values (codes), e numbers of a condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text_for_vision.blockwise import single


@dataclass(frozen=True)
class PixelCNNConfig:
    codes: int = 512            # k, values of a place
    width: int = 256            # c, channels of both stacks
    layers: int = 15            # gated layers
    kernel: int = 5             # places across that a convolution would see without its mask
    hidden: int = 512           # channels between the last layer and the logits
    classes: int = 0            # classes that a map may be conditioned on; 0: none
    context: int = 0            # channels of a map that it is conditioned on, of the same side; 0: none
    context_codes: int = 0      # codes of a smaller map that it is conditioned on (VQ-VAE-2); 0: none

    def __post_init__(self) -> None:
        check(self, classes=(0, 1_000_000), context=(0, 100_000), context_codes=(0, 1_000_000))
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; use an odd number, such as 3 or 5")
        if self.layers < 1:
            raise ValueError("layers is 0; use at least 1")
        if self.context and self.context_codes:
            raise ValueError("context and context_codes are both given; a smaller map of codes becomes the "
                             "context itself, so leave one at 0")

    @classmethod
    def vqvae(cls) -> "PixelCNNConfig":
        """For the 32 x 32 codes of VQ-VAE on ImageNet, by class; depth and width are ours."""
        return cls(classes=1000)

    @classmethod
    def bottom(cls) -> "PixelCNNConfig":
        """For the bottom map of VQ-VAE-2, given the top map and a class; depth and width are ours."""
        return cls(classes=1000, context_codes=512)

    @classmethod
    def mini(cls) -> "PixelCNNConfig":
        """A miniature for the 8 x 8 codes of 64 of the miniature VQ-VAE."""
        return cls(64, 48, 4, 3, 64)


# -------------------------------------------------------------------------------------------------- equations

def raster_mask(kernel: int, own: bool) -> Bool[Tensor, "y x"]:
    r"""eq:pixelcnn-mask: $M_{uv}=1$ where place $(u,v)$ of the kernel comes before its middle in rows; with
    ``own`` in the middle, too (mask B; without: mask A)."""
    mask = torch.ones(kernel * kernel, dtype=torch.bool)
    mask[kernel * kernel // 2 + own:] = False
    return mask.view(kernel, kernel)


def gate(
    f: Float[Tensor, "b c y x"], g: Float[Tensor, "b c y x"]
) -> Float[Tensor, "b c y x"]:
    r"""eq:pixelcnn-gate: $\tanh(f)\odot\sigma(g)$, with $f=W_f*x+V_fh$ and $g=W_g*x+V_gh$: the condition $h$
    shifts both."""
    return torch.tanh(f) * torch.sigmoid(g)


def code_log_likelihood(
    logits: Float[Tensor, "b k y x"], codes: Int[Tensor, "b y x"]
) -> Float[Tensor, " b"]:
    r"""eq:pixelcnn-likelihood: $\log p(k)=\sum_i\log p(k_i\mid k_1,\dots,k_{i-1})$, nats per map."""
    nats = F.cross_entropy(single(logits), codes, reduction="none")
    return -nats.flatten(1).sum(dim=1)


def pixelcnn_loss(
    logits: Float[Tensor, "b k y x"], codes: Int[Tensor, "b y x"]
) -> Float[Tensor, ""]:
    """Minus eq:pixelcnn-likelihood, as a mean over places: nats for each code; log K without learning."""
    return F.cross_entropy(single(logits), codes)


# ----------------------------------------------------------------------------------------------------- blocks

class MaskedConv2d(nn.Conv2d):
    """PixelCNN's first convolution: a square kernel under eq:pixelcnn-mask. Stacked, it leaves a blind spot:
    places above to the right that no output ever sees."""

    mask: Tensor

    def __init__(self, into: int, out: int, kernel: int, own: bool) -> None:
        super().__init__(into, out, kernel, padding=kernel // 2)
        mask = raster_mask(kernel, own)
        self.register_buffer("mask", mask, persistent=False)

    def forward(
        self, input: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b d y x"]:
        return self._conv_forward(input, self.weight * self.mask, self.bias)


class CausalConv2d(nn.Conv2d):
    """A convolution that sees ``above`` rows above its own, ``left`` and ``right`` columns beside it: a mask
    whose zeros are left out. ``window`` takes what is already padded."""

    def __init__(
        self, into: int, out: int, above: int, left: int, right: int
    ) -> None:
        super().__init__(into, out, (above + 1, left + 1 + right))
        self.above, self.left, self.right = above, left, right

    def window(
        self, x: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b d y2 x2"]:
        return super().forward(x)

    def forward(
        self, input: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b d y x"]:
        padding = (self.left, self.right, self.above, 0)
        return self.window(F.pad(input, padding))


class GatedLayer(nn.Module):
    """One layer of both stacks (eq:pixelcnn-gate).

    The vertical stack sees all rows above (after the shift), the horizontal one what stands to the left in
    its row and, through a 1 x 1 convolution, what the vertical one saw: together everything before a place.
    ``forward``: v and h (b, c, y, x) and what the condition adds to both, (b, 4c, y or 1, x or 1).
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        half = kernel // 2
        self.vertical = CausalConv2d(width, 2 * width, half, half, half)
        self.horizontal = CausalConv2d(width, 2 * width, 0, half, 0)
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.residual = nn.Conv2d(width, width, 1)

    def join(
        self, v: Float[Tensor, "b c2 y x"], h: Float[Tensor, "b c2 y x"],
        before: Float[Tensor, "b c y x"], add: Float[Tensor, "b c4 i j"] | None
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b c y x"]]:
        """Both stacks from what their convolutions gave; ``before`` entered the horizontal one."""
        h = h + self.across(v)
        if add is not None:
            to_v, to_h = add.chunk(2, dim=1)
            v, h = v + to_v, h + to_h
        out = self.residual(gate(*h.chunk(2, dim=1)))
        return gate(*v.chunk(2, dim=1)), before + out

    def forward(
        self, v: Float[Tensor, "b c y x"], h: Float[Tensor, "b c y x"],
        add: Float[Tensor, "b c4 i j"] | None = None
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b c y x"]]:
        return self.join(self.vertical(v), self.horizontal(h), h, add)


class PixelCNN(nn.Module):
    """Logits (b, k, y, x) of codes (b, y, x), each from the codes before it in rows (eq:pixelcnn-gate).

    ``labels`` (b) name a class for each map; ``context`` is a map (b, e, y, x), or the codes of a smaller map
    (b, y/n, x/n) that is enlarged n times. ``sample`` draws maps.
    """

    def __init__(self, config: PixelCNNConfig) -> None:
        super().__init__()
        self.config = c = config
        self.embed = nn.Embedding(c.codes, c.width)
        self.layers = nn.ModuleList(GatedLayer(c.width, c.kernel) for _ in range(c.layers))
        self.output = nn.Sequential(nn.ReLU(), nn.Conv2d(c.width, c.hidden, 1), nn.ReLU(),
                                    nn.Conv2d(c.hidden, c.codes, 1))
        self.classes = nn.ModuleList(nn.Embedding(c.classes, 4 * c.width)
                                     for _ in range(c.layers if c.classes else 0))
        self.context_embed = nn.Embedding(c.context_codes, c.width) if c.context_codes else None
        channels = c.width if c.context_codes else c.context
        self.context = nn.ModuleList(nn.Conv2d(channels, 4 * c.width, 1, bias=False)
                                     for _ in range(c.layers if channels else 0))

    def conditions(
        self, side: tuple[int, int], labels: Int[Tensor, " b"] | None, context: Tensor | None
    ) -> Sequence[Tensor | None]:
        """What each layer adds to both stacks: (b, 4c, y or 1, x or 1), or None."""
        if (labels is None) != (not self.config.classes):
            raise ValueError("labels are given to a model without classes, or not given to one with classes; "
                             f"this one has {self.config.classes}")
        if (context is None) != (len(self.context) == 0):
            raise ValueError("a context is given to a model without one, or not given to one that wants it; "
                             f"this one has context={self.config.context}, "
                             f"context_codes={self.config.context_codes}")
        adds: list[Tensor | None] = [None] * self.config.layers
        if labels is not None:
            adds = [embed(labels)[:, :, None, None] for embed in self.classes]
        if context is not None:
            if self.context_embed is not None:
                if side[0] % context.shape[-2] or side[0] // context.shape[-2] * context.shape[-1] != side[1]:
                    raise ValueError(f"the context has {context.shape[-2]} x {context.shape[-1]} codes, the "
                                     f"map {side[0]} x {side[1]}; make the map a multiple of it")
                context = self.context_embed(context).permute(0, 3, 1, 2)
                context = F.interpolate(context, size=side, mode="nearest")
            maps = [conv(context) for conv in self.context]
            adds = [m if a is None else m + a for m, a in zip(maps, adds)]
        return adds

    def forward(
        self, codes: Int[Tensor, "b y x"],
        labels: Int[Tensor, " b"] | None = None, context: Tensor | None = None
    ) -> Float[Tensor, "b k y x"]:
        side = (codes.shape[1], codes.shape[2])
        x = self.embed(codes).permute(0, 3, 1, 2)           # b c y x
        v = F.pad(x, (0, 0, 1, -1))                         # the row above
        h = F.pad(x, (1, -1))                               # the place to the left
        adds = self.conditions(side, labels, context)
        for layer, add in zip(self.layers, adds):
            v, h = layer(v, h, add)
        return self.output(h)

    @torch.no_grad()
    def sample(
        self, n: int, side: tuple[int, int], labels: Int[Tensor, " n"] | None = None,
        context: Tensor | None = None, temperature: float | int = 1.0, top_k: int | None = None,
        generator: torch.Generator | None = None
    ) -> Int[Tensor, "n y x"]:
        """n maps of ``side`` (rows, columns), place by place; the smaller ``temperature`` and ``top_k``, the
        more probable. Of every layer what later places need is kept, so that all places together cost one
        pass of ``forward``. Draws on the CPU: the same on all devices."""
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; use a number above 0, or top_k=1 for the most "
                             "probable code")
        rows, columns = side
        adds = self.conditions(side, labels, context)
        codes = torch.zeros(n, rows, columns, dtype=torch.long, device=self.embed.weight.device)
        layers = cast(list[GatedLayer], list(self.layers))
        past = [self.embed.weight.new_zeros(n, self.config.width, layer.vertical.above, columns)
                for layer in layers]
        row_above = self.embed.weight.new_zeros(n, self.config.width, 1, columns)
        for y in range(rows):
            seen, parts = row_above, []
            for i, layer in enumerate(layers):                          # the vertical stack, a row at once
                window = torch.cat([past[i], seen], dim=2)
                v = layer.vertical.window(F.pad(window, (layer.vertical.left, layer.vertical.right)))
                past[i] = window[:, :, 1:]
                parts.append(v)
                shift = of_place(adds[i], y, None)
                half = v if shift is None else v + shift.chunk(2, dim=1)[0]
                seen = gate(*half.chunk(2, dim=1))
            self.sample_row(codes, y, parts, adds, temperature, top_k, generator)
            row_above = self.embed(codes[:, y : y + 1]).permute(0, 3, 1, 2)
        return codes

    def sample_row(self, codes: Tensor, y: int, parts: list[Tensor], adds: Sequence[Tensor | None],
                   temperature: float | int, top_k: int | None, generator: torch.Generator | None) -> None:
        """Fill row y of ``codes``: the horizontal stack, a place at a time; ``parts`` is what the vertical
        convolution of each layer saw."""
        n, columns = codes.shape[0], codes.shape[2]
        weight, layers = self.embed.weight, cast(list[GatedLayer], list(self.layers))
        past = [weight.new_zeros(n, self.config.width, 1, layer.horizontal.left) for layer in layers]
        left = weight.new_zeros(n, self.config.width, 1, 1)
        for x in range(columns):
            h = left
            for i, layer in enumerate(layers):
                window = torch.cat([past[i], h], dim=3)
                past[i] = window[:, :, :, 1:]
                _, h = layer.join(parts[i][:, :, :, x : x + 1], layer.horizontal.window(window), h,
                                  of_place(adds[i], y, x))
            logits = self.output(h).flatten(1)                          # n k
            codes[:, y, x] = draw(logits / temperature, top_k, generator)
            left = self.embed(codes[:, y : y + 1, x : x + 1]).permute(0, 3, 1, 2)


def of_place(add: Tensor | None, y: int, x: int | None) -> Tensor | None:
    """A layer's condition at row y and column x (None: in the whole row)."""
    if add is None or add.shape[2] == 1 == add.shape[3]:
        return add
    row = add[:, :, y : y + 1]
    return row if x is None else row[:, :, :, x : x + 1]


def draw(logits: Float[Tensor, "n k"], top_k: int | None,
         generator: torch.Generator | None) -> Int[Tensor, " n"]:
    """A value for each row, from the ``top_k`` most probable ones."""
    if top_k is not None:
        if not 1 <= top_k <= logits.shape[1]:
            raise ValueError(f"top_k is {top_k}; keep from 1 to {logits.shape[1]} values")
        least = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = single(logits).softmax(dim=1).cpu()
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(logits.device)


def receptive_field(
    network: nn.Module, x: Float[Tensor, "b c y x"], place: tuple[int, int]
) -> Bool[Tensor, "y x"]:
    """Which places of the input ``x`` change a network's output (b, d, y, x) at ``place`` (row, column)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        output = network(x)[:, :, place[0], place[1]].sum()
        return torch.autograd.grad(output, x)[0].abs().sum(dim=(0, 1)) > 0
