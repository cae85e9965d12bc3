"""The walker: reads, looks, walks, and learns from its own ways."""

from dataclasses import replace

import pytest
import torch
from networks import numbers, stirred

from mmlearn.both_modalities.walker import (
    NOTHING,
    WalkBatches,
    Walker,
    WalkerConfig,
    evaluate_walker,
    glance,
    imitation_loss,
    load_walker,
    miniature_sight,
    save_walker,
    scores_of,
    seen_ways,
    train_walker,
    turned,
    walking_loss,
    way_logits,
    word_weights,
)
from mmlearn.data.navigation import Walks, follow, make_walks, shortest_path_policy
from mmlearn.data.tokenisers import WordTokeniser

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture(scope="module")
def walks():
    return make_walks(24, houses=3, size=16, steps=(2, 4))


@pytest.fixture(scope="module")
def tokeniser(walks):
    return WordTokeniser.train(walks.instructions, splitter="simple")


def tiny(tokeniser, **fields):
    return WalkerConfig(len(tokeniser), 6, 8, (4, 6), dropout=0.0, **fields)


@pytest.mark.equation("eq:walk-words", "eq:walk-ways", "eq:walk-glance", "eq:walk-policy")
def test_the_equations_are_the_formulas():
    h, states, W = numbers(2, 4), numbers(2, 3, 4, seed=1), numbers(4, 4, seed=2)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    ways, open_ways = numbers(2, 5, 4, seed=3), torch.tensor([[True, False, True, True, True], [True] * 5])
    weights, seen, logits = word_weights(h, states, W, mask), glance(h, ways), way_logits(h, ways, open_ways)
    assert torch.equal(seen_ways(ways, ways[0])[1, 2], ways[1, 2] + ways[0, 2])
    for b in range(2):
        e = torch.stack([h[b] @ W @ states[b, i] for i in range(3)]).exp() * mask[b]
        torch.testing.assert_close(weights[b], e / e.sum())
        e = torch.stack([h[b] @ ways[b, j] / 2 for j in range(5)])
        torch.testing.assert_close(seen[b], sum(a * w for a, w in zip(e.softmax(0), ways[b])))
        torch.testing.assert_close(logits[b][open_ways[b]], e[open_ways[b]])
    assert logits[0, 1] == float("-inf")


@pytest.mark.equation("eq:walk-imitation")
def test_the_loss_asks_for_what_is_right_while_the_walker_walks():
    logits, right = numbers(2, 3, 5), torch.tensor([[1, 2, 4], [0, 4, 4]])
    walking = torch.tensor([[True, True, True], [True, True, False]])
    want = 0.0
    for b, t in walking.nonzero().tolist():
        want -= (logits[b, t].exp()[right[b, t]] / logits[b, t].exp().sum()).log() / 5
    torch.testing.assert_close(imitation_loss(logits, right, walking), want)


def test_a_teacher_leads_along_the_path_and_the_policy_never_walks_into_a_wall(walks, tokeniser):
    model = stirred(Walker(tiny(tokeniser))).eval()
    tokens = tokeniser.batch(walks.instructions)
    led = model(walks, tokens, "teacher")
    assert torch.equal(led.trail.rooms, follow(walks, shortest_path_policy).rooms)
    assert scores_of(walks, led.trail).spl == 1.0
    assert led.steps == sum(len(w.path) for w in walks.walks)
    one, two = (model(walks, tokens, "student", torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.trail.rooms, two.trail.rooms) and torch.isfinite(one.loss)
    moved = one.trail.rooms[:, 1:] != one.trail.rooms[:, :-1]
    ended = (~moved).cumsum(1) > 0                      # who stands still has stopped, once and for all
    assert not (ended & moved).any()


def test_a_walk_alone_goes_as_in_company_and_padding_says_nothing(walks, tokeniser):
    model = stirred(Walker(tiny(tokeniser)), scale=0.3).eval()
    tokens = tokeniser.batch(walks.instructions)
    together = model(walks, tokens)
    for i in (0, 7):
        alone = model(walks.rows([i]), tokeniser.batch([walks.instructions[i]]))
        length = alone.trail.rooms.shape[1]
        assert torch.equal(alone.trail.rooms[0], together.trail.rooms[i, :length])
    padded = torch.cat([tokens, torch.full((len(tokens), 3), 1)], dim=1)
    torch.testing.assert_close(model(walks, padded).loss, together.loss)


def test_gradients_reach_every_parameter_and_blind_walkers_ignore_what_they_do_not_get(walks, tokeniser):
    model = stirred(Walker(tiny(tokeniser)))
    batch = WalkBatches(walks, tokeniser, 8)[0]
    loss, scalars = walking_loss(model, batch)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert 0 <= scalars["right"] <= 1 and scalars["weight"] >= 8
    tokens = tokeniser.batch(walks.instructions)
    deaf = stirred(Walker(tiny(tokeniser, reads=False)), scale=0.3).eval()
    torch.testing.assert_close(deaf(walks, tokens).loss, deaf(walks, tokens.flip(0)).loss)
    blind = stirred(Walker(tiny(tokeniser, looks=False)), scale=0.3).eval()
    before = blind(walks, tokens, "teacher").loss
    pictures = walks.world.pictures.clone()
    try:
        walks.world.pictures.zero_()
        torch.testing.assert_close(blind(walks, tokens, "teacher").loss, before)
    finally:
        walks.world.pictures.copy_(pictures)


def test_dropout_is_for_training_only(walks, tokeniser):
    model = Walker(replace(tiny(tokeniser), dropout=0.5))
    tokens = tokeniser.batch(walks.instructions)
    model.eval()
    assert torch.equal(model(walks, tokens, "teacher").loss, model(walks, tokens, "teacher").loss)
    model.train()
    assert not torch.equal(model(walks, tokens, "teacher").loss, model(walks, tokens, "teacher").loss)


@pytest.mark.slow
def test_a_handful_of_walks_is_learnt_by_heart(walks, tokeniser):
    few = walks.rows(range(6))
    model = Walker(WalkerConfig(len(tokeniser), 16, 32, (6, 12), dropout=0.0, most=6))
    train_walker(model, few, tokeniser, steps=100, batch=6, lr=1e-2, progress=False)
    scores = evaluate_walker(model, few, tokeniser)
    assert scores.success == 1.0 and scores.spl == 1.0 and scores.error == 0.0


def test_the_state_of_a_step_carries_what_was_done(walks, tokeniser):
    model = stirred(Walker(tiny(tokeniser)), scale=0.5).eval()
    text = model.read(tokeniser.batch(walks.instructions[:2]))
    views, ways = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    start = model.begin(text)
    a, state, weights = model.step(text, views, ways, torch.tensor([NOTHING, NOTHING]), start)
    b, _, _ = model.step(text, views, ways, torch.tensor([0, 1]), start)
    assert a.shape == (2, 5) and state[0].shape == (2, 8) and not torch.allclose(a, b)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))


def test_wrong_texts_and_sizes_are_refused(walks, tokeniser):
    model = Walker(tiny(tokeniser))
    with pytest.raises(ValueError, match="an instruction has no word"):
        model.read(torch.full((1, 3), 1))
    with pytest.raises(ValueError, match="token ids go from 2 to 999"):
        model.read(torch.tensor([[2, 999, 3]]))
    with pytest.raises(ValueError, match="width is 7; use an even number"):
        WalkerConfig(width=7)
    assert isinstance(walks, Walks) and WalkerConfig.mini(30).vocab == 30


def test_a_text_is_read_both_ways_as_by_two_loops(walks, tokeniser):
    model = stirred(Walker(tiny(tokeniser))).eval()
    tokens = tokeniser.batch(walks.instructions[:3])
    told = model.read(tokens)
    for b in range(3):
        real = tokens[b][tokens[b] != 1]
        forth = model.forth(model.embed(real)[None])[0][0]
        back = model.back(model.embed(real.flip(0))[None])[0][0]
        torch.testing.assert_close(told.states[b, :len(real)], torch.cat([forth, back.flip(0)], dim=1))
        torch.testing.assert_close(told.memory[b], torch.cat([forth[-1], back[-1]]))
    x = torch.arange(4.0)[None, :, None]
    assert turned(x, torch.tensor([3]))[0, :3, 0].tolist() == [2, 1, 0]


def test_a_walker_reads_features_that_a_frozen_network_saw_once(tokeniser, tmp_path):
    walks = make_walks(6, houses=2, size=64, steps=(2, 3))
    model = stirred(Walker(tiny(tokeniser, features=64)))
    tokens = tokeniser.batch(walks.instructions)
    with pytest.raises(ValueError, match="the world has none; call world.see"):
        model(walks, tokens)
    walks.world.see(miniature_sight)
    assert not walks.world.features.requires_grad
    torch.testing.assert_close(walks.world.features.norm(dim=1), torch.ones(len(walks.world.pictures)))
    model(walks, tokens, "teacher").loss.backward()
    assert model.trunk is None and float(model.see.weight.grad.abs().sum()) > 0
    save_walker(tmp_path / "w.safetensors", model.eval(), tokeniser, {"note": 1})
    again, words, about = load_walker(tmp_path / "w.safetensors")
    assert words.words == tokeniser.words and about["note"] == 1
    torch.testing.assert_close(again(walks, tokens).loss, model(walks, tokens).loss, rtol=1e-2, atol=1e-2)
    with pytest.raises(FileNotFoundError, match="python -m mmlearn.experiments walker"):
        load_walker(tmp_path / "none.safetensors")
