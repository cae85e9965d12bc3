r"""Visual commonsense reasoning in the scene world: a question, four answers, and four reasons for the right
one.

Paper: R. Zellers et al. (2019), *From Recognition to Cognition*, arXiv:1811.10830, sec. 2 and 4 (adversarial
matching); K. Ye and A. Kovashka (2021), *A Case Study of the Shortcut Effects in Visual Commonsense
Reasoning*, AAAI (what a model can do without looking).  Survey: 5.
Differs from the papers: questions, answers and reasons are written by a grammar about two things of a scene;
``[0]`` and ``[1]`` in a text are tags of these, as VCR's tags point at boxes. Wrong choices are, as there,
right ones of other questions, found by matchings of the largest weight (eq:vcr-weight), their tags made those
of the question. Two networks estimate relevance and similarity there; here relevance is how many of the words
are true of something in the picture, and similarity is known: what would be right as well is never chosen,
but what is true and beside the matter may be.
Each right choice is a wrong one three times, so that choices alone, without question or picture, give nothing
away. The weight of the similarity is 1 here. Not verified against the paper's text: the letters of
eq:vcr-weight and how its weight was chosen there.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mmlearn.data.pairs import SIZE, draw_scenes
from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.scenes.graph import Scene, SceneObject
from mmlearn.data.scenes.language import HYPERNYMS, RELATION_WORDS, Dice, article
from mmlearn.data.scenes.sample import SPLITS, sample_scene
from mmlearn.metrics.vcr import CHOICES, VCRScores, vcr_scores

FAMILIES = ("where", "common", "larger")
QUESTIONS = {"where": "Where is [0], seen from [1]?", "common": "What do [0] and [1] have in common?",
             "larger": "Why does [0] take up more room than [1]?"}
PREDICATES = ("left of", "right of", "above", "below", "in front of", "behind")
COLUMNS = ("on the left", "in the middle", "on the right")
ROWS = ("at the top", "at half height", "at the bottom")
AREAS = ((0.03, "less than a thirtieth"), (0.06, "about a twentieth"), (0.12, "about a tenth"),
         (0.2, "about a sixth"), (1.0, "more than a fifth"))
LARGER = 1.8                    # how many times as large a thing must be to be called larger
FORBIDDEN = -1e6                # the weight of a choice that would be right as well
BUCKET = 120                    # questions that are matched with each other


class Claim(NamedTuple):
    """What a choice says, apart from words: its form and its values. ``[0]`` and ``[1]`` are two things."""

    form: str                   # relation, share, kinds; places, hides, looks, areas
    values: tuple[str, ...]

    def text(self) -> str:
        """The claim in words, with tags."""
        one, two = (*self.values, "", "")[:2]
        match self.form:
            case "relation":
                return f"[0] is {RELATION_WORDS[one][0]} [1]."
            case "share":
                return f"Both are {two}."
            case "kinds":
                return f"[0] is {article(one)} {one}, and [1] is only {article(two)} {two}."
            case "places":
                return f"[0] is {one} of the picture, and [1] is {two}."
            case "hides":
                return "[0] hides a part of [1]." if one == "0" else "[1] hides a part of [0]."
            case "looks":
                return f"[0] is {one}, and [1] is {two}."
        return f"[0] fills {one} of the picture, and [1] fills {two}."

    def holds(self, scene: Scene, first: int, second: int) -> bool:
        """Whether it is true of the things of these numbers in a scene."""
        i, j = scene.objects[first], scene.objects[second]
        match self.form:
            case "relation":
                return _related(scene, first, self.values[0], second)
            case "share":
                return tuple(self.values) in _shared(i, j)
            case "kinds":
                return self.values == (i.category, j.category)
            case "places":
                return self.values in ((_column(i), _column(j)), (_row(i), _row(j)))
            case "hides":
                return _related(scene, first, "in front of" if self.values[0] == "0" else "behind", second)
            case "looks":
                return self.values == (_look(i), _look(j))
        return self.values == (_area(i), _area(j))

    @property
    def topic(self) -> str:
        """What it is about: its form, of places also whether from left to right or from top to bottom."""
        return self.form + (" across" if self.values[0] in COLUMNS else "")

    def words(self) -> frozenset[str]:
        """The words of the text that say something."""
        return frozenset(re.findall(r"[a-z]+", self.text().lower())) - _EMPTY


_EMPTY = frozenset("a an and the is are of to in on it both only has".split())


def _related(scene: Scene, subject: int, predicate: str, other: int) -> bool:
    return any((r.subject, r.predicate, r.object) == (subject, predicate, other) for r in scene.relations)


def _column(thing: SceneObject) -> str:
    return COLUMNS[min(2, int(3 * max(0.0, thing.x)))]


def _row(thing: SceneObject) -> str:
    return ROWS[min(2, int(3 * max(0.0, thing.y)))]


def _area(thing: SceneObject) -> str:
    return next((words for most, words in AREAS if thing.width * thing.height < most), AREAS[-1][1])


def _look(thing: SceneObject) -> str:
    if thing.category == "person":
        return f"a person in {thing.colour}"
    return f"{article(thing.colour)} {thing.colour} {thing.category}"


def _shared(i: SceneObject, j: SceneObject) -> list[tuple[str, str]]:
    """What two things have in common: kinds of properties and what is said of them."""
    found = [(name, getattr(i, name)) for name, usual in (("colour", ""), ("size", "medium"),
                                                           ("texture", "plain"))
             if getattr(i, name) == getattr(j, name) != usual]
    kinds = [CATEGORY[thing.category].supercategory for thing in (i, j)]
    if kinds[0] == kinds[1] and kinds[0] in HYPERNYMS:
        found.append(("kind", HYPERNYMS[kinds[0]][1]))
    return found


# ---- questions with their right answer and reason ----------------------------------------------------------

@dataclass(frozen=True)
class Reasoned:
    """A question about two things of a scene, its answer, and the reason."""

    scene: int                  # number of the scene in its set
    things: tuple[int, int]     # numbers of [0] and [1] among its objects
    family: str                 # one of ``FAMILIES``
    answer: Claim
    reason: Claim


def reasoned(scene: Scene, number: int = 0) -> list[Reasoned]:
    """All questions that may be asked of a scene: each has one right answer, and a reason that is seen."""
    found = []
    for i, one in enumerate(scene.objects):
        for j, other in enumerate(scene.objects):
            if i == j:
                continue
            holding = [p for p in PREDICATES if _related(scene, i, p, j)]
            if len(holding) == 1 and (reason := _reason_of_place(holding[0], one, other)):
                found.append(Reasoned(number, (i, j), "where", Claim("relation", (holding[0],)), reason))
            looks = Claim("looks", (_look(one), _look(other)))
            if i < j and len(shared := _shared(one, other)) == 1:
                found.append(Reasoned(number, (i, j), "common", Claim("share", shared[0]), looks))
            areas = Claim("areas", (_area(one), _area(other)))
            if (one.category != other.category and areas.values[0] != areas.values[1]
                    and one.width * one.height > LARGER * other.width * other.height):
                kinds = Claim("kinds", (one.category, other.category))
                found.append(Reasoned(number, (i, j), "larger", kinds, areas))
    return found


def _reason_of_place(predicate: str, one: SceneObject, other: SceneObject) -> Claim | None:
    if predicate in ("in front of", "behind"):
        return Claim("hides", ("0" if predicate == "in front of" else "1",))
    place = _column if predicate in ("left of", "right of") else _row
    values = (place(one), place(other))
    return Claim("places", values) if values[0] != values[1] else None


# ---- adversarial matching ----------------------------------------------------------------------------------

def matching_weight(
    relevance: Float[np.ndarray, "n m"],
    similarity: Float[np.ndarray, "n m"],
    weight: float | int = 1.0,
) -> Float[np.ndarray, "n m"]:
    r"""eq:vcr-weight: $W_{ij}=\log P_{rel}(q_i,r_j)+\lambda\log\big(1-P_{sim}(r_i,r_j)\big)$: how good a
    wrong choice for question $i$ the right choice of question $j$ is; very bad where both would be right."""
    unlike = np.log(np.maximum(1 - similarity, 1e-300))
    W = np.log(relevance) + weight * unlike
    return np.where(similarity >= 1, FORBIDDEN, W)


def assignment(cost: Float[np.ndarray, "n n"]) -> Int[np.ndarray, " n"]:
    """The column of each row such that every column is taken once and the sum of costs is the least.

    H. W. Kuhn (1955), *The Hungarian method for the assignment problem*: row after row finds its shortest
    augmenting path, with prices of rows and columns that keep all reduced costs at 0 or more.
    """
    n = len(cost)
    rows, columns = np.zeros(n), np.zeros(n + 1)            # prices; column n is where a path starts
    owner = np.full(n + 1, -1)
    for row in range(n):
        owner[n], column = row, n
        least, before = np.full(n, np.inf), np.full(n, n)
        seen = np.zeros(n + 1, dtype=bool)
        while owner[column] >= 0:
            seen[column] = True
            i = owner[column]
            reduced = cost[i] - rows[i] - columns[:n]
            better = (reduced < least) & ~seen[:n]
            least[better], before[better] = reduced[better], column
            target = int(np.where(seen[:n], np.inf, least).argmin())
            step = least[target]
            rows[owner[seen]] += step
            columns[seen] -= step
            least[~seen[:n]] -= step
            column = target
        while column != n:
            owner[column] = owner[before[column]]
            column = int(before[column])
    found = np.empty(n, dtype=int)
    found[owner[:n]] = np.arange(n)
    return found


def adversarial_choices(asked: Sequence[Reasoned], scenes: Sequence[Scene],
                        right: Callable[[Reasoned], Claim]) -> list[list[Claim] | None]:
    """Three wrong choices for each question, all different: in three rounds each right choice becomes a wrong
    one of another question. None where a question found none that is wrong."""
    claims = [right(one) for one in asked]
    if not asked:
        return []
    kinds = {claim: i for i, claim in enumerate(dict.fromkeys(claims))}
    words = [claim.words() for claim in kinds]
    place = [kinds[claim] for claim in claims]
    relevance, similarity = np.empty((2, len(asked), len(kinds)))
    for i, (one, mine) in enumerate(zip(asked, claims)):
        scene, own = scenes[one.scene], words[place[i]]
        there = _words_of(scene)
        for j, claim in enumerate(kinds):
            relevance[i, j] = 0.1 + 0.9 * len(words[j] & there) / max(1, len(words[j]))
            alike = len(own & words[j]) / max(1, len(own | words[j]))
            similarity[i, j] = 1.0 if right_as_well(claim, one, mine, scene) else alike / 2
    relevance, similarity = relevance[:, place], similarity[:, place]
    wrong: list[list[Claim]] = [[] for _ in asked]
    spoilt: set[int] = set()
    for _ in range(CHOICES - 1):
        taken = np.array([[claim in mine for claim in claims] for mine in wrong])
        W = matching_weight(relevance, np.where(taken, 1.0, similarity))
        for i, j in enumerate(assignment(-W)):
            if W[i, j] <= FORBIDDEN:
                spoilt.update((i, int(j)))
            wrong[i].append(claims[j])
    return [None if i in spoilt else found for i, found in enumerate(wrong)]


def right_as_well(claim: Claim, one: Reasoned, mine: Claim, scene: Scene) -> bool:
    """Whether a claim would do in the place of the right one: it is true and about the same matter. A reason
    that is true and beside the matter is a fair wrong choice."""
    return claim.topic == mine.topic and claim.holds(scene, *one.things)


def _words_of(scene: Scene) -> set[str]:
    """Words that are true of something in the scene."""
    return {word for o in scene.objects
            for phrase in (o.category, o.colour, o.size, o.texture, _column(o), _row(o), _area(o))
            for word in phrase.split()}


# ---- sets of problems --------------------------------------------------------------------------------------

@dataclass(frozen=True)
class VCRProblem:
    """A question, four answers and four reasons for the right answer. ``[2]`` in a text is ``objects[2]`` of
    the scene."""

    scene: int
    things: tuple[int, int]
    family: str
    question: str
    answers: tuple[str, str, str, str]
    answer: int                 # number of the right answer
    rationales: tuple[str, str, str, str]
    rationale: int              # number of the right reason

    def box(self, scene: Scene, which: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a thing of the question, as fractions of the picture."""
        o = scene.objects[self.things[which]]
        return (o.x - o.width / 2, o.y - o.height / 2, o.x + o.width / 2, o.y + o.height / 2)


@dataclass(frozen=True)
class VCRSet:
    """Scenes and problems about them."""

    scenes: tuple[Scene, ...]
    problems: tuple[VCRProblem, ...]

    def __len__(self) -> int:
        return len(self.problems)

    def images(self, size: int = SIZE) -> UInt8[Tensor, "n 3 s s"]:
        """The pictures of all scenes."""
        return draw_scenes(self.scenes, size)

    def scores(self, answers: Sequence[int], rationales: Sequence[int]) -> VCRScores:
        """The three accuracies of chosen answers and reasons."""
        return vcr_scores(torch.tensor(list(answers)), torch.tensor(list(rationales)),
                          torch.tensor([p.answer for p in self.problems]),
                          torch.tensor([p.rationale for p in self.problems]))


def tags(text: str) -> tuple[int, ...]:
    """The numbers of the things that a text points at, in its order."""
    return tuple(map(int, re.findall(r"\[(\d+)\]", text)))


def with_names(text: str, scene: Scene) -> str:
    """A text with categories for tags, for whoever reads it: ``[2]`` becomes *cat [2]*."""
    return re.sub(r"\[(\d+)\]", lambda m: f"{scene.objects[int(m[1])].category} {m[0]}", text)


def vcr_problems(count: int, split: str = "train", *, seed: int = 0, scenes: int | None = None) -> VCRSet:
    """At most ``count`` problems of three families, a function of the arguments.

    ``scenes`` is the number of pictures, if not given one for each problem, at least 100. As many questions
    are left out as it takes for every choice to be a right one once and a wrong one three times. Raises
    ``ValueError`` for an unknown split, for fewer than 30 problems, and for scenes that give no problem.
    """
    if count < 30:
        raise ValueError(f"count is {count}; wrong answers are right ones of others, so ask for at least 30")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")
    if scenes is not None and scenes < 1:
        raise ValueError(f"scenes is {scenes}; give at least 1")
    pool = tuple(sample_scene(seed, i, split) for i in range(scenes or max(100, count)))
    dice = Dice("reasons", seed, split, count)
    candidates: dict[str, list[Reasoned]] = {family: [] for family in FAMILIES}
    for number, scene in enumerate(pool):
        for one in dice.shuffled(reasoned(scene, number)):
            candidates[one.family].append(one)
    problems: list[VCRProblem] = []
    for family in FAMILIES:
        wanted, left = count // len(FAMILIES), candidates[family]
        while wanted > 0 and (bucket := _even(left, min(wanted, BUCKET), dice)):
            wanted -= len(bucket)
            used = set(bucket)
            left = [one for one in left if one not in used]
            for one, answers, rationales in _matched(bucket, pool):
                problems.append(_problem(one, answers, rationales, dice))
    if not problems:
        raise ValueError(f"{len(pool)} scenes give no problem with four choices; give more scenes")
    return VCRSet(pool, tuple(dice.shuffled(problems)))


def _even(candidates: Sequence[Reasoned], count: int, dice: Dice) -> list[Reasoned]:
    """About ``count`` questions, no answer of which makes more than a sixth, and no reason."""
    most = max(1, count // 6)
    seen: Counter[Claim] = Counter()
    chosen: list[Reasoned] = []
    for one in dice.shuffled(candidates):
        if len(chosen) < count and max(seen[one.answer], seen[one.reason]) < most:
            seen.update((one.answer, one.reason))
            chosen.append(one)
    return chosen


def _matched(chosen: list[Reasoned], scenes: Sequence[Scene]
             ) -> list[tuple[Reasoned, list[Claim], list[Claim]]]:
    """Questions with their wrong answers and reasons; those that spoil a matching are left out until none
    does."""
    while chosen:
        answers = adversarial_choices(chosen, scenes, lambda one: one.answer)
        reasons = adversarial_choices(chosen, scenes, lambda one: one.reason)
        good = [a is not None and r is not None for a, r in zip(answers, reasons)]
        if all(good):
            return [(one, a, r) for one, a, r in zip(chosen, answers, reasons) if a is not None
                    and r is not None]
        chosen = [one for one, fits in zip(chosen, good) if fits]
    return []


def _problem(one: Reasoned, wrong_answers: list[Claim], wrong_reasons: list[Claim], dice: Dice) -> VCRProblem:
    def tagged(text: str) -> str:
        return re.sub(r"\[([01])\]", lambda m: f"[{one.things[int(m[1])]}]", text)

    def choices(right: Claim, wrong: list[Claim]) -> tuple[tuple[str, str, str, str], int]:
        order = dice.shuffled(range(CHOICES))
        texts = [tagged(claim.text()) for claim in (right, *wrong)]
        first, second, third, fourth = (texts[i] for i in order)
        return (first, second, third, fourth), order.index(0)

    answers, answer = choices(one.answer, wrong_answers)
    rationales, rationale = choices(one.reason, wrong_reasons)
    return VCRProblem(one.scene, one.things, one.family, tagged(QUESTIONS[one.family]), answers, answer,
                      rationales, rationale)


# ---- shortcuts ---------------------------------------------------------------------------------------------

Choosers = tuple[Callable[[VCRProblem], int], Callable[[VCRProblem], int]]


def shortcuts(train: VCRSet, test: VCRSet) -> dict[str, VCRScores]:
    """What three models reach that never look at the picture; 1/4, 1/4 and 1/16 would be guessing.

    "choices only" prefers texts that were often right in training, "most words in common" the choice that
    repeats most of the question (for reasons, of question and right answer), "longest" the longest one.
    """
    return {name: test.scores([answer(p) for p in test.problems], [reason(p) for p in test.problems])
            for name, (answer, reason) in
            {"choices only": _choices_only(train), "most words in common": _OVERLAP,
             "longest": _LONGEST}.items()}


def _plain(text: str) -> str:
    """A text without the numbers of its tags."""
    return re.sub(r"\[\d+\]", "[]", text)


def _largest(values: Sequence[float | int]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], -i))


def _choices_only(train: VCRSet) -> Choosers:
    right: dict[str, Counter[str]] = defaultdict(Counter)
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for p in train.problems:
        for part, texts, place in (("answer", p.answers, p.answer), ("reason", p.rationales, p.rationale)):
            right[part][_plain(texts[place])] += 1
            seen[part].update(map(_plain, texts))

    def score(part: str, text: str) -> float:
        return math.log((right[part][_plain(text)] + 1) / (seen[part][_plain(text)] + CHOICES))

    return (lambda p: _largest([score("answer", text) for text in p.answers]),
            lambda p: _largest([score("reason", text) for text in p.rationales]))


def _common(text: str, other: str) -> int:
    first, second = (Counter(re.findall(r"\[\d+\]|[a-z]+", one.lower())) for one in (text, other))
    return (first & second).total()


_OVERLAP: Choosers = (
    lambda p: _largest([_common(text, p.question) for text in p.answers]),
    lambda p: _largest([_common(text, f"{p.question} {p.answers[p.answer]}") for text in p.rationales]))
_LONGEST: Choosers = (lambda p: _largest([len(text) for text in p.answers]),
                      lambda p: _largest([len(text) for text in p.rationales]))
