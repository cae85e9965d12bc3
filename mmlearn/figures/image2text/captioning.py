"""What a captioner looked at: attention of words over places, the memory's share, mesh gates, the tree of a
beam.

Paper: K. Xu et al. (2015), *Show, Attend and Tell*, arXiv:1502.03044, fig. 3 (attention per word); M. Cornia
et al. (2020), arXiv:1912.08226 (memory and mesh).  Survey: 1.2, 1.2.1.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from mmlearn import plot
from mmlearn.data.scenes import CATEGORY, render
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import SYNONYMS
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.generate import beam
from mmlearn.image2text.m2 import record_gates
from mmlearn.image2text.regions import Regions
from mmlearn.nn.attention import record_attention
from mmlearn.nn.modes import eval_mode


class AttentionMaps(NamedTuple):
    """One caption and the attention of each of its t words, the last being the end of the caption."""

    words: list[str]
    attention: Float[Tensor, "t p"]             # of each word over places, mean over layers, levels and heads
    gates: Float[Tensor, "layer n t"] | None    # mean gate of each word, per decoder and encoder layer
    memory: Float[Tensor, "layer h p"] | None   # share of each region's attention that goes to memory slots


@torch.no_grad()
def attention_maps(
    model: nn.Module, inputs: Float[Tensor, "b ..."], words: WordTokeniser,
    mask: Bool[Tensor, "b p"] | None = None, k: int = 5, max_len: int = 20,
) -> AttentionMaps:
    """Caption one image by beam search, then read the caption again with attention and gates recorded.

    ``inputs`` are regions (1, p, f) or a picture (1, 3, s, s); padded regions (``mask`` False) are left out.
    Raises ``ValueError`` for more than one image.
    """
    if len(inputs) != 1:
        raise ValueError(f"{len(inputs)} images given; look at one at a time, inputs[i : i + 1]")
    captioner: Any = model
    with eval_mode(model):
        context = captioner.encode(inputs, mask)
        tokens, _ = beam(captioner, context, k=k, bos=words.bos, eos=words.eos, pad=words.pad,
                         max_len=max_len)
        caption = tokens[0, :1]
        caption = caption[:, : int((caption != words.pad).sum())]
        previous = torch.cat([torch.full_like(caption[:, :1], words.bos), caption[:, :-1]], dim=1)
        with record_attention(model) as weights, record_gates(model) as gates:
            captioner.decode(previous, captioner.encode(inputs, mask))
    cross = [w for name, w in weights.items() if name.endswith("cross_attention")]
    attention = torch.stack([w.flatten(0, -3).mean(0) for w in cross]).mean(0)          # (1 1 n h) t p -> t p
    encoder = torch.stack([w[0] for name, w in weights.items() if name.startswith("encoder.")])
    slots = encoder[..., attention.shape[-1] :].sum(-1)                                    # layer h p
    real = slice(None) if mask is None else mask[0]
    return AttentionMaps(
        [words.words[i] for i in caption[0].tolist()], attention[:, real],
        torch.stack([g[0].mean(-1) for g in gates.values()]) if gates else None,
        slots[..., real] if encoder.shape[-1] > attention.shape[-1] else None)


class OnThings(NamedTuple):
    """Where the nouns of captions looked: means over ``nouns`` nouns that name the only thing of their
    category."""

    mass: float         # share of a noun's attention that lies on cells its thing covers
    chance: float       # the same for attention that is spread evenly: the share of such cells
    pointing: float     # how often the most attended cell is one of them
    alike: float        # cosine of the maps of two nouns of one caption, 1 = the same map
    nouns: int


def attention_on_things(model: nn.Module, pictures: Float[Tensor, "n 3 s s"], scenes: Sequence[Scene],
                        words: WordTokeniser, k: int = 5, least: int = 4) -> OnThings:
    """Does a word look at what it names? For each noun of each caption, its attention against the thing's
    mask.

    A cell belongs to a thing that covers ``least`` of its pixels. Raises ``ValueError`` if no caption names a
    thing that is there once.
    """
    nouns = {name: category for category in CATEGORY
             for name in (category, *(s for s, _ in SYNONYMS.get(category, ())))}
    mass, chance, pointing, alike = [], [], [], []
    for picture, scene in zip(pictures, scenes):
        seen = attention_maps(model, picture[None], words, k=k)
        side = math.isqrt(seen.attention.shape[1])
        masks = render(scene, picture.shape[-1]).masks
        step = picture.shape[-1] // side
        covered = masks.reshape(len(masks), side, step, side,
                                step).sum((2, 4)).reshape(len(masks), -1) >= least
        maps = []
        for word, attention in zip(seen.words, seen.attention):
            here = [i for i, thing in enumerate(scene.objects) if thing.category == nouns.get(word)]
            if len(here) != 1 or not covered[here[0]].any():
                continue
            cells = torch.from_numpy(covered[here[0]])
            mass.append(float(attention[cells].sum() / attention.sum()))
            chance.append(float(cells.float().mean()))
            pointing.append(float(cells[attention.argmax()]))
            maps.append((word, attention))
        alike += [float(torch.cosine_similarity(a, b, dim=0)) for (v, a),
                  (w, b) in combinations(maps, 2) if v != w]
    if not mass:
        raise ValueError("no caption names a thing that is in its picture once; give more pictures, or train "
                         "the model")
    def mean(values: list[float]) -> float:
        return sum(values) / max(1, len(values))

    return OnThings(mean(mass), mean(chance), mean(pointing), mean(alike), len(mass))


def draw_regions(pictures: Float[Tensor, "b 3 s s"] | UInt8[Tensor, "b 3 s s"], regions: Regions,
                 names: Sequence[str]) -> Figure:
    """Pictures in a row with the detected boxes and their categories; the whole-picture region is left
    out."""
    figure = plot.image_grid(list(pictures), columns=len(pictures))
    for axis, mask, boxes, labels in zip(figure.axes, regions.mask, regions.boxes, regions.labels):
        for number, (box, label) in enumerate(zip(boxes[mask][1:].tolist(), labels[mask][1:].tolist())):
            colour = plot.PALETTE[number % 6]
            x0, y0, x1, y1 = box
            corner, width, height = (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0
            axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=2))
            axis.text(x0, max(y0, 4), names[label], fontsize=9, color="white", va="center",
                      bbox={"facecolor": colour, "edgecolor": "none", "pad": 1})
    return figure
