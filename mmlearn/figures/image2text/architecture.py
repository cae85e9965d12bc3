"""Diagrams of sections 1.1 and 1.2: how COCO was annotated, and the captioner of a CNN and a Transformer.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO*, arXiv:1405.0312, sec. 4; K. Xu et al. (2015), *Show, Attend
and Tell*, arXiv:1502.03044; A. Vaswani et al. (2017), arXiv:1706.03762.  Survey: 1.1, 1.2.
"""

import numpy as np

from mmlearn.data.scenes import portrait, render, sample_scene
from mmlearn.data.scenes.graph import Scene
from mmlearn.figures.diagram import ROLES, Diagram, Number

_TINTS = [np.array([int(ROLES[role][0][i : i + 2], 16) for i in (1, 3, 5)], dtype=float)
          for role in ("new", "text", "image", "loss", "block")]
_STAGES = (
    ("a  Which categories?", "8 workers an image;", "one who sees it is enough", "about 20,000 hours"),
    ("b  Where is each one?", "8 workers an image;", "all their crosses count", "about 10,000 hours"),
    ("c  What is its outline?", "1 worker an instance,", "checked by 3 to 5 judges",
     "22 hours for 1,000 outlines"),
)


def coco_pipeline(scene: Scene | None = None) -> Diagram:
    """The three stages of COCO's annotation on one picture: icons, crosses, outlines."""
    scene = scene or sample_scene(0, 50)
    alt = ("The annotation of COCO in three stages on one picture. a: icons of the categories that are "
           "present, by 8 workers an image, about 20,000 hours. b: a cross on every instance, 8 workers, "
           "about 10,000 hours. c: the outline of every instance by one worker, checked by judges, 22 hours "
           "for 1,000 outlines.")
    drawings = []
    for across in (True, False):
        drawn = Diagram(690 if across else 370, 296 if across else 460, alt)
        cards = []
        for i, (name, *lines) in enumerate(_STAGES):
            x, y = (115 + 230 * i, 148) if across else (185, 77 + 153 * i)
            cards.append(drawn.rect(x, y, *((196, 276) if across else (350, 130)), "image", 12))
            _stage(drawn, scene, i, *((x, 100, 152) if across else (x - 112, y, 110)))
            at = (x, 196) if across else (x - 44, y - 36)
            anchor = "middle" if across else "start"
            drawn.text(*at, name, 15, anchor=anchor, weight=600)
            for k, line in enumerate(lines, start=1):
                drawn.text(at[0], at[1] + 22 * k + 6, line, 13.5, "soft" if k < 3 else "", anchor)
        drawn.arrow(cards[0], cards[1])
        drawn.arrow(cards[1], cards[2])
        drawings.append(drawn)
    drawings[0].narrow = drawings[1]
    return drawings[0]


def _stage(drawn: Diagram, scene: Scene, stage: int, x: Number, y: Number, size: Number) -> None:
    """The picture of a stage: icons, crosses or coloured masks over the scene."""
    picture = render(scene, size=192)
    pixels = 0.5 * picture.image + 127.5 if stage < 2 else picture.image.astype(float)
    places = [(np.argwhere(mask).mean(axis=0) + 0.5) / 192 - 0.5 for mask in picture.masks]
    if stage == 2:
        for mask, tint in zip(picture.masks, _TINTS):
            pixels[mask] = 0.35 * pixels[mask] + 0.65 * tint
    drawn.image(x, y, pixels.astype(np.uint8), size)
    first = {thing.category: i for i, thing in reversed(list(enumerate(scene.objects)))}
    if stage == 0:
        for category, i in first.items():
            icon = render(portrait(category), size=64)
            shown = np.where(icon.masks[0][..., None], icon.image, 255)
            drawn.image(x + places[i][1] * size, y + places[i][0] * size, shown, 0.2 * size)
    if stage == 1:
        rng = np.random.default_rng(0)
        for mask in picture.masks:
            for down, right in rng.permutation(np.argwhere(mask))[:4] / 192 - 0.5:
                a, b = x + float(right) * size, y + float(down) * size
                drawn.line([(a - 4, b - 4), (a + 4, b + 4)], "loss")
                drawn.line([(a - 4, b + 4), (a + 4, b - 4)], "loss")


def captioner(scene: Scene | None = None) -> Diagram:
    """The captioner: a CNN makes a grid of features, an encoder relates its cells, a decoder writes."""
    drawn = Diagram(470, 540, (
        "Captioner of a CNN and a Transformer in four steps. 1: a CNN turns the picture, 3 by s by s, into p "
        "cells of c numbers, which are projected to width d. 2: N encoder layers of self-attention and "
        "feed-forward relate the cells, p by d. 3: words and positions, t by d, pass N decoder layers of "
        "masked self-attention, cross-attention to the encoder's output and feed-forward. 4: a linear layer "
        "and a softmax give the probabilities of the next word, t by v."))
    left, right = 116, 350
    drawn.group(left, 436, 200, 166, "encoder, N ×", "image")
    drawn.group(right, 250, 216, 230, "decoder, N ×", "text")
    seen = drawn.image(left, 52, render(scene or sample_scene(0, 6), size=96).image, 84)
    cnn = drawn.box(left, 150, "CNN\nconvolutions, pooling", "image", 176)
    cells = drawn.matrix(left, 240, ["image"] * 4, 4, 14)
    projection = drawn.box(left, 302, "*W_e*, ReLU, norm", "image", 160, 32)
    look = drawn.box(left, 390, "self-attention", "image", 164, 40)
    feed = drawn.box(left, 460, "feed-forward", "image", 164, 40)
    drawn.arrow(seen, cnn, "3 × *s* × *s*")
    drawn.arrow(cnn, cells, "*p* × *c*")
    drawn.arrow(cells, projection)
    drawn.arrow(projection, look, "*p* × *d*")
    drawn.arrow(look, feed)
    words = drawn.box(right, 32, "⟨bos⟩ a dog in", "text", 150, 34)
    embed = drawn.box(right, 84, "word + position", "text", 150, 34)
    masked = drawn.box(right, 172, "self-attention\nonly earlier words", "text", 180, 46)
    cross = drawn.box(right, 246, "cross-attention\nqueries: words; keys: cells", "text", 192, 46)
    inner = drawn.box(right, 318, "feed-forward", "text", 180, 40)
    out = drawn.box(right, 424, "*W_y*, softmax", "text", 150, 34)
    drawn.arrow(words, embed)
    drawn.arrow(embed, masked, "*t* × *d*")
    drawn.arrow(masked, cross)
    drawn.arrow(cross, inner)
    drawn.arrow(inner, out, "*t* × *d*")
    drawn.arrow(feed, cross, role="image", sides="rl", bend=0.6)
    drawn.text(228, 480, "*p* × *d*", 13, "image", "start")
    for i, (word, share) in enumerate((("a", 0.62), ("the", 0.27), ("front", 0.06))):
        drawn.text(right - 46, 488 + 22 * i, word, 14, anchor="end")
        drawn.bar(right - 36, 488 + 22 * i, 120 * share, 12, "text")
        drawn.text(right - 28 + 120 * share, 488 + 22 * i, f"{share:.2f}", 13, "soft", "start")
    drawn.arrow(out, (right, 478), "*t* × *v*")
    steps = (14, 150), (left - 100, 436), (right + 108, 210), (right + 108, 424)
    for number, (x, y) in enumerate(steps, start=1):
        drawn.node(x, y, str(number), "block", 22)
    return drawn
