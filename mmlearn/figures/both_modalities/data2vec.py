"""Figures of section 5.1: teacher and student, masks in blocks, a teacher that is slow, the loss with its two
regimes, and what the studies measured.

Paper: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555, fig. 1 and 2.  Survey: 5.1.

Teal is the picture, violet what learns, grey the teacher, which gets no gradient; its blocks that make the
target are blue, as in the figure that the survey speaks of; losses are red.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.both_modalities.data2vec import (
    half_life,
    smooth_l1,
    smooth_l1_slope,
    survey_smooth_l1,
)
from mmlearn.both_modalities.data2vec_vision import (
    TRIES,
    Data2VecVisionConfig,
    VisionData2Vec,
    add_block,
)
from mmlearn.data.images import standardise
from mmlearn.data.scenes import Scene, render, sample_scene
from mmlearn.figures.diagram import COLOURS, Diagram, Number
from mmlearn.figures.interactive import Block, player, slider
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.vision import IMAGENET_MEAN, IMAGENET_STD
from mmlearn.plot import picture

WIDE = 470
GRID, PATCH = 14, 16                    # of the paper: 196 patches of 16 pixels
HIDDEN = (1, 2, 5, 6, 7, 9, 10, 13)     # patches of the small picture in the diagram, of 16


# ---------------------------------------------------------------------------------------------------- diagram


def teacher_and_student(L: int = 6, K: int = 3) -> Diagram:
    """Both networks on one picture: what they read, which blocks make the target, the loss, the two ways
    from student to teacher."""
    drawn = Diagram(WIDE, 560, (
        "data2vec. Left, grey: the teacher reads the whole picture in patches. Its encoder of patches and "
        f"its positions are copies of the student's, its {L} blocks are moving averages of the student's. "
        f"The last {K} blocks are blue: their outputs are normalised and averaged, which gives a target for "
        "every place. Right, violet: the student reads the same picture with more than half of its patches "
        f"replaced by one learned vector. After its {L} blocks a head, which the teacher has not, predicts "
        "the targets. Between them, in red, the smooth L1 loss over hidden patches alone. Its gradient goes "
        "into the student; the teacher gets none."))
    left, right = 118, 352
    image = render(sample_scene(0, 8, "train"), size=64).image
    top = 150
    rows = [top + 34 * i for i in range(L)][::-1]               # block 1 lowest
    for x, role, name in ((left, "frozen", "teacher Δ"), (right, "new", "student θ")):
        drawn.group(x, (rows[-1] + 400) / 2, 196, 446 - rows[-1], "", role)
        drawn.text(x, rows[-1] - 40, name, 15, role, weight=600)
        for i, y in enumerate(rows, start=1):
            blue = role == "frozen" and i > L - K
            drawn.rect(x, y, 128, 26, "block" if blue else role, 5)
            drawn.text(x, y, f"block {i}", 13, "block" if blue else role)
            if i > 1:
                drawn.arrow((x, y + 34 - 13), (x, y + 13), role="frozen" if role == "frozen" else "new")
        parts = drawn.rect(x, 362, 170, 26, "image", 5)
        drawn.text(x, 362, "patches → *d* numbers", 13, "image")
        drawn.arrow(parts, (x, rows[0] + 13), role="frozen" if role == "frozen" else "new")
        drawn.image(x, 490, image, 104)
        drawn.arrow((x, 438), parts, role="image")
    cell = 26
    for i in HIDDEN:
        row, column = divmod(i, 4)
        place = right - 52 + (column + 0.5) * cell, 438 + (row + 0.5) * cell
        drawn.rect(*place, cell, cell, "new", 2)
    drawn.text(left, 552, "the whole picture", 13, "soft")
    drawn.text(right, 552, "the same, partly hidden", 13, "soft")
    for y, words in ((394, "hidden:"), (410, "one vector")):
        drawn.text(right + 10, y, words, 13, "new", "start", halo=True)
    # targets, head, loss
    target = drawn.box(left, 52, f"*y*_t: mean of the last {K}\neach normalised", "block", 190, 48)
    head = drawn.box(right, 52, "head → *f*_t\nthe teacher has none", "new", 170, 48)
    for i in range(L - K + 1, L + 1):
        y = rows[i - 1]
        drawn.line([(left - 64, y), (left - 84, y)], "block")
    drawn.line([(left - 84, rows[L - K]), (left - 84, 76)], "block", head=True)
    drawn.arrow((right, rows[-1] - 13), head, role="new", sides="tb")
    loss = drawn.box(WIDE / 2, 16, "loss, hidden *t* alone", "loss", 180, 26)
    drawn.line([target.at("t"), (left, 16), loss.at("l")], "loss", head=True)
    drawn.line([head.at("t"), (right, 16), loss.at("r")], "loss", head=True)
    # from student to teacher
    middle = (rows[0] + rows[-1]) / 2
    drawn.arrow((right - 98, middle), (left + 98, middle), role="new", dashed=True)
    drawn.text(WIDE / 2, middle - 24, "EMA", 13, "new", halo=True)
    drawn.arrow((right - 85, 362), (left + 85, 362), role="image", dashed=True)
    drawn.text(WIDE / 2, 380, "copy", 13, "image", halo=True)
    return drawn


# ---------------------------------------------------------------------------------------------- moving ones


def block_steps(
    grid: int, masked: int, least: int, seed: int = 0
) -> list[np.ndarray]:
    """The mask of a G x G grid after each block that ``block_mask`` adds, by the same draws."""
    generator = torch.Generator().manual_seed(seed)
    mask, left = [[False] * grid for _ in range(grid)], masked
    found = [np.array(mask)]
    while left:
        tries = torch.rand(TRIES, 4, generator=generator, dtype=torch.float64)
        new = add_block(mask, left, least, tries.tolist())
        if not new:
            break
        left -= new
        found.append(np.array(mask))
    return found


def with_patches(image: np.ndarray, hidden: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    """A picture (s, s, 3) whose ``hidden`` patches (G, G) have one colour; thin lines part the patches."""
    side = image.shape[0] // hidden.shape[0]
    out = image.copy()
    out[np.kron(hidden, np.ones((side, side), dtype=bool))] = colour
    out[::side] = out[:, ::side] = 255
    return out


def masking(scene: Scene | None = None, config: Data2VecVisionConfig | None = None, seed: int = 0) -> Block:
    """A player: blocks are hidden one after the other on a drawn scene, then what teacher and student read,
    and where a target is asked for."""
    config = config or Data2VecVisionConfig.base()
    image = render(scene or sample_scene(0, 8, "train"), size=config.grid * PATCH).image
    steps = block_steps(config.grid, config.masked, config.least, seed)
    total, last = config.places, steps[-1]
    grey, violet = (208, 212, 219), (118, 80, 200)
    nothing = np.zeros_like(last)
    pages: list[tuple[np.ndarray, np.ndarray, str, str, str]] = []
    for i, mask in enumerate(steps):
        new = int(mask.sum() - steps[i - 1].sum()) if i else 0
        label = (f"{i}. A block: {new} new patches, {mask.sum()} of {total} hidden." if i else
                 f"0. {total} patches; {config.masked} are to be hidden, in blocks of {config.least} at "
                 f"least.")
        pages.append((with_patches(image, nothing, grey), with_patches(image, mask, violet),
                      "teacher", "student", label))
    whole, part = (with_patches(image, hidden, violet) for hidden in (nothing, last))
    pages.append((whole, part, "teacher", "student",
                  f"The student reads {total - last.sum()} patches and {last.sum()} times one learned "
                  f"vector; the teacher reads all {total}."))
    pages.append((with_patches(image, ~last, grey), part, "targets", "student",
                  f"Targets of these {last.sum()} places alone enter the loss; each has seen the whole "
                  f"picture."))
    frames = []
    for one, two, first, second, label in pages:
        frame = Diagram(WIDE, 262, label)
        for x, pixels, name in ((118, one, first), (352, two, second)):
            frame.image(x, 116, pixels, 224)
            frame.text(x, 246, name, 14, weight=600)
        frames.append(frame)
    return player(frames, [page[-1] for page in pages], "Blocks of patches are hidden from the student, one "
                  "after the other, and none from the teacher; targets are asked for where patches are "
                  "hidden", start=len(frames) - 2)


def slow_teacher(
    taus: Sequence[float] = (0.0, 0.5, 0.9, 0.98, 0.99, 0.999), steps: int = 300, seed: int = 0
) -> Block:
    """A slider over tau: one weight of a student that jumps about while it learns, and of its teacher."""
    noise = np.random.default_rng(seed).normal(size=steps + 1)
    u = np.arange(steps + 1)
    theta = 1 - np.exp(-u / 60) + 0.15 * noise
    frames, labels = [], []
    for tau in taus:
        delta = [theta[0]]
        for value in theta[1:]:
            delta.append(tau * delta[-1] + (1 - tau) * value)
        figure, axis = plt.subplots(figsize=(5.6, 2.9))
        axis.plot(u, theta, color="#c9b8ee", linewidth=1, label="student θ")
        axis.plot(u, delta, color=COLOURS["frozen"], label="teacher Δ")
        axis.set(xlabel="update u", ylabel="one weight", ylim=(-0.6, 1.6), xlim=(0, steps))
        axis.legend(loc="lower right", ncols=2)
        frames.append(figure)
        labels.append("The teacher is the student: it jumps as much." if tau == 0 else
                      f"Half of what the teacher was is forgotten after {half_life(tau):.0f} "
                      f"update{'s' if half_life(tau) >= 1.5 else ''}.")
    return slider({"τ": [f"{tau:g}" for tau in taus]}, frames, "Slide tau from 0 to 0.999: a teacher that is "
                  "the student, one that is smooth and follows, one that has hardly left its beginning",
                  labels=labels, start=2, width=560)


# ---------------------------------------------------------------------------------------------------- plots


def two_regimes(beta: Number = 2.0) -> Figure:
    """Smooth L1 and its slope, beside the survey's formula, which jumps at beta."""
    e = torch.linspace(0, 2.5 * float(beta), 1001)
    zero = torch.zeros_like(e)
    survey = survey_smooth_l1(e, float(beta))
    slopes = torch.where(e <= beta, 2 * e / beta, 1.0)
    figure, (loss, slope) = plt.subplots(1, 2, figsize=(6.4, 3.2))
    inside = e <= beta
    for axis, ours, theirs, name in (
            (loss, smooth_l1(zero, e, float(beta)), survey, "loss"),
            (slope, smooth_l1_slope(e, float(beta)), slopes, "slope")):
        axis.axvspan(0, float(beta), color=COLOURS["block"], alpha=0.08)
        axis.plot(e, ours, color=COLOURS["block"], label="smooth L1")
        for part in (inside, ~inside):
            axis.plot(e[part], theirs[part], "--", color=COLOURS["loss"],
                      label="survey's" if part is inside else None)
        axis.set(xlabel="error |e|", title=name, xlim=(0, float(e[-1])), ylim=(0, None))
    loss.legend(loc="upper left")
    return figure


@torch.no_grad()
def expected(
    model: VisionData2Vec, images: UInt8[Tensor, "n 3 s s"], mask: Bool[Tensor, "n p"],
    bank: UInt8[Tensor, "m 3 s s"],
) -> UInt8[Tensor, "n 3 s s"]:
    """The pictures with each hidden patch replaced by that patch of ``bank`` whose target is nearest to what
    the student predicts there."""
    patch = model.student.config.patch
    with eval_mode(model) as device:
        x, y = (standardise(part.to(device).float() / 255, IMAGENET_MEAN, IMAGENET_STD)
                for part in (images, bank))
        prediction = model(x, mask.to(device)).prediction
        known = torch.cat([model.teach(part) for part in y.split(100)]).flatten(0, 1)
        nearest = torch.cdist(prediction, known).argmin(dim=1).cpu()
    cut, pieces = (torch.nn.functional.unfold(part.float(), patch, stride=patch).mT
                   for part in (images, bank))
    cut[mask] = pieces.flatten(0, 1)[nearest]
    return torch.nn.functional.fold(cut.mT, images.shape[-2:], patch, stride=patch).byte()


def behind_the_mask(
    model: VisionData2Vec, images: UInt8[Tensor, "n 3 s s"], mask: Bool[Tensor, "n p"],
    bank: UInt8[Tensor, "m 3 s s"],
) -> Figure:
    """Three rows: pictures, what the student reads of them, and ``expected``."""
    patch = model.student.config.patch
    G = images.shape[-1] // patch
    read = images.clone()
    hidden = mask.reshape(-1, 1, G, 1, G, 1).expand(-1, 3, -1, patch, -1, patch).reshape(images.shape)
    read[hidden] = 208
    rows = {"picture": images, "read": read, "expected": expected(model, images, mask, bank)}
    figure, axes = plt.subplots(3, len(images), figsize=(6.4, 6.4 * 3 / len(images) + 0.2), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items()):
        for axis, pixels in zip(line, pictures):
            axis.imshow(picture(pixels))
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        line[0].set_ylabel(name)
    return figure


def dots(
    axis: Any, values: Mapping[str, Sequence[float]], name: str, base: Number | None = None
) -> None:
    """One line an arm, a dot a seed, a bar at the mean; a dashed line at ``base``."""
    for i, (_, each) in enumerate(values.items()):
        axis.plot(each, [i] * len(each), "o", color=COLOURS["block"], alpha=0.5, markersize=5)
        axis.plot([float(np.mean(each))] * 2, [i - 0.3, i + 0.3], color=COLOURS["block"])
    if base is not None:
        axis.axvline(float(base), color=COLOURS["frozen"], linestyle="--", linewidth=1.2)
    axis.set(title=name, ylim=(len(values) - 0.5, -0.5), xlim=(0, None))
    axis.set_yticks(range(len(values)), list(values))


def collapses(study: Mapping[str, Any]) -> Figure:
    """Per arm of ``results("collapse")``: the spread and the rank of the targets, and what a probe reads; the
    dashed line is an untrained model."""
    arms = study["arms"]
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 3.4), sharey=True)
    for axis, (key, name) in zip(axes, (("target spread", "spread of targets"),
                                        ("target rank", "their rank"), ("probe", "probe"))):
        values = {arm.replace(", ", ",\n").replace("gradient into the", "gradient into\nthe"):
                  [run["scores"][key] for run in runs] for arm, runs in arms.items()}
        untrained = np.mean([run["untrained"][key] for runs in arms.values() for run in runs])
        dots(axis, values, name, float(untrained))
    return figure


QUESTIONS = ("category", "colour", "count")


def what_was_learned(study: Mapping[str, Any]) -> Figure:
    """Per arm of ``results("data2vec-vision")``: what a probe of the last block tells; the dashed line is an
    untrained encoder."""
    arms = study["arms"]
    figure, axes = plt.subplots(1, len(QUESTIONS), figsize=(7.2, 2.8), sharey=True)
    for axis, question in zip(axes, QUESTIONS):
        values = {arm: [run[question]["last"] for run in runs] for arm, runs in arms.items()}
        dots(axis, values, question, float(np.mean(values["untrained"])))
    return figure
