r"""The accuracy of visual question answering: ten people's answers, brought to one form, each left out once.

Papers: S. Antol et al. (2015), *VQA: Visual Question Answering*, arXiv:1505.00468; Y. Goyal et al.
(2017), *Making the V in VQA Matter*, arXiv:1612.00837.  Survey: 5.
Differs from the papers: nothing; where they are silent the rules are those of the official evaluator
(``vqaEval.py`` at its last commit, a013f00), its slips included, since published numbers rest on them:

- If all answers to a question are the same text, neither they nor the candidate are normalised: *Yes* is
  wrong where all ten said *yes*.
- *none* becomes 0, *a* alone becomes nothing, and one comma between digits makes **all** marks vanish, where
  otherwise a mark becomes a space (``wi-fi`` is *wi fi*, ``wi-fi 1,000`` is *wifi 1000*).
- A period goes where no digit follows it, also behind a digit, and at most 32 go from one answer.
- Leaving a person out leaves out all records that are equal to this one, id and confidence included.
- Numbers are rounded to two digits as its Python 2 rounds, halves away from zero.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Words that must have apostrophes: each is recognised without its apostrophe, or, if it has several, without
# one of them.
_CONTRACTED = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't
mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll
they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's
who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
y'all'd've you'd you'd've you'll you're you've""".split()
# What follows no such rule: three that change nothing or take an apostrophe away, one misspelt.
_ODD = {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd", "whereve": "where've"}


def _contractions() -> dict[str, str]:
    table = dict(_ODD)
    for word in _CONTRACTED:
        for place, letter in enumerate(word):
            if letter == "'":
                table[word[:place] + word[place + 1:]] = word
    return table


CONTRACTIONS = _contractions()
DIGITS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
          "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
ARTICLES = ("a", "an", "the")
MARKS = ";/[]\"{}()=+\\_-><@`,?!"
_PERIOD = re.compile(r"\.(?![0-9])")
_COMMA = re.compile(r"[0-9],[0-9]")
MOST_PERIODS = 32
ENOUGH = 3                      # people who must agree with an answer for it to be right


# ----------------------------------------------------------------------------------- one form for all answers


def without_marks(text: str) -> str:
    """Marks become nothing where one stands beside a space, or where a comma stands between digits anywhere;
    otherwise a space. Then periods go, but for decimal points."""
    numbers = _COMMA.search(text) is not None
    plain = text
    for mark in MARKS:
        gone = numbers or f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if gone else " ")
    return _PERIOD.sub("", plain, count=MOST_PERIODS)


def plain_words(text: str) -> str:
    """Lower case, numbers up to ten as digits, no articles, apostrophes where they are missing, single
    spaces."""
    words = [DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words
                    if word not in ARTICLES)


def trimmed(text: str) -> str:
    """An answer as it is compared where nothing is normalised: without line breaks and tabs, and no space at
    its ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 16)
def normalise_answer(text: str) -> str:
    """An answer in the form in which answers are compared, for instance *Two cats.* as ``2 cats``."""
    return plain_words(without_marks(trimmed(text)))


def comparable(candidate: str, answers: Sequence[str]) -> tuple[str, list[str]]:
    """A candidate and the people's answers as they are compared: normalised, unless all people wrote the
    same."""
    people = [trimmed(answer) for answer in answers]
    if len(set(people)) > 1:
        return normalise_answer(candidate), [normalise_answer(a) for a in people]
    return trimmed(candidate), people


# -------------------------------------------------------------------------------------------------- equations


def leave_one_out(hits: Sequence[bool]) -> float:
    r"""eq:vqa-accuracy: $\frac1n\sum_{i=1}^n\min\big(1,\tfrac13\,|\{j\ne i:a_j=\hat a\}|\big)$: what an
    answer $\hat a$ gets from $n$ people, each left out once; ``hits`` says for each whether $a_j=\hat a$."""
    total = sum(hits)
    return sum(min(1.0, (total - hit) / ENOUGH) for hit in hits) / len(hits)


def accuracy_of_matches(m: int, n: int = 10) -> float:
    r"""eq:vqa-matches: $\frac mn\min\big(1,\tfrac{m-1}3\big)+\frac{n-m}n\min\big(1,\tfrac m3\big)$: the same
    of an answer that $m$ of $n$ people gave; with ten people 0, 0.3, 0.6, 0.9 and then 1."""
    own = min(1.0, max(m - 1, 0) / ENOUGH)
    return (m * own + (n - m) * min(1.0, m / ENOUGH)) / n


def soft_score(m: int) -> float:
    r"""eq:vqa-soft: $\min\big(1,\tfrac m3\big)$: the target in $[0,1]$ that models are trained with for an
    answer that $m$ people gave."""
    return min(1.0, m / ENOUGH)


def human_accuracy(answers: Sequence[str]) -> float:
    r"""eq:vqa-human: $\frac1n\sum_{i=1}^n\min\big(1,\tfrac13\,|\{j\ne i:a_j=a_i\}|\big)$: what the people get
    from each other."""
    people = comparable("", answers)[1]
    worth = [soft_score(people.count(one) - 1) for one in people]
    return sum(worth) / len(people)


# ---------------------------------------------------------------------------------------------- one question


def vqa_accuracy(candidate: str, answers: Sequence[str | Mapping[str, Any]]) -> float:
    """What a candidate gets (eq:vqa-accuracy), from 0 to 1.

    ``answers`` are texts, one of each person, or the records of a VQA file with "answer": there equal records
    are left out together, as officially. Raises ``ValueError`` where there is no answer to compare with.
    """
    if not answers:
        raise ValueError("there is no answer to compare with; give those of at least one person")
    texts = [answer if isinstance(answer, str) else answer["answer"] for answer in answers]
    guess, people = comparable(candidate, texts)
    hits = [one == guess for one in people]
    ids = [answer.get("answer_id") for answer in answers if not isinstance(answer, str)]
    if {int}.issuperset(map(type, ids)) and len(set(ids)) == len(ids):
        return leave_one_out(hits)                              # the usual case: people have numbers
    # what tells two people apart: their place, or in records all that a record holds beside its answer
    keys = [(i,) if isinstance(answer, str) else (people[i], *_rest(answer)) for i, answer in
            enumerate(answers)]
    if len(set(keys)) == len(keys):
        return leave_one_out(hits)
    total = sum(hits)
    left = {key: sum(hit for hit, other in zip(hits, keys) if other == key) for key in set(keys)}
    return sum(min(1.0, (total - left[key]) / ENOUGH) for key in keys) / len(keys)


def _rest(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((str(name), repr(value)) for name, value in record.items() if name != "answer"))


def best_answer(answers: Sequence[str]) -> str:
    """The answer that most people gave, in the form in which answers are compared; of equals the first."""
    people = [normalise_answer(answer) for answer in answers]
    return max(dict.fromkeys(people), key=people.count)


# --------------------------------------------------------------------------------------------- many questions


@dataclass(frozen=True)
class VQAScores:
    """Accuracies from 0 to 1: over all questions, by question type, by answer type, and of each question."""

    overall: float
    by_question_type: dict[str, float] = field(default_factory=dict)
    by_answer_type: dict[str, float] = field(default_factory=dict)
    each: dict[Any, float] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """The official table: percentages with two digits, under the official names."""
        return {"overall": percent(self.overall),
                "perQuestionType": {kind: percent(v) for kind, v in self.by_question_type.items()},
                "perAnswerType": {kind: percent(v) for kind, v in self.by_answer_type.items()}}


def percent(share: float | int) -> float:
    """A share as a percentage with two digits; a half is rounded up, as Python 2 did."""
    return float(Decimal(100 * float(share)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def vqa_scores(questions: Iterable[Mapping[str, Any]], results: Mapping[Any, str]) -> VQAScores:
    """The accuracies of ``results``, an answer for each question id.

    A question is a record of a VQA annotation file: "question_id", "question_type", "answer_type" and
    "answers", records with "answer". Raises ``ValueError`` without questions and for one without a result.
    """
    each: dict[Any, float] = {}
    by_question: dict[str, list[float]] = {}
    by_answer: dict[str, list[float]] = {}
    for question in questions:
        key = question["question_id"]
        if key not in results:
            raise ValueError(f"question {key!r} has no result; give one for each question")
        each[key] = score = vqa_accuracy(results[key], question["answers"])
        by_question.setdefault(question["question_type"], []).append(score)
        by_answer.setdefault(question["answer_type"], []).append(score)
    if not each:
        raise ValueError("there are no questions; give at least one")
    return VQAScores(_mean(list(each.values())), {kind: _mean(v) for kind, v in by_question.items()},
                     {kind: _mean(v) for kind, v in by_answer.items()}, each)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def soft_targets(answers: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> Float[Tensor, "n c"]:
    """Training targets (eq:vqa-soft) of n questions for the c answers of a vocabulary; answers outside it are
    lost."""
    place = {normalise_answer(word): i for i, word in enumerate(vocabulary)}
    targets = torch.zeros(len(answers), len(vocabulary))
    for row, people in enumerate(answers):
        given = [normalise_answer(answer) for answer in people]
        for answer in set(given) & place.keys():
            targets[row, place[answer]] = soft_score(given.count(answer))
    return targets
