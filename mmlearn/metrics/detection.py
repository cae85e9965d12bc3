r"""Detection metrics of COCO: run-length masks, overlap, average precision.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO: Common Objects in Context*, arXiv:1405.0312, sec. 4; the
rules are those of the evaluation code published with it.  Survey: 1.1.
Differs from the paper: nothing in the numbers. An annotation may have the id 0 here (the official code loses
it).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num

THRESHOLDS = np.linspace(0.5, 0.95, 10)             # t, smallest IoU that counts as found
RECALLS = np.linspace(0, 1, 101)                    # r, where precision is sampled
MAX_DETECTIONS = (1, 10, 100)                       # per image and category
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
NAMES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large",
         "AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large")


# ----------------------------------------------------------------------------------------- run-length masks

def rle_encode(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Run lengths of a mask read column by column, zeros first: the counts of an uncompressed COCO mask."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist() if pixels.size else []
    return [0, *runs] if pixels.size and pixels[0] else runs


def rle_decode(counts: Sequence[int], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """The mask of run lengths. Raises ``ValueError`` if they do not sum to ``height * width``."""
    if sum(counts) != height * width:
        raise ValueError(f"the runs cover {sum(counts)} pixels, the mask has {height} x {width} = "
                         f"{height * width}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def rle_area(counts: Sequence[int]) -> int:
    """Pixels that are set."""
    return sum(counts[1::2])


def rle_delta(counts: Sequence[int]) -> list[int]:
    """eq:rle-delta: $x_i = c_i$ for $i \\le 2$ (from 0), else $c_i - c_{i-2}$; runs of a column resemble each
    other."""
    return [c if i <= 2 else c - counts[i - 2] for i, c in enumerate(counts)]


def rle_to_string(counts: Sequence[int]) -> str:
    """The compressed form: differences (eq:rle-delta) in groups of 5 bits, lowest first, one character a
    group."""
    out = []
    for x in rle_delta(counts):
        more = True
        while more:
            group, x = x & 31, x >> 5
            more = x != (-1 if group & 16 else 0)      # what is left is only the sign that bit 4 already says
            out.append(chr(48 + group + 32 * more))
    return "".join(out)


def rle_from_string(text: str) -> list[int]:
    """Run lengths of the compressed form. Raises ``ValueError`` for a character that cannot occur in it."""
    counts: list[int] = []
    x = shift = 0
    for place, char in enumerate(text):
        group = ord(char) - 48
        if not 0 <= group < 64:
            raise ValueError(f"character {char!r} at {place} is not part of a compressed mask")
        x |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            x -= 1 << shift
        counts.append(x if len(counts) <= 2 else x + counts[-2])
        x = shift = 0
    if shift:
        raise ValueError("the compressed mask ends inside a number; it is cut off")
    return counts


# ------------------------------------------------------------------------------------------------- overlap

def iou(
    detections: Num[np.ndarray, "d 4"],
    truths: Num[np.ndarray, "g 4"],
    crowd: Bool[np.ndarray, "g"] | None = None,
) -> Float[np.ndarray, "d g"]:
    """eq:iou, eq:iou-crowd: overlap of boxes ``[x, y, width, height]``; over the detection's area where truth
    is a crowd."""
    d, g = detections[:, None].astype(float), truths[None].astype(float)
    start = np.maximum(d[..., :2], g[..., :2])
    end = np.minimum(d[..., :2] + d[..., 2:], g[..., :2] + g[..., 2:])
    shared = np.maximum(end - start, 0).prod(-1)
    return _ratio(shared, d[..., 2:].prod(-1), g[..., 2:].prod(-1), crowd)


def mask_iou(
    detections: Bool[np.ndarray, "d h w"], truths: Bool[np.ndarray, "g h w"],
    crowd: Bool[np.ndarray, "g"] | None = None
) -> Float[np.ndarray, "d g"]:
    """eq:iou, eq:iou-crowd for masks."""
    d, g = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (detections, truths))
    return _ratio((d @ g.T).astype(float), d.sum(1)[:, None].astype(float), g.sum(1)[None].astype(float),
                  crowd)


def _ratio(common: np.ndarray, d: np.ndarray, g: np.ndarray, crowd: np.ndarray | None) -> np.ndarray:
    union = d + g - common if crowd is None else np.where(crowd, d, d + g - common)
    return np.divide(common, union, out=np.zeros(common.shape), where=union > 0)


# ---------------------------------------------------------------------------------------- average precision

@dataclass(frozen=True)
class Truth:
    """What is in one image, of one category. ``shapes`` are boxes (g, 4) or masks (g, h, w)."""

    shapes: np.ndarray
    area: Float[np.ndarray, "g"]
    crowd: Bool[np.ndarray, "g"]


@dataclass(frozen=True)
class Detected:
    """What was found in one image, of one category: shapes and scores, best first, at most 100."""

    shapes: np.ndarray
    area: Float[np.ndarray, "d"]
    score: Float[np.ndarray, "d"]


@dataclass(frozen=True)
class DetectionResult:
    """The 12 numbers of COCO; -1 where there is nothing to find.

    ``precision`` (t, r, k, a, m): at 10 overlaps, 101 recalls, each category, area range, number of
    detections. ``recall`` (t, k, a, m): the largest recall.
    """

    stats: dict[str, float]
    precision: Float[np.ndarray, "t r k a m"] = field(repr=False)
    recall: Float[np.ndarray, "t k a m"] = field(repr=False)


def match(
    overlap: Float[np.ndarray, "d g"], ignore: Bool[np.ndarray, "g"], crowd: Bool[np.ndarray, "g"]
) -> tuple[Bool[np.ndarray, "t d"], Bool[np.ndarray, "t d"]]:
    """Give each detection, best first, the free truth it overlaps most: matched, and matched to an ignored
    one.

    ``ignore`` is sorted: truths that count come first, and one of them is never given up for an ignored one.
    A crowd may be taken many times. Of truths that overlap equally the last wins, as in the official code.
    """
    matched, ignored = np.zeros((2, len(THRESHOLDS), len(overlap)), dtype=bool)
    for t, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(ignore), dtype=bool)
        for d, row in enumerate(overlap):
            usable = (free | crowd) & (row >= min(threshold, 1 - 1e-10))
            for group in (usable & ~ignore, usable & ignore):
                if group.any():
                    candidates = np.where(group, row, -1.0)
                    best = len(row) - 1 - int(candidates[::-1].argmax())
                    free[best] = False
                    matched[t, d], ignored[t, d] = True, ignore[best]
                    break
    return matched, ignored


def precision_recall(
    hits: Bool[np.ndarray, "*t n"],
    misses: Bool[np.ndarray, "*t n"],
    positives: int,
) -> tuple[Float[np.ndarray, "*t n"], Float[np.ndarray, "*t n"]]:
    """eq:precision-recall: both after each detection, best first; ``positives`` truths could be found."""
    true = hits.cumsum(-1).astype(float)
    false = misses.cumsum(-1).astype(float)
    return true / (true + false + np.spacing(1)), true / positives


def interpolate(
    precision: Float[np.ndarray, "n"], recall: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "r"]:
    """eq:ap: at each of 101 recalls the best precision at that recall or a larger one; their mean is AP."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS, side="left")
    return np.append(best, 0.0)[np.minimum(place, len(best))]


def average_precision(
    annotations: Iterable[Mapping[str, Any]], detections: Iterable[Mapping[str, Any]], *, masks: bool = False,
    sizes: Mapping[int, tuple[int, int]] | None = None, images: Iterable[int] | None = None,
    categories: Iterable[int] | None = None,
) -> DetectionResult:
    """eq:coco-ap: AP and AR of ``detections`` by the rules of COCO.

    Both are COCO records (dictionaries with image_id, category_id, bbox or segmentation; area and iscrowd;
    score). ``masks=True`` compares masks; ``sizes`` then gives (height, width) of each image that has
    polygons. Images default to those that occur, categories to those of the annotations. Raises
    ``ValueError`` for a record without a field it needs.
    """
    annotations, detections = list(annotations), list(detections)
    image_ids = sorted({a["image_id"] for a in annotations + detections} if images is None else set(images))
    category_ids = sorted({a["category_id"] for a in annotations} if categories is None else set(categories))
    truths, detected = _group(annotations, masks, sizes), _group(detections, masks, sizes)
    shape = (len(category_ids), len(AREAS), len(MAX_DETECTIONS))
    precision = -np.ones((len(THRESHOLDS), len(RECALLS), *shape))
    recall = -np.ones((len(THRESHOLDS), *shape))
    for k, category in enumerate(category_ids):
        images_of = [(_truth(truths[image, category], masks), _detected(detected[image, category], masks))
                     for image in image_ids if truths[image, category] or detected[image, category]]
        overlaps = [(mask_iou if masks else iou)(d.shapes, g.shapes, g.crowd) if len(d.score) and len(g.area)
                    else np.zeros((len(d.score), len(g.area))) for g, d in images_of]
        for a, bounds in enumerate(AREAS.values()):
            rows = [_evaluate(g, d, overlap, bounds) for (g, d), overlap in zip(images_of, overlaps)]
            positives = sum(row[3] for row in rows)
            if not positives:
                continue
            for m, most in enumerate(MAX_DETECTIONS):
                score = np.concatenate([row[0][:most] for row in rows])
                order = np.argsort(-score, kind="stable")
                matched, skip = (np.concatenate([row[i][:, :most] for row in rows], axis=1)[:, order]
                                 for i in (1, 2))
                p, r = precision_recall(matched & ~skip, ~matched & ~skip, positives)
                recall[:, k, a, m] = r[:, -1] if len(order) else 0.0
                for t in range(len(THRESHOLDS)):
                    precision[t, :, k, a, m] = interpolate(p[t], r[t])
    return DetectionResult(_summary(precision, recall), precision, recall)


def _evaluate(truth: Truth, detected: Detected, overlap: np.ndarray, bounds: tuple[float, float]) -> tuple:
    """Of one image: scores, matched (t, d), neither right nor wrong (t, d), how many truths count."""
    low, high = bounds
    ignore = truth.crowd | (truth.area < low) | (truth.area > high)
    order = np.argsort(ignore, kind="stable")
    matched, ignored = match(overlap[:, order], ignore[order], truth.crowd[order])
    outside = (detected.area < low) | (detected.area > high)
    return detected.score, matched, ignored | (~matched & outside), int((~ignore).sum())


def _summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    aps = [mean(precision[..., 0, 2]), mean(precision[0, ..., 0, 2]), mean(precision[5, ..., 0, 2])]
    aps += [mean(precision[..., a, 2]) for a in (1, 2, 3)]
    ars = [mean(recall[..., 0, m]) for m in (0, 1, 2)] + [mean(recall[..., a, 2]) for a in (1, 2, 3)]
    return dict(zip(NAMES, aps + ars))


def _group(records: Sequence[Mapping[str, Any]], masks: bool,
           sizes: Mapping[int, tuple[int, int]] | None) -> dict:
    """Records by (image, category), each with its shape."""
    grouped: dict[tuple[int, int], list[tuple[Mapping[str, Any], np.ndarray]]] = defaultdict(list)
    for record in records:
        try:
            shape = decode_segmentation(record["segmentation"],
                                        (sizes or {}).get(record["image_id"])) if masks \
                else np.asarray(record["bbox"], dtype=float)
            grouped[record["image_id"], record["category_id"]].append((record, shape))
        except KeyError as error:
            raise ValueError(f"a record has no field {error}; it has {', '.join(record)}") from None
    return grouped


def decode_segmentation(segmentation: Any, size: tuple[int, int] | None) -> Bool[np.ndarray, "h w"]:
    """Mask of any COCO segmentation: compressed or plain run lengths, or polygons (these need ``size``)."""
    if isinstance(segmentation, Mapping):
        counts, (height, width) = segmentation["counts"], segmentation["size"]
        counts = counts.decode() if isinstance(counts, bytes) else counts
        return rle_decode(rle_from_string(counts) if isinstance(counts, str) else counts, height, width)
    if size is None:
        raise ValueError("a polygon needs the size of its image; pass sizes={image_id: (height, width)}")
    from pycocotools import mask as polygons  # only the walk along a polygon's edges is theirs

    joined = polygons.merge(polygons.frPyObjects(segmentation, *size))
    return rle_decode(rle_from_string(joined["counts"].decode()), *size)


def _stack(pairs: list, masks: bool) -> np.ndarray:
    return np.stack([shape for _, shape in pairs]) if pairs else np.zeros((0, 1, 1),
                                                                          bool) if masks else np.zeros((0, 4))


def _truth(pairs: list, masks: bool) -> Truth:
    shapes = _stack(pairs, masks)
    area = [r["area"] if "area" in r else _area(shape, masks) for r, shape in pairs]
    return Truth(shapes, np.array(area, dtype=float),
                 np.array([bool(r.get("iscrowd", 0)) for r, _ in pairs], dtype=bool))


def _detected(pairs: list, masks: bool) -> Detected:
    score = np.array([r["score"] for r, _ in pairs], dtype=float)
    order = np.argsort(-score, kind="stable")[:MAX_DETECTIONS[-1]]
    pairs = [pairs[i] for i in order]
    return Detected(_stack(pairs, masks), np.array([_area(shape, masks) for _, shape in pairs], dtype=float),
                    score[order])


def _area(shape: np.ndarray, masks: bool) -> float:
    return float(shape.sum() if masks else shape[2] * shape[3])


__all__ = ["NAMES", "DetectionResult", "average_precision", "decode_segmentation", "interpolate", "iou",
           "mask_iou", "match", "precision_recall", "rle_area", "rle_decode", "rle_delta", "rle_encode",
           "rle_from_string", "rle_to_string"]
