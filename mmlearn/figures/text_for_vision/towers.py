"""Figures of section 4.2.2: CLIP's two towers with a Vision Transformer, its ResNet with attention pooling,
and where the class token looks.

Papers: A. Radford et al. (2021), arXiv:2103.00020, sec. 2.4 and tables 18-20; A. Dosovitskiy et al. (2021),
arXiv:2010.11929, fig. 1.  Survey: 4.2.2.

Teal is the picture's side, amber the text's, violet the state that is read, and what CLIP changed.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmlearn.data.pairs import pixels
from mmlearn.data.scenes import portrait, render
from mmlearn.figures.diagram import Box, Diagram, Number
from mmlearn.figures.interactive import Block, hover
from mmlearn.nn.attention import record_attention
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.modified_resnet import EXPANSION, ResNetConfig
from mmlearn.nn.vit import ViTConfig, attention_rollout
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig

CAPTION = ("start", "a", "red", "car", "end")


def shown(size: int = 112) -> np.ndarray:
    """The picture of the diagrams, (size, size, 3) bytes."""
    return render(portrait("car", colour="red", setting="street"), size=size).image


def states_of(drawn: Diagram, x: Number, y: Number, roles: Sequence[str], cell: Number = 16) -> Box:
    """A row of states around (x, y)."""
    return drawn.matrix(x, y, [""], list(roles), cell)


def layer_box(drawn: Diagram, x: Number, y: Number, role: str, layers: int, heads: int, causal: bool) -> Box:
    """A stack of pre-norm layers: what is added is computed of what was normalised."""
    drawn.rect(x + 5, y - 5, 176, 108, role)
    box = drawn.rect(x, y, 176, 108, role)
    drawn.text(x, y - 38, f"{layers} layers", 15, weight=600)
    drawn.text(x, y - 14, "*x* ← *x* + Att(LN(*x*))", 13)
    drawn.text(x, y + 8, "*x* ← *x* + FF(LN(*x*))", 13)
    drawn.text(x, y + 34, f"{heads} heads" + (", causal mask" if causal else ""), 13, "soft")
    return box


def clip_vit(config: CLIPConfig | None = None) -> Diagram:
    """CLIP with a Vision Transformer: both towers with their shapes, and the states that are read."""
    config = config or CLIPConfig.vit_b32()
    image, text = config.image, config.text
    if not isinstance(image, ViTConfig):
        raise ValueError(f"the image tower is {type(image).__name__}; give a configuration with a ViTConfig, "
                         f"or call clip_resnet")
    p, e = image.grid**2, config.embed
    drawn = Diagram(480, 528, (
        f"CLIP with a Vision Transformer. Left, teal: a picture of {image.size} by {image.size} pixels is "
        f"cut into {image.grid} by {image.grid} patches of {image.patch} pixels; each is multiplied by E, a "
        f"violet class token is put in front, positions are added: {1 + p} states of {image.width} numbers. "
        f"They are normalised, and pass {image.layers} layers with {image.heads} heads. Only the class token "
        "is read: normalised, multiplied by W_I, brought to length 1, it is u. Right, amber: a caption of "
        f"up to {text.context} tokens passes {text.layers} layers with {text.heads} heads and a causal mask; "
        f"only the violet state at its end is read, normalised and multiplied by W_T, and is v. Both have "
        f"{e} numbers; below, their product times the scale e to the t."))
    left, right = 118, 362
    side = 84
    drawn.image(left, 52, shown(), side)
    for i in range(1, image.grid):
        at = side * i / image.grid
        drawn.line([(left - side / 2, 52 - side / 2 + at), (left + side / 2, 52 - side / 2 + at)])
        drawn.line([(left - side / 2 + at, 52 - side / 2), (left - side / 2 + at, 52 + side / 2)])
    drawn.text(left + 52, 40, f"{p} patches", 13, "soft", "start")
    drawn.text(left + 52, 58, f"of {image.patch} × {image.patch}", 13, "soft", "start")
    for i, word in enumerate(CAPTION):
        x = right + 44 * (i - 2)
        drawn.rect(x, 74, 41, 26, "new" if word == "end" else "text", radius=5)
        drawn.text(x, 74, word, 13)
    drawn.text(right, 38, f"a caption, at most {text.context} tokens", 13, "soft")

    states = states_of(drawn, left, 140, ["new", *["image"] * 6])
    drawn.text(left + 66, 130, f"{1 + p} × {image.width}", 13, "soft", "start")
    drawn.arrow((left, 94), (left, 132), "× *E*", "image")
    drawn.text(left - 54, 116, "class token", 13, "new")
    words = states_of(drawn, right, 140, [*["text"] * 4, "new"])
    drawn.text(right + 50, 130, f"{text.context} × {text.width}", 13, "soft", "start")
    drawn.arrow((right, 87), (right, 132), "", "text")
    add_i = drawn.box(left, 188, "+ *E*_{pos}, then LN", "image", 150, 32)
    add_t = drawn.box(right, 188, "+ positions", "text", 150, 32)
    drawn.arrow(states, add_i)
    drawn.arrow(words, add_t)
    see = layer_box(drawn, left, 278, "image", image.layers, image.heads, False)
    read = layer_box(drawn, right, 278, "text", text.layers, text.heads, True)
    drawn.arrow(add_i, see)
    drawn.arrow(add_t, read)
    out_i = states_of(drawn, left, 366, ["new", *["frozen"] * 6])
    out_t = states_of(drawn, right, 366, [*["frozen"] * 4, "new"])
    drawn.arrow(see, out_i)
    drawn.arrow(read, out_t)
    first, last = left - 48, right + 32
    joined_i = drawn.box(first + 40, 428, "LN, × *W_I*, length 1", "new", 158, 32)
    joined_t = drawn.box(last - 40, 428, "LN, × *W_T*, length 1", "new", 158, 32)
    drawn.arrow((first, 374), (first, 412), "", "new")
    drawn.arrow((last, 374), (last, 412), "", "new")
    score = drawn.box(240, 500, "*e^t u*^⊤*v*", "loss", 110, 34)
    drawn.arrow(joined_i, score, sides="bl")
    drawn.arrow(joined_t, score, sides="br")
    drawn.text(joined_i.x + 8, 480, f"*u*, {e}", 14, "image", "start")
    drawn.text(joined_t.x - 8, 480, f"*v*, {e}", 14, "text", "end")
    return drawn


def clip_resnet(config: ResNetConfig | None = None, embed: int = 1024) -> Diagram:
    """CLIP's ResNet: its stages with their shapes, a block, and the attention pool."""
    config = config or ResNetConfig()
    w, s, c = config.width, config.size, config.channels
    p = config.grid**2
    drawn = Diagram(480, 520, (
        f"CLIP's ResNet. Left, from top to bottom: a picture of {s} by {s} pixels; the stem, violet, of "
        f"three 3 by 3 convolutions and a mean, to {w} channels of {s // 4} by {s // 4}; four stages of "
        f"{', '.join(map(str, config.blocks))} blocks, to {c} channels of {config.grid} by {config.grid}; "
        f"the attention pool, violet, to {embed} numbers. Right above, a block that halves the sides: 1 by "
        "1 and 3 by 3 convolution, a mean over 2 by 2 cells, violet, 1 by 1 convolution; beside it the "
        "shortcut, with the same mean and a 1 by 1 convolution; both are added. Right below, the attention "
        f"pool: the mean of the {p} cells is put in front of them and positions are added; the mean alone "
        f"asks, with {config.heads} heads, all {1 + p} rows answer."))
    left = 100
    drawn.image(left, 40, shown(), 60)
    drawn.text(left + 40, 40, f"3 × {s} × {s}", 13, "soft", "start")
    stem = drawn.box(left, 106, "stem\n3 convolutions, mean", "new", 172, 46)
    drawn.arrow((left, 70), stem)
    before, shape = stem, f"{w} × {s // 4} × {s // 4}"
    for i, blocks in enumerate(config.blocks):
        now = drawn.box(left, 178 + 60 * i, f"stage {i + 1}: {blocks} block{'s' if blocks > 1 else ''}",
                        "image", 150, 32)
        drawn.arrow(before, now, shape)
        side = s // (4 * 2**i)
        before, shape = now, f"{EXPANSION * w * 2**i} × {side} × {side}"
    pool = drawn.box(left, 428, "attention pool", "new", 150, 34)
    drawn.arrow(before, pool, shape)
    drawn.arrow(pool, (left, 494), f"*ũ*, {embed}", "new")

    drawn.group(358, 148, 232, 276, "a block that halves the sides")
    drawn.text(308, 26, "*x*", 15, "image")
    parts = [drawn.box(308, 62 + 44 * i, name, role, 118, 30) for i, (name, role) in enumerate((
        ("1 × 1", "image"), ("3 × 3", "image"), ("mean of 2 × 2", "new"), ("1 × 1", "image")))]
    drawn.arrow((308, 34), parts[0])
    for one, other in zip(parts, parts[1:]):
        drawn.arrow(one, other)
    plus = drawn.node(308, 240, "+")
    drawn.arrow(parts[-1], plus)
    mean = drawn.box(418, 106, "mean", "new", 74, 30)
    short = drawn.box(418, 150, "1 × 1", "image", 74, 30)
    drawn.line([(318, 28), (418, 28), (418, 91)], head=True)
    drawn.arrow(mean, short)
    drawn.line([(418, 165), (418, 240), (320, 240)], head=True)

    drawn.group(358, 408, 232, 212, "the attention pool")
    grid = drawn.matrix(296, 356, ["image"] * config.grid, config.grid, 56 / config.grid)
    drawn.text(296, 316, f"{p} cells", 13, "soft")
    row = states_of(drawn, 410, 340, ["new", *["image"] * 5], 14)
    drawn.arrow((grid.x + 28, 356), (366, 340), "", "image", sides="rl")
    drawn.text(410, 320, f"{1 + p} × {c}", 13, "soft")
    drawn.text(343, 378, "mean first,", 13, "soft", "start")
    drawn.text(343, 394, "+ positions", 13, "soft", "start")
    asks = drawn.box(358, 446, f"attention, {config.heads} heads", "new", 176, 30)
    drawn.line([(375, 347), (333, 368), (333, 431)], "new", head=True)
    drawn.line([(row.x + 14, 347), (418, 362), (418, 431)], "image", head=True)
    drawn.text(327, 412, "asks", 13, "new", "end")
    drawn.text(424, 412, "answer", 13, "image", "start", halo=True)
    drawn.arrow(asks, (358, 486), "*ũ*", "new")
    return drawn


# ----------------------------------------------------------------------------- where the class token looks


@torch.no_grad()
def class_token_weights(model: CLIP, images: UInt8[Tensor, "n 3 s s"]) -> dict[str, Float[Tensor, "n p"]]:
    """What the class token reads of each patch, by layer (mean of the heads), and followed back through all
    layers (eq:attention-rollout)."""
    if not isinstance(model.config.image, ViTConfig):
        raise ValueError("this CLIP has a ResNet, which has no class token; give one with a ViTConfig")
    with eval_mode(model), record_attention(model.image) as weights:
        model.encode_image(pixels(images))
    layers = list(weights.values())
    # the last layer computes the row of the class token alone
    found = {f"layer {i}": A.mean(dim=1)[:, 0, 1:] for i, A in enumerate(layers, start=1)}
    return found | {"all layers": attention_rollout(layers)[:, 0, 1:]}


def _veil(weights: Float[Tensor, "n p"], name: str, side: Number, gap: Number) -> Diagram:
    """Dark cells over pictures in a row, the thinner the larger their weight; each picture has its own
    scale."""
    n, p = weights.shape
    grid = math.isqrt(p)
    drawn = Diagram(n * side + (n - 1) * gap, side, f"{name}: {n} pictures, dark where little is read")
    cell = side / grid
    for i, row in enumerate(weights):
        for j, weight in enumerate((row / row.max()).tolist()):
            y, x = divmod(j, grid)
            drawn.add(f'<rect x="{i * (side + gap) + x * cell:.4g}" y="{y * cell:.4g}" width="{cell:.4g}" '
                      f'height="{cell:.4g}" fill="#10151c" opacity="{0.85 * (1 - weight):.2f}"/>')
    return drawn


def class_token_gazes(model: CLIP, images: UInt8[Tensor, "n 3 s s"], side: int = 112,
                      gap: int = 8, start: int = -1) -> Block:
    """MOVING: point at a layer and see which patches the class token reads there, in a few pictures."""
    found = class_token_weights(model, images)
    n = len(images)
    under = Diagram(n * side + (n - 1) * gap, side, "the pictures alone")
    for i, image in enumerate(images):
        under.image(i * (side + gap) + side / 2, side / 2, image, side)
    labels = []
    for name, weights in found.items():
        share = weights / weights.sum(dim=1, keepdim=True)
        top = share.topk(max(1, share.shape[1] // 8), dim=1).values.sum(dim=1).mean()
        labels.append(f"{name}: the brightest eighth of the patches has {float(top):.0%} of the weight")
    return hover(list(found), [_veil(weights, name, side, gap) for name, weights in found.items()], (
        f"{n} pictures and the layers of a Vision Transformer. Pointing at a layer shows what its class "
        "token reads: patches with little weight are dark"), labels=labels, start=start, under=under)
