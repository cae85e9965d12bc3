"""METEOR 1.5: align candidate and reference word by word, also by stem, synonym and paraphrase.

Paper: M. Denkowski and A. Lavie (2014), *Meteor Universal: Language Specific Translation Evaluation for Any Target
Language*, WMT.  Survey: none (metrics).
Differs from the paper: nothing for English, task "rank", where the tables of the official tool are installed (they
come with the package pycocoevalcap); without them only the stages "exact" and "stem" run, and the score is a lower
bound. The alignment search keeps the tool's habits (rounding, beam of 40), since they decide between alignments.
"""

import gzip
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmlearn.metrics.cider import stemmed
from mmlearn.metrics.ngrams import Words, check_pairs

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75      # recall, shape and size of the penalty, content words
STAGES = ("exact", "stem", "synonym", "paraphrase")
WEIGHTS = (1.0, 0.6, 0.8, 0.6)                          # w_k, what a match of each stage is worth in the score
SEARCH_WEIGHTS = (1.0, 0.5, 0.5, 0.5)                   # and in the search for the alignment
BEAM = 40                                               # partial alignments kept
FUNCTION_WORDS = frozenset(                             # the words of relative frequency above 1/1000
    """the , . to of and a in that for " is on 's it with was as said at he by be from have has are his but an this
    not i will ’ they ) -rrb- ( -lrb- who their had we which were been more or s its would about new one after you :
    also up when there than $ all out her people she year two - can if last first “ over other ” into some what so --
    no time years could ? 't — '""".split())


@dataclass(frozen=True)
class MeteorResult:
    """METEOR of a corpus and of its images, with the counts of the chosen reference and the stages that ran.

    The 23 numbers of ``statistics`` are: words of candidate and reference, function words of both; for each stage
    content words matched in both and function words matched in both; chunks, words matched in both.
    """

    corpus: float                                       # the formula on the summed statistics, not a mean
    per_image: Float[np.ndarray, "i"]
    statistics: Float[np.ndarray, "i 23"]
    stages: tuple[str, ...]


def meteor(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]], stages: Sequence[str] | None = None
) -> MeteorResult:
    """eq:meteor: METEOR of tokenised, lower-case candidates against the best of their references.

    ``stages`` defaults to all that can run here (``available_stages``). The paraphrase table is read once a call,
    which takes some seconds. Raises ``ValueError`` for an unknown stage, ``FileNotFoundError`` for one whose table
    is missing.
    """
    check_pairs(candidates, references)
    used = tuple(available_stages() if stages is None else stages)
    hypotheses = [normalise(words) for words in candidates]
    targets = [[normalise(words) for words in refs] for refs in references]
    aligner = Aligner(used, {word for line in hypotheses for word in line}
                      | {word for refs in targets for line in refs for word in line})
    chosen = [max((aligner.statistics(h, r) for r in refs), key=meteor_score)        # max keeps the first of equals
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


# ---------------------------------------------------------------------------------------------- alignment

@dataclass(frozen=True)
class Link:
    """Words ``start … start + length`` of the reference stand for words ``at … at + span`` of the candidate."""

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
            raise FileNotFoundError(f"the METEOR stage {missing[0]!r} needs a table of the official tool that is not "
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
        return (float(len(candidate)), float(len(reference)), float(sum(functions[0])), float(sum(functions[1])),
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
            keys: dict[str, Callable[[str], frozenset]] = {"exact": frozenset_of_word, "stem": frozenset_of_stem,
                                                           "synonym": synonyms}
            of = keys[stage]
            theirs = [of(word) for word in candidate]
            for i, word in enumerate(reference):
                own = of(word)
                for j, other in enumerate(candidate):
                    if (stage == "exact" or word != other) and not own.isdisjoint(theirs[j]):
                        yield Link(k, i, 1, j, 1)

    def _paraphrased(self, source: Words, target: Words) -> Iterable[tuple[int, int, int, int]]:
        """(start, length, start there, length there) of phrases of ``source`` with a paraphrase in ``target``."""
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
    """Beam search over the reference from left to right: each word is linked in one of its ways, or skipped."""
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
                                partial.covered_h, partial.covered_r, partial.chunks, partial.next, partial.end,
                                partial.distance)
                child.add(link)
                partial.distance += abs(link.start - link.at)   # the tool charges the one that skips; so do we
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


# ------------------------------------------------------------------------------------------------- tables

def table(name: str) -> Path | None:
    """Where a file of the official tool lies inside the installed package pycocoevalcap, if it is there."""
    spec = find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, "meteor", name)).is_file():
            return path
    return None


def available_stages() -> tuple[str, ...]:
    """The stages whose tables are installed: always "exact" and "stem", the others with pycocoevalcap."""
    return STAGES[:2] + ("synonym",) * bool(table("meteor-1.5.jar")) + \
        ("paraphrase",) * bool(table("data/paraphrase-en.gz"))


@lru_cache(maxsize=1)
def wordnet() -> tuple[dict[str, frozenset[int]], dict[str, list[str]]]:
    """Synsets of each word, and the base forms of irregular ones, from the tool's archive."""
    path = table("meteor-1.5.jar")
    if path is None:
        raise FileNotFoundError("WordNet synonyms need the archive meteor-1.5.jar; pip install pycocoevalcap")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("synonym/english.synsets").decode("utf-8").splitlines()
        synsets = {word: frozenset(map(int, numbers.split())) for word, numbers in zip(lines[::2], lines[1::2])}
        lines = archive.read("synonym/english.exceptions").decode("utf-8").splitlines()
    bases: dict[str, list[str]] = {}
    for base, forms in zip(lines[::2], lines[1::2]):
        for form in forms.split():
            bases.setdefault(form, []).append(base)
    return synsets, bases


# WordNet's rules of detachment: nouns, verbs, adjectives
ENDINGS = (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
           ("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
           ("ing", ""), ("er", ""), ("est", ""), ("er", "e"), ("est", "e"))


@lru_cache(maxsize=100_000)
def synonyms(word: str) -> frozenset[int]:
    """Numbers of the WordNet synsets of a word and of its base form; two words that share one are synonyms."""
    synsets, bases = wordnet()
    own = synsets.get(word, frozenset())
    if word in bases:
        return own.union(*(synsets.get(base, ()) for base in bases[word]))
    if word.endswith("ss") or len(word) <= 2:
        return own
    for ending, other in ENDINGS:
        if word.endswith(ending) and (base := word[:len(word) - len(ending)] + other) in synsets:
            return own | synsets.get(base + ("ful" if word.endswith("ful") else ""), frozenset())
    return own


_read: tuple[set[bytes], dict[tuple[str, ...], list[tuple[str, ...]]]] = (set(), {})       # words known, their rows


def paraphrases(words: Iterable[str]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """The part of the paraphrase table that uses no other words: phrase -> its paraphrases, in the table's order.

    The table (5 million rows) is read again only when a word is new, so repeated evaluations are fast.
    """
    global _read
    path = table("data/paraphrase-en.gz")
    if path is None:
        raise FileNotFoundError("paraphrases need the table paraphrase-en.gz; pip install pycocoevalcap")
    known = {word.encode() for word in words}
    if known <= _read[0]:
        return _read[1]
    known |= _read[0]
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    last, keep = b"", False
    with gzip.open(path, "rb") as file, io.BufferedReader(file, 1 << 20) as lines:
        for _, phrase, other in zip(lines, lines, lines):       # probability, phrase, paraphrase; and again
            if phrase != last:
                last, keep = phrase, known.issuperset(phrase.split())
            if keep and known.issuperset(other.split()):
                found.setdefault(tuple(phrase.decode().split()), []).append(tuple(other.decode().split()))
    _read = (known, found)
    return found


# ---------------------------------------------------------------------------------------- normalisation

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
    """METEOR's own tokens of a caption (the tool's option -norm): hyphens and apostrophes split, full stops too."""
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
