"""Two losses on one batch, in motion: what the softmax and the sigmoid ask of every pair.

Papers: A. Radford et al. (2021), arXiv:2103.00020; X. Zhai et al. (2023), *Sigmoid Loss for Language Image
Pre-Training*, ICCV 2023, arXiv:2303.15343.  Survey: none.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmlearn.figures.diagram import Diagram
from mmlearn.figures.interactive import Block, slider
from mmlearn.text_for_vision.contrastive import clip_gradient, symmetric_cross_entropy
from mmlearn.text_for_vision.siglip import pairwise_sigmoid, sigmoid_gradient

WIDE, CELL, LEFT = 470, 46, 34
COSINES = ((0.55, 0.0, 0.1, -0.1), (-0.1, 0.5, 0.05, 0.1), (0.0, 0.1, 0.6, -0.05), (0.1, -0.1, 0.0, 0.5))
HARD = tuple(round(-0.2 + 0.1 * i, 1) for i in range(12))           # of picture 1 with text 2
SCALE, BIAS = 5.0, -math.log(3)                     # the bias that makes the start cheapest for four pairs


def batch(cosine: float) -> Float[Tensor, "4 4"]:
    """Cosines of four pairs, with that of picture 1 and text 2 given."""
    s = torch.tensor(COSINES, dtype=torch.float64)
    s[0, 1] = cosine
    return s


def pulls(cosine: float) -> dict[str, tuple[Float[Tensor, "4 4"], float]]:
    """For each loss: what it asks of every logit (minus b times its gradient), and its value."""
    soft, hard = SCALE * batch(cosine), SCALE * batch(cosine) + BIAS
    return {"softmax (CLIP)": (-len(soft) * clip_gradient(soft), float(symmetric_cross_entropy(soft))),
            "sigmoid (SigLIP)": (-len(hard) * sigmoid_gradient(hard), float(pairwise_sigmoid(hard)))}


def two_losses() -> Block:
    """A slider over the cosine of one wrong pair: the pulls of both losses on all 16 pairs."""
    first = pulls(HARD[0])
    frames, labels = [], []
    for cosine in HARD:
        frame = Diagram(WIDE, 262, f"pulls of both losses, cosine {cosine:g}")
        now, changed = pulls(cosine), []
        for number, (name, (pull, loss)) in enumerate(now.items()):
            left = LEFT + number * (4 * CELL + 42)
            moved = [(i, j) for i in range(4) for j in range(4)
                     if abs(float(pull[i, j] - first[name][0][i, j])) > 5e-3]
            changed.append(len(moved))
            frame.text(left + 2 * CELL, 12, name, 14, weight=600)
            for i in range(4):
                frame.text(left + (i + 0.5) * CELL, 36, f"*v*_{i + 1}", 14, "text")
                frame.text(left - 15, 48 + (i + 0.5) * CELL, f"*u*_{i + 1}", 14, "image")
                for j in range(4):
                    x, y, p = left + (j + 0.5) * CELL, 48 + (i + 0.5) * CELL, float(pull[i, j])
                    frame.rect(x, y, CELL, CELL, "", radius=2)
                    frame.bar(x - CELL / 2, y, CELL, CELL, "new" if p > 0 else "loss",
                              f' fill-opacity="{min(0.75, abs(p)):.2f}"')
                    frame.text(x, y, f"{p:+.2f}".replace("-", "−"), 13,
                               weight=700 if (i, j) in moved else 400)
            frame.text(left + 2 * CELL, 48 + 4 * CELL + 18, f"loss {loss:.2f}", 13, "soft")
        frames.append(frame)
        labels.append(f"Pulls that differ from the first step: {changed[0]} of 16 under the softmax, "
                      f"{changed[1]} under the sigmoid.")
    return slider({"cosine of picture 1 and text 2": [f"{c:g}".replace("-", "−") for c in HARD]}, frames,
                  labels=labels, start=7, alt=(
        "What two losses ask of the 16 pairs of one batch, while the cosine of picture 1 with the wrong text "
        "2 grows from minus 0.2 to 0.9. Positive numbers pull together, negative ones push apart. Under the "
        "softmax the whole first row and second column change, under the sigmoid one entry alone"))
