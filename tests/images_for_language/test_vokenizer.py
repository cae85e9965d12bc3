"""The vokenizer finds the exact picture in bounded memory, and what the identity behind it needs."""

import pytest
import torch
import torch.nn.functional as F
from networks import numbers

from mmlearn.images_for_language import vokenizer as module
from mmlearn.images_for_language.token_image_matching import MatcherConfig, TokenImageMatcher
from mmlearn.images_for_language.vokenizer import (
    Vokenizer,
    distance_on_sphere,
    image_keys,
    near_equal_parts,
    nearest_images,
    sentences_of,
    squared_distance,
    top_images,
    voken_of,
)
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.modes import seeded

SMALL = MatcherConfig(BERTConfig(30, 12, 16, 2, 2, 32, pad=0, pooler=False), 2, (4, 8, 8), 12, 6, 0.3)


def rows(n, e=8, seed=0, unit=True):
    x = numbers(n, e, seed=seed).float()
    return F.normalize(x, dim=1) if unit else x


def vokenizer(limit=5, keys=40):
    with seeded(0):
        model = TokenImageMatcher(SMALL)
    return Vokenizer(model, rows(keys, 6), bos=1, eos=2, limit=limit)


# ------------------------------------------------------------------------------------------ the identity


@pytest.mark.equation("eq:voken-distance")
def test_a_squared_distance_is_two_squares_less_twice_the_product():
    f, g = numbers(3, 4), numbers(5, 4, seed=1)
    got = squared_distance(f, g)
    for i in range(3):
        for j in range(5):
            assert float(got[i, j]) == pytest.approx(sum(float(a - b) ** 2 for a, b in zip(f[i], g[j])))


@pytest.mark.equation("eq:voken-unit")
def test_on_the_unit_sphere_it_is_twice_one_less_the_product():
    f, g = F.normalize(numbers(6, 4), dim=1), F.normalize(numbers(9, 4, seed=1), dim=1)
    torch.testing.assert_close(distance_on_sphere(f, g), torch.cdist(f, g).square())
    torch.testing.assert_close(distance_on_sphere(f, g).argmin(1), (f @ g.mT).argmax(1))


def test_e1_the_identity_needs_the_square():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(distance_on_sphere(x, y)) == 2.0 and float(torch.cdist(x, y)) == pytest.approx(2**0.5)


def test_e1_the_identity_needs_unit_vectors():
    x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(squared_distance(x, y)) == 5.0 and float(distance_on_sphere(x, y)) == 2.0
    f, g = numbers(200, 16), numbers(200, 16, seed=1)
    nearest, relevant = squared_distance(f, g).argmin(1), (f @ g.mT).argmax(1)
    assert (nearest != relevant).double().mean() > 0.3
    g = F.normalize(g, dim=1)
    assert torch.equal(squared_distance(f, g).argmin(1), (f @ g.mT).argmax(1))     # unit keys are enough


def test_booklet_b6_root_and_square_agree_at_two_cosines_alone():
    """The booklet, too, sets the distance itself equal to 2 (1 - x y): true of unit vectors at 0 and at 60
    degrees."""
    degrees = torch.arange(0, 181, dtype=torch.float64)
    angle = degrees.deg2rad()
    y = torch.stack([angle.cos(), angle.sin()], dim=1)
    right = distance_on_sphere(torch.tensor([[1.0, 0.0]], dtype=torch.float64), y)[0]
    distance = 2 * (angle / 2).sin()                                        # a chord
    assert degrees[(distance - right).abs() < 1e-9].tolist() == [0, 60]


def test_e14_the_system_whose_content_is_missing_is_here_whole():
    """Matching, vokens, revokens, a model that tells them: what the survey links to a blog for."""
    from mmlearn.images_for_language import revokenization, token_image_matching, voken_lm
    assert token_image_matching.TokenImageMatcher and module.Vokenizer
    assert revokenization.Revokenizer and voken_lm.VokenLM


# ------------------------------------------------------------------------------------------- retrieval


@pytest.mark.equation("eq:voken-argmax")
@pytest.mark.parametrize("n, k, queries, keys", [
    (37, 101, 8, 16), (37, 101, 8, 101), (5, 3, 100, 100), (64, 64, 64, 1), (1, 1, 4, 4), (0, 7, 4, 4)])
def test_the_search_in_blocks_finds_what_comparing_one_by_one_finds(n, k, queries, keys):
    f, g = rows(n), rows(k, seed=1)
    want = [max(range(k), key=lambda j: float(f[i].double() @ g[j].double())) for i in range(n)]
    assert nearest_images(f, g, queries, keys).tolist() == voken_of(f, g).tolist() == want
    assert squared_distance(f.double(), g.double()).argmin(1).tolist() == want


def test_of_equal_pictures_the_first_is_taken_in_any_block():
    g = rows(40, seed=1)
    g[25] = g[3]
    assert nearest_images(g[3:4], g, keys=8).tolist() == [3]


@pytest.mark.parametrize("count", [1, 3, 11])
def test_the_best_pictures_come_in_order(count):
    f, g = rows(13), rows(29, seed=1)
    scores, places = top_images(f, g, count, queries=5, keys=4)
    want = (f @ g.mT).sort(dim=1, descending=True)
    torch.testing.assert_close(scores, want.values[:, :count])
    assert torch.equal(places, want.indices[:, :count])
    with pytest.raises(ValueError, match="count is 30, there are 29 pictures"):
        top_images(f, g, 30)


def test_memory_is_that_of_a_block_whatever_the_number_of_pictures(monkeypatch):
    largest, product = [], torch.mm

    def watched(a, b, **more):
        out = product(a, b, **more)
        largest.append(out.numel())
        return out
    monkeypatch.setattr(module.torch, "mm", watched)
    nearest_images(rows(300), rows(5000, seed=1), queries=64, keys=128)
    assert max(largest) == 64 * 128 and len(largest) == 5 * 40


@pytest.mark.parity
def test_vokens_are_those_of_faiss_by_distance_and_by_product():
    import faiss

    f, g = rows(200, 32), rows(3000, 32, seed=1)
    ours = nearest_images(f, g)
    for kind in (faiss.IndexFlatL2, faiss.IndexFlatIP):
        index = kind(32)
        index.add(g.numpy())
        assert torch.equal(torch.from_numpy(index.search(f.numpy(), 1)[1][:, 0]), ours)


# ------------------------------------------------------------------------------------------------ texts


@pytest.mark.parametrize("length, limit, want", [
    (257, 128, [86, 86, 85]), (128, 128, [128]), (129, 128, [65, 64]), (18, 8, [6, 6, 6]), (0, 8, [])])
def test_a_long_text_is_cut_in_as_few_and_as_even_parts_as_can_be(length, limit, want):
    assert near_equal_parts(length, limit) == want


def test_sentences_end_after_a_run_of_marks():
    pieces = "a cat . is it ? ! . yes".split()
    assert sentences_of(pieces) == [3, 5, 1]
    assert sentences_of(["."]) == [1] and sentences_of([]) == []


def test_every_token_gets_the_picture_that_it_would_get_alone():
    made = vokenizer()
    texts = [[5, 6, 7], [], [9, 8, 7, 6, 5], [4], [11, 12, 13, 14, 15, 16, 17, 18, 19]]
    got = made.vokenise(texts, batch=2)
    assert [len(row) for row in got] == [3, 0, 5, 1, 9]
    assert all(0 <= voken < 40 for row in got for voken in row)
    model = made.model.eval()
    parts = [(0, texts[0]), (2, texts[2]), (3, texts[3]), (4, texts[4][:5]), (4, texts[4][5:])]
    want = [[] for _ in texts]
    for i, part in parts:                               # [CLS] and [SEP] are read and get nothing
        f = model.embed_words(model.text_features(torch.tensor([[1, *part, 2]])))[0, 1:-1]
        want[i] += (f @ made.keys.mT).argmax(1).tolist()
    assert got == want


def test_the_vokenizer_leaves_the_model_in_its_mode():
    made = vokenizer()
    made.model.train()
    first = made.vokenise([[5, 6, 7]])
    assert made.model.training and made.vokenise([[5, 6, 7]]) == first


def test_the_best_pictures_of_a_text_begin_with_its_vokens():
    made = vokenizer()
    scores, places = made.top([5, 6, 7], 4)
    assert places[:, 0].tolist() == made.vokenise([[5, 6, 7]])[0] and scores.shape == (3, 4)


def test_keys_that_would_mislead_are_refused():
    made = vokenizer()
    with pytest.raises(ValueError, match="keys have lengths from .* expected 1; divide"):
        Vokenizer(made.model, rows(9, 6, unit=False), 1, 2, 5)
    with pytest.raises(ValueError, match=r"keys have the shape \(9, 5\), expected 1 or more of 6"):
        Vokenizer(made.model, rows(9, 5), 1, 2, 5)
    with pytest.raises(ValueError, match="limit is 11, BERT reads up to 10 tokens"):
        Vokenizer(made.model, rows(9, 6), 1, 2, 11)


def test_keys_of_pictures_do_not_depend_on_the_batch():
    made = vokenizer()
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=draws)
    torch.testing.assert_close(image_keys(made.model, images, 2), image_keys(made.model, images))
    assert image_keys(made.model, images).shape == (5, 6)
