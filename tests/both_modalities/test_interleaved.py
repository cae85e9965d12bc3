"""Pages of pictures and text: tokens, which picture a token sees, what the loss counts, and their batches."""

import pytest
import torch

from mmlearn.both_modalities.flamingo import last_picture
from mmlearn.both_modalities.interleaved import (
    NO_PICTURE,
    NONSENSE,
    BindingBatches,
    Blind,
    ChunkTokeniser,
    Example,
    PageBatches,
    binding_page,
    caption_examples,
    chunk,
    collate_pages,
    encode_page,
    instruction_examples,
    interleaved_objective,
    look_at_features,
    look_at_pixels,
    next_positions,
    question_examples,
    shown,
    stack_pictures,
)
from mmlearn.data.pairs import ClassPictures, PairData, scene_pairs
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig

PAGE = [Example("Output:", "a red cat", 3), Example("Output:", "dogs", 1), Example("Output:", "words alone")]


@pytest.fixture(scope="module")
def scenes():
    return scene_pairs(12, "train", size=16)


def tokeniser():
    return ChunkTokeniser.train([*(text for example in PAGE for text in example[:2]), *NONSENSE])


def features(n=12):
    return look_at_features(torch.arange(n, dtype=torch.float32)[:, None] + torch.zeros(n, 5))


def pictures():
    """Classes 0 and 1 have four pictures each, class 2 has one."""
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 2])
    return ClassPictures(torch.zeros(9, 3, 4, 4, dtype=torch.uint8), labels, ("cat", "dog", "sun"), ())


# Which picture a token sees ---------------------------------------------------------------------------------

@pytest.mark.equation("eq:flamingo-phi", "eq:interleaved-next")
def test_a_token_sees_the_last_picture_at_or_before_it_or_the_next_one_behind():
    torch.manual_seed(0)
    tokens = torch.randint(3, 7, (4, 11))
    phi, ahead = last_picture(tokens == 4), next_positions(tokens, 4)
    for i in range(4):
        for t in range(11):
            seen = sum(int(tokens[i, s]) == 4 for s in range(t + 1))
            behind = sum(int(tokens[i, s]) == 4 for s in range(t + 1, 11))
            assert int(phi[i, t]) == seen
            assert int(ahead[i, t]) == (seen + 1 if behind else 0)


def test_words_before_the_first_picture_see_none_and_the_mark_sees_its_own():
    tokens = torch.tensor([[2, 7, 8, 4, 7, 3, 4, 8, 3]])
    assert last_picture(tokens == 4).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]]


# Tokens -----------------------------------------------------------------------------------------------------

def test_marks_are_one_token_each_and_words_are_as_everywhere():
    of = tokeniser()
    ids = of.encode("<image>Output: a red cat<EOC>")
    assert ids[0] == of.image == 4 and ids[-1] == of.eos == 3
    assert of.show([of.bos, *ids, of.pad]) == "<image> output a red cat <EOC>"
    assert of.decode(ids[1:]) == "output a red cat"
    assert of.encode("image eoc") == [of.unk, of.unk]       # a word spells no mark


def test_a_vocabulary_of_chunks_is_saved_and_read(tmp_path):
    of = tokeniser()
    of.save(tmp_path / "words.json")
    again = ChunkTokeniser.load(tmp_path / "words.json")
    assert again.words == of.words and again.encode("<image>dax<EOC>") == of.encode("<image>dax<EOC>")
    with pytest.raises(ValueError, match="expected '<image>'"):
        ChunkTokeniser(WordTokeniser.train(["a red cat"]).words)


def test_a_chunk_is_a_picture_a_request_an_answer_and_an_end():
    assert chunk(PAGE[0]) == "<image>Output: a red cat<EOC>"
    assert chunk(PAGE[0], answered=False) == "<image>Output:"
    assert chunk(PAGE[2]) == "Output: words alone<EOC>"


def test_a_page_begins_once_and_its_answers_are_marked():
    of = tokeniser()
    page = encode_page(PAGE, of)
    assert of.show(page.ids) == ("<image> output a red cat <EOC> <image> output dogs <EOC> output words "
                                 "alone <EOC>")
    assert page.ids.count(of.bos) == 1 and page.pictures == [3, 1]
    assert [i for i, answer in zip(page.ids, page.answers) if answer] == of.encode(
        "a red cat<EOC>dogs<EOC>words alone<EOC>")
    asked = encode_page(PAGE[:2], of, open_end=True)
    assert of.show(asked.ids) == "<image> output a red cat <EOC> <image> output"
    assert asked.pictures == [3, 1] and len(asked.ids) == len(asked.answers)


# Examples of scenes -----------------------------------------------------------------------------------------

def test_every_caption_question_and_instruction_belongs_to_its_picture(scenes):
    captions, asked, told = (f(scenes) for f in (caption_examples, question_examples, instruction_examples))
    assert len(captions) == sum(map(len, scenes.captions)) and len(told) == 3 * len(scenes)
    assert all(e.answer in scenes.captions[e.picture] for e in captions)
    assert {e.kind for e in asked} >= {"yes/no", "count"}
    assert {e.kind for e in question_examples(scenes, ["count"])} == {"count"}
    for e in asked:
        assert e.request.startswith("Question: ") and e.request.endswith("? Answer:")
    named = [e for e in told if e.kind == "name"]
    for e, scene in zip(named, scenes.scenes):
        assert e.answer == "nothing" or all(
            any(word in e.answer for word in (o.category, o.category[:2])) for o in scene.objects)


def test_yes_and_no_are_as_many_so_that_words_alone_are_right_half_of_the_time(scenes):
    answers = [e.answer for e in question_examples(scenes, ["yes/no"])]
    assert answers.count("yes") == answers.count("no") > 0


def test_requests_need_scene_graphs():
    bare = PairData(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), (("a cat",),))
    with pytest.raises(ValueError, match="take scene_pairs"):
        question_examples(bare)


def test_an_episode_binds_words_afresh_and_shows_each_class_as_often():
    seen = set()
    for seed in range(20):
        page = binding_page(pictures(), 2, 3, torch.Generator().manual_seed(seed))
        names = [e.answer for e in page]
        assert len(page) == 7 and sorted(names[:-1].count(n) for n in set(names)) == [3, 3]
        assert len({e.picture for e in page}) == 7 and 8 not in {e.picture for e in page}
        for e in page:                                      # a word stands for one class
            assert {int(pictures().labels[f.picture]) for f in page if f.answer == e.answer} == {
                int(pictures().labels[e.picture])}
        seen.add((int(pictures().labels[page[-1].picture]), names[-1]))
    assert len(seen) > 10                                   # which word it is nobody knows beforehand
    with pytest.raises(ValueError, match="ask for less"):
        binding_page(pictures(), 3, 3)


# Batches ----------------------------------------------------------------------------------------------------

def test_a_batch_holds_pages_their_pictures_and_what_is_scored():
    of = tokeniser()
    batch = collate_pages([PAGE, PAGE[1:]], of, features())
    assert batch.tokens.shape == batch.media.shape == batch.scored.shape
    assert batch.pictures.shape == (2, 2, 5)
    assert batch.pictures[..., 0].tolist() == [[3, 1], [1, 0]]
    silent = torch.isin(batch.tokens, torch.tensor([of.pad, of.bos, of.image]))
    assert torch.equal(batch.scored, ~silent)
    answers = collate_pages([PAGE], of, features(), answers_only=True)
    assert of.show(answers.tokens[answers.scored]) == "a red cat <EOC> dogs <EOC> words alone <EOC>"
    ahead = collate_pages([PAGE], of, features(), ahead=[True])
    assert torch.equal(ahead.media, next_positions(ahead.tokens, of.image))


def test_a_page_without_pictures_has_zeros_that_no_token_sees():
    batch = collate_pages([PAGE[2:]], tokeniser(), features())
    assert batch.pictures.shape == (1, 1, 5) and not batch.pictures.any() and not batch.media.any()


def test_pictures_are_stacked_as_pixels_or_features():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    look = look_at_pixels(images)
    stacked = stack_pictures([[2, 0], [1]], look)
    assert stacked.shape == (2, 2, 3, 8, 8) and not stacked[1, 1].any()
    torch.testing.assert_close(stacked[0, 0], look(torch.tensor([2]))[0])


def test_pages_are_of_one_kind_with_different_pictures_and_follow_from_their_number(scenes):
    examples = [*caption_examples(scenes), *question_examples(scenes)]
    of = ChunkTokeniser.train([text for e in examples for text in e[:2]])
    batches = PageBatches(examples, of, features(), 8, most=4, ahead=0.5, seed=3)
    again = PageBatches(examples, of, features(), 8, most=4, ahead=0.5, seed=3)
    for one, two in zip(batches[7], again[7]):
        assert torch.equal(one, two)
    import numpy as np
    sizes = []
    for first in range(0, len(examples), 5):
        page = batches.page(first, np.random.default_rng(first))
        assert page[0] == examples[first] and len({e.kind for e in page}) == 1
        assert len({e.picture for e in page}) == len(page) <= 4
        sizes.append(len(page))
    assert min(sizes) == 1 and max(sizes) == 4
    pairs = PageBatches(examples, of, features(), 8, most=1)[0]
    assert (pairs.tokens == of.image).sum(1).tolist() == [1] * 8
    with pytest.raises(ValueError, match="a page has 1 example or more"):
        PageBatches(examples, of, features(), 8, most=0)


def test_batches_of_episodes_score_the_words_that_were_bound():
    of = tokeniser()
    batches = BindingBatches(pictures(), of, features(), 4, shots=2, seed=1)
    batch = batches[5]
    assert torch.equal(batch.tokens, batches[5].tokens)
    assert not torch.equal(batch.tokens, batches[6].tokens)
    words = {of.words[i] for i in batch.tokens[batch.scored].tolist()} - {"<eos>"}
    assert words <= set(NONSENSE)
    shown = set((batch.tokens == of.image).sum(1).tolist())
    assert shown <= {3, 5}                                  # 1 or 2 shots of 2 ways, and a query


def test_the_objective_is_the_loss_of_scored_tokens_and_blind_models_see_nothing():
    of = tokeniser()
    torch.manual_seed(0)
    lm = CausalLM(CausalLMConfig.mini(len(of)))
    batch = collate_pages([PAGE, PAGE[1:]], of, features(), answers_only=True)
    loss, scalars = interleaved_objective(Blind(lm), batch)
    log_probs = lm(batch.tokens).log_softmax(-1)
    want = [float(log_probs[i, t - 1, batch.tokens[i, t]]) for i in range(2)
            for t in range(batch.tokens.shape[1]) if batch.scored[i, t]]
    assert float(loss.detach()) == pytest.approx(-sum(want) / len(want), abs=1e-5)
    assert float(scalars["weight"]) == len(want)
    other, _ = interleaved_objective(Blind(lm), batch._replace(pictures=batch.pictures + 1))
    assert torch.equal(loss, other)
    assert PAGE[2].picture == NO_PICTURE


def test_pixels_are_pictures_and_what_an_encoder_made_of_them_are_features():
    assert list(shown(torch.zeros(2, 3, 3, 8, 8))) == ["pictures"]
    assert list(shown(torch.zeros(2, 3, 4, 5))) == list(shown(torch.zeros(2, 3, 5))) == ["features"]
