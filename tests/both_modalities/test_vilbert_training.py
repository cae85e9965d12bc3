"""ViLBERT's batches, what is judged of it, its tasks in the scene world, and its file."""

from dataclasses import replace

import pytest
import torch

from mmlearn.both_modalities import vilbert_fine_tuning as tasks
from mmlearn.both_modalities.vilbert import ViLBERTConfig
from mmlearn.both_modalities.vilbert_heads import for_tasks
from mmlearn.both_modalities.vilbert_pretraining import ALIGNED, IGNORED, PretrainingConfig
from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.both_modalities.vilbert_training import (
    PretrainingBatches,
    RegionTexts,
    hide_words,
    judged,
    kept_regions,
    load_vilbert,
    mask_id,
    matches,
    mini_model,
    others,
    pairs_right,
    pretrain,
    save_vilbert,
    scene_regions,
    scores_of,
    without,
    words_right,
)
from mmlearn.data.expressions import expressions
from mmlearn.data.questions import ANSWERS, vqa_pairs
from mmlearn.data.rationales import vcr_problems
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.nn.bert import BERTConfig

TEXTS = (("a red cat", "a cat"), ("a blue dog and a red car",), ("the sun",), ("two green trees",))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def data():
    features = torch.randn(4, 3, 6, generator=dice())
    boxes = torch.rand(4, 3, 5, generator=dice(1))
    mask = torch.tensor([[True, True, False]] * 4)
    classes = torch.randn(4, 3, 5, generator=dice(2)).softmax(-1).masked_fill(~mask[..., None], 0.0)
    return RegionTexts(Seen(features, boxes, mask, classes), TEXTS)


def tiny(words, context=16):
    text = BERTConfig(mask_id(words) + 1, context, 32, 2, 4, 64, pad=words.pad, dropout=0.0, pooler=False)
    return ViLBERTConfig(text, 6, 5, 32, 1, 4, 32, 32, 4, (1,), (0,), 0.0)


def test_a_batch_is_a_function_of_its_number_and_pairs_pictures_with_their_own_captions(data):
    words = data.vocabulary(["what colour"])
    assert "what" in words.index and len(data) == 4 and data.first()[1] == TEXTS[1][0]
    config = replace(PretrainingConfig.mini(), batch=4, random_text=0.0)
    batches = PretrainingBatches(data, words, config, seed=3)
    one, same, other = batches.make([0, 1, 2, 3], 5), batches.make([0, 1, 2, 3], 5), batches.make([3, 0], 6)
    assert all(torch.equal(a, b) for a, b in zip(one, same))
    asked = one.words != IGNORED
    texts = torch.where(asked, one.words, one.tokens)
    for i, row in enumerate(texts):
        assert words.decode(row) in TEXTS[i]
    assert words.decode(torch.where(other.words != IGNORED, other.words, other.tokens)[0]) in TEXTS[3]
    assert torch.equal(one.boxes, data.seen.boxes) and (one.pairs == ALIGNED).all()
    with pytest.raises(ValueError, match="3 lists of captions"):
        RegionTexts(data.seen, TEXTS[:3])


def test_words_are_hidden_by_name_and_nothing_else_is(data):
    words = data.vocabulary()
    asked = hide_words(data.first(), ("red", "blue", "purple"), words)
    for row, text, hidden in zip(asked.inputs.tolist(), data.first(), asked.hidden.tolist()):
        for place, word in enumerate(text.split(), start=1):
            assert hidden[place] == (word in ("red", "blue"))
            assert row[place] == (mask_id(words) if hidden[place] else words.index[word])


def test_a_picture_is_taken_away_or_given_to_the_next_one(data):
    gone, swapped = without(data.seen), others(data.seen)
    assert not gone.mask.any() and gone.features.abs().sum() == 0
    for i in range(4):
        assert torch.equal(swapped.features[i], data.seen.features[(i + 1) % 4])


class Fixed(torch.nn.Module):
    """Says of every pair whether text and first feature agree, and the word 5 everywhere."""

    def forward(self, tokens, segments, mask, regions, boxes, region_mask):
        agree = (tokens[:, 1] == regions[:, 0, 0].long()).float()
        words = torch.zeros(*tokens.shape, 9)
        words[..., 5] = 1.0
        return words, torch.zeros(*regions.shape[:2], 3), torch.stack([agree, 1 - agree], 1) * 4


def test_shares_of_pairs_and_words_are_counted_one_by_one():
    tokens = torch.tensor([[2, 5, 3], [2, 6, 3], [2, 7, 3], [2, 7, 3]])
    features = torch.tensor([5.0, 6.0, 8.0, 7.0])[:, None, None].expand(4, 2, 1)
    seen = Seen(features, torch.zeros(4, 2, 5), torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, 2, 3))
    own = [5 == 5, 6 == 6, 7 == 8, 7 == 7]
    other = [5 == 6, 6 == 8, 7 == 7, 7 == 5]
    want = (sum(own) / 4 + sum(not one for one in other) / 4) / 2
    assert pairs_right(Fixed(), tokens, seen, 1) == pytest.approx(want)
    assert matches(Fixed(), tokens, seen, 1).tolist() == own
    asked = hide_words(["a b", "b a"], ["b"], WordTokeniser(["<unk>", "<pad>", "<bos>", "<eos>", "a", "b"]))
    assert words_right(Fixed(), asked, seen.rows(torch.arange(2)), 1) == 1.0


def test_what_is_judged_has_its_controls_and_a_model_is_saved_and_opened(data, tmp_path):
    words = data.vocabulary()
    model = mini_model(words, data, 1, tiny(words))
    scores = judged(model, data, words)
    assert scores["colours, most frequent"] == pytest.approx(2 / 4)     # red, blue, red, green
    assert {"pairs", "colours", "colours, other picture", "colours, no picture", "region class",
            "region divergence, no text"} <= set(scores)
    save_vilbert(tmp_path / "model.safetensors", model.half().float(), words, {"metrics": scores})
    again, tokeniser, about = load_vilbert(tmp_path / "model.safetensors")
    tokens = tokeniser.batch(data.first())
    for one, two in zip(scores_of(model, tokens, data.seen, 1), scores_of(again, tokens, data.seen, 1)):
        torch.testing.assert_close(one, two)
    assert about["metrics"] == scores and tokeniser.words == words.words


@pytest.mark.slow
def test_training_tells_four_pairs_apart(data):
    words = data.vocabulary()
    model = mini_model(words, data, 0, tiny(words))
    before = judged(model, data, words)
    batches = PretrainingBatches(data, words, replace(PretrainingConfig.mini(), batch=4, lr=2e-3))
    history = pretrain(model, batches, steps=1000, progress=False)
    after = judged(model, data, words)
    assert sum(history.loss[-50:]) < sum(history.loss[:50]) / 4
    assert before["pairs"] < 0.75 < 0.85 < after["pairs"]


def test_regions_of_scenes_are_kept_and_read_again(tmp_path):
    from mmlearn.image2text.regions import load_detector

    detector = load_detector()
    first = scene_regions(detector, 3, keep=tmp_path)
    (file,) = tmp_path.iterdir()
    again = scene_regions(detector, 3, keep=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first.seen, again.seen))
    assert first.captions == again.captions and len(first.scenes) == 3
    assert torch.equal(kept_regions(detector, torch.zeros(0, 3, 64, 64), 9, file).mask, first.seen.mask)
    assert all(len(text.split()) <= 16 for texts in first.captions for text in texts)


# ------------------------------------------------------------------------------------------------------ tasks


def fake_regions(scenes, n=3):
    """Regions that are the true boxes of the first things, with features of noise."""
    from mmlearn.both_modalities.vilbert import box_geometry
    from mmlearn.data.expressions import object_boxes

    boxes, mask = torch.zeros(len(scenes), n, 5), torch.zeros(len(scenes), n, dtype=torch.bool)
    for i, scene in enumerate(scenes):
        own = object_boxes(scene)[:n]
        boxes[i, : len(own)], mask[i, : len(own)] = box_geometry(own, 1, 1), True
    features = torch.randn(len(scenes), n, 6, generator=dice()).masked_fill(~mask[..., None], 0.0)
    return Seen(features, boxes, mask, torch.zeros(len(scenes), n, 5))


@pytest.fixture
def asked():
    texts = tasks.task_words(30)
    return WordTokeniser.train(texts)


def test_soft_scores_of_questions_are_those_of_the_people(asked):
    data = vqa_pairs(4, "train", scenes=100)
    task = tasks.question_task(data, fake_regions(data.scenes), asked)
    for question, row in zip(data.questions, task.right):
        for answer, score in zip(ANSWERS, row.tolist()):
            assert score == pytest.approx(min(1, question.answers.count(answer) / 3))
    assert task.pictures.tolist() == [q.scene for q in data.questions]


def test_an_expression_means_the_region_that_overlaps_its_thing(asked):
    data = expressions(6)
    task = tasks.referring_task(data, fake_regions(data.scenes), asked)
    for one, row in zip(data.expressions, task.right):
        if one.target < 3:
            assert row.argmax() == one.target and row.max() == pytest.approx(1.0)
    found = tasks.blind_referring(task)
    assert found["best region"] == pytest.approx(
        sum(bool((row > 0.5).any()) for row in task.right) / 6)
    assert all(0 <= value <= found["best region"] for value in found.values())


@pytest.mark.slow
def test_tasks_are_learned_by_heart(asked):
    data = expressions(6)
    regions = fake_regions(data.scenes)
    model = for_tasks(mini_model(asked, RegionTexts(regions, ((),) * len(data.scenes)), 0,
                                 tiny(asked, 64)), len(ANSWERS))
    task = tasks.referring_task(data, regions, asked)
    tasks.tune_task(model, "referring", task, steps=160, lr=3e-3, progress=False)
    assert tasks.referring_score(model, task) == tasks.blind_referring(task)["best region"]
    chosen = tasks.chosen_regions(model, task)
    assert [float(row[i]) > 0.5 for row, i in zip(task.right, chosen)].count(True) == pytest.approx(
        6 * tasks.referring_score(model, task))
    questions = vqa_pairs(4, "train", scenes=100)
    learned = tasks.question_task(questions, fake_regions(questions.scenes), asked)
    history = tasks.tune_task(model, "questions", learned, steps=200, lr=3e-3, progress=False)
    assert history.loss[-1] < history.loss[0] / 2
    assert questions.scores(tasks.given_answers(model, learned)).overall > 0.5


def test_a_choice_reads_question_and_answer_and_a_reason_the_right_answer_too(asked):
    data = vcr_problems(30)
    regions = fake_regions(data.scenes)
    answers, reasons = (tasks.choice_task(data, regions, asked, reasons=why) for why in (False, True))
    one, scene = data.problems[0], data.scenes[data.problems[0].scene]
    said = [asked.decode([i for i in row.tolist() if i != asked.eos]) for row in answers.tokens[0]]
    from mmlearn.data.rationales import with_names
    for text, choice in zip(said, one.answers):
        want = [with_names(part, scene) for part in (one.question, choice)]
        assert text == " ".join(asked.decode(asked.encode(part)) for part in want)
    assert answers.right[0] == one.answer and reasons.right[0] == one.rationale
    assert (reasons.tokens[0, 0] == asked.eos).sum() == 3 and (answers.tokens[0, 0] == asked.eos).sum() == 2
    first = answers.segments[0, 0].tolist()
    assert first[: first.index(1)] == [0] * first.index(1)
    model = for_tasks(mini_model(asked, RegionTexts(regions, ((),) * len(data.scenes)), 0, tiny(asked, 64)))
    chosen = tasks.chosen_texts(model, answers)
    assert chosen.shape == (len(data),) and tasks.choice_step(answers, model, torch.arange(4)) > 0


def test_retrieval_has_four_pairs_for_each_picture_and_ranks_all(data):
    words = data.vocabulary()
    model = for_tasks(mini_model(words, data, 0, tiny(words)), 3)
    tokens = words.batch(data.first())
    near = torch.tensor([[1], [0], [3], [2]])
    loss = tasks.retrieval_step(data, tokens, model, torch.tensor([0, 2, 3]), near)
    assert loss > 0 and loss.requires_grad
    recalls = tasks.retrieval_scores(model, tokens, data.seen, lambda scores: scores.choice)
    assert recalls["R@5"] == 1.0 and recalls["R@1"] <= recalls["R@5"]
