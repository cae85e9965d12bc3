"""Figures of the recurrent attention captioner: where it reads, beside Show, Attend and Tell; where it looks
for each word; what a soft reading gains by a score.

Papers: K. Xu et al. (2015), *Show, Attend and Tell*, arXiv:1502.03044, fig. 1 to 4; J. Lu et al. (2017),
*Knowing When to Look*, arXiv:1612.01887, fig. 2.  Survey: 5.3.

Teal are pictures, amber is text, violet is the attention, blue is the recurrence, red is the loss.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmlearn.both_modalities.attention_captioner import (
    AttentionCaptionerConfig,
    RecurrentAttentionCaptioner,
    place_weights,
    soft_jacobian,
    soft_reading,
)
from mmlearn.data.scenes import Scene, portrait, render
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, hover, slider
from mmlearn.nn.modes import eval_mode

# ------------------------------------------------------------------------------------------------- diagrams


def _sources(drawn: Diagram, x: Number, word: str) -> None:
    """A picture cut into cells, and the word that was said last."""
    drawn.rect(x - 66, 64, 60, 30, "text", radius=4)
    drawn.text(x - 66, 64, word, 15, "text")
    drawn.image(x + 58, 58, render(portrait("bird", colour="red", setting="meadow"), size=64).image, 62)
    for i in (1, 2, 3):
        at = 27 + 62 * i / 4
        drawn.line([(x + 27, at), (x + 89, at)])
        drawn.line([(x + 27 + 62 * i / 4, 27), (x + 27 + 62 * i / 4, 89)])


def two_captioners(config: AttentionCaptionerConfig | None = None) -> Diagram:
    """The survey's five equations beside Show, Attend and Tell: attention after or before the recurrence."""
    config = config or AttentionCaptionerConfig.spatial()
    drawn = Diagram(490, 470, (
        "Two recurrent captioners side by side, each fed by a word w_t and by the cells V of a picture. "
        "Left, the survey's five equations: the word enters an LSTM, whose new state h_t asks the "
        f"attention; what is read, v_t, one weighted mean of {config.width} numbers, meets h_t only in the "
        "output layer, and the output says the next word, w_{t+1}. Nothing that was read goes back into "
        "the LSTM. Right, Show, Attend and Tell: the old state h_{t-1} asks the attention first; what is "
        "read, z_t, enters the LSTM together with the word, so that it is remembered, and the output layer "
        "gets the word, z_t and the new state."))
    left, right = 118, 366
    drawn.text(left, 12, "the survey's five equations", 14, weight=600)
    drawn.text(right, 12, "Show, Attend and Tell", 14, weight=600)
    drawn.line([(244, 4), (244, 466)], dashed=True)
    for x in (left, right):
        _sources(drawn, x, "*w_t*")

    drawn.box(left - 48, 166, "LSTM\n*h_{t−1} → h_t*", "block", 124, 50)
    drawn.box(left + 46, 262, "attention\n*h_t* asks", "new", 116, 50)
    join = drawn.box(left - 20, 360, "join *f_s*", "text", 150, 34)
    drawn.arrow((left - 66, 79), (left - 66, 141))
    drawn.arrow((left + 90, 89), (left + 90, 237), "", "image")
    drawn.text(left + 80, 150, "*V*", 15, "image", "end")
    drawn.line([(left + 12, 175), (left + 34, 175), (left + 34, 237)], head=True)
    drawn.text(left + 42, 212, "*h_t*", 15, "soft", "start")
    drawn.arrow((left - 66, 191), (left - 66, 343))
    drawn.text(left - 74, 270, "*h_t*", 15, "soft", "end")
    drawn.arrow((left + 30, 287), (left + 30, 343), role="new")
    drawn.text(left + 40, 316, "*v_t*", 15, "new", "start")

    drawn.box(right + 46, 166, "attention\n*h_{t−1}* asks", "new", 116, 50)
    drawn.box(right - 36, 262, "LSTM\n*h_{t−1} → h_t*", "block", 124, 50)
    join2 = drawn.box(right - 20, 360, "join *f_s*", "text", 150, 34)
    drawn.arrow((right + 90, 89), (right + 90, 141), role="image")
    drawn.text(right + 80, 114, "*V*", 15, "image", "end")
    drawn.arrow((right - 66, 79), (right - 66, 237))
    drawn.line([(right + 4, 191), (right + 4, 237)], "new", head=True)
    drawn.text(right + 12, 214, "*z_t*", 15, "new", "start")
    drawn.line([(right + 76, 191), (right + 76, 352), (right + 55, 352)], "new", head=True)
    drawn.arrow((right - 36, 287), (right - 36, 343))
    drawn.text(right - 28, 316, "*h_t*", 15, "soft", "start")
    drawn.line([(right - 66, 112), (right - 110, 112), (right - 110, 360), (right - 95, 360)], "text",
               head=True)

    for x, above in ((left, join), (right, join2)):
        out = drawn.box(x - 20, 428, "softmax: *w_{t+1}*", "loss", 150, 34)
        drawn.arrow(above, out)
    return drawn


# --------------------------------------------------------------------------------------------- where it looks


@torch.no_grad()
def gazes(
    model: RecurrentAttentionCaptioner, tokeniser: Tokeniser, inputs: Tensor, caption: str
) -> tuple[list[str], Float[Tensor, "t p"]]:
    """The words of a caption and the end, and where the model looks to say each (the weights of a word are
    those at the token before it)."""
    with eval_mode(model) as device:
        tokens = tokeniser.batch([caption]).to(device)
        context = model.encode(inputs[None].to(device))
        reading = model.read(tokens[:, :-1], context)       # type: ignore[operator]
    words = [tokeniser.decode([int(i)]) or "(end)" for i in tokens[0, 1:]]
    return words, reading.weights[0].cpu()


def _veil(weights: Float[Tensor, " p"], word: str) -> Diagram:
    """Dark cells over a picture, the thinner the larger their weight."""
    side, most = round(len(weights) ** 0.5), float(weights.max())
    drawn = Diagram(300, 300, (
        f"The picture, dark where the captioner hardly looked to say {word}; its brightest cell has the "
        f"weight {most:.2f}."))
    cell = 256 / side
    for i, weight in enumerate(weights.tolist()):
        y, x = divmod(i, side)
        drawn.add(f'<rect x="{22 + x * cell:.5g}" y="{10 + y * cell:.5g}" width="{cell:.5g}" '
                  f'height="{cell:.5g}" fill="#10151c" opacity="{0.8 * (1 - weight / most):.3f}"/>')
    drawn.text(150, 284, f"{literal(word)}: the brightest cell has {most:.2f}", 14, "soft")
    return drawn


def where_it_looks(
    model: RecurrentAttentionCaptioner, tokeniser: Tokeniser, inputs: Tensor, picture: Any, caption: str
) -> Block:
    """MOVING: point at a word of a caption and see which cells the model weighed to say it."""
    words, weights = gazes(model, tokeniser, inputs, caption)
    under = Diagram(300, 300, "the picture alone")
    under.image(150, 138, picture, 256)
    start = max(range(len(words)), key=lambda i: float(weights[i].max()))
    return hover(words, [_veil(row, word) for word, row in zip(words, weights)], (
        f"A picture and its caption: {caption}. Pointing at a word shows where the captioner looked to say "
        "it: cells with little weight are dark."), start=start, under=under)


def on_what_is_named(
    model: RecurrentAttentionCaptioner, tokeniser: Tokeniser, grids: Tensor, scenes: Sequence[Scene],
    captions: Sequence[str]
) -> Float[Tensor, "n 2"]:
    """For every thing that a caption names and of which its picture has one: the weight that lies on its
    pixels while it is named, and the part of the picture that they are."""
    found = []
    for grid, scene, caption in zip(grids, scenes, captions):
        words, weights = gazes(model, tokeniser, grid, caption)
        side = round(weights.shape[1] ** 0.5)
        kinds = [thing.category for thing in scene.objects]
        masks = torch.from_numpy(render(scene, size=8 * side).masks.copy()).float()
        for word, row in zip(words, weights):
            if kinds.count(word) == 1:
                mask = masks[kinds.index(word)]
                cells = mask.unfold(0, 8, 8).unfold(1, 8, 8).mean(dim=(2, 3)).flatten()
                found.append((float(row @ cells), float(mask.mean())))
    return torch.tensor(found).reshape(-1, 2)


# ----------------------------------------------------------------------------------------------- soft reading


def reading_plane(
    V: Sequence[Sequence[Number]] = ((-2.0, -1.0), (2.0, -1.0), (0.0, 2.0)),
    scores: Sequence[Number] = (0.0, 0.0, 0.0), steps: Sequence[Number] = (-4, -2, -1, 0, 1, 2, 4, 8),
) -> Block:
    """MOVING: three cells of two numbers, their weighted mean, and how far each score would pull it."""
    cells, frames = torch.tensor(V, dtype=torch.float64), []
    for first in steps:
        e = torch.tensor([float(first), *map(float, scores[1:])], dtype=torch.float64)
        weights = place_weights(e[None, None])[0, 0]
        v, pulls = soft_reading(weights[None, None], cells[None])[0, 0], soft_jacobian(weights, cells)
        frames.append(_plane(cells.numpy(), weights.numpy(), v.numpy(), pulls.numpy(), first))
    return slider({"score of cell 1": [f"{s:g}" for s in steps]}, frames, (
        "Three cells of a picture as points of a plane, larger with their weight, and their weighted mean, "
        "the reading. Arrows from the reading show where it moves when a score grows by one: towards the "
        "cell, the further the more weight the cell has and the farther it is. With the score of cell 1 "
        "far up, all weight is there and all arrows vanish: nothing is learnt any more."),
        start=len(steps) // 2 - 1)


def _plane(V: np.ndarray, weights: np.ndarray, v: np.ndarray, pulls: np.ndarray, score: Number) -> Diagram:
    drawn = Diagram(400, 330, (
        f"Score of cell 1: {score:g}. Weights " + ", ".join(f"{w:.2f}" for w in weights)
        + f"; the reading is at ({v[0]:.2f}, {v[1]:.2f}). Lengths of the arrows: "
        + ", ".join(f"{np.hypot(*pull):.2f}" for pull in pulls) + "."))

    def at(point: np.ndarray) -> tuple[float, float]:
        return 200 + 70 * float(point[0]), 186 - 58 * float(point[1])

    for i, (cell, weight) in enumerate(zip(V, weights.tolist()), start=1):
        x, y = at(cell)
        drawn.rect(x, y, 16 + 44 * weight, 16 + 44 * weight, "image", radius=99)
        below = 1 if cell[1] < 0 else -1
        drawn.text(x, y + below * 46, f"*v*_{i}: {weight:.2f}", 15, "image")
    x, y = at(v)
    for pull in pulls:
        if np.hypot(*pull) > 0.04:
            drawn.line([(x, y), at(v + pull)], "new", head=True)
    drawn.rect(x, y, 13, 13, "new", radius=2)
    longest = max(np.hypot(*pull) for pull in pulls)
    drawn.text(200, 312, f"score of cell 1: {score:g}; longest arrow {longest:.2f}", 14, "soft")
    return drawn
