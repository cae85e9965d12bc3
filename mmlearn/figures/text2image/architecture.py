"""Diagrams of sections 2.1.1 and 2.1.2: the game of two networks, DCGAN, char-CNN-RNN, GAN-CLS; and the
family that GAN-CLS founded.

Papers: I. Goodfellow et al. (2014), arXiv:1406.2661, sec. 3; A. Radford et al. (2016), arXiv:1511.06434, fig.
1; S. Reed et al. (2016), *Learning Deep Representations of Fine-Grained Visual Descriptions*,
arXiv:1605.05395, sec. 4; S. Reed et al. (2016), *Generative Adversarial Text to Image Synthesis*,
arXiv:1605.05396, sec. 4.  Survey: 2.1.1, 2.1.2.

Teal are pictures, amber is text, violet is what a system adds to the one before it, red are losses, grey is
trained before and frozen; boxes without colour were there before. Pictures are drawn by the scene world; one
that stands for a generated picture is a real one whose pixels were moved.
"""

import numpy as np

from mmlearn.data.scenes import portrait, render
from mmlearn.figures.diagram import Box, Diagram, Number
from mmlearn.text2image.char_cnn_rnn import CharCNNRNNConfig
from mmlearn.text2image.dcgan import DCGANConfig
from mmlearn.text2image.gan_cls import GANCLSConfig

X_HAT = "x\u0302"                           # a generated picture
CAPTION = "a yellow bird in a meadow"
SHORT = "“a yellow bird …”"


def real_picture(size: int = 96) -> np.ndarray:
    """The picture of ``CAPTION``, (size, size, 3) bytes."""
    return render(portrait("bird", colour="yellow", setting="meadow"), size=size).image


def other_picture(size: int = 96) -> np.ndarray:
    """A picture that ``CAPTION`` does not fit."""
    return render(portrait("car", colour="red", setting="street"), size=size).image


def stand_in(pixels: np.ndarray, strength: Number = 4) -> np.ndarray:
    """A picture that looks as if a network had drawn it: blurred, its pixels moved along slow waves."""
    size = len(pixels)
    y, x = np.mgrid[:size, :size]
    turn, far = 2 * np.pi / size, strength * size / 96
    down = y + far * (np.sin(2.3 * turn * x) + np.sin(1.7 * turn * (x + y) + 1))
    right = x + far * (np.sin(2.7 * turn * y + 2) + np.sin(3.1 * turn * (x - y)))
    rows, columns = (place.round().astype(int).clip(0, size - 1) for place in (down, right))
    near = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    moved = pixels[rows, columns].astype(float)
    return (sum(np.roll(moved, shift, (0, 1)) for shift in near) / len(near)).astype(np.uint8)


def noise_box(drawn: Diagram, x: Number, y: Number, label: str = "*z*", below: str = "") -> Box:
    """A column of noise: eight cells of grey, the symbol above and the size below."""
    shades = np.random.default_rng(3).uniform(0.15, 0.8, 8)
    for i, shade in enumerate(shades):
        drawn.add(f'<rect class="mm-h" x="{x - 6:g}" y="{y - 28 + 7 * i:g}" width="12" height="7" '
                  f'opacity="{shade:.2f}"/>')
    box = drawn.rect(x, y, 12, 56, radius=1, marks=' style="fill:none;stroke-width:1"')
    drawn.text(x, y - 40, label, 15, weight=600)
    if below:
        drawn.text(x, y + 40, below, 13, "soft")
    return box


# --------------------------------------------------------------------------------------- 2.1.1, without text


def game() -> Diagram:
    """Two networks against each other: what each sees, its loss, and whom a loss moves."""
    drawn = Diagram(470, 330, (
        "The game of two networks. Noise z becomes a generated picture x hat in the generator G; data give a "
        "real picture x. The discriminator D sees either and gives a logit a; its sigmoid is the probability "
        "D that the picture is real. Two losses hang on D: L_D, minus log D(x) minus log of 1 minus D(x "
        "hat), moves only the discriminator; L_G, minus log D(x hat), moves only the generator, through D. "
        "Violet: the discriminator, which stands where other models have a fixed loss."))
    picture = real_picture()
    z = noise_box(drawn, 28, 62, below="*d_z*")
    G = drawn.box(140, 62, "generator *G*\n*"+X_HAT+"* = *G*(*z*)", "block", 124, 54)
    fake = drawn.image(272, 50, stand_in(picture), 76)
    drawn.text(272, 100, f"generated *{X_HAT}*", 13, "image")
    drawn.arrow(z, G)
    drawn.arrow((202, 62), (234, 62))
    for i in (2, 1):
        drawn.rect(172 + 6 * i, 178 - 6 * i, 60, 60, "image", 3)
    drawn.image(172, 178, picture, 60)
    real = drawn.image(272, 172, picture, 76)
    drawn.text(178, 222, "data", 13, "image")
    drawn.text(272, 222, "real *x*", 13, "image")
    drawn.arrow((214, 172), real)
    drawn.box(398, 111, "discriminator *D*\nreal or generated?", "new", 136, 60)
    drawn.arrow(fake, (330, 98), sides="rl", bend=0.4)
    drawn.arrow(real, (330, 124), sides="rl", bend=0.4)
    drawn.text(316, 32, "3 × *s* × *s*", 13, "soft", "start")
    drawn.box(322, 296, f"*L_D* = −log *D*(*x*) − log(1 − *D*(*{X_HAT}*))", "loss", 288, 36)
    drawn.box(82, 296, f"*L_G* = −log *D*(*{X_HAT}*)", "loss", 150, 36)
    drawn.line([(372, 141), (372, 252)])
    drawn.text(364, 196, "logit *a*", 13, "soft", "end", halo=True)
    drawn.text(362, 240, "*D* = *σ*(*a*)", 13, "soft", "end", halo=True)
    drawn.arrow((372, 252), (372, 278))
    drawn.arrow((372, 254), (136, 278), sides="lt")
    drawn.arrow((446, 278), (446, 141), role="loss", dashed=True)
    drawn.text(438, 196, "moves", 13, "loss", "end")
    drawn.text(438, 213, "only *D*", 13, "loss", "end")
    drawn.arrow((100, 278), (100, 89), role="loss", dashed=True)
    drawn.text(92, 176, "moves", 13, "loss", "end")
    drawn.text(92, 193, "only *G*", 13, "loss", "end")
    return drawn


def dcgan(config: DCGANConfig | None = None) -> Diagram:
    """DCGAN's two networks as maps: the side doubles and the channels halve, then the reverse."""
    config = config or DCGANConfig.paper()
    ups = int(np.log2(config.size)) - 2
    sides = [4 << i for i in range(ups + 1)]
    widths = [[n << (ups - 1 - i) for i in range(ups)] + [3]
              for n in (config.generator_width, config.discriminator_width)]
    walk = ", ".join(f"{c} maps of {s} by {s}" for c, s in zip(widths[0], sides))
    back = ", ".join(f"{c} maps of {s} by {s}" for c, s in zip(widths[1][::-1], sides[::-1]))
    drawn = Diagram(470, 398, (
        f"DCGAN. Generator: {config.noise} numbers of noise become {walk}, the last being the picture; each "
        "step is a transposed convolution of 4 by 4 with stride 2, batch norm and ReLU, the last one ends in "
        f"tanh. Discriminator: the way back by strided convolutions, {back}, then one logit; LeakyReLU after "
        "each, batch norm from the second on. Violet: strided convolutions and batch norm throughout."))
    for row, y in enumerate((92, 286)):
        name, order = (("generator *G*", range(ups + 1)), ("discriminator *D*", range(ups, -1, -1)))[row]
        drawn.text(16, y - 78, name, 15, anchor="start", weight=600)
        left, tallest = 62, 88
        step = (452 - 44 - left) / ups
        boxes = []
        for place, i in enumerate(order):
            at = left + step * place if row == 0 else 62 + step * place
            height = tallest * (sides[i] / sides[-1]) ** 0.5
            if i == ups:
                picture = real_picture()
                box = drawn.image(at, y, stand_in(picture) if row == 0 else picture, tallest)
            else:
                box = drawn.rect(at, y, 12 + 26 * widths[row][i] / max(widths[row]), height, "image", 3)
            drawn.text(at, y - height / 2 - 12, str(widths[row][i]), 13, "image", weight=600)
            drawn.text(at, y + height / 2 + 13, f"{sides[i]} × {sides[i]}", 13, "soft")
            boxes.append(box)
        for before, after in zip(boxes, boxes[1:]):
            drawn.arrow(before, after, role="new")
        if row == 0:
            z = noise_box(drawn, 18, y, below=str(config.noise))
            drawn.arrow(z, boxes[0], role="new")
        else:
            drawn.arrow(boxes[-1], (446, y), role="new")
            drawn.text(455, y, "*a*", 15, weight=600)
            drawn.text(452, y + 22, "1", 13, "soft")
    drawn.text(235, 168, "→ transposed convolution 4 × 4, stride 2; batch norm, ReLU", 13, "new")
    drawn.text(235, 362, "→ convolution 4 × 4, stride 2; batch norm, LeakyReLU", 13, "new")
    drawn.text(235, 386, "above a map: its channels; below: its places", 13, "soft")
    return drawn


# ------------------------------------------------------------------------------------------ 2.1.2, with text


def char_cnn_rnn(config: CharCNNRNNConfig | None = None) -> Diagram:
    """A caption letter by letter: convolutions shorten it, a recurrence reads the rest, its mean is embedded;
    beside it the picture that it is trained against."""
    config = config or CharCNNRNNConfig.cvpr()
    a, b, c = config.channels
    t, s = config.length, config.steps
    second = (t - 3) // 3
    third = (second - 3) // 3
    kind = "GRU" if config.recurrence == "gru" else "ReLU RNN"
    drawn = Diagram(470, 556, (
        f"char-CNN-RNN. A caption of {t} characters is a one-hot matrix of {config.symbols} by {t}. Three "
        "convolutions of width 4 with max-pooling run over the whole text and shorten it to "
        f"{a} by {second}, {b} by {third} and {c} by {s}. A recurrence, {kind}, reads the {s} steps, each "
        f"state from its step and the state before. The mean of the {s} states passes a linear layer to "
        f"{config.embed} numbers, phi(t). A frozen GoogLeNet gives theta(v) of as many numbers for the "
        "picture; the inner product F of the two is trained by a ranking loss with margin 1 in both "
        "directions."))
    left, scale = 20, 428 / t
    drawn.text(left, 16, f"“{CAPTION}” *t*, {t} characters", 14, "text", "start")
    strips = []
    for y, length, channels, tall in ((44, t, config.symbols, 14), (114, second, a, 22),
                                      (188, third, b, 26), (262, s, c, 18)):
        w = scale * length
        strips.append(drawn.rect(left + w / 2, y, w, tall, "text", 2))
        if length != t:
            drawn.text(left + w + 10, y, f"{channels} × {length}", 14, anchor="start", weight=600)
    for i in range(1, t):
        if i % 3 == 0:
            drawn.line([(left + scale * i, 37), (left + scale * i, 51)], "text")
    drawn.text(448, 66, f"one-hot, {config.symbols} × {t}", 13, "soft", "end")
    last = "convolution 4, ReLU; max-pool 3, stride 2" if config.last_pool else "convolution 4, ReLU"
    for above, below, label in zip(strips, strips[1:], ["convolution 4, ReLU; max-pool 3"] * 2 + [last]):
        drawn.arrow((left + 8, above.at("b")[1]), (left + 8, below.at("t")[1]), label)
    cell = 300 / s
    size = min(24, cell - 5)
    cells = [left + 14 + cell * (i + 0.5) for i in range(s)]
    ends = strips[-1]
    for x0, x1 in ((ends.x - ends.w / 2, cells[0] - cell / 2), (ends.x + ends.w / 2, cells[-1] + cell / 2)):
        drawn.line([(x0, 271), (x1, 304)], "text", dashed=True)
    states: list[Box] = []
    for i, x in enumerate(cells):
        drawn.rect(x, 311, cell, 14, "text", 2)
        state = drawn.rect(x, 352, size, size, "text", size / 2)
        if s <= 10:
            drawn.text(x, 352, f"*h*_{i + 1}", 13)
        drawn.arrow((x, 318), state)
        if states:
            drawn.line([states[-1].at("r"), state.at("l")], "text", head=s <= 10)
        states.append(state)
        drawn.line([state.at("b"), (x, 376), (170, 376)], "text")
    drawn.text(352, 311, f"{s} steps of {c}", 13, "soft", "start")
    drawn.text(352, 343, kind, 13, "text", "start", 600)
    drawn.text(352, 360, "*h_t* from *h_{t−1}*", 13, "text", "start")
    mean = drawn.box(170, 410, f"mean of {s} states, {c}", "text", 196, 30)
    drawn.arrow((170, 376), mean, role="text")
    linear = drawn.box(170, 462, "linear", "text", 84, 30)
    drawn.arrow(mean, linear)
    phi = drawn.box(170, 526, f"φ(*t*), {config.embed}", "text", 104, 34)
    drawn.arrow(linear, phi)
    seen = drawn.image(404, 414, real_picture(), 56)
    trunk = drawn.box(404, 474, "GoogLeNet", "frozen", 96, 28)
    theta = drawn.box(404, 526, f"θ(*v*), {config.embed}", "image", 104, 34)
    drawn.arrow(seen, trunk)
    drawn.arrow(trunk, theta)
    loss = drawn.box(287, 526, "*F*, margin 1", "loss", 98, 34)
    drawn.arrow(phi, loss)
    drawn.arrow(theta, loss)
    drawn.text(287, 496, "θ(*v*)^{⊤}φ(*t*)", 13, "soft")
    return drawn


def gan_cls(config: GANCLSConfig | None = None) -> Diagram:
    """Text enters both networks; the discriminator is shown three kinds of pairs."""
    config = config or GANCLSConfig.gan_int_cls()
    z, e, p, s = config.noise, config.text, config.compressed, config.size
    top = config.discriminator_width << (int(np.log2(s)) - 3)
    drawn = Diagram(470, 622, (
        f"GAN-CLS. The caption's embedding phi(t), {e} numbers of a frozen char-CNN-RNN, enters both "
        f"networks through a linear layer to {p} numbers. In the generator it stands behind the noise of {z} "
        f"numbers, and DCGAN's layers turn the {z + p} into a picture of {s} by {s}. In the discriminator "
        f"the picture becomes {top} maps of 4 by 4, to which the {p} numbers are joined at each of the 16 "
        "places; two convolutions give one logit. The discriminator is shown three kinds of pairs: a real "
        "picture with its caption, to be called real; a real picture with a wrong caption, weight one half, "
        "and a generated picture with its caption, weight one half, to be called not real. GAN-INT adds "
        "captions halfway between two captions to the generator's loss only."))
    phi = drawn.box(62, 196, f"φ(*t*)\n{e}", "text", 84, 48)
    drawn.text(20, 150, SHORT, 13, "text", "start")
    drawn.text(20, 242, "char-CNN-RNN,", 13, "soft", "start")
    drawn.text(20, 259, "frozen", 13, "soft", "start")
    noise = noise_box(drawn, 28, 62, below=str(z))
    fc_g = drawn.box(168, 128, f"linear, {p}", "new", 104, 30)
    join = drawn.node(168, 62, "⊕", "new")
    drawn.arrow(noise, join)
    drawn.arrow(phi, fc_g, role="text", sides="rb")
    drawn.arrow(fc_g, join, role="new")
    G = drawn.box(288, 62, "generator *G*\nDCGAN’s layers", "", 122, 52)
    drawn.arrow(join, G, str(z + p))
    fake = drawn.image(416, 62, stand_in(real_picture()), 76)
    drawn.arrow(G, fake)
    drawn.text(416, 112, f"*{X_HAT}*, 3 × {s} × {s}", 13, "image")
    convs = drawn.box(390, 176, "convolutions\nof *D*, as DCGAN", "", 128, 48)
    joined = drawn.node(390, 256, "⊕", "new")
    fc_d = drawn.box(236, 256, f"linear, {p}", "new", 104, 30)
    drawn.text(236, 284, "joined at each place", 13, "soft")
    drawn.arrow((416, 120), (416, 152), sides="bt")
    drawn.arrow(convs, joined, f"{top} × 4²", sides="bt")
    drawn.arrow(phi, fc_d, role="text", sides="rt")
    drawn.arrow(fc_d, joined, role="new")
    score = drawn.box(390, 318, "conv 1, conv 4", "", 128, 30)
    drawn.arrow(joined, score, f"{top + p} × 4²")
    drawn.arrow(score, (390, 358), sides="bt")
    drawn.text(384, 369, "logit: real and fitting?", 13)
    drawn.text(20, 346, "three kinds of pairs for *D*", 15, anchor="start", weight=600)
    rows = (("real *x*", real_picture(), "right text", "real", "weight 1", ""),
            ("real *x*", other_picture(), "wrong text",
             "not real", "weight ½", "new"),
            (f"generated *{X_HAT}*", stand_in(real_picture()), "right text", "not real", "weight ½", ""))
    for i, (name, pixels, text, label, weight, role) in enumerate(rows):
        y, x0 = 372 + 62 * i, 20
        if role:
            drawn.rect(235, y + 40, 446, 58, role, 10)
        drawn.image(x0 + 28, y + 40, pixels, 46)
        drawn.text(x0 + 60, y + 31, name, 14, "image", "start", 600)
        drawn.text(x0 + 60, y + 50, f"{SHORT}: {text}", 13, "text", "start")
        drawn.text(440, y + 31, label, 14, "loss", "end", 600)
        drawn.text(440, y + 50, weight, 13, "soft", "end")
    drawn.rect(235, 590, 446, 46, "new", 10, ' style="stroke-dasharray:5 4"')
    drawn.text(30, 581, "GAN-INT: ½ φ(*t*_1) + ½ φ(*t*_2) as a third caption", 14, "new", "start", 600)
    drawn.text(30, 600, "only in the generator’s loss: no real picture fits it", 13, "soft", "start")
    return drawn


# ------------------------------------------------------------------------------------------------- the family


_FAMILY = (
    ("GAN-CLS", "2016", "64^2", ("text in both nets;", "wrong pairs", "shown to *D*")),
    ("StackGAN", "2017", "64^2, then 256^2", ("a sketch first;", "conditions drawn", "around a caption")),
    ("AttnGAN", "2018", "64^2, 128^2, 256^2", ("places read words;", "DAMSM checks", "words on regions")),
    ("DM-GAN", "2019", "64^2, 128^2, 256^2", ("a memory of words,", "written and read", "through gates")),
    ("DF-GAN", "2022", "256^2 at once", ("text at every depth;", "one score, flat at", "matching pairs")),
)


def family() -> Diagram:
    """Five systems side by side, and what each added."""
    alt = ("What each system added. GAN-CLS, 2016, 64 pixels a side: text enters both networks, and the "
           "discriminator is shown real pictures with wrong text. StackGAN, 2017, 64, then 256 pixels: a "
           "sketch before the picture, and conditions drawn around the caption's. AttnGAN, 2018, 64, 128 and "
           "256 pixels: places of the picture read words, and DAMSM checks words against regions. DM-GAN, "
           "2019, the same sizes: a memory of the words, written and read through gates. DF-GAN, 2022, 256 "
           "pixels at once: one stage into which text enters at every depth, and a discriminator with one "
           "score that is flat at matching pairs. Each builds on the one before, but DF-GAN returns to one "
           "stage.")
    drawings = []
    for across in (True, False):
        drawn = Diagram(800 if across else 370, 236 if across else 552, alt)
        cards, anchor = [], "middle" if across else "start"
        for i, (name, year, sizes, added) in enumerate(_FAMILY):
            x, y = (80 + 160 * i, 118) if across else (185, 58 + 109 * i)
            cards.append(drawn.rect(x, y, *((146, 224) if across else (358, 92)), "", 12))
            _emblem(drawn, i, *((x, 84) if across else (72, y)))
            left, top, step = (x, 148, 20) if across else (142, y - 6, 18)
            drawn.text(left, 26 if across else y - 30, f"{name}, {year}", 15, anchor=anchor, weight=600)
            for k, line in enumerate(added):
                drawn.text(left, top + step * k, line, 13, "new", anchor)
            if across:
                drawn.text(x, 214, sizes, 13, "image")
            else:
                drawn.text(354, y + 30, sizes.replace(", ", " "), 13, "image", "end")
        for before, after in zip(cards[:3], cards[1:]):
            drawn.arrow(before, after)
        drawings.append(drawn)
    drawings[0].narrow = drawings[1]
    return drawings[0]


def _emblem(drawn: Diagram, which: int, x: Number, y: Number) -> None:
    """A sign 110 by 70 for what one of the family added."""
    picture = real_picture(64)
    if which == 0:
        for side, pixels, sign in ((-1, picture, "✓"), (1, other_picture(64), "✗")):
            drawn.image(x + 28 * side, y - 10, pixels, 44)
            drawn.text(x + 28 * side, y + 24, sign, 16, "new", weight=600)
    elif which == 1:
        small = drawn.image(x - 38, y + 8, stand_in(real_picture(20), 6), 30)
        drawn.arrow(small, (x - 6, y + 8), role="new")
        drawn.image(x + 26, y, picture, 64)
    elif which == 2:
        drawn.image(x - 24, y, picture, 60)
        drawn.rect(x - 22, y - 8, 12, 12, "new", 1, ' style="fill:none;stroke-width:2.5"')
        for k, share in enumerate((4, 30, 20, 3)):
            drawn.line([(x - 15, y - 8), (x + 20, y - 24 + 16 * k)], "new")
            drawn.bar(x + 22, y - 24 + 16 * k, share, 9, "text")
    elif which == 3:
        memory = drawn.matrix(x, y, ["new"] * 4, 4, 13)
        drawn.arrow(drawn.node(x - 48, y, "*g*", "new"), memory, role="new")
        drawn.arrow(memory, drawn.node(x + 48, y, "*g*", "new"), role="new")
    else:
        for k in range(5):
            drawn.rect(x - 40 + 20 * k, y + 4, 12, 14 + 10 * k, "new", 2)
            drawn.arrow((x - 40 + 20 * k, y - 36), (x - 40 + 20 * k, y - 3 - 5 * k), role="text")
        drawn.line([(x - 52, y - 36), (x + 40, y - 36)], "text")
