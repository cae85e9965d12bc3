"""The four tasks of ViLBERT: targets, losses and scores against loops, and each learned by heart."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmlearn.both_modalities.vilbert import ViLBERTConfig, box_geometry
from mmlearn.both_modalities.vilbert_heads import (
    AnswerHead,
    FineTuningConfig,
    ViLBERTForTasks,
    WeightNormLinear,
    alternatives_loss,
    answer_loss,
    choice_loss,
    for_tasks,
    look_alikes,
    normed_weight,
    overlaps,
    pair_scores,
    question_text,
    referred,
    referring_accuracy,
    referring_loss,
    referring_targets,
    retrieval_alternatives,
    soft_score,
)
from mmlearn.both_modalities.vilbert_pretraining import ViLBERTForPreTraining, alignment_score
from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.metrics.retrieval import retrieval_ranks
from mmlearn.nn.bert import BERTConfig


def tiny(**more):
    text = BERTConfig(30, 12, 32, 3, 4, 64, pad=0, dropout=0.0, pooler=False)
    sizes = dict(features=6, classes=5, width=32, layers=2, heads=4, ff=32, inner=32, co_heads=4,
                 co_text=(1, 2), co_vision=(0, 1), dropout=0.0)
    return ViLBERTConfig(text, **{**sizes, **more})


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def pictures(b=4, n=3):
    corners = torch.rand(b, n, 4, generator=dice()).sort(dim=-1).values
    return Seen(torch.randn(b, n, 6, generator=dice()), box_geometry(corners, 1, 1),
                torch.ones(b, n, dtype=torch.bool), torch.zeros(b, n, 5))


def learn(model, loss, steps=35, lr=5e-3):
    """The loss before and after some steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    first = None
    for _ in range(steps):
        value = loss()
        first = value.item() if first is None else first
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return first, loss().item()


def bce(z, s):
    p = 1 / (1 + math.exp(-z))
    return -(s * math.log(p) + (1 - s) * math.log(1 - p))


# ------------------------------------------------------------------------------------------- questions (VQA)


@pytest.mark.equation("eq:vilbert-weight-norm")
def test_size_and_direction_of_a_matrix_are_learned_apart():
    U, g = normal(3, 4), torch.tensor(2.5).double()
    length = math.sqrt(sum(float(x) ** 2 for x in U.flatten()))
    want = torch.tensor([[float(g) * float(x) / length for x in row] for row in U]).double()
    torch.testing.assert_close(normed_weight(U, g), want)
    torch.testing.assert_close(normed_weight(7 * U, g), want)
    layer = WeightNormLinear(4, 3)
    start = layer.direction
    torch.testing.assert_close(layer(torch.eye(4)), start.T)            # it begins as an ordinary layer


@pytest.mark.parity
def test_it_is_torchs_weight_norm_over_the_whole_matrix():
    ours, plain = WeightNormLinear(4, 3), nn.Linear(4, 3)
    theirs = nn.utils.parametrizations.weight_norm(plain, dim=None)
    theirs.load_state_dict({"bias": ours.bias, "parametrizations.weight.original0": ours.length * 1.5,
                            "parametrizations.weight.original1": ours.direction})
    x = torch.randn(5, 4, generator=dice())
    with torch.no_grad():
        ours.length *= 1.5
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.equation("eq:vilbert-soft-score")
def test_an_answer_of_three_annotators_counts_in_full():
    assert soft_score(torch.tensor([[0.0, 3, 10]])).tolist() == [[0, 1, 1]]
    torch.testing.assert_close(soft_score(torch.tensor([[1, 2]])), torch.tensor([[1 / 3, 2 / 3]]))


@pytest.mark.equation("eq:vilbert-vqa")
def test_every_answer_is_a_yes_or_a_no():
    logits, s = normal(2, 4), torch.tensor([[1, 0, 1 / 3, 0], [0, 0, 0, 2 / 3]]).double()
    want = sum(bce(float(z), float(t)) for row in zip(logits, s) for z, t in zip(*row)) / 2
    torch.testing.assert_close(answer_loss(logits, s), torch.tensor(want).double())
    mean = nn.functional.binary_cross_entropy_with_logits(logits, s)    # as released: mean times answers
    torch.testing.assert_close(answer_loss(logits, s), mean * 4)


def test_the_head_of_answers_has_one_hidden_layer_of_twice_the_width():
    head = AnswerHead(tiny(), 7).double().eval()
    x = normal(2, 32)
    first, last = (normed_weight(part.direction, part.length) for part in (head.inner, head.outer))
    assert first.shape == (64, 32) and last.shape == (7, 64)
    want = torch.relu(x @ first.T + head.inner.bias) @ last.T + head.outer.bias
    torch.testing.assert_close(head(x), want)


# -------------------------------------------------------------------------------------------- alternatives


@pytest.mark.equation("eq:vilbert-choice")
def test_one_of_four_is_right():
    logits, right = normal(3, 4), torch.tensor([0, 3, 1])
    want = -sum(float(row[r]) - math.log(sum(math.exp(z) for z in row.tolist()))
                for row, r in zip(logits, right.tolist())) / 3
    torch.testing.assert_close(choice_loss(logits, right), torch.tensor(want).double())
    assert math.isclose(choice_loss(torch.zeros(1, 4), right[:1]), math.log(4), rel_tol=1e-6)


def test_a_question_and_its_answer_are_two_segments():
    tokens, segments = question_text([5, 6], [7, 8, 9], cls=1, sep=2)
    assert tokens == [1, 5, 6, 2, 7, 8, 9, 2] and segments == [0, 0, 0, 0, 1, 1, 1, 1]
    tokens, segments = question_text([5, 6, 2, 7], [8], cls=1, sep=2)   # a reason: question [SEP] answer
    assert tokens == [1, 5, 6, 2, 7, 2, 8, 2] and segments == [0] * 6 + [1] * 2
    tokens, _ = question_text([5, 6, 7, 8], [9, 10], cls=1, sep=2, most=7)
    assert tokens == [1, 5, 6, 2, 9, 10, 2]                             # the longer one loses its end
    with pytest.raises(ValueError, match="a question of 0"):
        question_text([], [7], 1, 2)


@torch.no_grad()
def test_texts_of_one_picture_are_scored_as_if_each_had_its_own(seeded):
    model = ViLBERTForTasks(tiny(), 3).eval()
    tokens = torch.randint(4, 30, (2, 4, 6), generator=dice())
    segments, seen = (torch.arange(6) > 2).long().expand(2, 4, -1), pictures(2)
    chosen = model.choose(tokens, segments, None, *seen[:3])
    for b in range(2):
        for k in range(4):
            alone = model(tokens[b, k][None], segments[b, k][None], None, *(p[b][None] for p in seen[:3]))
            torch.testing.assert_close(alone.choice[0], chosen[b, k])
    torch.testing.assert_close(model.choose(tokens, segments, tokens != 0, *seen[:3]), chosen)


def test_alternatives_of_retrieval_are_a_wrong_text_a_wrong_picture_and_a_hard_text():
    near = torch.tensor([[1], [0], [3], [2]])
    for seed in range(20):
        found = retrieval_alternatives(4, near, dice(seed))
        own = torch.arange(4)
        assert torch.equal(found.texts[:, 0], own) and torch.equal(found.pictures[:, 0], own)
        assert (found.texts[:, 1] != own).all() and torch.equal(found.pictures[:, 1], own)
        assert torch.equal(found.texts[:, 2], own) and (found.pictures[:, 2] != own).all()
        assert torch.equal(found.texts[:, 3], near[:, 0]) and torch.equal(found.pictures[:, 3], own)
    assert (retrieval_alternatives(4, None, dice()).texts[:, 3] != torch.arange(4)).all()
    with pytest.raises(ValueError, match="use batches of 2 or more"):
        retrieval_alternatives(1)


def test_pictures_that_look_alike_are_the_nearest_others_by_cosine():
    features = torch.tensor([[1.0, 0.0], [5.0, 0.1], [0.0, 1.0], [0.1, 3.0]])
    assert look_alikes(features, 1).tolist() == [[1], [0], [3], [2]]
    with pytest.raises(ValueError, match="ask for 1 to 3 others"):
        look_alikes(features, 4)


def test_all_texts_are_scored_with_all_pictures_before_and_after_fine_tuning(seeded):
    tokens, seen = torch.randint(4, 30, (3, 5), generator=dice()), pictures(2)
    model = ViLBERTForTasks(tiny(), 3)                                  # in training mode before and after
    scores = pair_scores(model, tokens, seen, lambda s: s.choice, batch=4)
    assert scores.shape == (3, 2) and model.training
    model.eval()
    with torch.no_grad():
        want = model(tokens[2:], None, None, *(part[1:] for part in seen[:3])).choice[0]
    torch.testing.assert_close(scores[2, 1], want)
    before = ViLBERTForPreTraining(tiny())
    zero_shot = pair_scores(before, tokens, seen, lambda s: alignment_score(s.pairs))
    assert ((zero_shot > 0) & (zero_shot < 1)).all()
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])         # texts 0 and 2 are of picture 0 …
    ranks = retrieval_ranks(torch.eye(2), scores, torch.tensor([0, 1, 1]))        # … but 2 is said to be of 1
    assert ranks.text_to_image.tolist() == [1, 1, 2] and ranks.image_to_text.tolist() == [1, 1]


# ------------------------------------------------------------------------------------- referring expressions


@pytest.mark.equation("eq:vilbert-overlap")
def test_a_region_is_meant_by_as_much_as_it_overlaps_from_half_on():
    boxes = box_geometry(torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 1], [5, 5, 8, 8]]]), 8, 8)
    iou = overlaps(boxes, torch.tensor([[0.0, 0.0, 0.5, 0.5]]))
    torch.testing.assert_close(iou, torch.tensor([[1.0, 0.5, 0.25, 0.0]]))
    assert referring_targets(iou).tolist() == [[1, 0.5, 0, 0]]
    assert referring_targets(iou, soft=False).tolist() == [[1, 1, 0, 0]]           # the paper's words


@pytest.mark.equation("eq:vilbert-refer")
def test_every_real_region_is_a_yes_or_a_no():
    logits, u = normal(2, 3), torch.tensor([[0.8, 0, 0], [0, 1, 0]]).double()
    mask = torch.tensor([[True, True, True], [True, True, False]])
    real = [(b, i) for b in range(2) for i in range(3) if mask[b, i]]
    want = sum(bce(float(logits[place]), float(u[place])) for place in real) / 2
    torch.testing.assert_close(referring_loss(logits, u, mask), torch.tensor(want).double())
    logits[1, 2] = torch.inf
    assert referring_loss(logits, u, mask).isfinite()


def test_the_chosen_region_is_real_and_hits_above_half():
    logits = torch.tensor([[1.0, 2, 9], [3, 1, 0], [1, 1, 1]])
    mask = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    assert referred(logits, mask).tolist()[:2] == [1, 0]
    iou = torch.tensor([[0.0, 0.6, 1.0], [0.5, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert math.isclose(referring_accuracy(logits, iou, mask), 1 / 3)   # half is not above half; none is none


# ------------------------------------------------------------------------------------------------- learning


def test_shapes_of_the_scores_and_gradients_of_every_task(seeded):
    model = ViLBERTForTasks(tiny(), 7)
    tokens, seen = torch.randint(4, 30, (4, 5), generator=dice()), pictures()
    scores = model(tokens, None, None, *seen[:3])
    assert scores.answers.shape == (4, 7) and scores.choice.shape == (4,) and scores.regions.shape == (4, 3)
    for task, value in scores._asdict().items():
        model.zero_grad()
        value.square().sum().backward(retain_graph=True)
        got = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert any(name.startswith(f"{task}.") for name in got) and "vilbert.text.embed.words.weight" in got


@torch.no_grad()
def test_a_task_starts_from_pre_training(seeded):
    before = ViLBERTForPreTraining(tiny()).double()
    model = for_tasks(before, 7)
    tokens, seen = torch.randint(4, 30, (4, 5), generator=dice()), pictures()
    inputs = (tokens, None, None, seen.features.double(), seen.boxes.double())
    assert torch.equal(model.vilbert(*inputs).vision, before.vilbert(*inputs).vision)
    model.vilbert.text_pooler.weight.zero_()
    assert before.vilbert.text_pooler.weight.abs().sum() > 0                       # a copy


@pytest.mark.slow
def test_each_task_is_learned_by_heart(seeded):
    tokens, seen = torch.randint(4, 30, (4, 5), generator=dice()), pictures()

    def new():
        model = ViLBERTForTasks(tiny(), 7)
        model.answers.dropout.p = 0.0
        return model

    model, s = new(), soft_score(torch.tensor([
        [6, 3, 1, 0, 0, 0, 0], [0, 0, 10, 0, 0, 0, 0], [0, 0, 0, 9, 1, 0, 0], [0, 0, 0, 0, 0, 10, 0]]))
    floor = sum(bce(math.log(2 / 1) * sign, t) for t, sign in ((1 / 3, -1),) * 2) / 4      # entropy of thirds
    before, after = learn(model, lambda: answer_loss(model(tokens, None, None, *seen[:3]).answers, s))
    assert before > 4 and after < floor + 0.1
    model, u = new(), torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    before, after = learn(
        model, lambda: referring_loss(model(tokens, None, None, *seen[:3]).regions, u, seen.mask))
    assert before > 1.5 and after < 0.1
    right, four = torch.arange(4), torch.randint(4, 30, (4, 4, 6), generator=dice(1))
    model = new()
    before, after = learn(model, lambda: choice_loss(model.choose(four, None, None, *seen[:3]), right))
    assert before > 1 and after < 0.1
    model, pairs = new(), retrieval_alternatives(4, None, dice())
    before, after = learn(model, lambda: alternatives_loss(model, tokens, seen, pairs), steps=50)
    assert before > 0.5 and after < 0.1


def test_settings_of_the_tasks_are_the_released_ones():
    assert (FineTuningConfig.vqa().batch, FineTuningConfig.vqa().lr, FineTuningConfig.vqa().text_length) == (
        256, 4e-5, 16)
    assert FineTuningConfig.vcr_rationale().text_length == 80 and FineTuningConfig.referring().lr == 4e-5
    with pytest.raises(ValueError, match="lr of FineTuningConfig is 11"):
        replace(FineTuningConfig(), lr=11.0)
