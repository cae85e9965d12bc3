"""Pictures of section 5.3: the whole of Flamingo, one gated block and the resampler, which picture a word
sees, gates that open, accuracy over shots, and what a language model forgets that is not frozen.

Paper: J.-B. Alayrac et al. (2022), arXiv:2204.14198 (its figures 3 to 5 and 7 have the ideas).  Survey: 5.3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.both_modalities.flamingo import FlamingoConfig, media_mask
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, hover, player, slider
from mmlearn.plot import PALETTE, picture

PARTS = ("reads", "feed-forward")               # what the two gates of a block open


def architecture(config: FlamingoConfig, cells: int) -> Diagram:
    """The whole: a picture of ``cells`` cells becomes visual tokens, which gated blocks read between the
    layers of a frozen language model."""
    blocks, r, d, f = len(config.places), config.latents, config.visual, config.features
    drawn = Diagram(520, 500, alt=(
        f"Flamingo: a frozen vision encoder makes {cells} cells of {f} numbers of a picture, the resampler "
        f"{r} visual tokens of {d} numbers; {blocks} gated blocks between the {config.layers} frozen layers "
        f"of the language model read them."))
    shown = drawn.box(110, 34, "picture", "image", w=150)
    encoder = drawn.box(110, 122, "Vision encoder\nfrozen", "frozen", w=170)
    resampler = drawn.box(110, 226, "Resampler\ntrained", "new", w=170)
    visual = drawn.box(110, 330, f"visual tokens\n{r} × {d}", "image", w=150)
    drawn.arrow(shown, encoder)
    drawn.arrow(encoder, resampler, f"{cells} × {f}")
    drawn.arrow(resampler, visual)
    words = drawn.box(380, 34, literal("<image> Output: a red car"), "text", w=240)
    embed = drawn.box(380, 102, "Embedding\nfrozen", "frozen", w=170)
    drawn.arrow(words, embed)
    before = embed
    named = ("1", "2") if blocks > 1 else ("1",)
    for number, name in enumerate(named):
        y = 186 + 134 * number
        gated = drawn.box(380, y, f"Gated block {name}", "new", w=170)
        layer = drawn.box(380, y + 62, f"Layer {1 + config.places[number]}\nfrozen", "frozen", w=170)
        drawn.arrow(before, gated)
        drawn.arrow(gated, layer)
        drawn.arrow(visual, gated, role="image", sides="rl", bend=0.4)
        before = layer
    last = 186 + 134 * (len(named) - 1) + 62
    drawn.text(380, last + 42, f"… {blocks} blocks, {config.layers} layers …", 13, "soft")
    logits = drawn.box(380, last + 92, "next word", "text", w=130)
    drawn.arrow((380, last + 52), logits)
    return drawn


def gated_block() -> Diagram:
    """One gated block, and one layer of the resampler beside it."""
    drawn = Diagram(500, 470, alt=(
        "Left, a gated block: states of the words read the visual tokens of the picture that each sees; what "
        "was read is multiplied by tanh alpha and added; a feed-forward net behind a second gate follows. "
        "Right, a layer of the resampler: latents read the features and themselves, then a feed-forward "
        "net."))
    drawn.group(124, 240, 236, 440, "gated block", "new")
    drawn.group(374, 240, 244, 440, "layer of the resampler", "new")
    x = 80
    states = drawn.box(x, 44, "states *Y*", "text", w=90)
    visual = drawn.box(184, 44, "visual tokens", "image", w=112)
    read = drawn.box(x, 128, "Cross-attention\nmasked by φ", "new", w=140)
    drawn.arrow(states, read, "q")
    drawn.arrow(visual, read, "k, v", role="image", sides="br")
    above = read
    for number, (y, name) in enumerate(((206, "α"), (346, "α'"))):
        if number:
            net = drawn.box(x, 282, "Feed-forward", "new", w=140)
            drawn.arrow(above, net)
            above = net
        times = drawn.node(x, y, "×", "new")
        drawn.text(x + 80, y, f"tanh {name}", 14, "new")
        drawn.arrow(above, times)
        plus = drawn.node(x, y + 38, "+", "text") if number else drawn.node(x, y + 34, "+", "text")
        drawn.arrow(times, plus, head=False)
        above = plus
    drawn.text(x + 80, 384, "to the frozen layer", 13, "soft")
    drawn.arrow(above, (x, 424))
    x = 374
    features = drawn.box(314, 44, "features *X*_f", "image", w=112)
    latents = drawn.box(436, 44, "latents *X*", "new", w=100)
    reads = drawn.box(x, 152, "Attention\nq: latents\nk, v: features and latents", "new", w=224)
    drawn.arrow(features, reads, "k, v", role="image", sides="bt", side=-1)
    drawn.arrow(latents, reads, "q, k, v", sides="bt")
    plus = drawn.node(x, 240, "+", "new")
    net = drawn.box(x, 304, "Feed-forward", "new", w=150)
    again = drawn.node(x, 372, "+", "new")
    for one, two in ((reads, plus), (plus, net), (net, again)):
        drawn.arrow(one, two)
    drawn.arrow(again, (x, 424))
    return drawn


# ------------------------------------------------------------------------------- which picture a word sees


def mask_matrix(words: Sequence[str], phi: Int[Tensor, "1 t"], m: int, sees: str = "last") -> Diagram:
    """The mask over a page (eq:flamingo-mask): a row for each word, a column for each of m pictures; the
    picture that a word sees is filled."""
    seen = media_mask(phi, m, sees)[0]
    left, cell, top = 190, 34, 46
    drawn = Diagram(left + cell * m + 80, top + 26 * len(words) + 14, alt=(
        f"Which of {m} pictures each of {len(words)} words sees: "
        + "; ".join(f"{word}: {', '.join(str(i + 1) for i in range(m) if seen[t, i]) or 'none'}"
                    for t, word in enumerate(words)) + "."))
    drawn.text(left - 46, 20, "word", 13, "soft", "end")
    drawn.text(left - 14, 20, "φ", 14, "soft")
    for i in range(m):
        drawn.text(left + cell * (i + 0.5), 20, f"*x*_{i + 1}", 14, "image")
    for t, word in enumerate(words):
        y = top + 26 * t
        drawn.text(left - 46, y, literal(word), 14, "text" if word.startswith("<") else "", "end")
        drawn.text(left - 14, y, str(int(phi[0, t])), 14, "soft")
        for i in range(m):
            drawn.rect(left + cell * (i + 0.5), y, cell - 4, 22, "image" if seen[t, i] else "", radius=3,
                       marks="" if seen[t, i] else ' style="fill:none"')
    return drawn


def seen_by_words(words: Sequence[str], phi: Int[Tensor, "1 t"], pictures: Sequence[Any]) -> Block:
    """The same to point at: under each word the pictures of the page, framed the one that it sees."""
    n, side = len(pictures), 120
    wide, seen = 40 + (side + 24) * n, media_mask(phi, len(pictures))[0]
    under = Diagram(wide, side + 76, alt="the pictures of a page")
    for i, one in enumerate(pictures):
        under.image(32 + side / 2 + (side + 24) * i, 22 + side / 2, picture(one), side)
    panels = []
    for t, word in enumerate(words):
        sees = [i for i in range(n) if seen[t, i]]
        told = f"sees picture {sees[0] + 1}" if sees else "sees no picture"
        panel = Diagram(wide, side + 76, alt=f"{word} {told}")
        for i in range(n):
            x = 32 + side / 2 + (side + 24) * i
            panel.text(x, side + 38, f"picture {i + 1}", 13, "image" if i in sees else "soft",
                       weight=600 if i in sees else 400)
            if i in sees:
                panel.rect(x, 22 + side / 2, side + 10, side + 10, "image", radius=6,
                           marks=' style="fill:none;stroke-width:5"')
        panel.text(32, side + 62, literal(f"{word}: φ = {int(phi[0, t])}, {told}"), 14, anchor="start")
        panels.append(panel)
    return hover(words, panels, "point at a word of the page to see which picture it sees", under=under,
                 start=len(words) - 1, width=wide)


# -------------------------------------------------------------------------------------- over training


def gates_opening(gates: Sequence[Sequence[Number]]) -> Block:
    """A player over training: |tanh α| of both gates of every block; each row of ``gates`` is a step and
    tanh α, block after block, reading before feed-forward."""
    most = max(0.05, *(abs(value) for row in gates for value in row[1:]))
    frames, labels = [], []
    for step, *values in gates:
        blocks = len(values) // 2
        wide, high = 470, 62 + 58 * blocks
        told = ", ".join(f"{value:.2f}" for value in values)
        frame = Diagram(wide, high, alt=f"gates after step {step}: {told}")
        for i in range(blocks):
            frame.text(14, 34 + 58 * i, f"block {i + 1}", 14, anchor="start", weight=600)
            for j, role in enumerate(("image", "new")):
                y, value = 24 + 58 * i + 22 * j, values[2 * i + j]
                frame.text(172, y, PARTS[j], 13, role, "end")
                frame.bar(182, y, 230 * abs(value) / most, 15, role)
                frame.text(190 + 230 * abs(value) / most, y, f"{value:+.2f}".replace("-", "−"), 13,
                           anchor="start")
        frame.line([(182, 10), (182, high - 40)])
        frame.text(182, high - 22, "0: the block is not there", 13, "soft", "start")
        frames.append(frame)
        labels.append(f"step {step}: tanh α of {2 * blocks} gates")
    return player(frames, labels, "the gates of all blocks open over training", start=-1, width=470)


def over_shots(
    shots: Sequence[int], curves: Mapping[str, Sequence[Number]], chance: Number = 0.5
) -> Block:
    """A slider over the number of shots: a bar for the accuracy of each curve, and where guessing is."""
    frames = []
    wide, high = 500, 60 + 40 * len(curves)
    roles = ("new", "image", "loss", "frozen", "text")
    for k, number in enumerate(shots):
        told = "; ".join(f"{name} {values[k]:.2f}" for name, values in curves.items())
        frame = Diagram(wide, high, alt=f"{number} shots of each word: {told}; chance {chance:.2f}")
        left, length = 150, 280
        for i, (name, values) in enumerate(curves.items()):
            y = 26 + 40 * i
            frame.text(left - 10, y, name, 14, roles[i % len(roles)], "end")
            frame.bar(left, y, length * values[k], 22, roles[i % len(roles)])
            frame.text(left + length + 16, y, f"{100 * values[k]:.0f} %", 14, anchor="start")
        frame.line([(left + chance * length, 8), (left + chance * length, high - 42)], dashed=True)
        frame.text(left + chance * length, high - 24, "guessing", 13, "soft")
        frames.append(frame)
    return slider({"shots of each word": list(shots)}, frames, "accuracy over the number of shots",
                  labels=[f"{number} shots of each word in the prompt" for number in shots],
                  start=len(frames) - 1, width=wide)


def forgotten(before: Number, after: Mapping[str, Sequence[Number]]) -> Figure:
    """The loss on text alone, one dot a seed, of each arm; the line is that before training."""
    figure, axis = plt.subplots(figsize=(6.2, 0.6 * len(after) + 1.3), layout="constrained")
    for i, (name, values) in enumerate(after.items()):
        axis.plot(values, [i] * len(values), "o", color=PALETTE[i % len(PALETTE)], label=name)
    axis.axvline(before, color="black", linestyle="--", linewidth=1.2)
    axis.annotate("before training", (before, -0.55), xytext=(4, 0), textcoords="offset points", fontsize=9)
    axis.set(yticks=range(len(after)), yticklabels=[*after], xlabel="loss on text alone, nats a token",
             ylim=(len(after) - 0.5, -0.8))
    return figure


def page_of(text: str) -> tuple[list[str], Int[Tensor, "1 t"]]:
    """The words of a page written with spaces, and which picture was shown last at each: ``<image>`` shows
    the next one."""
    words = text.split()
    shows = torch.tensor([[word == "<image>" for word in words]])
    return words, shows.cumsum(dim=1)
