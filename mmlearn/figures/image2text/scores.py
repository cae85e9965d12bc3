"""A figure of the caption metrics: tap a caption, and see what the five scores make of it.

Papers: see ``mmlearn.metrics``.  Survey: 1.2 and its metrics.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from mmlearn.data.ptb import ptb_tokenise
from mmlearn.data.scenes.language import parse_caption
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, hover
from mmlearn.metrics.caption import CiderD, caption_scores, meteor
from mmlearn.metrics.spice import spice_of_captions

TOPS = {"CIDEr-D": 10.0}                             # full marks; 1 for every other metric


def variant_scores(captions: Sequence[str], references: Sequence[str],
                   corpus: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """The five scores of captions of one scene: {caption: {metric: value}}.

    ``corpus`` are the references of other scenes; CIDEr-D counts in all how rare words are.
    """
    said = [ptb_tokenise(text) for text in captions]
    own = [ptb_tokenise(text) for text in references]
    everything = [own, *([ptb_tokenise(text) for text in texts] for texts in corpus)]
    words = caption_scores(said, [own] * len(said), ["Bleu_4", "ROUGE_L"]).per_image
    columns = {
        "BLEU-4": words["Bleu_4"],
        "METEOR": meteor(said, [own] * len(said), stages=("exact", "stem")).per_image,
        "ROUGE-L": words["ROUGE_L"],
        "CIDEr-D": CiderD(everything)(said, [0] * len(said)),
        "SPICE-world": spice_of_captions(captions, [references] * len(captions), parse_caption).per_image,
    }
    return {caption: {name: float(values[i]) for name, values in columns.items()}
            for i, caption in enumerate(captions)}


def score_variants(variants: Mapping[str, Mapping[str, Number]], references: Sequence[str] = (),
                   image: Any = None) -> Block:
    """Scores of one picture's caption in several variants: tap one, and compare its bars with the first's.

    ``variants`` are {caption: {metric: value}}, as ``variant_scores`` gives, the first being the one that the
    others change. Bars are parts of the full marks of each metric (``TOPS``). ``references`` and ``image``
    are shown above, if given. Raises ``ValueError`` if the variants have different metrics.
    """
    captions, scores = list(variants), list(variants.values())
    if not scores or any(list(score) != list(scores[0]) for score in scores):
        raise ValueError("give at least one variant, and the same metrics for all: "
                         f"{[list(score) for score in scores]}")
    shift = 150 if image is not None else 0
    lines = [part for text in references for part in wrap(text, 46 if shift else 70)]
    head = max(18 * len(lines), 0 if image is None else 130)
    head += 12 if head else 0
    under = Diagram(460, head + 30 * len(scores[0]) + 8, "picture and human captions")
    if image is not None:
        under.image(66, 64, image, 120)
    for k, text in enumerate(lines):
        under.text(shift, 12 + 18 * k, literal(text), 13, "soft", "start")
    panels = []
    for caption, score in variants.items():
        told = ", ".join(f"{name} {value:.2f}" for name, value in score.items())
        drawn = Diagram(460, under.height, f"{caption}: {told}")
        for k, (name, value) in enumerate(score.items()):
            y, top, before = head + 16 + 30 * k, TOPS.get(name, 1.0), scores[0][name]
            drawn.text(112, y, name, 14, anchor="end", weight=600)
            drawn.bar(122, y, 230, 16, "frozen", ' fill-opacity="0.18"')
            drawn.bar(122, y, 230 * min(value / top, 1), 16, "text" if value >= before - 5e-3 else "loss")
            drawn.line([(x := 122 + 230 * min(before / top, 1), y - 11), (x, y + 11)])
            drawn.text(362, y, f"{value:.2f}", 14, "", "start", 600)
            if score is not scores[0]:
                change = f"{value - before:+.2f}".replace("-", "−")
                drawn.text(452, y, change, 13, "loss" if value < before - 5e-3 else "soft", "end")
        panels.append(drawn)
    return hover(captions, panels, "Five scores of a caption and of its variants", under=under)
