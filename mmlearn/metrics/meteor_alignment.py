"""METEOR's alignment: which words of a candidate and a reference belong together.

Paper: M. Denkowski and A. Lavie (2014), *Meteor Universal: Language Specific Translation Evaluation for Any
Target Language*, WMT, sec. 2.  Survey: none (metrics).
Differs from the paper: nothing for English. The search keeps the official tool's habits (rounding, beam of
40), since they decide between alignments.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmlearn.metrics.cider import stemmed
from mmlearn.metrics.meteor_tables import STAGES, available_stages, paraphrases, synonyms
from mmlearn.metrics.ngrams import Words

SEARCH_WEIGHTS = (1.0, 0.5, 0.5, 0.5)                   # what a match of each stage is worth in the search
BEAM = 40                                               # partial alignments kept
FUNCTION_WORDS = frozenset(  # the words of relative frequency above 1/1000
    """the , . to of and a in that for " is on 's it with was as said at he by be from have has are his but an this
    not i will ’ they ) -rrb- ( -lrb- who their had we which were been more or s its would about new one after you :
    also up when there than $ all out her people she year two - can if last first “ over other ” into some what so --
    no time years could ? 't — '""".split()
)


@dataclass(frozen=True)
class Link:
    """Words ``start … start + length`` of the reference stand for words ``at … at + span`` of the
    candidate."""

    stage: int
    start: int
    length: int
    at: int
    span: int

    @property
    def masks(self) -> tuple[int, int]:
        """The words taken in reference and candidate, as bits."""
        return ((1 << self.length) - 1) << self.start, ((1 << self.span) - 1) << self.at


@dataclass
class Partial:
    """A partial alignment of the search, up to some word of the reference."""

    links: dict[int, Link]
    taken: tuple[int, int]          # words in use: reference, candidate (bits)
    covered_h: int = 0              # weighted words covered, rounded down after each link
    covered_r: int = 0
    chunks: int = 0                 # finished runs of links that are adjacent on both sides
    next: int = 0                   # next word of the reference
    end: int = -1                   # word of the candidate after the running chunk; -1 outside a chunk
    distance: int = 0

    def key(self) -> tuple[int, int, int]:
        """Smaller is better: most words covered, then fewest chunks, then shortest crossings."""
        return -(self.covered_h + self.covered_r), self.chunks, self.distance

    def add(self, link: Link) -> None:
        """Append a link that starts at ``self.next``."""
        weight = SEARCH_WEIGHTS[link.stage]
        self.covered_h = int(self.covered_h + link.span * weight)
        self.covered_r = int(self.covered_r + link.length * weight)
        self.chunks += self.end not in (-1, link.at)
        self.next, self.end = link.start + link.length, link.at + link.span

    def close(self) -> None:
        """End the running chunk, if there is one."""
        self.chunks += self.end != -1
        self.end = -1


class Aligner:
    """eq:meteor-alignment: finds which words of candidate and reference belong together.

    ``words`` are all the words that will occur: only their part of the paraphrase table is kept.
    """

    def __init__(self, stages: Sequence[str] = ("exact", "stem"), words: Iterable[str] = ()) -> None:
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown:
            raise ValueError(f"stage {unknown[0]!r} is unknown; use some of {', '.join(STAGES)}")
        missing = [stage for stage in stages if stage not in available_stages()]
        if missing:
            raise FileNotFoundError(f"the METEOR stage {missing[0]!r} needs a table of the official tool "
                                    f"that is not "
                                    "here; pip install pycocoevalcap")
        self.stages = tuple(stages)
        self.phrases = paraphrases(words) if "paraphrase" in stages else {}
        self.longest = max((len(phrase) for phrase in self.phrases), default=0)

    def statistics(self, candidate: Words, reference: Words) -> tuple[float, ...]:
        """The 23 statistics of the best alignment of two normalised captions."""
        counts = [[0.0] * 4 for _ in STAGES]
        functions = [[word in FUNCTION_WORDS for word in words] for words in (candidate, reference)]
        links = self.align(candidate, reference)
        chunks, end, after = 0, -1, -1
        for link in links:
            for side, first, size in ((0, link.at, link.span), (1, link.start, link.length)):
                for word in range(first, first + size):
                    counts[link.stage][side + 2 * functions[side][word]] += 1
            chunks += not (link.start == after and link.at == end)
            end, after = link.at + link.span, link.start + link.length
        matched = [float(sum(link.span for link in links)), float(sum(link.length for link in links))]
        return (float(len(candidate)), float(len(reference)), float(sum(functions[0])),
                float(sum(functions[1])),
                *(count for stage in counts for count in stage), float(chunks), *matched)

    def align(self, candidate: Words, reference: Words) -> list[Link]:
        """The links of the best alignment, in the order of the reference."""
        places: list[list[Link]] = [[] for _ in reference]
        stages = self.stages[:1] if list(candidate) == list(reference) else self.stages
        for link in self._links(candidate, reference, stages):
            places[link.start].append(link)
        best = search(places, self._certain(places, len(candidate)))
        return [best.links[start] for start in sorted(best.links)]

    def _links(self, candidate: Words, reference: Words, stages: Sequence[str]) -> Iterable[Link]:
        """All links, stage by stage."""
        for stage in stages:
            k = STAGES.index(stage)
            if stage == "paraphrase":
                for i, length, j, span in self._paraphrased(reference, candidate):
                    yield Link(k, i, length, j, span)
                for j, span, i, length in self._paraphrased(candidate, reference):
                    yield Link(k, i, length, j, span)
                continue
            keys: dict[str, Callable[[str], frozenset]] = {"exact": frozenset_of_word,
                                                           "stem": frozenset_of_stem,
                                                           "synonym": synonyms}
            of = keys[stage]
            theirs = [of(word) for word in candidate]
            for i, word in enumerate(reference):
                own = of(word)
                for j, other in enumerate(candidate):
                    if (stage == "exact" or word != other) and not own.isdisjoint(theirs[j]):
                        yield Link(k, i, 1, j, 1)

    def _paraphrased(self, source: Words, target: Words) -> Iterable[tuple[int, int, int, int]]:
        """(start, length, start there, length there) of phrases of ``source`` with a paraphrase in
        ``target``."""
        for i in range(len(source)):
            for length in range(1, min(self.longest, len(source) - i) + 1):
                for phrase in self.phrases.get(tuple(source[i:i + length]), ()):
                    for j in range(len(target) - len(phrase) + 1):
                        if tuple(target[j:j + len(phrase)]) == phrase:
                            yield i, length, j, len(phrase)

    @staticmethod
    def _certain(places: list[list[Link]], candidate_length: int) -> Partial:
        """A start for the search: links that no other link competes with."""
        cover_r, cover_h = np.zeros(len(places), dtype=int), np.zeros(candidate_length, dtype=int)
        for link in (link for links in places for link in links):
            cover_r[link.start:link.start + link.length] += 1
            cover_h[link.at:link.at + link.span] += 1
        start = Partial({}, (0, 0))
        for links in places:
            if len(links) == 1:
                (link,) = links
                if (cover_r[link.start:link.start + link.length] == 1).all() and \
                        (cover_h[link.at:link.at + link.span] == 1).all():
                    r, h = link.masks
                    start.links[link.start] = link
                    start.taken = (start.taken[0] | r, start.taken[1] | h)
        return start


def search(places: list[list[Link]], start: Partial) -> Partial:
    """Beam search over the reference from left to right: each word is linked in one of its ways, or
    skipped."""
    beam = [start]
    for i, links in enumerate(places):
        after: list[Partial] = []
        for partial in sorted(beam, key=Partial.key)[:BEAM]:
            if partial.taken[0] >> i & 1:                       # inside a link, or at a certain one
                if partial.next == i:
                    link = partial.links[i]
                    partial.add(link)
                    partial.distance += abs(link.start - link.at)
                after.append(partial)
                continue
            for link in links:
                r, h = link.masks
                if partial.taken[0] & r or partial.taken[1] & h:
                    continue
                child = Partial(partial.links | {i: link}, (partial.taken[0] | r, partial.taken[1] | h),
                                partial.covered_h, partial.covered_r, partial.chunks, partial.next,
                                partial.end,
                                partial.distance)
                child.add(link)
                partial.distance += abs(link.start - link.at)  # the tool charges the one that skips; so do we
                after.append(child)
            partial.close()
            partial.next += 1
            after.append(partial)
        beam = after
    beam = sorted(beam, key=Partial.key)[:BEAM]
    for partial in beam:
        partial.close()
    return min(beam, key=Partial.key)


def frozenset_of_word(word: str) -> frozenset[str]:
    """What the stage "exact" compares: the word."""
    return frozenset((word,))


@lru_cache(maxsize=100_000)
def frozenset_of_stem(word: str) -> frozenset[str]:
    """What the stage "stem" compares: the Snowball stem."""
    return frozenset((stemmed(word),))
