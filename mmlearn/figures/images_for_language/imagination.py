"""Figures of section 3.6: VQGAN+CLIP, iACE's flow chart, the spherical loss beside the cosine, and a picture
that is imagined step by step.

Papers: K. Crowson et al. (2022), *VQGAN-CLIP*, ECCV, arXiv:2204.08583, fig. 1; Y. Lu et al. (2022),
*Imagination-Augmented Natural Language Understanding*, NAACL, arXiv:2204.08535, fig. 2.  Survey: 3.6.

Teal are pictures, amber is text, violet is what moves or is new, red are losses, grey is frozen.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from mmlearn.data.tokenisers import Tokeniser
from mmlearn.figures.diagram import COLOURS, Diagram, literal
from mmlearn.figures.interactive import Block, player
from mmlearn.figures.text2image.architecture import CAPTION, real_picture, stand_in
from mmlearn.figures.text2image.compression import code_grid
from mmlearn.images_for_language.iace import IACEConfig
from mmlearn.images_for_language.imagination import embedded
from mmlearn.images_for_language.vqgan_clip import VQGANCLIP, VQGANCLIPConfig, spherical_loss
from mmlearn.plot import PALETTE
from mmlearn.text2image.vqgan import VQGANConfig

SAID = f"“{CAPTION}”"


# ------------------------------------------------------------------------------------------------- diagrams


def vqgan_clip(config: VQGANCLIPConfig | None = None) -> Diagram:
    """The loop of VQGAN+CLIP: latents, codes, picture, cuts, angle, and the gradient back to the latents."""
    config = config or VQGANCLIPConfig.paper()
    side, cuts, sees = config.size // config.factor, config.cutouts.cuts, config.clip.size
    numbers = f"{config.vqgan.embed} × " if isinstance(config.vqgan, VQGANConfig) else ""
    drawn = Diagram(470, 372, (
        f"VQGAN+CLIP. Latents z, a grid of {side} by {side} vectors, are the only thing that moves, in "
        "violet. At each place the nearest code of the frozen codebook takes their place; a frozen decoder "
        f"draws a picture x of {config.size} by {config.size} pixels. {cuts} cutouts are made of it, each "
        f"turned, bent and noised, {sees} by {sees} pixels; CLIP, frozen, embeds every cut. The sentence "
        f"{CAPTION} is embedded by CLIP once. The loss, in red, is the mean of half the squared angle of "
        "cuts and sentence. Dashed: its gradient goes back through CLIP, the cutouts, the decoder and "
        f"straight through the choice of codes to z, and Adam takes a step, {config.steps} times."))
    z = code_grid(drawn, 60, 74, 4, 4, 15)
    drawn.text(60, 28, "*z*", 16, "new", weight=600)
    drawn.text(60, 118, f"{numbers}{side}^2", 13, "new")
    near = drawn.box(168, 74, "nearest code\nfrozen", "frozen", 114, 48)
    decoder = drawn.box(296, 74, "decoder\nfrozen", "frozen", 82, 48)
    picture = stand_in(real_picture(), 2)
    x = drawn.image(410, 74, picture, 84)
    drawn.text(410, 20, f"*x*, 3 × {config.size}^2", 13, "image")
    for before, after in ((z, near), (near, decoder), (decoder, x)):
        drawn.arrow(before, after)
    drawn.text(326, 36, "in [0, 1]", 13, "soft")
    cut = drawn.box(376, 186, f"{cuts} cutouts of {sees}^2\nturned, bent, torn, noised", "image", 186, 48)
    drawn.arrow((410, 116), (410, 162))
    seen = drawn.box(376, 268, "CLIP, picture\nfrozen", "frozen", 120, 48)
    drawn.arrow(cut, seen)
    loss = drawn.box(222, 268, "loss\nmean of *θ*^2/2", "loss", 120, 48)
    drawn.arrow(seen, loss, "*u*")
    reads = drawn.box(222, 342, "CLIP, text, frozen", "frozen", 158, 32)
    drawn.arrow(reads, loss, "*t*", "text", sides="tb")
    drawn.text(12, 342, "“a yellow bird …”", 13, "text", "start")
    drawn.line([(162, 268), (60, 268), (60, 128)], "loss", dashed=True, head=True)
    drawn.text(68, 190, "gradient, through all", 13, "loss", "start")
    drawn.text(68, 207, "of it, back to *z*: Adam", 13, "loss", "start")
    return drawn


def iace(config: IACEConfig | None = None) -> Diagram:
    """iACE's flow chart: a language model and an imagining branch, two losses, one mean of logits."""
    config = config or IACEConfig.base()
    e = config.embed
    drawn = Diagram(470, 472, (
        f"iACE. The sentence {CAPTION} goes three ways. Left: into BERT, which phase 1 has trained with "
        "vokens, and whose logits have the loss L Lang. Middle: into CLIP's frozen text encoder, "
        f"{e} numbers t. Right: into the imagination generator, VQGAN+CLIP, whose picture goes into CLIP's "
        f"frozen picture encoder, {e} numbers v. A head, violet, reads v and t in both orders; the mean "
        "of both cross-entropies is L Imagine. The loss weighs L Lang with 1 - lambda and L Imagine with "
        "lambda. As t and v are constants, no gradient leaves the head upwards, and none reaches "
        "BERT. The answer is the mean of both logits."))
    drawn.text(235, 16, SAID, 14, "text", weight=600)
    drawn.line([(90, 30), (350, 30)], "text")
    generator = drawn.box(350, 80, "imagination generator\nVQGAN+CLIP", "new", 200, 48)
    drawn.arrow((350, 30), generator, role="text")
    bert = drawn.box(90, 226, f"BERT, {config.bert.layers} layers\nphase 1: vokens", "", 140, 48)
    drawn.arrow((90, 30), bert, role="text")
    picture = drawn.image(410, 152, stand_in(real_picture(), 2), 64)
    drawn.text(370, 152, "imagined", 13, "image", "end")
    drawn.arrow((410, 104), picture)
    sees = drawn.box(410, 226, "CLIP, picture\nfrozen", "frozen", 116, 48)
    drawn.arrow(picture, sees)
    reads = drawn.box(270, 226, "CLIP, text\nfrozen", "frozen", 116, 48)
    drawn.arrow((236, 30), (236, 202), role="text")
    for x, label, role, box in ((270, f"*t*, {e}", "text", reads), (410, f"*v*, {e}", "image", sees)):
        cell = drawn.rect(x, 288, 84, 26, role, radius=4)
        drawn.text(x, 288, label, 14)
        drawn.arrow(box, cell)
        drawn.arrow((x, 301), (x, 338))
    drawn.text(340, 320, "no gradient", 13, "loss", halo=True)
    head = drawn.box(340, 362, "head, read twice\n[*v*; *t*] and [*t*; *v*]", "new", 200, 48)
    answer = drawn.box(162, 362, "answer\nmean", "", 80, 46)
    drawn.arrow((90, 362), answer)
    drawn.arrow(head, answer)
    language = drawn.box(90, 444, "*L_{Lang}*\ncross-entropy", "loss", 124, 46)
    drawn.arrow(bert, language)
    drawn.text(82, 306, "*a_{Lang}*", 14, "soft", "end")
    imagine = drawn.box(340, 444, "*L_{Imagine}*\nmean of two", "loss", 124, 46)
    drawn.arrow(head, imagine, "*a*_1, *a*_2", "loss")
    both = drawn.box(215, 444, "*L*", "loss", 44, 34)
    drawn.arrow(language, both, role="loss")
    drawn.arrow(imagine, both, role="loss")
    drawn.text(172, 428, "1 − λ", 13, "loss")
    drawn.text(258, 428, "λ", 13, "loss")
    return drawn


# ---------------------------------------------------------------------------------------------------- plots


def angle_losses(points: int = 181) -> Figure:
    """Half the squared angle and one minus the cosine, and their slopes, from 0 to 180 degrees."""
    angle = torch.linspace(0, 180, points, dtype=torch.float64)
    theta = angle.deg2rad()
    v = torch.stack([theta.cos(), theta.sin()], dim=1)
    u = torch.tensor([1.0, 0.0], dtype=torch.float64).expand_as(v)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.8))
    left.plot(angle, spherical_loss(u, v), color=COLOURS["image"], label="θ²/2")
    left.plot(angle, 1 - theta.cos(), "--", color=COLOURS["loss"], label="1 − cos θ")
    right.plot(angle, theta, color=COLOURS["image"], label="θ")
    right.plot(angle, theta.sin(), "--", color=COLOURS["loss"], label="sin θ")
    for axis, name in ((left, "loss"), (right, "slope")):
        axis.set(xlabel="angle, degrees", ylabel=name, xticks=(0, 60, 120, 180))
        axis.legend(fontsize=9, loc="upper left")
    return figure


# ---------------------------------------------------------------------------------------------- moving ones


def few_labels(tasks: Mapping[str, Mapping[int, Mapping[str, Sequence[float]]]]) -> Figure:
    """Accuracy over the number of labelled examples, a panel for each task and a line for each arm: the mean
    over seeds and, as a bar, its standard error.

    Args:
        tasks: task -> number of examples -> arm -> scores, one a seed.
    """
    columns = 2 if len(tasks) == 2 else 3
    lines = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
    rows = -(-(len(tasks) + 1) // columns)                          # the last panel holds the legend
    figure, axes = plt.subplots(rows, columns, figsize=(2.5 * columns, 2.2 * rows), layout="constrained",
                                sharex=True)
    panels = list(axes.flat)
    for axis, (task, by_number) in zip(panels, tasks.items()):
        numbers = list(by_number)
        for k, arm in enumerate(by_number[numbers[0]]):
            scores = torch.tensor([by_number[n][arm] for n in numbers], dtype=torch.float64)
            error = scores.std(dim=1) / scores.shape[1] ** 0.5 if scores.shape[1] > 1 else 0 * scores[:, 0]
            axis.errorbar(numbers, scores.mean(dim=1).numpy(), error.numpy(), color=PALETTE[k], label=arm,
                          marker="os^Dv"[k % 5], markersize=4, linestyle=lines[k % 5])
        low, high = axis.get_ylim()
        spare = max(0.0, 0.2 - (high - low)) / 2                    # no panel makes much of a hundredth
        axis.set_ylim(low - spare, high + spare)
        axis.set_title(task)
        axis.set_xscale("log", base=2)
        axis.set_xticks(numbers, [str(n) for n in numbers])
        axis.tick_params(labelbottom=True)
    legend = panels[len(tasks)]
    legend.legend(*panels[0].get_legend_handles_labels(), loc="center", frameon=False)
    for axis in panels[len(tasks):]:
        axis.axis("off")
    figure.supxlabel("labelled examples")
    figure.supylabel("accuracy")
    return figure


def imagining(
    model: VQGANCLIP, tokeniser: Tokeniser, texts: Sequence[str], frames: int = 13, seed: int = 0
) -> Block:
    """A player over the steps of the optimisation: what is imagined for each text (one to three), and the
    loss of each step.

    Raises ``ValueError`` for another number of texts, for a model that takes no step and for less than 2
    frames.
    """
    if not 1 <= len(texts) <= 3:
        raise ValueError(f"{len(texts)} texts; a player shows 1 to 3")
    if frames < 2 or not model.config.steps:
        raise ValueError(f"{frames} frames of {model.config.steps} steps; give 2 frames and 1 step at least")
    every = max(1, round(model.config.steps / (frames - 1)))
    found = model.imagine(embedded(model.clip, tokeniser, list(texts)), seed=seed, keep_every=every)
    losses, steps = found.losses, model.config.steps
    cell = min(150.0, 450 / len(texts))
    left, wide, top, foot = 54.0, 396.0, cell + 62, cell + 150
    most = float(losses.max()) * 1.05
    high = foot + 40
    middle = [235 + cell * (i - (len(texts) - 1) / 2) for i in range(len(texts))]
    roles = ("image", "text", "block")

    def at(step: int, value: float) -> tuple[float, float]:
        return left + wide * step / max(steps - 1, 1), foot - (foot - top) * value / most

    under = Diagram(470, high, "the sentences and the loss of every step")
    for x, text, role in zip(middle, texts, roles):
        under.text(x, 12, literal(text), 14, role, weight=600)
    under.line([(left, top - 10), (left, foot), (left + wide + 10, foot)])
    under.text(left - 6, top, f"{most:.2f}", 13, "soft", "end")
    under.text(left - 6, foot, "0", 13, "soft", "end")
    under.text(left - 6, (top + foot) / 2, "loss", 13, "soft", "end")
    under.text(left + wide / 2, foot + 26, "step", 13, "soft")
    for i, role in enumerate(roles[: len(texts)]):
        if steps > 1:
            under.line([at(step, value) for step, value in enumerate(losses[:, i].tolist())], role)
    shown, labels = [], []
    for step, pictures in zip(found.frame_steps, found.frames):
        drawn = Diagram(470, high, f"after {step} steps")
        for x, pixels in zip(middle, pictures):
            drawn.image(x, 28 + (cell - 6) / 2, pixels, cell - 6)
        if step < steps:
            for i, role in enumerate(roles[: len(texts)]):
                x, y = at(step, float(losses[step, i]))
                drawn.add(f'<circle class="mm-h mm-{role}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
            mean = float(losses[step].mean())
            angle = float(torch.tensor(2 * mean).sqrt().rad2deg())
            labels.append(f"after {step} of {steps} steps: loss {mean:.2f}, an angle of about {angle:.0f}°")
        else:
            labels.append(f"after {steps} steps")
        shown.append(drawn)
    return player(shown, labels, "Pictures that are imagined step by step for: " + ", ".join(texts),
                  under=under, seconds=0.5)
