"""Figures of training: the self-critical loop, and a player over training with the captions of one picture.

Paper: S. Rennie et al. (2017), *Self-Critical Sequence Training for Image Captioning*, arXiv:1612.00563, sec.
3; M. Cornia et al. (2020), arXiv:1912.08226, sec. 3.3.  Survey: 1.2, 1.2.1.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmlearn.data.scenes import render, sample_scene
from mmlearn.data.scenes.graph import Scene
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, player

CAPTIONS = (("a dog runs right of a tree", 3.1), ("a dog is in a field", 1.4), ("a red tree and a cat", 0.9))


def self_critical(captions: Sequence[tuple[str, Number]] = CAPTIONS, scene: Scene | None = None) -> Diagram:
    """The loop of self-critical training: write k captions, score them, compare with their mean, learn.

    ``captions`` are pairs of text and reward.
    """
    mean = sum(reward for _, reward in captions) / len(captions)
    bottom = 176 + 26 * len(captions)
    drawn = Diagram(470, bottom + 130, (
        "Self-critical training as a loop. The captioner writes k captions of a picture. CIDEr-D compares "
        "each with the human captions and gives a reward r_i. Their mean is the baseline b. Captions above "
        "it become likelier, those below it less likely: the gradient is minus the mean of (r_i - b) times "
        "that of log p(w_i). "
        + "; ".join(f"{text}: {reward:.1f}, {reward - mean:+.1f}" for text, reward in captions)))
    seen = drawn.image(66, 50, render(scene or sample_scene(0, 6), size=96).image, 80)
    model = drawn.box(206, 50, "captioner *p_θ*\nbeing trained", "text", 140, 54)
    human = drawn.box(386, 50, "human captions\nof the same picture", "frozen", 150, 54)
    drawn.rect(235, (bottom + 128) / 2, 450, bottom - 128, "", 12)
    drawn.arrow(seen, model)
    drawn.arrow(model, (206, 128), "writes *k*", "text", sides="bt")
    drawn.arrow(human, (386, 128), "CIDEr-D", "loss", side=-1)
    drawn.text(24, 146, "captions *w^i*", 14, "text", "start", 600)
    drawn.text(340, 146, "reward *r_i*", 14, "loss", "end", 600)
    drawn.text(446, 146, "*r_i* − *b*", 14, "loss", "end", 600)
    for i, (text, reward) in enumerate(captions):
        y, gain = 174 + 26 * i, reward - mean
        drawn.text(24, y, literal(text), 14, anchor="start")
        drawn.text(328, y, f"{reward:.1f}", 14, anchor="end")
        role, effect = ("image", "likelier") if gain > 0 else ("loss", "less so")
        drawn.text(446, y, f"{gain:+.1f}".replace("-", "−"), 14, role, "end", 600)
        drawn.text(400, y, effect, 13, role, "end")
    loss = drawn.box(258, bottom + 66, "−^1⁄_k Σ (*r_i* − *b*) ∇ log *p_θ*(*w^i*)", "loss", 280, 40)
    drawn.arrow((258, bottom), loss, f"baseline *b*: their mean, {mean:.1f}", "loss", sides="bt")
    around = ((258, bottom + 112), (4, bottom + 112), (4, 108), (156, 108))
    drawn.arrow(loss, (156, 77), role="loss", dashed=True, via=around, sides="bb")
    drawn.text(66, bottom + 66, "gradient", 14, "loss")
    return drawn


def training_player(image: Any, steps: Sequence[int], captions: Sequence[str], losses: Sequence[Number],
                    scores: Sequence[Number] | None = None, metric: str = "CIDEr-D",
                    unit: str = "nats a token") -> Block:
    """A player over training: what is said about one picture after each of ``steps``, and the loss so far.

    ``captions`` and ``scores`` (on request) belong to ``steps``; ``losses`` are those of every step from the
    first, of which at most 120 means are drawn. Raises ``ValueError`` if numbers do not fit.
    """
    if len(captions) != len(steps) or (scores is not None and len(scores) != len(steps)):
        raise ValueError(f"{len(captions)} captions for {len(steps)} steps; give one each, and a score each")
    pieces = np.array_split(np.asarray(losses, dtype=float), min(120, len(losses)))
    values = np.array([piece.mean() for piece in pieces])
    ends = np.cumsum([len(piece) for piece in pieces])
    low, high = 0.0, float(values.max())
    left, top, wide, tall = 226, 20, 220, 116
    xs = left + wide * ends / ends[-1]
    ys = top + tall * (high - values) / (high - low)
    points = [f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys)]
    under = Diagram(470, 226, "picture and curve of the loss")
    under.image(96, 94, image, 148)
    under.line([(left, top), (left, top + tall), (left + wide, top + tall)])
    under.add(f'<path class="mm-l mm-frozen" d="M{"L".join(points)}" stroke-opacity="0.45"/>')
    under.text(left - 6, top, f"{high:.1f}", 12, "soft", "end")
    under.text(left - 6, top + tall, "0", 12, "soft", "end")
    under.text(left + wide, top + tall + 14, f"{len(losses):,} steps", 12, "soft", "end")
    under.text(left + 8, top - 8, f"loss, {unit}", 13, "loss", "start", 600)
    frames, labels = [], []
    for i, (step, caption) in enumerate(zip(steps, captions)):
        drawn = Diagram(470, 226, f"after {step} steps: {caption}")
        past = max(1, int((ends <= step).sum()))
        drawn.add(f'<path class="mm-l mm-loss" d="M{"L".join(points[:past])}" style="stroke-width:2.2"/>')
        drawn.add(f'<circle class="mm-h mm-loss" cx="{xs[past - 1]:.1f}" cy="{ys[past - 1]:.1f}" r="4"/>')
        drawn.text(left + wide, top + 4, f"{values[past - 1]:.2f}", 15, "loss", "end", 600, halo=True)
        if scores is not None:
            drawn.text(left + wide, top + 26, f"{metric} {scores[i]:.2f}", 14, "text", "end", 600, halo=True)
        for k, row in enumerate(textwrap.wrap(caption, 52)[:2] or [""]):
            drawn.text(235, 188 + 20 * k, literal(row), 15, "text", weight=600)
        frames.append(drawn)
        labels.append(f"after {step:,} step{'s' * (step != 1)}")
    alt = "What a captioner says about one picture as its training goes on"
    return player(frames, labels, alt, under=under, start=-1)
