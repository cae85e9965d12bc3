"""Visual question answering in the scene world: ten people's answers, balanced pairs, blind baselines.

Papers: S. Antol et al. (2015), *VQA*, arXiv:1505.00468 (ten answers a question); Y. Goyal et al. (2017),
arXiv:1612.00837 (every question with two similar pictures and two answers); A. Agrawal et al. (2018), *Don't
Just Assume; Look and Answer*, arXiv:1712.00377 (splits whose priors differ).  Survey: 5.
Differs from the papers: the right answer is known, and the ten people are simulated (``question_programs``),
so that the official rules of ``metrics.vqa`` have something to do. The second picture of a pair is the one
of another answer that has most facts in common with the first; in VQA v2 a person picks one of the 24 nearest
by CNN features. In a split with changed priors a small share of each answer stays on the other side, where
VQA-CP moves all of it: numbers are asked for by one question type only, and would never be learnt.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmlearn.data.pairs import SIZE, draw_scenes
from mmlearn.data.question_programs import ANSWERS, KINDS, PEOPLE, Program, programs, ten_answers
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import Dice, scene_tuples
from mmlearn.data.scenes.sample import SPLITS, sample_scene
from mmlearn.files import make_folder, write_atomically
from mmlearn.metrics.vqa import VQAScores, best_answer, vqa_scores

__all__ = ["ANSWERS", "BLIND", "KINDS", "PEOPLE", "Program", "VQAPairs", "VQAQuestion", "VQASet",
           "blind_scores", "changed_priors", "image_only_answers", "likeness", "prior_answers", "programs",
           "question_only_answers", "vqa_pairs", "vqa_questions", "write_vqa"]

# ---- sets of questions -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class VQAQuestion:
    """A question about the scene of this number in its set, the right answer, and what ten people wrote."""

    id: int
    scene: int
    program: Program
    answer: str
    answers: tuple[str, ...]
    sure: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.program.text()

    def record(self, image: int) -> dict[str, Any]:
        """The record of VQA v2's annotation file."""
        return {"question_id": self.id, "image_id": image, "question_type": self.program.question_type,
                "answer_type": self.program.answer_type, "multiple_choice_answer": best_answer(self.answers),
                "answers": [{"answer": a, "answer_confidence": c, "answer_id": i + 1}
                            for i, (a, c) in enumerate(zip(self.answers, self.sure))]}


@dataclass(frozen=True)
class VQASet:
    """Scenes and questions about them. Picture ``i`` has the id ``scenes[i].index + 1``, as in an export."""

    scenes: tuple[Scene, ...]
    questions: tuple[VQAQuestion, ...]

    def __len__(self) -> int:
        return len(self.questions)

    def images(self, size: int = SIZE) -> UInt8[Tensor, "n 3 s s"]:
        """The pictures of all scenes."""
        return draw_scenes(self.scenes, size)

    def rows(self, indices: Sequence[int]) -> "VQASet":
        """The questions of these numbers, with all scenes."""
        return VQASet(self.scenes, tuple(self.questions[i] for i in indices))

    def annotations(self) -> dict[str, Any]:
        """VQA v2's annotation file, as ``mmlearn evaluate vqa`` reads it."""
        return {**_HEAD, "annotations": [q.record(self.scenes[q.scene].index + 1) for q in self.questions]}

    def question_file(self) -> dict[str, Any]:
        """VQA v2's file of questions."""
        return {**_HEAD, "task_type": "Open-Ended", "questions": [
            {"question_id": q.id, "image_id": self.scenes[q.scene].index + 1, "question": q.text}
            for q in self.questions]}

    def results(self, answers: Sequence[str]) -> list[dict[str, Any]]:
        """VQA's results file of one answer for each question. Raises ``ValueError`` for more or fewer."""
        if len(answers) != len(self):
            raise ValueError(f"{len(answers)} answers for {len(self)} questions; give one for each")
        return [{"question_id": q.id, "answer": a} for q, a in zip(self.questions, answers)]

    def scores(self, answers: Sequence[str]) -> VQAScores:
        """The official accuracies of one answer for each question."""
        given = {row["question_id"]: row["answer"] for row in self.results(answers)}
        return vqa_scores((q.record(0) for q in self.questions), given)

    def exact(self, answers: Sequence[str]) -> float:
        """The share of answers that are right, whatever people said."""
        self.results(answers)
        return sum(q.answer == a for q, a in zip(self.questions, answers)) / len(self)


_HEAD = {"info": {"description": "questions about the scene world"}, "license": {"name": "CC0 1.0"},
         "data_type": "scenes", "data_subtype": "scenes"}


@dataclass(frozen=True)
class VQAPairs(VQASet):
    """Balanced pairs: questions 2i and 2i+1 are the same question about two scenes, with two answers, so that
    whoever sees no picture is right about at most one of them."""

    def __post_init__(self) -> None:
        for first, second in self.pairs():
            if first.program != second.program or first.answer == second.answer:
                raise ValueError(f"questions {first.id} and {second.id} are no balanced pair; give the same "
                                 f"question with two different answers")

    def pairs(self) -> list[tuple[VQAQuestion, VQAQuestion]]:
        """The pairs of questions."""
        return list(zip(self.questions[::2], self.questions[1::2], strict=True))

    def complementary(self) -> list[list[int]]:
        """The list of pairs of question ids."""
        return [[first.id, second.id] for first, second in self.pairs()]


class _Numbering:
    """Ids as in VQA: a thousand times that of the picture, and a number in it."""

    def __init__(self, scenes: Sequence[Scene], seed: int) -> None:
        self.scenes, self.seed, self.next = scenes, seed, Counter[int]()

    def question(self, place: int, program: Program, answer: str) -> VQAQuestion:
        scene = self.scenes[place]
        key = (scene.index + 1) * 1000 + self.next[place]
        self.next[place] += 1
        dice = Dice("ten people", self.seed, scene.seed, scene.index, scene.split, *program.arguments,
                    program.kind)
        return VQAQuestion(key, place, program, answer, *ten_answers(program, answer, dice))


def _pool(count: int, split: str, seed: int, scenes: int | None) -> tuple[Scene, ...]:
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")
    if scenes is not None and scenes < 2:
        raise ValueError(f"scenes is {scenes}; two pictures are the least that can differ")
    return tuple(sample_scene(seed, i, split) for i in range(scenes or max(100, count)))


def vqa_questions(count: int, split: str = "train", *, seed: int = 0, scenes: int | None = None) -> VQASet:
    """``count`` questions as they come, not balanced: scene after scene, of every kind in turn.

    ``scenes`` is the number of pictures, if not given one for each question, at least 100. A function of its
    arguments. Raises ``ValueError`` for an unknown split and for more questions than the scenes allow.
    """
    pool = _pool(count, split, seed, scenes)
    dice, numbers = Dice("questions", seed, split, count), _Numbering(pool, seed)
    found: list[VQAQuestion] = []
    asked = [_by_kind(programs(scene)) for scene in pool]
    turn = 0
    while len(found) < count and any(asked):
        place = turn % len(pool)
        if kinds := asked[place]:
            kind = dice.pick(sorted(kinds))
            program, answer = kinds[kind].pop(int(dice.random() * len(kinds[kind])))
            if not kinds[kind]:
                del kinds[kind]
            found.append(numbers.question(place, program, answer))
        turn += 1
    if len(found) < count:
        raise ValueError(f"{len(pool)} scenes answer {len(found)} questions, not {count}; ask for fewer, or "
                         f"give more scenes")
    return VQASet(pool, tuple(found))


def _by_kind(found: Iterator[tuple[Program, str]]) -> dict[str, list[tuple[Program, str]]]:
    kinds: dict[str, list[tuple[Program, str]]] = defaultdict(list)
    for program, answer in found:
        kinds[program.kind].append((program, answer))
    return dict(kinds)


def vqa_pairs(count: int, split: str = "train", *, seed: int = 0, scenes: int | None = None) -> VQAPairs:
    """``count`` balanced pairs, of every kind equally many as long as there are some; 2 ``count`` questions.

    ``scenes`` is the number of pictures to choose from, if not given one for each pair, at least 100. A
    function of its arguments. Raises ``ValueError`` for an unknown split and for more pairs than the scenes
    allow.
    """
    pool = _pool(count, split, seed, scenes)
    dice, numbers = Dice("pairs", seed, split, count), _Numbering(pool, seed)
    live = _answered(pool)
    names = {kind: sorted(found) for kind, found in live.items()}
    alike = likeness(pool, pool)
    found: list[VQAQuestion] = []
    turn = 0
    while len(found) < 2 * count and any(names.values()):
        kind = list(KINDS)[turn % len(KINDS)]
        turn += 1
        if not names[kind]:
            continue
        place = int(dice.random() * len(names[kind]))
        program = names[kind][place]
        answers = live[kind][program]
        one = dice.pick(sorted(answers))
        first = dice.pick(answers[one])
        others = sorted((scene, answer) for answer, where in answers.items() if answer != one
                        for scene in where)
        second, other = others[int(alike[first, [scene for scene, _ in others]].argmax())]
        found += [numbers.question(first, program, one), numbers.question(second, program, other)]
        for scene, answer in ((first, one), (second, other)):
            answers[answer].remove(scene)
            if not answers[answer]:
                del answers[answer]
        if len(answers) < 2:
            names[kind].pop(place)
    if len(found) < 2 * count:
        raise ValueError(f"{len(pool)} scenes give {len(found) // 2} balanced pairs, not {count}; ask for "
                         f"fewer, or give more scenes")
    return VQAPairs(pool, tuple(found))


Answered = dict[Program, dict[str, list[int]]]      # program -> answer -> the scenes that give it


def _answered(scenes: Sequence[Scene]) -> dict[str, Answered]:
    """The programs of each kind that have two answers or more among the scenes."""
    table: dict[str, Answered] = {kind: defaultdict(lambda: defaultdict(list)) for kind in KINDS}
    for place, scene in enumerate(scenes):
        for program, answer in programs(scene):
            table[program.kind][program][answer].append(place)
    return {kind: {program: dict(answers) for program, answers in found.items() if len(answers) > 1}
            for kind, found in table.items()}


def likeness(first: Sequence[Scene], second: Sequence[Scene]) -> Float[Tensor, "n m"]:
    """How alike scenes are: facts that two have in common over facts that one of them has, from 0 to 1."""
    facts = [[scene_tuples(scene) for scene in scenes] for scenes in (first, second)]
    known = sorted({fact for sets in facts for one in sets for fact in one})
    place = {fact: i for i, fact in enumerate(known)}
    rows = []
    for sets in facts:
        row = torch.zeros(len(sets), len(place))
        for i, one in enumerate(sets):
            row[i, [place[fact] for fact in one]] = 1
        rows.append(row)
    common = rows[0] @ rows[1].T
    return common / (rows[0].sum(1)[:, None] + rows[1].sum(1)[None] - common).clamp_min(1)


def changed_priors(data: VQASet, *, share: float | int = 0.9, seed: int = 0) -> tuple[VQASet, VQASet]:
    """Two sets in which the same program has different usual answers.

    Of each program every second answer, in random order, goes to the first set with this ``share`` of its
    questions, the others to the second; the rest goes to the other set. Raises ``ValueError`` for a share
    outside 0.5..1.
    """
    if not 0.5 <= share <= 1:
        raise ValueError(f"share is {share}; give a share from 0.5 (the same priors) to 1")
    groups: dict[Program, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, question in enumerate(data.questions):
        groups[question.program][question.answer].append(i)
    sides: tuple[list[int], list[int]] = ([], [])
    for program, answers in sorted(groups.items()):
        dice = Dice("changed priors", seed, program.kind, *program.arguments)
        start = int(dice.random() * 2)
        for number, answer in enumerate(dice.shuffled(sorted(answers))):
            indices = dice.shuffled(answers[answer])
            most = round(share * len(indices))
            side = (start + number) % 2
            sides[side].extend(indices[:most])
            sides[1 - side].extend(indices[most:])
    return data.rows(sorted(sides[0])), data.rows(sorted(sides[1]))


def write_vqa(data: VQASet, folder: str | Path) -> Path:
    """``annotations.json``, ``questions.json`` and, of pairs, ``complementary_pairs.json`` in a folder, which
    is returned."""
    folder = make_folder(folder)
    files: dict[str, Any] = {"annotations": data.annotations(), "questions": data.question_file()}
    if isinstance(data, VQAPairs):
        files["complementary_pairs"] = data.complementary()
    for name, content in files.items():
        write_atomically(folder / f"{name}.json", json.dumps(content))
    return folder


# ---- blind baselines ---------------------------------------------------------------------------------------

def prior_answers(train: VQASet, test: VQASet) -> list[str]:
    """The most usual answer to questions of the same type: no picture, and only the first words."""
    usual = _usual(train, lambda q: q.program.question_type)
    return [usual.get(q.program.question_type, usual[None]) for q in test.questions]


def question_only_answers(train: VQASet, test: VQASet) -> list[str]:
    """The most usual answer to the same question, of an unknown one to its type: no picture."""
    by_type = prior_answers(train, test)
    usual = _usual(train, lambda q: q.program)
    return [usual.get(q.program, other) for q, other in zip(test.questions, by_type)]


def image_only_answers(train: VQASet, test: VQASet, neighbours: int = 10) -> list[str]:
    """The most usual answer to whatever was asked about the most alike scenes, of which all is known: no
    question."""
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; ask at least 1 scene")
    asked: dict[int, Counter[str]] = defaultdict(Counter)
    for question in train.questions:
        asked[question.scene][best_answer(question.answers)] += 1
    places = sorted(asked)
    alike = likeness(test.scenes, [train.scenes[i] for i in places])
    nearest = alike.argsort(dim=1, descending=True, stable=True)[:, :neighbours].tolist()
    totals = [sum((asked[places[j]] for j in row), Counter[str]()) for row in nearest]
    return [_first(totals[q.scene]) for q in test.questions]


def _usual(train: VQASet, key: Callable[[VQAQuestion], Any]) -> dict[Any, str]:
    """The most usual answer for each value of ``key``, and under None that of all questions."""
    counts: dict[Any, Counter[str]] = defaultdict(Counter)
    for question in train.questions:
        answer = best_answer(question.answers)
        counts[key(question)][answer] += 1
        counts[None][answer] += 1
    return {value: _first(count) for value, count in counts.items()}


def _first(count: Counter[str]) -> str:
    """The most frequent answer; of equals the first in the alphabet."""
    return min(count, key=lambda answer: (-count[answer], answer))


BLIND: dict[str, Callable[[VQASet, VQASet], list[str]]] = {
    "prior of the question type": prior_answers, "question only": question_only_answers,
    "image only": image_only_answers}


def blind_scores(train: VQASet, test: VQASet) -> dict[str, VQAScores]:
    """The official accuracies of all blind baselines: what a model has to beat before it can be said to
    look."""
    return {name: test.scores(answers(train, test)) for name, answers in BLIND.items()}
