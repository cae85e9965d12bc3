"""A feeling from three modalities: votes cannot tell it, products can."""

from dataclasses import replace

import pytest
import torch
from networks import numbers, stirred

from mmlearn.both_modalities.affect_fusion import (
    AffectBatches,
    AffectConfig,
    AffectFusion,
    evaluate_affect,
    feeling_loss,
    outer_product,
    sum_of_decisions,
    train_affect,
)
from mmlearn.data.affect import TABLE, TONES, feeling_of, make_affect
from mmlearn.data.tokenisers import WordTokeniser

pytestmark = pytest.mark.usefixtures("seeded")
FUSIONS = ("decisions", "features", "product")


def hum(words, tones, seeds):
    """A stand-in for a voice: lively tones are high, calm ones low; a good tone is as loud as a bad one."""
    time = torch.arange(800) / 8000
    rows = []
    for tone, seed in zip(tones, seeds):
        pitch = (700 if tone in TONES[True] else 150) * (1 + 0.1 * (seed % 7) / 7)
        rows.append(torch.sin(2 * torch.pi * pitch * time))
    return torch.stack(rows)


@pytest.fixture(scope="module")
def data():
    return make_affect(48, size=32, speak=hum)


@pytest.fixture(scope="module")
def tokeniser(data):
    return WordTokeniser.train(data.texts, splitter="simple")


def tiny(tokeniser, fusion="product", **fields):
    return AffectConfig(len(tokeniser), width=4, channels=(4, 8), filters=6, fusion=fusion, hidden=10,
                        **fields)


@pytest.mark.equation("eq:affect-decisions", "eq:affect-product")
def test_votes_and_products_are_the_formulas():
    rows, W, b = numbers(2, 3, 4), numbers(3, 4, 5, seed=1), numbers(5, seed=2)
    votes, products = sum_of_decisions(rows, W, b), outer_product(rows)
    for i in range(2):
        torch.testing.assert_close(votes[i], b + sum(rows[i, m] @ W[m] for m in range(3)))
        x, y, z = (torch.cat([rows[i, m], torch.ones(1, dtype=torch.float64)]) for m in range(3))
        want = [p * q * r for p in x for q in y for r in z]
        torch.testing.assert_close(products[i], torch.stack(want))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_reach_every_parameter_and_a_row_is_the_same_alone(fusion, data, tokeniser):
    model = stirred(AffectFusion(tiny(tokeniser, fusion)))
    batch = AffectBatches(data, tokeniser, 8)[0]
    loss, _ = feeling_loss(model, batch)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.eval()
    together, alone = model(*batch[:3]), model(*(x[2:3] for x in batch[:3]))
    assert together.shape == (8, 4)
    torch.testing.assert_close(alone, together[2:3], rtol=1e-4, atol=1e-5)
    longer = torch.cat([batch.tokens, torch.full((8, 2), 1)], dim=1)
    torch.testing.assert_close(model(batch.pictures, longer, batch.waves), together)


@pytest.mark.parametrize("left_out", range(3))
def test_a_modality_that_is_not_read_changes_nothing(left_out, data, tokeniser):
    names = ("picture", "text", "voice")
    kept = tuple(n for i, n in enumerate(names) if i != left_out)
    model = stirred(AffectFusion(tiny(tokeniser, modalities=kept)), scale=0.3).eval()
    batch = AffectBatches(data, tokeniser, 8)[0]
    other = list(batch[:3])
    other[left_out] = other[left_out].flip(0)
    torch.testing.assert_close(model(*other), model(*batch[:3]))
    other = list(batch[:3])
    other[left_out - 1] = other[left_out - 1].flip(0)
    assert not torch.allclose(model(*other), model(*batch[:3]))


def test_no_sum_of_votes_gets_more_than_a_quarter_of_the_table_and_a_product_all():
    cues = torch.tensor([[(c.wink, c.arms), (c.praise, 0), (c.lively, 0)] for c in TABLE]).double() * 2 - 1
    labels = torch.tensor([feeling_of(c) for c in TABLE])
    onehot = torch.eye(4, dtype=torch.float64)[labels]
    flat = torch.cat([cues.flatten(1), torch.ones(16, 1, dtype=torch.float64)], dim=1)
    votes = flat @ torch.linalg.lstsq(flat, onehot, driver="gelsd").solution
    torch.testing.assert_close(votes, torch.full_like(votes, 0.25))     # the best votes are no votes
    products = outer_product(cues)
    fitted = products @ torch.linalg.lstsq(products, onehot, driver="gelsd").solution
    assert torch.equal(fitted.argmax(1), labels)
    assert float(fitted.sort(dim=1).values[:, -2:].diff().min()) > 0.4


@pytest.mark.slow
def test_three_modalities_learn_what_two_cannot(data, tokeniser):
    model = AffectFusion(replace(tiny(tokeniser), width=8, channels=(8, 16, 16), filters=12))
    train_affect(model, data, tokeniser, steps=150, batch=48, lr=1e-2, progress=False)
    scores = evaluate_affect(model, data, tokeniser)
    assert scores["accuracy"] > 0.9 and scores["weighted F1"] > 0.9


def test_wrong_settings_are_refused(data, tokeniser):
    with pytest.raises(ValueError, match=r"modalities are \('smell',\)"):
        AffectConfig(modalities=("smell",))
    with pytest.raises(ValueError, match="the examples have no waves"):
        AffectBatches(make_affect(2, size=16), tokeniser)
    assert AffectConfig.mini(9).vocab == 9
