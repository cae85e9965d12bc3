"""METEOR 1.5: align candidate and reference word by word, also by stem, synonym and paraphrase.

Paper: M. Denkowski and A. Lavie (2014), *Meteor Universal: Language Specific Translation Evaluation for Any
Target Language*, WMT.  Survey: none (metrics).
Differs from the paper: nothing for English, task "rank", where the tables of the official tool are installed
(they come with the package pycocoevalcap); without them only the stages "exact" and "stem" run, and the score
is a lower bound. The alignment search keeps the tool's habits (rounding, beam of 40), since they decide
between alignments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mmlearn.metrics.meteor_alignment import Aligner
from mmlearn.metrics.meteor_tables import available_stages
from mmlearn.metrics.ngrams import Words, check_pairs

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75      # recall, shape and size of the penalty, content words
WEIGHTS = (1.0, 0.6, 0.8, 0.6)                          # w_k, what a match of each of ``STAGES`` is worth


@dataclass(frozen=True)
class MeteorResult:
    """METEOR of a corpus and of its images, with the counts of the chosen reference and the stages that ran.

    The 23 numbers of ``statistics`` are: words of candidate and reference, function words of both; for each
    stage content words matched in both and function words matched in both; chunks, words matched in both.
    """

    corpus: float                                       # the formula on the summed statistics, not a mean
    per_image: Float[np.ndarray, "i"]
    statistics: Float[np.ndarray, "i 23"]
    stages: tuple[str, ...]


def meteor(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]], stages: Sequence[str] | None = None
) -> MeteorResult:
    """eq:meteor: METEOR of tokenised, lower-case candidates against the best of their references.

    ``stages`` defaults to all that can run here (``available_stages``). The paraphrase table is read once a
    call, which takes some seconds. Raises ``ValueError`` for an unknown stage, ``FileNotFoundError`` for one
    whose table is missing.
    """
    check_pairs(candidates, references)
    used = tuple(available_stages() if stages is None else stages)
    hypotheses = [normalise(words) for words in candidates]
    targets = [[normalise(words) for words in refs] for refs in references]
    aligner = Aligner(used, {word for line in hypotheses for word in line}
                      | {word for refs in targets for line in refs for word in line})
    chosen = [max((aligner.statistics(h, r) for r in refs), key=meteor_score)  # max keeps the first of equals
              for h, refs in zip(hypotheses, targets)]
    statistics = np.array(chosen, dtype=np.float64)
    return MeteorResult(meteor_score(statistics.sum(0).tolist()), np.array([meteor_score(s) for s in chosen]),
                        statistics, used)


def meteor_score(statistics: Sequence[float]) -> float:
    r"""eq:meteor: $(1 - \mathrm{Pen})\,F$ from the 23 statistics of one caption, or from sums of them."""
    len_h, len_r, func_h, func_r = statistics[:4]
    chunks, matched_h, matched_r = statistics[20:]
    if matched_h == 0 or matched_r == 0:
        return 0.0
    sides = [0.0, 0.0]
    for k, weight in enumerate(WEIGHTS):
        content = statistics[4 + 4 * k: 6 + 4 * k]
        function = statistics[6 + 4 * k: 8 + 4 * k]
        for side in (0, 1):
            sides[side] += weight * (DELTA * content[side]
                                     + (1 - DELTA) * function[side])
    P = sides[0] / (DELTA * (len_h - func_h) + (1 - DELTA) * func_h)
    R = sides[1] / (DELTA * (len_r - func_r) + (1 - DELTA) * func_r)
    F = 1 / ((1 - ALPHA) / P + ALPHA / R)
    perfect = matched_h == len_h and matched_r == len_r and chunks == 1
    matched = (matched_h + matched_r) / 2
    penalty = 0.0 if perfect else GAMMA * (chunks / matched) ** BETA
    return max(0.0, (1 - penalty) * F)


LETTER = "A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮꙿ-ꚗᴀ-ᵿ"
KEEP_DOT = frozenset(("v", "vs", "i.e", "rev", "e.g"))          # abbreviations, in lower case
RULES = tuple((re.compile(pattern), to) for pattern, to in (
    (rf"([^0-9{LETTER}\s.'`,\-‘’])", r" \1 "),                  # punctuation stands alone
    (r"\.\.+", lambda match: " " + "\0" * len(match[0]) + " "),
    (r"([^0-9]),([^0-9])", r"\1 , \2"), (r"([0-9]),([^0-9])", r"\1 , \2"), (r"([^0-9]),([0-9])", r"\1 , \2"),
    (r"[`‘’]", "'"), (r"[“”]|''", ' " '), ("–", "-"), ("--", "-"),
    (rf"([0-9{LETTER}.])-([0-9{LETTER}])", r"\1 \2"),           # a hyphen joins nothing
    (rf"([^{LETTER}])'([^{LETTER}])", r"\1 ' \2"), (rf"([^0-9{LETTER}])'([{LETTER}])", r"\1 ' \2"),
    (rf"([{LETTER}])'([^{LETTER}])", r"\1 ' \2"), (rf"([{LETTER}])'([{LETTER}])", r"\1 '\2"),
    (r"([0-9])'(s)", r"\1 '\2")))


def normalise(words: Words) -> list[str]:
    """METEOR's own tokens of a caption (the tool's option -norm): hyphens and apostrophes split, full stops
    too."""
    line = " " + " ".join(words).lower() + " "
    for pattern, to in RULES:
        line = pattern.sub(to, line)
    tokens, out = line.split(), []
    for i, token in enumerate(tokens):
        if len(token) > 1 and token.endswith("."):
            stem, following = token[:-1], tokens[i + 1] if i + 1 < len(tokens) else ""
            if "." in stem and re.search(f"[{LETTER}]", stem):
                out.append(token.replace(".", ""))
            elif stem in KEEP_DOT or re.match("[a-z]", following) or \
                    (stem == "pp" and re.match("[0-9]", following)):
                out.append(token)
            else:
                out += [stem, "."]
        else:
            out.append(token)
    return [token.replace("\0", ".") for token in out]
