"""data2vec for images: a BEiT that sees 40% of a picture says what a slow copy of it makes of the whole.

Papers: A. Baevski, W.-N. Hsu, Q. Xu, A. Babu, J. Gu and M. Auli (2022), *data2vec: A General Framework for
Self-supervised Learning in Speech, Vision and Language*, ICML, arXiv:2202.03555, sec. 3 and 4.1; H. Bao et
al. (2022), *BEiT*, arXiv:2106.08254, alg. 1 (masks in blocks).  Survey: 5.1.
Differs from the paper: nothing; where the paper is silent or general, the released code decides
(github.com/facebookresearch/data2vec_vision): targets are the ends of blocks, after the residual sum, where
speech and text take the output of the feed-forward net; the class token is no target; each of the last K ends
is normalised, their mean is normalised again; the learner's states are normalised before its linear head, the
teacher's ends are not (that last normalisation stands in the head here). The commands released with the code
have a drop path of 0.25 (base) and dropout on attention weights; here are the paper's 0.2 and none.

What is not peculiar to images is in ``data2vec``: teacher, targets, loss, training. Recipe of the paper:
K = 6, beta = 2, the teacher's decay constant at 0.9998 (large: 800 epochs, then, from the teacher's weights
and with the schedule begun anew, 800 at 0.9999); AdamW with a cosine schedule from 2e-3 (large 1e-3) after 40
(80) epochs of warm-up, batches of 2,048 (8,192) for 800 (1,600) epochs.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.transforms import v2

from mmlearn.both_modalities.data2vec import (
    Data2Vec,
    Data2VecConfig,
    MaskedInputs,
    Predicted,
    targets,
)
from mmlearn.data.batches import Batches
from mmlearn.data.images import standardise
from mmlearn.nn.beit import BEiT, BEiTConfig, MaskedHead
from mmlearn.nn.modes import seeded
from mmlearn.nn.vision import IMAGENET_MEAN, IMAGENET_STD

ASPECTS = (0.3, 1 / 0.3)        # of a block, height over width
TRIES = 10                      # to place a block before a mask is left as it is
Uniform = list[list[float]]     # numbers in [0, 1), four a try: area, aspect, row, column


@dataclass(frozen=True)
class Data2VecVisionConfig(BEiTConfig):
    """Sizes of the encoder, and how much of a picture is hidden from it."""

    layer_scale: float = 1e-4   # first value of gamma
    drop_path: float = 0.2      # chance that training skips the last block; others less
    masked: int = 120           # patches that are hidden of 196
    least: int = 16             # area of the smallest block, in patches

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.least <= self.masked < self.places:
            raise ValueError(f"masked is {self.masked} of {self.places} patches in blocks of {self.least} at "
                             f"least; hide fewer than all and no fewer than a block")

    @classmethod
    def base(cls) -> "Data2VecVisionConfig":
        """85,664,592 parameters, without the head."""
        return cls()

    @classmethod
    def large(cls) -> "Data2VecVisionConfig":
        """303,135,168 parameters, without the head."""
        return cls(width=1024, layers=24, heads=16, ff=4096, layer_scale=1e-5)

    @classmethod
    def base_fine_tuned(cls) -> "Data2VecVisionConfig":
        """85,761,216 parameters: a table of offsets in each block, as the classifiers have it."""
        return cls(bias="layer")

    @classmethod
    def mini(cls, size: int = 32) -> "Data2VecVisionConfig":
        """A miniature for the scene world: 64 patches, of which 38 are hidden."""
        masked = round(0.6 * (size // 4) ** 2)
        return cls(size, 4, 64, 4, 4, 256, layer_scale=0.1, drop_path=0.0, masked=masked, least=4)


# ------------------------------------------------------------------------------------------ equations


def block_sides(
    area: float | int, aspect: float | int
) -> tuple[int, int]:
    r"""eq:block-sides: $y=\mathrm{round}\sqrt{ar}$, $x=\mathrm{round}\sqrt{a/r}$:
    height and width of a block of area $a$ whose sides have the ratio $r$."""
    return round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))


def block_aspect(u: float | int) -> float:
    r"""eq:block-aspect:
    $r=\exp\big(\log 0.3+u\,(\log\tfrac1{0.3}-\log 0.3)\big)$ for $u$ uniform in
    $[0,1)$: flat blocks are as frequent as tall ones."""
    low, high = (math.log(aspect) for aspect in ASPECTS)
    return math.exp(low + u * (high - low))


# ---------------------------------------------------------------------------------------------- masks


def add_block(
    mask: list[list[bool]], left: int, least: int, tries: Uniform
) -> int:
    """Hide one more block of at most ``left`` new patches; how many are new.

    The first of the ``tries`` that lies within the picture, is not the whole
    side of it and hides something new is taken; 0 if none does.
    """
    G = len(mask)
    for area, aspect, row, column in tries:
        y, x = block_sides(least + area * (left - least), block_aspect(aspect))
        if not (y < G and x < G):
            continue
        top, side = int(row * (G - y + 1)), int(column * (G - x + 1))
        cells = [(i, j) for i in range(top, top + y)
                 for j in range(side, side + x) if not mask[i][j]]
        if 0 < len(cells) <= left:
            for i, j in cells:
                mask[i][j] = True
            return len(cells)
    return 0


def block_mask(
    G: int, masked: int, least: int, generator: torch.Generator | None = None
) -> Bool[Tensor, " p"]:
    """A mask of a G x G grid, True = hidden: blocks are added until ``masked``
    patches are hidden, or none fits in ten tries; never more than ``masked``."""
    mask, left = [[False] * G for _ in range(G)], masked
    while left:
        tries = torch.rand(TRIES, 4, generator=generator, dtype=torch.float64)
        new = add_block(mask, left, least, tries.tolist())
        if not new:
            break
        left -= new
    return torch.tensor(mask).flatten()


def block_masks(
    b: int, config: Data2VecVisionConfig, generator: torch.Generator | None = None
) -> Bool[Tensor, "b p"]:
    """Masks of ``b`` pictures: on average 119.5 of 196 patches at the paper's 120, for not every last gap is
    found."""
    return torch.stack([block_mask(config.grid, config.masked, config.least, generator) for _ in range(b)])


# ---------------------------------------------------------------------------------------------- model


class Data2VecVision(BEiT):
    """The encoder of learner and teacher: images (b, 3, s, s), standardised -> states of patches (b, p, d).

    ``forward(images, mask)`` is the learner's view, patches where ``mask`` (b, p) is True being hidden;
    ``layers(images)`` are the ends a^l of the teacher's blocks, (b, p, d) each, without the class token. See
    ``BEiT`` for the rest.
    """

    config: Data2VecVisionConfig

    def __init__(self, config: Data2VecVisionConfig) -> None:
        super().__init__(config)

    def masks(self, b: int, generator: torch.Generator | None = None) -> Bool[Tensor, "b p"]:
        """Masks for ``b`` pictures, on the device of the weights."""
        return block_masks(b, self.config, generator).to(self.cls.device)


def vision_head(config: Data2VecVisionConfig) -> MaskedHead:
    """The learner's head, which the teacher has not: normalisation, then one linear map: (…, d) -> (…, d)."""
    return MaskedHead(config.width, config.width, config.eps)


def vision_batch(
    images: Float[Tensor, "b 3 y x"], config: Data2VecVisionConfig,
    generator: torch.Generator | None = None
) -> MaskedInputs:
    """Standardised images, and what is hidden of each."""
    return MaskedInputs(images, block_masks(len(images), config, generator).to(images.device))


class VisionData2Vec(Data2Vec):
    """``Data2Vec`` for images, sparing work: a batch of images with hidden
    patches -> ``Predicted``.

    Only hidden patches are asked for, so of both last blocks, of the norms and
    of the head only theirs are computed. The rest is as in ``Data2Vec``; so
    are the results. Raises ``ValueError`` for targets that are normalised over
    places, and for a batch in which nothing is hidden.
    """

    student: BEiT
    teacher: BEiT

    def __init__(self, student: BEiT, head: nn.Module,
                 config: Data2VecConfig) -> None:
        super().__init__(student, head, config)
        if config.norm == "instance":
            raise ValueError("targets normalised over places need all of "
                             "them; use Data2Vec")

    @classmethod
    def new(cls, config: Data2VecVisionConfig, of: Data2VecConfig) -> "VisionData2Vec":
        """A fresh learner with its head and teacher."""
        return cls(Data2VecVision(config), vision_head(config), of)

    def forward(
        self, inputs: Float[Tensor, "b 3 y x"], mask: Bool[Tensor, "b p"],
        corrupted: None = None,
    ) -> Predicted:
        if not mask.any():
            raise ValueError("nothing is hidden in this batch, so there is "
                             "nothing to predict; hide a patch or more")
        y = self.hidden_targets(inputs, mask)
        states = self.student.hidden_states(inputs, mask)       # n d
        return Predicted(self.head(states), y)

    @torch.no_grad()
    def hidden_targets(self, inputs: Float[Tensor, "b 3 y x"],
                       mask: Bool[Tensor, "b p"]) -> Float[Tensor, "n d"]:
        """``teach(inputs)[mask]`` (eq:d2v-targets) of hidden patches alone."""
        of = self.config
        ends = self.teacher.hidden_layers(inputs, mask, of.K)
        rows = [a[None] for a in ends]                          # n d -> 1 n d
        return targets(rows, of.K, of.norm, of.twice)[0]


def pretraining_views(size: int) -> v2.Compose:
    """What a picture goes through before both learner and teacher see it: colours, a flip, a crop, the mean.

    Pictures (…, 3, y, x) in [0, 1] -> (…, 3, size, size), standardised with ImageNet's mean and deviation.
    """
    return v2.Compose([
        v2.ColorJitter(0.4, 0.4, 0.4), v2.RandomHorizontalFlip(),
        v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


class HiddenPictures(Batches):
    """Batches of ``MaskedInputs`` from pictures of 0..255 (n, 3, s, s), in memory or in files: standardised,
    patches hidden anew each time.

    With ``augment`` each goes through ``pretraining_views`` first. What is drawn at random follows from
    (seed, number of the batch).
    """

    def __init__(self, images: Any, size: int, config: Data2VecVisionConfig, *, seed: int = 0,
                 augment: bool = False, **options: Any) -> None:
        super().__init__(images, size, seed=seed, **options)
        self.config = config
        self.views = pretraining_views(config.size) if augment else None

    def make(self, indices: list[int], number: int) -> MaskedInputs:
        """The batch ``number`` of these pictures."""
        images, dice = self.data[indices].float() / 255, self.seed * 1_000_003 + number
        if self.views is None:
            images = standardise(images, IMAGENET_MEAN, IMAGENET_STD)
        else:
            with seeded(dice):
                images = torch.stack([self.views(image) for image in images])
        return vision_batch(images, self.config, torch.Generator().manual_seed(dice))


# ---------------------------------------------------------------------------------------- fine-tuning


def layer_rate(l: int, L: int, decay: float | int = 0.65) -> float | int:
    r"""eq:layer-decay: $\eta_l=\eta\,\rho^{L+1-l}$: blocks near the picture
    ($l=1$) learn more slowly than the head ($l=L+1$); patches and class token
    are $l=0$."""
    return decay ** (L + 1 - l)


def layer_of(name: str, L: int) -> int:
    """The number l of eq:layer-decay of a parameter of a ``BEiTClassifier`` by its name."""
    if not name.startswith("encoder."):
        return L + 1
    part = name.removeprefix("encoder.").split(".")
    return int(part[1]) + 1 if part[0] == "blocks" else 0


def fine_tuning_groups(
    model: nn.Module, lr: float, decay: float | int = 0.65, weight_decay: float | int = 0.05
) -> list[dict[str, object]]:
    """Groups of parameters for an optimiser: rates of eq:layer-decay, and no decay of vectors and tables.

    ``model`` is a ``BEiTClassifier``. Raises ``ValueError`` if it has no encoder with blocks.
    """
    blocks = getattr(getattr(model, "encoder", None), "blocks", None)
    if blocks is None:
        raise ValueError(f"{type(model).__name__} has no encoder with blocks; give a BEiTClassifier")
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            decays = p.ndim > 1 and not name.endswith("table")
            groups.setdefault((layer_of(name, len(blocks)), decays), []).append(p)
    return [{"params": params, "lr": lr * layer_rate(l, len(blocks), decay),
             "weight_decay": weight_decay if decays else 0.0} for (l, decays), params in groups.items()]
