"""Cells of a picture stand among the words of a frozen language model, where its mark stood."""

import math

import pytest
import torch

from mmlearn import generate
from mmlearn.both_modalities.few_shot import prompts, score_answers, write_answers
from mmlearn.both_modalities.interleaved import NONSENSE, ChunkTokeniser, Example, look_at_features
from mmlearn.both_modalities.language_model import train_lm
from mmlearn.both_modalities.visual_prefix import (
    Projection,
    StageCells,
    VisualPrefix,
    VisualPrefixConfig,
    one_matrix,
    places,
    train_prefix,
    two_layers,
    with_prefix,
)
from mmlearn.nn.attention import KVCache
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig, Prompt
from mmlearn.nn.modes import blank, seeded
from mmlearn.nn.modified_resnet import ModifiedResNet, ResNetConfig

IMAGE, p, VOCAB = 4, 3, 20
LM = CausalLMConfig(VOCAB, 64, 16, 2, 2, 32, "rotary", "gelu")
CONFIG = VisualPrefixConfig(6, 16, "two layers", IMAGE)


def made(config=CONFIG, trained=False, seed=0):
    with seeded(seed):
        language = CausalLM(LM)
        for weight in language.parameters():
            if weight.ndim > 1:
                weight.data.normal_(0, 0.4)
        return VisualPrefix(config, language, trained=trained).eval()


def drawn(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Equations --------------------------------------------------------------------------------------------------

@pytest.mark.equation("eq:prefix-matrix")
def test_a_matrix_makes_a_word_vector_of_each_cell():
    X, W, b = drawn(2, p, 6), drawn(6, 4, seed=2), drawn(4, seed=3)
    want = [[[sum(X[i, j, n] * W[n, o] for n in range(6)) + b[o] for o in range(4)] for j in range(p)]
            for i in range(2)]
    torch.testing.assert_close(one_matrix(X, W, b), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:prefix-layers")
def test_two_layers_bend_once_by_the_exact_gelu():
    X, W_1, b_1 = drawn(p, 6), drawn(6, 4, seed=2), drawn(4, seed=3)
    W_2, b_2 = drawn(4, 4, seed=4), drawn(4, seed=5)
    for i in range(p):
        inner = [float(X[i] @ W_1[:, o] + b_1[o]) for o in range(4)]
        bent = [z * (1 + math.erf(z / math.sqrt(2))) / 2 for z in inner]
        want = [sum(bent[n] * float(W_2[n, o]) for n in range(4)) + float(b_2[o]) for o in range(4)]
        got = two_layers(X, W_1, b_1, W_2, b_2)[i]
        torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:prefix-sequence")
def test_the_cells_of_a_picture_stand_where_its_mark_stood_and_texts_end_together():
    tokens = torch.tensor([[2, 7, IMAGE, 8, IMAGE, 9], [1, 1, 2, IMAGE, 8, 9], [2, 7, 8, 9, 5, 6]])
    real = tokens != 1
    words, cells = drawn(3, 6, 4), drawn(3, 2, p, 4, seed=2)
    where = places(tokens == IMAGE, p, real)
    got = with_prefix(words, cells, where.rows)
    rows = []
    for i in range(3):
        row, picture = [], 0
        for t in range(6):
            if tokens[i, t] == IMAGE:
                row += list(cells[i, picture])
                picture += 1
            elif real[i, t]:
                row.append(words[i, t])
        rows.append(row)
    longest = max(map(len, rows))
    assert got.shape == (3, longest, 4) and longest == 10
    for i, row in enumerate(rows):
        assert where.real[i].tolist() == [False] * (longest - len(row)) + [True] * len(row)
        torch.testing.assert_close(got[i, longest - len(row):], torch.stack(row))
    assert where.ends.tolist()[0] == [0, 1, 4, 5, 8, 9] and where.ends.tolist()[2] == [4, 5, 6, 7, 8, 9]


# Model ------------------------------------------------------------------------------------------------------

@torch.no_grad()
def test_logits_are_those_of_the_language_model_over_words_and_cells():
    model, features = made(), torch.randn(1, 1, p, 6)
    tokens = torch.tensor([[2, 7, IMAGE, 8, 9]])
    cells, E = model.see(features=features)[0, 0], model.language.words.weight
    x = torch.cat([E[[2, 7]], cells, E[[8, 9]]])[None]
    for layer in model.language.layers:
        x = layer(x)
    want = model.language.logits(model.language.norm(x))[0, [0, 1, 4, 5, 6]]
    torch.testing.assert_close(model(tokens, features=features)[0], want)


@torch.no_grad()
def test_without_pictures_it_is_the_language_model():
    model, tokens = made(), torch.tensor([[2, 7, IMAGE, 8, 9]])
    empty = torch.empty(1, 0, 0, 0)
    torch.testing.assert_close(model.read(tokens, empty), model.language(tokens))


@torch.no_grad()
def test_a_row_of_a_batch_is_what_it_is_alone_and_words_before_a_picture_do_not_see_it():
    model, features = made(), torch.randn(2, 2, p, 6)
    tokens = torch.tensor([[2, 7, IMAGE, 8, IMAGE, 9], [1, 1, 2, IMAGE, 8, 9]])
    both = model(tokens, features=features, mask=tokens != 1)
    alone = model(tokens[1:, 2:], features=features[1:])
    torch.testing.assert_close(both[1, 2:], alone[0], atol=1e-5, rtol=1e-4)
    other = model(tokens, features=features.flip(0), mask=tokens != 1)
    torch.testing.assert_close(both[0, :2], other[0, :2])
    assert not torch.allclose(both[0, 2:], other[0, 2:])


def test_what_is_frozen_stays_and_gradients_reach_all_that_is_trained():
    tokens, features = torch.tensor([[2, 7, IMAGE, 8, 9]]), torch.randn(1, 1, p, 6)
    for projection, trained, count in (("matrix", False, 6 * 16 + 16), ("two layers", False, 384),
                                       ("matrix", True, None)):
        model = made(VisualPrefixConfig(6, 16, projection), trained).train()
        assert model.language.training is trained
        model(tokens, features=features).logsumexp(-1).sum().backward()
        learn = {name for name, w in model.named_parameters() if w.requires_grad}
        assert all(name.startswith("projection") for name in learn) is not trained
        assert all(w.grad is not None and w.grad.abs().sum() > 0 for name, w in model.named_parameters()
                   if name.startswith("projection"))
        assert all(w.grad is None for w in model.parameters() if not w.requires_grad)
        if count is not None:
            assert sum(w.numel() for w in model.parameters() if w.requires_grad) == count


def test_wrong_parts_are_refused():
    with pytest.raises(ValueError, match="16 wide, the prefix 12"):
        VisualPrefix(VisualPrefixConfig(6, 12), CausalLM(LM))
    with pytest.raises(ValueError, match="learned positions"):
        VisualPrefix(CONFIG, CausalLM(CausalLMConfig(VOCAB, 8, 16, 1, 2, 32)))
    with pytest.raises(ValueError, match="is 'three'; use one of matrix"):
        VisualPrefixConfig(projection="three")
    model = made()
    with pytest.raises(ValueError, match="shows 2 pictures, and 1 are given"):
        model(torch.tensor([[IMAGE, IMAGE]]), features=torch.randn(1, 1, p, 6))
    with pytest.raises(ValueError, match="no picture encoder"):
        model.see(pictures=torch.randn(1, 1, 3, 8, 8))
    with pytest.raises(ValueError, match="either pictures or features"):
        model.see()


@pytest.mark.parametrize("name, count", [("llava_7b", 1024 * 4096 + 4096), ("llava_13b", 1024 * 5120 + 5120),
                                         ("llava_15_7b", 1024 * 4096 + 4096 + 4096 * 4096 + 4096),
                                         ("llava_15_13b", 1024 * 5120 + 5120 + 5120 * 5120 + 5120)])
def test_projections_of_the_papers_have_their_sizes(name, count):
    with blank():
        projection = Projection(getattr(VisualPrefixConfig, name)())
    assert sum(w.numel() for w in projection.parameters()) == count


@torch.no_grad()
def test_cells_are_those_of_the_last_stage_but_one():
    with seeded(0):
        network = ModifiedResNet(ResNetConfig(32, (1, 1, 1, 1), 4, 2), 8).eval()
    images = torch.randn(2, 3, 32, 32)
    before = {}
    network.stages[2].register_forward_hook(lambda *parts: before.update(cells=parts[-1]))
    want = network(images)
    cells = StageCells(network)
    got = cells(images)
    assert got.shape == (2, 4, 64) and cells.out_channels == 64
    torch.testing.assert_close(got, before["cells"].flatten(2).transpose(1, 2))
    torch.testing.assert_close(network(images), want)               # the network itself is whole


# Writing ----------------------------------------------------------------------------------------------------

def story(model):
    """Two prompts, of two pictures and of one."""
    tokens = torch.tensor([[2, 7, IMAGE, 8, IMAGE, 9], [1, 1, 2, IMAGE, 8, 9]])
    cells = model.see(features=torch.randn(2, 2, p, 6, generator=torch.Generator().manual_seed(3)))
    return Prompt(cells, tokens=tokens, real=tokens != 1)


@torch.no_grad()
def test_step_by_step_with_the_cache_is_one_pass():
    model = made()
    context = story(model).repeat(2)
    new = torch.tensor([[2, 10, 11, 12], [2, 5, 6, 7], [2, 8, 8, 8], [2, 13, 14, 15]])
    want = model.decode(new, context)
    steps = []
    with KVCache(model):
        for t in range(4):
            steps.append(model.decode(new[:, t : t + 1], context))
    torch.testing.assert_close(torch.cat(steps, 1), want, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="goes on from a Prompt"):
        model.decode(new, None)


@torch.no_grad()
def test_a_beam_is_scored_as_it_was_found():
    model = made()
    tokens, log_probs = generate.beam(model, story(model), k=2, max_len=4)
    scored = generate.score(model, story(model), tokens)
    alive = log_probs != 0
    torch.testing.assert_close(scored[alive], log_probs[alive], atol=1e-4, rtol=1e-3)


def test_where_a_frozen_language_model_repeats_a_word_the_prefix_learns_to_be_that_word():
    words = ["cat", "dog", "tree", "car"]
    said = [Example(f"{word} Output:", word) for word in words]
    examples = [Example("Output:", word, i) for i, word in enumerate(words)]
    tokeniser = ChunkTokeniser.train([*(text for e in examples for text in e[:2]), *NONSENSE])
    with seeded(1):
        language = CausalLM(CausalLMConfig(len(tokeniser), 64, 32, 2, 2, 64, "rotary", "gelu"))
    train_lm(language, said, tokeniser, steps=400, batch=4, lr=5e-3, most=1, binding=0.0, progress=False)
    with seeded(2):
        model = VisualPrefix(VisualPrefixConfig(4, 32, "matrix"), language)
    look = look_at_features(torch.eye(4)[:, None])
    before = {name: w.clone() for name, w in language.named_parameters()}
    history = train_prefix(model, examples, tokeniser, look, steps=300, batch=4, lr=2e-2, progress=False)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert all(torch.equal(before[name], w) for name, w in language.named_parameters())
    episodes = [[example] for example in examples]
    assert score_answers(model, episodes, words, tokeniser, look).accuracy == 1
    assert write_answers(model, episodes, tokeniser, look, beams=2) == words
    assert prompts(episodes, tokeniser, look, model.see).levels.shape == (4, 1, 1, 32)
