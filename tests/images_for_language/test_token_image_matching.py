"""Token-image matching: its formulas, its sizes, what is frozen, what is learnt."""

import pytest
import torch
from networks import count, lengths_mask, numbers

from mmlearn.catalog import count_parameters
from mmlearn.images_for_language.token_image_matching import (
    MatcherConfig,
    TokenImageMatcher,
    diversity,
    hinge,
    last_states,
    matching_loss,
    on_sphere,
    paired_hinge,
    relevance,
    token_ranks,
    undecided_hinge,
)
from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.modes import blank, seeded

SMALL = MatcherConfig(BERTConfig(30, 12, 16, 3, 2, 32, pad=0, pooler=False), 2, (4, 8, 8), 12, 6, 0.3)


def matcher(seed=0):
    with seeded(seed):
        return TokenImageMatcher(SMALL)


def sentences():
    tokens = torch.randint(1, 30, (4, 7), generator=torch.Generator().manual_seed(1))
    tokens[1, 5:] = 0
    tokens[3, 3:] = 0
    return tokens


def pictures(n=4):
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(2))


# ------------------------------------------------------------------------------------------ equations


@pytest.mark.equation("eq:voken-sphere")
def test_an_embedding_is_a_row_divided_by_its_length():
    u = numbers(2, 3, 5)
    got = on_sphere(u)
    for i in range(2):
        for j in range(3):
            length = sum(float(number) ** 2 for number in u[i, j]) ** 0.5
            for k in range(5):
                assert float(got[i, j, k]) == pytest.approx(float(u[i, j, k]) / length)


@pytest.mark.equation("eq:voken-relevance")
def test_relevance_is_the_product_of_a_token_and_the_picture_beside_it():
    f, g = numbers(2, 3, 4), numbers(2, 4, seed=1)
    got = relevance(f, g)
    for i in range(2):
        for j in range(3):
            assert float(got[i, j]) == pytest.approx(sum(float(a * b) for a, b in zip(f[i, j], g[i])))


@pytest.mark.equation("eq:voken-hinge")
def test_a_token_that_tells_by_the_margin_costs_nothing():
    r, wrong = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.2, 0.4, 0.6])
    torch.testing.assert_close(hinge(r, wrong, 0.5), torch.tensor([0.0, 0.4, 1.0]))


def naive_paired(f, g, mask, margin):
    """The loss restated: two halves, each the other's wrong pictures."""
    half, total, tokens = len(f) // 2, 0.0, 0
    for i in range(len(f)):
        j = i + half if i < half else i - half
        for k in range(f.shape[1]):
            if mask[i, k]:
                right, wrong = float(f[i, k] @ g[i]), float(f[i, k] @ g[j])
                total, tokens = total + max(0.0, margin - right + wrong), tokens + 1
    return total / tokens


@pytest.mark.equation("eq:voken-paired")
def test_the_loss_is_a_mean_over_real_tokens_with_the_pictures_of_the_other_half_as_wrong_ones():
    f, g = on_sphere(numbers(6, 4, 5)), on_sphere(numbers(6, 5, seed=1))
    mask = lengths_mask(4, 2, 3, 1, 4, 2)
    for margin in (0.1, 0.5, 1.5):
        assert float(paired_hinge(f, g, mask, margin)) == pytest.approx(naive_paired(f, g, mask, margin))
    f.requires_grad_()
    g.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: paired_hinge(a, b, mask, 0.5), (f, g))
    with pytest.raises(ValueError, match="the batch has 5 sentences"):
        paired_hinge(f[:5], g[:5], mask[:5])


def test_the_paired_loss_is_zero_where_every_token_wins_by_the_margin():
    g = torch.eye(4)
    f = g[:, None].expand(4, 3, 4)
    mask = torch.ones(4, 3, dtype=torch.bool)
    assert float(paired_hinge(f, g, mask, 0.5)) == 0.0
    assert float(paired_hinge(f.roll(2, 0), g, mask, 0.5)) == 1.5


@pytest.mark.equation("eq:voken-jensen")
def test_a_token_that_cannot_tell_costs_the_margin_at_least_and_nothing_pulls_it():
    delta = torch.linspace(-1, 1, 41, dtype=torch.float64)
    both = (hinge(delta, torch.zeros_like(delta), 0.5) + hinge(-delta, torch.zeros_like(delta), 0.5)) / 2
    torch.testing.assert_close(undecided_hinge(delta, 0.5), both)
    assert (both >= 0.5).all() and (both[delta.abs() <= 0.5] == 0.5).all() and both[-1] > 0.5
    f = on_sphere(numbers(1, 1, 5)).requires_grad_()        # one token: a is right as often as b
    a, b = on_sphere(numbers(2, 5, seed=3))
    mask = torch.ones(2, 1, dtype=torch.bool)
    loss = (paired_hinge(f.expand(2, 1, 5), torch.stack([a, b]), mask, 1.9)
            + paired_hinge(f.expand(2, 1, 5), torch.stack([b, a]), mask, 1.9)) / 2
    assert float(loss) == pytest.approx(1.9)
    loss.backward()
    assert f.grad.abs().max() < 1e-12
    drawn = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    assert float(hinge(drawn[:, 0], drawn[:, 1], 0.5).mean()) > 0.5


# ------------------------------------------------------------------------------------------------ sizes


def test_the_published_matcher_trains_803136_and_540992_parameters_over_frozen_backbones():
    with blank():
        model = TokenImageMatcher(MatcherConfig.paper())
    assert count(model.words) == 803_136 and count(model.pictures) == 540_992
    assert count_parameters(model) == 803_136 + 540_992
    assert count(model.bert) == 109_482_240 and count(model.trunk) == 86_742_336
    assert model.words[0].in_features == 3072 and model.pictures[0].in_features == 2048
    assert model.config.embed == 64 and model.config.margin == 0.5
    assert model.words[2].p == model.pictures[2].p == 0.3


def test_more_states_than_bert_has_layers_are_refused():
    with pytest.raises(ValueError, match="states of MatcherConfig is 4, BERT has 3 layers"):
        MatcherConfig(SMALL.text)


# ------------------------------------------------------------------------------------------------ model


def test_a_token_is_read_off_the_last_layers_the_lowest_of_them_first():
    with seeded(0):
        bert = BERT(SMALL.text).eval()
    tokens = sentences()
    x = bert.embed(tokens)
    layers = []
    for layer in bert.layers:
        x = layer(x, tokens != 0)
        layers.append(x)
    torch.testing.assert_close(last_states(bert, tokens, tokens != 0, 2), torch.cat(layers[1:], dim=-1))


def test_embeddings_have_length_one_and_a_row_stands_alone():
    model, tokens, images = matcher().eval(), sentences(), pictures()
    f, g = model(tokens, images)
    assert f.shape == (4, 7, 6) and g.shape == (4, 6)
    torch.testing.assert_close(f.norm(dim=-1), torch.ones(4, 7))
    torch.testing.assert_close(g.norm(dim=-1), torch.ones(4))
    alone = model(tokens[1:2, :5], images[1:2])
    torch.testing.assert_close(alone[0][0], f[1, :5], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone[1][0], g[1], atol=1e-5, rtol=1e-5)


def test_the_same_word_in_another_sentence_has_another_embedding():
    model, tokens = matcher().eval(), sentences()
    other = tokens.clone()
    other[0, 1] = 29 if int(tokens[0, 1]) != 29 else 28
    before, after = (model.embed_words(model.text_features(t)) for t in (tokens, other))
    assert (before[0, 4] - after[0, 4]).abs().max() > 1e-4


def test_only_the_two_small_networks_learn_and_all_of_them():
    model, tokens, images = matcher().train(), sentences(), pictures()
    assert not model.bert.training and not model.trunk.trunk.training and model.words.training
    running = {name: value.clone() for name, value in model.trunk.named_buffers()}
    loss = paired_hinge(*model(tokens, images), tokens != 0)
    loss.backward()
    for name, parameter in model.named_parameters():
        small = name.startswith(("words.", "pictures."))
        assert parameter.requires_grad == small and (parameter.grad is not None) == small, name
    assert all(float(p.grad.abs().sum()) > 0 for p in model.parameters() if p.requires_grad)
    assert all(torch.equal(value, running[name]) for name, value in model.trunk.named_buffers())
    torch.testing.assert_close(model.text_features(tokens), model.eval().text_features(tokens))


def test_a_handful_of_pairs_is_learnt_by_heart():
    model, tokens, images = matcher().eval(), sentences(), pictures()
    words, rows, mask = model.text_features(tokens), model.image_features(images), tokens != 0
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(300):
        loss = matching_loss(model, words, rows, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.01
    f, g = model(tokens, images)
    right, wrong = relevance(f, g), relevance(f, g.roll(2, 0))
    assert ((right - wrong)[mask] > 0.4).all()


# ---------------------------------------------------------------------------------------------- judging


def test_the_rank_of_a_tokens_own_picture_counts_ties_against_it():
    keys = on_sphere(numbers(9, 4).float())
    keys[7] = keys[2]
    f, owner = on_sphere(numbers(20, 4, seed=5).float()), torch.arange(20) % 9
    got = token_ranks(f, owner, keys, chunk=6)
    for i in range(20):
        scores = [float(f[i] @ key) for key in keys]
        want = sum(score >= scores[int(owner[i])] - 1e-7 for score in scores)
        assert int(got[i]) == want
    assert int(token_ranks(keys[2:3], torch.tensor([2]), keys)[0]) == 2
    with pytest.raises(ValueError, match="owner goes from 0 to 9, there are 9 pictures"):
        token_ranks(f[:2], torch.tensor([0, 9]), keys)


def test_diversity_counts_different_vokens_of_a_type():
    assert diversity([4, 4, 7, 1, 4], [10, 10, 10, 11, 12]) == {10: 2, 11: 1, 12: 1}
