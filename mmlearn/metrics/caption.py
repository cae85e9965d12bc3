"""The caption metrics of COCO in one place: BLEU, METEOR, ROUGE-L, CIDEr, CIDEr-D, SPICE.

Paper: X. Chen et al. (2015), *Microsoft COCO Captions: Data Collection and Evaluation Server*,
arXiv:1504.00325, sec. 3.  Survey: none (the numbers its systems are compared by).
Differs from the paper: the key "CIDEr" holds what the official evaluation prints under this name, which is
CIDEr-D; the key "CIDEr-D" holds the same number under its right name. The original CIDEr is the function
``cider``.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mmlearn.data.ptb import ptb_tokenise
from mmlearn.metrics.bleu import BleuResult, bleu, bleu_from_matches
from mmlearn.metrics.cider import CiderD, CiderResult, cider, cider_d
from mmlearn.metrics.meteor import MeteorResult, meteor
from mmlearn.metrics.meteor_tables import available_stages
from mmlearn.metrics.ngrams import Words, check_pairs
from mmlearn.metrics.rouge import RougeResult, rouge_l
from mmlearn.metrics.spice import SpiceResult, official_spice, spice

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "CIDEr-D")

__all__ = ["METRICS", "BleuResult", "CaptionScores", "CiderD", "CiderResult", "MeteorResult", "RougeResult",
           "SpiceResult", "available_stages", "bleu", "caption_scores", "cider", "cider_d",
           "evaluate_captions",
           "meteor", "official_spice", "rouge_l", "spice", "tokenise_captions"]


@dataclass(frozen=True)
class CaptionScores:
    """The official table: each metric of the corpus, and of each image in the order given."""

    corpus: dict[str, float]
    per_image: dict[str, Float[np.ndarray, "i"]]


def caption_scores(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]], metrics: Sequence[str] = METRICS,
    stages: Sequence[str] | None = None,
) -> CaptionScores:
    """All metrics of tokenised candidates, each against its tokenised references; n-grams are counted once.

    ``metrics`` selects some of them (METEOR is by far the slowest), ``stages`` the stages of METEOR.
    Raises ``ValueError`` for an unknown metric, or if the two lists differ in length.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"metric {unknown[0]!r} is unknown; use some of {', '.join(METRICS)}")
    check_pairs(candidates, references)
    corpus: dict[str, float] = {}
    per_image: dict[str, np.ndarray] = {}
    if {"CIDEr", "CIDEr-D", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"} & set(metrics):
        reward = CiderD(references)
        images = np.arange(len(references))
        lengths, matches = reward.index.match(candidates, images)
        counted = bleu_from_matches(reward.index, lengths, matches)
        for n in range(4):
            corpus[f"Bleu_{n + 1}"], per_image[f"Bleu_{n + 1}"] = (
                float(counted.corpus[n]),
                counted.per_image[:, n],
            )
        weighted = reward.from_matches(images, lengths, matches)
        for name in ("CIDEr", "CIDEr-D"):
            corpus[name], per_image[name] = weighted.corpus, weighted.per_image
    if "METEOR" in metrics:
        aligned = meteor(candidates, references, stages)
        corpus["METEOR"], per_image["METEOR"] = aligned.corpus, aligned.per_image
    if "ROUGE_L" in metrics:
        common = rouge_l(candidates, references)
        corpus["ROUGE_L"], per_image["ROUGE_L"] = common.corpus, common.per_image
    return CaptionScores({name: corpus[name] for name in metrics},
                         {name: per_image[name] for name in metrics})


def tokenise_captions(
    candidates: Mapping[Hashable, str], references: Mapping[Hashable, Sequence[str]]
) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Both as PTB tokens, image by image in the order of ``references``.

    Raises ``ValueError`` unless both have captions for the same images.
    """
    missing = [key for key in references if key not in candidates]
    extra = [key for key in candidates if key not in references]
    if missing or extra:
        some, what = (missing, "no candidate") if missing else (extra, "no references")
        raise ValueError(f"{len(some)} of {len(references)} images have {what}, the first is {some[0]!r}; "
                         "give one candidate for each image")
    return ([ptb_tokenise(candidates[key]) for key in references],
            [[ptb_tokenise(text) for text in texts] for texts in references.values()])


def evaluate_captions(
    candidates: Mapping[Hashable, str], references: Mapping[Hashable, Sequence[str]],
    metrics: Sequence[str] = METRICS, stages: Sequence[str] | None = None,
) -> dict[str, float]:
    """The official numbers of COCO captioning: image id -> text, image id -> reference texts.

    Keys Bleu_1 … Bleu_4, METEOR, ROUGE_L, CIDEr (= CIDEr-D, as officially) and CIDEr-D, or those of
    ``metrics``.
    Raises ``ValueError`` unless there is one candidate for each image.
    """
    return caption_scores(*tokenise_captions(candidates, references), metrics, stages).corpus
