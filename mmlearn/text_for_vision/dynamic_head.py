r"""Dynamic Head: attention over scale, place and channel on top of a feature pyramid, and a detector that has
it.

Papers: X. Dai et al. (2021), *Dynamic Head: Unifying Object Detection Heads with Attentions*, CVPR 2021,
arXiv:2106.08322, sec. 3 and the code published with it; Y. Chen et al. (2020), *Dynamic ReLU*,
arXiv:2003.10027; X. Zhu et al. (2019), *Deformable ConvNets v2*, arXiv:1811.11168; L. Yuan et al. (2021),
*Florence*, arXiv:2111.11432, sec. 2.4 (the adapter for objects).  Survey: 4.4.1.
Differs from the papers: ``DynamicBlock`` follows the released code, which differs from the formulas (they are
functions here, too); offsets and modulation, which have the size of a level, are averaged to the size of the
coarser one where that is the source (the released operator reads a part of them there). ``DynamicDetector``
is trained as FCOS (Z. Tian et al., 2019, arXiv:1904.01355), Florence's as ATSS, which differs in how places
are assigned to objects.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import FeaturePyramidNetwork, roi_align

from mmlearn.data.images import standardise
from mmlearn.data.scenes import CATEGORIES
from mmlearn.image2text.regions import DetectionData, detection_truth, sound_boxes
from mmlearn.nn.configuration import check
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.swin import Swin, SwinConfig

POINTS = 9                  # K, places of a 3 x 3 kernel


@dataclass(frozen=True)
class DynamicHeadConfig:
    channels: int = 256     # c, of every level of the pyramid
    blocks: int = 6         # one after the other
    groups: int = 16        # of the normalisation after each convolution
    reduction: int = 4      # the dynamic ReLU's inner layer has c / reduction numbers

    def __post_init__(self) -> None:
        check(self)
        if self.channels % self.groups or self.channels % self.reduction:
            raise ValueError(f"channels {self.channels} are not a multiple of groups {self.groups} and of "
                             f"reduction "
                             f"{self.reduction}; choose numbers that divide them")

    @classmethod
    def paper(cls) -> "DynamicHeadConfig":
        """Six blocks of 256 channels."""
        return cls()

    @classmethod
    def mini(cls) -> "DynamicHeadConfig":
        """Two blocks of 64 channels, for drawings."""
        return cls(channels=64, blocks=2)


# ---------------------------------------------------------------------------------- the formulas of the paper

def hard_sigmoid(z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:hard-sigmoid: $\mathrm{ramp}(z)=\max\big(0,\min(1,\tfrac{z+1}2)\big)$, the paper's; the code has a
    flatter one, of $z/3$."""
    return ((z + 1) / 2).clamp(0, 1)


def scale_attention(
    x: Float[Tensor, "b l c y x"],
    f: Callable[[Tensor], Tensor],
    ramp: Callable[[Tensor], Tensor] = hard_sigmoid,
) -> Float[Tensor, "b l c y x"]:
    r"""eq:scale-attention: $\pi_L(F)\cdot F=\mathrm{ramp}\big(f(\tfrac1{pc}\sum_{p,c}F)\big)\,F$: one factor
    a level.

    ``f`` gets the means over places (b, l, c) and answers (b, l); the paper's first averages the channels.
    """
    factor = ramp(f(x.mean(dim=(3, 4))))
    return factor[..., None, None, None] * x


def read_moved(
    x: Float[Tensor, "b c y x"], offsets: Float[Tensor, "b k2 v u"], modulation: Float[Tensor, "b k v u"],
    stride: int = 1
) -> Float[Tensor, "b k v u c"]:
    r"""eq:moved-places: $F(p_k+\Delta p_k)\,\Delta m_k$ for the nine places $p_k$ of a 3 x 3 kernel around
    each (``stride``-th) cell p.

    ``offsets`` hold (down, right) of each place in turn, in cells; between cells values are interpolated
    bilinearly, outside the map they are 0. ``torchvision.ops.deform_conv2d`` reads the same, with a slower
    backward pass on a CPU.
    """
    b, c, high, wide = x.shape
    v, u = modulation.shape[-2:]
    moved = offsets.unflatten(1, (POINTS, 2))
    place = torch.arange(-1, 2, device=x.device)
    down = (
        moved[:, :, 0]
        + place.repeat_interleave(3)[:, None, None]
        + stride * torch.arange(v, device=x.device)[:, None]
    )
    right = moved[:, :, 1] + place.repeat(3)[:, None, None] + stride * torch.arange(u, device=x.device)
    first = (torch.arange(b, device=x.device) * high * wide)[:, None, None, None]
    rows, weights = [], []
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):  # the four cells around a place between cells
        i, j = down.floor() + corner[0], right.floor() + corner[1]
        inside = (i >= 0) & (i < high) & (j >= 0) & (j < wide)
        share = (1 - (down - i).abs()) * (1 - (right - j).abs()) * modulation
        rows.append(first + i.long().clamp(0, high - 1) * wide + j.long().clamp(0, wide - 1))
        weights.append(share.masked_fill(~inside, 0))
    cells = x.permute(0, 2, 3, 1).reshape(-1, c)  # one row a cell; a place is a sum of four rows
    read = F.embedding_bag(torch.stack(rows, -1).view(-1, 4), cells, mode="sum",
                           per_sample_weights=torch.stack(weights, -1).view(-1, 4))
    return read.view(b, POINTS, v, u, c)


def spatial_attention(
    x: Float[Tensor, "b l c y x"],
    W: Float[Tensor, "l k c d"],
    offsets: Float[Tensor, "b k2 v u"],
    modulation: Float[Tensor, "b k v u"],
    stride: int = 1,
) -> Float[Tensor, "b d v u"]:
    r"""eq:spatial-attention: $\pi_S(F)\cdot F=\frac1n\sum_l\sum_kw_{lk}\,F(l;p_k+\Delta p_k)\,\Delta m_k$: at
    each place nine others of all levels, moved and weighted (eq:moved-places). A weight is a matrix c x d
    here; the paper's is a number."""
    total = torch.zeros(()).to(x)
    for level, weights in zip(x.unbind(1), W):
        read = read_moved(level, offsets, modulation, stride)   # b k v u c
        read = read.permute(0, 2, 3, 1, 4).flatten(3)           # b v u (k c)
        mixed = read @ weights.flatten(0, 1)                    # b v u d
        total = total + mixed.permute(0, 3, 1, 2)
    return total / len(W)


def channel_attention(
    x: Float[Tensor, "b c y x"], theta: Float[Tensor, "b 4 c"]
) -> Float[Tensor, "b c y x"]:
    r"""eq:channel-attention: $\pi_C(F)\cdot F=\max(\alpha^1F_c+\beta^1,\alpha^2F_c+\beta^2)$, rows of
    ``theta``: $\alpha^1,\alpha^2,\beta^1,\beta^2$."""
    a1, a2, b1, b2 = theta[..., None, None].unbind(1)
    return torch.maximum(a1 * x + b1, a2 * x + b2)


# ---------------------------------------------------------------------------------------- as the code does it

class DeformableConv(nn.Module):
    """A 3 x 3 convolution at moved places, and group normalisation: (b, c, y, x) -> (b, c, y / stride, x /
    stride). Its weights start, as in the released code, evenly between the plus and the minus of
    1 / sqrt(9c)."""

    def __init__(self, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.stride = stride
        reach = (POINTS * channels) ** -0.5
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.GroupNorm(groups, channels)

    def forward(
        self, x: Float[Tensor, "b c y x"], offsets: Float[Tensor, "b k2 v u"],
        modulation: Float[Tensor, "b k v u"]
    ) -> Float[Tensor, "b c v u"]:
        W = self.weight.permute(2, 3, 1, 0).flatten(0, 1)[None]  # d c 3 3 -> 1 k c d, one level
        read = spatial_attention(x[:, None], W, offsets, modulation, self.stride)
        return self.norm(read + self.bias[:, None, None])


class DynamicReLU(nn.Module):
    r"""eq:channel-attention with $\theta$ from the picture: means of the channels -> c / 4 -> 4c numbers: (b,
    c, y, x) -> (b, c, y, x).

    With all outputs of the small net in the middle it is max(x, 0), where it starts from.
    """

    start: Tensor
    reach: Tensor

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(channels, channels // reduction), nn.ReLU(),
                                 nn.Linear(channels // reduction, 4 * channels), nn.Hardsigmoid())
        self.register_buffer("start", torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None], persistent=False)
        self.register_buffer("reach", torch.tensor([2.0, 2.0, 1.0, 1.0])[:, None], persistent=False)

    def theta(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 4 c"]:
        """The slopes and intercepts, in the order of eq:channel-attention."""
        return self.start + self.reach * (self.net(x.mean(dim=(2, 3))).unflatten(1, (4, -1)) - 0.5)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        return channel_attention(x, self.theta(x))


class DynamicBlock(nn.Module):
    """One round of the three attentions over the levels of a pyramid: a list of maps -> a list of maps of the
    same shapes.

    Each level is read with its neighbours: offsets and modulation are predicted from it once and used in
    three convolutions, of the level itself, of the finer one (stride 2) and of the coarser one (then
    enlarged). The results are weighted by one number each, averaged, and pass a dynamic ReLU. ``levels`` are
    fine to coarse, each half as large as the one before, rounded up.

    Weights start as in the released code: ``where`` as any convolution of PyTorch, so that places are moved
    from the first step on, ``weigh`` near 0, so that all sources count one half.
    """

    def __init__(self, config: DynamicHeadConfig) -> None:
        super().__init__()
        c = config.channels
        self.where = nn.Conv2d(c, 3 * POINTS, 3, padding=1)
        self.coarser, self.same, self.finer = (
            DeformableConv(c, stride, config.groups) for stride in (1, 1, 2)
        )
        self.weigh = nn.Conv2d(c, 1, 1)
        self.relu = DynamicReLU(c, config.reduction)
        nn.init.normal_(self.weigh.weight, std=0.01)
        nn.init.zeros_(self.weigh.bias)  # type: ignore[arg-type]

    def places(
        self, x: Float[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b k2 y x"], Float[Tensor, "b k y x"]]:
        """Offsets of the nine places of each cell, in cells, and what each counts, in (0, 1)."""
        offsets, modulation = self.where(x).split([2 * POINTS, POINTS], dim=1)
        return offsets, modulation.sigmoid()

    def importance(self, means: Float[Tensor, "b l c"]) -> Float[Tensor, "b l"]:
        """The f of eq:scale-attention: each source is weighted by its own channels, by 0.5 to 1."""
        return F.relu(F.linear(means, self.weigh.weight.flatten(1), self.weigh.bias)[..., 0])

    def forward(
        self, levels: Sequence[Float[Tensor, "b c _ _"]]
    ) -> list[Float[Tensor, "b c _ _"]]:
        maps = []
        for i, x in enumerate(levels):
            offsets, modulation = self.places(x)
            sources = [self.same(x, offsets, modulation)]
            if i > 0:
                sources.append(self.finer(levels[i - 1], offsets, modulation))
            if i + 1 < len(levels):
                size = (levels[i + 1].shape[-2], levels[i + 1].shape[-1])
                half = (F.adaptive_avg_pool2d(z, size)
                        for z in (offsets, modulation))
                coarse = self.coarser(levels[i + 1], *half)
                sources.append(F.interpolate(
                    coarse, x.shape[-2:], mode="bilinear", align_corners=True))
            scaled = scale_attention(
                torch.stack(sources, dim=1), self.importance, F.hardsigmoid
            )
            maps.append(self.relu(scaled.mean(dim=1)))
        return maps


class DynamicHead(nn.Module):
    """Blocks one after the other: maps (b, c, y_i, x_i), fine to coarse -> maps of the same shapes.

    Raises ``ValueError`` for maps whose sizes do not halve.
    """

    def __init__(self, config: DynamicHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(DynamicBlock(config) for _ in range(config.blocks))

    def forward(self, levels: Sequence[Float[Tensor, "b c _ _"]]) -> list[Float[Tensor, "b c _ _"]]:
        for fine, coarse in zip(levels, levels[1:]):
            if any(n != (m + 1) // 2 for m, n in zip(fine.shape[-2:], coarse.shape[-2:])):
                raise ValueError(f"a map of {tuple(fine.shape[-2:])} is followed by one of "
                                 f"{tuple(coarse.shape[-2:])}; "
                                 "give levels fine to coarse, each half as large as the one before, rounded "
                                 "up")
        maps = list(levels)
        for block in self.blocks:
            maps = block(maps)
        return maps


# ----------------------------------------------------------------------------------------------- the detector

@dataclass(frozen=True)
class DetectorConfig:
    """CoSwin, a feature pyramid, Dynamic Head; the strides of the levels are 4, 8, 16."""

    image: SwinConfig = SwinConfig.mini()
    head: DynamicHeadConfig = DynamicHeadConfig.mini()
    anchors: tuple[int, ...] = (1, 2, 4)  # a level finds things that reach 4 to 8 times as far, in pixels
    agnostic: bool = False                      # only where things are, not which

    def __post_init__(self) -> None:
        check(self)

    @property
    def size(self) -> int:
        """Pixels a side of a picture."""
        return self.image.size

    @classmethod
    def mini(cls) -> "DetectorConfig":
        """For drawings of 64 pixels: where things are and which."""
        return cls()

    @classmethod
    def proposals(cls) -> "DetectorConfig":
        """For drawings of 64 pixels: where things are, whatever they are."""
        return cls(agnostic=True)


class Pyramid(nn.Module):
    """Pictures (b, 3, s, s), standardised -> named maps of the head's channels, after trunk, feature pyramid
    and head."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.trunk = Swin(config.image)
        self.pyramid = FeaturePyramidNetwork(list(config.image.widths), config.head.channels)
        self.head = DynamicHead(config.head)
        self.out_channels = config.head.channels                # torchvision reads it

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> OrderedDict[str, Tensor]:
        levels = self.pyramid(OrderedDict((str(i), x) for i, x in enumerate(self.trunk.maps(images))))
        return OrderedDict(zip(levels, self.head(list(levels.values()))))


class SquareAnchors(AnchorGenerator):
    """One square a cell, of exactly the size asked for; torchvision rounds its corners, so that a side of 1
    becomes 0."""

    def generate_anchors(self, scales, aspect_ratios, dtype=torch.float32,
                         device=torch.device("cpu")):  # noqa: B008
        half = torch.as_tensor(scales, dtype=dtype, device=device)[:, None] / 2
        return torch.cat([-half, -half, half, half], dim=1)


class DynamicDetector(FCOS):
    """Finds things in square drawings in [0, 1]: a list of pictures (3, s, s) -> torchvision's list of
    detections.

    In training it takes targets (``detection_targets``) too and returns a dict of losses: class, box, centre.
    Every cell of every level says which thing covers it, how far its four sides are, and how central the cell
    is. Raises ``ValueError`` if trunk and anchors do not have the same number of levels.
    """

    def __init__(self, config: DetectorConfig) -> None:
        if len(config.anchors) != len(config.image.depths):
            raise ValueError(f"{len(config.anchors)} anchors for the {len(config.image.depths)} stages of "
                             f"the trunk; give one each")
        classes = 2 if config.agnostic else len(CATEGORIES) + 1         # label 0 is not used
        super().__init__(
            Pyramid(config), classes, min_size=config.size, max_size=config.size, _skip_resize=True,
            image_mean=[0.5] * 3, image_std=[0.25] * 3,
            anchor_generator=SquareAnchors(tuple((a,) for a in config.anchors),
                                           ((1.0,),) * len(config.anchors)),
            # the Dynamic Head is all there is before it
            head=FCOSHead(config.head.channels, 1, classes, num_convs=0),
            center_sampling_radius=6.0,  # in units of the anchor, a quarter of a cell: 1.5 cells
            score_thresh=0.05, nms_thresh=0.5, detections_per_img=20, topk_candidates=200)
        self.config = config
        # at 0 the sides would start behind a ReLU
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, 4.0)

    def postprocess_detections(self, head_outputs, anchors, image_shapes):
        """torchvision's detections, without boxes that a ReLU or the picture's edge left without width or
        height."""
        found = []
        for d, size in zip(super().postprocess_detections(head_outputs, anchors, image_shapes), image_shapes):
            boxes, sound = sound_boxes(d["boxes"], size)
            found.append({name: values[sound] for name, values in {**d, "boxes": boxes}.items()})
        return found


def detector_loss(
    model: DynamicDetector, batch: tuple[Tensor, list[dict[str, Tensor]]]
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Sum of the class, box and centre losses, and each of them; ``batch`` = (pictures, targets)."""
    images, targets = batch
    if model.config.agnostic:
        targets = [{**t, "labels": torch.ones_like(t["labels"])} for t in targets]
    losses = model(list(images), targets)
    return torch.stack(list(losses.values())).sum(), {
        k.removeprefix("bbox_"): v.detach() for k, v in losses.items()
    }


@torch.no_grad()
def detections(model: DynamicDetector, data: DetectionData, batch: int = 100) -> list[dict[str, Any]]:
    """What the detector finds in all pictures, as COCO results: image_id, category_id, bbox (x, y, width,
    height), score.

    The category is 1 for everything that a detector of things finds.
    """
    results: list[dict[str, Any]] = []
    with eval_mode(model) as device:
        for start in range(0, len(data), batch):
            images, _ = data.batch(range(start, min(start + batch, len(data))))
            for i, found in enumerate(model(list(images.to(device)))):
                corners = found["boxes"].cpu()
                boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
                for box, label, score in zip(
                    boxes.tolist(), found["labels"].tolist(), found["scores"].tolist()
                ):
                    results.append({"image_id": start + i + 1, "bbox": box, "score": score,
                                    "category_id": 1 if model.config.agnostic else CATEGORIES[label - 1].id})
    return results


def truths(model: DynamicDetector, data: DetectionData) -> list[dict[str, Any]]:
    """What there is to find, as COCO annotations; the category is 1 for a detector of things."""
    found = detection_truth(data)["annotations"]
    return [{**a, "category_id": 1} for a in found] if model.config.agnostic else found


@torch.no_grad()
def name_boxes(
    encoder: nn.Module, image: Float[Tensor, "3 y x"], boxes: Float[Tensor, "n 4"],
    weights: Float[Tensor, "c e"], size: int = 64, margin: float | int = 0.25,
) -> Float[Tensor, "n c"]:
    """Zero-shot detection: what each box (x0, y0, x1, y1; pixels) of a picture in [0, 1] shows, as cosines
    with c texts.

    The square around a box, wider by ``margin`` of its longer side at each side, is enlarged to ``size``
    pixels and embedded by a dual encoder; ``weights`` are the unit embeddings of the texts
    (``zero_shot_weights``). Outside the picture is black.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) * (0.5 + margin)
    cut = roi_align(image[None], [torch.cat([centre - half, centre + half], dim=1)], size, sampling_ratio=2,
                    aligned=True)
    with eval_mode(encoder):
        u = encoder.encode_image(standardise(cut), normalise=True)          # type: ignore[operator]
    return u @ weights.mT
