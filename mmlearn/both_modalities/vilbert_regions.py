"""What ViLBERT sees: the regions of a picture that chapter 1's detector finds, and what it takes them for.

Paper: J. Lu et al. (2019), *ViLBERT*, arXiv:1908.02265, sec. 2.2 and 3.1; P. Anderson et al. (2018),
*Bottom-Up and Top-Down Attention*, arXiv:1707.07998 (the detector).  Survey: 5.2.
Differs from the paper: the detector is that of the scene world, whose vectors have 256 numbers and whose
classes are its categories and the background; the paper keeps 10 to 36 boxes above a threshold of confidence,
whose value we could not verify, ours keeps those of at least 0.2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mmlearn.both_modalities.vilbert import PLACE, box_geometry
from mmlearn.image2text.regions import Detector, region_features, sound_boxes
from mmlearn.nn.modes import eval_mode

Pictures = Float[Tensor, "b 3 s s"] | UInt8[Tensor, "b 3 s s"]


class Seen(NamedTuple):
    """The regions of b pictures, at most n each, best first, zeros where ``mask`` is False.

    ``boxes`` are places (``box_geometry``), ``classes`` the detector's probabilities, the first of which is
    the background's: what masked regions are asked for.
    """

    features: Float[Tensor, "b n f"]
    boxes: Float[Tensor, "b n 5"]
    mask: Bool[Tensor, "b n"]
    classes: Float[Tensor, "b n c"]

    def rows(self, index: Tensor) -> "Seen":
        """The regions of some of the pictures, in this order."""
        return Seen(*(part[index] for part in self))


def posteriors(detector: Detector, vectors: Float[Tensor, "*n f"]) -> Float[Tensor, "*n c"]:
    """What the detector takes regions for, by their vectors: probabilities, the background's first."""
    return detector.roi_heads.box_predictor.cls_score(vectors).softmax(dim=-1)


@torch.no_grad()
def see(
    detector: Detector, images: Pictures, *, max_regions: int = 9, threshold: float = 0.2, batch: int = 100
) -> Seen:
    """The best ``max_regions`` regions of every picture, in [0, 1] or bytes, without the whole picture, which
    ViLBERT makes of them. A picture in which nothing is found has no region."""
    if max_regions < 1:
        raise ValueError(f"max_regions is {max_regions}; ask for one region or more")
    found = region_features(detector, images, max_regions=max_regions + 1, threshold=threshold, batch=batch)
    side, mask = detector.config.size, found.mask[:, 1:]          # the first is the whole picture
    vectors = found.features[:, 1:, :-PLACE]
    with eval_mode(detector):
        classes = posteriors(detector, vectors)
    return Seen(vectors, box_geometry(found.boxes[:, 1:], side, side), mask,
                classes.masked_fill(~mask[..., None], 0.0))


@torch.no_grad()
def see_boxes(
    detector: Detector, images: Pictures, boxes: Sequence[Float[Tensor, "_ 4"]], batch: int = 100
) -> Seen:
    """The same of given boxes (corners in pixels) instead of found ones: of ground truth, or of a proposal.

    Raises ``ValueError`` unless each picture has its boxes, and for what is no box of its picture.
    """
    if len(boxes) != len(images):
        raise ValueError(f"{len(images)} pictures and boxes for {len(boxes)}; give a tensor (n, 4) for each")
    side, most = detector.config.size, max([1, *map(len, boxes)])
    for number, corners in enumerate(boxes):
        cut, sound = sound_boxes(corners, (side, side))
        if not sound.all() or not torch.equal(cut, corners):
            raise ValueError(f"picture {number} has a box that is empty or leaves its {side} x {side} "
                             f"pixels; give corners (x0, y0, x1, y1) inside the picture")
    parts = []
    with eval_mode(detector) as device:
        for start in range(0, len(images), batch):
            chunk = images[start:start + batch].to(device)
            chunk = chunk.float() / 255 if chunk.dtype == torch.uint8 else chunk
            own = [one.to(device) for one in boxes[start:start + batch]]
            maps, sizes = detector.maps(chunk)
            vectors = detector.vectors(maps, own, sizes)
            parts.append(_padded(detector, vectors, own, most, side))
    return Seen(*(torch.cat(column) for column in zip(*parts)))


def _padded(detector: Detector, vectors: Tensor, boxes: list[Tensor], most: int, side: int) -> Seen:
    """Rows of all pictures one after the other, (m, f), as (b, most, ·)."""
    counts = torch.tensor([len(one) for one in boxes], device=vectors.device)
    mask = torch.arange(most, device=vectors.device)[None] < counts[:, None]

    def spread(rows: Tensor) -> Tensor:
        out = rows.new_zeros(len(boxes), most, rows.shape[-1])
        out[mask] = rows
        return out

    places = box_geometry(torch.cat(boxes), side, side)
    return Seen(spread(vectors), spread(places), mask, spread(posteriors(detector, vectors)))
