"""What a generator makes of the sentences of a split: pictures are drawn, and a classifier reads off them
what the sentences ask for.

Paper: S. Reed et al. (2016), *Generative Adversarial Text to Image Synthesis*, arXiv:1605.05396, sec. 5
(classes that were never seen in training).  Survey: 2.1.2.
Differs from the paper: it shows pictures of unseen classes; here a network, which was trained on real
pictures alone, counts which attributes are right.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.data.pairs import PairData
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.things import attributes_of, halves, side_scenes
from mmlearn.metrics.generation import Score, bootstrap
from mmlearn.metrics.text_match import attribute_hits
from mmlearn.nn.feature_networks import SceneClassifier
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image.painting import Drawer


class Reading(NamedTuple):
    """What a classifier reads off drawn pictures, a row a sentence and a column a sample: for each attribute
    the number of its value, and ``hits``, 1 where it is the one asked for (also of "all" together)."""

    answers: dict[str, Int[Tensor, "n s"]]
    hits: dict[str, Float[Tensor, "n s"]]

    def of(self, rows: Sequence[int]) -> dict[str, float]:
        """Accuracies over some of the sentences."""
        return {name: float(values[list(rows)].mean()) for name, values in self.hits.items()}


def read_drawings(model: Drawer, judge: SceneClassifier, data: PairData, samples: int = 1,
                  seed: int = 0, batch: int = 50) -> Reading:
    """Draw ``samples`` pictures of the first sentence of each row of ``data``, the plain one that
    ``thing_pairs`` puts there, and have ``judge`` read them.

    A function of ``seed``. Raises ``ValueError`` without a sample or a scene that says what is asked for, and
    for categories that are never drawn in training, which the classifier does not know.
    """
    asked = _asked(data.scenes, samples)
    (answers,) = _answers(model, judge, data, samples, seed, batch, lambda drawn: [drawn])
    hits = attribute_hits(answers, asked)
    return Reading({name: values.view(-1, samples) for name, values in answers.items()},
                   {name: values.double().view(-1, samples) for name, values in hits.items()})


def read_two(model: Drawer, judge: SceneClassifier, data: PairData, samples: int = 1, seed: int = 0,
             batch: int = 50) -> Reading:
    """``read_drawings`` of pictures of two things, as ``two_things`` makes them, by a judge of ``halves``.

    Answers are those of "left category", "right category" and so on; hits are "left" and "right", 1 where
    category and colour of the thing on that side are right, "both", and "setting", read in both halves.
    """
    asked = [_asked(scenes, samples) for scenes in side_scenes(data.scenes)]
    answers = _answers(model, judge, data, samples, seed, batch, lambda drawn: list(halves(drawn).chunk(2)))
    hits = [attribute_hits(found, wanted) for found, wanted in zip(answers, asked)]
    left, right = (found["category"] & found["colour"] for found in hits)
    said = {"left": left, "right": right, "both": left & right,
            "setting": hits[0]["setting"] & hits[1]["setting"]}
    return Reading({f"{side} {name}": values.view(-1, samples)
                    for side, found in zip(("left", "right"), answers) for name, values in found.items()},
                   {name: values.double().view(-1, samples) for name, values in said.items()})


def _asked(scenes: Sequence[Scene], samples: int) -> dict[str, Tensor]:
    """What the sentence of each picture of one thing asks for."""
    if samples < 1 or not scenes:
        raise ValueError(f"{samples} samples of {len(scenes)} scenes; give one of each at least, scenes "
                         f"as thing_pairs makes them")
    wanted = attributes_of(scenes)
    if unknown := [i for i, value in enumerate(wanted["category"].tolist()) if value < 0]:
        raise ValueError(f"sentence {unknown[0]} asks for a {scenes[unknown[0]].objects[0].category}, "
                         f"which is never drawn in training; take a split without such things")
    return {name: values.repeat_interleave(samples) for name, values in wanted.items()}


def _answers(model: Drawer, judge: SceneClassifier, data: PairData, samples: int, seed: int, batch: int,
             views: Callable[[Tensor], list[Tensor]]) -> list[dict[str, Tensor]]:
    """The judge's answers about each view of what is drawn, a number a picture."""
    parts: list[list[dict[str, Tensor]]] = []
    with eval_mode(judge) as device:
        for drawn in model.draw([captions[0] for captions in data.captions], samples,
                                seed).split(samples * batch):
            parts.append([judge.answers(view.to(device)) for view in views(drawn)])
    return [{name: torch.cat([part[i][name].cpu() for part in parts]) for name in view}
            for i, view in enumerate(parts[0])]


def drawing_scores(reading: Reading, judge: str = SceneClassifier.name, repeats: int = 200,
                   generator: torch.Generator | None = None) -> dict[str, Score]:
    """Accuracy of each attribute, and of "all" together, with bootstrap intervals.

    Sentences are drawn again, not pictures: samples of one sentence are alike. One sentence has no interval.
    """
    def score(name: str, hits: Float[Tensor, "n s"]) -> Score:
        means, pictures = hits.mean(dim=1), hits.numel()
        if len(means) < 2:
            return Score(name, float(means.mean()), judge, pictures)
        found = bootstrap(lambda rows: float(means[rows].mean()), len(means), repeats, generator=generator)
        return Score(name, found.value, judge, pictures, low=found.low, high=found.high)

    return {name: score(name, hits) for name, hits in reading.hits.items()}
