r"""Detection metrics of COCO: run-length masks, overlap, average precision.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO: Common Objects in Context*, arXiv:1405.0312, sec. 4; the
rules are those of the evaluation code published with it.  Survey: 1.1.
Differs from the paper: nothing in the numbers. An annotation may have the id 0 here (the official code loses
it).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from pycocotools import mask as runs

from mmlearn.data.coco_files import (
    PIXELS,
    Id,
    Record,
    box,
    box_or_none,
    checked,
    given,
    identity,
    instance_records,
    named,
    number,
    segmentation,
)

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
    """The mask of run lengths. Raises ``ValueError`` if one is negative or they do not sum to ``height *
    width``."""
    _check_runs(counts, height, width)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def _check_runs(counts: Sequence[int] | Int[np.ndarray, "n"], height: int, width: int) -> None:
    if len(counts) and min(counts) < 0:
        raise ValueError(f"a run is {min(counts)} pixels long; the lengths are 0 or more")
    if (covered := int(sum(counts))) != height * width:
        raise ValueError(f"the runs cover {covered} pixels, the mask has {height} x {width} = "
                         f"{height * width}")


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
    groups = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64) - 48
    if len(bad := np.flatnonzero((groups < 0) | (groups > 63))):
        raise ValueError(f"character {text[bad[0]]!r} at {bad[0]} is not part of a compressed mask")
    last = np.flatnonzero(groups < 32)                             # the group that ends each number
    if len(groups) and groups[-1] >= 32:
        raise ValueError("the compressed mask ends inside a number; it is cut off")
    if not len(groups):
        return []
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 7:                                           # 35 bits
        raise ValueError(f"a number of the compressed mask has {length.max()} groups; no run is so long")
    place = np.arange(len(groups)) - np.repeat(first, length)
    x = np.add.reduceat((groups & 31) << 5 * place, first)
    x -= (groups[last] & 16 > 0).astype(np.int64) << 5 * length    # bit 4 of the last is the sign
    counts = x.copy()                                              # eq:rle-delta, undone
    counts[1::2], counts[2::2] = x[1::2].cumsum(), x[2::2].cumsum()
    return counts.tolist()


def compressed(shape: Any, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Any COCO segmentation as pycocotools reads it, {"size": [h, w], "counts": bytes}; polygons need
    ``size`` (h, w).

    Raises ``ValueError`` for numbers that make no mask, and for run lengths of another size than ``size``.
    """
    shape = segmentation(shape)
    if isinstance(shape, Mapping):
        height, width = shape["size"]
        if size is not None and (height, width) != tuple(size):
            raise ValueError(f"the run lengths are of a picture of {height} x {width}, the picture has "
                             f"{size[0]} x {size[1]}")
        counts = shape["counts"]
        if isinstance(counts, list):
            _check_runs(counts, height, width)
            return runs.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        counts = counts.decode("latin-1") if isinstance(counts, bytes) else counts
        _check_runs(rle_from_string(counts), height, width)
        return {"size": [height, width], "counts": counts.encode()}
    if size is None:
        raise ValueError("a polygon needs the size of its image, whose height and width are not known; add "
                         "them to its image (in Python, sizes={image_id: (height, width)})")
    if size[0] * size[1] >= PIXELS:
        raise ValueError(f"a picture of {size[0]} x {size[1]} has more pixels than run lengths can count")
    return runs.merge(runs.frPyObjects(shape, *size))    # the walk along a polygon's edges is theirs


def decode_segmentation(shape: Any, size: tuple[int, int] | None) -> Bool[np.ndarray, "h w"]:
    """Mask of any COCO segmentation: compressed or plain run lengths, or polygons (these need ``size``)."""
    return runs.decode(compressed(shape, size)).astype(bool)


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


def rle_iou(detections: Sequence[Mapping[str, Any]], truths: Sequence[Mapping[str, Any]],
            crowd: Bool[np.ndarray, "g"]) -> Float[np.ndarray, "d g"]:
    """The same (``mask_iou``) from the run lengths that ``compressed`` gives; no mask is ever held as
    pixels."""
    found = runs.iou(list(detections), list(truths), crowd.astype(int).tolist())
    return np.asarray(found, dtype=float).reshape(len(detections), len(truths))


def _ratio(common: np.ndarray, d: np.ndarray, g: np.ndarray, crowd: np.ndarray | None) -> np.ndarray:
    union = d + g - common if crowd is None else np.where(crowd, d, d + g - common)
    return np.divide(common, union, out=np.zeros(common.shape), where=union > 0)


# ---------------------------------------------------------------------------------------- average precision

@dataclass(frozen=True)
class Truth:
    """What is in one image, of one category. ``shapes`` are boxes (g, 4) or run lengths."""

    shapes: np.ndarray | list
    area: Float[np.ndarray, "g"]
    crowd: Bool[np.ndarray, "g"]


@dataclass(frozen=True)
class Detected:
    """What was found in one image, of one category: shapes and scores, best first, at most 100."""

    shapes: np.ndarray | list
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
    free = np.ones((len(THRESHOLDS), len(ignore)), dtype=bool)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    every = np.arange(len(THRESHOLDS))
    for d in np.flatnonzero((overlap >= least[0]).any(axis=1)) if len(ignore) else ():
        row = overlap[d]
        usable = (free | crowd) & (row >= least)                                                    # t g
        usable &= ~ignore | ~(usable & ~ignore).any(axis=1, keepdims=True)
        best = len(row) - 1 - np.where(usable, row, -1.0)[:, ::-1].argmax(axis=1)
        hit = usable[every, best]
        free[every[hit], best[hit]] = False
        matched[:, d], ignored[:, d] = hit, hit & ignore[best]
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
    sizes: Mapping[Id, tuple[int, int]] | None = None, images: Iterable[Id] | None = None,
    categories: Iterable[Id] | None = None, names: tuple[str, str] = ("annotations", "detections"),
) -> DetectionResult:
    """eq:coco-ap: AP and AR of ``detections`` by the rules of COCO.

    Both are COCO records (dictionaries with image_id, category_id, bbox or segmentation; area and iscrowd;
    score). ``masks=True`` compares masks; ``sizes`` then gives (height, width) of each image that has
    polygons. Images default to those that occur, categories to those of the annotations. Without ``area`` an
    annotation has that of its mask, else of its box; a detection has that of its box where it has one, as
    officially. Raises ``ValueError`` for a record without a field it needs, called by its place in
    ``names``.
    """
    field = "segmentation" if masks else "bbox"
    truth = instance_records(annotations, names[0], **{field: segmentation if masks else box})
    found = detection_records(detections, names[1], field)
    image_ids = sorted({a["image_id"] for a in truth + found} if images is None else set(images), key=_order)
    category_ids = sorted({a["category_id"] for a in truth} if categories is None else set(categories),
                          key=_order)
    known = dict(sizes or {})                               # of pictures, also by the first mask of each
    truths = _group(truth, names[0], masks, known)
    detected = _group([{**row, "area": _box_area(row.get("bbox"))} for row in found], names[1], masks, known)
    overlap_of: Callable[[Any, Any, np.ndarray], np.ndarray] = rle_iou if masks else iou
    shape = (len(category_ids), len(AREAS), len(MAX_DETECTIONS))
    precision = -np.ones((len(THRESHOLDS), len(RECALLS), *shape))
    recall = -np.ones((len(THRESHOLDS), *shape))
    for k, category in enumerate(category_ids):
        here = [image for image in image_ids if (image, category) in truths or (image, category) in detected]
        images_of = [(_truth(truths.get((image, category), []), masks),
                      _detected(detected.get((image, category), []), masks)) for image in here]
        overlaps = [overlap_of(d.shapes, g.shapes, g.crowd) if len(d.score) and len(g.area)
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


def _order(key: Id) -> tuple[bool, Id]:
    """Numbers first, then texts."""
    return isinstance(key, str), key


def detection_records(rows: Iterable[Any], where: str, needed: str) -> list[Record]:
    """The records of a results file with the field ``needed``, "bbox" or "segmentation".

    Where there is a mask and no box, the box is that of the mask, as officially.
    """
    rows = list(rows)
    boxed = [{**row, "bbox": runs.toBbox(_of_record(place, row, where, None)).tolist()}
             if needed == "bbox" and isinstance(row, Mapping) and isinstance(row.get("segmentation"), Mapping)
             and not given(row.get("bbox")) else row for place, row in enumerate(rows)]
    fields = {"image_id": identity, "category_id": identity, "score": number}
    if needed == "bbox":
        return checked(boxed, where, {**fields, "bbox": box})
    return checked(boxed, where, {**fields, "segmentation": segmentation, "bbox": box_or_none})


def _of_record(place: int, row: Mapping[str, Any], where: str,
               size: tuple[int, int] | None) -> dict[str, Any]:
    """The mask of a record as run lengths."""
    try:
        return compressed(row["segmentation"], size)
    except ValueError as reason:
        raise ValueError(f"{where}, {named(place, row)}: 'segmentation' is no mask: {reason}") from None


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


Shaped = tuple[Any, Any, Record]         # box or run lengths, area, record


def _group(records: Sequence[Record], where: str, masks: bool,
           sizes: dict[Id, tuple[int, int]]) -> dict[tuple[Id, Id], list[Shaped]]:
    """Records by (image, category), each with its shape and area; all masks of a picture have the size of the
    first."""
    grouped: dict[tuple[Id, Id], list[Shaped]] = {}
    for place, record in enumerate(records):
        size = sizes.get(record["image_id"])
        shape: Any = _of_record(place, record, where, size) if masks else record["bbox"]
        if masks:
            sizes.setdefault(record["image_id"], tuple(shape["size"]))
        area = record["area"]
        if area is None and (masks or given(outline := record.get("segmentation")) and
                             (size is not None or isinstance(outline, Mapping))):
            area = float(runs.area(shape if masks else _of_record(place, record, where, size)))
        elif area is None:
            area = _box_area(shape)
        grouped.setdefault((record["image_id"], record["category_id"]), []).append((shape, area, record))
    return grouped


def _box_area(sides: Sequence[float | int] | None) -> float | None:
    return None if sides is None else float(sides[2] * sides[3])


def _truth(shaped: list[Shaped], masks: bool) -> Truth:
    return Truth(_shapes(shaped, masks), np.array([area for _, area, _ in shaped], dtype=float),
                 np.array([bool(record["iscrowd"]) for _, _, record in shaped], dtype=bool))


def _detected(shaped: list[Shaped], masks: bool) -> Detected:
    score = np.array([record["score"] for _, _, record in shaped], dtype=float)
    order = np.argsort(-score, kind="stable")[:MAX_DETECTIONS[-1]]
    shaped = [shaped[i] for i in order]
    return Detected(_shapes(shaped, masks), np.array([area for _, area, _ in shaped], dtype=float),
                    score[order])


def _shapes(shaped: list[Shaped], masks: bool) -> np.ndarray | list:
    shapes = [shape for shape, _, _ in shaped]
    return shapes if masks else np.array(shapes, dtype=float).reshape(-1, 4)


__all__ = ["NAMES", "DetectionResult", "average_precision", "compressed", "decode_segmentation",
           "detection_records", "interpolate", "iou", "mask_iou", "match", "precision_recall", "rle_area",
           "rle_decode", "rle_delta", "rle_encode", "rle_from_string", "rle_iou", "rle_to_string"]
