"""Diagram of section 4.2.1: names become sentences, sentences become the weights of a classifier.

Paper: A. Radford et al. (2021), arXiv:2103.00020, fig. 1 (2) and (3).  Survey: 4.2.1.

Teal is the picture's side, amber the text's, violet what is new: weights that were written, not trained. The
probabilities are those of a trained miniature.
"""

from collections.abc import Sequence

import torch

from mmlearn.data.pairs import pixels
from mmlearn.data.scenes import portrait, render
from mmlearn.figures.diagram import Diagram, Number
from mmlearn.text_for_vision.training import Mini, load_mini
from mmlearn.text_for_vision.zero_shot import classify, prompts, zero_shot_weights

CLASSES = ("cat", "dog", "tree", "car")
TEMPLATES = ("A picture of {a}.", "There is {a}.")


def row(drawn: Diagram, x: Number, y: Number, role: str, cells: int = 6, cell: Number = 12) -> None:
    """A vector as a row of cells around (x, y)."""
    drawn.matrix(x, y, [role], cells, cell)


def zero_shot_classifier(mini: Mini | None = None, classes: Sequence[str] = CLASSES,
                         templates: Sequence[str] = TEMPLATES, category: str = "dog") -> Diagram:
    """A picture of ``category`` between class vectors made of sentences; probabilities of ``mini`` (default:
    the miniature ResNet)."""
    model, tokeniser, _ = mini or load_mini("resnet")
    shown = render(portrait(category), size=model.config.size).image
    weights = zero_shot_weights(model, tokeniser, list(classes), templates)
    inputs = pixels(torch.from_numpy(shown).permute(2, 0, 1)[None])
    shares = classify(model, inputs, weights)[0].tolist()
    said = ", ".join(f"{name} {share:.2f}" for name, share in zip(classes, shares))
    n = len(classes)
    drawn = Diagram(480, 120 + 67 * n, (
        f"How CLIP classifies without labels. Above, amber: {n} names, {', '.join(classes)}, are put into "
        f"{len(templates)} templates; the text tower turns every sentence into a vector of length 1, and the "
        "normalised mean of a class's vectors is its weight, w_1 to "
        f"w_{n}, violet. Below, teal: the image tower turns a picture of a {category} into a unit vector u. "
        "Its products with the weights, times the learned scale, go through a softmax. Probabilities of the "
        f"miniature: {said}."))
    bottom = 40 + 48 * n
    drawn.text(46, 14, "names", 13, "soft")
    drawn.text(170, 14, "sentences", 13, "soft")
    drawn.text(418, 14, "class vectors", 13, "soft")
    tower = drawn.box(300, (bottom + 34) / 2 - 4, "text\ntower", "text", 64, 48 * n - 8)
    for i, name in enumerate(classes):
        y = 50 + 48 * i
        drawn.rect(46, y, 64, 28, "text")
        drawn.text(46, y, name, 14, weight=600)
        for j, sentence in enumerate(prompts(name, templates)):
            drawn.text(100, y + 17 * (j - (len(templates) - 1) / 2), sentence, 13, "text", "start")
        drawn.arrow((tower.x + 32, y), (364, y), "", "text")
        row(drawn, 402, y, "new")
        drawn.text(444, y, f"*w*_{i + 1}", 14, "new", "start")
    middle = bottom + 76
    drawn.image(52, middle, shown, 84)
    see = drawn.box(160, middle, "image\ntower", "image", 72, 62)
    drawn.arrow((94, middle), see)
    row(drawn, 254, middle, "image")
    drawn.text(254, middle - 20, "*u*", 14, "image")
    drawn.arrow(see, (218, middle), "", "image")
    soft = drawn.box(396, bottom + 26, "softmax *e^t u*^⊤*w_c*", "", 160, 30)
    drawn.arrow((396, bottom - 14), soft, "", "new")
    drawn.line([(290, middle), (303, middle), (303, bottom + 26), (316, bottom + 26)], "image", head=True)
    top = bottom + 62
    for i, (name, share) in enumerate(zip(classes, shares)):
        y = top + 19 * i
        drawn.text(366, y, name, 13, "", "end", 600 if share == max(shares) else 400)
        drawn.bar(372, y, 60 * share, 11, "new")
        drawn.text(476, y, f"{share:.2f}", 13, "soft", "end")
    return drawn
