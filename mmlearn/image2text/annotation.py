"""The annotation pipeline of MS COCO, replayed on the scene world by simulated workers who overlook things.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO: Common Objects in Context*, arXiv:1405.0312v3, sec. 4.
Survey: 1.1. Differs from the paper: workers are models whose eyes and hands are the parameters of ``Worker``;
the ground truth is known, so recall, precision and mask quality are measured and not estimated; the seconds a
worker spends per question and per picture follow from the published totals (``WorkerTimes.published``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb
from typing import NamedTuple

import numpy as np
from contourpy import contour_generator
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco_mask

from mmlearn.data.scenes import CATEGORIES, render
from mmlearn.data.scenes.graph import Scene
from mmlearn.metrics.detection import decode_segmentation, rle_encode

NAMES = tuple(category.name for category in CATEGORIES)
GROUPS = tuple(dict.fromkeys(category.supercategory for category in CATEGORIES))  # super-categories, in order
# category -> super-category
GROUP = np.array([GROUPS.index(category.supercategory) for category in CATEGORIES])
MAX_CROSSES = 10        # per worker and category
CROWD_AFTER = 10        # instances of one category that get a mask of their own; the rest share one
ROUNDS = 10             # times that an instance goes back into the pool before it is given up

Chance = int | float | Float[np.ndarray, "..."]         # one probability, or an array of them


# --- the equations of section 1.1 ---------------------------------------------------------------------------

def union_recall(p: Chance, annotators: int) -> Chance:
    r"""eq:coco-recall: $R(n) = 1 - (1 - p)^n$, the chance that at least one of n independent annotators sees
    it."""
    return 1 - (1 - p) ** annotators


def expected_questions(
    group_sizes: Sequence[int | float], presence: Sequence[int | float]
) -> float:
    r"""eq:coco-questions: $E[Q] = S + \sum_g \pi_g K_g$: every group once, then the icons of the present
    groups."""
    if len(group_sizes) != len(presence):
        raise ValueError(f"{len(group_sizes)} group sizes but {len(presence)} "
                         "probabilities; give one for each group")
    opened = sum(pi * size for pi, size in zip(presence, group_sizes))
    return float(len(group_sizes) + opened)


def keep_probability(v: Chance) -> Chance:
    r"""eq:coco-verify: $P_{keep} = v^3 + 3 v^2 (1 - v)\, v^2$: all three approve, or one objects and two more
    approve."""
    return v**3 + 3 * v**2 * (1 - v) * v**2


def worker_hours(
    visits: Sequence[int | float], seconds: Sequence[int | float]
) -> float:
    r"""eq:coco-cost: $H = \frac{1}{3600} \sum_s N_s t_s$ hours, for $N_s$ visits of $t_s$ seconds in each
    stage s."""
    return float(sum(n * t for n, t in zip(visits, seconds))) / 3600


def grid_pass_probability(v: float, planted: int = 4, needed: int = 3) -> float:
    """The chance that a judge who spots a bad mask with probability ``v`` finds ``needed`` of the planted
    ones."""
    return float(sum(comb(planted, k) * v**k * (1 - v) ** (planted - k) for k in range(needed, planted + 1)))


# --- workers ------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Worker:
    """The eyes and hands of one annotator. Areas are fractions of the picture, lengths fractions of its
    side."""

    attention: float = 0.9      # chance of noticing something that fills the picture
    half_area: float = 0.05     # visible area at which that chance is halved
    magnifier: float = 2.0      # zoom while spotting: an area counts magnifier² times
    false_alarm: float = 0.002  # chance of reporting a category that is absent
    aim: float = 0.1            # spread of a cross around the middle of its instance, in units of sqrt(area)
    spacing: float = 0.045      # distance between two vertices of a polygon
    tremor: float = 0.004       # standard deviation of a vertex
    slip: float = 0.2           # chance of a careless polygon: vertices four times as far apart and off
    strictness: float = 0.7     # IoU of a mask that half of the judges approve
    sharpness: float = 20.0     # how steeply approval rises with IoU

    def notice(self, area: Float[np.ndarray, " m"], zoom: float = 1.0) -> Float[np.ndarray, " m"]:
        """The chance of seeing each instance: attention · a / (a + half_area), with a magnified by
        ``zoom``."""
        return self.attention * area * zoom**2 / (area * zoom**2 + self.half_area)

    def approve(self, iou: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """The chance of approving masks whose IoU with the truth is ``iou``."""
        return 1 / (1 + np.exp(-self.sharpness * (iou - self.strictness)))

    @classmethod
    def pool(cls, count: int, rng: np.random.Generator) -> tuple["Worker", ...]:
        """Workers as they come: some attentive, some not; most with an unsteady hand."""
        attention, slip = rng.beta(18, 2, count), rng.beta(2, 4, count)
        tremor = 0.004 * np.exp(rng.normal(0.5, 0.5, count))
        return tuple(cls(attention=float(a), tremor=float(t), slip=float(s))
                     for a, t, s in zip(attention, tremor, slip))


@dataclass(frozen=True)
class WorkerTimes:
    """Seconds of work, per decision."""

    question: float     # one question of category labelling: a group, or an icon of a present group
    spot: float         # crossing the instances of one category in one picture
    mask: float         # drawing one polygon
    judgement: float    # looking at one mask of the judging grid (an assumption: none is published)

    @classmethod
    def published(cls) -> "WorkerTimes":
        """From the paper's totals: 20k h, 10k h, 328k images, 8 workers, 3.5 categories an image, 22 h per
        1000 masks.

        The images' present groups are not published; 3.5 categories in 3.5 different groups are the upper
        bound.
        """
        questions = expected_questions([91 / 11] * 11, [3.5 / 11] * 11)
        return cls(question=20_000 * 3600 / (328_000 * 8 * questions),
                   spot=10_000 * 3600 / (328_000 * 8 * 3.5), mask=22 * 3600 / 1000, judgement=1.0)


class Hours(NamedTuple):
    """Worker-hours of each stage."""

    labelling: float
    spotting: float
    segmentation: float
    judging: float = 0.0

    @property
    def total(self) -> float:
        return sum(self)


PUBLISHED_HOURS = Hours(labelling=20_000, spotting=10_000, segmentation=55_000)  # 2.5M masks at 22 h per 1000


# --- ground truth -------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class GroundTruth:
    """All visible instances of some scenes as columns, one row for each of the ``m`` instances."""

    images: int
    image: Int[np.ndarray, " m"]
    category: Int[np.ndarray, " m"]             # index into ``NAMES``
    area: Float[np.ndarray, " m"]               # visible part, fraction of the picture
    centre: Float[np.ndarray, "m 2"]            # x, y of the visible part's middle, fractions
    masks: Bool[np.ndarray, "m s s"]

    @property
    def present(self) -> Bool[np.ndarray, "images k"]:
        """Which categories each picture shows."""
        return self.collect(np.ones((1, len(self.image)), dtype=bool))[0]

    def collect(self, noticed: Bool[np.ndarray, "n m"]) -> Bool[np.ndarray, "n images k"]:
        """From noticed instances to noticed categories: a category is seen if any of its instances is."""
        found = np.zeros((len(noticed), self.images, len(NAMES)), dtype=bool)
        worker, row = np.nonzero(noticed)
        found[worker, self.image[row], self.category[row]] = True
        return found


def ground_truth(scenes: Sequence[Scene], size: int = 64) -> GroundTruth:
    """The visible instances of ``scenes``, drawn at ``size`` pixels; what is hidden completely is left
    out."""
    image, category, masks = [], [], []
    for i, scene in enumerate(scenes):
        for thing, mask in zip(scene.objects, render(scene, size=size).masks):
            if mask.any():
                image.append(i)
                category.append(NAMES.index(thing.category))
                masks.append(mask)
    if not masks:
        raise ValueError("the scenes show no object; give at least one scene that has one")
    stack = np.stack(masks)
    return GroundTruth(len(scenes), np.array(image), np.array(category), stack.mean(axis=(1, 2)),
                       np.stack([_middle(mask) for mask in stack]), stack)


def _middle(mask: np.ndarray) -> np.ndarray:
    """The pixel of a mask that is nearest to its centre of mass (which may lie outside), as x, y
    fractions."""
    y, x = np.nonzero(mask)
    nearest = np.argmin((x - x.mean()) ** 2 + (y - y.mean()) ** 2)
    return np.array([x[nearest] + 0.5, y[nearest] + 0.5]) / len(mask)


# --- stage a: which categories does the picture show? -------------------------------------------------------

@dataclass(frozen=True)
class Labels:
    """What each of ``n`` workers said about each picture, and how many questions that took."""

    votes: Bool[np.ndarray, "n images k"]
    questions: Int[np.ndarray, "n images"]

    def union(self, annotators: int | None = None) -> Bool[np.ndarray, "images k"]:
        """The labels that at least one of the first ``annotators`` workers gave (all of them by default)."""
        return np.asarray(self.votes[:annotators].any(axis=0))


def label_categories(truth: GroundTruth, workers: Sequence[Worker], rng: np.random.Generator,
                     hierarchical: bool = True) -> Labels:
    """Stage a: every worker names the categories of every picture, super-category by super-category or one by
    one.

    Both questionnaires are answered with the same eyes, so they give the same labels and differ in questions
    alone.
    """
    chance = np.stack([worker.notice(truth.area) for worker in workers])
    votes = truth.collect(rng.random(chance.shape) < chance)
    false_alarm = np.array([worker.false_alarm for worker in workers])[:, None, None]
    votes |= (rng.random(votes.shape) < false_alarm) & ~truth.present
    if not hierarchical:
        return Labels(votes, np.full(votes.shape[:2], len(NAMES)))
    yes = np.stack([votes[:, :, GROUP == g].any(axis=2) for g in range(len(GROUPS))], axis=2)    # n images g
    return Labels(votes, len(GROUPS) + yes @ np.bincount(GROUP))


def recall_precision(found: Bool[np.ndarray, "..."], present: Bool[np.ndarray, "..."]) -> tuple[float, float]:
    """Share of the present labels that were found, and share of the found ones that are present."""
    hits = int((found & present).sum())
    return hits / max(int(present.sum()), 1), hits / max(int(found.sum()), 1)


def expected_recall(truth: GroundTruth, worker: Worker, annotators: int) -> float:
    """Mean of eq:coco-recall over the labels of ``truth``, each with its own chance of being noticed."""
    unseen = np.ones((truth.images, len(NAMES)))
    np.multiply.at(unseen, (truth.image, truth.category), 1 - worker.notice(truth.area))
    return float(np.mean(union_recall((1 - unseen)[truth.present], annotators)))


# --- stage b: where are the instances? ----------------------------------------------------------------------

@dataclass(frozen=True)
class Crosses:
    """Crosses as columns, one row each; crosses with the same ``spot`` are taken for the same instance."""

    image: Int[np.ndarray, " c"]
    category: Int[np.ndarray, " c"]
    worker: Int[np.ndarray, " c"]
    instance: Int[np.ndarray, " c"]             # the row of ``GroundTruth`` that was meant; known to us only
    position: Float[np.ndarray, "c 2"]          # x, y in fractions of the picture
    spot: Int[np.ndarray, " c"]

    def spots(self) -> Int[np.ndarray, " spots"]:
        """One row number for each spot: its first cross."""
        return np.unique(self.spot, return_index=True)[1]


def spot_instances(truth: GroundTruth, labels: Bool[np.ndarray, "images k"], workers: Sequence[Worker],
                   rng: np.random.Generator, radius: float = 0.1) -> Crosses:
    """Stage b: for every label, every worker crosses the instances they see, at most ten; the union is kept.

    A cross within ``radius`` (fraction of the side) of a spot found by someone else is the same instance.
    """
    chance = np.stack([worker.notice(truth.area, zoom=worker.magnifier) for worker in workers])
    seen = (rng.random(chance.shape) < chance) & labels[truth.image, truth.category]
    order = rng.permutation(len(truth.image))           # nobody starts at the same corner
    pair = truth.image * len(NAMES) + truth.category
    for row in seen:
        for key, count in zip(*np.unique(pair[row], return_counts=True)):
            if count > MAX_CROSSES:
                row[[i for i in order if row[i] and pair[i] == key][MAX_CROSSES:]] = False
    worker, instance = np.nonzero(seen)
    spread = np.array([w.aim for w in workers])[worker] * np.sqrt(truth.area[instance])
    position = np.clip(truth.centre[instance] + rng.normal(size=(len(instance), 2)) * spread[:, None], 0, 1)
    return Crosses(truth.image[instance], truth.category[instance], worker, instance, position,
                   _cluster(pair[instance], worker, position, radius))


def _cluster(pair: np.ndarray, worker: np.ndarray, position: np.ndarray, radius: float) -> np.ndarray:
    """Give crosses of the same picture and category a common number if they are close and of different
    workers."""
    spot = np.full(len(pair), -1)
    count = 0
    for key in np.unique(pair):
        spots: list[list[int]] = []                     # rows of each spot so far
        for w in np.unique(worker[pair == key]):
            free = list(range(len(spots)))              # one worker never crosses the same instance twice
            for row in np.nonzero((pair == key) & (worker == w))[0].tolist():
                gaps = [float(np.linalg.norm(position[spots[s]].mean(axis=0) - position[row])) for s in free]
                if gaps and min(gaps) <= radius:
                    spots[free.pop(int(np.argmin(gaps)))].append(row)
                else:
                    spots.append([row])
        for rows in spots:
            spot[rows] = count
            count += 1
    return spot


# --- stage c: which pixels? ---------------------------------------------------------------------------------

def segment(mask: Bool[np.ndarray, "s s"], worker: Worker, rng: np.random.Generator) -> list[list[float]]:
    """Stage c: the polygons [x1, y1, x2, y2, …] (pixels) that a worker draws around ``mask``; holes are drawn
    over."""
    size = len(mask)
    careless = 4.0 if rng.random() < worker.slip else 1.0
    spacing, tremor = worker.spacing * size * careless, worker.tremor * size * careless
    polygons = []
    for outline in outlines(mask):
        steps = np.hypot(*np.diff(outline, axis=0).T)
        along = np.concatenate([[0.0], np.cumsum(steps)])
        count = max(4, round(along[-1] / spacing))
        at = (np.arange(count) + rng.random()) / count * along[-1]
        vertices = np.stack([np.interp(at, along, outline[:, axis]) for axis in (0, 1)], axis=1)
        vertices = np.clip(vertices + rng.normal(size=vertices.shape) * tremor, 0, size)
        polygons.append([round(float(value), 2) for value in vertices.ravel()])
    return polygons


def outlines(mask: Bool[np.ndarray, "s s"]) -> list[Float[np.ndarray, "v 2"]]:
    """The closed outer outlines of a mask, x and y in pixels with (0, 0) at the top-left corner of the
    picture."""
    lines = [np.asarray(line) for line in contour_generator(z=np.pad(mask.astype(float), 1)).lines(0.5)]
    outer = [line - 0.5 for line in lines if _signed_area(line) > 0]        # holes run the other way round
    large = [line for line in outer if _signed_area(line) > 2]
    return large or [max(outer, key=_signed_area)]


def _signed_area(line: np.ndarray) -> float:
    """The shoelace formula; positive for the outlines that enclose the mask."""
    x, y = line[:, 0], line[:, 1]
    return 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


def polygon_mask(polygons: list[list[float]], size: int) -> Bool[np.ndarray, "s s"]:
    """The pixels that COCO counts as inside ``polygons``."""
    return decode_segmentation(polygons, (size, size))


def paired_iou(a: Bool[np.ndarray, "*n s s"], b: Bool[np.ndarray, "*n s s"]) -> Float[np.ndarray, "*n"]:
    """eq:iou, mask by mask: the first of ``a`` with the first of ``b``, and so on."""
    union = (a | b).sum(axis=(-2, -1))
    return np.asarray((a & b).sum(axis=(-2, -1)) / np.maximum(union, 1), dtype=float)


class Verdicts(NamedTuple):
    """Which masks were kept, and how many judgements each took (3 or 5)."""

    kept: Bool[np.ndarray, " m"]
    judgements: Int[np.ndarray, " m"]


def verify(approval: Float[np.ndarray, " m"], rng: np.random.Generator) -> Verdicts:
    """Three judges look at each mask; if one objects, two more do, and it is kept with at least four of five
    votes.

    ``approval`` (m,) is the chance that one judge approves each mask. See eq:coco-verify.
    """
    votes = rng.random((5, len(approval))) < approval
    at_once = votes[:3].all(axis=0)
    return Verdicts(at_once | (votes.sum(axis=0) >= 4), np.where(at_once, 3, 5))


def training_task(truth: GroundTruth, workers: Sequence[Worker], rng: np.random.Generator, masks: int = 5,
                  pass_iou: float = 0.84) -> Bool[np.ndarray, " n"]:
    """Who passes the training task: all of ``masks`` practice polygons on average at least ``pass_iou``
    right."""
    passed = []
    for worker in workers:
        rows = rng.choice(len(truth.masks), size=masks)
        drawn = np.stack([polygon_mask(segment(truth.masks[i], worker, rng),
                                       truth.masks.shape[1]) for i in rows])
        passed.append(bool(paired_iou(drawn, truth.masks[rows]).mean() >= pass_iou))
    return np.array(passed)


# --- the three stages together ------------------------------------------------------------------------------

@dataclass(frozen=True)
class PipelineReport:
    """What a run of the pipeline produced, how good it is, and what it cost."""

    images: int
    annotators: int
    questions: float            # of category labelling, per worker and picture
    label_recall: float         # share of the (picture, category) pairs that were labelled
    label_precision: float
    spot_recall: float          # share of the visible instances that have a cross
    duplicates: float           # share of the spots that repeat an instance
    mask_recall: float  # share of the visible instances that got a mask of their own or lie in a crowd
    mask_iou: float             # mean IoU of the kept masks with the truth
    bad_masks: float            # share of the kept masks with IoU below one half
    masks_drawn: int            # polygons, rejected ones included
    hours: Hours
    annotations: list[dict] = field(repr=False)     # COCO instance annotations; image ids are positions + 1

    def __str__(self) -> str:
        rows = [("questions per visit", f"{self.questions:.1f}"),
                ("label recall", f"{self.label_recall:.3f}"),
                ("label precision", f"{self.label_precision:.3f}"),
                ("instances spotted", f"{self.spot_recall:.3f}"),
                ("instances masked", f"{self.mask_recall:.3f}"), ("mean mask IoU", f"{self.mask_iou:.3f}"),
                ("masks below IoU 0.5", f"{self.bad_masks:.3f}"),
                ("polygons drawn per instance", f"{self.masks_drawn / max(len(self.annotations), 1):.2f}"),
                ("worker-hours per 1000 images", f"{1000 * self.hours.total / self.images:.0f}")]
        return "\n".join(f"{name:<30}{value:>8}" for name, value in rows)


def run_pipeline(scenes: Sequence[Scene] | GroundTruth, annotators: int = 8, hierarchical: bool = True,
                 verification: bool = True, *, size: int = 64, seed: int = 0, worker: Worker | None = None,
                 times: WorkerTimes | None = None) -> PipelineReport:
    """Annotate ``scenes`` in COCO's three stages, with ``annotators`` workers for each picture in the first
    two.

    Scenes are drawn at ``size`` pixels; a ``GroundTruth`` that was drawn before is used as it is.

    Raises ``ValueError`` if there is no annotator or nothing to see.
    """
    if annotators < 1:
        raise ValueError(f"annotators is {annotators}; a picture needs at least 1")
    worker, times, rng = worker or Worker(), times or WorkerTimes.published(), np.random.default_rng(seed)
    truth = scenes if isinstance(scenes, GroundTruth) else ground_truth(scenes, size)
    workers = [worker] * annotators
    labels = label_categories(truth, workers, rng, hierarchical)
    union = labels.union()
    crosses = spot_instances(truth, union, workers, rng)
    first = crosses.spots()
    own, crowded = _crowds(truth, np.unique(crosses.instance[first]))
    polygons, masks, drawn, judgements = _segment_all(truth, own, worker, rng, verification)
    own = own[[i in polygons for i in own]]
    rows = [_annotation(truth, int(i), polygons[i],
                        masks[i]) for i in own] + [_crowd(truth, group) for group in crowded]
    annotations = [{"id": number, **row} for number, row in enumerate(rows, start=1)]
    recall, precision = recall_precision(union, truth.present)
    quality = paired_iou(np.stack([masks[i] for i in own]), truth.masks[own]) if len(own) else np.zeros(0)
    visits = (float(labels.questions.sum()), float(union.sum() * annotators), float(drawn), float(judgements))
    seconds = (times.question, times.spot, times.mask, times.judgement)
    return PipelineReport(
        images=truth.images, annotators=annotators, questions=float(labels.questions.mean()),
        label_recall=recall, label_precision=precision,
        spot_recall=len(np.unique(crosses.instance)) / len(truth.image),
        duplicates=1 - len(np.unique(crosses.instance[first])) / max(len(first), 1),
        mask_recall=(len(own) + sum(map(len, crowded))) / len(truth.image),
        mask_iou=float(quality.mean()) if len(own) else 0.0,
        bad_masks=float((quality < 0.5).mean()) if len(own) else 0.0, masks_drawn=drawn,
        hours=Hours(*(worker_hours([n], [t]) for n, t in zip(visits, seconds))), annotations=annotations)


def _segment_all(truth: GroundTruth, rows: np.ndarray, worker: Worker, rng: np.random.Generator,
                 verification: bool
                 ) -> tuple[dict[int, list[list[float]]], dict[int, np.ndarray], int, int]:
    """Draw every instance once; with verification, redraw the rejected ones until they are kept or given
    up."""
    polygons: dict[int, list[list[float]]] = {}
    masks: dict[int, np.ndarray] = {}
    drawn = judgements = 0
    pool = rows
    for _ in range(ROUNDS if verification else 1):
        if not len(pool):
            break
        attempt = [segment(truth.masks[i], worker, rng) for i in pool]
        pixels = np.stack([polygon_mask(lines, truth.masks.shape[1]) for lines in attempt])
        kept = np.ones(len(pool), dtype=bool)
        if verification:
            kept, count = verify(worker.approve(paired_iou(pixels, truth.masks[pool])), rng)
            judgements += int(count.sum())
        drawn += len(pool)
        for i, lines, mask, good in zip(pool, attempt, pixels, kept):
            if good:
                polygons[int(i)], masks[int(i)] = lines, mask
        pool = pool[~kept]
    return polygons, masks, drawn, judgements


def _crowds(truth: GroundTruth, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Split instances into those that get a mask of their own and, per picture and category, the rest."""
    own, crowded = [], []
    pair = truth.image[rows] * len(NAMES) + truth.category[rows]
    for key in np.unique(pair):
        members = rows[pair == key]
        own.append(members[:CROWD_AFTER])
        if len(members) > CROWD_AFTER:
            crowded.append(members[CROWD_AFTER:])
    return (np.concatenate(own) if own else np.zeros(0, dtype=int)), crowded


def _annotation(truth: GroundTruth, row: int, polygons: list[list[float]], mask: np.ndarray) -> dict:
    """A COCO instance annotation with polygons."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"image_id": int(truth.image[row]) + 1, "category_id": CATEGORIES[truth.category[row]].id,
            "bbox": [float(value) for value in coco_mask.toBbox(rle)], "area": float(coco_mask.area(rle)),
            "iscrowd": 0, "segmentation": polygons}


def _crowd(truth: GroundTruth, rows: np.ndarray) -> dict:
    """A COCO crowd annotation: one uncompressed run-length mask for all of ``rows``."""
    mask = truth.masks[rows].any(axis=0)
    rle = {"size": list(mask.shape), "counts": rle_encode(mask)}
    y, x = np.nonzero(mask)
    box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
    return {"image_id": int(truth.image[rows[0]]) + 1, "category_id": CATEGORIES[truth.category[rows[0]]].id,
            "bbox": [float(value) for value in box], "area": float(mask.sum()), "iscrowd": 1,
            "segmentation": rle}
