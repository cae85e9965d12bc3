"""Multimodal skip-gram A and B: what pictures pull, what they leave alone, and what the paper says of it."""

import math
from dataclasses import replace

import pytest
import torch
from networks import count, count_blank, numbers
from torch.autograd import gradcheck

from mmlearn.data.vocabulary import Vocabulary, numbered, pairs, widths
from mmlearn.data.word_vectors import WordVectors
from mmlearn.images_for_language.multimodal_skip_gram import (
    MultimodalSkipGram,
    MultimodalSkipGramConfig,
    another,
    cosine,
    cosine_gradient,
    map_gradients,
    map_penalty,
    mapped,
    multimodal_objective,
    train_multimodal_skip_gram,
    vision_gradient,
    vision_objective,
)
from mmlearn.images_for_language.multimodal_skip_gram_updates import vision_updates
from mmlearn.images_for_language.sequential_fusion import unit_rows
from mmlearn.images_for_language.skip_gram import SkipGram, SkipGramConfig, train_skip_gram
from mmlearn.images_for_language.zero_shot import fit_ridge, retrieve, retrieve_by_ridge, turned
from mmlearn.nn.modes import seeded


def naive_cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def example(b=4, k=3, f=5):
    """Where words lie, their pictures, those of other words."""
    return numbers(b, f), numbers(b, f, seed=1), numbers(b, k, f, seed=2)


# ------------------------------------------------------------------------------------------ equations


@pytest.mark.equation("eq:mmskipgram-cosine")
def test_the_cosine_is_that_of_the_angle_and_that_of_nothing_is_0():
    z, f, _ = example()
    assert cosine(z, f).tolist() == pytest.approx([naive_cosine(a, b) for a, b in zip(z, f)])
    assert cosine(7 * z, f).tolist() == pytest.approx(cosine(z, f).tolist())
    assert cosine(torch.zeros(2, 5), f[:2].float()).tolist() == [0, 0]


@pytest.mark.equation("eq:mmskipgram-cosine-gradient")
def test_the_gradient_of_a_cosine_is_the_derived_one_and_at_right_angles_to_the_word():
    z, f, _ = example()
    found = cosine_gradient(z, f)
    z.requires_grad_()
    (want,) = torch.autograd.grad(cosine(z, f).sum(), z)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close((found * z).sum(dim=1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(cosine_gradient(10 * z, f), found / 10)      # the longer, the less it turns
    assert gradcheck(cosine, (z, f.requires_grad_()))


@pytest.mark.equation("eq:mmskipgram-vision")
def test_the_objective_of_vision_is_a_sum_of_hinges_with_a_minus():
    z, own, others = example()
    want = [-sum(max(0.0, 0.5 - naive_cosine(z[i], own[i]) + naive_cosine(z[i], other))
                 for other in others[i]) for i in range(4)]
    assert vision_objective(z, own, others, 0.5).tolist() == pytest.approx(want)
    assert float(vision_objective(own, own, -own[:, None], 2).abs().max()) < 1e-12          # nothing to do


@pytest.mark.equation("eq:mmskipgram-vision-gradient")
@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_the_gradient_of_vision_is_the_derived_one(margin):
    z, own, others = example(b=6, k=4)
    found = vision_gradient(z, own, others, margin)
    z.requires_grad_()
    (want,) = torch.autograd.grad(vision_objective(z, own, others, margin).sum(), z)
    torch.testing.assert_close(found, want)
    assert gradcheck(lambda z: vision_objective(z, own, others, margin), (z,))
    torch.testing.assert_close((found * z).sum(dim=1), torch.zeros(6, dtype=torch.float64))


@pytest.mark.equation("eq:mmskipgram-map")
@pytest.mark.equation("eq:mmskipgram-penalty")
@pytest.mark.equation("eq:mmskipgram-map-gradient")
def test_gradients_pass_the_mapping_to_the_word_and_to_the_map():
    v, M, lam = numbers(4, 3).requires_grad_(), numbers(3, 5, seed=3).requires_grad_(), 0.2
    _, own, others = example()
    z = mapped(v, M)
    for i in range(4):
        for j in range(5):
            assert float(z[i, j]) == pytest.approx(sum(float(v[i, a] * M[a, j]) for a in range(3)))
    assert float(map_penalty(M, lam)) == pytest.approx(-0.2 * sum(float(x) ** 2 for x in M.flatten()))
    total = vision_objective(z, own, others, 0.5).sum() + map_penalty(M, lam)
    want = torch.autograd.grad(total, (v, M))
    found = map_gradients(v.detach(), M.detach(), vision_gradient(z.detach(), own, others, 0.5), lam)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close((found[0] * v).sum(dim=1), torch.zeros(4, dtype=torch.float64))  # length stays


@pytest.mark.equation("eq:mmskipgram-objective")
def test_the_objective_is_the_mean_over_tokens_of_both_parts():
    log_p, vision = numbers(12), numbers(5, seed=1)               # 12 pairs around 5 tokens
    want = (sum(log_p.tolist()) + sum(vision.tolist())) / 5
    assert float(multimodal_objective(log_p, vision)) == pytest.approx(want)


# ------------------------------------------------------------------------------------------ errata


def test_e2_without_a_margin_a_word_that_points_nowhere_is_left_there():
    own, others = torch.eye(6, dtype=torch.float64)[:1], torch.eye(6, dtype=torch.float64)[None, 1:4]
    z = torch.eye(6, dtype=torch.float64)[5:].requires_grad_()              # at right angles to all pictures
    assert float(vision_objective(z, own, others, 0.0).detach()) == 0
    assert float(vision_objective(z, own, others, 0.5).detach()) == pytest.approx(-0.5 * 3)
    (without,) = torch.autograd.grad(vision_objective(z, own, others, 0.0).sum(), z)
    (with_it,) = torch.autograd.grad(vision_objective(z, own, others, 0.5).sum(), z)
    assert vision_gradient(z.detach(), own, others, 0.0).abs().max() == 0
    assert without.abs().max() <= with_it.abs().max()
    torch.testing.assert_close(with_it[0, :4], torch.tensor([3.0, -1, -1, -1], dtype=torch.float64))

    angles = torch.tensor([0.30, 0.29], dtype=torch.float64).arccos()
    right, wrong = torch.stack([angles.cos(), angles.sin()], dim=1)[:, None]
    z = torch.tensor([[1.0, 0]], dtype=torch.float64)
    assert float(vision_objective(z, right, wrong[None], 0.0)) == 0
    assert float(vision_objective(z, right, wrong[None], 0.5)) == pytest.approx(-0.49)


def test_e3_the_objective_is_made_large_and_descending_it_turns_words_from_their_pictures():
    z, own, others = example()
    z.requires_grad_()
    objective = vision_objective(z, own, others, 2.0)                       # a margin that no cosine meets
    (up,) = torch.autograd.grad(objective.sum(), z)
    z = z.detach()
    climbed, descended = z + 1e-3 * up, z - 1e-3 * up                       # the paper; the survey's "loss"
    assert (cosine(climbed, own) - cosine(z, own)).sum() > 0
    assert (cosine(descended, own) - cosine(z, own)).sum() < 0
    right = cosine(z, own).requires_grad_()
    wrong = cosine(z[:, None].expand_as(others), others)
    slope = torch.autograd.grad(-(2.0 - right[:, None] + wrong).clamp(min=0).sum(), right)[0]
    assert slope.tolist() == [3, 3, 3, 3]                                   # +1 for each of three negatives


def gradient_without_the_tangent(z, own, others, margin):
    """What github.com/saket-maheshwary/mmSkipgram descends by hand (src/MMCriterion.lua), as an ascent: the
    norms are divided by, as if they were constants."""
    right = (z * own).sum(dim=1, keepdim=True) / (z.norm(dim=1) * own.norm(dim=1))[:, None]
    wrong = torch.einsum("bf,bkf->bk", z, others) / (z.norm(dim=1)[:, None] * others.norm(dim=2))
    active = (margin - right + wrong > 0)[..., None]
    pull = own[:, None] / own.norm(dim=1)[:, None, None] - others / others.norm(dim=2, keepdim=True)
    return (active * pull).sum(dim=1) / z.norm(dim=1, keepdim=True)


def test_p6_a_hand_written_gradient_that_forgets_the_length_is_no_gradient_and_grows_the_words():
    z, own, others = example()
    wrong, right = gradient_without_the_tangent(z, own, others, 1.0), vision_gradient(z, own, others, 1.0)
    assert (wrong - right).abs().max() > 0.1
    along = (wrong - right) - ((wrong - right) * z).sum(1, keepdim=True) / z.square().sum(1, keepdim=True) * z
    assert along.abs().max() < 1e-12                                        # all of the error lies along z
    lengths = {}
    for name, gradient in (("wrong", gradient_without_the_tangent), ("right", vision_gradient)):
        x = own.roll(1, 0) + 0.1 * numbers(4, 5, seed=4)
        start = x.norm(dim=1)
        for _ in range(900):
            x = x + 0.01 * gradient(x, own, others, 1.0)
        lengths[name] = (x.norm(dim=1) / start).mean()
    assert lengths["wrong"] > 1.3 > 1.05 > lengths["right"]


# ------------------------------------------------------------------------------------------ the model

A = MultimodalSkipGramConfig(12, 4, "hs", 2, min_count=1, sample=0.0, features=4, others=3, epochs=2)
B = replace(A, features=6, mapped=True, penalty=0.01)
WORDS = [f"w{i}" for i in range(12)]
TEXT = [[WORDS[int(i)] for i in torch.randint(0, 12, (9,), generator=torch.Generator().manual_seed(s))]
        for s in range(20)]
VOCABULARY = Vocabulary.of(TEXT)


def seen(features=6, words=("w1", "w3", "w4", "w8", "w9"), seed=5):
    """Vectors of the pictures of some words."""
    return WordVectors(words, numbers(len(words), features, seed=seed).float())


def model_of(config, pictures=None, seed=0):
    with seeded(seed):
        return MultimodalSkipGram(config, VOCABULARY, pictures)


def ids(*words):
    return torch.tensor([VOCABULARY.ids[word] for word in words])


def test_the_models_of_the_paper_differ_in_the_mapping_alone():
    a, b, fc7 = (count_blank(MultimodalSkipGram, getattr(MultimodalSkipGramConfig, name)())
                 for name in ("paper_a", "paper_b", "fc7"))
    text = count_blank(SkipGram, SkipGramConfig(dim=300, objective="hs"))
    assert a == text == 71_291 * 300 + 71_290 * 300
    assert b - a == 90_000 and fc7 - a == 1_228_800
    paper_a, paper_b = MultimodalSkipGramConfig.paper_a(), MultimodalSkipGramConfig.paper_b()
    assert (paper_a.dim, paper_a.features, paper_a.others, paper_a.margin) == (300, 300, 20, 0.5)
    assert (paper_b.dim, paper_b.features, paper_b.others, paper_b.margin) == (300, 300, 5, 0.5)
    assert not paper_a.mapped and paper_b.mapped and paper_b.penalty == 1e-4
    for config in (paper_a, paper_b):
        assert (config.objective, config.window, config.sample) == ("hs", 5, 1e-3)


def test_e4_the_mapping_is_a_full_matrix_and_no_picture_is_trained():
    model = model_of(B, seen())
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "W_in": (12, 4), "W_out": (11, 4), "M": (4, 6)}                     # no E_t, E_v, E
    assert not model.pictures.requires_grad and count(model_of(A)) + 4 * 6 == count(model)
    trained = train_multimodal_skip_gram(TEXT, seen(), B, progress=False).model
    assert torch.equal(trained.pictures, model.pictures)
    off = trained.M.detach().clone()
    off[range(4), range(4)] = 0
    assert off.abs().max() > 0.1            # a diagonal could not have reached pictures of 6 numbers
    with pytest.raises(ValueError, match="without a mapping both are the same"):
        MultimodalSkipGramConfig(dim=300, features=4096)


@pytest.mark.equation("eq:mmskipgram-others")
def test_e5_the_others_are_pictures_of_other_words_each_as_likely():
    model = model_of(replace(B, others=400), seen())
    words = ids("w1", "w8", "w0").repeat(5)
    others = model.draw_others(words, torch.Generator().manual_seed(0))
    assert others.shape == (15, 400) and others.min() >= 0 and others.max() == 4
    for word in ("w1", "w8"):
        own = int(model.row[VOCABULARY.ids[word]])
        counts = torch.bincount(others[words == VOCABULARY.ids[word]].flatten(), minlength=5)
        assert counts[own] == 0
        assert counts.sum() == 2000 and all(440 < n < 560 for i, n in enumerate(counts.tolist()) if i != own)
    assert another(torch.tensor([[0, 1, 2, 3]]), torch.tensor([2])).tolist() == [[0, 1, 3, 4]]


def test_e5_the_text_is_learnt_without_negatives():
    model = model_of(B, seen())
    assert model.W_out.shape == (11, 4)                             # inner nodes of Huffman's tree
    torch.testing.assert_close(model.log_p(torch.arange(12)).exp().sum(1), torch.ones(12))
    with pytest.raises(ValueError, match="hierarchical softmax"):
        train_multimodal_skip_gram(TEXT, seen(), replace(B, objective="ns"), progress=False)


def test_e6_a_word_of_model_b_is_its_own_vector_and_z_is_only_where_it_lies():
    a, b = model_of(A, seen(4)), model_of(B, seen())
    assert torch.equal(b.vectors().vectors, b.W_in)                          # for benchmarks of similarity
    torch.testing.assert_close(b.word_pictures().vectors, b.W_in @ b.M)      # for retrieval
    assert torch.equal(a.word_pictures().vectors, a.vectors().vectors)
    assert b.word_pictures().words == b.vectors().words == VOCABULARY.words


def test_e20_no_language_model_comes_first_words_start_from_draws_and_meet_text_and_pictures_together():
    model = model_of(B, seen())
    blank = model.log_p(torch.arange(12))
    torch.testing.assert_close(blank, blank[:1].expand(12, -1))             # says the same of every word
    v = model.W_in[ids("w1")].detach().requires_grad_()
    own = model.pictures[model.row[ids("w1")]]
    others = model.pictures[None, [int(r) for r in model.row[ids("w8")]]]
    pull, = torch.autograd.grad(vision_objective(mapped(v, model.M), own, others, 2).sum(), v)
    assert pull.norm() > 0                                      # pictures pull before a word of text is read
    trained = train_multimodal_skip_gram(TEXT, seen(), B, progress=False).model
    assert trained.log_p(torch.arange(12)).std(dim=0).max() > 0.01


def test_e24_the_mapping_goes_from_words_to_pictures_and_not_back():
    model = model_of(B, seen())
    words, pictures = model.W_in.detach(), model.pictures
    assert mapped(words, model.M).shape == (12, 6) and pictures.shape[1] == 6
    with pytest.raises(RuntimeError):
        pictures @ model.M # an entry M_{u,v} has no direction
    square = numbers(5, 5)
    there = mapped(numbers(3, 5), square)
    assert not torch.allclose(there @ square.mT, numbers(3, 5), atol=0.1)   # nor does its transpose lead back


@pytest.mark.parametrize("config, features", [(A, 4), (B, 6)])
def test_vision_of_a_batch_is_that_of_each_token_and_0_without_pictures(config, features):
    model = model_of(config, seen(features))
    words = ids("w1", "w0", "w8", "w8", "w5")
    others = model.draw_others(words, torch.Generator().manual_seed(0))
    found = model.vision(words, others)
    assert found[1] == 0 and found[4] == 0 and not found[[1, 4]].signbit().any()
    for i in (0, 2, 3):
        z = model.placed(words[i:i + 1])[0]
        own = model.pictures[model.row[words[i]]]
        want = -sum(max(0.0, 0.5 - naive_cosine(z, own) + naive_cosine(z, model.pictures[j]))
                    for j in others[i])
        if config.mapped:
            want -= 0.01 * float(model.M.detach().square().sum())
        assert float(found[i]) == pytest.approx(want, abs=1e-5)
        torch.testing.assert_close(model.vision(words[i:i + 1], others[i:i + 1])[0], found[i])
    assert model_of(config).vision(words, others).tolist() == [0] * 5


def test_words_without_pictures_get_no_gradient_from_vision():
    model = model_of(replace(B, margin=2.0), seen())
    words = torch.arange(12)
    model.vision(words, model.draw_others(words)).sum().backward()
    has = model.row >= 0
    assert has.sum() == 5
    assert (model.W_in.grad[~has] == 0).all() and (model.W_in.grad[has].abs().sum(1) > 0).all()
    assert model.W_out.grad is None and model.M.grad.abs().max() > 0


def test_the_objective_reaches_every_parameter():
    model = model_of(B, seen())
    text = numbered(TEXT, VOCABULARY)
    inputs, targets = pairs(text, widths(len(text.ids), 2))
    others = model.draw_others(text.ids)
    objective = model.objective(inputs, targets, text.ids, others)
    want = (-model.losses(inputs, targets).sum() + model.vision(text.ids, others).sum()) / len(text.ids)
    torch.testing.assert_close(objective, want)
    (-objective).backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


# ------------------------------------------------------------------------------------------ updates


@pytest.mark.parametrize("config, features", [(A, 4), (B, 6)])
@pytest.mark.parametrize("clip", [0.0, 0.7])
def test_a_compiled_update_is_a_step_along_the_gradient(config, features, clip):
    model = model_of(config, seen(features))
    with torch.no_grad():
        model.W_in.mul_(8)
    words = ids("w3", "w0")
    others = model.draw_others(words, torch.Generator().manual_seed(1))
    objective = model.vision(words, others).sum()
    objective.backward()
    z = model.placed(words[:1]).detach()
    dz = vision_gradient(z, model.pictures[model.row[words[:1]]], model.pictures[others[:1]], 0.5)
    if clip and float(dz.norm()) > clip:
        dz = dz * clip / dz.norm()
    W_in, M = model.W_in.detach().clone().numpy(), None
    M = model.M.detach().clone().numpy() if config.mapped else torch.zeros(0, 0).numpy()
    total, tokens = vision_updates(W_in, M, words.int().numpy(), model.row.int().numpy(),
                                   model.pictures.numpy(), others.int().numpy(), 0.5, config.penalty, 0.1,
                                   0.1, clip)
    penalty = float(map_penalty(model.M, 0.01).detach()) if config.mapped else 0.0
    assert tokens == 1 and total == pytest.approx(float(objective.detach()) - penalty, abs=1e-5)
    want = model.W_in.detach().clone()
    if config.mapped:
        dv, dM = map_gradients(want[words[:1]], model.M.detach(), dz, 0.01)
        torch.testing.assert_close(torch.from_numpy(M), model.M.detach() + 0.1 * dM)
        if not clip:
            torch.testing.assert_close(dM, model.M.grad)
    else:
        dv = dz
    want[words[:1]] += 0.1 * dv
    torch.testing.assert_close(torch.from_numpy(W_in), want)
    if not clip:
        torch.testing.assert_close(model.W_in.grad[words[:1]], dv)


def test_a_word_at_zero_has_no_direction_and_no_nan():
    W_in = torch.zeros(2, 3).numpy()
    pictures = torch.eye(3)[:2].numpy()
    row, others = torch.tensor([0, -1]).int().numpy(), torch.tensor([[1], [0]]).int().numpy()
    total, tokens = vision_updates(W_in, torch.zeros(0, 0).numpy(), torch.tensor([0, 1]).int().numpy(), row,
                                   pictures, others, 0.5, 0.0, 0.1, 0.1, 0.0)
    assert (total, tokens) == (-0.5, 1) and (W_in == 0).all()


def test_without_pictures_it_is_skip_gram():
    for config in (A, B):
        plain = train_skip_gram(TEXT, SkipGramConfig(12, 4, "hs", 2, min_count=1, sample=0.0, epochs=2),
                                seed=3, progress=False)
        ours = train_multimodal_skip_gram(TEXT, None, config, seed=3, progress=False)
        assert torch.equal(ours.model.W_in, plain.model.W_in)
        assert torch.equal(ours.model.W_out, plain.model.W_out)
        assert ours.history.loss == pytest.approx(plain.history.loss)
        assert ours.history.scalars["vision"] == [0] * len(ours.history.loss)


def test_model_b_with_the_identity_as_a_frozen_mapping_is_model_a():
    pictures, frozen = seen(4), replace(B, features=4, penalty=0.0)
    a, b = model_of(A, pictures), model_of(frozen, pictures)
    with torch.no_grad():
        b.M.copy_(torch.eye(4))
        b.W_in.copy_(a.W_in)
    b.M.requires_grad_(False)
    words = torch.arange(12)
    others = a.draw_others(words)
    torch.testing.assert_close(a.vision(words, others), b.vision(words, others))
    a, b = (train_multimodal_skip_gram(TEXT, model=model, seed=1, progress=False) for model in (a, b))
    torch.testing.assert_close(a.model.W_in, b.model.W_in)
    torch.testing.assert_close(a.model.W_out, b.model.W_out)
    assert a.history.scalars["vision"] == pytest.approx(b.history.scalars["vision"])
    assert torch.equal(b.model.M, torch.eye(4))


def test_a_run_that_is_stopped_goes_on_to_the_same_result(tmp_path):
    text = TEXT * 70                                                        # two parts an epoch
    whole = train_multimodal_skip_gram(text, seen(), B, seed=2, progress=False)
    assert len(whole.history.loss) == 4
    from mmlearn.images_for_language.multimodal_skip_gram import _MultimodalRun

    def stop(run, step, loss, pairs, record=_MultimodalRun.record):
        if step == 3:
            raise KeyboardInterrupt
        record(run, step, loss, pairs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_MultimodalRun, "record", stop)
        train_multimodal_skip_gram(text, seen(), B, seed=2, folder=tmp_path, save_every=1, progress=False)
    resumed = train_multimodal_skip_gram(text, seen(), B, seed=2, folder=tmp_path, save_every=1,
                                         progress=False)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters()):
        assert torch.equal(one, other)
    assert resumed.history.scalars["vision"] == whole.history.scalars["vision"]
    with pytest.raises(ValueError, match="pictures 5"):
        train_multimodal_skip_gram(text, seen(seed=6), B, seed=2, folder=tmp_path, progress=False)


# ------------------------------------------------------------------------------------------ learning


def company(kind, i):
    """Sentences in which words of a kind keep the same company."""
    return [f"{kind}{i}", f"{kind}-does", f"{kind}{(i + 1) % 8}", f"{kind}-likes"]


def small_world():
    """Eight words of each of four kinds; a kind has its company in the text and its look."""
    kinds = "abcd"
    draws = torch.Generator().manual_seed(0)
    order = torch.randint(0, 32, (3000,), generator=draws).tolist()
    text = [company(kinds[i // 8], i % 8) for i in order]
    looks = numbers(4, 16, seed=7)
    words = [f"{kind}{i}" for kind in kinds for i in range(8)]
    features = looks.repeat_interleave(8, 0) + 0.4 * numbers(32, 16, seed=8)
    return text, words, features.float()


@pytest.mark.parametrize("mapped", [False, True])
def test_a_handful_of_words_learns_its_pictures_and_lends_them_to_words_that_were_only_read(mapped):
    text, words, features = small_world()
    width = 16
    config = MultimodalSkipGramConfig(44, width, "hs", 2, min_count=1, sample=0.0, epochs=4, lr=0.05,
                                      features=16, others=5, mapped=mapped,
                                      penalty=1e-4 if mapped else 0.0, clip=1.0)
    held = [7, 15, 23, 31]
    known = [i for i in range(32) if i not in held]
    pictures = WordVectors(tuple(words[i] for i in known), features[known])
    trained = train_multimodal_skip_gram(text, pictures, config, progress=False)
    vision = trained.history.scalars["vision"]
    assert vision[-1] > vision[0]                                           # nearer to 0, where all is right
    z = trained.model.word_pictures().rows(words)
    own = (unit_rows(z) @ unit_rows(features).T)
    same = torch.tensor([[i // 8 == j // 8 for j in range(32)] for i in range(32)])
    assert own[known][same[known]].mean() > 0.3 + own[known][~same[known]].mean()
    assert own[held][same[held]].mean() > 0.2 + own[held][~same[held]].mean()     # never seen
    assert retrieve(z, features, held).double().mean() < 8.5                # by chance 16.5
    best, cosines = trained.model.imagine(words[15], features, k=3)
    assert all(8 <= int(i) < 16 for i in best) and cosines.tolist() == sorted(cosines.tolist(), reverse=True)
    plain = train_skip_gram(text, SkipGramConfig(44, width, "hs", 2, min_count=1, sample=0.0, epochs=4,
                                                 lr=0.05), progress=False)
    moved = turned(plain.vectors().rows(words), trained.vectors().rows(words))
    assert moved[known].mean() > moved[held].mean() > 0.001
    assert retrieve_by_ridge(plain.vectors().rows(words), features, known, held).double().mean() < 8.5


def test_twins_of_the_text_are_told_apart_by_their_pictures_alone():
    """Two nouns with the same company are one to a method that reads; a grounded one knows which is which."""
    text, words, features = small_world()
    swap = {"a0": "a1", "a1": "a0"}
    text = [[swap.get(word, word) if i % 2 else word for word in sentence] for i, sentence in enumerate(text)]
    config = MultimodalSkipGramConfig(44, 16, "hs", 2, min_count=1, sample=0.0, epochs=4, lr=0.05,
                                      features=16, others=5, mapped=True, penalty=1e-4, clip=1.0)
    looks = features.clone()
    looks[0], looks[1] = numbers(16, seed=20).float(), numbers(16, seed=21).float()
    grounded = train_multimodal_skip_gram(text, WordVectors(tuple(words), looks), config, progress=False)
    read = train_multimodal_skip_gram(text, None, config, progress=False)

    def knows(vectors, looks):              # how much nearer each twin is to its own picture
        cosines = unit_rows(vectors.rows(["a0", "a1"])) @ unit_rows(looks[:2]).T
        return float(cosines[0, 0] + cosines[1, 1] - cosines[0, 1] - cosines[1, 0])

    assert read.vectors().cosine("a0", "a1") > 0.7
    assert knows(grounded.model.word_pictures(), looks) > 1
    assert grounded.vectors().cosine("a0", "a1") < read.vectors().cosine("a0", "a1")
    others = list(range(2, 32))             # what was read of the others tells nothing of the twins
    ridge = fit_ridge(read.vectors().rows([words[i] for i in others]), looks[others])
    told = ridge(read.vectors().rows(["a0", "a1"]))
    assert abs(knows(WordVectors(("a0", "a1"), told), looks)) < 0.5


def test_training_is_a_function_of_its_seed():
    one, same, other = (train_multimodal_skip_gram(TEXT, seen(), B, seed=seed, progress=False)
                        for seed in (1, 1, 2))
    assert torch.equal(one.model.M, same.model.M) and not torch.equal(one.model.M, other.model.M)
    assert not one.model.training and one.history.finished


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("change, words", [
    ({"margin": -0.1}, "margin of MultimodalSkipGramConfig is -0.1, expected from 0 to 2"),
    ({"margin": 3.0}, "margin"), ({"clip": -1.0}, "clip"), ({"penalty": -1.0}, "penalty"),
    ({"margin": float("nan")}, "margin"),
    ({"others": 0}, "others"), ({"features": 5}, "features of"),
    ({"penalty": 0.1}, "no mapping to penalise"), ({"objective": "none"}, "objective"),
])
def test_a_configuration_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(A, **change)


def test_pictures_that_nothing_can_be_learnt_from_are_refused():
    with pytest.raises(ValueError, match="have 5 numbers, the configuration says 6"):
        model_of(B, seen(5))
    with pytest.raises(ValueError, match=r"1 have pictures \(w1\)"):
        model_of(B, seen(words=("w1", "unknown")))
    with pytest.raises(ValueError, match=r"0 have pictures \(none\)"):
        model_of(B, seen(words=("unknown", "unheard")))
    with pytest.raises(ValueError, match="pictures of 'w3' is all zeros"):
        model_of(B, WordVectors(("w1", "w3"), torch.stack([torch.ones(6), torch.zeros(6)])))
    assert len(model_of(B, seen(words=("unknown", "w1", "w2"))).pictures) == 2
    with pytest.raises(ValueError, match="give it alone"):
        train_multimodal_skip_gram(TEXT, seen(), model=model_of(B), progress=False)
    with pytest.raises(ValueError, match="the model knows no words"):
        train_multimodal_skip_gram(TEXT, model=MultimodalSkipGram(B), progress=False)
    with pytest.raises(ValueError, match="'w99' is none of the 12 words"):
        model_of(B, seen()).imagine("w99", numbers(3, 6).float())
