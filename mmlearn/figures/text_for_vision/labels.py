"""The first screen of chapter 4: a picture, a list of labels to choose, and what CLIP makes of it.

Paper: A. Radford et al. (2021), arXiv:2103.00020, fig. 1 (2), of which this is a miniature.  Survey: 4.2.1.
Teal is the picture, amber the words, violet the answer.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmlearn.data.pairs import class_names
from mmlearn.figures.diagram import Diagram
from mmlearn.figures.interactive import Block, slider
from mmlearn.text_for_vision.training import Mini, embed_images, embed_texts
from mmlearn.text_for_vision.zero_shot import SCENE, average_prompts, class_probabilities, prompts

Labels = Mapping[str, Sequence[str]]                    # label -> the sentences that stand for it


def _things(*names: str) -> dict[str, list[str]]:
    return {name: prompts(name, SCENE) for name in names}


def _colours(*names: str) -> dict[str, list[str]]:
    """Sentences about a thing of each colour, whatever it is."""
    return {colour: [text for thing in class_names() for text in prompts(f"{colour} {thing}", SCENE[:1])]
            for colour in names}


LABELS: dict[str, Labels] = {
    "what?": _things("lamp", "flower", "car", "tent", "cat", "bed", "cactus", "boat"),
    "what kind?": _things("animal", "plant", "vehicle", "building", "piece of furniture", "toy"),
    "where?": {"room": ["The picture shows the inside of a room.", "Inside a room."],
               "street": ["This is a street.", "A city street."],
               "beach": ["A view of a beach.", "By the sea."],
               "field": ["A grassy field.", "This is a meadow."],
               "snow": ["A snowy field.", "In the snow."], "night": ["A night scene.", "A dark night."]},
    "which colour?": _colours("white", "green", "blue", "yellow", "grey", "orange", "red", "black"),
    "colour and thing?": _things("white lamp", "green flower", "blue car", "yellow tent", "grey cat",
                                 "orange bed", "red car", "white cat"),
}


def weights_of(mini: Mini, labels: Labels) -> Float[Tensor, "c e"]:
    """A unit vector a label, the mean of those of its sentences (eq:zero-shot-weights)."""
    return torch.cat([average_prompts(embed_texts(mini.model, mini.tokeniser, list(texts))[None])
                      for texts in labels.values()])


def answers(mini: Mini, images: UInt8[Tensor, "n 3 s s"],
            lists: Mapping[str, Labels]) -> dict[str, Float[Tensor, "n c"]]:
    """Probabilities of the labels of each list for each picture (eq:zero-shot-posterior)."""
    u, scale = embed_images(mini.model, images), mini.model.logit_scale.detach().exp()
    return {name: class_probabilities(u, weights_of(mini, labels), scale) for name, labels in lists.items()}


def choose_labels(mini: Mini, images: UInt8[Tensor, "n 3 s s"], lists: Mapping[str, Labels] = LABELS,
                  start: tuple[int, int] = (0, 0)) -> Block:
    """Two sliders, the list of labels and the picture; seen are the picture and a bar for each label.

    Raises ``ValueError`` without pictures or lists.
    """
    if not len(images) or not lists:
        raise ValueError(f"{len(images)} pictures and {len(lists)} lists of labels; give at least one "
                         "of each")
    found = answers(mini, images, lists)
    under = [_picture(image) for image in images]
    frames, labels = [], []
    for name, probabilities in found.items():
        for number, row in enumerate(probabilities.tolist()):
            frames.append(_answer(under[number], list(lists[name]), row, name))
            best = max(range(len(row)), key=row.__getitem__)
            labels.append(f"{name} {list(lists[name])[best]}, {row[best]:.0%}")
    return slider({"labels": list(lists), "picture": range(1, len(images) + 1)}, frames,
                  "A miniature CLIP names what is on a drawn picture, out of a list of labels that can be "
                  "chosen: a bar for each label is the probability that the picture goes with its sentences",
                  labels=labels, start=start[0] * len(images) + start[1])


def _picture(image: Tensor) -> str:
    """The drawing of a picture, made once for all its frames."""
    drawn = Diagram(470, 260, "picture")
    drawn.image(92, 130, image, 160)
    return "".join(drawn.parts)


def _answer(picture: str, names: Sequence[str], row: Sequence[float], question: str) -> Diagram:
    drawn = Diagram(470, 260, f"{question} " + ", ".join(f"{n} {p:.0%}" for n, p in zip(names, row)))
    drawn.add(picture)
    drawn.text(92, 30, question, 15, "text", weight=600)
    step, best = 28, max(row)
    top = 130 - step * (len(names) - 1) / 2
    for i, (name, p) in enumerate(zip(names, row)):
        role = "new" if p == best else "text"
        drawn.text(318, top + i * step, name, 14, "new" if p == best else "", "end",
                   600 if p == best else 400)
        drawn.bar(326, top + i * step, 92 * p, 16, role)
        drawn.text(464, top + i * step, f"{p:.0%}", 13, "" if p == best else "soft", "end")
    return drawn
