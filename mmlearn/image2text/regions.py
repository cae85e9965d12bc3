"""Region features: a small Faster R-CNN on the scene world, whose box head gives M2 the set of vectors it
reads.

Paper: P. Anderson et al. (2018), *Bottom-Up and Top-Down Attention for Image Captioning and Visual Question
Answering*, arXiv:1707.07998, sec. 3.1 (regions with class and attribute heads); S. Ren et al. (2015), *Faster
R-CNN*, arXiv:1506.01497.  Survey: 1.2.1 (the input X of M2).
Differs from the paper: the trunk is a residual network of four stages for 64-pixel drawings, not ResNet-101
on Visual Genome; the attributes are colour, texture, pose and direction; the place of a region (four corners
and area, as fractions) is appended to its vector, because the captions of the scene world speak of left and
right; and the whole picture is always one of the regions, because no object says whether it stands on a
beach.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, clip_boxes_to_image

from mmlearn.checkpoints import load_model, read_description, save_model
from mmlearn.data.scenes import CATEGORIES, CATEGORY, render, sample_scene
from mmlearn.data.scenes.graph import COLOURS, SETTINGS, TEXTURES, Scene
from mmlearn.files import package_data
from mmlearn.nn.configuration import check, shown
from mmlearn.nn.modes import eval_mode

CHECKPOINT = package_data("checkpoints", "detector.safetensors")
LEAST_VISIBLE = 8       # pixels of an object that must show for it to count as visible
LEAST_SIDE = 1.0        # pixels; a box that is narrower or lower, inside the picture, is no box
ATTRIBUTES: dict[str, tuple[str, ...]] = {     # what the region heads are asked besides class and box
    "colour": COLOURS, "texture": TEXTURES, "pose": tuple(sorted({p for c in CATEGORIES for p in c.poses})),
    "facing": ("left", "right"),
}
UNKNOWN = -100          # target of an attribute that an object does not have (the direction of a ball)
PLACE = 5  # numbers appended to a region's vector: x0, y0, x1, y1, area, as fractions of the picture


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of the detector; strides of the pyramid are 4, 8 and 16 pixels."""

    size: int = 64                                      # pixels, side of the square picture; a multiple of 32
    widths: tuple[int, ...] = (32, 64, 128, 192)        # channels of the stem and of the three stages
    pyramid: int = 64                                   # channels of every level of the feature pyramid
    # pixels, square root of area, by level
    anchors: tuple[tuple[int, ...], ...] = ((8, 13), (20, 28), (38, 54))
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)         # height / width of an anchor
    pool: int = 5                                       # cells, side of the pooled region
    features: int = 256                                 # f, width of a region's vector (without its place)

    def __post_init__(self) -> None:
        check(self, pool=(1, 64))
        if len(self.widths) != 4 or len(self.anchors) != 3:
            raise ValueError(f"widths are {shown(self.widths)} and anchors {shown(self.anchors)}; give the "
                             "channels of the stem and of three stages, and the anchors of three levels")

    @classmethod
    def mini(cls) -> "DetectorConfig":
        return cls()


class Regions(NamedTuple):
    """The regions of b pictures, at most p each, best first, padded with zeros where ``mask`` is False.

    The first region is the whole picture (label -1, score 1). Boxes are (x0, y0, x1, y1) in pixels; labels
    index ``CATEGORIES``, -1 where padded; scores in [0, 1].
    """

    features: Float[Tensor, "b p f"]
    mask: Bool[Tensor, "b p"]
    boxes: Float[Tensor, "b p 4"]
    labels: Int[Tensor, "b p"]
    scores: Float[Tensor, "b p"]


class Trunk(nn.Module):
    """Pictures (b, 3, s, s) to a feature pyramid: three maps of ``pyramid`` channels at strides 4, 8, 16."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        stem, *stages = config.widths
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(),
                                  BasicBlock(stem, stem))
        blocks = []
        for before, after in zip([stem, *stages], stages):
            shorter = nn.Sequential(nn.Conv2d(before, after, 1, 2, bias=False), nn.BatchNorm2d(after))
            blocks.append(BasicBlock(before, after, 2, shorter))
        self.stages = nn.ModuleList(blocks)
        self.pyramid = FeaturePyramidNetwork(stages, config.pyramid)
        self.out_channels = config.pyramid      # torchvision reads it
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> OrderedDict[str, Tensor]:
        x = self.stem(images)
        levels: OrderedDict[str, Tensor] = OrderedDict()
        for level, stage in enumerate(self.stages):
            x = stage(x)
            levels[str(level)] = x
        return self.pyramid(levels)


class BoxHead(nn.Module):
    """A pooled region (n, c, k, k) to its vector (n, f), after two ReLU layers: the region feature."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.pyramid * config.pool**2, config.features)
        self.fc2 = nn.Linear(config.features, config.features)

    def forward(self, pooled: Float[Tensor, "n c k k"]) -> Float[Tensor, "n f"]:
        return F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))


class BoxPredictor(nn.Module):
    """Class scores (n, K+1; 0 is background) and one box correction a class (n, 4(K+1)) from region
    vectors."""

    def __init__(self, config: DetectorConfig, classes: int):
        super().__init__()
        self.cls_score = nn.Linear(config.features, classes)
        self.bbox_pred = nn.Linear(config.features, classes * 4)

    def forward(self, x: Float[Tensor, "n f"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k4"]]:
        return self.cls_score(x), self.bbox_pred(x)


def sound_boxes(
    boxes: Float[Tensor, "n 4"], size: tuple[int, int], least: float = LEAST_SIDE
) -> tuple[Float[Tensor, "n 4"], Bool[Tensor, " n"]]:
    """Boxes cut to a picture of ``size`` (height, width) pixels, and which of them are boxes after that.

    A box with a side below ``least`` is none: nothing can be seen in it, and its IoU with anything is 0 / 0.
    Nor is one with a corner that is no number.
    """
    clipped = clip_boxes_to_image(boxes, size)
    return clipped, (clipped[:, 2:] - clipped[:, :2] >= least).all(dim=1)       # False for NaN, too


class AttributeRoIHeads(RoIHeads):
    """torchvision's region heads, with the matched object's attributes and the picture's setting as further
    targets.

    Without them the vector of a region would have no reason to keep the colour that the captions name.
    """

    def __init__(self, config: DetectorConfig, levels: list[str], classes: int):
        super().__init__(
            MultiScaleRoIAlign(levels, config.pool, 1), BoxHead(config), BoxPredictor(config, classes),
            fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=32, positive_fraction=0.25,
            bbox_reg_weights=None, score_thresh=0.05, nms_thresh=0.4, detections_per_img=20)
        self.attributes = nn.ModuleDict({k: nn.Linear(config.features, len(v)) for k,
                                         v in ATTRIBUTES.items()})
        self.setting = nn.Linear(config.features, len(SETTINGS))

    def postprocess_detections(self, class_logits, box_regression, proposals, image_shapes):
        """torchvision's detections, without those that are no boxes (``sound_boxes``)."""
        columns: tuple[list[Tensor], ...] = ([], [], [])
        found = super().postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        for boxes, scores, labels, size in zip(*found, image_shapes):
            boxes, sound = sound_boxes(boxes, size)
            for column, values in zip(columns, (boxes, scores, labels)):
                column.append(values[sound])
        return columns

    def forward(self, features, proposals, image_shapes, targets=None):
        if not self.training:
            return super().forward(features, proposals, image_shapes)
        proposals, matched, labels, corrections = self.select_training_samples(proposals, targets)
        x = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        scores, boxes = self.box_predictor(x)
        class_loss, box_loss = fastrcnn_loss(scores, boxes, labels, corrections)
        losses = {"class": class_loss, "box": box_loss}
        found = torch.cat(labels) > 0                       # proposals matched to an object
        for name, head in self.attributes.items():
            wanted = torch.cat([t[name][m] for t, m in zip(targets, matched)])[found]
            total = F.cross_entropy(head(x[found]), wanted, ignore_index=UNKNOWN, reduction="sum")
            losses[name] = 0.5 * total / (wanted != UNKNOWN).sum().clamp(min=1)
        whole = self.box_head(
            self.box_roi_pool(features, [whole_picture(s, x) for s in image_shapes], image_shapes)
        )
        losses["setting"] = 0.5 * F.cross_entropy(
            self.setting(whole), torch.stack([t["setting"] for t in targets])
        )
        return [], losses


def whole_picture(size: tuple[int, int], like: Tensor) -> Float[Tensor, "1 4"]:
    """The box around everything, with the type and device of ``like``."""
    return like.new_tensor([[0.0, 0.0, size[1], size[0]]])


class Detector(FasterRCNN):
    """A Faster R-CNN for square drawings in [0, 1] (b, 3, s, s), random weights.

    In training mode it takes a list of pictures and a list of targets (``detection_targets``) and returns a
    dict of losses; in evaluation mode it returns torchvision's list of detections.
    """

    def __init__(self, config: DetectorConfig):
        if config.size % 32:
            raise ValueError(f"the detector's picture side is {config.size}; choose a multiple of 32")
        levels = [str(i) for i in range(len(config.anchors))]
        classes = len(CATEGORIES) + 1
        # _skip_resize: every picture has the same size already, so torchvision's per-picture resizing is a
        # copy.
        super().__init__(
            Trunk(config),
            rpn_anchor_generator=AnchorGenerator(config.anchors, (config.ratios,) * len(levels)),
            num_classes=classes,
            image_mean=[0.5] * 3,
            image_std=[0.25] * 3,
            min_size=config.size,
            max_size=config.size,
            _skip_resize=True,
            rpn_pre_nms_top_n_train=200,
            rpn_post_nms_top_n_train=100,
            rpn_pre_nms_top_n_test=100,
            rpn_post_nms_top_n_test=32,
            rpn_batch_size_per_image=64,
            rpn_fg_iou_thresh=0.6,
        )
        self.roi_heads = AttributeRoIHeads(config, levels, classes)     # instead of torchvision's
        self.rpn.min_size = LEAST_SIDE                                  # of a proposal
        self.config = config

    def maps(
        self, images: Float[Tensor, "b 3 s s"]
    ) -> tuple[OrderedDict[str, Tensor], list[tuple[int, int]]]:
        """The feature pyramid of a batch of pictures in [0, 1], and the size of each picture."""
        side = self.config.size
        if tuple(images.shape[-2:]) != (side, side):
            raise ValueError(f"pictures are {images.shape[-2]}x{images.shape[-1]}; this detector was made "
                             f"for "
                             f"{side}x{side}, render or resize them to that")
        return self.backbone((images - 0.5) / 0.25), [(side, side)] * len(images)

    def vectors(self, maps: Mapping[str, Tensor], boxes: Sequence[Float[Tensor, "_ 4"]],
                sizes: Sequence[tuple[int, int]]) -> Float[Tensor, "n f"]:
        """The box head's vector of every box, pictures one after the other."""
        return self.roi_heads.box_head(self.roi_heads.box_roi_pool(dict(maps), list(boxes), list(sizes)))


def detector_loss(
    model: Detector, batch: tuple[Tensor, list[dict[str, Tensor]]]
) -> tuple[Tensor, dict[str, float]]:
    """Sum of the proposal, class, box and attribute losses, and each of them; ``batch`` = (pictures,
    targets)."""
    images, targets = batch
    losses = model(list(images), targets)
    return torch.stack(list(losses.values())).sum(), {
        k.removeprefix("loss_"): v.item() for k, v in losses.items()
    }


# -------------------------------------------------------------------------------------- from boxes to regions

def place(boxes: Float[Tensor, "n 4"], size: int) -> Float[Tensor, "n 5"]:
    """Where boxes in pixels are: corners and area as fractions of a picture of side ``size``."""
    corners = boxes / size
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return torch.cat([corners, area[:, None]], 1)


def _regions(detector: Detector, maps: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]],
             found: Sequence[Mapping[str, Tensor]], most: int) -> Regions:
    """Vectors of the whole picture and of the boxes found in it, cut to ``most`` and padded: (b, most, ·)."""
    boxes = [torch.cat([whole_picture(s, d["boxes"]), d["boxes"]])[:most] for s, d in zip(sizes, found)]
    vectors = detector.vectors(maps, boxes, sizes)
    counts = torch.tensor([len(x) for x in boxes], device=vectors.device)
    mask = torch.arange(most, device=vectors.device)[None] < counts[:, None]

    def padded(rows: Tensor, empty: int = 0) -> Tensor:
        out = rows.new_full((len(mask), most, *rows.shape[1:]), empty)
        out[mask] = rows
        return out

    corners = torch.cat(boxes)
    labels = torch.cat([F.pad(d["labels"], (1, 0), value=-1)[:most] for d in found])
    scores = torch.cat([F.pad(d["scores"], (1, 0), value=1.0)[:most] for d in found])
    features = torch.cat([vectors, place(corners, detector.config.size)], 1)
    return Regions(padded(features), mask, padded(corners), padded(labels, -1), padded(scores))


@torch.no_grad()
def region_features(detector: Detector, images: Float[Tensor, "b 3 s s"] | UInt8[Tensor, "b 3 s s"], *,
                    max_regions: int = 10, threshold: float = 0.2, batch: int = 100) -> Regions:
    """What the detector sees: the whole picture, then the best detections with a score of at least
    ``threshold``.

    Pictures are in [0, 1], or bytes. At most ``max_regions`` regions, of f = 256 + 5 numbers (vector and
    place).
    """
    with eval_mode(detector):
        parts = []
        for chunk in images.split(batch):
            chunk = chunk.to(next(detector.parameters()).device)
            chunk = chunk.float() / 255 if chunk.dtype == torch.uint8 else chunk
            maps, sizes = detector.maps(chunk)
            proposals, _ = detector.rpn(ImageList(chunk, sizes), maps)
            found, _ = detector.roi_heads(maps, proposals, sizes)
            kept = []
            for d in found:
                good = d["scores"] >= threshold                   # best first, as torchvision sorts them
                kept.append({"boxes": d["boxes"][good], "labels": d["labels"][good] - 1,
                             "scores": d["scores"][good]})
            parts.append(_regions(detector, maps, sizes, kept, max_regions))
        return Regions(*(torch.cat(column) for column in zip(*parts)))


# ------------------------------------------------------------------------------------------------------- data

def detection_targets(scene: Scene, masks: Bool[np.ndarray, "n s s"]) -> dict[str, Tensor]:
    """Boxes (pixels, around the visible part), labels (from 1) and attributes of the visible objects; the
    setting."""
    index = {category.name: i + 1 for i, category in enumerate(CATEGORIES)}
    boxes: list[list[int]] = []
    columns: dict[str, list[int]] = {"labels": [], **{name: [] for name in ATTRIBUTES}}
    for thing, mask in zip(scene.objects, masks):
        if mask.sum() < LEAST_VISIBLE:
            continue
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1])
        columns["labels"].append(index[thing.category])
        columns["colour"].append(COLOURS.index(thing.colour))
        columns["texture"].append(TEXTURES.index(thing.texture))
        columns["pose"].append(ATTRIBUTES["pose"].index(thing.pose))
        columns["facing"].append((0 if thing.flip else 1) if CATEGORY[thing.category].facing else UNKNOWN)
    return {"boxes": torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4),
            "setting": torch.tensor(SETTINGS.index(scene.setting)),
            **{name: torch.tensor(values, dtype=torch.long) for name, values in columns.items()}}


class DetectionData:
    """Pictures (n, 3, s, s) as bytes and the targets of each, of scenes ``0 … count-1`` of a split."""

    def __init__(self, count: int, split: str = "train", size: int = 64, seed: int = 0):
        images = np.empty((count, 3, size, size), dtype=np.uint8)
        self.targets = []
        for i in range(count):
            scene = sample_scene(seed, i, split)
            picture = render(scene, size)
            images[i] = picture.image.transpose(2, 0, 1)
            self.targets.append(detection_targets(scene, picture.masks))
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], flip: bool = False) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Pictures in [0, 1] and targets of the given scenes; ``flip`` mirrors them."""
        images = self.images[list(indices)].float() / 255
        targets = [self.targets[i] for i in indices]
        if flip:
            images = images.flip(-1)
            mirrored = []
            for t in targets:
                x0, y0, x1, y1 = t["boxes"].unbind(1)
                side = images.shape[-1]
                facing = torch.where(t["facing"] == UNKNOWN, UNKNOWN, 1 - t["facing"])
                mirrored.append({**t, "boxes": torch.stack([side - x1, y0, side - x0, y1], 1),
                                 "facing": facing})
            targets = mirrored
        return images, targets


@torch.no_grad()
def detection_results(detector: Detector, data: DetectionData, batch: int = 100) -> list[dict]:
    """The detector's answers as COCO results: image_id, category_id, bbox (x, y, width, height), score."""
    with eval_mode(detector):
        results: list[dict] = []
        for start in range(0, len(data), batch):
            images, _ = data.batch(range(start, min(start + batch, len(data))))
            for i, found in enumerate(detector(list(images))):
                for (x0, y0, x1, y1), label, score in zip(found["boxes"].tolist(), found["labels"].tolist(),
                                                          found["scores"].tolist()):
                    results.append({"image_id": start + i + 1, "category_id": CATEGORIES[label - 1].id,
                                    "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
        return results


def detection_truth(data: DetectionData) -> dict:
    """The data set as a COCO instances dict (image ids and annotation ids from 1)."""
    annotations: list[dict[str, Any]] = []
    for i, target in enumerate(data.targets):
        for (x0, y0, x1, y1), label in zip(target["boxes"].tolist(), target["labels"].tolist()):
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "iscrowd": 0,
                                "category_id": CATEGORIES[label - 1].id, "bbox": [x0, y0, x1 - x0, y1 - y0],
                                "area": (x1 - x0) * (y1 - y0)})
    side = data.images.shape[-1]
    return {"images": [{"id": i + 1, "width": side, "height": side} for i in range(len(data))],
            "annotations": annotations, "categories": [{"id": c.id, "name": c.name} for c in CATEGORIES]}


# ------------------------------------------------------------------------------------------------ checkpoints

def save_detector(detector: Detector, path: Path, about: Mapping[str, object]) -> None:
    """Write the weights in half precision, and ``about`` (settings, metrics, versions) with the config beside
    them."""
    known = {"categories": [c.name for c in CATEGORIES]}
    save_model(path, detector, "detector", {**about, **known}, half=True)


def load_detector(path: Path | str = CHECKPOINT) -> Detector:
    """The trained detector in evaluation mode; by default the one that comes with the book.

    Raises ``FileNotFoundError`` if the file is not there, ``ValueError`` if it was trained on other
    categories.
    """
    remedy = "train one with `python -m mmlearn.experiments detector`"
    known = read_description(path, remedy).get("categories")
    if known != [c.name for c in CATEGORIES]:
        raise ValueError(f"the detector at {path} knows other categories than the scene world has now; "
                         f"{remedy}")
    return cast(Detector, load_model(path, {"detector": (DetectorConfig, Detector)}, remedy)[0])
