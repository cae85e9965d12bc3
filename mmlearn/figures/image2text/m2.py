"""Figures of section 1.2.1: memory attention, the mesh, a meshed decoder layer; memory and gates in motion.

Paper: M. Cornia, M. Stefanini, L. Baraldi and R. Cucchiara (2020), *Meshed-Memory Transformer for Image
Captioning*, CVPR 2020, arXiv:1912.08226, sec. 3.  Survey: 1.2.1.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmlearn.figures.diagram import Diagram, Number
from mmlearn.figures.interactive import Block, hover, slider
from mmlearn.image2text.m2 import memory_gate

_X = "X\u0303"                              # the encoder's output


def memory_attention() -> Diagram:
    """Attention over regions and memory slots: slots are appended to keys and values, not to queries."""
    p, m, cell = 4, 3, 15
    drawn = Diagram(470, 456, (
        "Memory attention. From the regions X, p by d, come queries, keys and values; n_m learned slots M_k "
        "and M_v are appended below keys and values, which then have p + n_m rows. Queries times keys give p "
        "by p + n_m scores; the softmax runs over regions and slots together; times the values this gives p "
        "by d, one row a region."))
    rows, both = ["image"] * p, ["image"] * p + ["new"] * m
    X = drawn.matrix(52, 215, rows, 4, cell, "*X*")
    drawn.text(52, 260, "*p* × *d*", 13, "soft")
    parts = []
    for y, name, slots in ((70, "Q", 0), (205, "K", m), (355, "V", m)):
        weight = drawn.box(140, y - cell * slots / 2, f"*W_{name.lower()}*", "image", 46, 34)
        drawn.arrow(X, weight, sides="rl", bend=0.4)
        part = drawn.matrix(232, y, both if slots else rows, 4, cell, f"*{name}*")
        drawn.arrow(weight, (part.x - part.w / 2, y - cell * slots / 2), sides="rl")
        drawn.text(232, y + part.h / 2 + 13, "(*p* + *n_m*) × *d*" if slots else "*p* × *d*", 13, "soft")
        if slots:
            beside = part.x - part.w / 2 - 10, y + part.h / 2 - 1.5 * cell
            drawn.text(*beside, f"*M_{name.lower()}*", 15, "new", "end", 600)
        parts.append(part)
    scores = drawn.matrix(384, 137, ["image"] * p, both, cell, "softmax(*QK*^{⊤} / √*d_k*)")
    drawn.text(384, 180, "*p* × (*p* + *n_m*)", 13, "soft")
    out = drawn.matrix(384, 330, rows, 4, cell, "")
    drawn.text(384, 373, "*p* × *d*", 13, "soft")
    product = drawn.node(384, 240, "×")
    drawn.arrow(parts[0], scores, sides="rl")
    drawn.arrow(parts[1], scores, sides="rl")
    drawn.arrow((384, 190), product, sides="bt")
    drawn.arrow(parts[2], product, sides="rl")
    drawn.arrow(product, out)
    drawn.text(20, 440, "teal: from the image", 13, "image", "start")
    drawn.text(450, 440, "violet: learned, the same for all images", 13, "new", "end")
    return drawn


def m2_beside_transformer(layers: int = 3) -> Diagram:
    """A plain Transformer captioner and M2 side by side; violet is what M2 adds: memory and mesh."""
    alt = (f"Two captioners of {layers} encoder and {layers} decoder layers. In the plain Transformer every "
           "decoder layer reads the last encoder layer only. In M2 each encoder layer has memory slots, and "
           f"every decoder layer reads all encoder layers through gates: {layers} by {layers} connections.")
    step, height = 84, 120 + 84 * layers
    wide, narrow = Diagram(720, height, alt), Diagram(350, 2 * height, alt)
    for drawn, x, y in ((wide, 0, 0), (wide, 370, 0), (narrow, 0, 0), (narrow, 0, height)):
        second = bool(x or y)
        name, role = ("M^2", "new") if second else ("plain Transformer", "")
        drawn.text(x + 175, y + 18, name, 16, role, weight=600)
        encoders, decoders = [], []
        for i in range(layers):
            level = y + height - 78 - step * i
            encoders.append(drawn.box(x + 82, level, f"encoder {i + 1}", "image", 112, 46))
            decoders.append(drawn.box(x + 268, level, f"decoder {i + 1}", "text", 112, 46))
        for i in range(layers):
            for j in range(layers):
                if second or i == layers - 1:
                    start = encoders[i].at("r", (layers - j) / (layers + 1))
                    end = decoders[j].at("l", (layers - i) / (layers + 1) if second else 0.5)
                    drawn.line([start, end], "new" if second else "image", head=True)
            if second:
                for k in range(3):
                    drawn.rect(x + 12, encoders[i].y + 13 * (k - 1), 12, 12, "new", 2)
            if i:
                drawn.arrow(encoders[i - 1], encoders[i], f"{_X}^{i}", "image", side=-1)
                drawn.arrow(decoders[i - 1], decoders[i], f"*Y*^{i}", "text")
        drawn.arrow((x + 82, y + height - 22), encoders[0])
        drawn.text(x + 82, y + height - 13, "regions *X*, *p* × *d*", 13, "image")
        drawn.arrow((x + 268, y + height - 22), decoders[0])
        drawn.text(x + 268, y + height - 13, "words *Y*, *t* × *d*", 13, "text")
        drawn.arrow(decoders[-1], (x + 268, y + 52), sides="tb")
        drawn.text(x + 268, y + 44, "next word, *t* × *v*", 13)
        if second:
            drawn.text(x + 6, y + height - 45, "memory", 13, "new", "start")
            drawn.text(x + 82, y + 44, f"mesh: {layers} × {layers}, gated", 13, "new")
    wide.narrow = narrow
    return wide


def meshed_decoder_layer(layers: int = 3) -> Diagram:
    """A decoder layer of M2, normalised where the released code does: inside each cross-attention."""
    drawn = Diagram(470, 610, (
        "A meshed decoder layer. Word states Y, t by d, pass masked self-attention, then add and norm, "
        f"giving Y'. Y' reads each of the {layers} encoder outputs by one shared cross-attention, each "
        "result followed by add and norm, E_i. A gate alpha_i = sigmoid([Y'; E_i] W_i + b_i) multiplies E_i; "
        f"the products are summed and divided by the root of {layers}. Feed-forward, add and norm give the "
        "output, t by d."))
    middle = 235
    looked = drawn.box(middle, 66, "self-attention\nonly earlier words", "text", 170, 46)
    norm = drawn.box(middle, 132, "add & norm", "block", 130, 30)
    drawn.text(middle, 14, "*Y*, *t* × *d*", 14, "text", weight=600)
    drawn.arrow((middle, 24), looked)
    drawn.arrow((middle, 31), norm, via=((middle + 116, 31), (middle + 116, 132)), sides="rr")
    drawn.arrow(looked, norm)
    drawn.group(middle, 338, 440, 312, "", "new")
    total = drawn.box(middle, 466, "Σ / √*N*", "new", 76, 32)
    for i in range(1, layers + 1):
        x = middle + 144 * (i - (layers + 1) / 2)
        read = drawn.box(x, 224, f"cross-attention\nreads {_X}^{i}", "image", 132, 46)
        inside = drawn.box(x, 294, "add *Y*′ & norm", "block", 128, 30)
        gate = drawn.box(x + 14, 354, f"*σ*([*Y*′; *E*_{i}]*W*_{i})", "new", 108, 32)
        product = drawn.node(x - 48, 404, "⊙", "new")
        drawn.arrow(norm, read, sides="bt", bend=0.5)
        drawn.arrow(read, inside, f"*C*_{i}")
        drawn.arrow((x + 14, 309), gate, sides="bt")
        drawn.arrow((x - 48, 309), product, sides="bt")
        drawn.text(x - 41, 323, f"*E*_{i}", 13, "soft", "start")
        drawn.arrow(gate, product, f"*α*_{i}", "new", sides="br")
        near = abs(x - 48 - middle) < 60
        drawn.arrow(product, total, sides="bt" if near else "bl" if x < middle else "br")
    drawn.text(middle + 8, 157, "*Y*′", 13, "soft", "start")
    feed = drawn.box(middle, 532, "feed-forward, add & norm", "text", 220, 34)
    drawn.arrow(total, feed, "*Z*")
    drawn.arrow(feed, (middle, 588))
    drawn.text(middle, 598, "next layer, *t* × *d*", 14, "text", weight=600)
    return drawn


# ------------------------------------------------------------------------------------------ in motion

KEYS = ((1.0, 0.0), (0.3, 1.0), (-0.9, 0.6))         # of three regions
SLOTS = ((-0.5, -0.95), (0.55, -0.85))               # of two memory slots
SCALES = (0.5, 1.0, 2.0, 4.0)


def memory_as_gate(keys: Sequence[Sequence[Number]] = KEYS, slots: Sequence[Sequence[Number]] = SLOTS,
                   degrees: int = 15) -> Block:
    """One query turned and stretched by sliders: its softmax over keys and slots, the image's part lambda."""
    angles, all_keys = range(0, 360, degrees), np.array([*keys, *slots], dtype=float)
    under = Diagram(460, _LEVEL + 26 * len(all_keys) + 30, "keys and slots as arrows; bars of attention")
    x, y, unit = _CENTRE
    under.rect(x, y, 2 * unit, 2 * unit, "frozen", unit, ' style="fill:none;stroke-dasharray:2 4"')
    roles = [("*k*", "image", i + 1) for i in range(len(keys))]
    roles += [("*m*", "new", i + 1) for i in range(len(slots))]
    for i, ((letter, role, number), (a, b)) in enumerate(zip(roles, all_keys)):
        under.line([(x, y), (x + unit * a, y - unit * b)], role, head=True)
        far = 1 + 14 / (unit * math.hypot(a, b))
        under.text(x + unit * a * far, y - unit * b * far, f"{letter}_{number}", 14, role, weight=600)
        under.text(250, _LEVEL + 26 * i, f"{letter}_{number}", 14, role, "end", 600)
    under.text(250, _LEVEL + 26 * len(roles) + 8, "λ", 15, "image", "end", 600)
    frames = [_gate_frame(all_keys, len(keys), angle, scale) for angle in angles for scale in SCALES]
    values = {"angle of q": [f"{a}°" for a in angles], "length of q": SCALES}
    return slider(values, frames, "Memory as a gate: one query, three keys of the image, two memory slots",
                  under=under, start=len(SCALES) * (60 // degrees) + 2)


_CENTRE, _LEVEL = (104, 108, 64), 30                # of the circle, with its radius; of the first bar


def _gate_frame(all_keys: np.ndarray, p: int, angle: Number, scale: Number) -> Diagram:
    """The query, its attention and lambda, without what never changes."""
    (x, y, unit), turned = _CENTRE, math.radians(angle)
    along = np.array([math.cos(turned), -math.sin(turned)])
    q, K, slots = (torch.from_numpy(a) for a in (scale * along[None] * [1, -1], all_keys[:p], all_keys[p:]))
    weights = torch.softmax(q @ torch.from_numpy(all_keys).mT / math.sqrt(2), dim=-1)[0].tolist()
    share = float(memory_gate(q, K, slots)[0])
    drawn = Diagram(460, _LEVEL + 26 * len(all_keys) + 30,
                    f"query at {angle} degrees, length {scale:g}: {share:.2f} of its attention for the image")
    tip = np.array([x, y]) + unit * 0.34 * scale * along
    name = tip + unit * 0.2 * along
    drawn.line([(x, y), (tip[0], tip[1])], "text", head=True)
    drawn.text(name[0], name[1], "*q*", 15, "text", weight=600, halo=True)
    for i, weight in enumerate(weights):
        drawn.bar(260, _LEVEL + 26 * i, 140 * weight, 14, "image" if i < p else "new")
        drawn.text(408, _LEVEL + 26 * i, f"{weight:.2f}", 13, "soft", "start")
    level = _LEVEL + 26 * len(all_keys) + 8
    drawn.bar(260, level, 140 * share, 20, "image")
    drawn.bar(261 + 140 * share, level, 139 * (1 - share), 20, "new")
    drawn.text(408, level, f"{share:.2f}", 14, "image", "start", 600)
    return drawn


def mesh_gates(words: Sequence[str], gates: Any, channels: Any = None) -> Block:
    """Word by word, how far each decoder layer opens the gate of each encoder layer.

    ``gates`` (l, t, n), or (t, n) of one decoder layer, are means over channels; with ``channels`` (l, t, n,
    d) a line shows where the middle eighty per cent of them lie.
    """
    means = _array(gates)
    means = means[None] if means.ndim == 2 else means
    spread = None if channels is None else np.quantile(_array(channels), (0.1, 0.9), axis=-1)
    if means.shape[1] != len(words):
        raise ValueError(f"gates of {means.shape[1]} words for {len(words)} words; give one row a word")
    panels = []
    for t, word in enumerate(words):
        layers, n = means.shape[0], means.shape[2]
        drawn = Diagram(440, 12 + layers * (20 * n + 26), f"mean gates at the word {word}: " + "; ".join(
            f"decoder layer {i + 1}: " + ", ".join(f"{v:.2f}" for v in means[i, t]) for i in range(layers)))
        for i in range(layers):
            top = 16 + i * (20 * n + 26)
            drawn.text(12, top, f"decoder layer {i + 1}", 13, "text", "start", 600)
            for j in range(n):
                y, value = top + 20 * (j + 1), float(means[i, t, j])
                drawn.text(126, y, f"reads encoder {j + 1}", 13, "soft", "end")
                drawn.bar(136, y, 250, 12, "frozen", ' fill-opacity="0.25"')
                drawn.bar(136, y, 250 * value, 12, "new")
                if spread is not None:
                    low, high = (136 + 250 * float(edge[i, t, j]) for edge in spread)
                    drawn.line([(low, y + 8), (high, y + 8)])
                drawn.text(396, y, f"{value:.2f}", 13, "", "start")
        panels.append(drawn)
    return hover(words, panels, "Mesh gates, word by word")


def _array(values: Any) -> np.ndarray:
    """Numbers of a tensor, an array or a list."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, dtype=float)
