"""Few-shot prompts: which shots, in which order, which answer is given, and the controls that say why."""

import math

import pytest
import torch
from torch import nn

from mmlearn.both_modalities.few_shot import (
    answer_scores,
    answer_tokens,
    averaged,
    blind,
    chosen_on_test,
    clip_features,
    left_out_scores,
    orders,
    prompts,
    random_shots,
    refuse_test_shots,
    rices,
    same_words,
    score_answers,
    shot_curve,
    trimmed,
    true_few_shot_choice,
    with_other_pictures,
    with_shots,
    with_wrong_answers,
    without_pictures,
    write_answers,
)
from mmlearn.both_modalities.interleaved import NO_PICTURE, ChunkTokeniser, Example, look_at_features
from mmlearn.data.pairs import PairData, scene_pairs
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig

COLOURS = ("red", "green", "blue")
SHOTS = [Example("Output:", COLOURS[i % 3], i, "colour") for i in range(6)]
LOOK = look_at_features(torch.eye(3).repeat(4, 1))            # picture i has colour i % 3


def tokeniser():
    return ChunkTokeniser.train(["output question answer red green blue red car"])


class Looks(nn.Module):
    """Says the colour that it sees, as a stand-in for a trained model: its visual token is the logit."""

    cache, keeps_past = None, True

    def __init__(self, of, sure=8.0):
        super().__init__()
        self.of, self.sure, self.weight = of, sure, nn.Parameter(torch.zeros(1))
        self.words = of.encode("red green blue")

    def see(self, pictures=None, features=None):
        return features[:, :, None]                           # b m e -> b m 1 e

    def decode(self, tokens, prompt):
        read, _ = prompt.given(tokens, 0 if self.cache is None else self.cache.length)
        if self.cache is not None:                            # what was read before, as keys and as values
            kept = read[:, None, :, None]
            read = self.cache.extend(self, kept, kept)[0][:, 0, :, 0]
        t = tokens.shape[1]
        logits = torch.zeros(*tokens.shape, len(self.of))
        levels, phi, read = prompt.rows_of(prompt.levels), prompt.phi(read.shape[1])[:, -t:], read[:, -t:]
        for i in range(len(tokens)):
            for j in range(t):
                if int(read[i, j]) in self.words:
                    logits[i, j, self.of.eos] = self.sure
                elif phi[i, j] > 0:
                    logits[i, j, self.words] = self.sure * levels[i, int(phi[i, j]) - 1, 0]
        return logits


# Choosing shots ---------------------------------------------------------------------------------------------

@pytest.mark.equation("eq:few-shot-rices")
def test_rices_takes_the_nearest_pictures_and_puts_the_most_similar_last():
    torch.manual_seed(0)
    queries, support = torch.randn(3, 4), torch.randn(9, 4)
    got = rices(queries, support, 4)
    for i in range(3):
        cos = [float(queries[i] @ s) / float(queries[i].norm() * s.norm()) for s in support]
        assert got[i].tolist() == sorted(range(9), key=lambda j: cos[j])[-4:]
    own = rices(support, support, 3, own=torch.arange(9))
    assert not any(i in row for i, row in enumerate(own.tolist()))
    assert rices(support, support, 1)[:, 0].tolist() == list(range(9))
    with pytest.raises(ValueError, match="9 shots of a support of 8"):
        rices(support, support, 9, own=torch.arange(9))


def test_random_shots_are_different_and_follow_from_their_generator():
    rows = random_shots(7, 5, 4, torch.Generator().manual_seed(0))
    assert rows.shape == (5, 4) and all(len(set(row)) == 4 for row in rows.tolist())
    assert torch.equal(rows, random_shots(7, 5, 4, torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="at most all"):
        random_shots(3, 5, 4)


def test_an_episode_is_the_shots_and_then_the_query():
    rows = torch.tensor([[2, 0], [1, 2]])
    got = with_shots(SHOTS[3:5], SHOTS[:3], rows)
    assert got == [[SHOTS[2], SHOTS[0], SHOTS[3]], [SHOTS[1], SHOTS[2], SHOTS[4]]]
    with pytest.raises(ValueError, match="give each query its row"):
        with_shots(SHOTS[:1], SHOTS, rows)


def test_shots_from_the_test_set_are_refused():
    train, test = scene_pairs(6, "train", size=16), scene_pairs(6, "test", size=16)
    refuse_test_shots(train, test)
    with pytest.raises(ValueError, match="3 pictures stand in .* and in the test, the first is number 2"):
        refuse_test_shots(train.rows([5, 4, 1, 2, 3]), train.rows([1, 2, 3]))
    bare = PairData(test.images, test.captions)
    refuse_test_shots(bare.rows([0, 1]), bare.rows([2, 3]))
    with pytest.raises(ValueError, match="1 pictures stand"):
        refuse_test_shots(bare.rows([0, 1]), bare.rows([1, 2]))
    with pytest.raises(ValueError, match="take both from one source"):
        refuse_test_shots(train, bare)


@pytest.mark.slow
def test_pictures_are_compared_by_the_clip_of_chapter_4():
    data = scene_pairs(8, "test")
    u = clip_features(data.images)
    assert u.shape[0] == 8
    torch.testing.assert_close(u.norm(dim=1), torch.ones(8), atol=1e-4, rtol=1e-4)
    assert rices(u, u, 1)[:, 0].tolist() == list(range(8))


# Controls ---------------------------------------------------------------------------------------------------

def test_controls_change_the_shots_and_leave_the_query():
    episode = SHOTS[:4]
    assert [e.picture for e in without_pictures(episode)] == [NO_PICTURE] * 3 + [3]
    assert [e.picture for e in blind(episode)] == [NO_PICTURE] * 4
    generator = torch.Generator().manual_seed(0)
    wrong = with_wrong_answers(episode, COLOURS, generator)
    assert wrong[-1] == episode[-1] and all(
        a.answer != b.answer and a.picture == b.picture for a, b in zip(wrong[:-1], episode))
    other = with_other_pictures(episode, 12, generator)
    assert other[-1] == episode[-1] and all(
        a.picture != b.picture and a.answer == b.answer for a, b in zip(other[:-1], episode))
    with pytest.raises(ValueError, match="no answer beside 'red'"):
        with_wrong_answers(episode, ["red"])


def test_text_alone_in_place_of_shots_has_no_marks_of_pictures():
    of = tokeniser()
    prompt = prompts([without_pictures(SHOTS[:3])], of, LOOK, lambda features: features[:, :, None])
    assert of.show(prompt.tokens[0]) == "output red <EOC> output green <EOC> <image> output"
    assert prompt.media[0].tolist() == [0] * 7 + [1, 1] and prompt.levels.shape == (1, 1, 1, 3)


# Answers ----------------------------------------------------------------------------------------------------

@pytest.mark.equation("eq:few-shot-answer")
def test_an_answer_scores_the_sum_of_its_tokens_or_their_mean():
    log_probs, lengths = torch.randn(2, 3, 4), torch.tensor([[4, 4, 4], [4, 4, 4]])
    total, mean = answer_scores(log_probs), answer_scores(log_probs, lengths)
    for i in range(2):
        for k in range(3):
            want = sum(float(x) for x in log_probs[i, k])
            assert float(total[i, k]) == pytest.approx(want, abs=1e-5)
            assert float(mean[i, k]) == pytest.approx(want / 4, abs=1e-5)


def test_prompts_end_together_and_say_which_picture_each_token_sees():
    of = tokeniser()
    prompt = prompts([SHOTS[:1], SHOTS[:3]], of)
    assert prompt.tokens[:, -1].tolist() == of.encode("output") * 2
    assert prompt.real.sum(1).tolist() == [3, 2 * 4 + 3]
    assert prompt.media[0].tolist() == [0] * 9 + [1, 1] and prompt.media[1, -2:].tolist() == [3, 3]
    assert prompt.levels.shape == (2, 0, 0, 0)


def test_the_answer_that_the_model_sees_is_chosen_and_written():
    of = tokeniser()
    model, episodes = Looks(of), [SHOTS[:1], SHOTS[:3], SHOTS[2:4]]
    judged = score_answers(model, episodes, COLOURS, of, LOOK, batch=2)
    assert judged.accuracy == 1.0 and judged.chosen.tolist() == [0, 2, 0] and judged.scores.shape == (3, 3)
    texts = write_answers(model, episodes, of, LOOK, beams=2)
    assert texts == ["red", "blue", "red"]
    assert all(same_words(text, e[-1].answer, of) for text, e in zip(texts, episodes))
    each = [["red", "green"], ["blue", "red"], ["green", "red"]]
    assert score_answers(model, episodes, each, of, LOOK).chosen.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="3 queries and 2 lists of candidates"):
        score_answers(model, episodes, each[:2], of, LOOK)
    with pytest.raises(ValueError, match="'blue' is no candidate of its query"):
        score_answers(model, episodes, ["red", "green"], of, LOOK)


def test_without_its_picture_a_query_is_answered_at_chance():
    of = tokeniser()
    judged = score_answers(Looks(of), [blind([shot]) for shot in SHOTS], COLOURS, of, LOOK)
    assert judged.accuracy == pytest.approx(1 / 3)
    torch.testing.assert_close(judged.scores[:, 0], judged.scores[:, 1])


def test_an_answer_that_begins_another_is_not_preferred_for_being_shorter():
    of = tokeniser()
    torch.manual_seed(0)
    lm = CausalLM(CausalLMConfig.mini(len(of)))
    tokens = answer_tokens([["red", "red car"]], of)
    assert tokens.tolist()[0] == [[*of.encode("red"), 3, 1], [*of.encode("red car"), 3]]
    scores = score_answers(lm, [[SHOTS[0]]], ["red", "red car"], of).scores[0]
    prompt = of.encode("<image>output")
    for i, answer in enumerate(("red", "red car")):
        ids = torch.tensor([[of.bos, *prompt, *of.encode(answer), of.eos]])
        with torch.no_grad():
            log_probs = lm.eval()(ids).log_softmax(-1)
        want = sum(float(log_probs[0, t - 1, ids[0, t]]) for t in range(3, ids.shape[1]))
        assert float(scores[i]) == pytest.approx(want, abs=1e-4)
    with pytest.raises(ValueError, match="give all as many"):
        answer_tokens([["red"], ["red", "car"]], of)


def test_scoring_leaves_the_model_as_it_was():
    lm = CausalLM(CausalLMConfig.mini(len(tokeniser()))).train()
    score_answers(lm, [[SHOTS[0]]], COLOURS, tokeniser())
    assert lm.training and all(layer.attention.cache is None for layer in lm.layers)


def test_a_written_answer_ends_where_a_new_chunk_begins():
    assert trimmed("a red car question what") == "a red car" and trimmed("red") == "red" and trimmed("") == ""


def test_orders_begin_with_the_given_one_and_answers_are_averaged_over_them():
    rows = orders(4, 6, torch.Generator().manual_seed(0))
    assert rows[0].tolist() == [0, 1, 2, 3] and all(sorted(row) == [0, 1, 2, 3] for row in rows.tolist())
    of = tokeniser()
    judged = averaged(Looks(of), [SHOTS[:3], SHOTS[1:4]], COLOURS, of, LOOK, count=3)
    assert judged.accuracy == 1.0 and judged.scores.shape == (2, 3)


class Copies(Looks):
    """Says the answer that most shots had whose picture is like the query's, as a stand-in for a model that
    learns in context: with the wrong answers it says them."""

    def decode(self, tokens, prompt):
        given, _ = prompt.given(tokens)
        logits, s = torch.zeros(*tokens.shape, len(self.of)), given.shape[1] - tokens.shape[1]
        phi, levels = prompt.phi(given.shape[1]), prompt.rows_of(prompt.levels)
        for i in range(len(tokens)):
            logits[i, 1:, self.of.eos] = self.sure
            last = int(phi[i, s])
            for j in range(s):
                if int(given[i, j]) in self.words and phi[i, j] and last:
                    alike = levels[i, int(phi[i, j]) - 1, 0] @ levels[i, last - 1, 0]
                    logits[i, 0, given[i, j]] += self.sure * alike
        return logits


def test_accuracy_over_shots_is_told_with_its_controls():
    of, queries = tokeniser(), [shot._replace(picture=shot.picture + 6) for shot in SHOTS]
    near = (LOOK(torch.arange(6, 12)), LOOK(torch.arange(6)))
    curves = shot_curve(Copies(of), queries, SHOTS, COLOURS, of, LOOK, shots=(0, 2, 6), near=near)
    chance = 1 / 3
    assert set(curves) == {"random", "RICES", "wrong answers", "other pictures", "text alone", "blind"}
    assert all(curve[0] == pytest.approx(chance) for curve in curves.values())
    assert curves["random"][2] == 1.0 and curves["random"][1] <= 1.0 == curves["RICES"][1]
    assert curves["wrong answers"][2] < 0.5 and curves["text alone"] == curves["blind"] == [
        pytest.approx(chance)] * 3
    assert "RICES" not in shot_curve(Copies(of), queries, SHOTS, COLOURS, of, LOOK, shots=(1,))
    with pytest.raises(ValueError, match="the arm 'lucky' is unknown"):
        shot_curve(Copies(of), queries, SHOTS, COLOURS, of, LOOK, arms=("lucky",))


# True few-shot ----------------------------------------------------------------------------------------------

@pytest.mark.equation("eq:few-shot-optimism")
def test_the_best_of_many_prompts_scores_more_on_what_chose_it_than_on_fresh_pictures():
    torch.manual_seed(0)
    gaps = []
    for _ in range(100):                                     # 40 prompts that are all right half of the time
        right, fresh = torch.rand(40, 50).lt(0.5).double(), torch.rand(40, 500).lt(0.5).double()
        told, true = chosen_on_test(right, fresh)
        means = [sum(float(x) for x in row) / 50 for row in right]
        assert float(told) == pytest.approx(max(means))
        assert float(true) == pytest.approx(float(fresh[means.index(max(means))].mean()))
        gaps.append(float(told - true))
    mean = sum(gaps) / 100
    assert 0.1 < mean < math.sqrt(2 * math.log(40) * 0.25 / 50)       # what is known of a maximum


@pytest.mark.equation("eq:few-shot-true")
def test_the_shots_choose_the_prompt_by_the_answers_that_they_know():
    scores = torch.tensor([[-1.0, -3.0], [-1.5, -1.0], [-0.1, -9.0]])
    assert int(true_few_shot_choice(scores)) == 1
    of = tokeniser()
    own = left_out_scores(Looks(of), SHOTS, COLOURS, of, LOOK)
    assert own.shape == (6,) and float(own.exp().min()) > 0.9
    blindly = left_out_scores(Looks(of, sure=0.0), SHOTS, COLOURS, of, LOOK)
    assert blindly.exp().tolist() == pytest.approx([1 / 3] * 6)
    assert int(true_few_shot_choice(torch.stack([blindly, own]))) == 1
