"""Moving pictures of the temperature: what a picture makes of eight texts, and whom it is pushed away from.

Paper: F. Wang and H. Liu (2021), arXiv:2012.09740, whose point they make with vectors of our own.
Survey: 4.2.  Teal is the picture, amber its texts, violet the right one.
"""

from collections.abc import Sequence

from jaxtyping import Float, UInt8
from torch import Tensor

from mmlearn.figures.diagram import Diagram, Number, literal, text_width
from mmlearn.figures.interactive import Block, slider
from mmlearn.text_for_vision.contrastive import info_nce_rows, negative_weights, temperature_gradient

TAUS = (1.0, 0.5, 0.2, 0.1, 0.07, 0.05, 0.02, 0.01)
WIDE = 470


def cut(text: str, wide: Number, weight: Number = 1) -> str:
    """A text of at most so many pixels at 13 px; bold ones are about a tenth wider."""
    shown = text
    while 1.13 * weight * text_width(shown, 13) > wide:
        shown = shown[:-2].rstrip() + "…"
    return shown


def temperatures(image: UInt8[Tensor, "3 s s"], texts: Sequence[str], cosines: Float[Tensor, "b b"],
                 which: int = 0, taus: Sequence[float] = TAUS) -> Block:
    """A slider over temperatures: probabilities of the texts for picture ``which`` of a batch, with its loss
    and where the gradient moves the temperature."""
    step, top = 44, 44
    under = Diagram(WIDE, top + step * len(texts), "a picture and its texts")
    under.image(64, 92, image, 108)
    under.text(130, 16, "cosine", 13, "soft", "start")
    under.text(440, 16, "probability", 13, "soft", "end")
    for i, (text, cosine) in enumerate(zip(texts, cosines[which].tolist())):
        y = top + step * i
        own = i == which
        under.text(130, y, literal(cut(text, 334, 1.1 if own else 1)), 13, "new" if own else "", "start",
                   600 if own else 400)
        under.text(130, y + 17, f"{cosine:.2f}".replace("-", "−"), 13, "soft", "start")
    frames, labels = [], []
    for tau in taus:
        p = (cosines[which] / tau).softmax(dim=0).tolist()
        loss = float(info_nce_rows(cosines / tau)[which])
        slope = float(temperature_gradient(cosines, tau)[1][which])
        drawn = Diagram(under.width, under.height, f"temperature {tau:g}: "
                        + ", ".join(f"{x:.0%}" for x in p))
        for i, share in enumerate(p):
            drawn.bar(176, top + step * i + 17, 206 * share, 12, "new" if i == which else "text")
            drawn.text(440, top + step * i + 17, f"{share:.1%}", 13, "soft", "end")
        frames.append(drawn)
        labels.append(f"τ = {tau:g}, scale {1 / tau:.3g}: loss {loss:.3f} nats; the gradient says "
                      f"{'sharper' if slope < -5e-4 else 'softer' if slope > 5e-4 else 'stay'} "
                      f"({slope:+.2f})".replace("-", "−"))
    return slider({"temperature": [f"{tau:g}" for tau in taus]}, frames,
                  "What one picture makes of eight sentences at a temperature that can be chosen: at 1 all "
                  "are about equally probable, at 0.01 its own sentence takes everything", under=under,
                  labels=labels, start=list(taus).index(0.07) if 0.07 in taus else 0)


def hardest(cosines: Float[Tensor, "b b"], which: int, count: int) -> list[int]:
    """The negatives of a picture that are closest to it, the closest first."""
    row = cosines[which].clone()
    row[which] = -2
    return row.topk(count).indices.tolist()


def negatives(images: UInt8[Tensor, "b 3 s s"], texts: Sequence[str], cosines: Float[Tensor, "b b"],
              which: Sequence[int] = (0, 2, 5, 12, 18), taus: Sequence[float] = (1.0, 0.2, 0.07, 0.01),
              count: int = 6) -> Block:
    """Two sliders, the picture and the temperature: its nearest negatives in the batch, with their share of
    the push (eq:negative-weights)."""
    frames, labels, step, top = [], [], 42, 96
    for picture in which:
        near = hardest(cosines, picture, count)
        base = Diagram(WIDE, top + step * count + 6, "a picture and its hardest negatives")
        base.image(44, 44, images[picture], 72)
        base.text(92, 26, literal(cut(texts[picture], 370, 1.1)), 13, "new", "start", 600)
        base.text(92, 48, f"its own text, cosine {float(cosines[picture, picture]):.2f}", 13, "soft", "start")
        base.text(464, 76, "share of the push", 13, "soft", "end")
        for i, j in enumerate(near):
            y = top + step * i
            base.text(16, y, literal(cut(texts[j], 440)), 13, anchor="start")
            base.text(16, y + 18, f"{float(cosines[picture, j]):.2f}".replace("-", "−"), 13, "soft", "start")
        others = [j for j in range(len(texts)) if j != picture]
        for tau in taus:
            shares = dict(zip(others, negative_weights(cosines[picture, others], tau).tolist()))
            drawn = Diagram(base.width, base.height, f"picture {picture + 1}, temperature {tau:g}: "
                            + ", ".join(f"{shares[j]:.1%}" for j in near))
            drawn.add("".join(base.parts))
            for i, j in enumerate(near):
                y = top + step * i + 18
                drawn.bar(56, y, 330 * shares[j], 12, "loss")
                drawn.text(464, y, f"{shares[j]:.1%}", 13, anchor="end")
            rest = 1 - sum(shares[j] for j in near)
            frames.append(drawn)
            labels.append(f"τ = {tau:g}: these {count} of {len(others)} negatives get {1 - rest:.0%} of "
                          "the push")
    return slider({"picture": range(1, len(which) + 1), "temperature": [f"{tau:g}" for tau in taus]}, frames,
                  "The nearest negatives of a picture in a batch, and the share of the push that each gets "
                  "at a temperature that can be chosen: nearly equal at 1, on the nearest alone at 0.01",
                  labels=labels, start=2)
