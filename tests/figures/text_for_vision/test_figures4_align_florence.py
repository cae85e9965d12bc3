"""The diagrams of ALIGN and Florence, and the two losses in motion, say what the code computes."""

import re

import pytest
import torch
from figure_parts import block_data, check_texts, drawing, frames, texts

from mmlearn.figures.text_for_vision import align, florence, siglip
from mmlearn.text_for_vision.align import ALIGN, ALIGNConfig
from mmlearn.text_for_vision.contrastive import symmetric_cross_entropy
from mmlearn.text_for_vision.siglip import pairwise_sigmoid
from mmlearn.text_for_vision.unicl import text_keys


@pytest.mark.parametrize("draw", [align.towers, florence.model, florence.unicl_targets])
def test_no_text_of_a_diagram_covers_another(draw):
    check_texts(draw())


def test_aligns_towers_have_the_papers_shapes():
    shown = " ".join(texts(align.towers()))
    with torch.device("meta"):
        model = ALIGN(ALIGNConfig.paper())
        x = model.image.stem(torch.empty(1, 3, 289, 289))
        for block in model.image.blocks:
            x = block(x)
    assert "3 × 289 × 289" in shown and f"{x.shape[1]} × {x.shape[2]} × {x.shape[3]}" in shown
    assert f"{model.text_projection.in_features} × {model.text_projection.out_features} matrix" in shown
    assert shown.count(".925") == 4 and shown.count(".025") == 12


def test_florence_names_an_adapter_for_each_axis():
    drawn = florence.model()
    shown = " ".join(texts(drawn))
    for name, (axis, *steps) in florence.ADAPTERS.items():
        assert name in shown and f"{axis}: {steps[0]}" in shown and f"{axis}, {' '.join(steps)}" in drawn.alt


def test_targets_share_the_belief_among_equal_texts():
    shown = texts(florence.unicl_targets())
    keys = text_keys(florence.TEXTS).tolist()
    rows = [[1.0 * (i == j) for j in range(4)] for i in range(4)]
    rows += [[(keys[i] == keys[j]) / keys.count(keys[i]) for j in range(4)] for i in range(4)]
    cells = [{"0": 0.0, "½": 0.5, "1": 1.0}[t] for t in shown if t in ("0", "½", "1")]
    assert cells == [share for row in rows for share in row]


def test_the_pulls_are_the_gradients_of_the_two_losses():
    for cosine in (-0.2, 0.5):
        l = siglip.SCALE * siglip.batch(cosine)
        for loss, bias, (pull, value) in zip((symmetric_cross_entropy, pairwise_sigmoid), (0.0, siglip.BIAS),
                                             siglip.pulls(cosine).values()):
            x = (l + bias).requires_grad_()
            want = loss(x)
            gradient, = torch.autograd.grad(want, x)
            torch.testing.assert_close(pull, -4 * gradient)
            assert value == pytest.approx(float(want))


def test_a_hard_negative_moves_its_row_and_column_or_one_entry():
    block = siglip.two_losses()
    for frame in frames(block):
        check_texts(drawing(frame))
    assert len(block_data(block)["frames"]) == len(siglip.HARD)
    before, after = siglip.pulls(-0.2), siglip.pulls(0.5)
    for name, cross in (("softmax (CLIP)", True), ("sigmoid (SigLIP)", False)):
        moved = (before[name][0] - after[name][0]).abs() > 1e-9
        want = torch.zeros(4, 4, dtype=torch.bool)
        want[0, 1] = True
        if cross:
            want[0], want[:, 1] = True, True
        assert moved.equal(want)
    soft, hard = (float(after[name][0][0, 1]) for name in after)
    numbers = re.findall(r"[+−]\d\.\d\d", " ".join(texts(drawing(frames(block)[7]))))
    assert numbers[1].replace("−", "-") == f"{soft:+.2f}" and numbers[17].replace("−", "-") == f"{hard:+.2f}"
