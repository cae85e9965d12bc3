"""The grounded space: captions of a picture come together, likenesses are taken over, the text stays."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import count_blank, numbers

from mmlearn.images_for_language.grounded_space import (
    GroundedSpace,
    GroundedSpaceConfig,
    cluster_loss,
    cosine_table,
    grounded_loss,
    neighbour_loss,
    pearson,
    perceptual_loss,
)
from mmlearn.nn.modes import seeded

TINY = GroundedSpaceConfig(12, 6, 8, 8, 5)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.equation("eq:grounded-cosine")
@pytest.mark.equation("eq:grounded-cluster")
def test_the_cluster_loss_is_a_sum_over_triples():
    g, picture, margin = numbers(6, 3), torch.tensor([0, 1, 0, 2, 1, 0]), 0.5
    total, triples = 0.0, 0
    for i in range(6):
        for j in range(6):
            assert float(cosine_table(g)[i, j]) == pytest.approx(cosine(g[i], g[j]))
            for k in range(6):
                if i != j and picture[i] == picture[j] and picture[k] != picture[i]:
                    total += max(0.0, margin - cosine(g[i], g[j]) + cosine(g[i], g[k]))
                    triples += 1
    assert float(cluster_loss(g, picture, margin)) == pytest.approx(total / triples)
    assert float(cluster_loss(g[:2], torch.tensor([0, 1]))) == 0        # no picture has two captions
    assert torch.autograd.gradcheck(lambda x: cluster_loss(x, picture, margin), g.requires_grad_())


@pytest.mark.equation("eq:grounded-pearson")
@pytest.mark.equation("eq:grounded-perceptual")
def test_the_perceptual_loss_is_minus_the_correlation_of_likenesses():
    g, v = numbers(5, 3), numbers(5, 7, seed=1)
    x, y = [], []
    for i in range(5):
        for j in range(i + 1, 5):
            x.append(cosine(g[i], g[j]))
            y.append(cosine(v[i], v[j]))
    mean_x, mean_y = sum(x) / 10, sum(y) / 10
    top = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    want = top / math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))
    assert float(perceptual_loss(g, v)) == pytest.approx(-want)
    assert float(pearson(torch.tensor(x), 3 * torch.tensor(x) + 1)) == pytest.approx(1)
    assert float(pearson(torch.ones(4), torch.arange(4.0))) == 0
    assert float(perceptual_loss(v, 5 * v)) == pytest.approx(-1)
    assert torch.autograd.gradcheck(lambda a: perceptual_loss(a, v), g.requires_grad_())


@pytest.mark.equation("eq:grounded-loss")
@pytest.mark.equation("eq:grounded-text")
def test_the_losses_add_up_and_the_text_counts_its_tokens():
    parts = [torch.tensor(value) for value in (2.0, 0.5, -0.3)]
    config = GroundedSpaceConfig(cluster=2, perceptual=3)
    assert float(grounded_loss(*parts, config)) == pytest.approx(2 + 1 - 0.9)
    logits, words = numbers(2, 3, 4), torch.tensor([[1, 2, 0], [3, 0, 0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    want = sum(float(F.log_softmax(logits[i, t], dim=0)[words[i, t]]) for i, t in ((0, 0), (0, 1), (1, 0)))
    assert float(neighbour_loss(logits, words, mask)) == pytest.approx(-want / 3)


def batch():
    words = torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 9]])
    return words, words > 0


def test_padding_changes_no_sentence_and_a_sentence_alone_is_as_in_a_batch():
    with seeded(0):
        model = GroundedSpace(TINY).eval()
    words, mask = batch()
    together = model(words, mask)
    for row, length in enumerate((3, 2, 4)):
        alone = model(words[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(alone[0], together[row])
    with pytest.raises(ValueError, match="a sentence has no token"):
        model(words, mask & False)


def test_a_decoder_reads_only_what_stands_before():
    with seeded(0):
        model, h = GroundedSpace(TINY), torch.randn(1, 8)
    x = model.embedding(torch.tensor([[1, 2, 3]]))
    other = torch.cat([x[:, :2], x[:, 2:] + 1], dim=1)
    torch.testing.assert_close(model.next(x, h), model.next(other, h))
    later = torch.cat([x[:, :1], x[:, 1:] + 1], dim=1)
    assert not torch.allclose(model.next(x, h)[:, 2], model.next(later, h)[:, 2])
    assert not torch.allclose(model.next(x, h)[:, 0], model.next(x, h + 1)[:, 0])


def test_every_parameter_learns_and_pictures_move_the_encoder_through_the_projection():
    with seeded(0):
        model = GroundedSpace(TINY)
    words, mask = batch()
    text = model.text_loss(words, mask, words.flip(0), mask.flip(0), words.roll(1, 0), mask.roll(1, 0))
    both = model.picture_losses(words, mask, torch.tensor([0, 0, 1]), numbers(3, 4).float())
    grounded_loss(text, *both, TINY).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    model.zero_grad()
    sum(model.picture_losses(words, mask, torch.tensor([0, 0, 1]), numbers(3, 4).float())).backward()
    assert model.previous.words.weight.grad is None and bool(model.encoder.weight_hh_l0.grad.any())


def test_captions_of_a_picture_come_together_and_likenesses_are_taken_over():
    with seeded(0):
        model = GroundedSpace(TINY)
    g = torch.Generator().manual_seed(1)
    words = torch.randint(1, 12, (8, 4), generator=g)
    mask, picture = words > 0, torch.arange(8) // 2
    v = torch.randn(4, 6, generator=g)[picture]
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    start = [float(x.detach()) for x in model.picture_losses(words, mask, picture, v)]
    for _ in range(60):
        cluster, perceptual = model.picture_losses(words, mask, picture, v)
        optimizer.zero_grad()
        (cluster + perceptual).backward()
        optimizer.step()
    end = [float(x.detach()) for x in model.picture_losses(words, mask, picture, v)]
    assert end[0] < 0.5 * start[0] and end[1] < -0.9 < start[1]


def test_sizes_add_up():
    c = GroundedSpaceConfig.skip_thought()
    gru = 3 * c.width * (c.embedding + c.width + 2)
    decoder = 3 * c.width * (c.embedding + 2 * c.width + 2) + c.vocab * (c.width + 1)
    projection = c.hidden * (c.width + 1) + c.grounded * (c.hidden + 1)
    want = c.vocab * c.embedding + gru + 2 * decoder + projection
    assert count_blank(GroundedSpace, c) == want
