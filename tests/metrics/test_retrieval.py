"""Retrieval: ranks against lists sorted by hand, ties, both directions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.metrics.retrieval import median_rank, recall_at_k, retrieval, retrieval_ranks


def by_hand(u, v, owner):
    """Ranks by walking through each list."""
    score = [[float(sum(a * b for a, b in zip(x, y))) for y in v.tolist()] for x in u.tolist()]
    images, texts = [], []
    for i in range(len(u)):
        best = max(score[i][j] for j in range(len(v)) if owner[j] == i)
        images.append(1 + sum(1 for j in range(len(v)) if owner[j] != i and score[i][j] >= best))
    for j in range(len(v)):
        own = score[owner[j]][j]
        texts.append(1 + sum(1 for i in range(len(u)) if i != owner[j] and score[i][j] >= own))
    return images, texts


@st.composite
def pairs(draw):
    images = draw(st.integers(1, 7))
    owner = list(range(images)) + draw(st.lists(st.integers(0, images - 1), max_size=8))
    owner = draw(st.permutations(owner))
    whole = st.lists(st.integers(-2, 2), min_size=3, max_size=3)  # whole numbers: many ties, no rounding
    u = draw(st.lists(whole, min_size=images, max_size=images))
    v = draw(st.lists(whole, min_size=len(owner), max_size=len(owner)))
    return torch.tensor(u).double(), torch.tensor(v).double(), torch.tensor(owner)


@pytest.mark.equation("eq:retrieval-rank")
@given(pairs(), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_ranks_are_those_of_a_list_read_by_hand(data, chunk):
    u, v, owner = data
    images, texts = by_hand(u, v, owner.tolist())
    ranks = retrieval_ranks(u, v, owner, chunk=chunk)
    assert ranks.image_to_text.tolist() == images and ranks.text_to_image.tolist() == texts


@pytest.mark.equation("eq:recall-at-k")
def test_recall_counts_the_first_k_places():
    ranks = torch.tensor([1, 3, 2, 7])
    for k in range(1, 9):
        assert recall_at_k(ranks, k) == sum(1 for r in (1, 3, 2, 7) if r <= k) / 4
    assert median_rank(ranks) == 2.5 and median_rank(ranks[:3]) == 2
    with pytest.raises(ValueError, match="k is 0"):
        recall_at_k(ranks, 0)


def test_any_of_the_captions_counts():
    u = torch.eye(2)
    v = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # image 0 has a wrong and a right caption
    ranks = retrieval_ranks(u, v, torch.tensor([0, 0, 1]))
    assert ranks.image_to_text.tolist() == [1, 1] and ranks.text_to_image.tolist() == [2, 1, 1]


def test_a_model_that_says_the_same_of_everything_finds_nothing():
    same = torch.ones(4, 3)
    found = retrieval(same, same)
    assert (
        found["image to text R@1"] == found["text to image R@1"] == 0
        and found["text to image median rank"] == 4
    )
    assert found["image to text R@5"] == 1  # four candidates fit into five places


@given(st.integers(2, 9), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_perfect_embeddings_find_everything_and_order_does_not_matter(n, seed):
    generator = torch.Generator().manual_seed(seed)
    u = torch.eye(n)
    shuffle = torch.randperm(n, generator=generator)
    found = retrieval(u, u[shuffle], shuffle)
    assert all(value == 1 for value in found.values())


def test_five_thousand_images_and_five_captions_each_need_little_memory():
    generator = torch.Generator().manual_seed(0)
    u = torch.nn.functional.normalize(torch.randn(1000, 32, generator=generator), dim=1)
    v = torch.nn.functional.normalize(u.repeat_interleave(5, 0) + 0.3
                                      * torch.randn(5000, 32, generator=generator), dim=1)
    owner = torch.arange(1000).repeat_interleave(5)
    one, two = retrieval_ranks(u, v, owner, chunk=1000), retrieval_ranks(u, v, owner, chunk=77)
    assert torch.equal(one.image_to_text, two.image_to_text) and torch.equal(
        one.text_to_image, two.text_to_image
    )


def test_what_cannot_be_ranked_is_refused():
    u = torch.eye(3)
    with pytest.raises(ValueError, match="image 2 has no text"):
        retrieval_ranks(u, u, torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="3 images and 2 texts; pass owner"):
        retrieval_ranks(u, u[:2])
    with pytest.raises(ValueError, match="owner has 2 entries"):
        retrieval_ranks(u, u, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="not finite"):
        retrieval_ranks(u * float("nan"), u)
