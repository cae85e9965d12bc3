"""ALIGN's two towers, drawn.

Paper: C. Jia et al. (2021), *Scaling Up Visual and Vision-Language Representation Learning With Noisy Text
Supervision*, ICML 2021, arXiv:2102.05918, sec. 4 and 5.  Survey: 4.3.1.
"""

from mmlearn.figures.diagram import Box, Diagram, Number
from mmlearn.text_for_vision.align import ALIGNConfig, smoothed_targets

WIDE = 470
PAIRS = 4                       # of the batch whose targets are drawn


def target_cells(drawn: Diagram, x: Number, y: Number, cell: Number, smoothing: float = 0.1) -> Box:
    """The smoothed targets of a batch of four as a grid of numbers."""
    for i, row in enumerate(smoothed_targets(PAIRS, smoothing).tolist()):
        for j, share in enumerate(row):
            at = x + (j - (PAIRS - 1) / 2) * cell, y + (i - (PAIRS - 1) / 2) * cell
            drawn.rect(*at, cell, cell, "", radius=2)
            drawn.bar(at[0] - cell / 2, at[1], cell, cell, "loss",
                      f' fill-opacity="{0.05 + 0.55 * share:.2f}"')
            drawn.text(*at, f"{share:.3f}".removeprefix("0"), 13)
    return Box(x, y, PAIRS * cell, PAIRS * cell)


def towers(config: ALIGNConfig | None = None, side: int = 10) -> Diagram:
    """Both towers of ALIGN down to the loss; ``side`` is that of the trunk's last map."""
    config = config or ALIGNConfig.paper()
    size, embed, width = config.image.size, config.embed, config.text.width
    drawn = Diagram(WIDE, 446, (
        f"ALIGN. Left, a picture of {size} by {size} pixels passes EfficientNet-L2 and becomes a map of "
        f"{embed} channels at {side} by {side} places; the mean over the places is the embedding. Right, a "
        f"text of at most {config.text.context} word pieces passes BERT-large, {config.text.layers} layers; "
        f"its first state, {width} numbers, is multiplied by a matrix and has {embed} numbers too. Both are "
        "brought to length 1, u and v. Their products, divided by the temperature tau, are the logits of a "
        "batch; the loss compares rows and columns with smoothed targets, for four pairs .925 on the "
        "diagonal and .025 elsewhere."))
    left, right, middle = 116, 354, WIDE / 2
    drawn.text(left, 14, "picture", 14, "image", weight=600)
    drawn.text(right, 14, "text, left as it was found", 14, "text", weight=600)
    top = drawn.box(left, 88, f"EfficientNet-L2\n{embed} × {side} × {side}", "image", 200, 56)
    states = f"{config.text.layers} layers, up to {config.text.context} × {width}"
    other = drawn.box(right, 88, f"BERT-large\n{states}", "text", 200, 56)
    drawn.arrow((left, 26), top, f"3 × {size} × {size}")
    drawn.arrow((right, 26), other, f"up to {config.text.context} pieces", side=-1)
    mean = drawn.box(left, 178, "mean over places\nno projection", "image", 200, 50)
    first = drawn.box(right, 178, f"first state, [CLS]\n{width} × {embed} matrix", "text", 200, 50)
    drawn.arrow(top, mean)
    drawn.arrow(other, first)
    u = drawn.box(left, 252, "*u*, length 1", "image", 100, 30)
    v = drawn.box(right, 252, "*v*, length 1", "text", 100, 30)
    drawn.arrow(mean, u, f"{embed}")
    drawn.arrow(first, v, f"{embed}")
    product = drawn.box(middle, 252, "*u v*^⊤/ τ", "block", 92, 40)
    drawn.arrow(u, product)
    drawn.arrow(v, product)
    drawn.text(118, 356, "softmax of rows", 13, "soft")
    drawn.text(118, 373, "and of columns,", 13, "soft")
    drawn.text(118, 390, "beside these targets", 13, "soft")
    grid = target_cells(drawn, middle + 44, 372, 34)
    drawn.arrow(product, (middle, grid.at("t")[1]), "logits, *b* × *b*", sides="bt")
    drawn.text(middle + 176, 364, "smoothed", 13, "loss", weight=600)
    drawn.text(middle + 176, 381, "targets", 13, "loss", weight=600)
    return drawn
